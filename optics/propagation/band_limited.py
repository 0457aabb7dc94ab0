"""The band-limited angular spectrum method: cut the waves that the padded plane cannot hold."""

from __future__ import annotations

from math import hypot

import torch

from optics.errors import OpticsError
from optics.propagation.angular_spectrum import AngularSpectrum
from optics.propagation.propagator import SLACK, Margin, SamplingError


class BandLimitedAngularSpectrum(AngularSpectrum):
    """Angular spectrum without the waves whose sampled transfer function aliases.

    K. Matsushima and T. Shimobaba, Opt. Express 17, 19662 (2009); off-centre output planes: K. Matsushima, Opt. Express
    18, 18453 (2010). A wave passes if its sideways move d towards the output plane at offset c keeps
    ``|d - c| <= P - (a + b) / 2`` in y and in x, for padded period P and spans a, b of the planes: the exact curve, not
    the rectangle that approximates it in the papers, and their P / 2 where P = a + b. Cut are the waves for which
    :class:`AngularSpectrum` refuses to work; where it refuses none both are one. By ray optics they miss the output
    plane, so the price is ringing: for a sharp aperture that fills the input plane about 3 % of the field at 10 Fresnel
    zones ``P^2 / (4 L z)`` and 5 % at 4, below which it is refused. Evanescent waves do not move aside and pass (they
    decay).
    """

    _alternatives = "FresnelTransform"

    # Fewer zones than this, and the cut takes a visible share of the light that belongs into the output plane.
    _fewest_zones = 4.0

    def check(self) -> tuple[Margin, ...]:
        """Return the margin of the Fresnel zones for y and x.

        Raises:
            OpticsError: The field is periodic, or the distance is so large that hardly any frequencies pass.
        """
        if self.periodic:
            raise OpticsError("periodic=True needs no band limit; use AngularSpectrum.")
        return (self._zone_margin(0), self._zone_margin(1))

    def _zone_margin(self, dim: int) -> Margin:
        farthest, wavelength = max(abs(z) for z in self.distances_m), max(self.space.medium_wavelengths_m)
        span = self.space.input_plane.span_m[dim]
        offset, half = self._window_m(dim)
        nyquist = min(self.space.nyquist_per_m(dim), 1 / wavelength)
        # Frequencies of the rays to both ends of what may pass, within those that the input has.
        ends = (offset - half, offset + half)
        low, high = (max(-nyquist, min(nyquist, e / hypot(e, farthest) / wavelength)) for e in ends)
        zones = (high - low) / 2 * span
        least = min(self._fewest_zones, nyquist * span)
        if zones * SLACK < least:
            raise SamplingError(
                f"at distance_m={farthest:g} only {zones:.2g} Fresnel zones of input_plane pass the band limit along "
                f"{'yx'[dim]} (at least {least:.2g} are needed); raise padded, reduce distance_m, or use "
                f"{self._alternatives}."
            )
        # As value <= limit, like every margin.
        return Margin(f"Fresnel zones needed along {'yx'[dim]}", least, zones)

    def _window_m(self, dim: int) -> tuple[float, float]:
        """Offset of the output plane, and how far from it a wave may move, in metres."""
        offset = self.space.output_plane.centre_m[dim] - self.space.input_plane.centre_m[dim]
        return offset, self._limit_m(dim) + abs(offset)

    def _passed(
        self, wavelength_m: torch.Tensor, distance_m: torch.Tensor, y: torch.Tensor, x: torch.Tensor
    ) -> torch.Tensor | None:
        distance = distance_m.detach()
        cosine_squared = 1 / wavelength_m.square() - (y.square() + x.square())
        cosine = cosine_squared.clamp(min=0).sqrt()  # times n / L, as the frequencies
        passed = cosine_squared <= 0
        inside = torch.ones_like(passed)
        for dim, frequency in enumerate((y, x)):
            offset, half = self._window_m(dim)
            inside = inside & ((distance * frequency - offset * cosine).abs() <= half * SLACK * cosine)
        return passed | inside
