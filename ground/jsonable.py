"""Values ready for JSON: numpy and torch numbers become plain ones, and nothing outside the standard is written."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ground.errors import GroundError
from ground.text import encodable

# Characters inside texts that a terminal obeys or hides, beside those that JSON itself escapes.
_UNSEEN = re.compile("[\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def json_bytes(value: Any, name: str) -> bytes:
    """Indented UTF-8 JSON with a final line break; it reads back to the same texts and may be shown on a terminal.

    Args:
        value: Anything that :func:`plain` takes.
        name: What the value is called in errors.

    Raises:
        GroundError: The value cannot be stored; see :func:`plain`.
    """
    text = json.dumps(plain(value, name), indent=2, ensure_ascii=False, allow_nan=False)
    # Such characters occur inside texts only, so that this escape is JSON's own.
    return (_UNSEEN.sub(lambda found: f"\\u{ord(found.group()):04x}", text) + "\n").encode("utf-8")


def plain(value: Any, where: str) -> Any:
    r"""Copy a value into dictionaries, lists, texts and numbers.

    NaN means "not defined" everywhere in this project and becomes null; an infinite number is a mistake. The name of a
    file that is no UTF-8 keeps its bytes as escapes: ``caf\xe9.jpg``.

    Args:
        value: Nested mappings, sequences, numpy and torch numbers or arrays, pydantic models, paths.
        where: What the value is called in errors; keys are added on the way down.

    Returns:
        The copy.

    Raises:
        GroundError: An infinite number, or a type that JSON cannot hold.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return encodable(str(value))
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if math.isnan(value):
            return None
        if math.isinf(value):
            raise GroundError(f"{where} is {value}, which JSON cannot hold; store None where a number is not defined.")
        return float(value)
    if isinstance(value, Mapping):
        return {encodable(str(key)): plain(item, f"{where}: {key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, BaseModel):
        return plain(value.model_dump(mode="json"), where)
    if isinstance(value, Path):
        return encodable(str(value))
    if hasattr(value, "tolist"):  # numpy and torch, without importing either
        return plain(value.tolist(), where)
    raise GroundError(f"{where} holds a {type(value).__name__}, which JSON cannot hold; convert it first.")
