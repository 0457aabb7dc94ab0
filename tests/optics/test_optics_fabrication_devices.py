"""SLM patterns, mirror commands and Zernike coefficients: hand-worked files and refusals."""

from __future__ import annotations

import json
from math import pi, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from optics import OpticsError, PupilGrid, PupilToPsf, ThinLens, random_mask
from optics.elements import SpatialLightModulator, linear_phase_table
from optics.fabrication import (
    MirrorCommands,
    SlmPattern,
    ZernikeCoefficients,
    export_mirror,
    export_slm,
    export_zernike,
    import_mirror,
    import_slm,
    import_zernike,
)
from tests.optics.raw_pupil import Given

EXACT = 1e-14
WAVE = 633e-9
GRID = PupilGrid(0.5e-3, 128)
LINEAR = linear_phase_table(8)
ZERO = torch.zeros(2, 2, dtype=torch.int64)


def modulator(bits: int) -> SpatialLightModulator:
    """A panel of 64 pixels with a curved table over 1.3 turns, as measured ones are, that shows a mask."""
    table = 2 * pi * (0.05 + 1.3 * torch.linspace(0, 1, 2**bits, dtype=torch.float64) ** 1.7)
    slm = SpatialLightModulator(GRID, 2 * GRID.pitch_m, table, WAVE, dtype=torch.float64)
    mask = random_mask(GRID, 16, 2e-6, torch.Generator().manual_seed(0), dtype=torch.float64)
    phase = mask.height_m() * mask.index_differences([WAVE]) * (2 * pi / WAVE)
    slm.drive.data = slm.drive_for(phase[::2, ::2])
    return slm


@pytest.mark.parametrize(("bits", "mode"), [(8, np.uint8), (10, np.uint16)])
def test_slm_file(tmp_path: Path, bits: int, mode: type) -> None:
    slm = modulator(bits)
    pattern = SlmPattern.from_modulator(slm)
    path = tmp_path / "pattern.png"
    export_slm(pattern, path)
    with Image.open(path) as picture:
        stored, text = np.array(picture), json.loads(picture.info["optishield"])
        assert picture.info["dpi"] == pytest.approx((25.4e-3 / (2 * GRID.pitch_m),) * 2, rel=1e-4)
    assert stored.dtype == mode
    assert np.array_equal(stored, slm.drive.detach().round().numpy())
    assert len(np.unique(stored)) > 100
    assert (text["bits"], text["pitch_m"], text["wavelength_m"]) == (bits, 2 * GRID.pitch_m, WAVE)
    # The steepest step of the curved table is the last one; half of it is what rounding may cost.
    last = 1 - (1 - 1 / (2**bits - 1)) ** 1.7
    assert text["error_rad"] == pytest.approx(1.3 * pi * last, rel=1e-9)
    back = import_slm(path)
    assert torch.equal(back.codes, pattern.codes)
    assert torch.equal(back.table_rad, slm.table)
    assert torch.equal(back.phase_rad(), slm.phase_rad())
    assert (back.pitch_m, back.wavelength_m, back.bits) == (2 * GRID.pitch_m, WAVE, bits)
    with pytest.raises(OpticsError, match="exists and is not replaced"):
        export_slm(pattern, path)


def test_slm_file_keeps_the_psf(tmp_path: Path) -> None:
    slm = modulator(8)
    export_slm(SlmPattern.from_modulator(slm), tmp_path / "pattern.png")
    back = import_slm(tmp_path / "pattern.png")
    again = SpatialLightModulator(
        GRID, back.pitch_m, back.table_rad, back.wavelength_m, drive=back.codes.double(), dtype=torch.float64
    )
    to_psf = PupilToPsf(GRID, ThinLens(4e-3, 1.0), [WAVE], 15e-6, 31, dtype=torch.float64)
    before, after = (to_psf(Given(to_psf.grid, element.path_m([WAVE])[0], [1.0]), 0.7) for element in (slm, again))
    assert (after - before).abs().max() <= 1e-12 * before.max()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((ZERO, LINEAR[:200], 8e-6, 633e-9), r"table_rad has shape \(200,\)"),
        ((ZERO, LINEAR * float("nan"), 8e-6, 633e-9), "table_rad holds values that are not finite"),
        ((ZERO + 256, LINEAR, 8e-6, 633e-9), "values 0 to 255"),
        ((ZERO, LINEAR, 0.0, 633e-9), r"pitch_m=0.0 must be"),
        ((ZERO, LINEAR, 8e-6, -1.0), r"wavelength_m=-1.0 must be"),
    ],
)
def test_bad_patterns_are_refused(arguments: tuple[Any, ...], match: str) -> None:
    with pytest.raises(OpticsError, match=match):
        SlmPattern(*arguments)


