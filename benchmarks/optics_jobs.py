"""The jobs of ``benchmarks/optics.py``: their numbers, their inputs, and what plain torch makes of them.

A contestant yields ``(job, note, work)``; ``work()`` does the job once and returns its result, for jobs with a gradient
``(result, gradient)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import pi, sqrt
from typing import Any

import numpy as np
import torch

Entry = tuple[str, str, Callable[[], Any]]

# Everybody's units are made from these metres.
WAVE_M, FIELD_PITCH_M, DISTANCE_M = 550e-9, 4e-6, 20e-3
WAVES_M, INDEX = (620e-9, 540e-9, 460e-9), (0.4575, 0.4602, 0.4648)
DIAMETER_M, SENSOR_DISTANCE_M, POINT_PITCH_M, POINTS = 0.5e-3, 4e-3, 1.5e-6, 127
TERMS, PUPIL = 350, 256
DU_M = DIAMETER_M / PUPIL


@dataclass(frozen=True)
class Inputs:
    """What all contestants are given, in float64; each converts to its own type beforehand.

    Attributes:
        fields: Complex fields of 512 x 512 and 1024 x 1024 samples, by side.
        aperture: Share of each pupil cell inside the circle, (P, P).
        basis: The right Zernike terms, (350, P, P); the PSF job starts from them.
        coefficients_m: RMS heights, (350,).
        weights: Of the PSF values in the loss, (3, K, K).
        images: (16, 3, 128, 128).
        kernels: By side, (3, K, K).
        cotangent: Of the blurred images in the loss, (16, 3, 128, 128).
    """

    fields: dict[int, np.ndarray]
    aperture: np.ndarray
    basis: np.ndarray
    coefficients_m: np.ndarray
    weights: np.ndarray
    images: np.ndarray
    kernels: dict[int, np.ndarray]
    cotangent: np.ndarray


def psf_scale(wavelength_m: float) -> float:
    """Factor of the field sum that makes |U|^2 the share of the light at a point times the square of its pitch."""
    area = pi * DIAMETER_M**2 / 4
    return POINT_PITCH_M * DU_M**2 / (sqrt(area) * SENSOR_DISTANCE_M * wavelength_m)


def noll(j: int) -> tuple[int, int]:
    """Noll's (n, m), m < 0 for sines."""
    n = int((sqrt(8 * j - 7) - 1) / 2)
    place = j - 1 - n * (n + 1) // 2
    m = n % 2 + 2 * ((place + (n + 1) % 2) // 2)
    return n, m if j % 2 == 0 else -m


def disc(samples: int, quadrant: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Radius (1 at the rim, not beyond) and angle of the cells of a pupil, or of its quadrant x, y > 0."""
    axis = (torch.arange(samples, dtype=torch.float64) * 2 - samples + 1) / samples
    axis = axis[samples // 2 :] if quadrant else axis
    return torch.hypot(axis, axis[:, None]).clamp(max=1), torch.atan2(axis[:, None], axis)


def recurrence(rho: torch.Tensor, theta: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Noll terms by the Jacobi recurrence in float64, point by point: the plain way."""
    index = {noll(j): j - 1 for j in range(1, TERMS + 1)}
    n_max = max(n for n, _ in index)
    out = torch.empty(TERMS, *rho.shape, dtype=dtype)
    t, power = 2 * rho * rho - 1, torch.ones_like(rho)
    for m in range(n_max + 1):
        cosine, sine = torch.cos(m * theta), torch.sin(m * theta)
        older, current = torch.zeros_like(rho), power
        for k in range((n_max - m) // 2 + 1):
            n = m + 2 * k
            size = sqrt((n + 1) * (1 if m == 0 else 2))
            for sign, angular in ((1, cosine), (-1, sine)) if m else ((1, cosine),):
                if (n, sign * m) in index:
                    out[index[n, sign * m]] = (current * angular).mul_(size)
            a, b = (
                2 * (k + 1) * (k + m + 1) * (2 * k + m),
                (2 * k + m + 1) * (2 * k + m + 2) * (2 * k + m),
            )
            c, d = (2 * k + m + 1) * m * m, 2 * k * (k + m) * (2 * k + m + 2)
            following = power * (0.5 * ((m + 2) * t - m)) if k == 0 else ((b * t - c) * current - d * older) / a
            older, current = current, following
        power = power * rho
    return out


def transfer(samples: int, dtype: torch.dtype) -> torch.Tensor:
    """Carrier-free transfer function of free space on a padded grid, without cancellation."""
    f = torch.fft.fftfreq(samples, FIELD_PITCH_M, dtype=torch.float64)
    s = ((WAVE_M * f).square()[:, None] + (WAVE_M * f).square()).to(dtype)
    turns = s.div_(torch.sub(1, s).sqrt_().add_(1)).mul_(-DISTANCE_M / WAVE_M)
    phase = turns.sub_(turns.round()).mul_(2 * pi)
    return torch.complex(phase.cos(), phase.sin())


def fourier_matrices(dtype: torch.dtype) -> torch.Tensor:
    """Matrices (3, K, P) of the transform from pupil to points."""
    u = (torch.arange(PUPIL, dtype=torch.float64) - (PUPIL - 1) / 2) * DU_M
    x = (torch.arange(POINTS, dtype=torch.float64) - POINTS // 2) * POINT_PITCH_M
    rows = [
        torch.polar(
            torch.full((POINTS, PUPIL), sqrt(psf_scale(w)), dtype=torch.float64),
            -2 * pi * x[:, None] * u / (w * SENSOR_DISTANCE_M),
        )
        for w in WAVES_M
    ]
    return torch.stack(rows).to(torch.complex64 if dtype == torch.float32 else torch.complex128)


def tight(length: int) -> int:
    """Smallest length of factors 2, 3 and 5."""
    while True:
        rest = length
        for p in (2, 3, 5):
            while rest % p == 0:
                rest //= p
        if rest == 1:
            return length
        length += 1


def plain_torch(given: Inputs, dtype: torch.dtype = torch.float32) -> Iterator[Entry]:
    """The optimum that these jobs have in plain torch: kernels kept, quadrants, batched products, tight transforms."""
    complex_dtype = torch.complex64 if dtype == torch.float32 else torch.complex128

    for side in (512, 1024):
        field = torch.tensor(given.fields[side]).to(complex_dtype)
        h = transfer(2 * side, torch.float64).to(complex_dtype)

        def propagate(field: torch.Tensor = field, h: torch.Tensor = h, side: int = side) -> torch.Tensor:
            return torch.fft.ifft2(torch.fft.fft2(field, s=(2 * side, 2 * side)).mul_(h))[:side, :side]

        yield f"asm{side}", "kernel kept", propagate
        if side == 512:

            def cold(field: torch.Tensor = field) -> torch.Tensor:
                return propagate(field, transfer(1024, dtype), 512)

            yield "asm512 cold", "", cold

    # Terms by the parity of y and x: even or odd cosine or sine of even or odd m.
    rho, theta = disc(PUPIL, quadrant=True)
    kinds = [(n_m[1] < 0, (abs(n_m[1]) % 2 == 1) != (n_m[1] < 0)) for n_m in map(noll, range(1, TERMS + 1))]
    masks = [torch.tensor([kind == (y, x) for kind in kinds]) for y in (False, True) for x in (False, True)]
    terms = recurrence(rho, theta, dtype).flatten(1)
    classes = [terms[mask].contiguous() for mask in masks]
    places = [mask.nonzero().flatten() for mask in masks]
    matrices, amplitude = (
        fourier_matrices(dtype),
        torch.tensor(given.aperture).to(dtype),
    )
    right = matrices.mT.contiguous()
    per_metre = (
        (torch.tensor(INDEX, dtype=torch.float64) / torch.tensor(WAVES_M, dtype=torch.float64) * 2 * pi)
        .to(dtype)
        .reshape(3, 1, 1)
    )

    def psf(c: torch.Tensor) -> torch.Tensor:
        ee, eo, oe, oo = (c[place] @ part for place, part in zip(places, classes, strict=True))
        pp, pm, mp, mm = (
            v.unflatten(0, (PUPIL // 2, -1))
            for v in (
                ee + eo + oe + oo,
                ee - eo + oe - oo,
                ee + eo - oe - oo,
                ee - eo - oe + oo,
            )
        )
        height = torch.cat((torch.cat((mm.flip(0, 1), mp.flip(0)), 1), torch.cat((pm.flip(1), pp), 1)))
        phase = height * per_metre
        field = torch.complex(amplitude * phase.cos(), amplitude * phase.sin())
        u = matrices @ field @ right
        return u.real.square() + u.imag.square()

    coefficients = torch.tensor(given.coefficients_m).to(dtype).requires_grad_()
    weights = torch.tensor(given.weights).to(dtype)
    yield from torch_psf(psf, coefficients, weights, "quadrants, 3 batched GEMMs")

    def blur(images: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
        n, k = images.shape[-1], kernel.shape[-1]
        size = (tight(max(n + k // 2, k)),) * 2
        out = torch.fft.irfft2(torch.fft.rfft2(images, s=size) * torch.fft.rfft2(kernel, s=size), s=size)
        return out[..., k // 2 : k // 2 + n, k // 2 : k // 2 + n]

    yield from torch_blur(blur, given, dtype, "rfft2 of the tight size")
    yield "zernike cold", "recurrence", lambda: recurrence(*disc(PUPIL), dtype)


def torch_psf(psf: Callable[..., torch.Tensor], c: torch.Tensor, weights: torch.Tensor, note: str) -> Iterator[Entry]:
    """Both PSF jobs from a function of the coefficients."""

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return psf(c)

    def both() -> tuple[torch.Tensor, torch.Tensor]:
        result = psf(c)
        (gradient,) = torch.autograd.grad(result, c, weights)
        return result.detach(), gradient

    yield "psf", note, forward
    yield "psf f+b", note, both


def torch_blur(
    blur: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    given: Inputs,
    dtype: torch.dtype,
    note: str,
) -> Iterator[Entry]:
    """All convolution jobs from a function of images and kernels; the gradient is that of both."""
    images, cotangent = (
        torch.tensor(given.images).to(dtype),
        torch.tensor(given.cotangent).to(dtype),
    )
    for side, kernel in given.kernels.items():
        inputs = (
            images.clone().requires_grad_(),
            torch.tensor(kernel).to(dtype).requires_grad_(),
        )

        def forward(inputs: tuple[torch.Tensor, torch.Tensor] = inputs) -> torch.Tensor:
            with torch.no_grad():
                return blur(*inputs)

        def both(
            inputs: tuple[torch.Tensor, torch.Tensor] = inputs,
        ) -> tuple[torch.Tensor, torch.Tensor]:
            result = blur(*inputs)
            gradients = torch.autograd.grad(result, inputs, cotangent)
            return result.detach(), torch.cat([g.flatten() for g in gradients])

        yield f"conv{side}", note, forward
        yield f"conv{side} f+b", note, both
