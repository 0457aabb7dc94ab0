"""Everybody whom attackers train on: shares, copies, and what is known of each face beside a name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from codesign.auxiliary import AUXILIARY, targets
from codesign.cameras import build, clean, ours
from codesign.config import TrainMaskConfig
from codesign.crowd import crowd
from codesign.data import ATTACKERS, Part
from codesign.decoders import NARROW, moved, moved_signal, relative_signal
from codesign.masks import flat
from codesign.real_people import FIRST_REAL
from evaluation.frame_attackers.encoded import EncodedFaces
from faces.samples import five_points
from faces.synthetic import generate
from optics import PupilGrid
from tests.codesign.test_proof import part

CONFIG = TrainMaskConfig.for_budget("smoke")
TRAIN, OTHERS = part(5, 3, 1), part(7, 2, 1, seed=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with the further people and a target for each picture: its number."""
    made = tmp_path_factory.mktemp("run")
    (made / "work").mkdir()
    faces = OTHERS.faces
    save_file(
        {
            "images": faces.images, "identity": faces.identity, "capture": faces.capture,
            "landmarks": faces.landmarks, "points5": OTHERS.points5.contiguous(), "gallery": OTHERS.gallery,
        },
        made / "work" / f"faces-{ATTACKERS}.safetensors",
    )  # fmt: skip
    counts = {"train": torch.arange(15.0)[:, None], ATTACKERS: 100 + torch.arange(14.0)[:, None]}
    save_file(counts, made / AUXILIARY)
    return made


def seen(folder: Path, share: float = 1.0, copies: int = 2) -> EncodedFaces:
    config = CONFIG.model_copy(update={"proof": CONFIG.proof.model_copy(update={"attacker_copies": copies})})
    state = flat(CONFIG.mask, PupilGrid(CONFIG.optics.aperture_diameter_m, CONFIG.optics.pupil_samples)).state_dict()
    camera = build(ours(CONFIG), CONFIG, state)
    signals = {"train": relative_signal(camera, TRAIN.faces), ATTACKERS: relative_signal(camera, OTHERS.faces)}
    return crowd(folder, config, camera, TRAIN, signals, share)


def test_every_face_of_both_parts_comes_with_its_copies_and_its_targets(folder: Path) -> None:
    found = seen(folder)
    assert len(found) == (15 + 14) * 3
    assert len(torch.unique(found.identity)) == 12
    assert found.auxiliary is not None
    assert found.opening == pytest.approx(0.59)
    numbers = found.auxiliary[:, 0].long()
    people = torch.cat([TRAIN.faces.identity, OTHERS.faces.identity])
    place = torch.where(numbers < 100, numbers, numbers - 100 + 15)
    assert torch.equal(found.identity, people[place])
    assert torch.equal(torch.bincount(place), torch.full((29,), 3))
    # Copies are other pictures at other places.
    assert not torch.equal(found.signal[:15], found.signal[15:30])
    assert not torch.allclose(found.points5[:15], found.points5[15:30], atol=0.1)


def test_a_share_of_the_people_is_part_of_a_larger_share_and_keeps_whole_people(folder: Path) -> None:
    people = [set(seen(folder, share, copies=0).identity.tolist()) for share in (0.4, 0.7, 1.0)]
    assert [len(some) for some in people] == [5, 9, 12]
    assert people[0] < people[1] < people[2]
    half = seen(folder, 0.5, copies=0)
    assert set(torch.unique(half.identity, return_counts=True)[1].tolist()) <= {2, 3}


def test_the_clean_camera_is_attacked_with_the_training_people_as_they_are(folder: Path) -> None:
    camera = build(clean(CONFIG), CONFIG)
    found = crowd(folder, CONFIG, camera, TRAIN, {"train": relative_signal(camera, TRAIN.faces)})
    assert len(found) == 15
    assert found.auxiliary is None
    assert found.opening == 1.0


# Copies


def test_five_points_move_with_the_picture_and_change_sides_in_a_mirror() -> None:
    scenes = torch.zeros(40, 3, 64, 64)
    points5 = torch.tensor([[24.0, 26.0], [40.0, 26.0], [32.0, 34.0], [26.0, 44.0], [38.0, 44.0]]).expand(40, 5, 2)
    # A bright spot on the eye at the left of the picture, whose colour tells it from that at the right.
    scenes[:, 0, 25:28, 23:26], scenes[:, 2, 25:28, 39:42] = 1.0, 1.0
    copies, found = moved(scenes, points5, "five", NARROW, torch.Generator().manual_seed(0))
    axis = torch.arange(64.0)
    mirrored = 0
    for copy, points in zip(copies, found, strict=True):
        spots = [
            torch.stack([(one.sum(0) * axis).sum(), (one.sum(1) * axis).sum()]) / one.sum() for one in copy[[0, 2]]
        ]
        flipped = bool(spots[0][0] > spots[1][0])
        mirrored += flipped
        torch.testing.assert_close(torch.stack(spots[::-1] if flipped else spots), points[:2], atol=0.35, rtol=0)
        assert points[0, 0] < points[1, 0]
    assert 10 <= mirrored <= 30
    assert float((found - points5).norm(dim=-1).median()) < 6


def test_every_camera_gets_the_same_copies() -> None:
    cameras = [build(clean(CONFIG), CONFIG), build(replace(clean(CONFIG), value=None), CONFIG)]
    first, second = (moved_signal(camera, TRAIN, NARROW, 3) for camera in cameras)
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[1], moved_signal(cameras[0], TRAIN, NARROW, 4)[1])


# Targets


@pytest.fixture(scope="module")
def heads() -> dict[str, Part]:
    def some(people: int, first: int) -> Part:
        faces = generate(people, 2, size=32, seed=3, first_identity=first)
        return Part(faces, five_points(faces.landmarks), faces.capture < 1)

    return {"train": some(4, 0), ATTACKERS: some(5, 4_000_000)}


def settings(auxiliary: str) -> TrainMaskConfig:
    proof = CONFIG.proof.model_copy(update={"auxiliary": auxiliary})
    return CONFIG.model_copy(update={"proof": proof, "seed": 3})


def test_synthetic_people_have_the_parameters_that_made_them(heads: dict[str, Part]) -> None:
    found = targets(heads, settings("parameters"))
    rows = torch.cat([found["train"], found[ATTACKERS]])
    assert rows.shape[0] == 18
    assert torch.equal(rows[0::2], rows[1::2])  # the same in all captures of a person
    assert len(torch.unique(rows, dim=0)) == 9
    assert targets(heads, settings("none"))["train"].shape == (8, 0)


def test_of_photographs_the_embedding_of_the_clean_picture_is_known(
    heads: dict[str, Part], sface_weights: Path
) -> None:
    """Real people may stand in the same part as synthetic ones."""
    faces = heads["train"].faces
    real = faces.identity >= 2
    identity = torch.where(real, faces.identity + FIRST_REAL, faces.identity)
    mixed = {**heads, "train": replace(heads["train"], faces=replace(faces, identity=identity))}
    found = targets(mixed, settings("parameters"))
    known = {name: ~rows.isnan() for name, rows in found.items()}
    assert known["train"][real].sum(dim=1).tolist() == [128] * 4
    assert torch.equal(known["train"][~real], known[ATTACKERS][:4])
    assert not bool((known["train"][real][0] & known[ATTACKERS][0]).any())
    both = targets(heads, settings("both"))
    assert not bool(both["train"].isnan().any())
    assert both["train"].shape[1] == 128 + targets(heads, settings("parameters"))["train"].shape[1]
