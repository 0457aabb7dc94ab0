"""From the places that leave the chip to landmarks: a small network on one-hot places.

Places of followers are taken against the anchor. A few wrong winners among right ones are told by their geometry; on
plain coordinates a network averages them in, on one-hot places it learns to leave them out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from codesign.config import WinnersConfig
from codesign.winners.descent import one_cycle
from sim.winners import Window

#: Width of the bumps that stand for a place, in pixels.
BUMP = 0.7
DROPOUT = 0.1


class PlaceDecoder(nn.Module):
    """Places of winners to landmarks.

    Args:
        windows: Windows of all channels, the anchor first.
        points: Landmarks that come out.
        pixels: Pixels across the window.
        scene_px: Samples across the scene, in which landmarks are given.
        width: Units of the two hidden layers.
    """

    usual: Tensor

    def __init__(self, windows: tuple[Window, ...], points: int, pixels: int, scene_px: int, width: int = 256) -> None:
        super().__init__()
        self.windows, self.pixels, self.scene_px, self.points = windows, pixels, scene_px, points
        lines = sum(window.height + window.width for window in windows)
        inputs = lines + 2 * len(windows)
        self.layers = nn.Sequential(
            nn.Linear(inputs, width), nn.GELU(), nn.Dropout(DROPOUT),
            nn.Linear(width, width), nn.GELU(), nn.Dropout(DROPOUT),
            nn.Linear(width, 2 * points),
        )  # fmt: skip
        self.register_buffer("usual", torch.zeros(points, 2))

    def features(self, places: Tensor) -> Tensor:
        """Rows (N, F): bumps over the lines and columns of each window, and plain coordinates."""
        anchor = places[:, :1]
        local = torch.cat([anchor, places[:, 1:] - anchor], 1).float()
        parts = [(local / self.pixels).flatten(1)]
        for channel, window in enumerate(self.windows):
            for axis, first, count in ((0, window.left, window.width), (1, window.top, window.height)):
                line = torch.arange(first, first + count, device=places.device, dtype=torch.float32)
                parts.append(torch.exp(-((local[:, channel, axis, None] - line) ** 2) / (2 * BUMP**2)))
        return torch.cat(parts, 1)

    def forward(self, places: Tensor) -> Tensor:
        """Landmarks (N, K, 2) in scene pixels of places (N, C, 2)."""
        block = self.scene_px / self.pixels
        anchor = (places[:, :1].float() + 0.5) * block - 0.5
        moves: Tensor = self.layers(self.features(places)).unflatten(1, (self.points, 2))
        return anchor + (self.usual + moves) * block


@dataclass(frozen=True)
class Seen:
    """Places of training people, and what they should become.

    Attributes:
        places: (N, C, 2) pixels.
        landmarks: (N, K, 2) scene pixels.
        unit: (N,) distance of the outer eye corners in scene pixels.
    """

    places: Tensor
    landmarks: Tensor
    unit: Tensor


def teach_places(decoder: PlaceDecoder, seen: Seen, settings: WinnersConfig, seed: int) -> PlaceDecoder:
    """Train a decoder; the loss is the error that is reported.

    Args:
        decoder: Untrained; its weights are drawn anew from the seed.
        seen: Training people.
        settings: Steps and rate.
        seed: Seed for weights and batches.
    """
    generator = torch.Generator().manual_seed(seed)
    block = decoder.scene_px / decoder.pixels
    anchor = (seen.places[:, :1].float() + 0.5) * block - 0.5
    decoder.usual.copy_((seen.landmarks - anchor).mean(0) / block)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in decoder.layers:
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()
        decoder.train()
        optimiser = torch.optim.AdamW(decoder.parameters(), lr=settings.decoder_rate, weight_decay=1e-3)
        for step in range(settings.decoder_steps):
            for group in optimiser.param_groups:
                group["lr"] = settings.decoder_rate * one_cycle(step, settings.decoder_steps)
            pick = torch.randint(len(seen.places), (settings.decoder_batch,), generator=generator)
            pick = pick.to(seen.places.device)
            error = (decoder(seen.places[pick]) - seen.landmarks[pick]).square().sum(-1).add(1e-6).sqrt()
            loss = (error / seen.unit[pick, None]).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return decoder.eval()
