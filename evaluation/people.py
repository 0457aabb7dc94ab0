"""The people of an evaluation: the attacker's own, those who set thresholds, and those who are tested."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from evaluation.config import EvaluateConfig
from evaluation.matrix.perceptual import check_no_near_duplicates
from evaluation.measures.gates import LEAST_PEOPLE
from evaluation.photos import Photos
from faces.files import cache_folder
from faces.folders import load_folder
from faces.samples import FaceSet, five_points
from faces.splits import check_disjoint, split_by_identity, split_manifest
from faces.synthetic import generate
from ground.protocols import Progress, RunStore

PARTS = ("train", "validation", "calibration", "test")
#: Synthetic people of each part are numbered from here, above the base of their command, so that parts stay apart
#: however large they are. "attackers" are further people on whom attackers alone are trained.
FIRST_IDENTITY = {
    "train": 0, "calibration": 1_000_000, "validation": 2_000_000, "test": 3_000_000, "attackers": 4_000_000,
}  # fmt: skip
#: Where the numbers of each command begin: a mask is never judged on people it was designed with.
DESIGN_BASE, EVALUATE_BASE = 0, 10_000_000


@dataclass(frozen=True)
class Part:
    """One part of the split.

    Attributes:
        photos: Gallery and probes, which are judged.
        spare: Further photographs of the same people, for protectors that must see a person first; may be empty.
    """

    photos: Photos
    spare: Photos


Parts = dict[str, Part]


@dataclass(frozen=True)
class People:
    """All parts, and what must be said of them.

    Attributes:
        parts: The parts by the names in :data:`PARTS`.
        exploratory: Why no claim can rest on these people, or "".
        left_out: Photographs that could not be used, with the reason.
    """

    parts: Parts
    exploratory: str
    left_out: tuple[str, ...] = ()


def rendered(
    part: str, people: int, captures: int, *, size_px: int, seed: int, base: int, workers: int, progress: Progress
) -> FaceSet:
    """Synthetic people of one part, from the cache if they were rendered before.

    Args:
        part: A key of :data:`FIRST_IDENTITY`.
        people: Number of people.
        captures: Number of captures of each.
        size_px: Side of the pictures in pixels.
        seed: Seed of everything that is drawn about them.
        base: Number that is added to :data:`FIRST_IDENTITY`, :data:`DESIGN_BASE` or :data:`EVALUATE_BASE`.
        workers: Number of processes that render.
        progress: Where a stage of the rendering is shown.
    """
    with progress.stage(f"faces, {part}", people * captures) as stage:
        last = 0

        def advance(done: int, total: int) -> None:
            nonlocal last
            stage.advance(done - last)
            last = done

        return generate(
            people,
            captures,
            size=size_px,
            seed=seed,
            first_identity=base + FIRST_IDENTITY[part],
            workers=workers,
            cache_dir=cache_folder("faces"),
            progress=advance,
        )


def store_photos(run: RunStore, name: str, photos: Photos) -> None:
    """Leave photographs under ``work/`` of the run folder for the worker processes; see :func:`restore_photos`."""
    faces = photos.faces
    run.write_tensors(
        f"work/{name}.safetensors",
        {
            "images": faces.images, "identity": faces.identity, "capture": faces.capture,
            "landmarks": faces.landmarks, "points5": photos.points5, "gallery": photos.gallery,
        },
    )  # fmt: skip


def restore_photos(folder: Path, name: str, source: str = "run") -> Photos:
    """Photographs as :func:`store_photos` left them in a run folder; ``source`` says where they come from."""
    values = load_file(folder / "work" / f"{name}.safetensors")
    faces = FaceSet(
        values["images"], values["identity"], values["capture"], values["landmarks"], source, "see manifest"
    )
    return Photos(faces, values["points5"], values["gallery"])


def enrolled(faces: FaceSet, share: float) -> Tensor:
    """Which captures (N,) are enrolled: the first ``share`` of each person's, at least one, never all of several."""
    gallery = torch.zeros(len(faces), dtype=torch.bool, device=faces.identity.device)
    for person in torch.unique(faces.identity):
        rows = torch.nonzero(faces.identity == person)[:, 0]
        rows = rows[torch.argsort(faces.capture[rows], stable=True)]
        count = min(max(1, math.floor(share * len(rows) + 0.5)), max(1, len(rows) - 1))
        gallery[rows[:count]] = True
    return gallery


def load_people(config: EvaluateConfig, progress: Progress) -> People:
    """Render or read the people of an evaluation, and prove that parts share neither people nor pictures.

    A folder that holds people enough for all parts is split by identity. Of a smaller one everybody is tested, against
    attackers and thresholds of synthetic heads, and the result is exploratory.

    Raises:
        EvaluationError: If a picture of one part is, but for compression or size, in another one.
        FacesError: If the folder cannot be used, or parts overlap.
    """
    people = _synthetic_people(config, progress) if config.faces == "synthetic" else _folder(config, progress)
    check_parts(people.parts)
    return people


