"""Release of a clipped vector with Gaussian noise, and limits on every attacker that follow from it alone.

This is the *certified* tier beside :mod:`evaluation.limits.information`: nothing is assumed about faces, optics or the
attacker, who may hold a gallery, any photographs of the people and full knowledge of the camera, but not the noise.
Success is that of naming the one of M people, all equally likely beforehand, whom T frames show; true accept rates are
bounded as well.

Computed in float64 whatever comes in.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from evaluation.errors import EvaluationError


def as_double(name: str, value: float | Tensor) -> Tensor:
    """The value in float64; refused under its name if any of it is not finite."""
    tensor = torch.as_tensor(value, dtype=torch.float64)
    if not bool(torch.isfinite(tensor).all()):
        raise EvaluationError(f"{name} holds values that are not finite; nothing can be bounded with them.")
    return tensor


def check_frames(frames: int) -> None:
    """Refuse a number of frames T below 1."""
    if frames < 1:
        raise EvaluationError(
            f"frames={frames} must be at least 1: the number of frames the attacker sees of one person."
        )


def check_people(people: int) -> None:
    """Refuse a number of people M below 2."""
    if people < 2:
        raise EvaluationError(f"people={people} must be at least 2; with one person there is nothing to guess.")


def _check_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise EvaluationError(f"{name}={value} must be a positive number.")


def clip_to_ball(vectors: Tensor, mean: Tensor, radius: float) -> Tensor:
    """Move vectors that lie outside a ball to its surface, towards the centre; leave the others alone.

    Args:
        vectors: Shape (N, d).
        mean: Centre, shape (d,). It must be public: chosen without looking at the people to be protected.
        radius: Radius C in the unit of the vectors.

    Returns:
        Shape (N, d), float64; no two results are further apart than 2 C.

    Raises:
        EvaluationError: Shapes disagree, or a value is not finite (it could not be clipped).
    """
    _check_positive("radius", radius)
    rows, centre = as_double("vectors", vectors), as_double("mean", mean)
    if rows.ndim != 2 or centre.shape != rows.shape[1:]:
        raise EvaluationError(
            f"vectors of shape {tuple(rows.shape)} and mean of shape {tuple(centre.shape)} do not fit; (N, d) and "
            "(d,) are needed."
        )
    offset = rows - centre
    # Within the ball the factor is radius / radius = 1 exactly.
    factor = radius / torch.linalg.vector_norm(offset, dim=1, keepdim=True).clamp(min=radius)
    return centre + offset * factor


def noisy_release(vectors: Tensor, mean: Tensor, radius: float, noise_sd: float, generator: torch.Generator) -> Tensor:
    """Clip vectors to a ball and add N(0, noise_sd^2) to each component: the Gaussian mechanism.

    Any two scenes are then at most ``delta = 2 radius / noise_sd`` apart in one frame (delta-Gaussian differential
    privacy: J. Dong, A. Roth, W. J. Su, J. R. Statist. Soc. B 84, 2022). Nothing but the result may leave the device.

    Args:
        vectors: Shape (N, d), one row for each frame to be released.
        mean: Public centre, shape (d,).
        radius: Clipping radius C in the unit of the vectors.
        noise_sd: Standard deviation in the unit of the vectors.
        generator: Source of the noise. Whoever knows its state can subtract the noise: seed it secretly in use.

    Returns:
        Shape (N, d), float64.

    Raises:
        EvaluationError: As :func:`clip_to_ball`, or no noise.
    """
    _check_positive("noise_sd", noise_sd)
    clipped = clip_to_ball(vectors, mean, radius)
    noise = torch.randn(clipped.shape, generator=generator, dtype=torch.float64, device=generator.device)
    return clipped + noise_sd * noise.to(clipped.device)


def tar_bound(fmr: float | Tensor, delta: float | Tensor, frames: int = 1) -> Tensor:
    """Highest true accept rate of any verifier: ``Phi(Phi^-1(FMR) + sqrt(T) delta)``.

    For two scenes with means delta apart in units of the noise this is the Neyman-Pearson test itself, so it is
    attained. It holds as well for people, who are mixtures of scenes, and for rates averaged over people: the right
    side is a concave function of FMR, so averaging over scenes of either hypothesis cannot exceed it (Jensen).

    Args:
        fmr: False match rate, 0 to 1, any shape.
        delta: Distance of the two scenes (:func:`evaluation.limits.scene_distance`), or its largest value 2 C / sigma
            for a clipped release; zero or positive, broadcasts with ``fmr``.
        frames: Frames T with independent noise.

    Returns:
        True accept rate (1 - FNMR), float64; differentiable in delta.

    Raises:
        EvaluationError: A rate or a distance is out of range.
    """
    check_frames(frames)
    rate, distance = as_double("fmr", fmr), as_double("delta", delta)
    if not bool(((rate >= 0) & (rate <= 1)).all()):
        raise EvaluationError("fmr holds values outside 0 to 1; a false match rate is a share.")
    if bool((distance < 0).any()):
        raise EvaluationError(
            f"delta has the negative value {float(distance.detach().min())}; it is a distance, give its size."
        )
    return torch.special.ndtr(torch.special.ndtri(rate) + math.sqrt(frames) * distance)


def release_bound(radius: float, noise_sd: float, dimension: int, people: int, frames: int = 1) -> float:
    """Highest success of naming one of M people from T frames of :func:`noisy_release`, over all attackers.

    The smaller of two limits. Given the gallery and all else the attacker holds, let P_i be the law of the T frames of
    person i: a mixture of N(m, sigma^2 1) over sequences m of T points of the ball. Let A_i be the event that the
    attacker says i; these events are disjoint (a randomised attacker is an average of others).

    1. Let Q = N(m0, sigma^2 1) with the public mean in every frame. Since |m - m0| <= sqrt(T) C, the Neyman-Pearson
       lemma gives P_i(A_i) <= h(Q(A_i)) with h(q) = Phi(Phi^-1(q) + sqrt(T) C / sigma), first for each m, then for the
       mixture. h is concave and increasing, and the Q(A_i) add up to at most 1, so the mean over i is at most h(1/M).
       Comparing with the centre, which may be nobody, costs C / sigma where comparing people in pairs costs twice that.
       Attained by M = 2 opposite points.
    2. P_i(A_i) is at most the integral over A_i of sup_m p_m, so the mean over i is at most 1/M times its integral over
       everything, w(C / sigma, d)^T (exponential of the maximal leakage: I. Issa, A. Wagner, S. Kamath, IEEE Trans.
       Inf. Theory 66, 2020). Over a point at distance t outside the ball the supremum is exp(-t^2/2) / (2 pi)^(d/2) in
       units of sigma, so with the ball's volume and shells ``w(r, d) = |B_r| / (2 pi)^(d/2) +
       2 / (2^(d/2) Gamma(d/2)) int_0^oo (r + t)^(d-1) exp(-t^2/2) dt``. Better for few dimensions and many people.

    Args:
        radius: Clipping radius C.
        noise_sd: Standard deviation sigma of the noise, same unit.
        dimension: Length d of the released vector.
        people: M.
        frames: T, scenes may change between frames.

    Returns:
        a_max, from 1/M to 1.

    Raises:
        EvaluationError: An argument is out of range.
    """
    _check_positive("radius", radius)
    _check_positive("noise_sd", noise_sd)
    check_people(people)
    check_frames(frames)
    if dimension < 1:
        raise EvaluationError(f"dimension={dimension} must be at least 1, the length of the released vector.")
    ratio = radius / noise_sd
    by_testing = float(tar_bound(1 / people, ratio, frames))
    log_leakage = frames * _log_leakage(ratio, dimension) - math.log(people)
    return max(1 / people, min(by_testing, math.exp(min(log_leakage, 0.0))))


def _log_leakage(ratio: float, dimension: int) -> float:
    """Natural logarithm of w(r, d) in :func:`release_bound`; the shell integral expanded in powers of r and t."""
    k = torch.arange(dimension, dtype=torch.float64, device="cpu")  # power of t
    d, log_ratio = k.new_tensor(float(dimension)), math.log(ratio)
    log_choose = torch.lgamma(d) - torch.lgamma(k + 1) - torch.lgamma(d - k)
    log_moment = (k - 1) / 2 * math.log(2) + torch.lgamma((k + 1) / 2)  # int t^k exp(-t^2 / 2)
    log_area = math.log(2) * (1 - d / 2) - torch.lgamma(d / 2)
    shells = log_area + log_choose + (d - 1 - k) * log_ratio + log_moment
    inside = d * (log_ratio - math.log(2) / 2) - torch.lgamma(d / 2 + 1)
    return float(torch.logsumexp(torch.cat([shells, inside[None]]), dim=0))
