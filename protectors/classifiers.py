"""Small closed-set face classifiers that are trained together with a perturbation: network, optimiser, batches.

They are none of the published recognisers and none of what an evaluation trains: only what the methods that make photos
unlearnable need as their opponent. A residual network of torchvision is known to learn from noise made against it;
batch norm after each convolution, and branches of several sizes, follow the network that was released for faces.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from protectors import drawing

#: SGD for faces: momentum and weight decay of the released settings.
MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4


class _Unit(nn.Sequential):
    """Convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, side: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
        )


class _Block(nn.Module):
    """Inception-ResNet-A: branches of 1, 3 and 3 + 3 pixels, joined, scaled and added."""

    scale = 0.17

    def __init__(self, channels: int) -> None:
        super().__init__()
        each = channels // 4
        self.one = _Unit(channels, each, 1)
        self.three = nn.Sequential(_Unit(channels, each, 1), _Unit(each, each, 3))
        self.five = nn.Sequential(_Unit(channels, each, 1), _Unit(each, each, 3), _Unit(each, each, 3))
        self.join = nn.Conv2d(3 * each, channels, 1)

    def forward(self, given: Tensor) -> Tensor:
        branches = torch.cat((self.one(given), self.three(given), self.five(given)), 1)
        return functional.relu(given + self.scale * self.join(branches))


class FaceClassifier(nn.Module):
    """A reduced Inception-ResNet-v1 (Szegedy et al., AAAI 2017): two stages of two blocks, 64 and 128 channels.

    Args:
        classes: people to be told apart.
        resolution: photos of another size are resampled to this side first, with gradients.
    """

    def __init__(self, classes: int, resolution: int) -> None:
        super().__init__()
        self.resolution = resolution
        self.body = nn.Sequential(
            _Unit(3, 32, 3, 2), _Unit(32, 64, 3, 2), _Block(64), _Block(64), _Unit(64, 128, 3, 2), _Block(128),
            _Block(128),
        )  # fmt: skip
        self.head = nn.Linear(128, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of photos (N, 3, S, S), sRGB-encoded, 0..1."""
        if images.shape[-1] != self.resolution:
            side = (self.resolution, self.resolution)
            images = functional.interpolate(images, side, mode="bilinear", antialias=True)
        return self.head(self.body(2 * images - 1).mean((2, 3)))


def face_classifier(
    classes: int, resolution: int, generator: torch.Generator, device: torch.device | None = None
) -> FaceClassifier:
    """An untrained network whose weights the generator decides; the global generator is left alone.

    Args:
        classes: People to be told apart.
        resolution: See :class:`FaceClassifier`.
        generator: Source of the seed of all weights, which are drawn on the processor.
        device: Where the network is moved; default: it stays on the processor.
    """
    seed = drawing.one_whole(0, 2**31, generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = FaceClassifier(classes, resolution)
    return network if device is None else network.to(device)


class Trainer:
    """Steps of SGD with momentum on the cross-entropy.

    Args:
        network: is trained in place.
        rate: learning rate.
        milestones: numbers of steps after which the rate is divided by ten.
        clip: largest norm of the gradient of all weights, or None.
    """

    def __init__(
        self, network: nn.Module, *, rate: float, milestones: Sequence[int] = (), clip: float | None = None
    ) -> None:
        self._network, self._clip = network, clip
        # Networks are small: loops over their tensors and modules would cost as much as a tenth of a step. Where these
        # forms are missing, torch chooses.
        self._joined = True if next(network.parameters()).device.type in ("cpu", "cuda") else None
        self._parts = list(network.modules())
        self._optimiser = torch.optim.SGD(
            network.parameters(), rate, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, fused=self._joined
        )
        self._schedule = torch.optim.lr_scheduler.MultiStepLR(self._optimiser, list(milestones), gamma=0.1)

    def step(self, images: Tensor, labels: Tensor) -> float:
        """Learn from photos (N, 3, S, S) and their classes (N,), in training mode; the loss before the step.

        The network is left in evaluation mode.
        """
        self._training(True)
        with torch.enable_grad():
            loss = functional.cross_entropy(self._network(images.detach()), labels)
            self._optimiser.zero_grad()
            loss.backward()
        if self._clip is not None:
            nn.utils.clip_grad_norm_(self._network.parameters(), self._clip, foreach=self._joined)
        self._optimiser.step()
        self._schedule.step()
        self._training(False)
        return float(loss.detach())

    def _training(self, mode: bool) -> None:
        for part in self._parts:
            part.training = mode


def shuffled(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Positions of endless batches, epoch after epoch, each epoch in an order of its own.

    What is left of an epoch after full batches is dropped, since batch norm makes little of a few photos. Positions lie
    where the generator does, and may index tensors of any device.
    """
    size = min(size, count)
    while True:
        order = torch.randperm(count, generator=generator, device=generator.device)
        yield from order[: count // size * size].split(size)
