"""What one camera makes of a set of faces, and the crops that attackers cut out of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from evaluation.draws import normal, uniform
from faces.alignment import similarity, template

Read = Callable[[Tensor, torch.Generator], Tensor]
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class EncodedFaces:
    """What one camera makes of a set of faces, before noise.

    Attributes:
        signal: (N, C, n, n) noise-free exposure of each pixel, as :attr:`read` takes it.
        identity: (N,) int64.
        capture: (N,) int64, number of the capture of that person.
        points5: (N, 5, 2) true eye centres, nose tip and mouth corners in scene pixels, image left first.
        scene_px: Side of the scene frame in pixels.
        read: (signal, generator) -> frames (N, C, n, n) in 0..1 with the sensor's noise and bits.
        opening: Side of the part of the window that a field stop leaves open, as a share of the window; 1 without one.
        auxiliary: (N, T) further targets that a network may be trained to predict, NaN where they are not known: of
            synthetic people the parameters of the generator, of photographs the embedding of a clean recogniser. Only
            training people have them.
    """

    signal: Tensor
    identity: Tensor
    capture: Tensor
    points5: Tensor
    scene_px: int
    read: Read
    opening: float = 1.0
    auxiliary: Tensor | None = None

    def __len__(self) -> int:
        return len(self.signal)


def face_crop(frames: Tensor, points5: Tensor, scene_px: int, size: int, face_scale: float = 1.0) -> Tensor:
    """Frames (N, C, n, n) resampled so that the five true points lie on the recogniser template.

    Bilinear; the border goes on outside the frame. A crop much coarser than the frame averages samples, so that no
    light of a fine sensor is thrown away.

    Args:
        frames: Sensor frames that cover the scene window.
        points5: (N, 5, 2) in scene pixels.
        scene_px: Side of the scene window in those pixels.
        size: Side of the result.
        face_scale: 1 for the standard crop; smaller values show more around the face (hair, jaw).
    """
    side = frames.shape[-1]
    # Faces fill the frame, so side / size is about the reduction; a crop up to a quarter coarser is left as it is.
    fine = max(1, math.ceil(side / size - 0.25))
    width = size * fine
    points = (points5.to(frames.device).double() + 0.5) * (side / scene_px) - 0.5
    centre = (width - 1) / 2
    a, b = similarity(points, ((template(width) - centre) * face_scale + centre).to(points.device))
    steps = torch.arange(width, dtype=torch.float64, device=frames.device)
    crop = torch.complex(steps[None, :].expand(width, width), steps[:, None].expand(width, width))
    at = (crop - b[:, None, None]) / a[:, None, None]
    grid = torch.stack([(2 * at.real + 1) / side - 1, (2 * at.imag + 1) / side - 1], dim=-1).to(frames.dtype)
    result = functional.grid_sample(frames, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return functional.avg_pool2d(result, fine) if fine > 1 else result


@dataclass(frozen=True)
class Crop:
    """How faces are cut out of frames; see :func:`face_crop`.

    Attributes:
        size: Side of the crop in pixels.
        face_scale: Size of the face in it; 1 is the standard crop.
    """

    size: int
    face_scale: float

    def cut(self, frames: Tensor, points5: Tensor, scene_px: int) -> Tensor:
        """Crops (N, C, size, size) of frames (N, C, n, n)."""
        return face_crop(frames, points5, scene_px, self.size, self.face_scale)


#: A crop is a tenth wider than the opening, since faces do not stand exactly in its middle, and has a third more
#: samples than there are pixels behind it, so that a crop between pixels loses nothing.
_MARGIN, _OVERSAMPLING = 1.1, 1.35
_SCALES, _SIZES = (0.75, 1.5), (20, 32)
#: Most samples of a crop with three channels: the closed forms take the cube of the number of features.
_LARGEST_IN_COLOUR = 24


def fitted_crop(faces: EncodedFaces) -> Crop:
    """The crop that shows what the field stop of a camera leaves open, about as finely as its pixels are.

    A crop made for whole heads spends most of its samples on the dark surround of a stop.
    """
    a, _ = similarity(faces.points5.double(), template(112).to(faces.points5.device, torch.float64))
    standard = 112 / float(a.abs().median())
    wanted = min(_MARGIN * faces.opening, 1.0) * faces.scene_px
    scale = min(max(standard / wanted, _SCALES[0]), _SCALES[1])
    side, channels = faces.signal.shape[-1], faces.signal.shape[1]
    samples = _OVERSAMPLING * side * standard / (scale * faces.scene_px)
    largest = _SIZES[1] if channels == 1 else _LARGEST_IN_COLOUR
    return Crop(min(max(4 * round(samples / 4), _SIZES[0]), largest), scale)


def placement(points5: Tensor, scene_px: int) -> Tensor:
    """Where a crop was cut out of the frame, (N, 4): centre (x, y) in shares of the window, log size, and angle.

    It tells nothing of the points but the similarity by which a crop is aligned.
    """
    a, b = similarity(points5.double(), template(112).to(points5.device, torch.float64))
    centre = (torch.complex(torch.tensor(55.5), torch.tensor(55.5)).to(a) - b) / a
    rows = [centre.real / scene_px - 0.5, centre.imag / scene_px - 0.5, a.abs().log(), a.angle()]
    return torch.stack(rows, dim=-1).float()


def contrast(faces: EncodedFaces, generator: torch.Generator) -> tuple[float, float]:
    """Mean and standard deviation of training frames, so that networks see frames of ordinary contrast."""
    pick = torch.randint(len(faces), (min(512, len(faces)),), generator=generator)
    frames = faces.read(faces.signal[pick], generator)
    return float(frames.mean()), float(frames.std().clamp_min(1e-6))


def channels_last(network: Network) -> Network:
    """The network with its weights laid out channels last: up to three times faster on a processor."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def shaken(points5: Tensor, generator: torch.Generator) -> Tensor:
    """Points (N, 5, 2) moved, all five alike, by 3 % of the eye distance (sd), and scaled by 4 %: other framing."""
    count = len(points5)
    eyes = (points5[:, 1] - points5[:, 0]).norm(dim=-1).view(-1, 1, 1)
    centre = points5.mean(dim=1, keepdim=True)
    shift = 0.03 * eyes * normal((count, 1, 2), generator, points5)
    scale = 1 + 0.04 * normal((count, 1, 1), generator, points5)
    return centre + shift + scale * (points5 - centre)


def mirrored(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images (N, C, H, W), half of them at random mirrored left to right."""
    mirror = uniform((len(images), 1, 1, 1), generator, images) < 0.5
    return torch.where(mirror, images.flip(-1), images)
