"""Landmarks of photographs that nobody marked: two networks that know nothing of each other, and their distance.

One network alone would be believed without any measure of its error. Of two that were trained by different people on
different photographs, the distance between their answers says what either can be off by where errors are not alike:
independent errors of sizes a and b lie sqrt(a^2 + b^2) apart, and the mean of the two is off by half of that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from faces import weights
from faces.errors import FacesError
from faces.face_api import LandmarkNet68, load_landmark_net
from faces.face_mesh import FaceMesh, load_face_mesh
from faces.samples import five_points, interocular

#: Weights of the two networks, whose points are averaged.
SOURCES = ("face-mesh", "face-landmark-68")

#: A photograph on which the two put the five points further apart than this share of the outer eye distance, on
#: average, is left out: at least one of them sees no face there, or another one. Usual is a quarter of it.
MOST_APART = 0.15

#: Least probability of a face that the first network must state.
LEAST_FACE = 0.5


# The networks look at a window that reaches so many times the largest distance of the five points from their middle, in
# which that distance has at most so many pixels; in their own chips it has about 60.
_AROUND, _LARGEST_PX = 4.0, 90.0


@dataclass(frozen=True)
class Marked:
    """The landmarks of one face.

    Attributes:
        landmarks: (68, 2) float32 pixels, iBUG order, the mean of both networks.
        apart: Mean distance of the five points of the two networks, as a share of the outer eye distance.
    """

    landmarks: NDArray[np.float32]
    apart: float


class LandmarkTruth:
    """Marks the faces of photographs by both networks.

    Args:
        mesh: The first network; default: with the fetched weights.
        second: The second one; default: with the fetched weights. Networks that are given must hold the registered
            weights where results are kept, since :attr:`key` names those.

    Raises:
        FacesError: If weights are missing or damaged.
    """

    def __init__(self, mesh: FaceMesh | None = None, second: LandmarkNet68 | None = None) -> None:
        self.mesh = load_face_mesh() if mesh is None else mesh
        self.second = load_landmark_net() if second is None else second

    @property
    def key(self) -> str:
        """What decides the answers, for the names of kept results."""
        return " ".join([*(weights.info(name).sha256 for name in SOURCES), str(MOST_APART), str(LEAST_FACE)])

    @torch.no_grad()
    def mark(self, image: NDArray[np.uint8], points5: NDArray[np.float32]) -> Marked:
        """The landmarks of one face.

        Args:
            image: (H, W, 3) RGB uint8.
            points5: (5, 2) pixels of a detector: which face is meant.

        Raises:
            FacesError: If the networks see no face there, or put its points too far apart.
        """
        near, where, back = _near(image, points5)
        pixels = torch.from_numpy(near).permute(2, 0, 1)[None].float()
        found, sure = self.mesh.landmarks(pixels, where)
        if float(sure) < LEAST_FACE:
            raise FacesError(
                f"the landmark network sees no face where the detector does (probability {float(sure):.2f}); take a "
                "photograph that shows the face from the front"
            )
        other = self.second.landmarks(pixels, where)
        apart = float(points_apart(found, other))
        if not apart <= MOST_APART:
            raise DisagreementError(
                f"two landmark networks put its points {apart:.2f} of the eye distance apart (at most {MOST_APART:g}); "
                "take a photograph that shows the face from the front"
            )
        return Marked(back(((found + other) / 2)[0].numpy()), apart)


class DisagreementError(FacesError):
    """A face on which the two networks do not agree."""


def _near(
    image: NDArray[np.uint8], points5: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], torch.Tensor, Callable[[NDArray[np.float32]], NDArray[np.float32]]]:
    """The surroundings of a face, reduced by area where it is large, since the networks' own chips would alias.

    Returns:
        That part of the image, the five points (1, 5, 2) in it, and the way of points back to the image.
    """
    reach = float(np.linalg.norm(points5[:, None] - points5, axis=-1).max())
    centre = points5.mean(0)
    low = np.clip(np.floor(centre - _AROUND * reach), 0, None).astype(int)
    high = np.ceil(centre + _AROUND * reach).astype(int) + 1
    part = np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0]])
    factor = np.ones(2)
    if reach > _LARGEST_PX:
        sides = [max(1, round(side * _LARGEST_PX / reach)) for side in part.shape[1::-1]]
        factor = np.array(sides) / part.shape[1::-1]
        part = np.asarray(cv2.resize(part, sides, interpolation=cv2.INTER_AREA), np.uint8)

    def back(points: NDArray[np.float32]) -> NDArray[np.float32]:
        return ((points + 0.5) / factor - 0.5 + low).astype(np.float32)

    inside = ((points5 - low + 0.5) * factor - 0.5).astype(np.float32)
    return part, torch.from_numpy(inside)[None], back


def points_apart(first68: torch.Tensor, second68: torch.Tensor) -> torch.Tensor:
    """Mean distance (N,) of the five points of two sets of landmarks, over the outer eye distance of the first.

    Args:
        first68: (N, 68, 2) pixels.
        second68: (N, 68, 2) pixels of the same images.
    """
    distance = (five_points(first68) - five_points(second68)).norm(dim=-1).mean(-1)
    return distance / interocular(first68)
