"""Layers of settings, their mistakes, and the way back to TOML."""

from __future__ import annotations

import functools
import itertools
import math
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from codesign.config import TrainMaskConfig
from evaluation.config import EvaluateConfig
from optishield.errors import ConfigError
from optishield.run.settings import differing_keys, known_keys, load_config, parse_set, to_toml, write_config


def test_later_layers_win(settings: Any, tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('seed = 5\nnote = "from file"\n[camera]\nbits = 10\n')
    config = load_config(settings, base=settings.for_budget("full"), toml_path=file, sets=["camera.bits=6"])
    assert config.camera.pixels == 64  # budget
    assert (config.seed, config.note) == (5, "from file")  # file
    assert config.camera.bits == 6  # --set


def test_toml_of_every_budget_reads_back_to_the_same_configuration(settings: Any, tmp_path: Path) -> None:
    for name, note in itertools.product(("smoke", "quick", "standard", "full"), (None, 'quote " and\nline', "é")):
        config = load_config(settings, base=settings.for_budget(name).model_copy(update={"note": note}))
        write_config(tmp_path / "c.toml", config)
        assert load_config(settings, toml_path=tmp_path / "c.toml") == config


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("seed=7", 7),
        ("camera.pitch_m=4.4e-6", 4.4e-6),
        ("camera.pitch_m=inf", math.inf),
        ("camera.lenses=[3, 4.5]", [3, 4.5]),
        ("note=plain words", "plain words"),
        ("note=12", "12"),  # the key takes text, so a number is text
        ('note="12"', "12"),
        ("note=none", None),
        ("limit=None", None),
        ("faces=none", "none"),  # not an optional key
        ("faces=a=b", "a=b"),
        ("note=1\nseed = 2", "1\nseed = 2"),  # one argument sets one key
    ],
)
def test_set_values_are_typed(settings: Any, text: str, value: object) -> None:
    key, parsed = parse_set(settings, text)
    assert (key, parsed, type(parsed)) == (text.split("=")[0], value, type(value))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("camera.bit=6", r"Unknown key 'camera.bit' in --set; nearest: camera.bits"),
        ("bits=6", r"nearest: camera.bits"),
        ("zzz=1", r"Unknown key 'zzz' in --set; there are budget, seed, .*, camera\.\*\."),
        ("camera=6", r"names a section; set one of its keys: camera.bits"),
        ("camera.bits", r"not of the form key=value"),
        ("=3", r"not of the form key=value"),
        ("camera.bits=x", r"camera.bits = 'x': input should be a valid integer"),
        ("camera.bits=99", r"camera.bits = 99: input should be less than or equal to 16"),
        ("camera.pitch_m=1e400", r"^--set camera.pitch_m is no valid TOML: the number 1e400 is too large"),
        ("camera.lenses=[1e400]", r"the number 1e400 is too large"),
        ("camera.lenses=" + "[" * 100_000, r"camera.lenses = '\[{39}… \(100002 characters\): input should"),
        ("seed=" + "9" * 5000, r"seed = '9{39}… \(5002 characters\): unable to parse"),
    ],
)
def test_set_mistakes_say_what_to_change(settings: Any, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(settings, sets=[text])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"seed = =\n", r"is no valid TOML: .*line 1, column 8"),
        (b"seed = \xff", r"is not text in UTF-8 \(byte 7 is 255\)"),
        (b"seed = " + b"[" * 100_000, r"holds lists or tables nested more than 64 times"),
        (b"seed = 1e400", r"is no valid TOML: the number 1e400 is too large"),
        (b"[camera]\nbit = 1", r"Unknown key 'camera.bit' in .*a.toml; nearest: camera.bits"),
        (b"camera = 3", r"camera is a section: write \[camera\]"),
        (b"[seed]\nx = 1", r"seed: input should be a valid integer"),
    ],
)
def test_file_mistakes_say_what_to_change(settings: Any, tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "a.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_config(settings, toml_path=file)


def test_a_byte_order_mark_is_passed_over(settings: Any, tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_bytes(b"\xef\xbb\xbfseed = 3\r\n")
    assert load_config(settings, toml_path=file).seed == 3


@pytest.mark.parametrize(
    ("model", "start"), [(TrainMaskConfig, TrainMaskConfig.for_budget), (EvaluateConfig, EvaluateConfig.for_tier)]
)
def test_the_example_in_an_error_is_a_setting_that_the_command_takes(model: Any, start: Any) -> None:
    with pytest.raises(ConfigError, match=r"for example --set \S+=\S+\.$") as caught:
        load_config(model, base=start("smoke"), sets=["nothing"])
    shown = re.findall(r"--set (\S+)\.$", str(caught.value))
    assert load_config(model, base=start("smoke"), sets=shown)


@pytest.mark.parametrize("value", ["true", "[true]", "[0.5, false]"])
@pytest.mark.parametrize(
    ("model", "start"), [(TrainMaskConfig, TrainMaskConfig.for_budget), (EvaluateConfig, EvaluateConfig.for_tier)]
)
def test_true_and_false_pass_for_no_number(model: Any, start: Any, value: str) -> None:
    refused = []
    for key, _ in known_keys(model):
        try:
            config = load_config(model, base=start("smoke"), sets=[f"{key}={value}"])
        except ConfigError as error:
            refused += [key] if "true and false are no numbers; give a number" in str(error) else []
        else:
            # The other keys take text, or are switches.
            assert functools.reduce(getattr, key.split("."), config) in (value, True)
    numbers = [key for key, kind in known_keys(model) if "int" in str(kind) or "float" in str(kind)]
    assert refused == numbers
    assert len(refused) > 10


def test_a_switch_in_a_section_still_takes_true_and_false() -> None:
    config = load_config(TrainMaskConfig, base=TrainMaskConfig.for_budget("smoke"), sets=["sensor.colour=true"])
    assert config.sensor.colour is True


def test_the_field_stop_can_be_taken_away_by_option_and_by_file(tmp_path: Path) -> None:
    base = TrainMaskConfig.for_budget("smoke")
    file = tmp_path / "a.toml"
    file.write_text("[sensor.field_stop]\nenabled = false\n")
    for layer in ({"sets": ["sensor.field_stop.enabled=false"]}, {"toml_path": file}):
        config = load_config(TrainMaskConfig, base=base, **layer)
        assert config.sensor.field_stop.enabled is False
        write_config(tmp_path / "b.toml", config)
        assert load_config(TrainMaskConfig, base=base, toml_path=tmp_path / "b.toml") == config


def test_missing_file_is_named(settings: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Cannot read the configuration .*none.toml: No such file"):
        load_config(settings, toml_path=tmp_path / "none.toml")


def test_none_over_another_default_is_refused_because_toml_cannot_say_it() -> None:
    class Odd(BaseModel):
        model_config = ConfigDict(frozen=True, extra="forbid")
        limit: int | None = 3

    assert to_toml(Odd()) == "limit = 3\n"
    with pytest.raises(ConfigError, match="limit is none but its default is 3"):
        to_toml(Odd(limit=None))


def test_known_keys_look_inside_optional_sections() -> None:
    class Inner(BaseModel):
        x: int = 0

    class Outer(BaseModel):
        a: Inner | None = None
        b: tuple[float, float] = (0.0, 0.0)

    assert [key for key, _ in known_keys(Outer)] == ["a.x", "b"]


def test_differing_keys_are_dotted_and_complete() -> None:
    left = {"a": 1, "b": {"c": 2, "d": [1, 2]}, "e": None}
    right = {"a": 1, "b": {"c": 3, "d": [1, 2]}, "f": 0}
    assert differing_keys(left, right) == ["b.c", "e", "f"]
    assert differing_keys(left, left) == []
