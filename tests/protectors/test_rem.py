"""Robust error-minimising noise: its gradient, its levels, and the adversarially trained classifier it is made for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from faces.samples import five_points
from faces.synthetic import generate
from protectors.canvas import Canvas
from protectors.classifiers import Trainer, face_classifier
from protectors.errors import ProtectorError
from protectors.rem import Rem, as_levels, noise_gradient
from protectors.unlearnable import cropped, random_crops

PEOPLE, CAPTURES, SIDE = 4, 5, 32


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def heads() -> tuple[Tensor, Tensor, Tensor]:
    faces = generate(PEOPLE, CAPTURES, size=SIDE, seed=3, first_identity=29_000_000)
    identity = torch.unique(faces.identity, return_inverse=True)[1]
    return faces.images.float() / 255, five_points(faces.landmarks).float(), identity


def small(**settings: int | str) -> Rem:
    made = {
        "steps": 3,
        "eot": 1,
        "attack_steps": 1,
        "train_steps": 4,
        "update_every": 2,
        "classes": 2,
        "resolution": SIDE,
    }
    return Rem(**{**made, **settings})  # type: ignore[arg-type]


def test_gradient_is_that_through_the_view_at_the_frozen_attack() -> None:
    # Finite differences in float64 through a crop and a smooth network; the attack depends on the photo, and its own
    # dependence must not count.
    photo = torch.rand(2, 3, 6, 6, generator=seeded(), dtype=torch.float64)
    weight = torch.randn(108, 4, generator=seeded(1), dtype=torch.float64) / 6
    labels, maps = torch.tensor([1, 3]), random_crops(2, seeded(2), mirrored=True)
    delta = 0.05 * torch.randn(photo.shape, generator=seeded(3), dtype=torch.float64)

    def view(noise: Tensor) -> Tensor:
        return cropped(photo + noise, maps)

    def attack(images: Tensor) -> Tensor:
        return 0.3 * torch.sin(5 * images)

    def loss(images: Tensor) -> Tensor:
        return functional.cross_entropy(torch.tanh(images.flatten(1)) @ weight, labels, reduction="sum")

    frozen = attack(view(delta))
    expected = torch.zeros_like(delta)
    for place in range(delta.numel()):
        shift = torch.zeros_like(delta)
        shift.view(-1)[place] = 1e-5
        up, down = (loss(view(delta + sign * shift) + frozen) for sign in (1, -1))
        expected.view(-1)[place] = (up - down) / 2e-5
    found = noise_gradient(delta, view, attack, loss)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
    # The whole derivative, attack included, is another one, so the test can tell them apart.
    moved = delta.clone().requires_grad_()
    (whole,) = torch.autograd.grad(loss(view(moved) + attack(view(moved))), moved)
    assert float((whole - found).abs().max()) > 0.01


@pytest.mark.parametrize("steps", [1, 4])
def test_attack_raises_the_loss_within_its_radius(heads: tuple[Tensor, Tensor, Tensor], steps: int) -> None:
    images, _, identity = heads
    network = face_classifier(PEOPLE, SIDE, seeded())
    trainer = Trainer(network, rate=0.05)
    for _ in range(25):
        trainer.step(images, identity)
    change = small(attack_steps=steps)._attack(network, identity, seeded())(images)
    assert float(change.abs().max()) <= 4 / 255 + 1e-6
    assert float((images + change).min()) >= 0
    assert float((images + change).max()) <= 1

    def loss(of: Tensor) -> float:
        with torch.no_grad():
            return float(functional.cross_entropy(network(of), identity))

    assert loss(images + change) > loss(images)


def test_a_visit_lowers_the_loss_under_attack_and_keeps_whole_levels(heads: tuple[Tensor, Tensor, Tensor]) -> None:
    images, points5, identity = heads
    network = face_classifier(PEOPLE, SIDE, seeded())
    trainer = Trainer(network, rate=0.05)
    for _ in range(25):
        trainer.step(images, identity)
    rem = small(eot=2)
    canvas = Canvas(images, points5, levels=8)
    start = torch.zeros(images.shape, dtype=torch.int8)
    noise = rem._descended(network, canvas, start, identity, seeded())
    assert noise.dtype == torch.int8
    assert int(noise.abs().max()) <= 8

    def attacked(levels: Tensor) -> float:
        shown = images + levels.float() / 255
        with torch.no_grad():
            moved = shown + rem._attack(network, identity, seeded(5))(shown)
            return float(functional.cross_entropy(network(moved), identity))

    assert attacked(noise) < 0.8 * attacked(start)


def test_int8_keeps_every_level_of_the_budget() -> None:
    levels = torch.arange(-127, 128, dtype=torch.int8)
    assert torch.equal(as_levels(levels.float() / 255), levels)


def test_photos_change_by_whole_levels_within_the_budget(heads: tuple[Tensor, Tensor, Tensor]) -> None:
    result = small(budget="uniform").protect(*heads, seeded(1))
    levels = (result - heads[0]) * 255
    torch.testing.assert_close(levels, levels.round(), atol=1e-3, rtol=0)
    assert int(levels.abs().max().round()) == 7


def test_presets_hold_their_numbers() -> None:
    full, reduced = (dict(Rem(preset=preset).declaration.settings) for preset in ("full", "reduced"))
    passes = [int(s["steps"]) * int(s["eot"]) * (int(s["attack_steps"]) + 1) for s in (full, reduced)]
    assert passes == [550, 40]
    assert full["train_steps"] == "5000"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"preset": "paper"}, r"preset = reduced or full, got paper"),
        ({"steps": 0}, r"steps >= 1, got 0"),
        ({"eot": 0}, r"eot >= 1 random crops a step, got 0"),
        ({"attack_steps": -1}, r"attack_steps >= 0, got -1"),
        ({"train_steps": 0}, r"train_steps >= 1 and update_every >= 1, got 0 and 2"),
        ({"update_every": 0}, r"train_steps >= 1 and update_every >= 1, got 4 and 0"),
        ({"classes": 1}, r"classes >= 2, .* got 1"),
        ({"resolution": 8}, r"resolution >= 16 pixels, got 8"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, int], words: str) -> None:
    with pytest.raises(ProtectorError, match=f"^rem takes .*{words}"):
        small(**settings)


# The classifier


def test_classifier_comes_from_its_generator_alone() -> None:
    state = torch.random.get_rng_state()
    first, same, other = (face_classifier(3, SIDE, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), same.parameters(), strict=True))
    assert not torch.equal(first.head.weight, other.head.weight)


def test_rate_falls_at_milestones_and_gradients_are_clipped() -> None:
    # By hand: SGD with momentum on one weight vector, first step from rest: change = rate * (g + decay * w).
    linear = nn.Linear(12, 2, bias=False)
    network = nn.Sequential(nn.Flatten(), linear)
    with torch.no_grad():
        linear.weight.copy_(torch.randn(2, 12, generator=seeded(1)) / 4)
    images, labels = 100 * torch.rand(4, 3, 2, 2, generator=seeded()), torch.tensor([0, 1, 0, 1])
    before = linear.weight.detach().clone()
    loss = functional.cross_entropy(network(images), labels)
    (gradient,) = torch.autograd.grad(loss, linear.weight)
    clipped = gradient * min(1.0, 0.5 / float(gradient.norm()))
    trainer = Trainer(network, rate=0.1, milestones=(1,), clip=0.5)
    assert trainer.step(images, labels) == pytest.approx(float(loss.detach()))
    torch.testing.assert_close(linear.weight.detach(), before - 0.1 * (clipped + 5e-4 * before), rtol=1e-4, atol=1e-6)
    assert trainer._optimiser.param_groups[0]["lr"] == pytest.approx(0.01)
    assert not network.training
