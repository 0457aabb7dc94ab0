"""Decoders for the comparison: the same network, schedule and augmentation for every camera."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from codesign.config import DecoderConfig
from codesign.data import Part
from evaluation.frame_attackers.encoded import channels_last
from faces.landmarks import (
    HeatmapDecoder,
    LandmarkSet,
    decode,
    gaussian_heatmaps,
    heatmap_loss,
    mirror_order,
    nme,
    points_in,
    released,
)
from faces.samples import FaceSet, interocular
from sim.camera import EncoderCamera

COPIES = 2
CHUNK = 256


@dataclass(frozen=True)
class Movement:
    """How far copies of a scene are moved, each number drawn evenly from minus to plus its reach; half are mirrored.

    Attributes:
        shift: Along each axis, a share of the frame.
        turn: In radians.
        scale: Logarithm of the size.
    """

    shift: float
    turn: float
    scale: float


#: For decoders, which have to find a face wherever it is.
WIDE = Movement(0.08, 0.105, 0.1)
#: For attackers, who align faces: what is left to learn is how the camera treats a face that stands a little elsewhere.
NARROW = Movement(0.03, 0.07, 0.06)


def relative_signal(camera: EncoderCamera, faces: FaceSet) -> Tensor:
    """Noise-free pixels as shares of the electrons at white, float16 (N, C, n, n): the same at every exposure.

    They lie on the device of the camera, as everything here that is computed with it.
    """
    with torch.no_grad():
        psf = camera.psf
    parts = torch.arange(len(faces)).split(CHUNK)
    return torch.cat([_signal(camera, psf, faces.subset(part).linear()) for part in parts])


def _signal(camera: EncoderCamera, psf: Tensor, scenes: Tensor) -> Tensor:
    with torch.no_grad():
        return (camera.signal(scenes.to(psf.device), psf) / camera.exposure.electrons_at_white).half()


def reader(camera: EncoderCamera) -> Callable[[Tensor, torch.Generator], Tensor]:
    """(relative signal, generator) -> frames with noise and bits, at the camera's exposure."""

    def read(signal: Tensor, generator: torch.Generator) -> Tensor:
        return camera.read(signal.float() * camera.exposure.electrons_at_white, generator)

    return read


def augmented(camera: EncoderCamera, faces: FaceSet, seed: int, copies: int = COPIES) -> tuple[Tensor, Tensor]:
    """Training scenes and moved copies of them as this camera sees them.

    Copies are scaled by up to a tenth, turned by up to 6 degrees, shifted by up to 8 % of the frame, and half of them
    mirrored, all before the light meets the camera. Every camera gets the same copies.

    Args:
        camera: The camera.
        faces: Training faces.
        seed: Seed for the movements.
        copies: Copies of each scene.

    Returns:
        Relative signals (N (1 + copies), C, n, n), float16, and all landmarks (N (1 + copies), 68, 2).
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        psf = camera.psf
    signals, landmarks = [relative_signal(camera, faces)], [faces.landmarks.to(psf.device)]
    for _ in range(copies):
        for pick in torch.arange(len(faces)).split(CHUNK):
            part = faces.subset(pick)
            scenes, points = moved(
                part.linear().to(psf.device), part.landmarks.to(psf.device), "sixty-eight", WIDE, generator
            )
            signals.append(_signal(camera, psf, scenes))
            landmarks.append(points)
    return torch.cat(signals), torch.cat(landmarks)


def moved_signal(camera: EncoderCamera, part: Part, movement: Movement, seed: int) -> tuple[Tensor, Tensor]:
    """One moved copy of each scene as this camera sees it.

    Args:
        camera: The camera.
        part: Faces with their five points.
        movement: How far they are moved.
        seed: Seed for the movements; every camera gets the same copies.

    Returns:
        Relative signals (N, C, n, n), float16, and the five points (N, 5, 2) of the copies.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        psf = camera.psf
    signals, found = [], []
    for pick in torch.arange(len(part.faces)).split(CHUNK):
        scenes, points5 = part.faces.subset(pick).linear().to(psf.device), part.points5[pick].float().to(psf.device)
        scenes, points5 = moved(scenes, points5, "five", movement, generator)
        signals.append(_signal(camera, psf, scenes))
        found.append(points5)
    return torch.cat(signals), torch.cat(found)


