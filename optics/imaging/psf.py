"""From the pupil to the point-spread function (PSF) on the sensor.

Fraunhofer at the focus of the lens: ``U(x) = sum_u P(u) exp(-2 pi i u x / (L d)) du^2`` for wavelength L and sensor
distance d (J. W. Goodman, Introduction to Fourier Optics, ch. 5), with the pupil function P of mask and defocus. With
this sign light leans towards where the mask is thicker, as in a prism. Pupil and sensor share the axes of the read-out
image: x right, y down, upright (both are turned by half a turn against the scene).

Normalisation: intensity over the power through the open aperture of the grid, so a value is the share of that light
that lands in a cell, and 1 minus the sum is what misses the window or is absorbed: a transmission of 1/2 everywhere
makes every value a quarter. Nothing is divided by its own sum or maximum. A sampled aperture of P cells across carries
``1 - 0.67 / P`` of the power in its replica period; the rest is light that the sharp rim diffracts to larger angles.

Cells: |U|^2 is a trigonometric polynomial of the pupil differences ``m du, |m| < P``. Its values on a grid of at least
2P points per period fix it, and its integral over a cell of side p follows term by term:
``integral = (p / X) sum_m sinc(m p / X) c_m exp(2 pi i m x / X)``, X = L d / du. Both steps are one real matrix W, so
PSF = W |FFT(P)|^2 W^T: exact for any cell size, with no oversampling factor to choose.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from optics.elements.base import PupilElement
from optics.fft import fast_length, fft2
from optics.lens import ThinLens
from optics.pupil import PupilGrid
from optics.pupil_function import PupilFunction
from optics.sampling import SamplingReport, check_sampling


class _SquaredModulus(torch.autograd.Function):
    """|z|^2 with the gradient 2 g z; the library's own chain takes three times as long on planes of this size."""

    generate_vmap_rule = True

    @staticmethod
    def forward(z: torch.Tensor) -> torch.Tensor:
        return z.real.square() + z.imag.square()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        (z,) = ctx.saved_tensors
        result: torch.Tensor = z * (2 * grad)
        return result


