"""A protector as another package might bring it, and photos on their way through ``optishield protect``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from faces.protection import Declaration, Threat
from protectors.base import PhotoProtector

NOISE = ("--method", "noise:linf=0.03")


class Brighten(PhotoProtector):
    """A protector as another package might bring it: additive, and it keeps what it was given."""

    about = Declaration(
        name="brighten", title="ten levels more", source="own", threats=frozenset({Threat.poison}), additive=True
    )
    calls: list[tuple[Tensor, Tensor]]

    def __init__(self) -> None:
        super().__init__(())

    def change(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> Tensor:
        type(self).calls.append((images, identity))
        return images + 10 / 255


def save(path: str, pixels: np.ndarray, **settings: Any) -> Path:
    """A photo, in folders that are made for it."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **settings)
    return Path(path)


def pixels_of(path: Path | str) -> np.ndarray:
    """Stored pixels as signed numbers, so that they can be subtracted."""
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


def printed_json(capsys: Any) -> dict[str, Any]:
    """What the command printed, which must be one JSON document."""
    return json.loads(capsys.readouterr().out)
