"""Splits by person, and the check that parts are disjoint."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from faces.errors import FacesError
from faces.samples import FaceSet
from faces.splits import check_disjoint, image_hashes, split_by_identity, split_manifest

SHARES = {"train": 0.6, "calibration": 0.1, "validation": 0.1, "test": 0.2}


def _faces(people: int = 20, captures: int = 3, seed: int = 0) -> FaceSet:
    gen = torch.Generator().manual_seed(seed)
    count = people * captures
    return FaceSet(
        images=torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8, generator=gen),
        identity=torch.arange(people).repeat_interleave(captures) * 7,
        capture=torch.arange(captures).repeat(people),
        landmarks=torch.zeros(count, 68, 2),
        source=f"noise seed={seed}",
        licence="CC0-1.0",
    )


def _people(faces: FaceSet) -> set[int]:
    return set(faces.identity.tolist())


@pytest.mark.parametrize("parts", [SHARES, {"train": 12, "calibration": 2, "validation": 2, "test": 4}])
def test_parts_partition_the_people(parts: dict[str, int | float]) -> None:
    faces = _faces()
    split = split_by_identity(faces, parts, seed=1)
    assert list(split) == list(parts)
    assert [len(_people(part)) for part in split.values()] == [12, 2, 2, 4]
    assert set.union(*(_people(part) for part in split.values())) == _people(faces)
    assert sum(len(part) for part in split.values()) == len(faces)
    check_disjoint(split)


def test_same_seed_same_split_other_seed_other_split() -> None:
    faces = _faces()
    first, again, other = (split_by_identity(faces, SHARES, seed) for seed in (1, 1, 2))
    assert {name: part.content_hash() for name, part in first.items()} == {
        name: part.content_hash() for name, part in again.items()
    }
    assert _people(first["train"]) != _people(other["train"])


def test_shares_are_rounded_by_largest_remainder() -> None:
    split = split_by_identity(_faces(people=7), {"a": 0.5, "b": 0.25, "c": 0.25}, seed=0)
    # Exact: 3.5, 1.75, 1.75; the two people over go to b and c.
    assert [len(_people(part)) for part in split.values()] == [3, 2, 2]


def test_people_beyond_the_counts_stay_unused() -> None:
    split = split_by_identity(_faces(), {"train": 3, "test": 2}, seed=0)
    assert [len(part) for part in split.values()] == [9, 6]


def test_impossible_splits_are_refused() -> None:
    faces = _faces(people=4)
    with pytest.raises(FacesError, match=r"asks for 5 people .* but there are 4"):
        split_by_identity(faces, {"a": 3, "b": 2}, 0)
    with pytest.raises(FacesError, match=r"'validation' would get no people \(0.1 of 4\)"):
        split_by_identity(faces, SHARES, 0)
    with pytest.raises(FacesError, match="not both"):
        split_by_identity(faces, {"a": 1, "b": 0.5}, 0)
    with pytest.raises(FacesError, match=r"they sum to 1.2"):
        split_by_identity(faces, {"a": 0.7, "b": 0.5}, 0)
    with pytest.raises(FacesError, match="at least one part"):
        split_by_identity(faces, {}, 0)


def test_a_person_in_two_parts_is_named() -> None:
    faces = _faces()
    names = tuple(f"person-{k}" for k in range(140))
    faces = replace(faces, names=names)
    split = split_by_identity(faces, SHARES, 0)
    person = int(split["test"].identity[0])
    split["train"] = faces.subset((faces.identity == person) | torch.isin(faces.identity, split["train"].identity))
    with pytest.raises(FacesError, match=f"person-{person} of 'noise seed=0' is in the parts 'train' and 'test'"):
        check_disjoint(split)


def test_equal_numbers_of_different_sources_are_different_people() -> None:
    check_disjoint({"train": _faces(seed=0), "test": _faces(seed=1)})


def test_one_picture_under_two_names_is_found() -> None:
    split = split_by_identity(_faces(), {"train": 5, "test": 5}, 0)
    images = split["test"].images.clone()
    images[4] = split["train"].images[2]
    split["test"] = replace(split["test"], images=images)
    with pytest.raises(FacesError, match=r"Image 4 of the part 'test' .* same pixels as image 2 of the part 'train'"):
        check_disjoint(split)


def test_hashes_follow_the_pixels() -> None:
    faces = _faces(people=2)
    images = faces.images.clone()
    images[3, 1, 2, 2] ^= 1
    before, after = image_hashes(faces), image_hashes(replace(faces, images=images))
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, True, True, False, True, True]


def test_manifest_is_plain_data_and_ignores_the_order_of_images() -> None:
    split = split_by_identity(_faces(), SHARES, 3)
    manifest = split_manifest(split)
    assert json.loads(json.dumps(manifest)) == manifest
    assert manifest["test"]["images"] == 12
    assert manifest["test"]["identities"] == sorted(_people(split["test"]))
    assert manifest["test"]["content_sha256"] == split["test"].content_hash()
    turned = {"test": split["test"].subset(list(range(11, -1, -1)))}
    assert split_manifest(turned)["test"]["images_sha256"] == manifest["test"]["images_sha256"]
    assert split_manifest(turned)["test"]["content_sha256"] != manifest["test"]["content_sha256"]
