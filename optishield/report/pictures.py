"""Raster pictures for the report: small PNGs inside SVG, so that pixels stay square and overlays stay sharp.

Every function returns a complete ``<svg>`` element. Colours of lines and text are CSS variables of the page, which
lets one picture serve light, dark and paper.
"""

from __future__ import annotations

import base64
import io
import math

import numpy as np
import torch
from markupsafe import Markup
from matplotlib import colormaps
from matplotlib.colors import LightSource, LinearSegmentedColormap
from matplotlib.image import imsave
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, map_coordinates

from faces.samples import linear_to_srgb
from optishield.errors import OptiShieldError

Array = NDArray[np.floating]

#: Strokes of the iBUG-68 drawing: (first, last, closed).
STROKES = (
    (0, 16, False), (17, 21, False), (22, 26, False), (27, 30, False), (31, 35, False),
    (36, 41, True), (42, 47, True), (48, 59, True), (60, 67, True),
)  # fmt: skip

SURFACE_MAP = LinearSegmentedColormap.from_list("relief", ["#0b1030", "#22338f", "#6476d6", "#bcc4f0", "#f7f4ec"])
GLOW = np.array([0.42, 0.52, 1.0])
LIGHT_MAP = colormaps["magma"]


def png_uri(pixels: NDArray[np.generic]) -> str:
    """Data address of an image: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) with values 0..1 (clipped)."""
    image = np.asarray(pixels, dtype=np.float64)
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4):
        raise OptiShieldError(f"a picture for the report has shape {image.shape}; it must be H x W x 1, 3 or 4.")
    if image.shape[2] == 1:
        image = np.repeat(image, 3, axis=2)
    buffer = io.BytesIO()
    coded = np.round(np.clip(np.nan_to_num(image), 0, 1) * 255).astype(np.uint8)
    imsave(buffer, coded, format="png", metadata={"Software": ""})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def svg(width: float, height: float, body: str, label: str, kind: str = "raster") -> Markup:
    """A picture of so many pixels: SVG elements in their coordinates, with a label for readers who cannot see it."""
    # Pixel centres lie at whole numbers, so the picture begins at -0.5.
    head = Markup('<svg class="{}" viewBox="-0.5 -0.5 {:g} {:g}" role="img" aria-label="{}">')
    return Markup(head.format(kind, width, height, label) + Markup(body) + Markup("</svg>"))


def image(pixels: NDArray[np.generic], x: float, y: float, width: float, height: float, smooth: bool = False) -> str:
    """An SVG element that shows pixels, see :func:`png_uri`, over a rectangle of the picture."""
    style = "" if smooth else ' style="image-rendering:pixelated"'
    return (
        f'<image x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" preserveAspectRatio="none"{style} '
        f'href="{png_uri(pixels)}"/>'
    )


def photo(pixels: NDArray[np.generic], label: str) -> Markup:
    """A frame as it is: (H, W) or (H, W, C), display values 0..1."""
    height, width = np.shape(pixels)[:2]
    return svg(width, height, image(pixels, -0.5, -0.5, width, height), label)


def display(linear: NDArray[np.generic]) -> NDArray[np.float64]:
    """Linear light 0..1 to display values 0..1 (sRGB curve)."""
    light = torch.from_numpy(np.clip(np.asarray(linear, dtype=np.float64), 0.0, 1.0))
    return np.asarray(linear_to_srgb(light).numpy())


def _strokes(points: Array, kind: str, size: float) -> str:
    """Outlines of the face through 68 points; a few points alone make no outline and become crosses of ``size``."""
    if len(points) != STROKES[-1][1] + 1:
        arms = (f"M{x - size:.2f},{y:.2f}h{2 * size:.2f}M{x:.2f},{y - size:.2f}v{2 * size:.2f}" for x, y in points)
        return f'<path class="{kind}" d="{"".join(arms)}"/>'
    lines = []
    for first, last, closed in STROKES:
        run = " ".join(f"{x:.2f},{y:.2f}" for x, y in points[first : last + 1])
        lines.append(f'<{"polygon" if closed else "polyline"} class="{kind}" points="{run}"/>')
    return "".join(lines)


