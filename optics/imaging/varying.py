"""Blur by a PSF that changes over the field: patch by patch, or as a sum of few convolutions.

PSFs are known at the points of a rectangular field grid and interpolated between them, ``h_p = sum_f w_f(p) psf_f`` at
the scene pixel p, with weights that add up to 1 everywhere. A pixel spreads its own PSF:

``out[q] = sum_p h_p[q - p] scene[p] = sum_f (psf_f * (w_f scene))[q]``, darkness outside the frame.

:class:`PatchBlur` computes this sum as it stands, each term on the patch where its window is not zero (T. G. Stockham's
overlap-add with the windows of J. G. Nagy and D. P. O'Leary, SIAM J. Sci. Comput. 19, 1063 (1998)); it is exact.
:class:`LowRankBlur` factorises the stack of PSFs first, ``psf_f = sum_r s[f, r] u_r``, by the singular value
decomposition (R. C. Flicker and F. J. Rigaut, J. Opt. Soc. Am. A 22, 504 (2005); L. Denis et al., Int. J. Comput. Vis.
115, 253 (2015)), and convolves over the whole frame: ``out = sum_r u_r * (a_r scene)``, ``a_r = sum_f w_f s[f, r]``.
Both are linear and have their exact adjoint. A PSF that is the same everywhere gives :func:`optics.convolve`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import Literal

import numpy as np
import torch
from torch import nn

from optics.errors import OpticsError
from optics.fft import fast_length, irfft2, rfft2


@dataclass(frozen=True)
class FieldGrid:
    """Where in a frame the PSFs are known, and how they are interpolated.

    Field point ``i * len(columns_px) + j`` lies at row ``rows_px[i]`` and column ``columns_px[j]``; beyond the
    outermost points the PSF stays as it is there.

    Attributes:
        height: Rows of the frame.
        width: Columns of the frame.
        rows_px: Rows of the field points in pixels, ascending; 0 is the centre of the first pixel.
        columns_px: Columns of the field points in pixels, ascending.
        interpolation: ``"linear"`` (weights never negative, so the PSF is not either), or ``"cubic"``, a spline
            through the field points, for smooth aberrations and few points (:class:`LowRankBlur` only).
    """

    height: int
    width: int
    rows_px: tuple[float, ...]
    columns_px: tuple[float, ...]
    interpolation: Literal["linear", "cubic"] = "linear"

    def __post_init__(self) -> None:
        for name, size in (("height", self.height), ("width", self.width)):
            if size < 1:
                raise OpticsError(f"{name}={size} must be at least 1 pixel.")
        for name, points in (("rows_px", self.rows_px), ("columns_px", self.columns_px)):
            if not points or not all(isfinite(p) for p in points) or any(np.diff(points) <= 0):
                raise OpticsError(f"{name}={points} must be one or more finite numbers that ascend; sort {name}.")
        if self.interpolation not in ("linear", "cubic"):
            raise OpticsError(f"interpolation={self.interpolation!r} must be 'linear' or 'cubic'.")

    @classmethod
    def even(
        cls,
        height: int,
        width: int,
        rows: int,
        columns: int,
        interpolation: Literal["linear", "cubic"] = "linear",
    ) -> FieldGrid:
        """Return ``rows`` x ``columns`` points at equal distances from corner to corner (a single one: the middle)."""
        if rows < 1 or columns < 1:
            raise OpticsError(f"rows={rows} and columns={columns} must be at least 1.")

        def line(size: int, count: int) -> tuple[float, ...]:
            ends = (0.0, size - 1.0) if count > 1 else ((size - 1) / 2, (size - 1) / 2)
            return tuple(float(p) for p in np.linspace(*ends, count))

        return cls(height, width, line(height, rows), line(width, columns), interpolation)

    @property
    def count(self) -> int:
        """Number F of field points."""
        return len(self.rows_px) * len(self.columns_px)

    def positions_m(self, pitch_m: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Return x and y of the field points on the sensor in metres from the middle of the frame, float64 of (F,)."""
        y = (torch.tensor(self.rows_px, dtype=torch.float64) - (self.height - 1) / 2) * pitch_m
        x = (torch.tensor(self.columns_px, dtype=torch.float64) - (self.width - 1) / 2) * pitch_m
        return x.repeat(len(y)), y.repeat_interleave(len(x))

    @cached_property
    def row_weights(self) -> torch.Tensor:
        """Weight of each row of field points in each row of pixels, float64 of (H, rows); every line adds up to 1."""
        return self._weights(self.rows_px, self.height)

    @cached_property
    def column_weights(self) -> torch.Tensor:
        """Weight of each column of field points in each column of pixels, float64 of (W, columns)."""
        return self._weights(self.columns_px, self.width)

    def _weights(self, points: tuple[float, ...], size: int) -> torch.Tensor:
        at = np.clip(np.arange(size), points[0], points[-1])
        if len(points) == 1:
            weights = np.ones((size, 1))
        elif self.interpolation == "cubic":
            # Imported where it is used: scipy.interpolate takes longer to load than this whole room.
            from scipy.interpolate import CubicSpline

            weights = CubicSpline(points, np.eye(len(points)))(at)
        else:
            identity = np.eye(len(points))
            weights = np.stack([np.interp(at, points, row) for row in identity], axis=1)
        return torch.from_numpy(weights)

    def maps(self, values: torch.Tensor) -> torch.Tensor:
        """Interpolate values at the field points over the frame.

        Args:
            values: Shape (..., F).

        Returns:
            Shape (..., H, W).
        """
        square = values.unflatten(-1, (len(self.rows_px), len(self.columns_px)))
        return self.row_weights.to(values) @ square @ self.column_weights.to(values).mT


