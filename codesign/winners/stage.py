"""The jobs of ``optishield train-mask`` that concern the camera of pairs: what it sees, its decoder, its ablations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from codesign.cameras import geometry_of
from codesign.config import TrainMaskConfig
from codesign.crowd import chosen_identities
from codesign.data import ATTACKERS, PARTS, Part, restore
from codesign.decoders import NARROW, WIDE, moved
from codesign.files import MASK, load_tensors
from codesign.proof import EMBEDDED, averaged
from codesign.winners.ablations import other_optics
from codesign.winners.camera import array_of, build_winners, pixels_of, readout_of
from codesign.winners.decoder import PlaceDecoder, Seen, teach_places
from codesign.winners.design import TRIM_CAPTURES
from codesign.winners.deviations import file_of, groups
from codesign.winners.trim import lit, trim
from evaluation import LandmarkAttacker
from faces.landmarks import nme, points_in, released
from faces.samples import FaceSet, interocular
from ground.pool import derived_seed
from sim.winners import FixedTiles, WinnerCamera, Winners

#: Name of the kind in descriptions of cameras.
WINNERS = "winners"
#: What a camera with other optics lacks.
LACKS = {"bare-lens": "the masks", "unlearned-pairs": "the learning of the masks"}
CHUNK = 64
#: Moved copies of each training face that the decoder is taught with.
COPIES = 1


def designed_with(splits: Mapping[str, Part]) -> FaceSet:
    """Everybody whom the camera may be designed with: training people, and the synthetic ones of attackers."""
    sets = [splits[name].faces for name in ("train", ATTACKERS)]
    return FaceSet(
        torch.cat([one.images for one in sets]),
        torch.cat([one.identity for one in sets]),
        torch.cat([one.capture for one in sets]),
        torch.cat([one.landmarks for one in sets]),
        "training people and those of attackers",
        "see manifest",
    )


def chip_of(config: TrainMaskConfig) -> int:
    """Serial number of the one chip that everybody of a run is seen by; an attacker owns the same."""
    return derived_seed(config.seed, "chip") % 2**31


@torch.no_grad()
def see(camera: WinnerCamera, faces: FaceSet, seed: int, copies: int = 0) -> tuple[Winners, Tensor]:
    """Winners of one exposure of each capture and of its moved copies, and all their landmarks (N, 68, 2)."""
    noise = torch.Generator().manual_seed(derived_seed(seed, "noise") % 2**63)
    move = torch.Generator().manual_seed(derived_seed(seed, "copies") % 2**63)
    places, present, landmarks = [], [], []
    for copy in range(copies + 1):
        for pick in torch.arange(len(faces)).split(CHUNK):
            part = faces.subset(pick)
            scenes, points = part.linear(), part.landmarks
            if copy:
                scenes, points = moved(scenes, points, "sixty-eight", WIDE, move)
            found = camera(scenes, noise)
            places.append(found.places)
            present.append(found.present)
            landmarks.append(points)
    return Winners(torch.cat(places), torch.cat(present)), torch.cat(landmarks)


def taught(camera: WinnerCamera, parts: Mapping[str, Part], config: TrainMaskConfig, seed: int) -> PlaceDecoder:
    """The decoder of a camera, taught with its training people."""
    rows, truth = [], []
    for name in _trained_on(parts):
        found, landmarks = see(camera, parts[name].faces, derived_seed(seed, name), COPIES)
        rows.append(found.places)
        truth.append(landmarks)
    landmarks = torch.cat(truth)
    decoder = PlaceDecoder(
        camera.readout.windows, points_in(config.landmarks), config.winners.pixels, config.optics.scene_px
    )
    seen = Seen(torch.cat(rows), released(landmarks, config.landmarks), interocular(landmarks))
    return teach_places(decoder, seen, config.winners, derived_seed(seed, "decoder") % 2**31)


def _trained_on(parts: Mapping[str, Part]) -> tuple[str, ...]:
    return tuple(name for name in ("train", ATTACKERS) if name in parts)


@dataclass(frozen=True)
class PairsSpec:
    """A camera of pairs in a comparison: the designed one, or the same with other optics.

    Attributes:
        name: Name in files and in the results.
    """

    name: str

    def to_json(self) -> dict[str, str]:
        """Plain values, as descriptions of other cameras have them."""
        return {"name": self.name, "kind": WINNERS}


@dataclass(frozen=True, eq=False)
class FinishedPairs:
    """A camera of pairs with its decoder: all that later stages need of it.

    Attributes:
        spec: The camera.
        validation_nme: Landmark error on the validation people.
        nme: Landmark error on the test people.
        decoder: State of its decoder.
        released: Places, presence and landmarks of each part; of people who train attackers also places of moved
            copies, of the others mean places of several exposures.
        signals: Empty: no light on the sensor is kept, since none of it leaves the chip.
    """

    spec: PairsSpec
    validation_nme: float
    nme: float
    decoder: Mapping[str, Tensor]
    released: Mapping[str, Tensor]
    signals: Mapping[str, Tensor] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Its figures, without tensors, for the marker of its stage."""
        found = {"spec": self.spec.to_json(), "validation_nme": self.validation_nme, "nme": self.nme}
        return found if self.spec.name == "ours" else found | {"ablation": LACKS[self.spec.name]}


