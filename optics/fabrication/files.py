"""Files that are whole or absent, and packages that are optional."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from ground.files import writing
from optics.errors import OpticsError


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; what lies there at the end becomes ``path``, whole or not at all.

    Args:
        path: File to make; its folder must exist.

    Yields:
        The path to write to. Its suffix says nothing about the format.

    Raises:
        OpticsError: The file exists (also if it appears meanwhile), its folder does not, or it cannot be written.
    """
    if not path.parent.is_dir():
        raise OpticsError(f"path={str(path)!r}: there is no such folder; make it first.")
    try:
        with writing(path) as temporary:
            yield temporary
    except FileExistsError as error:
        raise OpticsError(f"path={str(path)!r} exists and is not replaced; choose another name.") from error
    except OSError as error:
        raise OpticsError(f"path={str(path)!r} cannot be written ({error.strerror}); choose another place.") from error


def optional(package: str) -> Any:
    """Import a package of the extra ``fabrication``.

    Raises:
        OpticsError: It is not installed.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise OpticsError(
            f"this file format needs the package {package}; run pip install 'optishield[fabrication]'."
        ) from error


def with_suffix(path: str | Path, suffix: str) -> Path:
    """Return the path if it ends in ``suffix``.

    Raises:
        OpticsError: It does not.
    """
    path = Path(path)
    if path.suffix != suffix:
        raise OpticsError(f"path={str(path)!r} must end in {suffix!r}, so that it can be read back.")
    return path


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """Write lines of text as UTF-8."""
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_bytes(path: str | Path) -> bytes:
    """Return the content of a file.

    Raises:
        OpticsError: It cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise OpticsError(f"path={str(path)!r} cannot be read ({error.strerror}).") from error


def read_lines(path: str | Path) -> list[str]:
    """Return the lines of a text file of at least two lines.

    Raises:
        OpticsError: It cannot be read, or is no such file.
    """
    try:
        lines = read_bytes(path).decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise OpticsError(f"path={str(path)!r} is no text file.") from error
    if len(lines) < 2:
        raise OpticsError(f"path={str(path)!r} holds {len(lines)} lines; a header and columns are missing.")
    return lines


def parse_header(path: str | Path, text: str, kind: str, axes: str) -> dict[str, Any]:
    """Return the JSON object in a header after a look at its kind and orientation.

    Raises:
        OpticsError: It is no such object.
    """
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise OpticsError(f"path={str(path)!r} carries no description in JSON ({error}).") from error
    if not isinstance(values, dict) or values.get("kind") != kind or values.get("axes") != axes:
        raise OpticsError(f"path={str(path)!r} is not of kind {kind!r} with axes {axes!r}; pass an exported file.")
    return values
