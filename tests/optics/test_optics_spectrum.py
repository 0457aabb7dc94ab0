"""Channels from wavelengths: closed forms and conservation of light."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from optics import OpticsError, PupilGrid, PupilToPsf, ThinLens
from optics.imaging import polychromatic_psf, spectral_response, spectral_weights
from tests.optics.raw_pupil import Given

EXACT = {torch.float64: 1e-14, torch.float32: 1e-6}
WAVES = tuple(np.linspace(400e-9, 700e-9, 31))
UNEVEN = (400e-9, 410e-9, 450e-9, 600e-9)


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_response_integrates_straight_lines_exactly_on_uneven_wavelengths() -> None:
    line = torch.tensor([2e9 * w + 3 for w in UNEVEN], dtype=torch.float64)
    response = spectral_response(UNEVEN, line, torch.ones(1, 4, dtype=torch.float64))
    integral = 1e9 * (UNEVEN[-1] ** 2 - UNEVEN[0] ** 2) + 3 * (UNEVEN[-1] - UNEVEN[0])
    assert float(response.sum()) == pytest.approx(integral, rel=1e-12)


def test_response_is_the_product_of_its_factors() -> None:
    light, filters, efficiency = rand(31), rand(3, 31, seed=1), rand(31, seed=2)
    response = spectral_response(WAVES, light, filters, efficiency)
    # Inside an even grid every wavelength has the same width, 10 nm; the ends have half of it.
    for c, w in ((0, 4), (2, 20)):
        assert float(response[c, w]) == pytest.approx(float(light[w] * filters[c, w] * efficiency[w]) * 10e-9)
    assert float(response[1, 0]) == pytest.approx(float(light[0] * filters[1, 0] * efficiency[0]) * 5e-9)


def test_weights_add_up_to_one_and_keep_the_proportions_of_the_response() -> None:
    factors = (rand(31), rand(3, 31, seed=1), rand(31, seed=2))
    weights, response = spectral_weights(WAVES, *factors), spectral_response(WAVES, *factors)
    assert (weights.sum(dim=1) - 1).abs().max() < EXACT[torch.float64]
    assert (weights[:, 5] / weights[:, 6] - response[:, 5] / response[:, 6]).abs().max() < 1e-12
    assert spectral_weights((500e-9,), torch.ones(1), torch.tensor([[0.3], [2.0]])).tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize("dtype", EXACT)
def test_light_of_a_channel_is_the_weighted_light_of_the_wavelengths(dtype: torch.dtype) -> None:
    psf, weights = rand(2, 31, 9, 9).to(dtype) / 81, spectral_weights(WAVES, rand(31), rand(3, 31, seed=1))
    out = polychromatic_psf(psf, weights)
    assert out.shape == (2, 3, 9, 9)
    assert out.dtype == dtype
    by_hand = sum(weights[1, w] * psf[1, w].double() for w in range(31))
    assert (out[1, 1] - by_hand).abs().max() < EXACT[dtype]
    light = torch.einsum("cl,bl->bc", weights, psf.double().sum(dim=(-2, -1)))
    assert (out.sum(dim=(-2, -1)) - light).abs().max() < EXACT[dtype]


def test_broadband_light_washes_out_the_airy_rings() -> None:
    grid, lens = PupilGrid(0.5e-3, 64), ThinLens(4e-3, 1.0)
    to_psf = PupilToPsf(grid, lens, WAVES, 1e-6, 61, dtype=torch.float64)
    psf = to_psf(Given(to_psf.grid, torch.zeros(64, 64, dtype=torch.float64), torch.zeros(31)))
    white = polychromatic_psf(psf, spectral_weights(WAVES, torch.ones(31), torch.ones(1, 31, dtype=torch.float64)))[0]

    def first_dark_ring(one: torch.Tensor) -> float:
        row = one[30, 31:] / one[30, 30]
        return float(row[:11].min())

    assert first_dark_ring(white) > 3 * first_dark_ring(psf[15])
    assert float(white.sum()) < 1


def test_gradcheck() -> None:
    psf, filters, light = rand(4, 3, 3), rand(2, 4, seed=1), rand(4, seed=2)
    for tensor in (psf, filters, light):
        tensor.requires_grad_()

    def call(psf: torch.Tensor, filters: torch.Tensor, light: torch.Tensor) -> torch.Tensor:
        return polychromatic_psf(psf, spectral_weights(UNEVEN, light, filters))

    assert torch.autograd.gradcheck(call, (psf, filters, light))


def test_refusals() -> None:
    one = torch.ones(2, 4)
    with pytest.raises(OpticsError, match="must be positive and ascend; sort wavelengths_m"):
        spectral_response((500e-9, 400e-9), torch.ones(2), torch.ones(1, 2))
    with pytest.raises(OpticsError, match=r"must be positive and ascend"):
        spectral_response((), torch.ones(0), torch.ones(1, 0))
    with pytest.raises(OpticsError, match=r"filters has shape \(2, 4\); \(C, 2\) is needed"):
        spectral_response((4e-7, 5e-7), torch.ones(2), one)
    with pytest.raises(OpticsError, match=r"illuminant has shape \(3,\); \(4,\) is needed"):
        spectral_response(UNEVEN, torch.ones(3), one)
    with pytest.raises(OpticsError, match="efficiency has values that are negative or not finite"):
        spectral_response(UNEVEN, torch.ones(4), one, torch.tensor([1.0, float("nan"), 1, 1]))
    with pytest.raises(OpticsError, match=r"channels \[1\] see no light; change filters"):
        spectral_weights(UNEVEN, torch.ones(4), torch.stack([torch.ones(4), torch.zeros(4)]))
    with pytest.raises(OpticsError, match=r"weights of shape \(2, 4\) does not fit psf of shape \(3, 5, 5\)"):
        polychromatic_psf(torch.ones(3, 5, 5), one)
    with pytest.raises(OpticsError, match="weights has values that are negative"):
        polychromatic_psf(torch.ones(4, 5, 5), -one)
