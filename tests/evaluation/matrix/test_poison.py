"""Victims of poison against hand-worked cases and independent solutions, and poison that is known to work or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from evaluation.matrix import poison
from evaluation.matrix.poison import ADVERSARIAL, AS_IS, SCRATCH, Learnt, ScratchVictim, TrainingBudget, Victim
from evaluation.measures.gates import LEAST_ACCURACY, LEAST_ACCURACY_LOW
from evaluation.photos import Photos
from evaluation.records import PoisonRow
from faces.samples import five_points
from tests.evaluation.matrix import matrix_fakes

Evaluate = Callable[..., dict[str, Any]]
TINY = TrainingBudget(50, 32, 16)
#: Five enrolled photographs of each person, two probes.
MANY = {
    "train_people": 4, "validation_people": 4, "calibration_people": 12, "test_people": 32, "captures": 7,
    "gallery_captures": 5, "fit_captures": 0, "size_px": 32,
}  # fmt: skip


def _rows(rng: np.random.Generator, count: int) -> np.ndarray:
    rows = rng.normal(size=(count, 6))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_the_nearest_photograph_by_hand() -> None:
    clean = np.eye(3)[[0, 0, 1]]
    labels, probes = np.array([0, 0, 1]), np.eye(3)[[0, 1]]
    who = np.array([0, 1])
    assert poison.nearest_alone(clean, clean, labels, probes, who).tolist() == [1, 1]
    # Person 0 protects both photographs as the third axis: nothing of the first is left, and a tie is not a match.
    assert poison.nearest_alone(clean, np.eye(3)[[2, 2, 1]], labels, probes, who).tolist() == [0, 1]
    # One photograph that is left as it was suffices.
    assert poison.nearest_alone(clean, np.eye(3)[[2, 0, 1]], labels, probes, who).tolist() == [1, 1]


def test_the_linear_layer_is_that_of_a_solver_on_the_whole_set() -> None:
    rng = np.random.default_rng(0)
    labels, who = np.repeat([3, 5, 8, 9], 4), np.repeat([3, 5, 8, 9], 25)
    clean, protected, probes = _rows(rng, 16), _rows(rng, 16), _rows(rng, 100)
    expected = []
    for probe, person in zip(probes, who, strict=True):
        rows = np.where((labels == person)[:, None], protected, clean)
        # A ridge is a least-squares problem with rows of its own.
        ridge = poison.RIDGE * (np.square(clean).sum() + len(clean)) / 7
        design = np.vstack([np.hstack([rows, np.ones((16, 1))]), np.sqrt(ridge) * np.eye(7)])
        one_hot = np.vstack([labels[:, None] == np.unique(labels)[None], np.zeros((7, 4))]).astype(float)
        weights = np.linalg.lstsq(design, one_hot, rcond=None)[0]
        expected.append(np.unique(labels)[np.argmax(np.append(probe, 1) @ weights)] == person)
    found = poison.linear_alone(clean, protected, labels, probes, who)
    assert found.tolist() == [float(value) for value in expected]
    assert 0 < found.mean() < 1


def test_random_crops_are_parts_of_the_photograph() -> None:
    ramp = ((torch.arange(32) + 0.5) / 32).expand(200, 1, 32, 32)
    crops = poison.random_crops(ramp, torch.Generator().manual_seed(0))
    middle = crops[:, 0, 16, 4:28]
    slope = (middle[:, -1] - middle[:, 0]) / 23
    # A part of share s of the side, stretched to the whole, shows s of the slope.
    assert float(slope.min()) * 32 == pytest.approx(0.6, abs=0.02)
    assert float(slope.max()) * 32 == pytest.approx(1, abs=0.02)
    assert torch.equal(crops, crops.clamp(0, 1))
    assert float((crops[:, 0, 0] - crops[:, 0, -1]).abs().max()) < 1e-6  # no turning


def _photos(people: int, captures: int) -> tuple[Photos, torch.Tensor]:
    faces = matrix_fakes.heads(people, captures, 0)
    photos = Photos(faces, five_points(faces.landmarks).float(), torch.ones(len(faces), dtype=torch.bool))
    return photos, photos.identity


def test_a_victim_repeats_itself_and_leaves_the_global_generator_alone() -> None:
    photos, labels = _photos(4, 5)
    state = torch.get_rng_state()
    named = []
    for _ in range(2):
        victim = ScratchVictim(TrainingBudget(50, 16, 16), AS_IS, 5)
        victim.fit(photos, labels)
        named.append(victim.named(photos))
    assert torch.equal(*named)
    assert torch.equal(torch.get_rng_state(), state)
    assert float((named[0] == labels).float().mean()) > 0.9


def test_perturbations_of_training_raise_the_loss_within_their_budget() -> None:
    photos, labels = _photos(4, 5)
    victim = ScratchVictim(TrainingBudget(15, 16, 16), ADVERSARIAL, 5)
    victim.fit(photos, labels)
    shown = victim._crop(photos.images(), photos.points5)
    moved = victim._perturbed(shown, labels, torch.Generator().manual_seed(0))
    assert 3 / 255 < float((moved - shown).abs().max()) <= 4 / 255 + 1e-6
    random = (shown + (4 / 255) * torch.randn(shown.shape, generator=torch.Generator().manual_seed(1)).sign()).clamp(
        0, 1
    )
    with torch.no_grad():
        losses = [float(victim._loss(one, labels)) for one in (shown, random, moved)]
    assert losses[2] > max(losses[:2])


def _learnt(right: np.ndarray, clean: np.ndarray, noise: np.ndarray | None = None) -> Learnt:
    people = np.repeat(np.arange(40), 5)
    return Learnt(
        people,
        {(Victim(SCRATCH), AS_IS): clean.tolist()},
        {("cloak", Victim(SCRATCH), AS_IS): right.tolist()},
        {} if noise is None else {("cloak", Victim(SCRATCH)): noise.tolist()},
    )


def _row(learnt: Learnt, exploratory: str = "") -> PoisonRow:
    (row,) = poison.rows(learnt, lambda protector, recogniser: None, [], exploratory, 0)
    return row


def test_figures_by_hand() -> None:
    clean = np.tile([1, 1, 1, 1, 0], 40)
    right = np.where(np.arange(200) % 10 == 0, 1, 0)  # one of ten, every second person
    row = _row(_learnt(right, clean, clean))
    assert (row.accuracy, row.accuracy_clean, row.chance, row.psr) == (0.1, 0.8, 1 / 40, 0.9)
    assert row.delta == pytest.approx((0.8 - 0.1) / (0.8 - 0.025))
    assert row.delta_noise == 0
    assert row.people[:2] == (0.2, 0)
    assert (row.verdict, row.weak, row.unseen) == ("holds", False, True)
    assert _row(_learnt(right, clean, clean), "too few").verdict == "exploratory"
    # What noise does as well, and what was not compared with noise, earns nothing.
    for noise in (right, None):
        refused = _row(_learnt(right, clean, noise))
        assert (refused.verdict, refused.reason[:12]) == ("no claim", "equal-noise:")
    same = _row(_learnt(clean, clean, clean), "too few")
    assert (same.delta, same.delta_ci95, same.verdict) == (0, (0, 0), "fails")
    weak = np.tile([1, 1, 0, 0, 0], 40)
    assert LEAST_ACCURACY > 0.4 < LEAST_ACCURACY_LOW
    found = _row(_learnt(right, weak, weak))
    assert (found.verdict, found.weak, found.reason[:16]) == ("no claim", True, "victim-strength:")
    assert poison.gates(_learnt(right, weak))["victim-strength/scratch"].passed is False
    guessing = _row(_learnt(right, np.zeros(200)))
    assert (guessing.delta, guessing.verdict) == (None, "no claim")


def test_poison_is_told_from_what_only_looks_like_it(evaluated: Evaluate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(poison.BUDGETS, "smoke", TINY)
    monkeypatch.setattr(poison, "COUNTERMEASURES", (AS_IS, "grey"))
    summary = evaluated(protectors=["code", "tint", "hide"], attackers=["as-published"], people=MANY)
    found = {(row["protector"], row["victim"], row["countermeasure"]): row for row in summary["poison"]}
    victims = {"scratch", "nearest/pixels", "linear/pixels"}
    assert {key[1] for key in found} == victims
    assert {key[0] for key in found} == {"identity", "noise:linf=0.03", "code", "tint"}  # hide claims something else
    # The same photographs and the same seed: not a single answer differs.
    for key, row in found.items():
        if key[0] == "identity":
            assert (row["delta"], row["verdict"]) == (0, "control")
    for victim in victims:
        assert summary["gates"][f"victim-strength/{victim}"]["passed"]
        assert found["noise:linf=0.03", victim, AS_IS]["delta"] < 0.2
    # A picture of the person's own in place of the photo spoils everything, whatever the victim does.
    for countermeasure in (AS_IS, "grey"):
        assert found["code", SCRATCH, countermeasure]["verdict"] == "holds", countermeasure
    assert found["code", "nearest/pixels", AS_IS]["accuracy"] < 0.05
    # A colour of the person's own is learnt beside the face, and is gone on grey photos.
    assert found["tint", SCRATCH, AS_IS]["delta_ci95"][0] > 0.15
    assert found["tint", SCRATCH, "grey"]["delta_ci95"][1] < 0.15
    assert found["tint", SCRATCH, "grey"]["verdict"] == "fails"
    claims = {claim["protector"]: claim for claim in summary["own_claims"]}
    assert list(claims) == ["code", "tint", "hide"]
    assert (claims["code"]["threat"], claims["code"]["verdict"]) == ("poison", "holds")
    assert [judge["judge"] for judge in claims["code"]["judges"] if judge["primary"]] == [SCRATCH]
    assert claims["code"]["judges"][0]["noise"] < claims["code"]["judges"][0]["value"]
    assert (claims["hide"]["threat"], claims["hide"]["judges"][0]["judge"]) == ("dodge", "pixels")


def test_few_photographs_train_nothing_and_controls_alone_train_nobody(evaluated: Evaluate) -> None:
    summary = evaluated(protectors=["code"], attackers=["as-published"])
    assert {row["victim"] for row in summary["poison"]} == {"nearest/pixels", "linear/pixels"}
    (claim,) = summary["own_claims"]
    assert claim["verdict"] == "not measured"
    assert claim["reason"].startswith("a network trained from nothing needs at least 5 enrolled photographs")
    assert evaluated("controls", protectors=["identity"], attackers=["as-published"])["poison"] == []
