"""Photographs cut to square frames around a face, with its points; kept between runs under the hash of the file."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from faces import weights
from faces.detection import Detection, FaceDetector, decode_image, turned
from faces.errors import FacesError
from faces.framing import Framing, crop_face, fit
from faces.samples import five_points
from faces.truth import DisagreementError, LandmarkTruth
from ground.files import write_atomic

#: A face of which the detector saw another roll at first, by so many degrees, is refused.
MOST_TURNED_DEG = 30.0

#: Landmarks of the iBUG order that a five-point detector delivers: nose tip and mouth corners.
KNOWN_LANDMARKS = {30: 2, 48: 3, 54: 4}

#: Raised whenever the same photograph gives another frame or other points.
_VERSION = 2


@dataclass(frozen=True)
class Framed:
    """One photograph in its frame.

    Attributes:
        image: (S, S, 3) uint8, sRGB-encoded.
        points5: (5, 2) float32 pixels of the frame: eye centres, nose tip, mouth corners.
        landmarks: (68, 2) float32 pixels of the frame; NaN where they are not known.
        padding: Share of the frame that lies outside the photograph and is black.
        apart: How far two landmark networks put the five points apart; NaN without them.
    """

    image: NDArray[np.uint8]
    points5: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    padding: float
    apart: float


class Framer:
    """Finds faces, marks them and cuts them out.

    Args:
        detector: The face detector.
        truth: Two networks that mark all 68 landmarks; None: the points of the detector alone.
        framing: Size and place of faces in their frames.
        size: Side of the frames in pixels.
        cache: Folder in which results are kept, those of refused photographs among them; None: nowhere.
    """

    def __init__(
        self, detector: FaceDetector, truth: LandmarkTruth | None, framing: Framing, size: int, cache: Path | None
    ) -> None:
        self.detector, self.truth, self.framing, self.size, self.cache = detector, truth, framing, size, cache
        settings = [
            _VERSION, size, framing.mean, framing.turned, framing.axes, weights.info("yunet").sha256,
            None if truth is None else truth.key,
        ]  # fmt: skip
        self._settings = json.dumps(settings).encode()

    def framed(self, file: Path, data: bytes) -> Framed:
        """The frame of a photograph.

        Args:
            file: What it is called in errors.
            data: Content of the file.

        Raises:
            FacesError: It cannot be read or used; caused by a :class:`faces.truth.DisagreementError` where two networks
                disagree.
        """
        kept = None
        if self.cache is not None:
            kept = self.cache / f"photo-{hashlib.sha256(self._settings + data).hexdigest()[:40]}.safetensors"
            found = _read(kept)
            if found is not None:
                return _or_raise(file, found)
        image = decode_image(data, file)
        found = self._made(image)
        if kept is not None:
            # What is kept shows faces: others on this machine have no business there.
            kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomic(kept, _packed(found))
        return _or_raise(file, found)

    def _made(self, image: NDArray[np.uint8]) -> Framed | FacesError:
        try:
            return self._cut(image)
        except FacesError as error:
            return error

    def _cut(self, image: NDArray[np.uint8]) -> Framed:
        seen = self.detector.detect(image)
        if not seen:
            raise FacesError("no face was found; take a photograph that shows the face from the front")
        face = _central(seen, image)
        settled = self.detector.settle(image, face)
        if turned(settled, face) > MOST_TURNED_DEG:
            raise FacesError(
                f"the face is turned by {settled.roll_deg:.0f} degrees, and the detector puts its eyes and mouth at "
                "wrong places; turn the photograph upright"
            )
        if self.truth is None:
            # The pixels decide what is drawn, so that a copy under another name is the same picture.
            place = self.framing.draw(face.points5, image.tobytes())
            frame, inner, padding = crop_face(image, face.points5, self.size, place)
            landmarks = np.full((68, 2), math.nan, np.float32)
            landmarks[list(KNOWN_LANDMARKS)] = inner[list(KNOWN_LANDMARKS.values())]
            return Framed(frame, inner, landmarks, padding, math.nan)
        marked = self.truth.mark(image, face.points5)
        points5 = five_points(torch.from_numpy(marked.landmarks)).numpy()
        place = self.framing.draw(points5, image.tobytes())
        frame, inner, padding = crop_face(image, points5, self.size, place)
        scale, shift = fit(points5, self.size, place)
        landmarks = (marked.landmarks * scale + shift).astype(np.float32)
        return Framed(frame, inner, landmarks, padding, marked.apart)


def _central(found: list[Detection], image: NDArray[np.uint8]) -> Detection:
    """The largest face that covers the middle of the photograph, else the largest."""
    middle = np.array([image.shape[1], image.shape[0]]) / 2
    for face in found:
        if bool((np.abs(face.box[:2] + face.box[2:] / 2 - middle) <= face.box[2:] / 2).all()):
            return face
    return found[0]


def _or_raise(file: Path, found: Framed | FacesError) -> Framed:
    if isinstance(found, FacesError):
        raise FacesError(f"{file}: {str(found).rstrip('.')}.") from found
    return found


def _packed(found: Framed | FacesError) -> bytes:
    if isinstance(found, FacesError):
        kind = "disagreement" if isinstance(found, DisagreementError) else "other"
        return save({}, {"refused": str(found), "kind": kind})
    tensors: dict[str, NDArray[Any]] = {
        "image": found.image, "points5": found.points5, "landmarks": found.landmarks,
        "numbers": np.array([found.padding, found.apart]),
    }  # fmt: skip
    return save(tensors)


def _read(path: Path) -> Framed | FacesError | None:
    """What was kept, or None if it is missing or damaged (then it is made again)."""
    try:
        with safe_open(path, framework="numpy") as file:
            facts = file.metadata() or {}
            if "refused" in facts:
                return (DisagreementError if facts["kind"] == "disagreement" else FacesError)(facts["refused"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError):
        return None
    # The time of the file is that of its latest use, by which ``optishield cache prune`` goes.
    with contextlib.suppress(OSError):
        os.utime(path)
    padding, apart = (float(value) for value in tensors["numbers"])
    return Framed(tensors["image"], tensors["points5"], tensors["landmarks"], padding, apart)
