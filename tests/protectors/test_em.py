"""Error-minimising noise: the descent, the mean over a class, and what a stranger's network learns from it."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from faces.samples import five_points
from faces.synthetic import generate
from protectors.classifiers import Trainer, face_classifier, shuffled
from protectors.em import Em
from protectors.errors import ProtectorError
from protectors.noise import Noise
from protectors.unlearnable import cropped, crowd, random_crops

PEOPLE, CAPTURES, SIDE = 6, 20, 32
TRAINED = 14


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@cache
def heads() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Photos, points, people, and which photos are for training."""
    faces = generate(PEOPLE, CAPTURES, size=SIDE, seed=3, first_identity=29_000_000)
    identity = torch.unique(faces.identity, return_inverse=True)[1]
    return faces.images.float() / 255, five_points(faces.landmarks).float(), identity, faces.capture < TRAINED


def small(**settings: int | float | str) -> Em:
    return Em(**{"classes": 2, "resolution": SIDE, "train_batches": 10, "rounds": 5, **settings})  # type: ignore[arg-type]


def protected(protector: Em, seed: int = 1) -> Tensor:
    images, points5, identity, trained = heads()
    shown = images[trained], points5[trained], identity[trained]
    if protector.declaration.person_specific:
        protector.fit(*shown, seeded(seed))
    return protector.protect(*shown, seeded(seed))


def victim_accuracy(photos: Tensor) -> float:
    """Share of clean photos that a plain network names, trained from scratch on these; the mean of two networks."""
    return sum(one_victim_accuracy(photos, seed) for seed in range(2)) / 2


def one_victim_accuracy(photos: Tensor, seed: int) -> float:
    images, _, identity, trained = heads()

    def unit(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.BatchNorm2d(outputs), nn.ReLU()]

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            *unit(3, 16), *unit(16, 32), *unit(32, 64), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(256, PEOPLE)
        )
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    generator, labels = seeded(seed), identity[trained]
    for _ in range(60):
        rows = torch.randint(len(photos), (32,), generator=generator)
        optimiser.zero_grad()
        functional.cross_entropy(network(2 * photos[rows] - 1), labels[rows]).backward()
        optimiser.step()
    with torch.no_grad():
        return float((network.eval()(2 * images[~trained] - 1).argmax(1) == identity[~trained]).float().mean())


# What it is for


@cache
def without_protection() -> tuple[float, float]:
    """Accuracy after clean photos, and after random noise of the same budget."""
    images, points5, identity, trained = heads()
    noise = Noise(linf=16.5 / 255).protect(images[trained], points5[trained], identity[trained], seeded())
    return victim_accuracy(images[trained]), victim_accuracy(noise)


def test_random_noise_of_the_budget_leaves_photos_learnable() -> None:
    clean, random = without_protection()
    assert clean > 0.55
    assert random > clean - 0.15


@pytest.mark.parametrize("noise", ["class", "sample"])
def test_photos_become_unlearnable(noise: str) -> None:
    clean, random = without_protection()
    em = small(noise=noise, steps=10, train_batches=3, rounds=10)
    assert victim_accuracy(protected(em)) < min(clean, random) - 0.2


# The method


def test_descent_lowers_the_loss_of_the_classifier() -> None:
    images, points5, identity, trained = heads()
    people = crowd(images[trained], points5[trained], identity[trained], classes=2, auxiliary="synthetic")
    network = face_classifier(PEOPLE, SIDE, seeded())
    trainer = Trainer(network, rate=0.05, clip=5.0)
    batches = shuffled(len(people), 20, seeded())
    for _ in range(25):
        rows = next(batches)
        trainer.step(people.images[rows], people.labels[rows])
    em = small(noise="sample")
    rows, noise = torch.arange(20), torch.zeros(20, 3, SIDE, SIDE)
    losses = []
    for _ in range(4):
        with torch.no_grad():
            losses.append(float(functional.cross_entropy(network(people.images[rows] + noise), people.labels[rows])))
        noise = em._wished(network, people, rows, noise, seeded())
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.5 * losses[0]
    assert float(noise.abs().max()) <= 16 / 255 + 1e-6


def test_noise_of_a_class_is_the_mean_of_what_its_photos_ask_for() -> None:
    images, points5, identity, _ = heads()
    people = crowd(images, points5, identity, classes=2, auxiliary="synthetic")
    network = face_classifier(PEOPLE, SIDE, seeded()).eval()
    em = small(steps=3)
    noise = 0.02 * torch.randn(PEOPLE, 3, SIDE, SIDE, generator=seeded(1))
    before = noise.clone()
    em._preset = replace(em._preset, batch=len(people))
    em._descend(network, people, people.labels, noise, seeded())
    for person in range(PEOPLE):
        rows = torch.nonzero(identity == person)[:, 0]
        asked = em._wished(network, people, rows, before[person].expand(len(rows), -1, -1, -1), seeded())
        expected = (asked.sum(0) / len(rows)).clamp(-16 / 255, 16 / 255)
        # Signs of gradients close to zero depend on the size of the batch.
        assert float(((noise[person] - expected).abs() < 1e-5).float().mean()) > 0.98


