"""Records made by hand, for tests of what is said of them. No figure here was measured."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from evaluation.labels import Verdict
from evaluation.records import (
    CleanFigures,
    CleanKeys,
    Curves,
    FrozenThreshold,
    Headline,
    Manifest,
    Method,
    PoisonRow,
    RecogniserFacts,
    Row,
    ScoredRow,
    Summary,
    WorstAttack,
)
from faces.protection import Threat

PEOPLE = 40


def method(*threats: str, **changes: Any) -> Method:
    """What a protector declares."""
    said = tuple(Threat(one) for one in threats)
    given: dict[str, Any] = {
        "name": "a", "title": "what it does", "source": "somebody", "threats": said, "auxiliary_data": "none",
        "stores": "nothing", "deterministic": True, "differentiable": False, "person_specific": False,
        "control": False, "presets": (), "additive": False, "batch_dependent": False, "settings": {},
        "surrogates": (), "blur": False, "target": False, **changes,
    }  # fmt: skip
    return Method(**given)


def figures(psr_net: float | None = 0.5, **changes: Any) -> dict[str, Any]:
    """Figures of one combination by name; everything that is not given agrees with the protection."""
    net = 0.0 if psr_net is None else psr_net
    limits = (max(0.0, net - 0.05), min(1.0, net + 0.05))
    return {
        "identities": PEOPLE, "probes": 2 * PEOPLE, "alpha": 0.01, "threshold": 0.3, "threshold_clean": 0.3,
        "fmr": 0.01, "psr": net, "psr_ci95": limits, "psr_net": psr_net, "ci95": None if psr_net is None else limits,
        "tar_clean": 0.98, "rank1": 1 - net, "rank1_ci95": (1 - limits[1], 1 - limits[0]), "rank1_clean": 1.0,
        "rank5": 1.0, "chance_rank1": 1 / PEOPLE, "auc": 0.5, "auc_ci95": (0.4, 0.55), "eer": 0.1,
        "not_acquired": 0.0, "fnir": None, "fnir_ci95": None, "fpir": None, "psr_net_at_fmr": {}, **changes,
    }  # fmt: skip


def scored_row(psr_net: float | None = 0.5, **changes: Any) -> ScoredRow:
    """A row before anybody judges it."""
    key = {
        "protector": "cloak", "attacker": "as-published", "level": "K0", "frames": 1, "recogniser": "r",
        "combination": "CP", "delta_accuracy": None,
    }  # fmt: skip
    return ScoredRow(**{**figures(psr_net), **key, **changes})


def row(psr_net: float | None = 0.5, **changes: Any) -> Row:
    """A row of the result table."""
    mine = {one.name for one in fields(ScoredRow)}
    plain = scored_row(psr_net, **{key: value for key, value in changes.items() if key in mine})
    judged = {"unseen": None, "verdict": "not shown", "reason": ""}
    judged |= {key: value for key, value in changes.items() if key not in mine}
    return Row(**vars(plain), **judged)  # type: ignore[arg-type]


def clean_figures(**changes: Any) -> CleanFigures:
    """A recogniser that passes every gate."""
    strong = {
        "tar_clean": 0.99, "tar_ci95": (0.93, 1.0), "fmr_ci95": (0.005, 0.02), "rank1": 1.0, "shuffled_rank1": 0.02,
        "shuffled_rank1_ci95": (0.0, 0.1),
    }  # fmt: skip
    return CleanFigures(**{**figures(0.0), **strong, **changes})


def recogniser(**changes: Any) -> RecogniserFacts:
    """A recogniser that judges."""
    given = {
        "family": "of r", "weights_sha256": "12" * 32, "reserved": False, "differentiable": True,
        "thresholds": (threshold(),), "keys": CleanKeys("calibration", "test"), "clean": clean_figures(), **changes,
    }  # fmt: skip
    return RecogniserFacts(**given)


def threshold() -> FrozenThreshold:
    """A frozen threshold."""
    return FrozenThreshold(0.01, 0.3127, 12345, True, "ab" * 32)


def poison_row(**changes: Any) -> PoisonRow:
    """What one victim learnt."""
    given = {
        "protector": "cloak", "victim": "scratch", "countermeasure": "as-is", "unseen": True, "accuracy": 0.1,
        "accuracy_ci95": (0.05, 0.15), "accuracy_clean": 0.9, "accuracy_clean_ci95": (0.85, 0.95), "chance": 0.025,
        "psr": 0.9, "delta": 0.9, "delta_ci95": (0.85, 0.95), "delta_noise": 0.1, "weak": False, "verdict": "holds",
        "reason": "because", "people": (), **changes,
    }  # fmt: skip
    return PoisonRow(**given)


def worst(psr_net: float = 0.5, **changes: Any) -> WorstAttack:
    """The worst attack in a combination."""
    given = {
        "attacker": "preprocess", "level": "K1", "recogniser": "sface", "psr_net": psr_net, "low": psr_net - 0.1,
        "attacks": 3, "verdict": "not shown", "reason": "", "claimed": True, "raw_psr": 0.5, "unseen": None,
        "worst_person": 0.0, "worst_decile": 0.1, **changes,
    }  # fmt: skip
    return WorstAttack(**given)


def headline(label: str = "protects", reason: str = "", **changes: Any) -> Headline:
    """What is said of a protector."""
    return Headline(**{"claims": {}, "verdict": Verdict(label, reason), **changes})


def summary(**changes: Any) -> Summary:
    """A summary in which nothing was measured, but for what is given."""
    empty = Summary(
        run="a-run",
        mode="synthetic",
        tier="smoke",
        preset=None,
        seed=0,
        identities=PEOPLE,
        facts=(),
        own_claims=(),
        poison=(),
        impersonation=(),
        orderings=(),
        rows=(),
        gates={},
        certificates={},
        headline={},
        comparisons=(),
        missing=(),
        inapplicable=(),
        exploratory="",
        deviations=(),
        tables=(),
        curves=Curves("curves.safetensors", ()),
        cost=(),
        protectors={},
        recognisers={},
        left_out=(),
        not_measured={},
        manifest=Manifest(code_sha256="00" * 32, faces={}, faces_hash="cd" * 32, thresholds={}, weights={}),
    )
    return replace(empty, **changes)
