"""Frames on the disk: one .npy file each, which is whole and durable under its name or not there at all.

The promise is that of ``ground.files``, but for many files at once: they are written side by side, and one sync of the
folder brings all of their names to the disk. One by one, a disk would take a quarter as many frames a second.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from firmware_bridge.errors import SessionError
from firmware_bridge.protocols import Levels
from firmware_bridge.session.files import load_array, open_own, sync_folder
from ground.files import write_all

# Several files brought to the disk at once share one commit of the file system's own journal: on ext4 four threads
# were four times faster than one, and eight no faster than four.
THREADS = 4


def npy_header(levels: Levels) -> bytes:
    """What stands before the values in a .npy file."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(levels))
    return stream.getvalue()


@dataclass(frozen=True)
class Written:
    """A frame on its way to the disk.

    Attributes:
        name: Name of its file.
        sha256: Hash of its file, 64 hexadecimal digits.
    """

    name: str
    sha256: str
    temporary: Path
    ready: Future[None]


class FrameWriter:
    """Writes frames behind the back of whoever takes them.

    :meth:`put` starts to write a frame under a temporary name and returns at once, unless ``depth`` frames are on their
    way already: then it waits for the disk. :meth:`publish` waits for frames and gives them their names.

    Args:
        folder: Where frames go; must exist. Temporary files of an earlier writer are removed.
        depth: Number of frames that may be on their way.
    """

    def __init__(self, folder: Path, depth: int = 64) -> None:
        self._folder = folder
        self._room = threading.BoundedSemaphore(depth)
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="frames")
        for left in folder.glob(".*.tmp"):
            left.unlink()

    def put(self, name: str, levels: Levels) -> Written:
        """Begin to write a frame.

        Args:
            name: Name of its file.
            levels: (H, W) uint8 or uint16; must not change any more.
        """
        # The same bytes on every machine: little-endian, row after row.
        values = np.ascontiguousarray(levels.astype(levels.dtype.newbyteorder("<"), copy=False))
        header = npy_header(values)
        digest = hashlib.sha256(header)
        digest.update(values.data)
        temporary = self._folder / f".{name}.tmp"
        self._room.acquire()
        ready = self._pool.submit(self._write, temporary, header, values)
        return Written(name, digest.hexdigest(), temporary, ready)

    def publish(self, frames: Sequence[Written]) -> None:
        """Wait until frames are on the disk and have their names, replacing files that had them.

        Raises:
            SessionError: The disk is full or failing; frames that have not got their names leave nothing behind.
        """
        wait([frame.ready for frame in frames])
        try:
            for frame in frames:
                frame.ready.result()
            for frame in frames:
                os.replace(frame.temporary, self._folder / frame.name)
            sync_folder(self._folder)
        except OSError as error:
            self.discard(frames)
            raise SessionError(
                f"frames cannot be written to {self._folder}: {error}; make space, then resume the session."
            ) from error

    def discard(self, frames: Sequence[Written]) -> None:
        """Give frames up that have not got their names."""
        wait([frame.ready for frame in frames])
        for frame in frames:
            frame.temporary.unlink(missing_ok=True)

    def close(self) -> None:
        """Wait for what is on its way, and end; may be called again."""
        self._pool.shutdown()

    def _write(self, temporary: Path, header: bytes, values: Levels) -> None:
        try:
            with open(temporary, "xb", buffering=0) as stream:
                write_all(stream.fileno(), header)
                write_all(stream.fileno(), values.data.cast("B"))
                os.fsync(stream.fileno())
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        finally:
            self._room.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_frame(path: Path, sha256: str) -> Levels:
    """Read a frame, if it is the one that was written.

    Args:
        path: Its file.
        sha256: Hash that the file must have.

    Returns:
        (H, W) uint8 or uint16, read-only.

    Raises:
        SessionError: It is not there, or another one.
    """
    try:
        with open_own(path) as stream:
            data = stream.read()
    except OSError as error:
        raise SessionError(f"the frame {path} cannot be read: {error}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise SessionError(
            f"the frame {path} has SHA-256 {found[:16]}..., {sha256[:16]}... was written; use a copy of the session."
        )
    levels: Levels = load_array(io.BytesIO(data), f"the frame {path}")
    levels.setflags(write=False)
    return levels
