"""What is left of use, against hand-worked numbers and simulated coverage."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from evaluation import (
    EvaluationError,
    balanced_accuracy,
    class_agreement,
    detection_rate,
    korn_graubard,
    nme_increase,
    share_of_clean,
)


def test_the_detection_rate_is_over_people() -> None:
    found = detection_rate(np.array([True, True, False, True]), [3, 3, 5, 5])
    assert found == korn_graubard([1, 1, 0, 1], [3, 3, 5, 5])
    assert found.value == 0.75


def test_a_share_of_clean_is_a_ratio_of_means() -> None:
    rng = np.random.default_rng(0)
    clean = 0.9 + 0.1 * rng.random(50)
    protected = clean * (0.8 + 0.1 * rng.random(50))
    share = share_of_clean(protected, clean)
    assert share.value == pytest.approx(protected.mean() / clean.mean())
    assert share.low < share.value < share.high
    assert share_of_clean(clean, clean).ci == pytest.approx([1.0, 1.0])
    assert not share_of_clean(protected, np.zeros(50)).defined
    with pytest.raises(EvaluationError, match="of the same people"):
        share_of_clean(protected, clean[:3])


def test_the_rise_of_the_landmark_error() -> None:
    truth = torch.zeros(2, 5, 2)
    clean, protected = truth + torch.tensor([3.0, 4.0]), truth + torch.tensor([6.0, 8.0])
    rise = nme_increase(protected, clean, truth, torch.tensor([50.0, 100.0]))
    assert rise.tolist() == pytest.approx([0.1, 0.05])


def test_agreement_is_one_minus_the_total_variation() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.dirichlet(np.ones(7), 30), rng.dirichlet(np.ones(7), 30)
    np.testing.assert_allclose(class_agreement(first, second), 1 - 0.5 * np.abs(first - second).sum(axis=1))
    assert class_agreement([[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]).tolist() == [0.0, 1.0]
    with pytest.raises(EvaluationError, match="softmax"):
        class_agreement([[2.0, -1.0]], [[0.5, 0.5]])
    with pytest.raises(EvaluationError, match="of one shape"):
        class_agreement([[0.5, 0.5]], [[0.2, 0.3, 0.5]])


def test_balanced_accuracy_of_a_constant_answer_is_chance() -> None:
    truth = np.array([0] * 18 + [1] * 6)
    people = np.repeat(np.arange(12), 2)
    assert balanced_accuracy(np.zeros(24, int), truth, people).value == 0.5
    named = truth.copy()
    named[:9] = 1  # half of class 0 wrong, class 1 all right
    assert balanced_accuracy(named, truth, people).value == pytest.approx(0.75)


def test_equal_classes_give_the_interval_of_the_plain_accuracy() -> None:
    # Every person shows both classes equally often and both are named equally well: weights and residuals agree.
    people = np.repeat(np.arange(20), 8)
    truth = np.tile([0, 0, 0, 0, 1, 1, 1, 1], 20)
    right = np.tile([1, 1, 1, 0], 40)
    right[:8] = 0
    named = np.where(right == 1, truth, 1 - truth)
    found, plain = balanced_accuracy(named, truth, people), korn_graubard(right, people)
    assert (found.value, *found.ci) == pytest.approx((plain.value, *plain.ci))


def test_the_variance_of_balanced_accuracy_is_its_response_to_the_weight_of_each_person() -> None:
    rng = np.random.default_rng(3)
    people = np.repeat(np.arange(15), rng.integers(3, 9, 15))
    truth = (rng.random(len(people)) < 0.25).astype(int)
    # Whole people are right or wrong, so that the variance decides and not the floor on the correlation.
    right = np.repeat(rng.random(15) < 0.6, np.bincount(people)) | (rng.random(len(people)) < 0.1)

    def accuracy(weight: np.ndarray) -> float:
        by_class = [np.average(right[truth == k], weights=weight[people][truth == k]) for k in (0, 1)]
        return float(np.mean(by_class))

    step = 1e-6
    response = [(accuracy(1 + step * row) - accuracy(1 - step * row)) / (2 * step) for row in np.eye(15)]
    share, total = accuracy(np.ones(15)), len(people)
    size = share * (1 - share) / (15 / 14 * np.sum(np.square(response)))
    size *= (stats.t.ppf(0.975, total - 1) / stats.t.ppf(0.975, 14)) ** 2
    found = balanced_accuracy(np.where(right, truth, 1 - truth), truth, people)
    won, lost = share * size, (1 - share) * size
    low, high = stats.beta.ppf([0.025, 0.975], [won, won + 1], [lost + 1, lost])
    assert (found.value, *found.ci) == pytest.approx((share, low, high), rel=1e-6)


def test_the_interval_of_balanced_accuracy_covers_where_the_classes_are_uneven() -> None:
    rng = np.random.default_rng(2)
    covered = []
    for _ in range(400):
        kind = (np.arange(50) < 12).astype(int)  # an attribute of the person, as gender
        rate = np.where(kind == 1, 0.7, 0.95)
        own = rng.beta(rate * 1.5, (1 - rate) * 1.5)  # ICC .4
        truth, people = np.repeat(kind, 6), np.repeat(np.arange(50), 6)
        named = np.where(rng.random(300) < np.repeat(own, 6), truth, 1 - truth)
        found = balanced_accuracy(named, truth, people)
        covered.append(found.low <= 0.825 <= found.high)
    assert np.mean(covered) >= 0.925


def test_faulty_input_is_named() -> None:
    with pytest.raises(EvaluationError, match="2 classes and 2 people; got 1 and 2"):
        balanced_accuracy([0, 1], [1, 1], [0, 1])
    with pytest.raises(EvaluationError, match="whole numbers; got float64"):
        balanced_accuracy([0.0, 1.0], [1, 0], [0, 1])
    with pytest.raises(EvaluationError, match="one class and person a photo"):
        balanced_accuracy([0, 1, 1], [1, 0], [0, 1])
