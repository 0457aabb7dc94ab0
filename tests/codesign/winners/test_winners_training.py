"""Kernels, read-out and decoder learn to find a planted pattern, and go on to the bit where they were stopped."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from codesign.config import TrainMaskConfig, WinnersConfig
from codesign.errors import CodesignError
from codesign.winners.camera import readout_of, readout_state
from codesign.winners.decoder import PlaceDecoder, Seen, teach_places
from codesign.winners.descent import Descent, one_cycle
from codesign.winners.kernels import (
    Task,
    anchor_bank,
    anchor_descent,
    follower_bank,
    follower_descent,
    held_out,
    signed_kernels,
    wanted_shares,
    whitening,
)
from sim.winners import PairPixels, Window

SETTINGS = TrainMaskConfig.for_budget("smoke").winners.model_copy(
    update={"batch": 16, "anchor_steps": 60, "follower_steps": 60, "anchor_pairs": 2, "follower_pairs": 1}
)
PIXELS = PairPixels(comparator_noise=0.01)
SIDE = 20


def _spots(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Scenes (N, n, n) of textured ground with a bright cross, and its place (N, 2)."""
    generator = torch.Generator().manual_seed(seed)
    scenes = 0.3 + 0.1 * torch.rand(count, SIDE, SIDE, generator=generator)
    places = torch.randint(6, SIDE - 6, (count, 2), generator=generator)
    for scene, (x, y) in zip(scenes, places.tolist(), strict=True):
        scene[y, x - 2 : x + 3] += 0.3
        scene[y - 2 : y + 3, x] += 0.3
    return scenes, places.float()


def _landmarks(places: Tensor) -> Tensor:
    """Landmarks (N, 68, 2) spread a little about each place."""
    spread = torch.randn(68, 2, generator=torch.Generator().manual_seed(1)) * 2
    return places[:, None] + spread - spread.mean(0)


def _anchor(seed: int = 0) -> Task:
    scenes, places = _spots(200, seed)
    return Task(scenes, places[:, None], (Window(5, 5, 10, 10),), 4)


def test_the_anchor_learns_to_find_what_it_was_shown() -> None:
    task, fresh = _anchor(), _anchor(7)
    bank = anchor_bank(task, _landmarks(task.wanted[:, 0]), SETTINGS, 0)
    before, _ = held_out(bank, fresh, PIXELS, 0)
    descent = anchor_descent(bank, task, SETTINGS, PIXELS, 0)
    for _ in range(descent.steps):
        descent.step()
    after, distance = held_out(bank, fresh, PIXELS, 0)
    assert after < before
    # A guess is wrong by about four pixels.
    assert float(distance) < 1.0


def test_followers_learn_their_part_about_an_anchor_that_errs() -> None:
    scenes, places = _spots(200, 0)
    spread = torch.randn(places.shape, generator=torch.Generator().manual_seed(2))
    centres = places + torch.tensor([2.0, -1.0]) + spread
    task = Task(scenes, places[:, None], (Window(-2, -5, 7, 7),), 3, centres)
    bank = follower_bank(task, SETTINGS, 0)
    descent = follower_descent(bank, task, SETTINGS, PIXELS, 0)
    for _ in range(descent.steps):
        descent.step()
    # The usual place alone is wrong by what anchors and parts are spread, nearly two pixels.
    assert float(held_out(bank, task, PIXELS, 3)[1]) < 0.8


def _descent() -> Descent:
    task = _anchor()
    bank = anchor_bank(task, _landmarks(task.wanted[:, 0]), SETTINGS, 0)
    return anchor_descent(bank, task, SETTINGS, PIXELS, 0)


def test_a_descent_that_was_stopped_ends_with_the_same_bits() -> None:
    whole, first, second = _descent(), _descent(), _descent()
    for _ in range(8):
        whole.step()
    for _ in range(3):
        first.step()
    second.load(first.state())
    for _ in range(5):
        second.step()
    assert second.done == whole.done
    for name, value in whole.parameters.items():
        assert torch.equal(value, second.parameters[name])


def test_a_descent_that_diverges_says_what_to_lower() -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    descent = Descent([({"weight": weight}, 1.0)], lambda _: weight.sum() * math.inf, 3, 0)
    with pytest.raises(CodesignError, match=r"lower winners\.rate"):
        descent.step()


