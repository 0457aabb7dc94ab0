"""Validity gates and pass bars: when may anything be claimed, and what.

A gate asks whether the evaluation can show protection at all: a recogniser that fails on clean photos, or an attacker
that fails on its positive control, makes every protector look good. A gate that failed or was not run means "no claim".
A bar then says how much protection a claim needs. Both are pure functions of figures; rates are at the false match rate
of .01 unless a figure says otherwise, and bars on rates hold at the 95 % limit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from evaluation.errors import EvaluationError
from evaluation.labels import ClaimLabel, OverallLabel, Verdict
from evaluation.measures.intervals import Interval
from ground.gates import Gate

#: Clean true accept rate that a recogniser must reach, and its lower limit.
LEAST_TAR, LEAST_TAR_LOW = 0.90, 0.80
#: Share of the clean rank-1 that an attacker must regain on its positive control.
REGAINED = 0.80
#: Lower limits of PSR_net: against attackers of today, strongly so, and after retraining.
PROTECTS, STRONG, WITHSTANDS = 0.80, 0.95, 0.50
#: Lower limit of what a protector does to its own claim: share of the clean accuracy above chance that training on
#: protected photos costs, PSR_net of a protected probe, and share of probes that pass for a target where they did not
#: before. No publication sets a bar; the first two are that of a protection, the third is more often than not.
POISONS, DODGES, IMPERSONATES = PROTECTS, PROTECTS, 0.50
#: Accuracy after training on clean photos that a victim of poisoning must reach, and its lower limit.
LEAST_ACCURACY, LEAST_ACCURACY_LOW = 0.70, 0.50
#: With fewer people nothing is claimed.
LEAST_PEOPLE = 30
#: Share of its PSR_net that a protector keeps when a tenth of the gallery leaks clean.
LEAKAGE_KEPT = 0.80
#: Area under the ROC curve of protected-protected pairs, upper limit.
UNLINKABLE = 0.60
#: SSIM of a perturbation: median and 5th percentile.
SSIM_MEDIAN, SSIM_P5 = 0.90, 0.80
#: Detection and expression as a share of clean, rise of the landmark error, landmark error of optics.
DETECTION_KEPT, EXPRESSION_KEPT, NME_RISE, OPTICS_NME = 0.98, 0.95, 0.01, 0.08
#: A certificate that lets an attacker succeed this often is vacuous.
VACUOUS = 0.5


def recogniser_strength(tar: Interval) -> Gate:
    """Gate 1: the recogniser works on clean photos.

    Args:
        tar: True accept rate on clean test photos, at the frozen threshold for a false match rate of .01.
    """
    passed = tar.value >= LEAST_TAR and tar.low >= LEAST_TAR_LOW
    reason = (
        f"clean TAR is {tar.value:.3f} with lower limit {tar.low:.3f}; needed are {LEAST_TAR:.2f} and "
        f"{LEAST_TAR_LOW:.2f}"
    )
    return Gate("recogniser-strength", passed, reason, {"tar": tar.value, "low": tar.low})


def victim_strength(accuracy: Interval) -> Gate:
    """A recogniser that is trained on the tested people learns them from clean photos; or poison has nothing to spoil.

    Args:
        accuracy: Share of clean photos, none of them trained on, that are named rightly after training on clean ones.
    """
    passed = accuracy.value >= LEAST_ACCURACY and accuracy.low >= LEAST_ACCURACY_LOW
    reason = (
        f"accuracy after clean training is {accuracy.value:.3f} with lower limit {accuracy.low:.3f}; needed are "
        f"{LEAST_ACCURACY:.2f} and {LEAST_ACCURACY_LOW:.2f}"
    )
    return Gate("victim-strength", passed, reason, {"accuracy": accuracy.value, "low": accuracy.low})


def false_match_rate(fmr: Interval, alpha: float) -> Gate:
    """Gate 2: the frozen threshold means on the tested people what it says.

    Args:
        fmr: False match rate on the test people (:func:`evaluation.measures.bands.false_match_interval`).
        alpha: Rate that the threshold was set for.
    """
    contains = fmr.low <= alpha <= fmr.high
    reason = (
        f"FMR on test people is {fmr.value:.4f} [{fmr.low:.4f}, {fmr.high:.4f}], which "
        f"{'contains' if contains else 'does not contain'} {alpha:g}"
    )
    figures = {"fmr": fmr.value, "low": fmr.low, "high": fmr.high, "alpha": alpha}
    return Gate("false-match-rate", contains, reason, figures)


def label_shuffle(rank1: Interval, chance: float) -> Gate:
    """Gate 3, control: with names dealt out at random, rank-1 is at chance; otherwise the protocol leaks names."""
    reason = (
        f"rank-1 under shuffled names is {rank1.value:.3f} [{rank1.low:.3f}, {rank1.high:.3f}], chance {chance:.3f}"
    )
    figures = {"rank1": rank1.value, "low": rank1.low, "high": rank1.high, "chance": chance}
    return Gate("label-shuffle", rank1.low <= chance <= rank1.high, reason, figures)


def identity_control(psr_net: float | None) -> Gate:
    """Gate 3, control: a protector that does nothing protects nobody (None: not run)."""
    if psr_net is None:
        return Gate("identity-control", None, "the identity protector was not run")
    reason = f"PSR_net of no protection is {psr_net:.4f}; it must be 0"
    return Gate("identity-control", psr_net == 0, reason, {"psr_net": psr_net})


def parrot_control(rank1: float | None, clean_rank1: float) -> Gate:
    """Gate 3, control: retraining on lightly pixelated photos regains the clean rank-1 (None: not run)."""
    return _regained("parrot-control", "a recogniser retrained on light pixelation", rank1, clean_rank1)


def wiener_control(rank1: float | None, clean_rank1: float) -> Gate:
    """Gate 3, control: the Wiener filter with the true PSF undoes a mild blur without noise (None: not run)."""
    return _regained("wiener-control", "the Wiener filter with known PSF on a noiseless mild blur", rank1, clean_rank1)


def _regained(name: str, attacker: str, rank1: float | None, clean_rank1: float) -> Gate:
    if not 0 < clean_rank1 <= 1:
        raise EvaluationError(f"clean_rank1 is {clean_rank1}; nothing can be regained of it.")
    if rank1 is None:
        return Gate(name, None, f"{attacker} was not run")
    share = rank1 / clean_rank1
    reason = f"{attacker} regains {share:.1%} of the clean rank-1 {clean_rank1:.3f}; needed are {REGAINED:.0%}"
    # The allowance keeps a quotient of exactly .80 from being rounded below it.
    return Gate(name, share >= REGAINED - 1e-9, reason, {"rank1": rank1, "clean_rank1": clean_rank1, "share": share})


def certificate(attacks: Mapping[str, tuple[float, float]]) -> Gate:
    """Gate 4: no attack succeeds more often than the certificate allows; otherwise one of the two has a bug.

    Args:
        attacks: Lower limit of success and certified upper limit, by attack. Empty where nothing is certified.
    """
    above = {name: pair for name, pair in attacks.items() if pair[0] > pair[1]}
    if above:
        name, (low, limit) = max(above.items(), key=lambda item: item[1][0] - item[1][1])
        reason = f"{name} succeeds in at least {low:.4f}, the certificate allows {limit:.4f}: look for a bug"
        return Gate("certificate", False, reason, {"low": low, "limit": limit})
    if not attacks:
        return Gate("certificate", True, "nothing is certified, so no certificate is exceeded")
    return Gate("certificate", True, f"none of {len(attacks)} attacks exceeds its certificate")


def beats_noise(difference: Interval | None, does: str = "protects") -> Gate:
    """Gate 5: the protector beats random noise of equal budget.

    Args:
        difference: Protection of each person minus that by the noise (:func:`evaluation.paired_difference`);
            None: not run.
        does: A word for what it does more of.
    """
    if difference is None:
        return Gate("equal-noise", None, "random noise of equal budget was not run")
    reason = (
        f"it {does} {difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}] more than random noise "
        "of equal budget; the lower limit must be above 0"
    )
    figures = {"difference": difference.value, "low": difference.low, "high": difference.high}
    return Gate("equal-noise", difference.low > 0, reason, figures)


@dataclass(frozen=True)
class Bar:
    """What a figure must reach for a claim.

    Attributes:
        claim: What may be said if all bars of that name are met.
        figure: Name of the figure; ``_low`` and ``_high`` are its 95 % limits.
        side: On which side of ``limit`` the figure must be.
        limit: The bar.
    """

    claim: str
    figure: str
    side: Literal["at least", "at most", "below"]
    limit: float

    def met(self, value: float) -> bool:
        """Whether a value reaches the bar; NaN does not."""
        if self.side == "at least":
            return value >= self.limit
        return value <= self.limit if self.side == "at most" else value < self.limit


#: Every bar but the one that depends on the gallery, :func:`optics_rank1_bar`.
BARS = (
    Bar("protects", "psr_net_low", "at least", PROTECTS),
    Bar("strong", "psr_net_low", "at least", STRONG),
    Bar("withstands retraining", "psr_net_retrained_low", "at least", WITHSTANDS),
    Bar("leakage-tolerant", "psr_net_leaked_share", "at least", LEAKAGE_KEPT),
    Bar("unlinkable", "linkability_auc_high", "at most", UNLINKABLE),
    Bar("quality", "ssim_median", "at least", SSIM_MEDIAN),
    Bar("quality", "ssim_p5", "at least", SSIM_P5),
    Bar("utility", "detection_share", "at least", DETECTION_KEPT),
    Bar("utility", "nme_rise", "at most", NME_RISE),
    Bar("utility", "expression_share", "at least", EXPRESSION_KEPT),
    Bar("utility of optics", "heatmap_nme", "at most", OPTICS_NME),
    Bar("certified", "certified_success", "below", VACUOUS),
)


def optics_rank1_bar(people: int) -> Bar:
    """Bar of optics after retraining: upper limit of rank-1, by parrot and by known PSF, in a gallery of M people.

    max(2 / M, 1 / M + .10): twice chance, or a tenth above it.
    """
    if people < 2:
        raise EvaluationError(f"a gallery of {people} people cannot be searched; it needs at least 2.")
    return Bar("withstands retraining", "rank1_high", "at most", max(2 / people, 1 / people + 0.10))


def claims(figures: Mapping[str, float], bars: Sequence[Bar] = BARS) -> dict[str, bool | None]:
    """Which claims reach their bars: each needs all of its own; None where a figure is missing and none falls short."""
    result: dict[str, bool | None] = {}
    for bar in bars:
        met = bar.met(figures[bar.figure]) if bar.figure in figures else None
        before = result.get(bar.claim, True)
        result[bar.claim] = False if False in (before, met) else (None if None in (before, met) else True)
    return result


def verdict(gates: Sequence[Gate], psr_net: Interval | None, identities: int) -> Verdict[OverallLabel]:
    """Turn gates and the net protection under the worst attacker into a verdict.

    Args:
        gates: All gates that the verdict rests on.
        psr_net: Protection under the worst attacker; its ``low`` should be the least of all
            (:func:`evaluation.measures.attackers.least_protection`). None if nobody was matched clean.
        identities: Number of tested people.

    Returns:
        "no claim" if a gate failed or was not run, or there is no figure; "exploratory" with fewer than 30 people;
        otherwise "strong", "protects" or "fails" by the lower limit.
    """
    if not gates:
        return Verdict("no claim", "no validity gate was run")
    closed = [gate for gate in gates if not gate.passed]
    if closed:
        state = "was not run" if closed[0].passed is None else "failed"
        return Verdict("no claim", f"the gate {closed[0].name} {state}: {closed[0].reason}")
    if psr_net is None or math.isnan(psr_net.low):
        return Verdict("no claim", "PSR_net is undefined: too few people are matched without protection")
    limits = f"PSR_net is {psr_net.value:.3f} with lower limit {psr_net.low:.3f}"
    if identities < LEAST_PEOPLE:
        return Verdict("exploratory", f"{limits} on {identities} people; a claim needs {LEAST_PEOPLE}")
    if psr_net.low >= STRONG:
        return Verdict("strong", f"{limits}; needed are {STRONG:.2f}")
    if psr_net.low >= PROTECTS:
        return Verdict("protects", f"{limits}; needed are {PROTECTS:.2f}")
    known = "broken" if psr_net.high < PROTECTS else "not shown"
    return Verdict("fails", f"{known}: {limits}, upper limit {psr_net.high:.3f}; needed are {PROTECTS:.2f}")


def claim_verdict(value: Interval | None, bar: float, closed: Sequence[Gate], exploratory: str) -> Verdict[ClaimLabel]:
    """Whether what a protector claims of itself holds against one recogniser, with the reason.

    Args:
        value: What it does to the claim, larger is better; None where it is not defined.
        bar: Bar that its lower limit must reach; see :data:`POISONS` and its neighbours.
        closed: First the gates of the recogniser, then that of equal noise. Noise is not asked where the claim fails.
        exploratory: Why no claim can rest on these people, or "".
    """
    *judges, noise = closed
    for gate in judges:
        if not gate.passed:
            return Verdict("no claim", f"{gate.name}: {gate.reason}")
    if value is None or math.isnan(value.low):
        return Verdict("no claim", "the figure is undefined: too few people are recognised without protection")
    limits = f"{value.value:.3f} with limits {value.low:.3f} and {value.high:.3f}; needed is {bar:.2f}"
    if value.high < bar:
        return Verdict("fails", limits)
    if exploratory:
        return Verdict("exploratory", exploratory)
    if value.low < bar:
        return Verdict("not shown", limits)
    if noise.passed:
        return Verdict("holds", limits)
    return Verdict("no claim", f"{noise.name}: {noise.reason}")
