"""Values ready for JSON: numpy and torch numbers become plain ones, and nothing outside the standard is written."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ground.errors import GroundError


def json_bytes(value: Any, name: str) -> bytes:
    """Indented UTF-8 JSON with a final line break.

    Args:
        value: see ``plain``.
        name: what the value is called in errors.
    """
    return (json.dumps(plain(value, name), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


def plain(value: Any, where: str) -> Any:
    """Copy a value into dictionaries, lists, texts and numbers.

    NaN means "not defined" everywhere in this project and becomes null; an infinite number is a mistake.

    Args:
        value: nested mappings, sequences, numpy and torch numbers or arrays, pydantic models, paths.
        where: what the value is called in errors; keys are added on the way down.

    Returns:
        The copy.

    Raises:
        GroundError: an infinite number, or a type that JSON cannot hold.
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if math.isnan(value):
            return None
        if math.isinf(value):
            raise GroundError(f"{where} is {value}, which JSON cannot hold; store None where a number is not defined.")
        return float(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item, f"{where}: {key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, BaseModel):
        return plain(value.model_dump(mode="json"), where)
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # numpy and torch, without importing either
        return plain(value.tolist(), where)
    raise GroundError(f"{where} holds a {type(value).__name__}, which JSON cannot hold; convert it first.")
