"""Files of a session: text that is the same for the same content, and files that are whole, on the disk, or absent.

Single files are written by ``ground.files``. Two kinds of files keep a promise of their own: the journal, which is only
ever added to (see ``journal``), and frames, whose names reach the disk many at a time (see ``frames``).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from firmware_bridge.errors import SessionError
from ground.errors import GroundError, describe_os_error
from ground.files import write_atomic
from ground.parse import json_of, toml_of

Model = TypeVar("Model", bound=BaseModel)


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON of one line that depends on the content alone: keys sorted, no blanks, shortest decimal fractions.

    Raises:
        ValueError: NaN or an infinite number, which JSON has not.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def sha256_hex(data: bytes) -> str:
    """SHA-256 as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def open_own(path: Path) -> io.BufferedReader:
    """Open a file of a session for reading; a link that leads out of it is none.

    Raises:
        OSError: It cannot be read, or is a link or no regular file.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(f"{path} is no regular file")
        return open(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def file_sha256(path: Path) -> str:
    """SHA-256 of a file of a session as 64 hexadecimal digits.

    Raises:
        OSError: See :func:`open_own`.
    """
    with open_own(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def load_array(source: Path | BinaryIO, name: str, *, mapped: bool = False) -> NDArray[Any]:
    """Read a .npy file that may be damaged, hostile or of another kind.

    Args:
        source: The file, or its content as a stream.
        name: What it is called in errors.
        mapped: Whether values stay on the disk until they are used.

    Raises:
        SessionError: It cannot be read, or holds no array of numbers.
    """
    try:
        # numpy multiplies the shape that the file claims, which may be anything.
        with np.errstate(over="raise"):
            found = np.load(source, mmap_mode="r" if mapped else None, allow_pickle=False)
    except (OSError, ValueError, EOFError, ArithmeticError, MemoryError) as error:
        raise SessionError(f"{name} cannot be read as a .npy file ({error or type(error).__name__}).") from error
    # An archive of arrays has the same reader.
    if not isinstance(found, np.ndarray):
        found.close()
        raise SessionError(f"{name} is an archive of arrays; save one array as .npy.")
    return found


def has_sha256(path: Path, sha256: str) -> bool:
    """Whether a file of a session is there and has this hash."""
    try:
        return file_sha256(path) == sha256
    except OSError:
        return False


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk: a new or renamed file survives a power cut only after this."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_durably(path: Path, data: bytes) -> None:
    """Make or replace a file, whole or not at all, and bring both file and name to the disk.

    Raises:
        OSError: The disk is full, or the folder cannot be written; the old file, or none, is there.
    """
    write_atomic(path, data)
    sync_folder(path.parent)


def read_model(path: Path, model: type[Model]) -> Model:
    """Read a file of settings, TOML by its name or else JSON, and check it strictly: no text passes for a number.

    Raises:
        SessionError: It is not there, not readable, or not as ``model`` wants it; names every wrong place.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SessionError(describe_os_error(error)) from error
    try:
        value = toml_of(data, str(path)) if path.suffix == ".toml" else json_of(data, str(path))
    except GroundError as error:
        raise SessionError(str(error)) from error
    # As JSON, because strict checks then still take a list for a tuple; dates become text.
    return parse_model(json.dumps(value, default=str).encode("utf-8"), model, str(path))


def parse_model(data: bytes, model: type[Model], name: str) -> Model:
    """Check JSON strictly.

    Args:
        data: The JSON text in UTF-8.
        model: What it must hold.
        name: What it is called in errors.

    Raises:
        SessionError: It is not as ``model`` wants it; names every wrong place.
    """
    try:
        return model.model_validate_json(data, strict=True)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'the file'}: {item['msg']}"
            for item in error.errors(include_url=False)
        )
        raise SessionError(f"{name} is not as it must be: {wrong}.") from error
