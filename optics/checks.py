"""Checks of arguments that several parts of the room share."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import torch

from optics.errors import OpticsError


def check_wavelengths(wavelengths_m: Sequence[float]) -> tuple[float, ...]:
    """Return vacuum wavelengths in metres as a tuple.

    Raises:
        OpticsError: There is none, or one is not a positive number.
    """
    wavelengths = tuple(float(w) for w in wavelengths_m)
    if not wavelengths or not all(isfinite(w) and w > 0 for w in wavelengths):
        raise OpticsError(f"wavelengths_m={wavelengths} must be one or more positive lengths in metres.")
    return wavelengths


def check_finite(name: str, value: torch.Tensor) -> None:
    """Refuse NaN and infinite values, with their number.

    Raises:
        OpticsError: A value is NaN or infinite.
    """
    bad = int((~torch.isfinite(value.detach())).sum())
    if bad:
        raise OpticsError(f"{name} has {bad} of {value.numel()} values that are NaN or infinite; replace them.")
