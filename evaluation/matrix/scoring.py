"""From embeddings to figures: four combinations of gallery and probe, thresholds, trials, leakage and templates.

A failure to acquire is never skipped. An attacker marks a photograph that it cannot use by a row of NaN; it then
guesses: it accepts with the probability alpha, and names one of the G enrolled people with 1/G.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from evaluation.errors import EvaluationError
from evaluation.labels import Combination
from evaluation.measures.intervals import ICC_FLOOR, Interval, auc_interval, korn_graubard, per_identity
from evaluation.measures.metrics import (
    Bools,
    Floats,
    Ints,
    ScoreMatrix,
    eer,
    embedding_mean,
    roc_auc,
    score_matrix,
    unit,
)
from evaluation.measures.protection import credited, identification_threshold, matches, psr, psr_net, supported_fpir
from evaluation.measures.threshold import Threshold, freeze_threshold
from evaluation.photos import Photos
from evaluation.records import Figures

#: Whether gallery and probe are protected.
COMBINATIONS: dict[Combination, tuple[bool, bool]] = {
    "CC": (False, False),
    "CP": (False, True),
    "PC": (True, False),
    "PP": (True, True),
}
#: Both sides protected: are two protected photographs of one person linked?
LINKAGE: Combination = "PP"
#: False match rates at which the DET curve is drawn.
DET_FMR = np.logspace(-4, 0, 49)
#: Embeddings of one part, clean (False) and protected (True).
Sides = Mapping[bool, Floats]


@dataclass(frozen=True)
class Labels:
    """Who is on the photographs of a part, and which are enrolled.

    Attributes:
        identity: Person (N,) on each photograph.
        gallery: Whether (N,) each photograph is enrolled.
        capture: Number (N,) of the photograph of that person.
    """

    identity: Ints
    gallery: Bools
    capture: Ints

    @classmethod
    def of(cls, photos: Photos) -> Labels:
        """The labels of photographs."""
        return cls(photos.identity.numpy(), photos.gallery.numpy(), photos.faces.capture.numpy())

    @property
    def people(self) -> int:
        """Number of identities."""
        return len(np.unique(self.identity))

    def first_enrolled(self, photos: int) -> Bools:
        """(N,) gallery photographs that remain when each person enrols at most so many, the earliest ones."""
        kept = np.zeros(len(self.identity), dtype=bool)
        for person in np.unique(self.identity):
            rows = np.flatnonzero((self.identity == person) & self.gallery)
            kept[rows[np.argsort(self.capture[rows], kind="stable")][:photos]] = True
        return kept


@dataclass(frozen=True)
class Comparison:
    """All probes of a part against its templates.

    Attributes:
        matrix: Scores of the probes that could be used, against the people who have a template.
        used: Which (P,) of all probes are in the matrix.
        probe_id: Person (P,) of each probe, used or not.
        enrolled: Number of people who should have a template.
    """

    matrix: ScoreMatrix
    used: Bools
    probe_id: Ints
    enrolled: int

    def accepted(self, threshold: Threshold) -> Floats:
        """(P,) decision for each probe against its own template; a guess accepts with probability alpha."""
        return matches(self._all(self.matrix.genuine), threshold, acquired=self.used)

    def named(self, k: int = 1) -> Floats:
        """(P,) whether each probe's own person is among the k best; a guess names one of all enrolled."""
        return credited(self._all(self.matrix.rank <= k), self.used, min(1.0, k / self.enrolled))

    def _all(self, values: ArrayLike) -> Floats:
        """(P,) values of the probes in the matrix, 0 for the others."""
        result = np.zeros(len(self.used))
        result[self.used] = values
        return result


def centred(sides: Sides, centres: Mapping[bool, Floats]) -> dict[bool, Floats]:
    """Unit rows after the mean of other people is taken off; rows of NaN stay."""
    result = {}
    for side, rows in sides.items():
        good = np.isfinite(rows).all(axis=1)
        moved = np.full(rows.shape, np.nan)
        if good.any():
            moved[good] = unit(rows[good], centres[side])
        result[side] = moved
    return result


