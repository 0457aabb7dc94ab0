"""The sum ``y(x') = sum_x exp(2 pi i (a x^2 + b x'^2 + c x x')) u(x)`` between regular axes of any pitch and offset.

With c alone it is a Fourier transform of free scale and shift; with the squares it is Fresnel diffraction. Two ways:

- a matrix for each axis, so a plane is a triple product (R. Soummer et al., Opt. Express 15, 15935 (2007)); quickest
  for a few output samples;
- the chirp-z transform (L. I. Bluestein, IEEE Trans. Audio Electroacoust. 18, 451 (1970)): with
  ``2 n k = n^2 + k^2 - (k - n)^2`` the sum becomes a convolution, done by FFT.

All phases are formed in float64 and lose their whole turns before they are rounded.
"""

from __future__ import annotations

from math import log2
from typing import Literal, NamedTuple

import torch

from optics.errors import OpticsError
from optics.fft import fast_length
from optics.propagation.propagator import wrapped_phasor

Method = Literal["auto", "matrix", "chirp"]

# Time of one FFT butterfly step over one multiply-add of a complex matrix product, measured on one core.
_BUTTERFLY_COST = 6.0


class Axis(NamedTuple):
    """Positions ``first + step * (0 .. size - 1)``."""

    first: float
    step: float
    size: int

    def positions(self, like: torch.Tensor) -> torch.Tensor:
        """Positions on the device of ``like``, float64 of shape (size,)."""
        # From the middle, so symmetric axes have exactly symmetric positions.
        half = (self.size - 1) / 2
        index = torch.arange(self.size, dtype=torch.float64, device=like.device) - half
        return index * self.step + (self.first + half * self.step)


class AxisKernel(NamedTuple):
    """One axis of the sum: a matrix (..., K, N), or the three factors of the chirp-z transform."""

    matrix: torch.Tensor | None
    before: torch.Tensor | None  # (..., 1, N)
    spectrum: torch.Tensor | None  # (..., 1, M)
    after: torch.Tensor | None  # (..., 1, K)

    def apply(self, field: torch.Tensor) -> torch.Tensor:
        """Transform the last dimension, N to K."""
        if self.before is None or self.spectrum is None or self.after is None:
            return field @ self._matrix().mT
        length, count = self.spectrum.shape[-1], self.after.shape[-1]
        spectrum = torch.fft.fft(field * self.before, n=length) * self.spectrum
        return torch.fft.ifft(spectrum)[..., :count] * self.after

    def adjoint(self, field: torch.Tensor) -> torch.Tensor:
        """Transform the last dimension back by the adjoint, K to N."""
        if self.before is None or self.spectrum is None or self.after is None:
            return field @ self._matrix().conj()
        length, count = self.spectrum.shape[-1], self.before.shape[-1]
        spectrum = torch.fft.fft(field * self.after.conj(), n=length) * self.spectrum.conj()
        return torch.fft.ifft(spectrum)[..., :count] * self.before.conj()

    def _matrix(self) -> torch.Tensor:
        if self.matrix is None:
            raise TypeError("an AxisKernel has either a matrix or three factors")
        return self.matrix


def transform(field: torch.Tensor, rows: AxisKernel, columns: AxisKernel) -> torch.Tensor:
    """Transform both last dimensions."""
    return columns.apply(rows.apply(field.mT).mT)


def transform_adjoint(field: torch.Tensor, rows: AxisKernel, columns: AxisKernel) -> torch.Tensor:
    """Adjoint of :func:`transform`."""
    return rows.adjoint(columns.adjoint(field).mT).mT


def use_matrix(method: Method, source: tuple[int, int], target: tuple[int, int]) -> bool:
    """Decide between the matrix and the chirp-z transform for planes of these shapes.

    Raises:
        OpticsError: The method is unknown.
    """
    if method not in ("auto", "matrix", "chirp"):
        raise OpticsError(f"method={method!r} is unknown; use 'auto', 'matrix' or 'chirp'.")
    if method != "auto":
        return method == "matrix"
    (rows, columns), (k_rows, k_columns) = source, target
    product = k_rows * columns * (rows + k_columns)
    row_length, column_length = fast_length(rows + k_rows - 1), fast_length(columns + k_columns - 1)
    steps = columns * row_length * log2(row_length + 1) + k_rows * column_length * log2(column_length + 1)
    return product < _BUTTERFLY_COST * steps


def axis_kernel(
    a: torch.Tensor,
    b: torch.Tensor,
    c: torch.Tensor,
    source: Axis,
    target: Axis,
    *,
    matrix: bool,
    dtype: torch.dtype,
) -> AxisKernel:
    """Prepare one axis.

    Args:
        a: Turns per squared source position, float64 of shape () or (..., 1, 1).
        b: Turns per squared target position, same shape.
        c: Turns per product of both, same shape.
        source: Axis of the sum.
        target: Axis of the result.
        matrix: Matrix, or chirp-z transform.
        dtype: Real precision of the factors.
    """
    x, k = source.positions(c), target.positions(c)
    if matrix:
        k = k[:, None]
        return AxisKernel(wrapped_phasor(a * x * x + (b * k + c * x) * k, dtype), None, None, None)
    # x x' = x X0 + (x0 + n dx) k dX, and n k = (n^2 + k^2 - (k - n)^2) / 2. Counting n and k from the middle of each
    # axis keeps the squares, and with them the rounding, four times smaller.
    middle_x, middle_k = x.mean(), k.mean()
    n, m = (x - middle_x) / source.step, (k - middle_k) / target.step
    half = c * (source.step * target.step / 2)
    before = a * x * x + c * x * middle_k + half * n * n
    after = b * k * k + c * middle_x * (k - middle_k) + half * m * m
    length = fast_length(source.size + target.size - 1)
    # Differences m - n that occur, in circular order: first k - 0 ... then 0 - n ... from the end.
    lag = torch.arange(length, dtype=torch.float64, device=x.device)
    lag = torch.where(lag < target.size, lag, lag - length) + (source.size - target.size) / 2
    chirp = wrapped_phasor(-half * lag * lag, torch.float64)
    complex_dtype = torch.complex64 if dtype == torch.float32 else torch.complex128
    return AxisKernel(
        None,
        wrapped_phasor(before, dtype).reshape(*before.shape[:-2], 1, source.size),
        _as_row(torch.fft.fft(chirp).to(complex_dtype)),
        wrapped_phasor(after, dtype).reshape(*after.shape[:-2], 1, target.size),
    )


def _as_row(x: torch.Tensor) -> torch.Tensor:
    return x if x.ndim > 1 else x[None, :]
