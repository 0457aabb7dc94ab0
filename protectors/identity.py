"""Control: does nothing. Whatever an evaluation credits it with is an error of the evaluation."""

from __future__ import annotations

import torch
from torch import Tensor

from faces.protection import Declaration
from protectors.base import PhotoProtector


class Identity(PhotoProtector):
    """Photos as they are."""

    about = Declaration(
        name="identity",
        title="no protection",
        summary="Leaves the photo as it is; the evaluation compares with it.",
        source="control",
        threats=frozenset(),
        differentiable=True,
        control=True,
    )

    def __init__(self) -> None:
        super().__init__(())

    def change(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> Tensor:
        """The same photos; see :meth:`PhotoProtector.change`."""
        return images
