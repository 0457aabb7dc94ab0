"""Co-training on a toy whose answer is known: what tells people apart is not what landmarks need.

Eight people have the same five dark blobs for eyes, nose and mouth, and each a pattern of his own: stripes so fine that
a blurred mask takes them away and leaves the blobs (``fine``), or patches at the chin that a grey mask can cover
(``chin``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from codesign.cameras import geometry_of, ours
from codesign.config import TrainMaskConfig
from codesign.cotrain import Trainer, Validation, held_out
from faces.landmarks import rescale_points
from faces.samples import FaceSet, five_points
from faces.synthetic import generate

# Training takes longer than the usual limit when the machine is busy.
pytestmark = pytest.mark.timeout(600)

CPU, SIDE, PEOPLE, CAPTURES = torch.device("cpu"), 32, 8, 8
TERMS = {"utility", "privacy", "inversion", "identity_bits", "outside", "slope"}


def pattern(kind: str, person: int, y: Tensor, x: Tensor) -> Tensor:
    """What tells a person apart, -1 to 1, in the coordinates of his face."""
    if kind == "fine":
        angle = math.pi * person / PEOPLE
        wave = torch.cos(2 * math.pi * (x * math.cos(angle) + y * math.sin(angle)) / 2.8)
        return wave * ((y - 14).abs() < 10) * ((x - 15.5).abs() < 12)
    bit = (person >> ((x - 4) / 8).floor().clamp(0, 2).long()) & 1
    return (2.0 * bit - 1.0) * ((y > 23) & (y < 31)) * ((x > 4) & (x < 28))


def people(kind: str, captures: int = CAPTURES, seed: int = 0) -> FaceSet:
    """Eight toy people, moved by up to two pixels from one capture to the next."""
    generator = torch.Generator().manual_seed(seed)
    head = rescale_points(generate(1, 1, size=64, seed=0, first_identity=0).landmarks, 64, SIDE)
    who = torch.arange(PEOPLE).repeat_interleave(captures)
    moved = torch.rand(len(who), 1, 2, generator=generator) * 4 - 2
    landmarks = head + moved
    axis = torch.arange(SIDE, dtype=torch.float32)
    grey = torch.full((len(who), SIDE, SIDE), 0.6)
    for image, points, person, shift in zip(grey, five_points(landmarks), who.tolist(), moved[:, 0], strict=True):
        y, x = axis[:, None].expand(SIDE, SIDE), axis[None, :].expand(SIDE, SIDE)
        for point in points:
            image -= 0.3 * torch.exp(-((x - point[0]).square() + (y - point[1]).square()) / (2 * 1.8**2))
        image += (0.15 if kind == "chin" else 0.08) * pattern(kind, person, y - shift[1], x - shift[0])
    images = (grey.clamp(0, 1) * 255).to(torch.uint8)[:, None].expand(-1, 3, -1, -1).contiguous()
    return FaceSet(images, who, torch.arange(captures).repeat(PEOPLE), landmarks, "toy", "none")


def configured(training: dict[str, Any], **sections: dict[str, Any]) -> TrainMaskConfig:
    """A small sharp camera of eight bits without a stop."""
    values = TrainMaskConfig.for_budget("smoke").model_dump()
    values["optics"] |= {"scene_px": SIDE, "aperture_diameter_m": 0.15e-3, "pupil_samples": 84}
    values["sensor"] |= {"bits": 8, "full_well_e": 4000.0, "metering": "fixed"}
    values["sensor"]["field_stop"]["enabled"] = False
    values["mask"] |= {"cells": 8}
    values["training"] |= {"warmup_steps": 40, "batch": 16, "adversary_batch": 16, "subspace_weight": 0.0}
    values["training"] |= {"inverter_weight": 0.0, "adversary_steps": 1, **training}
    for name, change in sections.items():
        values[name] |= change
    return TrainMaskConfig.model_validate(values)


def started(config: TrainMaskConfig, faces: FaceSet, seed: int = 0) -> Trainer:
    return Trainer(config, geometry_of(config.optics), ours(config).exposure, faces, seed, CPU)


def test_each_term_is_logged_and_pulls_at_relief_and_grey_mask() -> None:
    config = configured(
        {"subspace_weight": 0.1, "inverter_weight": 0.1},
        mask={"start_spread": 2.0, "cells": 24},
        sensor={"grey_mask": True},
    )
    trainer = started(config, people("chin", 4))
    for _ in range(25):
        logged = trainer.step(move_mask=False)
    assert set(logged) == {"utility", "nme"}
    terms, _ = trainer._terms()
    assert set(terms) == TERMS
    (controls,), (transmission,) = trainer.mask.parameters(), trainer.grey.parameters()  # type: ignore[union-attr]
    for name, (weight, term) in terms.items():
        relief, grey = torch.autograd.grad(
            weight * term, [controls, transmission], retain_graph=True, allow_unused=True
        )
        assert relief is not None, name
        assert float(relief.norm()) > 0, name
        # Light that leaves the window and the slope of the relief are nothing to the grey mask.
        assert (grey is None) == (name in ("outside", "slope")), name
        assert grey is None or float(grey.norm()) > 0, name
    watched = trainer.step(move_mask=True, gradients=True)
    assert set(watched) == TERMS | {"nme"} | {f"gradient_{name}" for name in TERMS}
    assert all(watched[f"gradient_{name}"] > 0 for name in TERMS)


def test_looking_at_the_gradients_changes_nothing() -> None:
    faces = people("chin", 4)
    one, other = (started(configured({}), faces) for _ in range(2))
    one.step(move_mask=True, gradients=True)
    other.step(move_mask=True)
    for name, value in one.state().items():
        assert torch.equal(value, other.state()[name]), name


def test_training_with_a_grey_mask_goes_on_to_the_same_bits() -> None:
    config, faces = configured({"reset_every": 1}, sensor={"grey_mask": True}), people("chin", 4)
    straight = started(config, faces)
    for moves in (False, True):
        straight.step(move_mask=moves)
    straight.renew(1)
    kept = {name: value.clone() for name, value in straight.state().items()}
    again = started(config, faces, seed=1)
    again.load(kept)
    for trainer in (straight, again):
        trainer.step(move_mask=True)
    found = again.state()
    assert set(found) == set(straight.state())
    assert "mask/grey_logits" in found
    for name, value in straight.state().items():
        assert torch.equal(value, found[name]), name


@pytest.mark.parametrize(
    ("counts", "held"), [((2, 2), (0, 0)), ((3, 8), (1, 1)), ((16, 15), (2, 1)), ((1, 24), (0, 3))]
)
def test_adversaries_never_see_a_few_captures_of_each_person(counts: tuple[int, int], held: tuple[int, int]) -> None:
    first, second = torch.arange(100).split([counts[0], 100 - counts[0]])
    rows = [first, second[: counts[1]]]
    learnt, spared = held_out(rows)
    assert sorted(torch.cat([learnt, spared]).tolist()) == sorted(torch.cat(rows).tolist())
    assert tuple(int(torch.isin(spared, one).sum()) for one in rows) == held


def test_adversaries_draw_from_all_people_and_from_no_capture_that_is_held_out() -> None:
    trainer = started(configured({}), people("chin"))
    drawn = torch.cat([trainer._any(16, trainer.learnt) for _ in range(40)])
    assert set(trainer.place[drawn].tolist()) == set(range(PEOPLE))
    assert not set(drawn.tolist()) & set(trainer.held.tolist())
    # Those for the mask may be any.
    assert set(torch.cat([trainer.batch() for _ in range(40)]).tolist()) & set(trainer.held.tolist())


def covered(trainer: Trainer) -> float:
    """Transmission at the chin over that of the rest of the face."""
    assert trainer.grey is not None
    passed = trainer.grey.transmission().detach()
    return float(passed[24:31, 5:28].mean() / passed[4:20, 5:28].mean())


def sharpness(trainer: Trainer) -> float:
    """Share of the light of a point that falls into one cell."""
    return float(trainer.camera.psf.detach().amax(dim=(1, 2)).mean())


#: What may move, in how much light, and the figure of the mask that falls if it is trained for privacy.
TOYS: dict[str, tuple[dict[str, float], dict[str, bool], float, Callable[[Trainer], float]]] = {
    "chin": ({"mask_rate": 1e-4, "grey_rate": 0.5}, {"grey_mask": True}, 400.0, covered),
    "fine": ({"mask_rate": 0.1}, {}, 200.0, sharpness),
}


@pytest.mark.parametrize("kind", TOYS)
def test_privacy_weight_moves_the_mask_against_an_adversary_that_is_awake(kind: str) -> None:
    """From one and the same warm-up on: fewer people are recognised, and landmarks are found as well."""
    rates, grey, light, figure = TOYS[kind]
    sensor = {**grey, "electrons_at_white": light, "full_well_e": light}
    faces, others = people(kind), people(kind, 4, seed=1)
    kept: dict[str, Tensor] = {}
    found: dict[float, Validation] = {}
    masks: dict[float, float] = {}
    for weight in (0.0, 4.0):
        training = {**rates, "batch": 8, "adversary_batch": 12, "warmup_steps": 60, "privacy_weight": weight}
        trainer = started(configured(training, sensor=sensor), faces)
        if not kept:
            for _ in range(60):
                trainer.step(move_mask=False)
            kept = {name: value.clone() for name, value in trainer.state().items()}
            accuracy = trainer.validate(others).accuracy
            assert accuracy is not None
            assert accuracy >= 5 / PEOPLE
        trainer.load(kept)
        for _ in range(25):
            trainer.step(move_mask=True)
        found[weight], masks[weight] = trainer.validate(others), figure(trainer)
    assert found[4.0].privacy < found[0.0].privacy - 0.1
    assert found[4.0].nme < found[0.0].nme + 0.03
    assert masks[4.0] < masks[0.0] - 0.1
