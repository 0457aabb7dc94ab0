"""Upper limits on what any attacker can learn about identity, in three tiers that must not be confused.

* *certified*: a released vector is clipped to a ball and Gaussian noise is added. The limits follow from the release
  alone; nothing is assumed about faces, optics or the attacker. They are computed in :mod:`.release`.
* *model-based*: mutual information I(ID; Y) of a Gaussian model, turned into a success rate by Fano's inequality. As
  true as the model; differentiable in whatever made the covariances (PSF, mask).
* *empirical*: the limit of the best attack that was run. No bound.

This module holds the model-based tier, and the :class:`Certificate` that states a limit of any tier.

Success is that of naming the one of M people, all equally likely beforehand, whom T frames show. The attacker may hold
a gallery, any photographs of them and full knowledge of the camera, but not the noise.

Computed in float64 whatever comes in. Gaussian noise of the sensor is meant before rounding: what happens after the
noise (converter, decoder, release) can only lower the limits (data processing inequality).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from evaluation.errors import EvaluationError
from evaluation.limits.release import as_double, check_frames, check_people, release_bound

Tier = Literal["certified", "model-based", "empirical"]

VACUOUS_FROM = 0.5  # a limit that lets an attacker name every second person protects nobody
_DRAWS = 9_999  # of the pivot behind a confidence limit; the k-th smallest is exceeded with chance 1 - k / (draws + 1)
_ROUNDING = 1e-5  # relative, as float32 products leave it; larger asymmetries or negative eigenvalues are refused


# Tier "model-based": Gaussian models.


def _square(name: str, matrix: Tensor, side: int) -> Tensor:
    if matrix.shape != (side, side) or side == 0:
        raise EvaluationError(f"{name} has shape {tuple(matrix.shape)}; a square one of the signal's length is needed.")
    if float((matrix - matrix.mT).detach().abs().max()) > _ROUNDING * float(matrix.detach().abs().max()):
        raise EvaluationError(f"{name} is not symmetric; a covariance equals its transpose.")
    return (matrix + matrix.mT) / 2


def _whiten(columns: Tensor, noise: Tensor) -> Tensor:
    """Apply Sigma^(-1/2) (a triangular root) to columns (d, k); the noise is (d,) variances or a (d, d) covariance."""
    if noise.ndim <= 1:
        if noise.shape != columns.shape[:1]:
            raise EvaluationError(
                f"noise of shape {tuple(noise.shape)} does not fit a signal of {columns.shape[0]} components; give "
                "one variance for each or a full covariance."
            )
        if not bool((noise > 0).all()):
            raise EvaluationError(
                f"the noise has the variance {float(noise.detach().min())}; without noise in every component "
                "information has no limit."
            )
        return columns / noise.sqrt()[:, None]
    root, failed = torch.linalg.cholesky_ex(_square("the noise covariance", noise, columns.shape[0]))
    if int(failed):
        raise EvaluationError(
            "the noise covariance is not positive definite; without noise in every direction information has no limit."
        )
    return torch.linalg.solve_triangular(root, columns, upper=False)


def scene_distance(difference: Tensor, noise: Tensor) -> Tensor:
    """Distance delta of two known scenes in units of the noise, ``|Sigma^(-1/2) (H x0 - H x1)|``, for one frame.

    Args:
        difference: Difference H x0 - H x1 of their noise-free signals, shape (d,).
        noise: Variances (d,) or covariance (d, d) of noise that does not depend on the scene.

    Returns:
        Scalar, float64; goes into :func:`.tar_bound`.

    Raises:
        EvaluationError: Shapes disagree or the noise is not positive definite.
    """
    step = as_double("difference", difference)
    if step.ndim != 1:
        raise EvaluationError(f"difference has shape {tuple(step.shape)}; (d,) is needed, flatten the signal.")
    return torch.linalg.vector_norm(_whiten(step[:, None], as_double("noise", noise)))


def gaussian_bits(signal_covariance: Tensor, noise: Tensor, frames: int = 1) -> Tensor:
    """Information in bits, ``1/2 log2 det(1 + T Sigma^-1 B)``, that T frames hold about a signal in Gaussian noise.

    With B = Cov(H X) of the scenes behind linear optics and Sigma the noise of the sensor, it bounds I(X; Y), and so
    I(ID; Y | gallery) <= I(ID, gallery; Y) <= I(X; Y); the scenes X may have any law with that covariance, as the
    Gaussian has the largest entropy. With B the covariance between people and Sigma the covariance within a person
    plus noise, it bounds I(ID; Y | gallery) if Y given the person is Gaussian with the same covariance for everyone;
    T then counts frames that differ by independent variation (a share common to all frames only lowers it). The limit
    is a mean over galleries drawn from that population; for one fixed gallery take B as the scatter of its own people.

    The noise must not depend on the signal; for photon noise see :func:`signal_dependent_bits`. A covariance estimated
    from data makes this a plug-in estimate, not a bound.

    Args:
        signal_covariance: B, shape (d, d).
        noise: Sigma, variances (d,) or covariance (d, d).
        frames: T frames of one static signal with independent noise. Where scenes move, T times the bits of one frame
            is the limit.

    Returns:
        Scalar, float64, differentiable in both covariances.

    Raises:
        EvaluationError: Shapes disagree, or a covariance is none.
    """
    check_frames(frames)
    signal, sigma = as_double("signal_covariance", signal_covariance), as_double("noise", noise)
    signal = _square("signal_covariance", signal, signal.shape[0] if signal.ndim else 1)
    white = _whiten(_whiten(signal, sigma).mT, sigma)
    # Gradients of eigenvalues alone are well defined where eigenvalues coincide, and log1p keeps small ones exact.
    eigenvalues = torch.linalg.eigvalsh((white + white.mT) / 2)
    low, high = float(eigenvalues.detach()[0]), float(eigenvalues.detach()[-1])
    if low < -_ROUNDING * abs(high):
        raise EvaluationError(
            f"signal_covariance has the negative eigenvalue {low:.3g} in units of the noise (largest {high:.3g}); a "
            "covariance has none."
        )
    return torch.log1p(frames * eigenvalues.clamp(min=0.0)).sum() / (2 * math.log(2))


def stationary_bits(otf: Tensor, scene_spectrum: Tensor, noise_spectrum: float | Tensor, frames: int = 1) -> Tensor:
    """Information in bits of :func:`gaussian_bits` for stationary scenes: ``1/2 sum_k log2(1 + T |H_k|^2 S_k / N_k)``.

    Exact for scenes and blur that wrap around at the border; close to it if the frame is much larger than the PSF. For
    several channels with a PSF each, the sum over them is an upper limit whatever their correlation (Fischer's
    inequality).

    Args:
        otf: Transfer function H on the full grid of a 2-D DFT, shape (..., H, W), for instance
            ``torch.fft.fft2(psf, s=(H, W))``; real or complex, only its modulus counts.
        scene_spectrum: S, the DFT of the autocovariance of a pixel (its mean over the grid is the variance of a
            pixel), shape (..., H, W), in the square of the sensor's signal unit.
        noise_spectrum: N in the same unit; white noise: the variance of a pixel.
        frames: T frames of a static scene.

    Returns:
        Scalar, float64, differentiable in ``otf``.

    Raises:
        EvaluationError: A spectrum is not even, as on half a grid (``rfft2``), or out of range.
    """
    check_frames(frames)
    if otf.is_complex():
        gain = otf.real.to(torch.float64).square() + otf.imag.to(torch.float64).square()
    else:
        gain = otf.to(torch.float64).square()
    gain, scene = as_double("otf", gain), as_double("scene_spectrum", scene_spectrum)
    noise = as_double("noise_spectrum", noise_spectrum)
    if gain.ndim < 2 or gain.shape[-2:] != scene.shape[-2:]:
        raise EvaluationError(
            f"otf of shape {tuple(gain.shape)} and scene_spectrum of shape {tuple(scene.shape)} do not fit; both need "
            "the full grid (..., H, W)."
        )
    if bool((scene < 0).any()) or not bool((noise > 0).all()):
        raise EvaluationError("scene_spectrum must not be negative, and noise_spectrum must be positive everywhere.")
    ratio = gain * scene / noise
    mirrored = ratio.flip(-2, -1).roll((1, 1), (-2, -1))
    if float((ratio - mirrored).detach().abs().max()) > _ROUNDING * float(ratio.detach().max()):
        raise EvaluationError(
            "|H|^2 S / N differs between a frequency and its negative; give the full grid of fft2, not half of it "
            "(rfft2), unshifted."
        )
    return torch.log1p(frames * ratio).sum() / (2 * math.log(2))


def signal_dependent_bits(signal_covariance: Tensor, noise_variances: Tensor, frames: int = 1) -> Tensor:
    """Information in bits where the noise depends on the signal, as photon noise does.

    ``I <= h(Y) - h(Y | X) <= 1/2 log2 det Cov(Y) - 1/2 E log2 det V(X)`` for Gaussian noise of variances V(X) given the
    scene. With D = E V this is ``gaussian_bits(B, D, T) + T/2 sum_i (log2 D_i - E log2 V_i)``: the second part is what
    the variance itself tells about the scene. Neither the mean nor the smallest variance may stand in for V in
    :func:`gaussian_bits`; both lose that part.

    Photon noise is near Gaussian above some 20 electrons. Below, its entropy is smaller than that of the Gaussian, and
    this is no bound.

    Args:
        signal_covariance: B, covariance of the noise-free signal, shape (d, d).
        noise_variances: V for a sample of N scenes, shape (N, d), independent between pixels and frames.
        frames: T frames of a static scene.

    Returns:
        Scalar, float64, differentiable. Expectations are means over the sample: a plug-in estimate.

    Raises:
        EvaluationError: Shapes disagree or a variance is not positive.
    """
    variances = as_double("noise_variances", noise_variances)
    if variances.ndim != 2 or not len(variances) or not bool((variances > 0).all()):
        raise EvaluationError(
            f"noise_variances has shape {tuple(variances.shape)} and must be positive variances of shape (N, d), one "
            "row for each scene."
        )
    mean = variances.mean(dim=0)
    told_by_variance = (mean.log2() - variances.log2().mean(dim=0)).sum()
    return gaussian_bits(signal_covariance, mean, frames) + frames / 2 * told_by_variance


def class_bits_upper(captures: Tensor, frames: int = 1, *, confidence: float = 0.95, seed: int = 0) -> Tensor:
    """Upper confidence limit of ``1/2 log2 det(1 + T Sigma_w^-1 Sigma_b)`` from captures of people.

    Model: capture = person + variation, both Gaussian, Sigma_b between people, Sigma_w within a person, the same for
    everyone. With t = min(T, m), the means of the first t captures of each person have covariance
    ``Sigma_b + Sigma_w / t``, and ``det(1 + t Sigma_w^-1 Sigma_b) = det(Sigma_b + Sigma_w / t) / det(Sigma_w / t)``.
    Sample generalised variances over the true ones are products of independent chi-squares (T. W. Anderson, An
    Introduction to Multivariate Statistical Analysis, 3rd ed., theorem 7.5.3) whatever the truth. Scatter within the
    first t captures and within the others is independent of those means, so the ratio is a pivot; its quantile is an
    order statistic of simulated values, which makes the coverage exact in the model. More frames than captures add
    ``d/2 log2(T / t)``, the most they can.

    Args:
        captures: What the attacker sees, noise included, shape (people, m, d). Fewer dimensions (a fixed projection)
            give a limit on what these dimensions tell, no more.
        frames: T.
        confidence: Chance that the limit covers the truth, one-sided.
        seed: Seed of the simulated quantile.

    Returns:
        Scalar, float64, zero or more, differentiable in the captures.

    Raises:
        EvaluationError: Too few people or captures for d dimensions.
    """
    check_frames(frames)
    rank = math.floor(round((1 - confidence) * (_DRAWS + 1), 6))
    if not 1 <= rank <= _DRAWS:
        raise EvaluationError(f"confidence={confidence} must lie above 0 and be at most {1 - 1 / (_DRAWS + 1)}.")
    rows = as_double("captures", captures)
    if rows.ndim != 3:
        raise EvaluationError(f"captures has shape {tuple(rows.shape)}; (people, captures of each, d) is needed.")
    people, count, dimension = rows.shape
    first = min(frames, count)
    blocks = [rows[:, :first], rows[:, first:]]
    within_df = people * sum(max(block.shape[1] - 1, 0) for block in blocks)
    if people - 1 < dimension or within_df < dimension:
        raise EvaluationError(
            f"{people} people with {count} captures cannot bound d={dimension} components at frames={frames}: that "
            f"needs more than d people and d degrees of freedom within people, there are {within_df}; add people or "
            "captures, or project to fewer components."
        )
    means = blocks[0].mean(dim=1)
    between = _scatter(means - means.mean(dim=0))
    within = sum(_scatter((block - block.mean(dim=1, keepdim=True)).flatten(0, 1)) for block in blocks if block.numel())
    # (people - 1) and within_df divide the scatters here and the chi-squares of the pivot, and cancel.
    estimate = torch.linalg.slogdet(between).logabsdet - torch.linalg.slogdet(within).logabsdet
    generator, pivot = np.random.default_rng(seed), np.zeros(_DRAWS)
    for i in range(dimension):
        pivot += np.log(generator.chisquare(people - 1 - i, _DRAWS) / generator.chisquare(within_df - i, _DRAWS))
    slack = float(np.sort(pivot)[rank - 1])
    nats = (estimate - slack + dimension * math.log(first)).clamp(min=0.0) / 2
    return (nats + dimension / 2 * math.log(frames / first)) / math.log(2)


def _scatter(rows: Tensor) -> Tensor:
    return rows.mT @ rows


def fano_bound(bits: float | Tensor, people: int) -> Tensor:
    """Largest success a of naming one of M people with I bits: ``d(a || 1/M) = I``.

    ``d(a || p) = a log2(a / p) + (1 - a) log2((1 - a) / (1 - p))``. Whether the attacker is right is a function of
    (ID, Y); if ID and Y were independent it would be right with chance 1/M, so data processing gives d(a || 1/M) <=
    I(ID; Y) for any attacker (T. S. Han and S. Verdu, IEEE Trans. Inf. Theory 40, 1994). Given a gallery the same
    follows for the mean over galleries, as d is convex.
    Reached by the M-ary symmetric channel. Far tighter at few bits than ``(I + 1) / log2 M``.

    Args:
        bits: I(ID; Y | gallery) or an upper limit of it, any shape, zero or more.
        people: M, equally likely beforehand.

    Returns:
        a, from 1/M to 1, float64, shape of ``bits``. Differentiable: da/dI = 1 / d'(a), which grows without limit
        towards I = 0 and is zero from log2 M bits on.

    Raises:
        EvaluationError: Bits are negative or not finite.
    """
    check_people(people)
    information = as_double("bits", bits)
    if bool((information < 0).any()):
        raise EvaluationError(
            f"bits has the negative value {float(information.detach().min())}; information is zero or more."
        )
    nats, chance = information.detach() * math.log(2), 1 / people
    low, high = torch.zeros_like(nats), torch.full_like(nats, 1 - chance)  # success above chance
    for _ in range(100):  # halves down to the last bit even for a chance of 1e-9
        middle = (low + high) / 2
        success, failure = chance + middle, 1 - chance - middle
        divergence = success * torch.log1p(middle / chance)
        divergence = divergence + torch.special.xlog1py(failure, -middle / (1 - chance))
        above = divergence >= nats
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    success = chance + high
    slope = (torch.log1p(high / chance) - torch.log1p(-high / (1 - chance))) / math.log(2)
    # The root is a constant for autograd; its derivative is that of the inverse function.
    return success + (information - information.detach()) / slope.clamp(min=torch.finfo(torch.float64).tiny)


# What is reported.


@dataclass(frozen=True)
class Certificate:
    """An upper limit on identification, with all it depends on.

    Attributes:
        tier: "certified" (holds for any faces and attackers), "model-based" (as true as the model) or "empirical"
            (the limit of the best attack that was run; no bound).
        max_success: A_max, the highest rate of naming the right one of the people.
        people: M, equally likely beforehand.
        frames: T, frames the attacker sees of the person.
        noise: What noise it rests on, with its size and unit.
        assumptions: What must be true for it to hold, in one sentence.
        bits: I(ID; Y) over all T frames; model-based only.
        delta: Largest distance of two scenes in units of the noise, for one frame; certified only.
    """

    tier: Tier
    max_success: float
    people: int
    frames: int
    noise: str
    assumptions: str
    bits: float | None = None
    delta: float | None = None

    def __post_init__(self) -> None:
        if self.tier not in get_args(Tier):
            raise EvaluationError(f"tier={self.tier!r} is none of {', '.join(get_args(Tier))}.")
        check_people(self.people)
        check_frames(self.frames)
        if not 0 <= self.max_success <= 1:
            raise EvaluationError(f"max_success={self.max_success} must lie between 0 and 1; it is a rate.")
        if not self.noise or not self.assumptions:
            raise EvaluationError("noise and assumptions must be stated; a limit means nothing without them.")
        if (self.bits is not None) != (self.tier == "model-based") or (self.delta is not None) != (
            self.tier == "certified"
        ):
            raise EvaluationError(
                f"a {self.tier} certificate with bits={self.bits} and delta={self.delta}: 'certified' needs delta "
                "alone, 'model-based' bits alone, 'empirical' neither."
            )

    @classmethod
    def of_release(cls, radius: float, noise_sd: float, dimension: int, people: int, frames: int) -> Certificate:
        """Certify :func:`noisy_release` by :func:`.release_bound`, with the same arguments."""
        return cls(
            "certified",
            release_bound(radius, noise_sd, dimension, people, frames),
            people,
            frames,
            f"Gaussian, sd {noise_sd:g} in each of {dimension} components clipped to radius {radius:g}",
            "Nothing but the clipped and noisy vectors leaves the device, the public mean was chosen without these "
            "people, and the noise is ideal, secret and new in every frame (pseudo-random numbers and floating point "
            "only come close to that).",
            delta=2 * radius / noise_sd,
        )

    @classmethod
    def of_bits(cls, bits: float, people: int, frames: int, *, noise: str, assumptions: str) -> Certificate:
        """Turn information in all ``frames`` together into a model-based certificate by :func:`fano_bound`.

        ``assumptions`` must name the model and where its covariances come from: known, plug-in estimate, or upper
        limit at which confidence.
        """
        return cls("model-based", float(fano_bound(bits, people)), people, frames, noise, assumptions, bits=float(bits))

    @classmethod
    def of_attack(cls, attack_upper_limit: float, people: int, frames: int, *, noise: str) -> Certificate:
        """Label the upper confidence limit of the best attack: an observation, not a bound."""
        return cls(
            "empirical",
            attack_upper_limit,
            people,
            frames,
            noise,
            "No attack is stronger than the best of those that were run; a stronger one may exist.",
        )

    @property
    def vacuous(self) -> bool:
        """Whether it says too little to count: an attacker may name every second person or more."""
        return self.max_success >= VACUOUS_FROM

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values for JSON, with ``vacuous``."""
        return {**asdict(self), "vacuous": self.vacuous}


def check_attack(certificate: Certificate, attack_lower_limit: float) -> str | None:
    """Say why an attack contradicts a certificate, or None if it does not.

    The caller must fail the run on a reason. The attack must have named people under the certificate's own terms: at
    most ``frames`` frames, a gallery of ``people``, each equally often the right answer.

    Args:
        certificate: The limit. An empirical one cannot be contradicted.
        attack_lower_limit: Lower confidence limit of the attack's success.

    Raises:
        EvaluationError: The limit is no rate.
    """
    if not 0 <= attack_lower_limit <= 1:
        raise EvaluationError(f"attack_lower_limit={attack_lower_limit} must lie between 0 and 1; it is a rate.")
    if certificate.tier == "empirical" or attack_lower_limit <= certificate.max_success:
        return None
    cause = {
        "certified": "a bug in the release, the attack or the bound",
        "model-based": f"the model does not hold ({certificate.assumptions})",
    }[certificate.tier]
    return (
        f"An attack names at least {attack_lower_limit:.4f} of {certificate.people} people from {certificate.frames} "
        f"frames; the {certificate.tier} limit is {certificate.max_success:.4f}: {cause}."
    )
