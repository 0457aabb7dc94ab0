"""The field stop: an opening in front of the sensor that decides which part of the picture is recorded."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import torch

from optics.errors import OpticsError


@dataclass(frozen=True)
class FieldStop:
    """An elliptical opening just in front of the sensor: pixels outside it stay dark.

    The transmission is ``1 / (1 + exp((r - 1) / edge))`` with the elliptical radius r, 1 on the rim; an edge of a few
    per cent is what a stop a little in front of the pixels casts.

    Attributes:
        centre_x: Centre as a share of the window's width, from the left.
        centre_y: Centre as a share of the window's height, from the top.
        half_width: Half axis along x as a share of the width.
        half_height: Half axis along y as a share of the height.
        edge: Softness of the rim as a share of the half axes.

    Raises:
        OpticsError: A value is not finite, or a half axis or the edge is not positive.

    >>> stop = FieldStop(centre_x=0.5, centre_y=0.5, half_width=0.3, half_height=0.4, edge=0.02)
    >>> share = stop.transmission(64)
    >>> round(float(share[32, 32]), 3), round(float(share[0, 0]), 3)
    (1.0, 0.0)
    """

    centre_x: float
    centre_y: float
    half_width: float
    half_height: float
    edge: float

    def __post_init__(self) -> None:
        for name in ("centre_x", "centre_y"):
            if not isfinite(getattr(self, name)):
                raise OpticsError(f"{name}={getattr(self, name)} must be a finite share of the window.")
        for name in ("half_width", "half_height", "edge"):
            if not (isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise OpticsError(f"{name}={getattr(self, name)} must be a positive share.")

    def transmission(
        self, samples: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> torch.Tensor:
        """Return the share of the light that passes to each cell of the image.

        Args:
            samples: Cells along one side of the window.
            device: Device of the result; None means the default device.
            dtype: Type of the result; None means the default type.

        Returns:
            Shape (samples, samples), arrays [y, x], values 0 to 1.
        """
        across = (torch.arange(samples, device=device, dtype=dtype or torch.get_default_dtype()) + 0.5) / samples
        x, y = (across - self.centre_x) / self.half_width, (across - self.centre_y) / self.half_height
        radius = (x.square()[None, :] + y.square()[:, None]).sqrt()
        return torch.sigmoid((1.0 - radius) / self.edge)
