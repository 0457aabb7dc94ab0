"""Records of what attackers got from a camera, and the frozen record that all results are made of.

No torch is imported here, so that whoever reads a run does not load it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from codesign.errors import CodesignError
from ground.text import encodable


def _defined(value: object) -> object:
    return None if isinstance(value, float) and math.isnan(value) else value


Number = Annotated[float | None, BeforeValidator(_defined)]
"""A figure; None where it is not defined. NaN is read as None."""
Limits = tuple[Number, Number]
"""A 95 % interval over people, lower limit first; (None, None) where it is not defined."""
Name = Annotated[str, BeforeValidator(lambda value: encodable(value) if isinstance(value, str) else value)]
"""The name of a file or folder; bytes of it that are no UTF-8 are written as escapes."""
NO_LIMITS: Limits = (None, None)


class Record(BaseModel):
    """A frozen result with one way to JSON and back."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file; numbers that are not defined become null."""
        return self.model_dump(mode="json")

    @classmethod
    def from_json(cls, value: object, where: str) -> Self:
        """Read what :meth:`to_json` wrote.

        Args:
            value: The content of the JSON file.
            where: What it is called in errors, for example the path of the file.

        Raises:
            CodesignError: A key is missing, unknown, or holds something else than it should; the first one is named.
        """
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"]) or "the whole"
            raise CodesignError(
                f"{where} is no {cls.__name__} of this version ({key}: {first['msg']}); run the command again."
            ) from error


class PooledResult(Record):
    """What one attacker got from one camera when all probes of a person count as one.

    Attributes:
        probes: Probes of each person that were pooled: other pose, expression and light in each.
        rank1: Share of people that are named correctly among the enrolled people.
        rank1_ci95: Its interval.
        auc: Area under the ROC curve of same and different people.
        auc_ci95: Its interval.
        people: People of the test.
    """

    probes: int
    rank1: Number
    rank1_ci95: Limits = NO_LIMITS
    auc: Number
    auc_ci95: Limits = NO_LIMITS
    people: int | None = None

    @property
    def order(self) -> tuple[float, float]:
        """For finding the strongest attacker: rank-1 first, AUC where they agree."""
        return (_or_least(self.rank1), _or_least(self.auc))


class AttackerResult(Record):
    """What one attacker got from one camera.

    Attributes:
        rank1: Share of probes that are named correctly among the enrolled people.
        rank1_ci95: Its interval.
        auc: Area under the ROC curve of same and different people.
        auc_ci95: Its interval.
        target_fmr: False match rate that the threshold was frozen for, on other people; None where none was frozen. In
            JSON it is part of the next two keys: ``tar_at_fmr_0.01`` and ``tar_at_fmr_0.01_ci95``.
        tar: Share of genuine comparisons accepted at that threshold.
        tar_ci95: Its interval.
        fmr: Share of impostor comparisons accepted at that threshold on the test people.
        threshold: The threshold, a cosine.
        people: People of the test.
        pooled: The same attacker with all probes of a person pooled.
        weights: Of an attacker that joins others, the weight of each.
    """

    rank1: Number
    rank1_ci95: Limits = NO_LIMITS
    auc: Number
    auc_ci95: Limits = NO_LIMITS
    target_fmr: float | None = None
    tar: Number = None
    tar_ci95: Limits = NO_LIMITS
    fmr: Number = None
    threshold: Number = None
    people: int | None = None
    pooled: PooledResult | None = None
    weights: dict[str, float] | None = None

    @property
    def order(self) -> tuple[float, float]:
        """For finding the strongest attacker: rank-1 first, AUC where they agree."""
        return (_or_least(self.rank1), _or_least(self.auc))

    @model_validator(mode="before")
    @classmethod
    def _read_rate(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        plain = dict(value)
        for key in [key for key in plain if key.startswith("tar_at_fmr_")]:
            rate, limits = key.removeprefix("tar_at_fmr_").partition("_ci95")[:2]
            plain["tar_ci95" if limits else "tar"] = plain.pop(key)
            plain["target_fmr"] = float(rate)
        return plain

    @model_serializer(mode="wrap")
    def _write_rate(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = handler(self)
        found = {key: item for key, item in found.items() if key not in ("pooled", "weights") or item is not None}
        rate, tar, limits = (found.pop(key, None) for key in ("target_fmr", "tar", "tar_ci95"))
        if rate is None:
            return {key: item for key, item in found.items() if key not in ("fmr", "threshold") or item is not None}
        named = {f"tar_at_fmr_{rate:g}": tar, f"tar_at_fmr_{rate:g}_ci95": limits}
        head = {key: found.pop(key) for key in ("rank1", "rank1_ci95", "auc", "auc_ci95")}
        return {**head, **named, **found}

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        # In JSON the rate is part of the keys.
        schema = handler.resolve_ref_schema(handler(core_schema))
        fields = schema["properties"]
        del fields["target_fmr"]
        rate, limits = fields.pop("tar"), fields.pop("tar_ci95")
        schema["patternProperties"] = {r"^tar_at_fmr_[0-9.e-]+$": rate, r"^tar_at_fmr_[0-9.e-]+_ci95$": limits}
        return schema


class FloorResult(AttackerResult):
    """What landmarks alone give away when they are known with an error.

    Attributes:
        nme: That error, normalised by the distance of the outer eye corners.
    """

    nme: Number


class CurvePoint(FloorResult):
    """One measured point of a camera on the privacy-utility plane.

    Attributes:
        camera: Key of the camera; "oracle" is landmarks alone.
    """

    camera: str


class LearningPoint(AttackerResult):
    """One attacker on our camera, trained with so many people.

    Attributes:
        attacker: Its name.
        trained_on: People that it was trained with.
    """

    attacker: str
    trained_on: int


class ExposurePoint(AttackerResult):
    """The strongest attacker on our camera when it averages so many exposures of each still face.

    Attributes:
        attacker: Its name.
        exposures: Exposures of each enrolled and each probing capture.
    """

    attacker: str
    exposures: int


def strongest_pooled(attackers: Mapping[str, AttackerResult]) -> PooledResult | None:
    """Figures of the attacker who names the most people from pooled probes; None where that was not measured."""
    pooled = [attacker.pooled for attacker in attackers.values() if attacker.pooled is not None]
    return max(pooled, key=lambda found: found.order) if pooled else None


def _or_least(value: float | None) -> float:
    return -math.inf if value is None else value
