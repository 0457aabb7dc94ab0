"""Files of a run folder that say what is finished, and how files of a run are read and found to be damaged."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ground.errors import GroundError, describe_os_error, one_line
from ground.jsonable import plain
from ground.parse import json_of
from optishield.errors import RunError

_SEAL = "sha256"


@dataclass(frozen=True)
class Marker:
    """A finished stage.

    Attributes:
        result: What the stage returned; values of JSON.
        metrics_bytes: Length of the metrics when it ended.
        files: SHA-256 of each file that it wrote, by name; None in markers of earlier versions.
    """

    result: dict[str, Any]
    metrics_bytes: int
    files: Mapping[str, str | None]

    def to_json(self) -> dict[str, Any]:
        """The marker with a hash of itself, so that a later change is seen."""
        value = {"result": self.result, "metrics_bytes": self.metrics_bytes, "files": dict(self.files)}
        return {**value, _SEAL: _seal(value)}

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a marker; those of earlier versions have no hashes, or no names of files either.

        Raises:
            RunError: The file is no marker, or was changed after the stage ended.
        """
        advice = "delete that file, and the stage runs again."
        value = read_json(path, advice)
        if (
            not isinstance(value, dict)
            or not isinstance(value.get("result"), dict)
            or not isinstance(value.get("metrics_bytes"), int)
            or not isinstance(value.get("files", []), (list, dict))
        ):
            raise RunError(f"{path} does not describe a finished stage; {advice}")
        seal = value.pop(_SEAL, None)
        if seal is not None and seal != _seal(value):
            raise RunError(f"{path} was changed after the stage ended; undo the change, or {advice}")
        files = value.get("files", [])
        hashes = files if isinstance(files, dict) else dict.fromkeys(map(str, files))
        return cls(value["result"], value["metrics_bytes"], hashes)


def _seal(value: Mapping[str, Any]) -> str:
    """Hash of a value of JSON, however its text is laid out."""
    return hashlib.sha256(json.dumps(plain(value, "marker"), sort_keys=True).encode()).hexdigest()


def read_json(path: Path, advice: str) -> Any:
    """Load a JSON file.

    Args:
        path: The file.
        advice: What to do about a damaged file, as the end of a sentence.

    Raises:
        RunError: The file is missing or is not JSON.
    """
    check_presence(path, advice)
    with disk(path):
        data = path.read_bytes()
    return parse_json(path, data, advice)


def parse_json(path: Path, data: bytes, advice: str) -> Any:
    """The value of a JSON file from its content; see :func:`read_json`.

    Raises:
        RunError: It is not JSON.
    """
    try:
        return json_of(data, f"{path} is damaged: it")
    except GroundError as error:
        raise RunError(f"{str(error).rstrip('.')}; {advice}") from error


def check_file(path: Path, sha256: str | None, advice: str) -> None:
    """See whether a file is the one that was written.

    Args:
        path: The file.
        sha256: Its hash when it was written. None, of a run of an earlier version: of JSON the text is read, of
            safetensors the header, and a file of another kind only has to be there.
        advice: What to do about a damaged file, as the end of a sentence.

    Raises:
        RunError: The file is missing, damaged or another one.
    """
    check_presence(path, advice)
    if sha256 is not None:
        with disk(path), path.open("rb") as file:
            check_hash(path, hashlib.file_digest(file, "sha256").hexdigest(), sha256, advice)
        return
    if path.suffix == ".json":
        read_json(path, advice)
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with disk(path), safe_open(path, framework="numpy"):
                pass
        except SafetensorError as error:
            raise RunError(f"{path} is damaged ({error}); {advice}") from error


def check_hash(path: Path, found: str, sha256: str | None, advice: str) -> None:
    """Compare the hash of a file with the one that was noted when it was written, if any.

    Raises:
        RunError: They differ.
    """
    if sha256 not in (None, found):
        raise RunError(f"{path} is not the file that this run wrote (its SHA-256 differs); {advice}")


def check_presence(path: Path, advice: str) -> None:
    """See whether there is such a file.

    Raises:
        RunError: There is none.
    """
    if not path.exists():
        raise RunError(f"There is no {path}; {advice}")
    if path.is_dir():
        raise RunError(f"{path} is a folder, not a file; move it away, and {advice}")


@contextlib.contextmanager
def disk(path: Path, *, hidden: bool = False) -> Iterator[None]:
    """Turn errors of the operating system into one sentence; nothing half-written remains (see ``write_atomic``).

    Args:
        path: What the error is about if the system does not say.
        hidden: Whether the system would name a file that the user has never heard of.

    Raises:
        RunError: In place of any ``OSError``.
    """
    try:
        yield
    except OSError as error:
        named = error if error.filename and not hidden else OSError(error.errno, error.strerror, str(path))
        raise RunError(one_line(describe_os_error(named))) from error
