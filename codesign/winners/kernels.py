"""Signed matched filters, trained together with the comparisons and biases behind them.

The anchor finds the whole face: several pairs, each a template of one part moved to the face's centre, are added where
they meet. Followers find parts in small windows about the anchor. Each channel's drive over the places of its window is
a softmax that is paid for the true place (cross-entropy against a Gaussian); noise of pixels, chips and comparators is
on in every step. Kernels are coefficients in a basis in which patches of scenes have unit variance: on raw values
descent learns shading first and edges last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from codesign.config import WinnersConfig
from codesign.winners.descent import Descent
from codesign.winners.parts import face_centre, part_points
from sim.winners import PairPixels, Window

#: Standard deviation of the wanted place, in pixels.
PLACE_SD = 0.8
#: Added to the standard deviation of a patch along each direction before it is divided by it.
WHITENING_FLOOR = 0.01
#: Spread of the anchor about the true centre that followers are trained for: usual and bad cases, and how often bad.
ANCHOR_SD, ANCHOR_BAD_SD, ANCHOR_BAD = 0.6, 1.6, 0.15
#: The anchor's window, in standard deviations of the face's place, and the width of its first bias.
WINDOW_SD, BIAS_SD = 2.5, 1.15
#: Least spread of a part's place in pixels that a first bias is made for: without any, it would allow a single place.
LEAST_SPREAD = 0.3
#: Places next to the truth, and places drawn from all others, that stand for the window in a step.
NEAR, FAR = 25, 64
#: Landmarks whose surroundings start the pairs of the anchor, in the order in which they are taken.
ANCHOR_PARTS = (36, 45, 30, 48, 54, 39, 42, 27, 33, 51, 57, 8, 17, 19, 21, 22, 24, 26, 29, 31, 35, 62, 2, 14)
#: Width in pixels of those surroundings, and size of the first coefficients.
PART_SD, START = 4.0, 0.15


class Bank(nn.Module):
    """Channels of equally many pairs, looked at through patches of scenes.

    Args:
        basis: (C, T, R) whitening basis of each channel, T taps of a patch.
        start: (C, M, R) first coefficients, M pairs of each channel.
        bias: (C, P) first bias, P places of a window.
        weight: First weight of a pair.
        gain: First gain of a comparison.
    """

    basis: Tensor

    def __init__(self, basis: Tensor, start: Tensor, bias: Tensor, weight: float, gain: float) -> None:
        super().__init__()
        self.register_buffer("basis", basis)
        self.coefficients = nn.Parameter(start)
        self.weight = nn.Parameter(torch.full(start.shape[:2], weight, device=start.device))
        self.gain = nn.Parameter(torch.full(start.shape[:2], gain, device=start.device))
        self.offset = nn.Parameter(torch.zeros(start.shape[:2], device=start.device))
        self.bias = nn.Parameter(bias)

    def kernels(self) -> Tensor:
        """Signed kernels (C, M, T), as patches of the scene meet them."""
        return torch.einsum("ctr,cmr->cmt", self.basis, self.coefficients)

    def parts(self) -> Tensor:
        """Positive and negative part (C, M, 2, T) of each kernel, each of sum one."""
        kernels = self.kernels()
        parts = torch.stack([functional.relu(kernels), functional.relu(-kernels)], 2)
        return parts / parts.sum(-1, keepdim=True).clamp_min(1e-12)

    def drive(self, patches: Tensor, bias: Tensor, pixels: PairPixels, generator: torch.Generator) -> Tensor:
        """Drives (N, C, P) of one exposure by a chip drawn at random.

        Args:
            patches: (N, C, P, T) light around each place.
            bias: (C, P) or (N, C, P).
            pixels: Noise.
            generator: Its source.
        """
        parts = self.parts()
        light = torch.einsum("ncpt,cqt->ncpq", patches, parts.flatten(1, 2)).unflatten(-1, parts.shape[1:3])
        electrons = pixels.expose(light, generator)
        ratio = pixels.log_ratio(electrons[..., 0], electrons[..., 1])
        ratio = ratio + pixels.mismatch(ratio.shape, generator, ratio)
        compared = torch.tanh(self.gain[:, None] * ratio + self.offset[:, None])
        drive = (compared * self.weight[:, None]).sum(-1) + bias
        noise = torch.randn(drive.shape, generator=generator).to(drive.device)
        return drive + noise * pixels.comparator_noise

    def groups(self, rate: float) -> list[tuple[dict[str, nn.Parameter], float]]:
        """Parameters and their rates: coefficients move in small steps, the rest in larger ones."""
        rest = {"weight": self.weight, "gain": self.gain, "offset": self.offset, "bias": self.bias}
        return [({"coefficients": self.coefficients}, rate), (rest, 7 * rate)]


@dataclass(frozen=True)
class Task:
    """Scenes in which channels look for places.

    Attributes:
        scenes: (N, n, n) light.
        wanted: (N, C, 2) true places (x, y) in pixels.
        windows: Window of each channel; for followers against the anchor.
        radius: Half side of a patch.
        anchors: (N, 2) true centres about which the windows of followers lie; None for the anchor itself.
    """

    scenes: Tensor
    wanted: Tensor
    windows: tuple[Window, ...]
    radius: int
    anchors: Tensor | None = None

    def patches(self, pick: Tensor, places: Tensor) -> Tensor:
        """Light (B, C, P, T) around places (B, C, P, 2) of picked scenes; darkness outside the window."""
        radius, side = self.radius, self.scenes.shape[-1]
        # Windows of followers may reach beyond the frame: there is darkness all around.
        border = radius + side // 2
        padded = functional.pad(self.scenes[pick].float(), (border,) * 4)
        row = padded.shape[-1]
        around = torch.arange(-radius, radius + 1, device=padded.device)
        taps = (around[:, None] * row + around).flatten()
        at = (places + border).clamp(radius, row - 1 - radius)
        index = (at[..., 1] * row + at[..., 0])[..., None] + taps
        return padded.flatten(1).gather(1, index.flatten(1)).reshape(index.shape)

    def places(self, pick: Tensor, generator: torch.Generator) -> Tensor:
        """All places (B, C, P, 2) of the windows; those of followers lie about an anchor that errs as it will."""
        grids = torch.stack([window.grid(self.wanted) for window in self.windows])
        if self.anchors is None:
            return grids.long().expand(len(pick), -1, -1, -1)
        return self.erring(pick, generator)[:, None, None, :] + grids.long()

    def erring(self, pick: Tensor, generator: torch.Generator) -> Tensor:
        """Anchors (B, 2) as they will be found: near the truth, sometimes further off."""
        assert self.anchors is not None
        centres = self.anchors[pick]
        bad = torch.rand((len(pick), 1), generator=generator) < ANCHOR_BAD
        spread = torch.where(bad, ANCHOR_BAD_SD, ANCHOR_SD)
        error = torch.randn(centres.shape, generator=generator) * spread
        return (centres + error.to(centres.device)).round().long()


def wanted_shares(places: Tensor, wanted: Tensor) -> Tensor:
    """The wanted softmax over places (B, C, P, 2): a Gaussian about the truth (B, C, 2), which is kept inside."""
    low, high = places.amin(2), places.amax(2)
    inside = torch.maximum(torch.minimum(wanted, high), low)
    squares = (places - inside[:, :, None]).square().sum(-1)
    return (-squares / (2 * PLACE_SD**2)).softmax(-1)


def whitening(patches: Tensor) -> Tensor:
    """Basis (T, T) in which rows of patches (N, T) have about unit variance; columns are directions."""
    covariance = torch.cov(patches.T.double())
    variance, directions = torch.linalg.eigh(covariance)
    return (directions / (variance.clamp_min(0) + WHITENING_FLOOR**2).sqrt()).float()


def mean_patch(task: Task, centres: Tensor) -> Tensor:
    """Mean patch (T,) about places (N, 2) between pixels, bilinear."""
    side, radius = task.scenes.shape[-1], task.radius
    around = torch.arange(-radius, radius + 1, device=centres.device)
    total = torch.zeros((2 * radius + 1) ** 2, device=centres.device)
    rows = torch.arange(0, len(centres), max(1, len(centres) // 3000))
    for pick in rows.split(500):
        at = (centres[pick, None, :] + around[None, :, None] + 0.5) / side * 2 - 1  # (B, k, 2)
        grid = torch.stack(
            [at[:, None, :, 0].expand(-1, len(around), -1), at[:, :, None, 1].expand(-1, -1, len(around))], -1
        )
        scenes = task.scenes[pick, None].float()
        total += functional.grid_sample(scenes, grid, align_corners=False).sum(0).flatten()
    return total / len(rows)


def anchor_window(centres: Tensor, side: int) -> Window:
    """Where faces may lie: 2.5 standard deviations about the mean place, inside the pixels."""
    mean, spread = centres.mean(0), centres.std(0)
    low = (mean - WINDOW_SD * spread).floor().clamp(0, side - 1).int().tolist()
    high = (mean + WINDOW_SD * spread).ceil().clamp(0, side - 1).int().tolist()
    return Window(low[1], low[0], high[1] - low[1] + 1, high[0] - low[0] + 1)


def anchor_task(scenes: Tensor, landmarks: Tensor, settings: WinnersConfig) -> Task:
    """The anchor's task on scenes (N, n, n) with landmarks (N, 68, 2) in pixels."""
    centres = face_centre(landmarks)
    window = anchor_window(centres, scenes.shape[-1])
    return Task(scenes, centres[:, None], (window,), settings.anchor_radius_px)


