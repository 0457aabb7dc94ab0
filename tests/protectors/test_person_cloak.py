"""The cloak of a person: on the face, at a known similarity, against unseen and against protected photos."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from evaluation.measures.quality import ssim
from faces.alignment import align
from faces.families import load_recogniser
from protectors.auxiliary import Faces, auxiliary_faces
from protectors.errors import ProtectorError
from protectors.person_cloak import PersonCloak, dealt, local_variance, mean_over, strength, worn

pytestmark = pytest.mark.usefixtures("sface_weights")

#: Where the five points lie in the frame of a mask, by hand: eyes .265 of the width apart.
FRAME = ((0.3675, 0.410), (0.6325, 0.410), (0.500, 0.564), (0.392, 0.700), (0.608, 0.700))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Faces:
    """Six photos of a person."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return auxiliary_faces("synthetic", people=1, captures=6, first=29_000_000)


def some(heads: Faces, *rows: int) -> Faces:
    return heads.subset(torch.tensor(rows))


def fitted(protector: PersonCloak, shown: Faces, seed: int = 0) -> PersonCloak:
    protector.fit(shown.images, shown.points5, shown.identity, seeded(seed))
    return protector


def protected(protector: PersonCloak, faces: Faces) -> Tensor:
    return protector.protect(faces.images, faces.points5, faces.identity, seeded(1))


def embedded(images: Tensor, faces: Faces) -> Tensor:
    with torch.no_grad():
        return load_recogniser("sface").embed(images, faces.points5)


@pytest.fixture(scope="module")
def cloaks(heads: Faces) -> dict[float, PersonCloak]:
    """Made of the first four photos of one person, without and with regard to protected photos."""
    shown = some(heads, 0, 1, 2, 3)
    return {
        apart: fitted(PersonCloak(surrogates="sface", steps=8, masks=2, apart=apart), shown) for apart in (0.0, 2.0)
    }


def test_unseen_photos_lose_more_than_noise_of_the_same_similarity_takes(
    heads: Faces, cloaks: dict[float, PersonCloak]
) -> None:
    shown, unseen = some(heads, 0, 1, 2, 3), some(heads, 4, 5)
    clean = embedded(shown.images, shown)
    cloaked = protected(cloaks[0.0], unseen)
    levels = 5.5 / 255
    noisy = (unseen.images + levels * (2 * torch.rand(cloaked.shape, generator=seeded(2)) - 1)).clamp(0, 1)
    # The noise is the more visible of the two.
    assert bool((ssim(noisy, unseen.images) < ssim(cloaked, unseen.images)).all())
    before, noise, cloak = ((embedded(images, unseen) @ clean.T).mean(1) for images in (unseen.images, noisy, cloaked))
    assert bool((before - noise < 0.05).all())
    assert bool((before - cloak > 0.2).all())


def test_protected_photos_are_kept_apart_where_asked(heads: Faces, cloaks: dict[float, PersonCloak]) -> None:
    shown = some(heads, 0, 1, 2, 3, 4, 5)
    off = ~torch.eye(6, dtype=torch.bool)
    alike = {}
    for apart, cloak in cloaks.items():
        features = embedded(protected(cloak, shown), shown)
        alike[apart] = float((features @ features.T)[off].clamp_min(0).square().mean())
    assert alike[2.0] < 0.8 * alike[0.0]


def test_similarity_is_that_asked_for(heads: Faces) -> None:
    # Texture of any contrast and white noise as masks, in the frame of the mask: nothing correlates, all is covered.
    points = (torch.tensor(FRAME) * 112 - 0.5).expand(4, 5, 2)
    contrast = torch.linspace(0, 0.1, 112).expand(4, 3, 112, 112)
    texture = 0.5 + contrast * torch.randn(4, 3, 112, 112, generator=seeded(3))
    masks = torch.randn(4, 3, 112, 112, generator=seeded(4))
    faces = some(heads, 0, 1, 3, 5)
    for aim in (0.9, 0.95, 0.98):
        lost = 1 - ssim(texture + worn(texture, points, masks, aim), texture)
        torch.testing.assert_close(lost.float(), torch.full((4,), 1 - aim), rtol=0.1, atol=0)
        # Where a photo has edges the window of the measure sees more contrast than the box does, and less is lost.
        reached = ssim((faces.images + worn(faces.images, faces.points5, masks, aim)).clamp(0, 1), faces.images)
        assert bool((reached > aim).all())


