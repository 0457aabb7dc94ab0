"""Real people on photographs: framed as the synthetic heads of a run, marked by two networks, dealt out by person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from codesign.errors import CodesignError
from codesign.records import FramingResult, LandmarkAgreement, PhotoData
from evaluation import korn_graubard
from evaluation.measures.gates import LEAST_PEOPLE as FEWEST
from faces.files import cache_folder
from faces.folders import FolderFaces, list_people, load_folder
from faces.framing import HEADS, placements
from faces.samples import FaceSet, five_points
from faces.splits import named_people, split_by_identity
from faces.truth import SOURCES, LandmarkTruth
from ground.protocols import Progress

#: Real people are numbered from here, above all synthetic ones; those of a later judgement apart from those of a run.
FIRST_REAL, FIRST_JUDGED = 100_000_000, 200_000_000
#: Fewest people of each part.
LEAST_PEOPLE = {"train": 8, "calibration": 4, "validation": 4, "test": 4}
#: How further people are dealt out. Synthetic people train beside the real ones, so most of these are for the test.
_SHARES = {"train": 0.3, "calibration": 0.15, "validation": 0.1, "test": 0.45}
#: Beyond this share of the outer eye distance two sets of points count as apart.
APART = 0.1
_CACHE = "photographs"


@dataclass(frozen=True)
class RealPeople:
    """What a folder of photographs gave a run.

    Attributes:
        folder: The photographs, with all 68 landmarks.
        first: Number of the first person.
    """

    folder: FolderFaces
    first: int

    @property
    def names(self) -> tuple[str, ...]:
        """Folder names of the people, in the order of their numbers."""
        return self.folder.faces.names

    def without(self, hidden: set[str]) -> RealPeople:
        """The same photographs without some people.

        Args:
            hidden: Their names.
        """
        identity = self.folder.faces.identity
        rows = torch.isin(identity, identity.new_tensor([k for k, name in enumerate(self.names) if name not in hidden]))
        return replace(self, folder=_subset(self.folder, rows))

    def part(self, numbers: Tensor) -> FaceSet:
        """Some of the people, numbered apart from synthetic ones.

        Args:
            numbers: Their numbers within the folder.
        """
        faces = self.folder.faces
        chosen = faces.subset(torch.isin(faces.identity, numbers))
        return replace(chosen, identity=chosen.identity + self.first, names=())

    def files_of(self, faces: FaceSet) -> list[str]:
        """Sorted SHA-256 of the files of the people of a part."""
        numbers = (faces.identity - self.first).unique()
        rows = torch.isin(self.folder.faces.identity, numbers).tolist()
        return sorted(digest for digest, there in zip(self.folder.sha256, rows, strict=True) if there)


def read_real(path: Path, size_px: int, progress: Progress, first: int = FIRST_REAL) -> RealPeople:
    """The photographs of a folder, framed as synthetic heads are.

    Size and place of each face are drawn as the generator of the heads draws them, so that a camera meets both alike.
    Frames and points are kept in the cache, under the hashes of the files.

    Args:
        path: Folder with one folder of photographs for each person.
        size_px: Side of the frames.
        progress: Display.
        first: Number of the first person.

    Raises:
        FacesError: If the folder cannot be used, or weights are missing.
    """
    with progress.stage("photographs") as stage:
        folder = load_folder(path, size_px, truth=LandmarkTruth(), framing=HEADS, cache=cache_folder(_CACHE))
        stage.note(f"{len(folder.faces)} used, {len(folder.refused)} left out")
    return RealPeople(folder, first)


def deal(people: RealPeople, tune: str, seed: int) -> dict[str, FaceSet]:
    """Deal the people out to the parts of a run; nobody is in two.

    Args:
        people: The photographs.
        tune: Names of those who may train, set thresholds and validate (:func:`faces.splits.named_people`); all
            others are tested. "": everybody is dealt by lot.
        seed: Seed of the lot.

    Raises:
        CodesignError: If there are too few people.
        FacesError: If ``tune`` names somebody who is not there.
    """
    faces = people.folder.faces
    numbers = {people.names[int(number)]: int(number) for number in torch.unique(faces.identity)}
    tuned, counts = _plan(list(numbers), tune, faces.source)
    mine = faces.identity.new_tensor([numbers[name] for name in tuned])
    rows = faces.subset(torch.isin(faces.identity, mine))
    parts = {name: people.part(part.identity) for name, part in split_by_identity(rows, counts, seed).items()}
    if not tune:
        return parts
    others = faces.identity.new_tensor([number for name, number in numbers.items() if name not in tuned])
    return {**parts, "test": people.part(others)}


def check_folder(path: Path, tune: str) -> None:
    """See without opening a photograph whether a folder holds people enough.

    Args:
        path: Folder with one folder of photographs for each person.
        tune: As for :func:`deal`.

    Raises:
        CodesignError: If there are too few people.
        FacesError: If the folder has another layout, or ``tune`` names somebody who is not there.
    """
    _plan(list(list_people(path)), tune, str(path))


def _plan(names: Sequence[str], tune: str, where: str) -> tuple[set[str], dict[str, int]]:
    """Who is dealt out by lot, and to how many of them each part comes; with ``tune``, all others are tested."""
    if not tune:
        return set(names), _counts(LEAST_PEOPLE, len(names), f"{where} holds {len(names)} people")
    tuned = named_people(tune, names)
    least = {name: count for name, count in LEAST_PEOPLE.items() if name != "test"}
    counts = _counts(least, len(tuned), f"{tune} names {len(tuned)} people")
    tested = len(names) - len(tuned)
    if tested < LEAST_PEOPLE["test"]:
        raise CodesignError(
            f"{tune} leaves {tested} people of {where} for the test, but {LEAST_PEOPLE['test']} are needed; name "
            "fewer, or add people."
        )
    return tuned, counts


def joined(heads: FaceSet, photographs: FaceSet) -> FaceSet:
    """Synthetic heads and photographs as one part, the heads first.

    Args:
        heads: Synthetic people.
        photographs: Real people, numbered from :data:`FIRST_REAL`.
    """
    return FaceSet(
        images=torch.cat([heads.images, photographs.images]),
        identity=torch.cat([heads.identity, photographs.identity]),
        capture=torch.cat([heads.capture, photographs.capture]),
        landmarks=torch.cat([heads.landmarks, photographs.landmarks]),
        source=f"{heads.source} and {photographs.source}",
        licence=f"{heads.licence}; {photographs.licence}",
    )


def agreement(people: RealPeople) -> LandmarkAgreement:
    """How far the two networks put the five points apart on the photographs that were used, over people."""
    apart, identity = people.folder.apart, people.folder.faces.identity
    if apart is None:
        raise CodesignError("these photographs were marked by one network; read them with two.")
    values = apart.double().numpy()
    numbers = np.unique(identity.numpy())
    means = np.array([values[identity.numpy() == number].mean() for number in numbers])
    far = korn_graubard(values > APART, identity.numpy())
    return LandmarkAgreement(
        sources=SOURCES,
        mean=float(means.mean()),
        median=float(np.median(values)),
        beyond=APART,
        share_beyond=far.value,
        share_beyond_ci95=far.ci,
        people=len(numbers),
        photographs=len(values),
        left_out=sum(refusal.disagreement for refusal in people.folder.refused),
    )


def framing_result(people: RealPeople, heads: FaceSet) -> FramingResult:
    """Where faces lie in the frames of photographs and of heads, for comparison.

    Args:
        people: The photographs.
        heads: Synthetic heads of the same run; other people in the set are left out.
    """
    found: dict[str, tuple[float, float]] = {}
    sets = {"photographs": people.folder.faces, "heads": _synthetic(heads)}
    for name, faces in sets.items():
        rows = placements(five_points(faces.landmarks), faces.size)
        rows[:, 0] = np.exp(rows[:, 0])
        for key, column in zip(("size", "x", "y"), rows.T, strict=True):
            found[f"{name}_{key}"] = (float(column.mean()), float(column.std(ddof=1)))
    return FramingResult(**found)


def photo_limits(data: PhotoData | None) -> list[str]:
    """What the landmarks and frames of photographs leave open, a sentence each."""
    if data is None or data.agreement is None:
        return []
    found = data.agreement
    low, high = (0.0 if limit is None else limit for limit in found.share_beyond_ci95)
    tested = data.people.get("test", 0)
    few = f"Exploratory: {tested} tested people are fewer than {FEWEST}, too few for a claim."
    return [
        *([few] if tested < FEWEST else []),
        "Nobody marked the photographs by hand: their landmarks are the mean of two networks that were trained by "
        f"different people on different photographs, {found.sources[0]} and {found.sources[1]}. These lie "
        f"{found.mean or 0:.3f} of the outer eye distance apart (median {found.median or 0:.3f}; beyond "
        f"{found.beyond:g} in {found.share_beyond or 0:.1%} of the photographs, 95 % interval over people {low:.1%} to "
        f"{high:.1%}): landmark errors below half of that cannot be told from errors of the truth. Photographs left "
        f"out because the two disagreed: {found.left_out}.",
        "Size and place of the faces in their frames are drawn as those of synthetic heads are; what else differs "
        "between heads and photographs, light, hair, glasses and compression, is not matched.",
    ]


def _synthetic(faces: FaceSet) -> FaceSet:
    return faces.subset(faces.identity < FIRST_REAL)


def _counts(least: Mapping[str, int], people: int, who: str) -> dict[str, int]:
    """People of each part: the fewest it needs, and its share of the others, by largest remainder."""
    spare = people - sum(least.values())
    if spare < 0:
        needs = ", ".join(f"{count} for {name}" for name, count in least.items())
        raise CodesignError(
            f"{who} with photographs, but at least {sum(least.values())} are needed ({needs}); add people, or train on "
            "synthetic faces and use evaluate-mask."
        )
    total = sum(_SHARES[name] for name in least)
    exact = {name: spare * _SHARES[name] / total for name in least}
    counts = {name: count + int(exact[name]) for name, count in least.items()}
    rest = people - sum(counts.values())
    for name in sorted(exact, key=lambda part: int(exact[part]) - exact[part])[:rest]:
        counts[name] += 1
    return counts


def _subset(folder: FolderFaces, rows: Tensor) -> FolderFaces:
    picks = rows.nonzero()[:, 0].tolist()
    return replace(
        folder,
        faces=folder.faces.subset(rows),
        points5=folder.points5[rows],
        files=tuple(folder.files[k] for k in picks),
        padding=folder.padding[rows],
        apart=None if folder.apart is None else folder.apart[rows],
        sha256=tuple(folder.sha256[k] for k in picks),
    )
