"""What the chip does behind its pixels: compare, add, bias, and let the place of the largest sum leave.

A pair compares the electrons P and M of its two pixels at one place as

    t = tanh(g (log(P + floor) - log(M + floor)) + o)

which is what a differential pair behind two logarithmic pixels gives. The drive of a channel is the weighted sum of
its pairs plus a bias that depends on the place (a graded trim). The first channel, the anchor, is searched in a fixed
window; the windows of the others lie about the place that the anchor found. The chip moves them itself: whoever could
move them from outside could scan the picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from optics import OpticsError


@dataclass(frozen=True)
class PairPixels:
    """The two pixels of a pair and the circuits that compare them.

    Attributes:
        electrons_at_white: Photo-electrons that a white surface makes in a pixel of a tile during the exposure.
        dark_e: Mean dark electrons of the exposure.
        read_noise_e: RMS noise of a pixel in electrons.
        floor_e: Electrons that are added before the logarithm: the current at which a logarithmic pixel ends.
        gain_mismatch: RMS by which the two pixels of a pair differ in response, relative; the same in every exposure.
        offset_mismatch: RMS of the offset of a comparison, in units of the logarithm; the same in every exposure.
        comparator_noise: RMS noise of a drive where it meets the winner-take-all, in units of the drive; drawn anew in
            every exposure.
    """

    electrons_at_white: float = 100_000.0
    dark_e: float = 20.0
    read_noise_e: float = 5.0
    floor_e: float = 20.0
    gain_mismatch: float = 0.01
    offset_mismatch: float = 0.01
    comparator_noise: float = 0.05

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (math.isfinite(value) and value >= 0):
                raise OpticsError(f"{name}={value} must be zero or a positive number.")
        if not (self.electrons_at_white > 0 and self.floor_e > 0):
            raise OpticsError("electrons_at_white and floor_e must be positive; without light there is no ratio.")

    def expose(self, light: Tensor, generator: torch.Generator) -> Tensor:
        """Electrons of one exposure.

        Args:
            light: Mean light of pixels of any shape, 1 = white.
            generator: Source of the noise, on the CPU.

        Returns:
            Electrons, zero or more; shot noise and read noise are normal, which is close for hundreds of electrons. The
            gradient passes the mean and the noise's own width.
        """
        mean = light.clamp_min(0.0) * self.electrons_at_white + self.dark_e
        drawn = torch.randn(light.shape, generator=generator).to(light.device, light.dtype)
        return (mean + drawn * (mean + self.read_noise_e**2).sqrt()).clamp_min(0.0)

    def mismatch(self, shape: Sequence[int], generator: torch.Generator, like: Tensor) -> Tensor:
        """What one chip adds to the logarithm of each comparison: differences of response, and offsets."""
        spread = math.hypot(self.gain_mismatch, self.offset_mismatch)
        return torch.randn(tuple(shape), generator=generator).to(like.device, like.dtype) * spread

    def log_ratio(self, plus: Tensor, minus: Tensor) -> Tensor:
        """Logarithm of the ratio of the two pixels' electrons."""
        return torch.log((plus + self.floor_e) / (minus + self.floor_e))


@dataclass(frozen=True)
class Window:
    """Where a winner is searched, in pixels.

    Attributes:
        top: First row; for a channel that follows the anchor, against the anchor's row.
        left: First column; likewise.
        height: Rows.
        width: Columns.
    """

    top: int
    left: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise OpticsError(f"a window of {self.height} x {self.width} pixels holds no winner; make it larger.")

    @property
    def places(self) -> int:
        """Number of places that can win."""
        return self.height * self.width

    def grid(self, like: Tensor) -> Tensor:
        """Places (places, 2) as (x, y), row by row, with the device and dtype of ``like``."""
        rows = torch.arange(self.top, self.top + self.height, device=like.device)
        columns = torch.arange(self.left, self.left + self.width, device=like.device)
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        return torch.stack([x, y], -1).reshape(-1, 2).to(like.dtype)


@dataclass(frozen=True)
class Winners:
    """What leaves the chip.

    Attributes:
        places: (N, C, 2) int64 pixels (x, y) of the winner of each channel, the anchor first.
        present: (N,) bool, whether the anchor's drive passed its level: whether there is a face at all.
    """

    places: Tensor
    present: Tensor


