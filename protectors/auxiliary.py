"""Faces of other people that a protector needs: synthetic heads, so that nobody else is dragged in, or a folder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from faces.files import cache_folder
from faces.folders import load_folder
from faces.protection import Target
from faces.samples import FaceSet, five_points
from faces.synthetic import generate
from protectors.errors import ProtectorError

#: Name of the synthetic heads, in place of a folder.
SYNTHETIC = "synthetic"

#: Numbers of synthetic people for protectors start here: none of them is ever in an evaluation or in ``train-mask``.
FIRST_TARGET, FIRST_AUXILIARY = 20_000_000, 21_000_000
SEED = 0
SIZE_PX = 112


@dataclass(frozen=True)
class Faces:
    """Photos of known people.

    Attributes:
        images: (N, 3, S, S) float32 in 0..1, sRGB-encoded.
        points5: (N, 5, 2) float32.
        identity: (N,) int64.
        content_hash: Hash of the pictures, for the declaration.
    """

    images: Tensor
    points5: Tensor
    identity: Tensor
    content_hash: str

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, pick: Tensor) -> Faces:
        """Photos at these positions, or where a mask is true."""
        return Faces(self.images[pick], self.points5[pick], self.identity[pick], self.content_hash)

    def to(self, device: torch.device) -> Faces:
        """The same photos on a device."""
        return Faces(self.images.to(device), self.points5.to(device), self.identity.to(device), self.content_hash)


def auxiliary_faces(source: str, *, people: int, captures: int, first: int = FIRST_AUXILIARY) -> Faces:
    """Other people to learn from, ordered by person.

    Args:
        source: "synthetic", or a folder with one folder of photos per person.
        people: Number of people, at most those of a folder.
        captures: photos of each, at most those of a folder.
        first: number of the first synthetic person.

    Raises:
        ProtectorError: The folder holds fewer people.
        FacesError: The folder cannot be used.
    """
    return _auxiliary(source, people, captures, first)


def source_key(source: str, *, people: int, captures: int) -> str:
    """What stands for auxiliary people in a cache key: the content of a folder, not its path.

    Raises:
        ProtectorError: The folder holds fewer people.
        FacesError: The folder cannot be used.
    """
    if source == SYNTHETIC:
        return SYNTHETIC
    return auxiliary_faces(source, people=people, captures=captures).content_hash


@lru_cache(maxsize=4)
def _auxiliary(source: str, people: int, captures: int, first: int) -> Faces:
    if source == SYNTHETIC:
        heads = generate(
            people, captures, size=SIZE_PX, seed=SEED, first_identity=first, cache_dir=cache_folder("faces")
        )
        return _as_faces(heads, five_points(heads.landmarks).float())
    folder = load_folder(Path(source), SIZE_PX)
    faces = folder.faces
    found = len(faces.names)
    if found < people:
        raise ProtectorError(f"{source} holds {found} people with usable photos, but {people} are needed; add some.")
    pick = (faces.identity < people) & (faces.capture < captures)
    return _as_faces(faces.subset(pick), folder.points5[pick])


def _as_faces(faces: FaceSet, points5: Tensor) -> Faces:
    return Faces(faces.images.float() / 255, points5, faces.identity, faces.content_hash())


def targets(source: str, *, people: int, captures: int) -> tuple[Faces, Target]:
    """People to be taken for: photos to work with, and others of the same people to judge success by.

    Args:
        source: "synthetic" heads, which are nobody, or a folder.
        people: Number of people.
        captures: photos of each to work with; as many again are put aside for judging.

    Returns:
        photos to work with, ordered by person, and the target to judge by.

    Raises:
        ProtectorError: Somebody has fewer than two photos, or the folder holds fewer people.
    """
    found = auxiliary_faces(source, people=people, captures=2 * captures, first=FIRST_TARGET)
    position = torch.zeros(len(found), dtype=torch.long)
    for person in torch.unique(found.identity):
        rows = torch.nonzero(found.identity == person)[:, 0]
        if len(rows) < 2:
            raise ProtectorError(f"{source}: a target needs two photos, one to work with and one to judge by.")
        position[rows] = torch.arange(len(rows))
    working = found.subset(position % 2 == 0)
    held = found.subset(position % 2 == 1)
    return working, Target(held.images, held.points5, held.identity)
