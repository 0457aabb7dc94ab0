"""The people of a design and of an evaluation: numbered apart, stored alike, and read back as they were."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from codesign import data
from codesign.config import TrainMaskConfig
from evaluation import people
from evaluation.config import EvaluateConfig
from faces.samples import FaceSet
from optishield.progress import QuietProgress

SIDE = 32


class Folder:
    """The part of a run folder that is needed here."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write_tensors(self, name: str, tensors: Mapping[str, Tensor], metadata: object = None) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(dict(tensors), path)
        return path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """(first number, people, captures) of everything that is rendered; pictures are noise."""
    found = []

    def generate(count: int, captures: int, *, first_identity: int, **others: Any) -> FaceSet:
        found.append((first_identity, count, captures))
        generator = torch.Generator().manual_seed(first_identity)
        total = count * captures
        others["progress"](total, total)
        return FaceSet(
            torch.randint(0, 256, (total, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8),
            torch.arange(first_identity, first_identity + count).repeat_interleave(captures),
            torch.arange(captures).repeat(count),
            SIDE * torch.rand(total, 68, 2, generator=generator),
            "noise",
            "none",
        )

    monkeypatch.setattr(people, "generate", generate)
    return found


def test_people_of_a_design_keep_their_numbers_and_are_never_those_of_an_evaluation(
    asked: list[tuple[int, int, int]],
) -> None:
    config = TrainMaskConfig.for_budget("smoke")
    data.load_splits(config, QuietProgress())
    sizes, captures = config.data, config.data.test_captures
    assert asked == [
        (0, sizes.train_people, sizes.train_captures),
        (1_000_000, sizes.calibration_people, captures),
        (2_000_000, sizes.validation_people, captures),
        (3_000_000, sizes.test_people, captures),
        (4_000_000, sizes.attacker_people, sizes.attacker_captures),
    ]
    design = list(asked)
    asked.clear()
    judged = EvaluateConfig.for_tier("smoke")
    people.load_people(judged, QuietProgress())
    count = judged.people.captures + judged.people.fit_captures
    assert asked == [
        (10_000_000, judged.people.train_people, count),
        (12_000_000, judged.people.validation_people, count),
        (11_000_000, judged.people.calibration_people, count),
        (13_000_000, judged.people.test_people, count),
    ]
    numbers = [range(first, first + number) for first, number, _ in [*design, *asked]]
    assert all(a.stop <= b.start for a, b in zip(sorted(numbers, key=min), sorted(numbers, key=min)[1:], strict=False))


def test_parts_of_a_design_are_stored_under_their_names_and_come_back(
    asked: list[tuple[int, int, int]], tmp_path: Path
) -> None:
    splits = data.load_splits(TrainMaskConfig.for_budget("smoke"), QuietProgress())
    data.store(Folder(tmp_path), splits)  # type: ignore[arg-type]
    names = {f"faces-{name}.safetensors" for name in ("train", "calibration", "validation", "test", "attackers")}
    assert {path.name for path in (tmp_path / "work").iterdir()} == names
    values = load_file(tmp_path / "work" / "faces-test.safetensors")
    test = splits["test"]
    wanted = {
        "images": test.faces.images, "identity": test.faces.identity, "capture": test.faces.capture,
        "landmarks": test.faces.landmarks, "points5": test.points5, "gallery": test.gallery,
    }  # fmt: skip
    assert values.keys() == wanted.keys()
    assert all(torch.equal(values[name], value) for name, value in wanted.items())
    again = data.restore(tmp_path, "test", "elsewhere")
    assert (again.faces.source, again.faces.content_hash()) == ("elsewhere", test.faces.content_hash())
    assert torch.equal(again.points5, test.points5)
    assert torch.equal(again.gallery, test.gallery)


def test_parts_of_an_evaluation_come_back_with_their_spare_photographs(
    asked: list[tuple[int, int, int]], tmp_path: Path
) -> None:
    parts = people.load_people(EvaluateConfig.for_tier("smoke"), QuietProgress()).parts
    people.store(Folder(tmp_path), parts)  # type: ignore[arg-type]
    for name, part in parts.items():
        again = people.restore(tmp_path, name)
        for photos, wanted in ((again.photos, part.photos), (again.spare, part.spare)):
            assert photos.faces.content_hash() == wanted.faces.content_hash()
            assert torch.equal(photos.points5, wanted.points5)
            assert torch.equal(photos.gallery, wanted.gallery)