@torch.no_grad()
def _finished(
    spec: PairsSpec,
    camera: WinnerCamera,
    decoder: PlaceDecoder,
    parts: Mapping[str, Part],
    config: TrainMaskConfig,
    seed: int,
) -> FinishedPairs:
    """What later stages need of a camera of pairs: places and landmarks of all parts, and its errors."""
    found: dict[str, Tensor] = {}
    for name, part in parts.items():
        found |= told(camera, decoder, name, part.faces, config, derived_seed(seed, "release", name))
    return FinishedPairs(
        spec=spec,
        validation_nme=error_of(found, "validation", parts["validation"].faces, config),
        nme=error_of(found, "test", parts["test"].faces, config),
        decoder={key: value.contiguous() for key, value in decoder.state_dict().items()},
        released=found,
    )


@torch.no_grad()
def told(
    camera: WinnerCamera, decoder: PlaceDecoder, name: str, faces: FaceSet, config: TrainMaskConfig, seed: int
) -> dict[str, Tensor]:
    """What leaves the chip of one part of the people, and what the decoder makes of it.

    Args:
        camera: The camera.
        decoder: Its decoder.
        name: The part; it decides what is kept beside places and landmarks.
        faces: The people.
        config: Configuration of the run.
        seed: Seed of all noise.

    Returns:
        ``places.NAME``, ``present.NAME`` and ``landmarks.NAME``; of people who train attackers ``copies.NAME``, places
        of moved copies, of the others mean places of several exposures, under :func:`codesign.proof.averaged`.
    """
    seen, _ = see(camera, faces, seed)
    found = {f"places.{name}": seen.places, f"present.{name}": seen.present}
    found[f"landmarks.{name}"] = decoder(seen.places)
    if name in EMBEDDED:
        found[averaged(name)] = exposed(camera, faces, config.proof.exposures, derived_seed(seed, "exposures"))
    else:
        copies = moved_copies(camera, faces, config.proof.attacker_copies, derived_seed(seed, "copies"))
        found[f"copies.{name}"] = copies
    return found


def error_of(found: Mapping[str, Tensor], name: str, faces: FaceSet, config: TrainMaskConfig) -> float:
    """Mean landmark error of the landmarks that :func:`told` found of a part."""
    true = faces.landmarks
    return float(nme(found[f"landmarks.{name}"], released(true, config.landmarks), interocular(true)).mean())


@torch.no_grad()
def exposed(camera: WinnerCamera, faces: FaceSet, exposures: int, seed: int) -> Tensor:
    """Mean places (N, C, 2) of several exposures of each still scene; light is computed once."""
    generator = torch.Generator().manual_seed(seed % 2**63)
    found = []
    for pick in torch.arange(len(faces)).split(CHUNK):
        light = camera.tiles(faces.subset(pick).linear())
        shots = [camera.winners(light, generator).places.float() for _ in range(exposures)]
        found.append(torch.stack(shots).mean(0))
    return torch.cat(found)


