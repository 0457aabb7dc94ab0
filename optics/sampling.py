"""Sampling rules that decide whether a simulated point-spread function can be trusted.

With pupil pitch du, aperture D, sensor distance d and wavelength L:

1. Replicas: sampled light repeats on the sensor every ``L d / du``; the window must not be wider (shortest L).
2. Phase steps: the path of element and defocus must change by less than half a turn between neighbouring pupil samples,
   or light that leaves at a steep angle reappears at a shallow one.
3. Intensity: its highest frequency is ``D / (L d)``, so point samples must be ``L d / (2 D)`` apart or closer
   (shortest L). Cell integrals of :class:`optics.PupilToPsf` meet this by construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, isfinite

import torch

from optics.checks import check_wavelengths
from optics.elements.base import PupilElement
from optics.errors import OpticsError
from optics.lens import ThinLens
from optics.pupil import PupilGrid
from optics.pupil_function import PupilFunction, element_turns

# One part in 1e9, so a window set exactly to the period is not refused for its last bit.
_SLACK = 1 + 1e-9


@dataclass(frozen=True)
class SamplingReport:
    """What was checked, with its limits.

    Attributes:
        window_m: Side of the simulated sensor window in metres.
        period_m: Distance between replicas at the shortest wavelength in metres.
        phase_step_turns: Largest phase step between neighbouring pupil samples in turns, or None if no element was
            given; must stay below 0.5.
        nyquist_pitch_m: Coarsest admissible pitch of point samples in metres.
    """

    window_m: float
    period_m: float
    phase_step_turns: float | None
    nyquist_pitch_m: float


def check_sampling(
    grid: PupilGrid,
    lens: ThinLens,
    wavelengths_m: Sequence[float],
    pitch_m: float,
    samples: int,
    element: PupilElement | None = None,
    object_distance_m: float | torch.Tensor | None = None,
    *,
    point_samples: bool = False,
) -> SamplingReport:
    """Check the three sampling rules and refuse a configuration that breaks one.

    Args:
        grid: Pupil.
        lens: Lens.
        wavelengths_m: Vacuum wavelengths in metres.
        pitch_m: Side of an image cell (or distance of point samples) in metres.
        samples: Cells (or points) along one side of the window.
        element: Element in the pupil; None skips the rule of phase steps. Steps next to opaque samples do not count.
        object_distance_m: Object distance in metres, as for :class:`optics.PupilToPsf`.
        point_samples: Also demand the Nyquist pitch, for point samples instead of cell integrals.

    Returns:
        The numbers behind the verdict.

    Raises:
        OpticsError: A rule is broken; the message names the argument to change.
    """
    wavelengths = check_wavelengths(wavelengths_m)
    if not (isfinite(pitch_m) and pitch_m > 0):
        raise OpticsError(f"pitch_m={pitch_m} must be a positive length in metres.")
    if samples < 1 or samples % 2 == 0:
        raise OpticsError(f"samples={samples} must be odd, so that the optical axis meets the centre of a cell.")
    shortest = min(wavelengths)
    distance = lens.sensor_distance_m
    period = shortest * distance / grid.pitch_m
    window = pitch_m * samples
    if window > period * _SLACK:
        enough = -(-window * grid.diameter_m // (shortest * distance))
        fit = floor(period / pitch_m)
        fit -= 1 - fit % 2
        smaller = f", or samples to {fit} or less" if fit >= 1 else ", or reduce pitch_m"
        raise OpticsError(
            f"the window of {samples} x {pitch_m:g} m = {window:g} m exceeds the replica distance {period:g} m at "
            f"{shortest:g} m; raise PupilGrid samples from {grid.samples} to {enough:.0f}{smaller}."
        )
    nyquist = shortest * distance / (2 * grid.diameter_m)
    if point_samples and pitch_m > nyquist * _SLACK:
        raise OpticsError(
            f"pitch_m={pitch_m:g} is coarser than the Nyquist pitch {nyquist:g} m of the intensity at {shortest:g} m; "
            "reduce pitch_m, or use PupilToPsf, which integrates over cells of any size."
        )
    step = None
    if element is not None:
        step = _phase_step(grid, lens, wavelengths, element, object_distance_m)
        if not step < 0.5:
            raise OpticsError(
                f"the phase of element and defocus steps by {step:.3g} turns between pupil samples (limit "
                f"0.5); raise PupilGrid samples from {grid.samples} to about {int(grid.samples * step / 0.45) + 1}, or "
                "make the height or path of the element smoother, or the defocus of object_distance_m weaker."
            )
    return SamplingReport(window, period, step, nyquist)


def _phase_step(
    grid: PupilGrid,
    lens: ThinLens,
    wavelengths_m: tuple[float, ...],
    element: PupilElement,
    object_distance_m: float | torch.Tensor | None,
) -> float:
    """Largest phase step in turns between open neighbours, in float64."""
    with torch.no_grad():
        turns = element_turns(element, grid, wavelengths_m, torch.float64)
        pupil = PupilFunction(grid, lens, wavelengths_m, torch.float64).to(turns.device)
        open_cells = pupil.amplitude > 0
        transmission = element.transmission(wavelengths_m)
        if transmission is not None:
            open_cells = open_cells & (transmission > 0)
        return _largest_step(pupil.with_defocus(turns, object_distance_m), open_cells)


def _largest_step(turns: torch.Tensor, inside: torch.Tensor) -> float:
    """Largest absolute difference of neighbours in x or y that both lie in the aperture."""
    largest = 0.0
    for dim in (-1, -2):
        last = turns.shape[dim] - 1
        pair = inside.narrow(dim, 1, last) & inside.narrow(dim, 0, last)
        steps = turns.diff(dim=dim).abs() * pair
        largest = max(largest, float(steps.max()))
    return largest
