"""A camera as files: what a training run hands on, and whoever uses its camera reads.

``camera.json`` holds the geometry, the exposure and the SHA-256 of the arrays beside it: ``psf.npy``, the point-spread
function (3, K, K), ``mask_height_m.npy``, the relief (P, P) of the mask in metres, and, where the camera has a grey
mask in place of a field stop, ``grey_mask.npy``, the transmission (n, n) of its pixels; all [y, x].
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ground.jsonable import json_bytes
from optics import OpticsError
from sim.camera import EncoderCamera, Exposure, FixedPsf, Geometry
from sim.errors import SimError
from sim.grey_mask import GreyMask

#: The layouts of ``camera.json`` that are written and read here: without and with a grey mask.
FORMAT, FORMAT_GREY = 1, 2
CAMERA, PSF, HEIGHT, GREY = "camera.json", "psf.npy", "mask_height_m.npy", "grey_mask.npy"


@dataclass(frozen=True)
class StoredCamera:
    """A camera that was handed on.

    Attributes:
        geometry: Lens and window.
        exposure: Sensor and exposure.
        psf: (3, K, K) shares of the light, as they were when the camera was stored.
        mask_height_m: (P, P) height of the mask in metres.
        grey: (n, n) transmission of each pixel, or None.
    """

    geometry: Geometry
    exposure: Exposure
    psf: Tensor
    mask_height_m: Tensor
    grey: Tensor | None = None

    @property
    def camera(self) -> EncoderCamera:
        """Scene radiance to frames, with the stored point-spread function.

        Raises:
            OpticsError: If the sensor does not fit the geometry.
        """
        grey = None if self.grey is None else GreyMask(torch.logit(self.grey.float(), eps=1e-6))
        return EncoderCamera(FixedPsf(self.psf), self.exposure, self.geometry.scene_px, grey).eval()

    def files(self) -> dict[str, bytes]:
        """Names and contents of the files; ``camera.json`` comes last, since it vouches for the others."""
        arrays = {PSF: _npy(self.psf), HEIGHT: _npy(self.mask_height_m)}
        if self.grey is not None:
            arrays[GREY] = _npy(self.grey)
        described = {
            "format": FORMAT if self.grey is None else FORMAT_GREY,
            "geometry": self.geometry.to_json(),
            "exposure": self.exposure.to_json(),
            "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in arrays.items()},
        }
        return {**arrays, CAMERA: json_bytes(described, CAMERA)}

    def save(self, write: Callable[[str, bytes], object]) -> None:
        """Hand every file to a writer, for example :meth:`ground.protocols.RunStore.write_bytes`."""
        for name, data in self.files().items():
            write(name, data)

    @property
    def content_hash(self) -> str:
        """SHA-256 of ``camera.json``, which holds the hashes of the other files."""
        return hashlib.sha256(self.files()[CAMERA]).hexdigest()

    @classmethod
    def load(cls, folder: Path) -> StoredCamera:
        """Read the files of a folder and check that they belong together.

        Raises:
            SimError: If a file is missing, damaged, of another format, or not the one that was stored.
        """
        text = _read(folder / CAMERA)
        try:
            stored = json.loads(text)
            if stored["format"] not in (FORMAT, FORMAT_GREY):
                raise SimError(
                    f"{folder / CAMERA} has format {stored['format']}, this version reads {FORMAT} and {FORMAT_GREY}; "
                    "train again, or use the version of the program that made it."
                )
            geometry = Geometry.from_json(stored["geometry"])
            exposure = Exposure.from_json(stored["exposure"])
            needed = (PSF, HEIGHT) if stored["format"] == FORMAT else (PSF, HEIGHT, GREY)
            hashes = {name: str(stored["sha256"][name]) for name in needed}
        except (KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise SimError(f"{folder / CAMERA} is damaged ({error!r}); name another run, or train again.") from error
        arrays = {name: _array(folder / name, digest) for name, digest in hashes.items()}
        psf, height, grey = arrays[PSF], arrays[HEIGHT], arrays.get(GREY)
        if psf.ndim != 3 or len(psf) != 3 or psf.shape[1] != psf.shape[2] or height.ndim != 2:
            raise SimError(
                f"{folder} holds arrays of shape {tuple(psf.shape)} and {tuple(height.shape)} where (3, K, K) and "
                "(P, P) are needed; name another run, or train again."
            )
        camera = cls(geometry, exposure, psf.float(), height, grey)
        try:
            _ = camera.camera
        except OpticsError as error:
            raise SimError(f"{folder / CAMERA} does not describe a camera: {error}") from error
        return camera


def _npy(values: Tensor) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values.detach().cpu().numpy(), allow_pickle=False)
    return buffer.getvalue()


def _array(path: Path, digest: str) -> Tensor:
    content = _read(path)
    if hashlib.sha256(content).hexdigest() != digest:
        raise SimError(
            f"{path} is not the file that the run wrote (its SHA-256 differs from the one in {CAMERA}); restore it, "
            "name another run, or train again."
        )
    try:
        return torch.from_numpy(np.load(io.BytesIO(content), allow_pickle=False))
    except (ValueError, TypeError, EOFError) as error:
        raise SimError(f"{path} is no array of numbers ({error}); name another run, or train again.") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SimError(
            f"{path} cannot be read ({error.strerror}); a finished run of this version has it: name another run, or "
            "train again."
        ) from error
