"""Colour mosaic of a sensor, and its linear reconstruction.

A pixel behind a colour filter records one of three channels; :func:`sample_mosaic` takes it from the image and
:func:`spread_mosaic` is the adjoint. :func:`demosaic` fills in the other two by fixed 5 x 5 filters: the bilinear mean
of the nearest neighbours, or the same corrected by the curvature of the channel at hand (H. S. Malvar, L. He and
R. Cutler, High-quality linear interpolation for demosaicing of Bayer-patterned color images, ICASSP 2004, fig. 2).
Images are linear light; nothing is clipped or rounded.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, get_args

import torch
from torch.nn import functional

from optics.errors import OpticsError

Pattern = Literal["RGGB", "BGGR", "GRBG", "GBRG"]
Method = Literal["malvar", "bilinear"]

_Kernel = tuple[tuple[int, ...], ...]

# From the channel of the pixel at the centre to: green from red or blue; red (blue) at a green pixel that has it to the
# left and right; red at blue and blue at red.
_MALVAR: dict[str, _Kernel] = {
    "cross": ((0, 0, -2, 0, 0), (0, 0, 4, 0, 0), (-2, 4, 8, 4, -2), (0, 0, 4, 0, 0), (0, 0, -2, 0, 0)),
    "beside": ((0, 0, 1, 0, 0), (0, -2, 0, -2, 0), (-2, 8, 10, 8, -2), (0, -2, 0, -2, 0), (0, 0, 1, 0, 0)),
    "diagonal": ((0, 0, -3, 0, 0), (0, 4, 0, 4, 0), (-3, 0, 12, 0, -3), (0, 4, 0, 4, 0), (0, 0, -3, 0, 0)),
}
_BILINEAR: dict[str, _Kernel] = {
    "cross": ((0, 0, 0, 0, 0), (0, 0, 4, 0, 0), (0, 4, 0, 4, 0), (0, 0, 4, 0, 0), (0, 0, 0, 0, 0)),
    "beside": ((0, 0, 0, 0, 0), (0, 0, 0, 0, 0), (0, 8, 0, 8, 0), (0, 0, 0, 0, 0), (0, 0, 0, 0, 0)),
    "diagonal": ((0, 0, 0, 0, 0), (0, 4, 0, 4, 0), (0, 0, 0, 0, 0), (0, 4, 0, 4, 0), (0, 0, 0, 0, 0)),
}
_SCALE = 16
_REACH = 2


def sample_mosaic(images: torch.Tensor, pattern: Pattern = "RGGB") -> torch.Tensor:
    """Keep of each pixel the channel that its filter lets through.

    Args:
        images: Red, green and blue light, shape (N, 3, H, W).
        pattern: Filters of the top left 2 x 2 pixels, row by row.

    Returns:
        Shape (N, 1, H, W).

    Raises:
        OpticsError: The shape does not fit, or the pattern is unknown.

    >>> colours = torch.tensor([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1).expand(1, 3, 2, 2)
    >>> sample_mosaic(colours, "RGGB")[0, 0].tolist()
    [[1.0, 2.0], [2.0, 3.0]]
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise OpticsError(f"images has shape {tuple(images.shape)}; (N, 3, H, W) is needed.")
    return (images * _filters(images, pattern)).sum(dim=1, keepdim=True)


def spread_mosaic(mosaic: torch.Tensor, pattern: Pattern = "RGGB") -> torch.Tensor:
    """Put each pixel of a mosaic into its channel, zero elsewhere: the adjoint of :func:`sample_mosaic`.

    Args:
        mosaic: Shape (N, 1, H, W).
        pattern: Filters of the top left 2 x 2 pixels, row by row.

    Returns:
        Shape (N, 3, H, W).

    Raises:
        OpticsError: The shape does not fit, or the pattern is unknown.
    """
    _check_mosaic(mosaic)
    return mosaic * _filters(mosaic, pattern)


def demosaic(mosaic: torch.Tensor, pattern: Pattern = "RGGB", method: Method = "malvar") -> torch.Tensor:
    """Reconstruct three channels from a mosaic; linear, measured values unchanged.

    Beyond the border the mosaic is mirrored about the outermost pixel, which keeps the filters in step. A constant
    colour comes back exactly, and so do channels linear in x and y, two pixels from the border (every filter is
    symmetric).

    Args:
        mosaic: Shape (N, 1, H, W), H and W even.
        pattern: Filters of the top left 2 x 2 pixels, row by row.
        method: ``"malvar"`` or ``"bilinear"``.

    Returns:
        Shape (N, 3, H, W).

    Raises:
        OpticsError: The shape does not fit, or the pattern or the method is unknown.
    """
    _check_mosaic(mosaic)
    height, width = mosaic.shape[-2:]
    if height % 2 or width % 2 or min(height, width) < _REACH + 1:
        raise OpticsError(f"mosaic is {height} x {width} pixels; even sides of at least 4 are needed, so crop it.")
    _check_pattern(pattern)
    if method not in get_args(Method):
        raise OpticsError(f"method={method!r} must be one of {', '.join(get_args(Method))}.")
    weight = torch.tensor(_phase_filters(pattern, method), dtype=mosaic.dtype, device=mosaic.device) / _SCALE
    padded = functional.pad(mosaic, (_REACH,) * 4, mode="reflect")
    # One filter per channel and place in the 2 x 2 cell, all in one convolution with step 2.
    return functional.pixel_shuffle(functional.conv2d(padded, weight, stride=2), 2)


def _check_mosaic(mosaic: torch.Tensor) -> None:
    if mosaic.ndim != 4 or mosaic.shape[1] != 1:
        raise OpticsError(f"mosaic has shape {tuple(mosaic.shape)}; (N, 1, H, W) is needed.")


def _check_pattern(pattern: str) -> None:
    if pattern not in get_args(Pattern):
        raise OpticsError(f"pattern={pattern!r} must be one of {', '.join(get_args(Pattern))}.")


def _filters(like: torch.Tensor, pattern: str) -> torch.Tensor:
    """1 where a pixel has the filter of a channel, else 0; shape (3, H, W)."""
    _check_pattern(pattern)
    height, width = like.shape[-2:]
    cell = torch.tensor([[c == one for one in pattern] for c in "RGB"], dtype=like.dtype, device=like.device)
    return cell.reshape(3, 2, 2).repeat(1, -(-height // 2), -(-width // 2))[:, :height, :width]


@lru_cache(maxsize=16)
def _phase_filters(pattern: str, method: str) -> list[list[list[list[int]]]]:
    """Filters by channel (3) and place (2 x 2) on the 6 x 6 pixels that begin 2 before the cell, (12, 1, 6, 6)."""
    kernels = _MALVAR if method == "malvar" else _BILINEAR
    out = []
    for channel in "RGB":
        for i in (0, 1):
            for j in (0, 1):
                own, beside = pattern[2 * i + j], pattern[2 * i + 1 - j]
                window = [[0] * 6 for _ in range(6)]
                if channel == own:
                    window[i + _REACH][j + _REACH] = _SCALE
                else:
                    name = "cross" if channel == "G" else "diagonal" if own != "G" else "beside"
                    kernel = kernels[name]
                    if name == "beside" and beside != channel:
                        kernel = tuple(zip(*kernel, strict=True))
                    for y, row in enumerate(kernel):
                        window[i + y][j : j + len(row)] = list(row)
                out.append([window])
    return out
