"""Parts of a face that the channels of the camera look for, and scenes as its pixels see them without a mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from codesign.decoders import CHUNK, WIDE, moved
from faces.samples import FaceSet, five_points

#: Landmarks (iBUG order) whose mean is a part; left and right are those of the image.
PARTS: dict[str, tuple[int, ...]] = {
    "left-eye": (36, 37, 38, 39, 40, 41),
    "right-eye": (42, 43, 44, 45, 46, 47),
    "nose-tip": (30,),
    "upper-lip": (51,),
    "mouth-left": (48,),
    "mouth-right": (54,),
    "chin": (8,),
}


def part_points(landmarks: Tensor, names: Sequence[str]) -> Tensor:
    """Places (N, K, 2) of parts, from landmarks (N, 68, 2), in the same pixels."""
    return torch.stack([landmarks[:, list(PARTS[name])].mean(1) for name in names], 1)


def face_centre(landmarks: Tensor) -> Tensor:
    """The place (N, 2) that the anchor looks for: the mean of the five points."""
    return five_points(landmarks).mean(1)


@dataclass(frozen=True)
class Pixels:
    """Scenes at the resolution of the pixels, and where the parts lie.

    Attributes:
        scenes: (N, L, n, n) float16 linear light.
        landmarks: (N, 68, 2) in pixels; centres at integers.
    """

    scenes: Tensor
    landmarks: Tensor

    def __len__(self) -> int:
        return len(self.scenes)

    def grey(self, weights: Sequence[float]) -> Tensor:
        """Scenes (N, n, n) float16 as a pixel with these shares of the colours sees them."""
        shares = torch.tensor(tuple(weights), device=self.scenes.device)
        parts = [(part.float() * shares[:, None, None]).sum(1).half() for part in self.scenes.split(CHUNK)]
        return torch.cat(parts)


def as_pixels(faces: FaceSet, pixels: int, *, copies: int = 0, seed: int = 0) -> Pixels:
    """Scenes of faces at the resolution of the pixels, with moved copies after them.

    Args:
        faces: Faces with all landmarks.
        pixels: Pixels across the window.
        copies: Moved copies of each; see :func:`codesign.decoders.augmented`.
        seed: Seed for the movements.
    """
    block = faces.size // pixels
    generator = torch.Generator().manual_seed(seed)
    scenes, landmarks = [], []
    for copy in range(copies + 1):
        for pick in torch.arange(len(faces)).split(CHUNK):
            part = faces.subset(pick)
            light, points = part.linear(), part.landmarks
            if copy:
                light, points = moved(light, points, "sixty-eight", WIDE, generator)
            scenes.append(functional.avg_pool2d(light, block).half())
            landmarks.append((points + 0.5) / block - 0.5)
    return Pixels(torch.cat(scenes), torch.cat(landmarks))
