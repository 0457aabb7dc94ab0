"""The adversaries that a mask is trained against: recognisers that name the person, and an inverter of the camera.

Each learns on frames of the present camera and says what it knows in two ways: ``gain``, the differentiable share of
all there is to know that the mask is charged for, and ``skill``, the same on people that nobody was trained on.
Weights are drawn on the CPU and then moved, so that a seed gives the same ones on every device.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from codesign.losses import bounded_inversion_loss, bounded_privacy_loss
from evaluation import roc_auc
from evaluation.frame_attackers.inverters import UNet
from faces.recognisers import CosineHead, SmallRecogniser

#: Side in pixels of the aligned faces that recognisers see, and least side of the pictures that the inverter restores.
CROP = 32


class Recogniser:
    """A small network that tells the training people apart.

    Weights come from the global generator: make one inside ``torch.random.fork_rng``.

    Args:
        channels: Planes of a frame.
        people: Training people.
        rate: Learning rate.
        device: Where it lives.
    """

    def __init__(self, channels: int, people: int, rate: float, device: torch.device) -> None:
        self.channels, self.people, self.rate, self.device = channels, people, rate, device
        self._begin()

    def _begin(self) -> None:
        self.network = SmallRecogniser(self.channels, CROP, width=16)
        self.head = CosineHead(self.network.embedding_dim, self.people, margin=0.0, scale=16.0)
        self.network.to(self.device)
        self.head.to(self.device)
        parameters = [*self.network.parameters(), *self.head.parameters()]
        self.optimiser = torch.optim.AdamW(parameters, self.rate, weight_decay=1e-2)

    def renew(self, seed: int) -> None:
        """Forget everything and start from other weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._begin()

    def loss(self, faces: Tensor, who: Tensor) -> Tensor:
        """Mean cross-entropy in nats.

        Args:
            faces: (N, C, 32, 32) aligned faces cut out of frames.
            who: (N,) number of each person, counted from 0.
        """
        return self.head.loss(self.network(faces), who)

    def gain(self, faces: Tensor, who: Tensor) -> Tensor:
        """What it knows beyond guessing, 0 to 1; see :func:`codesign.losses.bounded_privacy_loss`."""
        return bounded_privacy_loss(self.loss(faces, who), self.people)

    def learn(self, faces: Tensor, who: Tensor) -> None:
        """One step of training; arguments as for :meth:`loss`."""
        loss = self.loss(faces, who)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()

    @torch.no_grad()
    def skill(self, faces: Tensor, who: Tensor) -> float:
        """How well it tells people apart whom it has never met: 0 is a guess, 1 is without a mistake.

        Twice the area under the ROC curve, less one, of the cosines of all pairs of captures; 0 if it is below chance.

        Args:
            faces: (N, C, 32, 32) aligned faces cut out of frames.
            who: (N,) identities; at least two people, and two captures of somebody.
        """
        training = self.network.training
        self.network.eval()
        rows = torch.cat([self.network.embed(part) for part in faces.split(256)])
        self.network.train(training)
        first, second = torch.triu_indices(len(rows), len(rows), 1, device=rows.device)
        cosines, same = (rows @ rows.T)[first, second], who[first] == who[second]
        area = roc_auc(cosines[same].cpu().numpy(), cosines[~same].cpu().numpy())
        return max(0.0, 2 * area - 1)


class Inverter:
    """A network that restores the scene from a frame.

    Weights come from the global generator: make one inside ``torch.random.fork_rng``.

    Args:
        scenes: (N, 3, S, S) training scenes in linear light; their mean is the guess that needs no frame.
        rate: Learning rate.
    """

    def __init__(self, scenes: Tensor, rate: float) -> None:
        self.network = UNet(1, width=8).to(scenes.device)
        self.optimiser = torch.optim.AdamW(self.network.parameters(), rate)
        self.factor = max(1, scenes.shape[-1] // CROP)
        self.targets = self.shown(scenes)
        self.uninformed = float((self.targets - self.targets.mean(0)).abs().mean())

    def shown(self, scenes: Tensor) -> Tensor:
        """What it is to restore, (N, 1, s, s): grey scenes at about 32 pixels a side, on a square-root curve."""
        return functional.avg_pool2d(scenes.mean(1, keepdim=True), self.factor).clamp(0, 1).sqrt()

    def loss(self, frames: Tensor, targets: Tensor) -> Tensor:
        """Mean absolute error of what it restores.

        Args:
            frames: (N, C, n, n) as they leave the sensor.
            targets: (N, 1, s, s) of :meth:`shown`.
        """
        size = (targets.shape[-1],) * 2
        held = functional.interpolate(frames.mean(1, keepdim=True), size=size, mode="bilinear", align_corners=False)
        return (self.network(held) - targets).abs().mean()

    def gain(self, frames: Tensor, targets: Tensor) -> Tensor:
        """What it restores beyond a guess, 0 to 1; see :func:`codesign.losses.bounded_inversion_loss`."""
        return bounded_inversion_loss(self.loss(frames, targets), self.uninformed)

    def learn(self, frames: Tensor, targets: Tensor) -> None:
        """One step of training; arguments as for :meth:`loss`."""
        loss = self.loss(frames, targets)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()

    @torch.no_grad()
    def skill(self, frames: Tensor, targets: Tensor) -> float:
        """:meth:`gain` as a number; the network has no state that training and judging would treat differently."""
        return float(self.gain(frames, targets))


def parts(recognisers: list[Recogniser], inverter: Inverter) -> dict[str, nn.Module]:
    """All networks by the names under which a checkpoint keeps them."""
    found: dict[str, nn.Module] = {"inverter": inverter.network}
    for number, one in enumerate(recognisers):
        found |= {f"adversary{number}": one.network, f"head{number}": one.head}
    return found


def optimisers(recognisers: list[Recogniser], inverter: Inverter) -> dict[str, torch.optim.Optimizer]:
    """All optimisers by the names under which a checkpoint keeps them."""
    found: dict[str, torch.optim.Optimizer] = {"inverter": inverter.optimiser}
    return found | {f"adversary{number}": one.optimiser for number, one in enumerate(recognisers)}
