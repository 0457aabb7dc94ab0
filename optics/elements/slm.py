"""A phase-only spatial light modulator (SLM): pixels, fill factor, grey levels and look-up table.

Pixels. Each covers a whole number of pupil samples. Its active area is a centred square of the share ``fill_factor``;
a pupil sample carries the exact share ``a`` of its cell that is active, so dead zones narrower than a sample count too,
and the field of the sample is the mean over its cell, ``a exp(i phi) + (1 - a) g``. The dead zone absorbs (g = 0, the
mask of a transmissive panel) or sends the light on without phase (g = 1, the zero order of a reflective panel). Light
diffracted by structure finer than a pupil sample lies beyond the replica distance and leaves the window.

Grey levels. ``phi = table[round(drive)]`` at the wavelength of the table; the gradient is the slope of the table at the
unrounded drive, and 0 beyond its ends.

Other wavelengths. The path error ``phi L0 / (2 pi)`` stays, times the birefringence over that at L0 if known, so the
phase scales as ``L0 / L``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite, pi
from typing import Literal

import torch
from torch import nn

from optics.checks import check_finite, check_wavelengths
from optics.elements.base import PupilElement, cells_across, samples_of, spread_cells, straight_through
from optics.errors import OpticsError
from optics.pupil import PupilGrid


class SpatialLightModulator(PupilElement):
    """An SLM in the pupil.

    Args:
        grid: Pupil; its pitch must divide ``pixel_pitch_m``, and whole pixels must fill it.
        pixel_pitch_m: Distance of pixels in metres.
        phase_table_rad: Phase of each grey level at ``wavelength_m`` in radians, shape (2^bits,), rising or falling
            throughout (level steps of 0 allowed); measured, or from :func:`linear_phase_table`.
        wavelength_m: Vacuum wavelength of the table in metres.
        fill_factor: Active share of the area of a pixel, above 0 to 1.
        dead_zone: What the rest does: ``"absorbing"`` or ``"unmodulated"``.
        dispersion: Birefringence at a wavelength in metres over that at ``wavelength_m``; None means 1.
        drive: Grey levels, Parameter (trained, any real values) or tensor (fixed), of shape (pixels, pixels); None
            starts a trained panel at the middle of the table.
        dtype: Type of the result.
    """

    drive: torch.Tensor
    table: torch.Tensor
    active: torch.Tensor

    def __init__(
        self,
        grid: PupilGrid,
        pixel_pitch_m: float,
        phase_table_rad: torch.Tensor,
        wavelength_m: float,
        *,
        fill_factor: float = 1.0,
        dead_zone: Literal["absorbing", "unmodulated"] = "absorbing",
        dispersion: Callable[[float], float] | None = None,
        drive: torch.Tensor | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(grid, dtype)
        if not 0 < fill_factor <= 1:
            raise OpticsError(f"fill_factor={fill_factor} must be above 0 and at most 1.")
        if dead_zone not in ("absorbing", "unmodulated"):
            raise OpticsError(f"dead_zone={dead_zone!r} is unknown; choose 'absorbing' or 'unmodulated'.")
        self.wavelength_m = check_wavelengths([wavelength_m])[0]
        if dispersion is not None and abs(dispersion(self.wavelength_m) - 1) > 1e-9:
            raise OpticsError(
                f"dispersion gives {dispersion(self.wavelength_m):g} at wavelength_m={wavelength_m:g}; it must be 1 "
                "there, a ratio to the birefringence at that wavelength."
            )
        self.dispersion = dispersion
        self.unmodulated = dead_zone == "unmodulated"
        self._samples = samples_of(grid, pixel_pitch_m, "pixel_pitch_m")
        self.pixels = cells_across(grid, self._samples, "a pixel")
        self._hold("table", _check_table(phase_table_rad), tuple(phase_table_rad.shape))
        middle = (self.levels - 1) / 2
        shape = (self.pixels, self.pixels)
        self._hold("drive", nn.Parameter(torch.full(shape, middle, dtype=dtype)) if drive is None else drive, shape)
        share = _active_share(self._samples, fill_factor).repeat(self.pixels)
        self.register_buffer("active", (share[:, None] * share).to(dtype), persistent=False)
        self._full = fill_factor == 1
        self._follow(drive if drive is not None else phase_table_rad)

    @property
    def levels(self) -> int:
        """Number of grey levels, 2^bits."""
        return len(self.table)

    def grey_levels(self) -> torch.Tensor:
        """Return the grey level of each pixel as sent to the panel, int64 of shape (pixels, pixels)."""
        return self.drive.detach().clamp(0, self.levels - 1).round().long()

    def phase_rad(self) -> torch.Tensor:
        """Return the phase of each pixel at ``wavelength_m`` in radians, shape (pixels, pixels)."""
        drive = self.drive.clamp(0, self.levels - 1)
        low = drive.detach().floor().long().clamp(max=self.levels - 2)
        soft = self.table[low] + (drive - low) * (self.table[low + 1] - self.table[low])
        return straight_through(self.table[self.grey_levels()], soft)

    def drive_for(self, phase_rad: torch.Tensor) -> torch.Tensor:
        """Return the drive (unrounded grey levels) that gives phases in radians, any shape.

        Phases are reduced by whole turns to start at the lowest of the table; what the table does not reach is set to
        the nearer end of the gap, counted round the circle.
        """
        check_finite("phase_rad", phase_rad)
        falling = bool(self.table[-1] < self.table[0])
        table = (self.table.flip(0) if falling else self.table).double()
        start, reach = table[0], table[-1] - table[0]
        wanted = torch.remainder(phase_rad.detach().double() - start, 2 * pi)
        wanted = torch.where(wanted > (reach + 2 * pi) / 2, torch.zeros_like(wanted), wanted).clamp(max=reach) + start
        high = torch.searchsorted(table, wanted.contiguous()).clamp(1, self.levels - 1)
        step = table[high] - table[high - 1]
        share = torch.where(step > 0, (wanted - table[high - 1]) / step.clamp(min=1e-300), torch.zeros_like(step))
        level = high - 1 + share.clamp(0, 1)
        return (self.levels - 1 - level if falling else level).to(self.table.dtype)

    def path_m(self, wavelengths_m: Sequence[float]) -> torch.Tensor:
        """Return the path error in metres, shape (L, P, P)."""
        path, waves = self._active_path(wavelengths_m)
        if not self.unmodulated or self._full:
            return path
        real, imaginary = self._dead_zone_sum(path, waves)
        return path + torch.atan2(imaginary, real) * (waves / (2 * pi))

    def transmission(self, wavelengths_m: Sequence[float] | None = None) -> torch.Tensor | None:
        """Return the amplitude factor: None (all active), (P, P) (absorbing) or (L, P, P) (unmodulated dead zone).

        Raises:
            OpticsError: The dead zone is unmodulated and no wavelengths were given.
        """
        if self._full:
            return None
        if not self.unmodulated:
            return self.active
        if wavelengths_m is None:
            raise OpticsError("the unmodulated dead zone makes the amplitude depend on colour; pass wavelengths_m.")
        real, imaginary = self._dead_zone_sum(*self._active_path(wavelengths_m))
        return (real.square() + imaginary.square()).clamp(min=torch.finfo(real.dtype).tiny).sqrt()

    def _active_path(self, wavelengths_m: Sequence[float]) -> tuple[torch.Tensor, torch.Tensor]:
        """Path error of the active area (L, P, P), and the wavelengths (L, 1, 1)."""
        waves = check_wavelengths(wavelengths_m)
        ratios = [1.0 if self.dispersion is None else self.dispersion(w) for w in waves]
        if not all(isfinite(r) for r in ratios):
            raise OpticsError(f"dispersion gives {ratios} at {waves}; it must be finite at all wavelengths_m.")
        cells = self.phase_rad()
        scale = cells.new_tensor([self.wavelength_m * r / (2 * pi) for r in ratios])
        path = spread_cells(cells, self._samples) * scale[:, None, None]
        return path, cells.new_tensor(waves)[:, None, None]

    def _dead_zone_sum(self, path: torch.Tensor, waves: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Real and imaginary part of ``a + (1 - a) exp(-i phi)``: the field relative to the active phase."""
        turns = path / waves
        phase = (turns - turns.detach().round()) * (2 * pi)
        dead = 1 - self.active
        return self.active + dead * phase.cos(), -dead * phase.sin()


