"""Weights, gains, offsets and biases of a read-out, trained behind optics that no longer change.

The light of all tiles is computed once, exactly; a step then draws scenes, noise and a chip. A read-out is trimmed to
the masks that were realised, and every ablation gets one of its own, trained as long.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from codesign.decoders import WIDE, moved
from codesign.winners.descent import Descent
from codesign.winners.kernels import Task, wanted_shares
from codesign.winners.parts import face_centre, part_points
from faces.samples import FaceSet
from sim.winners import FixedTiles, PairPixels, Readout

CHUNK = 64
#: Peak rate of biases and of what belongs to pairs.
RATE = 0.015


@dataclass(frozen=True)
class Lit:
    """Mean light of all tiles, and where the landmarks are.

    Attributes:
        light: (N, T, n, n) float16, 1 = white.
        landmarks: (N, 68, 2) in pixels.
    """

    light: Tensor
    landmarks: Tensor


@torch.no_grad()
def lit(tiles: FixedTiles, faces: FaceSet, limit: int, seed: int) -> Lit:
    """Light of at most so many captures of faces, drawn at random, every second one moved.

    Args:
        tiles: Optics.
        faces: Training faces.
        limit: Most captures.
        seed: Seed for the draw and the movements.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(faces), generator=generator)[:limit]
    block = faces.size / tiles.pixels
    light, landmarks = [], []
    for number, pick in enumerate(chosen.split(CHUNK)):
        part = faces.subset(pick)
        scenes, points = part.linear(), part.landmarks
        if number % 2:
            scenes, points = moved(scenes, points, "sixty-eight", WIDE, generator)
        light.append(tiles(scenes).half())
        landmarks.append((points + 0.5) / block - 0.5)
    return Lit(torch.cat(light), torch.cat(landmarks))


def trim(
    readout: Readout, seen: Lit, followers: tuple[str, ...], pixels: PairPixels, batch: int, steps: int, seed: int
) -> Descent:
    """The descent that trims a read-out; its parameters change as the descent is stepped.

    Args:
        readout: Read-out to start from.
        seen: Light of training scenes.
        followers: Part that each channel after the anchor looks for.
        pixels: Noise.
        batch: Scenes in a step.
        steps: Steps in all.
        seed: Seed of the batches and of all noise.
    """
    readout.requires_grad_(True)
    centres, parts = face_centre(seen.landmarks), part_points(seen.landmarks, followers)
    scenes = seen.light[:, 0]
    anchor = Task(scenes, centres[:, None], readout.windows[:1], 0)
    rest = Task(scenes, parts, readout.windows[1:], 0, centres)
    side = seen.light.shape[-1]

    def loss(generator: torch.Generator) -> Tensor:
        pick = torch.randint(len(scenes), (batch,), generator=generator).to(scenes.device)
        electrons = pixels.expose(seen.light[pick].float(), generator)
        ratio = pixels.log_ratio(electrons[:, 0::2], electrons[:, 1::2])
        sums = readout.sums(ratio + pixels.mismatch(ratio.shape[1:], generator, ratio))
        noise = torch.randn(sums.shape, generator=generator).to(sums.device)
        sums = (sums + noise * pixels.comparator_noise).flatten(2)
        total = _loss(sums[:, :1], anchor, pick, [readout.bias[0]], generator, side)
        if followers:
            total = total + _loss(sums[:, 1:], rest, pick, list(readout.bias[1:]), generator, side)
        return total / len(readout.windows)

    parameters = dict(readout.named_parameters())
    return Descent([(parameters, RATE)], loss, steps, seed)


def _loss(
    sums: Tensor, task: Task, pick: Tensor, biases: list[nn.Parameter], generator: torch.Generator, side: int
) -> Tensor:
    """Cross-entropy over the windows, summed over channels; places outside the pixels take no part."""
    total = sums.new_zeros(())
    origin = None if task.anchors is None else task.erring(pick, generator)[:, None, :]
    for channel, (window, bias) in enumerate(zip(task.windows, biases, strict=True)):
        places = window.grid(task.wanted).long().expand(len(pick), -1, -1)
        places = places if origin is None else places + origin
        inside = (places >= 0).all(-1) & (places < side).all(-1)
        index = places[..., 1].clamp(0, side - 1) * side + places[..., 0].clamp(0, side - 1)
        drive = (sums[:, channel].gather(1, index) + bias.flatten()).masked_fill(~inside, -1e4)
        shares = wanted_shares(places[:, None].to(drive), task.wanted[pick][:, channel : channel + 1])[:, 0]
        total = total - (shares * drive.log_softmax(-1) * inside).sum(-1).mean()
    return total