def check_parts(parts: Mapping[str, Part]) -> None:
    """Make sure that no person and no picture is in two parts: by number, by pixels, and by perceptual hash.

    Raises:
        EvaluationError, FacesError: Parts share a person or a picture; the first one is named.
    """
    sets = {name: part.photos.faces for name, part in parts.items()}
    check_disjoint(sets)
    check_no_near_duplicates(sets)


def manifest(parts: Mapping[str, Part]) -> dict[str, dict[str, object]]:
    """What the run writes down about its people; see :func:`faces.splits.split_manifest`."""
    return split_manifest({name: part.photos.faces for name, part in parts.items()})


def _too_few(people: int, of_whom: str) -> str:
    if people >= LEAST_PEOPLE:
        return ""
    return f"{people} {of_whom} are fewer than {LEAST_PEOPLE}: intervals are too wide for a claim"


def _synthetic_people(config: EvaluateConfig, progress: Progress) -> People:
    parts = {name: _synthetic(name, config, progress) for name in PARTS}
    return People(parts, _too_few(config.people.test_people, "tested people"))


def _synthetic(name: str, config: EvaluateConfig, progress: Progress) -> Part:
    people = config.people
    count: int = getattr(people, f"{name}_people")
    captures = people.captures + people.fit_captures
    faces = rendered(
        name,
        count,
        captures,
        size_px=people.size_px,
        seed=config.seed,
        base=EVALUATE_BASE,
        workers=config.workers,
        progress=progress,
    )
    return _part(faces, five_points(faces.landmarks), config)


def _part(faces: FaceSet, points5: Tensor, config: EvaluateConfig) -> Part:
    """Put aside the last captures of each person for protectors, as far as a gallery and a probe photo remain."""
    people = config.people
    spare = torch.zeros(len(faces), dtype=torch.bool, device=faces.identity.device)
    kept = torch.zeros(len(faces), dtype=torch.bool, device=faces.identity.device)
    for person in torch.unique(faces.identity):
        rows = torch.nonzero(faces.identity == person)[:, 0]
        rows = rows[torch.argsort(faces.capture[rows], stable=True)]
        aside = max(0, min(people.fit_captures, len(rows) - 2))
        spare[rows[len(rows) - aside :]] = True
        kept[rows[: len(rows) - aside][: people.captures]] = True
    shown = faces.subset(kept)
    gallery = enrolled(shown, people.gallery_captures / people.captures)
    none = torch.zeros(int(spare.sum()), dtype=torch.bool, device=spare.device)
    return Part(
        Photos(shown, points5[kept].float(), gallery), Photos(faces.subset(spare), points5[spare].float(), none)
    )


def _folder(config: EvaluateConfig, progress: Progress) -> People:
    with progress.stage("photographs") as stage:
        folder = load_folder(Path(config.faces), config.people.size_px)
        stage.note(f"{len(folder.faces)} used, {len(folder.refused)} left out")
    faces, points5 = folder.faces, folder.points5
    left_out = tuple(f"{refusal.file.name}: {refusal.reason}" for refusal in folder.refused)
    wanted = {name: int(getattr(config.people, f"{name}_people")) for name in PARTS}
    people = len(torch.unique(faces.identity))
    if people >= sum(wanted.values()):
        sets = split_by_identity(
            faces, {name: value / sum(wanted.values()) for name, value in wanted.items()}, config.seed
        )
        parts = {
            name: _part(chosen, points5[torch.isin(faces.identity, chosen.identity)], config)
            for name, chosen in sets.items()
        }
        return People(parts, _too_few(parts["test"].photos.people, "tested people"), left_out)
    parts = {name: _synthetic(name, config, progress) for name in PARTS if name != "test"}
    parts["test"] = _part(faces, points5, config)
    reason = (
        f"{people} people with photographs are fewer than the {sum(wanted.values())} that all parts need: they are "
        "tested against attackers trained, and thresholds set, on synthetic heads"
    )
    return People(parts, reason, left_out)


def store(run: RunStore, parts: Mapping[str, Part]) -> None:
    """Leave the faces in the run folder for the worker processes; :func:`restore` reads them."""
    for name, part in parts.items():
        store_photos(run, f"{name}-photos", part.photos)
        store_photos(run, f"{name}-spare", part.spare)


def restore(folder: Path, name: str) -> Part:
    """One part of the split as :func:`store` left it in a run folder."""
    return Part(restore_photos(folder, f"{name}-photos"), restore_photos(folder, f"{name}-spare"))


def shown_as(photos: Photos, levels: Tensor) -> Photos:
    """The same people in other pictures, (N, 3, S, S) uint8, for instance protected ones."""
    return replace(photos, faces=replace(photos.faces, images=levels, regions=None))
