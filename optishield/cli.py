"""The way into the command line. Nothing heavy is imported above, so that Ctrl-C is heard from the start."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from types import FrameType

# As in ExitCode, which is not loaded yet where this is needed.
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code (``optishield.errors.ExitCode``).

    Mistakes of the user, and Ctrl-C, end in one line on stderr; ``--debug`` adds the traceback of an error.

    Args:
        arguments: The words after the program's name; None takes ``sys.argv``.
    """
    try:
        with _interrupted_at_once():
            from optishield.commands.root import run
        return run(arguments)
    except KeyboardInterrupt:
        _say_interrupted()
        return _INTERRUPTED


@contextlib.contextmanager
def _interrupted_at_once() -> Iterator[None]:
    """Let Ctrl-C end the process without a traceback, wherever in an import it falls: nothing has been begun yet."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        # Ignored, as in the background of a shell, or the business of a program that calls this one.
        yield
        return
    try:
        signal.signal(signal.SIGINT, _leave)
    except ValueError:
        # Not the main thread, which alone may change what a signal does.
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _leave(signum: int, frame: FrameType | None) -> None:
    _say_interrupted()
    os._exit(_INTERRUPTED)


def _say_interrupted() -> None:
    # Not by way of a stream, which the import of a module may hold at this moment.
    with contextlib.suppress(OSError):
        os.write(2, b"optishield: interrupted\n")
