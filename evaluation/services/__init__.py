"""Commercial face comparison services, asked only on request: an attacker that anybody can hire.

Each provider is one file and one extra (``pip install 'optishield[aws]'``; ``services`` installs all). Scores of
different providers are not comparable; each result carries the thresholds that its provider states, if it states any.
"""

from __future__ import annotations

from typing import Any

from evaluation.errors import EvaluationError
from evaluation.services.aliyun import Aliyun
from evaluation.services.aws import Aws
from evaluation.services.azure import Azure
from evaluation.services.base import Answer, Comparison, FaceService, Outcome, Spending
from evaluation.services.images import Limits, encode_images
from evaluation.services.tencent import Tencent

__all__ = [
    "SERVICES",
    "Answer",
    "Comparison",
    "FaceService",
    "Limits",
    "Outcome",
    "Spending",
    "encode_images",
    "service",
]

SERVICES: dict[str, type[FaceService]] = {kind.provider: kind for kind in (Aliyun, Aws, Azure, Tencent)}
"""All providers by name."""


def service(name: str, **options: Any) -> FaceService:
    """The adapter of one provider.

    Args:
        name: Name of the provider, one of ``SERVICES``.
        options: The arguments of :class:`FaceService`, among which consent, budget and cache_dir are required.

    Raises:
        EvaluationError: An unknown name, a package that is not installed, or options that cannot be used.
    """
    if name not in SERVICES:
        raise EvaluationError(f"there is no face service {name!r}; choose one of {', '.join(SERVICES)}.")
    return SERVICES[name](**options)
