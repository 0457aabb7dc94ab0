"""Recognition scores against scipy and against the definitions written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from evaluation import (
    EvaluationError,
    ScoreMatrix,
    cosine_scores,
    eer,
    embedding_mean,
    rank1_trials,
    rank_k,
    roc_auc,
    score_matrix,
    tar_at_threshold,
    templates,
    verification_scores,
)
from evaluation.measures.metrics import unit


def test_a_template_is_the_renormalised_mean_of_unit_embeddings() -> None:
    gallery = np.array([[2.0, 0.0], [0.0, 5.0], [-3.0, 0.0]])
    mean, people = templates(gallery, np.array([7, 7, 4]))
    assert people.tolist() == [4, 7]
    np.testing.assert_allclose(mean, [[-1.0, 0.0], [0.5**0.5, 0.5**0.5]])


def test_cosines_equal_the_definition_and_take_tensors() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(4, 5)), rng.normal(size=(3, 5))
    expected = [[x @ y / (np.linalg.norm(x) * np.linalg.norm(y)) for y in b] for x in a]
    np.testing.assert_allclose(cosine_scores(torch.from_numpy(a), b), expected)


def test_centring_removes_a_common_direction() -> None:
    rng = np.random.default_rng(1)
    common = np.array([20.0, 0, 0, 0])
    people = rng.normal(size=(30, 4)) + common
    other = rng.normal(size=(5000, 4)) + common
    plain, centred = cosine_scores(people, people), cosine_scores(people, people, centre=embedding_mean(other))
    off = ~np.eye(30, dtype=bool)
    assert plain[off].mean() > 0.9
    assert abs(centred[off].mean()) < 0.1


def test_a_row_of_zeros_scores_zero() -> None:
    assert np.array_equal(unit(np.zeros((1, 3))), np.zeros((1, 3)))


def test_rank1_and_rank_k_equal_a_sort_written_out() -> None:
    rng = np.random.default_rng(2)
    gallery, probes = rng.normal(size=(12, 3)), rng.normal(size=(40, 3))
    gallery_id, probe_id = np.repeat([3, 1, 8, 5], 3), rng.choice([3, 1, 8, 5], 40)
    matrix = score_matrix(gallery, gallery_id, probes, probe_id)
    rank = [
        1 + matrix.template_id[np.argsort(-row, kind="stable")].tolist().index(label)
        for row, label in zip(matrix.scores, probe_id, strict=True)
    ]
    assert matrix.rank.tolist() == rank
    success, identity = rank1_trials(gallery, gallery_id, probes, probe_id)
    assert success.tolist() == [r == 1 for r in rank]
    assert identity.tolist() == probe_id.tolist()
    assert rank_k(matrix, 2) == pytest.approx(np.mean([r <= 2 for r in rank]))
    assert rank_k(matrix, 4) == 1.0


def test_an_attacker_that_knows_nothing_is_at_chance() -> None:
    people = np.repeat(np.arange(5), 4)
    success, _ = rank1_trials(np.ones((20, 3)), people, np.ones((20, 3)), people)
    assert success.mean() == pytest.approx(1 / 5)


def test_genuine_and_impostor_scores_are_split_by_identity() -> None:
    matrix = ScoreMatrix(np.arange(6.0).reshape(2, 3), np.array([20, 10]), np.array([10, 20, 30]))
    assert matrix.genuine.tolist() == [1.0, 3.0]
    assert matrix.impostor.tolist() == [0.0, 2.0, 4.0, 5.0]
    eye = np.eye(3)
    genuine, impostor = verification_scores(eye, np.arange(3), eye, np.arange(3))
    assert genuine.tolist() == [1.0, 1.0, 1.0]
    assert impostor.tolist() == [0.0] * 6


@pytest.mark.parametrize("levels", [3, 1000000])
def test_auc_equals_mann_whitney_with_and_without_ties(levels: int) -> None:
    rng = np.random.default_rng(3)
    genuine, impostor = rng.integers(0, levels, 80) + levels // 3, rng.integers(0, levels, 300)
    reference = stats.mannwhitneyu(genuine, impostor).statistic / (80 * 300)
    assert roc_auc(genuine, impostor) == pytest.approx(reference, abs=1e-12)


def test_equal_error_rate_of_two_gaussians_is_the_analytic_one() -> None:
    grid = stats.norm.ppf((np.arange(20000) + 0.5) / 20000)
    assert eer(grid + 2.0, grid) == pytest.approx(stats.norm.cdf(-1.0), abs=1e-4)
    assert eer([2.0, 3.0], [0.0, 1.0]) == 0.0
    assert eer([1.0, 1.0], [1.0, 1.0]) == pytest.approx(0.5)


def test_true_accept_rate_counts_scores_above_the_threshold() -> None:
    assert tar_at_threshold([0.1, 0.5, 0.7, 0.9], 0.5) == 0.5


def test_faulty_input_is_named() -> None:
    one = np.ones((2, 3))
    with pytest.raises(EvaluationError, match="not finite in 1 of 2"):
        unit(np.array([[1.0, np.nan], [0.0, 1.0]]))
    with pytest.raises(EvaluationError, match="no template"):
        score_matrix(one, [0, 1], one, [0, 2])
    with pytest.raises(EvaluationError, match="3 features, probes 2"):
        score_matrix(one, [0, 1], one[:, :2], [0, 1])
    with pytest.raises(EvaluationError, match="whole numbers"):
        score_matrix(one, [0.0, 1.0], one, [0, 1])
    with pytest.raises(EvaluationError, match="fewer than 2 people"):
        score_matrix(one, [0, 0], one, [0, 0])
    with pytest.raises(EvaluationError, match="names a person twice"):
        ScoreMatrix(np.ones((1, 2)), np.array([1]), np.array([1, 1]))
    with pytest.raises(EvaluationError, match=r"outside 1\.\.2"):
        rank_k(score_matrix(one, [0, 1], one, [0, 1]), 3)
    with pytest.raises(EvaluationError, match="genuine and impostor"):
        roc_auc([], [1.0])
