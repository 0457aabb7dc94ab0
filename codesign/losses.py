"""Terms of the co-design loss that say how much identity a camera lets through."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def bounded_privacy_loss(cross_entropy: Tensor, people: int) -> Tensor:
    """What the adversary gains over guessing, as a share of all there is: 1 = it knows everyone, 0 = chance or worse.

    The loss stops at chance, so the optics are never rewarded for an adversary that is confidently wrong (which a
    retrained adversary would undo).

    Args:
        cross_entropy: Mean cross-entropy of the adversary in nats.
        people: Number of people it tells apart.
    """
    return functional.relu(1.0 - cross_entropy / math.log(people))


def bounded_inversion_loss(error: Tensor, uninformed: float) -> Tensor:
    """What an inverter gains over a guess that never looks at the frame, as a share: 1 = perfect, 0 = nothing.

    Args:
        error: Mean absolute error of its reconstructions.
        uninformed: Mean absolute error of a guess that is the mean scene.
    """
    return functional.relu(1.0 - error / uninformed)


def identity_bits(signal: Tensor, noise_variance: Tensor, people: int) -> Tensor:
    """Information in bits about identity in a Gaussian model of the analogue signal, in closed form.

    I = 1/2 log2 det(1 + W^-1 B), with B the scatter between people and W the scatter within people plus sensor noise.
    A model, not a bound: real faces are not Gaussian. Whatever the converter does afterwards can only lower the true
    information (data processing).

    Args:
        signal: (people * captures, ...) noise-free pixels of aligned faces in electrons, the captures of a person
            next to each other.
        noise_variance: Variance in square electrons added to every pixel (scalar).
        people: Number of people.
    """
    rows = signal.flatten(1)
    grouped = rows.reshape(people, -1, rows.shape[1])
    captures = grouped.shape[1]
    means = grouped.mean(dim=1)
    centred = (grouped - means[:, None]).flatten(0, 1)
    eye = torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
    within = centred.T @ centred / (people * (captures - 1)) + noise_variance * eye
    spread = (means - means.mean(dim=0)) / math.sqrt(people - 1)
    # det(1 + W^-1 M'M) = det(1 + M W^-1 M'), which is people x people.
    half = torch.linalg.solve_triangular(torch.linalg.cholesky(within), spread.T, upper=False)
    gram = torch.eye(people, dtype=rows.dtype, device=rows.device) + half.T @ half
    return torch.linalg.slogdet(gram).logabsdet / (2 * math.log(2.0))
