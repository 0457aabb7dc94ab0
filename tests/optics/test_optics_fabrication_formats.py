"""What stands in the files, read without our own readers: bytes, tags, triangles and polygons."""

from __future__ import annotations

import json
import struct
from collections import Counter
from dataclasses import replace
from pathlib import Path

import gdstk
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from scipy.ndimage import label

from optics import FUSED_SILICA, OpticsError
from optics.fabrication import Gds, Png, Relief, Stl, Tiff, Zygo

PITCH = 2e-6
STEP = 0.25e-6


def corner_mark() -> Relief:
    """8 x 8 cells: one high cell near the top right, [1, 5]."""
    height = torch.zeros(8, 8, dtype=torch.float64)
    height[1, 5] = 3 * STEP
    height[4, 2] = STEP
    return Relief(height, PITCH, FUSED_SILICA, (550e-9,), 4, STEP)


def noise(samples: int = 24, levels: int = 4) -> Relief:
    codes = torch.randint(0, levels, (samples, samples), generator=torch.Generator().manual_seed(3))
    return Relief(codes.double() * STEP, PITCH, FUSED_SILICA, (550e-9,), levels, STEP)


def test_tiff_tags(tmp_path: Path) -> None:
    path = tmp_path / "mask.tif"
    Tiff().write(corner_mark(), path)
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        assert page.dtype == np.float64
        assert page.shape == (8, 8)
        assert page.asarray()[1, 5] == 3 * STEP
        top, bottom = page.tags["XResolution"].value
        assert top / bottom == pytest.approx(5000)  # cells of 2 um a centimetre
        assert page.tags["ResolutionUnit"].value == 3
        text = json.loads(page.description)
    assert text["height_unit"] == "m"
    assert text["pitch_m"] == PITCH
    assert text["axes"] == "[y, x], x right, y down, seen looking at the relief"
    assert (text["material"], text["wavelengths_m"]) == ("fused silica", [550e-9])


@pytest.mark.parametrize("kind", [Png(), Tiff(integer=True)])
def test_16_bit_codes_scale_and_error(tmp_path: Path, kind: Png | Tiff) -> None:
    height = torch.linspace(-1e-6, 2e-6, 64, dtype=torch.float64).reshape(8, 8)
    path = tmp_path / f"mask{kind.suffix}"
    kind.write(Relief(height, PITCH, FUSED_SILICA, (550e-9,)), path)
    if isinstance(kind, Png):
        with Image.open(path) as picture:
            codes, text = np.array(picture), json.loads(picture.info["optishield"])
            assert picture.info["dpi"] == pytest.approx((12700, 12700), rel=1e-4)
    else:
        with tifffile.TiffFile(path) as file:
            codes, text = file.pages.first.asarray(), json.loads(file.pages.first.description)
    assert codes.dtype == np.uint16
    assert (codes[0, 0], codes[7, 7]) == (0, 65535)
    error = np.abs(text["offset_m"] + text["scale_m"] * codes.astype(float) - height.numpy()).max()
    assert text["error_m"] == pytest.approx(error, rel=1e-9)
    assert 0 < error <= 3e-6 / 131070


def test_16_bit_files_of_steps_and_of_flat_reliefs_are_exact(tmp_path: Path) -> None:
    Png().write(corner_mark(), tmp_path / "steps.png")
    with Image.open(tmp_path / "steps.png") as picture:
        assert np.array(picture)[1, 5] == 3
    flat = Relief(torch.full((8, 8), 1e-6), PITCH, FUSED_SILICA, (550e-9,))
    Png().write(flat, tmp_path / "flat.png")
    assert torch.equal(Png.read(tmp_path / "flat.png").height_m, flat.height_m.double())


def test_colour_pictures_and_foreign_text_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "colour.png")
    with pytest.raises(OpticsError, match="colour picture; codes are grey"):
        Png.read(tmp_path / "colour.png")
    Image.new("L", (8, 8)).save(tmp_path / "grey.png")
    with pytest.raises(OpticsError, match="no metadata of kind"):
        Png.read(tmp_path / "grey.png")
    tifffile.imwrite(tmp_path / "words.tif", np.zeros((8, 8)), description="a mask", metadata=None)
    with pytest.raises(OpticsError, match="no description of a relief"):
        Tiff.read(tmp_path / "words.tif")


