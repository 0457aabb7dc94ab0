"""What the optics alone let through: a model-based upper limit for protectors that are a known blur with noise."""

from __future__ import annotations

import torch

from evaluation.errors import EvaluationError
from evaluation.limits.information import Certificate, stationary_bits
from evaluation.matrix.jobs import Site, known_blur
from evaluation.records import CertificateFacts
from faces.protection import KnownBlur
from faces.samples import srgb_to_linear

ASSUMPTIONS = (
    "Faces are a stationary Gaussian field with the spectrum of the attacker's own clean photographs (estimated, so a "
    "plug-in value and no bound), the optics are the linear blur that the protector declares, and its noise is white "
    "and Gaussian with the declared standard deviation at mid grey."
)


def certify(site: Site, protector: str, people: int, frames: int) -> CertificateFacts | None:
    """The certificate of a protector, or None if it declares no optics.

    Args:
        site: Where everything of the run lies.
        protector: Name with settings.
        people: M, the people in the gallery of the test.
        frames: T, the most frames that an attacker averages.
    """
    blur = known_blur(site.folder, protector)
    if blur is None:
        return None
    light = srgb_to_linear(site.part("train").photos.images().double())
    bits = channel_bits(light, blur, frames)
    noise = f"Gaussian, sd {blur.noise_sd:.3g} of white in linear light, {blur.planes} plane(s)"
    certificate = Certificate.of_bits(bits, people, frames, noise=noise, assumptions=ASSUMPTIONS)
    return CertificateFacts(**certificate.to_dict())


def channel_bits(light: torch.Tensor, blur: KnownBlur, frames: int) -> float:
    """Information in bits that so many frames of blurred, noisy scenes hold about the scene.

    Args:
        light: Clean scenes (N, 3, S, S) in linear light.
        blur: The optics; a monochrome camera sees the mean of the channels.
        frames: T, the frames that are averaged.

    Raises:
        EvaluationError: The blur is larger than the scenes.
    """
    scenes = light if blur.planes == 3 else light.mean(dim=1, keepdim=True)
    side = scenes.shape[-1]
    deviation = scenes - scenes.mean(dim=0)
    spectrum = torch.fft.fft2(deviation).abs().square().mean(dim=0) / (side * side)
    if blur.psf.shape[-1] > side:
        raise EvaluationError(
            f"the point-spread function of {blur.psf.shape[-1]} pixels is larger than photographs of {side}; cut it."
        )
    otf = torch.fft.fft2(blur.psf.double(), s=(side, side))
    return float(stationary_bits(otf, spectrum, blur.noise_sd**2, frames))
