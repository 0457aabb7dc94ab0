"""What a camera's own frames say about it: gain, noise, efficiency, saturation and non-uniformity after EMVA 1288.

Input are flat fields at a series of irradiations and dark frames, in DN; the method is photon transfer (EMVA 1288,
release 4.0 "Linear"; B. Jähne, "Release 4 of the EMVA 1288 standard" (2020)):

- temporal variance of a step: the mean over pixels of the variance between frames, less the variance of the frame means
  (a lamp that flickers). Two frames give ``<(A - B)^2> / 2 - (mean A - mean B)^2 / 2``;
- gain K: slope through zero of ``var - var_dark`` over ``mean - mean_dark`` up to 70 % of saturation; responsivity R:
  that of ``mean - mean_dark`` over photons; quantum efficiency ``R / K``; dark noise ``sqrt(var_dark - 1/12) / K``;
- saturation: the step with the largest temporal variance;
- linearity: straight line with least relative deviations from 5 % to 95 % of saturation; the error is the mean of their
  magnitudes;
- non-uniformity: variance between pixels of a stack of F frames, less ``var / F`` of temporal noise, split into pixels,
  rows and columns by a two-way analysis of variance.

Standard errors are those of normal noise in n pixels, ``2 var^2 / (n (F - 1))`` for a variance; the error of the photon
count is the caller's to add.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import NamedTuple

import torch

from optics.errors import OpticsError
from optics.sensor.emva_frames import check_repeats, check_series, check_underflow, temporal

# Rounding adds 1/12 DN^2 to a variance. Below 0.24 DN^2 this no longer holds and the noise is hidden (EMVA 1288).
_ROUNDING_DN2 = 1 / 12
_HIDDEN_BELOW_DN2 = 0.24


@dataclass(frozen=True)
class Estimate:
    """A measured number.

    Attributes:
        value: Best value.
        standard_error: Its standard error.
    """

    value: float
    standard_error: float

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the normal confidence interval of this level."""
        if not 0 < level < 1:
            raise OpticsError(f"level={level} must lie between 0 and 1.")
        half = NormalDist().inv_cdf((1 + level) / 2) * self.standard_error
        return self.value - half, self.value + half


@dataclass(frozen=True)
class NonUniformity:
    """RMS between pixels.

    Attributes:
        total: All of it, with its standard error; 0 if the temporal noise explains all that was seen.
        pixels: Part of single pixels.
        rows: Part that whole rows share.
        columns: Part that whole columns share.
    """

    total: Estimate
    pixels: float
    rows: float
    columns: float


@dataclass(frozen=True)
class EmvaReport:
    """Result of :func:`emva_report`; tensors are float64 of shape (S,), one value per step.

    Attributes:
        gain_dn_e: System gain K in DN per electron.
        quantum_efficiency: Electrons per photon.
        dark_noise_e: Temporal noise in the dark in electrons (read noise and the shot noise of the dark current).
        dark_noise_hidden: True if rounding hides it (variance below 0.24 DN^2): the value is then no measurement.
        saturation_photons: Photons of the last step below saturation and of the first one beyond.
        saturation_e: The same in electrons: the saturation capacity lies between them.
        linearity_error: Mean relative deviation from the straight line, as a share.
        dsnu_e: DSNU1288 in electrons.
        prnu: PRNU1288 as a share.
        dark_current_e_s: Dark current in electrons a second, or None if no exposure times were given.
        mean_dn: Mean signal.
        variance_dn2: Temporal variance.
        dark_mean_dn: Mean dark signal, shape (S,) or (1,).
        dark_variance_dn2: Temporal variance in the dark, shape (S,) or (1,).
    """

    gain_dn_e: Estimate
    quantum_efficiency: Estimate
    dark_noise_e: Estimate
    dark_noise_hidden: bool
    saturation_photons: tuple[float, float]
    saturation_e: tuple[float, float]
    linearity_error: float
    dsnu_e: NonUniformity
    prnu: NonUniformity
    dark_current_e_s: Estimate | None
    mean_dn: torch.Tensor
    variance_dn2: torch.Tensor
    dark_mean_dn: torch.Tensor
    dark_variance_dn2: torch.Tensor

    @property
    def snr_max(self) -> float:
        """Largest signal-to-noise ratio, ``sqrt(saturation_e)``."""
        return sqrt(self.saturation_e[0])

    @property
    def threshold_photons(self) -> float:
        """Photons at which signal and noise are equal (absolute sensitivity threshold)."""
        noise = self.dark_noise_e.value**2 + _ROUNDING_DN2 / self.gain_dn_e.value**2
        return (sqrt(noise + 0.25) + 0.5) / self.quantum_efficiency.value

    @property
    def dynamic_range(self) -> float:
        """Photons at saturation over those at the threshold."""
        return self.saturation_photons[0] / self.threshold_photons


