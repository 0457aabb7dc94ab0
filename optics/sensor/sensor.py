"""The image sensor: expected photons in, digital numbers (DN) out.

``e = min(Shot(QE photons (1 + prnu) + dark), full_well)``, ``DN = round(black + K (e + dsnu + N(0, read^2)))`` clipped
to 0 ... top, with ``top = 2^bits - 1``: the linear camera model of EMVA 1288 (release 4.0, "Linear"). Unless K is given
it is ``(top - black) / full_well``. Read noise may take a dark pixel below zero; the black level keeps that part.
Nothing depends on the frame as a whole: twice the light is twice the signal.

Dark electrons: ``dark_e + I 2^((T - T_ref) / T_doubling) t``, with t the exposure of the row.
Temporal noise is drawn for every frame; ``dsnu`` and ``prnu`` are maps of a seed, the same in every frame.

Gradients: shot noise is reparameterised, ``mu + sqrt(mu) z`` with the standardised noise z held fixed; below 20
electrons z would make that gradient explode, so the mean's own gradient (1) is used. Rounding is passed straight
through. Beyond full well and beyond the code range the gradient is zero, as the response there is flat.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Literal, NamedTuple

import torch
from torch import nn

from optics.errors import OpticsError

# Below this mean the normal law is no stand-in for Poisson (skewness 1 / sqrt(20) = 0.22).
_EXACT_BELOW_E = 20.0

# What the numbers and choices of a data sheet may be.
_POSITIVE = {
    "full_well_e": "a positive number of electrons",
    "dark_reference_k": "a positive number of kelvin",
    "dark_doubling_k": "a positive number of kelvin",
    "temperature_k": "a positive number of kelvin",
}
_ZERO_OR_MORE = {
    "read_noise_e": "zero or a positive number of electrons",
    "dark_e": "zero or a positive number of electrons",
    "dark_current_e_s": "zero or positive",
    "exposure_s": "zero or positive",
    "line_time_s": "zero or positive",
}
_CHOICES = {
    "shot_noise": ("mixed", "poisson"),
    "shutter": ("global", "rolling", "global reset"),
    "justify": ("right", "left"),
}


@dataclass(frozen=True)
class FixedPattern:
    """What differs from pixel to pixel but not from frame to frame.

    Attributes:
        seed: Seed of the maps; it stands for the serial number of the sensor.
        dsnu_e: RMS of the offset in electrons (DSNU1288): that of single pixels, or three values, of pixels, of whole
            rows and of whole columns.
        prnu: RMS of the relative response (PRNU1288), in the same form. A response below zero counts as zero.
        hot_share: Share of the pixels that are hot.
        hot_e_s: Mean extra dark current of a hot pixel (exponential law) in electrons a second, at the sensor's
            ``dark_reference_k``.
    """

    seed: int
    dsnu_e: float | tuple[float, float, float] = 0.0
    prnu: float | tuple[float, float, float] = 0.0
    hot_share: float = 0.0
    hot_e_s: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("dsnu_e", self.dsnu_e), ("prnu", self.prnu)):
            parts = value if isinstance(value, tuple) else (value,)
            if len(parts) not in (1, 3) or not all(isfinite(part) and part >= 0 for part in parts):
                raise OpticsError(
                    f"{name}={value} must be one RMS, zero or more, or three: of pixels, of rows and of columns."
                )
        if not 0 <= self.hot_share <= 1:
            raise OpticsError(f"hot_share={self.hot_share} must be a share from 0 to 1.")
        if not (isfinite(self.hot_e_s) and self.hot_e_s >= 0):
            raise OpticsError(f"hot_e_s={self.hot_e_s} must be zero or more electrons a second.")


class _Maps(NamedTuple):
    """A fixed pattern drawn for one frame size, each of shape (C, H, W)."""

    response: torch.Tensor
    offset_e: torch.Tensor
    hot_e_s: torch.Tensor


@dataclass(frozen=True)
class SensorSpec:
    """Data sheet of a sensor, and how it is set.

    Attributes:
        full_well_e: Electrons that fill a pixel; they give the top code unless ``gain_dn_e`` says otherwise.
        read_noise_e: RMS read noise in electrons.
        dark_e: Mean dark electrons per pixel and exposure.
        quantum_efficiency: Electrons per photon, one value or one per channel.
        bits: Bits of the converter.
        black_level_dn: Code of a dark pixel without noise or dark current.
        colour: True keeps one plane per channel (filters, no mosaic); False adds the electrons of all channels
            into one plane.
        shot_noise: ``"mixed"`` draws Poisson numbers below 20 electrons and normal ones above, ``"poisson"`` Poisson
            numbers everywhere (slower).
        gain_dn_e: System gain K in DN per electron; None lets a full well give the top code.
        dark_current_e_s: Dark current in electrons a second at ``dark_reference_k``; it adds to ``dark_e``.
        dark_reference_k: Temperature of that value in kelvin.
        dark_doubling_k: Rise in temperature that doubles the dark current, in kelvin.
        temperature_k: Temperature of the sensor in kelvin.
        exposure_s: Exposure time in seconds; photons are given per exposure, so it acts on the dark current alone.
        shutter: ``"global"`` exposes all rows at once; ``"rolling"`` starts and ends each row ``line_time_s`` after the
            one above; ``"global reset"`` starts all rows at once and ends them one after the other.
        line_time_s: Time between the read-outs of neighbouring rows in seconds.
        pattern: Fixed pattern, or None for a uniform sensor.
        justify: ``"left"`` moves the codes to the upper bits of the word of 8 or 16 bits (12 in 16: 16 times the code).
            Black level, top code and gain are in codes of the converter all the same.
    """

    full_well_e: float = 10_000.0
    read_noise_e: float = 2.5
    dark_e: float = 1.0
    quantum_efficiency: float | tuple[float, ...] = 0.6
    bits: int = 10
    black_level_dn: float = 32.0
    colour: bool = True
    shot_noise: Literal["mixed", "poisson"] = "mixed"
    gain_dn_e: float | None = None
    dark_current_e_s: float = 0.0
    dark_reference_k: float = 293.15
    dark_doubling_k: float = 8.0
    temperature_k: float = 293.15
    exposure_s: float = 0.0
    shutter: Literal["global", "rolling", "global reset"] = "global"
    line_time_s: float = 0.0
    pattern: FixedPattern | None = None
    justify: Literal["right", "left"] = "right"

    def __post_init__(self) -> None:
        self._check_converter()
        efficiencies = (
            self.quantum_efficiency if isinstance(self.quantum_efficiency, tuple) else (self.quantum_efficiency,)
        )
        if not efficiencies or not all(0 < q <= 1 for q in efficiencies):
            raise OpticsError(f"quantum_efficiency={self.quantum_efficiency} must lie above 0 and not above 1.")
        self._check_numbers()
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                listed = ", ".join(map(repr, choices[:-1]))
                raise OpticsError(f"{name}={getattr(self, name)!r} must be {listed} or {choices[-1]!r}.")

    def _check_converter(self) -> None:
        if not 1 <= self.bits <= 16:
            raise OpticsError(f"bits={self.bits} must be between 1 and 16.")
        if not 0 <= self.black_level_dn < self.top_dn:
            raise OpticsError(
                f"black_level_dn={self.black_level_dn} must lie from 0 to below the top code {self.top_dn} of "
                f"{self.bits} bits."
            )
        if self.gain_dn_e is not None and not (isfinite(self.gain_dn_e) and self.gain_dn_e > 0):
            raise OpticsError(f"gain_dn_e={self.gain_dn_e} must be a positive number of DN per electron, or None.")

    def _check_numbers(self) -> None:
        for name, what in _POSITIVE.items():
            value = getattr(self, name)
            if not (isfinite(value) and value > 0):
                raise OpticsError(f"{name}={value} must be {what}.")
        for name, what in _ZERO_OR_MORE.items():
            value = getattr(self, name)
            if not (isfinite(value) and value >= 0):
                raise OpticsError(f"{name}={value} must be {what}.")

    @property
    def top_dn(self) -> int:
        """Highest code."""
        return 2**self.bits - 1

    @property
    def dn_per_electron(self) -> float:
        """System gain K in codes per electron: ``gain_dn_e``, or what maps a full well to the top code."""
        if self.gain_dn_e is not None:
            return self.gain_dn_e
        return (self.top_dn - self.black_level_dn) / self.full_well_e

    @property
    def code_step(self) -> int:
        """Distance of neighbouring codes in the output: 1, or more if they are left-justified."""
        return 2 ** ((8 if self.bits <= 8 else 16) - self.bits) if self.justify == "left" else 1

    @property
    def dark_factor(self) -> float:
        """Dark current over that at the reference temperature (EMVA 1288, "doubling temperature")."""
        return float(2.0 ** ((self.temperature_k - self.dark_reference_k) / self.dark_doubling_k))

    def row_times_s(self, rows: int) -> torch.Tensor:
        """Return start and end of the exposure of each row in seconds, float64 of shape (rows, 2); row 0 starts at 0.

        A scene that moves or flickers is to be integrated between these times, row by row.
        """
        later = torch.arange(rows, dtype=torch.float64) * self.line_time_s
        still = torch.zeros_like(later)
        start = later if self.shutter == "rolling" else still
        return torch.stack((start, self.exposure_s + (still if self.shutter == "global" else later)), dim=1)


class Sensor(nn.Module):
    """A sensor after its data sheet; see the module's description for the equations.

    >>> sensor = Sensor(SensorSpec(bits=8, black_level_dn=8.0, full_well_e=1000.0))
    >>> frame = sensor(torch.full((1, 3, 4, 4), 500.0), torch.Generator().manual_seed(0))
    >>> tuple(frame.shape), bool((frame == frame.round()).all())
    ((1, 3, 4, 4), True)
    """

    efficiency: torch.Tensor

    def __init__(self, spec: SensorSpec) -> None:
        super().__init__()
        self.spec = spec
        values = spec.quantum_efficiency
        efficiency = torch.tensor(values if isinstance(values, tuple) else (values,), dtype=torch.float64)
        self.register_buffer("efficiency", efficiency.reshape(-1, 1, 1), persistent=False)
        # The maps of the frame size seen last.
        self._maps: tuple[tuple[object, ...], _Maps] | None = None

    def mean_electrons(self, photons: torch.Tensor) -> torch.Tensor:
        """Return the expected electrons, light and dark, of shape (N, C, H, W), or (N, 1, H, W) for monochrome.

        Relative response and dark current of each pixel are in it; the offset of DSNU arises later, at read-out.

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
        maps = self._pattern(light)
        if maps is not None:
            light = light * maps.response
        return light + self._dark(light, maps)

    def _dark(self, like: torch.Tensor, maps: _Maps | None) -> torch.Tensor | float:
        """Expected dark electrons: a number, or a tensor that broadcasts with the frame ``like``."""
        spec = self.spec
        current: torch.Tensor | float = spec.dark_current_e_s
        if maps is not None:
            current = current + maps.hot_e_s
        elif current == 0:
            return spec.dark_e
        times = spec.row_times_s(like.shape[-2]).to(like.device, like.dtype)
        return spec.dark_e + current * (spec.dark_factor * (times[:, 1:] - times[:, :1]))

    def _pattern(self, like: torch.Tensor) -> _Maps | None:
        """The fixed pattern for frames of the shape of ``like``, drawn on the CPU whatever the device."""
        pattern = self.spec.pattern
        if pattern is None:
            return None
        shape = tuple(like.shape[1:])
        key = (shape, like.dtype, like.device)
        if self._maps is None or self._maps[0] != key:
            generator = torch.Generator().manual_seed(pattern.seed)
            response = (1 + _draw(pattern.prnu, shape, generator)).clamp(min=0.0)
            offset = _draw(pattern.dsnu_e, shape, generator)
            hot = torch.rand(shape, generator=generator, dtype=torch.float64) < pattern.hot_share
            extra = -torch.rand(shape, generator=generator, dtype=torch.float64).neg().log1p() * pattern.hot_e_s
            maps = (response, offset, torch.where(hot, extra, 0.0))
            self._maps = key, _Maps(*(m.to(like.device, like.dtype) for m in maps))
        return self._maps[1]

    def expected_dn(self, photons: torch.Tensor) -> torch.Tensor:
        """Return the DN without temporal noise and rounding (clipped at full well): the smooth response of this sensor,
        its fixed pattern included, for calibration.
        """
        spec = self.spec
        electrons = self.mean_electrons(photons).clamp(max=spec.full_well_e)
        maps = self._pattern(electrons)
        if maps is not None:
            electrons = electrons + maps.offset_e
        signal = spec.black_level_dn + electrons * spec.dn_per_electron
        if maps is not None or spec.gain_dn_e is not None:
            signal = signal.clamp(0.0, float(spec.top_dn))
        return signal * spec.code_step

    def forward(self, photons: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return one noisy exposure.

        Args:
            photons: Expected photons per pixel and exposure, shape (N, C, H, W).
            generator: Source of the temporal noise, on the device of the photons or the CPU; the same state gives the
                same frame.

        Returns:
            DN as floats of integer value, shape (N, C, H, W), or (N, 1, H, W) for a monochrome sensor.
        """
        spec = self.spec
        electrons = self._shot(self.mean_electrons(photons), generator).clamp(max=spec.full_well_e)
        electrons = electrons + spec.read_noise_e * _normal(electrons, generator)
        maps = self._pattern(electrons)
        if maps is not None:
            electrons = electrons + maps.offset_e
        signal = electrons * spec.dn_per_electron + spec.black_level_dn
        code = signal.clamp(0.0, float(spec.top_dn))
        return (code + (code.round() - code).detach()) * spec.code_step

    def _shot(self, mean: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        exact = torch.ones_like(mean, dtype=torch.bool) if self.spec.shot_noise == "poisson" else mean < _EXACT_BELOW_E
        fixed = mean.detach()
        z = _normal(mean, generator)
        if bool(exact.any()):
            few = fixed[exact]
            count = torch.poisson(few.to(generator.device), generator=generator).to(few.device)
            z[exact] = (count - few) / few.clamp(min=torch.finfo(few.dtype).tiny).sqrt()
        bright = mean.clamp(min=_EXACT_BELOW_E)
        noisy = mean + bright.sqrt() * z
        # Where the mean is small the noise is a constant of the gradient; elsewhere it scales as sqrt(mean).
        return torch.where(fixed < _EXACT_BELOW_E, mean + fixed.sqrt() * z, noisy)

    def normalise(self, dn: torch.Tensor) -> torch.Tensor:
        """Map DN to light by a fixed affine map: black level to 0, top code to 1; never by the frame's own range."""
        return (dn / self.spec.code_step - self.spec.black_level_dn) / (self.spec.top_dn - self.spec.black_level_dn)


def _normal(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Standard normal numbers of the shape, type and device of ``like``."""
    z = torch.randn(like.shape, generator=generator, dtype=like.dtype, device=generator.device)
    return z.to(like.device)


def _draw(rms: float | tuple[float, float, float], shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Normal map of shape (C, H, W): independent pixels, rows and columns of the RMS given."""
    pixels, rows, columns = rms if isinstance(rms, tuple) else (rms, 0.0, 0.0)
    c, h, w = shape
    parts = ((pixels, (c, h, w)), (rows, (c, h, 1)), (columns, (c, 1, w)))
    maps = [size * torch.randn(part, generator=generator, dtype=torch.float64) for size, part in parts]
    return maps[0] + maps[1] + maps[2]
