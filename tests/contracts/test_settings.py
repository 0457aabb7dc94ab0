"""Every number of every command's settings: what cannot be meant is refused at once, by the parser of --set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from codesign.config import TrainMaskConfig
from evaluation.config import EvaluateConfig
from optishield.errors import ConfigError
from optishield.run.settings import known_keys, load_config

#: A command's settings, to be complete one preset each.
MODELS: list[tuple[type[BaseModel], BaseModel]] = [
    (TrainMaskConfig, TrainMaskConfig.for_budget("standard")),
    (EvaluateConfig, EvaluateConfig.for_tier("standard")),
]


def numbers(annotation: Any) -> int:
    """How many numbers a key takes: 0 if it takes none, 1, or the length of its list."""
    if annotation in (int, float):
        return 1
    inside = get_args(annotation)
    if not inside or not ("int" in str(annotation) or "float" in str(annotation)):
        return 0
    if str(annotation).startswith("tuple"):
        return 1 if inside[-1] is ... else len(inside)
    return numbers(inside[0])


def rows() -> Iterator[Any]:
    """Each key that takes numbers, with its model and what it is written like."""
    for model, preset in MODELS:
        for key, annotation in known_keys(model):
            if numbers(annotation):
                form = "[{}]" if str(annotation).startswith("tuple") else "{}"
                yield pytest.param(model, preset, key, numbers(annotation), form, id=f"{model.__name__}-{key}")


ROWS = list(rows())
each = pytest.mark.parametrize(("model", "preset", "key", "count", "form"), ROWS)


def value_at(config: BaseModel, key: str) -> Any:
    found: Any = config
    for name in key.split("."):
        found = getattr(found, name)
    return found


def test_the_table_finds_the_numbers_of_the_models() -> None:
    found = {row.values[2] for row in ROWS}
    assert {"seed", "optics.wavelengths_m", "sensor.field_stop.edge", "proof.mono_pixels", "scoring.alphas"} <= found
    assert not {"faces", "sensor.colour", "sensor.field_stop.enabled", "mask.material", "protectors"} & found
    assert len(ROWS) > 70


@pytest.mark.parametrize("bad", ["inf", "-inf", "nan", "-1", "1e308", "1e400"])
@each
def test_no_number_may_be_infinite_negative_or_absurd(
    model: type[BaseModel], preset: BaseModel, key: str, count: int, form: str, bad: str
) -> None:
    text = form.format(", ".join([bad] * count))
    with pytest.raises(ConfigError, match=rf"{key}(\.\d)?\b.*(finite|greater|less|integer|multiple|too large)"):
        load_config(model, base=preset, sets=[f"{key}={text}"])


@each
def test_the_value_of_a_preset_may_be_said_again(
    model: type[BaseModel], preset: BaseModel, key: str, count: int, form: str
) -> None:
    value = value_at(preset, key)
    text = form.format(", ".join(map(repr, value)) if isinstance(value, tuple) else repr(value))
    assert load_config(model, base=preset, sets=[f"{key}={text}"]) == preset
