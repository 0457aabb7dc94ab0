"""What happens on the virtual bench: lamp -> mask -> lens -> sensor, in photons, metres and seconds.

The lamp lights the mask evenly; the lens images the mask onto the sensor. Expected photons of a pixel in an exposure:

``N = P(t) wavelength / (h c) * efficiency * (pixel area / area of the mask's image) * exposure * B(x, y)``

with the lamp's power P and the brightness B = blur(transmission of the mask). The blur is the diffraction of the lens
with the defocus of the stage; inside an open mask B is its sum, 1 but for what the rim of the lens diffracts far away.
Magnification stays as it is in defocus, as in a telecentric lens. Sensor and noise are those of ``optics.Sensor``.

Imperfections are drawn once from a seed and are open to whoever checks a calibration against the truth. What drifts
is a function of time alone, so that it does not depend on who looked when.
"""

from __future__ import annotations

import math
import zlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from firmware_bridge.errors import DeviceError
from firmware_bridge.protocols import Levels
from optics import FlatMask, PupilGrid, PupilToPsf, Sensor, bin_pixels, convolve
from sim.bench.design import Design, Imperfections

AMBIENT_C = 25.0
#: Kelvin in which the dark current of silicon doubles, about (EMVA 1288, section 7).
DARK_DOUBLING_K = 7.0
#: Rise times of a lamp and of a camera that warm up.
LAMP_WARM_UP_S = 60.0
CAMERA_WARM_UP_S = 600.0
#: Time from one shot of a session to the next, by which its drifts go on.
SHOT_S = 1.0


class Wander:
    """A smooth random function of time with mean 0 and a given RMS: a sum of sines with random phases.

    Args:
        rms: Its root mean square over long times.
        periods_s: Periods of the sines, which share the power evenly.
        rng: Draws the phases.
    """

    def __init__(self, rms: float, periods_s: tuple[float, ...], rng: np.random.Generator) -> None:
        self._amplitude = rms * math.sqrt(2 / len(periods_s))
        self._periods_s = np.array(periods_s)
        self._phases = rng.uniform(0, 2 * math.pi, len(periods_s))

    def __call__(self, time_s: float) -> float:
        """Its value."""
        return self._amplitude * float(np.sin(2 * math.pi * time_s / self._periods_s + self._phases).sum())


class Panel:
    """The mask: what light it lets through, and when.

    Args:
        design: Design of the bench.
        imperfections: How far the bench is from its design.
        rng: Draws the error of its look-up table.
    """

    def __init__(self, design: Design, imperfections: Imperfections, rng: np.random.Generator) -> None:
        self._design = design
        self._imperfections = imperfections
        self._bow = rng.uniform(-1, 1, 2) / 2
        self._shape = (design.mask_height, design.mask_width)
        self._new = self._old = self._parked = self.response(np.zeros(self._shape, np.uint8))
        self._since_s = -math.inf

    def transfer(self, drive: NDArray[np.float64]) -> NDArray[np.float64]:
        """Transmission of large areas driven by 0..1, without quantisation."""
        bow = self._bow[0] * np.sin(np.pi * drive) + self._bow[1] * np.sin(2 * np.pi * drive)
        leak = self._imperfections.leak
        straight: NDArray[np.float64] = leak + (1 - leak) * (drive + self._imperfections.lut_error * bow)
        return straight.clip(0, 1)

    def response(self, levels: Levels) -> NDArray[np.float64]:
        """Settled transmission (H, W) of the mask driven by ``levels``."""
        steps = (1 << self._imperfections.panel_bits) - 1
        drive = np.round(levels / ((1 << self._design.mask_bits) - 1) * steps) / steps
        share = self._imperfections.crosstalk
        if share:
            padded = np.pad(drive, 1, mode="edge")
            around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
            drive = (1 - 4 * share) * drive + share * around
        return self.transfer(drive)

    def show(self, levels: Levels, time_s: float) -> None:
        """Drive it with (H, W) levels from a time on.

        Raises:
            DeviceError: The levels have another shape.
        """
        if levels.shape != self._shape:
            raise DeviceError(f"this mask has {self._shape} pixels, and {levels.shape} levels came.")
        self._old = self._at(time_s)
        self._new = self.response(levels)
        self._since_s = time_s

    def transmission(self, start_s: float, exposure_s: float) -> NDArray[np.float64]:
        """Mean transmission (H, W) over an exposure that begins no earlier than the last change."""
        return self._settled(self._old, start_s - self._since_s, exposure_s)

    def transmission_from_parked(self, exposure_s: float) -> NDArray[np.float64]:
        """As :meth:`transmission`, where the mask was parked before and then settled for as long as it asks for."""
        return self._settled(self._parked, self._design.mask_settle_s, exposure_s)

    def _settled(self, old: NDArray[np.float64], waited_s: float, exposure_s: float) -> NDArray[np.float64]:
        tau_s = self._imperfections.settle_time_s
        if tau_s == 0 or math.isinf(waited_s):
            return self._new
        left = math.exp(-waited_s / tau_s) * tau_s / exposure_s * -math.expm1(-exposure_s / tau_s)
        mixed: NDArray[np.float64] = self._new + left * (old - self._new)
        return mixed

    def _at(self, time_s: float) -> NDArray[np.float64]:
        return self.transmission(time_s, 1e-9)


