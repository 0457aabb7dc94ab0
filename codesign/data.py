"""The people of a run: who trains, who sets thresholds, who validates, who is tested."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from codesign.config import TrainMaskConfig
from codesign.errors import CodesignError
from evaluation.people import DESIGN_BASE, FIRST_IDENTITY, enrolled, rendered, restore_photos, store_photos
from evaluation.photos import Photos
from faces.folders import load_folder
from faces.samples import FaceSet, five_points
from faces.splits import check_disjoint, split_by_identity, split_manifest
from ground.protocols import Progress, RunStore

#: In the order in which a folder of photographs is dealt out.
PARTS = tuple(FIRST_IDENTITY)
LEAST_PEOPLE = {"train": 8, "calibration": 4, "validation": 4, "test": 4}

Part = Photos
Splits = dict[str, Part]


def load_splits(config: TrainMaskConfig, progress: Progress) -> Splits:
    """Render or read the people of a run.

    Photographs come with five points of a detector only; their 68 landmarks are unknown (NaN) until a teacher fills
    them in (:func:`codesign.decoders.teach`).

    Raises:
        CodesignError: If a folder holds too few people.
        FacesError: If the folder cannot be used, or parts overlap.
    """
    share = config.data.gallery_captures / config.data.test_captures
    if config.faces == "synthetic":
        sets = {name: _synthetic(name, config, progress) for name in PARTS}
        points = {name: five_points(faces.landmarks) for name, faces in sets.items()}
    else:
        sets, points = _photographs(config, progress)
    check_disjoint(sets)
    return {name: Part(faces, points[name], enrolled(faces, share)) for name, faces in sets.items()}


def _synthetic(part: str, config: TrainMaskConfig, progress: Progress) -> FaceSet:
    data = config.data
    people: int = getattr(data, f"{part}_people")
    captures = data.train_captures if part == "train" else data.test_captures
    return rendered(
        part,
        people,
        captures,
        size_px=config.optics.scene_px,
        seed=config.seed,
        base=DESIGN_BASE,
        workers=config.workers,
        progress=progress,
    )


def _photographs(config: TrainMaskConfig, progress: Progress) -> tuple[dict[str, FaceSet], dict[str, Tensor]]:
    with progress.stage("photographs"):
        folder = load_folder(Path(config.faces), config.optics.scene_px)
    wanted = {name: float(getattr(config.data, f"{name}_people")) for name in PARTS}
    total = sum(wanted.values())
    people = len(torch.unique(folder.faces.identity))
    need = math.ceil(max(least * total / wanted[name] for name, least in LEAST_PEOPLE.items()))
    if people < max(need, sum(LEAST_PEOPLE.values())):
        raise CodesignError(
            f"{config.faces} holds {people} people with usable photographs, but the split of this configuration needs "
            f"{max(need, sum(LEAST_PEOPLE.values()))}; add people, or train on synthetic faces and use evaluate-mask."
        )
    sets = split_by_identity(folder.faces, {name: value / total for name, value in wanted.items()}, config.seed)
    points = {name: folder.points5[torch.isin(folder.faces.identity, faces.identity)] for name, faces in sets.items()}
    return sets, points


def store(run: RunStore, splits: Splits) -> None:
    """Leave the faces in the run folder for the worker processes; :func:`restore` reads them."""
    for name, part in splits.items():
        store_photos(run, f"faces-{name}", part)


def restore(folder: Path, name: str, source: str = "run") -> Part:
    """One part of the split as :func:`store` left it in a run folder."""
    return restore_photos(folder, f"faces-{name}", source)


def with_landmarks(part: Part, landmarks: Tensor) -> Part:
    """The same faces with other landmarks (N, 68, 2)."""
    return replace(part, faces=replace(part.faces, landmarks=landmarks.float()))


def manifest(splits: Mapping[str, Part]) -> dict[str, dict[str, object]]:
    """What the run writes down about its people; see :func:`faces.splits.split_manifest`."""
    return split_manifest({name: part.faces for name, part in splits.items()})