def follower_task(scenes: Tensor, landmarks: Tensor, settings: WinnersConfig) -> Task:
    """The followers' task on the same."""
    centres, points = face_centre(landmarks), part_points(landmarks, settings.followers)
    half = settings.follower_half_px
    middle = (points - centres[:, None]).mean(0).round().int().tolist()
    windows = tuple(Window(y - half, x - half, 2 * half + 1, 2 * half + 1) for x, y in middle)
    return Task(scenes, points, windows, settings.follower_radius_px, centres)


def anchor_bank(task: Task, landmarks: Tensor, settings: WinnersConfig, seed: int) -> Bank:
    """The anchor before training: what is brighter or darker than usual about each part, at the part's usual place."""
    generator = torch.Generator().manual_seed(seed)
    centres, window = task.wanted[:, 0], task.windows[0]
    pick = torch.randint(len(task.scenes), (128,), generator=generator)
    usual = task.patches(pick, task.places(pick, generator)).flatten(0, 2)
    basis = whitening(usual)
    difference = mean_patch(task, centres) - usual.mean(0)
    shape = (landmarks - centres[:, None]).mean(0)
    around = torch.arange(-task.radius, task.radius + 1, device=basis.device)
    start = []
    for number in range(settings.anchor_pairs):
        x, y = shape[ANCHOR_PARTS[number]]
        near = torch.exp(-((around - x) ** 2 + (around[:, None] - y) ** 2) / (2 * PART_SD**2)).flatten()
        start.append(basis.T @ (near * difference) * START)
    mean, spread = centres.mean(0), centres.std(0).clamp_min(LEAST_SPREAD)
    bias = -((window.grid(centres) - mean) / (BIAS_SD * spread)).square().sum(-1) / 2
    return Bank(basis[None], torch.stack(start)[None], bias[None], 1.5, 6.0)


