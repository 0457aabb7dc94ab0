"""Kills a session at every line of its journal and at every file that gets its name, resumes it, and prints what came
out. A process of its own, because only one without threads may fork."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from firmware_bridge.session import acquisition
from firmware_bridge.session.files import has_sha256
from firmware_bridge.session.folder import JOURNAL, replay
from firmware_bridge.session.journal import read_journal
from firmware_bridge.session.run import capture
from firmware_bridge.session.seal import verify
from tests.firmware_bridge.session_doubles import World, begin, session, write_sources

SOURCES = ("bench.toml", "plan.toml", "stack.npy")
_write, _replace = os.write, os.replace


def work(folder: Path) -> None:
    """Begin or go on, and seal."""
    world = World()
    made = folder / "session"
    if not made.exists():
        begin(world, folder)
    capture(session(world, made))


def kill_at_line(line: int, torn: bool) -> Callable[[], None]:
    """Die when line ``line`` is written: after it, or in the middle of it."""
    count = 0

    def write(handle: int, data: bytes) -> int:
        nonlocal count
        if not os.readlink(f"/proc/self/fd/{handle}").endswith(JOURNAL):
            return _write(handle, data)
        lines = bytes(data).splitlines(keepends=True)
        if count + len(lines) > line:
            wanted = lines[line - count]
            _write(handle, b"".join(lines[: line - count]) + (wanted[: len(wanted) // 2] if torn else wanted))
            os.kill(os.getpid(), signal.SIGKILL)
        count += len(lines)
        return _write(handle, data)

    return lambda: setattr(os, "write", write)


def kill_at_name(number: int) -> Callable[[], None]:
    """Die just after file ``number`` has got its name."""
    count = 0

    def replace(source: str, target: str) -> None:
        nonlocal count
        _replace(source, target)
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1

    return lambda: setattr(os, "replace", replace)


def child(act: Callable[[], None]) -> int:
    """Do something in a child, and tell how it ended: 0, or the signal as a negative number."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            act()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main(folder: Path) -> None:
    """Print, for each kill, how the child ended, how the resumed one did, and whether the manifest is the same."""
    acquisition.BATCH = 4
    write_sources(folder)
    child(lambda: work(folder))
    manifest = (folder / "session" / "manifest.json").read_bytes()
    lines = (folder / "session" / JOURNAL).read_bytes().count(b"\n")
    kills = [
        (f"{kind} line {line}", kill_at_line(line, kind == "torn"))
        for kind in ("after", "torn")
        for line in range(lines)
    ]
    # The frames, the settings and the manifest.
    names = manifest.count(b'"key"') + 2
    kills += [(f"name {number}", kill_at_name(number)) for number in range(names)]
    found = []
    for name, prepare in kills:
        shutil.rmtree(folder / "session")

        def killed(prepare: Callable[[], None] = prepare) -> None:
            prepare()
            work(folder)

        ended, made = child(killed), folder / "session"
        honest = not made.exists() or all(
            has_sha256(made / record.file, record.sha256) for record in replay(read_journal(made / JOURNAL)[0]).values()
        )
        resumed = child(lambda: work(folder))
        same = (made / "manifest.json").exists() and (made / "manifest.json").read_bytes() == manifest
        whole = honest and same and all(check.passed for check in verify(made)) and not list(folder.rglob(".*"))
        found.append({"kill": name, "ended": ended, "resumed": resumed, "same": same, "whole": whole})
    sys.stdout.write(json.dumps({"lines": lines, "names": names, "kills": found}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