class _VaryingBlur(nn.Module):
    """What both operators share: the field and the checks."""

    def __init__(self, field: FieldGrid, psf: torch.Tensor) -> None:
        super().__init__()
        if psf.ndim != 4 or psf.shape[-1] != psf.shape[-2] or psf.shape[-1] % 2 == 0:
            raise OpticsError(f"psf has shape {tuple(psf.shape)}; (F, C, K, K) with odd K is needed.")
        if psf.shape[0] != field.count:
            raise OpticsError(
                f"psf holds {psf.shape[0]} field points, but field has {len(field.rows_px)} rows x "
                f"{len(field.columns_px)} columns = {field.count}; change psf or field."
            )
        if not bool(torch.isfinite(psf).all()):
            raise OpticsError("psf has values that are not finite; change psf.")
        self.field = field
        self.channels, self.samples = psf.shape[1], psf.shape[-1]

    def _check(self, images: torch.Tensor) -> None:
        needed = (self.channels, self.field.height, self.field.width)
        if images.ndim != 4 or tuple(images.shape[1:]) != needed:
            raise OpticsError(
                f"images has shape {tuple(images.shape)}; (N, {needed[0]}, {needed[1]}, {needed[2]}) is needed for "
                "this psf and field."
            )


class PatchBlur(_VaryingBlur):
    """The exact varying blur: one convolution per field point, each on the patch where its window is not zero.

    Memory: with F patches of S x S transform points (about twice the distance of field points, plus K) a call holds
    about ``16 N C F S^2`` bytes in float32 and the operator ``4 C F S^2``.

    Args:
        field: Field grid with linear interpolation, for which the windows are tents of limited size.
        psf: PSF at each field point, shape (F, C, K, K), K odd; its gradient is kept.

    Raises:
        OpticsError: The shapes do not fit, or the interpolation is not linear.
    """

    spectra: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor
    windows: torch.Tensor

    def __init__(self, field: FieldGrid, psf: torch.Tensor) -> None:
        super().__init__(field, psf)
        if field.interpolation != "linear":
            raise OpticsError(
                f"interpolation={field.interpolation!r} has windows as large as the frame; use interpolation='linear', "
                "or LowRankBlur."
            )
        starts_y, window_y = _windows(field.row_weights)
        starts_x, window_x = _windows(field.column_weights)
        self.patch = (window_y.shape[1], window_x.shape[1])
        self.size = (
            fast_length(self.patch[0] + self.samples - 1),
            fast_length(self.patch[1] + self.samples - 1),
        )
        grid = (len(field.rows_px), len(field.columns_px))
        # (C, rows, columns, K, K), as the patches will be ordered.
        self.register_buffer("spectra", rfft2(psf.transpose(0, 1), self.size).unflatten(1, grid), persistent=False)
        windows = window_y[:, None, :, None] * window_x[None, :, None, :]
        self.register_buffer("windows", windows.to(psf), persistent=False)
        steps_y, steps_x = (torch.arange(patch + self.samples - 1) for patch in self.patch)
        self.register_buffer("rows", (starts_y[:, None] + steps_y).to(psf.device), persistent=False)
        self.register_buffer("columns", (starts_x[:, None] + steps_x).to(psf.device), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the blurred images, shape (N, C, H, W)."""
        self._check(images)
        height, width = self.field.height, self.field.width
        half = self.samples // 2
        rows = self.rows[:, : self.patch[0]].clamp(max=height - 1)
        columns = self.columns[:, : self.patch[1]].clamp(max=width - 1)
        patches = images[..., rows[:, None, :, None], columns[None, :, None, :]] * self.windows
        full = irfft2(rfft2(patches, self.size) * self.spectra, self.size)
        full = full[..., : self.rows.shape[1], : self.columns.shape[1]]
        # Overlap-add, one axis at a time, on a canvas that begins K // 2 before the frame.
        sheet = full.transpose(-3, -2).flatten(-2).flatten(-3, -2)
        canvas = sheet.new_zeros(*sheet.shape[:-1], int(self.columns.max()) + 1)
        canvas = canvas.index_add(-1, self.columns.flatten(), sheet)[..., half : half + width]
        out = canvas.new_zeros(*canvas.shape[:-2], int(self.rows.max()) + 1, width)
        return out.index_add(-2, self.rows.flatten(), canvas)[..., half : half + height, :]

    def adjoint(self, images: torch.Tensor) -> torch.Tensor:
        """Return the adjoint on images of shape (N, C, H, W): <A x, y> = <x, A* y>."""
        self._check(images)
        height, width = self.field.height, self.field.width
        half = self.samples // 2
        far = (half, int(self.columns.max()) + 1 - half - width, half, int(self.rows.max()) + 1 - half - height)
        padded = nn.functional.pad(images, far)
        patches = padded[..., self.rows[:, None, :, None], self.columns[None, :, None, :]]
        full = irfft2(rfft2(patches, self.size) * self.spectra.conj(), self.size)
        full = full[..., : self.patch[0], : self.patch[1]] * self.windows
        rows = self.rows[:, : self.patch[0]].clamp(max=height - 1)
        columns = self.columns[:, : self.patch[1]].clamp(max=width - 1)
        sheet = full.transpose(-3, -2).flatten(-2).flatten(-3, -2)
        canvas = sheet.new_zeros(*sheet.shape[:-1], width).index_add(-1, columns.flatten(), sheet)
        return canvas.new_zeros(*canvas.shape[:-2], height, width).index_add(-2, rows.flatten(), canvas)


def _windows(weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """First pixel of each window, shape (F,), and the windows from there on, shape (F, S), S that of the longest."""
    size, count = weights.shape
    inside = weights > 0
    first = inside.to(torch.uint8).argmax(dim=0)
    # A point outside the frame may have no pixel at all: its window is empty.
    last = torch.where(inside.any(dim=0), size - 1 - inside.flip(0).to(torch.uint8).argmax(dim=0), first)
    at = first[:, None] + torch.arange(int((last - first).max()) + 1)
    window = weights.mT.gather(1, at.clamp(max=size - 1)) * (at < size)
    return first, window.reshape(count, -1)


class LowRankBlur(_VaryingBlur):
    """The varying blur as a sum of ``rank`` convolutions over the whole frame, weighted by smooth maps.

    Memory: with S x S transform points (frame plus K // 2) the operator holds about ``8 C rank S^2`` bytes in float32,
    and a call ``16 N C rank S^2``.

    Gradient to ``psf``: that of the truncated decomposition, to first order in what is cut off. Changes of the PSFs
    that need more than ``rank`` terms are not seen (of a gradient that is noise, a quarter): to optimise PSFs use
    :class:`PatchBlur`. The gradient to the scene is exact.

    Args:
        field: Field grid.
        psf: PSF at each field point, shape (F, C, K, K), K odd; its gradient is kept.
        tolerance: The smallest rank is chosen for which the image of a scene of random pixels, evenly from 0 to 1, is
            expected to be wrong by at most this relative L2 error at the field points, in every channel. The whole
            frame comes within about twice that; smooth scenes fare better.
        rank: Number of terms; None chooses it by ``tolerance``.

    Attributes:
        rank: Number of terms R.
        error: The expected error, as defined for ``tolerance``.

    Raises:
        OpticsError: The shapes do not fit, or rank or tolerance is out of range.
    """

    maps: torch.Tensor
    spectra: torch.Tensor

    def __init__(
        self, field: FieldGrid, psf: torch.Tensor, *, tolerance: float = 5e-4, rank: int | None = None
    ) -> None:
        super().__init__(field, psf)
        most = min(field.count, self.samples**2)
        if rank is not None and not 1 <= rank <= most:
            raise OpticsError(f"rank={rank} must lie from 1 to {most} for {field.count} points of K={self.samples}.")
        if not tolerance > 0:
            raise OpticsError(f"tolerance={tolerance} must be above 0.")
        stack = psf.transpose(0, 1).flatten(-2)  # (C, F, K^2)
        # A pixel of mean m and variance v makes the error v |e|^2 + m^2 (sum e)^2; evenly from 0 to 1 m^2 = 3 v. One
        # more column holds the second term, so the decomposition is the best one for such scenes.
        weighted = torch.cat([stack, 3**0.5 * stack.sum(dim=-1, keepdim=True)], dim=-1)
        left, size, right = torch.linalg.svd(weighted.detach().double(), full_matrices=False)
        self.rank, self.error = _choose_rank(size, tolerance, rank)
        left, right = left[..., : self.rank].to(psf), right[..., : self.rank, :]
        kernels = left.mT @ stack
        if psf.requires_grad:
            # 0 in value: with the kernels it makes the derivative of the best approximation of this rank.
            floor = torch.finfo(psf.dtype).eps * size[..., :1]
            inverse = 1 / torch.maximum(size[..., : self.rank], floor)
            side = weighted @ (right.mT * inverse[..., None, :]).to(psf)
            left = left + (side - left @ (left.mT @ side))
        half = self.samples // 2
        self.size = (
            fast_length(max(field.height + half, self.samples)),
            fast_length(max(field.width + half, self.samples)),
        )
        self.register_buffer("maps", field.maps(left.mT), persistent=False)
        kernels = kernels.unflatten(-1, (self.samples, self.samples))
        self.register_buffer("spectra", rfft2(kernels, self.size), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the blurred images, shape (N, C, H, W)."""
        self._check(images)
        half = self.samples // 2
        terms = rfft2(images[:, :, None] * self.maps, self.size) * self.spectra
        out = irfft2(terms.sum(dim=2), self.size)
        return out[..., half : half + self.field.height, half : half + self.field.width]

    def adjoint(self, images: torch.Tensor) -> torch.Tensor:
        """Return the adjoint on images of shape (N, C, H, W): <A x, y> = <x, A* y>."""
        self._check(images)
        height, width = self.field.height, self.field.width
        half = self.samples // 2
        padded = nn.functional.pad(images, (half, 0, half, 0))
        terms = irfft2(rfft2(padded, self.size)[:, :, None] * self.spectra.conj(), self.size)
        return (terms[..., :height, :width] * self.maps).sum(dim=2)


def _choose_rank(size: torch.Tensor, tolerance: float, rank: int | None) -> tuple[int, float]:
    """Rank (smallest within ``tolerance`` if None) from the singular values (C, F), and the error it leaves."""
    power = size.square()
    rest = power.flip(-1).cumsum(-1).flip(-1)  # what the terms from r on hold
    whole = rest[..., :1].clamp(min=torch.finfo(rest.dtype).tiny)
    error = nn.functional.pad((rest / whole).amax(dim=0).sqrt(), (0, 1))
    if rank is None:
        rank = max(1, int((error > tolerance).sum()))
    return rank, float(error[rank])
