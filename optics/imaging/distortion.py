"""Distortion of a lens: where image points go, and images resampled accordingly.

With (x, y) the ideal image point over the sensor distance (the slope of the chief ray), r^2 = x^2 + y^2 and
``s = 1 + k1 r^2 + k2 r^4 + k3 r^6``, the image lies at (D. C. Brown, Photogrammetric Engineering 37, 855 (1971), in the
order of signs that OpenCV made common)

``x' = x s + 2 p1 x y + p2 (r^2 + 2 x^2)``, ``y' = y s + p1 (r^2 + 2 y^2) + 2 p2 x y``.

Positive k1 moves points outwards (pincushion).

Images hold light per pixel. Distortion moves light, so it is thinner where the image is stretched: the value is
multiplied by the ratio of areas (the Jacobian), and the total stays the same, but for what leaves the frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import torch
from torch import nn

from optics.errors import OpticsError

_MOST_STEPS = 50


@dataclass(frozen=True)
class BrownConrady:
    """Radial and tangential distortion in units of the sensor distance; all zero is no distortion."""

    k1: float = 0.0
    k2: float = 0.0
    k3: float = 0.0
    p1: float = 0.0
    p2: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isfinite(value):
                raise OpticsError(f"{name}={value} must be a finite number.")

    def distort(self, points: torch.Tensor) -> torch.Tensor:
        """Return where ideal image points appear.

        Args:
            points: (x, y) over the sensor distance, shape (..., 2).

        Returns:
            Shape (..., 2).
        """
        x, y = points.unbind(-1)
        r2 = x * x + y * y
        s = 1 + r2 * (self.k1 + r2 * (self.k2 + r2 * self.k3))
        across = 2 * x * y
        return torch.stack(
            [
                x * s + self.p1 * across + self.p2 * (r2 + 2 * x * x),
                y * s + self.p1 * (r2 + 2 * y * y) + self.p2 * across,
            ],
            dim=-1,
        )

    def jacobian(self, points: torch.Tensor) -> torch.Tensor:
        """Return the derivative of :meth:`distort`, shape (..., 2, 2): row the result, column the ideal coordinate."""
        x, y = points.unbind(-1)
        r2 = x * x + y * y
        s = 1 + r2 * (self.k1 + r2 * (self.k2 + r2 * self.k3))
        slope = 2 * (self.k1 + r2 * (2 * self.k2 + r2 * (3 * self.k3)))  # ds/dx = x slope
        mixed = x * y * slope + 2 * (self.p1 * x + self.p2 * y)
        xx = s + x * x * slope + 2 * self.p1 * y + 6 * self.p2 * x
        yy = s + y * y * slope + 6 * self.p1 * y + 2 * self.p2 * x
        return torch.stack([torch.stack([xx, mixed], -1), torch.stack([mixed, yy], -1)], -2)

    def undistort(self, points: torch.Tensor) -> torch.Tensor:
        """Return the ideal points whose images are ``points``, by Newton's method; exact to rounding.

        Args:
            points: (x, y) over the sensor distance, shape (..., 2).

        Returns:
            Shape (..., 2). The gradient to ``points`` is exact.

        Raises:
            OpticsError: A point is no image: the distortion folds over before it gets there.
        """
        with torch.no_grad():
            target = points.detach()
            ideal = target.clone()
            tolerance = 8 * torch.finfo(points.dtype).eps * (1 + target.abs())
            for _ in range(_MOST_STEPS):
                rest = self.distort(ideal) - target
                if bool((rest.abs() <= tolerance).all()):
                    break
                step = self._solve(ideal, rest)
                # A step longer than the point itself would jump over a fold.
                limit = 0.5 * (ideal.norm(dim=-1, keepdim=True) + target.norm(dim=-1, keepdim=True))
                ideal = ideal - step * (limit / step.norm(dim=-1, keepdim=True).clamp(min=1e-30)).clamp(max=1.0)
            rest = (self.distort(ideal) - target).abs()
            bad = ~((rest <= tolerance).all(dim=-1) & (torch.linalg.det(self.jacobian(ideal)) > 0))
        if bool(bad.any()):
            worst = points.detach()[bad].norm(dim=-1).min()
            raise OpticsError(
                f"{int(bad.sum())} points from the radius {float(worst):.4g} on are images of no point ({self} folds "
                "over); reduce the field of points or the coefficients."
            )
        # One more step outside no_grad: the value stays, the gradient is that of the inverse.
        return ideal - self._solve(ideal, self.distort(ideal) - points)

    def _solve(self, ideal: torch.Tensor, rest: torch.Tensor) -> torch.Tensor:
        """Newton step for the residual ``rest``, shape (..., 2)."""
        (xx, xy), (_, yy) = (row.unbind(-1) for row in self.jacobian(ideal).unbind(-2))
        determinant = xx * yy - xy * xy
        rx, ry = rest.unbind(-1)
        return torch.stack([yy * rx - xy * ry, xx * ry - xy * rx], dim=-1) / determinant[..., None]


class DistortionWarp(nn.Module):
    """Distort images of light per pixel, or correct them; linear, darkness outside the frame.

    The map and its density are exact, so an even scene is; values between pixels are bilinear, so the light of a spot
    of a few pixels is kept to about 3e-3.
    The optical axis meets the middle of the frame. The map is computed once and takes 12 H W bytes in float32.

    Args:
        model: Distortion.
        height: Rows of the frame.
        width: Columns of the frame.
        focal_px: Sensor distance in pixels, ``lens.sensor_distance_m / pitch_m``.
        correct: False bends ideal images as the lens does, True straightens recorded ones.
        dtype: Type of the images.

    Raises:
        OpticsError: A size is not positive, or the distortion folds over within the frame.
    """

    points: torch.Tensor
    density: torch.Tensor

    def __init__(
        self,
        model: BrownConrady,
        height: int,
        width: int,
        focal_px: float,
        *,
        correct: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if height < 1 or width < 1:
            raise OpticsError(f"height={height} and width={width} must be at least 1 pixel.")
        if not (isfinite(focal_px) and focal_px > 0):
            raise OpticsError(f"focal_px={focal_px} must be a positive number of pixels.")
        self.height, self.width = height, width
        y = (torch.arange(height, dtype=torch.float64) - (height - 1) / 2) / focal_px
        x = (torch.arange(width, dtype=torch.float64) - (width - 1) / 2) / focal_px
        out = torch.stack([x.expand(height, -1), y[:, None].expand(-1, width)], dim=-1)
        # Each output pixel looks up where its light comes from, and how much smaller or larger that area is.
        source = model.distort(out) if correct else model.undistort(out)
        area = torch.linalg.det(model.jacobian(out if correct else source))
        if not bool((area > 0).all()):
            raise OpticsError(f"{model} folds over within the frame of {height} x {width} pixels; reduce it.")
        scale = torch.tensor([2 * focal_px / width, 2 * focal_px / height], dtype=torch.float64)
        self.register_buffer("points", (source * scale).to(dtype), persistent=False)
        self.register_buffer("density", (area if correct else 1 / area).to(dtype), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the distorted (or corrected) images.

        Args:
            images: Light per pixel, shape (N, C, H, W).

        Returns:
            Shape (N, C, H, W).

        Raises:
            OpticsError: The shape does not fit the frame.
        """
        if images.ndim != 4 or tuple(images.shape[-2:]) != (self.height, self.width):
            raise OpticsError(
                f"images has shape {tuple(images.shape)}; (N, C, {self.height}, {self.width}) is needed for this frame."
            )
        points = self.points.expand(images.shape[0], -1, -1, -1)
        return nn.functional.grid_sample(images, points, mode="bilinear", align_corners=False) * self.density
