"""Propagation by a transfer function H on the frequency grid of the zero-padded field.

The padded field repeats every ``P = padded * pitch``. A wave of frequency f moves sideways by d(f); what it carries
from any input sample to P further than an output sample would be taken for light in the output plane. Hence the rule
here: ``|d| <= P - r``, where r is the largest sideways distance from an input to an output sample. For P twice the
window this says that the phase of H steps by less than half a turn between neighbouring frequencies.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable
from math import ceil, isclose, sqrt
from typing import Any, NamedTuple

import torch

from optics.errors import OpticsError
from optics.fft import fast_length, fft2, ifft2
from optics.propagation.columns import transfer, transfer_adjoint
from optics.propagation.fourier import Axis, AxisKernel, Method, axis_kernel, transform, transform_adjoint, use_matrix
from optics.propagation.free_space import FreeSpace
from optics.propagation.propagator import SLACK, Margin, Propagator, SamplingError, wrapped_phasor


class _Kernel(NamedTuple):
    transfer: torch.Tensor  # (L, Mx, My) or (Z, L, Mx, My); with resampling y comes before x
    rows: AxisKernel | None
    columns: AxisKernel | None


class TransferPropagator(Propagator):
    """Common part of the methods with a transfer function; see :class:`optics.propagation.Propagator`.

    An output plane of the same pitch is a cut of the padded plane, moved by a linear phase where it is off-centre (by
    parts of a sample, too). One of another pitch is the same field evaluated at its points by chirp-z transform or
    matrix product, without interpolation error.

    Args:
        space: Planes, wavelengths, distance and medium.
        periodic: The field repeats beyond the input plane (gratings, tilted plane waves): no padding, and no rule to
            meet, for the sampled H is then exact.
        padded: Samples (y, x) after zero padding; None takes the fewest that keep the convolution linear.
        method: How another pitch is reached: "matrix", "chirp" or, by cost, "auto".
        dtype: torch.float32 or torch.float64.
    """

    _alternatives = "BandLimitedAngularSpectrum, FresnelTransform"

    def __init__(
        self,
        space: FreeSpace,
        *,
        periodic: bool = False,
        padded: tuple[int, int] | None = None,
        method: Method = "auto",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(space, dtype=dtype)
        self.periodic = periodic
        pitches = zip(space.input_plane.pitches_m, space.output_plane.pitches_m, strict=True)
        same_pitch = all(isclose(p, q, rel_tol=1e-9) for p, q in pitches)
        self.padded = self._lengths(padded)
        fits = all(n <= m for n, m in zip(space.output_plane.shape, self.padded, strict=True))
        self._resampled = not (same_pitch and fits)
        self._matrix = use_matrix(method, self.padded, space.output_plane.shape)
        self.check()

    def _lengths(self, padded: tuple[int, int] | None) -> tuple[int, int]:
        if self.periodic:
            if padded is not None:
                raise OpticsError(f"padded={padded} contradicts periodic=True; give one of them.")
            return self.space.input_plane.shape
        reach = zip(
            self.space.input_plane.span_m, self.space.output_plane.span_m, self.space.input_plane.pitches_m, strict=True
        )
        least = [1 + ceil((a + b) / p / SLACK) for a, b, p in reach]
        if padded is None:
            return (fast_length(least[0]), fast_length(least[1]))
        if len(padded) != 2 or padded[0] < least[0] or padded[1] < least[1]:
            raise OpticsError(
                f"padded={padded} is less than {tuple(least)} samples, so light would wrap round; raise padded, or "
                "leave it out."
            )
        return padded

    @abstractmethod
    def _aside_m(self, wavelength_m: float, distance_m: float, frequency: float, squared: float) -> float:
        """Sideways move of a wave of one frequency along the axis and this squared total frequency."""

    @abstractmethod
    def _turns(
        self, wavelength_m: torch.Tensor, distance_m: torch.Tensor, squared: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Phase of H in turns, and its modulus or None, at squared frequencies."""

    def _passed(
        self, wavelength_m: torch.Tensor, distance_m: torch.Tensor, y: torch.Tensor, x: torch.Tensor
    ) -> torch.Tensor | None:
        """Which of the frequencies (rows y, columns x) pass; None if all do."""
        return None

    def check(self) -> tuple[Margin, ...]:
        """Return the margin of the wrap-round rule for y and x, or nothing for a periodic field.

        Raises:
            OpticsError: Light would wrap round.
        """
        return () if self.periodic else (self._wrap_margin(0), self._wrap_margin(1))

    def _wrap_margin(self, dim: int) -> Margin:
        frequency, pitch = self.space.nyquist_per_m(dim), self.space.input_plane.pitches_m[dim]
        total = frequency**2 + self.space.nyquist_per_m(1 - dim) ** 2
        squared = total if self.space.bandwidth_per_m is None else min(total, self.space.bandwidth_per_m**2)
        farthest = max(abs(z) for z in self.distances_m)
        aside = max(self._aside_m(w, farthest, frequency, squared) for w in self.space.medium_wavelengths_m)
        limit = self._limit_m(dim)
        axis = "yx"[dim]
        if not aside <= limit * SLACK:
            enough = (
                f"raise padded to {ceil((aside + self.space.reach_m(dim)) / pitch)} along {axis}"
                if aside < 1e5 * limit
                else "raise pitch_m of input_plane above half a wavelength"
            )
            raise SamplingError(
                f"at distance_m={farthest:g} the finest waves of input_plane move {aside:.3g} m along {axis}, and "
                f"{self.padded[dim]} padded samples hold {limit:.3g} m before light wraps round; {enough}, reduce "
                f"distance_m, state a smaller bandwidth_per_m, or use {self._alternatives}."
            )
        return Margin(f"sideways move along {axis} in metres", aside, limit)

    def _limit_m(self, dim: int) -> float:
        return self.padded[dim] * self.space.input_plane.pitches_m[dim] - self.space.reach_m(dim)

    def _geometry(self) -> Hashable:
        return (self.padded, self.periodic, self._resampled, self._matrix)

    def _build(self, wavelength_m: torch.Tensor, distance_m: torch.Tensor) -> _Kernel:
        orders, frequencies = [], []
        for length, pitch in zip(self.padded, self.space.input_plane.pitches_m, strict=True):
            order = torch.fft.fftfreq(length, 1 / length, dtype=torch.float64, device=wavelength_m.device)
            orders.append(order)
            frequencies.append(order / (length * pitch))
        # Which dimension of the kernel an axis is; x comes first where the columns are worked through in blocks.
        places = (-2, -1) if self._resampled else (-1, -2)
        y, x = (f[:, None] if place == -2 else f for f, place in zip(frequencies, places, strict=True))
        # H depends on f^2, so one quadrant is computed and copied to the other three.
        quadrant = [f.narrow(p, 0, f.numel() // 2 + 1) for f, p in zip((y, x), places, strict=True)]
        turns, size = self._turns(wavelength_m, distance_m, quadrant[0].square() + quadrant[1].square())
        kernel = wrapped_phasor(turns, self.dtype, size)
        for place, order in zip(places, orders, strict=True):
            kernel = kernel.index_select(place, order.abs().long())
        passed = self._passed(wavelength_m, distance_m, y, x)
        if passed is not None:
            kernel = kernel * passed
        if self._resampled:
            return _Kernel(kernel, *(self._resampling(dim, wavelength_m) for dim in (0, 1)))
        for dim, order in enumerate(orders):
            first_in, first_out = self.space.input_plane.first_m[dim], self.space.output_plane.first_m[dim]
            moved = (first_out - first_in) / self.space.input_plane.pitches_m[dim]
            # A difference of positions is a whole number of samples but for rounding in most geometries.
            moved = round(moved) if abs(moved - round(moved)) < 1e-7 else moved
            if moved:
                shift = wrapped_phasor(order * (moved / self.padded[dim]), self.dtype)
                kernel = kernel * (shift[:, None] if places[dim] == -2 else shift)
        return _Kernel(kernel, None, None)

    def _resampling(self, dim: int, like: torch.Tensor) -> AxisKernel:
        length = self.padded[dim]
        step = 1 / (length * self.space.input_plane.pitches_m[dim])
        first = self.space.output_plane.first_m[dim] - self.space.input_plane.first_m[dim]
        zero, one = like.new_zeros(()), like.new_ones(())
        source = Axis(-(length // 2) * step, step, length)
        target = Axis(first, self.space.output_plane.pitches_m[dim], self.space.output_plane.shape[dim])
        return axis_kernel(zero, zero, one, source, target, matrix=self._matrix, dtype=self.dtype)

    def _forward(self, field: torch.Tensor, kernel: Any) -> torch.Tensor:
        rows, columns = self.space.output_plane.shape
        if kernel.rows is None and not kernel.transfer.requires_grad:
            return transfer(field, kernel.transfer, (rows, columns))
        spectrum = fft2(field, self.padded)
        if kernel.rows is None:
            return ifft2(spectrum * kernel.transfer.mT)[..., :rows, :columns]
        samples = self.padded[0] * self.padded[1]
        spectrum = torch.fft.fftshift(spectrum * kernel.transfer, dim=(-2, -1))
        return transform(spectrum, kernel.rows, kernel.columns) / samples

    def _adjoint(self, field: torch.Tensor, kernel: Any) -> torch.Tensor:
        rows, columns = self.space.input_plane.shape
        if kernel.rows is None and not kernel.transfer.requires_grad:
            return transfer_adjoint(field, kernel.transfer, (rows, columns))
        if kernel.rows is None:
            spectrum = fft2(field, self.padded) * kernel.transfer.mT.conj()
        else:
            spectrum = torch.fft.ifftshift(transform_adjoint(field, kernel.rows, kernel.columns), dim=(-2, -1))
            spectrum = spectrum * kernel.transfer.conj()
        if self.space.depths:
            spectrum = spectrum.sum(dim=-4, keepdim=True)
        return ifft2(spectrum)[..., :rows, :columns]


def exact_aside_m(wavelength_m: float, distance_m: float, frequency: float, squared: float) -> float:
    """Sideways move z tan(angle) of a wave by exact geometry; infinite at and beyond the grazing angle."""
    cosine_squared = 1 - wavelength_m**2 * squared
    if cosine_squared <= 0:
        return 0.0 if distance_m == 0 else float("inf")
    return distance_m * wavelength_m * frequency / sqrt(cosine_squared)
