"""What a process can make, and where a relief asks for more.

Minimum feature: a part of a set of cells is too small if no square of that width inside the set covers it; this is what
the morphological opening removes (J. Serra, Image Analysis and Mathematical Morphology, ch. II). It is applied to the
cells at or above each level and to those below it, so lines and gaps both count. Beyond the edge of the grid the relief
is taken to go on as at the edge.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, isfinite

import torch
from torch.nn import functional

from optics.errors import OpticsError
from optics.fabrication.relief import Relief

# Lengths that agree to one part in 1e6 are one length to any workshop.
_SLACK = 1e-6


@dataclass(frozen=True)
class ProcessLimits:
    """Limits of a fabrication process; None means no limit.

    Attributes:
        height_range_m: Lowest and highest height in metres.
        max_levels: Most distinct heights.
        min_feature_m: Narrowest line and gap in metres, along x and y (stepped reliefs).
        max_slope: Steepest slope, metres of height per metre (continuous reliefs; the walls of steps are upright).
        grid_m: Address grid of the process in metres; the pitch must be a multiple.
    """

    height_range_m: tuple[float, float] | None = None
    max_levels: int | None = None
    min_feature_m: float | None = None
    max_slope: float | None = None
    grid_m: float | None = None

    def __post_init__(self) -> None:
        if self.height_range_m is not None and not self.height_range_m[0] < self.height_range_m[1]:
            raise OpticsError(f"height_range_m={self.height_range_m} must be (lowest, highest) in metres.")
        if self.max_levels is not None and self.max_levels < 2:
            raise OpticsError(f"max_levels={self.max_levels} must be at least 2.")
        for name in ("min_feature_m", "max_slope", "grid_m"):
            value = getattr(self, name)
            if value is not None and not (isfinite(value) and value > 0):
                raise OpticsError(f"{name}={value} must be positive.")


@dataclass(frozen=True, eq=False)
class Violation:
    """One rule that is broken, with every place.

    Attributes:
        rule: Name of the field of :class:`ProcessLimits`.
        limit: Its value.
        places: Cells as (row, column), int64 of shape (n, 2); empty if the whole relief is meant.
        values: What was found at each place, in the unit of the limit, float64 of shape (n,), or (1,) for the whole
            relief.
        worst: Index of the worst value.
    """

    rule: str
    limit: float | tuple[float, float]
    places: torch.Tensor
    values: torch.Tensor
    worst: int

    def __str__(self) -> str:
        text = f"{self.rule}={self.limit} against {float(self.values[self.worst]):.6g}"
        if len(self.places):
            row, column = self.places[self.worst].tolist()
            text += f" at [{row}, {column}] ({len(self.places)} cells in all)"
        return text


@dataclass(frozen=True)
class LimitReport:
    """Outcome of :func:`check_limits`.

    Attributes:
        violations: Broken rules.
        not_applicable: Limits that say nothing about this kind of relief.
    """

    violations: tuple[Violation, ...]
    not_applicable: tuple[str, ...]

    def refuse(self) -> None:
        """Raise an OpticsError that names every broken rule; do nothing if there is none."""
        if self.violations:
            raise OpticsError(
                f"the relief cannot be made: {'; '.join(map(str, self.violations))}. Change height_m, or choose a "
                "process with other limits."
            )


def check_limits(relief: Relief, limits: ProcessLimits) -> LimitReport:
    """Compare a relief with the limits of a process; only cells that touch the aperture count."""
    inside = relief.grid.amplitude > 0
    height = relief.height_m.detach().double().cpu()
    found: list[Violation | None] = []
    if limits.height_range_m is not None:
        found.append(_heights(height, inside, limits.height_range_m))
    if limits.max_levels is not None:
        count = relief.codes() if relief.levels is not None else height
        distinct = len(torch.unique(count.cpu()[inside]))
        if distinct > limits.max_levels:
            found.append(_whole("max_levels", limits.max_levels, distinct))
    if limits.grid_m is not None:
        ratio = relief.pitch_m / limits.grid_m
        if round(ratio) < 1 or abs(ratio - round(ratio)) > _SLACK * ratio:
            found.append(_whole("grid_m", limits.grid_m, relief.pitch_m))
    skipped = []
    if limits.max_slope is not None:
        if relief.levels is None:
            found.append(_slopes(height, inside, relief.pitch_m, limits.max_slope))
        else:
            skipped.append("max_slope")
    if limits.min_feature_m is not None:
        if relief.levels is None:
            skipped.append("min_feature_m")
        else:
            found.append(_features(relief.codes().cpu(), inside, relief.pitch_m, limits.min_feature_m))
    return LimitReport(tuple(v for v in found if v is not None), tuple(skipped))


def _whole(rule: str, limit: float, value: float) -> Violation:
    return Violation(rule, limit, torch.empty(0, 2, dtype=torch.int64), torch.tensor([value], dtype=torch.float64), 0)


def _at(
    rule: str, limit: float | tuple[float, float], bad: torch.Tensor, value: torch.Tensor, excess: torch.Tensor
) -> Violation | None:
    """Return the violation at the cells ``bad``, the worst where ``excess`` is largest; None without such cells."""
    if not bool(bad.any()):
        return None
    return Violation(rule, limit, bad.nonzero(), value[bad].double(), int(excess[bad].argmax()))


def _heights(height: torch.Tensor, inside: torch.Tensor, limit: tuple[float, float]) -> Violation | None:
    excess = torch.maximum(limit[0] - height, height - limit[1])
    return _at("height_range_m", limit, inside & (excess > _SLACK * (limit[1] - limit[0])), height, excess)


def _slopes(height: torch.Tensor, inside: torch.Tensor, pitch_m: float, limit: float) -> Violation | None:
    """Length of the gradient by forward differences; a pair of cells counts if both lie inside."""
    along_x = functional.pad(height.diff(dim=1) * (inside[:, 1:] & inside[:, :-1]), (0, 1))
    along_y = functional.pad(height.diff(dim=0) * (inside[1:] & inside[:-1]), (0, 0, 0, 1))
    slope = torch.hypot(along_x, along_y) / pitch_m
    return _at("max_slope", limit, slope > limit * (1 + _SLACK), slope, slope)


def _features(codes: torch.Tensor, inside: torch.Tensor, pitch_m: float, limit: float) -> Violation | None:
    """Widest square that covers a cell within its set, for the worst level and polarity, below the limit."""
    thresholds = torch.unique(codes)[1:]
    if not len(thresholds):
        return None
    above = codes >= thresholds[:, None, None]
    needed = ceil(limit / pitch_m * (1 - _SLACK))
    width = torch.full(codes.shape, needed, dtype=torch.float64, device=codes.device)
    for w in range(needed, 1, -1):
        narrow = too_small(above, w) | too_small(~above, w)
        width[narrow.any(dim=0)] = w - 1
    return _at("min_feature_m", limit, inside & (width < needed), width * pitch_m, -width)


def too_small(cells: torch.Tensor, width: int) -> torch.Tensor:
    """Return the cells of a set that its opening with a square of ``width`` cells removes.

    Args:
        cells: Sets, bool of shape (N, H, W).
        width: Side of the square in cells.

    Returns:
        bool of shape (N, H, W).
    """
    padded = functional.pad(cells.float()[:, None], (width,) * 4, mode="replicate")
    squares = 1 - functional.max_pool2d(1 - padded, width, stride=1)
    opened = functional.max_pool2d(functional.pad(squares, (width - 1,) * 4), width, stride=1)[
        :, 0, width:-width, width:-width
    ]
    return cells & (opened < 0.5)
