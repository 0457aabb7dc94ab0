"""Results of jobs on disk, named after everything that they depend on, and written whole or not at all."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

#: Rooms whose code decides what a result is; protectors and attackers of other packages come with :func:`code_hash`.
_ROOMS = ("evaluation", "faces", "optics", "sim")


def content_key(kind: str, **parts: object) -> str:
    """Name of a result: its kind and a SHA-256 of everything that it depends on (plain values), this code included."""
    text = json.dumps({"program": program_hash(), "kind": kind, **parts}, sort_keys=True, separators=(",", ":"))
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:40]}"


@cache
def program_hash() -> str:
    """SHA-256 of the source of all rooms that decide what a result is."""
    rooms = Path(__file__).parent.parent.parent
    return _hash_of(file for room in _ROOMS for file in sorted((rooms / room).rglob("*.py")))


def _hash_of(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def tensor_hash(*tensors: Tensor) -> str:
    """SHA-256 of types, shapes and values."""
    digest = hashlib.sha256()
    for tensor in tensors:
        array = tensor.detach().cpu().contiguous()
        digest.update(f"{array.dtype}{tuple(array.shape)}".encode())
        digest.update(array.reshape(-1).numpy().data)
    return digest.hexdigest()


@cache
def code_hash(kind: type) -> str:
    """SHA-256 of the source of a class's package, so that changed code never meets its old results."""
    return _hash_of(sorted(Path(inspect.getfile(kind)).parent.glob("*.py")))


class Store:
    """A folder of safetensors files, shared by all jobs of all runs.

    Args:
        folder: is made when something is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, key: str) -> Path:
        """Where a result lies, or will."""
        return self.folder / f"{key}.safetensors"

    def read(self, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and facts of a result, or None if it is missing or damaged (then it is made again)."""
        try:
            with safe_open(self.path(key), framework="pt") as file:
                facts = json.loads((file.metadata() or {})["facts"])
                return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118
        except (OSError, SafetensorError, KeyError, ValueError):
            return None

    def facts(self, key: str) -> dict[str, Any] | None:
        """The facts of a result alone."""
        try:
            with safe_open(self.path(key), framework="pt") as file:
                facts: dict[str, Any] = json.loads((file.metadata() or {})["facts"])
                return facts
        except (OSError, SafetensorError, KeyError, ValueError):
            return None

    def write(self, key: str, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Keep a result; another process sees the whole file or none."""
        packed = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f".{secrets.token_hex(6)}.tmp"
        try:
            temporary.write_bytes(save(packed, {"facts": json.dumps(facts, sort_keys=True)}))
            os.replace(temporary, self.path(key))
        finally:
            temporary.unlink(missing_ok=True)

    def once(
        self, key: str, make: Callable[[], tuple[Mapping[str, Tensor], Mapping[str, Any]]]
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The result of that name, made now or earlier."""
        found = self.read(key)
        if found is None:
            self.write(key, *make())
            found = self.read(key)
        if found is None:
            raise OSError(f"{self.path(key)} cannot be read back; free space on that disk, or choose another folder.")
        return found
