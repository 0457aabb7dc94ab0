"""The adversaries that a mask is trained against: recognisers that name the person, and an inverter of the camera.

Each learns on frames of the present camera, brought to ordinary contrast, with a rate that goes up and down once and
is steady from then on. It says what it knows in three ways: ``gain``, the differentiable share of all there is to know
that the mask is charged for, ``accuracy`` on captures that it was not trained on, and ``skill`` on people that nobody
was trained on. Weights are drawn on the CPU and then moved, so that a seed gives the same ones on every device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from codesign.losses import bounded_inversion_loss, bounded_privacy_loss
from evaluation import roc_auc
from evaluation.frame_attackers.encoded import channels_last
from evaluation.frame_attackers.inverters import UNet
from faces.recognisers import CosineHead, SmallRecogniser

#: Side in pixels of the aligned faces that recognisers see, and least side of the pictures that the inverter restores.
CROP = 32
#: Share of the cycle in which the rate rises, from a part in 25 of the peak, and what is left of the peak afterwards.
RISE, FIRST, STEADY = 0.25, 0.04, 0.15


@dataclass(frozen=True)
class Schedule:
    """Learning rate by the age of a network: one cycle (Smith and Topin 2019), then steady.

    A network that follows a mask can never end its training, so the rate does not fall to nothing.

    Attributes:
        peak: Highest rate.
        cycle: Steps of the cycle, at least 1.
    """

    peak: float
    cycle: int

    def at(self, age: int) -> float:
        """The rate of the step after ``age`` steps."""
        share = age / self.cycle
        if share < RISE:
            return self.peak * _between(FIRST, 1.0, share / RISE)
        return self.peak * _between(1.0, STEADY, min(1.0, (share - RISE) / (1.0 - RISE)))


def _between(first: float, last: float, share: float) -> float:
    """From the first number to the last along half a wave of a cosine."""
    return last + (first - last) * (1.0 + math.cos(math.pi * share)) / 2.0


class _Ageing:
    """A network whose rate depends on its age.

    Attributes:
        schedule: Its learning rate.
        age: Steps since it began.
    """

    schedule: Schedule
    age: int
    optimiser: torch.optim.Optimizer

    def _step(self, loss: Tensor) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = self.schedule.at(self.age)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.age += 1

    def clock(self) -> Tensor:
        """Age and length of the cycle in steps, (2,), for a checkpoint."""
        return torch.tensor([self.age, self.schedule.cycle], device="cpu")

    def set_clock(self, clock: Tensor) -> None:
        """Go on from :meth:`clock`."""
        self.age, self.schedule = int(clock[0]), Schedule(self.schedule.peak, int(clock[1]))


class Contrast:
    """Brings frames to ordinary contrast: the affine map of a camera, which follows the camera as it changes.

    The map of the fresh attackers (:func:`evaluation.frame_attackers.encoded.contrast`); they measure it once.

    Args:
        device: Where frames come from.
    """

    #: Share of what is known that the frames of one step replace, once there are more than a few.
    PACE = 0.05

    def __init__(self, device: torch.device) -> None:
        #: Mean, standard deviation, and how many steps they come from.
        self.levels = torch.tensor([0.5, 0.25, 0.0], device=device)

    @torch.no_grad()
    def follow(self, frames: Tensor) -> None:
        """Take notice of frames (N, C, n, n) of the present camera."""
        mean, sd, steps = self.levels
        pace = (1 / (steps + 1)).clamp_min(self.PACE)
        self.levels = torch.stack(
            [mean.lerp(frames.mean(), pace), sd.lerp(frames.std().clamp_min(1e-6), pace), steps + 1]
        )

    def __call__(self, frames: Tensor) -> Tensor:
        """Frames with the mean one half and the standard deviation one quarter."""
        mean, sd, _ = self.levels
        return (frames - mean) / (4 * sd) + 0.5


class Recogniser(_Ageing):
    """A small network that tells the training people apart.

    Weights come from the global generator: make one inside ``torch.random.fork_rng``.

    Args:
        channels: Planes of a frame.
        people: Training people.
        schedule: Learning rate.
        device: Where it lives.
    """

    def __init__(self, channels: int, people: int, schedule: Schedule, device: torch.device) -> None:
        self.channels, self.people, self.schedule, self.device = channels, people, schedule, device
        self._begin()

    def _begin(self) -> None:
        self.age = 0
        self.network = channels_last(SmallRecogniser(self.channels, CROP, width=16))
        self.head = CosineHead(self.network.embedding_dim, self.people, margin=0.0, scale=16.0)
        self.network.to(self.device)
        self.head.to(self.device)
        parameters = [*self.network.parameters(), *self.head.parameters()]
        self.optimiser = torch.optim.AdamW(parameters, self.schedule.peak, weight_decay=5e-2)

    def renew(self, seed: int, schedule: Schedule) -> None:
        """Forget everything and start from other weights."""
        self.schedule = schedule
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._begin()

    def logits(self, faces: Tensor) -> Tensor:
        """How much each person is favoured (N, people), for faces as in :meth:`loss`."""
        found: Tensor = self.head(self.network(faces.contiguous(memory_format=torch.channels_last)))
        return found

    def loss(self, faces: Tensor, who: Tensor) -> Tensor:
        """Mean cross-entropy in nats.

        Args:
            faces: (N, C, 32, 32) aligned faces cut out of frames of ordinary contrast.
            who: (N,) number of each person, counted from 0.
        """
        return functional.cross_entropy(self.logits(faces), who)

    def gain(self, faces: Tensor, who: Tensor) -> Tensor:
        """What it knows beyond guessing, 0 to 1; see :func:`codesign.losses.bounded_privacy_loss`."""
        return bounded_privacy_loss(self.logits(faces), who)

    def learn(self, faces: Tensor, who: Tensor) -> None:
        """One step of training; arguments as for :meth:`loss`."""
        self._step(self.loss(faces, who))

    @torch.no_grad()
    def accuracy(self, faces: Tensor, who: Tensor) -> float:
        """Share of faces that it names rightly; arguments as for :meth:`loss`."""
        training = self.network.training
        self.network.eval()
        named = torch.cat([self.logits(part).argmax(1) for part in faces.split(256)])
        self.network.train(training)
        return float((named == who).float().mean())

    @torch.no_grad()
    def skill(self, faces: Tensor, who: Tensor) -> float:
        """How well it tells people apart whom it has never met: 0 is a guess, 1 is without a mistake.

        Twice the area under the ROC curve, less one, of the cosines of all pairs of captures; 0 if it is below chance.

        Args:
            faces: (N, C, 32, 32) aligned faces cut out of frames of ordinary contrast.
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


