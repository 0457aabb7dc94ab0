"""Learned restorers: a small residual U-Net from protected, or from generally degraded, photographs to clean ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from evaluation.draws import normal, uniform
from evaluation.frame_attackers.encoded import channels_last
from evaluation.frame_attackers.inverters import UNet
from evaluation.image_attackers import pixels
from evaluation.image_attackers.base import Restoration, checked
from evaluation.photos import Knowledge
from evaluation.training import optimise
from faces.families import Recogniser

#: The U-Net halves the picture three times.
_MULTIPLE = 8


def padded(network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """What the network makes of photographs of any side: edges go on up to the next multiple of 8."""
    side = images.shape[-1]
    more = -side % _MULTIPLE
    full = functional.pad(images, (0, more, 0, more), mode="replicate")
    return network(full.contiguous(memory_format=torch.channels_last))[..., :side, :side]


def patch_place(side: int, patch: int, generator: torch.Generator) -> tuple[slice, slice]:
    """A random square of at most ``patch`` pixels in photographs of ``side`` pixels."""
    size = min(patch, side)
    top, left = torch.randint(side - size + 1, (2,), generator=generator).tolist()
    return slice(top, top + size), slice(left, left + size)


class _UNetRestorer(Restoration):
    """A U-Net that is trained on pairs.

    Args:
        steps: Training steps.
        batch: Photographs in a step.
        patch: Side in pixels of the squares it is trained on.
    """

    def __init__(self, *, steps: int, batch: int, patch: int) -> None:
        self.steps, self.batch, self.patch = steps, batch, patch
        self.budget = f"small U-Net, trained here: {steps} steps of {batch} squares of up to {patch} pixels"

    def _train(self, pair: Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor]], knowledge: Knowledge) -> None:
        generator = torch.Generator().manual_seed(knowledge.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(knowledge.seed)
            self._network = channels_last(UNet(3)).to(knowledge.train.faces.images.device)

        def loss(step: int) -> Tensor:
            pick = torch.randint(len(knowledge.train), (self.batch,), generator=generator)
            worse, better = pair(pick, generator)
            return self._loss(padded(self._network, worse), better, pick)

        optimise([(self._network.parameters(), 2e-3)], loss, steps=self.steps, weight_decay=1e-4)
        self._network.eval()

    def _loss(self, restored: Tensor, clean: Tensor, pick: Tensor) -> Tensor:
        # L1 keeps edges that a squared error would blur away.
        return (restored - clean).abs().mean()

    def _cut(self, images: Tensor, generator: torch.Generator) -> Tensor:
        rows, columns = patch_place(images.shape[-1], self.patch, generator)
        return images[..., rows, columns]

    @torch.no_grad()
    def restore(self, images: Tensor) -> Tensor:
        """What the U-Net makes of them; see :meth:`Restoration.restore`."""
        return padded(self._network, images).clamp(0, 1)


class Restorer(_UNetRestorer):
    """Learned inverse of the protector.

    A small pixel error that is left can still mislead a recogniser, so the loss can ask for its embedding as well (the
    high-level guided denoiser of Liao et al., CVPR 2018).

    Args:
        steps: Training steps.
        batch: Photographs in a step.
        patch: Side in pixels of the squares it is trained on; whole photographs when guided.
        guide: Weight of 1 - cosine between restored and clean photograph, where the recogniser has gradients.
    """

    name = "restorer"
    level = "K2"
    knowledge = "owns the protector; learns to undo it on pairs of other people, then uses the published recogniser"
    control = "a fixed and invertible change of the pixels"

    def __init__(self, *, steps: int, batch: int, patch: int = 96, guide: float = 0.0) -> None:
        super().__init__(steps=steps, batch=batch, patch=patch)
        self.guide = guide
        if guide:
            self.budget = f"small U-Net, trained here: {steps} steps of {batch}, guided by a recogniser with gradients"

    def fit(self, recogniser: Recogniser, knowledge: Knowledge) -> None:
        """Train on (protected, clean) pairs; see :meth:`ImageAttacker.fit`."""
        checked(knowledge)
        self._recogniser, self._points = recogniser, knowledge.train.points5
        self._guided = self.guide > 0 and recogniser.differentiable
        clean, protected = knowledge.train.faces.images, knowledge.train_protected.faces.images

        def pair(pick: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            both = torch.stack([protected[pick], clean[pick]]).float() / 255
            worse, better = both if self._guided else self._cut(both, generator)
            return worse, better

        self._train(pair, knowledge)

    def _loss(self, restored: Tensor, clean: Tensor, pick: Tensor) -> Tensor:
        plain = super()._loss(restored, clean, pick)
        if not self._guided:
            return plain
        with torch.no_grad():
            goal = self._seen(clean, pick)
        cosine = (self._seen(restored.clamp(0, 1), pick) * goal).sum(dim=1)
        return plain + self.guide * (1 - cosine).mean()

    def _seen(self, images: Tensor, pick: Tensor) -> Tensor:
        return self._recogniser.embed_chips(self._recogniser.chips(images, self._points[pick]))


class GenericRestorer(_UNetRestorer):
    """Learned blind restoration: blur, noise and JPEG, without a look at the protector."""

    name = "generic-restorer"
    level = "K1"
    knowledge = "learns on other people to undo blur, noise and JPEG, then uses the published recogniser"
    control = "blur with noise"

    def fit(self, recogniser: Recogniser, knowledge: Knowledge) -> None:
        """Train on photographs that it degrades itself; see :meth:`ImageAttacker.fit`."""
        checked(knowledge)
        self._recogniser = recogniser
        clean = knowledge.train.faces.images

        def pair(pick: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            better = self._cut(clean[pick].float() / 255, generator)
            return degraded(better, generator), better

        self._train(pair, knowledge)


def degraded(images: Tensor, generator: torch.Generator) -> Tensor:
    """Photographs with random blur (one sd up to 3 pixels for the batch), noise (sd to .1) and JPEG (10 to 95)."""
    sd = 3 * float(torch.rand((), generator=generator))
    blurred = pixels.gaussian_blur(images, sd) if sd > 0.3 else images
    amount = 0.1 * uniform((len(images), 1, 1, 1), generator, images)
    noisy = blurred + amount * normal(images.shape, generator, images)
    return pixels.jpeg(noisy, torch.randint(10, 96, (len(images),), generator=generator).tolist())
