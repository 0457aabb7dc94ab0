"""Pictures by what they hold: data, units, bars and curves, not pixels."""

from __future__ import annotations

import subprocess
import sys
from math import log10, sqrt
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from optics import OpticsError, PupilGrid, PupilToPsf, ThinLens
from optics.elements import zernike_basis
from optics.imaging.mtf import ideal_mtf, psf_mtf
from optics.pictures import (
    mask_figure,
    mtf_figure,
    psf_figure,
    quantity,
    save_figure,
    through_focus_figure,
    wavefront_figure,
)
from tests.optics.raw_pupil import Given

GRID = PupilGrid(0.5e-3, 64)
LENS = ThinLens(4e-3, 1.0)
METRES = {"nm": 1e-9, "µm": 1e-6, "mm": 1e-3, "m": 1.0, "km": 1e3}
EXACT = 1e-12


def bar(axes: Axes) -> tuple[float, str]:
    """Length of the scale bar in data units, and its text."""
    (patch,) = [p for p in axes.patches if p.get_gid() == "scale-bar"]
    (text,) = [t for t in axes.texts if t.get_gid() == "scale-text"]
    assert isinstance(patch, Rectangle)
    return patch.get_width(), text.get_text()


def colour_label(figure: Figure) -> str:
    return figure.axes[-1].get_ylabel()


def test_mask_shows_the_heights_in_their_place() -> None:
    height = torch.zeros(64, 64, dtype=torch.float64)
    height[20, 40] = 2e-6
    figure = mask_figure(height, GRID)
    axes = figure.axes[0]
    image = axes.images[0]
    shown = image.get_array()
    assert isinstance(shown, np.ma.MaskedArray)
    assert np.array_equal(shown.mask, GRID.amplitude.numpy() == 0)
    assert shown[20, 40] == pytest.approx(2.0)
    assert colour_label(figure) == "height (µm)"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x (µm)", "y (µm)")
    assert image.get_extent() == pytest.approx([-250, 250, 250, -250])
    # y grows downwards: the first row has the smaller y and is drawn above.
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    assert image.origin == "upper"


@pytest.mark.parametrize(
    ("diameter_m", "label", "length", "text"),
    [
        (0.5e-3, "µm", 100, "100 µm"),
        (40e-6, "µm", 10, "10 µm"),
        (25e-3, "mm", 5, "5 mm"),
        (1e-3, "mm", 0.2, "200 µm"),
        (0.9e-6, "nm", 200, "200 nm"),
    ],
)
def test_scale_bar_is_as_long_as_it_says(diameter_m: float, label: str, length: float, text: str) -> None:
    axes = mask_figure(torch.ones(64, 64) * 1e-7, PupilGrid(diameter_m, 64)).axes[0]
    width, words = bar(axes)
    assert width == pytest.approx(length)
    assert words == text
    assert axes.get_xlabel() == f"x ({label})"
    value, unit = words.split()
    assert float(value) * METRES[unit] == pytest.approx(width * METRES[label], rel=EXACT)
    low, high = axes.get_xlim()
    assert width <= (high - low) / 3 + EXACT
    (patch,) = axes.patches
    assert isinstance(patch, Rectangle)
    assert low < patch.get_x() < patch.get_x() + width < high


def test_wavefront_is_symmetric_and_states_its_rms() -> None:
    path = 50e-9 * zernike_basis(4, GRID, torch.float64)[3] + 1e-6
    figure = wavefront_figure(path, GRID)
    low, high = figure.axes[0].images[0].get_clim()
    assert low == pytest.approx(-high)
    assert high == pytest.approx(1 + 0.05 * sqrt(3), rel=1e-3)
    assert colour_label(figure) == "path error (µm)"
    assert figure.axes[0].get_title() == "RMS 50 nm"


def test_psf_is_the_logarithm() -> None:
    psf = PupilToPsf(GRID, LENS, [540e-9], 2e-6, 63, dtype=torch.float64)(Given(GRID, torch.zeros(64, 64), [1.0]))[0]
    psf[3, 5] = 0
    figure = psf_figure(psf, 2e-6, decades=6)
    axes = figure.axes[0]
    image, top = axes.images[0], log10(float(psf.max()))
    truth = np.log10(psf.numpy(), where=psf.numpy() > 0, out=np.full((63, 63), top - 6))
    assert np.abs(image.get_array() - truth).max() < EXACT
    assert image.get_clim() == pytest.approx((top - 6, top))
    assert axes.get_title() == "PSF, 6 decades"
    assert colour_label(figure) == "log10 of the share of light per cell"
    # The middle of cell K // 2 is the axis.
    left, right, lower, upper = image.get_extent()
    assert (left, right, lower, upper) == pytest.approx((-63, 63, 63, -63))
    length, text = bar(axes)
    assert length == pytest.approx(20)
    assert text == "20 µm"


