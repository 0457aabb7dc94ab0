"""Fawkes: dissimilarity, schedules, tables, targets, budgets, and what a real recogniser makes of the cloaks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from faces.errors import FaceFailed
from faces.samples import five_points
from faces.synthetic import generate
from protectors.auxiliary import Faces
from protectors.errors import ProtectorError
from protectors.fawkes import STRETCH, Fawkes, nearest_distances, scheduled
from protectors.similarity import dssim


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def unit(values: Tensor) -> Tensor:
    return values / torch.linalg.vector_norm(values, dim=-1, keepdim=True)


@pytest.fixture(scope="module")
def heads(dlib_resnet_weights: Path) -> tuple[Tensor, Tensor]:
    """Photos and five points of two people."""
    faces = generate(2, 1, size=112, seed=3, first_identity=40_000_000)
    return faces.images.float() / 255, five_points(faces.landmarks).float()


def toy(**settings: float | str) -> Fawkes:
    protector = Fawkes(people=2, **settings)  # type: ignore[arg-type]
    protector._surrogates = Linear()  # type: ignore[assignment]
    return protector


def small_photos() -> tuple[Tensor, Tensor]:
    """Two photos of 24 pixels, in whole levels, and their points."""
    images = (torch.rand(2, 3, 24, 24, generator=seeded(2)) * 255).round() / 255
    points5 = torch.tensor(((9.0, 9.0), (15.0, 9.0), (12.0, 12.0), (9.5, 16.0), (14.5, 16.0)))
    return images, points5.expand(2, 5, 2)


def protected(protector: Fawkes, images: Tensor, points5: Tensor, seed: int = 0) -> Tensor:
    return protector.protect(images, points5, torch.arange(len(images)), seeded(seed))


def measured(first: Tensor, second: Tensor) -> list[float]:
    """DSSIM by another implementation, (N,)."""
    pairs = zip(*(photos.permute(0, 2, 3, 1).double().numpy() for photos in (first, second)), strict=True)
    return [
        (1 - structural_similarity(
            one, two, channel_axis=2, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )) / 2
        for one, two in pairs
    ]  # fmt: skip


# Dissimilarity


@pytest.mark.parametrize("size", [(11, 11), (23, 40)])
def test_dissimilarity_is_that_of_another_implementation(size: tuple[int, int]) -> None:
    first = torch.rand(3, 3, *size, generator=seeded(), dtype=torch.float64)
    second = (first + 0.1 * torch.randn(first.shape, generator=seeded(1))).clamp(0, 1)
    assert dssim(first, second, gaussian=True).tolist() == pytest.approx(measured(first, second), rel=1e-9)


def test_dissimilarity_has_the_gradient_of_its_values() -> None:
    first, second = (torch.rand(1, 1, 11, 12, generator=seeded(seed), dtype=torch.float64) for seed in (0, 1))
    assert torch.autograd.gradcheck(lambda given: dssim(first, given, gaussian=True), second.requires_grad_())


# Schedule


def test_schedule_by_hand() -> None:
    weight, outside = torch.ones(1), torch.ones(1)
    seen = []
    for share in (0, 0.5, 0.9, 1.2, 1.1, 1.0, 0.95, 0.3, 3, 3, 0.1, 0.1):
        weight, outside = scheduled(weight, outside, torch.tensor([share]))
        seen.append((float(weight), float(outside)))
    assert seen == [
        (2, 1), (4, 1), (8, 1),  # far below: doubled
        (1, -1), (0.5, -1),  # above: back to 1, then halved
        (1, 0), (1, 0),  # near
        (2, 1),  # from near to below is no change of direction
        (1, -1), (0.5, -1),
        (1, 1), (2, 1),
    ]  # fmt: skip


def test_schedule_is_that_of_each_photo_and_has_ends() -> None:
    weight, outside = torch.tensor([1.0, 1.0]), torch.tensor([1.0, -1.0])
    seen = []
    for _ in range(9):
        weight, outside = scheduled(weight, outside, torch.tensor([0.2, 2.0]))
        seen.append(weight.tolist())
    assert seen[7] == [256, 1 / 256]
    assert seen[8] == [1, 1]


def test_rate_falls_after_each_third(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = []
    step: Callable[..., object] = torch.optim.Adadelta.step

    def recorded(self: torch.optim.Adadelta) -> None:
        rates.append(self.param_groups[0]["lr"])
        step(self)

    monkeypatch.setattr(torch.optim.Adadelta, "step", recorded)
    protected(toy(preset="released-0.3", steps=9), *small_photos())
    assert rates == pytest.approx([35] * 4 + [28] * 3 + [22.4] * 2)


def test_tables_are_those_of_the_releases() -> None:
    def row(preset: str, mode: str) -> tuple[float, ...]:
        made = dict(Fawkes(preset=preset, mode=mode, people=2).declaration.settings)
        return float(made["dssim"]), int(made["steps"]), float(made["rate"]), made["surrogates"].count("+")

    assert [row("released", mode) for mode in ("low", "mid", "high")] == [
        (0.004, 40, 25, 0), (0.012, 75, 20, 1), (0.017, 150, 15, 1),
    ]  # fmt: skip
    assert [row("released-0.3", mode) for mode in ("min", "low", "mid", "high", "ultra")] == [
        (0.002, 20, 40, 0), (0.003, 50, 35, 0), (0.005, 200, 20, 0), (0.008, 500, 10, 0), (0.01, 1000, 8, 0),
    ]  # fmt: skip


# Targets


class Linear:
    """A recogniser of toys: unit vectors of a linear map of 8 x 8 pixels."""

    def embed(self, images: Tensor, points5: Tensor) -> tuple[Tensor, ...]:
        small = torch.nn.functional.adaptive_avg_pool2d(images, 8).flatten(1)
        return (unit(small @ torch.randn(192, 6, generator=seeded(9))),)


class Table:
    """A recogniser of toys: each photo shows the number of a row of embeddings."""

    def __init__(self, *rows: Tensor) -> None:
        self._rows = rows

    def embed(self, images: Tensor, points5: Tensor) -> tuple[Tensor, ...]:
        return tuple(rows[images[:, 0, 0, 0].long()] for rows in self._rows)


def with_table(preset: str, own: list[Tensor], others: list[Tensor], whose: list[int]) -> Fawkes:
    """A protector that knows these embeddings of other people."""
    protector = Fawkes(preset=preset, people=2)
    numbers = torch.arange(float(len(whose)))[:, None, None, None].expand(-1, 3, 1, 1)
    protector._others = Faces(numbers, torch.zeros(len(whose), 5, 2), torch.tensor(whose), "")
    protector._surrogates = Table(*others)  # type: ignore[assignment]
    return protector


def drawn(count: int, seed: int) -> list[Tensor]:
    return [unit(torch.randn(count, size, generator=seeded(seed + size))) for size in (4, 6)]


def test_distances_are_those_to_the_nearest_photo() -> None:
    own, centres, people = drawn(5, 0), drawn(3, 100), torch.tensor([1, 0, 1, 2, 0])
    found = nearest_distances(own, people, centres)
    for user in range(3):
        for other in range(3):
            apart = [
                sum(float(np.linalg.norm(a[photo] - b[other])) for a, b in zip(own, centres, strict=True))
                for photo in range(5) if int(people[photo]) == user
            ]  # fmt: skip
            assert float(found[user, other]) == pytest.approx(min(apart), rel=1e-5)


def test_paper_leads_all_photos_of_a_person_to_one_photo_of_the_furthest() -> None:
    own, others, whose = drawn(5, 0), drawn(6, 100), [7, 7, 3, 3, 9, 9]
    identity = torch.tensor([40, -2, 40, -2, 40])
    goals = with_table("paper", own, others, whose)._goals(own, identity, seeded())
    centres = [[rows[[i for i in range(6) if whose[i] == who]].mean(0) for who in (3, 7, 9)] for rows in others]
    for person in (40, -2):
        photos = [i for i in range(5) if int(identity[i]) == person]
        nearest = [
            min(sum(float(torch.dist(own[r][i], centres[r][k])) for r in range(2)) for i in photos) for k in range(3)
        ]
        far = int(np.argmax(nearest))
        rows = [i for i in range(6) if whose[i] == (3, 7, 9)[far]]
        shown = min(rows, key=lambda i: sum(float(torch.dist(others[r][i], centres[r][far])) for r in range(2)))
        for photo in photos:
            for r in range(2):
                torch.testing.assert_close(goals[r][photo], others[r][shown])


def test_version_0_3_moves_by_twice_the_difference_of_means() -> None:
    own, others, whose = drawn(4, 0), drawn(4, 100), [0, 0, 1, 1]
    identity = torch.tensor([5, 5, 5, 5])
    seen = set()
    for seed in range(8):
        goals = with_table("released-0.3", own, others, whose)._goals(own, identity, seeded(seed))
        fits = []
        for person in (0, 1):
            mean = [
                rows[2 * person : 2 * person + 2].mean(0) - now.mean(0) for rows, now in zip(others, own, strict=True)
            ]
            fits.append(
                all(torch.allclose(g, o + STRETCH * m, atol=1e-6) for g, o, m in zip(goals, own, mean, strict=True))
            )
        assert fits.count(True) == 1
        seen.add(fits.index(True))
    assert seen == {0, 1}


# The protector


@pytest.mark.parametrize(
    ("settings", "kept", "levels"),
    [
        ({"preset": "released"}, 0.0044, 15),
        ({"preset": "released", "budget": "uniform"}, 0.0044, 7),
        ({"preset": "released-0.3", "eot": 1}, 0.0033, 255),
        ({"preset": "paper"}, 0.007, 255),
    ],
)
def test_budgets_are_kept(settings: dict[str, int | str], kept: float, levels: int) -> None:
    images, points5 = small_photos()
    after = protected(toy(steps=20, **settings), images, points5)
    assert all(0 < value <= kept for value in measured(images, after))
    assert 0 < float(((after - images) * 255).abs().max()) < levels + 0.5


def test_released_leads_away_and_paper_to_its_target(heads: tuple[Tensor, Tensor]) -> None:
    images, points5 = heads
    noisy = (images + 2 / 255 * torch.randn(images.shape, generator=seeded())).clamp(0, 1)
    assert min(measured(images, noisy)) > 0.007
    for preset in ("released", "paper"):
        protector = Fawkes(preset=preset, people=3, steps=12, surrogates="dlib-resnet")
        after = protected(protector, images, points5)
        (own,), (now,), (beside,) = (protector._surrogates.embed(photos, points5) for photos in (images, after, noisy))
        # Noise with a larger dissimilarity leads less far.
        assert bool(((own * now).sum(1) < (own * beside).sum(1) - 0.002).all())
        if preset == "paper":
            (goals,) = protector._goals((own,), torch.arange(2), seeded())
            assert bool(((goals * now).sum(1) > (goals * own).sum(1) + 0.01).all())


def test_region_bounds_the_change_and_what_is_compared() -> None:
    images, points5 = small_photos()
    wide = torch.nn.functional.pad(images, (30, 0, 30, 0), value=0.6)
    after = protected(toy(preset="paper", steps=10, region="face"), wide, points5 + 30)
    # The square around the face is three eye distances wide.
    assert ((after - wide).abs().amax((0, 1)) > 1e-6).nonzero().amin(0).tolist() >= [33, 33]
    assert all(value <= 0.007 for value in measured(wide[..., 33:51, 33:51], after[..., 33:51, 33:51]))


def test_a_call_is_worked_on_in_parts_without_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    protector, photos = toy(preset="paper", steps=5), small_photos()
    whole = protected(protector, *photos)
    monkeypatch.setattr("protectors.fawkes.PART", 1)
    assert float((whole == protected(protector, *photos)).float().mean()) > 0.98


def test_photos_that_cannot_keep_the_budget_are_not_passed_off_as_protected() -> None:
    with pytest.raises(FaceFailed, match=r"^face 1 .*no change of this face that keeps dssim = 1e-09 in 3 steps; choo"):
        protected(toy(dssim=1e-9, steps=3), *small_photos())
    # One step sees only the start, which is no change in whole levels.
    with pytest.raises(FaceFailed, match=r"no change of this face that keeps dssim = 0\.004 in 1 steps"):
        protected(toy(steps=1), *small_photos())


def test_small_photos_are_refused() -> None:
    images, points5 = small_photos()
    with pytest.raises(ProtectorError, match="compares windows of 11 pixels, and photo is 10 pixels wide"):
        protected(toy(), images[..., :10, :10], points5)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"preset": "best"}, "takes preset = released, paper, released-0.3, got best"),
        ({"mode": "ultra"}, "preset released, takes mode = low, mid, high, got ultra"),
        ({"preset": "paper", "mode": "low"}, "preset paper, takes mode = standard, got low"),
        ({"dssim": 0.5}, r"takes dssim between 0 and \.5, got 0\.5"),
        ({"steps": 0}, "takes steps >= 1, got 0"),
        ({"rate": 0.0}, "takes rate > 0, got 0"),
        ({"people": 0}, "needs people >= 1 to choose a target among, got 0"),
        ({"region": "nose"}, "region = nose must be one of photo, face"),
        ({"budget": "lots"}, "budget = lots must be native"),
        ({"surrogates": "faceres"}, "faceres is kept for judging"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, int | float | str], words: str) -> None:
    with pytest.raises(ProtectorError, match=words):
        Fawkes(**settings)  # type: ignore[arg-type]
