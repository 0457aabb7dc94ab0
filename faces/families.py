"""Recognisers of independent families behind one interface: a photograph and five points in, a unit vector out.

What a protector was tuned against says little about a recogniser that it never saw. An evaluation therefore needs
several families (other data, other loss, other crop), and one of them, :data:`JUDGE`, is kept out of every protector.
Scores of different families are not comparable: calibrate a threshold for each.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn import functional

from faces import weights
from faces.alignment import align, template
from faces.dlib_resnet import CHIP_POINTS, DlibResNet, load_dlib_resnet
from faces.errors import FacesError
from faces.faceres import FaceRes, load_faceres
from faces.published import check_images
from faces.recognisers import SFace, load_sface

#: The recogniser that only judges.
JUDGE = "faceres"

#: Images per pass of a network: bounds the memory of an evaluation over thousands of faces.
_CHUNK = 64


@dataclass(frozen=True, eq=False)
class Recogniser:
    """A pretrained network with everything that belongs to it: its crop, its value range, its channel order.

    The parameters are frozen; gradients pass to images and points.

    Attributes:
        name: name on the command line and in reports.
        family: what sets it apart: network, loss and training data.
        network: maps chips (N, 3, H, W) in its own value range and channel order to embeddings (N, embedding_dim).
        points: (5, 2) eye centres, nose tip and mouth corners (x, y) in its chip, image left first.
        input_size: height and width of the chip in pixels.
        embedding_dim: length of the embedding.
        value_range: values of black and white that the network takes.
        channel_order: "RGB" or "BGR".
        weights_hash: SHA-256 of the weight file, for the record of an evaluation.
        differentiable: whether gradients pass.
        matches_from: Cosine from which two photographs count as matched where nothing was calibrated on the photographs
            at hand; None where nobody measured it (docs/decisions/0011-verify-thresholds.md).
    """

    name: str
    family: str
    network: nn.Module
    points: torch.Tensor
    input_size: tuple[int, int]
    embedding_dim: int
    value_range: tuple[float, float]
    channel_order: str
    weights_hash: str
    differentiable: bool = True
    matches_from: float | None = None

    def to(self, device: torch.device) -> Recogniser:
        """The same recogniser on a device; itself where it is there already. Images and points must lie there too."""
        if all(weight.device == device for weight in self.network.parameters()):
            return self
        return replace(self, network=copy.deepcopy(self.network).to(device))

    @property
    def reserved(self) -> bool:
        """Whether it is kept for judging: no protector may use it."""
        return self.name == JUDGE

    def template(self, size: int | None = None) -> torch.Tensor:
        """The alignment points (5, 2), float64, in a chip of ``size`` pixels; default: the size it takes.

        Scaling keeps the edges of the chip, as in :func:`faces.alignment.template`.
        """
        own = self.input_size[0]
        chosen = own if size is None else size
        if chosen < 1:
            raise FacesError(f"the chip must be at least 1 pixel wide, got {chosen}.")
        return (self.points.double() + 0.5) * (chosen / own) - 0.5

    def chips(self, images: torch.Tensor, points5: torch.Tensor) -> torch.Tensor:
        """Aligned crops (N, 3, H, W) of images (N, 3, S, S), in the same value range.

        Sampling is bilinear: a face several times larger than the chip should be reduced first.

        Raises:
            FacesError: if shapes do not fit or points are unusable.
        """
        return align(images, points5, self.input_size[0], self.template())

    def embed_chips(self, chips: torch.Tensor) -> torch.Tensor:
        """Unit vectors (N, embedding_dim) of aligned crops (N, 3, H, W), RGB, sRGB-encoded, 0..1.

        Raises:
            FacesError: if shape or type differ from what the network takes.
        """
        check_images(chips, self.input_size, self.name)
        black, white = self.value_range
        ordered = chips.flip(1) if self.channel_order == "BGR" else chips
        scaled = ordered.float() * (white - black) + black
        return torch.cat([functional.normalize(self.network(part), dim=1) for part in scaled.split(_CHUNK)])

    def embed(self, images: torch.Tensor, points5: torch.Tensor) -> torch.Tensor:
        """Unit vectors (N, embedding_dim) of photographs; a dot product of two is their cosine.

        Args:
            images: (N, 3, S, S) float, RGB, sRGB-encoded, 0..1.
            points5: (N, 5, 2) pixels (x, y): eye centres, nose tip, mouth corners, image left first.

        Raises:
            FacesError: if shapes do not fit or points are unusable.
        """
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise FacesError(
                f"{self.name} takes floating-point RGB images (N, 3, S, S) in 0..1, got {tuple(images.shape)} of "
                f"{images.dtype}; divide uint8 images by 255."
            )
        if tuple(points5.shape) != (images.shape[0], 5, 2):
            raise FacesError(
                f"{self.name} needs points of shape ({images.shape[0]}, 5, 2), one set for each image, got "
                f"{tuple(points5.shape)}."
            )
        parts = zip(images.split(_CHUNK), points5.split(_CHUNK), strict=True)
        return torch.cat([self.embed_chips(self.chips(image, points)) for image, points in parts])


def _frozen(network: nn.Module) -> nn.Module:
    return network.eval().requires_grad_(False)


#: Distance of the eyes in the chip of HSE-FaceRes, as a share of its width. It was trained on loose boxes around faces,
#: not on aligned chips; on photographs nothing was gained or lost from .36 to .42.
_FACERES_EYES = 0.4


#: Cosines from which a recogniser counts as matching; who adds a recogniser measures its own as record 0011 says.
_MATCHES_FROM = {"sface": 0.29, "dlib-resnet": 0.88, "faceres": 0.56}


def _sface() -> Recogniser:
    return Recogniser(
        name="sface",
        family="MobileNet v1; sigmoid-constrained hypersphere loss (SFace)",
        network=_frozen(load_sface().folded()),
        points=template(112),
        input_size=(112, 112),
        embedding_dim=SFace.embedding_dim,
        value_range=SFace.value_range,
        channel_order=SFace.channel_order,
        weights_hash=weights.info("sface").sha256,
        matches_from=_MATCHES_FROM["sface"],
    )


def _dlib_resnet() -> Recogniser:
    return Recogniser(
        name="dlib-resnet",
        family="residual network of 29 convolutions; metric loss (dlib)",
        network=_frozen(load_dlib_resnet()),
        points=torch.tensor(CHIP_POINTS, dtype=torch.float64),
        input_size=DlibResNet.input_size,
        embedding_dim=DlibResNet.embedding_dim,
        value_range=DlibResNet.value_range,
        channel_order=DlibResNet.channel_order,
        weights_hash=weights.info("dlib-resnet").sha256,
        matches_from=_MATCHES_FROM["dlib-resnet"],
    )


def _faceres() -> Recogniser:
    size = FaceRes.input_size[0]
    points = template(size)
    scale = _FACERES_EYES * size / float(points[1, 0] - points[0, 0])
    return Recogniser(
        name="faceres",
        family="MobileNet v1; softmax over people, VGGFace2 (HSE-FaceRes)",
        network=_frozen(load_faceres()),
        points=(points - points.mean(0)) * scale + (size - 1) / 2,
        input_size=FaceRes.input_size,
        embedding_dim=FaceRes.embedding_dim,
        value_range=FaceRes.value_range,
        channel_order=FaceRes.channel_order,
        weights_hash=weights.info("faceres").sha256,
        matches_from=_MATCHES_FROM["faceres"],
    )


_LOADERS: dict[str, Callable[[], Recogniser]] = {"sface": _sface, "dlib-resnet": _dlib_resnet, "faceres": _faceres}


def recogniser_names() -> tuple[str, ...]:
    """Names that :func:`load_recogniser` takes."""
    return tuple(_LOADERS)


def load_recogniser(name: str) -> Recogniser:
    """A recogniser with its published weights, in eval mode and frozen.

    Raises:
        FacesError: if the name is unknown, or the weights are missing or damaged.
    """
    _check_known(name)
    return _LOADERS[name]()


def matching_from(name: str) -> float:
    """The cosine from which a recogniser counts as matching (:attr:`Recogniser.matches_from`); loads no weights.

    Raises:
        FacesError: There is no such recogniser, or nobody measured its threshold.
    """
    _check_known(name)
    threshold = _MATCHES_FROM.get(name)
    if threshold is None:
        raise FacesError(
            f"The recogniser {name} has no threshold from which it counts as matching, so it cannot judge single "
            "photographs; measure it as docs/decisions/0011-verify-thresholds.md says."
        )
    return threshold


def _check_known(name: str) -> None:
    if name not in _LOADERS:
        raise FacesError(f"There is no recogniser {name!r}; choose one of {', '.join(_LOADERS)}.")
