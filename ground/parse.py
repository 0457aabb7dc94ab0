"""JSON and TOML from outside: text that is damaged, hostile or oddly encoded ends in one error that names the place."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Callable
from typing import Any, NoReturn

from ground.errors import GroundError

MOST_DEEP = 64
"""Largest depth of lists and tables inside one another. Whoever walks through values by recursion needs a bound."""

# A dotted key of so many parts. tomllib reads it, but in a time that grows with the square of their number.
_LONG_KEY = re.compile(rf"""(?<![\w.-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){{{MOST_DEEP}}}""")


def json_of(data: bytes | str, name: str) -> Any:
    """Read JSON.

    A byte order mark is passed over. Numbers that JSON does not know, NaN and infinite ones, are refused, also where
    they are written as ``1e400``.

    Args:
        data: The text, or its bytes in UTF-8.
        name: What the text is called in errors.

    Returns:
        The value.

    Raises:
        GroundError: It is no such text, or nested more than ``MOST_DEEP`` times; names line and column.
    """

    def loads(text: str) -> Any:
        return json.loads(text, parse_constant=_no_number, parse_float=_finite)

    return _parsed(data, name, "JSON", loads)


def toml_of(data: bytes | str, name: str) -> dict[str, Any]:
    """Read TOML.

    A byte order mark is passed over, as editors on Windows write one. ``inf`` and ``nan`` are values of TOML; a number
    that is too large for floating point, such as ``1e400``, is refused.

    Args:
        data: The text, or its bytes in UTF-8.
        name: What the text is called in errors.

    Returns:
        The tables.

    Raises:
        GroundError: It is no such text, or nested more than ``MOST_DEEP`` times; names line and column.
    """

    def loads(text: str) -> Any:
        if _LONG_KEY.search(text):
            raise RecursionError
        return tomllib.loads(text, parse_float=_finite)

    tables: dict[str, Any] = _parsed(data, name, "TOML", loads)
    return tables


def _parsed(data: bytes | str, name: str, kind: str, loads: Callable[[str], Any]) -> Any:
    try:
        text = data.decode("utf-8-sig") if isinstance(data, bytes) else data.removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise GroundError(
            f"{name} is not text in UTF-8 (byte {error.start} is {data[error.start]!r}); save it as UTF-8."
        ) from error
    try:
        value = loads(text)
        # Text with few brackets and dots cannot be deep, and most texts have few.
        deep = sum(map(text.count, "[{.")) > MOST_DEEP and _is_deep(value)
    except RecursionError:
        deep = True
    except ValueError as error:
        raise GroundError(f"{name} is no valid {kind}: {error}; correct that place.") from error
    if deep:
        raise GroundError(f"{name} holds lists or tables nested more than {MOST_DEEP} times; no such file is valid.")
    return value


def _is_deep(value: Any) -> bool:
    # By a list of what is left to see, because recursion is what this protects others from.
    left = [(value, 0)]
    while left:
        item, depth = left.pop()
        if depth > MOST_DEEP:
            return True
        inner = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        left.extend((one, depth + 1) for one in inner if isinstance(one, (dict, list)))
    return False


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value) and "inf" not in text:
        raise ValueError(f"the number {text[:40]} is too large")
    return value


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")