def follower_bank(task: Task, settings: WinnersConfig, seed: int) -> Bank:
    """The followers before training: the usual look of each part; further pairs of a channel start a little beside."""
    generator = torch.Generator().manual_seed(seed)
    assert task.anchors is not None
    pick = torch.randint(len(task.scenes), (1000,), generator=generator)
    patches = task.patches(pick, task.places(pick, generator))
    bases, starts, biases = [], [], []
    for channel, window in enumerate(task.windows):
        usual = patches[:, channel].flatten(0, 1)
        basis = whitening(usual)
        template = basis.T @ (mean_patch(task, task.wanted[:, channel]) - usual.mean(0)) * START
        beside = torch.randn((settings.follower_pairs, len(template)), generator=generator).to(template)
        beside[0] = 0
        starts.append(template + 0.1 * template.std() * beside)
        offset = task.wanted[:, channel] - task.anchors
        apart = (window.grid(offset) - offset.mean(0)) / (1.3 * offset.std(0).clamp_min(LEAST_SPREAD))
        biases.append(-apart.square().sum(-1) / 2)
        bases.append(basis)
    weight = 6.0 / settings.follower_pairs
    return Bank(torch.stack(bases), torch.stack(starts), torch.stack(biases), weight, 4.0)


def anchor_descent(bank: Bank, task: Task, settings: WinnersConfig, pixels: PairPixels, seed: int) -> Descent:
    """Training of the anchor: in each step the places next to the truth, and some of the others for all of them."""
    grid = task.windows[0].grid(task.wanted)
    count = len(grid)
    near = min(NEAR, count)

    def loss(generator: torch.Generator) -> Tensor:
        pick = torch.randint(len(task.scenes), (settings.batch,), generator=generator).to(task.scenes.device)
        shares = wanted_shares(grid.expand(len(pick), 1, -1, -1), task.wanted[pick])[:, 0]
        close = shares.topk(near, -1).indices
        far = torch.randint(count, (len(pick), FAR), generator=generator).to(close.device)
        chosen = torch.cat([close, far], 1)
        patches = task.patches(pick, grid[chosen].long()[:, None])
        drive = bank.drive(patches, bank.bias[0][chosen][:, None], pixels, generator)[:, 0]
        # A place drawn stands for many; one that is near the truth is there already.
        again = (far[:, :, None] == close[:, None, :]).any(-1)
        stands_for = math.log(max(count - near, 1) / FAR)
        extra = torch.full(far.shape, stands_for, device=drive.device).masked_fill(again, -torch.inf)
        total = torch.logsumexp(drive + torch.cat([torch.zeros_like(drive[:, :near]), extra], 1), -1, keepdim=True)
        target = shares.gather(1, close)
        target = target / target.sum(-1, keepdim=True)
        return -(target * (drive[:, :near] - total)).sum(-1).mean()

    return Descent(bank.groups(settings.rate), loss, settings.anchor_steps, seed)