@torch.no_grad()
def moved_copies(camera: WinnerCamera, faces: FaceSet, copies: int, seed: int) -> Tensor:
    """Places (copies * N, C, 2) of slightly moved and mirrored copies, which an attacker trains on beside the faces."""
    generator = torch.Generator().manual_seed(seed % 2**63)
    found = [camera.readout.channel_of.new_zeros(0, len(camera.readout.windows), 2)]
    for _ in range(copies):
        for pick in torch.arange(len(faces)).split(CHUNK):
            part = faces.subset(pick)
            scenes, _ = moved(part.linear(), part.landmarks, "sixty-eight", NARROW, generator)
            found.append(camera(scenes, generator).places)
    return torch.cat(found)


def attack_places(folder: Path, config: TrainMaskConfig, name: str, share: float = 1.0) -> dict[str, Tensor]:
    """Job: the attacker who sees all that leaves the chip, trained on all people that attackers have.

    Args:
        folder: Run folder with the places that :func:`finished_camera` left.
        config: Configuration of the run.
        name: The camera.
        share: Share of its people that the attacker gets.

    Returns:
        Embeddings of the parts of :data:`codesign.proof.EMBEDDED`, of several exposures of each, and with
        ``proof.tolerances`` of what our camera releases off its design (:mod:`codesign.winners.tolerance`).
    """
    known = load_tensors(folder / "proof" / name / "released.safetensors")
    parts = {part: restore(folder, part) for part in ("train", ATTACKERS, "validation")}
    seed = derived_seed(config.seed, name, "winner-places")
    identity = {part: people.faces.identity for part, people in parts.items()}
    kept = chosen_identities(torch.cat([identity["train"], identity[ATTACKERS]]), share, config.seed)
    rows, people = [], []
    for part in ("train", ATTACKERS):
        copies = known[f"copies.{part}"].unflatten(0, (config.proof.attacker_copies, len(identity[part])))
        for places in (known[f"places.{part}"], *copies):
            mine = torch.isin(identity[part], kept)
            rows.append(places[mine])
            people.append(identity[part][mine])
    attacker = LandmarkAttacker(config.winners.pixels, seed=seed, steps=config.proof.landmark_steps)
    validation = (known["places.validation"], identity["validation"])
    attacker.fit(torch.cat(rows), torch.cat(people), validation=validation)
    found = {part: attacker.embed(known[f"places.{part}"]).float() for part in EMBEDDED}
    if share == 1.0:
        found |= {averaged(part): attacker.embed(known[averaged(part)]).float() for part in EMBEDDED}
    if share == 1.0 and name == "ours" and config.proof.tolerances:
        for group in range(len(groups())):
            seen = load_tensors(folder / "proof" / name / file_of(group))
            off = {key: places for key, places in seen.items() if not key.startswith("error.")}
            found |= {key: attacker.embed(places).float() for key, places in off.items()}
    return found


def finished_camera(folder: Path, config: TrainMaskConfig, spec: PairsSpec) -> FinishedPairs:
    """Job: a camera of pairs, its decoder, and what it sees of everybody.

    With other optics than the designed ones, read-out and decoder are trained for them; the read-out with the training
    people alone.

    Args:
        folder: Run folder with the design.
        config: Configuration of the run.
        spec: The camera.
    """
    parts = {name: restore(folder, name) for name in PARTS}
    state = load_tensors(folder / MASK)
    seed = derived_seed(config.seed, WINNERS, spec.name)
    if spec.name == "ours":
        camera = build_winners(config, state, chip=chip_of(config))
    else:
        camera = _with_other_optics(config, state, parts["train"].faces, spec.name, seed)
    decoder = taught(camera, parts, config, seed)
    return _finished(spec, camera, decoder, parts, config, seed)


def _with_other_optics(
    config: TrainMaskConfig, state: Mapping[str, Tensor], train: FaceSet, name: str, seed: int
) -> WinnerCamera:
    settings = config.winners
    geometry, own = geometry_of(config.optics), readout_of(state)
    other = other_optics(name, geometry, settings.pixels, own.windows, [bias.detach() for bias in own.bias])
    tiles = FixedTiles(other.psfs, geometry, settings.pixels, settings.filter_weights, array_of(settings))
    seen = lit(tiles, train, TRIM_CAPTURES, seed % 2**31)
    pixels = pixels_of(settings)
    descent = trim(other.readout, seen, settings.followers, pixels, settings.batch, settings.anchor_steps, seed % 2**31)
    while descent.done < descent.steps:
        descent.step()
    return WinnerCamera(tiles, pixels, other.readout.requires_grad_(False), chip=chip_of(config)).eval()
