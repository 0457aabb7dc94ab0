"""Frames of a camera under test: their shapes, their temporal statistics, and what makes them no measurement."""

from __future__ import annotations

from hashlib import blake2b
from math import log, pi

import torch

from optics.errors import OpticsError

# EMVA 1288 sets the black level so that fewer than about 0.5 % of the dark values underflow.
MOST_UNDERFLOW = 0.005
# Two frames are one frame when noise makes that by chance with less than this probability.
_CHANCE = 1e-9


def check_series(bright: torch.Tensor, dark: torch.Tensor, photons: torch.Tensor) -> None:
    """Refuse frames of shapes or values that do not fit each other, and dark frames that are cut off at code 0.

    Args:
        bright: Frames in DN, shape (S, F, H, W).
        dark: Dark frames in DN, shape (1, F, H, W) or (S, F, H, W).
        photons: Mean photons of each step, shape (S,).

    Raises:
        OpticsError: They do not fit, or the black level is so low that dark values underflow.
    """
    if bright.ndim != 4 or bright.shape[1] < 2 or min(bright.shape[-2:]) < 2:
        raise OpticsError(
            f"bright has shape {tuple(bright.shape)}; (S, F, H, W) is needed, with at least 2 frames F of each step."
        )
    if dark.ndim != 4 or dark.shape[0] not in (1, bright.shape[0]) or dark.shape[1] < 2:
        raise OpticsError(
            f"dark has shape {tuple(dark.shape)}; (F, H, W) or ({bright.shape[0]}, F, H, W) is needed, with at least 2 "
            "frames F."
        )
    if dark.shape[-2:] != bright.shape[-2:]:
        raise OpticsError(
            f"dark has frames of {tuple(dark.shape[-2:])} pixels and bright of {tuple(bright.shape[-2:])}; "
            "pass frames of one size."
        )
    if not bool(torch.isfinite(bright).all() and torch.isfinite(dark).all()):
        raise OpticsError("bright or dark holds values that are not finite; leave such frames out.")
    if tuple(photons.shape) != bright.shape[:1] or not bool((photons.diff() > 0).all() and photons[0] >= 0):
        raise OpticsError(
            f"photons must be {bright.shape[0]} rising numbers, zero or more, one for each step of bright."
        )
    check_underflow("dark", dark)


def check_underflow(name: str, dark: torch.Tensor) -> None:
    """Refuse dark frames of which more than 0.5 % of the values are 0: their noise and mean are cut off.

    Raises:
        OpticsError: The black level is too low.
    """
    share = float((dark <= 0).double().mean())
    if share > MOST_UNDERFLOW:
        raise OpticsError(
            f"{share:.3g} of the values of {name} are 0 DN (limit {MOST_UNDERFLOW:g}), so their noise is cut off and "
            "all figures would come out wrong; raise the black level of the camera and capture again."
        )


def check_repeats(name: str, frames: torch.Tensor, noise_dn2: float) -> None:
    """Refuse a stack in which one frame is another one once more, as a camera delivers that drops frames.

    Args:
        name: What the stack is called in the error.
        frames: Frames in DN, shape (F, H, W).
        noise_dn2: Temporal variance that the frames should have; too little of it for telling copies passes all.

    Raises:
        OpticsError: Two frames are the same, and noise would not make them so.
    """
    if noise_dn2 <= 0:
        return
    count, pixels = len(frames), frames[0].numel()
    # Two values of variance v and steps of 1 DN agree with a probability of about 1 / sqrt(4 pi v).
    chance = log(count * count / 2) - max(0.5 * log(4 * pi * noise_dn2), 0.0) * pixels
    if chance > log(_CHANCE):
        return
    seen: dict[bytes, int] = {}
    for number, frame in enumerate(frames):
        key = blake2b(frame.contiguous().cpu().numpy().tobytes(), digest_size=16).digest()
        if key in seen:
            raise OpticsError(
                f"frames {seen[key]} and {number} of {name} are the same in all {pixels} pixels, so a frame was "
                "delivered twice and the noise comes out too small; capture again, with every frame new."
            )
        seen[key] = number


def temporal(frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and temporal variance of (S, F, H, W) frames, each of shape (S,)."""
    means = frames.mean(dim=(2, 3))
    return means.mean(dim=1), frames.var(dim=1).mean(dim=(1, 2)) - means.var(dim=1)
