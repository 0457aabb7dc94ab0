"""Pictures of masks, wavefronts, PSFs and MTFs, with units.

Each function returns a matplotlib ``Figure`` that belongs to no window or global state; :func:`save_figure` writes it.
Axes are in SI units with the prefix that suits the size; x right, y down, the axis at 0. The bar in a map has the round
length that is written above it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, isfinite, log10
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ground.files import writing
from optics.errors import OpticsError
from optics.imaging.mtf import ideal_mtf, psf_mtf
from optics.pupil import PupilGrid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PREFIX = {-12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k"}


def mask_figure(height_m: torch.Tensor, grid: PupilGrid) -> Figure:
    """Draw the height of a mask; cells outside the aperture stay empty.

    Args:
        height_m: Height in metres, shape (P, P).
        grid: Its pupil.
    """
    return _pupil_figure(height_m, grid, "height", "viridis", "height_m")


def wavefront_figure(path_m: torch.Tensor, grid: PupilGrid) -> Figure:
    """Draw a path error, colours symmetric about 0; red is late light. The title states the RMS about the mean.

    Args:
        path_m: Path error in metres, shape (P, P).
        grid: Its pupil.
    """
    figure = _pupil_figure(path_m, grid, "path error", "RdBu_r", "path_m")
    axes = figure.axes[0]
    weight = grid.amplitude / grid.amplitude.sum()
    values = path_m.detach().double().cpu()
    mean = (weight * values).sum()
    rms = float((weight * (values - mean) ** 2).sum().sqrt())
    scale, unit = _unit(rms)
    axes.set_title(f"RMS {rms / scale:.3g} {unit}")
    largest = max(abs(limit or 0.0) for limit in axes.images[0].get_clim())
    axes.images[0].set_clim(-largest, largest)
    return figure


def psf_figure(psf: torch.Tensor, pitch_m: float, *, decades: float = 5.0) -> Figure:
    """Draw the decimal logarithm of a PSF, from its maximum down by ``decades``.

    Args:
        psf: PSF of shape (K, K), shares of the transmitted light.
        pitch_m: Side of a cell in metres.
        decades: Range of the colours in powers of ten.
    """
    figure = _figure()
    axes = figure.add_subplot()
    _log_map(axes, _plane("psf", psf), pitch_m, decades, colour_bar=True)
    axes.set_title(f"PSF, {decades:g} decades")
    return figure


def through_focus_figure(
    psfs: torch.Tensor, distances_m: Sequence[float], pitch_m: float, *, decades: float = 4.0
) -> Figure:
    """Draw PSFs at several object distances side by side, on one logarithmic scale.

    Args:
        psfs: PSFs of shape (B, K, K).
        distances_m: Object distance of each in metres, B values.
        pitch_m: Side of a cell in metres.
        decades: Range of the colours in powers of ten.
    """
    if psfs.ndim != 3 or len(psfs) != len(distances_m):
        raise OpticsError(
            f"psfs has shape {tuple(psfs.shape)} for {len(distances_m)} distances_m; pass (B, K, K) and B."
        )
    planes = [_plane("psfs", psf) for psf in psfs]
    top = max(float(plane.max()) for plane in planes)
    figure = _figure(width=2.2 * len(planes) + 1.2, height=2.9)
    row = figure.subplots(1, len(planes), squeeze=False)[0]
    for place, (axes, plane, distance) in enumerate(zip(row, planes, distances_m, strict=True)):
        image = _log_map(axes, plane, pitch_m, decades, top=top)
        axes.set_title(quantity(distance))
        if place:
            axes.set_ylabel("")
            axes.tick_params(labelleft=False)
    figure.colorbar(image, ax=list(row), label=_SHARE)
    return figure


def mtf_figure(psf: torch.Tensor, pitch_m: float, wavelength_m: float, f_number: float) -> Figure:
    """Draw the MTF along x and y with that of the ideal lens with a circular pupil.

    Args:
        psf: PSF of shape (K, K), shares of the transmitted light.
        pitch_m: Distance of its cells or points in metres.
        wavelength_m: Vacuum wavelength in metres.
        f_number: Distance of the sensor over the diameter of the pupil.
    """
    curves = psf_mtf(torch.from_numpy(_plane("psf", psf)), pitch_m)
    per_mm = (curves.frequency_per_m * 1e-3).numpy()
    figure = _figure()
    axes = figure.add_subplot()
    axes.plot(per_mm, curves.x.numpy(), label="along x")
    axes.plot(per_mm, curves.y.numpy(), label="along y", linestyle="--")
    ideal = ideal_mtf(curves.frequency_per_m, wavelength_m, f_number)
    axes.plot(per_mm, ideal.numpy(), label="diffraction limit", color="0.5", linestyle=":")
    axes.set(xlabel="spatial frequency on the sensor (cycles/mm)", ylabel="MTF", ylim=(0, 1.02))
    axes.set_xlim(0, min(float(per_mm[-1]), 1.05e-3 / (wavelength_m * f_number)))
    axes.legend()
    return figure


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure as PNG, SVG or PDF, by the suffix, whole or not at all; an existing file is replaced.

    Raises:
        OpticsError: The suffix is another.
    """
    path = Path(path)
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise OpticsError(f"path={str(path)!r} must end in .png, .svg or .pdf.")
    with writing(path, replace=True) as temporary:
        figure.savefig(temporary, dpi=200, format=path.suffix[1:])


