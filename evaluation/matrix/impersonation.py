"""The claim of impersonation: a protected probe passes for somebody chosen beforehand.

A publication may call this rate "protection success"; it is not one, as a probe may pass for its owner too. The target
is looked for in photographs that the protector did not use, at the thresholds frozen on clean strangers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from evaluation.matrix.jobs import Site, known_target, protected_photos
from evaluation.matrix.score import frozen_from
from evaluation.matrix.scoring import Labels, centre_of
from evaluation.measures.gates import IMPERSONATES, Gate, beats_noise, claim_verdict
from evaluation.measures.metrics import Bools, Floats, templates, unit
from evaluation.measures.protection import targeted_impersonation
from evaluation.measures.statistics import Interval, korn_graubard, paired_difference, per_identity
from evaluation.photos import Photos


def measure(
    site: Site, protector: str, key: str, noise: str | None, recognisers: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """How often probes of the test pass for a target of the protector, through each recogniser as published.

    Args:
        site: see there.
        protector: name; its target lies in the run folder.
        key: of its protected photographs of the test.
        noise: key of photographs with random noise of equal size, or None.
        recognisers: with ``keys`` and ``thresholds``.

    Returns:
        By recogniser, for each probe in turn: ``identity``; whether it passes for a target at the primary false match
        rate, ``clean``, ``protected`` and (if there is any) with ``noise``; ``first``, whether a target is the best of
        all when protected, the tested people's own clean templates included. Beside them ``at``, shares of protected
        probes that pass at each rate, and ``people``, the number of targets. Empty if the protector has none.
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
        centre = centre_of(site.rows(facts["keys"]["calibration"])["rows"])
        clean = site.rows(facts["keys"]["test"])["rows"]
        with torch.no_grad():
            sought = recogniser.embed(target.images, target.points5).double().numpy()
            shown = {side: _rows(recogniser.embed, one) for side, one in tried.items()}
        aims, people = templates(sought, target.identity, centre=centre)
        known, _ = templates(clean[labels.gallery], labels.identity[labels.gallery], centre=centre)
        scores = {
            side: unit(rows, centre) @ aims.T for side, rows in {"clean": clean[~labels.gallery], **shown}.items()
        }
        frozen = frozen_from(facts["thresholds"])
        primary = next(iter(frozen.values()))
        others = (unit(shown["protected"], centre) @ known.T).max(axis=1)
        best = {side: values.max(axis=1) for side, values in scores.items()}
        found[name] = {
            "identity": labels.identity[~labels.gallery].tolist(),
            **{side: primary.accepts(values).tolist() for side, values in best.items()},
            "at": {f"{alpha:g}": float(one.accepts(best["protected"]).mean()) for alpha, one in frozen.items()},
            "first": (best["protected"] > others).tolist(),
            "people": len(people),
        }
    return found


def _rows(embed: Callable[..., torch.Tensor], photos: Photos) -> Floats:
    rows: Floats = embed(photos.images(), photos.points5).double().numpy()
    return rows


def net(matched: Bools, clean: Bools, identity: Sequence[int]) -> Interval | None:
    """Of probes that pass for no target clean, the share that does when protected; None with fewer than 2 people."""
    free = ~clean
    people = np.asarray(identity)[free]
    return korn_graubard(matched[free], people) if len(np.unique(people)) >= 2 else None


def rows(
    measured: Mapping[str, Mapping[str, Mapping[str, Any]]],
    unseen: Callable[[str, str], bool | None],
    gates: Mapping[str, Mapping[str, Any]],
    exploratory: str,
    seed: int,
) -> list[dict[str, Any]]:
    """A row for each protector with a target and each recogniser.

    Args:
        measured: by protector, what :func:`measure` returned.
        unseen: (protector, recogniser) -> whether the protector was made without that family.
        gates: of the run, with those of the recognisers.
        exploratory: why no claim can rest on these people, or "".
        seed: of permutations.
    """
    found = []
    for protector in sorted(measured):
        for name, one in measured[protector].items():
            identity = one["identity"]
            sides = {side: np.asarray(one[side], dtype=bool) for side in ("clean", "protected", "noise") if side in one}
            rate, value = (
                targeted_impersonation(sides["protected"], identity),
                net(sides["protected"], sides["clean"], identity),
            )
            difference = None
            if "noise" in sides:
                both = [per_identity(sides[side], identity)[1] for side in ("protected", "noise")]
                difference = paired_difference(*both, seed=seed).difference
            noisy = net(sides["noise"], sides["clean"], identity) if "noise" in sides else None
            judges = [
                Gate(key, gates[key]["passed"], gates[key]["reason"])
                for key in (f"recogniser-strength/{name}", f"false-match-rate/{name}")
                if key in gates
            ]
            verdict, reason = claim_verdict(
                value, IMPERSONATES, [*judges, beats_noise(difference, "passes")], exploratory
            )
            found.append({
                "protector": protector, "recogniser": name, "unseen": unseen(protector, name), "targets": one["people"],
                "asr": rate.value, "asr_ci95": rate.ci, "asr_clean": float(sides["clean"].mean()),
                "asr_net": None if value is None else value.value, "asr_net_ci95": None if value is None else value.ci,
                "asr_net_noise": None if noisy is None else noisy.value,
                "weak": not all(gate.passed for gate in judges),
                "asr_at_fmr": one["at"], "rank1_target": float(np.mean(one["first"])),
                "verdict": verdict, "reason": reason,
            })  # fmt: skip
    return found
