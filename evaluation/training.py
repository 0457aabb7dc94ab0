"""The training loops that learned attackers share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from evaluation.errors import EvaluationError
from evaluation.frame_attackers.encoded import channels_last
from faces.recognisers import CosineHead, SmallRecogniser

#: Margin of the softmax at the end of the training, and the share of the steps over which it grows from zero.
_MARGIN, _GROWTH = 0.2, 0.3


def people_of(identity: Tensor) -> tuple[Tensor, int]:
    """Labels (N,) counted from 0, and how many people there are.

    Raises:
        EvaluationError: Fewer than 4 people.
    """
    people, place = torch.unique(identity, return_inverse=True)
    if len(people) < 4:
        raise EvaluationError(f"{len(people)} people are too few to train an attacker on; give at least 4.")
    return place, len(people)


def optimise(
    groups: Sequence[tuple[Iterable[nn.Parameter], float]],
    loss: Callable[[int], Tensor],
    *,
    steps: int,
    weight_decay: float,
    rise: float = 0.2,
) -> None:
    """Minimise by AdamW under a one-cycle schedule (Smith and Topin 2019).

    Args:
        groups: Parameters, each group with its peak learning rate.
        loss: Called with the number of the step; draws its own batch and returns a scalar.
        steps: Number of steps.
        weight_decay: Decoupled weight decay.
        rise: Share of the steps in which the learning rate rises.
    """
    optimiser = torch.optim.AdamW(
        [{"params": list(weights), "lr": peak} for weights, peak in groups], weight_decay=weight_decay
    )
    peaks = [peak for _, peak in groups]
    # The schedule divides by rise * steps - 1.
    rise = 1.5 / steps if rise * steps == 1 else rise
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, peaks, total_steps=steps, pct_start=rise)
    for step in range(steps):
        value = loss(step)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        schedule.step()


def fresh_classifier(
    channels: int, size: int, people: int, *, seed: int, device: torch.device | None = None
) -> tuple[SmallRecogniser, CosineHead]:
    """A small recogniser and its softmax with random weights, ready for :func:`fit_classifier`.

    Args:
        channels: Channels of the crops.
        size: Side of the crops in pixels.
        people: Number of people that the softmax tells apart.
        seed: Seed of the random weights, which are drawn on the CPU; the global generator is left alone.
        device: Where the weights are moved to; the CPU if it is not given.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = channels_last(SmallRecogniser(channels, size))
        head = CosineHead(network.embedding_dim, people, margin=0.0, scale=20.0)
    return network.to(device), head.to(device)


def fit_classifier(
    network: SmallRecogniser,
    head: CosineHead,
    crops: Callable[[Tensor, torch.Generator], Tensor],
    labels: Tensor,
    *,
    steps: int,
    batch: int,
    generator: torch.Generator,
) -> None:
    """Train a fresh classifier with a margin softmax; afterwards the network is in eval mode.

    A full margin from the start holds a fresh network back, so it grows from zero over the first part of the steps.

    Args:
        network: Network to train, in place.
        head: Softmax over the people, trained along with the network.
        crops: Called with the positions (B,) of a batch and the generator; returns the crops (B, C, H, W) to see.
        labels: (N,) people counted from 0.
        steps: Number of steps.
        batch: Number B of captures in a step, drawn with replacement.
        generator: Generator on the CPU for the batches, and for whatever ``crops`` draws.
    """
    network.train()

    def loss(step: int) -> Tensor:
        head.margin = _MARGIN * min(1.0, step / (_GROWTH * steps))
        pick = torch.randint(len(labels), (batch,), generator=generator)
        return head.loss(network(crops(pick, generator)), labels[pick])

    optimise([([*network.parameters(), *head.parameters()], 3e-3)], loss, steps=steps, weight_decay=5e-2)
    network.eval()
