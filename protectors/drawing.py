"""Random numbers for tensors on any device: drawn where the generator lives, then moved.

A generator of the processor therefore gives the same numbers, and the same seed the same noise, whatever the device on
which photos are worked on. Numbers are drawn in single precision and take the type of what they are used with.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def uniform(shape: Sequence[int], generator: torch.Generator, like: Tensor) -> Tensor:
    """Numbers from 0 to 1, with device and type of another tensor.

    Args:
        shape: Shape of the result.
        generator: Source of the numbers; they are drawn on its device.
        like: Tensor that decides device and type of the result.
    """
    return torch.rand(tuple(shape), generator=generator, device=generator.device).to(like)


def around_zero(shape: Sequence[int], generator: torch.Generator, like: Tensor) -> Tensor:
    """Numbers from -1 to 1, with device and type of another tensor; arguments as of :func:`uniform`."""
    return 2 * uniform(shape, generator, like) - 1


def normal(shape: Sequence[int], generator: torch.Generator, like: Tensor) -> Tensor:
    """Numbers of mean 0 and standard deviation 1, else as :func:`uniform`."""
    return torch.randn(tuple(shape), generator=generator, device=generator.device).to(like)


def whole(low: int, high: int, shape: Sequence[int], generator: torch.Generator, like: Tensor) -> Tensor:
    """Whole numbers from ``low`` up to but not including ``high``, int64, on the device of another tensor.

    Args:
        low: Least number.
        high: First number that is too large.
        shape: Shape of the result.
        generator: Source of the numbers; they are drawn on its device.
        like: Tensor that decides the device of the result.
    """
    return torch.randint(low, high, tuple(shape), generator=generator, device=generator.device).to(like.device)


def one(generator: torch.Generator) -> float:
    """A single number from 0 to 1."""
    return float(torch.rand((), generator=generator, device=generator.device))


def one_whole(low: int, high: int, generator: torch.Generator) -> int:
    """A single whole number from ``low`` up to but not including ``high``."""
    return int(torch.randint(low, high, (), generator=generator, device=generator.device))


def order(count: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """The numbers 0 .. count - 1 in a random order, int64, on the device of another tensor."""
    return torch.randperm(count, generator=generator, device=generator.device).to(like.device)
