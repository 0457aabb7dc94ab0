"""Tiles of a run as files for a workshop: what is read back is what was designed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from codesign.cameras import geometry_of
from codesign.config import TrainMaskConfig
from codesign.errors import CodesignError
from codesign.winners.masks import masks_of
from codesign.winners.workshop import export_tiles, stepped
from optics import OpticsError, get_material
from optics.fabrication import Gds, Png, ProcessLimits, Relief, ReliefFormat, Stl, Tiff, Zygo, import_relief
from optishield.run.settings import to_toml

CONFIG = TrainMaskConfig.for_budget("smoke")


def _controls() -> Tensor:
    """Smooth reliefs of two tiles, some micrometres deep."""
    noise = torch.randn(2, 5, 5, generator=torch.Generator().manual_seed(4))
    cells = CONFIG.winners.relief_cells
    return 0.05 * torch.nn.functional.interpolate(noise[:, None], (cells, cells), mode="bicubic")[:, 0]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder with what a run leaves of its design."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.toml").write_text(to_toml(CONFIG), encoding="utf-8")
    save_file({"controls": _controls().contiguous()}, folder / "mask.safetensors")
    return folder


@pytest.mark.parametrize("file_format", [Tiff(), Png(), Zygo(), Stl()])
def test_a_tile_comes_back_from_every_format(run: Path, tmp_path: Path, file_format: ReliefFormat) -> None:
    (file,) = export_tiles(run, tmp_path / "files", file_format, tiles=[1])
    assert (file.tile, file.path.name) == (1, f"tile-01{file_format.suffix}")
    assert file.peak_change < 1e-3
    assert file.stepped_change == 0
    back = import_relief(file.path)
    mask = masks_of(CONFIG, geometry_of(CONFIG.optics), {"controls": _controls()})[1]
    inside = back.grid.amplitude > 0
    assert torch.allclose(back.height_m.double()[inside], mask.height_m().double()[inside], atol=2e-9)
    assert back.material == get_material(CONFIG.mask.material)
    assert back.grid.diameter_m == pytest.approx(CONFIG.optics.aperture_diameter_m)


def test_lithography_takes_steps_and_says_what_they_cost(run: Path, tmp_path: Path) -> None:
    with pytest.raises(CodesignError, match="GDSII takes stepped reliefs; say into how many levels"):
        export_tiles(run, tmp_path / "files", Gds())
    coarse, fine = (
        export_tiles(run, tmp_path / str(levels), Tiff(), levels=levels, tiles=[0])[0].stepped_change
        for levels in (8, 200)
    )
    assert 0 < fine < coarse / 4
    (file,) = export_tiles(run, tmp_path / "files", Gds(), levels=8, tiles=[0])
    assert file.stepped_change == coarse
    back = import_relief(file.path)
    assert back.levels == 8
    assert sorted(back.codes().unique().tolist())[-1] == 7


def test_steps_are_equal_and_nearest() -> None:
    relief = Relief.from_mask(masks_of(CONFIG, geometry_of(CONFIG.optics), {"controls": _controls()})[0], (540e-9,))
    rounded = stepped(relief, 5)
    step_m = float(relief.height_m.max()) / 4
    assert rounded.step_m == pytest.approx(step_m)
    assert float((rounded.height_m - relief.height_m).abs().max()) <= step_m / 2 * (1 + 1e-6)
    with pytest.raises(CodesignError, match="levels=1 makes no relief"):
        stepped(relief, 1)


def test_what_cannot_be_exported_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(CodesignError, match="there is no tile 2; the run has the tiles 0 to 1"):
        export_tiles(run, tmp_path / "files", Tiff(), tiles=[2])
    with pytest.raises(OpticsError, match="height_range_m"):
        export_tiles(run, tmp_path / "files", Tiff(), ProcessLimits(height_range_m=(0, 1e-6)), tiles=[0])
    with pytest.raises(CodesignError, match="is no run folder"):
        export_tiles(tmp_path, tmp_path / "files", Tiff())
    frame = CONFIG.model_copy(update={"design": "frame"})
    (run / "config.toml").write_text(to_toml(frame), encoding="utf-8")
    with pytest.raises(CodesignError, match="designed one mask and no tiles"):
        export_tiles(run, tmp_path / "files", Tiff())
