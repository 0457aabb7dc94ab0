"""Configuration: defaults, then a TOML file, then ``--set key=value``, checked by a frozen pydantic model.

The functions are generic over the model, so that a room defines its own settings and the application only
reads, merges, reports mistakes and writes back.
"""

from __future__ import annotations

import difflib
import tomllib
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import tomli_w
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from ground.errors import GroundError
from ground.files import write_atomic
from ground.parse import toml_of
from optishield.errors import ConfigError, UsageError

Model = TypeVar("Model", bound=BaseModel)


def load_config(
    model: type[Model],
    *,
    base: Model | None = None,
    toml_path: Path | None = None,
    sets: Sequence[str] = (),
) -> Model:
    """Build a configuration from three layers; later layers win.

    Args:
        model: The pydantic model (frozen, unknown keys forbidden).
        base: Starting values; None means the model's own defaults.
        toml_path: A TOML file with any part of the keys.
        sets: Texts ``a.b=value``; the value is a TOML literal, or a bare string when the key takes text.

    Returns:
        The checked configuration.

    Raises:
        ConfigError: The file cannot be read, a key is unknown (the nearest valid keys are named), or a value is wrong.
    """
    values: dict[str, Any] = base.model_dump() if base is not None else {}
    if toml_path is not None:
        layer = read_toml(toml_path)
        _refuse_unknown(model, _leaves(model, layer), where=str(toml_path))
        values = _merged(values, layer)
    for text in sets:
        key, value = parse_set(model, text)
        values = _merged(values, _nested(key, value))
    return validated(model, values)


def layered(
    model: type[Model],
    *,
    key: str,
    names: Sequence[str],
    start: Callable[[str], Model],
    chosen: str | None,
    default: str,
    base: Model | None,
    toml_path: Path | None,
    sets: Sequence[str],
    options: Mapping[str, Any],
) -> Model:
    """Settings of a command: a preset (or ``base``), then the TOML file, then --set, then options of their own.

    Args:
        model: The pydantic model.
        key: Where the model says which preset it is, for example ``budget``; also the name of an option.
        names: Names of the presets.
        start: Gives the settings of a preset.
        chosen: The preset that the option names, None if it was not given.
        default: The preset if neither the option nor the file names one.
        base: Settings to start from in place of a preset.
        toml_path: A TOML file with any part of the keys.
        sets: Texts ``a.b=value``, as for :func:`load_config`.
        options: Values of options that are named like their keys; None was not given.

    Raises:
        UsageError: An option and --set, or an option and the file, contradict each other.
        ConfigError: There is no such preset, or a key or value is wrong as for :func:`load_config`.
    """
    given = {name: value for name, value in options.items() if value is not None}
    for text in sets:
        name = text.partition("=")[0].strip()
        if name == key or name in given:
            raise UsageError(f"--set {name} and --{name} say the same thing; use --{name}.")
    in_file = read_toml(toml_path).get(key) if toml_path is not None else None
    if chosen is not None and in_file not in (None, chosen):
        raise UsageError(f"--{key} {chosen} contradicts {key} = {in_file!r} in {toml_path}; drop one of them.")
    preset = chosen or in_file or default
    if preset not in names:
        raise ConfigError(f"{key} = {preset!r} in {toml_path} is not one of {', '.join(names)}.")
    config = load_config(model, base=start(preset) if base is None else base, toml_path=toml_path, sets=sets)
    return validated(model, {**config.model_dump(), **given}) if given else config


def validated(model: type[Model], values: Mapping[str, Any]) -> Model:
    """Check values against the model.

    Raises:
        ConfigError: A value is wrong; the message names each wrong key, the value found and what is expected.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_describe(error)) from error


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: The file is missing, is not UTF-8, or is not TOML (with line and column).
    """
    try:
        return toml_of(path.read_bytes(), str(path))
    except OSError as error:
        raise ConfigError(f"Cannot read the configuration {path}: {error.strerror}; check --config.") from error
    except GroundError as error:
        raise ConfigError(str(error)) from error


def parse_set(model: type[BaseModel], text: str) -> tuple[str, Any]:
    """Split and type one ``--set`` argument.

    Args:
        model: The model that knows the keys.
        text: ``key=value`` with a dotted key, for example ``sensor.bits=6``.

    Returns:
        The dotted key and its value. ``none`` clears a key that may be empty.

    Raises:
        ConfigError: There is no ``=``, the key is unknown or names a section, or the number is too large.
    """
    key, equals, raw = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ConfigError(f"--set {text!r} is not of the form key=value, for example --set {example(model)}.")
    fields = dict(known_keys(model))
    if key not in fields:
        inside = [name for name in fields if name.startswith(key + ".")]
        if inside:
            raise ConfigError(f"--set {key} names a section; set one of its keys: {', '.join(inside[:6])}.")
        _refuse_unknown(model, [key], where="--set")
    return key, _literal(key, fields[key], raw.strip())


def example(model: type[BaseModel]) -> str:
    """A ``key=value`` that this model takes: its first key in a section that has a number as default, with that."""
    for key, field in _fields(model):
        if "." in key and isinstance(field.default, (int, float)) and not isinstance(field.default, bool):
            return f"{key}={field.default}"
    return f"{next(key for key, _ in known_keys(model))}=VALUE"


