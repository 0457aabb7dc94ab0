"""The loop of training on each device: everything stays there, and the numbers drawn are the same."""

from __future__ import annotations

import math

import pytest
import torch

from codesign.attackers import encode
from codesign.cameras import build, exposure_of, geometry_of, ours
from codesign.config import TrainMaskConfig
from codesign.cotrain import Trainer
from codesign.data import Part
from codesign.decoders import augmented, release, train_decoder
from codesign.masks import flat
from faces.samples import FaceSet, five_points
from faces.synthetic import generate

CONFIG = TrainMaskConfig.for_budget("smoke")


@pytest.fixture(scope="module")
def people() -> FaceSet:
    return generate(8, 4, size=64, seed=0, first_identity=600)


@pytest.mark.parametrize("kind", ["free-form", "zernike"])
def test_mask_and_adversaries_are_trained_on_another_device(
    kind: str, other_device: torch.device, people: FaceSet
) -> None:
    changed = CONFIG.mask.model_copy(update={"kind": kind, "cells": 6, "terms": 6})
    config = CONFIG.model_copy(update={"mask": changed})
    trainer = Trainer(config, geometry_of(config.optics), exposure_of(config.sensor), people, 0, other_device)
    twin = Trainer(config, geometry_of(config.optics), exposure_of(config.sensor), people, 0, torch.device("cpu"))
    assert torch.equal(trainer.batch().cpu(), twin.batch())
    for name, value in trainer.state().items():
        kept = name == "generator" or name.startswith("clock/")
        assert value.device.type == ("cpu" if kept else other_device.type), name
        assert torch.equal(value.cpu(), twin.state()[name]), name
    trainer.step(move_mask=False)
    logged = trainer.step(move_mask=True)
    assert all(math.isfinite(value) for value in logged.values())


def test_training_goes_on_from_its_state(device: torch.device, people: FaceSet) -> None:
    geometry, exposure = geometry_of(CONFIG.optics), exposure_of(CONFIG.sensor)
    trainer, again = (Trainer(CONFIG, geometry, exposure, people, seed, device) for seed in (0, 1))
    trainer.step(move_mask=True)
    again.load({name: value.cpu() for name, value in trainer.state().items()})
    assert again.validate(people) == trainer.validate(people)
    assert {value.device.type for value in again.mask.parameters()} == {device.type}


def test_decoder_and_encoded_faces_lie_on_the_device_of_the_camera(device: torch.device, people: FaceSet) -> None:
    mask = flat(CONFIG.mask, geometry_of(CONFIG.optics).grid).state_dict()
    camera = build(ours(CONFIG), CONFIG, mask, device)
    signals, landmarks = augmented(camera, people, 0, copies=1)
    decoder = train_decoder(camera, signals, landmarks, CONFIG.decoder, "five", seed=0, steps=2)
    part = Part(people, five_points(people.landmarks), people.capture < 2)
    signal = signals[: len(people)]
    found = release(decoder, camera, signal, 0)
    faces = encode(camera, part, signal)
    assert {value.device.type for value in (signals, landmarks, found.landmarks, faces.identity, faces.points5)} == {
        device.type
    }
    assert 0 < found.error(part, "five") < 5