def quantity(length_m: float) -> str:
    """Return a length with a fitting prefix, such as ``50 µm``."""
    scale, unit = _unit(length_m)
    return f"{length_m / scale:.4g} {unit}"


_SHARE = "log10 of the share of light per cell"


def _unit(size_m: float) -> tuple[float, str]:
    """Return metres per unit and the unit in which a size has one to three digits before the point."""
    if not (isfinite(size_m) and size_m != 0):
        return 1.0, "m"
    # The small share keeps 1e-3 from falling to 1000 µm by rounding.
    exponent = min(max(3 * floor((log10(abs(size_m)) + 1e-9) / 3), -12), 3)
    return 10.0**exponent, f"{_PREFIX[exponent]}m"


def _figure(width: float = 5.2, height: float = 4.2) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="compressed")


def _plane(name: str, values: torch.Tensor) -> np.ndarray:
    array: np.ndarray = values.detach().double().cpu().numpy()
    if array.ndim != 2 or array.shape[0] != array.shape[1]:
        raise OpticsError(f"{name} has shape {tuple(values.shape)}; pass one square map.")
    if not np.isfinite(array).all():
        raise OpticsError(f"{name} holds values that are not finite; replace them.")
    return array


def _map(axes: Axes, array: np.ndarray, pitch_m: float, **style: Any) -> Any:
    """Draw an array in true scale with axes in SI units and a bar of a round length."""
    if not (isfinite(pitch_m) and pitch_m > 0):
        raise OpticsError(f"pitch_m={pitch_m} must be a positive length in metres.")
    side = len(array) * pitch_m
    scale, unit = _unit(side)
    half = side / 2 / scale
    image = axes.imshow(array, extent=(-half, half, half, -half), interpolation="nearest", **style)
    axes.set(xlabel=f"x ({unit})", ylabel=f"y ({unit})")
    _scale_bar(axes, half, scale)
    return image


def _scale_bar(axes: Axes, half: float, scale: float) -> None:
    """A bar of 1, 2 or 5 times a power of ten, at most a third of the width, at the lower left."""
    from matplotlib.patches import Rectangle

    limit = 2 * half / 3
    power = 10.0 ** floor(log10(limit))
    length = next(f for f in (5, 2, 1) if f * power <= limit * (1 + 1e-9)) * power
    left, bottom = -0.92 * half, 0.92 * half
    bar = Rectangle((left, bottom), length, -0.03 * half, facecolor="white", edgecolor="black", linewidth=0.5)
    bar.set_gid("scale-bar")
    axes.add_patch(bar)
    box = {"facecolor": "black", "alpha": 0.5, "edgecolor": "none", "pad": 1.5}
    text = axes.text(
        left + length / 2,
        bottom - 0.07 * half,
        quantity(length * scale),
        color="white",
        ha="center",
        va="bottom",
        bbox=box,
    )
    text.set_gid("scale-text")


def _log_map(
    axes: Axes, psf: np.ndarray, pitch_m: float, decades: float, *, top: float | None = None, colour_bar: bool = False
) -> Any:
    if not (isfinite(decades) and decades > 0):
        raise OpticsError(f"decades={decades} must be positive.")
    peak = float(psf.max()) if top is None else top
    if not peak > 0:
        raise OpticsError("the PSF holds no light; check the mask and the window.")
    # Cells without light take the lower end, not minus infinity.
    floor_value = peak * 10.0**-decades
    values = np.log10(np.where(psf > 0, psf, floor_value))
    image = _map(axes, values, pitch_m, cmap="inferno", vmin=log10(floor_value), vmax=log10(peak))
    if colour_bar:
        axes.figure.colorbar(image, ax=axes, label=_SHARE)
    return image


def _pupil_figure(values_m: torch.Tensor, grid: PupilGrid, label: str, colours: str, name: str) -> Figure:
    array = _plane(name, values_m)
    if len(array) != grid.samples:
        raise OpticsError(f"{name} has shape {array.shape}; this pupil needs ({grid.samples}, {grid.samples}).")
    inside = grid.amplitude.numpy() > 0
    scale, unit = _unit(float(np.abs(array[inside]).max()))
    shown = np.ma.masked_array(array / scale, ~inside)
    figure = _figure()
    axes = figure.add_subplot()
    image = _map(axes, shown, grid.pitch_m, cmap=colours)
    figure.colorbar(image, ax=axes, label=f"{label} ({unit})")
    return figure
