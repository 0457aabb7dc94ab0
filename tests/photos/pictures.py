"""A picture, and files that hold it."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from photos.files import decoded, encoded
from photos.metadata import Keep

PIXELS = np.random.default_rng(5).integers(0, 256, (24, 40, 3), dtype=np.uint8)


def saved(pixels: np.ndarray, kind: str, **settings: Any) -> bytes:
    """The bytes of a file of this kind; without loss where the kind can."""
    stream = BytesIO()
    if kind == "WEBP":
        settings = {"lossless": True, "exact": True, **settings}
    Image.fromarray(pixels).save(stream, kind, **settings)
    return stream.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(BytesIO(data))


def again(data: bytes, keep: Keep = Keep.camera) -> bytes:
    """The file that a photo becomes which nobody changed."""
    return encoded(decoded(data, Path("photo"), keep))
