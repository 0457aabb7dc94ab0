"""Attackers on cameras that release a few whole-numbered coordinates: people with other proportions are found."""

from __future__ import annotations

import pytest
import torch

from codesign.coordinates import CoordinateAttack, Coordinates, attack_coordinates
from codesign.data import ATTACKERS, Part
from codesign.errors import CodesignError
from codesign.proof import EMBEDDED
from tests.codesign.test_proof import part

SIZES = {"train": 40, ATTACKERS: 20, "validation": 10, "calibration": 10, "test": 20}


@pytest.fixture(scope="module")
def parts() -> dict[str, Part]:
    return {name: part(people, 6, 3, seed=place) for place, (name, people) in enumerate(SIZES.items(), start=1)}


def released(parts: dict[str, Part], own: float, seen: float = 1.0) -> dict[str, Coordinates]:
    """Four points in cells, with ``own`` cells of personal shape; a share ``seen`` of the frames shows a face."""
    base = torch.tensor([[20.0, 22.0], [44.0, 22.0], [32.0, 34.0], [32.0, 46.0]])
    found = {}
    for place, (name, one) in enumerate(parts.items()):
        draws = torch.Generator().manual_seed(place)
        people, index = torch.unique(one.identity, return_inverse=True)
        shape = own * torch.randn(len(people), 4, 2, generator=draws)[index]
        points = base + shape + torch.randn(len(index), 4, 2, generator=draws)
        present = torch.rand(len(index), generator=draws) < seen
        points[~present] = 0
        found[name] = Coordinates(points.round().long(), None if seen == 1 else present)
    return found


def attack(parts: dict[str, Part], coordinates: dict[str, Coordinates]) -> CoordinateAttack:
    return attack_coordinates(coordinates, parts, frame_size=64, steps=60, seed=0, fmr=0.1, manifest_hash="hash")


def test_people_are_named_by_their_proportions_and_better_by_several_pictures(parts: dict[str, Part]) -> None:
    found = attack(parts, released(parts, own=1.0))
    assert found.result.rank1 is not None and found.result.rank1 > 0.4  # chance: .05
    assert found.result.pooled is not None and found.result.pooled.rank1 is not None
    assert found.result.pooled.rank1 > found.result.rank1 + 0.1
    assert found.result.pooled.probes == 3
    assert set(found.embeddings) == set(EMBEDDED)
    assert found.learner


def test_people_of_one_shape_are_not_told_apart(parts: dict[str, Part]) -> None:
    found = attack(parts, released(parts, own=0.0))
    assert found.result.rank1 is not None and found.result.rank1 < 0.2
    assert found.result.auc is not None and found.result.auc < 0.62


def test_frames_without_a_face_are_no_better_than_a_guess(parts: dict[str, Part]) -> None:
    all_seen, half_seen = (attack(parts, released(parts, own=2.0, seen=share)).result for share in (1.0, 0.5))
    assert all_seen.rank1 is not None and half_seen.rank1 is not None
    assert half_seen.rank1 < all_seen.rank1 - 0.1


def test_coordinates_of_other_faces_are_refused(parts: dict[str, Part]) -> None:
    wrong = released(parts, own=1.0)
    wrong["test"] = Coordinates(wrong["test"].points[:-1])
    with pytest.raises(CodesignError, match="the part 'test' has 120 faces but coordinates of 119"):
        attack(parts, wrong)
