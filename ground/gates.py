"""One condition and whether it holds: the noun that judges, benches and self-tests share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Gate:
    """Whether one condition of a claim, a bench or an installation holds.

    Attributes:
        name: Name of the condition.
        passed: Whether it holds; None if what it needs was not measured or could not be tried.
        reason: One sentence with the numbers and, where it failed, what to change.
        figures: The numbers that it was decided on.
    """

    name: str
    passed: bool | None
    reason: str
    figures: Mapping[str, float] = field(default_factory=dict)
