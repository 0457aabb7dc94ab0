"""Attackers' tools that turn encoded frames back into pictures: the Wiener filter and a learned inverse."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from evaluation.errors import EvaluationError
from evaluation.frame_attackers.encoded import EncodedFaces, channels_last, contrast
from evaluation.training import optimise


class WienerFilter(nn.Module):
    """Best linear estimate of a stationary scene from noisy pixels, with the true camera and the spectrum of faces.

    A pixel is the mean of ``block`` x ``block`` cells of the blurred scene, so it carries G = A H (pixel aperture A,
    point-spread function H), and every scene frequency f of a pixel grid comes with its aliases f + m / block. With the
    pixels on a grid of zeros and scaled by block^2, the filter of least squared error is

        conj(G(f)) S(f) / (sum_m |G(f + m / block)|^2 S(f + m / block) + block^2 N)

    per channel (Wiener 1949; with aliasing: Huck et al., J. Opt. Soc. Am. A 2, 1644 (1985)). ``S`` is the power
    per sample of clean training scenes without their means, ``N`` the variance of one pixel. The mean passes as it is.

    Args:
        psf: (C, K, K) shares of the light for the channels of the frame, on scene cells, K odd.
        pixels: Pixels across the sensor; divides the scene samples.
        scenes: (M, C, S, S) clean training scenes in the units of the frame (what a sharp noiseless camera would show).
        noise_variance: Variance of one frame pixel.

    Raises:
        EvaluationError: If shapes do not fit, or the noise variance is negative.
    """

    def __init__(self, psf: Tensor, pixels: int, scenes: Tensor, noise_variance: float) -> None:
        super().__init__()
        side, window = scenes.shape[-1], psf.shape[-1]
        if side % pixels:
            raise EvaluationError(f"{pixels} pixels do not divide {side} scene samples; choose a divisor.")
        if psf.shape[0] != scenes.shape[1] or window % 2 == 0 or window > 2 * side:
            raise EvaluationError(
                f"a point-spread function of shape {tuple(psf.shape)} does not fit scenes of shape "
                f"{tuple(scenes.shape)}; give one of the frame's channels, odd and not wider than two scenes."
            )
        if noise_variance < 0:
            raise EvaluationError(f"the noise variance is {noise_variance}; it cannot be negative.")
        self.side, self.block = side, side // pixels
        self.pad = pixels // 2  # pixels on each side
        length = self.block * (pixels + 2 * self.pad)
        kernel = torch.zeros(psf.shape[0], length, length, dtype=torch.float64, device=scenes.device)
        kernel[:, :window, :window] = psf
        blur = torch.fft.fft2(torch.roll(kernel, (-(window // 2), -(window // 2)), dims=(-2, -1)))
        # Cells 0 .. block - 1 of a pixel, which is placed at its first cell.
        turn = torch.exp(
            2j
            * torch.pi
            * torch.fft.fftfreq(length, dtype=torch.float64, device=scenes.device)[:, None]
            * torch.arange(self.block, device=scenes.device)
        )
        aperture = turn.mean(1)
        through = blur * aperture[:, None] * aperture[None, :]
        spectrum = _power(scenes.double(), length)
        received = through.abs().square() * spectrum
        folds = received.reshape(len(psf), self.block, length // self.block, self.block, length // self.block)
        total = folds.sum(dim=(1, 3)).repeat(1, self.block, self.block) + self.block**2 * noise_variance
        gain = through.conj() * spectrum / total.clamp_min(1e-12 * float(spectrum.max()))
        gain[..., 0, 0] = 1 / blur[..., 0, 0].real.clamp_min(1e-3)
        self.gain: Tensor
        self.register_buffer("gain", gain[..., : length // 2 + 1].to(torch.complex64))

    def forward(self, frames: Tensor) -> Tensor:
        """Estimated scenes (N, C, S, S) of frames (N, C, n, n)."""
        # Edges go on, so that the wrap-around of the transform does not put one edge beside the other. Of reflected,
        # dark and repeated edges, the last leave the smallest error on wide point-spread functions, by up to a third.
        padded = functional.pad(frames, (self.pad,) * 4, mode="replicate")
        length = padded.shape[-1] * self.block
        spread = padded.new_zeros(*padded.shape[:2], length, length)
        spread[..., :: self.block, :: self.block] = padded * self.block**2
        full = torch.fft.irfft2(torch.fft.rfft2(spread) * self.gain, s=(length, length))
        start = self.pad * self.block
        return full[..., start : start + self.side, start : start + self.side]


def _power(scenes: Tensor, length: int) -> Tensor:
    """Mean power per sample (C, length, length) of scenes (M, C, S, S) without their means, under a Hann window."""
    side = scenes.shape[-1]
    taper = torch.hann_window(side, periodic=False, dtype=scenes.dtype, device=scenes.device)
    centred = (scenes - scenes.mean(dim=(-2, -1), keepdim=True)) * taper[:, None] * taper[None, :]
    power = torch.fft.fft2(centred, s=(length, length)).abs().square().mean(0)
    return power / taper.square().sum() ** 2


class UNet(nn.Module):
    """Three-level U-Net (Ronneberger et al. 2015) from held frames to scenes, residual to its input.

    Blocks of 2 x 2 samples become channels at the entrance and samples again at the exit: frames are coarser than
    scenes, so nothing is lost, and a step costs a quarter.
    """

    def __init__(self, channels: int, width: int = 24) -> None:
        super().__init__()

        def pair(a: int, b: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(a, b, 3, padding=1), nn.GroupNorm(8, b), nn.ReLU(inplace=True),
                nn.Conv2d(b, b, 3, padding=1), nn.GroupNorm(8, b), nn.ReLU(inplace=True),
            )  # fmt: skip

        self.down1, self.down2 = pair(4 * channels, width), pair(width, 2 * width)
        self.bottom = pair(2 * width, 4 * width)
        self.up2, self.up1 = pair(6 * width, 2 * width), pair(3 * width, width)
        self.out = nn.Conv2d(width, 4 * channels, 3, padding=1)
        # Starts as the held frame; random weights would write a checkerboard that takes long to unlearn.
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Scenes (N, C, S, S) of frames stretched to that size; S is a multiple of 8."""

        def up(low: Tensor, high: Tensor) -> Tensor:
            wide = functional.interpolate(low, size=high.shape[-2:], mode="bilinear", align_corners=False)
            return torch.cat([wide, high], dim=1)

        a = self.down1(functional.pixel_unshuffle(x, 2))
        b = self.down2(functional.avg_pool2d(a, 2))
        c = self.bottom(functional.avg_pool2d(b, 2))
        result: Tensor = x + functional.pixel_shuffle(self.out(self.up1(up(self.up2(up(c, b)), a))), 2)
        return result


