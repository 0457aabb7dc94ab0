"""Control: random noise within the budget of a perturbation. What noise does as well is nothing that a method did."""

from __future__ import annotations

import torch
from torch import Tensor

from faces.protection import Declaration, Threat
from protectors import drawing
from protectors.base import TOP_LEVEL, PhotoProtector
from protectors.errors import ProtectorError
from protectors.largest import check_largest


class Noise(PhotoProtector):
    """Random noise on the sRGB values, drawn anew for each photo and channel.

    ``linf`` draws whole levels, all equally likely, from the largest range within the budget, so the photo that is
    saved keeps it exactly. ``l2`` draws a Gaussian direction and scales it to the budget; rounding to whole levels then
    adds a twelfth of a squared level to each value's square, and cutting at black and white takes some away.

    Args:
        linf: largest change of any value (values are 0..1), from 1/255.
        l2: Euclidean norm of the change of a photo, over all its values (0..1); it grows with the side of the photo
            at equal visibility.

    Raises:
        ProtectorError: If not exactly one of them is given, or it is out of range.
    """

    about = Declaration(
        name="noise",
        title="random noise of a given budget",
        summary="Adds random noise of a given budget; the evaluation compares with it.",
        example="linf=0.03",
        source="control",
        threats=frozenset({Threat.poison, Threat.dodge}),
        deterministic=False,
        differentiable=True,
        control=True,
        additive=True,
    )

    def __init__(self, *, linf: float | None = None, l2: float | None = None) -> None:
        if (linf is None) == (l2 is None):
            raise ProtectorError("noise takes one budget: linf (as in noise:linf=0.03) or l2 (as in noise:l2=3).")
        if linf is not None and not 1 / TOP_LEVEL <= linf <= 1:
            raise ProtectorError(f"noise takes linf from 1/{TOP_LEVEL} (one level of a file) to 1, got {linf:g}.")
        if l2 is not None and not l2 > 0:
            raise ProtectorError(f"noise takes l2 > 0, got {l2:g}.")
        if l2 is not None:
            check_largest("noise", l2=l2)
        super().__init__((), linf=linf, l2=l2)
        self._linf, self._l2 = linf, l2

    def change(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> Tensor:
        """Noisy photos; see :meth:`PhotoProtector.change`."""
        if self._linf is not None:
            most = int(self._linf * TOP_LEVEL)
            levels = drawing.whole(-most, most + 1, images.shape, generator, images)
            return images + levels.to(images.dtype) / TOP_LEVEL
        drawn = drawing.normal(images.shape, generator, images)
        norm = torch.linalg.vector_norm(drawn, dim=(1, 2, 3), keepdim=True)
        return images + drawn * (self._l2 / norm)
