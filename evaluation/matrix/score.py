"""The job that turns the embeddings of one attack into rows and curves."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from evaluation.labels import PROTECTED, Combination
from evaluation.matrix.jobs import Site, adapts
from evaluation.matrix.scoring import (
    COMBINATIONS,
    DET_FMR,
    Comparison,
    Labels,
    Sides,
    centre_of,
    centred,
    compare,
    figures,
    freeze,
    leaked_gallery,
    net_protection,
    protection_of_people,
)
from evaluation.measures.bands import det_band, false_match_interval
from evaluation.measures.intervals import korn_graubard, per_identity
from evaluation.measures.metrics import Floats
from evaluation.measures.protection import poisoning_effect
from evaluation.measures.threshold import Threshold
from evaluation.records import (
    Attacked,
    CleanFigures,
    CleanKeys,
    FrozenThreshold,
    LeakagePoint,
    Scored,
    ScoredRow,
    TemplatePoint,
    Triple,
)
from evaluation.records.basics import Limits
from ground.pool import derived_seed

Frozen = dict[float, Threshold]
#: Replicates of the bootstrap behind the bands of DET curves, which are for the eye.
REPLICATES = 100


def _both(rows: Floats) -> dict[bool, Floats]:
    return {False: rows, True: rows}


def calibrate(site: Site, key: str, manifest: str) -> tuple[FrozenThreshold, ...]:
    """Thresholds of a recogniser as published, from clean calibration impostors.

    Args:
        site: Where everything of the run lies.
        key: Key of the clean calibration embeddings.
        manifest: Hash that the thresholds belong to.
    """
    rows = site.rows(key)["rows"]
    sides = centred(_both(rows), _both(centre_of(rows)))
    comparison = compare(sides, Labels.of(site.part("calibration").photos), "CC")
    frozen = freeze(comparison, site.config.scoring.alphas, manifest)
    return tuple(FrozenThreshold.of(value) for value in frozen.values())


def frozen_from(values: Iterable[FrozenThreshold]) -> Frozen:
    """Thresholds by false match rate, the primary one first."""
    return {value.alpha: value.threshold for value in values}


def clean_figures(site: Site, keys: CleanKeys, thresholds: tuple[FrozenThreshold, ...]) -> CleanFigures:
    """How well a recogniser does on clean photographs of the test people, and the control of shuffled labels."""
    sides, labels = clean_sides(site, keys), Labels.of(site.part("test").photos)
    clean, frozen = compare(sides, labels, "CC"), frozen_from(thresholds)
    first = next(iter(frozen.values()))
    tar = korn_graubard(clean.accepted(first), clean.probe_id)
    rate = false_match_interval(clean.matrix, first.value)
    value, limits = _shuffled(clean, derived_seed(site.config.seed, "shuffle"))
    return CleanFigures(
        **vars(figures(clean, clean, frozen, frozen)),
        tar_ci95=(tar.low, tar.high),
        fmr_ci95=(rate.low, rate.high),
        shuffled_rank1=value,
        shuffled_rank1_ci95=limits,
    )


def _shuffled(comparison: Comparison, seed: int) -> tuple[float, Limits]:
    """Rank-1 when the names of the templates are dealt out at random: chance, or the protocol leaks."""
    matrix = comparison.matrix
    named = matrix.template_id[np.random.default_rng(seed).permutation(len(matrix.template_id))]
    best = named[matrix.scores.argmax(axis=1)]
    rate = korn_graubard(best == matrix.probe_id, matrix.probe_id)
    return rate.value, (rate.low, rate.high)


def clean_sides(site: Site, keys: CleanKeys) -> dict[bool, Floats]:
    """Clean test embeddings by a recogniser as published, on both sides, about the mean of the calibration people."""
    centre = centre_of(site.rows(keys.calibration)["rows"])
    return centred(_both(site.rows(keys.test)["rows"]), _both(centre))


def score(
    site: Site, triple: Triple, attacked: Attacked, keys: CleanKeys, thresholds: tuple[FrozenThreshold, ...]
) -> Scored:
    """Rows and curves of one attack.

    Args:
        site: Where everything of the run lies.
        triple: Protector, attacker and recogniser.
        attacked: What :func:`evaluation.matrix.jobs.attack` left behind.
        keys: Keys of the clean embeddings by the recogniser as published.
        thresholds: Thresholds of the recogniser as published.
    """
    labels, clean_frozen = Labels.of(site.part("test").photos), frozen_from(thresholds)
    plain = clean_sides(site, keys)
    found = site.rows(attacked.key)
    if adapts(attacked.level):
        centres = {False: found["centre-clean"], True: found["centre-protected"]}
    else:
        centres = _both(centre_of(site.rows(keys.calibration)["rows"]))
    own = {name: frozen_from(values) for name, values in attacked.thresholds.items()}
    frozen = {name: own.get(name, clean_frozen) for name in COMBINATIONS}
    sides = centred({False: found["clean"], True: found["protected"]}, centres)
    reference = compare(plain, labels, "CC")
    rows: list[ScoredRow] = []
    curves: dict[Combination, Floats] = {}
    people: dict[Combination, Floats] = {}
    band_seed = derived_seed(site.config.seed, "band")
    for name in COMBINATIONS:
        pairs = compare(sides, labels, name)
        rows.append(
            ScoredRow(
                protector=triple.protector,
                attacker=triple.attacker,
                level=attacked.level,
                frames=attacked.frames,
                recogniser=triple.recogniser,
                combination=name,
                **vars(figures(pairs, reference, frozen[name], clean_frozen)),
                delta_accuracy=_delta_accuracy(pairs, reference) if name == "PC" else None,
            )
        )
        band = det_band(pairs.matrix, DET_FMR, replicates=REPLICATES, seed=band_seed)
        curves[name] = np.stack([band.fnmr, band.low, band.high])
        identities, people[name] = protection_of_people(pairs, next(iter(frozen[name].values())))
    return Scored(
        rows=tuple(rows),
        det=curves,
        people=people,
        identities=tuple(identities.tolist()),
        leakage=_leakage(site, sides, labels, reference, frozen["PC"], clean_frozen),
        templates=_templates(site, sides, plain, labels, frozen, clean_frozen),
    )


def _delta_accuracy(comparison: Comparison, reference: Comparison) -> float | None:
    """What a protected gallery costs of the clean rank-1; see :func:`evaluation.poisoning_effect`."""
    clean, poisoned = (per_identity(one.named(), one.probe_id)[1] for one in (reference, comparison))
    effect = poisoning_effect(clean, poisoned, 1 / reference.enrolled)
    return effect.value if effect.defined else None


def _point(
    comparison: Comparison, reference: Comparison, frozen: Frozen, clean_frozen: Frozen
) -> tuple[float | None, Limits | None]:
    """PSR_net with its limits, at the primary false match rate."""
    alpha = next(iter(clean_frozen))
    net = net_protection(
        comparison.accepted(frozen[alpha]), reference.accepted(clean_frozen[alpha]), comparison.probe_id
    )
    return (None, None) if net is None else (net.value, (net.low, net.high))


def _leakage(
    site: Site, sides: Sides, labels: Labels, reference: Comparison, frozen: Frozen, clean_frozen: Frozen
) -> tuple[LeakagePoint, ...]:
    """PSR_net of clean probes against a protected gallery into which clean photographs leaked."""
    seed = derived_seed(site.config.seed, "leakage")
    points = []
    for share in site.config.scoring.clean_shares:
        mixed = compare(sides, labels, "PC", gallery_rows=leaked_gallery(sides, labels, share, seed))
        points.append(LeakagePoint(share, *_point(mixed, reference, frozen, clean_frozen)))
    return tuple(points)


def _templates(
    site: Site,
    sides: Sides,
    plain: Sides,
    labels: Labels,
    frozen: dict[Combination, Frozen],
    clean_frozen: Frozen,
) -> tuple[TemplatePoint, ...]:
    """PSR_net by the number of gallery photographs in a template, as far as there are so many."""
    most = int(np.unique(labels.identity[labels.gallery], return_counts=True)[1].max())
    points = []
    for photos in (count for count in site.config.scoring.template_photos if count <= most):
        gallery = labels.first_enrolled(photos)
        reference = compare(plain, labels, "CC", gallery=gallery)
        for name in PROTECTED:
            comparison = compare(sides, labels, name, gallery=gallery)
            points.append(TemplatePoint(photos, name, *_point(comparison, reference, frozen[name], clean_frozen)))
    return tuple(points)
