"""The light of an array of tiles: a mask and a lens each, side by side in front of one sensor, all seeing one window.

Arrays are [y, x], PSFs are shares of the light of a tile, scenes are linear light with 1 = white; SI units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from optics import OpticsError, PhaseMask, PupilToPsf
from optics.fft import fast_length, irfft2, rfft2
from sim.camera import Geometry


@dataclass(frozen=True)
class TileArray:
    """Where the tiles stand, which decides how far their images move apart when the distance changes.

    Attributes:
        columns: Tiles in a row of the array.
        pitch_m: Distance between the centres of neighbouring tiles in metres.
        errors_m: Errors of mounting: how far (x, y) in metres the image of each tile lies beside its place; () is none.
    """

    columns: int
    pitch_m: float
    errors_m: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if self.columns < 1 or not self.pitch_m > 0:
            raise OpticsError(
                f"columns={self.columns} and pitch_m={self.pitch_m} make no array; both must be positive."
            )

    def centres_m(self, tiles: int) -> Tensor:
        """Centres (T, 2) of the tiles (x, y), float64, about the middle of the array; filled row by row."""
        number = torch.arange(tiles, dtype=torch.float64, device="cpu")
        rows = -(-tiles // self.columns)
        x = number % self.columns - (min(tiles, self.columns) - 1) / 2
        y = torch.div(number, self.columns, rounding_mode="floor") - (rows - 1) / 2
        return torch.stack([x, y], -1) * self.pitch_m

    def parallax_m(self, tiles: int, geometry: Geometry) -> Tensor:
        """How far (T, 2) the image of each tile is moved against a scene at the distance that the lens is focused on.

        A tile at the place B sees a point on the axis of the array at the angle B / z, so its image moves by
        ``d B (1 / z - 1 / z0)`` against the place that the chip was aligned for at z0. The images are upright, as all
        images of this package are.
        """
        closer = 1 / geometry.object_distance_m - 1 / geometry.focus_distance_m
        return self.centres_m(tiles) * (-geometry.lens.sensor_distance_m * closer)

    def moved_m(self, tiles: int, geometry: Geometry) -> Tensor | None:
        """How far (T, 2) the image of each tile lies beside its place, by parallax and mounting; None for nowhere.

        Raises:
            OpticsError: The errors of mounting are those of another number of tiles.
        """
        if self.errors_m and len(self.errors_m) != tiles:
            raise OpticsError(f"errors_m holds {len(self.errors_m)} tiles, but there are {tiles}; give one pair each.")
        if geometry.object_distance_m == geometry.focus_distance_m and not self.errors_m:
            return None
        moved = self.parallax_m(tiles, geometry)
        return moved + moved.new_tensor(self.errors_m) if self.errors_m else moved


def split_kernel(kernel: Tensor) -> Tensor:
    """The two PSFs whose difference is a signed kernel, each with all the light of its tile.

    Args:
        kernel: Signed values (..., K, K).

    Returns:
        (..., 2, K, K): the positive part and the negative part, each divided by its sum.

    Raises:
        OpticsError: A kernel has only one sign.
    """
    parts = torch.stack([kernel.clamp_min(0), (-kernel).clamp_min(0)], -3)
    sums = parts.sum((-2, -1), keepdim=True)
    if not bool((sums > 0).all()):
        raise OpticsError("a kernel has values of one sign only; a pair needs light on both sides.")
    return parts / sums


class _Tiles(nn.Module):
    """PSFs of all tiles, and the light that they bring to the pixels.

    Args:
        geometry: Lens, window and distance that all tiles share.
        pixels: Pixels across the image of the window in each tile.
        filter_weights: Share of red, green and blue in the signal of a pixel.
        array: Where the tiles stand; None leaves parallax and errors of mounting out.
    """

    def __init__(
        self, geometry: Geometry, pixels: int, filter_weights: Sequence[float], array: TileArray | None
    ) -> None:
        super().__init__()
        if geometry.scene_px % pixels:
            raise OpticsError(
                f"{pixels} pixels do not divide the {geometry.scene_px} scene samples across the window; choose a "
                "number of pixels that divides them."
            )
        self.geometry, self.pixels, self.array = geometry, pixels, array
        self.weights: Tensor
        self.register_buffer("weights", torch.tensor(tuple(filter_weights)), persistent=False)

    def psfs(self) -> Tensor:
        """Point-spread functions (T, L, K, K) in cells of the scene, T tiles, L colours."""
        raise NotImplementedError

    def forward(self, scenes: Tensor, psfs: Tensor | None = None) -> Tensor:
        """Mean light of each pixel of each tile; a white window gives the share of light that the PSF keeps inside.

        Exact means over the cells of a pixel: the spectrum is multiplied with that of a pixel's square, and folding it
        along y is the transform of every block's first row.

        Args:
            scenes: (N, L, S, S) linear light.
            psfs: (T, L, K, K), if they have been computed already.

        Returns:
            (N, T, n, n).
        """
        psfs = self.psfs() if psfs is None else psfs
        size, side = self.geometry.scene_px, psfs.shape[-1]
        block = size // self.pixels
        half = side // 2
        # Linear convolution, a whole number of pixels; what wraps around lies outside the window.
        length = fast_length(-(-(size + half + block) // block)) * block
        spectrum = rfft2(scenes, (length, length)) * self.weights.to(scenes.dtype)[:, None, None]
        transfer = rfft2(psfs, (length, length)) * self._pixel(length, block, half, scenes)
        moved = self._moved(len(psfs), length, scenes)
        if moved is not None:
            transfer = transfer * moved[:, None]
        product = torch.einsum("nlyx,tlyx->ntyx", spectrum, transfer)
        rows = length // block
        folded = product[..., :rows, :]
        for part in range(1, block):
            folded = folded + product[..., part * rows : (part + 1) * rows, :]
        folded = folded / block
        pixels: Tensor = irfft2(folded, (length // block, length))
        return pixels[..., : self.pixels, :size:block]

    def _pixel(self, length: int, block: int, half: int, like: Tensor) -> Tensor:
        """Spectrum of the mean over a block that begins at a cell, moved so that the centre of the PSF is at zero."""
        y = torch.fft.fftfreq(length, device=like.device, dtype=torch.float64)
        cells = torch.arange(block, device=like.device, dtype=torch.float64) + half

        def line(frequency: Tensor) -> Tensor:
            return torch.exp(2j * torch.pi * frequency[:, None] * cells).mean(-1)

        spectrum = line(y)[:, None] * line(y[: length // 2 + 1].abs())
        return spectrum.to(torch.complex128 if like.dtype == torch.float64 else torch.complex64)

    def _moved(self, tiles: int, length: int, like: Tensor) -> Tensor | None:
        """Phase ramps (T, length, length // 2 + 1) of images beside their places; None where all are in place."""
        moved_m = None if self.array is None else self.array.moved_m(tiles, self.geometry)
        if moved_m is None:
            return None
        shift = (moved_m / self.geometry.cell_m).to(like.device)
        y = torch.fft.fftfreq(length, device=like.device, dtype=torch.float64)
        x = torch.fft.rfftfreq(length, device=like.device, dtype=torch.float64)
        turns = shift[:, 1, None, None] * y[:, None] + shift[:, 0, None, None] * x
        ramp = torch.exp(-2j * torch.pi * turns)
        return ramp.to(torch.complex128 if like.dtype == torch.float64 else torch.complex64)


class FixedTiles(_Tiles):
    """Tiles whose PSFs are given as numbers.

    Args:
        psfs: (T, L, K, K) shares of the light, K odd.
        geometry: Lens, window and distance that all tiles share.
        pixels: Pixels across the image of the window in each tile.
        filter_weights: Share of red, green and blue in the signal of a pixel.
        array: Where the tiles stand; None leaves parallax and errors of mounting out.
    """

    values: Tensor

    def __init__(
        self,
        psfs: Tensor,
        geometry: Geometry,
        pixels: int,
        filter_weights: Sequence[float],
        array: TileArray | None = None,
    ) -> None:
        super().__init__(geometry, pixels, filter_weights, array)
        if psfs.ndim != 4 or psfs.shape[1] != len(tuple(filter_weights)) or psfs.shape[-1] % 2 == 0:
            raise OpticsError(f"psfs has shape {tuple(psfs.shape)}; (tiles, colours, K, K) with odd K is needed.")
        self.register_buffer("values", psfs)

    def psfs(self) -> Tensor:
        """Point-spread functions (T, L, K, K)."""
        return self.values


class MaskTiles(_Tiles):
    """Tiles with a mask each, at the geometry's distance.

    Args:
        masks: One mask for each tile.
        geometry: Lens, window and distance that all tiles share.
        pixels: Pixels across the image of the window in each tile.
        filter_weights: Share of red, green and blue in the signal of a pixel.
        array: Where the tiles stand; None leaves parallax and errors of mounting out.
    """

    def __init__(
        self,
        masks: Sequence[PhaseMask],
        geometry: Geometry,
        pixels: int,
        filter_weights: Sequence[float],
        array: TileArray | None = None,
    ) -> None:
        super().__init__(geometry, pixels, filter_weights, array)
        self.masks = nn.ModuleList(masks)
        self.to_psf = PupilToPsf(
            geometry.grid, geometry.lens, geometry.wavelengths_m, geometry.cell_m, geometry.psf_cells
        )

    def psfs(self) -> Tensor:
        """Point-spread functions (T, L, K, K); each plane sums to the share of the light inside the window."""
        return torch.stack([self.to_psf(mask, self.geometry.object_distance_m) for mask in self.masks])

    def check(self) -> None:
        """Raise OpticsError when a mask is not sampled finely enough."""
        for mask in self.masks:
            self.to_psf.check(cast(PhaseMask, mask), self.geometry.object_distance_m)
