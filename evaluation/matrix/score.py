"""The job that turns the embeddings of one attack into rows and curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

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
    threshold_from,
    threshold_json,
)
from evaluation.measures.bands import det_band, false_match_interval
from evaluation.measures.metrics import Floats
from evaluation.measures.protection import poisoning_effect
from evaluation.measures.statistics import korn_graubard, per_identity
from evaluation.measures.threshold import Threshold
from ground.pool import derived_seed

Frozen = dict[float, Threshold]
#: Of the bootstrap behind the bands of DET curves, which are for the eye.
REPLICATES = 100


def _both(rows: Floats) -> dict[bool, Floats]:
    return {False: rows, True: rows}


def calibrate(site: Site, key: str, manifest: str) -> list[dict[str, Any]]:
    """Thresholds of a recogniser as published, from clean calibration impostors.

    Args:
        site: see there.
        key: of the clean calibration embeddings.
        manifest: hash that the thresholds belong to.
    """
    rows = site.rows(key)["rows"]
    sides = centred(_both(rows), _both(centre_of(rows)))
    comparison = compare(sides, Labels.of(site.part("calibration").photos), "CC")
    return [threshold_json(value) for value in freeze(comparison, site.config.scoring.alphas, manifest).values()]


def frozen_from(values: Sequence[Mapping[str, Any]]) -> Frozen:
    """Thresholds by false match rate, the primary one first."""
    return {value["alpha"]: threshold_from(value) for value in values}


def clean_figures(site: Site, keys: Mapping[str, str], thresholds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How well a recogniser does on clean photographs of the test people, and the control of shuffled labels.

    Returns:
        figures of the combination CC with ``tar_ci95`` and ``fmr_ci95``, and ``shuffled_rank1`` with its interval when
        names are dealt out at random.
    """
    sides, labels = clean_sides(site, keys), Labels.of(site.part("test").photos)
    clean, frozen = compare(sides, labels, "CC"), frozen_from(thresholds)
    result = figures(clean, clean, frozen, frozen)
    first = next(iter(frozen.values()))
    tar = korn_graubard(clean.accepted(first), clean.probe_id)
    matrix = clean.matrix
    rate = false_match_interval(matrix, first.value)
    shuffled = _shuffled(clean, derived_seed(site.config.seed, "shuffle"))
    return {**result, "tar_ci95": tar.ci, "fmr_ci95": rate.ci, **shuffled}


def _shuffled(comparison: Comparison, seed: int) -> dict[str, Any]:
    """Rank-1 when the names of the templates are dealt out at random: chance, or the protocol leaks."""
    matrix = comparison.matrix
    named = matrix.template_id[np.random.default_rng(seed).permutation(len(matrix.template_id))]
    best = named[matrix.scores.argmax(axis=1)]
    rate = korn_graubard(best == matrix.probe_id, matrix.probe_id)
    return {"shuffled_rank1": rate.value, "shuffled_rank1_ci95": rate.ci}


def clean_sides(site: Site, keys: Mapping[str, str]) -> dict[bool, Floats]:
    """Clean test embeddings by a recogniser as published, on both sides, about the mean of the calibration people."""
    centre = centre_of(site.rows(keys["calibration"])["rows"])
    return centred(_both(site.rows(keys["test"])["rows"]), _both(centre))


