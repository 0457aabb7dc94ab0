"""``optishield cache``: what is kept between runs, and how to remove it."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from optishield.console import Json, print_json, print_pairs, show, show_help
from optishield.errors import UsageError

cache_app = typer.Typer(help="What is kept between runs: show, prune.", callback=show_help, invoke_without_command=True)

#: Folders of the cache whose files are made again when they are needed. Weight files are not among them: they were
#: fetched, perhaps on a machine without a network since.
REMADE = ("evaluation", "faces", "photographs", "protectors")
UNFINISHED = "unfinished"
_DAY_S = 86_400.0
#: A younger unfinished file may belong to a process that is still writing it.
_UNFINISHED_S = 3_600.0


@dataclass(frozen=True)
class Entry:
    """One file of the cache.

    Attributes:
        path: The file.
        kind: Folder and kind of result, for example ``evaluation/attack``.
        size_bytes: Its size.
        used_s: When it was written or last used, in seconds since 1970.
    """

    path: Path
    kind: str
    size_bytes: int
    used_s: float


@dataclass(frozen=True)
class Sum:
    """All entries of one kind.

    Attributes:
        kind: See :class:`Entry`.
        entries: How many there are.
        size_bytes: Their size together.
        oldest_days: Days since the least recently used one was used.
        newest_days: Days since the most recently used one was used.
    """

    kind: str
    entries: int
    size_bytes: int
    oldest_days: float
    newest_days: float


@cache_app.command("show")
def cache_show(json_output: Json = False) -> None:
    """Size and age of what is kept, by kind."""
    folder = _folder()
    sums = summed(entries(folder), time.time())
    total = sum(each.size_bytes for each in sums)
    if json_output:
        kinds = [
            {
                "kind": each.kind, "entries": each.entries, "bytes": each.size_bytes,
                "oldest_days": round(each.oldest_days, 3), "newest_days": round(each.newest_days, 3),
            }
            for each in sums
        ]  # fmt: skip
        print_json({"folder": folder, "bytes": total, "entries": sum(each.entries for each in sums), "kinds": kinds})
        return
    show(f"{folder}: {sum(each.entries for each in sums)} entries, {readable(total)}")
    if sums:
        print_pairs([(each.kind, _line(each)) for each in sums])


@cache_app.command("prune")
def cache_prune(
    older_than: Annotated[
        float | None, typer.Option("--older-than", metavar="DAYS", help="Remove what was not used for so many days.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove everything that can be made again.")] = False,
    json_output: Json = False,
) -> None:
    """Remove results and rendered faces; they are made again when they are needed. Weight files stay."""
    if (older_than is None) != everything:
        raise UsageError("say what to remove: either --older-than DAYS or --all.")
    if older_than is not None and not 0 <= older_than < float("inf"):
        raise UsageError(f"--older-than {older_than:g} is no number of days; give 0 or more.")
    removed, kept = prune(entries(_folder()), time.time(), 0.0 if older_than is None else older_than)
    freed = sum(entry.size_bytes for entry in removed)
    if json_output:
        print_json({
            "removed": len(removed), "bytes": freed, "not_removed": {str(path): reason for path, reason in kept},
        })  # fmt: skip
    else:
        show(f"{len(removed)} entries removed, {readable(freed)} freed")
        for path, reason in kept:
            show(f"{path} could not be removed: {reason}")


def entries(folder: Path) -> list[Entry]:
    """All files that a run can make again, below the folder of the cache. Links are neither followed nor listed."""
    found = []
    for name in REMADE:
        if (folder / name).is_symlink() or not (folder / name).is_dir():
            continue
        for path in sorted((folder / name).iterdir()):
            try:
                facts = path.lstat()
            except OSError:
                continue  # another process removed it meanwhile
            if stat.S_ISREG(facts.st_mode):
                kind = UNFINISHED if path.name.startswith(".") else path.name.rpartition("-")[0] or "other"
                found.append(Entry(path, f"{name}/{kind}", facts.st_size, facts.st_mtime))
    return found


def summed(found: Iterable[Entry], now_s: float) -> list[Sum]:
    """The entries by kind, in alphabetical order."""
    kinds: dict[str, list[Entry]] = {}
    for entry in found:
        kinds.setdefault(entry.kind, []).append(entry)
    return [
        Sum(
            kind,
            len(group),
            sum(entry.size_bytes for entry in group),
            _days(now_s, min(entry.used_s for entry in group)),
            _days(now_s, max(entry.used_s for entry in group)),
        )
        for kind, group in sorted(kinds.items())
    ]


def prune(found: Sequence[Entry], now_s: float, older_than_days: float) -> tuple[list[Entry], list[tuple[Path, str]]]:
    """Remove entries that were not used for a number of days.

    Unfinished files of an hour or less stay, for a process may be writing them.

    Args:
        found: Entries of the cache.
        now_s: Seconds since 1970.
        older_than_days: Least age; 0 removes all.

    Returns:
        The entries that are gone, and those that could not be removed with the reason.
    """
    removed, kept = [], []
    for entry in found:
        least_s = older_than_days * _DAY_S
        if entry.kind.endswith(f"/{UNFINISHED}"):
            least_s = max(least_s, _UNFINISHED_S)
        if least_s > 0 and now_s - entry.used_s < least_s:
            continue
        try:
            entry.path.unlink(missing_ok=True)
        except OSError as error:
            kept.append((entry.path, error.strerror or type(error).__name__))
        else:
            removed.append(entry)
    return removed, kept


def readable(size_bytes: int) -> str:
    """A size in the unit that leaves one to three digits before the point."""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _line(each: Sum) -> str:
    age = f"used {each.newest_days:.1f} to {each.oldest_days:.1f} days ago"
    return f"{each.entries} entries, {readable(each.size_bytes)}, {age}"


def _days(now_s: float, then_s: float) -> float:
    return max(0.0, (now_s - then_s) / _DAY_S)


def _folder() -> Path:
    from faces.files import cache_folder

    return cache_folder(".")
