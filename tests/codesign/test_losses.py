"""Terms of the co-design loss on toys whose information is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from codesign.losses import bounded_inversion_loss, bounded_privacy_loss, gaussian_bits, identity_bits

PEOPLE, CAPTURES, FEATURES = 48, 4, 64
NOISE = torch.tensor(0.01)


def faces(between: float, seed: int = 0, within: float = 1.0) -> Tensor:
    """(people, captures, features): a person is a random direction of so much strength, captures differ."""
    generator = torch.Generator().manual_seed(seed)
    person = between * torch.randn(PEOPLE, 1, FEATURES, generator=generator)
    return 10 + person + within * torch.randn(PEOPLE, CAPTURES, FEATURES, generator=generator)


def deals(count: int = 4, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randperm(PEOPLE * CAPTURES, generator=generator) for _ in range(count)])


def bits(rows: Tensor, noise: Tensor = NOISE) -> float:
    return float(identity_bits(rows, noise, deals()))


def misnamed(rows: Tensor, seed: int) -> Tensor:
    """The same captures, each under somebody's name."""
    order = torch.randperm(PEOPLE * CAPTURES, generator=torch.Generator().manual_seed(seed + 50))
    return rows.flatten(0, 1)[order].view_as(rows)


@pytest.mark.parametrize("between", [0.0, 2.0])
def test_under_wrong_names_there_is_no_identity(between: float) -> None:
    """The closed form alone finds bits by the dozen there."""
    found = [misnamed(faces(between, seed), seed) for seed in range(6)]
    assert min(float(gaussian_bits(rows, NOISE)) for rows in found) > 10
    mean = sum(bits(rows) for rows in found) / len(found)
    assert mean < 0.05 * math.log2(PEOPLE)
    assert min(bits(faces(2.0, seed)) for seed in range(6)) > 0.7 * math.log2(PEOPLE)


def test_light_alone_is_no_identity() -> None:
    """A quarter of the light leaves faces and what sets captures apart as they are, beside twice the noise."""
    for rows in (misnamed(faces(1.0), 0), faces(1.0)):
        bright, dim = bits(rows, torch.tensor(0.01)), bits(rows, torch.tensor(0.04))
        assert abs(bright - dim) < 0.1


def test_more_identity_is_more_bits_and_never_more_than_there_is() -> None:
    found = [bits(faces(between)) for between in (0.0, 0.2, 0.5, 1.0, 3.0, 30.0)]
    assert found == sorted(found)
    assert found[-1] == pytest.approx(math.log2(PEOPLE), abs=1e-3)
    assert max(found) <= math.log2(PEOPLE) + 1e-5


def test_the_closed_form_is_that_of_two_scatter_matrices() -> None:
    """Against numpy, in the other of the two equal determinants."""
    rows = faces(0.5).double()
    data = rows.numpy()
    means = data.mean(1)
    within = sum(np.cov(person.T) for person in data) / PEOPLE
    between = np.cov(means.T)
    ridge = 0.1 * np.trace(within) / FEATURES + 0.01 + 1e-6 * (data**2).mean()
    noisy = 0.9 * within + ridge * np.eye(FEATURES)
    expected = 0.5 * np.linalg.slogdet(np.eye(FEATURES) + np.linalg.solve(noisy, between))[1] / math.log(2)
    assert float(gaussian_bits(rows, NOISE.double())) == pytest.approx(expected, rel=1e-9)


def test_the_gradient_lowers_identity() -> None:
    rows = faces(0.4).requires_grad_()
    before = identity_bits(rows, NOISE, deals())
    (gradient,) = torch.autograd.grad(before, rows)
    after = rows.detach() - 0.1 * rows.detach().numel() ** 0.5 * gradient / gradient.norm()
    assert bits(after) < float(before.detach()) - 0.05


def logits(names: float, sharp: float) -> tuple[Tensor, Tensor]:
    """An adversary that names such a share of 200 faces of 50 people, and how sure it is of whatever it names."""
    who = torch.arange(200) % 50
    named = torch.where(torch.arange(200) < 200 * names, who, (who + 7) % 50)
    return sharp * functional.one_hot(named, 50).float(), who


def test_an_adversary_that_is_too_sure_of_itself_counts_for_what_it_names() -> None:
    said, who = logits(0.2, 30.0)
    # Worse than a guess, although it is right ten times as often.
    assert float(functional.cross_entropy(said, who)) > math.log(50)
    sure, calm = (float(bounded_privacy_loss(logits(0.2, sharp)[0], who)) for sharp in (30.0, 3.75))
    assert sure == pytest.approx(calm, rel=1e-4)
    assert sure > 0.05


@pytest.mark.parametrize(("names", "gain"), [(1.0, 1.0), (0.0, 0.0)])
def test_gain_runs_from_nothing_to_all(names: float, gain: float) -> None:
    said, who = logits(names, 40.0)
    assert float(bounded_privacy_loss(said, who)) == pytest.approx(gain, abs=1e-3)


def test_at_chance_the_mask_is_not_rewarded_for_an_adversary_that_errs() -> None:
    said, who = logits(0.0, 40.0)
    said.requires_grad_()
    (gradient,) = torch.autograd.grad(bounded_privacy_loss(said, who), said)
    assert float(gradient.norm()) == 0


def test_inversion_term_is_the_share_of_the_scenes_that_is_explained() -> None:
    generator = torch.Generator().manual_seed(0)
    scenes = torch.randn(4000, 6, generator=generator, dtype=torch.float64)
    noise = torch.randn(4000, 6, generator=generator, dtype=torch.float64)
    guess = torch.zeros(6, dtype=torch.float64)
    assert float(bounded_inversion_loss(0.1 * scenes, scenes, guess)) == pytest.approx(1, abs=1e-3)
    # Half of the variance is that of the scenes.
    assert float(bounded_inversion_loss(scenes + noise, scenes, guess)) == pytest.approx(0.5, abs=0.03)
    assert float(bounded_inversion_loss(-scenes, scenes, guess)) == 0


def test_bits_of_a_gaussian_channel() -> None:
    """One pixel, people spread with variance B, captures with W: half log2(1 + B / (W + noise))."""
    generator = torch.Generator().manual_seed(0)
    own, change = 3.0, 1.0
    people = own * torch.randn(400, 1, 1, generator=generator, dtype=torch.float64)
    rows = people + change * torch.randn(400, 4, 1, generator=generator, dtype=torch.float64)
    for noise in (0.5, 8.0):
        bits = gaussian_bits(rows, torch.tensor(noise, dtype=torch.float64))
        # The scatter of means over four captures holds a quarter of the scatter within.
        expected = 0.5 * math.log2(1 + (own**2 + change**2 / 4) / (change**2 + noise))
        assert float(bits) == pytest.approx(expected, rel=0.05)