def test_zygo_bytes(tmp_path: Path) -> None:
    path = tmp_path / "mask.dat"
    Zygo().write(corner_mark(), path)
    data = path.read_bytes()
    assert data[:10] == bytes.fromhex("881b036f0001") + (834).to_bytes(4, "big")
    assert struct.unpack_from(">HHI", data, 68) == (8, 8, 256)
    assert data[80:162].rstrip(b"\0") == b"optishield|550 nm|fused silica|4 x 2.5e-07 m"
    scale, wavelength = struct.unpack_from(">ff", data, 164)
    obliquity, _, pitch = struct.unpack_from(">fff", data, 176)
    assert (scale, obliquity) == (1, 1)
    assert pitch == pytest.approx(PITCH, rel=1e-7)
    assert wavelength == pytest.approx(632.8e-9, rel=1e-7)
    assert struct.unpack_from(">H", data, 218) == (2,)
    assert struct.unpack_from(">HHH", data, 52) == (0, 0, 0)  # no intensity in front of the phase
    code = struct.unpack_from(">64i", data, 834)
    assert len(data) == 834 + 256
    assert code[1 * 8 + 5] * wavelength / 131072 == pytest.approx(3 * STEP, abs=2.5e-12)
    # The corner of the grid lies outside the circle.
    assert code[0] == 2147483640


def test_zygo_range(tmp_path: Path) -> None:
    tall = Relief(torch.full((8, 8), 0.02), PITCH, FUSED_SILICA, (550e-9,))
    with pytest.raises(OpticsError, match=r"height_m reaches 0.02 m on 8 cells"):
        Zygo().write(tall, tmp_path / "mask.dat")


def triangles(path: Path) -> tuple[np.ndarray, np.ndarray]:
    data = path.read_bytes()
    count = struct.unpack_from("<I", data, 80)[0]
    floats = np.stack([np.frombuffer(data, "<f4", 12, 84 + 50 * k) for k in range(count)]).astype(float)
    return floats[:, :3], floats[:, 3:].reshape(-1, 3, 3)


