"""A session at the terminal: its bar, its keys, and what is said when it ends early."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from firmware_bridge.errors import BridgeError
from firmware_bridge.session.bench import Driver
from firmware_bridge.session.folder import JOURNAL, read_header, replay
from firmware_bridge.session.journal import read_journal
from firmware_bridge.session.run import Session, capture
from firmware_bridge.session.seal import Sealed
from optishield.bench.keys import keys
from optishield.console import say
from optishield.progress import choose_progress


def take(folder: Path, drivers: Mapping[str, Driver], operator: str, *, quiet: bool) -> Sealed:
    """Take the frames that are missing from a session, and seal it.

    The bar counts frames that are on the disk, so that it promises no more than is there after a power cut.

    Args:
        folder: Folder of the session.
        drivers: What each name of a driver in the file of its bench means.
        operator: Name of the person who takes the responsibility.
        quiet: Whether nothing is shown.
    """
    lines, _ = read_journal(folder / JOURNAL)
    header = read_header(folder, lines)
    missing = len(header.shots()) - len(replay(lines))
    progress = choose_progress(quiet=quiet)
    try:
        with progress.stage(f"capturing, origin {header.origin}, frames on the disk", missing) as stage:
            session = Session(folder, drivers, operator, kept=stage.advance, told=progress.note)
            actions = {"p": session.pause, "r": session.proceed, "\n": session.proceed, "q": session.stop}
            with keys(actions) as there_are_keys:
                if there_are_keys:
                    progress.note("keys: p pauses, r or Enter goes on, q stops")
                return capture(session)
    except KeyboardInterrupt as interrupt:
        why = str(interrupt) or "interrupted"
        raise KeyboardInterrupt(f"{why}; {_go_on(folder, operator)}") from interrupt
    except BridgeError:
        say(_go_on(folder, operator))
        raise


def _go_on(folder: Path, operator: str) -> str:
    return f"what was taken is kept; continue with: optishield bench resume {folder} --operator {operator!r}"
