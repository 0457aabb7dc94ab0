"""Export and import: every format keeps the PSF, says what it is, and is whole or absent."""

from __future__ import annotations

import errno
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from optics import FUSED_SILICA, PMMA, DiffractiveMask, FreeformMask, OpticsError, PupilGrid, ThinLens, random_mask
from optics.fabrication import (
    Gds,
    Png,
    ProcessLimits,
    Relief,
    ReliefFormat,
    Stl,
    Tiff,
    Zygo,
    export_relief,
    import_relief,
    round_trip,
)

WAVES = (620e-9, 540e-9, 460e-9)
LENS = ThinLens(4e-3, 1.0)
GRID = PupilGrid(0.5e-3, 128)
STEP = 2e-6 / 7
NO_LIMITS = ProcessLimits()
# The promise; what the formats reach is stated per row.
PROMISE = 1e-3


def smooth(dtype: torch.dtype = torch.float64) -> Relief:
    mask = random_mask(GRID, 16, 2e-6, torch.Generator().manual_seed(0), dtype=dtype)
    return Relief.from_mask(mask, WAVES)


def stepped(levels: int = 8, dtype: torch.dtype = torch.float64) -> Relief:
    relief = smooth(dtype)
    height = (relief.height_m / 2e-6 * (levels - 1)).round() * STEP
    return replace(relief, height_m=height, levels=levels, step_m=STEP)


# Format, relief, largest PSF change, largest height error in metres.
ROUND_TRIPS = [
    (Tiff(), smooth(), 0.0, 0.0),
    (Tiff(), smooth(torch.float32), 0.0, 0.0),
    (Tiff(integer=True), smooth(), 1e-5, 2e-6 / 131070),
    (Png(), smooth(), 1e-5, 2e-6 / 131070),
    (Png(), stepped(), 1e-12, 1e-20),
    (Zygo(), smooth(), 1e-6, 2.5e-12),
    (Zygo(), stepped(), 1e-5, 2.5e-12),
    (Stl(), smooth(), 1e-6, 1e-12),
    (Stl(), stepped(), 1e-6, 1e-12),
    (Gds(), stepped(), 1e-12, 1e-20),
    (Gds(layers="binary"), stepped(16), 1e-12, 1e-20),
    (Gds(dbu_m=5e-9), stepped(5), 1e-12, 1e-20),
    (Gds(), stepped(8, torch.float32), 1e-5, 3e-13),
]


@pytest.mark.parametrize(("kind", "relief", "psf", "height"), ROUND_TRIPS)
def test_a_file_keeps_the_psf(kind: ReliefFormat, relief: Relief, psf: float, height: float) -> None:
    trip = round_trip(relief, kind, LENS, 15e-6, 31, object_distance_m=0.7)
    assert psf < PROMISE
    assert trip.peak_change <= psf
    assert trip.total_change <= 2 * psf
    assert trip.height_error_m <= height
    back = trip.relief
    assert back.pitch_m == pytest.approx(relief.pitch_m, rel=1e-7)
    assert (back.material, back.wavelengths_m) == (relief.material, relief.wavelengths_m)
    assert (back.levels, back.step_m) == (relief.levels, relief.step_m)
    if relief.levels is not None:
        inside = GRID.amplitude > 0
        assert torch.equal(back.codes()[inside], relief.codes()[inside])


def test_round_trip_notices_a_changed_relief() -> None:
    # A format that loses the sign of x must fail the promise, or the figure proves nothing.
    class Mirrored(Tiff):
        def write(self, relief: Relief, path: Path) -> None:
            super().write(replace(relief, height_m=relief.height_m.flip(1)), path)

    trip = round_trip(smooth(), Mirrored(), LENS, 15e-6, 31)
    assert trip.peak_change > 10 * PROMISE
    assert trip.total_change > 10 * PROMISE


def test_round_trip_figures_by_hand() -> None:
    class Lower(Tiff):
        def write(self, relief: Relief, path: Path) -> None:
            super().write(replace(relief, height_m=relief.height_m * 0.99), path)

    relief = smooth()
    trip = round_trip(relief, Lower(), LENS, 15e-6, 31)
    assert trip.height_error_m == pytest.approx(0.01 * float(relief.height_m[GRID.amplitude > 0].max()), rel=1e-12)


