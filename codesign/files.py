"""Tensors that a run left in its folder, read back by jobs and by ``evaluate-mask``."""

from __future__ import annotations

import hashlib
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from codesign.errors import CodesignError

#: State of the designed mask.
MASK = "mask.safetensors"


def load_tensors(path: Path, cure: str = "name another run, or train again") -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU.

    Args:
        path: The file.
        cure: What the user can do about a file that cannot be used.

    Raises:
        CodesignError: If the file is missing, cannot be read, or is no safetensors file.
    """
    return _parsed(path, _read(path, cure), cure)


def load_checked(path: Path, digest: str | None, cure: str) -> dict[str, Tensor]:
    """As :func:`load_tensors`, of a file whose content is known.

    Args:
        path: The file.
        digest: SHA-256 that was noted when the file was written; None (a run of an older version) checks nothing.
        cure: What the user can do about a file that cannot be used.

    Raises:
        CodesignError: As for :func:`load_tensors`, or if it is another file than the one that was written.
    """
    content = _read(path, cure)
    tensors = _parsed(path, content, cure)
    if digest is not None and hashlib.sha256(content).hexdigest() != digest:
        raise CodesignError(f"{path} is not the file that this run wrote (its SHA-256 differs); {cure}.")
    return tensors


def sha256(path: Path) -> str:
    """SHA-256 of a file that is known to be there."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read(path: Path, cure: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CodesignError(f"{path} cannot be read ({error.strerror}); {cure}.") from error


def _parsed(path: Path, content: bytes, cure: str) -> dict[str, Tensor]:
    try:
        return load(content)
    except (SafetensorError, ValueError) as error:
        raise CodesignError(f"{path} is damaged ({error}); {cure}.") from error
