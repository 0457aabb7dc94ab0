"""The claim of impersonation: a protected probe passes for somebody chosen beforehand.

A publication may call this rate "protection success"; it is not one, as a probe may pass for its owner too. The target
is looked for in photographs that the protector did not use, at the thresholds frozen on clean strangers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from evaluation.matrix.jobs import Site, known_target, protected_photos
from evaluation.matrix.score import frozen_from
from evaluation.matrix.scoring import Labels, centre_of
from evaluation.measures.comparisons import paired_difference
from evaluation.measures.gates import IMPERSONATES, beats_noise, claim_verdict
from evaluation.measures.intervals import Interval, korn_graubard, per_identity
from evaluation.measures.metrics import Bools, Floats, templates, unit
from evaluation.measures.protection import targeted_impersonation
from evaluation.photos import Photos
from evaluation.records import Imitation, ImpersonationRow, RecogniserFacts
from ground.gates import Gate


def measure(
    site: Site, protector: str, key: str, noise: str | None, recognisers: Mapping[str, RecogniserFacts]
) -> dict[str, Imitation]:
    """How often probes of the test pass for a target of the protector, through each recogniser as published.

    Args:
        site: Where everything of the run lies.
        protector: Name with settings; its target lies in the run folder.
        key: Key of its protected photographs of the test.
        noise: Key of photographs with random noise of equal size, or None.
        recognisers: Recognisers that judge.

    Returns:
        The probes by recogniser. Empty if the protector has no target.
    """
    target = known_target(site.folder, protector)
    if target is None:
        return {}
    photos = site.part("test").photos
    labels, probes = Labels.of(photos), ~photos.gallery
    tried = {"protected": protected_photos(site, "test", key).subset(probes)}
    if noise is not None:
        tried["noise"] = protected_photos(site, "test", noise).subset(probes)
    found = {}
    for name, facts in recognisers.items():
        recogniser = site.recogniser(name)
        centre = centre_of(site.rows(facts.keys.calibration)["rows"])
        clean = site.rows(facts.keys.test)["rows"]
        with torch.no_grad():
            sought = recogniser.embed(target.images, target.points5).double().cpu().numpy()
            shown = {side: _rows(recogniser.embed, one) for side, one in tried.items()}
        aims, people = templates(sought, target.identity, centre=centre)
        known, _ = templates(clean[labels.gallery], labels.identity[labels.gallery], centre=centre)
        scores = {
            side: unit(rows, centre) @ aims.T for side, rows in {"clean": clean[~labels.gallery], **shown}.items()
        }
        frozen = frozen_from(facts.thresholds)
        primary = next(iter(frozen.values()))
        others = (unit(shown["protected"], centre) @ known.T).max(axis=1)
        best = {side: values.max(axis=1) for side, values in scores.items()}
        passed = {side: tuple(primary.accepts(values).tolist()) for side, values in best.items()}
        found[name] = Imitation(
            identity=tuple(labels.identity[~labels.gallery].tolist()),
            clean=passed["clean"],
            protected=passed["protected"],
            noise=passed.get("noise"),
            at={f"{alpha:g}": float(one.accepts(best["protected"]).mean()) for alpha, one in frozen.items()},
            first=tuple((best["protected"] > others).tolist()),
            people=len(people),
        )
    return found


def _rows(embed: Callable[..., torch.Tensor], photos: Photos) -> Floats:
    rows: Floats = embed(photos.images(), photos.points5).double().cpu().numpy()
    return rows


def net(matched: Bools, clean: Bools, identity: Sequence[int]) -> Interval | None:
    """Of probes that pass for no target clean, the share that does when protected; None with fewer than 2 people."""
    free = ~clean
    people = np.asarray(identity)[free]
    return korn_graubard(matched[free], people) if len(np.unique(people)) >= 2 else None


def rows(
    measured: Mapping[str, Mapping[str, Imitation]],
    unseen: Callable[[str, str], bool | None],
    gates: Mapping[str, Gate],
    exploratory: str,
    seed: int,
) -> tuple[ImpersonationRow, ...]:
    """A row for each protector with a target and each recogniser.

    Args:
        measured: What :func:`measure` returned, by protector.
        unseen: Function of protector and recogniser: whether the protector was made without that family.
        gates: Gates of the run, with those of the recognisers.
        exploratory: Why no claim can rest on these people, or "".
        seed: Seed of permutations.
    """
    found = []
    for protector in sorted(measured):
        for name, one in measured[protector].items():
            names = (f"recogniser-strength/{name}", f"false-match-rate/{name}")
            judges = [gates[key] for key in names if key in gates]
            found.append(_row(protector, name, one, unseen(protector, name), judges, exploratory, seed))
    return tuple(found)


def _row(
    protector: str,
    recogniser: str,
    one: Imitation,
    unseen: bool | None,
    judges: Sequence[Gate],
    exploratory: str,
    seed: int,
) -> ImpersonationRow:
    identity = one.identity
    clean, protected = np.asarray(one.clean, dtype=bool), np.asarray(one.protected, dtype=bool)
    rate, value = targeted_impersonation(protected, identity), net(protected, clean, identity)
    difference = noisy = None
    if one.noise is not None:
        noise = np.asarray(one.noise, dtype=bool)
        both = [per_identity(side, identity)[1] for side in (protected, noise)]
        difference = paired_difference(*both, seed=seed).difference
        noisy = net(noise, clean, identity)
    verdict = claim_verdict(value, IMPERSONATES, [*judges, beats_noise(difference, "passes")], exploratory)
    return ImpersonationRow(
        protector=protector,
        recogniser=recogniser,
        unseen=unseen,
        targets=one.people,
        asr=rate.value,
        asr_ci95=(rate.low, rate.high),
        asr_clean=float(clean.mean()),
        asr_net=None if value is None else value.value,
        asr_net_ci95=None if value is None else (value.low, value.high),
        asr_net_noise=None if noisy is None else noisy.value,
        weak=not all(gate.passed for gate in judges),
        asr_at_fmr=one.at,
        rank1_target=float(np.mean(one.first)),
        verdict=verdict.label,
        reason=verdict.reason,
    )