def centre_of(rows: Floats) -> Floats:
    """Mean direction (D,) of the rows that could be used."""
    good = np.isfinite(rows).all(axis=1)
    if not good.any():
        raise EvaluationError("the attacker could use no photograph of the calibration people.")
    return embedding_mean(rows[good])


def compare(
    sides: Sides,
    labels: Labels,
    combination: Combination,
    gallery_rows: Floats | None = None,
    gallery: Bools | None = None,
) -> Comparison:
    """Compare probes with templates.

    Args:
        sides: Embeddings (N, D) of all photographs, see :func:`centred`.
        labels: Labels of the photographs.
        combination: One of :data:`COMBINATIONS`.
        gallery_rows: Embeddings (N, D) for the gallery in place of those of the combination.
        gallery: Which photographs (N,) are enrolled, in place of all of the gallery.

    Raises:
        EvaluationError: Fewer than two people could be enrolled, or no probe be used.
    """
    enrol, probe = COMBINATIONS[combination]
    known = sides[enrol] if gallery_rows is None else gallery_rows
    seen = sides[probe]
    shown = labels.gallery if gallery is None else gallery
    enrolled = np.flatnonzero(shown & np.isfinite(known).all(axis=1))
    probes = np.flatnonzero(~labels.gallery)
    used = np.isfinite(seen[probes]).all(axis=1) & np.isin(labels.identity[probes], labels.identity[enrolled])
    if not used.any():
        raise EvaluationError(
            f"the attacker could use none of the {len(probes)} probes of the combination {combination}."
        )
    matrix = score_matrix(known[enrolled], labels.identity[enrolled], seen[probes[used]], labels.identity[probes[used]])
    return Comparison(matrix, used, labels.identity[probes], len(np.unique(labels.identity[shown])))


def freeze(comparison: Comparison, alphas: Sequence[float], manifest_hash: str) -> dict[float, Threshold]:
    """Thresholds on calibration people: the primary one always, others where impostors suffice (the rule of 30)."""
    frozen = {}
    for alpha in alphas:
        impostor = comparison.matrix.impostor
        if alpha == alphas[0] or impostor.size * alpha >= 30:
            frozen[alpha] = freeze_threshold(impostor, alpha, manifest_hash=manifest_hash)
    return frozen


def net_protection(accepted: Floats, clean: Floats, people: Ints) -> Interval | None:
    """:func:`evaluation.measures.protection.psr_net`, or None where fewer than two people match clean.

    Args:
        accepted: Decisions (P,) of the attack.
        clean: Decisions (P,) of the recogniser as published on clean photographs; a guess is no match.
        people: Person (P,) of each probe.
    """
    pairs = clean == 1
    return psr_net(accepted, pairs, people) if len(np.unique(people[pairs])) >= 2 else None