class Lamp:
    """The lamp: how much light it gives, and when.

    Args:
        design: Design of the bench.
        imperfections: How far the bench is from its design.
        rng: Draws its drift.
    """

    def __init__(self, design: Design, imperfections: Imperfections, rng: np.random.Generator) -> None:
        self._design = design
        self._imperfections = imperfections
        self._drift = Wander(imperfections.lamp_drift, (47.0, 131.0, 433.0, 1201.0), rng)
        self._share = 0.0
        self._since_s = 0.0

    def set(self, share: float, time_s: float) -> None:
        """Drive it with a share 0..1 of its power from a time on."""
        if share > 0 and self._share == 0:
            self._since_s = time_s
        self._share = share

    def output(self, time_s: float, since_s: float | None = None) -> float:
        """Power that it gives, as a share of the largest that its data sheet names.

        Args:
            time_s: Time at which its light is asked for.
            since_s: Time since which it is warming up, if not since it was switched on.
        """
        warm = -math.expm1(-(time_s - (self._since_s if since_s is None else since_s)) / LAMP_WARM_UP_S)
        return self._share * (1 - self._imperfections.lamp_warm_up * warm) * (1 + self._drift(time_s))


class World:
    """The bench itself: one lamp, one mask, one stage, one camera.

    Args:
        seed: Seed for all imperfections and the noise.
        design: What it is built of.
        imperfections: How far it is from its design.
        start_s: Time at which the camera is switched on.

    Attributes:
        design, imperfections: What was given.
        panel, lamp: Its mask and its lamp.
        frames: Draws which frames are dropped and late.
        hot_e_s: (H, W) dark current of the hot pixels in electrons a second, 0 elsewhere.
        position_m: Position of the stage.
        registration: (2, 3), from mask to sensor: pixel (x, y) = registration @ (column, row, 1), both counted from the
            left upper corner of the first pixel.
    """

    def __init__(
        self,
        seed: int,
        design: Design | None = None,
        imperfections: Imperfections | None = None,
        *,
        start_s: float = 0.0,
    ) -> None:
        self._seed = seed
        self.design = design = design or Design()
        self.imperfections = imperfections = imperfections or Imperfections()
        panel, lamp, place, shake, pixels, frames, noise = np.random.default_rng(seed).spawn(7)
        self.panel = Panel(design, imperfections, panel)
        self.lamp = Lamp(design, imperfections, lamp)
        self.position_m = 0.0
        self.frames = frames
        self._start_s = start_s
        self._shot_s: float | None = None
        self.registration = _registration(design, imperfections, place)
        self._vibration = [
            Wander(imperfections.vibration_m, periods_s, shake) for periods_s in ((0.031, 0.0093), (0.027, 0.0113))
        ]
        shape = (design.camera_height, design.camera_width)
        hot = pixels.random(shape) < imperfections.hot_pixels
        self.hot_e_s = np.where(hot, pixels.exponential(max(imperfections.hot_e_s, 1e-9), shape), 0.0)
        self._noise = torch.Generator().manual_seed(int(noise.integers(2**63)))
        self._to_psf = PupilToPsf(
            PupilGrid(design.aperture_diameter_m, design.pupil_samples),
            design.lens,
            (design.wavelength_m,),
            design.pixel_pitch_m / design.cells_per_pixel,
            design.psf_cells,
            dtype=torch.float64,
        )
        self._psf: tuple[float, Tensor] | None = None
        self._seen: tuple[tuple[float, float, float], NDArray[np.float64], Tensor] | None = None

    def turn_to(self, index: int, key: str) -> None:
        """From now on, frames are those of one shot of a session: a function of the seed, the shot, and how many of it
        came before, whoever took what else, and when.

        A shot has noise of its own and a time of its own, which counts from the beginning of the session; there, lamp
        and camera were switched on. Its mask came from the parked pattern.

        Args:
            index: Number of the shot in the session.
            key: Its name there.
        """
        frames, noise = np.random.default_rng([self._seed, zlib.crc32(key.encode())]).spawn(2)
        self.frames = frames
        self._noise.manual_seed(int(noise.integers(2**63)))
        self._start_s = 0.0
        self._shot_s = index * SHOT_S

    def moment(self, clock_s: float, exposure_s: float) -> float:
        """When an exposure takes place that begins at ``clock_s`` on the clock: then, or at the next time of the shot
        that was turned to.
        """
        if self._shot_s is None:
            return clock_s
        moment_s = self._shot_s
        self._shot_s += exposure_s
        return moment_s

    def temperature_c(self, time_s: float) -> float:
        """Temperature of the sensor."""
        warm = -math.expm1(-(time_s - self._start_s) / CAMERA_WARM_UP_S)
        return AMBIENT_C + self.imperfections.sensor_rise_c * warm

    def dark_e(self, time_s: float, exposure_s: float) -> float:
        """Dark electrons of a pixel that is not hot."""
        warmer = self.temperature_c(time_s) - AMBIENT_C
        return self.design.dark_e_s * exposure_s * 2 ** (warmer / DARK_DOUBLING_K)

    def psf(self) -> Tensor:
        """Point-spread function (1, K, K): shares of the light in each sample, with the stage where it stands."""
        if self._psf is None or self._psf[0] != self.position_m:
            flat = FlatMask(self._to_psf.grid, dtype=torch.float64)
            distance_m = self.design.object_distance_m + self.position_m
            self._psf = (self.position_m, self._to_psf(flat, distance_m))
        return self._psf[1]

    def brightness(self, transmission: NDArray[np.float64], shift_px: tuple[float, float] = (0.0, 0.0)) -> Tensor:
        """Light on each pixel (H, W); inside the image of an open mask the sum of the point-spread function.

        Args:
            transmission: (H, W) transmission of the mask.
            shift_px: Displacement of the image, in pixels (x, y).
        """
        place = (self.position_m, *shift_px)
        if self._seen is None or self._seen[0] != place or self._seen[1] is not transmission:
            cells = self.design.cells_per_pixel
            image = convolve(self._project(transmission, shift_px)[None, None], self.psf())
            self._seen = (place, transmission, (bin_pixels(image, cells)[0, 0] / cells**2).clamp(min=0.0))
        return self._seen[2]

    def photons(self, start_s: float, exposure_s: float) -> Tensor:
        """Expected photons (H, W) of an exposure."""
        middle_s = start_s + exposure_s / 2
        shift = (
            self._vibration[0](middle_s) / self.design.pixel_pitch_m,
            self._vibration[1](middle_s) / self.design.pixel_pitch_m,
        )
        if self._shot_s is None:
            transmission, power = self.panel.transmission(start_s, exposure_s), self.lamp.output(middle_s)
        else:
            transmission = self.panel.transmission_from_parked(exposure_s)
            power = self.lamp.output(middle_s, self._start_s)
        return self.brightness(transmission, shift) * (self.design.open_photons_s * exposure_s * power)

    def expose(
        self,
        start_s: float,
        exposure_s: float,
        gain_db: float,
        bits: int,
        roi: tuple[int, int, int, int] | None = None,
    ) -> Levels:
        """One frame.

        Args:
            start_s: Time at which the exposure begins.
            exposure_s: Exposure time.
            gain_db: Gain.
            bits: Depth.
            roi: Left, top, width, height in pixels, or None for all.

        Returns:
            (H, W) uint8 up to 8 bits, else uint16, right-justified.
        """
        left, top, width, height = roi or (0, 0, self.design.camera_width, self.design.camera_height)
        window = (slice(top, top + height), slice(left, left + width))
        # Hot pixels are light that is not there: dark current behind the same converter.
        hot = torch.from_numpy(self.hot_e_s[window]) * (exposure_s / self.design.quantum_efficiency)
        light = self.photons(start_s, exposure_s)[window] + hot
        sensor = Sensor(self.design.sensor(gain_db, bits, self.dark_e(start_s, exposure_s)))
        codes = sensor(light[None, None], self._noise)[0, 0].numpy()
        return codes.astype(np.uint8 if bits <= 8 else np.uint16)

    def _project(self, transmission: NDArray[np.float64], shift_px: tuple[float, float]) -> Tensor:
        """The mask on the samples of the sensor: each takes the mean over its area, exactly where both are parallel."""
        design = self.design
        cells = design.cells_per_pixel
        x = (torch.arange(design.camera_width * cells, dtype=torch.float64) + 0.5) / cells - shift_px[0]
        y = (torch.arange(design.camera_height * cells, dtype=torch.float64) + 0.5) / cells - shift_px[1]
        matrix = torch.from_numpy(self.registration[:, :2]).inverse()
        x, y = x - float(self.registration[0, 2]), y - float(self.registration[1, 2])
        column = matrix[0, 0] * x[None, :] + matrix[0, 1] * y[:, None]
        row = matrix[1, 0] * x[None, :] + matrix[1, 1] * y[:, None]
        size = float(matrix.det().abs().sqrt()) / cells
        # One ring of darkness around the mask.
        padded = torch.nn.functional.pad(torch.from_numpy(transmission)[None], (1, 1, 1, 1))[0]
        left, across = _edge(column, size, design.mask_width)
        top, down = _edge(row, size, design.mask_height)
        upper = padded[top, left] * (1 - across) + padded[top, left + 1] * across
        lower = padded[top + 1, left] * (1 - across) + padded[top + 1, left + 1] * across
        return upper * (1 - down) + lower * down


def _edge(place: Tensor, size: float, count: int) -> tuple[Tensor, Tensor]:
    """The nearest edge of pixels: index of the one before it in the padded mask, and share of the one after it."""
    nearest = place.round()
    share = ((place - nearest) / size + 0.5).clamp(0.0, 1.0)
    inside = nearest.clamp(0, count)
    # Beyond the ring all is dark, whatever the share.
    share = torch.where(nearest < 0, 0.0, torch.where(nearest > count, 1.0, share))
    return inside.long(), share


def _registration(design: Design, wrong: Imperfections, rng: np.random.Generator) -> NDArray[np.float64]:
    turn, scale, *shift_m = rng.standard_normal(4) * (wrong.rotation_rad, wrong.scale, wrong.shift_m, wrong.shift_m)
    enlarged = design.lens.magnification() * design.mask_pitch_m / design.pixel_pitch_m * (1 + scale)
    matrix = enlarged * np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    centre = np.array([design.camera_width, design.camera_height]) / 2 + np.array(shift_m) / design.pixel_pitch_m
    middle = matrix @ (np.array([design.mask_width, design.mask_height]) / 2)
    return np.column_stack([matrix, centre - middle])
