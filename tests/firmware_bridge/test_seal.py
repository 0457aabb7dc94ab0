from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from firmware_bridge.errors import SessionError
from firmware_bridge.session import export
from firmware_bridge.session.files import canonical_json, sha256_hex
from firmware_bridge.session.folder import FrameRecord
from firmware_bridge.session.journal import Entry, Journal, Line
from firmware_bridge.session.run import capture
from firmware_bridge.session.seal import Sealed, load_sealed, merkle_root, seal, verify
from tests.firmware_bridge.session_doubles import World, begin, session, write_sources


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "session"))


# Roots of the tree of Certificate Transparency over its eight test leaves, from the test data of its reference
# implementation.
LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = {
    0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    4: "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


@pytest.mark.parametrize(("count", "root"), ROOTS.items())
def test_merkle_root_of_published_leaves(count: int, root: str) -> None:
    assert merkle_root([bytes.fromhex(leaf) for leaf in LEAVES[:count]]) == root


def test_canonical_json_by_hand() -> None:
    value = {"b": [1, 2.5, None, True], "a": "ä\n", "c": {"y": 1e-7, "x": 0.1}}
    assert canonical_json(value) == '{"a":"ä\\n","b":[1,2.5,null,true],"c":{"x":0.1,"y":1e-07}}'.encode()
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))


def test_sealed_sessions_verify_and_are_read(folder: Path) -> None:
    checks = verify(folder)
    assert [check.name for check in checks] == [
        "sealed",
        "journal",
        "seal",
        "frames of the plan",
        "origin",
        "frames",
        "patterns",
        "nothing else",
    ]
    assert all(check.passed for check in checks)
    sealed = load_sealed(folder)
    assert sealed.origin == "simulated"
    assert sealed.sha256 == sha256_hex((folder / "manifest.json").read_bytes())
    for record in sealed.manifest.frames:
        assert np.array_equal(sealed.read(record), np.load(folder / record.file))
    with pytest.raises(ValueError, match="read-only"):
        sealed.read(record)[0, 0] = 1


