"""The attacker who owns the same optics: Wiener deconvolution in linear light with the known point-spread function."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from evaluation.errors import EvaluationError
from evaluation.frame_attackers.inverters import WienerFilter
from evaluation.image_attackers.base import Restoration, Validation, best, checked, thin
from evaluation.photos import Knowledge
from faces.families import Recogniser
from faces.protection import KnownBlur
from faces.samples import linear_to_srgb, srgb_to_linear

#: Factors on the noise variance that are tried: levels clip, shot noise and edges are no stationary noise.
NOISE_FACTORS = (1.0, 10.0, 100.0)

# Photographs whose spectrum is averaged: it is smooth, and their transforms are held at once.
_SCENES = 64

# Variance in linear light of rounding to 8-bit sRGB at mid grey, where the transfer curve has the slope .926.
_ROUNDING = (0.926 / 255) ** 2 / 12


def scaled_psf(psf: Tensor, width: float) -> Tensor:
    """A point-spread function (C, K, K) that is ``width`` times as wide and holds the same light.

    Bilinear between cells; the window grows with it and stays odd.
    """
    window = psf.shape[-1]
    side = window if width <= 1 else 2 * math.ceil((window * width - 1) / 2) + 1
    steps = (torch.arange(side, dtype=torch.float64, device=psf.device) - side // 2) / width
    line = 2 * (steps + window // 2 + 0.5) / window - 1
    grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1)[None].to(psf.dtype)
    wide = functional.grid_sample(psf[None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0]
    return wide * (psf.sum(dim=(-2, -1), keepdim=True) / wide.sum(dim=(-2, -1), keepdim=True))


class KnownPsf(Restoration):
    """Wiener filter with the known optics and the spectrum of the attacker's faces, then the published recogniser.

    How much noise to reckon with is chosen on validation people. For a monochrome camera the pictures of both sides
    become grey.

    Args:
        wrong: Relative error of the width of the point-spread function, which is taken for too wide.
        most: Validation probes that are tried.
    """

    level = "K3"
    control = "a mild blur without noise"

    def __init__(self, *, most: int, wrong: float = 0.0) -> None:
        self.wrong, self.most = wrong, most
        self.name = f"known-psf-wrong-{round(100 * wrong)}" if wrong else "known-psf"
        accuracy = f"takes their blur for {100 * wrong:.0f} % too wide" if wrong else "knows their blur exactly"
        self.knowledge = f"owns the optics and {accuracy}; Wiener filter, then the published recogniser"
        self.budget = f"one linear filter, {len(NOISE_FACTORS)} settings"

    def inapplicable(self, knowledge: Knowledge, recogniser: Recogniser) -> str | None:
        """Only optics can be inverted."""
        return "this protector has no optics to invert" if knowledge.blur is None else None

    def fit(self, recogniser: Recogniser, knowledge: Knowledge) -> None:
        """Build the filters and choose among them; see :meth:`ImageAttacker.fit`."""
        checked(knowledge)
        blur = knowledge.blur
        if blur is None:
            raise EvaluationError(f"{self.name} cannot be tried: this protector has no optics to invert; leave it out.")
        self._recogniser, self._grey = recogniser, blur.planes == 1
        scenes = knowledge.train.subset(thin(knowledge.train, _SCENES))
        filters = self._filters(blur, self._planes(scenes.faces.linear()))
        validation = Validation(knowledge, self.most)
        gallery = self.embed(validation.gallery, protected=False)

        def score(wiener: WienerFilter) -> tuple[float, float]:
            self._wiener = wiener
            return validation.score(gallery, self.embed(validation.probes, protected=True))

        self._wiener = best(filters, score)

    def _filters(self, blur: KnownBlur, scenes: Tensor) -> list[WienerFilter]:
        psf = blur.psf.to(scenes.device)
        psf = scaled_psf(psf, 1 + self.wrong) if self.wrong else psf
        psf = psf.mean(dim=0, keepdim=True) if self._grey else psf.expand(3, -1, -1)
        variance = blur.noise_sd**2 + _ROUNDING
        return [WienerFilter(psf, scenes.shape[-1], scenes, factor * variance) for factor in NOISE_FACTORS]

    def _planes(self, linear: Tensor) -> Tensor:
        return linear.mean(dim=1, keepdim=True) if self._grey else linear

    def restore(self, images: Tensor) -> Tensor:
        """Deconvolve in linear light; see :meth:`Restoration.restore`."""
        sharp = self._wiener(self._planes(srgb_to_linear(images)))
        return linear_to_srgb(sharp.clamp(0, 1)).expand(-1, 3, -1, -1)

    def clean(self, images: Tensor) -> Tensor:
        """Grey, if the camera is monochrome."""
        return linear_to_srgb(self._planes(srgb_to_linear(images))).expand(-1, 3, -1, -1)
