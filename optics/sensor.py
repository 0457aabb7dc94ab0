"""The image sensor: expected photons in, digital numbers (DN) out.

``e = min(Shot(QE photons + dark), full_well)``, ``DN = round(black + (e + N(0, read^2)) (top - black) / full_well)``
clipped to 0 ... top, with ``top = 2^bits - 1`` (the linear camera model of EMVA 1288). Read noise may take a dark pixel
below zero; the black level keeps that part.
Nothing depends on the frame as a whole: twice the light is twice the signal.

Gradients: shot noise is reparameterised, ``mu + sqrt(mu) z`` with the standardised noise z held fixed; below 20
electrons z would make that gradient explode, so the mean's own gradient (1) is used. Rounding is passed straight
through. Beyond full well and beyond the code range the gradient is zero, as the response there is flat.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Literal

import torch
from torch import nn

from optics.errors import OpticsError

# Below this mean the normal law is no stand-in for Poisson (skewness 1 / sqrt(20) = 0.22).
_EXACT_BELOW_E = 20.0


@dataclass(frozen=True)
class SensorSpec:
    """Data sheet of a sensor.

    Attributes:
        full_well_e: Electrons that fill a pixel; they give the top code.
        read_noise_e: RMS read noise in electrons.
        dark_e: Mean dark electrons per pixel and exposure.
        quantum_efficiency: Electrons per photon, one value or one per channel.
        bits: Bits of the converter.
        black_level_dn: Code of a dark pixel without noise or dark current.
        colour: True keeps one plane per channel (filters, no mosaic); False adds the electrons of all channels
            into one plane.
        shot_noise: ``"mixed"`` draws Poisson numbers below 20 electrons and normal ones above, ``"poisson"`` Poisson
            numbers everywhere (slower).
    """

    full_well_e: float = 10_000.0
    read_noise_e: float = 2.5
    dark_e: float = 1.0
    quantum_efficiency: float | tuple[float, ...] = 0.6
    bits: int = 10
    black_level_dn: float = 32.0
    colour: bool = True
    shot_noise: Literal["mixed", "poisson"] = "mixed"

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 16:
            raise OpticsError(f"bits={self.bits} must be between 1 and 16.")
        if not (isfinite(self.full_well_e) and self.full_well_e > 0):
            raise OpticsError(f"full_well_e={self.full_well_e} must be a positive number of electrons.")
        for name, value in (("read_noise_e", self.read_noise_e), ("dark_e", self.dark_e)):
            if not (isfinite(value) and value >= 0):
                raise OpticsError(f"{name}={value} must be zero or a positive number of electrons.")
        efficiencies = (
            self.quantum_efficiency if isinstance(self.quantum_efficiency, tuple) else (self.quantum_efficiency,)
        )
        if not efficiencies or not all(0 < q <= 1 for q in efficiencies):
            raise OpticsError(f"quantum_efficiency={self.quantum_efficiency} must lie above 0 and not above 1.")
        if not 0 <= self.black_level_dn < self.top_dn:
            raise OpticsError(
                f"black_level_dn={self.black_level_dn} must lie from 0 to below the top code {self.top_dn} of "
                f"{self.bits} bits."
            )
        if self.shot_noise not in ("mixed", "poisson"):
            raise OpticsError(f"shot_noise={self.shot_noise!r} must be 'mixed' or 'poisson'.")

    @property
    def top_dn(self) -> int:
        """Highest code."""
        return 2**self.bits - 1

    @property
    def dn_per_electron(self) -> float:
        """Conversion gain: full well maps to the top code."""
        return (self.top_dn - self.black_level_dn) / self.full_well_e


class Sensor(nn.Module):
    """A sensor after its data sheet; see the module's description for the equations."""

    efficiency: torch.Tensor

    def __init__(self, spec: SensorSpec) -> None:
        super().__init__()
        self.spec = spec
        values = spec.quantum_efficiency
        efficiency = torch.tensor(values if isinstance(values, tuple) else (values,), dtype=torch.float64)
        self.register_buffer("efficiency", efficiency.reshape(-1, 1, 1), persistent=False)

    def mean_electrons(self, photons: torch.Tensor) -> torch.Tensor:
        """Return the expected electrons, light and dark, of shape (N, C, H, W), or (N, 1, H, W) for monochrome.

        Args:
            photons: Expected photons per pixel and exposure, shape (N, C, H, W); values below zero (rounding of a
                convolution) count as none.

        Raises:
            OpticsError: The shape does not fit the data sheet.
        """
        channels = self.efficiency.shape[0]
        if photons.ndim != 4 or channels not in (1, photons.shape[1]):
            raise OpticsError(
                f"photons has shape {tuple(photons.shape)}; (N, C, H, W) is needed, with C={channels} as in "
                "quantum_efficiency if that has one value per channel."
            )
        light = photons.clamp(min=0.0) * self.efficiency.to(photons.dtype)
        if not self.spec.colour:
            light = light.sum(dim=1, keepdim=True)
        return light + self.spec.dark_e

    def expected_dn(self, photons: torch.Tensor) -> torch.Tensor:
        """Return the DN without noise and rounding (clipped at full well): the smooth response, for calibration."""
        electrons = self.mean_electrons(photons).clamp(max=self.spec.full_well_e)
        return self.spec.black_level_dn + electrons * self.spec.dn_per_electron

    def forward(self, photons: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return one noisy exposure.

        Args:
            photons: Expected photons per pixel and exposure, shape (N, C, H, W).
            generator: Source of the noise; the same state gives the same frame.

        Returns:
            DN as floats of integer value, shape (N, C, H, W), or (N, 1, H, W) for a monochrome sensor.
        """
        spec = self.spec
        electrons = self._shot(self.mean_electrons(photons), generator).clamp(max=spec.full_well_e)
        noise = torch.randn(electrons.shape, generator=generator, dtype=electrons.dtype)
        signal = (electrons + spec.read_noise_e * noise) * spec.dn_per_electron + spec.black_level_dn
        code = signal.clamp(0.0, float(spec.top_dn))
        return code + (code.round() - code).detach()

    def _shot(self, mean: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        exact = torch.ones_like(mean, dtype=torch.bool) if self.spec.shot_noise == "poisson" else mean < _EXACT_BELOW_E
        fixed = mean.detach()
        z = torch.randn(mean.shape, generator=generator, dtype=mean.dtype)
        if bool(exact.any()):
            few = fixed[exact]
            count = torch.poisson(few, generator=generator)
            z[exact] = (count - few) / few.clamp(min=torch.finfo(few.dtype).tiny).sqrt()
        bright = mean.clamp(min=_EXACT_BELOW_E)
        noisy = mean + bright.sqrt() * z
        # Where the mean is small the noise is a constant of the gradient; elsewhere it scales as sqrt(mean).
        return torch.where(fixed < _EXACT_BELOW_E, mean + fixed.sqrt() * z, noisy)

    def normalise(self, dn: torch.Tensor) -> torch.Tensor:
        """Map DN to light by a fixed affine map: black level to 0, top code to 1; never by the frame's own range."""
        return (dn - self.spec.black_level_dn) / (self.spec.top_dn - self.spec.black_level_dn)
