"""The one container of face images that every source fills and every consumer reads."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from faces.errors import FacesError

#: Names of the optional per-pixel regions, in the order of the bits of ``FaceSet.regions``.
REGIONS: tuple[str, ...] = ("skin", "lips", "eyes", "lids")


@dataclass(frozen=True)
class FaceSet:
    """Images of known people with their landmarks.

    Attributes:
        images: (N, 3, S, S) uint8, sRGB-encoded radiance, RGB order.
        identity: (N,) int64, number of the person, unique within the source.
        capture: (N,) int64, number of the capture of that person.
        landmarks: (N, 68, 2) float32 pixels (x, y) in the S x S frame, iBUG order, pixel centres at integers.
        source: Where the images come from, e.g. ``"synthetic-heads/1 seed=0"`` or the path of a folder.
        licence: Terms of the images.
        names: Optional names of the people, indexed by ``identity``.
        regions: Optional (N, S, S) uint8 bit masks; bit ``i`` is set where ``REGIONS[i]`` is seen.

    Raises:
        FacesError: If shapes or types disagree.
    """

    images: Tensor
    identity: Tensor
    capture: Tensor
    landmarks: Tensor
    source: str
    licence: str
    names: tuple[str, ...] = ()
    regions: Tensor | None = field(default=None)

    def __post_init__(self) -> None:
        images = self.images
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
            raise FacesError(f"images must be (N, 3, S, S), got {tuple(images.shape)}; crop the images to squares.")
        if images.dtype != torch.uint8:
            raise FacesError(f"images must be uint8 sRGB, got {images.dtype}; encode with linear_to_srgb, times 255.")
        count, size = images.shape[0], images.shape[2]
        for name, tensor in (("identity", self.identity), ("capture", self.capture)):
            if tuple(tensor.shape) != (count,) or tensor.dtype != torch.int64:
                raise FacesError(
                    f"{name} must be ({count},) int64 to match the images, got {tuple(tensor.shape)} {tensor.dtype}."
                )
        if tuple(self.landmarks.shape) != (count, 68, 2) or self.landmarks.dtype != torch.float32:
            raise FacesError(
                f"landmarks must be ({count}, 68, 2) float32 to match {count} images, "
                f"got {tuple(self.landmarks.shape)} {self.landmarks.dtype}."
            )
        if self.regions is not None and (
            tuple(self.regions.shape) != (count, size, size) or self.regions.dtype != torch.uint8
        ):
            raise FacesError(
                f"regions must be ({count}, {size}, {size}) uint8, "
                f"got {tuple(self.regions.shape)} {self.regions.dtype}."
            )

    def __len__(self) -> int:
        return int(self.images.shape[0])

    @property
    def size(self) -> int:
        """Width and height of the images in pixels."""
        return int(self.images.shape[-1])

    def subset(self, index: Tensor | Sequence[int] | np.ndarray) -> FaceSet:
        """Return the samples picked by positions or by a boolean mask of length N.

        Args:
            index: Integer positions (order and repetitions are kept), or N booleans.

        Raises:
            FacesError: If the index is of another type, or out of range.
        """
        picks = torch.as_tensor(index)
        count = len(self)
        if picks.numel() == 0:
            picks = picks.to(torch.int64)
        if picks.ndim != 1:
            raise FacesError(f"index must be one-dimensional, got shape {tuple(picks.shape)}.")
        if picks.dtype == torch.bool:
            if picks.numel() != count:
                raise FacesError(f"a boolean index must have {count} entries, got {picks.numel()}.")
            picks = picks.nonzero()[:, 0]
        elif picks.is_floating_point() or picks.is_complex():
            raise FacesError(f"index must hold integers or booleans, got {picks.dtype}.")
        picks = picks.to(torch.int64)
        if picks.numel() and (int(picks.min()) < -count or int(picks.max()) >= count):
            raise FacesError(
                f"index runs from {int(picks.min())} to {int(picks.max())}, but the set has {count} samples."
            )
        return replace(
            self,
            images=self.images[picks],
            identity=self.identity[picks],
            capture=self.capture[picks],
            landmarks=self.landmarks[picks],
            regions=None if self.regions is None else self.regions[picks],
        )

    def linear(self) -> Tensor:
        """Return (N, 3, S, S) float32 linear light in 0..1 (inverse sRGB transfer, by table)."""
        table = srgb_to_linear(torch.arange(256, dtype=torch.float64) / 255.0).to(torch.float32)
        return table.to(self.images.device)[self.images.int()]

    def content_hash(self) -> str:
        """Return the hexadecimal SHA-256 of pixels, labels, landmarks, regions and names (not of the source text)."""
        digest = hashlib.sha256()
        tensors = [self.images, self.identity, self.capture, self.landmarks]
        if self.regions is not None:
            tensors.append(self.regions)
        for tensor in tensors:
            array = np.ascontiguousarray(tensor.detach().cpu().numpy())
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(array.tobytes())
        digest.update(repr(self.names).encode())
        return digest.hexdigest()

    def region(self, name: str) -> Tensor:
        """Return the (N, S, S) boolean mask of one of ``REGIONS``.

        Raises:
            FacesError: If the set carries no regions, or the name is unknown.
        """
        if self.regions is None:
            raise FacesError("this set carries no region masks; ask the source for them (regions=True).")
        if name not in REGIONS:
            raise FacesError(f"unknown region {name!r}; choose one of {', '.join(REGIONS)}.")
        return (self.regions >> REGIONS.index(name)) & 1 == 1


def concat(sets: Sequence[FaceSet]) -> FaceSet:
    """Join sets of one image size; identities must already be disjoint or of one source.

    Args:
        sets: One or more sets. Region masks survive only if all sets carry them.

    Raises:
        FacesError: If there is none, if sizes differ, if the same identity number comes from two sources,
            or if name lists differ.
    """
    if not sets:
        raise FacesError("concat needs at least one set, got none.")
    sizes = sorted({item.size for item in sets})
    if len(sizes) > 1:
        raise FacesError(f"concat needs one image size, got {sizes}; resize or regenerate at one size.")
    owner: dict[int, str] = {}
    for item in sets:
        for number in item.identity.unique().tolist():
            if owner.setdefault(number, item.source) != item.source:
                raise FacesError(
                    f"identity {number} occurs in {owner[number]!r} and in {item.source!r}; "
                    "give one of them other identity numbers first."
                )
    if len({item.names for item in sets}) > 1:
        raise FacesError("concat needs the same list of names in every set.")
    regions = [item.regions for item in sets if item.regions is not None]
    return FaceSet(
        images=torch.cat([item.images for item in sets]),
        identity=torch.cat([item.identity for item in sets]),
        capture=torch.cat([item.capture for item in sets]),
        landmarks=torch.cat([item.landmarks for item in sets]),
        source=" + ".join(dict.fromkeys(item.source for item in sets)),
        licence=" + ".join(dict.fromkeys(item.licence for item in sets)),
        names=sets[0].names,
        regions=torch.cat(regions) if len(regions) == len(sets) else None,
    )


def srgb_to_linear(x: Tensor) -> Tensor:
    """Decode sRGB values 0..1 into linear light 0..1 (IEC 61966-2-1:1999, the inverse transfer function)."""
    curve = ((x.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4
    return torch.where(x <= 0.04045, x / 12.92, curve)


def linear_to_srgb(x: Tensor) -> Tensor:
    """Encode linear light 0..1 as sRGB values 0..1 (IEC 61966-2-1:1999); its gradient is finite at 0."""
    curve = 1.055 * x.clamp_min(0.0031308) ** (1.0 / 2.4) - 0.055
    return torch.where(x <= 0.0031308, x * 12.92, curve)


def five_points(landmarks68: Tensor) -> Tensor:
    """Reduce 68 iBUG landmarks to the five points used for alignment.

    Args:
        landmarks68: (..., 68, 2) pixels.

    Returns:
        (..., 5, 2): centre of points 36..41 (the subject's right eye, at the left of the image), centre of 42..47,
        nose tip 30, mouth corners 48 and 54.

    Raises:
        FacesError: If the shape is another one.
    """
    _check_landmarks(landmarks68)
    right = landmarks68[..., 36:42, :].mean(dim=-2)
    left = landmarks68[..., 42:48, :].mean(dim=-2)
    return torch.stack([right, left, landmarks68[..., 30, :], landmarks68[..., 48, :], landmarks68[..., 54, :]], dim=-2)


def interocular(landmarks68: Tensor) -> Tensor:
    """Return the (...,) distance in pixels of the outer eye corners 36 and 45, the normaliser of the 300-W benchmark.

    Raises:
        FacesError: If the shape is not (..., 68, 2).
    """
    _check_landmarks(landmarks68)
    return torch.linalg.vector_norm(landmarks68[..., 36, :] - landmarks68[..., 45, :], dim=-1)


def _check_landmarks(landmarks68: Tensor) -> None:
    if landmarks68.ndim < 2 or tuple(landmarks68.shape[-2:]) != (68, 2):
        raise FacesError(f"landmarks must be (..., 68, 2), got {tuple(landmarks68.shape)}.")
