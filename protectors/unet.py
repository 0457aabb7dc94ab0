"""A small U-Net from pictures to patterns of the same size, any size.

That of ``evaluation.frame_attackers.inverters`` is another network on purpose: an attacker restores a picture, so it is
residual to its input and normalises its features; here a pattern is made that must not resemble the picture, gradients
pass through it to the photo, and nothing in it may depend on what else is in the batch. A protector also must not share
a network with whoever judges it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Channels of each halving, in units of ``width``.
STAGES = (1, 2, 4, 8)

#: Slope of the leaky rectifiers for negative values.
SLOPE = 0.2


class UNet(nn.Module):
    """Four convolutions that halve the size and four transposed ones that restore it, joined at each size between.

    Kernels have 3 x 3 values; a leaky rectifier follows each layer but the last, whose result is unbounded. With a
    width of 64 the channels are 64, 128, 256 and 512. Odd sizes are halved upwards and restored exactly.

    Args:
        inputs: channels in.
        outputs: channels out.
        width: channels at half the size.
        seed: Seed of the weights, drawn as by He; biases start at 0. The global generator is left alone.
    """

    def __init__(self, inputs: int, outputs: int, width: int, seed: int) -> None:
        super().__init__()
        sizes = [stage * width for stage in STAGES]
        # Each layer on the way up but the deepest sees its own result and that of the way down.
        into = [sizes[-1], *(2 * size for size in sizes[-2::-1])]
        with torch.random.fork_rng(devices=[]):
            self.down = nn.ModuleList(
                nn.Conv2d(before, after, 3, 2, 1) for before, after in zip([inputs, *sizes], sizes, strict=False)
            )
            self.up = nn.ModuleList(
                nn.ConvTranspose2d(before, after, 3, 2, 1)
                for before, after in zip(into, [*sizes[-2::-1], outputs], strict=True)
            )
        self._start(torch.Generator().manual_seed(seed))

    def _start(self, generator: torch.Generator) -> None:
        for layer in [*self.down, *self.up]:
            assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and layer.bias is not None
            # Of the nine values of a transposed kernel with stride 2, on average a quarter reaches each pixel.
            reach = 9 if isinstance(layer, nn.Conv2d) else 9 / 4
            deviation = (2 / (1 + SLOPE**2) / (layer.in_channels * reach)) ** 0.5
            nn.init.normal_(layer.weight, std=deviation, generator=generator)
            nn.init.zeros_(layer.bias)

    def forward(self, given: Tensor) -> Tensor:
        """Patterns (N, outputs, H, W), unbounded, of pictures (N, inputs, H, W)."""
        kept = [given]
        for layer in self.down:
            kept.append(functional.leaky_relu(layer(kept[-1]), SLOPE))
        found = kept.pop()
        for layer in self.up:
            beside = kept.pop()
            found = layer(found, output_size=beside.shape[-2:])
            if kept:
                found = torch.cat((functional.leaky_relu(found, SLOPE), beside), 1)
        return found
