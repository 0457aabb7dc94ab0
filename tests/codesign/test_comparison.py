"""Parts of the comparison: baseline families, the search for equal error, augmentation, and the privacy terms."""

from __future__ import annotations

import json
import math

import pytest
import torch

from codesign.cameras import Baseline, CameraSpec, baselines, build, clean, ours
from codesign.config import TrainMaskConfig
from codesign.decoders import augmented
from codesign.errors import CodesignError
from codesign.matching import next_severity
from evaluation.people import enrolled
from faces.samples import FaceSet
from ground.pool import derived_seed, run_jobs

# The first design, whose parts some of the cameras lack.
CONFIG = TrainMaskConfig.for_budget("standard").model_copy(update={"design": "frame"})
FAMILIES = baselines(CONFIG)


def spots(count: int, side: int = 64) -> FaceSet:
    """Dark frames with one bright spot each, on which all landmarks lie."""
    generator = torch.Generator().manual_seed(0)
    at = torch.randint(24, 40, (count, 2), generator=generator)
    images = torch.zeros(count, 3, side, side, dtype=torch.uint8)
    for image, (x, y) in zip(images, at.tolist(), strict=True):
        image[:, y - 1 : y + 2, x - 1 : x + 2] = 255
    number = torch.arange(count)
    return FaceSet(images, number, torch.zeros_like(number), at[:, None].repeat(1, 68, 1).float(), "test", "none")


# Cameras


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.spec.name)
def test_severity_and_parameter_are_inverse_and_worse_is_larger(family: Baseline) -> None:
    low, high = family.limits
    values = [family.parameter_at(low + share * (high - low)) for share in (0.0, 0.3, 0.7, 1.0)]
    assert [family.severity(value) for value in values[1:]] == pytest.approx(
        [low + share * (high - low) for share in (0.3, 0.7, 1.0)]
    )
    assert (values == sorted(values)) == (family.best < family.worst)
    assert low <= family.severity(family.value) <= high


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.spec.name)
def test_family_builds_at_its_ends_and_survives_json(family: Baseline) -> None:
    for value in (family.value, family.worst):
        spec = family.at(value)
        again = CameraSpec.from_json(json.loads(json.dumps(spec.to_json())))
        assert again == spec
        old, new = family.spec.exposure, spec.exposure
        assert new.full_well_e / new.electrons_at_white == pytest.approx(old.full_well_e / old.electrons_at_white)
    build(family.at(family.worst), CONFIG)


def test_ablations_lack_one_part_of_our_camera_each() -> None:
    lacks = {family.spec.name: family.ablation for family in FAMILIES if family.ablation}
    assert lacks == {"same-field-mono-pixels": "the converter and the mask", "same-sensor-no-mask": "the mask"}
    field, bare = (family.spec for family in FAMILIES if family.ablation)
    assert bare.exposure == ours(CONFIG).exposure
    assert field.exposure.field_stop == ours(CONFIG).exposure.field_stop
    assert field.exposure.bits == 8


def test_no_baseline_proper_has_our_field_stop() -> None:
    assert ours(CONFIG).exposure.field_stop is not None
    assert {family.spec.exposure.field_stop for family in FAMILIES if not family.ablation} == {None}


def test_clean_camera_is_sharp_colour_and_bright() -> None:
    camera = build(clean(CONFIG), CONFIG)
    assert camera.exposure.colour
    assert camera.exposure.pixels == CONFIG.optics.scene_px
    assert float(camera.psf.sum(dim=(-2, -1)).min()) > 0.98


@pytest.mark.parametrize("metering", ["fixed", "centre-weighted"])
def test_all_cameras_meter_alike(metering: str) -> None:
    values = CONFIG.model_dump()
    values["sensor"]["metering"] = metering
    config = TrainMaskConfig.model_validate(values)
    specs = [ours(config), clean(config), *(family.spec for family in baselines(config))]
    assert {spec.exposure.metering for spec in specs} == {metering}


def test_designed_camera_needs_its_mask() -> None:
    with pytest.raises(CodesignError, match="'ours' needs the state of the designed mask"):
        build(ours(CONFIG), CONFIG)


# Matching


def test_search_goes_between_the_points_that_bracket_the_target() -> None:
    family = FAMILIES[0]
    low, high = family.limits
    a, b = low + 0.4 * (high - low), low + 0.6 * (high - low)
    points = [(a, math.log(0.05)), (b, math.log(0.20))]
    assert next_severity(family, points, math.log(0.10)) == pytest.approx((a + b) / 2)


def test_search_moves_the_right_way_and_stays_within_limits() -> None:
    family = FAMILIES[0]
    low, high = family.limits
    middle = (low + high) / 2
    assert next_severity(family, [(middle, math.log(0.05))], math.log(0.06)) > middle
    assert next_severity(family, [(middle, math.log(0.05))], math.log(0.04)) < middle
    assert next_severity(family, [(high, math.log(0.05))], math.log(5.0)) == high


# People and seeds


def test_enrolled_share_of_each_person() -> None:
    faces = spots(9)
    people = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2])
    capture = torch.tensor([3, 2, 1, 0, 0, 1, 2, 0, 1])
    faces = FaceSet(faces.images, people, capture, faces.landmarks, "test", "none")
    assert enrolled(faces, 0.5).tolist() == [False, False, True, True, True, True, False, True, False]
    assert enrolled(faces, 1.0).tolist() == [False, True, True, True, True, True, False, True, False]


def test_seeds_differ_by_every_name_and_stay() -> None:
    assert derived_seed(0, "ours", "wiener") == derived_seed(0, "ours", "wiener")
    assert len({derived_seed(0, "a"), derived_seed(1, "a"), derived_seed(0, "b"), derived_seed(0, "a", "b")}) == 4


def test_jobs_come_back_with_their_position() -> None:
    found = {index: result for index, result, seconds in run_jobs(pow, [(2, 3), (3, 2), (5, 1)], 1) if seconds >= 0}
    assert found == {0: 8, 1: 9, 2: 5}


# Augmentation


def test_landmarks_move_with_the_picture() -> None:
    camera = build(clean(CONFIG), CONFIG)
    faces = spots(12)
    signals, landmarks = augmented(camera, faces, seed=0)
    assert len(signals) == len(landmarks) == 36
    light = signals.float().mean(1)
    axis = torch.arange(64.0)
    # Light far from the spot is dropped: the lens spreads a little of it everywhere.
    light = torch.where(light > 0.2 * light.amax((1, 2), keepdim=True), light, torch.zeros(()))
    centre = torch.stack([(light.sum(1) * axis).sum(1), (light.sum(2) * axis).sum(1)], 1) / light.sum((1, 2))[:, None]
    torch.testing.assert_close(centre, landmarks.mean(1), atol=0.35, rtol=0)
    moved = (landmarks[12:].mean(1) - faces.landmarks.repeat(2, 1, 1).mean(1)).norm(dim=1)
    assert float(moved.min()) > 0
    again = augmented(camera, faces, seed=0)
    assert torch.equal(signals, again[0])
    assert torch.equal(landmarks, again[1])