def known_keys(model: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    """Walk all dotted keys of a model with their types, in order of definition."""
    for key, field in _fields(model):
        yield key, field.annotation


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        section = _section(field.annotation)
        if section is None:
            yield prefix + name, field
        else:
            yield from _fields(section, f"{prefix}{name}.")


def differing_keys(left: Mapping[str, Any], right: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted keys whose values differ between two nested dictionaries, sorted."""
    keys: list[str] = []
    for name in sorted({*left, *right}):
        a, b = left.get(name), right.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            keys += differing_keys(a, b, f"{prefix}{name}.")
        elif a != b or (name in left) != (name in right):
            keys.append(prefix + name)
    return keys


def to_toml(config: BaseModel) -> str:
    """Write a configuration as TOML that reads back to the same configuration.

    TOML has no empty value: a key that is None is left out, which is right only when None is its default.

    Raises:
        ConfigError: A key is None although its default is not.
    """
    return tomli_w.dumps(_without_none(config))


def write_config(path: Path, config: BaseModel) -> None:
    """Write ``to_toml`` to a file, atomically."""
    write_atomic(path, to_toml(config).encode("utf-8"))


def _without_none(config: BaseModel) -> dict[str, Any]:
    values = config.model_dump(mode="json")
    defaults = {
        name: field.get_default(call_default_factory=False) for name, field in type(config).model_fields.items()
    }
    kept: dict[str, Any] = {}
    for name, value in values.items():
        child = getattr(config, name)
        if isinstance(child, BaseModel):
            kept[name] = _without_none(child)
        elif value is not None:
            kept[name] = value
        elif defaults[name] is not None:
            raise ConfigError(
                f"{name} is none but its default is {defaults[name]!r}, which TOML cannot say; give a value."
            )
    return kept


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        merged[name] = _merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _nested(key: str, value: Any) -> dict[str, Any]:
    for name in reversed(key.split(".")):
        value = {name: value}
    return value


def _leaves(model: type[BaseModel], values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted keys of a nested dictionary, descending only where the model has a section."""
    for name, value in values.items():
        field = model.model_fields.get(name)
        section = _section(field.annotation) if field is not None else None
        if section is not None and isinstance(value, Mapping):
            yield from _leaves(section, value, f"{prefix}{name}.")
        elif section is None:
            yield prefix + name
        else:
            raise ConfigError(f"{prefix}{name} is a section: write [{prefix}{name}] with keys, not {name} = {value!r}.")


def _refuse_unknown(model: type[BaseModel], keys: Iterator[str] | Sequence[str], where: str) -> None:
    valid = [key for key, _ in known_keys(model)]
    for key in keys:
        if key in valid:
            continue
        tail = key.rpartition(".")[2]
        near = difflib.get_close_matches(key, valid, n=3, cutoff=0.6)
        near += [name for name in valid if name.rpartition(".")[2] == tail and name not in near]
        if not near:
            near = difflib.get_close_matches(tail, [name.rpartition(".")[2] for name in valid], n=3)
            near = [name for name in valid if name.rpartition(".")[2] in near]
        hint = f"nearest: {', '.join(near[:3])}" if near else f"there are {', '.join(_overview(valid))}"
        raise ConfigError(f"Unknown key {key!r} in {where}; {hint}.")


def _overview(keys: Sequence[str]) -> list[str]:
    """Keys, and sections in place of theirs."""
    heads = (key.partition(".") for key in keys)
    return list(dict.fromkeys(f"{head}.*" if tail else head for head, _, tail in heads))


def _section(annotation: Any) -> type[BaseModel] | None:
    """The model behind an annotation, also inside Annotated and Optional; None for a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) is Annotated:
        return _section(get_args(annotation)[0])
    members = [member for member in _members(annotation) if member is not type(None)]
    return _section(members[0]) if len(members) == 1 and members[0] is not annotation else None


def _members(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) in (Union, types.UnionType):
        return get_args(annotation)
    return (annotation,)


def _literal(key: str, annotation: Any, raw: str) -> Any:
    members = _members(annotation)
    if raw.lower() == "none" and type(None) in members:
        return None
    try:
        parsed = tomllib.loads(f"value = {raw}")
    except (ValueError, RecursionError):  # no TOML, so it is text
        return raw
    if set(parsed) != {"value"}:  # a line break in the text smuggled in a second key
        return raw
    takes_text_only = all(member in (str, Path, type(None)) for member in members)
    if takes_text_only and not isinstance(parsed["value"], str):
        return raw
    try:
        return toml_of(f"value = {raw}", f"--set {key}")["value"]
    except GroundError as error:
        raise ConfigError(str(error)) from error


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:40]}… ({len(text)} characters)"


def _describe(error: ValidationError) -> str:
    parts = []
    for item in error.errors(include_url=False):
        key = ".".join(str(part) for part in item["loc"]) or "configuration"
        message = item["msg"].removeprefix("Value error, ")
        given = (
            "" if item["type"] == "missing" or isinstance(item["input"], dict) else f" = {_shortened(item['input'])}"
        )
        parts.append(f"{key}{given}: {message[:1].lower()}{message[1:]}")
    return "Configuration not valid: " + "; ".join(parts) + "."
