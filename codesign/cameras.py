"""The cameras of a comparison: ours, the clean one, and baselines with one parameter that trades detail away."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from codesign.config import OpticsConfig, SensorConfig, TrainMaskConfig
from codesign.cotrain import wrapped_mask
from codesign.errors import CodesignError
from optics import FieldStop, FlatMask, get_material, random_mask
from sim.camera import EncoderCamera, Exposure, Geometry, MaskPsf, gaussian_psf

Kind = Literal["mask", "flat", "gaussian", "defocus", "random-mask"]
Parameter = Literal["electrons_at_white", "blur_sd_cells", "focus_distance_m", "relief_spread"]

BASELINE_ELECTRONS = 4000.0
NEAREST_FOCUS_M = 0.012


@dataclass(frozen=True)
class CameraSpec:
    """Everything that tells one camera of a run from another; small enough for JSON.

    Attributes:
        name: used for files and in the results.
        kind: what sits in the pupil.
        exposure: sensor and exposure.
        value: blur in cells (``gaussian``), focus distance in metres (``defocus``) or spread of the controls
            (``random-mask``).
    """

    name: str
    kind: Kind
    exposure: Exposure
    value: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values; :meth:`from_json` takes them back."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> CameraSpec:
        """The camera that :meth:`to_json` described."""
        return cls(values["name"], values["kind"], _exposure(values["exposure"]), values["value"])


def _exposure(values: Mapping[str, Any]) -> Exposure:
    stop = values.get("field_stop")
    return Exposure(
        **{
            **values,
            "filter_weights": tuple(values["filter_weights"]),
            "field_stop": None if stop is None else FieldStop(**stop),
        }
    )


def geometry_of(optics: OpticsConfig) -> Geometry:
    """The geometry that all cameras of a run share."""
    return Geometry(**optics.model_dump())


def exposure_of(sensor: SensorConfig) -> Exposure:
    """The exposure of our own camera."""
    return _exposure(sensor.model_dump())


def build(spec: CameraSpec, config: TrainMaskConfig, mask: Mapping[str, Tensor] | None = None) -> EncoderCamera:
    """Make a camera.

    Args:
        spec: which one.
        config: configuration of the run; random relief comes from its seed.
        mask: state of the designed mask, for the kind ``mask``.

    Raises:
        CodesignError: If the mask's state is missing.
        OpticsError: If the camera cannot be sampled.
    """
    geometry = geometry_of(config.optics)
    if spec.kind == "gaussian":
        return EncoderCamera(gaussian_psf(_value(spec), geometry.psf_cells), spec.exposure, geometry.scene_px)
    if spec.kind == "defocus":
        geometry = replace(geometry, focus_distance_m=_value(spec))
    grid, settings = geometry.grid, config.mask
    if spec.kind == "mask":
        if mask is None:
            raise CodesignError(f"the camera {spec.name!r} needs the state of the designed mask.")
        relief = wrapped_mask(config, grid, dict(mask))
    elif spec.kind == "random-mask":
        generator = torch.Generator().manual_seed(config.seed)
        material = get_material(settings.material)
        height, spread = settings.max_height_m, _value(spec)
        relief = random_mask(grid, settings.cells, height, generator, material, spread=spread)
    else:
        relief = FlatMask(grid)
    source = MaskPsf(geometry, relief.requires_grad_(False))
    source.check()
    return EncoderCamera(source, spec.exposure, geometry.scene_px).eval()


def _value(spec: CameraSpec) -> float:
    if spec.value is None:
        raise CodesignError(f"the camera {spec.name!r} of the kind {spec.kind!r} needs a value.")
    return spec.value


def ours(config: TrainMaskConfig) -> CameraSpec:
    """The camera under design."""
    return CameraSpec("ours", "mask", exposure_of(config.sensor))


def clean(config: TrainMaskConfig) -> CameraSpec:
    """An ordinary sharp colour camera in good light: the upper end of what can be recognised."""
    metering = config.sensor.metering
    exposure = Exposure(config.optics.scene_px, True, (1 / 3, 1 / 3, 1 / 3), 4000.0, 4000.0, 2.5, 10, 0.0, metering)
    return CameraSpec("clean", "flat", exposure)


def relief_m(camera: EncoderCamera) -> Tensor:
    """Height map (P, P) in metres of what sits in the pupil of a camera.

    Raises:
        CodesignError: If the camera is a blur that no mask realises.
    """
    if not isinstance(camera.source, MaskPsf):
        raise CodesignError("this camera has no mask; ask one of the kind 'mask', 'flat', 'defocus' or 'random-mask'.")
    return camera.source.mask.height_m().detach()


@dataclass(frozen=True)
class Baseline:
    """A family of cameras with one parameter that makes landmarks worse.

    Attributes:
        spec: the camera at the start of the search.
        parameter: what is tuned.
        best: parameter at which the camera sees best.
        worst: end of the search.
        finer: pixel counts to go on to when even the best parameter sees worse than ours.
        ablation: which part of our own camera it lacks, in words; such a camera says what that part adds, not what
            others achieve. Empty for a baseline proper.
    """

    spec: CameraSpec
    parameter: Parameter
    best: float
    worst: float
    finer: tuple[int, ...] = ()
    ablation: str = ""

    @property
    def value(self) -> float:
        """Present parameter."""
        if self.parameter == "electrons_at_white":
            return self.spec.exposure.electrons_at_white
        return _value(self.spec)

    def with_pixels(self, pixels: int) -> Baseline:
        """The same family on another number of pixels, nothing finer left to try but what is finer than that."""
        spec = replace(self.spec, exposure=replace(self.spec.exposure, pixels=pixels))
        return replace(self, spec=spec, finer=tuple(count for count in self.finer if count > pixels))

    def at(self, value: float) -> CameraSpec:
        """The camera at a parameter; the gain follows the light, so that white keeps its place in the code range."""
        if self.parameter == "electrons_at_white":
            old = self.spec.exposure
            well = value * old.full_well_e / old.electrons_at_white
            return replace(self.spec, exposure=replace(old, electrons_at_white=value, full_well_e=well))
        return replace(self.spec, value=value)

    def severity(self, value: float) -> float:
        """Logarithm of what grows as landmarks get worse: photons missing, blur, defocus in dioptres, or relief."""
        if self.parameter == "electrons_at_white":
            return -math.log(value)
        if self.parameter == "focus_distance_m":
            return math.log(1 / value - 1 / self.best)
        return math.log(value)

    def parameter_at(self, severity: float) -> float:
        """Inverse of :meth:`severity`."""
        if self.parameter == "electrons_at_white":
            return math.exp(-severity)
        if self.parameter == "focus_distance_m":
            return 1 / (math.exp(severity) + 1 / self.best)
        return math.exp(severity)

    @property
    def limits(self) -> tuple[float, float]:
        """Least and greatest severity."""
        if self.parameter == "focus_distance_m":
            return 0.0, self.severity(self.worst)  # from one dioptre
        return self.severity(self.best), self.severity(self.worst)


def baselines(config: TrainMaskConfig) -> list[Baseline]:
    """The baseline families that the configuration asks for."""
    found: list[Baseline] = []
    for name in config.proof.baselines:
        if name == "mono-pixels":
            counts = config.proof.mono_pixels
            names = [name if len(counts) == 1 else f"{name}-{count}" for count in counts]
            found += [_family(name, label, count, config) for label, count in zip(names, counts, strict=True)]
        else:
            found.append(_family(name, name, config.proof.mono_pixels[0], config))
    return found


def _family(name: str, label: str, pixels: int, config: TrainMaskConfig) -> Baseline:
    """One family, started near where its error was found to meet that of the default camera."""
    sensor = exposure_of(config.sensor)
    bright = Exposure(
        pixels, False, sensor.filter_weights, BASELINE_ELECTRONS, BASELINE_ELECTRONS, sensor.read_noise_e, 8, 0.0,
        sensor.metering,
    )  # fmt: skip
    if name == "mono-pixels":
        dim = replace(bright, electrons_at_white=200.0, full_well_e=200.0)
        return Baseline(CameraSpec(label, "flat", dim), "electrons_at_white", BASELINE_ELECTRONS, 1.0)
    if name == "gaussian-blur":
        return Baseline(CameraSpec(label, "gaussian", bright, 2.0), "blur_sd_cells", 0.3, 16.0)
    if name == "defocus":
        focus = config.optics.object_distance_m
        start = 1 / (30 + 1 / focus)
        return Baseline(CameraSpec(label, "defocus", bright, start), "focus_distance_m", focus, NEAREST_FOCUS_M)
    if name == "low-resolution":
        coarse = replace(bright, colour=True, pixels=8)
        return Baseline(CameraSpec(label, "flat", coarse), "electrons_at_white", BASELINE_ELECTRONS, 1.0, (16, 32))
    if name == "random-mask":
        # Rougher relief than 1.5 outruns the samples of the pupil, whatever the seed.
        return Baseline(CameraSpec(label, "random-mask", bright, 0.3), "relief_spread", 0.01, 1.5)
    best = max(BASELINE_ELECTRONS, sensor.electrons_at_white)
    if name == "same-field-mono-pixels":
        # With the stop an ordinary sensor needs most of the light, or finer pixels, to see landmarks as well as ours.
        behind = replace(bright, field_stop=sensor.field_stop)
        lacks = "the converter and the mask"
        return Baseline(CameraSpec(label, "flat", behind), "electrons_at_white", best, 1.0, (32, 64), lacks)
    return Baseline(CameraSpec(label, "flat", sensor), "electrons_at_white", best, 1.0, ablation="the mask")
