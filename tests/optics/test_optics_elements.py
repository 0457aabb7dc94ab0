"""Elements in the pupil: stacks, amplitude codes and wavefronts, alone and through the PSF."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from optics import (
    FUSED_SILICA,
    ElementStack,
    FlatMask,
    OpticsError,
    PointPsf,
    PupilElement,
    PupilGrid,
    PupilToPsf,
    ThinLens,
    ZernikeMask,
)
from optics.elements import FixedCode, MeasuredWavefront, TrainedCode, ZernikeWavefront, mura, mura_decoder
from optics.elements.zernike_index import ZernikeOrder
from tests.optics.raw_pupil import Given

GRID, LENS, WAVES = PupilGrid(0.5e-3, 64), ThinLens(4e-3, 1.0), (620e-9, 540e-9, 460e-9)
F64 = torch.float64
TOLERANCE = {torch.float64: 1e-14, torch.float32: 1e-6}


def bump(j: int, size: float) -> ZernikeMask:
    coefficients = torch.zeros(15, dtype=F64)
    coefficients[j - 1] = size
    return ZernikeMask(GRID, 15, coefficients, dtype=F64)


def test_stack_adds_paths_and_multiplies_factors() -> None:
    mask, lens_error = bump(5, 2e-7), ZernikeWavefront(GRID, torch.tensor([0.0, 0.0, 0.0, 1e-7]), dtype=F64)
    half = FixedCode(GRID, torch.full((2, 2), 0.5), dtype=F64)
    columns = FixedCode(GRID, torch.tensor([[1.0, 0.25], [1.0, 0.25]]), dtype=F64)
    stack = ElementStack(mask, lens_error, half, columns)
    path, differences = stack.path_m(WAVES), FUSED_SILICA.index(620e-9) - 1.00027671
    expected = mask.height_m() * differences + lens_error.path_m(WAVES)[0]
    assert (path[0] - expected).abs().max() < 1e-13
    assert path.shape == (3, 64, 64)
    factor = stack.transmission()
    assert factor is not None
    assert float(factor[5, 10]) == 0.5
    assert float(factor[5, 50]) == 0.125
    assert ElementStack(mask, lens_error).transmission() is None


def test_stack_of_a_mask_gives_the_psf_of_the_mask() -> None:
    mask, to_psf = bump(8, 3e-7), PupilToPsf(GRID, LENS, WAVES, 3e-6, 31, dtype=F64)
    direct = to_psf(mask, 0.7)
    stack = ElementStack(mask, FixedCode(GRID, torch.full((4, 4), 0.5), dtype=F64))
    through = to_psf(stack, 0.7)
    assert (through - direct / 4).abs().max() < TOLERANCE[F64] * 10
    assert float(direct.max()) > 1e-3


def test_parameters_of_all_parts_train_through_the_stack() -> None:
    mask = ZernikeMask(GRID, 6)
    code = TrainedCode(GRID, 8, generator=torch.Generator().manual_seed(1))
    lens_error = ZernikeWavefront(GRID, nn.Parameter(torch.full((6,), 3e-8)))
    stack, to_psf = ElementStack(mask, lens_error, code), PupilToPsf(GRID, LENS, WAVES, 3e-6, 31)
    assert len(list(stack.parameters())) == 3
    psf = to_psf(stack)
    psf[0, 10, 12].backward()
    for parameter in stack.parameters():
        assert parameter.grad is not None
        assert bool(torch.isfinite(parameter.grad).all())
        assert float(parameter.grad.abs().max()) > 0


def test_half_an_aperture_has_a_quarter_of_the_peak_and_codes_are_not_mirrored() -> None:
    to_psf, zeros = PointPsf(GRID, LENS, [540e-9], 1e-6, 3, dtype=F64), torch.zeros(64, 64, dtype=F64)
    left = FixedCode(GRID, torch.tensor([[1.0, 0.0], [1.0, 0.0]]), dtype=F64).transmission()
    full = to_psf(Given(to_psf.grid, zeros, [0.0]))[0, 1, 1]
    half = to_psf(Given(GRID, zeros, [0.0], transmission=left))[0, 1, 1]
    assert float(half / full) == pytest.approx(0.25, rel=1e-12)
    corner = torch.zeros(4, 4)
    corner[0, 1] = 1.0
    factor = FixedCode(GRID, corner).transmission()
    assert factor.nonzero().amin(0).tolist() == [0, 16]
    assert factor.nonzero().amax(0).tolist() == [15, 31]


@pytest.mark.parametrize("size", [3, 5, 7, 11, 13, 17, 101])
def test_mura_correlates_to_an_exact_delta(size: int) -> None:
    code, decoder = mura(size), mura_decoder(size)
    correlation = torch.fft.ifft2(torch.fft.fft2(code).conj() * torch.fft.fft2(decoder)).real
    expected = torch.zeros(size, size, dtype=F64)
    expected[0, 0] = (size**2 - 1) / 2
    assert torch.equal(correlation.round(), expected)
    assert (correlation - expected).abs().max() < 1e-9
    assert float(code.sum()) == (size**2 - 1) / 2


def test_mura_of_five_by_hand() -> None:
    # Squares modulo 5 are 1 and 4.
    assert mura(5).int().tolist() == [
        [0, 0, 0, 0, 0],
        [1, 1, 0, 0, 1],
        [1, 0, 1, 1, 0],
        [1, 0, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]


@pytest.mark.parametrize("binary", [False, True])
def test_trained_code(binary: bool) -> None:
    controls = nn.Parameter(torch.linspace(-2, 2, 64, dtype=F64).reshape(8, 8))
    code = TrainedCode(GRID, 8, binary=binary, start=controls, dtype=F64)
    grey = torch.sigmoid(controls.detach())
    expected = (grey > 0.5).double() if binary else grey
    assert torch.equal(code.transmission()[3::8, 5::8].detach(), expected)
    code.transmission().sum().backward()
    assert controls.grad is not None
    assert torch.allclose(controls.grad, 64 * grey * (1 - grey), rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_zernike_wavefront_in_every_order_is_the_written_out_polynomial(dtype: torch.dtype) -> None:
    r, t = GRID.radius, GRID.angle
    inside = r <= 1
    spherical = 3e-7 * (6 * r**4 - 6 * r**2 + 1)
    coma = 2e-7 * (3 * r**3 - 2 * r) * torch.sin(t)
    fringe = torch.zeros(9, dtype=dtype)
    fringe[[7, 8]] = torch.tensor([2e-7, 3e-7], dtype=dtype)
    osa = torch.zeros(13, dtype=dtype)
    osa[[7, 12]] = torch.tensor([2e-7 / 8**0.5, 3e-7 / 5**0.5], dtype=dtype)
    noll = torch.zeros(11, dtype=dtype)
    noll[[6, 10]] = osa[[7, 12]]
    given: list[tuple[torch.Tensor, ZernikeOrder]] = [(fringe, "fringe"), (osa, "osa"), (noll, "noll")]
    for coefficients, order in given:
        path = ZernikeWavefront(GRID, coefficients, order, dtype=dtype).path_m(WAVES)
        assert (path[1].double() - spherical - coma)[inside].abs().max() < TOLERANCE[dtype] * 1e-6
        assert path.dtype == dtype


def test_tilt_moves_the_spot_towards_the_thicker_side() -> None:
    # Z2 of a waves RMS shifts the spot by 4 a L N along +x.
    wave, n_number = 540e-9, LENS.f_number(GRID.diameter_m)
    pitch = wave * n_number / 8
    to_psf, zeros = PointPsf(GRID, LENS, [wave], pitch, 33, dtype=F64), torch.zeros(64, 64, dtype=F64)
    tilt = ZernikeWavefront(GRID, torch.tensor([0.0, 0.25 * wave, 0.0], dtype=F64), dtype=F64)
    spot = to_psf(Given(to_psf.grid, zeros, [0.0], wavefront_m=tilt.path_m([wave])))[0]
    assert divmod(int(spot.argmax()), 33) == (16, 24)
    # The basis holds the rim's value in cells of the grey edge, so the peak falls short by a few parts in 1e4.
    assert float(spot.max() / to_psf(Given(to_psf.grid, zeros, [0.0]))[0, 16, 16]) == pytest.approx(1.0, abs=1e-3)


def test_coefficients_to_path_is_linear_with_its_adjoint() -> None:
    generator = torch.Generator().manual_seed(8)
    x = torch.randn(20, dtype=F64, generator=generator, requires_grad=True)
    y = torch.randn(1, 64, 64, dtype=F64, generator=generator)
    element = ZernikeWavefront(GRID, torch.zeros(20, dtype=F64), "osa", dtype=F64)
    path = torch.func.functional_call(element, {"coefficients_m": x}, ([540e-9],))
    (adjoint,) = torch.autograd.grad((path * y).sum(), x)
    assert float(x.detach() @ adjoint) == pytest.approx(float((path * y).sum().detach()), rel=1e-10)
    single = ZernikeWavefront(GRID, x.detach() * 2, "osa", dtype=F64).path_m([540e-9])
    assert (single - 2 * path.detach()).abs().max() < 1e-12


def test_wavefronts_per_wavelength_are_picked_by_wavelength() -> None:
    maps = torch.stack([torch.full((64, 64), k * 1e-7) for k in range(3)])
    measured = MeasuredWavefront(GRID, maps, WAVES)
    picked = measured.path_m([460e-9, 620e-9])
    assert torch.allclose(picked[:, 0, 0], torch.tensor([2e-7, 0.0]))
    zernike = ZernikeWavefront(GRID, torch.eye(3)[:, :2] * 1e-7, wavelengths_m=WAVES)
    assert torch.allclose(zernike.path_m([620e-9])[0, 30, 30], torch.tensor(1e-7))
    with pytest.raises(OpticsError, match="wavefront is not known at 5e-07 m but at"):
        measured.path_m([500e-9])
    with pytest.raises(OpticsError, match="names 2 wavelengths but the wavefront has 3 rows"):
        MeasuredWavefront(GRID, maps, WAVES[:2])
    with pytest.raises(OpticsError, match="names 3 wavelengths but the wavefront has no axis for them"):
        MeasuredWavefront(GRID, maps[0], WAVES)


def test_measured_wavefront_is_resampled_and_one_trained_stays_itself() -> None:
    axis = torch.linspace(-0.3e-3, 0.3e-3, 61, dtype=F64)
    plane = (2e-4 * axis[None, :] - 5e-4 * axis[:, None]).contiguous()
    path = MeasuredWavefront(GRID, plane, pitch_m=1e-5, dtype=F64).path_m([540e-9])[0]
    assert (path - (2e-4 * GRID.x_m - 5e-4 * GRID.y_m)).abs().max() < 1e-18
    given = nn.Parameter(torch.zeros(64, 64))
    assert [p is given for p in MeasuredWavefront(GRID, given).parameters()] == [True]


def test_elements_follow_dtype() -> None:
    for dtype in (torch.float32, torch.float64):
        stack = ElementStack(ZernikeMask(GRID, 4, dtype=dtype), FixedCode(GRID, torch.ones(2, 2), dtype=dtype))
        factor = stack.transmission()
        assert factor is not None
        assert stack.path_m(WAVES).dtype == factor.dtype == dtype


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(OpticsError, match=r"ElementStack\(\) has no elements"):
        ElementStack()
    with pytest.raises(OpticsError, match=r"element 1 lies on PupilGrid.*use one grid"):
        ElementStack(FlatMask(GRID), FlatMask(PupilGrid(0.5e-3, 32)))
    with pytest.raises(OpticsError, match=r"element 1 has dtype torch.float64 but element 0 torch.float32"):
        ElementStack(FlatMask(GRID), FlatMask(GRID, dtype=F64))
    with pytest.raises(OpticsError, match=r"dtype=torch\.float16 is not supported"):
        PupilElement(GRID, torch.float16)
    with pytest.raises(OpticsError, match=r"wavelengths_m=\(540.0, -1.0\) must be"):
        FixedCode(GRID, torch.ones(1, 1)).path_m([540, -1])
    with pytest.raises(OpticsError, match=r"cells has shape \(2, 3\)"):
        FixedCode(GRID, torch.ones(2, 3))
    with pytest.raises(OpticsError, match="cells=5 does not divide the 64 samples"):
        FixedCode(GRID, torch.ones(5, 5))
    with pytest.raises(OpticsError, match=r"cells spans 0 to 1\.5; amplitude factors lie in 0 to 1"):
        FixedCode(GRID, torch.tensor([[0.0, 1.5], [1.0, 1.0]]))
    with pytest.raises(OpticsError, match="cells has 1 of 4 values that are NaN or infinite"):
        FixedCode(GRID, torch.tensor([[0.0, torch.nan], [1.0, 1.0]]))
    corner = torch.zeros(16, 16)
    corner[0, 0] = 1.0  # open, but outside the circle
    with pytest.raises(OpticsError, match="the code blocks the whole aperture"):
        FixedCode(GRID, corner)
    with pytest.raises(OpticsError, match="the code blocks the whole aperture"):
        TrainedCode(GRID, 4, binary=True, start=torch.full((4, 4), -1.0)).transmission()
    with pytest.raises(OpticsError, match="pass generator or start"):
        TrainedCode(GRID, 4)
    with pytest.raises(OpticsError, match="size=9 is not an odd prime"):
        mura(9)
    with pytest.raises(OpticsError, match=r"coefficients_m has shape \(\)"):
        ZernikeWavefront(GRID, torch.tensor(0.0))
    with pytest.raises(OpticsError, match="coefficients_m has 1 of 2 values that are NaN"):
        ZernikeWavefront(GRID, torch.tensor([0.0, torch.inf]))
    with pytest.raises(OpticsError, match=r"opd_m has shape \(4,\)"):
        MeasuredWavefront(GRID, torch.zeros(4))
