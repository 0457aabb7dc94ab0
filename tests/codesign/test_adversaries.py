"""Adversaries on a toy: eight people who differ in which block of the picture is bright."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from codesign.adversaries import CROP, Contrast, Inverter, Recogniser, Schedule

PEOPLE, CPU = 8, torch.device("cpu")
SCHEDULE = Schedule(3e-3, 20)


def people(captures: int, seed: int, count: int = PEOPLE) -> tuple[Tensor, Tensor]:
    """Noisy pictures (N, 1, 32, 32) of people, one bright block each, and who is on them."""
    generator = torch.Generator().manual_seed(seed)
    who = torch.arange(count).repeat_interleave(captures)
    pictures = 0.4 + 0.05 * torch.randn(len(who), 1, CROP, CROP, generator=generator)
    for picture, person in zip(pictures, who.tolist(), strict=True):
        row, column = divmod(person, 4)
        picture[0, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] += 0.4
    return pictures, who


def fresh(seed: int = 0) -> Recogniser:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Recogniser(1, PEOPLE, SCHEDULE, CPU)


@pytest.fixture(scope="module")
def trained() -> Recogniser:
    one = fresh()
    # Running means of the batch norm need some steps more than the weights.
    for step in range(45):
        one.learn(*people(2, seed=step))
    return one


def test_a_recogniser_learns_people_who_differ(trained: Recogniser) -> None:
    pictures, who = people(3, seed=1000)
    assert trained.accuracy(pictures, who) > 5 / PEOPLE
    assert fresh().accuracy(pictures, who) < 5 / PEOPLE
    assert trained.skill(pictures, who) > 0.9
    with torch.no_grad():
        assert float(trained.gain(pictures, who)) > 0.5 > float(fresh().gain(pictures, who))


def test_skill_is_nothing_when_names_are_dealt_at_random(trained: Recogniser) -> None:
    pictures, who = people(16, seed=1000)
    dealt = who[torch.randperm(len(who), generator=torch.Generator().manual_seed(0))]
    assert trained.skill(pictures, dealt) < 0.05


def test_judging_leaves_the_network_as_it_was(trained: Recogniser) -> None:
    before = {key: value.clone() for key, value in trained.network.state_dict().items()}
    trained.skill(*people(3, seed=2))
    trained.accuracy(*people(3, seed=2))
    assert trained.network.training
    assert all(torch.equal(before[key], value) for key, value in trained.network.state_dict().items())


def test_gain_is_the_share_of_the_cross_entropy_below_that_of_a_guess(trained: Recogniser) -> None:
    pictures, who = people(3, seed=5)
    with torch.no_grad():
        logits = trained.logits(pictures)
        gain = trained.gain(pictures, who)
    # The better of what it says and of the same said half as sharply, twice as sharply, and so on.
    losses = [float(functional.cross_entropy(logits * 2.0**power, who)) for power in (-2, -1, 0, 0.5)]
    assert float(gain) >= 1 - min(losses) / math.log(PEOPLE) - 1e-5
    assert float(gain) < 1


def test_a_renewed_recogniser_knows_nothing_and_the_seed_decides_what_it_starts_from() -> None:
    first, second = fresh(), fresh(1)
    first.learn(*people(4, seed=0))
    state = torch.get_rng_state()
    for one in (first, second):
        one.renew(7, Schedule(3e-3, 10))
        assert one.clock().tolist() == [0, 10]
    assert torch.equal(torch.get_rng_state(), state)
    pictures, who = people(3, seed=1000)
    assert float(first.loss(pictures, who).detach()) == float(second.loss(pictures, who).detach())
    assert first.optimiser.state_dict()["state"] == {}


def test_an_inverter_learns_what_the_frame_shows_and_its_gain_stops_at_a_guess() -> None:
    scenes = people(8, seed=0)[0].clamp(0, 1).repeat(1, 3, 1, 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        one = Inverter(scenes, SCHEDULE)
    frames = scenes.mean(1, keepdim=True)
    dark = torch.zeros_like(frames)
    assert float(one.gain(dark, one.targets).detach()) < 1e-6
    before = float(one.loss(frames, one.targets).detach())
    for _ in range(20):
        one.learn(frames, one.targets)
    assert float(one.loss(frames, one.targets).detach()) < 0.7 * before
    # A share of explained variance, as numpy counts it.
    pictures = [values.detach().double().flatten(1).numpy() for values in (one.restored(frames), one.targets)]
    pairs = [(values - values.mean(0)).ravel() for values in pictures]
    assert one.skill(frames, one.targets) == pytest.approx(np.corrcoef(*pairs)[0, 1] ** 2, rel=1e-3)


def test_the_rate_goes_up_and_down_once_and_is_steady_then() -> None:
    rates = [SCHEDULE.at(age) for age in range(100)]
    top = rates.index(max(rates))
    assert rates[top] == pytest.approx(3e-3)
    assert rates[0] < 3e-4
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert set(rates[20:]) == {rates[-1]}
    assert 0 < rates[-1] < 1e-3


def test_a_network_learns_at_the_rate_of_its_age() -> None:
    one = fresh()
    for age in range(3):
        one.learn(*people(2, seed=age))
        assert {group["lr"] for group in one.optimiser.param_groups} == {SCHEDULE.at(age)}
    again = fresh()
    again.set_clock(one.clock())
    assert (again.age, again.schedule) == (3, SCHEDULE)


def test_frames_are_brought_to_one_contrast_which_follows_the_camera() -> None:
    generator = torch.Generator().manual_seed(0)
    contrast = Contrast(CPU)
    frames = 0.2 + 0.05 * torch.randn(64, 1, 16, 16, generator=generator)
    contrast.follow(frames)
    seen = contrast(frames)
    assert float(seen.mean()) == pytest.approx(0.5, abs=1e-5)
    assert float(seen.std()) == pytest.approx(0.25, abs=1e-5)
    for _ in range(100):
        contrast.follow(2 * frames)
    seen = contrast(2 * frames)
    assert float(seen.mean()) == pytest.approx(0.5, abs=0.05)
    assert float(seen.std()) == pytest.approx(0.25, abs=0.02)
