"""Everybody whom an attacker on a camera may train on: the training people of the run, and further synthetic ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from codesign.attackers import encode
from codesign.auxiliary import AUXILIARY
from codesign.config import TrainMaskConfig
from codesign.data import ATTACKERS, Part, restore
from codesign.decoders import NARROW, moved_signal
from codesign.files import load_tensors
from evaluation.frame_attackers.encoded import EncodedFaces
from ground.pool import derived_seed
from sim.camera import EncoderCamera


def crowd(
    folder: Path,
    config: TrainMaskConfig,
    camera: EncoderCamera,
    train: Part,
    signals: Mapping[str, Tensor],
    share: float = 1.0,
) -> EncodedFaces:
    """All people that attackers have, as a camera sees them, each face also in moved and mirrored copies.

    Args:
        folder: Run folder, from which the further people and their auxiliary targets are read.
        config: Configuration of the run.
        camera: The camera.
        train: Training people of the run.
        signals: Relative signals by part. Without those of the further people, which the clean camera does not need to
            recognise everybody, the training people are taken as they are.
        share: Share of all people, for a learning curve; a smaller share is part of a larger one.
    """
    if ATTACKERS not in signals:
        return encode(camera, train, signals["train"])
    auxiliary = load_tensors(folder / AUXILIARY)
    parts = {"train": train, ATTACKERS: restore(folder, ATTACKERS)}
    kept = chosen_identities(torch.cat([part.faces.identity for part in parts.values()]), share, config.seed)
    found = []
    for name, part in parts.items():
        rows = torch.isin(part.faces.identity, kept)
        some, targets = part.subset(rows), auxiliary[name][rows].to(signals[name].device)
        if not len(some):
            continue
        faces = replace(encode(camera, some, signals[name][rows]), auxiliary=targets)
        found.append(faces)
        for copy in range(config.proof.attacker_copies):
            seed = derived_seed(config.seed, "copies", name, str(copy))
            signal, points5 = moved_signal(camera, some, NARROW, seed)
            found.append(replace(faces, signal=signal, points5=points5))
    return _joined(found)


def chosen_identities(identity: Tensor, share: float, seed: int) -> Tensor:
    """The people of a share of all (N,) identities; a smaller share is part of a larger one."""
    people = torch.unique(identity)
    generator = torch.Generator().manual_seed(derived_seed(seed, "learning curve") % 2**63)
    order = torch.randperm(len(people), generator=generator)
    return people[order[: chosen_people(len(people), share)]]


def chosen_people(people: int, share: float) -> int:
    """Number of people that a share of them is: at least four, which an attacker needs to learn anything."""
    return max(4, math.ceil(share * people))


def _joined(sets: Sequence[EncodedFaces]) -> EncodedFaces:
    """Several sets of one camera as one."""
    return replace(
        sets[0],
        signal=torch.cat([one.signal for one in sets]),
        identity=torch.cat([one.identity for one in sets]),
        capture=torch.cat([one.capture for one in sets]),
        points5=torch.cat([one.points5 for one in sets]),
        auxiliary=torch.cat([one.auxiliary for one in sets if one.auxiliary is not None]),
    )
