"""The mask under design: made from its configuration, drawn at random for a start, or read back from its state.

Its state is one tensor of the relief in the pupil and, where the sensor has a grey mask, one of that.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from codesign.config import MaskConfig, SensorConfig
from codesign.errors import CodesignError
from optics import FieldStop, FreeformMask, PhaseMask, PupilGrid, ZernikeMask, get_material
from sim.grey_mask import GreyMask, logits_of

#: Name of the one tensor that each kind of mask is made of.
_VALUES = {"free-form": "controls", "zernike": "coefficients_m"}
#: Name of the tensor of a grey mask beside it: log odds of the transmission of each pixel.
GREY = "grey_logits"


def build(settings: MaskConfig, grid: PupilGrid, values: Tensor) -> PhaseMask:
    """A mask of the configured kind and material.

    Args:
        settings: Kind, size and material.
        grid: Samples of the pupil.
        values: Controls (cells, cells) of a free-form mask, or coefficients (terms,) in metres of a Zernike mask. A
            Parameter stays trainable, a plain tensor makes a fixed mask.

    Raises:
        OpticsError: If the values do not fit the settings, or are not finite.
    """
    material = get_material(settings.material)
    if settings.kind == "free-form":
        return FreeformMask(grid, settings.cells, settings.max_height_m, material, values)
    return ZernikeMask(grid, settings.terms, values, material)


def start(settings: MaskConfig, grid: PupilGrid, generator: torch.Generator) -> PhaseMask:
    """A trainable mask with random relief of the configured spread; a spread of 0 starts flat.

    Args:
        settings: Kind, size, material and spread.
        grid: Samples of the pupil.
        generator: Source of the relief; the same state gives the same mask.
    """
    if settings.kind == "free-form":
        # The mean of neighbouring controls keeps the start smooth, so that its light stays inside the window.
        side = settings.cells + 4
        noise = torch.randn(1, 1, side, side, generator=generator, device=generator.device)
        smooth = functional.avg_pool2d(noise, 5, stride=1)[0, 0] * 5.0
        return build(settings, grid, nn.Parameter(settings.start_spread * smooth))
    order = torch.arange(settings.terms, dtype=torch.float32, device=generator.device)
    drawn = torch.randn(settings.terms, generator=generator, device=generator.device) / (1.0 + order)
    return build(settings, grid, nn.Parameter(drawn * settings.start_spread * settings.max_height_m / 4))


def flat(settings: MaskConfig, grid: PupilGrid) -> PhaseMask:
    """The fixed mask of the configured kind and material with all controls at zero."""
    return load(settings, grid, {_VALUES[settings.kind]: torch.zeros(_shape(settings), device="cpu")})


def _shape(settings: MaskConfig) -> tuple[int, ...]:
    return (settings.cells, settings.cells) if settings.kind == "free-form" else (settings.terms,)


def load(settings: MaskConfig, grid: PupilGrid, state: Mapping[str, Tensor]) -> PhaseMask:
    """The fixed mask of a finished or interrupted run.

    Args:
        settings: Kind, size and material that the run was configured with.
        grid: Samples of the pupil.
        state: State of the mask, as ``state_dict`` gives it.

    Raises:
        CodesignError: If the state is not that of such a mask.
    """
    name = _VALUES[settings.kind]
    shape = _shape(settings)
    found = {key: tuple(value.shape) for key, value in state.items()}
    if found != {name: shape}:
        raise CodesignError(
            f"a {settings.kind} mask of this configuration consists of {name} of shape {shape}, but the stored one "
            f"holds {found}; use the mask file of this run."
        )
    values = state[name]
    if not values.is_floating_point() or not bool(torch.isfinite(values).all()):
        raise CodesignError(f"the stored {name} are not all finite numbers; use the mask file of this run.")
    return build(settings, grid, values)


def start_grey(sensor: SensorConfig, scene_px: int) -> GreyMask | None:
    """A trainable grey mask that passes what the configured field stop does; None where the sensor has none.

    Without a stop it starts from nine tenths everywhere.
    """
    if not sensor.grey_mask:
        return None
    values = sensor.field_stop.model_dump()
    if values.pop("enabled"):
        passed = FieldStop(**values).transmission(scene_px, device="cpu")
    else:
        passed = torch.full((scene_px, scene_px), 0.9, device="cpu")
    return GreyMask(nn.Parameter(logits_of(passed, sensor.pixels)))


def split(sensor: SensorConfig, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], GreyMask | None]:
    """The state of the relief alone, for :func:`load`, and the fixed grey mask of a sensor that has one.

    Args:
        sensor: Sensor that the run was configured with.
        state: State of the whole mask.

    Raises:
        CodesignError: If the grey mask is missing, or is not one value for each pixel.
    """
    relief = dict(state)
    if not sensor.grey_mask:
        return relief, None
    logits, shape = relief.pop(GREY, None), (sensor.pixels, sensor.pixels)
    if logits is None or tuple(logits.shape) != shape or not logits.is_floating_point():
        found = "none" if logits is None else f"{logits.dtype} of shape {tuple(logits.shape)}"
        raise CodesignError(
            f"the grey mask of this configuration consists of {GREY} of shape {shape}, but the stored one is {found}; "
            "use the mask file of this run."
        )
    if not bool(torch.isfinite(logits).all()):
        raise CodesignError(f"the stored {GREY} are not all finite numbers; use the mask file of this run.")
    return relief, GreyMask(logits)
