"""Pictures of the camera of pairs: signed kernels, light, drives over windows, and winners on faces.

Every function returns a complete ``<svg>`` element, as those of :mod:`optishield.report.pictures` do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.colors import LinearSegmentedColormap
from numpy.typing import NDArray

from optishield.report.pictures import LIGHT_MAP, Array, display, image, photo, svg

#: Negative, zero, positive: a signed kernel or a log ratio.
SIGNED_MAP = LinearSegmentedColormap.from_list("signed", ["#8f2f1a", "#d98b74", "#f7f4ec", "#7d8ee0", "#2336a0"])
#: Colours of channels, the anchor first; on photographs and on black alike.
CHANNEL_COLOURS = ("#35d0ff", "#ff6fb5", "#7cf29a", "#ff9d4d", "#b9a0ff", "#ffe45c")
#: How far the darkness between lit places is from black, so that the frame of the picture is seen.
_DARK = 0.055


def channel_colour(number: int) -> str:
    """The colour that stands for a channel; there are few, and they come again."""
    return CHANNEL_COLOURS[number % len(CHANNEL_COLOURS)]


def signed(values: Array, label: str) -> Markup:
    """Signed values (h, w), zero in the middle of the colours, scaled to their own largest size."""
    largest = float(np.abs(values).max()) or 1.0
    return photo(SIGNED_MAP(values / largest / 2 + 0.5)[..., :3], label)


def light(pixels: Array, white: float, label: str) -> Markup:
    """Linear light (h, w) of one tile, ``white`` the brightest level that is shown."""
    return photo(display(pixels / (white or 1.0)), label)


def drive(values: Array, winner: tuple[int, int] | None, colour: str, label: str) -> Markup:
    """Drive of a channel over its window (h, w), NaN outside the pixels, with a frame around the winner (x, y)."""
    height, width = values.shape
    known = np.isfinite(values)
    low, high = (float(end) for end in (np.nanmin(values), np.nanmax(values))) if known.any() else (0.0, 1.0)
    level = LIGHT_MAP((np.where(known, values, low) - low) / ((high - low) or 1.0))
    level[..., 3] = known
    body = image(level, -0.5, -0.5, width, height)
    if winner is not None:
        body += _square(winner[0] - 0.5, winner[1] - 0.5, 1.0, colour)
    return svg(width, height, body, label)


def _square(x: float, y: float, side: float, colour: str) -> str:
    return f'<rect class="winner" x="{x:g}" y="{y:g}" width="{side:g}" height="{side:g}" style="--c:{colour}"/>'


def winner_marks(places: NDArray[np.integer], pixel: float, numbers: Sequence[int]) -> str:
    """Frames around winning pixels (C, 2) on a scene of which a pixel is ``pixel`` samples wide."""
    rows = zip(places, numbers, strict=True)
    return "".join(_square(x * pixel - 0.5, y * pixel - 0.5, pixel, channel_colour(number)) for (x, y), number in rows)


def face_with_window(
    scene: Array, box: tuple[int, int, int, int], pixel: float, colour: str, marks: str, label: str
) -> Markup:
    """A scene (S, S, 3), display values, with the window in which a winner is searched.

    Args:
        scene: The scene.
        box: Window as top, left, height and width in pixels of the chip.
        pixel: Samples of the scene across such a pixel.
        colour: Of the channel.
        marks: SVG elements on top.
        label: for readers who cannot see it.
    """
    height, width = scene.shape[:2]
    top, left, rows, columns = box
    window = (
        f'<rect class="window" x="{left * pixel - 0.5:g}" y="{top * pixel - 0.5:g}" width="{columns * pixel:g}" '
        f'height="{rows * pixel:g}" style="--c:{colour}"/>'
    )
    return svg(width, height, image(scene, -0.5, -0.5, width, height) + window + marks, label)


def released_places(places: NDArray[np.integer], pixels: int, label: str) -> Markup:
    """All that leaves the chip: dark but for the winning pixels (C, 2), each in the colour of its channel."""
    frame = np.full((pixels, pixels, 3), _DARK)
    for number, (x, y) in enumerate(places.clip(0, pixels - 1)):
        colour = channel_colour(number)
        frame[y, x] = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    return photo(frame, label)


def heatmap(values: Array, label: str) -> Markup:
    """A heatmap (h, w) by itself, relative to its peak."""
    peak = float(np.nanmax(values)) or 1.0
    return photo(LIGHT_MAP(np.clip(np.nan_to_num(values) / peak, 0, 1))[..., :3], label)