def test_stl_is_closed_and_turned_outwards(tmp_path: Path) -> None:
    Stl(base_m=10e-6).write(noise(8), tmp_path / "mask.stl")
    normals, corners = triangles(tmp_path / "mask.stl")
    edges = Counter((tuple(t[i]), tuple(t[(i + 1) % 3])) for t in corners.tolist() for i in range(3))
    assert set(edges.values()) == {1}
    assert all((b, a) in edges for a, b in edges)
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert np.abs(cross / np.linalg.norm(cross, axis=1, keepdims=True) - normals).max() < 1e-4
    # Divergence theorem; the top is split along one diagonal, so a quadrilateral holds the mean of its two triangles.
    volume = np.einsum("ni,ni->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
    axis = np.concatenate([[-8.0], np.arange(8) * 2 - 7, [8.0]])  # micrometres
    z = np.pad(noise(8).height_m.numpy() * 1e6, 1, mode="edge") + 10
    cells = (2 * z[:-1, :-1] + z[1:, :-1] + 2 * z[1:, 1:] + z[:-1, 1:]) / 6
    expected = (cells * np.diff(axis)[:, None] * np.diff(axis)).sum()
    assert volume * 1e9 == pytest.approx(expected, rel=1e-5)  # mm^3 in um^3


def test_stl_lies_as_seen(tmp_path: Path) -> None:
    Stl(base_m=10e-6).write(corner_mark(), tmp_path / "mask.stl")
    corners = triangles(tmp_path / "mask.stl")[1].reshape(-1, 3)
    x, y, z = corners[corners[:, 2].argmax()] * 1e3
    # Row 1 is above the middle, column 5 right of it; y points up.
    assert (x, y, z) == pytest.approx((3.0, 5.0, 0.75), rel=1e-6)
    assert corners.min(axis=0) * 1e3 == pytest.approx([-8, -8, -10], rel=1e-6)
    assert (tmp_path / "mask.stl").read_bytes()[:50] == b"mm optishield|550 nm|fused silica|4 x 2.5e-07 m\0\0\0"


def test_stl_base(tmp_path: Path) -> None:
    with pytest.raises(OpticsError, match="base_m=0 must be a positive"):
        Stl(base_m=0)
    pit = Relief(torch.full((8, 8), -2e-6), PITCH, FUSED_SILICA, (550e-9,))
    with pytest.raises(OpticsError, match="through base_m=1e-06; raise it"):
        Stl(base_m=1e-6).write(pit, tmp_path / "mask.stl")


def test_foreign_stl_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mask.stl"
    path.write_bytes(b"solid".ljust(84, b"\0"))
    with pytest.raises(OpticsError, match="no STL file that export_relief wrote"):
        Stl.read(path)
    record = struct.pack("<12fH", *[0.0] * 12, 0)
    path.write_bytes(b"mm optishield|550 nm|PMMA".ljust(80, b"\0") + struct.pack("<I", 1) + record)
    with pytest.raises(OpticsError, match="1 rows and 1 columns; it must be square"):
        Stl.read(path)


def only_cell(path: Path) -> gdstk.Cell:
    cell = gdstk.read_gds(path).cells[0]
    assert isinstance(cell, gdstk.Cell)
    return cell


def centres(samples: int) -> list[tuple[float, float]]:
    """Cell centres in micrometres by rows from the top left, y up."""
    axis = (np.arange(samples) - (samples - 1) / 2) * 2
    return [(x, -y) for y in axis for x in axis]


@pytest.mark.parametrize("layers", ["levels", "binary"])
def test_gds_polygons_hold_the_cells(tmp_path: Path, layers: str) -> None:
    # gdstk's own point-in-polygon test is the other reader.
    relief = noise()
    Gds(layers=layers).write(relief, tmp_path / "mask.gds")  # type: ignore[arg-type]
    library = gdstk.read_gds(tmp_path / "mask.gds")
    assert (library.unit, library.precision) == pytest.approx((1e-6, 1e-9))
    polygons = only_cell(tmp_path / "mask.gds").polygons
    datatype = int(layers == "binary")
    assert {(p.layer, p.datatype) for p in polygons} == {(k, datatype) for k in range(2 if datatype else 4)}
    codes = relief.codes().numpy()
    for layer in {p.layer for p in polygons}:
        mine = [p for p in polygons if p.layer == layer]
        inside = np.array(gdstk.inside(centres(24), mine)).reshape(24, 24)
        assert np.array_equal(inside, (codes >> layer) & 1 == 1 if datatype else codes == layer)
        # Merged: no area is counted twice, and cells that share a side are one polygon.
        assert sum(p.area() for p in mine) == pytest.approx(4 * inside.sum())
        assert len(mine) <= 1.1 * label(inside)[1]  # those with holes are cut open


def test_gds_lies_as_seen_and_is_reproducible(tmp_path: Path) -> None:
    Gds().write(corner_mark(), tmp_path / "a.gds")
    Gds().write(corner_mark(), tmp_path / "b.gds")
    assert (tmp_path / "a.gds").read_bytes() == (tmp_path / "b.gds").read_bytes()
    cell = only_cell(tmp_path / "a.gds")
    (mark,) = [p for p in cell.polygons if p.layer == 3]
    assert np.array(mark.bounding_box()) == pytest.approx(np.array([[2.0, 4.0], [4.0, 6.0]]))
    text = json.loads("".join(t.text for t in sorted(cell.labels, key=lambda t: t.texttype)))
    assert text["pitch_m"] == PITCH
    assert all(len(t.text) <= 512 and t.layer == 255 for t in cell.labels)


def test_gds_with_a_pitch_off_the_unit_is_exact(tmp_path: Path) -> None:
    relief = replace(noise(64), pitch_m=0.5e-3 / 256)
    Gds(dbu_m=1e-8).write(relief, tmp_path / "mask.gds")
    assert torch.equal(Gds.read(tmp_path / "mask.gds").codes(), relief.codes())
    points = np.concatenate([p.points for p in only_cell(tmp_path / "mask.gds").polygons])
    true = np.rint(points / 1.953125) * 1.953125
    assert 0.004 < np.abs(points - true).max() <= 0.005 + 1e-9  # half a unit, in micrometres


@pytest.mark.parametrize(
    ("kind", "relief", "match"),
    [
        (Gds(), replace(noise(), levels=None, step_m=None), "the relief is continuous"),
        (Gds("binary"), noise(levels=3), "levels=3 is no power of two"),
        (Gds(dbu_m=1e-6), noise(), "at most a quarter of pitch_m=2e-06"),
        (Gds(dbu_m=-1.0), noise(), "dbu_m=-1 must be positive"),
        (Gds(), replace(noise(), levels=300), "300 levels on 24 cells exceed GDSII"),
    ],
)
def test_gds_refuses(tmp_path: Path, kind: Gds, relief: Relief, match: str) -> None:
    with pytest.raises(OpticsError, match=match):
        kind.write(relief, tmp_path / "mask.gds")


def damaged(tmp_path: Path, extra: gdstk.Polygon) -> Path:
    Gds().write(noise(), tmp_path / "good.gds")
    library = gdstk.read_gds(tmp_path / "good.gds")
    cell = library.cells[0]
    assert isinstance(cell, gdstk.Cell)
    cell.add(extra)
    library.write_gds(tmp_path / "bad.gds")
    return tmp_path / "bad.gds"


def test_overlapping_layers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OpticsError, match="overlap or leave gaps"):
        Gds.read(damaged(tmp_path, gdstk.rectangle((-24, -24), (24, 24), layer=1)))


@pytest.mark.parametrize("points", [[(0, 0), (8, 0), (4, 8)], [(0, 0), (0, 80), (80, 80), (80, 0)]])
def test_polygons_off_the_grid_are_refused(tmp_path: Path, points: list[tuple[float, float]]) -> None:
    with pytest.raises(OpticsError, match="polygons off the cell grid"):
        Gds.read(damaged(tmp_path, gdstk.Polygon(points, layer=1)))
