"""Splits a set of faces by person, and proves that parts share neither people nor pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from faces.errors import FacesError
from faces.samples import FaceSet


def split_by_identity(faces: FaceSet, parts: Mapping[str, int | float], seed: int) -> dict[str, FaceSet]:
    """Deals the people of a set out to parts; nobody is in two.

    Args:
        faces: the set.
        parts: number of people of each part (all whole numbers; people left over stay unused), or share of the people
            (all floats that sum to at most 1; rounded by largest remainder), e.g. ``{"train": 0.6, "calibration":
            0.1, "validation": 0.1, "test": 0.2}``.
        seed: same set, parts and seed: same split.

    Returns:
        The parts in the given order, each ordered as ``faces``.

    Raises:
        FacesError: if there are too few people, a part would be empty, or the two ways of counting are mixed.
    """
    people = np.unique(faces.identity.numpy())
    counts = _counts(parts, len(people))
    order = np.random.default_rng(seed).permutation(people)
    result: dict[str, FaceSet] = {}
    start = 0
    for name, count in counts.items():
        chosen = torch.from_numpy(order[start : start + count])
        result[name] = faces.subset(torch.isin(faces.identity, chosen))
        start += count
    return result


def _counts(parts: Mapping[str, int | float], people: int) -> dict[str, int]:
    if not parts:
        raise FacesError("A split needs at least one part.")
    if all(isinstance(value, int) and not isinstance(value, bool) for value in parts.values()):
        counts = {name: int(value) for name, value in parts.items()}
    elif all(isinstance(value, float) for value in parts.values()):
        total = sum(parts.values())
        if min(parts.values()) < 0 or total > 1 + 1e-9:
            raise FacesError(f"The shares of a split must be positive and sum to at most 1, they sum to {total:g}.")
        exact = {name: value * people for name, value in parts.items()}
        counts = {name: int(value + 1e-9) for name, value in exact.items()}
        rest = int(total * people + 1e-9) - sum(counts.values())
        for name in sorted(exact, key=lambda part: counts[part] - exact[part])[:rest]:
            counts[name] += 1
    else:
        raise FacesError(
            f"A split takes whole numbers of people or shares (floats), not both: {dict(parts)}; write 0.5, not 1/2 "
            "of a count."
        )
    empty = [name for name, count in counts.items() if count < 1]
    if empty:
        raise FacesError(
            f"The part {empty[0]!r} would get no people ({parts[empty[0]]} of {people}); raise its share or add people."
        )
    if sum(counts.values()) > people:
        raise FacesError(
            f"The split asks for {sum(counts.values())} people ({counts}), but there are {people}; ask for fewer."
        )
    return counts


def named_people(text: str, names: Sequence[str]) -> set[str]:
    """The people that a list such as ``"ann, m0001:m0040"`` names.

    Args:
        text: Names with commas between them; FIRST:LAST is everybody from FIRST to LAST in alphabetical order.
        names: Everybody there is.

    Raises:
        FacesError: If somebody is named who is not there, or a range is empty.
    """
    order = sorted(names)
    found: set[str] = set()
    for item in (piece.strip() for piece in text.split(",")):
        first, _, last = (item, "", item) if item in order else item.partition(":")
        for name in (first, last):
            if name not in order:
                raise FacesError(
                    f"there is no person {name!r} (in {text!r}); they are called {order[0]} to {order[-1]}, and a list "
                    "is written NAME,NAME or FIRST:LAST."
                )
        chosen = order[order.index(first) : order.index(last) + 1]
        if not chosen:
            raise FacesError(f"nobody is from {first} to {last} (in {text!r}); name the first one first.")
        found.update(chosen)
    return found


def image_hashes(faces: FaceSet) -> list[str]:
    """SHA-256 of the pixels of every image."""
    return [hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest() for image in faces.images]


def check_disjoint(parts: Mapping[str, FaceSet]) -> None:
    """Makes sure that no person and no picture is in two parts.

    A person is known by source and identity number; pictures are compared pixel by pixel (through their hashes), so a
    picture filed under two names is found too.

    Raises:
        FacesError: naming the first clash.
    """
    people: dict[tuple[str, int], str] = {}
    pictures: dict[str, tuple[str, int]] = {}
    for name, faces in parts.items():
        for number in faces.identity.unique().tolist():
            other = people.setdefault((faces.source, number), name)
            if other != name:
                raise FacesError(
                    f"The person {_person(faces, number)} of {faces.source!r} is in the parts {other!r} and {name!r}; "
                    "split by identity."
                )
        for index, digest in enumerate(image_hashes(faces)):
            first, position = pictures.setdefault(digest, (name, index))
            if first != name:
                raise FacesError(
                    f"Image {index} of the part {name!r} (person {_person(faces, int(faces.identity[index]))}) has the "
                    f"same pixels as image {position} of the part {first!r} (SHA-256 {digest[:12]}...); remove the "
                    "duplicate."
                )


def _person(faces: FaceSet, number: int) -> str:
    return faces.names[number] if number < len(faces.names) else str(number)


def split_manifest(parts: Mapping[str, FaceSet]) -> dict[str, dict[str, object]]:
    """What a run writes down about its split, ready for JSON.

    Per part: source, licence, number of images, identity numbers, content hash, and a hash of the sorted image hashes
    (which does not depend on the order of the images).
    """
    return {
        name: {
            "source": faces.source,
            "licence": faces.licence,
            "images": len(faces),
            "identities": sorted(faces.identity.unique().tolist()),
            "content_sha256": faces.content_hash(),
            "images_sha256": hashlib.sha256("\n".join(sorted(image_hashes(faces))).encode()).hexdigest(),
        }
        for name, faces in parts.items()
    }
