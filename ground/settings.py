"""What all sections of settings share."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


class Section(BaseModel):
    """A section of settings: frozen, without unknown keys, and with finite numbers only.

    True and false are no numbers. Pydantic takes them for 1 and 0, so that ``steps = true`` would quietly mean one
    step.
    """

    # A number that is not finite is never meant: it would end the work later, with other words.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields[info.field_name or ""]
        if _holds_boolean(value) and _takes_numbers(field.annotation):
            raise ValueError("true and false are no numbers; give a number")
        return value


def _holds_boolean(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_holds_boolean, value))
    return isinstance(value, bool)


def _takes_numbers(annotation: Any) -> bool:
    kinds = _kinds(annotation)
    return bool(kinds & {int, float}) and bool not in kinds


def _kinds(annotation: Any) -> set[type]:
    """The types that an annotation names, at any depth."""
    inner = get_args(annotation)
    if not inner:
        return {annotation} if isinstance(annotation, type) else set()
    return set().union(*map(_kinds, inner))