def _squared_modulus(z: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = _SquaredModulus.apply(z)
    return result


class _Psf(nn.Module):
    """Point-spread function of a pupil, a lens and whatever element lies in the pupil, one per wavelength.

    Args:
        grid: Pupil.
        lens: Lens.
        wavelengths_m: Vacuum wavelengths in metres, one PSF each.
        pitch_m: Side of an image cell (or distance of point samples) in metres.
        samples: Cells (or points) K along one side of the window, odd; the optical axis is at the centre of K // 2.
        dtype: torch.float32 or torch.float64.

    Raises:
        OpticsError: The window is wider than the replica distance, or an argument is invalid.
    """

    _point_samples: bool

    def __init__(
        self,
        grid: PupilGrid,
        lens: ThinLens,
        wavelengths_m: Sequence[float],
        pitch_m: float,
        samples: int,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        check_sampling(grid, lens, wavelengths_m, pitch_m, samples, point_samples=self._point_samples)
        self.grid = grid
        self.lens = lens
        self.wavelengths_m = tuple(float(w) for w in wavelengths_m)
        self.pitch_m = pitch_m
        self.samples = samples
        self.pupil = PupilFunction(grid, lens, self.wavelengths_m, dtype)
        self._prepare(dtype)

    def _prepare(self, dtype: torch.dtype) -> None:
        """Register what the transform needs."""
        raise NotImplementedError

    def forward(self, element: PupilElement, object_distance_m: float | torch.Tensor | None = None) -> torch.Tensor:
        """Return the share of the light through the open aperture in each cell.

        Args:
            element: What lies in the pupil: a phase mask, any other element, or a stack of them.
            object_distance_m: Distance of the object in metres; None means in focus, a tensor of shape (B,) gives one
                PSF per distance.

        Returns:
            PSF of shape (L, K, K), or (B, L, K, K) with a batch of distances; non-negative, sum at most 1.

        Raises:
            OpticsError: The element has another pupil or device, or values that are not finite.
        """
        return self.from_field(self.pupil(element, object_distance_m))

    def from_field(self, field: torch.Tensor) -> torch.Tensor:
        """Return the PSF of a complex field in the pupil, for callers who have tensors rather than an element.

        Args:
            field: Complex field of shape (L, P, P) or (B, L, P, P), as
                :meth:`optics.pupil_function.PupilFunction.from_turns` makes it.

        Returns:
            Shape (L, K, K) or (B, L, K, K); see :meth:`forward`.
        """
        raise NotImplementedError

    def check(self, element: PupilElement, object_distance_m: float | torch.Tensor | None = None) -> SamplingReport:
        """Check all sampling rules for this element and distance; see :func:`optics.check_sampling`."""
        return check_sampling(
            self.grid,
            self.lens,
            self.wavelengths_m,
            self.pitch_m,
            self.samples,
            element,
            object_distance_m,
            point_samples=self._point_samples,
        )


def cell_integrals(share: torch.Tensor, samples: int, pupil_samples: int, length: int) -> torch.Tensor:
    """Interpolate-and-integrate matrix W of one axis; see the module's description.

    Args:
        share: Side of a cell over the replica distance, float64 of any shape; gradients pass.
        samples: Cells K along the axis.
        pupil_samples: Samples P of the pupil along it.
        length: Points of the transform.

    Returns:
        Float64 of shape (..., K, length), the dots standing for the shape of ``share``.
    """
    share = share[..., None, None]
    m = torch.arange(1, pupil_samples, dtype=torch.float64, device=share.device)
    cell = torch.arange(samples, dtype=torch.float64, device=share.device) - samples // 2
    point = torch.arange(length, dtype=torch.float64, device=share.device)
    # cos(m (a - b)) = cos cos + sin sin turns a sum over (K, length, P) into two small products.
    centre = 2 * torch.pi * cell[:, None] * m * share
    points = m[:, None] * point * (2 * torch.pi / length)
    weight = 2 * torch.sinc(m * share)
    series = (centre.cos() * weight) @ points.cos() + (centre.sin() * weight) @ points.sin()
    return (1 + series) * (share / length)


class PupilToPsf(_Psf):
    """PSF integrated over square image cells, one per wavelength; exact for any cell size.

    Args:
        grid: Pupil.
        lens: Lens.
        wavelengths_m: Vacuum wavelengths in metres, one PSF each.
        pitch_m: Side of an image cell in metres.
        samples: Cells K along one side of the window, odd; the optical axis is at the centre of cell K // 2.
        dtype: torch.float32 or torch.float64.

    Raises:
        OpticsError: The window is wider than the replica distance, or an argument is invalid.

    >>> from optics import FlatMask
    >>> grid, lens = PupilGrid(0.5e-3, 64), ThinLens(4e-3, 1.0)
    >>> to_psf = PupilToPsf(grid, lens, [540e-9], pitch_m=4e-6, samples=15)
    >>> psf = to_psf(FlatMask(grid), object_distance_m=0.8)
    >>> tuple(psf.shape), bool(psf.sum() < 1)
    ((1, 15, 15), True)
    """

    _point_samples = False
    cells: torch.Tensor

    def _prepare(self, dtype: torch.dtype) -> None:
        self._length = fast_length(2 * self.grid.samples)
        power = self.grid.area_m2 / self.grid.pitch_m**2
        per_metre = self.pitch_m * self.grid.pitch_m / self.lens.sensor_distance_m
        share = per_metre / torch.tensor(self.wavelengths_m, dtype=torch.float64)
        rows = cell_integrals(share, self.samples, self.grid.samples, self._length)
        # W acts on both sides, so each carries the square root of 1 / power.
        self.register_buffer("cells", (rows / power**0.5).to(dtype), persistent=False)

    def from_field(self, field: torch.Tensor) -> torch.Tensor:
        """Return the PSF of a complex field of shape (L, P, P) or (B, L, P, P) in the pupil."""
        if field.ndim == 3 or field.device.type != "cpu":
            return self._cell_shares(field)
        # One entry at a time: the padded planes of a whole batch outgrow a processor's cache and take twice as long.
        return torch.stack([self._cell_shares(entry) for entry in field])

    def _cell_shares(self, field: torch.Tensor) -> torch.Tensor:
        intensity = _squared_modulus(fft2(field, (self._length, self._length)))
        # Exact values are never negative; the clamp removes rounding of about -1e-9.
        return (self.cells @ intensity @ self.cells.mT).clamp(min=0.0)


class PointPsf(_Psf):
    """PSF at points closer than the Nyquist pitch, by matrix Fourier transform; for pictures and fine studies.

    Same arguments as :class:`PupilToPsf`, with ``pitch_m`` the distance of the points; values are intensity at the
    point times ``pitch_m^2``, as a share of the light through the open aperture (R. Soummer et al., Opt. Express 15,
    15935 (2007) for the transform). Pupil and window are symmetric about the axis, so rows of cosines and sines for
    x >= 0 alone, real, give both sides: half the products of the complex matrices.
    """

    _point_samples = True
    waves: torch.Tensor

    def _prepare(self, dtype: torch.dtype) -> None:
        grid, distance = self.grid, self.lens.sensor_distance_m
        half = self.samples // 2
        points = (torch.arange(self.samples, dtype=torch.float64) - half)[half:] * self.pitch_m
        scale = self.pitch_m * grid.pitch_m**2 / (grid.area_m2**0.5 * distance)
        rows = []
        for wavelength in self.wavelengths_m:
            phase = 2 * torch.pi * (points[:, None] * grid.coordinate_m / (wavelength * distance))
            rows.append(torch.cat((phase.cos(), phase.sin())) * (scale / wavelength) ** 0.5)
        self.register_buffer("waves", torch.stack(rows).to(dtype), persistent=False)

    def amplitude(self, element: PupilElement, object_distance_m: float | torch.Tensor | None = None) -> torch.Tensor:
        """Return the complex field whose squared modulus is :meth:`forward`, shape (L, K, K) or (B, L, K, K)."""
        return self._transform(self.pupil(element, object_distance_m))

    def from_field(self, field: torch.Tensor) -> torch.Tensor:
        """Return the PSF of a complex field of shape (L, P, P) or (B, L, P, P) in the pupil."""
        return _squared_modulus(self._transform(field))

    def _transform(self, field: torch.Tensor) -> torch.Tensor:
        """Return ``sum_u P(u) exp(-2 pi i u x / (L d))`` at the points of the window, shape (..., L, K, K)."""
        # Real and imaginary part side by side, so that each side of the product is one real matrix product.
        parts = torch.stack((field.real, field.imag), dim=-2).flatten(-2)
        half = self.samples // 2 + 1
        parts = (self.waves @ parts).unflatten(-1, (2, -1)).flatten(-3, -2) @ self.waves.mT
        # Now (..., cosine or sine in y, y >= 0, real or imaginary, cosine or sine in x, x >= 0).
        parts = parts.unflatten(-2, (2, half, 2)).unflatten(-1, (2, half))
        real, imag = parts.unbind(-3)
        blocks = torch.complex(real, imag)
        cc, cs, sc, ss = (blocks[..., y, :, x, :] for y in (0, 1) for x in (0, 1))
        # exp(-i (a + b)) = cos a cos b - sin a sin b - i (cos a sin b + sin a cos b); mirrors negate sines.
        same, opposite, sum_i, difference_i = cc - ss, cc + ss, 1j * (cs + sc), 1j * (cs - sc)
        below = torch.cat(((opposite + difference_i)[..., 1:].flip(-1), same - sum_i), dim=-1)
        above = torch.cat(((same + sum_i)[..., 1:].flip(-1), opposite - difference_i), dim=-1)
        return torch.cat((above[..., 1:, :].flip(-2), below), dim=-2)