def test_length_of_a_mask_does_not_count(heads: Faces) -> None:
    faces = some(heads, 0)
    masks = torch.randn(1, 3, 112, 112, generator=seeded(4))
    once, twice = (worn(faces.images, faces.points5, scale * masks, 0.95) for scale in (1.0, 20.0))
    torch.testing.assert_close(once, twice, atol=1e-6, rtol=1e-4)
    assert not bool(worn(faces.images, faces.points5, 0 * masks, 0.95).any())


def test_mask_moves_with_the_face() -> None:
    # On flat photos a smooth mask, brought back by the same points, is itself up to its strength.
    flat = torch.tensor((0.4, 0.5, 0.6))[:, None, None].expand(2, 3, 160, 160)
    points, turn = torch.tensor(FRAME) * 112 - 0.5, 0.3
    turned = torch.tensor(((math.cos(turn), math.sin(turn)), (-math.sin(turn), math.cos(turn))))
    placed = torch.stack((points + 20, 1.2 * (points - points.mean(0)) @ turned + 80))
    coarse = torch.randn(1, 3, 8, 8, generator=seeded(5))
    mask = functional.interpolate(coarse, size=(112, 112), mode="bicubic").expand(2, -1, -1, -1)
    seen = align(worn(flat, placed, mask, 0.95), placed, 112)
    original = align(mask, points.expand(2, 5, 2), 112)
    for found, expected in zip(seen[..., 8:104, 8:104], original[..., 8:104, 8:104], strict=True):
        assert float(functional.cosine_similarity(found.flatten(), expected.flatten(), dim=0)) > 0.99


def test_strength_solves_its_equation() -> None:
    share = (
        torch.rand(3, 2, 5, 5, generator=seeded(6), dtype=torch.float64) ** 8
        * torch.tensor([1e-3, 1.0, 50.0])[:, None, None, None]
    )
    weight = torch.rand(share.shape, generator=seeded(7), dtype=torch.float64)
    for loss in (0.02, 0.05, 0.1):
        found = strength(share, weight, loss)
        lost = found.square() * share / (1 + found.square() * share)
        mean = (weight * lost).sum((1, 2, 3)) / weight.sum((1, 2, 3))
        torch.testing.assert_close(mean, torch.full((3,), loss, dtype=torch.float64), atol=1e-5, rtol=0)
    # By hand: all shares 1, so t^2 / (1 + t^2) = 1 / 5.
    ones = torch.ones(1, 1, 2, 2, dtype=torch.float64)
    torch.testing.assert_close(strength(ones, ones, 0.2).item(), 0.5)


def test_variance_by_hand() -> None:
    image = torch.zeros(1, 1, 7, 7, dtype=torch.float64)
    image[0, 0, 3, 3] = 1
    found = local_variance(image)[0, 0]
    assert found[3, 3].item() == pytest.approx(1 / 25 - 1 / 625)
    # At the corner a box holds 3 x 3 pixels, none of them the bright one's beyond its reach.
    assert found[0, 0].item() == 0
    assert found[1, 1].item() == pytest.approx(1 / 16 - 1 / 256)


def test_photos_are_dealt_evenly_and_anew() -> None:
    people = torch.tensor([0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 1, 2])
    rounds = torch.stack([dealt(people, 3, seeded(seed)) for seed in range(200)])
    for person, photos in ((0, 5), (1, 6), (2, 1)):
        held = functional.one_hot(rounds[:, people == person], 3).sum(1)
        assert int(held.min()) == photos // 3
        assert int(held.max()) == math.ceil(photos / 3)
    # Each photo meets each mask about equally often.
    often = functional.one_hot(rounds, 3).sum(0)
    assert int(often.min()) > 40


