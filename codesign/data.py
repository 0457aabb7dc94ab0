"""The people of a run: who trains, who sets thresholds, who validates, who is tested."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from codesign.config import TrainMaskConfig
from codesign.real_people import FIRST_REAL, RealPeople, agreement, deal, framing_result, joined, read_real
from codesign.records import PhotoData
from evaluation.people import DESIGN_BASE, FIRST_IDENTITY, enrolled, rendered, restore_photos, store_photos
from evaluation.photos import Photos
from faces.samples import FaceSet, five_points
from faces.splits import check_disjoint, split_manifest
from ground.protocols import Progress, RunStore

#: The people on whom attackers alone are trained, beside the training people; synthetic in every run.
ATTACKERS = "attackers"
PARTS = tuple(FIRST_IDENTITY)
#: The others; those of a folder of photographs are dealt out to these.
DEALT = tuple(name for name in PARTS if name != ATTACKERS)

#: File of a run with the hashes of its photographs, by part.
PHOTO_FILES = "photographs.json"

Part = Photos
Splits = dict[str, Part]


def load_splits(config: TrainMaskConfig, progress: Progress) -> Splits:
    """The people of a run; see :func:`load_people`."""
    return load_people(config, progress)[0]


def load_people(config: TrainMaskConfig, progress: Progress) -> tuple[Splits, RealPeople | None]:
    """Render or read the people of a run.

    Where the faces are photographs, real people train beside synthetic ones; thresholds, validation and test are real
    people alone. The part "attackers" is synthetic in every run.

    Returns:
        The parts, and what the folder of photographs held.

    Raises:
        CodesignError: If a folder holds too few people.
        FacesError: If the folder cannot be used, or parts overlap.
    """
    share = config.data.gallery_captures / config.data.test_captures
    real = None
    if config.faces == "synthetic":
        sets = {name: _synthetic(name, config, progress) for name in PARTS}
    else:
        real = read_real(Path(config.faces), config.optics.scene_px, progress)
        sets = deal(real, config.tune, config.seed)
        sets["train"] = joined(_synthetic("train", config, progress), sets["train"])
        sets[ATTACKERS] = _synthetic(ATTACKERS, config, progress)
    check_disjoint(sets)
    return {name: part_of(faces, share) for name, faces in sets.items()}, real


def part_of(faces: FaceSet, share: float) -> Part:
    """Faces with known landmarks as one part of a split.

    Args:
        faces: The faces.
        share: Share of each person's captures that are enrolled.
    """
    return Part(faces, five_points(faces.landmarks), enrolled(faces, share))


def _synthetic(part: str, config: TrainMaskConfig, progress: Progress) -> FaceSet:
    data = config.data
    sizes = {
        "train": (data.train_people, data.train_captures),
        ATTACKERS: (data.attacker_people, data.attacker_captures),
    }
    people, captures = sizes.get(part) or (getattr(data, f"{part}_people"), data.test_captures)
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


def store(run: RunStore, splits: Splits) -> None:
    """Leave the faces in the run folder for the worker processes; :func:`restore` reads them."""
    for name, part in splits.items():
        store_photos(run, f"faces-{name}", part)


def restore(folder: Path, name: str, source: str = "run") -> Part:
    """One part of the split as :func:`store` left it in a run folder."""
    return restore_photos(folder, f"faces-{name}", source)


def manifest(splits: Mapping[str, Part]) -> dict[str, dict[str, object]]:
    """What the run writes down about its people; see :func:`faces.splits.split_manifest`."""
    return split_manifest({name: part.faces for name, part in splits.items()})


def photo_data(real: RealPeople, splits: Mapping[str, Part], known: int = 0) -> PhotoData:
    """What a summary says of the photographs.

    Args:
        real: The photographs.
        splits: The parts they were dealt to, the test among them.
        known: People who were left out because a run had trained on them.
    """
    test = splits["test"]
    people = {name: int((part.identity.unique() >= FIRST_REAL).sum()) for name, part in splits.items()}
    return PhotoData(
        photographs=len(real.folder.faces),
        enrolled=int(test.gallery.sum()),
        left_out=len(real.folder.refused),
        images_sha256=str(manifest({"test": test})["test"]["images_sha256"]),
        agreement=agreement(real),
        framing=framing_result(real, splits["train"].faces),
        people={name: count for name, count in people.items() if count},
        known=known,
    )


def photo_files(real: RealPeople, splits: Mapping[str, Part]) -> dict[str, list[str]]:
    """SHA-256 of the photographs of each part, by which a later judgement knows whom the run has seen."""
    return {name: real.files_of(part.faces) for name, part in splits.items()}