def test_foreign_patterns_are_refused(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "grey.png")
    with pytest.raises(OpticsError, match="carries no description in JSON"):
        import_slm(tmp_path / "grey.png")
    with pytest.raises(OpticsError, match=r"must end in '\.png'"):
        export_slm(SlmPattern(ZERO, LINEAR, 8e-6, 633e-9), tmp_path / "pattern.bmp")


COMMANDS = torch.tensor([1e-7, -2.5e-7, 1 / 3 * 1e-6], dtype=torch.float64)
PLACES = torch.tensor([[-1e-3, 0.0], [0.0, 2e-3], [1e-3, 0.0]], dtype=torch.float64)


def test_mirror_file(tmp_path: Path) -> None:
    path = tmp_path / "mirror.csv"
    export_mirror(MirrorCommands(COMMANDS, PLACES), path, 1e-6)
    lines = path.read_text().splitlines()
    assert json.loads(lines[0][2:])["unit"] == "m"
    assert lines[1] == "actuator,x_m,y_m,command_m"
    assert [float(v) for v in lines[3].split(",")] == [1, 0.0, 2e-3, -2.5e-7]
    back = import_mirror(path)
    assert torch.equal(back.commands_m, COMMANDS)
    assert torch.equal(back.places_m, PLACES)


def test_mirror_refusals(tmp_path: Path) -> None:
    path = tmp_path / "mirror.csv"
    with pytest.raises(OpticsError, match=r"actuators \[1, 2\] reach 3.33333e-07 m but max_command_m=2e-07"):
        export_mirror(MirrorCommands(COMMANDS, PLACES), path, 2e-7)
    assert not path.exists()
    with pytest.raises(OpticsError, match=r"commands_m has shape \(3,\) and places_m \(2, 2\)"):
        MirrorCommands(COMMANDS, PLACES[:2])
    with pytest.raises(OpticsError, match="not finite"):
        MirrorCommands(COMMANDS / 0, PLACES)
    with pytest.raises(OpticsError, match="cannot be read"):
        import_mirror(path)
    path.write_text("one line\n")
    with pytest.raises(OpticsError, match="holds 1 lines"):
        import_mirror(path)
    path.write_bytes(b"\xff\xfe\n\n")
    with pytest.raises(OpticsError, match="no text file"):
        import_mirror(path)
    export_mirror(MirrorCommands(COMMANDS, PLACES), tmp_path / "good.csv", 1e-6)
    good = (tmp_path / "good.csv").read_text()
    path.write_text(good.replace("\n1,", "\n7,"))
    with pytest.raises(OpticsError, match="actuators in order"):
        import_mirror(path)
    path.write_text(good + "3,x,y,z\n")
    with pytest.raises(OpticsError, match="holds a line that is not actuator,x_m"):
        import_mirror(path)
    path.write_text(good.replace("mirror commands", "mirror demands"))
    with pytest.raises(OpticsError, match="is not of kind 'optishield mirror commands 1'"):
        import_mirror(path)


# Piston, tilts, defocus, astigmatism in Noll's order, RMS nanometres.
TERMS = ZernikeCoefficients(
    torch.tensor([0.0, 1e-9, 2e-9, 3e-9, 4e-9, 5e-9], dtype=torch.float64), 0.5e-3, "height", "PMMA", (550e-9, 633e-9)
)


def rows(path: Path) -> list[list[float]]:
    return [[float(v) for v in line.split(",")] for line in path.read_text().splitlines()[2:]]


