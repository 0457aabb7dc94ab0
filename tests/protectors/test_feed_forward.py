"""The feed-forward protector: its inputs, its loss, its training, and sizes other than its own."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from faces.errors import FaceFailed
from faces.families import load_recogniser
from protectors import feed_forward
from protectors.auxiliary import Faces, auxiliary_faces
from protectors.errors import ProtectorError
from protectors.feed_forward import INPUTS, FeedForward, Scale, face_coordinates, perturbation
from protectors.similarity import ssim
from protectors.trained import Weights
from protectors.unet import UNet

# What is trained here stays out of the cache of the user.
pytestmark = pytest.mark.usefixtures("own_cache")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tiny(**settings: float | str) -> FeedForward:
    given = {
        "steps": 2, "width": 4, "people": 2, "captures": 2, "batch": 2, "surrogates": "dlib-resnet", "eot": 0,
        "budget": "0.0314",
    }  # fmt: skip
    return FeedForward(**{**given, **settings})  # type: ignore[arg-type]


def untrained(monkeypatch: pytest.MonkeyPatch, **settings: float | str) -> FeedForward:
    """With random weights, whose pattern fills much of the budget; each has a training of its own in the cache."""
    monkeypatch.setattr(feed_forward, "trained", lambda *_: UNet(INPUTS, 3, 4, seed=5).state_dict())
    return tiny(**settings)


def protected(protector: FeedForward, images: Tensor, points5: Tensor, seed: int = 0) -> Tensor:
    return protector.protect(images, points5, torch.zeros(len(images), dtype=torch.int64), seeded(seed))


def test_coordinates_follow_the_face() -> None:
    # A face of the same shape, moved, turned by 30 degrees and twice as large, has the same coordinates at the places
    # that correspond; and 1 means an eye distance.
    points = torch.tensor([[[20.0, 20.0], [30.0, 20.0], [25.0, 26.0], [21.0, 32.0], [29.0, 32.0]]])
    found = face_coordinates(points, 64)
    assert found.shape == (1, 2, 64, 64)
    assert torch.allclose(found[0, :, 26, 35], torch.tensor([math.tanh(1.0), 0.0]), atol=1e-6)
    assert torch.allclose(found[0, :, 16, 25], torch.tensor([0.0, -math.tanh(1.0)]), atol=1e-6)
    turn = math.radians(30)
    rotation = torch.tensor([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    moved = (points - torch.tensor([25.0, 26.0])) @ rotation * 2 + torch.tensor([40.0, 31.0])
    other = face_coordinates(moved, 64)
    for x, y in ((5.0, 3.0), (-8.0, 2.0), (0.0, -7.0)):
        place = torch.tensor([x, y]) @ rotation * 2 + torch.tensor([40.0, 31.0])
        grid = ((place / 63) * 2 - 1).reshape(1, 1, 1, 2)
        sampled = functional.grid_sample(other.atanh(), grid, align_corners=True).reshape(2)
        assert torch.allclose(sampled, torch.tensor([x, y]) / 10, atol=1e-4)


def test_eyes_at_one_place_are_refused() -> None:
    with pytest.raises(FaceFailed, match="two eyes apart from each other"):
        face_coordinates(torch.zeros(1, 5, 2), 16)


def test_likeness_is_one_for_own_photos_and_zero_for_strangers() -> None:
    # Three people with two, three and two photos; each value worked out by a loop over pairs.
    identity = torch.tensor([0, 1, 0, 2, 1, 2, 1])
    features = functional.normalize(torch.randn(7, 5, generator=seeded(), dtype=torch.float64), dim=1).float()
    pairs = [(i, j) for i in range(7) for j in range(7) if i != j]
    cosine = {(i, j): float(features[i] @ features[j]) for i, j in pairs}
    same = [cosine[p] for p in pairs if identity[p[0]] == identity[p[1]]]
    different = [cosine[p] for p in pairs if identity[p[0]] != identity[p[1]]]
    zero, one = sum(different) / len(different), sum(same) / len(same)
    shown = functional.normalize(torch.randn(2, 5, generator=seeded(1)), dim=1)
    found = Scale(features, identity).likeness(shown, torch.tensor([4, 3]))
    mean = torch.stack([(shown[0] @ features[1] + shown[0] @ features[6]) / 2, shown[1] @ features[5]])
    assert torch.allclose(found, (mean - zero) / (one - zero), atol=1e-5)


@pytest.mark.parametrize("identity", [(0, 0, 0), (0, 0, 1)])
def test_somebody_with_one_photo_is_refused(identity: tuple[int, ...]) -> None:
    features = functional.normalize(torch.randn(3, 5, generator=seeded()), dim=1)
    with pytest.raises(ProtectorError, match="at least two photos each, and from two people at least"):
        Scale(features, torch.tensor(identity))


def test_change_is_bounded_by_the_budget_at_any_weight(heads: Faces) -> None:
    network = UNet(INPUTS, 3, 4, seed=0)
    last = network.up[-1]
    assert isinstance(last, nn.ConvTranspose2d)
    with torch.no_grad():
        last.weight.mul_(1e3)
    found = perturbation(network, heads.images, heads.points5, levels=7)
    assert float(found.detach().abs().max()) == pytest.approx(7 / 255, rel=1e-6)


@pytest.mark.parametrize("side", [41, 200])
def test_photos_of_other_sizes_get_the_same_change_resized(
    heads: Faces, monkeypatch: pytest.MonkeyPatch, side: int
) -> None:
    protector = untrained(monkeypatch)
    images = functional.interpolate(heads.images[:1], (side, side), mode="bilinear", antialias=True)
    points = (heads.points5[:1] + 0.5) * side / 112 - 0.5
    # Away from black and white, where nothing is cut off.
    images = 0.2 + 0.6 * images
    change = protected(protector, images, points) - images
    small = functional.interpolate(images, (112, 112), mode="bilinear", antialias=True)
    expected = perturbation(protector.network(small.device), small, heads.points5[:1], 8)
    expected = functional.interpolate(expected, (side, side), mode="bilinear", antialias=True)
    assert float(expected.abs().max()) > 2 / 255
    assert torch.allclose(change, expected, atol=0.5 / 255 + 1e-5)


def test_gradients_pass_through_the_network(heads: Faces) -> None:
    # The network's share, by central differences along a random direction, in float64 and without rounding.
    network = UNet(INPUTS, 3, 4, seed=5).to(torch.float64)
    images = (0.2 + 0.6 * heads.images[:1]).double()
    points, direction = heads.points5[:1].double(), torch.randn(images.shape, generator=seeded(), dtype=torch.float64)
    weight = torch.randn(images.shape, generator=seeded(1), dtype=torch.float64)

    def value(at: Tensor) -> Tensor:
        return (perturbation(network, at, points, 8) * weight).sum()

    moved = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(moved), moved)
    step = 1e-7
    with torch.no_grad():
        slope = (value(images + step * direction) - value(images - step * direction)) / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(float(slope), rel=1e-4)


def test_training_is_done_once_and_makes_its_people_unlike_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = feed_forward.train

    def counted(*arguments: object) -> Weights:
        calls.append(arguments)
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(feed_forward, "train", counted)
    settings = {"steps": 30, "width": 8, "rate": 1e-2, "ssim": 0.8, "batch": 4, "margin": -1.0}
    shown = auxiliary_faces("synthetic", people=2, captures=2)
    protector = tiny(**settings)
    assert calls == []
    state = torch.random.get_rng_state()
    first = protected(protector, shown.images, shown.points5, seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first, protected(tiny(**settings), shown.images, shown.points5, seed=2))
    assert len(calls) == 1
    # Random signs of the same budget are the control. A looser margin asks for all that the similarity allows.
    resnet = load_recogniser("dlib-resnet")
    signs = torch.randint(0, 2, shown.images.shape, generator=seeded()) * 2 - 1
    control = (shown.images + signs * 8 / 255).clamp(0, 1)
    scale = Scale(resnet.embed(shown.images, shown.points5), shown.identity)
    trained, random = (
        scale.likeness(resnet.embed(images, shown.points5), torch.arange(4)) for images in (first, control)
    )
    assert bool((trained < 0.5).all())
    assert bool((random > 0.7).all())
    assert float(ssim(shown.images, first).mean()) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"steps": 0}, "feed-forward takes steps >= 1, got 0"),
        ({"eot": 65}, r"feed-forward takes eot from 0 \(none\) to 64 views a step, got 65"),
        ({"ssim": 1.0}, "feed-forward takes ssim between 0 and 1, got 1"),
        ({"margin": 1.0}, "feed-forward takes margin from -2 to 1, the likeness of a person, got 1"),
        ({"rate": 1.0}, "feed-forward takes a rate between 0 and 1, got 1"),
        ({"captures": 1}, "feed-forward takes captures >= 2, got 1"),
        ({"width": 0}, "feed-forward takes width >= 1, got 0"),
        ({"surrogates": "faceres"}, "faceres is kept for judging"),
        ({"budget": "0.001"}, "less than one level"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, float | str], words: str) -> None:
    with pytest.raises(ProtectorError, match=words):
        tiny(**settings)