def emva_report(
    bright: torch.Tensor,
    dark: torch.Tensor,
    photons: torch.Tensor,
    *,
    exposures_s: torch.Tensor | None = None,
    stacks: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> EmvaReport:
    """Characterise a linear camera from flat fields and dark frames.

    Args:
        bright: Frames in DN (steps of one converter code), shape (S, F, H, W): S irradiations in rising order, the last
            beyond saturation, F >= 2 frames each.
        dark: Dark frames of the same exposure times, shape (S, F, H, W), or (F, H, W) if the exposure is the same for
            all steps. The dark noise is that of the first step.
        photons: Mean photons per pixel and exposure, shape (S,).
        exposures_s: Exposure times in seconds, shape (S,), for the dark current; needs dark frames of every step.
        stacks: Dark frames and frames near half saturation for the non-uniformity, shape (F, H, W) each; None takes the
            dark frames and the bright step nearest to half saturation. The more frames, the less noise to take off.

    Returns:
        The report.

    Raises:
        OpticsError: Shapes do not fit, the steps do not reach saturation or are too few below it, more than 0.5 % of
            the dark values are 0 (the black level is too low), or a frame was delivered twice.
    """
    bright, dark, photons = bright.double(), dark.double(), photons.double()
    dark = dark[None] if dark.ndim == 3 else dark
    check_series(bright, dark, photons)
    transfer = _photon_transfer(bright, dark, photons)
    last, signal, gain = transfer.last, transfer.signal, transfer.gain.value
    if stacks is None:
        half = int((signal[: last + 1] - 0.5 * signal[last]).abs().argmin())
        stacks = dark[half if len(dark) > 1 else 0], bright[half]
    dsnu, prnu = _non_uniformity(stacks[0].double(), stacks[1].double(), gain)
    reached = (float(photons[last]), float(photons[last + 1]))
    efficiency = transfer.efficiency
    dark_mean, dark_variance = transfer.dark
    return EmvaReport(
        gain_dn_e=transfer.gain,
        quantum_efficiency=efficiency,
        dark_noise_e=_dark_noise(float(dark_variance[0]), dark[0].numel() - dark[0, 0].numel(), transfer.gain),
        dark_noise_hidden=float(dark_variance[0]) < _HIDDEN_BELOW_DN2,
        saturation_photons=reached,
        saturation_e=(efficiency.value * reached[0], efficiency.value * reached[1]),
        linearity_error=_linearity_error(signal[: last + 1], photons[: last + 1]),
        dsnu_e=dsnu,
        prnu=prnu,
        dark_current_e_s=None if exposures_s is None else _dark_current(dark, exposures_s.double(), transfer.gain),
        mean_dn=transfer.bright[0],
        variance_dn2=transfer.bright[1],
        dark_mean_dn=dark_mean,
        dark_variance_dn2=dark_variance,
    )


class _Transfer(NamedTuple):
    """Result of the photon transfer: means and variances of each step, and what follows from their slopes."""

    bright: tuple[torch.Tensor, torch.Tensor]
    dark: tuple[torch.Tensor, torch.Tensor]
    signal: torch.Tensor
    last: int
    gain: Estimate
    efficiency: Estimate


def _photon_transfer(bright: torch.Tensor, dark: torch.Tensor, photons: torch.Tensor) -> _Transfer:
    """Gain and quantum efficiency from the steps up to 70 % of saturation, with their standard errors."""
    pixels, frames = bright.shape[-2] * bright.shape[-1], bright.shape[1]
    mean, variance = temporal(bright)
    dark_mean, dark_variance = temporal(dark)
    signal, excess = mean - dark_mean, variance - dark_variance
    last = _saturation(variance, photons)
    for step in range(last + 1):
        # A step of copies alone has no variance of its own; the others tell what it should have.
        check_repeats(f"step {step} of bright", bright[step], float(variance[step] or variance.max()))
    for step, stack in enumerate(dark):
        check_repeats("dark" if len(dark) == 1 else f"step {step} of dark", stack, float(dark_variance[step]))
    near = signal[: last + 1] <= 0.7 * signal[last]
    if int(near.sum()) < 3:
        raise OpticsError(
            f"{int(near.sum())} steps of bright lie below 70 % of saturation ({photons[last]:g} photons); at least 3 "
            "are needed."
        )
    near = torch.nn.functional.pad(near, (0, len(photons) - 1 - last))
    m, p = signal[near], photons[near]
    gain = float((m @ excess[near]) / (m @ m))
    responsivity = float((p @ m) / (p @ p))
    if not (gain > 0 and responsivity > 0):
        raise OpticsError(
            f"the variance of bright changes by {gain:.3g} DN for each DN of signal, and the signal by "
            f"{responsivity:.3g} DN for each photon; both must rise. Check that the frames are new ones and in order."
        )
    # Dark frames of one step serve all steps, and their error is one and the same: the weights add up.
    shared = len(dark) == 1
    by_m, by_p = (weight.sum(dim=0, keepdim=True) if shared else weight for weight in (m, p))
    noise, dark_noise_dn2 = variance[near], dark_variance if shared else dark_variance[near]
    spread = _square(m * noise) / (frames - 1) + _square(by_m * dark_noise_dn2) / (dark.shape[1] - 1)
    gain_error = sqrt(2 * spread / pixels) / float(m @ m)
    spread = float(p.square() @ noise) / frames + float(by_p.square() @ dark_noise_dn2) / dark.shape[1]
    efficiency = responsivity / gain
    efficiency_error = efficiency * sqrt(
        (gain_error / gain) ** 2 + spread / (pixels * float(p @ p) ** 2 * responsivity**2)
    )
    efficiencies = Estimate(efficiency, efficiency_error)
    return _Transfer(
        (mean, variance), (dark_mean, dark_variance), signal, last, Estimate(gain, gain_error), efficiencies
    )


def _saturation(variance: torch.Tensor, photons: torch.Tensor) -> int:
    """The step with the largest temporal variance, which must not be the last one."""
    last = int(variance.argmax())
    if last == len(photons) - 1:
        raise OpticsError(
            f"the temporal variance still rises at the last step ({photons[-1]:g} photons), so saturation was not "
            "reached; add brighter steps to bright."
        )
    return last


def _dark_noise(variance_dn2: float, freedom: int, gain: Estimate) -> Estimate:
    """Temporal noise in the dark in electrons, without that of rounding."""
    own = (variance_dn2 - _ROUNDING_DN2) / gain.value**2
    own_error = variance_dn2 * sqrt(2 / freedom) / gain.value**2
    return _root(own, sqrt(own_error**2 + (2 * own * gain.standard_error / gain.value) ** 2))


def _square(x: torch.Tensor) -> float:
    return float(x @ x)


def _root(variance: float, error: float) -> Estimate:
    """Square root of a variance with its error; near zero, where the slope is infinite, the root of the error."""
    value = sqrt(max(variance, 0.0))
    return Estimate(value, error / (2 * max(value, sqrt(error) / 2)) if error > 0 else 0.0)


def _linearity_error(signal: torch.Tensor, photons: torch.Tensor) -> float:
    inside = (signal >= 0.05 * signal[-1]) & (signal <= 0.95 * signal[-1])
    y, x = signal[inside], photons[inside]
    if len(y) < 3:
        raise OpticsError(
            f"{len(y)} steps of bright lie between 5 % and 95 % of saturation; at least 3 are needed for the linearity."
        )
    # Deviations relative to y: both sides of y = a + b x over y.
    design = torch.stack((1 / y, x / y), dim=1)
    line = torch.linalg.lstsq(design, torch.ones_like(y)[:, None]).solution[:, 0]
    fit = line[0] + line[1] * x
    return float(((y - fit) / fit).abs().mean())


def _spatial(stack: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Variance of pixels, rows and columns in a stack (F, H, W), and the variances of these three estimates, (3,) each.

    Mean squares of the two-way layout: E(rest) = s_pixel^2 + var / F, E(rows) = W s_row^2 + E(rest), columns likewise.
    """
    count, height, width = stack.shape
    noise = float(temporal(stack[None])[1]) / count
    image = stack.mean(dim=0)
    rows, columns, grand = image.mean(dim=1), image.mean(dim=0), image.mean()
    rest = image - rows[:, None] - columns + grand
    freedom = image.new_tensor([(height - 1) * (width - 1), height - 1, width - 1])
    sums = torch.stack(
        (rest.square().sum(), width * (rows - grand).square().sum(), height * (columns - grand).square().sum())
    )
    squares = sums / freedom
    size = squares.new_tensor([1.0, width, height])
    parts = torch.stack((squares[0] - noise, squares[1] - squares[0], squares[2] - squares[0])) / size
    errors = 2 * squares.square() / freedom
    errors = errors + torch.stack((errors.new_tensor(0.0), errors[0], errors[0]))
    errors[0] += 2 * noise**2 / (height * width * (count - 1))
    return parts, errors / size.square()


def _non_uniformity(dark: torch.Tensor, half: torch.Tensor, gain: float) -> tuple[NonUniformity, NonUniformity]:
    for name, stack in (("dark", dark), ("half saturated", half)):
        if stack.ndim != 3 or stack.shape[0] < 2 or min(stack.shape[1:]) < 2:
            raise OpticsError(
                f"the {name} frames of stacks have shape {tuple(stack.shape)}; (F, H, W) is needed with F >= 2."
            )
        check_repeats(f"the {name} frames", stack, float(temporal(stack[None])[1]))
    check_underflow("the dark frames", dark)
    dark_parts, dark_errors = _spatial(dark)
    parts, errors = _spatial(half)
    signal = float(half.mean() - dark.mean())
    return (
        _collect(dark_parts / gain**2, dark_errors / gain**4),
        _collect((parts - dark_parts) / signal**2, (errors + dark_errors) / signal**4),
    )


def _collect(parts: torch.Tensor, errors: torch.Tensor) -> NonUniformity:
    pixels, rows, columns = parts.clamp(min=0).sqrt().tolist()
    return NonUniformity(_root(float(parts.sum()), sqrt(float(errors.sum()))), pixels, rows, columns)


def _dark_current(dark: torch.Tensor, exposures_s: torch.Tensor, gain: Estimate) -> Estimate:
    if len(dark) < 2 or tuple(exposures_s.shape) != dark.shape[:1] or not float(exposures_s.var()) > 0:
        raise OpticsError(
            f"exposures_s has shape {tuple(exposures_s.shape)} for dark frames of {len(dark)} steps; pass one time for "
            "each step, not all equal, and dark frames of every step."
        )
    mean, variance = temporal(dark)
    away = exposures_s - exposures_s.mean()
    slope = float((away @ mean) / (away @ away)) / gain.value
    noise = float(away.square() @ variance) / (dark[0].numel() * float(away @ away) ** 2 * gain.value**2)
    return Estimate(slope, sqrt(noise + (slope * gain.standard_error / gain.value) ** 2))
