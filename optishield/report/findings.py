"""What a run found, read from its summary: cameras side by side, the headline, and the words that go with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from codesign.attacker_records import strongest_pooled
from codesign.awake import ALIVE, ASLEEP
from codesign.records import (
    AttackerResult,
    EvaluateMaskSummary,
    PooledResult,
    Summary,
    TrainMaskSummary,
    WinnersFacts,
)
from evaluation.measures.gates import LEAST_PEOPLE
from optishield.report import figures
from optishield.report.names import shown_as
from optishield.report.numbers import decimal, known, percent, span

Role = Literal["ours", "clean", "base", "ablation", "floor"]
LANDMARKS_ALONE = "landmarks"
"""The one attacker of the floor."""


@dataclass(frozen=True)
class Camera:
    """One row of the comparison: what a camera lets through, by attacker.

    Attributes:
        key: Key of the camera in the summary; "ours" is the designed one and "oracle" stands for landmarks alone.
        name: Name in the report.
        role: What it is compared as.
        colour: Marker colour, see ``optishield.report.figures``.
        nme: Landmark error.
        worst: Name of its worst attacker.
        attackers: What each attacker got from it.
    """

    key: str
    name: str
    role: Role
    colour: str
    nme: float | None
    worst: str
    attackers: Mapping[str, AttackerResult]

    @property
    def headline(self) -> AttackerResult:
        """Figures of its worst attacker."""
        return self.attackers[self.worst]

    @property
    def pooled(self) -> PooledResult | None:
        """Figures of the attacker who names the most people when all probes of a person are pooled."""
        return strongest_pooled(self.attackers)

    @property
    def variable(self) -> str:
        """CSS variable of its colour."""
        return figures.variable(self.colour)


def winners_of(summary: Summary) -> WinnersFacts | None:
    """The camera of pairs, if the run designed one."""
    return summary.winners if isinstance(summary, TrainMaskSummary) else None


def other_optics(summary: Summary) -> list[str]:
    """Keys of cameras that have all of ours but the optics; they are judged at the landmark error that they reach."""
    rows = summary.ablations if isinstance(summary, TrainMaskSummary) else {}
    return [key for key, row in rows.items() if row.error is not None]


def clean_camera(summary: Summary) -> Camera:
    """The ordinary colour camera without protection."""
    clean = summary.clean
    return Camera("clean", "clean camera", "clean", figures.CLEAN, clean.nme, clean.worst_attacker, clean.attackers)


def our_camera(summary: Summary) -> Camera:
    """The designed camera."""
    name = "this mask" if winners_of(summary) is None else "this camera"
    return Camera("ours", name, "ours", figures.OURS, summary.nme, summary.worst_attacker, summary.attackers)


def baseline_cameras(summary: Summary) -> list[Camera]:
    """The other cameras, weakest protection first; a run on photographs has none."""
    if not isinstance(summary, TrainMaskSummary):
        return []
    apart = other_optics(summary)
    found = [
        Camera(
            key,
            f"{shown_as(key)} (ablation)" if key in apart else shown_as(key),
            "ablation" if key in apart else "base",
            figures.BASES[index % len(figures.BASES)],
            camera.nme,
            camera.worst_attacker,
            camera.attackers,
        )
        for index, (key, camera) in enumerate(summary.baselines.items())
    ]
    return sorted(found, key=lambda camera: -camera.headline.order[0])


def floor_camera(summary: Summary) -> Camera | None:
    """Landmarks alone; not measured on photographs."""
    if not isinstance(summary, TrainMaskSummary):
        return None
    floor = summary.oracle
    return Camera(
        "oracle", "landmarks alone", "floor", figures.FLOOR, floor.nme, LANDMARKS_ALONE, {LANDMARKS_ALONE: floor}
    )


def cameras(summary: Summary) -> list[Camera]:
    """Clean camera, baselines (weakest protection first), ours, and landmarks alone, as far as they were measured."""
    floor = floor_camera(summary)
    found = [clean_camera(summary), *baseline_cameras(summary), our_camera(summary)]
    return found if floor is None else [*found, floor]


def best_baseline(summary: Summary) -> Camera | None:
    """The baseline that the gap is measured from."""
    chosen = summary.best_baseline if isinstance(summary, TrainMaskSummary) else None
    named = [camera for camera in baseline_cameras(summary) if camera.key == chosen]
    return replace(named[0], name=f"best baseline: {named[0].name}") if named else None


def exploratory(summary: Summary) -> bool:
    """Whether there are too few people for a claim."""
    return summary.people < LEAST_PEOPLE


def headline(summary: Summary) -> str | None:
    """What the run shows, as one sentence that the figures support; None when nothing was compared."""
    if not isinstance(summary, TrainMaskSummary):
        return None
    failed = [name for name, gate in summary.gates.items() if not gate.passed]
    if failed:
        words = f"No claim: {', '.join(failed)} {'was' if len(failed) == 1 else 'were'} not met."
        return f"{words} {ASLEEP.capitalize()}." if ALIVE in failed else words
    if summary.gap_closed is None:
        return None
    gap = summary.gap_closed.rank1
    low, high = gap.ci95
    if gap.value is None or low is None or high is None:
        return "This run cannot say how much of the gap is closed."
    if low > 0:
        rest = f"his camera closes {percent(gap.value)} of the gap between the best baseline and landmarks alone."
        return f"Exploratory: t{rest}" if exploratory(summary) else f"T{rest}"
    if high < 0:
        return "This camera gives away more than the best baseline."
    return "No difference from the best baseline is shown."


def _recognised(summary: Summary) -> str:
    """Who recognises how many, beside the best baseline and the floor."""
    ours, base, floor = our_camera(summary), best_baseline(summary), floor_camera(summary)
    text = f"The strongest attacker ({shown_as(ours.worst)}) recognises {percent(ours.headline.rank1)} of the photos"
    if base:
        text += f"; at the best baseline ({shown_as(base.key)}) it is {percent(base.headline.rank1)}"
    if floor:
        text += f", and {percent(floor.headline.rank1)} from landmarks with this error and nothing else"
    if not base:
        text += f"; through the clean camera it is {percent(clean_camera(summary).headline.rank1)}"
    return f"{text}."


def _recognised_pooled(summary: Summary) -> list[str]:
    """Who recognises how many people from several pictures of each."""
    ours = our_camera(summary).pooled
    if ours is None:
        return []
    text = f"From {ours.probes} pictures of a person together, the strongest attacker names {percent(ours.rank1)}"
    text += f" of the people ({span(ours.rank1_ci95)})"
    for where, camera in (
        ("at the best baseline", best_baseline(summary)),
        ("from landmarks alone", floor_camera(summary)),
    ):
        found = None if camera is None else camera.pooled
        if found is not None:
            text += f", {where} {percent(found.rank1)}"
    return [f"{text}."]


def _beside_the_best(ours: Camera, base: Camera) -> list[str]:
    """Whether the two intervals part, and whether the landmark errors are equal."""
    found = []
    high, low = ours.headline.rank1_ci95[1], base.headline.rank1_ci95[0]
    if high is not None and low is not None:
        found.append(
            "The two intervals do not overlap."
            if high < low
            else "The two intervals overlap; the paired interval of the gap decides."
        )
    if ours.nme and base.nme and abs(base.nme / ours.nme - 1) > 0.1:
        found.append(
            f"The landmark errors differ ({decimal(ours.nme)} and {decimal(base.nme)}), so the comparison at equal "
            "error is only as good as the curves between the measured points."
        )
    return found


def _gaps(summary: TrainMaskSummary) -> list[str]:
    """Why a gap is not defined, and how much is closed when it is measured from a camera that lacks one part."""
    found = []
    if summary.gap_closed is not None:
        parts = {"Rank-1": summary.gap_closed.rank1, "AUC": summary.gap_closed.auc}
        found += [f"{name}: {part.reason}" for name, part in parts.items() if part.reason]
    for key, row in summary.ablations.items():
        part = row.gap_closed.rank1
        # A camera of pairs shares no part with cameras that release frames, and has a table for its own ablations.
        if part.value is not None and summary.winners is None:
            found.append(
                f"Measured from {shown_as(key)}, a camera that lacks {row.lacks} of ours and has all the rest, the "
                f"gap closed in rank-1 is {decimal(part.value, 2)} ({span(part.ci95, 'decimal')})."
            )
    return found


def released_words(summary: Summary) -> list[str]:
    """What leaves the chip of a camera of pairs, who is named from it, and what its masks do; empty for others."""
    winners = winners_of(summary)
    if winners is None or not isinstance(summary, TrainMaskSummary):
        return []
    count = len(winners.channels)
    places = f"the places of {count} winners" if count > 1 else "the place of one winner"
    found = [
        f"{decimal(winners.bits, 1)} bits leave the chip for one picture: {places}, and whether there is a face. The "
        f"landmarks read from them have an error of {decimal(summary.nme)}."
    ]
    for key in other_optics(summary):
        row, error = summary.ablations[key], summary.ablations[key].error
        if error is not None and known(error.value) and error.value is not None:
            sign = "+" if error.value >= 0 else ""
            found.append(
                f"Without {row.lacks} ({shown_as(key)}), with read-out and decoder trained again, the error is "
                f"{decimal(summary.baselines[key].nme)}: {sign}{decimal(error.value)} ({span(error.ci95, 'decimal')})."
            )
    return found


def outcome(summary: Summary) -> list[str]:
    """A camera of pairs in a few lines: bits and error, who is named, what the masks do; empty for other cameras."""
    words, ours = released_words(summary), our_camera(summary)
    if not words:
        return []
    beside = [("best baseline", best_baseline(summary)), ("landmarks alone", floor_camera(summary))]
    others = ", ".join(f"{name} {percent(one.headline.rank1)}" for name, one in beside if one is not None)
    named = f"The worst attacker names {percent(ours.headline.rank1)} of the pictures ({others})"
    if ours.pooled is not None:
        pooled = [(name, one.pooled) for name, one in beside if one is not None and one.pooled is not None]
        others = ", ".join(f"{name} {percent(one.rank1)}" for name, one in pooled)
        named += f"; from {ours.pooled.probes} pictures together {percent(ours.pooled.rank1)} of the people"
        named += f" ({others})" if others else ""
    return [words[0], f"{named}.", *words[1:]]


def plain_words(summary: Summary) -> list[str]:
    """Short sentences under the headline: what was compared, whether intervals part, and how far to trust it."""
    found = [_recognised(summary), *_recognised_pooled(summary), *released_words(summary)]
    base = best_baseline(summary)
    if base is not None:
        found += _beside_the_best(our_camera(summary), base)
    if isinstance(summary, TrainMaskSummary):
        found += _gaps(summary)
    if exploratory(summary):
        found.append(f"{summary.people} people are fewer than {LEAST_PEOPLE}: read every figure as exploratory.")
    if summary.verdict:
        found.append(summary.verdict)
    return found


def read_summary(value: Mapping[str, object], where: str) -> TrainMaskSummary | EvaluateMaskSummary:
    """The summary of either verb, from the content of ``summary.json``.

    Args:
        value: The content.
        where: What it is called in errors.

    Raises:
        CodesignError: It is not the summary of this version.
    """
    kind = EvaluateMaskSummary if "trained_run" in value else TrainMaskSummary
    return kind.from_json(value, where)


def points(summary: Summary, found: Sequence[Camera]) -> dict[str, list[figures.Point]]:
    """Measured points on the privacy-utility plane by camera: curves first, single points for the others."""
    rows: dict[str, list[figures.Point]] = {}
    if isinstance(summary, TrainMaskSummary):
        for point in summary.curves:
            rows.setdefault(point.camera, []).append(figures.point(point.nme, point))
    for camera in found:
        if camera.key not in rows and camera.nme is not None:
            rows[camera.key] = [figures.point(camera.nme, camera.headline)]
    return rows
