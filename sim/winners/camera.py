"""The camera of pairs: tiles, pixels and read-out of one chip."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from optics import OpticsError
from sim.winners.readout import PairPixels, Readout, Winners
from sim.winners.tiles import FixedTiles, MaskTiles


class WinnerCamera(nn.Module):
    """Scene radiance to the places of winners.

    Args:
        tiles: Two for each pair, the positive one first.
        pixels: Pixels and comparators.
        readout: Channels.
        chip: Seed of the mismatch of this chip's pixels and comparisons: its serial number.

    Raises:
        OpticsError: The number of tiles is not twice that of the pairs.
    """

    def __init__(self, tiles: FixedTiles | MaskTiles, pixels: PairPixels, readout: Readout, *, chip: int) -> None:
        super().__init__()
        self.tiles, self.pixels, self.readout, self.chip = tiles, pixels, readout, chip
        side, pairs = tiles.pixels, len(readout.channel_of)
        generator = torch.Generator().manual_seed(chip)
        self.mismatch: Tensor
        pattern = pixels.mismatch((pairs, side, side), generator, readout.weight.detach())
        self.register_buffer("mismatch", pattern, persistent=False)

    def log_ratios(self, light: Tensor, generator: torch.Generator) -> Tensor:
        """Log ratios (N, J, n, n) of one exposure to the light (N, T, n, n) of all tiles; they never leave the chip."""
        if light.shape[1] != 2 * len(self.mismatch):
            raise OpticsError(f"{len(self.mismatch)} pairs need twice as many tiles; there are {light.shape[1]}.")
        electrons = self.pixels.expose(light, generator)
        return self.pixels.log_ratio(electrons[:, 0::2], electrons[:, 1::2]) + self.mismatch

    def winners(self, light: Tensor, generator: torch.Generator) -> Winners:
        """Winners of one exposure to the light (N, T, n, n) of all tiles, as :attr:`tiles` gives it."""
        return self.readout(self.log_ratios(light, generator), self.pixels, generator)

    def forward(self, scenes: Tensor, generator: torch.Generator) -> Winners:
        """Winners of one exposure of scenes (N, L, S, S)."""
        return self.winners(self.tiles(scenes), generator)