def landmark_picture(
    scene: NDArray[np.generic], label: str, *, true: Array | None = None, found: Array | None = None,
    heatmap: Array | None = None, marks: str = "",
) -> Markup:  # fmt: skip
    """Scene (S, S, 3), display values, dimmed under the heatmap (h, w), SVG marks, and the drawn landmarks (K, 2)."""
    height, width = scene.shape[:2]
    body = image(scene, -0.5, -0.5, width, height)
    if heatmap is not None:
        body += f'<rect x="-0.5" y="-0.5" width="{width}" height="{height}" fill="#000" opacity=".45"/>'
        peak = float(np.nanmax(heatmap)) or 1.0
        level = np.clip(np.nan_to_num(np.asarray(heatmap, dtype=np.float64)) / peak, 0, 1)
        glow = np.concatenate([np.broadcast_to(GLOW, (*level.shape, 3)), 0.9 * level[..., None] ** 0.8], axis=2)
        body += image(glow, -0.5, -0.5, width, height, smooth=True)
    body += marks
    if true is not None:
        body += _strokes(true, "lm-true", width / 22)
    if found is not None:
        body += _strokes(found, "lm-found", width / 40)
        radius = width / 170
        body += "".join(f'<circle class="lm-dot" cx="{x:.2f}" cy="{y:.2f}" r="{radius:.2f}"/>' for x, y in found)
    return svg(width, height, body, label)


def nice_length(span: float) -> float:
    """Largest 1, 2 or 5 times a power of ten within ``span``."""
    power = 10.0 ** math.floor(math.log10(span))
    return max(step * power for step in (1, 2, 5) if step * power <= span * (1 + 1e-9))


def length_text(length_m: float) -> str:
    """A length with the unit that suits it."""
    for unit, size in (("m", 1.0), ("mm", 1e-3), ("µm", 1e-6)):
        if abs(length_m) >= size * 0.999:
            return f"{length_m / size:.4g} {unit}"
    return f"{length_m / 1e-9:.4g} nm"


def _scale_bar(x: float, y: float, pixel_m: float, span_px: float, size: float, kind: str = "bar") -> str:
    length = nice_length(span_px * pixel_m)
    width = length / pixel_m
    return (
        f'<line class="{kind}" x1="{x:g}" x2="{x + width:g}" y1="{y:g}" y2="{y:g}" stroke-width="{size * 0.16:g}"/>'
        f'<text class="{kind}-text" x="{x + width / 2:g}" y="{y - size * 0.45:g}" font-size="{size:g}" '
        f'text-anchor="middle">{length_text(length)}</text>'
    )


def aperture(height_m: Array) -> NDArray[np.bool_]:
    """Where the mask lies: finite values inside the circle that the array just holds."""
    rows, columns = height_m.shape
    y = (np.arange(rows) + 0.5) / rows * 2 - 1
    x = (np.arange(columns) + 0.5) / columns * 2 - 1
    return np.asarray((x[None, :] ** 2 + y[:, None] ** 2 <= 1.0) & np.isfinite(height_m))


def mask_surface(height_m: Array, pupil_diameter_m: float | None, *, bare: bool = False, grid: int = 640) -> Markup:
    """Mask height as a lit surface with colour bar and scale bar (left away when ``bare``).

    Args:
        height_m: (P, P) over the square around the pupil.
        pupil_diameter_m: side of that square.
        bare: surface only.
        grid: pixels across the picture of the surface.
    """
    height = np.asarray(height_m, dtype=np.float64)
    if height.ndim != 2:
        raise OptiShieldError(f"mask_height_m has shape {height.shape}; it must be a table of heights.")
    inside = aperture(height)
    low, high = float(height[inside].min()), float(height[inside].max())
    level = np.where(inside, (height - low) / ((high - low) or 1.0), 0.0)
    # Beyond the rim the nearest height goes on, so that smoothing does not draw a false edge.
    near = distance_transform_edt(~inside, return_distances=False, return_indices=True)
    level = level[tuple(near)]
    side = 400
    rows, columns = ((np.arange(grid) + 0.5) / grid * count - 0.5 for count in level.shape)
    fine = map_coordinates(level, np.meshgrid(rows, columns, indexing="ij"), order=1, mode="nearest")
    radius = np.hypot(*np.meshgrid(*[(np.arange(grid) + 0.5) / grid * 2 - 1] * 2))
    # The relief is lit as if it were a ninth of its width high; real relief is far too flat to see.
    colour = SURFACE_MAP(fine)[..., :3]
    colour = LightSource(315, 45).shade_rgb(colour, fine, vert_exag=grid / 9, blend_mode="soft")
    edge = np.clip((1 - radius) * grid / 2 + 0.5, 0, 1)
    colour = np.concatenate([colour, edge[..., None]], axis=2)
    middle = side / 2 - 0.5
    body = image(colour, -0.5, -0.5, side, side, smooth=True)
    body += f'<circle class="rim" cx="{middle}" cy="{middle}" r="{side / 2 - 0.5}"/>'
    if bare:
        return svg(side, side, body, "Height map of the phase mask", "raster plain")
    ramp = SURFACE_MAP(np.linspace(1, 0, 128))[:, None]
    body += image(ramp, side + 34, 40, 12, side - 80, smooth=True)
    for share in (0.0, 0.5, 1.0):
        at = side - 40 - share * (side - 80)
        mark = f"{share * (high - low) * 1e6:.2f}"
        body += f'<text class="axis" x="{side + 54}" y="{at + 4.5:g}" font-size="13">{mark}</text>'
    body += f'<text class="axis" x="{side + 34}" y="24" font-size="13">height, µm</text>'
    if pupil_diameter_m:
        body += _scale_bar(0, side + 34, pupil_diameter_m / side, side * 0.3, 13, "bar-ink")
    return svg(side + 110, side + 46, body, "Height map of the phase mask with colour bar", "raster plain")