def test_the_rate_rises_and_falls() -> None:
    rates = [one_cycle(step, 100) for step in range(101)]
    assert max(rates) == pytest.approx(1.0)
    assert rates.index(max(rates)) == 20
    assert rates[-1] == pytest.approx(0.0, abs=1e-12)
    assert rates[0] < 0.1


def test_whitened_patches_have_unit_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(5000, 6, generator=generator) @ torch.diag(torch.tensor([9.0, 4.0, 2.0, 1.0, 0.5, 0.3]))
    seen = patches @ whitening(patches)
    assert torch.allclose(torch.cov(seen.T), torch.eye(6), atol=0.01)


def test_wanted_shares_are_a_gaussian_that_stays_inside() -> None:
    places = Window(0, 0, 5, 5).grid(torch.zeros(1))[None, None]
    inside = wanted_shares(places, torch.tensor([[[2.0, 3.0]]]))[0, 0]
    assert int(inside.argmax()) == 3 * 5 + 2
    assert float(inside[3 * 5 + 3] / inside[3 * 5 + 2]) == pytest.approx(math.exp(-1 / (2 * 0.8**2)), rel=1e-5)
    outside = wanted_shares(places, torch.tensor([[[9.0, 3.0]]]))[0, 0]
    assert int(outside.argmax()) == 3 * 5 + 4
    assert float(outside.sum()) == pytest.approx(1.0)


def test_a_stored_read_out_is_read_back() -> None:
    task = _anchor()
    anchor = anchor_bank(task, _landmarks(task.wanted[:, 0]), SETTINGS, 0)
    rest = Task(task.scenes, task.wanted, (Window(-2, -2, 5, 5),), 3, task.wanted[:, 0])
    followers = follower_bank(rest, SETTINGS, 0)
    state = readout_state([anchor, followers], (*task.windows, *rest.windows))
    readout = readout_of(state)
    assert readout.windows == (*task.windows, *rest.windows)
    assert readout.channel_of.tolist() == [0, 0, 1]
    assert torch.equal(readout.bias[0], anchor.bias[0].detach().unflatten(0, (10, 10)))
    with pytest.raises(CodesignError, match="is not whole"):
        readout_of({key: value for key, value in state.items() if key != "gain"})


def test_kernels_are_mirrored_into_point_spread_functions() -> None:
    task = _anchor()
    bank = anchor_bank(task, _landmarks(task.wanted[:, 0]), SETTINGS, 0)
    kernel = signed_kernels(bank)[0][0]
    assert torch.equal(kernel.flip(-2, -1).flatten(), bank.kernels()[0, 0].detach())


def test_the_decoder_reads_places_and_leaves_a_wrong_winner_out() -> None:
    generator = torch.Generator().manual_seed(0)
    windows = (Window(4, 4, 16, 16), Window(-4, -6, 7, 7), Window(-4, 0, 7, 7))
    anchor = torch.randint(6, 18, (3000, 1, 2), generator=generator)
    offsets = torch.tensor([[[-3, -1], [3, -1]]]).expand(3000, -1, -1).clone()
    true = (anchor + offsets).float() * 2 + 0.5
    # One winner in five is anywhere in its window.
    wrong = torch.rand(3000, 2, generator=generator) < 0.2
    anywhere = torch.stack(
        [torch.randint(-4, 3, (3000, 2), generator=generator), torch.randint(-4, 3, (3000, 2), generator=generator)], -1
    )
    offsets = torch.where(wrong[..., None], anywhere, offsets)
    places = torch.cat([anchor, anchor + offsets], 1)
    settings = WinnersConfig(anchor_steps=1, follower_steps=1, trim_steps=1, decoder_steps=120)
    decoder = PlaceDecoder(windows, 2, 32, 64, width=64)
    teach_places(decoder, Seen(places, true, torch.full((3000,), 20.0)), settings, 0)
    with torch.no_grad():
        error = (decoder(places) - true).norm(dim=-1).mean()
    plain = (places[:, 1:].float() * 2 + 0.5 - true).norm(dim=-1).mean()
    assert float(error) < 0.5 * float(plain)
