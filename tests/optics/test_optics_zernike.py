"""Zernike polynomials against Noll's table, exact rational arithmetic and exact quadrature."""

from __future__ import annotations

from fractions import Fraction
from math import cos, factorial, pi, sin, sqrt

import numpy as np
import pytest
import torch

from optics import OpticsError, PointPsf, PupilGrid, ThinLens, ZernikeMask
from optics.elements import ZernikeBasis, nm_to_noll, noll_to_nm, zernike_basis, zernike_values

FLOAT64, FLOAT32 = 1e-10, 1e-6
GRADIENT_FLOAT32 = 2e-6

# Noll 1976, table I, continued to j = 36: (n, m), m > 0 cosine, m < 0 sine.
NOLL = [
    (0, 0), (1, 1), (1, -1), (2, 0), (2, -2), (2, 2), (3, -1), (3, 1), (3, -3), (3, 3), (4, 0), (4, 2), (4, -2),
    (4, 4), (4, -4), (5, 1), (5, -1), (5, 3), (5, -3), (5, 5), (5, -5), (6, 0), (6, -2), (6, 2), (6, -4), (6, 4),
    (6, -6), (6, 6), (7, -1), (7, 1), (7, -3), (7, 3), (7, -5), (7, 5), (7, -7), (7, 7),
]  # fmt: skip


