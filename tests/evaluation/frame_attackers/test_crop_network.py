"""Crops fitted to the opening of a camera, the second task of the network on them, and averages of exposures."""

from __future__ import annotations

import math

import pytest
import torch

from evaluation import rank_k, score_matrix
from evaluation.frame_attackers.crop_network import CropNetwork, auxiliary_loss
from evaluation.frame_attackers.encoded import EncodedFaces, fitted_crop, placement
from evaluation.frame_attackers.recognisers import LinearDiscriminant
from faces.alignment import template

SIDE = 64
# A face whose standard crop is 51 scene pixels wide, as the synthetic heads stand in their window.
POINTS = template(51) + 6


def faces(
    pixels: int, opening: float, channels: int = 1, count: int = 8, noise: float = 0.0, seed: int = 0
) -> EncodedFaces:
    generator = torch.Generator().manual_seed(seed)
    own = torch.randn(count, 1, 4, 4, generator=generator).repeat_interleave(4, 0)
    wide = torch.nn.functional.interpolate(own, size=(pixels, pixels), mode="bicubic")
    signal = (0.5 + 0.2 * wide).expand(-1, channels, -1, -1)

    def read(exposed: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
        return exposed + noise * torch.randn(exposed.shape, generator=draws)

    identity, capture = torch.arange(count).repeat_interleave(4) + 100 * seed, torch.arange(4).repeat(count)
    points5 = POINTS.expand(4 * count, 5, 2)
    return EncodedFaces(signal, identity, capture, points5, SIDE, read, opening=opening)


def rank1(rows: torch.Tensor, shown: EncodedFaces) -> float:
    enrolled, people = shown.capture < 2, shown.identity
    return rank_k(score_matrix(rows[enrolled], people[enrolled], rows[~enrolled], people[~enrolled]), 1)


# Crops


@pytest.mark.parametrize(
    ("pixels", "opening", "size", "scale"),
    [
        # 1.1 x .59 of 64 scene pixels are 41.5: the face is 51 / 41.5 larger, and 20.8 pixels take 28 samples.
        (32, 0.59, 28, 51 / (1.1 * 0.59 * 64)),
        # Without a stop the whole window is shown; 16 pixels take about 21.6 samples.
        (16, 1.0, 20, 51 / 64),
        # Few pixels behind a stop are not cut finer than twenty samples, many not finer than 32.
        (8, 0.59, 20, 51 / (1.1 * 0.59 * 64)),
        (64, 1.0, 32, 51 / 64),
    ],
)
def test_a_crop_shows_the_opening_about_as_finely_as_its_pixels(
    pixels: int, opening: float, size: int, scale: float
) -> None:
    crop = fitted_crop(faces(pixels, opening))
    assert crop.size == size
    assert crop.face_scale == pytest.approx(scale, rel=1e-3)


def test_a_crop_in_colour_is_coarser_since_closed_forms_take_the_cube_of_its_samples() -> None:
    assert fitted_crop(faces(64, 1.0, channels=3)).size == 24


def test_the_placement_tells_where_the_crop_lies_and_nothing_of_the_points_within() -> None:
    base = POINTS.expand(1, 5, 2)
    here = placement(base, SIDE)[0]
    # The middle of the standard crop is 6 + 25 scene pixels from the edge.
    torch.testing.assert_close(here[:2], torch.full((2,), 31.0 / SIDE - 0.5), atol=1e-4, rtol=0)
    assert float(here[2]) == pytest.approx(math.log(112 / 51), abs=1e-4)
    assert float(here[3]) == pytest.approx(0.0, abs=1e-6)
    moved = placement(base + torch.tensor([6.4, 0.0]), SIDE)[0]
    torch.testing.assert_close(moved - here, torch.tensor([0.1, 0.0, 0.0, 0.0]), atol=1e-4, rtol=0)


# The second task


def test_targets_that_are_not_known_cost_nothing() -> None:
    predicted = torch.tensor([[1.0, 5.0], [3.0, 2.0]])
    target = torch.tensor([[0.0, math.nan], [math.nan, 0.0]])
    assert float(auxiliary_loss(predicted, target)) == pytest.approx((1 + 4) / 2)
    assert float(auxiliary_loss(predicted, torch.full((2, 2), math.nan))) == 0.0


def test_the_second_task_reaches_the_network_and_its_gradient_is_finite() -> None:
    train = faces(16, 1.0)
    known = torch.randn(8, 3, generator=torch.Generator().manual_seed(1)).repeat_interleave(4, 0)
    known[:4] = math.nan
    rows = []
    for auxiliary in (None, known):
        attacker = CropNetwork(seed=0, steps=3, batch=8)
        attacker.fit(EncodedFaces(**{**vars(train), "auxiliary": auxiliary}))
        rows.append(attacker.embed(train, 1))
    assert bool(torch.isfinite(rows[1]).all())
    assert not torch.allclose(rows[0], rows[1], atol=1e-3)


# Exposures


@pytest.mark.parametrize("attacker", [CropNetwork(seed=0, steps=25, batch=32), LinearDiscriminant(seed=0)])
def test_exposures_of_a_still_face_name_more_people_than_one(attacker: CropNetwork | LinearDiscriminant) -> None:
    attacker.fit(faces(16, 1.0, count=40, noise=0.3))
    shown = faces(16, 1.0, count=30, noise=1.0, seed=1)
    one, several = rank1(attacker.embed(shown, 3), shown), rank1(attacker.embed_exposures(shown, 3, 12), shown)
    assert several > one + 0.15
