"""The varying blur against the sum it stands for, written as loops over pixels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicSpline, RegularGridInterpolator

from optics import OpticsError, convolve
from optics.imaging import FieldGrid, LowRankBlur, PatchBlur

EXACT = {torch.float64: 1e-12, torch.float32: 2e-6}
ADJOINT = 1e-10
# What a low-rank blur may differ from the direct one, relative L2.
LOW_RANK = 1e-3

Blur = PatchBlur | LowRankBlur
KINDS: list[Callable[[FieldGrid, torch.Tensor], Blur]] = [
    PatchBlur,
    lambda field, psf: LowRankBlur(field, psf, rank=min(field.count, psf.shape[-1] ** 2)),
]
FIELDS = [
    FieldGrid.even(17, 22, 3, 4),
    FieldGrid(17, 22, (2.5, 9.0, 9.5), (0.0, 21.0)),
    FieldGrid(17, 22, (8.0,), (-3.0, 5.25, 30.0)),
    FieldGrid(17, 22, (-9.0, -4.0, 20.0), (11.0,)),
]


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def direct(field: FieldGrid, psf: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Each pixel spreads the PSF interpolated at its place, by scipy and a loop over pixels."""
    grid = psf.reshape(len(field.rows_px), len(field.columns_px), *psf.shape[1:]).numpy()
    half = psf.shape[-1] // 2
    out = np.zeros((*images.shape[:2], field.height + 2 * half, field.width + 2 * half))
    rows, columns = list(field.rows_px), list(field.columns_px)
    if len(rows) == 1:
        rows, grid = [rows[0], rows[0] + 1], np.repeat(grid, 2, axis=0)
    if len(columns) == 1:
        columns, grid = [columns[0], columns[0] + 1], np.repeat(grid, 2, axis=1)
    at = RegularGridInterpolator((rows, columns), grid)
    for y in range(field.height):
        for x in range(field.width):
            own = at([np.clip(y, rows[0], rows[-1]), np.clip(x, columns[0], columns[-1])])[0]
            patch = out[..., y : y + 2 * half + 1, x : x + 2 * half + 1]
            patch += own * images[..., y, x].numpy()[..., None, None]
    return torch.from_numpy(out[..., half : half + field.height, half : half + field.width])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("side", [1, 7, 41])
def test_equals_the_direct_sum(kind: Callable[[FieldGrid, torch.Tensor], Blur], field: FieldGrid, side: int) -> None:
    psf, images = rand(field.count, 2, side, side, seed=1), rand(2, 2, 17, 22)
    out, truth = kind(field, psf)(images), direct(field, psf, images)
    assert (out - truth).norm() / truth.norm() < EXACT[torch.float64]
    single = kind(field, psf.float())(images.float())
    assert single.dtype == torch.float32
    assert (single - truth).norm() / truth.norm() < EXACT[torch.float32]


@pytest.mark.parametrize("kind", [PatchBlur, LowRankBlur])
def test_a_constant_psf_is_a_plain_convolution(kind: type[Blur]) -> None:
    field = FieldGrid.even(40, 52, 4, 5)
    psf, images = rand(1, 3, 11, 11), rand(2, 3, 40, 52, seed=1)
    blur = kind(field, psf.expand(field.count, -1, -1, -1))
    assert (blur(images) - convolve(images, psf[0])).abs().max() < EXACT[torch.float64] * 121
    if isinstance(blur, LowRankBlur):
        assert blur.rank == 1


def test_a_bright_pixel_becomes_the_psf_of_its_own_place_upright() -> None:
    field = FieldGrid(30, 30, (5.0, 24.0), (6.0, 22.0))
    psf, images = rand(4, 1, 5, 5), torch.zeros(1, 1, 30, 30, dtype=torch.float64)
    images[0, 0, 24, 6] = 1  # the third point: second row, first column
    for kind in KINDS:
        out = kind(field, psf)(images)[0, 0]
        assert (out[22:27, 4:9] - psf[2, 0]).abs().max() < EXACT[torch.float64]
        assert float(out.sum()) == pytest.approx(float(psf[2].sum()))


@pytest.mark.parametrize("kind", [*KINDS, lambda field, psf: LowRankBlur(field, psf, rank=3)])
@pytest.mark.parametrize("field", FIELDS[:3])
def test_adjoint(kind: Callable[[FieldGrid, torch.Tensor], Blur], field: FieldGrid) -> None:
    blur = kind(field, rand(field.count, 2, 9, 9, seed=1))
    x, y = rand(3, 2, 17, 22, seed=2) - 0.5, rand(3, 2, 17, 22, seed=3) - 0.5
    scale = float(x.norm() * y.norm())
    assert float((blur(x) * y).sum() - (x * blur.adjoint(y)).sum()) / scale == pytest.approx(0, abs=ADJOINT)
    x.requires_grad_()
    (by_autograd,) = torch.autograd.grad((blur(x) * y).sum(), x)
    assert (by_autograd - blur.adjoint(y)).abs().max() < ADJOINT


@pytest.mark.parametrize("kind", KINDS)
def test_gradcheck_of_image_and_psf(kind: Callable[[FieldGrid, torch.Tensor], Blur]) -> None:
    field = FieldGrid.even(5, 6, 2, 2)
    images, psf = rand(1, 1, 5, 6).requires_grad_(), rand(4, 1, 3, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda images, psf: kind(field, psf)(images), (images, psf))


