"""Records as JSON: what is written comes back, what is no summary is refused in one sentence, and the schema holds."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from evaluation import EvaluationError
from evaluation.records import FrozenThreshold, Summary, from_json, to_json
from ground.gates import Gate
from ground.jsonable import json_bytes
from tests.evaluation import made

Evaluate = Callable[..., dict[str, Any]]


def _stored(summary: Summary) -> dict[str, Any]:
    """A summary as a file gives it back."""
    found: dict[str, Any] = json.loads(json_bytes(summary.to_json(), "summary"))
    return found


def _full() -> Summary:
    gates = {"certificate": Gate("certificate", False, "look for a bug", {"low": 0.5, "limit": math.nan})}
    return made.summary(
        rows=(made.row(0.5, psr_net_at_fmr={"0.1": 0.25}), made.row(None, verdict="no claim", reason="nobody matches")),
        poison=(made.poison_row(people=(0.5, 1.0)),),
        gates=gates,
        headline={"cloak": made.headline("strong", "by its limit", evasion=made.worst())},
        protectors={"cloak": made.method("dodge", settings={"a": "1"}, surrogates=("sface",))},
        recognisers={"r": made.recogniser()},
    )


def test_a_summary_comes_back_as_it_was() -> None:
    summary = _full()
    stored = _stored(summary)
    back = Summary.from_json(stored)
    assert back.rows == summary.rows
    assert back.headline == summary.headline
    assert (back.protectors, back.recognisers, back.poison) == (
        summary.protectors,
        summary.recognisers,
        summary.poison,
    )
    assert _stored(back) == stored
    # A number that is not defined is null in JSON and NaN in the program.
    assert stored["gates"]["certificate"] == {
        "passed": False, "reason": "look for a bug", "low": 0.5, "limit": None,
    }  # fmt: skip
    assert math.isnan(back.gates["certificate"].figures["limit"])
    assert back.gates["certificate"].name == "certificate"


def test_verdicts_and_reasons_stand_apart() -> None:
    stored = _stored(_full())
    assert (stored["rows"][1]["verdict"], stored["rows"][1]["reason"]) == ("no claim", "nobody matches")
    assert stored["headline"]["cloak"]["verdict"] == {"label": "strong", "reason": "by its limit"}
    assert stored["headline"]["cloak"]["CP"]["verdict"] == "not shown"


def _without(stored: dict[str, Any], *path: Any) -> dict[str, Any]:
    place = stored
    for key in path[:-1]:
        place = place[key]
    del place[path[-1]]
    return stored


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (("rows", 0, "reason"), r"^old\.json is not what this version writes: rows\.0\.reason: Field required"),
        (("manifest",), r"manifest: Field required; another version made it, so run the evaluation again\.$"),
        (("gates", "certificate", "reason"), r"gates\.certificate\.reason: Field required"),
    ],
)
def test_a_summary_that_lacks_a_key_is_refused_in_one_sentence(path: tuple[Any, ...], said: str) -> None:
    with pytest.raises(EvaluationError, match=said):
        Summary.from_json(_without(_stored(_full()), *path), "old.json")


def test_a_fused_verdict_of_an_older_version_is_refused() -> None:
    stored = _stored(_full())
    stored["rows"][1]["verdict"] = "no claim (nobody matches)"
    with pytest.raises(EvaluationError, match=r"rows\.1\.verdict: Input should be 'reference', 'control', 'no claim'"):
        Summary.from_json(stored)


@pytest.mark.parametrize("value", [None, [], "text", {}])
def test_what_is_no_summary_at_all_is_refused(value: object) -> None:
    with pytest.raises(EvaluationError, match="is not what this version writes"):
        Summary.from_json(value)


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(EvaluationError, match="a threshold is not what this version writes: kind: Unexpected keyword"):
        from_json(FrozenThreshold, {**to_json(made.threshold()), "kind": "x"}, "a threshold")


def _check(value: Any, schema: dict[str, Any], root: dict[str, Any], place: str = "") -> None:
    """A small judge of its own, for the words of JSON schema that are used here."""
    known = {"$ref", "anyOf", "type", "properties", "required", "additionalProperties", "items", "enum", "const",
             "prefixItems", "minItems", "maxItems", "title", "description", "default", "$defs", "$schema"}  # fmt: skip
    assert set(schema) <= known, (place, set(schema) - known)
    if "$ref" in schema:
        return _check(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root, place)
    if "anyOf" in schema:
        errors = []
        for one in schema["anyOf"]:
            try:
                return _check(value, one, root, place)
            except AssertionError as error:
                errors.append(error)
        raise AssertionError(place, errors)
    kinds: dict[str, type | tuple[type, ...]] = {
        "object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool,
        "null": type(None),
    }  # fmt: skip
    named = schema.get("type", [])
    allowed = [named] if isinstance(named, str) else named
    if allowed:
        assert any(isinstance(value, kinds[kind]) for kind in allowed), (place, value, allowed)
        assert not isinstance(value, bool) or "boolean" in allowed, (place, value)
    assert "enum" not in schema or value in schema["enum"], (place, value)
    assert "const" not in schema or value == schema["const"], (place, value)
    if isinstance(value, dict):
        assert set(schema.get("required", ())) <= set(value), (place, set(schema["required"]) - set(value))
        others = schema.get("additionalProperties", True)
        for key, item in value.items():
            inner = schema.get("properties", {}).get(key, others)
            assert inner is not False, (place, key)
            if isinstance(inner, dict):
                _check(item, inner, root, f"{place}.{key}")
    if isinstance(value, list):
        assert schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)), place
        for index, item in enumerate(value):
            inner = schema["prefixItems"][index] if "prefixItems" in schema else schema.get("items", {})
            _check(item, inner, root, f"{place}[{index}]")
    return None


def test_summaries_are_as_the_schema_says() -> None:
    schema = Summary.json_schema()
    stored = _stored(_full())
    _check(stored, schema, schema)
    stored["rows"][0]["rank1"] = "all of them"
    with pytest.raises(AssertionError, match=r"rows\[0\]\.rank1"):
        _check(stored, schema, schema)


def test_a_real_summary_is_as_the_schema_says_and_comes_back(evaluated: Evaluate) -> None:
    stored = evaluated(protectors=["negative", "lens"], attackers=["as-published", "crashing"])
    assert stored["rows"], stored["missing"]
    assert stored["missing"] and stored["certificates"] and stored["comparisons"]
    schema = Summary.json_schema()
    _check(stored, schema, schema)
    assert json.loads(json_bytes(Summary.from_json(stored).to_json(), "again")) == json.loads(
        json_bytes(stored, "once")
    )