def test_zernike_in_osa_order_by_hand(tmp_path: Path) -> None:
    # OSA: 0 piston, 1 = (1, -1), 2 = (1, 1), 3 = (2, -2), 4 = (2, 0), 5 = (2, 2); Noll 5 is the sine, 6 the cosine.
    export_zernike(TERMS, tmp_path / "terms.csv", order="osa")
    expected = [
        [0, 0, 0, 0.0],
        [1, 1, -1, 2e-9],
        [2, 1, 1, 1e-9],
        [3, 2, -2, 4e-9],
        [4, 2, 0, 3e-9],
        [5, 2, 2, 5e-9],
    ]
    assert rows(tmp_path / "terms.csv") == expected


def test_zernike_in_fringe_order_and_peak_norm_by_hand(tmp_path: Path) -> None:
    # Fringe: 1 piston, 2 = r cos, 3 = r sin, 4 = 2 r^2 - 1, 5 = r^2 cos 2t, 6 = r^2 sin 2t.
    export_zernike(TERMS, tmp_path / "terms.csv", order="fringe", norm="peak")
    values = {int(row[0]): row[3] for row in rows(tmp_path / "terms.csv")}
    by_hand = {1: 0, 2: 2 * 1e-9, 3: 2 * 2e-9, 4: sqrt(3) * 3e-9, 5: sqrt(6) * 5e-9, 6: sqrt(6) * 4e-9}
    assert values == pytest.approx(by_hand, rel=EXACT)


@pytest.mark.parametrize("name", ["terms.csv", "terms.json"])
@pytest.mark.parametrize("order", ["noll", "osa", "fringe"])
@pytest.mark.parametrize("norm", ["rms", "peak"])
def test_zernike_comes_back_from_any_order(tmp_path: Path, name: str, order: str, norm: str) -> None:
    values = torch.randn(45, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 1e-8
    export_zernike(ZernikeCoefficients(values, 1e-3, "path"), tmp_path / name, order, norm)  # type: ignore[arg-type]
    back = import_zernike(tmp_path / name)
    assert torch.allclose(back.coefficients_m, values, rtol=EXACT, atol=0)
    assert (back.diameter_m, back.quantity, back.material, back.wavelengths_m) == (1e-3, "path", None, None)


def test_zernike_header_says_what_it_is(tmp_path: Path) -> None:
    export_zernike(TERMS, tmp_path / "terms.json", order="fringe", norm="peak")
    text = json.loads((tmp_path / "terms.json").read_text())
    assert (text["order"], text["norm"], text["unit"], text["quantity"]) == ("fringe", "peak", "m", "height")
    assert (text["diameter_m"], text["material"]) == (0.5e-3, "PMMA")
    assert "m > 0 cosine" in text["axes"]
    back = import_zernike(tmp_path / "terms.json")
    assert (back.material, back.wavelengths_m) == ("PMMA", (550e-9, 633e-9))


def test_zernike_refusals(tmp_path: Path) -> None:
    export_zernike(TERMS, tmp_path / "terms.csv")
    with pytest.raises(OpticsError, match="exists and is not replaced"):
        export_zernike(TERMS, tmp_path / "terms.csv")
    good = (tmp_path / "terms.csv").read_text()
    bad = tmp_path / "bad.csv"
    for old, new, match in [
        ("\n4,2,0,", "\n4,2,2,", "noll index 4 is not n=2, m=2"),
        ("\n4,2,0,", "\n4,2,zero,", "lacks or garbles"),
        ('"norm": "rms"', '"norm": "big"', "norm='big' must be 'rms' or 'peak'"),
        ('"norm": "rms", ', "", "lacks or garbles 'norm'"),
        ("coefficients 1", "coefficients 9", "is not of kind"),
    ]:
        bad.write_text(good.replace(old, new))
        with pytest.raises(OpticsError, match=match):
            import_zernike(bad)
    with pytest.raises(OpticsError, match=r"must end in '\.csv'"):
        export_zernike(TERMS, tmp_path / "terms.txt")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((torch.zeros(2, 2), 1e-3), r"coefficients_m has shape \(2, 2\)"),
        ((torch.full((3,), float("nan")), 1e-3), "not finite"),
        ((torch.zeros(3), 0.0), r"diameter_m=0.0 must be"),
        ((torch.zeros(3), 1e-3, "mood"), "quantity='mood' must be 'height' or 'path'"),
    ],
)
def test_bad_coefficients_are_refused(arguments: tuple[Any, ...], match: str) -> None:
    with pytest.raises(OpticsError, match=match):
        ZernikeCoefficients(*arguments)
