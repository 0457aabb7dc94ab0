"""Control: Gaussian blur, without noise. Known to the attacker and hardly a protection where it is mild."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from faces.framing import FRAME_POINTS
from faces.protection import Declaration, KnownBlur, Threat
from faces.samples import linear_to_srgb, srgb_to_linear
from optics import convolve
from protectors.base import ROUNDING_SD, PhotoProtector
from protectors.errors import ProtectorError
from protectors.largest import check_largest
from sim.camera import gaussian_psf

#: Eye distance of a frame as a share of its width, for all photos alike: a blur that followed each face would have no
#: one point-spread function.
EYE_DISTANCE = FRAME_POINTS[1][0] - FRAME_POINTS[0][0]

#: The kernel ends here, in standard deviations.
REACH = 5.0


class GaussianBlur(PhotoProtector):
    """Gaussian blur in linear light, integrated over pixels; edges go on.

    Args:
        sd: standard deviation in eye distances of the frame (:data:`EYE_DISTANCE`, .265 of its width); the default is
            3.4 pixels in photos of 128.
        px: side of the photos in pixels, which fixes the point-spread function.

    Raises:
        ProtectorError: If a setting is out of range.
    """

    about = Declaration(
        name="gaussian-blur",
        title="Gaussian blur in linear light",
        summary="Blurs the photo; the evaluation compares with it.",
        source="control",
        threats=frozenset({Threat.dodge}),
        differentiable=True,
        control=True,
    )

    def __init__(self, *, sd: float = 0.1, px: int = 128) -> None:
        if not 0 < sd <= 2:
            raise ProtectorError(f"gaussian-blur takes 0 < sd <= 2 eye distances, got {sd:g}.")
        if px < 8:
            raise ProtectorError(f"gaussian-blur takes photos of px >= 8 pixels, got {px}.")
        check_largest("gaussian-blur", px=px)
        super().__init__((), sd=sd, px=px)
        self.photo_px = px
        sd_px = sd * EYE_DISTANCE * px
        # Not wider than the odd number of pixels that a photo holds: what is cut off there goes back to all others.
        half = min(math.ceil(REACH * sd_px), (px - 1) // 2)
        psf = gaussian_psf(sd_px, 2 * half + 1).psf
        self._psf = psf / psf.sum(dim=(-2, -1), keepdim=True)
        self.blur = KnownBlur(self._psf, ROUNDING_SD, planes=3)

    def change(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> Tensor:
        """Blurred photos; see :meth:`PhotoProtector.change`."""
        psf = self._psf.to(images.device)
        half = psf.shape[-1] // 2
        wide = functional.pad(srgb_to_linear(images), (half,) * 4, mode="replicate")
        side = images.shape[-1]
        light = convolve(wide, psf)[..., half : half + side, half : half + side]
        return linear_to_srgb(light)
