"""Which victims are trained on whose photographs, to try the claim of poison (:mod:`evaluation.matrix.poison`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from evaluation.config import controls
from evaluation.matrix import poison
from evaluation.matrix.jobs import Site
from evaluation.matrix.poison import Victim
from evaluation.records import EqualNoise, Inapplicable, Method
from faces.protection import Threat

Jobs = Callable[[str, Callable[..., Any], Sequence[tuple[Any, ...]], Sequence[str]], Iterable[tuple[int, Any]]]


def train(
    jobs: Jobs,
    site: Site,
    protectors: Mapping[str, Method],
    kept: Mapping[str, str],
    equal_noise: Mapping[str, EqualNoise],
    recognisers: Sequence[str],
    inapplicable: list[Inapplicable],
) -> poison.Learnt | None:
    """Train victims on what is claimed to be poison, on the controls, and on noise of equal size.

    Under the preset S1 everybody's photographs are trained on, whatever they claim, as in the survey. Countermeasures
    are tried on what claims to be poison.

    Args:
        jobs: Function of stage, function, arguments and names that yields (position, value) of jobs that did not fail.
        site: Where everything of the run lies.
        protectors: What protectors declare, by their names with settings.
        kept: Key of the protected photographs of the test, by protector.
        equal_noise: Noise of equal size, by protector.
        recognisers: Recognisers whose embeddings victims use.
        inapplicable: List of attacks that cannot be tried; what is found here is added to it.

    Returns:
        What they learnt, or None where nothing is claimed to be poison.
    """
    config = site.config
    control = controls(config.people.size_px)
    judged = [
        name
        for name, said in protectors.items()
        if name in kept and not said.control and (Threat.poison in said.threats or config.preset == "S1")
    ]
    if not judged or control[0] not in kept:
        return None
    photos = site.part("test").photos
    probes = ~photos.gallery
    reason = poison.inapplicable(int(photos.gallery.sum()) // photos.people)
    if reason:
        inapplicable += [Inapplicable(name, poison.SCRATCH, reason) for name in judged]
    kinds = [*recognisers, *([] if reason else [poison.SCRATCH])]
    # The most expensive ones first.
    settings = [
        (kind, countermeasure)
        for kind in reversed(kinds)
        for countermeasure in reversed(poison.COUNTERMEASURES if kind == poison.SCRATCH else poison.TREATMENTS)
    ]
    clean = kept[control[0]]

    def trained(stage: str, sets: Sequence[tuple[str, str, str, str]]) -> dict[tuple[str, Victim, str], list[float]]:
        """Outcomes by protector, victim and countermeasure of sets (protector, key, kind, countermeasure)."""
        arguments = [(poison.BUDGETS[config.tier], clean, *given) for _, *given in sets]
        names = [f"{name}, {kind}, {countermeasure}" for name, _, kind, countermeasure in sets]
        found = {}
        for index, outcome in jobs(stage, poison.victim, arguments, names):
            for victim, right in outcome.items():
                found[sets[index][0], victim, sets[index][3]] = right
        return found

    # Clean ones first: what the identity control left is the same, and is then looked up.
    reference = trained("victims, clean", [("clean", clean, *setting) for setting in settings])
    claimed = [name for name in judged if Threat.poison in protectors[name].threats]
    asked = [*(name for name in (control[0], control[3]) if name in kept), *judged]
    sets = [
        (name, kept[name], *setting)
        for setting in settings
        for name in asked
        if setting[1] == poison.AS_IS or name in (control[0], *claimed)
    ]
    spoilt = trained("victims", sets)
    sets = [
        (name, equal_noise[name].key, kind, poison.AS_IS)
        for kind in reversed(kinds)
        for name in claimed
        if name in equal_noise
    ]
    noisy = trained("victims, equal noise", sets)
    return poison.Learnt(
        photos.identity[probes].numpy(),
        {(name, countermeasure): right for (_, name, countermeasure), right in reference.items()},
        spoilt,
        {(protector, name): right for (protector, name, _), right in noisy.items()},
    )