def follower_descent(bank: Bank, task: Task, settings: WinnersConfig, pixels: PairPixels, seed: int) -> Descent:
    """Training of the followers, about anchors that err as they will."""

    def loss(generator: torch.Generator) -> Tensor:
        pick = torch.randint(len(task.scenes), (settings.batch,), generator=generator).to(task.scenes.device)
        places = task.places(pick, generator)
        drive = bank.drive(task.patches(pick, places), bank.bias, pixels, generator)
        target = wanted_shares(places.to(drive), task.wanted[pick])
        return -(target * drive.log_softmax(-1)).sum(-1).mean()

    return Descent(bank.groups(settings.rate), loss, settings.follower_steps, seed)


@torch.no_grad()
def held_out(bank: Bank, task: Task, pixels: PairPixels, seed: int, batch: int = 64) -> tuple[float, Tensor]:
    """Cross-entropy, and mean distance (C,) in pixels of the winners from the truth, on scenes of other people."""
    generator = torch.Generator().manual_seed(seed)
    entropy, distance = [], []
    for pick in torch.arange(len(task.scenes)).split(batch):
        places = task.places(pick, generator)
        drive = bank.drive(task.patches(pick, places), bank.bias, pixels, generator)
        shares = wanted_shares(places.to(drive), task.wanted[pick])
        entropy.append(-(shares * drive.log_softmax(-1)).sum(-1).mean(-1))
        index = drive.argmax(-1)[..., None, None].expand(-1, -1, 1, 2)
        distance.append((places.gather(2, index)[:, :, 0] - task.wanted[pick]).norm(dim=-1))
    return float(torch.cat(entropy).mean()), torch.cat(distance).mean(0)


def signed_kernels(bank: Bank) -> list[Tensor]:
    """Kernels (M, k, k) of each channel as point-spread functions: mirrored, since light convolves."""
    side = math.isqrt(bank.basis.shape[1])
    return [channel.unflatten(-1, (side, side)).flip(-2, -1) for channel in bank.kernels().detach()]


def names_of_channels(settings: WinnersConfig) -> Sequence[str]:
    """Names of the channels, the anchor first."""
    return ("face", *settings.followers)
