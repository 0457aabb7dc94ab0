"""Parameters of synthetic people: theirs whoever stands beside them, scaled, and without a choice of sign."""

from __future__ import annotations

import numpy as np
import pytest

from faces.errors import FacesError
from faces.synthetic.identity import draw_identity
from faces.synthetic.parameters import identity_parameters

NUMBERS = [0, 4, 5, 1_000_000, 4_000_000, 7, 9, 11]


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return identity_parameters(3, NUMBERS, components=5)


def test_each_column_has_mean_zero_and_spread_one_where_people_differ(rows: np.ndarray) -> None:
    assert rows.shape[0] == len(NUMBERS)
    assert rows.dtype == np.float32
    spread = rows.std(axis=0)
    assert set(np.round(spread, 4)) <= {0.0, 1.0}
    assert (spread > 0.5).mean() > 0.8
    np.testing.assert_allclose(rows.mean(axis=0), 0.0, atol=1e-5)


def test_colours_and_age_are_those_of_the_person(rows: np.ndarray) -> None:
    people = [draw_identity(3, number) for number in NUMBERS]
    for column, values in {
        5: [person.paint.melanin for person in people],
        6: [person.paint.redness for person in people],
        -2: [person.male for person in people],
        -1: [person.age for person in people],
    }.items():
        wanted = (np.array(values) - np.mean(values)) / np.std(values)
        np.testing.assert_allclose(rows[:, column], wanted, atol=1e-4)


def test_components_of_the_shape_are_uncorrelated(rows: np.ndarray) -> None:
    together = np.corrcoef(rows[:, :5].T)
    np.testing.assert_allclose(together, np.eye(5), atol=1e-3)


def test_order_and_company_of_the_same_people_change_nothing_but_the_order(rows: np.ndarray) -> None:
    turned = identity_parameters(3, NUMBERS[::-1], components=5)
    np.testing.assert_allclose(turned[::-1], rows, atol=2e-3)


def test_one_person_cannot_be_compared() -> None:
    with pytest.raises(FacesError, match="give at least 2, got 1"):
        identity_parameters(0, [4, 4])
