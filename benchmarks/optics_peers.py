"""The jobs of ``benchmarks/optics.py`` done by other packages, each as its own manual says.

Every peer is a function that imports its package and yields the jobs that it can do. What a peer may prepare once, it
prepares; each is given metres and makes its own units of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import pi, sqrt
from typing import Any

import numpy as np
import torch

from benchmarks.optics_jobs import (
    DIAMETER_M,
    DISTANCE_M,
    DU_M,
    FIELD_PITCH_M,
    INDEX,
    POINT_PITCH_M,
    POINTS,
    PUPIL,
    SENSOR_DISTANCE_M,
    TERMS,
    WAVE_M,
    WAVES_M,
    Entry,
    Inputs,
    disc,
    noll,
    psf_scale,
    torch_blur,
)


def torchoptics(given: Inputs) -> Iterator[Entry]:
    """Angular spectrum and convolution (its only far field is a resampled direct integral)."""
    from torchoptics import Field
    from torchoptics.functional import conv2d_fft
    from torchoptics.profiles import zernike

    for side in (512, 1024):
        for dtype in (torch.complex64, torch.complex128):
            data = torch.tensor(given.fields[side]).to(dtype)
            field = Field(data, WAVE_M, spacing=FIELD_PITCH_M)

            def propagate(field: Field = field, side: int = side) -> torch.Tensor:
                return field.propagate_to_z(DISTANCE_M, propagation_method="ASM", asm_pad=(side // 2, side // 2)).data

            note = str(dtype).removeprefix("torch.")
            yield f"asm{side}", f"{note}, never kept", propagate
            if side == 512:
                yield "asm512 cold", note, propagate

    def blur(images: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
        half = kernel.shape[-1] // 2
        return conv2d_fft(torch.nn.functional.pad(images, (half,) * 4), kernel).real

    yield from torch_blur(blur, given, torch.float32, "complex transforms")

    def basis() -> torch.Tensor:
        out = []
        for j in range(1, TERMS + 1):
            n, m = noll(j)
            # Its first axis is x, and its terms have unit height.
            plane = zernike((PUPIL, PUPIL), n, m, DIAMETER_M / 2, spacing=DU_M).mT
            out.append(plane * sqrt((n + 1) * (1 if m == 0 else 2)))
        return torch.stack(out)

    yield "zernike cold", "float64", basis


def prysm(given: Inputs) -> Iterator[Entry]:
    """Far field, paraxial free space and Zernike terms, 32 bits."""
    from prysm.conf import config
    from prysm.polynomials import noll_to_nm, sum_of_2d_modes, zernike_nm_sequence
    from prysm.propagation import (
        Wavefront,
        angular_spectrum,
        angular_spectrum_transfer_function,
    )

    config.precision = 32
    for side in (512, 1024):
        field = given.fields[side].astype(np.complex64)
        tf = angular_spectrum_transfer_function(2 * side, WAVE_M * 1e6, FIELD_PITCH_M * 1e3, DISTANCE_M * 1e3)
        tf = tf.astype(np.complex64)

        def propagate(field: np.ndarray = field, tf: np.ndarray = tf, side: int = side) -> np.ndarray:
            return angular_spectrum(np.pad(field, (0, side)), 0, 0, 0, Q=1, tf=tf)[:side, :side]

        yield f"asm{side}", "paraxial, kernel kept", propagate

    basis, amplitude = given.basis.astype(np.float32), given.aperture.astype(np.float32)
    coefficients = given.coefficients_m.astype(np.float32)
    # Its transform carries 1 / (P Q), and its field no aperture area.
    scales = [psf_scale(w) * PUPIL * (w * SENSOR_DISTANCE_M / (DIAMETER_M * POINT_PITCH_M)) for w in WAVES_M]

    def psf() -> np.ndarray:
        height = sum_of_2d_modes(basis, coefficients)
        out = []
        for wave, index, scale in zip(WAVES_M, INDEX, scales, strict=True):
            pupil = Wavefront.from_amp_and_phase(amplitude, height * np.float32(index * 1e9), wave * 1e6, DU_M * 1e3)
            points = pupil.focus_fixed_sampling(SENSOR_DISTANCE_M * 1e3, POINT_PITCH_M * 1e6, POINTS)
            out.append(points.intensity.data * np.float32(scale**2))
        return np.stack(out)

    yield "psf", "32 bits", psf

    def terms() -> np.ndarray:
        rho, theta = (v.numpy().astype(np.float32) for v in disc(PUPIL))
        pairs = [noll_to_nm(j) for j in range(1, TERMS + 1)]
        return np.stack(list(zernike_nm_sequence(pairs, rho, theta)))

    yield "zernike cold", "32 bits", terms


def hcipy(given: Inputs) -> Iterator[Entry]:
    """Free space, far field and Zernike terms; no gradients."""
    from hcipy import (
        AngularSpectrumPropagator,
        Field,
        FraunhoferPropagator,
        ModeBasis,
        Wavefront,
        make_pupil_grid,
        make_uniform_grid,
        make_zernike_basis,
    )

    for side in (512, 1024):
        grid = make_pupil_grid(side, side * FIELD_PITCH_M)
        wavefront = Wavefront(Field(given.fields[side].astype(np.complex64).ravel(), grid), WAVE_M)
        free = AngularSpectrumPropagator(grid, DISTANCE_M)

        def propagate(wavefront: Any = wavefront, free: Any = free, side: int = side) -> np.ndarray:
            return np.asarray(free(wavefront).electric_field).reshape(side, side)

        yield f"asm{side}", "kernel kept", propagate

    grid = make_pupil_grid(PUPIL, DIAMETER_M)
    points = make_uniform_grid([POINTS, POINTS], [POINTS * POINT_PITCH_M] * 2)
    lens = FraunhoferPropagator(grid, points, focal_length=SENSOR_DISTANCE_M)
    modes = ModeBasis(given.basis.reshape(TERMS, -1).T, grid)
    amplitude = Field(given.aperture.ravel(), grid)
    scale = POINT_PITCH_M**2 / (pi * DIAMETER_M**2 / 4)

    def psf() -> np.ndarray:
        height = modes.linear_combination(given.coefficients_m)
        out = []
        for wave, index in zip(WAVES_M, INDEX, strict=True):
            pupil = Wavefront(Field(amplitude * np.exp(2j * pi * index / wave * height), grid), wave)
            out.append(np.asarray(lens(pupil).intensity).reshape(POINTS, POINTS) * scale)
        return np.stack(out)

    yield "psf", "float64", psf

    def terms() -> np.ndarray:
        basis = make_zernike_basis(TERMS, DIAMETER_M, grid, radial_cutoff=False)
        return np.asarray(basis.transformation_matrix).T.reshape(TERMS, PUPIL, PUPIL)

    yield "zernike cold", "float64", terms


def poppy(given: Inputs) -> Iterator[Entry]:
    """Far field by its matrix transform, and Zernike terms; no gradients."""
    from poppy.matrixDFT import MatrixFourierTransform
    from poppy.zernike import zernike_basis

    transform = MatrixFourierTransform(centering="ADJUSTABLE")
    basis = given.basis.reshape(TERMS, -1)
    widths = [POINTS * POINT_PITCH_M * DIAMETER_M / (w * SENSOR_DISTANCE_M) for w in WAVES_M]
    # Its transform carries nlamD / (P K), and turns the picture by half a turn.
    scales = [psf_scale(w) * PUPIL * POINTS / width for w, width in zip(WAVES_M, widths, strict=True)]

    def psf() -> np.ndarray:
        height = (given.coefficients_m @ basis).reshape(PUPIL, PUPIL)
        out = []
        for wave, index, width, scale in zip(WAVES_M, INDEX, widths, scales, strict=True):
            field = given.aperture * np.exp(2j * pi * index / wave * height)
            out.append(np.abs(transform.perform(field, width, POINTS)[::-1, ::-1] * scale) ** 2)
        return np.stack(out)

    yield "psf", "float64", psf
    rho, theta = (v.numpy() for v in disc(PUPIL))
    yield (
        "zernike cold",
        "float64",
        lambda: zernike_basis(TERMS, PUPIL, rho=rho, theta=theta, outside=0.0),
    )


def dlux(given: Inputs) -> Iterator[Entry]:
    """Far field with gradient, compiled, and Zernike terms; float32."""
    import dLux.utils as dlu
    import jax
    import jax.numpy as jnp

    basis, amplitude = (
        jnp.asarray(given.basis, jnp.float32),
        jnp.asarray(given.aperture, jnp.float32),
    )
    c, weights = (
        jnp.asarray(given.coefficients_m, jnp.float32),
        jnp.asarray(given.weights, jnp.float32),
    )
    wave, index = jnp.asarray(WAVES_M, jnp.float32), jnp.asarray(INDEX, jnp.float32)
    # Its transform carries the window in fringes over P K.
    fringes = [POINTS * POINT_PITCH_M * DIAMETER_M / (w * SENSOR_DISTANCE_M) for w in WAVES_M]
    scale = jnp.asarray([psf_scale(w) * PUPIL * POINTS / f for w, f in zip(WAVES_M, fringes, strict=True)])

    def psf(c: Any) -> Any:
        height = dlu.eval_basis(basis, c)

        def one(wave: Any, index: Any, scale: Any) -> Any:
            field = amplitude * jnp.exp(2j * pi * index / wave * height)
            u = dlu.MFT(field, wave, DU_M, POINTS, POINT_PITCH_M, SENSOR_DISTANCE_M) * scale
            return u.real**2 + u.imag**2

        return jax.vmap(one)(wave, index, scale)

    def loss(c: Any) -> Any:
        result = psf(c)
        return (result * weights).sum(), result

    forward, both = jax.jit(psf), jax.jit(jax.value_and_grad(loss, has_aux=True))

    def forward_and_back() -> tuple[Any, Any]:
        (_, result), gradient = both(c)
        return result.block_until_ready(), gradient.block_until_ready()

    yield "psf", "compiled", lambda: forward(c).block_until_ready()
    yield "psf f+b", "compiled", forward_and_back
    coordinates = dlu.pixel_coords(PUPIL, 2.0)
    yield (
        "zernike cold",
        "",
        lambda: dlu.zernike_basis(list(range(1, TERMS + 1)), coordinates).block_until_ready(),
    )


def deepinv(given: Inputs) -> Iterator[Entry]:
    """Convolution."""
    from deepinv.physics.functional import conv2d_fft

    yield from torch_blur(
        lambda x, k: conv2d_fft(x, k[None], padding="constant"),
        given,
        torch.float32,
        "",
    )


def scipy(given: Inputs) -> Iterator[Entry]:
    """Convolution, without gradient."""
    from scipy.signal import fftconvolve

    images = given.images.astype(np.float32)
    for side, kernel in given.kernels.items():
        k = kernel.astype(np.float32)[None]

        def convolved(k: np.ndarray = k) -> Any:
            return fftconvolve(images, k, mode="same", axes=(-2, -1))

        yield f"conv{side}", "", convolved


PEERS: dict[str, Callable[[Inputs], Iterator[Entry]]] = {
    "torchoptics": torchoptics,
    "prysm": prysm,
    "hcipy": hcipy,
    "poppy": poppy,
    "dLux": dlux,
    "deepinv": deepinv,
    "scipy": scipy,
}