def test_sealing_again_changes_nothing(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    seal(folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_nothing_of_time_or_counts_is_sealed(folder: Path) -> None:
    text = (folder / "manifest.json").read_text()
    assert not [word for word in ("unix_s", "frame_id", "time_s", 'temperature_c":3', "Operator") if word in text]


def test_unsealed_sessions_are_refused(tmp_path: Path) -> None:
    write_sources(tmp_path)
    world = World()
    made = begin(world, tmp_path)
    with pytest.raises(SessionError, match="it has no manifest, so it is not sealed; resume it, then seal it"):
        load_sealed(made)
    with pytest.raises(SessionError, match=r"14 of 14 frames of .* are missing, the first is 000000-sentinel"):
        seal(made)
    with session(world, made) as running:
        running.arm()
        running.run()
        with pytest.raises(SessionError, match="another process works on"):
            seal(made)
    with pytest.raises(SessionError, match="not sealed"):
        load_sealed(made)


def rewrite(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))


@pytest.mark.parametrize(
    ("file", "old", "new", "check", "reason"),
    [
        ("manifest.json", b'"origin":"simulated"', b'"origin":"bench"', "seal", "does not end with the hash"),
        ("manifest.json", b'"light_share":0.4', b'"light_share":0.5', "seal", "does not end with the hash"),
        ("manifest.json", b"{", b"[", "journal", "is not as it must be"),
        ("journal.jsonl", b"DONE", b"VOID", "journal", "does not continue the chain"),
        ("session.json", b"cal-7", b"cal-8", "journal", "is not what the journal began with"),
        ("journal.jsonl", b'"kind":"SEAL"', b'"kind":"DONE"', "journal", "does not continue the chain"),
    ],
)
def test_changed_text_is_found(folder: Path, file: str, old: bytes, new: bytes, check: str, reason: str) -> None:
    rewrite(folder / file, old, new)
    last = verify(folder)[-1]
    assert (last.name, last.passed) == (check, False)
    assert reason in last.reason
    with pytest.raises(SessionError, match=f"cannot be used: .*{reason}"):
        load_sealed(folder)


def test_a_forged_manifest_with_a_forged_seal_is_found(folder: Path) -> None:
    # A chain has no key: whoever rewrites the last line and the manifest must still agree with every DONE.
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["frames"][4]["origin"] = "bench"
    manifest["merkle_root"] = merkle_root([canonical_json(frame) for frame in manifest["frames"]])
    forged = canonical_json(manifest) + b"\n"
    lines = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    last = json.loads(lines[-1])
    line = Line(last["number"], Entry.seal, {"manifest": sha256_hex(forged)}, last["unix_s"], last["previous"])
    (folder / "journal.jsonl").write_bytes(b"".join(lines[:-1]) + line.as_bytes())
    (folder / "manifest.json").write_bytes(forged)
    with pytest.raises(SessionError, match="manifest, plan and journal name different frames"):
        load_sealed(folder)


def test_lines_after_the_seal_are_found(folder: Path) -> None:
    with Journal(folder / "journal.jsonl") as journal:
        journal.add(Entry.void, [{"keys": [], "reason": "late"}])
    with pytest.raises(SessionError, match="does not end with the hash of this manifest"):
        load_sealed(folder)


@pytest.mark.parametrize("where", ["frames/000003.npy", "patterns"])
def test_changed_and_missing_files_are_found(folder: Path, where: str) -> None:
    path = folder / where
    path = next(path.iterdir()) if path.is_dir() else path
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    name = where.split("/")[0]
    assert [check.name for check in verify(folder) if not check.passed] == [name]
    path.unlink()
    assert [check.name for check in verify(folder) if not check.passed] == [name]


def test_a_changed_frame_is_not_read(folder: Path) -> None:
    (folder / "frames/000003.npy").write_bytes(b"rot")
    sealed = load_sealed(folder)
    with pytest.raises(SessionError, match=r"000003.npy has SHA-256"):
        sealed.read(sealed.manifest.frames[3])


def test_frames_that_nobody_planned_are_found(folder: Path) -> None:
    shutil.copy(folder / "frames/000003.npy", folder / "frames/000099.npy")
    assert [check.reason for check in verify(folder) if not check.passed] == [
        "1 files belong to no frame, the first is frames/000099.npy"
    ]


def test_nexus_is_read_again(folder: Path, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed; install the extra 'export'")
    sealed = load_sealed(folder)
    export.to_nexus(sealed, tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as file:
        assert file.attrs["NX_class"] == "NXroot"
        entry = file[file.attrs["default"]]
        data = entry[entry.attrs["default"]]
        stack = data[data.attrs["signal"]][:]
        assert stack.dtype == np.uint16
        assert entry["origin"].asstr()[()] == "simulated"
        assert entry["manifest"].asstr()[()].encode() == (folder / "manifest.json").read_bytes()
        assert entry["manifest_sha256"].asstr()[()] == sealed.sha256
        times = entry["instrument/detector/count_time"]
        assert times.attrs["units"] == "s"
        for record in sealed.manifest.frames:
            assert np.array_equal(stack[record.index], np.load(folder / record.file))
            assert times[record.index] == record.settings.exposure_s
            assert entry["frames/key"].asstr()[record.index] == record.key
            assert entry["frames/pattern_id"][record.index] == record.pattern_id
            assert entry["frames/light_share"][record.index] == record.light_share
            assert entry["frames/position"][record.index] == record.position_m


def test_tiff_is_read_again(folder: Path, tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed; install the extra 'export'")
    sealed = load_sealed(folder)
    export.to_tiff(sealed, tmp_path / "out.tif")
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert len(file.pages) == len(sealed.manifest.frames)
        for page, record in zip(file.pages, sealed.manifest.frames, strict=True):
            described = json.loads(page.description)
            assert described.pop("manifest_sha256", sealed.sha256) == sealed.sha256
            assert described == record.model_dump(mode="json")
            assert np.array_equal(page.asarray(), np.load(folder / record.file))


@pytest.mark.parametrize(("write", "name"), [(export.to_nexus, "h5py"), (export.to_tiff, "tifffile")])
def test_exports_are_whole_or_absent(
    folder: Path, tmp_path: Path, write: Callable[[Sealed, Path], object], name: str
) -> None:
    pytest.importorskip(name, reason=f"{name} is not installed; install the extra 'export'")
    sealed = load_sealed(folder)
    (folder / sealed.manifest.frames[9].file).write_bytes(b"rot")
    with pytest.raises(SessionError, match=r"000009.npy has SHA-256"):
        write(sealed, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["session"]
    (tmp_path / "out").write_bytes(b"mine")
    with pytest.raises(SessionError, match="out exists already; name another file"):
        write(sealed, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"mine"


@pytest.mark.parametrize(("write", "name"), [(export.to_nexus, "h5py"), (export.to_tiff, "tifffile")])
def test_an_export_never_replaces_a_file_that_appears_meanwhile(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Sealed, Path], object], name: str
) -> None:
    pytest.importorskip(name, reason=f"{name} is not installed; install the extra 'export'")
    sealed, read = load_sealed(folder), Sealed.read

    def while_somebody_writes(self: Sealed, record: FrameRecord) -> np.ndarray:
        (tmp_path / "out").write_bytes(b"mine")
        return read(self, record)

    monkeypatch.setattr(Sealed, "read", while_somebody_writes)
    with pytest.raises(SessionError, match="out exists already; name another file"):
        write(sealed, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "session"]


def test_sealing_clears_what_a_killed_process_left(tmp_path: Path) -> None:
    write_sources(tmp_path)
    world = World()
    made = begin(world, tmp_path)
    left = made / ".0123456789ab.tmp"
    left.write_bytes(b"half a manifest")
    capture(session(world, made))
    assert not left.exists()


@pytest.mark.parametrize(("write", "name"), [(export.to_nexus, "h5py"), (export.to_tiff, "tifffile")])
def test_a_missing_extra_is_named(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Sealed, Path], object], name: str
) -> None:
    real = importlib.import_module

    def missing(wanted: str) -> ModuleType:
        if wanted == name:
            raise ImportError(wanted)
        return real(wanted)

    monkeypatch.setattr(importlib, "import_module", missing)
    sealed: Sealed = load_sealed(original)
    with pytest.raises(SessionError, match=rf"needs {name}; install the extra: pip install 'optishield\[export\]'"):
        write(sealed, tmp_path / "out")
