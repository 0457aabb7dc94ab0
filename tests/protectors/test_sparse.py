"""Sparse perturbations: how many pixels, which, and that both searches find what is there to be found."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from faces.samples import five_points
from faces.synthetic import generate
from protectors.canvas import Canvas
from protectors.descent import Climb
from protectors.errors import ProtectorError
from protectors.sparse import Sparse, evolved, grown, speckled


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def points(count: int) -> Tensor:
    return (torch.tensor(((0.37, 0.41), (0.63, 0.41), (0.5, 0.56), (0.39, 0.7), (0.61, 0.7))) * 112).expand(count, 5, 2)


@pytest.fixture(scope="module")
def heads(sface_weights: Path) -> tuple[Tensor, Tensor]:
    """Photos and five points of two people."""
    faces = generate(2, 1, size=112, seed=3, first_identity=40_000_000)
    return faces.images.float() / 255, five_points(faces.landmarks).float()


def protected(protector: Sparse, images: Tensor, points5: Tensor) -> Tensor:
    return protector.protect(images, points5, torch.zeros(len(images), dtype=torch.int64), seeded())


def changed(before: Tensor, after: Tensor) -> list[int]:
    return (before != after).any(1).flatten(1).sum(1).tolist()


# Evolution


def test_evolution_finds_the_optimum_of_each_problem() -> None:
    wanted = torch.rand(3, 1, 5, generator=seeded(1))
    found = evolved(lambda given: -(given - wanted).square().sum(-1), 3, 40, 5, 100, seeded())
    torch.testing.assert_close(found, wanted[:, 0], atol=0.01, rtol=0)


def test_evolution_keeps_to_the_cube_and_never_gets_worse() -> None:
    scores = []

    def outside(given: Tensor) -> Tensor:
        assert float(given.min()) >= 0 and float(given.max()) <= 1
        return given.sum(-1)

    for generations in (0, 5, 60):
        scores.append(float(evolved(outside, 1, 20, 3, generations, seeded()).sum()))
    assert scores == sorted(scores)
    assert scores[-1] > scores[0] + 0.3


def test_speckles_are_the_pixels_and_colours_named() -> None:
    images = torch.rand(2, 3, 8, 8, generator=seeded())
    canvas = Canvas(images, points(2))
    found = torch.tensor([[[0.0, 0.999, 1, 0.25, 0]], [[0.5, 0.26, 0.1, 0.2, 0.3]]])
    result = images + speckled(canvas, found)
    expected = images.clone()
    expected[0, :, 0, 7] = torch.tensor([1, 0.25, 0])
    expected[1, :, 4, 2] = torch.tensor([0.1, 0.2, 0.3])
    torch.testing.assert_close(result, expected)


def test_speckles_keep_a_budget() -> None:
    canvas = Canvas(torch.full((1, 3, 8, 8), 0.5), points(1), levels=10)
    # The photo is grey, so its speckles are.
    found = speckled(canvas, torch.tensor([[[0.5, 0.5, 1.0, 1, 1], [0.1, 0.1, 0, 0, 0], [0.9, 0.9, 1, 0, 0.5]]]))
    assert found[0, :, 4, 4].tolist() == pytest.approx([10 / 255] * 3)
    assert found[0, :, 0, 0].tolist() == pytest.approx([-10 / 255] * 3)
    assert found[0, :, 7, 7].tolist() == pytest.approx([0] * 3, abs=1e-7)


# Gradients


def test_growth_solves_a_linear_problem_exactly() -> None:
    images = torch.rand(2, 3, 9, 9, generator=seeded()) * 0.8 + 0.1
    weight = torch.randn(2, 3, 9, 9, generator=seeded(1))
    canvas = Canvas(images, points(2))
    climb = Climb(canvas, points(2), lambda photos, _: (photos * weight).sum((1, 2, 3)), seeded())
    found = grown(canvas, climb, 7, 20, seeded())
    # The best k pixels are those whose best colours gain most; each value goes to the end that its weight points to.
    corner = (weight > 0).float() - images
    gain = (weight * corner).sum(1).flatten(1)
    best = torch.zeros(2, 81, dtype=torch.bool).scatter(1, gain.topk(7).indices, True).view(2, 1, 9, 9)
    torch.testing.assert_close(found, corner * best)


def test_growth_refines_a_colour_inside_the_range() -> None:
    images = torch.zeros(1, 3, 6, 6)
    images[0, 0] = 0.01  # not grey
    wanted = torch.tensor([0.3, 0.6, 0.9])
    canvas = Canvas(images, points(1))

    def near(photos: Tensor, _: Tensor) -> Tensor:
        return -(photos[:, :, 2, 3] - wanted).square().sum(1)

    found = images + grown(canvas, Climb(canvas, points(1), near, seeded()), 1, 60, seeded())
    torch.testing.assert_close(found[0, :, 2, 3], wanted, atol=0.06, rtol=0)


# The protector


@pytest.mark.parametrize("pixels", [1, 64])
def test_exactly_so_many_pixels_are_changed(heads: tuple[Tensor, Tensor], pixels: int) -> None:
    images, points5 = heads
    assert (
        changed(images, protected(Sparse(pixels=pixels, search="gradient", steps=2), images, points5)) == [pixels] * 2
    )


def test_evolution_changes_no_more_pixels_than_it_may(heads: tuple[Tensor, Tensor]) -> None:
    images, points5 = heads
    found = changed(images, protected(Sparse(pixels=3, search="evolution", steps=1, population=4), images, points5))
    assert all(1 <= count <= 3 for count in found)


def test_more_pixels_take_a_photo_further_away(heads: tuple[Tensor, Tensor]) -> None:
    images, points5 = heads
    cosines = []
    for pixels in (1, 64):
        protector = Sparse(pixels=pixels, search="gradient", steps=8)
        (own,), (now,) = (
            protector._surrogates.embed(photos, points5) for photos in (images, protected(protector, images, points5))
        )
        cosines.append((own * now).sum(1))
    assert bool((cosines[0] < 0.9995).all())
    assert bool((cosines[1] < cosines[0] - 0.1).all())
    # Chance does much less: as many pixels of random colours at random places of the face.
    canvas = Canvas(images, points5, region="face")
    random = canvas.add(speckled(canvas, torch.rand(2, 64, 5, generator=seeded())))
    (noisy,) = protector._surrogates.embed(random, points5)
    assert bool((cosines[1] < (own * noisy).sum(1) - 0.1).all())


def test_photos_of_a_batch_do_not_influence_each_other(heads: tuple[Tensor, Tensor]) -> None:
    images, points5 = heads
    for search in ("gradient", "evolution"):
        protector = Sparse(pixels=3, search=search, steps=1, population=4, region="photo")
        first = protected(protector, images, points5)[:1]
        other = protected(protector, torch.stack((images[0], torch.zeros_like(images[0]))), points5)[:1]
        assert torch.equal(first, other)


def test_search_and_steps_are_chosen_by_the_number_of_pixels() -> None:
    chosen = {pixels: dict(Sparse(pixels=pixels).declaration.settings) for pixels in (1, 64)}
    assert (chosen[1]["search"], chosen[1]["steps"]) == ("evolution", "20")
    assert (chosen[64]["search"], chosen[64]["steps"]) == ("gradient", "48")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"pixels": 0}, "takes pixels >= 1, got 0"),
        ({"search": "luck"}, "searches by gradient or evolution, got search=luck"),
        ({"steps": 0}, "takes steps >= 1, got 0"),
        ({"population": 3}, "takes a population >= 4"),
        ({"region": "nose"}, "region = nose must be one of photo, face"),
        ({"budget": "lots"}, "budget = lots must be native"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, int | str], words: str) -> None:
    with pytest.raises(ProtectorError, match=words):
        Sparse(**settings)  # type: ignore[arg-type]
