"""The small matrix over noise pictures, for summaries that were really measured."""

from __future__ import annotations

from tests.evaluation.matrix.conftest import evaluated

__all__ = ["evaluated"]
