"""Our cloak of one photo, and the similarity that bounds it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from faces.errors import FaceFailed
from faces.samples import five_points
from faces.synthetic import generate
from protectors.errors import ProtectorError
from protectors.photo_cloak import PhotoCloak
from protectors.similarity import dssim, ssim
from protectors.surrogates import Surrogates


@pytest.fixture(scope="module")
def heads(sface_weights: Path) -> tuple[Tensor, Tensor, Tensor]:
    faces = generate(3, 1, size=64, seed=5, first_identity=900)
    return faces.images.float() / 255, five_points(faces.landmarks).float(), faces.identity


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_similarity_is_that_of_scikit_image() -> None:
    first = torch.rand(3, 3, 31, 31, generator=seeded(0), dtype=torch.float64)
    second = (first + 0.2 * torch.randn(first.shape, generator=seeded(1), dtype=torch.float64)).clamp(0, 1)
    expected = [
        structural_similarity(a.numpy(), b.numpy(), channel_axis=0, data_range=1.0)
        for a, b in zip(first, second, strict=True)
    ]
    assert ssim(first, second).tolist() == pytest.approx(expected, abs=1e-12)
    assert dssim(first, second).tolist() == pytest.approx([(1 - value) / 2 for value in expected], abs=1e-12)


def test_similarity_has_the_slope_of_its_values() -> None:
    first = torch.rand(1, 1, 9, 9, generator=seeded(2), dtype=torch.float64)
    second = torch.rand(1, 1, 9, 9, generator=seeded(3), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: ssim(first, x), second)


@pytest.mark.parametrize("region", ["photo", "face"])
def test_cloak_leads_away_and_keeps_the_similarity(heads: tuple[Tensor, Tensor, Tensor], region: str) -> None:
    images, points5, identity = heads
    cloak = PhotoCloak(surrogates="sface", steps=6, eot=0, ssim=0.93, region=region)
    result = cloak.protect(images, points5, identity, seeded(0))
    # The face is a part of the photo: outside it nothing changed.
    assert float(ssim(images, result, gaussian=True).min()) >= 0.93
    recogniser = Surrogates("sface")
    cosines = (recogniser.embed(images, points5)[0] * recogniser.embed(result, points5)[0]).sum(1)
    noise = images + 0.03 * torch.randn(images.shape, generator=seeded(1))
    beside = (recogniser.embed(images, points5)[0] * recogniser.embed(noise.clamp(0, 1), points5)[0]).sum(1)
    assert float(ssim(images, noise.clamp(0, 1), gaussian=True).max()) < 0.93
    assert bool((cosines < beside - 0.3).all())


def test_budget_holds_beside_the_similarity(heads: tuple[Tensor, Tensor, Tensor]) -> None:
    images, points5, identity = heads
    cloak = PhotoCloak(surrogates="sface", steps=3, eot=1, budget="uniform")
    changed = (cloak.protect(images, points5, identity, seeded(0)) - images) * 255
    assert int(changed.round().abs().max()) <= 7


def test_similarity_out_of_reach_is_the_failure_of_one_face(heads: tuple[Tensor, Tensor, Tensor]) -> None:
    images, points5, identity = heads
    # The single step sees random noise of one level: SSIM .995 on heads, .982 where nothing hides it.
    images = images.clone()
    images[1] = torch.tensor((0.6, 0.5, 0.4))[:, None, None]
    cloak = PhotoCloak(surrogates="sface", steps=1, eot=0, ssim=0.99)
    with pytest.raises(FaceFailed) as caught:
        cloak.protect(images, points5, identity, seeded(0))
    assert caught.value.index == 1
    assert caught.value.reason == (
        "photo-cloak found no change of this face that keeps ssim = 0.99 in 1 steps; lower ssim, or raise steps."
    )
    others = [0, 2]
    result = cloak.protect(images[others], points5[others], identity[others], seeded(0))
    assert float(ssim(images[others], result, gaussian=True).min()) >= 0.99


def test_change_that_a_file_cannot_hold_is_no_protection(heads: tuple[Tensor, Tensor, Tensor]) -> None:
    # The similarity leaves no room for a single level, so whatever keeps it is the photo itself.
    with pytest.raises(FaceFailed, match=r"^face 1 of the batch: photo-cloak found no change of this face"):
        PhotoCloak(surrogates="sface", steps=40, eot=0, ssim=0.9999999, rate=1e-4).protect(*heads, seeded(0))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ssim": 1.0}, r"ssim between 0 and 1, got 1"),
        ({"rate": 0.0}, r"rate from 0 to \.5 \(values are 0\.\.1\), got 0"),
        ({"steps": 0}, r"steps >= 1, got 0"),
        ({"eot": 65}, r"eot from 0 \(none\) to 64 views a step, got 65"),
        ({"region": "nose"}, r"region = nose must be one of photo, face"),
        ({"surrogates": "faceres"}, r"faceres is kept for judging"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ProtectorError, match=words):
        PhotoCloak(**settings)
