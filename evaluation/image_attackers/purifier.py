"""Diffusion purification: drown the perturbation in noise, then take the noise off with a model of clean faces.

Nie et al., "Diffusion Models for Adversarial Purification" (ICML 2022), with a small network trained here on the
attacker's own clean photographs, where the paper has a large pretrained one.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from evaluation.draws import normal
from evaluation.frame_attackers.encoded import channels_last
from evaluation.frame_attackers.inverters import UNet
from evaluation.image_attackers.base import Restoration, Validation, best, checked
from evaluation.image_attackers.restorers import padded, patch_place
from evaluation.photos import Knowledge
from evaluation.training import optimise
from faces.families import Recogniser

#: Times of the diffusion that are tried, as shares of its whole length.
TIMES = (0.05, 0.1, 0.2)
_EARLIEST = 0.01

# Noise has as many degrees of freedom as the picture: half the channels, or four times the rate, learn it more slowly.
_WIDTH, _RATE = 48, 5e-4


class Course(NamedTuple):
    """How far the diffusion goes forward, and in how many steps it comes back."""

    time: float
    steps: int


def noise_over_signal(time: float) -> float:
    """Standard deviation of the noise over the weight of the picture (in -1..1) at a time in 0..1.

    Variance-preserving diffusion with rate .1 + 19.9 t (Song et al., ICLR 2021, appendix C): the picture keeps the
    weight sqrt(a), a = exp(-.1 t - 9.95 t^2), and the noise has the variance 1 - a.
    """
    return math.sqrt(math.expm1(0.1 * time + 9.95 * time**2))


class Purifier(Restoration):
    """Diffuses a protected photograph to a time and denoises it in one or a few deterministic steps.

    The network estimates the noise (Ho, Jain and Abbeel, NeurIPS 2020, eq. 14), on pictures divided by sqrt(a) so that
    it sees picture + s noise; backward steps are those of DDIM (Song, Meng and Ermon, ICLR 2021, eq. 12) in that
    scaling. Time and number of steps are chosen on validation people. One field of noise serves every photograph, so
    that none depends on its neighbours.

    Args:
        steps: Training steps.
        batch: Squares in a step.
        patch: Side in pixels of the squares.
        backward: Numbers of backward steps that are tried.
        most: Validation probes that are tried.

    Attributes:
        chosen: The course that was chosen; it is set by :meth:`fit`.
    """

    name = "purifier"
    level = "K1"
    knowledge = (
        "learns clean faces of other people by diffusion and purifies with it, then uses the published recogniser"
    )
    control = "noise of small amplitude"

    def __init__(self, *, steps: int, batch: int, patch: int, backward: tuple[int, ...], most: int) -> None:
        self.steps, self.batch, self.patch, self.backward, self.most = steps, batch, patch, backward, most
        self.budget = (
            f"small diffusion model, trained here: {steps} steps of {batch} squares of up to {patch} pixels; "
            f"{len(TIMES) * len(backward)} courses tried"
        )

    def fit(self, recogniser: Recogniser, knowledge: Knowledge) -> None:
        """Train on clean photographs, then choose the course; see :meth:`ImageAttacker.fit`."""
        checked(knowledge)
        self._recogniser, self._seed = recogniser, knowledge.seed
        generator = torch.Generator().manual_seed(knowledge.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(knowledge.seed)
            # Three channels of the picture and one that tells the amount of noise.
            self._network = channels_last(UNet(4, _WIDTH))
        clean = knowledge.train.faces.images
        self._network.to(clean.device)

        def loss(step: int) -> Tensor:
            pick = torch.randint(len(clean), (self.batch,), generator=generator)
            rows, columns = patch_place(clean.shape[-1], self.patch, generator)
            pictures = clean[pick][..., rows, columns].float() / 127.5 - 1
            times = _EARLIEST + (TIMES[-1] - _EARLIEST) * torch.rand(self.batch, generator=generator)
            amount = pictures.new_tensor([noise_over_signal(time) for time in times.tolist()]).view(-1, 1, 1, 1)
            noise = normal(pictures.shape, generator, pictures)
            return (self._noise(pictures + amount * noise, amount) - noise).square().mean()

        optimise([(self._network.parameters(), _RATE)], loss, steps=self.steps, weight_decay=1e-4)
        self._network.eval()
        validation = Validation(knowledge, self.most)
        gallery = self.embed(validation.gallery, protected=False)

        def score(course: Course) -> tuple[float, float]:
            self.chosen = course
            return validation.score(gallery, self.embed(validation.probes, protected=True))

        self.chosen = best([Course(time, steps) for steps in self.backward for time in TIMES], score)

    def _noise(self, noisy: Tensor, amount: Tensor) -> Tensor:
        """Estimated noise (N, 3, S, S) of unit variance in pictures with ``amount`` (N, 1, 1, 1) of it."""
        shown = torch.cat([noisy, amount.expand(-1, 1, *noisy.shape[-2:])], dim=1)
        # The U-Net returns its input plus a correction; the correction is the noise it takes off.
        return (noisy - padded(self._network, shown)[:, :3]) / amount

    @torch.no_grad()
    def restore(self, images: Tensor) -> Tensor:
        """Diffuse and denoise; see :meth:`Restoration.restore`."""
        time, steps = self.chosen
        field = normal(images.shape[1:], torch.Generator().manual_seed(self._seed), images)
        amounts = [noise_over_signal(time * (steps - k) / steps) for k in range(steps + 1)]
        pictures = 2 * images - 1 + amounts[0] * field
        for before, after in pairwise(amounts):
            noise = self._noise(pictures, images.new_full((len(images), 1, 1, 1), before))
            pictures = pictures + (after - before) * noise
        return (pictures / 2 + 0.5).clamp(0, 1)
