"""The table of attackers on a camera: what each knows, how it is made, and how it is called in reports.

An attacker is added by one row of :data:`ATTACKERS`: the proof makes it, jobs start by its cost, the report shows its
name, what it knows, and the pictures that it restores. :mod:`evaluation.frame_attackers` holds their mathematics.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from codesign.cameras import OPTICS_ABLATIONS, displayed
from codesign.config import TrainMaskConfig
from codesign.data import Part
from codesign.decoders import reader
from codesign.errors import CodesignError
from evaluation.frame_attackers.crop_network import CropNetwork
from evaluation.frame_attackers.encoded import EncodedFaces
from evaluation.frame_attackers.inverters import UNetInverter, WienerFilter
from evaluation.frame_attackers.recognisers import Attacker, LinearDiscriminant, ScratchRecogniser, SFaceAttacker
from faces.recognisers import load_sface
from faces.samples import linear_to_srgb
from sim.camera import EncoderCamera

#: The attacker that is trained with several numbers of people, and the one that joins the others.
LEARNER, FUSED = "crop-network", "fused"
#: The attacker on places, which takes the part of the learned one on a camera that releases nothing else.
PLACES = "winner-places"
#: Most training captures that an attacker embeds for its closed-form discriminant.
ADAPT_LIMIT = 1000


@dataclass(frozen=True)
class Target:
    """What an attacker has at hand who owns the same camera.

    Attributes:
        camera: The camera.
        train: Training people.
        signal: Their relative signals (:func:`codesign.decoders.relative_signal`).
        config: Configuration of the run, with the steps of each attacker.
        seed: Seed for all random numbers of the attacker.
    """

    camera: EncoderCamera
    train: Part
    signal: Tensor
    config: TrainMaskConfig
    seed: int


@dataclass(frozen=True)
class CameraAttacker:
    """One row of the table.

    Attributes:
        name: As in results and file names.
        shown_as: As in reports.
        knows: What it knows and trains on, for the report.
        cost: Its place by running time: jobs of higher cost start earlier, so that no long one is left to the end.
        make: (row, target) -> an attacker ready to be fitted; None for those that see no frame.
        sees: What it is given: frames, the released landmarks alone, the places of winners, or the embeddings that the
            other attackers made.
        crowd: Whether it trains on all people that attackers have, with moved copies of their faces; otherwise on the
            training people of the run.
        averages: Whether it is also tried on several exposures of a still face in front of our camera.
        restores: Under which name the report shows its reconstructions of our frames; "" if it makes none.
        against: Cameras that it is tried on: ``coded`` is every camera but the clean one, which has nothing to restore.
    """

    name: str
    shown_as: str
    knows: str
    cost: float
    make: Callable[[CameraAttacker, Target], Attacker] | None = None
    sees: Literal["frames", "landmarks", "places", "embeddings"] = "frames"
    crowd: bool = False
    averages: bool = False
    restores: str = ""
    against: Literal["all", "coded", "clean"] = "all"


def encode(camera: EncoderCamera, part: Part, signal: Tensor) -> EncodedFaces:
    """One part of the split as a camera sees it; ``signal`` is relative (:func:`codesign.decoders.relative_signal`)."""
    faces, device = part.faces, signal.device
    return EncodedFaces(
        signal,
        faces.identity.to(device),
        faces.capture.to(device),
        part.points5.float().to(device),
        camera.scene_px,
        reader(camera),
        opening(camera),
    )


def opening(camera: EncoderCamera) -> float:
    """Side of what the field stop of a camera leaves open, as a share of the window; 1 without a stop.

    Of a grey mask it is the side of the square around the centre that gets all but a twentieth of the light.
    """
    if camera.grey is not None:
        passed = camera.field.detach().flatten()
        across = ((torch.arange(camera.scene_px, device=passed.device) + 0.5) / camera.scene_px - 0.5).abs()
        reach, order = torch.maximum(across[:, None], across[None, :]).flatten().sort(stable=True)
        light = passed[order].cumsum(0) / passed.sum()
        return min(1.0, 2 * float(reach[int((light < 0.95).sum())]))
    stop = camera.exposure.field_stop
    return 1.0 if stop is None else min(1.0, 2 * max(stop.half_width, stop.half_height))


def shown_scenes(camera: EncoderCamera, part: Part, signal: Tensor, picks: Tensor) -> Tensor:
    """Clean scenes (N, C, S, S) with the channels of the camera, in linear light, as bright as its meter makes them."""
    scenes = part.faces.subset(picks).linear().to(signal.device)
    scenes = scenes if camera.exposure.colour else (scenes * camera.weights).sum(1, keepdim=True)
    return scenes * camera.meter_gain(signal[picks].float() * camera.exposure.electrons_at_white)


def wiener(target: Target) -> WienerFilter:
    """The Wiener filter of a camera, in units in which a white scene is one.

    The noise is shot noise at the mean signal of the training frames, read noise, and rounding to codes.
    """
    camera, train, signal = target.camera, target.train, target.signal
    exposure = camera.exposure
    white = exposure.electrons_at_white
    step = exposure.full_well_e / (2**exposure.bits - 1)
    picks = torch.arange(0, len(train.faces), max(1, len(train.faces) // 400))
    electrons = signal[picks].float() * white
    shot = float((electrons * camera.meter_gain(electrons)).mean())
    variance = shot + exposure.read_noise_e**2 + step**2 / 12
    scenes = shown_scenes(camera, train, signal, picks)
    return WienerFilter(camera.frame_psf(), exposure.pixels, scenes, variance / white**2)


def _crop_network(row: CameraAttacker, target: Target) -> Attacker:
    return CropNetwork(seed=target.seed, steps=target.config.proof.crop_network_steps)


def _linear_discriminant(row: CameraAttacker, target: Target) -> Attacker:
    return LinearDiscriminant(seed=target.seed)


def _scratch(row: CameraAttacker, target: Target) -> Attacker:
    return ScratchRecogniser(seed=target.seed, steps=target.config.proof.scratch_steps)


def _fine_tuned(row: CameraAttacker, target: Target) -> Attacker:
    # Display-encoded frames are what the network was made for; fine-tuning starts nearer to its end.
    steps, exposure = target.config.proof.fine_tune_steps, target.camera.exposure
    network = load_sface(input_size=56)
    return SFaceAttacker(
        row.name, row.knows, network, seed=target.seed, steps=steps, restore=lambda frames: displayed(exposure, frames)
    )


def _as_published(row: CameraAttacker, target: Target) -> Attacker:
    exposure = target.camera.exposure
    return SFaceAttacker(
        row.name, row.knows, load_sface(), seed=target.seed, restore=lambda frames: displayed(exposure, frames)
    )


def _unet(row: CameraAttacker, target: Target) -> Attacker:
    """The U-Net is trained here, since its scenes are."""
    camera, train, signal = target.camera, target.train, target.signal
    inverter = UNetInverter(seed=target.seed, steps=target.config.proof.unet_steps)
    scenes = shown_scenes(camera, train, signal, torch.arange(len(train.faces)))
    inverter.fit(encode(camera, train, signal), linear_to_srgb(scenes.clamp(0.0, 1.0)))
    return SFaceAttacker(
        row.name,
        row.knows,
        load_sface(),
        seed=target.seed,
        adapt=True,
        restore=inverter.invert,
        adapt_limit=ADAPT_LIMIT,
    )


def _wiener_sface(row: CameraAttacker, target: Target) -> Attacker:
    return _restored(row, target, steps=0)


def _wiener_fine_tuned(row: CameraAttacker, target: Target) -> Attacker:
    return _restored(row, target, steps=target.config.proof.wiener_fine_tune_steps)


def _restored(row: CameraAttacker, target: Target, steps: int) -> Attacker:
    filter_, exposure = wiener(target), target.camera.exposure
    return SFaceAttacker(
        row.name,
        row.knows,
        load_sface(),
        seed=target.seed,
        steps=steps,
        last_layer=True,
        adapt=steps > 0,
        restore=lambda frames: displayed(exposure, frames, filter_),
    )


ATTACKERS = (
    CameraAttacker(
        "unet-inverter",
        "U-Net, then SFace",
        "knows the camera; learned inverse, then SFace with a closed-form discriminant",
        cost=7,
        make=_unet,
        restores="unet",
        against="coded",
    ),
    CameraAttacker(
        "sface-fine-tuned",
        "SFace, fine-tuned",
        "SFace fine-tuned on encoded frames of other people",
        cost=6,
        make=_fine_tuned,
        against="coded",
    ),
    CameraAttacker(
        "wiener-sface-fine-tuned",
        "Wiener, then SFace fine-tuned",
        "knows the exact camera; Wiener restoration, then SFace with its last layer fine-tuned and a closed-form "
        "discriminant",
        cost=5,
        make=_wiener_fine_tuned,
        against="coded",
    ),
    CameraAttacker(
        "wiener-sface",
        "Wiener, then SFace",
        "knows the exact camera; Wiener restoration, then SFace as published",
        cost=4,
        make=_wiener_sface,
        restores="wiener",
        against="coded",
    ),
    CameraAttacker(
        "sface-as-published",
        "SFace as published",
        "SFace as published on the frames as they are",
        cost=3.5,
        make=_as_published,
        against="clean",
    ),
    CameraAttacker(
        "scratch-recogniser",
        "recogniser from scratch",
        "convolutional recogniser trained from scratch on encoded frames of other people",
        cost=3.2,
        make=_scratch,
        crowd=True,
    ),
    CameraAttacker(
        "crop-network",
        "network on crops",
        "two-layer network on encoded frames of other people, cropped to the opening of the camera; it also learns "
        "what those people are made of",
        cost=3,
        make=_crop_network,
        crowd=True,
        averages=True,
        against="coded",
    ),
    CameraAttacker(
        "linear-discriminant",
        "linear discriminant",
        "closed-form discriminant on encoded frames of other people",
        cost=2,
        make=_linear_discriminant,
        crowd=True,
        averages=True,
    ),
    CameraAttacker(
        "winner-places",
        "places of winners",
        "sees all that leaves the chip: the places of the winners and whether there is a face; trains on other people",
        cost=1.5,
        sees="places",
    ),
    CameraAttacker(
        "landmarks-only",
        "released landmarks",
        "sees only the released landmarks and their confidences",
        cost=1,
        sees="landmarks",
    ),
    CameraAttacker(
        "fused",
        "the strongest together",
        "weighted sum of the similarities that the strongest attackers found; weights chosen on validation and "
        "calibration people",
        cost=0,
        sees="embeddings",
        against="coded",
    ),
)


def find(name: str) -> CameraAttacker:
    """The row of an attacker.

    Raises:
        CodesignError: If there is none of that name.
    """
    for row in ATTACKERS:
        if row.name == name:
            return row
    raise CodesignError(f"no attacker on a camera is called {name!r}; choose one of {', '.join(in_job_order())}.")


def in_job_order() -> tuple[str, ...]:
    """Names of all attackers, the most expensive first."""
    return tuple(row.name for row in sorted(ATTACKERS, key=lambda row: -row.cost))


def attackers_of(camera: str, chosen: Collection[str], *, places: bool = False) -> tuple[str, ...]:
    """Names of the attackers that a camera has to stand, the most expensive first.

    Args:
        camera: Name of the camera.
        chosen: Attackers that are tried at all (``proof.attackers``).
        places: Whether the camera releases places of winners and no frame; see :func:`releases_places`.
    """
    kinds = ("all", "clean") if camera == "clean" else ("all", "coded")
    unseen = "frames" if places else "places"
    return tuple(
        name for name in in_job_order() if name in chosen and find(name).against in kinds and find(name).sees != unseen
    )


def releases_places(config: TrainMaskConfig, camera: str) -> bool:
    """Whether a camera of a run releases places of winners and no frame."""
    return config.design == "winners" and camera in ("ours", *OPTICS_ABLATIONS)


def learner_of(config: TrainMaskConfig) -> str:
    """The attacker on our camera that is trained with several numbers of people."""
    return PLACES if releases_places(config, "ours") else LEARNER


def check_chosen(config: TrainMaskConfig) -> None:
    """Refuse a choice of attackers that leaves a camera without any.

    Raises:
        CodesignError: Nobody would be tried on our camera, or on the clean one.
    """
    chosen = config.proof.attackers
    for camera in ("ours", "clean"):
        places = releases_places(config, camera)
        if not any(find(name).sees != "embeddings" for name in attackers_of(camera, chosen, places=places)):
            raise CodesignError(
                f"proof.attackers = {', '.join(chosen)} leaves no attacker for the camera {camera!r}; add "
                "landmarks-only, which is tried on every camera."
            )


def with_share(name: str, share: float) -> str:
    """Name under which results of an attacker are kept that was trained with a share of its people."""
    return f"{name}-with-{share:g}"


def restorers() -> dict[str, str]:
    """Attackers whose reconstructions the report shows, by the name under which it does."""
    return {row.restores: row.name for row in ATTACKERS if row.restores}