def test_means_of_what_counts() -> None:
    values = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    which = torch.tensor([[True, False, True], [False, False, False]])
    torch.testing.assert_close(mean_over(values, which), torch.tensor([2.0, 0.0]))


def test_levels_of_a_photo_choose_its_mask(heads: Faces) -> None:
    shown = some(heads, 0, 1)
    cloak = PersonCloak(surrogates="sface", masks=2)
    masks = functional.normalize(torch.randn(1, 2, 3 * 112 * 112, generator=seeded(8)), dim=2).reshape(
        1, 2, 3, 112, 112
    )
    cloak.enrol({"people": shown.identity[:1], "masks": masks})
    image = shown.images[:1].clone()
    other = image.clone()
    other[0, 0, 56, 56] += 1 / 255 if float(other[0, 0, 56, 56]) < 0.5 else -1 / 255
    for photo in (image, other):
        total = sum(round(value * 255) for value in photo.flatten().tolist())
        expected = worn(photo, shown.points5[:1], masks[:, total % 2], 0.95)
        torch.testing.assert_close(cloak.pattern(photo, shown.points5[:1], masks), expected)
    one, two = (cloak.pattern(photo, shown.points5[:1], masks) for photo in (image, other))
    assert float(functional.cosine_similarity(one.flatten(), two.flatten(), dim=0)) < 0.1


def test_enrolment_is_all_that_is_kept_and_fits_any_size(heads: Faces, cloaks: dict[float, PersonCloak]) -> None:
    unseen = some(heads, 4, 5)
    second = PersonCloak(surrogates="sface", masks=2)
    kept = cloaks[2.0].enrolment()
    assert kept["masks"].shape == (1, 2, 3, 112, 112)
    second.enrol(kept)
    assert torch.equal(protected(cloaks[2.0], unseen), protected(second, unseen))
    small = functional.interpolate(unseen.images, size=(56, 56), mode="area")
    result = second.protect(small, (unseen.points5 + 0.5) / 2 - 0.5, unseen.identity, seeded(1))
    assert not torch.equal(result, small)
    single = kept["masks"][..., :1, :1] / kept["masks"][..., :1, :1].norm(dim=2, keepdim=True)
    with pytest.raises(ProtectorError, match="takes masks of 112 pixels, and this enrolment has one of 1;"):
        PersonCloak(surrogates="sface", masks=2).enrol({**kept, "masks": single})
    with pytest.raises(ProtectorError, match="this is no enrolment of person-cloak"):
        PersonCloak(surrogates="sface", masks=3).enrol(kept)


def test_budget_binds_before_similarity_where_it_is_small(heads: Faces, cloaks: dict[float, PersonCloak]) -> None:
    unseen = some(heads, 4, 5)
    bounded = PersonCloak(surrogates="sface", masks=2, budget="0.02")
    bounded.enrol(cloaks[2.0].enrolment())
    for cloak, levels in ((bounded, 5), (cloaks[2.0], 32)):
        assert round(float((protected(cloak, unseen) - unseen.images).abs().max()) * 255) == levels


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ssim": 1.0}, "person-cloak takes ssim between 0 and 1, got 1"),
        ({"masks": 0}, "person-cloak takes 1 to 64 masks, got 0"),
        ({"apart": -1.0}, "person-cloak takes apart >= 0, got -1"),
        ({"steps": 0}, "person-cloak takes steps >= 1, got 0"),
        ({"surrogates": "faceres"}, "faceres is kept for judging"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, float], words: str) -> None:
    with pytest.raises(ProtectorError, match=words):
        PersonCloak(**settings)  # type: ignore[arg-type]