def test_one_round_of_one_class_is_that_mean() -> None:
    # By hand: with one photo of each person, the noise of a class is its start after one descent, as for samples.
    images, points5, identity, _ = heads()
    first = torch.arange(0, len(images), CAPTURES)
    settings: dict[str, int | float] = {"train_batches": 1, "rounds": 1, "steps": 2}
    by_class, by_sample = small(**settings), small(noise="sample", **settings)
    by_class.fit(images[first], points5[first], identity[first], seeded(4))
    one = by_class.protect(images[first], points5[first], identity[first], seeded())
    other = by_sample.protect(images[first], points5[first], identity[first], seeded(4))
    assert torch.equal(one, other)


def test_photos_of_a_person_carry_the_same_mask() -> None:
    images, points5, identity, trained = heads()
    grey = torch.full_like(images, 128 / 255)
    em = small(rounds=1)
    em.fit(images[trained], points5[trained], identity[trained], seeded())
    levels = (
        (em.protect(grey + 0.001 * torch.arange(3)[:, None, None] / 255, points5, identity, seeded()) - grey) * 255
    ).round()
    for person in range(PEOPLE):
        of_person = levels[identity == person]
        assert torch.equal(of_person, of_person[:1].expand_as(of_person))
    assert len(torch.unique(levels.flatten(1), dim=0)) == PEOPLE


def test_search_that_reaches_no_end_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        protected(small(rounds=1, train_batches=1))
    assert "after rounds=1 the classifier still errs on" in caplog.text
    assert "not below stop_error=0.1" in caplog.text


# Presets and settings


def test_presets_hold_the_released_numbers() -> None:
    faces, cifar = (dict(Em(preset=preset).declaration.settings) for preset in ("faces", "cifar"))
    assert (faces["steps"], faces["train_batches"], faces["stop_error"]) == ("1", "30", "0.1")
    assert (cifar["steps"], cifar["train_batches"], cifar["stop_error"]) == ("1", "10", "0.01")
    assert dict(Em(preset="cifar", noise="sample").declaration.settings)["steps"] == "20"


def test_what_depends_on_the_kind_of_noise_is_declared() -> None:
    by_class, by_sample = Em().declaration, Em(noise="sample").declaration
    assert (by_class.person_specific, by_class.batch_dependent, by_class.deterministic) == (True, False, True)
    assert (by_sample.person_specific, by_sample.batch_dependent, by_sample.deterministic) == (False, True, False)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"preset": "paper"}, r"preset = faces, cifar, got paper"),
        ({"noise": "none"}, r"noise = class or sample, got none"),
        ({"steps": 0}, r"steps >= 1, got 0"),
        ({"train_batches": 0}, r"train_batches >= 1 and rounds >= 1, got 0 and 30"),
        ({"rounds": 0}, r"train_batches >= 1 and rounds >= 1, got 30 and 0"),
        ({"stop_error": 1.0}, r"stop_error as a share between 0 and 1, got 1"),
        ({"eot": -1}, r"eot from 0 .* got -1"),
        ({"classes": 1}, r"classes >= 2, since nobody can be told apart alone, got 1"),
        ({"resolution": 8}, r"resolution >= 16 pixels, got 8"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, int], words: str) -> None:
    with pytest.raises(ProtectorError, match=f"^em takes .*{words}"):
        Em(**settings)  # type: ignore[arg-type]


# What it shares


def test_crowd_fills_up_with_people_of_their_own() -> None:
    images, points5, identity, _ = heads()
    one = identity == 4
    people = crowd(images[one], points5[one], identity[one] + 70, classes=3, auxiliary="synthetic")
    assert (people.own, people.classes) == (CAPTURES, 3)
    assert people.labels.tolist() == [0] * CAPTURES + [1] * 10 + [2] * 10
    assert torch.equal(people.images[:CAPTURES], images[one])
    full = crowd(images, points5, identity, classes=PEOPLE, auxiliary="synthetic")
    assert len(full) == len(images)


def test_crops_show_the_part_that_their_map_says() -> None:
    # A ramp of pixel numbers: a crop of half the side starts at its first pixel's edge.
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    half = torch.tensor([[[0.5, 0, -0.5], [0, 0.5, 0]]])
    torch.testing.assert_close(cropped(ramp, half)[0, 0, 0, 1:], 0.5 * torch.arange(1.0, 8.0) - 0.25)
    mirrored = torch.tensor([[[-1.0, 0, 0], [0, 1, 0]]])
    torch.testing.assert_close(cropped(ramp, mirrored), ramp.flip(-1))


def test_random_crops_stay_inside_the_photo() -> None:
    maps = random_crops(500, seeded(), mirrored=True)
    size, shift = maps[:, 0, 0].abs(), maps[:, :, 2].abs()
    assert bool((size[:, None] + shift <= 1 + 1e-6).all())
    assert 0.6 <= float(size.min()) < 0.65
    assert 0.95 < float(size.max()) <= 1
    assert 0.4 < float((maps[:, 0, 0] < 0).float().mean()) < 0.6
    assert bool((random_crops(50, seeded())[:, 0, 0] > 0).all())


def test_epochs_show_each_photo_once() -> None:
    batches = shuffled(12, 4, seeded())
    first, second = (torch.cat([next(batches) for _ in range(3)]) for _ in range(2))
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(12))
    assert first.tolist() != second.tolist()
    assert len(next(shuffled(3, 64, seeded()))) == 3
