"""Gradient-based tolerancing: derivatives of a metric, root-sum-square prediction, compensation.

To second order in the perturbations p (mean zero, independent) a metric is ``M + sum M_i p_i + sum M_ij p_i p_j / 2``,
so its standard deviation is about ``sqrt(sum (M_i s_i)^2)`` and its mean moves by ``sum M_ii s_i^2 / 2``. For a random
surface the sums become ``g C g`` and the trace of ``H C``, with gradient g, curvature H and correlation C; the first is
exact, the trace the mean of ``v H v`` over drawn surfaces v (M. F. Hutchinson, Commun. Stat. Simul. 18, 1059 (1989)).

A compensator c (refocus, for instance) is set where the metric is stationary. In the same quadratic model the metric is
then ``M - M_c^2 / (2 M_cc)``, its derivatives ``M_i - M_c M_ic / M_cc`` and ``M_ii - M_ic^2 / M_cc``, and c travels by
``-M_ic / M_cc`` per unit of ``p_i``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from optics.errors import OpticsError
from optics.tolerance.evaluate import Metric, System, check_names, evaluate, zeros
from optics.tolerance.parameters import Perturbation


@dataclass(frozen=True)
class Sensitivities:
    """Result of :func:`sensitivities`; M stands for the shape of the metric, () for a number.

    Attributes:
        nominal: Metric of the perfect system, shape M.
        first: First derivative for each unit of a tolerance, shape M; for a surface, the map of shape (*M, P, P).
        second: Second derivative, shape M, for tolerances that are numbers.
        deviation: Standard deviation of the metric that each tolerance causes, to first order, shape M.
        mean_shift: Shift of the mean of the metric that each tolerance causes, to second order, shape M.
        travel: Motion of the compensator for each unit of a tolerance that is a number, shape (); empty without
            compensator.
    """

    nominal: torch.Tensor
    first: dict[str, torch.Tensor]
    second: dict[str, torch.Tensor]
    deviation: dict[str, torch.Tensor]
    mean_shift: dict[str, torch.Tensor]
    travel: dict[str, torch.Tensor]

    @property
    def rss(self) -> torch.Tensor:
        """Standard deviation of the metric with all tolerances at work (root sum square), shape M."""
        return torch.stack(list(self.deviation.values())).square().sum(dim=0).sqrt()

    @property
    def mean(self) -> torch.Tensor:
        """Mean of the metric with all tolerances at work, to second order, shape M."""
        return self.nominal + torch.stack(list(self.mean_shift.values())).sum(dim=0)


def sensitivities(
    system: System,
    tolerances: Sequence[Perturbation],
    metric: Metric,
    *,
    generator: torch.Generator | None = None,
    compensator: str | None = None,
    probes: int = 8,
    batch: int = 4,
    batched: bool = False,
) -> Sensitivities:
    """Differentiate a metric by the perturbations of a system.

    Args:
        system: From values by name, shape (b, ...), to b results, differentiable and without mixing trials.
        tolerances: Perturbations, independent of each other.
        metric: From one result of the system to a number or tensor of numbers, differentiable.
        generator: Source of the surfaces whose curvature is probed; needed if a tolerance is a surface.
        compensator: Name of a number of the system (not among the tolerances) that is readjusted after each
            perturbation so that the metric, a single number, is stationary: its best value.
        probes: Surfaces drawn for the mean shift by each surface tolerance.
        batch: Trials b the system is given at a time.
        batched: The metric takes the results of all trials of a batch at once and returns a tensor of shape (b, ...).

    Raises:
        OpticsError: An argument is impossible, the metric has no gradient, or the compensator has no effect.
    """
    check_names(tolerances)
    surfaces = [t for t in tolerances if t.shape]
    if surfaces and generator is None:
        raise OpticsError(f"{surfaces[0].name!r} is a surface, whose curvature is probed at random; pass a generator.")
    if probes < 1 or batch < 1:
        raise OpticsError(f"probes={probes} and batch={batch} must be at least 1.")
    if compensator is not None and any(t.name == compensator for t in tolerances):
        raise OpticsError(f"compensator={compensator!r} is among the tolerances; leave it out of one of them.")

    # One direction of perturbation per row: a number by one unit, a surface by one drawn map.
    directions: list[tuple[Perturbation, torch.Tensor]] = []
    for t in tolerances:
        if t.shape and generator is not None:
            directions += [(t, t.sample(generator)) for _ in range(probes)]
        else:
            directions.append((t, torch.ones((), dtype=torch.float64)))
    rows: list[_Row] = []
    for start in range(0, len(directions), batch):
        rows += _probe(system, tolerances, metric, directions[start : start + batch], compensator, batched)

    first: dict[str, torch.Tensor] = {}
    second: dict[str, torch.Tensor] = {}
    deviation: dict[str, torch.Tensor] = {}
    shift: dict[str, torch.Tensor] = {}
    travel: dict[str, torch.Tensor] = {}
    shape = rows[0].nominal.shape
    for t in tolerances:
        own = [row for row, (of, _) in zip(rows, directions, strict=True) if of is t]
        if t.shape:
            first[t.name] = _gradient_map(system, tolerances, metric, t, compensator, batched)
            flat = first[t.name].reshape(-1, *t.shape)
            deviation[t.name] = t.deviation(flat).reshape(shape)
            shift[t.name] = torch.stack([row.second for row in own]).mean(dim=0) / 2
        else:
            first[t.name], second[t.name] = own[0].first, own[0].second
            deviation[t.name] = t.deviation(own[0].first.reshape(-1)).reshape(shape)
            # The deviation for a unit gradient is the standard deviation of the parameter.
            variance = float(t.deviation(torch.ones(1, dtype=torch.float64))) ** 2
            shift[t.name] = own[0].second * variance / 2
            if own[0].travel is not None:
                travel[t.name] = own[0].travel
    return Sensitivities(rows[0].nominal, first, second, deviation, shift, travel)


@dataclass(frozen=True)
class _Row:
    """Metric and derivatives in one direction, shape M."""

    nominal: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor
    travel: torch.Tensor | None


def _slope(score: torch.Tensor, by: torch.Tensor, *, again: bool = False) -> torch.Tensor:
    """Derivative of the sum of ``score``; zeros where nothing depends on ``by``."""
    if not score.requires_grad:
        return torch.zeros_like(by)
    (slope,) = torch.autograd.grad(
        score.sum(), by, create_graph=again, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return slope


def _scores(
    system: System,
    values: dict[str, torch.Tensor],
    metric: Metric,
    compensator: str | None,
    batched: bool,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Metric of each trial, with the compensator (if any) as a variable at zero."""
    knob = None
    if compensator is not None:
        knob = torch.zeros(len(next(iter(values.values()))), dtype=torch.float64, requires_grad=True)
        values = values | {compensator: knob}
    with torch.enable_grad():
        scores = evaluate(system, values, metric, batched=batched)
    if not scores.requires_grad:
        raise OpticsError("metric has no gradient by the perturbations; make it differentiable, or use monte_carlo.")
    if knob is not None and scores.numel() != len(scores):
        raise OpticsError(
            f"metric has shape {tuple(scores.shape[1:])} but compensator={compensator!r} needs a single number to set."
        )
    return scores, knob


