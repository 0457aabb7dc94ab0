"""Control: a coarse mosaic, the customary way to hide a face."""

from __future__ import annotations

import torch
from torch import Tensor

from faces.protection import Declaration, Threat
from faces.samples import linear_to_srgb, srgb_to_linear
from protectors.base import PhotoProtector
from protectors.errors import ProtectorError
from protectors.largest import check_largest
from protectors.resampling import area_resample


class Pixelate(PhotoProtector):
    """Mean of the linear light in each of ``cells`` x ``cells`` squares.

    Where cells do not end between two pixels, the pixel that they share shows the mean of both.

    Args:
        cells: squares across the frame, at most its pixels; about a quarter of them lie between the eyes.

    Raises:
        ProtectorError: If there is no cell, or are more than any photo has pixels.
    """

    about = Declaration(
        name="pixelate",
        title="mosaic of squares",
        summary="Turns the photo into a mosaic of squares; the evaluation compares with it.",
        source="control",
        threats=frozenset({Threat.dodge}),
        differentiable=True,
        control=True,
    )

    def __init__(self, *, cells: int = 16) -> None:
        if cells < 1:
            raise ProtectorError(f"pixelate takes cells >= 1, got {cells}.")
        check_largest("pixelate", cells=cells)
        super().__init__((), cells=cells)
        self._cells = self.least_px = cells

    def change(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> Tensor:
        """Mosaics; see :meth:`PhotoProtector.change`."""
        side = images.shape[-1]
        return linear_to_srgb(area_resample(area_resample(srgb_to_linear(images), self._cells), side))
