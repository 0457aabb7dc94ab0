"""Fourier transforms of the room, with a guard against wrong results of the library beneath.

Some builds of torch 2.x return an inverse 2-D transform of one 2048 x 2048 complex64 array that lacks its 1/N factor
when more than one thread is used (pytorch issue 169670; energy wrong by N^2). The 1-D transforms are right. With more
than one thread, planes of 2^22 samples and more are therefore transformed by two 1-D passes (forward and in the
gradient); smaller planes, and all planes on one thread, use the 2-D routine, which takes half to three quarters of the
time. :func:`self_check` proves the choice on the machine at hand.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from scipy.fft import next_fast_len

from optics.errors import OpticsError

_LARGE_PLANE = 2**22
_ROUND_TRIP_TOLERANCE = 1e-5


def fast_length(minimum: int) -> int:
    """Return the smallest length of small prime factors that is at least ``minimum``."""
    return int(next_fast_len(minimum, real=True))


def _plane_is_safe(size: Sequence[int]) -> bool:
    return size[0] * size[1] < _LARGE_PLANE or torch.get_num_threads() == 1


def fft2(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Transform the last two dimensions, zero-padded at the end to ``size``; unnormalised."""
    if _plane_is_safe(size):
        return torch.fft.fft2(x, s=size)
    return torch.fft.fft(torch.fft.fft(x, n=size[1], dim=-1), n=size[0], dim=-2)


def ifft2(x: torch.Tensor) -> torch.Tensor:
    """Invert :func:`fft2`."""
    if _plane_is_safe(x.shape[-2:]):
        return torch.fft.ifft2(x)
    return torch.fft.ifft(torch.fft.ifft(x, dim=-2), dim=-1)


def rfft2(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Transform the last two dimensions of a real tensor, zero-padded at the end to ``size``; half spectrum in x."""
    if _plane_is_safe(size):
        return torch.fft.rfft2(x, s=size)
    return torch.fft.fft(torch.fft.rfft(x, n=size[1], dim=-1), n=size[0], dim=-2)


def irfft2(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Invert :func:`rfft2` to a real tensor of ``size``."""
    if _plane_is_safe(size):
        return torch.fft.irfft2(x, s=size)
    return torch.fft.irfft(torch.fft.ifft(x, n=size[0], dim=-2), n=size[1], dim=-1)


def self_check(size: int = 2048) -> None:
    """Round-trip one complex64 and one float32 plane of ``size`` x ``size`` with the threads now set.

    Raises:
        OpticsError: A transform of this machine is wrong.
    """
    generator = torch.Generator().manual_seed(0)
    plane = torch.randn(size, size, generator=generator)
    field = torch.complex(plane, plane.flip(0))
    for name, back, truth in (
        ("ifft2(fft2(x))", ifft2(fft2(field, (size, size))), field),
        ("irfft2(rfft2(x))", irfft2(rfft2(plane, (size, size)), (size, size)), plane),
    ):
        error = float((back - truth).abs().max() / truth.abs().max())
        if not error < _ROUND_TRIP_TOLERANCE:
            raise OpticsError(
                f"{name} of {size} x {size} samples with {torch.get_num_threads()} threads is wrong by {error:.1g} of "
                "the largest value; call torch.set_num_threads(1) or use another build of torch."
            )
