"""Makes protectors from names such as ``pixelate:cells=16``; packages add their own under the entry points below.

A name holds everything that the protector is made of, so any process makes the same one from it.

A package adds a protector with an entry point of the group ``optishield.protectors``::

    [project.entry-points."optishield.protectors"]
    my-cloak = "my_package.cloak:Cloak"

It names a class that fulfils :class:`faces.protection.Protector` (:class:`protectors.base.PhotoProtector` does most of
it), with an attribute ``about``, a :class:`faces.protection.Declaration` without settings whose name is that of the
entry point. The arguments of the class are its settings, each annotated as int, float, str or Path (or one of them or
None). The ``declaration`` of what is made must state ``surrogates``, the recognisers that it uses; they do not judge
it.
"""

from __future__ import annotations

import difflib
import inspect
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args

from faces.families import recogniser_names
from faces.protection import Declaration, Protector
from protectors.errors import ProtectorError

GROUP = "optishield.protectors"

#: What the name of a recogniser starts with that is used by a protector, but not listed in ``faces.families``.
OTHER = "other:"

_PARTS = ("declaration", "photo_px", "fit", "protect", "blur", "target")

# What a user should look at first stands first: recommended methods, ours, published ones, optics, controls.
_OWN = {
    "photo-cloak": "protectors.photo_cloak:PhotoCloak",
    "person-cloak": "protectors.person_cloak:PersonCloak",
    "feed-forward": "protectors.feed_forward:FeedForward",
    "sparse": "protectors.sparse:Sparse",
    "opom": "protectors.opom:Opom",
    "apf": "protectors.apf:Apf",
    "tip-im": "protectors.tip_im:TipIm",
    "dfpp": "protectors.dfpp:Dfpp",
    "fawkes": "protectors.fawkes:Fawkes",
    "em": "protectors.em:Em",
    "rem": "protectors.rem:Rem",
    "optical-encoder": "protectors.optical_encoder:OpticalEncoder",
    "identity": "protectors.identity:Identity",
    "gaussian-blur": "protectors.blur:GaussianBlur",
    "pixelate": "protectors.pixelate:Pixelate",
    "noise": "protectors.noise:Noise",
}

# A comma ends a value only where the next setting follows, so that paths may hold commas.
_NEXT_SETTING = re.compile(r",(?=[A-Za-z_]\w*=)")
_KINDS: dict[type, str] = {int: "a whole number", float: "a number", str: "a text", Path: "a path"}


@dataclass(frozen=True)
class Parameter:
    """A setting of a protector.

    Attributes:
        name: Its name, as in ``name=value``.
        kind: int, float, str or Path.
        required: Whether it must be given.
        default: the value otherwise, None for none.
    """

    name: str
    kind: type
    required: bool
    default: Any


@dataclass(frozen=True)
class Registered:
    """A protector that can be made.

    Attributes:
        about: its declaration, without settings.
        parameters: its settings.
        package: the package that brings it.
    """

    about: Declaration
    parameters: tuple[Parameter, ...]
    package: str

    @property
    def line(self) -> str:
        """One line for whoever chooses a method: what it does and whom it is for."""
        does = self.about.summary or f"{self.about.title[:1].upper()}{self.about.title[1:]}."
        if self.about.control:
            return f"{does} A control, no protection."
        return f"{does} Recommended." if self.about.recommended else f"{does} For comparison and research."

    @property
    def usage(self) -> str:
        """How to name it, as in ``gaussian-blur:sd=0.1,px=128``; settings that may be left empty are not shown.

        It can be given as it stands, unless it holds a word in capitals, which stands for a value that has no default.
        """
        if self.about.example:
            return f"{self.about.name}:{self.about.example}"
        shown = [
            f"{p.name}={p.name.upper() if p.required else p.default}"
            for p in self.parameters
            if p.required or p.default is not None
        ]
        return self.about.name + (":" + ",".join(shown) if shown else "")


def names() -> list[str]:
    """Names of all protectors: ours, with recommended ones first and controls last, then those of other packages."""
    return list(_entries())


def registered(name: str) -> Registered:
    """What a protector declares, and its settings.

    Raises:
        ProtectorError: If there is none of that name, or its package is broken.
    """
    return _registered(name, _entries())


def make_protector(spec: str) -> Protector:
    """Make a protector from its name and settings.

    Args:
        spec: ``name`` or ``name:setting=value,setting=value``.

    Returns:
        a new protector; the same text (and the same files, where it names any) always makes an equal one.

    Raises:
        ProtectorError: If there is no such protector or setting, or a value cannot be used.
    """
    name, colon, text = spec.partition(":")
    entries = _entries()
    known = _registered(name, entries)
    settings = _settings(spec, text, known) if colon else {}
    missing = [p.name for p in known.parameters if p.required and p.name not in settings]
    if missing:
        raise ProtectorError(f"{name} needs {_listed(missing)}; write {known.usage}.")
    made = entries[name].load()(**settings)
    if not isinstance(made, Protector):
        raise ProtectorError(
            f"{known.package} registers as {name} something that is no protector: it lacks "
            f"{_listed([part for part in _PARTS if not hasattr(made, part)])}."
        )
    _check_surrogates(made.declaration, known.package)
    return made


