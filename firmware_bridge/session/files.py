"""Files of a session: text that is the same for the same content, and files that are whole, on the disk, or absent."""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from firmware_bridge.errors import SessionError

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


def file_sha256(path: Path) -> str:
    """SHA-256 of a file as 64 hexadecimal digits.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def has_sha256(path: Path, sha256: str) -> bool:
    """Whether a file is there and has this hash."""
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
    """Write a file through a temporary one beside it, and bring both file and name to the disk.

    One process at a time may do so.

    Raises:
        OSError: The disk is full, or the folder cannot be written; the old file, or none, is there.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def read_model(path: Path, model: type[Model]) -> Model:
    """Read a file of settings, TOML by its name or else JSON, and check it strictly: no text passes for a number.

    Raises:
        SessionError: It is not there, not readable, or not as ``model`` wants it; names every wrong place.
    """
    try:
        data = path.read_bytes()
        if path.suffix == ".toml":
            # As JSON, because strict checks then still take a list for a tuple; dates become text.
            data = json.dumps(tomllib.loads(data.decode("utf-8")), default=str).encode("utf-8")
    except (OSError, ValueError) as error:
        raise SessionError(f"{path} cannot be read: {error}") from error
    return parse_model(data, model, str(path))


def parse_model(data: bytes, model: type[Model], name: str) -> Model:
    """Check JSON as :func:`read_model` does; ``name`` is what it is called in errors."""
    try:
        return model.model_validate_json(data, strict=True)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'the file'}: {item['msg']}"
            for item in error.errors(include_url=False)
        )
        raise SessionError(f"{name} is not as it must be: {wrong}.") from error
