"""The designed camera, built from its stored state, and how strongly its anchor is driven."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from codesign.cameras import geometry_of
from codesign.config import TrainMaskConfig, WinnersConfig
from codesign.errors import CodesignError
from codesign.winners.kernels import Bank
from codesign.winners.masks import masks_of
from faces.samples import FaceSet
from sim.winners import FixedTiles, MaskTiles, PairPixels, Readout, TileArray, Window, WinnerCamera

CHUNK = 64


def pixels_of(settings: WinnersConfig) -> PairPixels:
    """The pixels and comparators of a configuration."""
    return PairPixels(
        settings.electrons_at_white, settings.dark_e, settings.read_noise_e, settings.floor_e, settings.gain_mismatch,
        settings.offset_mismatch, settings.comparator_noise,
    )  # fmt: skip


def readout_state(banks: list[Bank], windows: tuple[Window, ...]) -> dict[str, Tensor]:
    """What banks of channels have learned beside their kernels, as the state of a read-out; the anchor first."""
    # A stored state lies on the CPU.
    state = {"windows": torch.tensor([[w.top, w.left, w.height, w.width] for w in windows], device="cpu")}
    pairs = [bank.weight.shape[1] for bank in banks for _ in range(bank.weight.shape[0])]
    state["channel_of"] = torch.repeat_interleave(torch.arange(len(pairs)), torch.tensor(pairs, device="cpu"))
    for name in ("weight", "gain", "offset"):
        state[name] = torch.cat([getattr(bank, name).detach().flatten() for bank in banks]).cpu()
    biases = [bias for bank in banks for bias in bank.bias.detach()]
    for number, (window, bias) in enumerate(zip(windows, biases, strict=True)):
        state[f"bias.{number}"] = bias.unflatten(0, (window.height, window.width)).cpu()
    state["level"] = torch.tensor(-torch.inf, device="cpu")
    return state


def readout_of(state: Mapping[str, Tensor]) -> Readout:
    """The read-out of a stored design.

    Raises:
        CodesignError: A tensor is missing or has another shape.
    """
    try:
        windows = tuple(Window(*row) for row in state["windows"].tolist())
        readout = Readout(state["channel_of"].tolist(), windows)
        names = readout.state_dict()
        readout.load_state_dict({name: state[name] for name in names})
    except (KeyError, RuntimeError, TypeError) as error:
        raise CodesignError(
            f"the stored design of the camera of pairs is not whole ({str(error).splitlines()[0]}); use the mask file "
            "of this run."
        ) from error
    return readout.requires_grad_(False)


def array_of(settings: WinnersConfig) -> TileArray:
    """Where the tiles stand."""
    return TileArray(settings.tile_columns, settings.tile_pitch_m)


def build_winners(
    config: TrainMaskConfig, state: Mapping[str, Tensor], *, chip: int, psfs: Tensor | None = None
) -> WinnerCamera:
    """The camera of a design.

    Args:
        config: Configuration of the run.
        state: The stored design.
        chip: Seed of the chip's mismatch.
        psfs: (T, L, K, K) in place of those of the stored masks: ideal kernels, or other optics.
    """
    settings = config.winners
    geometry = geometry_of(config.optics)
    weights, array = settings.filter_weights, array_of(settings)
    tiles: FixedTiles | MaskTiles
    if psfs is None:
        with torch.no_grad():
            made = MaskTiles(masks_of(config, geometry, state), geometry, settings.pixels, weights, array)
            psfs = made.psfs()
    tiles = FixedTiles(psfs, geometry, settings.pixels, weights, array)
    return WinnerCamera(tiles, pixels_of(settings), readout_of(state), chip=chip).eval()


@torch.no_grad()
def strongest_drives(camera: WinnerCamera, faces: FaceSet, seed: int, *, scrambled: bool = False) -> Tensor:
    """Largest drive (N,) of the anchor in one exposure of each capture.

    Args:
        camera: The camera.
        faces: Captures.
        seed: Seed of the noise.
        scrambled: Whether phases of the scenes are drawn at random first, alike in all colours: the same detail and
            colours, and no face.
    """
    generator, found = torch.Generator().manual_seed(seed), []
    for pick in torch.arange(len(faces)).split(CHUNK):
        scenes = faces.subset(pick).linear()
        if scrambled:
            noise = torch.fft.rfft2(torch.rand(len(scenes), 1, *scenes.shape[-2:], generator=generator))
            phases = noise / noise.abs().clamp_min(1e-12)
            spectrum = torch.fft.rfft2(scenes) * phases
            scenes = torch.fft.irfft2(spectrum, s=scenes.shape[-2:]).clamp(0.0, 1.0)
        ratios = camera.log_ratios(camera.tiles(scenes), generator)
        drives = camera.readout.drives(ratios, camera.pixels, generator)
        found.append(camera.readout.anchor_drives(drives).amax(-1))
    return torch.cat(found)
