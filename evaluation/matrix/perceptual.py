"""Perceptual hashes of face frames: the same picture is recognised after it was compressed, resized or brightened."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import dctn
from torch.nn import functional

from evaluation.errors import EvaluationError
from faces.samples import FaceSet

#: Side of the block of low frequencies that is kept, and of the thumbnail that it is taken from.
_BLOCK, _THUMBNAIL = 16, 64
#: Most differing bits (of 255) at which two frames count as one picture. Measured on 128-pixel synthetic heads: JPEG of
#: quality 10 changes at most 34 bits, blur of 1.5 pixels 8, half the size 6, and brightness 4, while the nearest two
#: pictures of different people (1.2 million pairs) differ in 70.
NEAR_BITS = 40


def perceptual_hashes(faces: FaceSet) -> NDArray[np.uint8]:
    """Signs of the low frequencies of a grey thumbnail against their median (Zauner 2010, section 3.2.1).

    Returns:
        (N, 32) uint8: 255 bits, packed, and one zero. The mean brightness is left out.
    """
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    thumbnails = [
        functional.interpolate(
            (part.float() * weights).sum(1, keepdim=True),
            size=(_THUMBNAIL, _THUMBNAIL),
            mode="bilinear",
            align_corners=False,
            antialias=True,
        )
        for part in faces.images.split(256)
    ]
    waves = dctn(torch.cat(thumbnails)[:, 0].double().numpy(), axes=(1, 2), norm="ortho")
    low = waves[:, :_BLOCK, :_BLOCK].reshape(len(waves), -1)[:, 1:]
    return np.packbits(low > np.median(low, axis=1, keepdims=True), axis=1)


def check_no_near_duplicates(parts: Mapping[str, FaceSet], bits: int = NEAR_BITS) -> None:
    """Makes sure that no picture of one part is, but for compression or size, a picture of another part.

    Parts hold different people, so a near-duplicate across parts is one photograph filed under two names.

    Raises:
        EvaluationError: naming the first pair.
    """
    hashes = {name: perceptual_hashes(faces) for name, faces in parts.items() if len(faces)}
    names = list(hashes)
    for at, first in enumerate(names):
        for second in names[at + 1 :]:
            for start in range(0, len(hashes[first]), 64):
                block = hashes[first][start : start + 64]
                differing = np.bitwise_count(block[:, None] ^ hashes[second][None]).sum(axis=2)
                if differing.min() <= bits:
                    row, column = (int(v) for v in np.unravel_index(differing.argmin(), differing.shape))
                    raise EvaluationError(
                        f"Image {start + row} of the part {first!r} (person {_person(parts[first], start + row)}) and "
                        f"image {column} of the part {second!r} (person {_person(parts[second], column)}) are one "
                        f"picture but for {int(differing.min())} of 255 bits of their perceptual hashes (at most "
                        f"{bits} count as one picture); remove one of them."
                    )


def _person(faces: FaceSet, index: int) -> str:
    number = int(faces.identity[index])
    return repr(faces.names[number]) if number < len(faces.names) else str(number)
