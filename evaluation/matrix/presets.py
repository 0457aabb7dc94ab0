"""The two experiments of the survey by name, and in what a run here differs from them."""

from __future__ import annotations

from evaluation.config import EvaluateConfig

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
    if config.preset == "S1":
        share = people.gallery_captures / people.captures
        found.append(
            f"Split: {share:.0%} of {people.captures} photographs of each person are the protected gallery, the others "
            f"clean probes (combination PC); nothing is trained on the tested people. Published: {said['split']}."
        )
    else:
        found.append(
            f"Split: {people.captures} photographs of each person, so that a protected photograph is compared with "
            f"another photograph and never with its own original (combination CP); published: one image each, "
            f"{said['split']}."
        )
    if people.size_px != 112:
        found.append(f"Size: frames of {people.size_px} pixels; published: 112 or not stated.")
    found += [
        f"Recogniser: {', '.join(config.recognisers)} with weights trained elsewhere; published: {said['recogniser']}.",
        f"Budget: as each protector is named ({', '.join(config.protectors)}); published: {said['budget']}.",
        f"Measure: psr is the share of genuine comparisons below a threshold frozen at FMR {config.scoring.alphas[0]:g}"
        f" on other people, rank1 the share named rightly; published: {said['measure']}, threshold not stated.",
        "Headline: the worst attacker counts here; the survey knows none beyond the recogniser.",
    ]
    return found
