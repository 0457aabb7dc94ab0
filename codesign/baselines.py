"""The table of baselines: cameras with one parameter that trades detail away, to be brought to our landmark error.

A baseline is added by one row; the settings, the search, the report and the command line read it here. No torch is
imported, so that settings can be checked at once. :func:`codesign.cameras.baselines` makes cameras of the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from codesign.config import TrainMaskConfig

#: What sits in the pupil: the designed mask, nothing, a blur that no mask realises, another focus, or random relief.
Kind = Literal["mask", "flat", "gaussian", "defocus", "random-mask"]
Parameter = Literal["electrons_at_white", "blur_sd_cells", "focus_distance_m", "relief_spread"]

#: Light of an ordinary sensor; the search dims it.
ELECTRONS = 4000.0
NEAREST_FOCUS_M = 0.012


@dataclass(frozen=True)
class Span:
    """Where the parameter of a baseline starts, sees best, and sees worst."""

    start: float
    best: float
    worst: float


@dataclass(frozen=True)
class Family:
    """One row: a kind of camera and what is tuned.

    Attributes:
        name: As in the settings.
        shown_as: As in reports.
        kind: What sits in the pupil.
        parameter: What is tuned.
        span: Values of the parameter for a configuration.
        ours: Whether it has our own sensor; otherwise a monochrome one of 8 bits in good light without a field stop.
        sensor: What differs from that sensor, as fields of :class:`sim.camera.Exposure`.
        behind_stop: Whether it stands behind our field stop.
        each_count: Whether there is one camera for each of ``proof.mono_pixels``; otherwise the first count is taken.
        finer: Pixel counts to go on to when even the best parameter sees worse than ours.
        lacks: Which part of our own camera it lacks, in words: it says what that part adds, not what others achieve.
            Empty for a baseline proper.
    """

    name: str
    shown_as: str
    kind: Kind
    parameter: Parameter
    span: Callable[[TrainMaskConfig], Span]
    ours: bool = False
    sensor: Mapping[str, Any] = field(default_factory=dict)
    behind_stop: bool = False
    each_count: bool = False
    finer: tuple[int, ...] = ()
    lacks: str = ""


def _fixed(start: float, best: float, worst: float) -> Callable[[TrainMaskConfig], Span]:
    return lambda config: Span(start, best, worst)


def _from_focus(config: TrainMaskConfig) -> Span:
    """Out of focus by 30 dioptres at first."""
    focus = config.optics.object_distance_m
    return Span(1 / (30 + 1 / focus), focus, NEAREST_FOCUS_M)


def _brightest(config: TrainMaskConfig) -> float:
    return max(ELECTRONS, config.sensor.electrons_at_white)


#: Starts are near where the error was found to meet that of the default camera.
FAMILIES = (
    Family(
        "mono-pixels", "monochrome pixels", "flat", "electrons_at_white", _fixed(200.0, ELECTRONS, 1.0), each_count=True
    ),
    Family("gaussian-blur", "Gaussian blur", "gaussian", "blur_sd_cells", _fixed(2.0, 0.3, 16.0)),
    Family("defocus", "defocus", "defocus", "focus_distance_m", _from_focus),
    Family(
        "low-resolution",
        "low resolution",
        "flat",
        "electrons_at_white",
        _fixed(ELECTRONS, ELECTRONS, 1.0),
        sensor={"colour": True, "pixels": 8},
        finer=(16, 32),
    ),
    # Rougher relief than 1.5 outruns the samples of the pupil, whatever the seed.
    Family("random-mask", "random mask", "random-mask", "relief_spread", _fixed(0.3, 0.01, 1.5)),
    # With the stop an ordinary sensor needs most of the light, or finer pixels, to see landmarks as well as ours.
    Family(
        "same-field-mono-pixels",
        "monochrome pixels behind the same field stop",
        "flat",
        "electrons_at_white",
        lambda config: Span(ELECTRONS, _brightest(config), 1.0),
        behind_stop=True,
        finer=(32, 64),
        lacks="the converter and the mask",
    ),
    Family(
        "same-sensor-no-mask",
        "same sensor, no mask",
        "flat",
        "electrons_at_white",
        lambda config: Span(config.sensor.electrons_at_white, _brightest(config), 1.0),
        ours=True,
        lacks="the mask",
    ),
)
NAMES = tuple(family.name for family in FAMILIES)


def find(name: str) -> Family:
    """The row of a name that the settings have checked."""
    return next(family for family in FAMILIES if family.name == name)