def test_mtf_shows_both_axes_and_the_limit() -> None:
    basis = zernike_basis(6, GRID, torch.float64)
    psf = PupilToPsf(GRID, LENS, [540e-9], 2e-6, 127, dtype=torch.float64)(
        Given(GRID, 100e-9 * (basis[5] + basis[3]), [1.0])
    )[0]
    number = LENS.f_number(GRID.diameter_m)
    axes = mtf_figure(psf, 2e-6, 540e-9, number).axes[0]
    curves = psf_mtf(psf, 2e-6)
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines) == ["along x", "along y", "diffraction limit"]
    assert np.allclose(lines["along x"].get_ydata(), curves.x)
    assert np.allclose(lines["along y"].get_ydata(), curves.y)
    assert not np.allclose(curves.x, curves.y, atol=0.05)
    limit = lines["diffraction limit"]
    assert np.allclose(np.asarray(limit.get_xdata()) * 1e3, curves.frequency_per_m)
    assert np.allclose(limit.get_ydata(), ideal_mtf(curves.frequency_per_m, 540e-9, number))
    assert axes.get_xlabel() == "spatial frequency on the sensor (cycles/mm)"
    assert axes.get_xlim()[1] == pytest.approx(1.05e-3 / (540e-9 * number))


def test_through_focus_has_one_scale() -> None:
    distances = torch.tensor([0.2, 1.0])
    psf = PupilToPsf(GRID, LENS, [540e-9], 2e-6, 31)(Given(GRID, torch.zeros(64, 64), [1.0]), distances)[:, 0]
    figure = through_focus_figure(psf, distances.tolist(), 2e-6)
    first, second = figure.axes[:2]
    assert [first.get_title(), second.get_title()] == ["200 mm", "1 m"]
    assert first.images[0].get_clim() == second.images[0].get_clim()
    assert second.images[0].get_clim()[1] == pytest.approx(log10(float(psf.max())))
    for axes, plane in zip((first, second), psf.double(), strict=True):
        lit = plane.numpy() > 0
        assert np.abs(np.asarray(axes.images[0].get_array())[lit] - np.log10(plane.numpy()[lit])).max() < EXACT
    assert colour_label(figure) == "log10 of the share of light per cell"


@pytest.mark.parametrize(
    ("length_m", "text"),
    [
        (5e-5, "50 µm"),
        (1e-3, "1 mm"),
        (999e-9, "999 nm"),
        (0.25, "250 mm"),
        (1e4, "10 km"),
        (2e-12, "2 pm"),
        (0.0, "0 m"),
    ],
)
def test_quantities_have_a_fitting_prefix(length_m: float, text: str) -> None:
    assert quantity(length_m) == text


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_files(tmp_path: Path, suffix: str, start: bytes) -> None:
    save_figure(psf_figure(torch.rand(9, 9, generator=torch.Generator().manual_seed(0)), 1e-6), tmp_path / f"a{suffix}")
    assert (tmp_path / f"a{suffix}").read_bytes().startswith(start)


def test_no_global_state() -> None:
    # A fresh process: matplotlib is loaded by the first picture only, and its window manager never.
    program = (
        "import sys, torch, optics.pictures as p\n"
        "assert 'matplotlib' not in sys.modules\n"
        "p.psf_figure(torch.ones(9, 9), 1e-6)\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


LIT = torch.ones(9, 9)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: mask_figure(LIT, GRID), r"height_m has shape \(9, 9\); this pupil needs \(64, 64\)"),
        (lambda: mask_figure(torch.ones(2, 64, 64), GRID), r"height_m has shape \(2, 64, 64\); pass one square map"),
        (lambda: wavefront_figure(torch.full((64, 64), float("nan")), GRID), "path_m holds values that are not finite"),
        (lambda: psf_figure(LIT, -1.0), "pitch_m=-1.0 must be"),
        (lambda: psf_figure(0 * LIT, 1e-6), "holds no light"),
        (lambda: psf_figure(LIT, 1e-6, decades=0), "decades=0 must be positive"),
        (lambda: through_focus_figure(LIT, [1.0], 1e-6), r"psfs has shape \(9, 9\) for 1 distances_m"),
        (lambda: through_focus_figure(LIT.expand(2, 9, 9), [1.0], 1e-6), "for 1 distances_m"),
        (lambda: save_figure(psf_figure(LIT, 1e-6), "picture.bmp"), r"must end in \.png, \.svg or \.pdf"),
    ],
)
def test_bad_input(call: object, match: str) -> None:
    with pytest.raises(OpticsError, match=match):
        call()  # type: ignore[operator]


def test_a_figure_that_cannot_be_drawn_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mask.png"
    path.write_bytes(b"old")

    def half(self: Figure, target: Path, **_: object) -> None:
        target.write_bytes(b"half")
        raise RuntimeError("no room")

    monkeypatch.setattr(Figure, "savefig", half)
    with pytest.raises(RuntimeError, match="no room"):
        save_figure(mask_figure(torch.zeros(64, 64), GRID), path)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["mask.png"]