@pytest.mark.parametrize("kind", [Tiff(), Tiff(integer=True), Png(), Zygo(), Stl(), Gds()])
def test_existing_files_and_failures_leave_no_trace(tmp_path: Path, kind: ReliefFormat) -> None:
    path = tmp_path / f"mask{kind.suffix}"
    export_relief(stepped(), path, kind, NO_LIMITS)
    before = path.read_bytes()
    with pytest.raises(OpticsError, match="exists and is not replaced"):
        export_relief(stepped(4), path, kind, NO_LIMITS)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    with pytest.raises(OpticsError, match="no such folder"):
        export_relief(stepped(), tmp_path / "no" / path.name, kind, NO_LIMITS)
    with pytest.raises(OpticsError, match=f"must end in '{kind.suffix}'"):
        export_relief(stepped(), tmp_path / "mask.xyz", kind, NO_LIMITS)


def test_a_writer_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    class Broken(Tiff):
        def write(self, relief: Relief, path: Path) -> None:
            path.write_bytes(b"half")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        export_relief(smooth(), tmp_path / "mask.tif", Broken(), NO_LIMITS)
    assert not list(tmp_path.iterdir())


def test_a_failing_disk_is_told_in_one_sentence(tmp_path: Path) -> None:
    class Full(Tiff):
        def write(self, relief: Relief, path: Path) -> None:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with pytest.raises(OpticsError, match=r"mask\.tif' cannot be written \(No space left on device\); choose another"):
        export_relief(smooth(), tmp_path / "mask.tif", Full(), NO_LIMITS)
    assert not list(tmp_path.iterdir())


def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "mask.tif"

    class Slow(Tiff):
        def write(self, relief: Relief, path_: Path) -> None:
            super().write(relief, path_)
            path.write_bytes(b"theirs")

    with pytest.raises(OpticsError, match="exists and is not replaced"):
        export_relief(smooth(), path, Slow(), NO_LIMITS)
    assert path.read_bytes() == b"theirs"


def test_broken_limits_write_no_file(tmp_path: Path) -> None:
    with pytest.raises(OpticsError, match=r"height_range_m=\(0, 1e-06\) against"):
        export_relief(smooth(), tmp_path / "mask.tif", Tiff(), ProcessLimits(height_range_m=(0, 1e-6)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".tif", ".png", ".dat", ".stl", ".gds"])
def test_foreign_and_missing_files_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mask{suffix}"
    with pytest.raises(OpticsError, match="there is no such file"):
        import_relief(path)
    path.write_bytes(b"\x01\x02" * 2000)
    with pytest.raises(OpticsError, match="mask"):
        import_relief(path)
    with pytest.raises(OpticsError, match=r"no known suffix; use one of \.dat, \.gds, \.png, \.stl, \.tif"):
        import_relief(tmp_path / "mask.xyz")


