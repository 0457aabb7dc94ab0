"""What an operator sees of frames: histogram, saturation and focus as text, and whether they are as they should be."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from firmware_bridge.protocols import Frame, Levels
from ground.gates import Gate

BINS = 48
_BLOCKS = " ▁▂▃▄▅▆▇█"
_BAR = 30

SATURATED_SHARE = 0.01
"""Share of saturated pixels from which a frame is too bright."""

SIGNAL_SHARE = 0.05
"""Share of the range that the brightest pixels must stand above dark."""

FOCUS_SHARE = 0.9
"""Share of the best focus that was seen, which the last frame must reach."""

BLURRED_SHARE = 0.8
"""Share of the best focus below which a frame is blurred: on both sides of the best, one must be."""

DARK_SHARE = 0.25
"""Share of the range that a frame without light may reach in the mean."""


@dataclass(frozen=True)
class Look:
    """What is told of one frame.

    Attributes:
        mean: Mean of all levels, as a share of the largest possible one.
        bright: Level that 99.9 % of the pixels do not exceed, as such a share.
        saturated: Share of pixels at the largest possible level.
        focus: Variance of the Laplacian over the squared mean (Pech-Pacheco et al. 2000); it rises towards the focus,
            and compares only frames of the same scene and light.
        histogram: Number of pixels by level, in ``BINS`` equal steps of the range.
    """

    mean: float
    bright: float
    saturated: float
    focus: float
    histogram: tuple[int, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def gate_text(gate: Gate) -> Text:
    """A gate as a line for the terminal: green, red, or yellow where it could not be tried; with the reason."""
    word, colour = {True: ("ok  ", "green"), False: ("STOP", "red"), None: ("--  ", "yellow")}[gate.passed]
    return Text(f"{word}  {gate.name}: {gate.reason}", colour)


def look(levels: Levels, bits: int) -> Look:
    """Measure a frame.

    Args:
        levels: (H, W) uint8 or uint16, right-justified.
        bits: Number of significant bits.
    """
    top = (1 << bits) - 1
    values = levels.astype(np.float32) / top
    mean = float(values.mean())
    counts, _ = np.histogram(values, BINS, (0, 1))
    sharp = float(cv2.Laplacian(values, cv2.CV_32F).var())
    return Look(
        mean=mean,
        bright=float(np.quantile(values, 0.999)),
        saturated=float((levels >= top).mean()),
        focus=sharp / mean**2 if mean else 0.0,
        histogram=tuple(int(count) for count in counts),
    )


def look_at(frame: Frame) -> Look:
    """Measure a frame of a camera."""
    return look(frame.levels, frame.bits)


def picture(seen: Look, best_focus: float) -> Text:
    """Four lines: histogram (logarithmic), brightness, saturation and focus.

    Args:
        seen: Figures of the frame.
        best_focus: Highest focus that was seen, which fills the bar.
    """
    tallest = np.log1p(max(seen.histogram))
    heights = [
        round(float(np.log1p(count) / tallest) * (len(_BLOCKS) - 1)) if tallest else 0 for count in seen.histogram
    ]
    text = Text()
    text.append(f"levels      |{''.join(_BLOCKS[height] for height in heights)}|\n")
    text.append(f"brightness  {_bar(seen.bright)} {seen.bright:6.1%}  mean {seen.mean:.1%}\n")
    style = "red" if seen.saturated > SATURATED_SHARE else "green"
    text.append(f"saturated   {_bar(seen.saturated)} {seen.saturated:6.2%}\n", style)
    text.append(
        f"focus       {_bar(seen.focus / best_focus if best_focus else 0)} {seen.focus:.4g}  best {best_focus:.4g}"
    )
    return text


def _bar(share: float) -> str:
    full = round(min(max(share, 0.0), 1.0) * _BAR)
    return f"[{'#' * full}{'.' * (_BAR - full)}]"


def dark_gate(seen: Look) -> Gate:
    """Whether a frame without light is dark."""
    reason = f"without light the mean is {seen.mean:.1%} of the range"
    if seen.mean <= DARK_SHARE:
        return Gate("dark", True, reason)
    return Gate("dark", False, f"{reason}, at most {DARK_SHARE:.0%} are allowed; cover the bench, or lower the gain")


def light_gate(seen: Look, dark: Look | None) -> Gate:
    """Whether a frame with light is neither too bright nor too dark.

    Args:
        seen: Figures of the frame.
        dark: Figures of one without light; None where the bench has no light that it could turn off.
    """
    if seen.saturated > SATURATED_SHARE:
        return Gate(
            "light", False,
            f"{seen.saturated:.1%} of the pixels are saturated, at most {SATURATED_SHARE:.0%} are allowed; plan a "
            "shorter exposure or less light",
        )  # fmt: skip
    signal = seen.bright - (dark.bright if dark else 0.0)
    if signal < SIGNAL_SHARE:
        return Gate(
            "light", False,
            f"the brightest pixels stand {signal:.1%} of the range above dark, at least {SIGNAL_SHARE:.0%} are needed; "
            "open the beam, or plan a longer exposure or more light",
        )  # fmt: skip
    return Gate(
        "light", True, f"the brightest pixels stand {signal:.1%} above dark, {seen.saturated:.2%} are saturated"
    )


def focus_gate(focus: Sequence[float]) -> Gate:
    """Whether the focus was turned through its best place, and back to it.

    The best of what was seen is the best that there is only if the focus fell on both sides of it: the frames must go
    from low to high to low, and end high. A single frame that stands out among its neighbours counts for nothing.

    Args:
        focus: Sharpness of each frame, see :class:`Look`, in the order of the frames.
    """
    steady = _steady(focus)
    best, last = max(steady), steady[-1]
    seen = f"{last:.4g}, between {min(steady):.4g} and {best:.4g} in {len(focus)} frames"
    figures = {"last": last, "best": best, "lowest": min(steady), "frames": len(focus)}
    marks = "".join("h" if one >= FOCUS_SHARE * best else "l" if one < BLURRED_SHARE * best else "" for one in steady)
    if not re.search("lh+l", marks):
        return Gate(
            "focus",
            False,
            f"{seen}; the best place is not known before the bar has fallen on both sides of it: turn the focus "
            "through its best, and back (or give --fixed-focus where it cannot be turned)",
            figures,
        )
    if last < FOCUS_SHARE * best:
        return Gate("focus", False, f"{seen}; turn back to the best", figures)
    return Gate("focus", True, seen, figures)


def _steady(values: Sequence[float]) -> list[float]:
    """Median of each value and its two neighbours; the ends have one neighbour, and the lower of both counts."""
    around = [list(values[max(place - 1, 0) : place + 2]) for place in range(len(values))]
    return [sorted(few)[(len(few) - 1) // 2] for few in around]


@contextlib.contextmanager
def screen(origin: str) -> Iterator[Callable[[Look], None]]:
    """Figures of frames on stderr, drawn over one another on a terminal; nothing elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda seen: None
        return
    best = 0.0
    with Live(console=console, auto_refresh=False) as drawn:

        def show(seen: Look) -> None:
            nonlocal best
            best = max(best, seen.focus)
            drawn.update(Group(Text(f"origin {origin}"), picture(seen, best)), refresh=True)

        yield show
