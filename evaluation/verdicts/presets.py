"""The two experiments of the survey by name, and in what a run here differs from them."""

from __future__ import annotations

from evaluation.config import EvaluateConfig
from evaluation.matrix.poison import BUDGETS

#: What the survey states of its experiments; "not stated" is what it leaves open.
PUBLISHED: dict[str, dict[str, str]] = {
    "S1": {
        "data": "CASIA-WebFace, 50 people drawn at random",
        "split": "80 % of each person's images protected and used to train, 20 % clean for the test",
        "budget": "uniform, .03",
        "recogniser": "Inception-ResNet, batch 64, 50 epochs",
        "measure": "PSR: wrongly recognised over total",
    },
    "S2": {
        "data": "LFW, 500 images of as many people, 112 x 112",
        "split": "not stated",
        "budget": "not stated; learning rate .01, batch 1, 100 iterations",
        "recogniser": "ArcFace",
        "measure": "PSR: wrongly recognised over total",
    },
}


def deviations(config: EvaluateConfig) -> list[str]:
    """Every way in which a run under a preset differs from the published experiment, a sentence each."""
    if config.preset is None:
        return []
    said, people = PUBLISHED[config.preset], config.people
    faces = "synthetic heads" if config.faces == "synthetic" else "photographs from a folder"
    found = [f"Data: {people.test_people} people, {faces}; published: {said['data']}."]
    published = EvaluateConfig.for_preset(config.preset, "standard").people.test_people
    if people.test_people < published:
        found.append(f"People: {people.test_people} instead of {published}; the tier smoke is meant to end in minutes.")
    if config.preset == "S1":
        share = people.gallery_captures / people.captures
        budget = BUDGETS[config.tier]
        epochs = budget.steps * budget.batch / (people.test_people * people.gallery_captures)
        found += [
            f"Split: {share:.0%} of {people.captures} photographs of each person are protected and trained on, the "
            f"others are clean probes; published: {said['split']}.",
            f"Trained recogniser: a residual network on crops of {budget.size} pixels, batch {budget.batch}, "
            f"{budget.steps} steps ({epochs:.0f} epochs), with mirrored and slightly moved crops; published: "
            f"{said['recogniser']}.",
        ]
    else:
        found.append(
            f"Split: {people.captures} photographs of each person, so that a protected photograph is compared with "
            f"another photograph and never with its own original (combination CP); published: one image each, "
            f"{said['split']}."
        )
    if people.size_px != 112:
        found.append(f"Size: frames of {people.size_px} pixels; published: 112 or not stated.")
    if config.preset == "S2":
        names = ", ".join(config.recognisers)
        found.append(f"Recogniser: {names} with weights trained elsewhere; published: {said['recogniser']}.")
    found += [
        f"Budget: as each protector is named ({', '.join(config.protectors)}); published: {said['budget']}.",
        (
            "Measure: PSR is the share of clean probes that the trained recogniser names wrongly; published: "
            f"{said['measure']}."
            if config.preset == "S1"
            else "Measure: PSR is the share of genuine comparisons below a threshold frozen at FMR "
            f"{config.scoring.alphas[0]:g} on other people; published: {said['measure']}, threshold not stated."
        ),
        "Verdicts: own claims need intervals, gates and noise of equal size, and the matrix counts the worst attacker; "
        "the survey knows none beyond the recogniser.",
    ]
    return found
