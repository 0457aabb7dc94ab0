"""The two sides of APF: a device that holds photos, and a server that is sent nothing but noise.

:class:`Device` knows nothing of the server's network, :class:`Server` never sees a photo; between them are bytes
(:mod:`protectors.noise_message`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from protectors import drawing
from protectors.base import TOP_LEVEL
from protectors.canvas import Canvas
from protectors.descent import Climb, Momentum
from protectors.errors import ProtectorError
from protectors.noise_message import pack, unpack
from protectors.surrogates import Surrogates
from protectors.trained import Weights
from protectors.unet import UNet

#: Photos worked on at once: bounds memory.
PART = 64

#: The network sees noise in the range of photos from -1 to 1.
PER_LEVEL = 2 / TOP_LEVEL

#: What the last layers of a residual network start with, as a share of what they would.
START = 0.1

#: Seed of the untrained network.
SEED = 0


@dataclass(frozen=True)
class Search:
    """How a device makes noise.

    Attributes:
        probe: name of the recogniser on the device.
        levels: budget in whole levels.
        start_levels: bound of the uniform noise that the search starts from.
        step_levels: change of each value in a step.
        steps: Number of steps.
        diversity: probability of diverse input.
        momentum: decay of summed gradients, 0 for none.
    """

    probe: str
    levels: int
    start_levels: int
    step_levels: int
    steps: int
    diversity: float
    momentum: float


class Device:
    """The side that holds photos.

    Args:
        images: (N, 3, S, S) float32 in 0..1.
        points5: (N, 5, 2).
        identity: (N,) int64; each photo is led away from another one of the same person, or from itself where there
            is none.
        search: Says how noise is made.
    """

    def __init__(self, images: Tensor, points5: Tensor, identity: Tensor, search: Search) -> None:
        self._images, self._points5, self._identity, self._search = images.detach(), points5, identity, search

    def request(self, generator: torch.Generator) -> bytes:
        """The message to the server: noise that raises the squared distance of features by the probe.

        Diverse-input I-FGSM. A start of at least one level gives the distance to the photo itself a slope.
        """
        search, probe = self._search, Surrogates(self._search.probe)
        with torch.no_grad():
            mates = probe.embed(self._images, self._points5)[0][mate(self._identity)]
        found = []
        for images, points5, away in zip(
            self._images.split(PART), self._points5.split(PART), mates.split(PART), strict=True
        ):
            canvas = Canvas(images, points5, levels=search.levels)

            def objective(shown: Tensor, at: Tensor, away: Tensor = away) -> Tensor:
                return (probe.embed(shown, at)[0] - away).square().sum(1)

            climb = Climb(canvas, points5, objective, generator, diversity=search.diversity)
            momentum = Momentum(search.momentum)
            start = drawing.around_zero(images.shape, generator, images)
            delta = canvas.project(start * (search.start_levels / TOP_LEVEL))
            for _ in range(search.steps):
                direction = momentum(climb.gradient(delta)).sign()
                delta = canvas.project(delta + direction * (search.step_levels / TOP_LEVEL))
            found.append((delta * TOP_LEVEL).round().to(torch.int8))
        return pack(torch.cat(found))

    def apply(self, reply: bytes) -> Tensor:
        """The photos (N, 3, S, S) with what the server made of their noise, not rounded to levels.

        Raises:
            ProtectorError: The reply is no noise for these photos, or exceeds the budget.
        """
        levels = unpack(reply)
        if levels.shape != self._images.shape:
            raise ProtectorError(
                f"the server replied for photos {tuple(levels.shape)}, but noise of {tuple(self._images.shape)} was "
                "sent; send it again."
            )
        most = int(levels.int().abs().amax())
        if most > self._search.levels:
            raise ProtectorError(
                f"the server replied with changes of {most} levels, more than the budget of {self._search.levels}; "
                "give both sides the same budget."
            )
        canvas = Canvas(self._images, self._points5, levels=self._search.levels)
        return canvas.add(canvas.project(levels.to(self._images) / TOP_LEVEL))


class Transfer(nn.Module):
    """The server's network: a U-Net on the noise and, if there is a universal perturbation u, the E module.

    The E module adds a 1 x 1 convolution of alpha u + beta, which starts as u itself.

    Args:
        width: Channels at half the size, as for :class:`UNet`.
        levels: budget, to which the sum is cut.
        universal: u, (3, 112, 112) in 0..1, or None for no E module.
        residual: Whether the noise itself is added too, and all else starts small; the paper has no such thing.
    """

    universal: Tensor | None

    def __init__(self, width: int, levels: int, universal: Tensor | None, *, residual: bool) -> None:
        super().__init__()
        self._limit, self._residual = levels * PER_LEVEL, residual
        start = START if residual else 1.0
        self.transfer = UNet(3, 3, width, SEED)
        with torch.no_grad():
            self.transfer.up[-1].get_parameter("weight").mul_(start)
        self.register_buffer("universal", universal)
        if universal is not None:
            self.alpha, self.beta = nn.Parameter(torch.ones(())), nn.Parameter(torch.zeros(()))
            self.weight, self.bias = nn.Parameter(start * torch.eye(3)), nn.Parameter(torch.zeros(3))

    def forward(self, levels: Tensor) -> Tensor:
        """Perturbations (N, 3, S, S) in the values of photos, 0..1, of noise of the same shape in levels."""
        noise = levels * PER_LEVEL
        found = self.transfer(noise)
        if self._residual:
            found = found + noise
        if self.universal is not None:
            scaled = 2 * self.universal[None] * self.alpha + self.beta
            added = functional.conv2d(scaled, self.weight[:, :, None, None], self.bias)
            if added.shape[-2:] != found.shape[-2:]:
                added = functional.interpolate(added, found.shape[-2:], mode="bilinear", antialias=True)
            found = found + added
        return found.clamp(-self._limit, self._limit) / 2


class Server:
    """The side that holds the networks: noise in, perturbations out. It keeps nothing of what it is sent.

    Args:
        weights: Weights of :class:`Transfer`.
        width: Channels at half the size, as for :class:`UNet`.
        levels: budget of what is returned.
        residual: Whether the noise itself is added to the result, as for :class:`Transfer`.
        device: Where the network runs; default: the processor. Requests and replies are bytes.
    """

    def __init__(
        self, weights: Weights, *, width: int, levels: int, residual: bool, device: torch.device | None = None
    ) -> None:
        self._device = torch.device("cpu") if device is None else device
        self._network = Transfer(width, levels, weights.get("universal"), residual=residual)
        self._network.load_state_dict(weights)
        self._network.to(self._device).eval()

    @torch.no_grad()
    def __call__(self, request: bytes) -> bytes:
        """The reply to a request.

        Raises:
            ProtectorError: The request is no noise.
        """
        found = [self._network(part.to(self._device).float()) for part in unpack(request).split(PART)]
        return pack((torch.cat(found) * TOP_LEVEL).round().to(torch.int8))


def mate(identity: Tensor) -> Tensor:
    """Row (N,) of the next photo of the same person, after the last one the first; of itself where it is alone."""
    order = torch.argsort(identity, stable=True)
    _, counts = torch.unique_consecutive(identity[order], return_counts=True)
    ends = counts.cumsum(0)
    following = torch.arange(1, len(identity) + 1, device=identity.device)
    following[ends - 1] = ends - counts
    found = torch.empty_like(order)
    found[order] = order[following]
    return found
