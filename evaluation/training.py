"""The training loop that all learned attackers share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from evaluation.errors import EvaluationError


def people_of(identity: Tensor) -> tuple[Tensor, int]:
    """Labels (N,) counted from 0, and how many people there are.

    Raises:
        EvaluationError: fewer than 4 people.
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
        groups: parameters with their peak learning rate.
        loss: called with the number of the step; draws its own batch and returns a scalar.
        steps: number of steps.
        weight_decay: decoupled weight decay.
        rise: share of the steps in which the rate rises.
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