def score(
    site: Site,
    names: tuple[str, str, str],
    attacked: Mapping[str, Any],
    keys: Mapping[str, str],
    thresholds: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Rows and curves of one attack.

    Args:
        site: see there.
        names: protector, attacker, recogniser.
        attacked: what :func:`evaluation.matrix.jobs.attack` returned.
        keys: of the clean embeddings by the recogniser as published, ``calibration`` and ``test``.
        thresholds: of the recogniser as published.

    Returns:
        ``rows``, one for each combination; ``det`` and ``people`` by combination; ``identities``; ``leakage`` and
        ``templates``, lists of points of a curve.
    """
    protector, attacker, recogniser = names
    labels, clean_frozen = Labels.of(site.part("test").photos), frozen_from(thresholds)
    plain = clean_sides(site, keys)
    found = site.rows(attacked["key"])
    if adapts(attacked["level"]):
        centres = {False: found["centre-clean"], True: found["centre-protected"]}
    else:
        centres = _both(centre_of(site.rows(keys["calibration"])["rows"]))
    own = {name: frozen_from(values) for name, values in attacked["thresholds"].items()}
    frozen = {**dict.fromkeys(COMBINATIONS, clean_frozen), **own}
    sides = centred({False: found["clean"], True: found["protected"]}, centres)
    reference = compare(plain, labels, "CC")
    rows, curves, people = [], {}, {}
    band_seed = derived_seed(site.config.seed, "band")
    for name in COMBINATIONS:
        attacked_pairs = compare(sides, labels, name)
        row = {
            "protector": protector, "attacker": attacker, "level": attacked["level"], "frames": attacked["frames"],
            "recogniser": recogniser, "combination": name,
            **figures(attacked_pairs, reference, frozen[name], clean_frozen),
        }  # fmt: skip
        row["delta_accuracy"] = _delta_accuracy(attacked_pairs, reference) if name == "PC" else None
        rows.append(row)
        band = det_band(attacked_pairs.matrix, DET_FMR, replicates=REPLICATES, seed=band_seed)
        curves[name] = np.stack([band.fnmr, band.low, band.high])
        identities, people[name] = protection_of_people(attacked_pairs, next(iter(frozen[name].values())))
    return {
        "rows": rows,
        "det": curves,
        "people": people,
        "identities": identities.tolist(),
        "leakage": _leakage(site, sides, labels, reference, frozen["PC"], clean_frozen),
        "templates": _templates(site, sides, plain, labels, frozen, clean_frozen),
    }


def _delta_accuracy(comparison: Comparison, reference: Comparison) -> float | None:
    """What a protected gallery costs of the clean rank-1; see :func:`evaluation.poisoning_effect`."""
    clean, poisoned = (per_identity(one.named(), one.probe_id)[1] for one in (reference, comparison))
    effect = poisoning_effect(clean, poisoned, 1 / reference.enrolled)
    return effect.value if effect.defined else None


def _point(comparison: Comparison, reference: Comparison, frozen: Frozen, clean_frozen: Frozen) -> dict[str, Any]:
    alpha = next(iter(clean_frozen))
    net = net_protection(
        comparison.accepted(frozen[alpha]), reference.accepted(clean_frozen[alpha]), comparison.probe_id
    )
    return {"psr_net": None if net is None else net.value, "ci95": None if net is None else net.ci}


def _leakage(
    site: Site, sides: Sides, labels: Labels, reference: Comparison, frozen: Frozen, clean_frozen: Frozen
) -> list[dict[str, Any]]:
    """PSR_net of clean probes against a protected gallery into which clean photographs leaked."""
    seed = derived_seed(site.config.seed, "leakage")
    points = []
    for share in site.config.scoring.clean_shares:
        mixed = compare(sides, labels, "PC", gallery_rows=leaked_gallery(sides, labels, share, seed))
        points.append({"share": share, **_point(mixed, reference, frozen, clean_frozen)})
    return points


def _templates(
    site: Site,
    sides: Sides,
    plain: Sides,
    labels: Labels,
    frozen: Mapping[str, Frozen],
    clean_frozen: Frozen,
) -> list[dict[str, Any]]:
    """PSR_net by the number of gallery photographs in a template, as far as there are so many."""
    most = int(np.unique(labels.identity[labels.gallery], return_counts=True)[1].max())
    points = []
    for photos in (count for count in site.config.scoring.template_photos if count <= most):
        gallery = labels.first_enrolled(photos)
        reference = compare(plain, labels, "CC", gallery=gallery)
        for name in ("CP", "PC", "PP"):
            comparison = compare(sides, labels, name, gallery=gallery)
            points.append({
                "photos": photos, "combination": name, **_point(comparison, reference, frozen[name], clean_frozen),
            })  # fmt: skip
    return points