def linear_phase_table(bits: int, turns: float = 1.0) -> torch.Tensor:
    """Return an ideal table: 2^bits levels over ``turns`` turns, the last one level short of the end, float64."""
    if not 1 <= bits <= 16:
        raise OpticsError(f"bits={bits} must be between 1 and 16.")
    return torch.arange(2**bits, dtype=torch.float64) * (2 * pi * turns / 2**bits)


def _check_table(table: torch.Tensor) -> torch.Tensor:
    count = table.numel()
    if table.ndim != 1 or count < 2 or count & (count - 1):
        raise OpticsError(f"phase_table_rad has shape {tuple(table.shape)}; it needs 2^bits entries, for example 256.")
    check_finite("phase_table_rad", table)
    steps = table.detach().diff()
    if not (bool((steps >= 0).all()) or bool((steps <= 0).all())) or bool((steps == 0).all()):
        raise OpticsError(
            "phase_table_rad is not monotone; unwrap it, or smooth the measurement so that it only rises or only falls."
        )
    return table.detach()


def _active_share(samples: int, fill_factor: float) -> torch.Tensor:
    """Share of each sample of one pixel, along one axis, inside the centred active interval."""
    edge = torch.arange(samples + 1, dtype=torch.float64) - samples / 2
    half = samples * fill_factor**0.5 / 2
    return edge.clamp(-half, half).diff()
