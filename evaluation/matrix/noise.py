"""Random noise of equal size: what a protector must beat before it earns credit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from evaluation.matrix.jobs import Site, protect, protected_photos
from evaluation.matrix.score import clean_sides, frozen_from
from evaluation.matrix.scoring import Labels, centre_of, centred, compare, protection_of_people
from evaluation.quality import l2_distance


def equal_noise(site: Site, protector: str, key: str, recognisers: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Noise as large as the change that a protector makes, judged by each recogniser as published (evasion, CP).

    Args:
        site: see there.
        protector: name.
        key: of its protected photographs of the test.
        recognisers: with ``keys`` and ``thresholds``.

    Returns:
        ``spec`` of the noise, ``l2`` (mean Euclidean norm of the change of a photo, values 0..1), and ``people``:
        protection of each person by recogniser, in rising order of identity. Empty for a protector without change.
    """
    photos = site.part("test").photos
    norm = float(l2_distance(protected_photos(site, "test", key).images(), photos.images()).mean())
    if norm == 0:
        return {}
    spec = f"noise:l2={norm:.4g}"
    noisy = protected_photos(site, "test", protect(site, spec, "test", 1)["key"])
    labels, people = Labels.of(photos), {}
    for name, facts in recognisers.items():
        with torch.no_grad():
            rows = site.recogniser(name).embed(noisy.images(), noisy.points5).double().numpy()
        sides = clean_sides(site, facts["keys"])
        centre = centre_of(site.rows(facts["keys"]["calibration"])["rows"])
        both = {False: sides[False], True: centred({True: rows}, {True: centre})[True]}
        threshold = next(iter(frozen_from(facts["thresholds"]).values()))
        people[name] = protection_of_people(compare(both, labels, "CP"), threshold)[1]
    return {"spec": spec, "l2": norm, "people": people}