def moved(
    scenes: Tensor, landmarks: Tensor, which: LandmarkSet, movement: Movement, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Copies of scenes (N, 3, S, S) that are shifted, turned, scaled and, half of them, mirrored.

    Args:
        scenes: Linear light.
        landmarks: (N, K, 2) points of each in pixels.
        which: The set that they are, which says how they change places in a mirror.
        movement: How far.
        generator: Generator on the CPU.

    Returns:
        The copies, and their points.
    """
    count, side = len(scenes), scenes.shape[-1]

    def uniform(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator, device=generator.device).to(scenes.device)

    def draw(reach: float, *shape: int) -> Tensor:
        return (uniform(*shape) * 2 - 1) * reach

    turn, scale, shift = draw(movement.turn), torch.exp(draw(movement.scale)), draw(2 * movement.shift, 2)
    mirrored = uniform() < 0.5
    sign = torch.where(mirrored, -1.0, 1.0)
    # Where each sample of the copy is taken from, in the -1 .. 1 coordinates of the scene.
    rows = [
        torch.stack([scale * turn.cos() * sign, -scale * turn.sin(), shift[:, 0]], -1),
        torch.stack([scale * turn.sin() * sign, scale * turn.cos(), shift[:, 1]], -1),
    ]
    matrix = torch.stack(rows, 1)
    grid = functional.affine_grid(matrix, list(scenes.shape), align_corners=False)
    copies = functional.grid_sample(scenes, grid, align_corners=False, padding_mode="reflection")
    half = side / 2
    at = (landmarks + 0.5) / half - 1
    back = torch.linalg.inv(matrix[:, :, :2])
    points = (torch.einsum("nij,npj->npi", back, at - matrix[:, None, :, 2]) + 1) * half - 0.5
    points[mirrored] = points[mirrored][:, list(mirror_order(which))]
    return copies.clamp_min(0), points


class Decoder(nn.Module):
    """A heatmap decoder with the fixed affine map that brings the frames of its camera to ordinary contrast.

    Args:
        network: The heatmap network.
        mean: Mean of training frames.
        sd: Standard deviation of training frames.
    """

    def __init__(self, network: HeatmapDecoder, mean: float = 0.5, sd: float = 0.25) -> None:
        super().__init__()
        self.network = network
        self.mean: Tensor
        self.sd: Tensor
        device = next(network.parameters()).device
        self.register_buffer("mean", torch.tensor(mean, device=device))
        self.register_buffer("sd", torch.tensor(sd, device=device))

    def forward(self, frames: Tensor) -> Tensor:
        """Heatmap logits (N, K, 32, 32) of frames (N, C, n, n)."""
        logits: Tensor = self.network((frames - self.mean) / (4 * self.sd) + 0.5)
        return logits

    @torch.no_grad()
    def landmarks(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates (N, K, 2) in scene pixels and confidences (N, K) of frames (N, C, n, n)."""
        parts = [decode(self(part), self.network.scene_size) for part in frames.split(CHUNK)]
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def new_decoder(
    camera: EncoderCamera, config: DecoderConfig, which: LandmarkSet, mean: float = 0.5, sd: float = 0.25
) -> Decoder:
    """An untrained decoder of a landmark set on the device of a camera; weights come from the global generator."""
    exposure, channels = camera.exposure, 3 if camera.exposure.colour else 1
    network = HeatmapDecoder(channels, exposure.pixels, config.width, camera.scene_px, points=points_in(which))
    return channels_last(Decoder(network, mean, sd)).eval().to(camera.weights.device)


def train_decoder(
    camera: EncoderCamera,
    signals: Tensor,
    landmarks: Tensor,
    config: DecoderConfig,
    which: LandmarkSet,
    *,
    seed: int,
    steps: int,
) -> Decoder:
    """Train a decoder on a frozen camera, with fresh noise in every step.

    The loss is the cross-entropy of the heatmaps plus the error of the decoded coordinates over the outer eye
    distance: the first finds the place from anywhere, the second is what is measured.

    Args:
        camera: The camera.
        signals: Relative signals of (augmented) training scenes.
        landmarks: (N, 68, 2), all landmarks of each.
        config: Network and schedule.
        which: The points it learns to find.
        seed: Seed for weights, batches and noise.
        steps: Training steps.
    """
    generator = torch.Generator().manual_seed(seed)
    true, unit, read = released(landmarks, which), interocular(landmarks), reader(camera)

    def draw(count: int) -> Tensor:
        drawn = torch.randint(len(signals), (count,), generator=generator, device=generator.device)
        return drawn.to(signals.device)

    sample = read(signals[draw(512)], generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder = new_decoder(camera, config, which, float(sample.mean()), float(sample.std().clamp_min(1e-6)))
    decoder.train()
    optimiser = torch.optim.AdamW(decoder.parameters(), lr=config.rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.rate, total_steps=steps, pct_start=0.2)
    for _ in range(steps):
        pick = draw(config.batch)
        frames = read(signals[pick], generator).contiguous(memory_format=torch.channels_last)
        truth = true[pick]
        logits = decoder(frames)
        wanted = gaussian_heatmaps(truth, camera.scene_px, logits.shape[-1], 1.0)
        points, _ = decode(logits, camera.scene_px)
        error = ((points - truth).abs().sum(-1) / unit[pick, None]).mean()
        loss = 0.1 * heatmap_loss(logits, wanted) + 4.0 * error
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return decoder.eval()


@dataclass(frozen=True)
class Released:
    """What a camera with its decoder gives away on purpose.

    Attributes:
        landmarks: (N, K, 2) scene pixels.
        confidence: (N, K).
    """

    landmarks: Tensor
    confidence: Tensor

    def error(self, part: Part, which: LandmarkSet) -> float:
        """Normalised mean error against the true points of the set that was released."""
        true = part.faces.landmarks.to(self.landmarks.device)
        return float(nme(self.landmarks, released(true, which), interocular(true)).mean())


def release(decoder: Decoder, camera: EncoderCamera, signals: Tensor, seed: int) -> Released:
    """Landmarks of one exposure of each capture."""
    frames = reader(camera)(signals, torch.Generator().manual_seed(seed))
    return Released(*decoder.landmarks(frames))
