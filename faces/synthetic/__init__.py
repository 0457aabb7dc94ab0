"""Synthetic heads: people that never lived, with exact identities, landmarks and regions.

``generate`` is the entry point. It is loaded on first use, because worker processes import this package and need
no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from faces.synthetic.generator import GENERATOR_VERSION, generate

__all__ = ["GENERATOR_VERSION", "generate"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from faces.synthetic import generator

        return getattr(generator, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