def _check_surrogates(said: Declaration, package: str) -> None:
    named = said.surrogates
    if named is None:
        raise ProtectorError(
            f"{said.name} of {package} does not state which recognisers it uses; whoever wrote it must set "
            "Declaration.surrogates to their names, or to () where it uses none."
        )
    wrong = [name for name in named if name not in recogniser_names() and not name.startswith(OTHER)]
    if isinstance(named, str) or wrong:
        raise ProtectorError(
            f"{said.name} of {package} states surrogates = {named!r}; whoever wrote it must give a tuple of names out "
            f"of {', '.join(recogniser_names())}, or {OTHER}NAME for a recogniser that is not listed."
        )


def _entries() -> dict[str, EntryPoint]:
    found = {name: EntryPoint(name, value, GROUP) for name, value in _OWN.items()}
    for entry in entry_points(group=GROUP):
        other = found.setdefault(entry.name, entry)
        if other.value != entry.value:
            raise ProtectorError(
                f"two packages bring a protector called {entry.name} ({_package(other)}: {other.value}; "
                f"{_package(entry)}: {entry.value}); remove one of them."
            )
    return found


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "optishield"


def _registered(name: str, entries: Mapping[str, EntryPoint]) -> Registered:
    if name not in entries:
        raise ProtectorError(f"there is no protector {name!r}; {_choose(name, list(entries))}")
    entry, package = entries[name], _package(entries[name])
    try:
        factory = entry.load()
    except (ImportError, AttributeError) as error:
        raise ProtectorError(
            f"the protector {name} of {package} cannot be imported ({error}); reinstall that package or remove it."
        ) from error
    about = getattr(factory, "about", None)
    if not isinstance(about, Declaration) or about.name != name:
        raise ProtectorError(
            f"{entry.value} of {package} is registered as {name} but declares "
            f"{about.name if isinstance(about, Declaration) else 'nothing'}; its attribute 'about' must be a "
            "Declaration of that name."
        )
    return Registered(about, _parameters(factory, name, package), package)


def _parameters(factory: Any, name: str, package: str) -> tuple[Parameter, ...]:
    found = []
    for key, given in inspect.signature(factory, eval_str=True).parameters.items():
        kinds = get_args(given.annotation) if isinstance(given.annotation, UnionType) else (given.annotation,)
        kinds = tuple(kind for kind in kinds if kind is not NoneType)
        if len(kinds) != 1 or kinds[0] not in _KINDS:
            raise ProtectorError(
                f"the setting {key} of {name} ({package}) is annotated {given.annotation}; int, float, str and Path, "
                "each alone or with None, can be given by name."
            )
        required = given.default is inspect.Parameter.empty
        found.append(Parameter(key, kinds[0], required, None if required else given.default))
    return tuple(found)


def _settings(spec: str, text: str, known: Registered) -> dict[str, Any]:
    parameters = {parameter.name: parameter for parameter in known.parameters}
    settings: dict[str, Any] = {}
    for part in _NEXT_SETTING.split(text):
        key, equals, value = part.partition("=")
        if not equals or not value:
            raise ProtectorError(f"{part!r} in {spec!r} is no setting; write setting=value, as in {known.usage}.")
        if key not in parameters:
            offer = _choose(key, list(parameters)) if parameters else "it has none."
            raise ProtectorError(f"{known.about.name} has no setting {key!r}; {offer}")
        if key in settings:
            raise ProtectorError(f"{spec!r} sets {key} twice; keep one of them.")
        settings[key] = _value(known.about.name, parameters[key], value)
    return settings


def _value(name: str, parameter: Parameter, text: str) -> Any:
    shown = repr(text) if len(text) <= 40 else f"{text[:40]!r}... ({len(text)} characters)"
    try:
        value = parameter.kind(text)
    except ValueError as error:
        raise ProtectorError(f"{parameter.name} of {name} must be {_KINDS[parameter.kind]}, got {shown}.") from error
    if isinstance(value, int) and abs(value) >= 2**63:
        raise ProtectorError(f"{parameter.name} of {name} must be a whole number below 2^63, got {shown}.")
    if isinstance(value, float) and not math.isfinite(value):
        raise ProtectorError(f"{parameter.name} of {name} must be a finite number, got {shown}.")
    return value


def _choose(wrong: str, right: list[str]) -> str:
    near = difflib.get_close_matches(wrong, right, n=3)
    return f"did you mean {' or '.join(near)}?" if near else f"choose one of {', '.join(right)}."


def _listed(words: list[str]) -> str:
    return " and ".join(words)
