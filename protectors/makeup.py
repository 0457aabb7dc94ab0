"""Where makeup goes on a face, which of a made-up face belongs where on another, and what colours it leaves."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from faces.detection import FaceDetector, read_image
from faces.errors import FacesError
from faces.face_api import LandmarkNet68, load_landmark_net
from faces.framing import crop_face
from protectors.auxiliary import SIZE_PX, SYNTHETIC, auxiliary_faces
from protectors.errors import ProtectorError

#: Regions that makeup is made of, in the order of all stacks of masks and colours here.
REGIONS = ("skin", "eye shadow", "lips")

#: Palettes of a painted reference: sRGB colour and opacity of each region, chosen by eye.
PALETTES: dict[str, tuple[tuple[tuple[float, float, float], float], ...]] = {
    "rose": (((0.86, 0.66, 0.60), 0.25), ((0.52, 0.30, 0.36), 0.60), ((0.72, 0.16, 0.26), 0.75)),
    "bronze": (((0.76, 0.54, 0.40), 0.30), ((0.44, 0.30, 0.18), 0.65), ((0.60, 0.27, 0.20), 0.70)),
    "plum": (((0.88, 0.72, 0.68), 0.25), ((0.33, 0.20, 0.42), 0.65), ((0.45, 0.10, 0.28), 0.80)),
}

#: Rings of the iBUG order.
_JAW, _RIGHT_BROW, _LEFT_BROW = list(range(17)), list(range(17, 22)), list(range(22, 27))
_RIGHT_EYE, _LEFT_EYE = list(range(36, 42)), list(range(42, 48))
_NOSE, _MOUTH, _GAP = [31, 32, 33, 34, 35], list(range(48, 60)), list(range(60, 68))
#: The forehead ends this far above the brows, and brows are this thick, in distances of the brows from the eyes.
_FOREHEAD, _BROW = 1.2, 0.5

#: Mean luminance of sRGB values.
LUMA = (0.299, 0.587, 0.114)


@cache
def landmark_net(device: torch.device) -> LandmarkNet68:
    """The network that finds the 68 landmarks, frozen, on a device; it is read once a process for each.

    Raises:
        FacesError: Its weights are missing.
    """
    return load_landmark_net().requires_grad_(False).to(device)


def landmarks68(images: Tensor, points5: Tensor) -> Tensor:
    """Landmarks (N, 68, 2) in pixels of photos (N, 3, S, S) in 0..1."""
    with torch.no_grad():
        return landmark_net(images.device).landmarks(images.detach() * 255, points5)


def coverage(polygons: Tensor, side: int) -> Tensor:
    """About the share of each pixel that lies in a polygon, (N, S, S): 1/2 plus the signed distance from its edge.

    Args:
        polygons: (N, V, 2) corners (x, y) in pixels, in either sense.
        side: S.
    """
    steps = torch.arange(side, dtype=polygons.dtype, device=polygons.device)
    at = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1)
    inside = torch.zeros(len(polygons), side, side, dtype=torch.bool, device=polygons.device)
    nearest = polygons.new_full((len(polygons), side, side), torch.inf)
    for start, end in zip(polygons.unbind(1), polygons.roll(-1, 1).unbind(1), strict=True):
        start, edge = start[:, None, None], (end - start)[:, None, None]
        offset = at - start
        along = (offset * edge).sum(-1) / (edge * edge).sum(-1).clamp_min(1e-12)
        nearest = torch.minimum(nearest, (offset - along.clamp(0, 1)[..., None] * edge).square().sum(-1))
        # A ray to the right crosses the edge: the even-odd rule.
        spans = (offset[..., 1] < 0) != (offset[..., 1] < edge[..., 1])
        crosses = offset[..., 0] * edge[..., 1] < offset[..., 1] * edge[..., 0]
        inside ^= spans & (crosses == (edge[..., 1] > 0))
    return (0.5 + torch.where(inside, 1.0, -1.0) * nearest.sqrt()).clamp(0, 1)


def regions(landmarks: Tensor, side: int) -> Tensor:
    """Soft masks (N, 3, S, S) of :data:`REGIONS`, which do not overlap, of faces with landmarks (N, 68, 2).

    Lips are what lies between the outer and the inner ring. Eye shadow lies between brow and eye. Skin is the face up
    to the forehead without these, brows, eyes and nostrils.
    """

    def area(*rings: Tensor) -> Tensor:
        return torch.stack([coverage(ring, side) for ring in rings]).amax(0)

    def ring(points: Sequence[int]) -> Tensor:
        return landmarks[:, list(points)]

    brows, eyes = (ring(_RIGHT_BROW), ring(_LEFT_BROW)), (ring(_RIGHT_EYE), ring(_LEFT_EYE))
    up = torch.cat(brows, 1).mean(1, keepdim=True) - torch.cat(eyes, 1).mean(1, keepdim=True)
    forehead = torch.cat(brows, 1).flip(1) + _FOREHEAD * up
    hair = [torch.cat((brow - _BROW * up, (brow + _BROW * up).flip(1)), 1) for brow in brows]
    eye, gap = area(*eyes), area(ring(_GAP))
    lips = area(ring(_MOUTH)) * (1 - gap)
    # From the lower edge of the brow, corner by corner, and back along the upper lid.
    lids = [
        torch.cat((brow - _BROW * up, lid.flip(1)), 1)
        for brow, lid in zip(brows, (ring(_RIGHT_EYE[:4]), ring(_LEFT_EYE[:4])), strict=True)
    ]
    shadow = area(*lids) * (1 - eye)
    face = area(torch.cat((ring(_JAW), forehead), 1))
    other = torch.stack((area(*hair), eye, gap, area(ring(_NOSE)), shadow, lips)).amax(0)
    return torch.stack((face * (1 - other), shadow, lips * (1 - shadow)), 1)


def painted(images: Tensor, masks: Tensor, palette: str) -> Tensor:
    """Faces (N, 3, S, S) made up with a palette: its colours, with the shading of what they cover.

    Args:
        images: in 0..1.
        masks: (N, 3, S, S) of :func:`regions`.
        palette: a name of :data:`PALETTES`.
    """
    luma = (images * images.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
    for (colour, opacity), mask in zip(PALETTES[palette], masks.split(1, 1), strict=True):
        mean = (luma * mask).sum((2, 3), keepdim=True) / mask.sum((2, 3), keepdim=True).clamp_min(1e-6)
        shaded = images.new_tensor(colour)[:, None, None] * (luma / mean.clamp_min(1e-3))
        images = images + opacity * mask * (shaded - images)
    return images.clamp(0, 1)


@dataclass(frozen=True)
class Reference:
    """A made-up face.

    Attributes:
        image: (1, 3, S, S) in 0..1.
        points5: (1, 5, 2).
        landmarks: (1, 68, 2).
        masks: (1, 3, S, S) of :func:`regions`, none of them empty.
        content_hash: Hash of what it was made from, for the declaration.
    """

    image: Tensor
    points5: Tensor
    landmarks: Tensor
    masks: Tensor
    content_hash: str

    def to(self, device: torch.device) -> Reference:
        """The same face on a device."""
        image, points5, landmarks, masks = (
            each.to(device) for each in (self.image, self.points5, self.landmarks, self.masks)
        )
        return Reference(image, points5, landmarks, masks, self.content_hash)


def reference_face(photo: Path | None, palette: str) -> Reference:
    """The made-up face whose colours are taken over.

    Args:
        photo: picture of a face with makeup, or None for a synthetic head, painted.
        palette: colours of the painted head.

    Raises:
        ProtectorError: No such palette, or there is not one face of sufficient size in the photo.
        FacesError: The photo cannot be read, or weights are missing.
    """
    if palette not in PALETTES:
        raise ProtectorError(f"there is no palette {palette!r}; choose one of {', '.join(PALETTES)}.")
    if photo is None:
        head = auxiliary_faces(SYNTHETIC, people=1, captures=1)
        image, points5, digest = head.images, head.points5, f"{palette} {head.content_hash[:16]}"
    else:
        image, points5, digest = _photographed(photo)
    landmarks = landmarks68(image, points5)
    masks = regions(landmarks, image.shape[-1])
    for name, area in zip(REGIONS, masks[0].sum((1, 2)).tolist(), strict=True):
        if area < 1:
            raise ProtectorError(f"no {name} is seen in {photo or 'the reference'}; give a frontal face.")
    return Reference(painted(image, masks, palette) if photo is None else image, points5, landmarks, masks, digest)


def _photographed(photo: Path) -> tuple[Tensor, Tensor, str]:
    picture = read_image(photo)
    found = FaceDetector().detect(picture)
    if len(found) != 1:
        raise ProtectorError(f"{photo} shows {len(found)} faces; give a photo of one face with makeup.")
    try:
        frame, points5, _ = crop_face(picture, found[0].points5, SIZE_PX)
    except FacesError as error:
        raise ProtectorError(f"{photo}: {error}; give a larger photo.") from error
    pixels = torch.from_numpy(frame).permute(2, 0, 1).float() / 255
    return pixels[None], torch.from_numpy(points5)[None], hashlib.sha256(photo.read_bytes()).hexdigest()[:16]


def descriptors(images: Tensor, points5: Tensor, landmarks: Tensor, side: int, appearance: float) -> Tensor:
    """Unit vectors (N, S * S, D) of the pixels: where they lie among the landmarks, and what they look like.

    The first part is the offset of the pixel from each of the 68 landmarks in the upright frame of the face, the second
    its brightness and its gradient there; each is a unit vector, the second weighted. Their inner products compare
    pixels of two faces (after the attentive makeup morphing of Jiang et al., CVPR 2020).

    Args:
        images: (N, 3, S, S).
        points5: (N, 5, 2).
        landmarks: (N, 68, 2).
        side: S.
        appearance: weight of the second part.
    """
    steps = torch.arange(side, dtype=images.dtype, device=images.device)
    at = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).flatten(0, 1)
    axis = torch.view_as_complex((points5[:, 1] - points5[:, 0]).contiguous())
    turn = (axis.conj() / axis.abs())[:, None]
    spots, pixels = (torch.view_as_complex(given.contiguous()) for given in (landmarks, at))
    offset = (pixels[None, :, None] - spots[:, None]) * turn[..., None]
    place = functional.normalize(torch.view_as_real(offset).flatten(2), dim=2)
    luma = (images * images.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
    down, right = (functional.pad(luma.diff(dim=axis), pad) for axis, pad in ((2, (0, 0, 0, 1)), (3, (0, 1, 0, 0))))
    looks = functional.normalize(torch.cat((luma - luma.mean((2, 3), keepdim=True), down, right), 1).flatten(2), dim=1)
    return functional.normalize(torch.cat((place, appearance * looks.transpose(1, 2)), 2), dim=2)


def corresponding(
    source: Tensor, reference: Tensor, source_masks: Tensor, reference_masks: Tensor, values: Tensor, sharpness: float
) -> Tensor:
    """Values of a reference carried over to a source by masked cosine correspondence, (N, R, C, P).

    Each pixel of the source gets the mean of the values of the reference in the same region, weighted by
    exp(sharpness * cosine) and by how far a pixel of the reference belongs to that region; 0 outside the region.

    Args:
        source: (N, P, D) unit vectors.
        reference: (Q, D) unit vectors.
        source_masks: (N, R, P).
        reference_masks: (R, Q), none of them empty.
        values: (Q, C).
        sharpness: Factor on the cosines before the softmax.
    """
    alike = sharpness * (source @ reference.T)
    carried = [
        ((alike + mask.log()).softmax(-1) @ values * (here > 0)[..., None]).transpose(1, 2)
        for mask, here in zip(reference_masks, source_masks.unbind(1), strict=True)
    ]
    return torch.stack(carried, 1)


def matched(values: Tensor, wanted: Tensor, inside: Tensor) -> Tensor:
    """Values (N, C, P) with the histogram of others, within a region: the smallest takes the smallest, and so on.

    Args:
        values: (N, C, P).
        wanted: (N, C, P), of the same region.
        inside: (N, 1, P) bool, the region; elsewhere values stay as they are.
    """
    outside = ~inside
    order = values.masked_fill(outside, torch.inf).argsort(-1)
    ranked = wanted.masked_fill(outside, torch.inf).sort(-1).values
    return torch.where(inside, torch.empty_like(values).scatter_(-1, order, ranked), values)
