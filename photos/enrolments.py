"""What is kept of a person who was enrolled: one file with the mask of one method, and how it was made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from faces.errors import FaceFailed
from faces.framing import FRAME_POINTS
from faces.protection import Enrolling, Protector
from ground.errors import GroundError, describe_os_error, one_line
from ground.files import write_new
from ground.parse import json_of
from photos.errors import PhotoError
from protectors.registry import make_protector

#: Key of the one entry of metadata: with several, their order, and so the bits of the file, would be random.
_KEY, _KIND = "enrolment", "optishield enrolment 1"

#: Sides of frames that an enrolment may have: no method works on smaller ones, and larger ones only fill the memory.
SMALLEST_PX, LARGEST_PX = 32, 2048

_AGAIN = "make one with: optishield enroll PHOTO... --out FILE"


@dataclass(frozen=True, eq=False)
class Enrolment:
    """A person as one method keeps them.

    Attributes:
        method: The protector's name with its settings, as it was given.
        settings: What the protector declared then; another result means that the method has changed.
        px: Side of the frames in pixels.
        photos: How many photos were used.
        seed: Seed for all random numbers drawn for the enrolment.
        kept: Tensors of :meth:`faces.protection.Enrolling.enrolment`.
    """

    method: str
    settings: tuple[tuple[str, str], ...]
    px: int
    photos: int
    seed: int
    kept: Mapping[str, Tensor]


def write_enrolment(path: Path, enrolment: Enrolment) -> None:
    """Write the file, never over an existing one; missing folders are made. It holds no photo and no name.

    Raises:
        PhotoError: There is such a file, or it cannot be written.
    """
    about = {
        "kind": _KIND,
        "method": enrolment.method,
        "settings": enrolment.settings,
        "px": enrolment.px,
        "photos": enrolment.photos,
        "seed": enrolment.seed,
    }
    kept = {name: value.cpu().contiguous() for name, value in enrolment.kept.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_new(path, save(kept, metadata={_KEY: json.dumps(about)}))
    except FileExistsError as error:
        raise PhotoError(f"{path} exists already; name another file with --out.") from error
    except OSError as error:
        raise PhotoError(describe_os_error(error)) from error


def read_enrolment(path: Path) -> Enrolment:
    """Read the file.

    Raises:
        PhotoError: It cannot be read, or is no such file.
    """
    try:
        # Opened once before, because safetensors does not say why a file cannot be.
        with path.open("rb"), safe_open(path, framework="pt") as file:
            told = json_of((file.metadata() or {})[_KEY], str(path))
            about = _checked(told)
            kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except OSError as error:
        raise PhotoError(describe_os_error(error)) from error
    except (SafetensorError, KeyError, TypeError, GroundError, RecursionError) as error:
        raise PhotoError(f"{path} is no enrolment; {_AGAIN}") from error
    except _WrongError as error:
        raise PhotoError(f"{path} is no enrolment that can be used: {error}; {_AGAIN}") from error
    return Enrolment(about["method"], about["settings"], about["px"], about["photos"], about["seed"], kept)


class _WrongError(Exception):
    """What an enrolment says of itself cannot be."""


def _checked(told: Any) -> dict[str, Any]:
    """What a file says of itself, if each part of it can be."""
    if not isinstance(told, dict) or told.get("kind") != _KIND:
        raise KeyError("kind")
    for name, least, most in (("px", SMALLEST_PX, LARGEST_PX), ("photos", 1, 2**31), ("seed", 0, 2**63)):
        value = told.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise _WrongError(f"{name} must be a whole number from {least} to {most}, and is {_short(value)}")
    if not isinstance(told.get("method"), str):
        raise _WrongError(f"method must be a text, and is {_short(told.get('method'))}")
    settings = told.get("settings")
    if not isinstance(settings, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair) for pair in settings
    ):
        raise _WrongError(f"settings must be pairs of texts, and are {_short(settings)}")
    return {**told, "settings": tuple((name, value) for name, value in settings)}


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def enrolled(enrolment: Enrolment, path: Path) -> Protector:
    """The protector, ready for the person, whom it knows as number 0.

    Args:
        enrolment: What :func:`read_enrolment` gave.
        path: Its file, for errors.

    Raises:
        PhotoError: The method is made otherwise today, or cannot protect a photo with what was kept.
        ProtectorError: There is no such method.
    """
    protector = make_protector(enrolment.method)
    if protector.declaration.settings != enrolment.settings or not isinstance(protector, Enrolling):
        raise PhotoError(
            f"{path} was made by {enrolment.method} with settings that this version no longer has; enrol the person "
            "again."
        )
    try:
        cast(Enrolling, protector).enrol(enrolment.kept)
    except (RuntimeError, IndexError, TypeError) as error:
        raise PhotoError(f"{path} holds something that {enrolment.method} did not make; {_AGAIN}") from error
    _try(protector, enrolment.px, path)
    return protector


def _try(protector: Protector, px: int, path: Path) -> None:
    """Protect a picture of nobody, so that an enrolment of other people or frames is refused before any photo.

    Raises:
        PhotoError: It cannot be done.
    """
    pixels = torch.rand(1, 3, px, px, generator=torch.Generator().manual_seed(0), device="cpu")
    points5 = pixels.new_tensor(FRAME_POINTS)[None] * px - 0.5
    try:
        protector.protect(
            pixels, points5, torch.zeros(1, dtype=torch.int64, device="cpu"), torch.Generator().manual_seed(0)
        )
    except FaceFailed:
        # That is about this picture; a face may do better.
        return
    except (ValueError, RuntimeError, IndexError, TypeError) as error:
        raise PhotoError(
            f"{path} does not fit photos of one person in frames of {px} pixels ({one_line(str(error)).rstrip('.')}); "
            f"{_AGAIN}"
        ) from error
