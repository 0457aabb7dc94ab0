"""What the figures of a run cannot say, a sentence each."""

from __future__ import annotations

from codesign.attackers import find, learner_of, releases_places, with_share
from codesign.awake import ALIVE, ASLEEP
from codesign.config import TrainMaskConfig
from codesign.data import Splits
from codesign.real_people import photo_limits
from codesign.records import TrainMaskSummary
from codesign.tables import Tables, measured
from evaluation import paired_difference
from ground.protocols import RunStore

#: What the camera of pairs takes for granted.
ON_THE_CHIP = (
    "It is assumed that nothing but the places of winners and one bit of presence leaves the chip: a chip whose pixels "
    "or sums can be read out protects nothing.",
    "The chip itself moves the windows of followers; whoever could move them from outside could scan the picture.",
    "The sums of several pairs meet at one node for each place; in silicon that is done column by column and was not "
    "built.",
)


def limits_of(config: TrainMaskConfig, run: RunStore, splits: Splits, summary: TrainMaskSummary) -> list[str]:
    """What a finished run cannot say.

    Args:
        config: Configuration of the run.
        run: The run folder.
        splits: The people.
        summary: The summary, complete but for these sentences.
    """
    pairs = releases_places(config, "ours")
    found = [
        "Simulation only: no mask was made and no light was measured.",
        "One exposure of each face, but where several are named: an attacker who averages T frames of a still face "
        "lowers the noise by sqrt(T).",
        "All faces stand at one distance; a mask with relief acts differently at others.",
        "Colour is represented by three wavelengths; the light of a face covers the whole band.",
        "Privacy is shown against the attackers listed here, each with the training it got, and not against all.",
        "Attackers on frames align faces by their true eye, nose and mouth points, which helps them.",
        *(ON_THE_CHIP if pairs else ()),
    ]
    if summary.tolerances:
        found.append(
            "Off its design (tolerances) the camera meets a decoder and an attacker that were trained on it as "
            "designed: one who trains on the camera as it was made may recognise more. Errors are drawn once."
        )
    if config.faces == "synthetic":
        found.append("Synthetic heads: people who never lived; evaluate-mask judges the mask on photographs.")
    else:
        found += photo_limits(summary.photographs)
    found += _still_rising(config, run, splits, summary)
    if summary.exposures:
        one, several = summary.exposures
        found.append(
            f"With {several.exposures} exposures of each still face averaged, the attacker called "
            f"{find(one.attacker).shown_as} names {measured(several.rank1):.3f} of the pictures; with one, "
            f"{measured(one.rank1):.3f}."
        )
    found.append(
        "Landmarks are not found equally well in all faces: the error is "
        + ", ".join(f"{measured(value):.3f} in the {name} third" for name, value in summary.nme_by_light.items())
        + " of the test frames."
    )
    for row in summary.ablations.values():
        if row.error is not None:
            continue  # not brought to our landmark error
        low, high = (measured(limit) for limit in row.rank1.ci95)
        found.append(
            f"Taken off the worst rank-1, at equal landmark error, by {row.lacks} of this camera alone: "
            f"{measured(row.rank1.value):+.3f} (95 % interval {low:+.3f} to {high:+.3f})."
        )
    for row in summary.ablations.values():
        if row.error is not None:
            low, high = (measured(limit) for limit in row.error.ci95)
            found.append(
                f"Without {row.lacks} the landmark error changes by {measured(row.error.value):+.3f} (95 % interval "
                f"{low:+.3f} to {high:+.3f}), with read-out and decoder trained anew for that camera."
            )
    if "same-sensor-no-mask" not in summary.ablations and not pairs:
        found.append(
            "Mask and sensor are judged together; what the mask adds to the sensor is measured by the baseline "
            "same-sensor-no-mask, which this run left out."
        )
    alive = {**summary.gates, **summary.findings}.get(ALIVE)
    if alive is not None and not alive.passed:
        found.append(f"{ASLEEP.capitalize()}: its adversaries were not shown to be awake.")
    if config.budget in ("smoke", "quick"):
        found.append(f"Budget {config.budget}: attackers with more training may recognise more.")
    off = {name: row.mismatch for name, row in summary.baselines.items() if row.mismatch is not None}
    far = [f"{name} {value:+.3f}" for name, value in off.items() if abs(value) > config.proof.nme_tolerance]
    if far:
        found.append(
            "Landmark errors of these baselines differ from ours on the validation people by more than "
            f"{config.proof.nme_tolerance}: {', '.join(far)} (plus: the baseline sees landmarks worse)."
        )
    return found


def _still_rising(config: TrainMaskConfig, run: RunStore, splits: Splits, summary: TrainMaskSummary) -> list[str]:
    """Whether the learned attacker names more people still when it is trained with more."""
    curve = summary.learning_curve
    if len(curve) < 2:
        return []
    share, learner = max(share for share in config.proof.learning_curve if share < 1.0), learner_of(config)
    tables = Tables(run, splits)
    gain = paired_difference(tables.rates("ours", learner), tables.rates("ours", with_share(learner, share))).difference
    rates = ", ".join(f"{measured(point.rank1):.3f}" for point in curve)
    sizes = ", ".join(str(point.trained_on) for point in curve)
    if gain.low > 0:
        end = "it still rises, so more people would name more"
    else:
        end = "no further rise is shown, which is no proof that more people or longer training would not help"
    return [
        f"Trained on {sizes} people, the attacker called {find(learner).shown_as} names {rates} of the pictures; the "
        "last step adds "
        f"{gain.value:+.3f} (95 % interval {gain.low:+.3f} to {gain.high:+.3f}): {end}."
    ]
