"""The encoder camera: scene window at a distance -> mask in the pupil -> coarse noisy sensor -> encoded frame.

``signal`` = pixels(PSF * scene) is linear in the scene and differentiable in the mask; ``read`` adds photo-electron
statistics, saturation and bits. Both work on batches. Everything is in SI units and photo-electrons; nothing is ever
divided by the maximum of an image.

Tensors of a camera are made on the CPU and move with it (``camera.to(device)``); what is computed from scenes stays on
their device.

The window is a square plane of known width at a known distance. One sample of the window lands on one image cell and a
whole number of cells makes one sensor pixel, so geometry, point-spread function and sensor pitch agree by construction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from optics import (
    FieldStop,
    OpticsError,
    PhaseMask,
    PupilGrid,
    PupilToPsf,
    Sensor,
    SensorSpec,
    ThinLens,
    bin_pixels,
    convolve,
)
from sim.grey_mask import GreyMask


@dataclass(frozen=True)
class Geometry:
    """Where things are (SI units). Every camera of a comparison shares one geometry, except for its focus.

    Attributes:
        focal_length_m: Focal length of the thin lens.
        aperture_diameter_m: Diameter of the pupil that carries the mask.
        focus_distance_m: Distance the bare lens is focused on.
        object_distance_m: Distance of the window from the pupil.
        frame_width_m: Width of the window.
        scene_px: Samples across the window.
        wavelengths_m: One wavelength for each of the red, green and blue channel of a scene.
        pupil_samples: Samples across the pupil.
    """

    focal_length_m: float
    aperture_diameter_m: float
    focus_distance_m: float
    object_distance_m: float
    frame_width_m: float
    scene_px: int
    wavelengths_m: tuple[float, float, float]
    pupil_samples: int

    def to_json(self) -> dict[str, Any]:
        """Plain values; :meth:`from_json` takes them back."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Geometry:
        """The geometry of plain values, one for each field.

        Raises:
            KeyError, TypeError: If a field is missing or unknown.
        """
        return cls(**{**values, "wavelengths_m": tuple(values["wavelengths_m"])})

    @property
    def lens(self) -> ThinLens:
        """The bare lens."""
        return ThinLens(self.focal_length_m, self.focus_distance_m)

    @property
    def cell_m(self) -> float:
        """Side in metres of the image of one window sample."""
        return self.frame_width_m / self.scene_px * abs(self.lens.magnification(self.object_distance_m))

    @property
    def psf_cells(self) -> int:
        """Side of the point-spread function in cells: the largest odd number below the window."""
        return self.scene_px - 1 + self.scene_px % 2

    @property
    def grid(self) -> PupilGrid:
        """Samples of the pupil."""
        return PupilGrid(self.aperture_diameter_m, self.pupil_samples)


#: Reflectance that a light meter takes for the mean of a scene (ISO 2720 practice), and how far exposure may follow it.
METERED_GREY = 0.18
METER_RANGE = 16.0
#: Centre weighting of the meter: standard deviation as a share of the window.
METER_SD = 0.18