def figures(
    comparison: Comparison,
    clean: Comparison,
    thresholds: Mapping[float, Threshold],
    clean_thresholds: Mapping[float, Threshold],
) -> Figures:
    """Figures of one combination.

    Args:
        comparison: The attack.
        clean: The recogniser as published, on clean photographs of the same people.
        thresholds: Thresholds of the attack, the primary one first.
        clean_thresholds: Thresholds of the clean recogniser.
    """
    people, matrix = comparison.probe_id, comparison.matrix
    alpha = next(iter(thresholds))
    threshold, clean_threshold = thresholds[alpha], clean_thresholds[alpha]
    accepted, reference = comparison.accepted(threshold), clean.accepted(clean_threshold)
    raw, net = psr(accepted, people), net_protection(accepted, reference, people)
    rank1, area = korn_graubard(comparison.named(), people), auc_interval(matrix)
    search = open_set(comparison)
    further = {}
    for other in list(clean_thresholds)[1:]:
        if other in thresholds:
            at = net_protection(comparison.accepted(thresholds[other]), clean.accepted(clean_thresholds[other]), people)
            further[f"{other:g}"] = None if at is None else at.value
    return Figures(
        identities=raw.people,
        probes=len(people),
        alpha=alpha,
        threshold=threshold.value,
        threshold_clean=clean_threshold.value,
        fmr=float(threshold.accepts(matrix.impostor).mean()),
        psr=raw.value,
        psr_ci95=(raw.low, raw.high),
        psr_net=None if net is None else net.value,
        ci95=None if net is None else (net.low, net.high),
        tar_clean=float(reference.mean()),
        rank1=rank1.value,
        rank1_ci95=(rank1.low, rank1.high),
        rank1_clean=float(clean.named().mean()),
        rank5=float(comparison.named(min(5, comparison.enrolled)).mean()),
        chance_rank1=1 / comparison.enrolled,
        auc=roc_auc(matrix.genuine, matrix.impostor),
        auc_ci95=(area.low, area.high),
        eer=eer(matrix.genuine, matrix.impostor),
        not_acquired=float((~comparison.used).mean()),
        fnir=None if search is None else search.missed.value,
        fnir_ci95=None if search is None else (search.missed.low, search.missed.high),
        fpir=None if search is None else search.fpir,
        psr_net_at_fmr=further,
    )


@dataclass(frozen=True)
class OpenSet:
    """The result of an open-set search.

    Attributes:
        missed: False negative identification rate with its interval.
        fpir: False positive identification rate that the threshold was set for.
    """

    missed: Interval
    fpir: float


def open_set(comparison: Comparison) -> OpenSet | None:
    """Open-set search in a gallery of half the people: FNIR at the strictest FPIR that the other half supports.

    People are put in rising order; the first, third, ... are enrolled, and the probes of the others are the non-mated
    searches. These set the threshold under the same protection, as an operator would who watches false alarms; none of
    the mated people takes part in it. A mated search misses if its mate does not score above the threshold; a guess
    returns somebody with the probability FPIR, and the mate with one over the number of enrolled people. Searches of
    one person are not independent: m of them count as m / (1 + (m - 1) rho), with the correlation that
    :func:`evaluation.measures.intervals.korn_graubard` assumes at least.

    Returns:
        The rates, or None where no false positive rate is supported.
    """
    matrix = comparison.matrix
    enrolled = np.unique(comparison.probe_id)[::2]
    shown, mated = np.isin(matrix.template_id, enrolled), np.isin(comparison.probe_id, enrolled)
    strangers = ~np.isin(matrix.probe_id, enrolled)
    searches = np.unique(matrix.probe_id[strangers], return_counts=True)[1]
    fpir = supported_fpir(int((searches / (1 + (searches - 1) * ICC_FLOOR)).sum()))
    if fpir is None or not shown.any():
        return None
    threshold = identification_threshold(matrix.scores[np.ix_(strangers, shown)], fpir)
    returned = np.zeros(len(comparison.used))
    returned[comparison.used] = threshold.accepts(matrix.genuine)
    found = credited(returned, comparison.used, fpir / len(enrolled))
    missed = korn_graubard(1 - found[mated], comparison.probe_id[mated])
    return OpenSet(missed, fpir)


def protection_of_people(comparison: Comparison, threshold: Threshold) -> tuple[Ints, Floats]:
    """Share of probes of each person that are not accepted: (identities in rising order, shares)."""
    return per_identity(1 - comparison.accepted(threshold), comparison.probe_id)


def leaked_gallery(sides: Sides, labels: Labels, share: float, seed: int) -> Floats:
    """(N, D) protected embeddings, but clean in a share of all gallery photos; larger shares contain smaller ones."""
    rows = np.flatnonzero(labels.gallery)
    order = np.random.default_rng(seed).permutation(rows)
    mixed = sides[True].copy()
    leaked = order[: int(np.floor(share * len(rows) + 0.5))]
    mixed[leaked] = sides[False][leaked]
    return mixed
