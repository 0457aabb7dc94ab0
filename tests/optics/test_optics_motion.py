"""Motion during exposure: closed forms for energy, centroid and transfer."""

from __future__ import annotations

from math import pi, sin, tan

import numpy as np
import pytest
import torch
from scipy.special import j0

from optics import OpticsError, convolve
from optics.imaging import expose, motion_psf, straight_path, vibration_path

EXACT = {torch.float64: 1e-12, torch.float32: 1e-6}


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def transfer(kernel: torch.Tensor, frequency: float) -> complex:
    """Fourier transform in x at ``frequency`` cycles per pixel."""
    x = np.arange(kernel.shape[-1]) - kernel.shape[-1] // 2
    return complex((kernel.sum(dim=0).numpy() * np.exp(-2j * pi * frequency * x)).sum())


@pytest.mark.parametrize("length", [2.0, 6.0])
@pytest.mark.parametrize("frequency", [0.03, 0.11, 0.4])
def test_transfer_of_even_motion(length: float, frequency: float) -> None:
    kernel = motion_psf(*straight_path(length), samples=11)
    # A path between centres of cells is the trapezoid rule, whose transform is sin(pi L f) / (L tan(pi f)).
    exact = sin(pi * length * frequency) / (length * tan(pi * frequency))
    assert transfer(kernel, frequency) == pytest.approx(exact, abs=EXACT[torch.float64])
    # That is sinc(L f) times sinc^2(f) with its aliases; both are close to 1 at low frequencies.
    if frequency < 0.05:
        assert transfer(kernel, frequency) == pytest.approx(
            np.sinc(length * frequency) * np.sinc(frequency) ** 2, abs=1e-2
        )


def test_a_path_on_fine_cells_has_the_transfer_sinc() -> None:
    kernel = motion_psf(*straight_path(6.3 * 16), samples=121)
    for frequency in (0.05, 0.1, 0.2):  # cycles per pixel of 16 cells
        assert transfer(kernel, frequency / 16) == pytest.approx(np.sinc(6.3 * frequency), abs=1e-3)


@pytest.mark.parametrize("frequency", [0.004, 0.01, 0.02])
def test_transfer_of_a_vibration_is_a_bessel_function(frequency: float) -> None:
    kernel = motion_psf(*vibration_path(30.0, 3.0, phase_rad=0.7, points=1201), samples=65)
    assert transfer(kernel, frequency) == pytest.approx(j0(2 * pi * 30 * frequency), abs=2e-3)


@pytest.mark.parametrize("seed", range(4))
def test_random_paths_keep_light_and_centroid_and_equal_a_fine_sum(seed: int) -> None:
    path, dwell = 6 * rand(2, 7, seed=seed) - 3, rand(6, seed=seed + 10)
    kernel = motion_psf(path[0], path[1], 9, dwell=dwell)
    assert float(kernel.sum()) == pytest.approx(1, rel=EXACT[torch.float64])
    assert float(kernel.min()) >= 0
    axis = torch.arange(9, dtype=torch.float64) - 4
    share = dwell / dwell.sum()
    mean = ((path[:, 1:] + path[:, :-1]) / 2 * share).sum(dim=1)
    assert float((kernel.sum(dim=0) * axis).sum()) == pytest.approx(float(mean[0]))
    assert float((kernel.sum(dim=1) * axis).sum()) == pytest.approx(float(mean[1]))
    # Midpoints of 20 000 steps of each piece, each a unit square over the four cells it overlaps.
    brute = np.zeros((9, 9))
    t = (np.arange(20_000) + 0.5) / 20_000
    for k in range(6):
        x, y = (np.interp(t, [0, 1], path[axis_, k : k + 2].numpy()) for axis_ in (0, 1))
        tent_x, tent_y = (np.maximum(0, 1 - np.abs(p[:, None] - axis.numpy())) for p in (x, y))
        brute += float(share[k]) * tent_y.T @ tent_x / 20_000
    assert np.abs(kernel.numpy() - brute).max() < 1e-8


def test_orientation_and_still_paths() -> None:
    kernel = motion_psf(torch.tensor([1.0, 1.0]), torch.tensor([-2.0, -2.0]), 5)
    assert float(kernel[0, 3]) == 1
    kernel = motion_psf(torch.tensor([0.25, 0.25]), torch.tensor([0.0, 0.0]), 5)
    assert kernel[2].tolist() == pytest.approx([0, 0, 0.75, 0.25, 0])
    x, y = straight_path(4.0, pi / 2)
    assert motion_psf(x, y, 5)[:, 2].tolist() == pytest.approx([0.125, 0.25, 0.25, 0.25, 0.125])
    assert motion_psf(torch.zeros(3), torch.zeros(3), 1).tolist() == [[1.0]]


