"""Where on a photo a perturbation may be, and how large: budget in whole levels, region, grey photos."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from protectors import drawing
from protectors.base import TOP_LEVEL
from protectors.errors import ProtectorError

#: The survey's one budget for all methods.
UNIFORM_LINF = 0.03

#: Side of the square that holds brows, chin and cheeks, in eye distances, around the mean of the five points.
FACE_SIDE = 3.0

REGIONS = ("photo", "face")


def linf_levels(budget: str, native_linf: float) -> int:
    """Largest change of a value in whole levels of a file.

    A photo is saved in whole levels, so only a whole budget can be kept exactly; it is rounded down.

    Args:
        budget: "native" for that of the method, "uniform" for the survey's .03, or a number in 0..1.
        native_linf: that of the method, in 0..1.

    Raises:
        ProtectorError: No such budget, or less than one level.
    """
    if budget == "native":
        linf = native_linf
    elif budget == "uniform":
        linf = UNIFORM_LINF
    else:
        try:
            linf = float(budget)
        except ValueError:
            linf = math.nan
        if not 0 < linf <= 1:
            raise ProtectorError(f"budget = {budget} must be native, uniform, or a number in 0..1 as in budget=0.05.")
    # 8/255 times 255 must not become 7.
    levels = math.floor(linf * TOP_LEVEL + 1e-6)
    if levels < 1:
        raise ProtectorError(f"budget = {budget} is less than one level of a file; at least {1 / TOP_LEVEL:.4f}.")
    return levels


class Canvas:
    """Photos and the part of each on which a perturbation lives.

    Perturbations are (N, 3, R, R) in the values of the photos: R is their side, or for the region "face" that of a
    square around the face, the same for all photos of a batch. Backward passes and noise stop at its edge; the
    recogniser still sees the whole photo.

    Args:
        images: (N, 3, S, S) in 0..1.
        points5: (N, 5, 2).
        region: "photo" or "face".
        levels: L-infinity budget in whole levels, or None for none but the range of a photo.

    Attributes:
        side: R.

    Raises:
        ProtectorError: There is no such region.
    """

    def __init__(self, images: Tensor, points5: Tensor, *, region: str = "photo", levels: int | None = None) -> None:
        check_region(region)
        self.images = images.detach()
        self._limit = None if levels is None else levels / TOP_LEVEL
        # Colour would give away that a grey photo was treated.
        self._grey = (self.images == self.images[:, :1]).flatten(1).all(1)
        whole = images.shape[-1]
        self.side = whole
        self._rows = self._columns = None
        if region == "face":
            eyes = torch.linalg.vector_norm(points5[:, 1] - points5[:, 0], dim=-1)
            self.side = min(whole, math.ceil(FACE_SIDE * float(eyes.amax())))
            first = (points5.mean(1) - (self.side - 1) / 2).round().long().clamp(0, whole - self.side)
            steps = torch.arange(self.side, device=images.device)
            self._rows = (first[:, 1, None] + steps)[:, None, :, None]
            self._columns = (first[:, 0, None] + steps)[:, None, None, :]

    def crop(self, images: Tensor) -> Tensor:
        """The part (N, C, R, R) of photos (N, C, S, S) on which the perturbation lives."""
        if self._rows is None:
            return images
        return images[self._index(images.shape[1])]

    def add(self, delta: Tensor) -> Tensor:
        """Photos (N, 3, S, S) with the perturbation, not cut to 0..1; gradients pass to ``delta``."""
        if self._rows is None:
            return self.images + delta
        return self.images.index_put(self._index(3), self.crop(self.images) + delta)

    def project(self, delta: Tensor) -> Tensor:
        """The nearest perturbation that keeps the budget and leaves values in 0..1; grey on grey photos."""
        delta = self.greyed(delta)
        if self._limit is not None:
            delta = delta.clamp(-self._limit, self._limit)
        base = self.crop(self.images)
        return (base + delta).clamp(0, 1) - base

    def greyed(self, delta: Tensor) -> Tensor:
        """The same perturbation, but its mean over the channels on photos that are grey."""
        if not bool(self._grey.any()):
            return delta
        return torch.where(self._grey[:, None, None, None], delta.mean(1, keepdim=True), delta)

    def zeros(self) -> Tensor:
        """No perturbation, (N, 3, R, R)."""
        return self.images.new_zeros(len(self.images), 3, self.side, self.side)

    def random(self, generator: torch.Generator) -> Tensor:
        """A uniform draw from the box of the budget, projected.

        Raises:
            ProtectorError: There is no budget to draw from.
        """
        if self._limit is None:
            raise ProtectorError("a random start needs an L-infinity budget; set budget to a number.")
        zeros = self.zeros()
        return self.project(drawing.around_zero(zeros.shape, generator, zeros) * self._limit)

    def _index(self, channels: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        assert self._rows is not None and self._columns is not None
        photos, planes = (torch.arange(count, device=self.images.device) for count in (len(self.images), channels))
        return photos[:, None, None, None], planes[None, :, None, None], self._rows, self._columns


def check_region(region: str) -> None:
    """Refuse a region that does not exist.

    Raises:
        ProtectorError: naming those that do.
    """
    if region not in REGIONS:
        raise ProtectorError(f"region = {region} must be one of {', '.join(REGIONS)}.")
