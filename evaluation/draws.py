"""Random numbers that are the same on every device: a generator on the CPU draws them, then they are moved."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def normal(shape: Sequence[int], generator: torch.Generator, like: Tensor) -> Tensor:
    """Standard normal numbers of this shape, with the device and dtype of ``like``.

    Args:
        shape: Shape of the result.
        generator: Generator on the CPU. The same seed gives the same numbers on every device.
        like: Tensor whose device and floating-point dtype the result gets; its values are not looked at.
    """
    return torch.randn(tuple(shape), generator=generator).to(like.device, like.dtype)


def uniform(shape: Sequence[int], generator: torch.Generator, like: Tensor) -> Tensor:
    """Numbers from 0 to 1 of this shape, with the device and dtype of ``like``; arguments as for :func:`normal`."""
    return torch.rand(tuple(shape), generator=generator).to(like.device, like.dtype)
