"""What is kept of a person who was enrolled: one file with the mask of one method, and how it was made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from faces.protection import Enrolling, Protector
from ground.errors import describe_os_error
from ground.files import write_new
from photos.errors import PhotoError
from protectors.registry import make_protector

#: Key of the one entry of metadata: with several, their order, and so the bits of the file, would be random.
_KEY, _KIND = "enrolment", "optishield enrolment 1"


@dataclass(frozen=True, eq=False)
class Enrolment:
    """A person as one method keeps them.

    Attributes:
        method: the protector's name with its settings, as it was given.
        settings: what the protector declared then; another result means that the method has changed.
        px: side of the frames.
        photos: how many were used.
        seed: of everything random.
        kept: tensors of :meth:`Enrolling.enrolment`.
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
        PhotoError: there is such a file, or it cannot be written.
    """
    about = {
        "kind": _KIND,
        "method": enrolment.method,
        "settings": enrolment.settings,
        "px": enrolment.px,
        "photos": enrolment.photos,
        "seed": enrolment.seed,
    }
    kept = {name: value.contiguous() for name, value in enrolment.kept.items()}
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
        PhotoError: it cannot be read, or is no such file.
    """
    try:
        # Opened once before, because safetensors does not say why a file cannot be.
        with path.open("rb"), safe_open(path, framework="pt") as file:
            told = json.loads((file.metadata() or {})[_KEY])
            kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        if told["kind"] != _KIND:
            raise ValueError(told["kind"])
        settings = tuple((str(name), str(value)) for name, value in told["settings"])
        return Enrolment(str(told["method"]), settings, int(told["px"]), int(told["photos"]), int(told["seed"]), kept)
    except OSError as error:
        raise PhotoError(describe_os_error(error)) from error
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise PhotoError(f"{path} is no enrolment; make one with: optishield enroll PHOTO... --out FILE") from error


def enrolled(enrolment: Enrolment, path: Path) -> Protector:
    """The protector, ready for the person.

    Args:
        enrolment: from :func:`read_enrolment`.
        path: its file, for errors.

    Raises:
        PhotoError: the method is made otherwise today.
        ProtectorError: there is no such method, or it does not take what was kept.
    """
    protector = make_protector(enrolment.method)
    if protector.declaration.settings != enrolment.settings or not isinstance(protector, Enrolling):
        raise PhotoError(
            f"{path} was made by {enrolment.method} with settings that this version no longer has; enrol the person "
            "again."
        )
    cast(Enrolling, protector).enrol(enrolment.kept)
    return protector
