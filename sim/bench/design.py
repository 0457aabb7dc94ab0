"""What the virtual bench is built of, and how far it is from that."""

from __future__ import annotations

from dataclasses import dataclass

from optics import SensorSpec, ThinLens

PLANCK_J_S = 6.62607015e-34
LIGHT_M_S = 299_792_458.0


@dataclass(frozen=True)
class Design:
    """What the bench is built of. Mask and lamp are those that the firmware for this machine tells of itself.

    Attributes:
        mask_width, mask_height: Pixels of the mask.
        mask_bits: Bits of a drive value.
        mask_pitch_m: Distance of two of its pixels.
        mask_settle_s: Settling time that it states.
        wavelength_m: Wavelength of the lamp.
        power_w: Largest optical power of the lamp.
        efficiency: Share of the lamp's light that reaches the sensor through an open mask.
        focal_length_m: Focal length of the lens.
        aperture_diameter_m: Aperture of the lens.
        object_distance_m: Distance from mask to lens, where the mask is in focus.
        camera_width, camera_height: Pixels of the sensor.
        pixel_pitch_m: Distance of two of its pixels.
        cells_per_pixel: Samples of the image across a pixel.
        psf_cells: Side of the point-spread function in samples, odd.
        pupil_samples: Samples across the lens.
        full_well_e: Electrons that fill a pixel at 0 dB.
        read_noise_e: RMS read noise in electrons.
        dark_e_s: Dark current of a pixel in electrons a second at 25 degrees.
        quantum_efficiency: Electrons per photon.
        bits: Depths that the camera offers.
        exposure_s: Shortest and longest exposure.
        gain_db: Lowest and highest gain.
        stage_limits_m: Lowest and highest position of the stage, which moves the mask along the axis; 0 is in focus.
        stage_step_m: Smallest step.
        stage_speed_m_s: Speed of the stage.
    """

    mask_width: int = 64
    mask_height: int = 64
    mask_bits: int = 8
    mask_pitch_m: float = 36e-6
    mask_settle_s: float = 2e-3
    wavelength_m: float = 532e-9
    power_w: float = 0.9e-3
    efficiency: float = 1e-4
    focal_length_m: float = 50e-3
    aperture_diameter_m: float = 6e-3
    object_distance_m: float = 150e-3
    camera_width: int = 256
    camera_height: int = 224
    pixel_pitch_m: float = 6e-6
    cells_per_pixel: int = 2
    psf_cells: int = 51
    pupil_samples: int = 64
    full_well_e: float = 10_000.0
    read_noise_e: float = 2.5
    dark_e_s: float = 5.0
    quantum_efficiency: float = 0.6
    bits: tuple[int, ...] = (8, 10, 12)
    exposure_s: tuple[float, float] = (20e-6, 10.0)
    gain_db: tuple[float, float] = (0.0, 24.0)
    stage_limits_m: tuple[float, float] = (-5e-3, 5e-3)
    stage_step_m: float = 0.625e-6
    stage_speed_m_s: float = 5e-3

    @property
    def lens(self) -> ThinLens:
        """The lens, focused on the mask."""
        return ThinLens(self.focal_length_m, self.object_distance_m)

    @property
    def open_photons_s(self) -> float:
        """Photons a second in a pixel inside the image of an open mask, with the lamp at its largest power."""
        image_m2 = self.mask_width * self.mask_height * (self.mask_pitch_m * self.lens.magnification()) ** 2
        emitted = self.power_w * self.wavelength_m / (PLANCK_J_S * LIGHT_M_S)
        return emitted * self.efficiency * self.pixel_pitch_m**2 / image_m2

    def sensor(self, gain_db: float, bits: int, dark_e: float) -> SensorSpec:
        """Data sheet of the sensor as it is set.

        Args:
            gain_db: Gain, 20 dB for ten times the digits per electron.
            bits: Depth in bits.
            dark_e: Dark electrons in the exposure.
        """
        return SensorSpec(
            full_well_e=self.full_well_e / 10 ** (gain_db / 20),
            read_noise_e=self.read_noise_e,
            dark_e=dark_e,
            quantum_efficiency=self.quantum_efficiency,
            bits=bits,
            black_level_dn=float(2 ** (bits - 5)),
            colour=False,
        )


@dataclass(frozen=True)
class Imperfections:
    """How far the bench is from its design: the values of a bench as it is; see :data:`IDEAL` for one that is not.

    Attributes:
        panel_bits: Bits that the mask really resolves.
        lut_error: Largest deviation of its transmission from the straight line, as a share.
        leak: Transmission of a black pixel.
        crosstalk: Share of a pixel's drive that goes to each of its four neighbours.
        settle_time_s: Time constant with which a pixel follows its drive.
        rotation_rad: Standard deviation of the turn of the camera against the mask.
        scale: Standard deviation of the magnification error, a share.
        shift_m: Standard deviation of the shift of the image on the sensor, along each axis.
        vibration_m: RMS displacement of the image along each axis.
        lamp_drift: RMS drift of the lamp, a share.
        lamp_warm_up: Share of its light that the lamp loses as it gets warm.
        sensor_rise_c: Temperature by which the sensor warms up.
        hot_pixels: Share of the pixels that are hot.
        hot_e_s: Mean dark current of a hot pixel in electrons a second.
        dropped: Share of the frames that never come.
        late: Share of the frames that come late.
        late_s: Time by which they come late.
    """

    panel_bits: int = 6
    lut_error: float = 0.03
    leak: float = 2e-3
    crosstalk: float = 0.02
    settle_time_s: float = 0.4e-3
    rotation_rad: float = 5e-3
    scale: float = 2e-3
    shift_m: float = 20e-6
    vibration_m: float = 0.3e-6
    lamp_drift: float = 5e-3
    lamp_warm_up: float = 0.02
    sensor_rise_c: float = 12.0
    hot_pixels: float = 5e-4
    hot_e_s: float = 20_000.0
    dropped: float = 0.0
    late: float = 0.0
    late_s: float = 0.5


IDEAL = Imperfections(
    panel_bits=16,
    lut_error=0.0,
    leak=0.0,
    crosstalk=0.0,
    settle_time_s=0.0,
    rotation_rad=0.0,
    scale=0.0,
    shift_m=0.0,
    vibration_m=0.0,
    lamp_drift=0.0,
    lamp_warm_up=0.0,
    sensor_rise_c=0.0,
    hot_pixels=0.0,
    hot_e_s=0.0,
)
"""A bench that does what its design says."""
