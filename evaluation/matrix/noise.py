"""Random noise of equal size: what a protector must beat before it earns credit."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from evaluation.matrix.jobs import Site, protect, protected_photos
from evaluation.matrix.score import clean_sides, frozen_from
from evaluation.matrix.scoring import Labels, centre_of, centred, compare, net_protection, protection_of_people
from evaluation.measures.quality import l2_distance
from evaluation.records import EqualNoise, RecogniserFacts


def equal_noise(site: Site, protector: str, key: str, recognisers: Mapping[str, RecogniserFacts]) -> EqualNoise | None:
    """Noise as large as the change that a protector makes, judged by each recogniser as published (evasion, CP).

    Args:
        site: Where everything of the run lies.
        protector: Name with settings.
        key: Key of its protected photographs of the test.
        recognisers: Recognisers that judge.

    Returns:
        The noise, or None for a protector without change.
    """
    photos = site.part("test").photos
    norm = float(l2_distance(protected_photos(site, "test", key).images(), photos.images()).mean())
    if norm == 0:
        return None
    spec = f"noise:l2={norm:.4g}"
    made = protect(site, spec, "test", 1).key
    noisy = protected_photos(site, "test", made)
    labels, people, net = Labels.of(photos), {}, {}
    for name, facts in recognisers.items():
        with torch.no_grad():
            rows = site.recogniser(name).embed(noisy.images(), noisy.points5).double().cpu().numpy()
        sides = clean_sides(site, facts.keys)
        centre = centre_of(site.rows(facts.keys.calibration)["rows"])
        both = {False: sides[False], True: centred({True: rows}, {True: centre})[True]}
        threshold = next(iter(frozen_from(facts.thresholds).values()))
        evasion, clean = compare(both, labels, "CP"), compare(both, labels, "CC")
        people[name] = protection_of_people(evasion, threshold)[1]
        found = net_protection(evasion.accepted(threshold), clean.accepted(threshold), evasion.probe_id)
        net[name] = None if found is None else found.value
    return EqualNoise(spec, made, norm, people, net)
