"""Real people of a run: how they are dealt out, who is left out of a judgement, and what is said of their landmarks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from codesign import data
from codesign.data import PHOTO_FILES, part_of, photo_files
from codesign.errors import CodesignError
from codesign.photos import _parts, _unseen
from codesign.real_people import (
    FIRST_JUDGED,
    FIRST_REAL,
    RealPeople,
    agreement,
    check_folder,
    deal,
    framing_result,
    joined,
    photo_limits,
)
from codesign.records import PhotoData
from faces.errors import FacesError
from faces.folders import FolderFaces, Refusal
from faces.framing import FRAME_POINTS
from faces.samples import FaceSet, five_points
from faces.splits import named_people

SIDE = 32


def _faces(people: int, captures: int, first: int = 0, names: tuple[str, ...] = ()) -> FaceSet:
    """Noise with heads in the middle, so many pixels larger than the template as the capture counts."""
    generator = torch.Generator().manual_seed(first + people)
    total = people * captures
    landmarks = torch.rand(total, 68, 2, generator=generator) * SIDE
    points = torch.tensor(FRAME_POINTS) * SIDE - 0.5
    for start, stop, point in ((36, 42, 0), (42, 48, 1), (30, 31, 2), (48, 49, 3), (54, 55, 4)):
        landmarks[:, start:stop] = points[point]
    landmarks[:, [36, 39]] += torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
    landmarks[:, [42, 45]] += torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
    return FaceSet(
        torch.randint(0, 256, (total, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8),
        torch.arange(first, first + people).repeat_interleave(captures),
        torch.arange(captures).repeat(people),
        landmarks.float(),
        "album" if names else "synthetic-heads/5 seed=0",
        "none",
        names,
    )


def _real(people: int, captures: int = 3, first: int = FIRST_REAL) -> RealPeople:
    names = tuple(f"m{k:04d}" for k in range(1, people + 1))
    faces = _faces(people, captures, names=names)
    total = people * captures
    folder = FolderFaces(
        faces, five_points(faces.landmarks), tuple(Path(f"{k}.jpg") for k in range(total)), torch.zeros(total),
        (Refusal(Path("a.jpg"), "two networks", disagreement=True), Refusal(Path("b.jpg"), "no face")),
        torch.linspace(0, 0.15, total), tuple(f"sha{k:03d}" for k in range(total)),
    )  # fmt: skip
    return RealPeople(folder, first)


def _who(faces: FaceSet) -> set[int]:
    return {int(number) for number in faces.identity}


def test_everybody_is_dealt_out_once_and_most_further_people_are_tested() -> None:
    parts = deal(_real(103), "", seed=0)
    # The fewest of each part, and .3, .15, .1 and .45 of the 83 others: 24.9, 12.45, 8.3 and 37.35.
    assert {name: len(_who(faces)) for name, faces in parts.items()} == {
        "train": 33, "calibration": 17, "validation": 12, "test": 41,
    }  # fmt: skip
    everybody = [number for faces in parts.values() for number in _who(faces)]
    assert sorted(everybody) == list(range(FIRST_REAL, FIRST_REAL + 103))
    again, other = deal(_real(103), "", seed=0), deal(_real(103), "", seed=1)
    assert all(_who(again[name]) == _who(parts[name]) for name in parts)
    assert _who(other["test"]) != _who(parts["test"])


def test_who_is_named_tunes_and_all_others_are_tested() -> None:
    parts = deal(_real(60), "m0001:m0040", seed=0)
    assert _who(parts["test"]) == set(range(FIRST_REAL + 40, FIRST_REAL + 60))
    tuned = _who(parts["train"]) | _who(parts["calibration"]) | _who(parts["validation"])
    assert tuned == set(range(FIRST_REAL, FIRST_REAL + 40))
    # 8 + 13.1, 4 + 6.5 and 4 + 4.4 of 24 further people.
    assert [len(_who(parts[name])) for name in ("train", "calibration", "validation")] == [21, 11, 8]
    assert len(parts["test"]) == 60


@pytest.mark.parametrize(
    ("people", "tune", "match"),
    [
        (19, "", r"album holds 19 people with photographs, but at least 20 are needed \(8 for train, 4 for calib"),
        (60, "m0001:m0015", r"m0001:m0015 names 15 people with photographs, but at least 16 are needed"),
        (60, "m0001:m0057", r"leaves 3 people of album for the test, but 4 are needed; name fewer"),
    ],
)
def test_too_few_people_are_counted(people: int, tune: str, match: str, tmp_path: Path) -> None:
    with pytest.raises(CodesignError, match=match):
        deal(_real(people), tune, seed=0)
    for number in range(1, people + 1):
        (tmp_path / f"m{number:04d}").mkdir()
        (tmp_path / f"m{number:04d}" / "1.jpg").touch()
    # The same is said before a photograph is opened.
    with pytest.raises(CodesignError, match=match.replace("album", ".*")):
        check_folder(tmp_path, tune)


def test_lists_of_people() -> None:
    names = ["ann", "bob", "m0001", "m0002", "m0003", "x:y"]
    assert named_people("m0001:m0003", names) == {"m0001", "m0002", "m0003"}
    assert named_people("bob, m0002", names) == {"bob", "m0002"}
    assert named_people("x:y", names) == {"x:y"}
    with pytest.raises(FacesError, match=r"there is no person 'eve' .* called ann to x:y"):
        named_people("eve", names)
    with pytest.raises(FacesError, match="nobody is from m0003 to m0001"):
        named_people("m0003:m0001", names)


def test_real_people_train_beside_synthetic_ones() -> None:
    heads, real = _faces(9, 2), _real(20)
    mixed = joined(heads, deal(real, "", seed=0)["train"])
    assert _who(mixed) == set(range(9)) | _who(deal(real, "", seed=0)["train"])
    assert torch.equal(mixed.images[: len(heads)], heads.images)
    assert mixed.source == "synthetic-heads/5 seed=0 and album"


def test_people_whom_the_run_has_seen_are_not_judged(tmp_path: Path) -> None:
    run = _real(24)
    splits = {name: part_of(faces, 0.5) for name, faces in deal(run, "", seed=0).items()}
    (tmp_path / PHOTO_FILES).write_text(json.dumps(photo_files(run, splits)), encoding="utf-8")
    judged = _real(24, first=FIRST_JUDGED)
    left, known = _unseen(tmp_path, judged)
    tested = {number - FIRST_REAL for number in _who(splits["test"].faces)}
    assert _who(left.folder.faces) == tested
    assert known == 24 - len(tested)
    assert len(left.folder.sha256) == len(left.folder.faces) == len(left.folder.files)
    # Nobody is known to a run on synthetic heads.
    (tmp_path / PHOTO_FILES).unlink()
    assert _unseen(tmp_path, judged)[1] == 0
    everybody = {"train": [digest for digest in run.folder.sha256 if digest != "sha000"]}
    (tmp_path / PHOTO_FILES).write_text(json.dumps(everybody), encoding="utf-8")
    with pytest.raises(CodesignError, match="was trained with 24 of the 24 people of album"):
        _unseen(tmp_path, judged)


def test_without_a_list_everybody_is_tested_and_with_one_thresholds_are_of_real_people() -> None:
    heads = {name: part_of(_faces(9, 4, first=first), 0.5) for name, first in (("train", 0), ("calibration", 900))}
    heads["validation"] = part_of(_faces(9, 4, first=990), 0.5)
    real = _real(24, first=FIRST_JUDGED)
    parts = _parts(heads, real, "", seed=0)
    assert parts["calibration"] is heads["calibration"]
    assert parts["test"].people == 24
    parts = _parts(heads, real, "m0001:m0018", seed=0)
    assert parts["test"].people == 6
    assert all(int(parts[name].identity.min()) >= FIRST_JUDGED for name in ("calibration", "validation", "test"))
    # The people of the run come first, since their landmarks have been released.
    assert torch.equal(parts["train"].faces.images[:36], heads["train"].faces.images)
    assert parts["train"].people == 9 + 9
    facts = data.photo_data(real, parts, known=2)
    assert facts.people == {"train": 9, "calibration": 5, "validation": 4, "test": 6}
    assert (facts.photographs, facts.enrolled, facts.left_out, facts.known) == (72, 12, 2, 2)


def test_disagreement_of_the_networks_is_stated() -> None:
    real = _real(5)
    found = agreement(real)
    values = np.linspace(0, 0.15, 15)
    assert found.mean == pytest.approx(values.mean(), abs=1e-6)
    assert found.median == pytest.approx(np.median(values), abs=1e-6)
    assert found.share_beyond == pytest.approx(5 / 15)
    assert (found.people, found.photographs, found.left_out) == (5, 15, 1)
    low, high = found.share_beyond_ci95
    assert low is not None
    assert high is not None
    assert low < 1 / 3 < high
    facts = PhotoData(photographs=15, enrolled=5, left_out=2, images_sha256="", agreement=found)
    exploratory, first, second = photo_limits(facts)
    assert exploratory == "Exploratory: 0 tested people are fewer than 30, too few for a claim."
    assert len(photo_limits(facts.model_copy(update={"people": {"train": 4, "test": 30}}))) == 2
    assert (
        "These lie 0.075 of the outer eye distance apart (median 0.075; beyond 0.1 in 33.3% of the photographs" in first
    )
    assert "left out because the two disagreed: 1." in first
    assert "drawn as those of synthetic heads" in second
    assert photo_limits(None) == []


def test_frames_of_photographs_and_heads_are_compared() -> None:
    real, heads = _real(5), _faces(9, 2)
    found = framing_result(real, joined(heads, real.part(torch.arange(5))))
    assert found.photographs_size == pytest.approx((1.0, 0.0), abs=1e-5)
    assert found.heads_size == pytest.approx((1.0, 0.0), abs=1e-5)
    assert found.heads_x == pytest.approx((0.0, 0.0), abs=1e-5)
