"""How records become JSON and back, once, at the edge of the program."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, ConfigDict, PlainSerializer, TypeAdapter, ValidationError, WithJsonSchema

from evaluation.errors import EvaluationError
from ground.gates import Gate
from ground.jsonable import plain

Record = TypeVar("Record")

#: Of every record: a key that nobody knows is refused, since it stands for something that would be lost.
STRICT = ConfigDict(extra="forbid")


def _number(value: object) -> object:
    return math.nan if value is None else value


#: A number that may be "not defined": NaN in the program, null in JSON.
Number = Annotated[float, BeforeValidator(_number), WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "null"}]})]
#: Lower and upper 95 % limit.
Limits = tuple[Number, Number]


def _gates(value: object) -> object:
    """Gates from their JSON: the numbers of each stand beside ``passed`` and ``reason``."""
    if not isinstance(value, Mapping) or not all(isinstance(found, Mapping) for found in value.values()):
        return value
    return {
        name: {
            "name": name,
            **{key: found[key] for key in ("passed", "reason") if key in found},
            "figures": {key: _number(number) for key, number in found.items() if key not in ("passed", "reason")},
        }
        for name, found in value.items()
    }


def _gates_json(gates: Mapping[str, Gate]) -> dict[str, dict[str, bool | str | float | None]]:
    return {name: {"passed": gate.passed, "reason": gate.reason, **gate.figures} for name, gate in gates.items()}


_GATE_SCHEMA = {
    "type": "object",
    "properties": {"passed": {"type": ["boolean", "null"]}, "reason": {"type": "string"}},
    "required": ["passed", "reason"],
    "additionalProperties": {"type": ["number", "null"]},
}
#: Gates by name. In JSON the numbers that a gate was decided on stand beside ``passed`` and ``reason``.
Gates = Annotated[
    Mapping[str, Gate],
    BeforeValidator(lambda value: value if _typed(value) else _gates(value)),
    PlainSerializer(_gates_json),
    WithJsonSchema({"type": "object", "additionalProperties": _GATE_SCHEMA}),
]


def _typed(value: object) -> bool:
    return isinstance(value, Mapping) and any(isinstance(found, Gate) for found in value.values())


_ADAPTERS: dict[type, TypeAdapter[Any]] = {}


def _adapter(kind: type[Record]) -> TypeAdapter[Record]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def to_json(record: object) -> dict[str, Any]:
    """A record as plain values for JSON; what is not defined becomes null.

    Raises:
        GroundError: An infinite number, which JSON cannot hold.
    """
    kind = type(record)
    found: dict[str, Any] = plain(_adapter(kind).dump_python(record, mode="json", by_alias=True), kind.__name__)
    return found


def from_json(kind: type[Record], value: object, where: str) -> Record:
    """The record that :func:`to_json` wrote down.

    Args:
        kind: Class of the record.
        value: Plain values as JSON holds them.
        where: What the value is called in errors, for example the name of its file.

    Raises:
        EvaluationError: A key is missing, unknown, or holds something else; the first one is named.
    """
    try:
        return _adapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise EvaluationError(
            f"{where} is not what this version writes: {place}: {first['msg']}{more}; another version made it, so run "
            "the evaluation again."
        ) from error


def json_schema(kind: type) -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a record."""
    schema = _adapter(kind).json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
