"""An ideal thin lens and the path error of a point away from its focus.

The lens images the plane at ``focus_distance_m`` perfectly onto the sensor: ``1/f = 1/z0 + 1/d``. It has no chromatic
error (an achromat); only the mask disperses. A point at distance z on the axis reaches the pupil with the path
``sqrt(r^2 + z^2)``; after subtraction of what the lens corrects, and of the constant, the path error is

``W(r) = [sqrt(r^2 + z^2) - z] - [sqrt(r^2 + z0^2) - z0]``, about ``r^2 / 2 (1/z - 1/z0)`` near the axis.

A path error is positive where light arrives late, and enters the pupil as ``exp(+i 2 pi W / wavelength)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import torch

from optics.errors import OpticsError


def _check_distance(name: str, value: float) -> None:
    if not value > 0:
        raise OpticsError(f"{name}={value} must be a positive distance in metres (inf is allowed).")


@dataclass(frozen=True)
class ThinLens:
    """An ideal thin lens focused at one distance; the aperture is that of the pupil grid.

    Attributes:
        focal_length_m: Focal length f in metres.
        focus_distance_m: Distance z0 of the plane in focus in metres; ``math.inf`` is allowed.

    >>> lens = ThinLens(focal_length_m=4e-3, focus_distance_m=1.0)
    >>> round(lens.sensor_distance_m * 1e3, 3), round(lens.f_number(0.5e-3), 2)
    (4.016, 8.03)
    """

    focal_length_m: float
    focus_distance_m: float

    def __post_init__(self) -> None:
        if not (isfinite(self.focal_length_m) and self.focal_length_m > 0):
            raise OpticsError(f"focal_length_m={self.focal_length_m} must be a positive length in metres.")
        _check_distance("focus_distance_m", self.focus_distance_m)
        if self.focus_distance_m <= self.focal_length_m:
            raise OpticsError(
                f"focus_distance_m={self.focus_distance_m:g} is not beyond focal_length_m={self.focal_length_m:g}, so "
                "no real image forms; increase focus_distance_m."
            )

    @property
    def sensor_distance_m(self) -> float:
        """Distance d from the pupil to the sensor in metres."""
        return 1.0 / (1.0 / self.focal_length_m - 1.0 / self.focus_distance_m)

    def f_number(self, diameter_m: float) -> float:
        """Return the working f-number d / D of an aperture of this diameter in metres."""
        return self.sensor_distance_m / diameter_m

    def magnification(self, object_distance_m: float | None = None) -> float:
        """Return sensor metres per scene metre, d / z (a size; the camera presents the image upright)."""
        distance = self.focus_distance_m if object_distance_m is None else object_distance_m
        _check_distance("object_distance_m", distance)
        return self.sensor_distance_m / distance

    def image_size_m(self, object_size_m: float, object_distance_m: float | None = None) -> float:
        """Return the size on the sensor in metres of an object of this size in metres at this distance."""
        return object_size_m * self.magnification(object_distance_m)

    def defocus_opd_m(
        self, radius_squared_m2: torch.Tensor, object_distance_m: float | torch.Tensor, *, paraxial: bool = False
    ) -> torch.Tensor:
        """Return the path error W of an axial point, exact or paraxial, without cancellation.

        With V = 1/z, V0 = 1/z0, s = sqrt(1 + r^2 V^2), s0 likewise, the exact difference is
        ``r^2 (V - V0) [1 + (V + V0) / (V s0 + V0 s)] / ((1 + s)(1 + s0))``: every sum has terms of one sign, so it is
        exact to rounding in float32, and infinite distances are V = 0.

        Args:
            radius_squared_m2: Squared pupil radius in square metres, shape (P, P).
            object_distance_m: Distance z in metres; a tensor of shape (B,) gives a leading batch dimension and may
                carry a gradient.
            paraxial: Return ``r^2 / 2 (V - V0)`` instead.

        Returns:
            Path error in metres, shape (P, P) or (B, P, P).
        """
        r2 = radius_squared_m2
        if isinstance(object_distance_m, torch.Tensor):
            if not bool((object_distance_m > 0).all()):
                raise OpticsError(f"object_distance_m has the value {object_distance_m.min():g}; all must be positive.")
            distance = object_distance_m.to(r2.dtype)
            distance = distance.reshape(*distance.shape, 1, 1)
        else:
            _check_distance("object_distance_m", object_distance_m)
            distance = r2.new_tensor(object_distance_m)
        v, v0 = 1.0 / distance, 1.0 / self.focus_distance_m
        # (z0 - z) V V0 rather than V - V0: exact when z and z0 are close; not usable at infinity.
        finite = torch.isfinite(distance) & isfinite(self.focus_distance_m)
        safe = torch.where(finite, distance, torch.zeros_like(distance))
        difference = torch.where(finite, (self.focus_distance_m - safe) * v * v0, v - v0) if v0 > 0 else v
        if paraxial:
            return r2 * (difference / 2)
        s, s0 = (1 + r2 * v * v).sqrt(), (1 + r2 * (v0 * v0)).sqrt()
        denominator = v * s0 + v0 * s
        ratio = torch.where(denominator > 0, (v + v0) / denominator.clamp(min=torch.finfo(r2.dtype).tiny), 1.0)
        return r2 * difference * (1 + ratio) / ((1 + s) * (1 + s0))
