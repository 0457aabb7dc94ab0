"""Whatever happens while a file is written, its name stands for the old file, the new one, or none."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ground import files
from ground.files import TEMPORARY, write_atomic, write_new, writing

ROOT = Path(files.__file__).resolve().parents[1]


def _piecewise(path: Path, data: bytes, *, replace: bool) -> None:
    with writing(path, replace=replace) as temporary, open(temporary, "wb") as file:
        for byte in data:
            file.write(bytes([byte]))


def _piecewise_new(path: Path, data: bytes) -> None:
    _piecewise(path, data, replace=False)


def _piecewise_over(path: Path, data: bytes) -> None:
    _piecewise(path, data, replace=True)


Write = Callable[[Path, bytes], None]
NEW = [write_new, _piecewise_new]
OVER = [write_atomic, _piecewise_over]
DATA = bytes(range(256)) * 3


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("write", [*NEW, *OVER])
def test_the_whole_content_lies_under_the_name_and_nothing_beside_it(write: Write, tmp_path: Path) -> None:
    write(tmp_path / "a", DATA)
    assert (tmp_path / "a").read_bytes() == DATA
    assert _names(tmp_path) == ["a"]


@pytest.mark.parametrize("write", OVER)
def test_an_old_file_is_replaced_on_request_only(write: Write, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    write(tmp_path / "a", DATA)
    assert (tmp_path / "a").read_bytes() == DATA


@pytest.mark.parametrize("there", ["file", "folder", "dangling link"])
@pytest.mark.parametrize("write", NEW)
def test_nothing_that_exists_is_replaced(write: Write, there: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    if there == "file":
        path.write_bytes(b"old")
    elif there == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError, match="File exists") as caught:
        write(path, DATA)
    assert caught.value.filename == str(path)
    assert _names(tmp_path) == ["a"]
    assert there != "file" or path.read_bytes() == b"old"


def _no_hard_links(*args: Any) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_meanwhile_is_not_replaced(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:
        monkeypatch.setattr(os, "link", _no_hard_links)
    path = tmp_path / "a"
    with pytest.raises(FileExistsError, match="File exists") as caught, writing(path) as temporary:
        temporary.write_bytes(DATA)
        path.write_bytes(b"of somebody else")
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"of somebody else"
    assert _names(tmp_path) == ["a"]


@pytest.mark.parametrize("write", NEW)
def test_a_disk_without_hard_links_will_do(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", _no_hard_links)
    write(tmp_path / "a", DATA)
    assert (tmp_path / "a").read_bytes() == DATA
    assert _names(tmp_path) == ["a"]


def test_a_name_that_was_taken_is_given_back_if_it_cannot_be_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "link", _no_hard_links)
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="Input/output error") as caught:
        write_new(tmp_path / "a", DATA)
    assert caught.value.filename == str(tmp_path / "a")
    assert _names(tmp_path) == []


@pytest.mark.parametrize("old", [None, b"old"])
def test_an_error_or_interrupt_in_the_middle_leaves_what_was_there(old: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "a"
    if old is not None:
        path.write_bytes(old)
    for error in (ValueError("half"), KeyboardInterrupt("half")):
        with pytest.raises(type(error), match="half"), writing(path, replace=True) as temporary:
            temporary.write_bytes(b"half")
            raise error
    assert _names(tmp_path) == ([] if old is None else ["a"])
    assert old is None or path.read_bytes() == old


def test_errors_name_the_file_and_not_the_hidden_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "absent" / "a"
    for write in (write_atomic, write_new, _piecewise_new):
        with pytest.raises(FileNotFoundError, match="No such file") as caught:
            write(path, DATA)
        assert caught.value.filename == str(path)
    with pytest.raises(FileNotFoundError, match="No such file") as caught, writing(tmp_path / "b"):
        pass  # nothing was written
    assert caught.value.filename == str(tmp_path / "b")
    with pytest.raises(FileNotFoundError, match="No such file") as caught, writing(tmp_path / "b"):
        (tmp_path / "source").read_bytes()
    assert caught.value.filename == str(tmp_path / "source"), "an error about another file keeps its name"


def test_the_data_reaches_the_disk_before_the_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, bool]] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        what = "folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "data"
        seen.append((what, (tmp_path / "a").exists()))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    for write in (write_atomic, write_new):
        write(tmp_path / "a", DATA)
        (tmp_path / "a").unlink()
    assert seen == [("data", False), ("folder", True)] * 2


def test_a_folder_that_cannot_be_flushed_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync

    def fsync(handle: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomic(tmp_path / "a", DATA)
    assert (tmp_path / "a").read_bytes() == DATA


_VICTIM = """
import os, signal, sys
from pathlib import Path
from ground import files

def killed(*args):
    os.kill(os.getpid(), signal.SIGKILL)

setattr(files.os, sys.argv[2], killed)
getattr(files, sys.argv[3])(Path(sys.argv[1]), b"new" * 1000)
"""


@pytest.mark.parametrize(
    ("step", "write"), [("fsync", "write_atomic"), ("replace", "write_atomic"), ("link", "write_new")]
)
def test_a_kill_leaves_the_old_file_or_none_and_a_temporary_that_can_be_found(
    step: str, write: str, tmp_path: Path
) -> None:
    path = tmp_path / "a"
    if write == "write_atomic":
        path.write_bytes(b"old")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", _VICTIM, str(path), step, write]
    assert subprocess.run(words, env=environment, timeout=60).returncode == -signal.SIGKILL
    (left,) = tmp_path.glob(TEMPORARY)
    assert _names(tmp_path) == sorted([left.name, *(["a"] if write == "write_atomic" else [])])
    assert write == "write_new" or path.read_bytes() == b"old"


def test_importing_the_ground_does_not_load_torch() -> None:
    code = (
        "import pkgutil, importlib, sys, ground\n"
        "for found in pkgutil.iter_modules(ground.__path__): importlib.import_module(f'ground.{found.name}')\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_what_a_library_says_without_a_number_is_not_lost(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="cannot write mode F as PNG"), files.writing(tmp_path / "picture.png"):
        raise OSError("cannot write mode F as PNG")
    assert list(tmp_path.iterdir()) == []
