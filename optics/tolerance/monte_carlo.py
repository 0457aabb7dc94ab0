"""Monte-Carlo tolerancing: draw perturbed systems and look at the distribution of a metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from optics.errors import OpticsError
from optics.tolerance.evaluate import Metric, System, check_names, evaluate, zeros
from optics.tolerance.parameters import Perturbation

# Seeds of the tolerances are drawn below this.
_SEEDS = 2**62


@dataclass(frozen=True)
class MonteCarlo:
    """Result of :func:`monte_carlo`; M stands for the shape of the metric, () for a number.

    Attributes:
        nominal: Metric of the perfect system, shape M.
        samples: Metric of each trial, float64 of shape (trials, *M).
        draws: Values drawn for each tolerance that is a number, shape (trials,).
        alone: Metric of each trial with one tolerance at work and the others zero, (trials, *M) by name; empty if it
            was not asked for.
    """

    nominal: torch.Tensor
    samples: torch.Tensor
    draws: dict[str, torch.Tensor]
    alone: dict[str, torch.Tensor]

    def percentile(self, percent: float, level: float = 0.95) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return a percentile and its confidence interval, each of shape M.

        The interval needs no law of the metric: the count of samples below the percentile is binomial, so two order
        statistics bracket it (H. A. David, H. N. Nagaraja, Order Statistics, section 7.1). Where the trials are too few
        for the level, an end is infinite.

        Raises:
            OpticsError: ``percent`` or ``level`` is impossible.
        """
        if not 0 < percent < 100:
            raise OpticsError(f"percent={percent} must lie between 0 and 100.")
        _check_level(level)
        from scipy.stats import binom

        trials, share = len(self.samples), percent / 100
        ordered = self.samples.sort(dim=0).values
        edge = torch.full_like(ordered[:1], torch.inf)
        padded = torch.cat((-edge, ordered, edge))
        low = int(binom.ppf((1 - level) / 2, trials, share))
        high = int(binom.ppf((1 + level) / 2, trials, share)) + 1
        return ordered.quantile(share, dim=0), padded[low], padded[high]

    def yield_below(self, limit: float, level: float = 0.95) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the share of trials with a metric up to ``limit`` and its interval, each of shape M.

        The interval is that of C. J. Clopper and E. S. Pearson, Biometrika 26, 404 (1934): never too narrow.

        Raises:
            OpticsError: ``level`` is impossible.
        """
        _check_level(level)
        from scipy.stats import beta

        trials = len(self.samples)
        good = (self.samples <= limit).sum(dim=0).double()
        tail = (1 - level) / 2
        low = torch.as_tensor(beta.ppf(tail, good.numpy(), (trials - good + 1).numpy()))
        high = torch.as_tensor(beta.ppf(1 - tail, (good + 1).numpy(), (trials - good).numpy()))
        low = torch.where(good == 0, 0.0, low)
        high = torch.where(good == trials, 1.0, high)
        return good / trials, low, high

    def contributions(self) -> dict[str, torch.Tensor]:
        """Return the variance that each tolerance causes alone over that of all together, shape M, by name.

        The shares add to 1 as far as the metric is linear; what is missing or too much is interaction.

        Raises:
            OpticsError: The trials were run with ``alone=False``.
        """
        if not self.alone:
            raise OpticsError("contributions need the trials of each tolerance alone; run monte_carlo with alone=True.")
        whole = self.samples.var(dim=0)
        return {name: scores.var(dim=0) / whole for name, scores in self.alone.items()}


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise OpticsError(f"level={level} must lie between 0 and 1.")


@torch.no_grad()
def monte_carlo(
    system: System,
    tolerances: Sequence[Perturbation],
    metric: Metric,
    trials: int,
    generator: torch.Generator,
    *,
    alone: bool = True,
    batch: int = 8,
    batched: bool = False,
) -> MonteCarlo:
    """Evaluate a metric on perturbed systems.

    Args:
        system: From values by name, shape (b, ...), to b results; see :mod:`optics.tolerance`.
        tolerances: Perturbations, independent of each other.
        metric: From one result of the system to a number or a tensor of numbers (need not be differentiable).
        trials: Number of draws.
        generator: Source of the draws. Each tolerance gets a stream of its own: the same state gives the same draws
            whatever the batch.
        alone: Also run every trial with one tolerance at a time, for :meth:`MonteCarlo.contributions`: as many times
            ``trials`` more as there are tolerances.
        batch: Trials b the system is given at a time.
        batched: The metric takes the results of all trials of a batch at once and returns a tensor of shape (b, ...).

    Raises:
        OpticsError: An argument is impossible, or system and metric do not fit.
    """
    check_names(tolerances)
    if trials < 2 or batch < 1:
        raise OpticsError(f"trials={trials} must be at least 2 and batch={batch} at least 1.")
    seeds = torch.randint(_SEEDS, (len(tolerances),), generator=generator, device=generator.device).tolist()
    streams = [torch.Generator().manual_seed(seed) for seed in seeds]
    samples: list[torch.Tensor] = []
    draws: dict[str, list[torch.Tensor]] = {t.name: [] for t in tolerances if not t.shape}
    single: dict[str, list[torch.Tensor]] = {t.name: [] for t in tolerances} if alone else {}
    for start in range(0, trials, batch):
        count = min(batch, trials - start)
        values = {
            t.name: torch.stack([t.sample(stream) for _ in range(count)])
            for t, stream in zip(tolerances, streams, strict=True)
        }
        samples.append(evaluate(system, values, metric, batched=batched))
        for name, kept in draws.items():
            kept.append(values[name])
        for name, scores in single.items():
            only = zeros(tolerances, count) | {name: values[name]}
            scores.append(evaluate(system, only, metric, batched=batched))
    return MonteCarlo(
        nominal=evaluate(system, zeros(tolerances, 1), metric, batched=batched)[0],
        samples=torch.cat(samples),
        draws={name: torch.cat(kept) for name, kept in draws.items()},
        alone={name: torch.cat(scores) for name, scores in single.items()},
    )
