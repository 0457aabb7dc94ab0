"""Where to start a relief that shall spread the light of a lens into a given pattern: by optimal transport of its rays.

Without a mask all rays meet on the axis. A relief with path error W sends the ray through the pupil point u to
``x = d grad W(u)`` on a sensor at the distance d. Among all maps that carry the uniform light of the aperture into the
wanted irradiance, the one of least mean square displacement is the gradient of a convex potential (Y. Brenier, Comm.
Pure Appl. Math. 44, 375 (1991)), so ``W = potential / d`` is a smooth surface without folds: it disperses as little as
glass does and makes no speckle, unlike a phase that is retrieved from a random start. The potential is that of
entropic transport, whose blur goes down step by step (G. Peyre and M. Cuturi, Computational Optimal Transport, 2019,
ch. 4); on grids its sums separate into rows and columns. Geometrical optics ends at the width of the diffraction
spot, and the edges of separate islands leave some light between them, so descent through the wave model should follow.
"""

from __future__ import annotations

import torch

from optics.checks import check_finite
from optics.elements.masks.smooth import cubic_splines
from optics.errors import OpticsError
from optics.lens import ThinLens
from optics.materials import FUSED_SILICA, Material, index_differences
from optics.pupil import PupilGrid

#: Points along one side of the aperture, and rounds of balancing at each blur.
_POINTS, _ROUNDS = 48, 25
#: Blur of the transport, in cells (standard deviation), from coarse to fine.
_BLURS = (8.0, 4.0, 2.0, 1.0, 0.6)
#: Share of the mean that an empty cell gets: the logarithm of nothing is not a number.
_LEAST = 1e-6


def transport_height_m(
    grid: PupilGrid,
    lens: ThinLens,
    irradiance: torch.Tensor,
    pitch_m: float,
    wavelength_m: float,
    material: Material = FUSED_SILICA,
) -> torch.Tensor:
    """Return the relief that sends the light of the aperture into a pattern, by geometrical optics.

    Args:
        grid: Pupil.
        lens: Lens; the pattern lies on its sensor, in focus.
        irradiance: Wanted light of each cell, shape (K, K) or (B, K, K), non-negative; only ratios count. The optical
            axis is at the centre of cell K // 2, axes are those of the image.
        pitch_m: Side of a cell in metres.
        wavelength_m: Vacuum wavelength for which the material's index is taken.
        material: Material of the mask.

    Returns:
        Height in metres, float64 of shape (P, P) or (B, P, P), least value 0.

    Raises:
        OpticsError: A pattern that is not square, dark, negative or not finite.
    """
    check_finite("irradiance", irradiance)
    if irradiance.ndim not in (2, 3) or irradiance.shape[-1] != irradiance.shape[-2]:
        raise OpticsError(f"irradiance has shape {tuple(irradiance.shape)}; (K, K) or (B, K, K) is needed.")
    planes = irradiance.double().reshape(-1, *irradiance.shape[-2:])
    if bool((planes < 0).any()) or not bool((planes.sum((-2, -1)) > 0).all()):
        raise OpticsError("irradiance must be non-negative and have light in it; change the dark or negative pattern.")
    cells = planes.shape[-1]
    device = planes.device
    radius = grid.diameter_m / 2
    # In units of the pupil's radius and of half the pattern's side, so that both fill -1 to 1.
    half_m = pitch_m * cells / 2
    points = (torch.arange(_POINTS, dtype=torch.float64, device=device) + 0.5) / _POINTS * 2 - 1
    places = (torch.arange(cells, dtype=torch.float64, device=device) - cells // 2) * pitch_m / half_m
    inside = (points[:, None] ** 2 + points**2) <= 1
    source = torch.where(inside, -torch.log(inside.sum().double()), -torch.inf)
    wanted = planes + _LEAST * planes.mean((-2, -1), keepdim=True)
    target = torch.log(wanted / wanted.sum((-2, -1), keepdim=True))
    dual, blur = _balance(source, target, points, places, 2 / cells)
    fine = grid.coordinate_m.to(device, torch.float64) / radius
    # The potential of the entropic map; its gradient is the mean place to which the light of a point goes.
    soft = blur * _sum_over(
        dual / blur - places[:, None] ** 2 / (2 * blur) - places**2 / (2 * blur), fine, places, blur
    )
    difference = float(index_differences(material, [wavelength_m])[0])
    height = soft * (radius * half_m / (lens.sensor_distance_m * difference))
    height = height - height.amin((-2, -1), keepdim=True)
    return height.reshape(*irradiance.shape[:-2], *height.shape[-2:])


def _sum_over(values: torch.Tensor, at: torch.Tensor, places: torch.Tensor, blur: float) -> torch.Tensor:
    """log sum_x exp(values(x) + at . x / blur), for all pairs of coordinates ``at``, shape (B, n, n)."""
    cross = at[:, None] * places / blur  # (n, K)
    rows = torch.logsumexp(values[:, None, :, :] + cross[None, :, None, :], dim=-1)  # (B, n of x, K of y)
    return torch.logsumexp(rows[:, None, :, :] + cross[None, :, None, :], dim=-1)  # (B, n of y, n of x)


def _balance(
    source: torch.Tensor, target: torch.Tensor, points: torch.Tensor, places: torch.Tensor, cell: float
) -> tuple[torch.Tensor, float]:
    """The dual potential (B, K, K) of the pattern, in units of the cost |u - x|^2 / 2, and the last blur."""
    dual = torch.zeros_like(target)
    squares_x = (places[:, None] ** 2 + places**2) / 2
    squares_u = (points[:, None] ** 2 + points**2) / 2
    blur = 1.0
    for width in _BLURS:
        blur = (width * cell) ** 2
        for _ in range(_ROUNDS):
            light = -_sum_over((dual - squares_x) / blur, points, places, blur) * blur + squares_u
            filled = (light - squares_u) / blur + source
            dual = blur * target - _sum_over(filled, places, points, blur) * blur + squares_x
    return dual, blur


def controls_for_height(height_m: torch.Tensor, cells: int, max_height_m: float) -> torch.Tensor:
    """Return the controls of a :class:`optics.FreeformMask` whose relief is nearest to a height map.

    Args:
        height_m: Wanted height in metres, shape (P, P) or (B, P, P); it may lie anywhere, since a constant height
            changes nothing: it is put in the middle of the range.
        cells: Controls along one side of the aperture.
        max_height_m: Height range of the mask in metres.

    Returns:
        float64 of shape (cells, cells) or (B, cells, cells), least squares in the units of the controls.

    Raises:
        OpticsError: The relief is taller than nine tenths of the range.
    """
    check_finite("height_m", height_m)
    height = height_m.double()
    low, high = height.amin((-2, -1), keepdim=True), height.amax((-2, -1), keepdim=True)
    tallest = float((high - low).max())
    if tallest > 0.9 * max_height_m:
        raise OpticsError(
            f"the relief is {tallest:.3g} m tall; max_height_m={max_height_m:.3g} must be at least {tallest / 0.9:.3g}."
        )
    middle = (height - (low + high) / 2) / max_height_m + 0.5
    inverse = torch.linalg.pinv(cubic_splines(height.shape[-1], cells).to(height.device))
    return inverse @ torch.logit(middle) @ inverse.mT