def window(psf: Array, share: float = 0.97, margin: float = 1.2) -> int:
    """Half side, in pixels, of the centred square that holds ``share`` of the energy of (L, K, K), plus a margin."""
    total = np.asarray(psf, dtype=np.float64).sum(axis=0)
    middle = np.array(total.shape) // 2
    rows, columns = np.indices(total.shape)
    ring = np.maximum(abs(rows - middle[0]), abs(columns - middle[1]))
    energy = np.cumsum(np.bincount(ring.ravel(), total.ravel()))
    half = int(np.searchsorted(energy, share * energy[-1]))
    return int(min(max(math.ceil(half * margin), 6), min(total.shape) // 2))


def psf_picture(psf: Array, pitch_m: float | None, half: int, *, log: bool, label: str) -> Markup:
    """One point-spread function (K, K), cropped to ``half`` pixels around its centre.

    Args:
        psf: any scale; shown relative to its peak.
        pitch_m: sampling.
        half: see :func:`window`.
        log: four decades below the peak instead of linear values.
        label: for readers who cannot see it.
    """
    row, column = psf.shape[0] // 2, psf.shape[1] // 2
    cut = np.asarray(psf, dtype=np.float64)[
        max(row - half, 0) : row + half + 1, max(column - half, 0) : column + half + 1
    ]
    cut = cut / (cut.max() or 1.0)
    level = 1 + np.log10(np.maximum(cut, 1e-4)) / 4 if log else cut
    side = float(cut.shape[0])
    body = image(LIGHT_MAP(level), -0.5, -0.5, cut.shape[1], side)
    if pitch_m:
        size = side / 15
        body += _scale_bar(side * 0.06 - 0.5, side * 0.93 - 0.5, pitch_m, side * 0.32, size)
    return svg(cut.shape[1], side, body, label)


def otf_picture(psf: Array, label: str) -> Markup:
    """Magnitude of the transfer function of one PSF (K, K), zero frequency in the middle, square-root grey scale."""
    transfer = np.abs(np.fft.fftshift(np.fft.fft2(psf / psf.sum())))
    side = transfer.shape[0]
    body = image(LIGHT_MAP(np.sqrt(np.clip(transfer, 0, 1))), -0.5, -0.5, transfer.shape[1], side)
    return svg(transfer.shape[1], side, body, label)


def wavelength_colour(wavelength_m: float) -> str:
    """A screen colour that stands for a wavelength (piecewise-linear hues; a label, not colorimetry)."""
    stops = [400, 440, 490, 510, 580, 645, 700]
    red = np.interp(wavelength_m * 1e9, stops, [0.45, 0.2, 0.0, 0.1, 0.85, 0.85, 0.6])
    green = np.interp(wavelength_m * 1e9, stops, [0.1, 0.3, 0.65, 0.65, 0.65, 0.2, 0.1])
    blue = np.interp(wavelength_m * 1e9, stops, [0.75, 0.9, 0.75, 0.25, 0.05, 0.15, 0.1])
    return f"rgb({red:.0%} {green:.0%} {blue:.0%})"