def _compensation(score: torch.Tensor, knob: torch.Tensor, name: str | None) -> tuple[torch.Tensor, torch.Tensor]:
    """First derivative by the compensator (differentiable) and second, shape (B,) each."""
    slope = _slope(score, knob, again=True)
    curvature = _slope(slope, knob)
    if not bool((curvature != 0).all()):
        raise OpticsError(f"the metric has no curvature along compensator={name!r}, so it has no best value there.")
    return slope, curvature


def _probe(
    system: System,
    tolerances: Sequence[Perturbation],
    metric: Metric,
    directions: Sequence[tuple[Perturbation, torch.Tensor]],
    compensator: str | None,
    batched: bool,
) -> list[_Row]:
    """Derivatives in each direction; one variable per trial, so that one backward pass serves all trials."""
    step = torch.zeros(len(directions), dtype=torch.float64, requires_grad=True)
    values = zeros(tolerances, len(directions))
    for t in tolerances:
        scale = torch.stack([d if of is t else torch.zeros(t.shape, dtype=torch.float64) for of, d in directions])
        if bool((scale != 0).any()):
            values[t.name] = step.reshape(-1, *(1 for _ in t.shape)) * scale
    scores, knob = _scores(system, values, metric, compensator, batched)
    flat = scores.reshape(len(directions), -1)
    nominal, first, second, travel = flat.detach().clone(), torch.zeros_like(flat), torch.zeros_like(flat), None
    for j in range(flat.shape[1]):
        slope = _slope(flat[:, j], step, again=True)
        curvature = _slope(slope, step)
        if knob is not None:
            by_knob, stiffness = _compensation(flat[:, j], knob, compensator)
            mixed = _slope(slope, knob)
            travel = -mixed / stiffness
            nominal[:, j] -= by_knob.detach() ** 2 / (2 * stiffness)
            slope, curvature = slope + by_knob * travel, curvature + mixed * travel
        first[:, j], second[:, j] = slope.detach(), curvature.detach()
    shape = scores.shape[1:]
    return [
        _Row(
            nominal[i].reshape(shape),
            first[i].reshape(shape),
            second[i].reshape(shape),
            None if travel is None else travel[i].detach(),
        )
        for i in range(len(directions))
    ]


def _gradient_map(
    system: System,
    tolerances: Sequence[Perturbation],
    metric: Metric,
    surface: Perturbation,
    compensator: str | None,
    batched: bool,
) -> torch.Tensor:
    """Derivative of the metric by every value of a surface, shape (*M, *shape)."""
    values = zeros(tolerances, 1)
    values[surface.name].requires_grad_()
    scores, knob = _scores(system, values, metric, compensator, batched)
    flat = scores.reshape(-1)
    maps = []
    for j in range(len(flat)):
        slope = _slope(flat[j], values[surface.name])[0]
        if knob is not None:
            by_knob, stiffness = _compensation(flat[j], knob, compensator)
            slope = slope - (by_knob / stiffness).detach() * _slope(by_knob, values[surface.name])[0]
        maps.append(slope)
    return torch.stack(maps).reshape(*scores.shape[1:], *surface.shape)
