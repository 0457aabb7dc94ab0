"""The tables of attackers and baselines: one row is enough."""

from __future__ import annotations

from dataclasses import replace

import pytest

from codesign import attackers, baselines, cameras
from codesign.attackers import (
    ATTACKERS,
    FUSED,
    CameraAttacker,
    attackers_of,
    check_chosen,
    find,
    in_job_order,
    learner_of,
    releases_places,
    restorers,
)
from codesign.cameras import OPTICS_ABLATIONS
from codesign.config import ATTACKERS as NAMES
from codesign.config import TrainMaskConfig
from codesign.errors import CodesignError

CONFIG = TrainMaskConfig.for_budget("standard")


def test_each_name_is_used_once_and_everything_is_said() -> None:
    for rows in (ATTACKERS, baselines.FAMILIES):
        names = [row.name for row in rows]
        assert len(set(names)) == len(names)
        assert all(row.shown_as for row in rows)
    assert all(row.knows for row in ATTACKERS)


def test_the_clean_camera_has_nothing_to_restore_and_the_others_are_not_attacked_as_published() -> None:
    clean = set(attackers_of("clean", NAMES))
    assert "sface-as-published" in clean
    assert not {row.name for row in ATTACKERS if row.restores} & clean
    for camera in ("ours", "mono-pixels"):
        assert "sface-as-published" not in attackers_of(camera, NAMES)
        assert {row.name for row in ATTACKERS if row.sees != "places"} == clean | set(attackers_of(camera, NAMES))


def test_a_camera_that_releases_places_is_attacked_by_what_sees_places() -> None:
    assert attackers_of("ours", NAMES, places=True) == ("winner-places", "landmarks-only", "fused")
    assert "winner-places" not in attackers_of("ours", NAMES)
    frame = CONFIG.model_copy(update={"design": "frame"})
    for camera in ("ours", *OPTICS_ABLATIONS):
        assert releases_places(CONFIG, camera)
        assert not releases_places(frame, camera)
    assert not releases_places(CONFIG, "clean")
    assert (learner_of(CONFIG), learner_of(frame)) == ("winner-places", "crop-network")


def test_the_settings_know_every_attacker_and_a_run_tries_those_that_it_names() -> None:
    assert set(CONFIG.proof.attackers) == set(NAMES) == {row.name for row in ATTACKERS}
    quick = TrainMaskConfig.for_budget("quick").proof.attackers
    assert not {"unet-inverter", "sface-fine-tuned", "wiener-sface-fine-tuned"} & set(quick)
    assert "crop-network" in attackers_of("ours", quick)
    assert attackers_of("ours", ["fused", "crop-network"]) == ("crop-network", "fused")
    with pytest.raises(ValueError, match=r"no attacker is called 'crop-net'; choose one of crop-network"):
        TrainMaskConfig.model_validate(
            {**CONFIG.model_dump(), "proof": {**CONFIG.proof.model_dump(), "attackers": ["crop-net"]}}
        )


@pytest.mark.parametrize(
    ("design", "chosen", "camera"),
    [
        ("frame", ("fused",), "ours"),
        ("frame", ("crop-network", "fused"), "clean"),
        ("winners", ("linear-discriminant",), "ours"),
    ],
)
def test_a_choice_that_leaves_a_camera_without_attackers_is_refused(
    design: str, chosen: tuple[str, ...], camera: str
) -> None:
    def config(*more: str) -> TrainMaskConfig:
        proof = CONFIG.proof.model_copy(update={"attackers": (*chosen, *more)})
        return CONFIG.model_copy(update={"design": design, "proof": proof})

    with pytest.raises(CodesignError, match=f"leaves no attacker for the camera '{camera}'; add landmarks-only"):
        check_chosen(config())
    check_chosen(config("landmarks-only"))


def test_only_the_one_that_joins_others_sees_embeddings_and_only_those_without_frames_are_not_made() -> None:
    assert [row.name for row in ATTACKERS if row.sees == "embeddings"] == [FUSED]
    for row in ATTACKERS:
        assert (row.make is None) == (row.sees != "frames")
        assert row.make is not None or not (row.crowd or row.averages or row.restores)


def test_expensive_jobs_start_first() -> None:
    costs = [find(name).cost for name in in_job_order()]
    assert costs == sorted(costs, reverse=True)
    assert in_job_order()[0] == "unet-inverter"


def test_a_new_row_is_tried_ordered_and_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    row = CameraAttacker("new", "a new one", "knows nothing", cost=99, make=None, restores="new", against="coded")
    monkeypatch.setattr(attackers, "ATTACKERS", (*ATTACKERS, row))
    assert in_job_order()[0] == attackers_of("ours", [*NAMES, "new"])[0] == "new"
    assert "new" not in attackers_of("clean", [*NAMES, "new"])
    assert restorers()["new"] == "new"
    assert find("new") is row


def test_an_unknown_attacker_is_refused() -> None:
    with pytest.raises(CodesignError, match="no attacker on a camera is called 'wiener'; choose one of unet-inverter"):
        find("wiener")


@pytest.mark.parametrize("family", baselines.FAMILIES, ids=lambda family: family.name)
def test_a_baseline_starts_where_its_row_says(family: baselines.Family) -> None:
    config = CONFIG.model_copy(update={"design": "frame"})
    found = [one for one in cameras.baselines(config) if one.spec.name.startswith(family.name)]
    assert len(found) == (len(CONFIG.proof.mono_pixels) if family.each_count else 1)
    span = family.span(CONFIG)
    for one in found:
        assert one.value == pytest.approx(span.start)
        assert (one.best, one.worst) == (span.best, span.worst)
        assert (one.spec.kind, one.parameter, one.ablation) == (family.kind, family.parameter, family.lacks)
        assert one.spec.exposure.read_noise_e == CONFIG.sensor.read_noise_e


def test_beside_a_camera_of_pairs_every_baseline_is_a_rival() -> None:
    assert any(one.ablation for one in cameras.baselines(CONFIG.model_copy(update={"design": "frame"})))
    assert not any(one.ablation for one in cameras.baselines(CONFIG))


def test_a_new_row_makes_a_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    row = replace(baselines.find("gaussian-blur"), name="new", sensor={"colour": True})
    monkeypatch.setattr(baselines, "FAMILIES", (*baselines.FAMILIES, row))
    proof = CONFIG.proof.model_copy(update={"baselines": ("new",)})
    (made,) = cameras.baselines(CONFIG.model_copy(update={"proof": proof}))
    assert made.spec.name == "new"
    assert made.spec.exposure.colour
