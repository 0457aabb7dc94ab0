"""Results of jobs on disk under their keys (:mod:`evaluation.matrix.keys`), written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ground.files import write_atomic


class Store:
    """A folder of safetensors files, shared by all jobs of all runs.

    Args:
        folder: Folder of the files; it is made when something is written.
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
        write_atomic(self.path(key), save(packed, {"facts": json.dumps(facts, sort_keys=True)}))

    def once(
        self, key: str, make: Callable[[], tuple[Mapping[str, Tensor], Mapping[str, Any]]]
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The result of that name, made now or earlier; the time of the file becomes that of its latest use."""
        found = self.read(key)
        if found is not None:
            # ``optishield cache prune`` removes what was not used for long; a read-only folder is never pruned.
            with contextlib.suppress(OSError):
                os.utime(self.path(key))
        if found is None:
            self.write(key, *make())
            found = self.read(key)
        if found is None:
            raise OSError(f"{self.path(key)} cannot be read back; free space on that disk, or choose another folder.")
        return found