class Readout(nn.Module):
    """Weights, biases and windows of all channels.

    Args:
        channel_of: Channel of each pair, J numbers; channel 0 is the anchor.
        windows: Window of each channel; those after the first count from the anchor's winner.

    Raises:
        OpticsError: A channel has no pair or no window.
    """

    channel_of: Tensor

    def __init__(self, channel_of: Sequence[int], windows: Sequence[Window]) -> None:
        super().__init__()
        if sorted(set(channel_of)) != list(range(len(windows))):
            raise OpticsError(f"{len(windows)} windows need pairs of the channels 0 to {len(windows) - 1}.")
        count = len(channel_of)
        self.windows = tuple(windows)
        self.register_buffer("channel_of", torch.tensor(tuple(channel_of)), persistent=False)
        self.weight = nn.Parameter(torch.ones(count))
        self.gain = nn.Parameter(torch.full((count,), 6.0))
        self.offset = nn.Parameter(torch.zeros(count))
        self.bias = nn.ParameterList([nn.Parameter(torch.zeros(w.height, w.width)) for w in windows])
        self.level: Tensor
        self.register_buffer("level", torch.tensor(-math.inf))

    @property
    def bits(self) -> float:
        """Bits of one frame: the places of all windows, and presence."""
        return sum(math.log2(window.places) for window in self.windows) + 1.0

    def compared(self, log_ratio: Tensor) -> Tensor:
        """Weighted comparisons of the log ratios (N, J, ...) of all pairs."""
        shape = (-1,) + (1,) * (log_ratio.ndim - 2)
        return self.weight.view(shape) * torch.tanh(self.gain.view(shape) * log_ratio + self.offset.view(shape))

    def sums(self, log_ratio: Tensor) -> Tensor:
        """Sums (N, C, ...) of the comparisons (N, J, ...) of each channel, without bias."""
        compared = self.compared(log_ratio)
        sums = compared.new_zeros((compared.shape[0], len(self.windows), *compared.shape[2:]))
        return sums.index_add(1, self.channel_of, compared)

    def forward(self, log_ratio: Tensor, pixels: PairPixels, generator: torch.Generator) -> Winners:
        """Let the winners leave.

        Args:
            log_ratio: (N, J, n, n) of all pairs.
            pixels: For the noise of the comparators.
            generator: Source of that noise, on the CPU.
        """
        drives = self.drives(log_ratio, pixels, generator)
        best, which = self.anchor_drives(drives).max(-1)
        anchor = self.windows[0].grid(drives).long()[which]
        found = [anchor]
        for channel in range(1, len(self.windows)):
            found.append(self._follow(drives[:, channel], channel, anchor))
        return Winners(torch.stack(found, 1), best > self.level)

    def drives(self, log_ratio: Tensor, pixels: PairPixels, generator: torch.Generator) -> Tensor:
        """Sums (N, C, n, n) as the winner-take-all meets them, with the noise of one exposure, without bias."""
        sums = self.sums(log_ratio)
        noise = torch.randn(sums.shape, generator=generator).to(sums.device, sums.dtype)
        return sums + noise * pixels.comparator_noise

    def anchor_drives(self, drives: Tensor) -> Tensor:
        """Drives (N, places) of the anchor over its window, with bias."""
        first = self.windows[0]
        seen = drives[:, 0, first.top : first.top + first.height, first.left : first.left + first.width]
        return (seen + self.bias[0]).flatten(1)

    def _follow(self, drive: Tensor, channel: int, anchor: Tensor) -> Tensor:
        """Winner (N, 2) of a channel in its window about the anchor; places outside the pixels never win."""
        window = self.windows[channel]
        places = anchor[:, None, :] + window.grid(anchor)[None]
        height, width = drive.shape[-2:]
        inside = (places >= 0).all(-1) & (places[..., 0] < width) & (places[..., 1] < height)
        index = places[..., 1].clamp(0, height - 1) * width + places[..., 0].clamp(0, width - 1)
        values = drive.flatten(1).gather(1, index) + self.bias[channel].flatten()
        which = values.masked_fill(~inside, -torch.inf).argmax(-1)
        return places[torch.arange(len(places), device=places.device), which]
