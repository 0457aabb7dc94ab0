"""The settings of train-mask, as the command line reads them: what would fail later is refused at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from codesign.cameras import baselines, build, exposure_of, ours
from codesign.config import MATERIALS, TrainMaskConfig
from codesign.masks import flat
from optics import OpticsError, PupilGrid, get_material
from optishield.errors import ConfigError
from optishield.run.settings import load_config, to_toml

SMOKE = TrainMaskConfig.for_budget("smoke")


@pytest.mark.parametrize("budget", ["smoke", "quick", "standard", "full"])
def test_every_budget_says_again_what_it_says(budget: str, tmp_path: Path) -> None:
    config = TrainMaskConfig.for_budget(budget)
    (tmp_path / "c.toml").write_text(to_toml(config), encoding="utf-8")
    assert load_config(TrainMaskConfig, toml_path=tmp_path / "c.toml") == config


def test_the_field_stop_can_be_taken_away_on_the_command_line_and_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "open.toml").write_text("[sensor.field_stop]\nenabled = false\n", encoding="utf-8")
    on_line = load_config(TrainMaskConfig, base=SMOKE, sets=["sensor.field_stop.enabled=false"])
    in_file = load_config(TrainMaskConfig, base=SMOKE, toml_path=tmp_path / "open.toml")
    assert on_line == in_file
    assert exposure_of(SMOKE.sensor).field_stop is not None
    assert exposure_of(on_line.sensor).field_stop is None
    every = on_line.model_copy(update={"proof": TrainMaskConfig.for_budget("full").proof})
    assert {family.spec.exposure.field_stop for family in baselines(every)} == {None}
    camera = build(ours(on_line), on_line, flat(on_line.mask, PupilGrid(0.5e-3, 270)).state_dict())
    assert float(camera.field.min()) == 1.0


def test_a_file_of_a_version_without_the_switch_has_its_stop() -> None:
    values = SMOKE.model_dump()
    del values["sensor"]["field_stop"]["enabled"]
    assert TrainMaskConfig.model_validate(values) == SMOKE


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mask.material=glas", r"mask\.material = 'glas': no material is called 'glas'; choose one of fused-silica"),
        ("mask.material=air", r"no material is called 'air'"),
        (
            'proof.baselines=["blur"]',
            r"proof\.baselines\.0 = 'blur': no baseline is called 'blur'; choose one of mono-",
        ),
        ("optics.pupil_samples=100000", r"optics\.pupil_samples = 100000: input should be less than or equal to 2048"),
        ("optics.scene_px=40", r"sensor\.pixels = 32 must divide optics\.scene_px = 40"),
        ("proof.mono_pixels=[16, 24]", r"proof\.mono_pixels = 24 must divide optics\.scene_px = 64"),
        ("decoder.width=12", r"decoder\.width = 12: input should be a multiple of 8"),
        ("sensor.black_level_dn=1", r"black_level_dn = 1(\.0)? must lie below the top code 1 of 1 bits"),
        ("sensor.filter_weights=[0.5, 0.1, 0.1]", r"filter_weights must be three non-negative numbers that sum to 1"),
    ],
)
def test_what_would_fail_later_is_refused_at_once(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_config(TrainMaskConfig, base=SMOKE, sets=[text])


def test_materials_are_those_of_the_optics() -> None:
    """The names are written down a second time, since the optics needs torch."""
    with pytest.raises(OpticsError, match="no material is called 'x'; choose one of") as failure:
        get_material("x")
    names = str(failure.value).partition("choose one of ")[2].rstrip(".").split(", ")
    assert {name.replace(" ", "-") for name in names} - {"air"} == set(MATERIALS)


@pytest.mark.parametrize("name", ["Fused_Silica", "fused silica", "PMMA"])
def test_materials_may_be_spelt_as_the_optics_reads_them(name: str) -> None:
    config = load_config(TrainMaskConfig, base=SMOKE, sets=[f"mask.material={name}"])
    assert get_material(config.mask.material).name.lower().startswith(name[:3].lower())


@pytest.mark.parametrize(
    ("section", "name"),
    [("optics", name) for name in (
        "focal_length_m", "aperture_diameter_m", "focus_distance_m", "object_distance_m", "frame_width_m"
    )]
    + [("sensor", name) for name in ("electrons_at_white", "full_well_e", "read_noise_e")] + [("mask", "max_height_m")],
)  # fmt: skip
def test_numbers_too_small_for_any_camera_are_refused(section: str, name: str) -> None:
    given = TrainMaskConfig.for_budget("smoke").model_dump()
    given[section][name] = 1e-300
    with pytest.raises(ValueError, match=rf"{section}\.{name}\n.*should be greater than or equal to"):
        TrainMaskConfig.model_validate(given)
