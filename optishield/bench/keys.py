"""Keys that act while a session runs, without Enter."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator, Mapping


@contextlib.contextmanager
def keys(actions: Mapping[str, Callable[[], None]]) -> Iterator[bool]:
    """Call what belongs to a key as soon as it is pressed; Ctrl-C stays a signal.

    Nothing is read where standard input is no terminal, or that of another job.

    Args:
        actions: What to call for each character, from a thread of its own.

    Yields:
        Whether there are keys.
    """
    if not (sys.stdin.isatty() and _in_front(sys.stdin.fileno())):
        yield False
        return
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    ended, end = os.pipe()

    def listen() -> None:
        while ended not in select.select([terminal, ended], [], [])[0]:
            pressed = os.read(terminal, 1).decode("ascii", "replace")
            if not pressed:
                return
            actions.get(pressed.lower(), lambda: None)()

    def listen_until_hung_up() -> None:
        with contextlib.suppress(OSError):
            listen()

    listener = threading.Thread(target=listen_until_hung_up, daemon=True)
    try:
        tty.setcbreak(terminal)
        listener.start()
        yield True
    finally:
        os.write(end, b"\0")
        listener.join()
        for handle in (ended, end):
            os.close(handle)
        with contextlib.suppress(termios.error):
            termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _in_front(terminal: int) -> bool:
    """Whether this job may change the terminal without being stopped for it."""
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        # It controls no job of this session, so nothing is stopped.
        return True