@dataclass(frozen=True)
class Exposure:
    """A sensor and how long it looks.

    Attributes:
        pixels: Pixels across the window; divides the scene samples.
        colour: Three planes (filters, no mosaic) or one.
        filter_weights: Share of red, green and blue in the signal of a monochrome pixel; they sum to 1.
        electrons_at_white: Photo-electrons that a white surface makes in one pixel during the exposure; with a meter,
            when the meter reads 18 % grey.
        full_well_e: Electrons that fill a pixel.
        read_noise_e: RMS read noise in electrons.
        bits: Bits of the converter.
        black_level_dn: Code of a dark pixel.
        metering: ``"centre-weighted"`` sets the exposure time of each frame so that the centre-weighted mean of the
            light is that of 18 % grey, as cameras do; ``"fixed"`` does not.
        field_stop: Opening in front of the sensor, or None where every pixel sees light. The meter averages over the
            opening.
    """

    pixels: int
    colour: bool
    filter_weights: tuple[float, float, float]
    electrons_at_white: float
    full_well_e: float
    read_noise_e: float
    bits: int
    black_level_dn: float
    metering: Literal["fixed", "centre-weighted"] = "centre-weighted"
    field_stop: FieldStop | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values; :meth:`from_json` takes them back."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Exposure:
        """The exposure of plain values, one for each field; ``field_stop`` is None or a mapping.

        Raises:
            KeyError, TypeError: If a field is missing or unknown.
        """
        stop = values["field_stop"]
        opening = None if stop is None else FieldStop(**stop)
        return cls(**{**values, "filter_weights": tuple(values["filter_weights"]), "field_stop": opening})

    @property
    def sensor(self) -> Sensor:
        """The sensor; the signal is given in electrons, so its quantum efficiency is 1."""
        return Sensor(
            SensorSpec(
                full_well_e=self.full_well_e,
                read_noise_e=self.read_noise_e,
                dark_e=0.0,
                quantum_efficiency=1.0,
                bits=self.bits,
                black_level_dn=self.black_level_dn,
                colour=self.colour,
            )
        )


class FixedPsf(nn.Module):
    """A point-spread function given as numbers, (3, K, K) shares of the light: blurs that no mask realises exactly."""

    psf: Tensor

    def __init__(self, psf: Tensor) -> None:
        super().__init__()
        self.register_buffer("psf", psf)

    def forward(self) -> Tensor:
        """The point-spread function (3, K, K)."""
        return self.psf


class MaskPsf(nn.Module):
    """Point-spread function of a mask in the pupil for a window at the geometry's distance."""

    def __init__(self, geometry: Geometry, mask: PhaseMask) -> None:
        super().__init__()
        self.geometry, self.mask = geometry, mask
        self.to_psf = PupilToPsf(
            geometry.grid, geometry.lens, geometry.wavelengths_m, geometry.cell_m, geometry.psf_cells
        )

    def forward(self) -> Tensor:
        """The point-spread function (3, K, K); each plane sums to the share of the light inside the window."""
        psf: Tensor = self.to_psf(self.mask, self.geometry.object_distance_m)
        return psf

    def check(self) -> None:
        """Raise OpticsError when the present mask is not sampled finely enough."""
        self.to_psf.check(self.mask, self.geometry.object_distance_m)


def gaussian_psf(sd_cells: float, cells: int) -> FixedPsf:
    """Gaussian blur of the same width for all wavelengths, integrated over cells.

    Args:
        sd_cells: Standard deviation in image cells.
        cells: Side of the window, odd.
    """
    edges = torch.arange(cells + 1, dtype=torch.float64, device="cpu") - cells / 2
    cumulative = torch.special.ndtr(edges / max(sd_cells, 1e-6))
    line = cumulative.diff()
    return FixedPsf((line[:, None] * line[None, :]).float().expand(3, -1, -1).clone())


