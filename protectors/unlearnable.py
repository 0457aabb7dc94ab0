"""What makers of unlearnable photos share: enough people to tell apart, and random crops."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from protectors import drawing
from protectors.auxiliary import SYNTHETIC, auxiliary_faces
from protectors.canvas import Canvas
from protectors.errors import ProtectorError
from protectors.largest import check_largest

#: Side of a random crop as a share of the photo, drawn uniformly.
CROP = (0.6, 1.0)

#: Photos of an auxiliary person: as many as of one who is shown, within these limits.
CAPTURES = (2, 10)

#: What a declaration says of auxiliary data.
FILL = "synthetic heads (nobody) or a folder, only where fewer people are shown than the setting classes says"


@dataclass(frozen=True)
class Crowd:
    """The training set of a classifier: the photos to be protected, then those of auxiliary people.

    Attributes:
        images: (M, 3, S, S), of which the first ``own`` were given.
        points5: (M, 5, 2).
        labels: (M,) int64 from 0, without gaps; people who were given come first, in rising order of their numbers.
        classes: Number of people.
        own: Number of photos that were given.
    """

    images: Tensor
    points5: Tensor
    labels: Tensor
    classes: int
    own: int

    def __len__(self) -> int:
        return len(self.images)

    def canvas(self, rows: Tensor, levels: int) -> Canvas:
        """The canvas of some of the photos."""
        return Canvas(self.images[rows], self.points5[rows], levels=levels)


def crowd(images: Tensor, points5: Tensor, identity: Tensor, *, classes: int, auxiliary: str) -> Crowd:
    """The photos given, and as many auxiliary people as are missing to ``classes``.

    Somebody alone cannot be told apart from anybody: without others there would be nothing to unlearn.

    Args:
        images: (N, 3, S, S).
        points5: (N, 5, 2).
        identity: (N,) int64.
        classes: least number of people.
        auxiliary: "synthetic", or a folder with one folder of photos per person.

    Raises:
        ProtectorError: The folder holds fewer people than are missing.
        FacesError: The folder cannot be used.
    """
    people, labels = torch.unique(identity, return_inverse=True)
    missing = classes - len(people)
    if missing <= 0:
        return Crowd(images, points5, labels, len(people), len(images))
    least, most = CAPTURES
    captures = min(max(math.ceil(len(images) / len(people)), least), most)
    others = auxiliary_faces(auxiliary, people=missing, captures=captures).to(images.device)
    side, before = images.shape[-1], others.images.shape[-1]
    theirs = functional.interpolate(others.images, (side, side), mode="bilinear", antialias=True)
    # Pixel centres stand at integers.
    their_points = (others.points5 + 0.5) * (side / before) - 0.5
    their_labels = torch.unique(others.identity, return_inverse=True)[1] + len(people)
    return Crowd(
        torch.cat((images, theirs)), torch.cat((points5, their_points)), torch.cat((labels, their_labels)), classes,
        len(images),
    )  # fmt: skip


def auxiliary_key(auxiliary: str, *, classes: int) -> str:
    """What stands for the auxiliary people in the cache key: the content of a folder, not its path.

    Raises:
        ProtectorError: The folder holds fewer people than may be needed.
        FacesError: The folder cannot be used.
    """
    if auxiliary == SYNTHETIC:
        return SYNTHETIC
    return auxiliary_faces(auxiliary, people=classes - 1, captures=CAPTURES[1]).content_hash


def random_crops(count: int, generator: torch.Generator, *, mirrored: bool = False) -> Tensor:
    """Affine maps (count, 2, 3) of random square crops; half of them mirrored where asked for.

    They lie where the generator does; :func:`cropped` moves them to the photos.
    """
    low, high = CROP
    maps = torch.zeros(count, 2, 3, device=generator.device)
    size = low + (high - low) * drawing.uniform((count,), generator, maps)
    shift = (1 - size[:, None]) * drawing.around_zero((count, 2), generator, maps)
    maps[:, 0, 0] = maps[:, 1, 1] = size
    maps[:, :, 2] = shift
    if mirrored:
        maps[drawing.uniform((count,), generator, maps) < 0.5, 0, 0] *= -1
    return maps


def cropped(images: Tensor, maps: Tensor) -> Tensor:
    """Crops of photos (N, C, S, S), resampled bilinearly to the same size; gradients pass."""
    grid = functional.affine_grid(maps.to(images), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def check_training(name: str, *, classes: int, resolution: int) -> None:
    """Refuse settings of the classifier that are out of range.

    Raises:
        ProtectorError: naming the setting.
    """
    if classes < 2:
        raise ProtectorError(f"{name} takes classes >= 2, since nobody can be told apart alone, got {classes}.")
    if resolution < 16:
        raise ProtectorError(f"{name} takes a classifier of resolution >= 16 pixels, got {resolution}.")
    check_largest(name, classes=classes, resolution=resolution)
