"""The cameras of a comparison: ours, the clean one, and baselines with one parameter that trades detail away."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from codesign import masks
from codesign.baselines import ELECTRONS, Family, Kind, Parameter, find
from codesign.config import OpticsConfig, SensorConfig, TrainMaskConfig
from codesign.errors import CodesignError
from faces.samples import linear_to_srgb
from optics import FlatMask, get_material, random_mask
from sim.camera import EncoderCamera, Exposure, Geometry, MaskPsf, gaussian_psf

CPU = torch.device("cpu")
#: Cameras of pairs with other optics than the designed ones, which show what the optics do, and how reports call them.
OPTICS_ABLATIONS = {"bare-lens": "bare lens, no masks", "unlearned-pairs": "unlearned pairs"}


@dataclass(frozen=True)
class CameraSpec:
    """Everything that tells one camera of a run from another; small enough for JSON.

    Attributes:
        name: Name in files and in the results.
        kind: What sits in the pupil.
        exposure: Sensor and exposure.
        value: Blur in cells (``gaussian``), focus distance in metres (``defocus``) or spread of the controls
            (``random-mask``).
    """

    name: str
    kind: Kind
    exposure: Exposure
    value: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values; :meth:`from_json` takes them back."""
        return {"name": self.name, "kind": self.kind, "exposure": self.exposure.to_json(), "value": self.value}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> CameraSpec:
        """The camera that :meth:`to_json` described."""
        return cls(values["name"], values["kind"], Exposure.from_json(values["exposure"]), values["value"])


def geometry_of(optics: OpticsConfig) -> Geometry:
    """The geometry that all cameras of a run share."""
    return Geometry.from_json(optics.model_dump())


def exposure_of(sensor: SensorConfig) -> Exposure:
    """The exposure of our own camera."""
    values = sensor.model_dump()
    stop = values.pop("field_stop")
    shown = stop.pop("enabled")
    del values["grey_mask"]  # designed, like the mask, and no part of the exposure
    return Exposure.from_json({**values, "field_stop": stop if shown else None})


def build(
    spec: CameraSpec,
    config: TrainMaskConfig,
    mask: Mapping[str, Tensor] | None = None,
    device: torch.device = CPU,
) -> EncoderCamera:
    """Make a camera.

    Args:
        spec: Which one.
        config: Configuration of the run; random relief comes from its seed.
        mask: State of the designed mask, for the kind ``mask``.
        device: Where the camera is to compute.

    Raises:
        CodesignError: If the mask's state is missing.
        OpticsError: If the camera cannot be sampled.
    """
    geometry = geometry_of(config.optics)
    if spec.kind == "gaussian":
        blur = gaussian_psf(_value(spec), geometry.psf_cells)
        return EncoderCamera(blur, spec.exposure, geometry.scene_px).eval().to(device)
    if spec.kind == "defocus":
        geometry = replace(geometry, focus_distance_m=_value(spec))
    grid, settings, grey = geometry.grid, config.mask, None
    if spec.kind == "mask":
        if mask is None:
            raise CodesignError(f"the camera {spec.name!r} needs the state of the designed mask.")
        state, grey = masks.split(config.sensor, mask)
        relief = masks.load(settings, grid, state)
    elif spec.kind == "random-mask":
        generator = torch.Generator().manual_seed(config.seed)
        material = get_material(settings.material)
        height, spread = settings.max_height_m, _value(spec)
        relief = random_mask(grid, settings.cells, height, generator, material, spread=spread)
    else:
        relief = FlatMask(grid)
    source = MaskPsf(geometry, relief.requires_grad_(False))
    source.check()
    return EncoderCamera(source, spec.exposure, geometry.scene_px, grey).eval().to(device)


def _value(spec: CameraSpec) -> float:
    if spec.value is None:
        raise CodesignError(f"the camera {spec.name!r} of the kind {spec.kind!r} needs a value.")
    return spec.value


def ours(config: TrainMaskConfig) -> CameraSpec:
    """The camera under design; a grey mask stands in place of the field stop."""
    exposure = exposure_of(config.sensor)
    return CameraSpec("ours", "mask", replace(exposure, field_stop=None) if config.sensor.grey_mask else exposure)


def clean(config: TrainMaskConfig) -> CameraSpec:
    """An ordinary sharp colour camera in good light: the upper end of what can be recognised."""
    metering = config.sensor.metering
    exposure = Exposure(config.optics.scene_px, True, (1 / 3, 1 / 3, 1 / 3), 4000.0, 4000.0, 2.5, 10, 0.0, metering)
    return CameraSpec("clean", "flat", exposure)


def displayed(exposure: Exposure, frames: Tensor, restore: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Frames as a display shows them: white at one, on the display curve; one fixed map for a camera.

    Args:
        exposure: Sensor that the frames (N, C, n, n) come from.
        frames: Black 0, top code 1.
        restore: What is done to the light in between, for example a Wiener filter.
    """
    light = frames * (exposure.full_well_e / exposure.electrons_at_white)
    return linear_to_srgb((light if restore is None else restore(light)).clamp(0.0, 1.0))


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
        spec: The camera at the start of the search.
        parameter: What is tuned.
        best: Parameter at which the camera sees best.
        worst: End of the search.
        finer: Pixel counts to go on to when even the best parameter sees worse than ours.
        ablation: Which part of our own camera it lacks, in words; such a camera says what that part adds, not what
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


def cameras_of(config: TrainMaskConfig) -> list[str]:
    """Names of all cameras of a run: ours, the clean one, baselines, and ours with other optics."""
    names = ["ours", "clean", *(family.spec.name for family in baselines(config))]
    return names + (list(OPTICS_ABLATIONS) if config.design == "winners" else [])


def baselines(config: TrainMaskConfig) -> list[Baseline]:
    """The baselines that the configuration asks for, made of the rows of :data:`codesign.baselines.FAMILIES`."""
    counts = config.proof.mono_pixels
    found: list[Baseline] = []
    for family in (find(name) for name in config.proof.baselines):
        if family.each_count and len(counts) > 1:
            found += [_baseline(family, f"{family.name}-{count}", count, config) for count in counts]
        else:
            found.append(_baseline(family, family.name, counts[0], config))
    return found


def _baseline(family: Family, label: str, pixels: int, config: TrainMaskConfig) -> Baseline:
    exposure = exposure_of(config.sensor)
    if not family.ours:
        stop = exposure.field_stop if family.behind_stop else None
        exposure = Exposure(
            pixels, False, exposure.filter_weights, ELECTRONS, ELECTRONS, exposure.read_noise_e, 8, 0.0,
            exposure.metering, stop,
        )  # fmt: skip
        exposure = replace(exposure, **family.sensor)
    span = family.span(config)
    spec = CameraSpec(label, family.kind, exposure)
    # No camera without our mask has our grey mask: where we have one, they stand behind the stop that it began as.
    lacks = f"{family.lacks} and the grey mask" if family.lacks and config.sensor.grey_mask else family.lacks
    if config.design == "winners":
        lacks = ""  # with a camera of pairs it shares neither stop nor sensor: a rival, no ablation of ours
    made = Baseline(spec, family.parameter, span.best, span.worst, family.finer, lacks)
    return replace(made, spec=made.at(span.start))