class EncoderCamera(nn.Module):
    """Scene radiance to sensor codes.

    Args:
        source: Gives the point-spread function (3, K, K): :class:`MaskPsf` or :class:`FixedPsf`.
        exposure: Sensor and exposure.
        scene_px: Samples across the window.
        grey: Transmission of each pixel, in place of the field stop of the exposure.

    Raises:
        OpticsError: If the pixels do not divide the scene samples, or the grey mask does not fit the sensor.
    """

    def __init__(
        self, source: MaskPsf | FixedPsf, exposure: Exposure, scene_px: int, grey: GreyMask | None = None
    ) -> None:
        super().__init__()
        if scene_px % exposure.pixels:
            raise OpticsError(
                f"{exposure.pixels} pixels do not divide the {scene_px} scene samples across the window; "
                "choose a number of pixels that divides them."
            )
        stop = exposure.field_stop
        if grey is not None and (stop is not None or grey.logits.shape[0] != exposure.pixels):
            raise OpticsError(
                f"a grey mask of {grey.logits.shape[0]} pixels does not fit a sensor of {exposure.pixels} pixels "
                f"{'with' if stop else 'without'} a field stop; it stands in place of the stop, one value a pixel."
            )
        self.source, self.exposure, self.scene_px, self.grey = source, exposure, scene_px, grey
        self.sensor = exposure.sensor
        across = (torch.arange(exposure.pixels) + 0.5) / exposure.pixels - 0.5
        bell = torch.exp(-across.square() / (2 * METER_SD**2))
        self._opening: Tensor
        self.register_buffer(
            "_opening",
            torch.ones(scene_px, scene_px) if stop is None else stop.transmission(scene_px),
            persistent=False,
        )
        self._bell: Tensor
        self.register_buffer("_bell", bell[:, None] * bell[None, :], persistent=False)
        self.weights: Tensor
        self.register_buffer("weights", torch.tensor(exposure.filter_weights).reshape(1, 3, 1, 1), persistent=False)

    @property
    def field(self) -> Tensor:
        """Share of the light (S, S) that stop or grey mask pass to each cell of the image."""
        return self._opening if self.grey is None else self.grey(self.scene_px)

    @property
    def meter(self) -> Tensor:
        """Weights (n, n) of the meter: centre-weighted, and normalised over what reaches the sensor.

        So the meter reads the mean of the light, whatever the stop or the grey mask take away.
        """
        block = self.scene_px // self.exposure.pixels
        seen = bin_pixels(self.field[None, None], block)[0, 0] / block**2
        return self._bell / (self._bell * seen).sum()

    @property
    def psf(self) -> Tensor:
        """Point-spread function (3, K, K)."""
        return self.source()

    def frame_psf(self) -> Tensor:
        """Point-spread function of the planes of a frame: (3, K, K) in colour, (1, K, K) in monochrome."""
        psf = self.psf
        return psf if self.exposure.colour else (psf * self.weights[0]).sum(0, keepdim=True)

    def signal(self, scenes: Tensor, psf: Tensor | None = None) -> Tensor:
        """Noise-free photo-electrons of each pixel.

        Args:
            scenes: (N, 3, S, S) linear light, 1 = white.
            psf: (3, K, K), if it has been computed already.

        Returns:
            (N, 3, n, n) in colour or (N, 1, n, n) in monochrome. A white window fills pixels with
            ``electrons_at_white`` times the share of the light that the PSF keeps inside and stop or grey mask pass.
        """
        image = convolve(scenes, self.psf if psf is None else psf)
        if not self.exposure.colour:
            image = (image * self.weights).sum(1, keepdim=True)
        block = self.scene_px // self.exposure.pixels
        pixels: Tensor = bin_pixels(image * self.field, block) / block**2
        return pixels.clamp_min(0.0) * self.exposure.electrons_at_white

    def read(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        """One exposure: frames (N, C, n, n) in code units mapped so that black is 0 and the top code is 1."""
        frame: Tensor = self.sensor.normalise(self.sensor(signal * self.meter_gain(signal), generator))
        return frame

    def meter_gain(self, signal: Tensor) -> Tensor:
        """Factor (N, 1, 1, 1) on the exposure time that the meter asks for; 1 without a meter.

        The meter averages over the whole sensor, so its own noise is left out.
        """
        if self.exposure.metering == "fixed":
            return torch.ones(len(signal), 1, 1, 1, dtype=signal.dtype, device=signal.device)
        read = (signal.mean(1, keepdim=True) * self.meter).sum((-2, -1), keepdim=True)
        wanted = METERED_GREY * self.exposure.electrons_at_white
        return (wanted / read.clamp_min(wanted / METER_RANGE)).clamp_min(1.0 / METER_RANGE)

    def forward(self, scenes: Tensor, generator: torch.Generator) -> Tensor:
        """Encoded frames of scenes (N, 3, S, S)."""
        return self.read(self.signal(scenes), generator)