class UNetInverter:
    """Learned inverse of the camera: a U-Net from encoded frames to scenes, trained on pairs it makes itself.

    Args:
        seed: Seed for weights, batches and noise.
        steps: Training steps.
        batch: Faces in a step.
    """

    def __init__(self, *, seed: int, steps: int, batch: int = 24) -> None:
        self.seed, self.steps, self.batch = seed, steps, batch

    def _held(self, frames: Tensor) -> Tensor:
        frames = (frames - self._mean) / (4 * self._sd) + 0.5
        held = functional.interpolate(frames, size=(self._scene_px,) * 2, mode="bilinear", align_corners=False)
        return held.contiguous(memory_format=torch.channels_last)

    def fit(self, faces: EncodedFaces, scenes: Tensor) -> None:
        """Train on frames of ``faces`` against their clean scenes (N, C, S, S) in 0..1 (display-encoded).

        Raises:
            EvaluationError: If scenes and frames do not belong together.
        """
        if scenes.shape[:2] != faces.signal.shape[:2] or scenes.shape[-1] != faces.scene_px:
            raise EvaluationError(
                f"{tuple(scenes.shape)} scenes cannot be the targets of {tuple(faces.signal.shape)} frames; give one "
                f"scene of {faces.scene_px} pixels with the channels of the frame for each."
            )
        generator = torch.Generator().manual_seed(self.seed)
        self._mean, self._sd = contrast(faces, generator)
        self._scene_px = faces.scene_px
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.network = channels_last(UNet(faces.signal.shape[1])).to(faces.signal.device)

        def loss(step: int) -> Tensor:
            pick = torch.randint(len(faces), (self.batch,), generator=generator)
            frames = faces.read(faces.signal[pick], generator)
            # L1 keeps edges that a squared error would blur away.
            return (self.network(self._held(frames)) - scenes[pick]).abs().mean()

        optimise([(self.network.parameters(), 2e-3)], loss, steps=self.steps, weight_decay=1e-4, rise=0.1)
        self.network.eval()

    @torch.no_grad()
    def invert(self, frames: Tensor) -> Tensor:
        """Scenes (N, C, S, S) in 0..1, display-encoded, estimated from frames (N, C, n, n)."""
        images: Tensor = self.network(self._held(frames)).clamp(0, 1)
        return images

    def restore(self, faces: EncodedFaces, seed: int) -> Tensor:
        """Reconstructed scenes (N, C, S, S) in 0..1 from one exposure of each capture."""
        generator = torch.Generator().manual_seed(seed)
        parts = torch.arange(len(faces)).split(128)
        return torch.cat([self.invert(faces.read(faces.signal[pick], generator)) for pick in parts])
