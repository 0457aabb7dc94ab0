"""Random noise of equal size: what a protector must beat before it earns credit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from evaluation.matrix.jobs import Site, protect, protected_photos
from evaluation.matrix.score import clean_sides, frozen_from
from evaluation.matrix.scoring import Labels, centre_of, centred, compare, net_protection, protection_of_people
from evaluation.measures.quality import l2_distance


def equal_noise(site: Site, protector: str, key: str, recognisers: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Noise as large as the change that a protector makes, judged by each recogniser as published (evasion, CP).

    Args:
        site: see there.
        protector: name.
        key: of its protected photographs of the test.
        recognisers: with ``keys`` and ``thresholds``.

    Returns:
        ``spec`` of the noise, ``key`` of the photographs of the test with it, ``l2`` (mean Euclidean norm of the change
        of a photo, values 0..1), ``people``: protection of each person by recogniser, in rising order of identity, and
        ``psr_net`` by recogniser. Empty for a protector without change.
    """
    photos = site.part("test").photos
    norm = float(l2_distance(protected_photos(site, "test", key).images(), photos.images()).mean())
    if norm == 0:
        return {}
    spec = f"noise:l2={norm:.4g}"
    made = protect(site, spec, "test", 1)["key"]
    noisy = protected_photos(site, "test", made)
    labels, people, net = Labels.of(photos), {}, {}
    for name, facts in recognisers.items():
        with torch.no_grad():
            rows = site.recogniser(name).embed(noisy.images(), noisy.points5).double().numpy()
        sides = clean_sides(site, facts["keys"])
        centre = centre_of(site.rows(facts["keys"]["calibration"])["rows"])
        both = {False: sides[False], True: centred({True: rows}, {True: centre})[True]}
        threshold = next(iter(frozen_from(facts["thresholds"]).values()))
        evasion, clean = compare(both, labels, "CP"), compare(both, labels, "CC")
        people[name] = protection_of_people(evasion, threshold)[1]
        found = net_protection(evasion.accepted(threshold), clean.accepted(threshold), evasion.probe_id)
        net[name] = None if found is None else found.value
    return {"spec": spec, "key": made, "l2": norm, "people": people, "psr_net": net}