class Inverter(_Ageing):
    """A network that restores the scene from a frame.

    Weights come from the global generator: make one inside ``torch.random.fork_rng``.

    Args:
        scenes: (N, 3, S, S) training scenes in linear light; their mean is the guess that needs no frame.
        schedule: Learning rate.
    """

    def __init__(self, scenes: Tensor, schedule: Schedule) -> None:
        self.schedule, self.age = schedule, 0
        self.network = UNet(1, width=8).to(scenes.device)
        self.optimiser = torch.optim.AdamW(self.network.parameters(), schedule.peak)
        self.factor = max(1, scenes.shape[-1] // CROP)
        self.targets = self.shown(scenes)
        self.guess = self.targets.mean(0)

    def shown(self, scenes: Tensor) -> Tensor:
        """What it is to restore, (N, 1, s, s): grey scenes at about 32 pixels a side, on a square-root curve."""
        return functional.avg_pool2d(scenes.mean(1, keepdim=True), self.factor).clamp(0, 1).sqrt()

    def restored(self, frames: Tensor) -> Tensor:
        """What it makes of frames (N, C, n, n) of ordinary contrast, as :meth:`shown` shows scenes."""
        size = (self.targets.shape[-1],) * 2
        held = functional.interpolate(frames.mean(1, keepdim=True), size=size, mode="bilinear", align_corners=False)
        found: Tensor = self.network(held)
        return found

    def loss(self, frames: Tensor, targets: Tensor) -> Tensor:
        """Mean absolute error of what it restores.

        Args:
            frames: (N, C, n, n) of ordinary contrast.
            targets: (N, 1, s, s) of :meth:`shown`.
        """
        return (self.restored(frames) - targets).abs().mean()

    def gain(self, frames: Tensor, targets: Tensor) -> Tensor:
        """What it restores beyond a guess, 0 to 1; see :func:`codesign.losses.bounded_inversion_loss`."""
        return bounded_inversion_loss(self.restored(frames), targets, self.guess)

    def learn(self, frames: Tensor, targets: Tensor) -> None:
        """One step of training; arguments as for :meth:`loss`."""
        self._step(self.loss(frames, targets))

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
