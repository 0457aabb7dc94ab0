"""A second face detector, unrelated to YuNet: the tiny detector of face-api, its points by the 68-landmark network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from faces.detection import Detection
from faces.errors import FacesError
from faces.face_api import CHIP_POINTS, CHIP_SIZE, LandmarkNet68, load_landmark_net
from faces.published import SeparableConv2d, check_images, load_network
from faces.samples import five_points

#: Width and height of the five boxes that each cell stretches, in cells.
ANCHORS = ((1.603231, 2.094468), (6.041143, 7.080126), (2.882459, 3.518061), (4.266906, 5.178857), (9.041765, 10.66308))

#: The image is looked at as it is, and in the middle of a black square of twice its side: the network was trained on
#: faces within a scene and mostly misses one that fills the image.
_VIEWS = (1, 2)
#: Of two boxes that share more than this part of their union, the weaker one is dropped.
_LARGEST_OVERLAP = 0.4


class TinyYolo(nn.Module):
    """Tiny YOLO v2 (Redmon and Farhadi, CVPR 2017) with separable convolutions and one class, as in face-api."""

    value_range = (0.0, 255.0)
    channel_order = "RGB"
    input_size = (416, 416)
    differentiable = True

    mean: torch.Tensor
    anchors: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([117.001, 114.697, 97.404]).view(3, 1, 1), persistent=False)
        self.register_buffer("anchors", torch.tensor(ANCHORS), persistent=False)
        self.conv0 = nn.Conv2d(3, 16, 3)
        for k, width in enumerate((32, 64, 128, 256, 512), 1):
            self.add_module(f"conv{k}", SeparableConv2d(width // 2, width))
        self.conv8 = nn.Conv2d(512, 5 * len(ANCHORS), 1)

    def forward(self, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Boxes and scores of images (N, 3, 416, 416), RGB in 0..255.

        Returns:
            Boxes (N, 845, 4) as left, top, width, height in pixels, edge to edge, and their scores (N, 845) in 0..1.

        Raises:
            FacesError: if the images have another shape.
        """
        check_images(batch, self.input_size, "The tiny face detector")
        maps = functional.leaky_relu(self.conv0((batch - self.mean) / 255), 0.1)
        for k in range(1, 6):
            maps = functional.leaky_relu(
                self.get_submodule(f"conv{k}")(functional.max_pool2d(maps, 2, ceil_mode=True)), 0.1
            )
        # Stride 1: TensorFlow pads a last row and column, which never win.
        maps = functional.max_pool2d(functional.pad(maps, (0, 1, 0, 1), value=-torch.inf), 2, 1)
        raw = self.conv8(maps)
        cells = raw.shape[-1]
        raw = raw.view(-1, len(ANCHORS), 5, cells, cells).permute(0, 3, 4, 1, 2)  # (N, row, column, anchor, 5)
        axis = torch.arange(cells, dtype=raw.dtype, device=raw.device)
        corner = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1)[:, :, None]
        centre = corner + raw[..., :2].sigmoid()
        side = raw[..., 2:4].exp() * self.anchors
        boxes = torch.cat([centre - side / 2, side], dim=-1) * (self.input_size[0] / cells)
        return boxes.flatten(1, 3), raw[..., 4].sigmoid().flatten(1)


class TinyFaceDetector:
    """Finds faces and their five points without YuNet.

    The image is brought to 416 x 416 pixels, so small faces in large photographs are missed.

    Args:
        detector: the network; default: with the fetched weights.
        landmarks: the network that finds the points in a box; default: with the fetched weights.
        threshold: lowest score that counts as a face.

    Raises:
        FacesError: if weights are missing or damaged, or the threshold is out of range.
    """

    def __init__(
        self, detector: TinyYolo | None = None, landmarks: LandmarkNet68 | None = None, *, threshold: float = 0.5
    ) -> None:
        if not 0 < threshold < 1:
            raise FacesError(f"The detector needs 0 < threshold < 1, got {threshold}.")
        self._network = load_tiny_yolo() if detector is None else detector
        self._landmarks = load_landmark_net() if landmarks is None else landmarks
        self._threshold = threshold

    @torch.no_grad()
    def detect(self, image: NDArray[np.uint8]) -> list[Detection]:
        """Faces in an image (H, W, 3) RGB uint8, largest first; an empty list if there is none.

        Raises:
            FacesError: if the image has another shape or type.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or min(image.shape[:2]) < 1:
            raise FacesError(f"The detector takes (H, W, 3) uint8 RGB images, got {image.shape} of {image.dtype}.")
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
        boxes, scores = self._views(pixels)
        chosen = strongest(boxes, scores, self._threshold)
        if not len(chosen):
            return []
        found = boxes[chosen]
        points = self._points(pixels, found)
        faces = [
            Detection(box=box, points5=five, score=float(score))
            for box, five, score in zip(found.numpy(), points.numpy(), scores[chosen], strict=True)
        ]
        return sorted(faces, key=lambda face: -float(face.box[2] * face.box[3]))

    def _views(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Boxes (B, 4) in pixels of the image and scores (B,), of the image by itself and amid black."""
        height, width = pixels.shape[-2:]
        boxes, scores = [], []
        for factor in _VIEWS:
            side = factor * max(height, width)
            left, top = (side - width) // 2, (side - height) // 2
            canvas = functional.pad(pixels, (left, side - width - left, top, side - height - top))
            view = functional.interpolate(
                canvas, self._network.input_size, mode="bilinear", align_corners=False, antialias=True
            )
            found, score = self._network(view)
            scaled = found[0] * (side / self._network.input_size[0])
            boxes.append(scaled - scaled.new_tensor([left, top, 0, 0]))
            scores.append(score[0])
        return torch.cat(boxes), torch.cat(scores)

    def _points(self, pixels: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """Five points (K, 5, 2) of the faces in boxes (K, 4): from the square around each, then once more upright."""
        side = boxes[:, 2:].max(1).values[:, None, None]
        corner = (boxes[:, :2] + boxes[:, 2:] / 2)[:, None] - side / 2
        points = (boxes.new_tensor(CHIP_POINTS) + 0.5) * (side / CHIP_SIZE) + corner - 0.5
        images = pixels.expand(len(boxes), -1, -1, -1)
        for _ in range(2):
            points = five_points(self._landmarks.landmarks(images, points))
        return points


def strongest(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> torch.Tensor:
    """Indices of the boxes (B, 4) that remain of those above the threshold, strongest first."""
    order = torch.argsort(scores, descending=True)
    order = order[scores[order] > threshold]
    kept: list[int] = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(int(best))
        low = torch.maximum(boxes[best, :2], boxes[order, :2])
        high = torch.minimum(boxes[best].view(2, 2).sum(0), boxes[order].view(-1, 2, 2).sum(1))
        shared = (high - low).clamp_min(0).prod(-1)
        union = boxes[best, 2:].prod() + boxes[order, 2:].prod(-1) - shared
        order = order[shared <= _LARGEST_OVERLAP * union]
    return torch.tensor(kept, dtype=torch.int64, device=boxes.device)


def load_tiny_yolo(path: Path | None = None) -> TinyYolo:
    """The network with its published weights, in eval mode; ``path`` as in :func:`faces.published.load_network`."""
    return load_network(TinyYolo(), "tiny-face-detector", path)
