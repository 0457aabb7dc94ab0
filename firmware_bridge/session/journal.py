"""The journal of a session: lines of JSON that are only ever added, each bound to the one before it by a hash.

A line holds its number, kind, body, the time of the wall clock, the hash of the line before, and a hash over all of
these. A line that was cut off by a crash is taken back when the journal is opened; any other damage is refused.

The file is the one that ``ground.files`` does not write. It grows by lines instead of being replaced, each group of
lines is synced before the frames that it announces are taken, and a group that does not fit on the disk is cut off.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from firmware_bridge.errors import SessionError
from firmware_bridge.session.files import canonical_json, sha256_hex, sync_folder
from ground.files import write_all
from ground.parse import json_of

FIRST = "0" * 64
"""What stands for the hash of a line before the first."""


class Entry(StrEnum):
    """Kinds of lines."""

    open = "OPEN"
    """The session begins; holds the hash of its settings."""
    resume = "RESUME"
    """It goes on after an end of any kind."""
    intent = "INTENT"
    """A frame is about to be taken."""
    done = "DONE"
    """It is on the disk; holds the record of the frame."""
    void = "VOID"
    """Frames that were done are to be taken again."""
    retake = "RETAKE"
    """A frame was lost, doubled or damaged, and is taken again."""
    gap = "GAP"
    """The camera counted frames that the session did not ask for."""
    suspend = "SUSPEND"
    """The bench was made safe to wait for better conditions."""
    proceed = "PROCEED"
    """They are better."""
    stop = "STOP"
    """The operator stopped."""
    fault = "FAULT"
    """The session ended by an error."""
    seal = "SEAL"
    """It is complete; holds the hash of the manifest."""


@dataclass(frozen=True)
class Line:
    """One line.

    Attributes:
        number: Its number, counted from 0.
        kind: What it tells; see :class:`Entry`.
        body: What happened.
        unix_s: When it was written, by the wall clock.
        previous: Hash of the line before.
    """

    number: int
    kind: Entry
    body: Mapping[str, Any]
    unix_s: float
    previous: str

    def content(self) -> dict[str, Any]:
        """What is hashed."""
        return {**vars(self), "body": dict(self.body)}

    @property
    def hash(self) -> str:
        """SHA-256 over the canonical JSON of the line."""
        return sha256_hex(canonical_json(self.content()))

    def as_bytes(self) -> bytes:
        """The line as it stands in the file."""
        return canonical_json({**self.content(), "hash": self.hash}) + b"\n"


def read_journal(path: Path) -> tuple[list[Line], int]:
    """Read a journal and check its chain.

    Returns:
        The lines, and how many bytes of the file they take; what follows was cut off by a crash.

    Raises:
        SessionError: It cannot be read, or a whole line is damaged, missing or out of order.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SessionError(f"the journal {path} cannot be read: {error}") from error
    whole = data.rfind(b"\n") + 1
    lines: list[Line] = []
    for number, text in enumerate(data[:whole].splitlines(keepends=True)):
        try:
            values = json_of(text, f"line {number}")
            stated = values.pop("hash")
            line = Line(**{**values, "kind": Entry(values["kind"]), "body": dict(values["body"])})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise SessionError(
                f"line {number} of {path} is damaged ({error}); use a copy of the session, or begin a new one."
            ) from error
        previous = lines[-1].hash if lines else FIRST
        if line.number != number or line.previous != previous or line.hash != stated or line.as_bytes() != text:
            raise SessionError(
                f"line {number} of {path} does not continue the chain; the journal was changed. Use a copy of the "
                "session, or begin a new one."
            )
        lines.append(line)
    return lines, whole


class Journal:
    """A journal that is open for writing; one process at a time.

    Args:
        path: Its file, which exists.
        wall: Wall clock, in s since 1970.

    Attributes:
        lines: All lines, the oldest first.

    Raises:
        SessionError: It is damaged, or another process has it open.
    """

    def __init__(self, path: Path, wall: Callable[[], float] = time.time) -> None:
        self.path = path
        self._wall = wall
        try:
            self._handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except OSError as error:
            raise SessionError(f"the journal {path} cannot be opened: {error}") from error
        try:
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise SessionError(f"another process works on {path.parent}; wait for it, or end it.") from error
            self.lines, self._length = read_journal(path)
            self._cut()
        except BaseException:
            os.close(self._handle)
            raise

    @staticmethod
    def create(path: Path) -> None:
        """Make an empty journal.

        Raises:
            OSError: It exists, or the folder cannot be written.
        """
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        sync_folder(path.parent)

    def add(self, kind: Entry, bodies: Iterable[Mapping[str, Any]], *, sync: bool = True) -> None:
        """Add lines of one kind, all or none.

        Args:
            kind: Kind of all of them.
            bodies: What each says, as JSON can hold it.
            sync: Whether to return when they are on the disk; without it the operating system has them.

        Raises:
            SessionError: The disk is full or failing.
        """
        added: list[Line] = []
        previous = self.lines[-1].hash if self.lines else FIRST
        for body in bodies:
            line = Line(len(self.lines) + len(added), kind, body, self._wall(), previous)
            added.append(line)
            previous = line.hash
        data = b"".join(line.as_bytes() for line in added)
        try:
            write_all(self._handle, data)
            if sync:
                os.fsync(self._handle)
        except OSError as error:
            self._cut()
            raise SessionError(
                f"the journal {self.path} cannot be written: {error}; make space, then resume the session."
            ) from error
        self.lines += added
        self._length += len(data)

    def _cut(self) -> None:
        os.ftruncate(self._handle, self._length)

    def close(self) -> None:
        """Let go of it; may be called again."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
