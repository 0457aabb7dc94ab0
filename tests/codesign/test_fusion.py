"""Attackers joined: weights come from people who are not tested, and two halves of the truth are better than one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from codesign.data import Part
from codesign.fusion import fuse
from codesign.proof import EMBEDDED, averaged, join, judge, pooled_scores, scores
from evaluation import rank_k
from tests.codesign.test_proof import part

DIM = 12


@pytest.fixture(scope="module")
def parts() -> dict[str, Part]:
    sizes = {"validation": 20, "calibration": 20, "test": 30}
    return {name: part(people, 6, 3, seed=place) for place, (name, people) in enumerate(sizes.items(), start=1)}


def views(parts: dict[str, Part], noise: dict[str, float], half: int, seed: int) -> dict[str, Tensor]:
    """Embeddings that see one half of what people are made of, with noise of its own in each part."""
    found = {}
    for place, (name, one) in enumerate(parts.items()):
        people, index = torch.unique(one.faces.identity, return_inverse=True)
        own = torch.randn(len(people), 2, DIM, generator=torch.Generator().manual_seed(7 + place))[:, half]
        draws = torch.Generator().manual_seed(100 * seed + place)
        found[name] = own[index] + noise[name] * torch.randn(len(index), DIM, generator=draws)
    return found


def everywhere(noise: float) -> dict[str, float]:
    return dict.fromkeys(EMBEDDED, noise)


def rank1(embeddings: dict[str, Tensor], parts: dict[str, Part]) -> float:
    return rank_k(scores(embeddings, parts)[1], 1)


def test_two_attackers_who_see_different_things_are_stronger_together(parts: dict[str, Part]) -> None:
    found = {"a": views(parts, everywhere(2.0), 0, 1), "b": views(parts, everywhere(2.0), 1, 2)}
    joined, weights = join(found, parts)
    assert set(weights) == {"a", "b"}
    assert sum(weights.values()) == pytest.approx(1.0)
    assert rank1(joined, parts) > max(rank1(one, parts) for one in found.values()) + 0.05


def test_an_attacker_who_sees_nothing_gets_no_weight(parts: dict[str, Part]) -> None:
    blind = {
        name: torch.randn(len(one), DIM, generator=torch.Generator().manual_seed(9)) for name, one in parts.items()
    }
    weights = fuse({"seer": views(parts, everywhere(1.0), 0, 1), "blind": blind}, parts).weights
    assert weights.get("blind", 0.0) <= 0.2
    assert max(weights, key=lambda name: weights[name]) == "seer"


def test_weights_come_from_people_who_are_not_tested(parts: dict[str, Part]) -> None:
    """Whoever is strong on the test people alone is not found out."""
    late = views(parts, {"validation": 30.0, "calibration": 30.0, "test": 0.1}, 0, 1)
    early = views(parts, {"validation": 0.5, "calibration": 0.5, "test": 30.0}, 1, 2)
    weights = fuse({"late": late, "early": early}, parts).weights
    assert max(weights, key=lambda name: weights[name]) == "early"
    changed = {**late, "test": torch.zeros_like(late["test"])}
    assert fuse({"late": changed, "early": early}, parts).weights == weights


def test_an_inner_product_is_the_weighted_mean_of_the_cosines(parts: dict[str, Part]) -> None:
    found = {"a": views(parts, everywhere(2.0), 0, 1), "b": views(parts, everywhere(2.0), 1, 2)}
    fusion = fuse(found, parts)
    alone = {name: type(fusion)({name: 1.0}).join(found, "test").double() for name in found}
    wanted = sum(weight * alone[name] @ alone[name].T for name, weight in fusion.weights.items())
    joint = fusion.join(found, "test").double()
    torch.testing.assert_close(joint @ joint.T, wanted, atol=1e-5, rtol=0)


def test_exposures_are_joined_where_all_of_the_joined_have_them(parts: dict[str, Part]) -> None:
    shots = {averaged(name): rows for name, rows in views(parts, everywhere(0.2), 0, 3).items()}
    a, b = views(parts, everywhere(2.0), 0, 1), views(parts, everywhere(2.0), 1, 2)
    assert averaged("test") not in join({"a": {**a, **shots}, "b": b}, parts)[0]
    joined, _ = join({"a": {**a, **shots}}, parts)
    several = {name: joined[averaged(name)] for name in EMBEDDED}
    assert rank1(several, parts) > rank1(joined, parts) + 0.2


# Pooled probes


def test_pooled_probes_name_more_people_than_single_ones(parts: dict[str, Part]) -> None:
    embeddings = views(parts, everywhere(2.0), 0, 1)
    figures, _, _ = judge(embeddings, parts, 0.1, "hash")
    pooled = figures["pooled"]
    assert pooled["probes"] == 3
    assert pooled["people"] == 30
    assert pooled["rank1"] > figures["rank1"] + 0.1
    assert pooled["auc"] > figures["auc"]
    assert pooled["rank1_ci95"][0] <= pooled["rank1"] <= pooled["rank1_ci95"][1]


def test_a_pooled_probe_is_the_mean_of_the_probes_of_a_person(parts: dict[str, Part]) -> None:
    embeddings = views(parts, everywhere(1.0), 0, 1)
    table, test = pooled_scores(embeddings, parts), parts["test"]

    def centred(rows: Tensor, centre: Tensor) -> Tensor:
        return torch.nn.functional.normalize(torch.nn.functional.normalize(rows.double(), dim=1) - centre, dim=1)

    unit = torch.nn.functional.normalize(embeddings["calibration"].double(), dim=1)
    rows = centred(embeddings["test"], unit.mean(dim=0))
    person, other = (test.identity == test.identity.unique()[place] for place in (4, 9))
    asked = rows[person & ~test.gallery].mean(dim=0)
    known = rows[other & test.gallery].mean(dim=0)
    cosine = float(asked @ known / (asked.norm() * known.norm()))
    assert table.scores[4, 9] == pytest.approx(cosine, abs=1e-9)
    assert table.scores.shape == (30, 30)
