"""docs/bench.md beside the program that it describes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from optishield.bench.drivers import all_drivers
from optishield.bench.example import FILES
from optishield.cli import main
from optishield.commands.bench import bench_app

DOCUMENT = (Path(__file__).resolve().parents[3] / "docs" / "bench.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FILES)
def test_the_document_shows_the_files_that_init_writes(name: str) -> None:
    found = re.search(rf"<!-- {re.escape(name)} -->\n```toml\n(.*?)```", DOCUMENT, re.S)
    assert found is not None and found.group(1) == FILES[name]


def test_the_document_lists_every_command() -> None:
    listed = re.findall(r"^\| `([a-z]+)[ `\[]", DOCUMENT, re.M)
    assert {command.name for command in bench_app.registered_commands} <= set(listed)


def test_the_document_lists_every_driver_and_its_options() -> None:
    rows = dict(re.findall(r"^\| (`[a-z:/-]+`(?:, `[a-z:/-]+`)*) \| (.*) \|$", DOCUMENT.split("| driver |")[1], re.M))
    told = {name.strip("`"): text for names, text in rows.items() for name in names.split(", ")}
    assert told.keys() == all_drivers().keys()
    for name, driver in all_drivers().items():
        for model in driver.options.values():
            assert all(f"`{option}`" in told[name] for option in model.model_fields), name


def test_the_first_commands_run_one_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tifffile", reason="tifffile is not installed; install the extra 'export'")
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```sh\n(.*?)```", DOCUMENT, re.S)
    for line in block.splitlines():
        assert main(shlex.split(line)[1:]) == 0, line
    assert (tmp_path / "table" / "frames.tif").exists()
