"""Run a system on a batch of perturbations and a metric on each of its results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from optics.errors import OpticsError
from optics.tolerance.parameters import Perturbation

System = Callable[[dict[str, torch.Tensor]], Any]
Metric = Callable[[Any], Any]


def check_names(tolerances: Sequence[Perturbation]) -> None:
    """Refuse an empty list and names that occur twice."""
    names = [tolerance.name for tolerance in tolerances]
    if not names:
        raise OpticsError("tolerances is empty; name at least one.")
    if len(set(names)) < len(names):
        raise OpticsError(f"tolerances names {', '.join(names)}; each name may occur once.")


def zeros(tolerances: Sequence[Perturbation], trials: int) -> dict[str, torch.Tensor]:
    """The perfect system: zeros of shape (trials, ...) for every name."""
    return {t.name: torch.zeros(trials, *t.shape, dtype=torch.float64) for t in tolerances}


def evaluate(system: System, values: dict[str, torch.Tensor], metric: Metric, *, batched: bool) -> torch.Tensor:
    """Return the metric of each trial, shape (B, ...) in float64.

    Raises:
        OpticsError: System or metric return another number of results than of trials, or a value that is not finite.
    """
    trials = len(next(iter(values.values())))
    results = system(values)
    if len(results) != trials:
        raise OpticsError(
            f"the system returned {len(results)} results for {trials} trials; it must return one for each trial."
        )
    if batched:
        scores = torch.as_tensor(metric(results))
        if scores.ndim == 0 or len(scores) != trials:
            raise OpticsError(
                f"metric returned shape {tuple(scores.shape)} for {trials} trials; with batched=True its first axis "
                "must be that of the trials."
            )
    else:
        scores = torch.stack([torch.as_tensor(metric(results[trial])) for trial in range(trials)])
    scores = scores.double()
    if not bool(torch.isfinite(scores).all()):
        raise OpticsError("metric returned a value that is not finite; make it defined for every perturbed system.")
    return scores
