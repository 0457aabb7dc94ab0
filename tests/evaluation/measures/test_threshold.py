"""The frozen threshold keeps the false match rate it was set for."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from evaluation import EvaluationError, freeze_threshold, manifest_hash


def test_the_value_is_the_stated_order_statistic() -> None:
    scores = np.random.default_rng(0).permutation(np.arange(1.0, 200.0))  # 199 scores: (199 + 1) * 0.99 = 198
    threshold = freeze_threshold(scores, 0.01, manifest_hash="abc")
    assert (threshold.value, threshold.n, threshold.alpha) == (198.0, 199, 0.01)
    assert threshold.manifest_hash == "abc"
    assert threshold.accepts([198.0, 198.5]).tolist() == [False, True]
    assert not threshold.supported
    assert freeze_threshold(np.arange(3000.0), 0.01).supported


def test_the_expected_false_match_rate_is_alpha() -> None:
    rng = np.random.default_rng(1)
    draws = np.sort(rng.random((4000, 99)), axis=1)
    rates = [1 - freeze_threshold(row, 0.05).value for row in draws]  # uniform scores: P(new > tau) = 1 - tau
    assert np.mean(rates) == pytest.approx(0.05, abs=0.002)


def test_too_few_impostors_are_refused_at_exactly_the_limit() -> None:
    assert freeze_threshold(np.arange(99.0), 0.01).value == 98.0
    with pytest.raises(EvaluationError, match=r"98 impostor scores cannot .* at least 99"):
        freeze_threshold(np.arange(98.0), 0.01)


def test_faulty_input_is_named() -> None:
    with pytest.raises(EvaluationError, match="alpha is 1"):
        freeze_threshold([0.0], 1.0)
    with pytest.raises(EvaluationError, match="not finite"):
        freeze_threshold([np.nan] * 200, 0.01)


def test_a_threshold_cannot_be_moved_and_its_manifest_hash_ignores_order() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError, match="value"):
        freeze_threshold(np.arange(99.0)).value = 0.0  # type: ignore[misc]
    assert manifest_hash({"a": 1, "b": 2}) == manifest_hash({"b": 2, "a": 1}) != manifest_hash({"a": 1, "b": 3})