def exact_value(j: int, rho: Fraction, theta: float) -> float:
    """Noll's definition with the factorial sum in exact fractions."""
    n, signed = noll_to_nm(j)
    m = abs(signed)
    radial = sum(
        Fraction((-1) ** s * factorial(n - s), factorial(s))
        / (factorial((n + m) // 2 - s) * factorial((n - m) // 2 - s))
        * rho ** (n - 2 * s)
        for s in range((n - m) // 2 + 1)
    )
    if m == 0:
        return sqrt(n + 1) * float(radial)
    return sqrt(2 * (n + 1)) * float(radial) * (cos(m * theta) if signed > 0 else sin(m * theta))


def test_noll_table() -> None:
    assert [noll_to_nm(j) for j in range(1, 37)] == NOLL


def test_noll_index_round_trips() -> None:
    assert [nm_to_noll(*noll_to_nm(j)) for j in range(1, 1001)] == list(range(1, 1001))


def test_indices_that_do_not_exist_are_refused() -> None:
    with pytest.raises(OpticsError, match="Noll index j=0 does not exist"):
        noll_to_nm(0)
    with pytest.raises(OpticsError, match="no Zernike polynomial has n=3, m=2"):
        nm_to_noll(3, 2)
    with pytest.raises(OpticsError, match=r"rho spans 1.5 to 1.5"):
        zernike_values(3, torch.tensor([1.5]), torch.tensor([0.0]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_thousand_terms_match_exact_arithmetic(dtype: torch.dtype) -> None:
    radii = [Fraction(0), Fraction(3, 10), Fraction(3, 5), Fraction(9, 10), Fraction(99, 100), Fraction(1)]
    rho = torch.tensor([float(r) for r in radii], dtype=torch.float64)
    values = zernike_values(1000, rho, torch.full_like(rho, 0.7), dtype).double()
    for j in [*range(1, 351), *range(351, 1001, 7), 1000]:
        truth = torch.tensor([exact_value(j, r, 0.7) for r in radii], dtype=torch.float64)
        # Values reach 9.5; float32 can only hold them to 6e-8 of that.
        tolerance = FLOAT64 if dtype == torch.float64 else FLOAT32
        assert (values[j - 1] - truth).abs().max() < tolerance, j


@pytest.mark.parametrize("n_terms", [350, 1000])
def test_orthonormal_by_exact_quadrature(n_terms: int) -> None:
    nodes, weights = np.polynomial.legendre.leggauss(48)  # in rho^2: exact to degree 95
    count = 96
    rho = torch.tensor(np.sqrt((nodes + 1) / 2)).repeat_interleave(count)
    theta = (torch.arange(count, dtype=torch.float64) * (2 * pi / count)).repeat(48)
    weight = torch.tensor(weights / 2).repeat_interleave(count) / count
    values = zernike_values(n_terms, rho, theta)
    gram = (values * weight) @ values.T
    assert (gram - torch.eye(n_terms, dtype=torch.float64)).abs().max() < FLOAT64


def test_basis_on_the_grid_agrees_with_the_polynomials() -> None:
    grid = PupilGrid(0.5e-3, 64)
    basis = zernike_basis(350, grid, torch.float64)
    inside = grid.radius <= 1
    direct = zernike_values(350, grid.radius[inside], grid.angle[inside])
    assert (basis[:, inside] - direct).abs().max() < FLOAT64
    assert basis[:, grid.amplitude == 0].abs().max() == 0
    assert (zernike_basis(350, grid) - basis).abs().max() < FLOAT32


def test_orientation_of_tilt_terms() -> None:
    grid = PupilGrid(2.0, 64)
    basis = zernike_basis(3, grid, torch.float64)
    inside = grid.radius <= 1
    assert (basis[1] - 2 * grid.x_m)[inside].abs().max() < FLOAT64
    assert (basis[2] - 2 * grid.y_m)[inside].abs().max() < FLOAT64


def test_coefficients_are_rms_heights() -> None:
    grid = PupilGrid(0.5e-3, 256)
    mask = ZernikeMask(grid, 11, torch.tensor([0.0] * 3 + [3e-7] + [0.0] * 6 + [4e-7]), dtype=torch.float64)
    height, weight = mask.height_m(), grid.amplitude / grid.amplitude.sum()
    assert float((weight * height.square()).sum().sqrt()) == pytest.approx(5e-7, rel=1e-3)


def direct_basis(n_terms: int, grid: PupilGrid) -> torch.Tensor:
    """Every cell on its own, without symmetry; float64."""
    return zernike_values(n_terms, grid.radius.clamp(max=1), grid.angle) * (grid.amplitude > 0)


@pytest.mark.parametrize(("samples", "n_terms"), [(8, 1), (9, 2), (9, 3), (16, 7), (33, 45), (64, 350), (65, 351)])
def test_one_octant_gives_the_whole_square(samples: int, n_terms: int) -> None:
    # 2 and 7 cut a pair of cosine and sine in two.
    grid = PupilGrid(0.5e-3, samples)
    direct = direct_basis(n_terms, grid)
    assert (zernike_basis(n_terms, grid, torch.float64) - direct).abs().max() < FLOAT64
    weights = torch.randn(3, 2, n_terms, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights.requires_grad_()
    planes = ZernikeBasis(n_terms, grid, torch.float64)(weights)
    assert planes.shape == (3, 2, samples, samples)
    assert (planes - torch.einsum("abj,jyx->abyx", weights, direct)).abs().max() < FLOAT64
    # The gradient is the adjoint: every cell counts once.
    cotangent = torch.randn(planes.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (gradient,) = torch.autograd.grad(planes, weights, cotangent)
    assert (gradient - torch.einsum("abyx,jyx->abj", cotangent, direct)).abs().max() < FLOAT64


@pytest.mark.parametrize("n_terms", [350, 1000])
def test_float32_terms_on_the_grid(n_terms: int) -> None:
    grid = PupilGrid(0.5e-3, 48)
    direct = direct_basis(n_terms, grid)
    assert (zernike_basis(n_terms, grid) - direct).abs().max() < FLOAT32
    single = ZernikeBasis(n_terms, grid)(torch.eye(n_terms))
    assert (single - direct).abs().max() < FLOAT32


@pytest.mark.parametrize("n_terms", [350, 1000])
def test_float32_gradient_of_many_terms_through_the_psf(n_terms: int) -> None:
    grid, waves = PupilGrid(0.5e-3, 128), (620e-9, 540e-9, 460e-9)
    start = 2e-8 * torch.randn(n_terms, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    aim = torch.rand(3, 63, 63, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    results = []
    for dtype in (torch.float32, torch.float64):
        mask = ZernikeMask(grid, n_terms, torch.nn.Parameter(start.to(dtype)), dtype=dtype)
        psf = PointPsf(grid, ThinLens(4e-3, 1.0), waves, 1.5e-6, 63, dtype=dtype)
        (psf(mask) * aim).sum().backward()
        assert mask.coefficients_m.grad is not None
        results.append(mask.coefficients_m.grad.double())
    assert (results[0] - results[1]).norm() < GRADIENT_FLOAT32 * results[1].norm()


def test_masks_share_one_basis_of_a_tenth_of_the_square() -> None:
    grid = PupilGrid(0.5e-3, 256)
    first, second = ZernikeMask(grid, 60), ZernikeMask(PupilGrid(2e-3, 256), 60)
    assert first.basis.octant.data_ptr() == second.basis.octant.data_ptr()
    assert first.basis.octant.numel() < 0.11 * 60 * 256**2
    assert list(first.state_dict()) == ["coefficients_m"]


def test_sums_of_the_wrong_number_of_terms_are_refused() -> None:
    grid = PupilGrid(0.5e-3, 16)
    with pytest.raises(OpticsError, match=r"coefficients has shape \(2, 5\); its last dimension must be the 6 terms"):
        ZernikeBasis(6, grid)(torch.zeros(2, 5))
    with pytest.raises(OpticsError, match="n_terms=0 must be at least 1"):
        ZernikeBasis(0, grid)
    with pytest.raises(OpticsError, match="n_terms=-1 must be at least 1"):
        zernike_basis(-1, grid)