@pytest.mark.parametrize("kind", [Zygo(), Stl()])
def test_truncated_files_are_refused(tmp_path: Path, kind: ReliefFormat) -> None:
    path = tmp_path / f"mask{kind.suffix}"
    kind.write(smooth(), path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(OpticsError, match=r"cut short|bytes, not those"):
        import_relief(path)


@pytest.mark.parametrize(("kind", "package"), [(Tiff(), "tifffile"), (Gds(), "gdstk"), (Png(), "PIL.Image")])
def test_a_missing_package_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: ReliefFormat, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(OpticsError, match=rf"{package}; run pip install 'optishield\[fabrication\]'"):
        kind.write(stepped(), tmp_path / f"mask{kind.suffix}")


def test_turned_or_foreign_metadata_are_refused() -> None:
    relief = smooth()
    words = json.loads(json.dumps(relief.metadata()))
    assert Relief.from_metadata(relief.height_m, words).wavelengths_m == WAVES
    with pytest.raises(OpticsError, match="turn the map"):
        Relief.from_metadata(relief.height_m, words | {"axes": "[x, y]"})
    with pytest.raises(OpticsError, match="no metadata of kind"):
        Relief.from_metadata(relief.height_m, {})
    words.pop("pitch_m")
    with pytest.raises(OpticsError, match="lack or garble 'pitch_m'"):
        Relief.from_metadata(relief.height_m, words)


@pytest.mark.parametrize(
    "text", ["", "optishield|1", "optishield|620 nm|PMMA|x", "optishield|a nm|PMMA", "else|620 nm|PMMA"]
)
def test_foreign_headers_are_refused(text: str) -> None:
    with pytest.raises(OpticsError, match="was not written by export_relief"):
        Relief.from_brief(torch.zeros(8, 8), 1e-6, text)


def test_a_header_that_does_not_fit_is_refused() -> None:
    many = replace(smooth(), wavelengths_m=tuple((400 + 10 * k) * 1e-9 for k in range(30)))
    with pytest.raises(OpticsError, match=r"characters and the header holds 82; name fewer"):
        many.brief(82)


FLAT = torch.zeros(8, 8)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((torch.zeros(8, 9), 1e-6, PMMA, WAVES), r"height_m has shape \(8, 9\)"),
        ((torch.zeros(8, 8, dtype=torch.float16), 1e-6, PMMA, WAVES), r"height_m is torch.float16"),
        ((torch.full((8, 8), float("nan")), 1e-6, PMMA, WAVES), "64 values that are not finite"),
        ((FLAT, -1e-6, PMMA, WAVES), "pitch_m=-1e-06 must be a positive"),
        ((FLAT, 1e-6, PMMA, ()), r"wavelengths_m=\(\) must be"),
        ((FLAT, 1e-6, replace(FUSED_SILICA, name="PMMA"), WAVES), "pass a named material"),
        ((FLAT, 1e-6, replace(PMMA, name="jelly"), WAVES), "no material is called 'jelly'"),
        ((FLAT, 1e-6, PMMA, WAVES, 4), "levels=4 and step_m=None belong together"),
        ((FLAT, 1e-6, PMMA, WAVES, 1, 1e-7), "levels=1 with step_m=1e-07 is no staircase"),
        ((FLAT + 4e-7, 1e-6, PMMA, WAVES, 4, 1e-7), "levels=4 needs whole numbers from 0 to 3"),
        ((FLAT + 1.5e-7, 1e-6, PMMA, WAVES, 4, 1e-7), "misses its level by up to 0.5 steps"),
    ],
)
def test_bad_reliefs_are_refused(arguments: tuple[Any, ...], match: str) -> None:
    with pytest.raises(OpticsError, match=match):
        Relief(*arguments)


def test_relief_of_a_mask_carries_no_gradient() -> None:
    relief = Relief.from_mask(FreeformMask(GRID, 8, 2e-6), WAVES)
    assert not relief.height_m.requires_grad
    assert (relief.grid, relief.material) == (GRID, FUSED_SILICA)
    with pytest.raises(OpticsError, match="the relief is continuous"):
        relief.codes()


@pytest.mark.parametrize(("quantisation", "dtype"), [("straight-through", torch.float64), ("gumbel", torch.float32)])
def test_relief_of_a_diffractive_mask_is_what_is_made(quantisation: str, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(5)
    mask = DiffractiveMask(
        GRID,
        8,
        design_wavelength_m=540e-9,
        feature_samples=4,
        quantisation=quantisation,  # type: ignore[arg-type]
        generator=generator,
        start=torch.randn(32, 32, generator=generator),
        dtype=dtype,
    )
    relief = Relief.from_mask(mask, WAVES)
    assert (relief.levels, relief.step_m) == (8, mask.step_m)
    assert torch.equal(relief.codes()[::4, ::4], mask.level_map())
    assert torch.equal(relief.height_m, mask.eval().height_m())
    trip = round_trip(relief, Gds(layers="binary"), LENS, 15e-6, 31)
    assert trip.peak_change <= 1e-5
