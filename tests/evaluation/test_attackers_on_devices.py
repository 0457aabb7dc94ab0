"""Every attacker works where its photographs or frames lie, and finds there what it finds on the processor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from evaluation.frame_attackers.encoded import EncodedFaces
from evaluation.frame_attackers.inverters import UNetInverter, WienerFilter
from evaluation.frame_attackers.landmarks import LandmarkAttacker
from evaluation.frame_attackers.recognisers import Attacker, SFaceAttacker
from evaluation.image_attackers import attacker_names
from evaluation.matrix.poison import COUNTERMEASURES, ScratchVictim, TrainingBudget
from evaluation.photos import Knowledge
from faces.families import Recogniser
from faces.protection import KnownBlur
from tests.evaluation.frame_attackers import test_recognisers as frames
from tests.evaluation.image_attackers import test_image_attackers as photographs

#: Convolutions and sums are rounded otherwise on a GPU, and training carries that on.
LEAST_COSINE = 0.98


def alike(found: Tensor, wanted: Tensor, device: torch.device) -> bool:
    """Whether unit vectors on the device are those of the processor."""
    assert found.device.type == device.type
    return float((found.cpu() * wanted).sum(-1).min()) > LEAST_COSINE


def moved(knowledge: Knowledge, device: torch.device) -> Knowledge:
    parts = ("train", "train_protected", "validation", "validation_protected")
    return replace(knowledge, **{name: getattr(knowledge, name).to(device) for name in parts})


def recogniser(device: torch.device) -> Recogniser:
    made = photographs.fake()
    made.network.to(device)
    return made


@pytest.fixture(scope="module")
def soft() -> Knowledge:
    psf = photographs.gaussian(1.0, 7)
    blur = KnownBlur(psf, 0.01, 3)
    return photographs.known(lambda photos: photographs.blurred(photos, psf), blur, count=8)


@pytest.mark.parametrize("name", attacker_names())
def test_attackers_on_photographs(name: str, soft: Knowledge, other_device: torch.device) -> None:
    test, rows = photographs.people(5, 2, seed=3), []
    for place in (torch.device("cpu"), other_device):
        attacker = photographs.ROWS[name]()
        attacker.fit(recogniser(place), moved(soft, place))
        sides = [attacker.embed(test.to(place), protected=side) for side in (False, True)]
        rows.append(torch.stack(sides))
    assert alike(rows[1], rows[0], other_device)


def encoded(people: int, captures: int, seed: int, device: torch.device) -> EncodedFaces:
    faces = frames.encoded(people, captures, seed)

    def read(signal: Tensor, generator: torch.Generator) -> Tensor:
        return signal + 0.03 * torch.randn(signal.shape, generator=generator).to(signal)

    return replace(faces, signal=faces.signal.to(device), read=read)


@pytest.mark.parametrize("make", [frames.linear, frames.scratch])
def test_attackers_on_frames(make: Callable[[], Attacker], other_device: torch.device) -> None:
    rows = []
    for place in (torch.device("cpu"), other_device):
        attacker = make()
        attacker.fit(encoded(6, 3, 1, place))
        rows.append(attacker.embed(encoded(4, 2, 2, place), 7))
    assert alike(rows[1], rows[0], other_device)


@pytest.mark.parametrize("settings", [{"adapt": True}, {"steps": 2}, {"steps": 2, "last_layer": True}])
def test_the_published_recogniser_on_frames(settings: dict[str, Any], other_device: torch.device) -> None:
    rows = []
    for place in (torch.device("cpu"), other_device):
        network = frames.untrained_sface().to(place)
        attacker = SFaceAttacker("test", "test", network, seed=0, **settings)
        attacker.fit(encoded(6, 3, 1, place))
        rows.append(attacker.embed(encoded(4, 2, 2, place), 7))
    assert alike(rows[1], rows[0], other_device)


def test_inverters(other_device: torch.device) -> None:
    scenes, images = frames.patterns(6, 3, seed=1)[0], []
    psf = photographs.gaussian(1.0, 7)
    for place in (torch.device("cpu"), other_device):
        faces = encoded(6, 3, 1, place)
        learned = UNetInverter(seed=0, steps=3, batch=4)
        learned.fit(faces, scenes.to(place))
        wiener = WienerFilter(psf.to(place), frames.SIDE, scenes.to(place), 1e-3)
        images.append(torch.stack([learned.restore(faces, 3), wiener(faces.signal)]))
    assert images[1].device.type == other_device.type
    torch.testing.assert_close(images[1].cpu(), images[0], atol=1e-2, rtol=0)


def test_landmarks_alone(other_device: torch.device) -> None:
    generator, rows = torch.Generator().manual_seed(0), []
    own = 10 * torch.randn(30, 5, 2, generator=generator).repeat_interleave(4, 0)
    points, who = 50 + own + torch.randn(120, 5, 2, generator=generator), torch.arange(30).repeat_interleave(4)
    for place in (torch.device("cpu"), other_device):
        attacker = LandmarkAttacker(100.0, seed=1, steps=5, batch=32)
        attacker.fit(points.to(place), who.to(place), noise_px=1.0)
        rows.append(attacker.embed(points[:8].to(place)))
    assert alike(rows[1], rows[0], other_device)


@pytest.mark.parametrize("countermeasure", COUNTERMEASURES)
def test_victims_of_poison(countermeasure: str, other_device: torch.device) -> None:
    photos = photographs.people(6, 4, seed=4).to(other_device)
    labels = torch.unique(photos.identity, return_inverse=True)[1]
    victim = ScratchVictim(TrainingBudget(3, 8, 16), countermeasure, 3)
    victim.fit(photos, labels)
    named = victim.named(photos)
    assert named.device.type == other_device.type
    assert named.shape == labels.shape
