"""Height maps given sample by sample: measured, or trained within limits of height, slope and curvature.

:class:`optics.FreeformMask` is smooth by its splines; here each pupil sample is free and the limits are explicit.
"""

from __future__ import annotations

from math import isfinite

import torch
from torch import nn
from torch.nn import functional

from optics.elements.masks.base import PhaseMask
from optics.errors import OpticsError
from optics.materials import FUSED_SILICA, Material
from optics.pupil import PupilGrid
from optics.tensors import hold


class BoundedHeight(PhaseMask):
    """A trained height of each pupil sample within 0 and ``max_height_m``, and within a slope if one is given.

    ``h = limit_slope(max_height_m * sigmoid(v))``: both limits hold whatever the optimiser does.

    Args:
        grid: Pupil.
        max_height_m: Upper end of the height range in metres.
        max_slope: Largest rise over run between neighbouring samples along x and along y; None means no limit.
        material: Material of the mask.
        start: Controls v, Parameter (trained) or tensor (fixed) of shape (P, P); None starts a trained flat mask at
            half height.
        dtype: Type of controls and result.
    """

    controls: torch.Tensor

    def __init__(
        self,
        grid: PupilGrid,
        max_height_m: float,
        max_slope: float | None = None,
        material: Material = FUSED_SILICA,
        start: torch.Tensor | None = None,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(grid, material, dtype)
        _positive("max_height_m", max_height_m)
        if max_slope is not None:
            _positive("max_slope", max_slope)
        self.max_height_m = max_height_m
        self.max_slope = max_slope
        shape = (grid.samples, grid.samples)
        hold(self, "controls", nn.Parameter(torch.zeros(shape, dtype=dtype)) if start is None else start, shape, dtype)

    def height_m(self) -> torch.Tensor:
        """Return the height in metres, shape (P, P)."""
        height = self.max_height_m * torch.sigmoid(self.controls)
        return height if self.max_slope is None else limit_slope(height, self.grid.pitch_m, self.max_slope)


class MeasuredHeight(PhaseMask):
    """A height map from a measurement, resampled bilinearly to the pupil.

    Args:
        grid: Pupil.
        height_m: Heights in metres, shape (H, W), arrays [y, x], the optical axis in the middle; NaN is allowed outside
            the aperture. A Parameter of shape (P, P) is trained as it stands.
        pitch_m: Distance of the measured points in metres; None means one per pupil sample.
        material: Material of the mask.
        dtype: Type of the result.

    Raises:
        OpticsError: The map is smaller than the aperture or NaN inside it.
    """

    height: torch.Tensor

    def __init__(
        self,
        grid: PupilGrid,
        height_m: torch.Tensor,
        pitch_m: float | None = None,
        material: Material = FUSED_SILICA,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(grid, material, dtype)
        shape = (grid.samples, grid.samples)
        if isinstance(height_m, nn.Parameter):
            hold(self, "height", height_m, shape, dtype)
        else:
            hold(self, "height", sample_map(height_m, grid, pitch_m, "height_m"), shape, dtype)

    def height_m(self) -> torch.Tensor:
        """Return the height in metres, shape (P, P)."""
        return self.height


def sample_map(values: torch.Tensor, grid: PupilGrid, pitch_m: float | None, name: str) -> torch.Tensor:
    """Resample a measured map to the pupil bilinearly; cells outside the aperture whose value is unknown become 0.

    Args:
        values: Map of shape (..., H, W), the optical axis in the middle; NaN marks points without a value.
        grid: Pupil.
        pitch_m: Distance of the points in metres; None means the pupil's own, and then H = W = P.
        name: Argument named in errors.

    Returns:
        float64 tensor of shape (..., P, P).

    Raises:
        OpticsError: Wrong shape, or cells of the aperture without a value.
    """
    samples = grid.samples
    if values.ndim < 2 or values.numel() == 0:
        raise OpticsError(f"{name} has shape {tuple(values.shape)}; it must be a map (H, W).")
    values = values.detach().double()
    if pitch_m is None:
        if tuple(values.shape[-2:]) != (samples, samples):
            raise OpticsError(
                f"{name} has shape {tuple(values.shape)} but the pupil has ({samples}, {samples}) samples; pass "
                "pitch_m to resample it."
            )
        sampled = values
    else:
        _positive("pitch_m", pitch_m)
        rows, columns = values.shape[-2:]
        x = grid.x_m.to(values.device) * (2 / (max(columns - 1, 1) * pitch_m))
        y = grid.y_m.to(values.device) * (2 / (max(rows - 1, 1) * pitch_m))
        flat = values.reshape(1, -1, rows, columns)
        where = torch.stack([x, y], -1)[None]
        sampled = functional.grid_sample(flat, where, mode="bilinear", padding_mode="border", align_corners=True)
        # Half a point beyond the outermost ones still belongs to the map.
        beyond = (x.abs() > 1 + 1 / max(columns - 1, 1)) | (y.abs() > 1 + 1 / max(rows - 1, 1))
        sampled = sampled.masked_fill(beyond, torch.nan).reshape(*values.shape[:-2], samples, samples)
    unknown = ~torch.isfinite(sampled)
    inside = (grid.amplitude > 0).to(values.device)
    if bool((unknown & inside).any()):
        count = int((unknown & inside).sum())
        raise OpticsError(
            f"{name} gives no finite value for {count} cells of the aperture of {grid.diameter_m:g} m (NaN, or a map "
            "too small); fill them in, or change pitch_m or PupilGrid diameter_m."
        )
    return sampled.masked_fill(unknown, 0.0)


def limit_slope(height_m: torch.Tensor, pitch_m: float, max_slope: float) -> torch.Tensor:
    """Return the closest height map (in the largest deviation) whose neighbours differ by at most slope times pitch.

    It is the mean of two envelopes: the highest map below and the lowest map above that keep the limit along x and y,
    each a cone erosion or dilation done exactly by running minima. Heights within the limit are returned as they are;
    the range of heights never grows.

    Args:
        height_m: Heights in metres, shape (..., H, W); differentiable.
        pitch_m: Distance of samples in metres.
        max_slope: Largest rise over run along x and along y.
    """
    _positive("pitch_m", pitch_m)
    _positive("max_slope", max_slope)
    step = pitch_m * max_slope
    return (_highest_below(height_m, step) - _highest_below(-height_m, step)) / 2


def limit_penalty(
    height_m: torch.Tensor, pitch_m: float, *, max_slope: float | None = None, max_curvature: float | None = None
) -> torch.Tensor:
    """Return how far slopes and curvatures exceed their limits: the mean of ``max(value / limit - 1, 0)^2``.

    Args:
        height_m: Heights in metres, shape (..., H, W).
        pitch_m: Distance of samples in metres.
        max_slope: Limit of first differences over pitch, along x and y.
        max_curvature: Limit of second differences over pitch squared, along x and y, in 1/m.

    Returns:
        Scalar of no unit, 0 within the limits.
    """
    _positive("pitch_m", pitch_m)
    if max_slope is None and max_curvature is None:
        raise OpticsError("limit_penalty has no limit; pass max_slope or max_curvature.")
    total = height_m.new_zeros(())
    for order, limit, name in ((1, max_slope, "max_slope"), (2, max_curvature, "max_curvature")):
        if limit is not None:
            _positive(name, limit)
            for dim in (-1, -2):
                value = height_m.diff(n=order, dim=dim).abs() / (limit * pitch_m**order)
                total = total + (value - 1).clamp(min=0).square().mean()
    return total


def _highest_below(height: torch.Tensor, step: float) -> torch.Tensor:
    """``min_k (h_k + step |i - k|)`` along x, then along y."""
    for dim in (-1, -2):
        size = height.shape[dim]
        ramp = torch.arange(size, dtype=height.dtype, device=height.device) * step
        ramp = ramp if dim == -1 else ramp[:, None]
        left = (height - ramp).cummin(dim).values + ramp
        right = ((height + ramp).flip(dim).cummin(dim).values).flip(dim) - ramp
        height = torch.minimum(torch.minimum(left, right), height)
    return height


def _positive(name: str, value: float) -> None:
    if not (isfinite(value) and value > 0):
        raise OpticsError(f"{name}={value} must be positive and finite.")