def test_gradient_of_a_truncated_stack_is_that_of_the_best_approximation() -> None:
    field, images = FieldGrid.even(5, 6, 2, 3), rand(1, 1, 5, 6)
    psf = torch.einsum("fr,rk->fk", rand(6, 2, seed=1), rand(2, 9, seed=2)).reshape(6, 1, 3, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda psf: LowRankBlur(field, psf, rank=2)(images), (psf,))


def smooth_stack(field: FieldGrid, side: int) -> torch.Tensor:
    """Gaussian spots that widen and turn with the field, float64 of shape (F, 1, K, K)."""
    x, y = (p[:, None, None] for p in field.positions_m(2 / field.width))
    k = torch.arange(side, dtype=torch.float64) - side // 2
    along, across = x * k + y * k[:, None], x * k[:, None] - y * k
    wide = 1.5 + 0.5 * (x * x + y * y)
    spot = torch.exp(-(k * k + k[:, None] ** 2) / (2 * wide**2) - along**2 / 9 - across**2 / 60)
    return (spot / 20).unsqueeze(1)


def test_low_rank_keeps_its_tolerance_and_reports_it() -> None:
    field = FieldGrid.even(64, 64, 5, 5)
    psf, images = smooth_stack(field, 15), rand(1, 1, 64, 64)
    truth = direct(field, psf, images)
    blur = LowRankBlur(field, psf)
    assert blur.rank < 12
    assert float((blur(images) - truth).norm() / truth.norm()) < LOW_RANK
    assert blur.error <= 5e-4
    for rank in (2, 5):
        few = LowRankBlur(field, psf, rank=rank)
        wrong = float((few(images) - truth).norm() / truth.norm())
        assert few.rank == rank
        assert 0.3 < wrong / few.error < 1.2
    assert LowRankBlur(field, psf, tolerance=0.05).rank < blur.rank


def test_cubic_interpolation_is_a_spline_through_the_field_points() -> None:
    field = FieldGrid.even(41, 31, 5, 4, "cubic")
    rows = np.linspace(0, 40, 5)
    value = torch.from_numpy(np.add.outer(np.sin(rows / 20), np.zeros(4)).ravel())
    spline = CubicSpline(rows, np.sin(rows / 20))(np.arange(41))
    assert np.abs(field.maps(value).numpy() - spline[:, None]).max() < EXACT[torch.float64]
    assert (field.row_weights.sum(dim=1) - 1).abs().max() < EXACT[torch.float64]
    linear = FieldGrid.even(41, 31, 5, 4).maps(value).numpy()[:, 0]
    assert np.abs(spline - np.sin(np.arange(41) / 20)).max() < np.abs(linear - np.sin(np.arange(41) / 20)).max() / 4


def test_windows_are_a_partition_of_unity_and_positions_fit() -> None:
    for field in FIELDS:
        for weights in (field.row_weights, field.column_weights):
            assert (weights.sum(dim=1) - 1).abs().max() < EXACT[torch.float64]
            assert float(weights.min()) >= 0
    x, y = FieldGrid.even(11, 21, 2, 3).positions_m(2e-6)
    assert x.tolist() == pytest.approx([-20e-6, 0, 20e-6] * 2)
    assert y.tolist() == pytest.approx([-10e-6] * 3 + [10e-6] * 3)
    assert FieldGrid.even(11, 21, 1, 1).rows_px == (5.0,)


def test_refusals() -> None:
    field = FieldGrid.even(8, 9, 2, 2)
    psf = rand(4, 3, 5, 5)
    with pytest.raises(OpticsError, match="height=0 must be at least 1 pixel"):
        FieldGrid(0, 9, (1.0,), (1.0,))
    with pytest.raises(OpticsError, match=r"columns_px=\(3.0, 2.0\) must be .* sort columns_px"):
        FieldGrid(8, 9, (1.0,), (3.0, 2.0))
    with pytest.raises(OpticsError, match="interpolation='nearest' must be"):
        FieldGrid(8, 9, (1.0,), (2.0,), "nearest")  # type: ignore[arg-type]
    with pytest.raises(OpticsError, match="rows=0 and columns=2 must be at least 1"):
        FieldGrid.even(8, 9, 0, 2)
    with pytest.raises(OpticsError, match=r"psf has shape \(4, 3, 4, 4\); .* odd K"):
        PatchBlur(field, rand(4, 3, 4, 4))
    with pytest.raises(OpticsError, match="psf holds 3 field points, but field has 2 rows x 2 columns = 4"):
        LowRankBlur(field, psf[:3])
    with pytest.raises(OpticsError, match="psf has values that are not finite"):
        LowRankBlur(field, psf * float("nan"))
    with pytest.raises(OpticsError, match="interpolation='cubic' has windows as large as the frame"):
        PatchBlur(FieldGrid.even(8, 9, 2, 2, "cubic"), psf)
    with pytest.raises(OpticsError, match="rank=5 must lie from 1 to 4"):
        LowRankBlur(field, psf, rank=5)
    with pytest.raises(OpticsError, match="tolerance=0 must be above 0"):
        LowRankBlur(field, psf, tolerance=0)
    for blur in (PatchBlur(field, psf), LowRankBlur(field, psf)):
        for call in (blur, blur.adjoint):
            with pytest.raises(OpticsError, match=r"images has shape \(1, 3, 8, 8\); \(N, 3, 8, 9\) is needed"):
                call(rand(1, 3, 8, 8))
