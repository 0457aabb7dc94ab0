"""What is left of use, against hand-worked numbers; networks stand in that answer by rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from evaluation import EvaluationError
from evaluation.matrix import utility
from evaluation.matrix.jobs import Site
from evaluation.matrix.scoring import Labels, compare, figures, open_set
from evaluation.matrix.store import Store
from evaluation.measures.metrics import unit
from evaluation.measures.threshold import Threshold
from evaluation.photos import Photos
from evaluation.records import QualityColumns
from faces import weights
from faces.samples import FaceSet, five_points
from faces.synthetic.identity import draw_identity
from tests.evaluation.matrix import matrix_fakes
from tests.evaluation.matrix.conftest import small

FIRST = 13_000_000
Evaluate = Callable[..., dict[str, Any]]


def _photos(people: int = 34, captures: int = 4) -> Photos:
    faces = matrix_fakes.heads(people, captures, FIRST)
    return Photos(faces, five_points(faces.landmarks), faces.capture < 2)


def _site(folder: Path, **changes: Any) -> Site:
    return Site(
        folder, folder / "store", small(**changes), "", matrix_fakes.make_protector, matrix_fakes.make_attacker,
        matrix_fakes.load_recogniser,
    )  # fmt: skip


def _white(photos: Photos, which: Tensor) -> Photos:
    images = photos.images()
    images[which] = 1.0
    return photos.with_images(images)


def _is_white(images: Tensor) -> Tensor:
    return (images.mean((1, 2, 3)) > 200).float()


def _gender(chips: Tensor) -> tuple[Tensor, Tensor]:
    """A woman on white pictures, a man on all others."""
    female = _is_white(chips)
    return female, torch.stack([1 - female, female], 1)


def _expression(chips: Tensor) -> Tensor:
    white = _is_white(chips)[:, None]
    return torch.log(torch.tensor([0.7, 0.3]) * (1 - white) + torch.tensor([0.2, 0.8]) * white)


class _Landmarks:
    def __init__(self, truth: Tensor) -> None:
        self.truth = truth

    def landmarks(self, images: Tensor, points5: Tensor) -> Tensor:
        # One pixel to the right of the truth, on white pictures four.
        return self.truth + (1 + 3 * _is_white(images))[:, None, None] * torch.tensor([1.0, 0.0])


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "verify", lambda name: Path(name))
    truth = matrix_fakes.heads(1, 1, FIRST).landmarks[0]
    monkeypatch.setattr(utility, "load_age_gender_net", lambda: _gender)
    monkeypatch.setattr(utility, "load_expression_net", lambda: _expression)
    monkeypatch.setattr(utility, "load_landmark_net", lambda: _Landmarks(truth))


def test_figures_of_use_by_hand(tmp_path: Path, networks: None) -> None:
    photos = _photos()
    shown = _white(photos, torch.arange(len(photos)) % 4 == 3)  # one of the two probes of each person
    assert torch.equal(photos.gallery, photos.faces.capture < 2)
    found, reasons = utility.measure(_site(tmp_path), photos, shown)
    assert found["utility_photos"] == 68
    assert found["gender_agreement"] == found["expression_unchanged"] == 0.5
    assert found["expression_agreement"] == pytest.approx(0.75)  # half of them share .2 + .3
    eyes = torch.linalg.vector_norm(photos.faces.landmarks[0, 36] - photos.faces.landmarks[0, 45])
    assert found["nme_clean"] == pytest.approx(1 / float(eyes), rel=1e-5)
    assert found["nme_increase"] == pytest.approx(1.5 / float(eyes), rel=1e-5)
    # Every clean picture is read as a man: of men half are still, of women half are.
    men = torch.tensor([draw_identity(0, FIRST + k).male > 0.5 for k in range(34)])
    assert 0 < int(men.sum()) < 34
    assert found["gender_accuracy_clean"] == found["gender_accuracy"] == pytest.approx(0.5)
    assert set(reasons) == {"gender_balanced_agreement"}
    assert "at least 2 classes" in reasons["gender_balanced_agreement"]


def test_balanced_agreement_weighs_both_answers_alike(tmp_path: Path, networks: None) -> None:
    clean = _white(_photos(8), torch.arange(32) < 4)  # one person of eight is read as a woman
    shown = _white(clean, torch.arange(32) >= 24)  # two of seven men are, too
    found, reasons = utility.gender(Store(tmp_path), utility.Pairs(clean, shown, None))
    assert found["gender_agreement"] == 0.75
    assert found["gender_balanced_agreement"] == pytest.approx((1 + 5 / 7) / 2)
    assert set(reasons) == {"gender_accuracy", "gender_accuracy_clean"}


def test_without_marked_landmarks_the_clean_answer_is_the_truth(tmp_path: Path, networks: None) -> None:
    photos = _photos(8)
    faces: FaceSet = replace(photos.faces, landmarks=torch.full_like(photos.faces.landmarks, torch.nan))
    clean = replace(photos, faces=faces)
    shown = _white(clean, torch.ones(32, dtype=torch.bool))
    found, reasons = utility.landmarks(Store(tmp_path), utility.Pairs(clean, shown, None))
    eyes = torch.linalg.vector_norm(photos.faces.landmarks[0, 36] - photos.faces.landmarks[0, 45])
    assert found == {"nme_increase": pytest.approx(3 / float(eyes), rel=1e-5)}
    assert set(reasons) == {"nme_clean"}


def test_nothing_is_lost_where_nothing_was_changed(tmp_path: Path, networks: None) -> None:
    photos = _photos()
    found, _ = utility.measure(_site(tmp_path), photos, photos)
    assert found["gender_agreement"] == 1
    assert found["expression_agreement"] == pytest.approx(1)
    assert found["nme_increase"] == 0
    # Sums over subsets, which a linear algebra may round one way or the other.
    assert (found["kid"], found["kid_sd"]) == pytest.approx((0, 0), abs=1e-12)


def test_absent_weights_give_none_and_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTISHIELD_CACHE", str(tmp_path))
    photos = _photos(8)
    found, reasons = utility.measure(_site(tmp_path, recognisers=["absent"]), photos, photos)
    assert found == {}
    for name, column in (("age-gender", "gender_agreement"), ("face-expression", "expression_agreement"),
                         ("face-landmark-68", "nme_increase")):  # fmt: skip
        assert f"run: optishield weights fetch {name}" in reasons[column]
    assert "8 people are fewer than 30" in reasons["kid"]
    _, reasons = utility.measure(_site(tmp_path, recognisers=["absent"]), _photos(), _photos())
    assert "its weights were not fetched" in reasons["kid"]


def test_rows_carry_the_columns_and_reasons_stay_outside(evaluated: Evaluate) -> None:
    rows = evaluated(protectors=["identity", "negative"], attackers=["as-published"])["rows"]
    columns = {one.name for one in fields(QualityColumns)}
    assert set(utility.COLUMNS) < columns
    assert all(columns <= set(row) and "not_measured" not in row for row in rows)
    distance = {row["protector"]: row["kid"] for row in rows}
    assert distance["identity"] == pytest.approx(0, abs=1e-12)
    assert distance["negative"] > 0.1
    assert {row["gender_agreement"] for row in rows} == {None}  # the cache of the test holds no weights


def test_kernel_distance_leaves_out_pairs_of_one_person() -> None:
    generator = np.random.default_rng(0)
    x, y = (unit(generator.normal(size=(7, 3)) + shift) for shift in (0, 1))
    who = np.array([5, 5, 2, 2, 2, 9, 9])

    def by_loops(keep: np.ndarray) -> float:
        total, pairs = 0.0, 0
        for i in np.flatnonzero(keep):
            for j in np.flatnonzero(keep):
                if who[i] != who[j]:
                    total += (x[i] @ x[j] + 1) ** 3 + (y[i] @ y[j] + 1) ** 3 - 2 * (x[i] @ y[j] + 1) ** 3
                    pairs += 1
        return total / pairs

    value, sd = utility.paired_kernel_distance(x, y, who)
    assert value == pytest.approx(by_loops(who > 0))
    left_out = np.array([by_loops(who != person) for person in (2, 5, 9)])
    assert sd == pytest.approx(np.sqrt(2 / 3 * ((left_out - left_out.mean()) ** 2).sum()))
    with pytest.raises(EvaluationError, match=r"at least 3 people; got \(7, 3\), \(7, 3\) and 7 rows of 2 people"):
        utility.paired_kernel_distance(x, y, who > 4)


# Open set


def _noisy(people: int, probes: int, dimension: int) -> tuple[dict[bool, np.ndarray], Labels]:
    generator = np.random.default_rng(1)
    who = np.arange(people).repeat(1 + probes)
    rows = unit(generator.normal(size=(people, dimension))[who] + 0.7 * generator.normal(size=(len(who), dimension)))
    capture = np.tile(np.arange(1 + probes), people)
    return {False: rows, True: rows}, Labels(who, capture == 0, capture)


def test_misses_of_an_open_set_by_hand() -> None:
    sides, labels = _noisy(1200, 1, 24)
    found = open_set(compare(sides, labels, "CC"))
    rows, gallery = sides[False], labels.gallery
    scores = rows[~gallery] @ rows[gallery].T
    best = np.sort(scores[1::2, ::2].max(axis=1))
    cut = best[int(np.ceil(601 * 0.95)) - 1]
    assert found is not None
    assert found.fpir == 0.05
    assert found.missed.value == pytest.approx((scores.diagonal()[::2] <= cut).mean())
    assert 0.05 < found.missed.value < 0.95
    assert found.missed.low < found.missed.value < found.missed.high


def test_faces_not_acquired_are_misses_but_for_a_guess() -> None:
    sides, labels = _noisy(1200, 1, 24)
    whole = open_set(compare(sides, labels, "CC"))
    lost = sides[False].copy()
    mated = np.flatnonzero(~labels.gallery)[::2]
    lost[mated[:300]] = np.nan
    found = open_set(compare({False: sides[False], True: lost}, labels, "CP"))
    matched = np.einsum("nd,nd->n", sides[False][mated], sides[False][mated - 1])
    best = np.sort((sides[False][~labels.gallery][1::2] @ sides[False][labels.gallery][::2].T).max(axis=1))
    missed = (matched[300:] <= best[int(np.ceil(601 * 0.95)) - 1]).sum()
    assert found is not None and whole is not None
    assert found.missed.value == pytest.approx((300 * (1 - 0.05 / 600) + missed) / 600)
    assert found.missed.value > whole.missed.value


@pytest.mark.parametrize(("people", "probes"), [(1198, 1), (400, 3), (2, 700)])
def test_too_few_independent_searches_support_no_rate(people: int, probes: int) -> None:
    sides, labels = _noisy(people, probes, 24)
    assert open_set(compare(sides, labels, "CC")) is None


def test_rows_name_misses_of_the_open_set() -> None:
    sides, labels = _noisy(6, 2, 24)
    pairs, frozen = compare(sides, labels, "CC"), {0.1: Threshold(0.1, 0.5, 300)}
    row = figures(pairs, pairs, frozen, frozen)
    assert (row.fnir, row.fnir_ci95, row.fpir) == (None, None, None)
