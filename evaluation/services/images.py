"""Images on their way to a face service: encoding, and the size limits that are checked before anything is sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from evaluation.errors import EvaluationError
from evaluation.measures.metrics import Values, as_array

Format = Literal["png", "jpeg"]
_MAGIC: dict[Format, bytes] = {"png": b"\x89PNG\r\n\x1a\n", "jpeg": b"\xff\xd8\xff"}


def encode_images(images: Values, image_format: Format = "png", *, quality: int = 95) -> list[bytes]:
    """PNG or JPEG files of images (N, 3, H, W), RGB, sRGB-encoded, 0..1, rounded to 8 bits.

    PNG is the default because JPEG is itself an attack on a protected image: it removes fine perturbations.

    Args:
        images: Torch tensor or numpy array of floating-point numbers.
        image_format: "png" (without loss) or "jpeg".
        quality: Quality of JPEG, 1..100.

    Raises:
        EvaluationError: Shape, type or values differ from the above.
    """
    values = as_array(images)
    if values.ndim != 4 or values.shape[1] != 3 or not np.issubdtype(values.dtype, np.floating):
        raise EvaluationError(
            f"images must be floating-point (N, 3, H, W), got {values.shape} of {values.dtype}; divide uint8 by 255."
        )
    if image_format not in _MAGIC:
        raise EvaluationError(f"image_format is {image_format!r}; choose one of {', '.join(_MAGIC)}.")
    if not 1 <= quality <= 100:
        raise EvaluationError(f"quality is {quality}; JPEG takes 1 to 100.")
    exact = values.astype(np.float64)
    if not ((exact >= 0) & (exact <= 1)).all():
        raise EvaluationError("images hold values outside 0..1 or not finite; clamp them before they are encoded.")
    levels = np.ascontiguousarray(np.rint(exact * 255).astype(np.uint8).transpose(0, 2, 3, 1)[..., ::-1])
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if image_format == "jpeg" else []
    return [cv2.imencode(f".{image_format}", image, options)[1].tobytes() for image in levels]


@dataclass(frozen=True)
class Limits:
    """What a provider accepts as an image.

    Attributes:
        min_side_px: Least height and width.
        max_bytes: Largest file, before any base64.
        min_bytes: Smallest file.
        max_side_px: Largest height and width of a format; a format that is absent has no stated limit.
    """

    min_side_px: int
    max_bytes: int
    min_bytes: int = 1
    max_side_px: tuple[tuple[Format, int], ...] = ()

    def check(self, image: bytes, name: str, provider: str) -> None:
        """Refuse an image that the provider would refuse, before it is sent.

        Args:
            image: The encoded file.
            name: What the image is called in errors.
            provider: Name of the provider that would refuse the image.

        Raises:
            EvaluationError: Not a PNG or JPEG file, or a side or the file is too small or too large.
        """
        image_format = next((known for known, magic in _MAGIC.items() if image.startswith(magic)), None)
        # OpenCV refuses an empty buffer with an exception of its own; the format is unknown then anyway.
        pixels = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_UNCHANGED) if image_format else None
        if image_format is None or pixels is None:
            raise EvaluationError(f"{name} is no readable PNG or JPEG file; encode it with encode_images.")
        if not self.min_bytes <= len(image) <= self.max_bytes:
            change = "enlarge the image" if len(image) < self.min_bytes else "make it smaller or encode it as JPEG"
            raise EvaluationError(
                f"{name} has {len(image)} bytes; {provider} takes {self.min_bytes} to {self.max_bytes}: {change}."
            )
        largest = dict(self.max_side_px).get(image_format)
        for side, length in zip(("height", "width"), pixels.shape[:2], strict=True):
            if length < self.min_side_px or (largest is not None and length > largest):
                accepted = f"at least {self.min_side_px}" + ("" if largest is None else f" and at most {largest}")
                raise EvaluationError(
                    f"{name} has a {side} of {length} pixels; {provider} takes {accepted} ({image_format}): "
                    f"{'enlarge' if length < self.min_side_px else 'reduce'} the {side}."
                )
