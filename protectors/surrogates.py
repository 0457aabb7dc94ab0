"""Recognisers that a protector is tuned against, as one differentiable thing."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from faces.families import JUDGE, Recogniser, load_recogniser, recogniser_names
from protectors.errors import ProtectorError


class Surrogates:
    """An ensemble of pretrained recognisers. They are loaded when first needed, once a process for each device.

    Args:
        names: names of ``faces.families`` joined by "+", as in ``sface+dlib-resnet``.

    Attributes:
        names: the same, one by one.

    Raises:
        ProtectorError: A name is unknown, given twice, or kept for the judge.
    """

    def __init__(self, names: str) -> None:
        self.names = tuple(names.split("+"))
        usable = [name for name in recogniser_names() if name != JUDGE]
        for name in self.names:
            if name == JUDGE:
                raise ProtectorError(
                    f"{JUDGE} is kept for judging and no protector may be tuned against it; choose among "
                    f"{', '.join(usable)}."
                )
            if name not in usable:
                raise ProtectorError(f"there is no recogniser {name!r}; choose among {', '.join(usable)}, joined by +.")
        if len(set(self.names)) < len(self.names):
            raise ProtectorError(f"surrogates = {names} names a recogniser twice.")

    def embed(self, images: Tensor, points5: Tensor) -> tuple[Tensor, ...]:
        """Unit vectors (N, D) of each recogniser in turn; gradients pass to images and points.

        Args:
            images: (N, 3, S, S) float32 in 0..1, sRGB-encoded.
            points5: (N, 5, 2) in pixels.
        """
        return tuple(_loaded(name, images.device).embed(images, points5) for name in self.names)


@cache
def _loaded(name: str, device: torch.device) -> Recogniser:
    # A network starts with random weights before the published ones take their place.
    with torch.random.fork_rng(devices=[]):
        return load_recogniser(name).to(device)