def test_moving_a_picture_by_whole_pixels_is_the_mean_of_its_places() -> None:
    image = torch.zeros(1, 1, 9, 9, dtype=torch.float64)
    image[0, 0, 4, 4] = 1
    kernel = motion_psf(torch.tensor([0.0, 2.0]), torch.tensor([0.0, 0.0]), 5).double()
    assert convolve(image, kernel[None])[0, 0, 4].tolist() == pytest.approx(
        [0, 0, 0, 0, 0.25, 0.5, 0.25, 0, 0], abs=1e-12
    )


def test_batch_float32_and_gradient() -> None:
    path = 4 * rand(2, 3, 5) - 2
    kernels = motion_psf(path[0], path[1], 7)
    assert kernels.shape == (3, 7, 7)
    for b in range(3):
        assert (kernels[b] - motion_psf(path[0, b], path[1, b], 7)).abs().max() < EXACT[torch.float64]
    single = motion_psf(path[0].float(), path[1].float(), 7)
    assert single.dtype == torch.float32
    assert (single - kernels).abs().max() < EXACT[torch.float32]
    x, y, dwell = path[0, 0].requires_grad_(), path[1, 0].requires_grad_(), rand(4, seed=3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y, dwell: motion_psf(x, y, 7, dwell=dwell), (x, y, dwell))


def test_vibration_path() -> None:
    x, y = vibration_path(2.0, 1.0, phase_rad=pi / 2, angle_rad=pi / 2, points=17)
    assert y.tolist() == pytest.approx([2 * np.cos(2 * pi * k / 16) for k in range(17)], abs=1e-12)
    assert x.abs().max() < 1e-12


def test_global_shutter_is_the_mean_of_the_frames_by_their_time() -> None:
    frames = rand(4, 2, 3, 5, 6)
    out = expose(frames, frame_s=1e-3, exposure_s=2.5e-3)
    assert (out - (frames[0] + frames[1] + 0.5 * frames[2]) / 2.5).abs().max() < EXACT[torch.float64]


@pytest.mark.parametrize("upwards", [False, True])
def test_rolling_shutter_leans_a_moving_edge(upwards: bool) -> None:
    # A bright line that moves one column a frame; each row starts one frame later and lasts one frame.
    frames = torch.zeros(8, 1, 1, 8, 8, dtype=torch.float64)
    for t in range(8):
        frames[t, ..., t] = 1
    out = expose(frames, 1e-3, 1e-3, -1e-3 if upwards else 1e-3)[0, 0]
    line = torch.eye(8, dtype=torch.float64)
    assert (out - (line.flip(0) if upwards else line)).abs().max() < 1e-9
    half = expose(frames, 1e-3, 1e-3, 0.5e-3)[0, 0]
    assert half[3].tolist() == pytest.approx([0, 0.5, 0.5, 0, 0, 0, 0, 0])
    assert (half.sum(dim=1) - 1).abs().max() < 1e-9


def test_gradcheck_of_exposure() -> None:
    frames = rand(3, 1, 1, 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda frames: expose(frames, 1.0, 1.4, 0.7), (frames,))


def test_refusals() -> None:
    two = torch.zeros(2)
    with pytest.raises(OpticsError, match=r"length_px=inf and angle_rad=0\.0 must be finite"):
        straight_path(float("inf"))
    with pytest.raises(OpticsError, match="cycles=nan must be finite"):
        vibration_path(1.0, float("nan"))
    with pytest.raises(OpticsError, match="points=17 is too few for 2 periods; use at least 33"):
        vibration_path(1.0, 2.0, points=17)
    with pytest.raises(OpticsError, match=r"x_px and y_px have the shapes \(2,\) and \(3,\)"):
        motion_psf(two, torch.zeros(3), 5)
    with pytest.raises(OpticsError, match="samples=4 must be odd"):
        motion_psf(two, two, 4)
    with pytest.raises(OpticsError, match=r"the path reaches 2\.5 px from the origin, beyond the window of samples=5"):
        motion_psf(two + 2.5, two, 5)
    with pytest.raises(OpticsError, match=r"dwell has shape \(2,\); \(1,\) is needed"):
        motion_psf(two, two, 5, dwell=torch.ones(2))
    with pytest.raises(OpticsError, match="dwell must hold times that are not negative, finite, and not all zero"):
        motion_psf(two, two, 5, dwell=torch.zeros(1))
    frames = torch.zeros(2, 1, 1, 3, 3)
    with pytest.raises(OpticsError, match=r"frames has shape \(1, 1, 3, 3\); \(T, N, C, H, W\) is needed"):
        expose(frames[0], 1.0, 1.0)
    with pytest.raises(OpticsError, match="exposure_s=0 must be a positive time"):
        expose(frames, 1.0, 0)
    with pytest.raises(OpticsError, match="line_s=nan must be a finite time"):
        expose(frames, 1.0, 1.0, float("nan"))
    with pytest.raises(OpticsError, match=r"3 rows end 3 s after the start, but 2 frames of frame_s=1 last 2 s"):
        expose(frames, 1.0, 1.0, 1.0)
