"""Adversaries on a toy: eight people who differ in which block of the picture is bright."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from codesign.adversaries import CROP, Inverter, Recogniser

PEOPLE, CPU = 8, torch.device("cpu")


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
        return Recogniser(1, PEOPLE, 3e-3, CPU)


@pytest.fixture(scope="module")
def trained() -> Recogniser:
    one = fresh()
    for step in range(30):
        one.learn(*people(4, seed=step))
    return one


def test_a_recogniser_learns_people_who_differ(trained: Recogniser) -> None:
    pictures, who = people(3, seed=1000)
    found = trained.head(trained.network(pictures)).argmax(1)
    assert float((found == who).float().mean()) > 5 / PEOPLE
    assert trained.skill(pictures, who) > 0.9
    with torch.no_grad():
        assert float(trained.gain(pictures, who)) > 0.5 > float(fresh().gain(pictures, who))


def test_skill_is_nothing_when_names_are_dealt_at_random(trained: Recogniser) -> None:
    pictures, who = people(16, seed=1000)
    dealt = who[torch.randperm(len(who), generator=torch.Generator().manual_seed(0))]
    assert trained.skill(pictures, dealt) < 0.05


def test_skill_leaves_the_network_as_it_was(trained: Recogniser) -> None:
    before = {key: value.clone() for key, value in trained.network.state_dict().items()}
    trained.skill(*people(3, seed=2))
    assert trained.network.training
    assert all(torch.equal(before[key], value) for key, value in trained.network.state_dict().items())


def test_gain_is_the_share_of_the_cross_entropy_below_that_of_a_guess(trained: Recogniser) -> None:
    pictures, who = people(3, seed=5)
    with torch.no_grad():
        loss = functional.cross_entropy(trained.head(trained.network(pictures)), who)
        gain = trained.gain(pictures, who)
    assert float(gain) == pytest.approx(max(0.0, 1 - float(loss) / math.log(PEOPLE)), rel=1e-5)


def test_a_renewed_recogniser_knows_nothing_and_the_seed_decides_what_it_starts_from() -> None:
    first, second = fresh(), fresh(1)
    first.learn(*people(4, seed=0))
    state = torch.get_rng_state()
    first.renew(7)
    second.renew(7)
    assert torch.equal(torch.get_rng_state(), state)
    pictures, who = people(3, seed=1000)
    assert float(first.loss(pictures, who).detach()) == float(second.loss(pictures, who).detach())
    assert first.optimiser.state_dict()["state"] == {}


def test_an_inverter_learns_what_the_frame_shows_and_its_gain_stops_at_a_guess() -> None:
    scenes = people(8, seed=0)[0].clamp(0, 1).repeat(1, 3, 1, 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        one = Inverter(scenes, 3e-3)
    assert one.uninformed == pytest.approx(float((one.targets - one.targets.mean(0)).abs().mean()))
    frames = scenes.mean(1, keepdim=True)
    dark = torch.zeros_like(frames)
    assert float(one.gain(dark, one.targets).detach()) == 0
    before = float(one.loss(frames, one.targets).detach())
    for _ in range(20):
        one.learn(frames, one.targets)
    assert float(one.loss(frames, one.targets).detach()) < 0.7 * before
    assert one.skill(frames, one.targets) == pytest.approx(
        max(0.0, 1 - float(one.loss(frames, one.targets).detach()) / one.uninformed), rel=1e-5
    )
