"""Terms of the co-design loss that say how much identity a camera lets through."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

#: Factors on the logits among which the best is taken before a gain is counted.
SHARPNESS = tuple(2.0 ** (half / 2) for half in range(-10, 2))
#: Share of the scatter within people that is spread over all directions: of few captures it is not known better.
SHRINKAGE = 0.1


def bounded_privacy_loss(logits: Tensor, who: Tensor) -> Tensor:
    """What the adversary gains over guessing, as a share of all there is: 1 = it knows everyone, 0 = chance or worse.

    Logits are first multiplied by the factor out of :data:`SHARPNESS` that makes the cross-entropy least. Otherwise an
    adversary that is far too sure of itself, and names ten times as many people as a guess does, would count for
    nothing: its cross-entropy is above that of a guess. The gain stops at chance, so the optics are never rewarded for
    an adversary that is confidently wrong (which a retrained one would undo).

    Args:
        logits: (N, people) of the adversary.
        who: (N,) number of the right person.
    """
    with torch.no_grad():
        entropies = torch.stack([functional.cross_entropy(logits * factor, who) for factor in SHARPNESS])
        factor = SHARPNESS[int(entropies.argmin())]
    return functional.relu(1.0 - functional.cross_entropy(logits * factor, who) / math.log(logits.shape[1]))


def bounded_inversion_loss(restored: Tensor, scenes: Tensor, guess: Tensor) -> Tensor:
    """What an inverter gains over a guess that never looks at the frame, as a share: 1 = perfect, 0 = nothing.

    The share of what sets the scenes of a batch apart that the reconstructions explain, if they are made as strong as
    fits best: the square of a correlation, 0 where it is negative. An inverter that knows little is charged for that
    little, even if its reconstructions lie further from the scenes than a guess does.

    Args:
        restored: (N, ...) reconstructions.
        scenes: (N, ...) what they should be.
        guess: (...) the mean scene.
    """
    found, wanted = restored - restored.mean(0), scenes - guess
    strength = (found.square().sum() * wanted.square().sum()).clamp_min(1e-12).sqrt()
    return functional.relu((found * wanted).sum() / strength).square()


def gaussian_bits(rows: Tensor, noise_variance: Tensor) -> Tensor:
    """Information in bits about which group a row belongs to, in a Gaussian model, in closed form.

    I = 1/2 log2 det(1 + W^-1 B), with B the scatter between the means of the groups and W the scatter within groups
    (shrunk by :data:`SHRINKAGE` towards a multiple of one) plus sensor noise. With few rows in many dimensions it is
    far above zero even if groups mean nothing; see :func:`identity_bits`.

    Args:
        rows: (groups, members, features).
        noise_variance: Variance that the sensor adds to every feature (scalar).
    """
    groups, members, features = rows.shape
    means = rows.mean(dim=1)
    centred = (rows - means[:, None]).flatten(0, 1)
    eye = torch.eye(features, dtype=rows.dtype, device=rows.device)
    scatter = centred.T @ centred / (groups * (members - 1))
    # A part in a million more keeps the factorisation possible where rows are alike and there is no noise.
    spherical = scatter.diagonal().mean()
    ridge = SHRINKAGE * spherical + noise_variance + 1e-6 * rows.square().mean()
    spread = (means - means.mean(dim=0)) / math.sqrt(groups - 1)
    # det(1 + W^-1 M'M) = det(1 + M W^-1 M'), which is groups x groups.
    factor = torch.linalg.cholesky((1.0 - SHRINKAGE) * scatter + ridge * eye)
    half = torch.linalg.solve_triangular(factor, spread.T, upper=False)
    gram = torch.eye(groups, dtype=rows.dtype, device=rows.device) + half.T @ half
    return torch.linalg.slogdet(gram).logabsdet / (2 * math.log(2.0))


def identity_bits(rows: Tensor, noise_variance: Tensor, deals: Tensor) -> Tensor:
    """Information in bits about who is who in noise-free pixels of faces, above that of the same faces misnamed.

    The closed form of :func:`gaussian_bits` counts whatever sets few captures apart, light and noise above all. The
    same captures dealt out to people at random have all of that and nothing of identity, so what they yield is
    subtracted. The result is bounded smoothly by log2(people), which is all there is to know: from x bits it makes
    log2(people) - log2(1 + (people - 1) 2^-x). A model, not a bound: real faces are not Gaussian, and a converter
    behind these pixels can only lower the information.

    Args:
        rows: (people, captures, features).
        noise_variance: Variance that the sensor adds to every feature (scalar).
        deals: (D, people * captures) permutations of all captures.
    """
    people, captures, features = rows.shape
    flat = rows.flatten(0, 1)
    dealt = [gaussian_bits(flat[deal].view(people, captures, features), noise_variance) for deal in deals]
    above = functional.relu(gaussian_bits(rows, noise_variance) - torch.stack(dealt).mean())
    return math.log2(people) - torch.log2(1.0 + (people - 1) * torch.exp2(-above))
