"""The unit of work of the generator: all captures of one person. Imports no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from faces.synthetic.capture import draw_capture
from faces.synthetic.head import build_head
from faces.synthetic.identity import draw_identity, stream
from faces.synthetic.render import render

Batch = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8]]


def render_identity(seed: int, number: int, captures: int, size: int) -> Batch:
    """Render captures 0 .. captures - 1 of a person.

    Returns:
        Images (captures, 3, size, size) uint8, landmarks (captures, 68, 2) float32, regions (captures, size, size).
    """
    head = build_head(draw_identity(seed, number))
    pictures = [render(head, draw_capture(stream(seed, number, 2, j)), size) for j in range(captures)]
    return (
        np.stack([picture.image.transpose(2, 0, 1) for picture in pictures]),
        np.stack([picture.landmarks for picture in pictures]),
        np.stack([picture.regions for picture in pictures]),
    )
