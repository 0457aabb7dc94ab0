"""DFPP: regions, correspondence and histograms against worked cases, and what it does to real embeddings."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from faces.samples import five_points
from faces.synthetic import generate
from protectors import makeup
from protectors.dfpp import NOISE, Dfpp, MadeUpFace, UntrainedDecoder
from protectors.errors import ProtectorError

SIDE = 112


@pytest.fixture(scope="module", autouse=True)
def fetched(sface_weights: Path, face_landmark_weights: Path) -> None:
    """What every test here needs."""


@pytest.fixture(scope="module")
def heads() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Photos, five points, the true 68 landmarks, and the true masks of skin and lips of two people."""
    faces = generate(2, 1, size=SIDE, seed=3, first_identity=40_000_000, regions=True)
    truth = torch.stack((faces.region("skin"), faces.region("lips")), 1)
    return faces.images.float() / 255, five_points(faces.landmarks).float(), faces.landmarks, truth


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def protected(protector: Dfpp, images: Tensor, points5: Tensor, seed: int = 1) -> Tensor:
    return protector.protect(images, points5, torch.zeros(len(images), dtype=torch.int64), seeded(seed))


# Regions


def test_coverage_is_the_area_of_a_polygon() -> None:
    square = torch.tensor([[[2.0, 3.0], [8.0, 3.0], [8.0, 7.0], [2.0, 7.0]]])
    expected = torch.zeros(12, 12)
    expected[3:8, 2:9] = 0.5
    expected[4:7, 3:8] = 1
    torch.testing.assert_close(makeup.coverage(square, 12)[0], expected)
    assert torch.equal(makeup.coverage(square.flip(1), 12)[0], expected)


def test_coverage_agrees_with_opencv() -> None:
    angle = torch.linspace(0, 2 * torch.pi, 8)[:-1]
    radius = torch.tensor([20.0, 9, 22, 11, 19, 8, 21])
    star = torch.stack((radius * torch.cos(angle), radius * torch.sin(angle)), -1) + 32.3
    drawn = np.zeros((64, 64), np.uint8)
    cv2.fillPoly(drawn, [np.round(star.numpy() * 256).astype(np.int32)], 1, shift=8)
    found = makeup.coverage(star[None], 64)[0]
    # OpenCV also fills the pixels that the outline touches.
    assert bool((torch.from_numpy(drawn)[found > 0.5] == 1).all())
    assert float(found.sum()) == pytest.approx(cv2.contourArea(star.numpy()), rel=0.02)


def test_regions_lie_where_the_head_was_painted(heads: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    _, _, landmarks, truth = heads
    skin, _, lips = makeup.regions(landmarks, SIDE).unbind(1)
    # Of what is called lips or skin, this share is. Hair may hang over the forehead.
    for found, known, least in ((lips, truth[:, 1], 0.8), (skin, truth[:, 0], 0.8)):
        assert float((found * known).sum() / found.sum()) > least
    assert float((lips * truth[:, 1]).sum() / truth[:, 1].sum()) > 0.6


def test_regions_do_not_overlap_and_spare_the_eyes(heads: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    _, _, landmarks, _ = heads
    masks = makeup.regions(landmarks, SIDE)
    assert float(masks.sum(1).max()) <= 1 + 1e-6
    assert bool((masks.sum((2, 3)) > 5).all())
    for eye in (slice(36, 42), slice(42, 48)):
        x, y = landmarks[:, eye].mean(1).round().long().unbind(-1)
        assert float(masks[torch.arange(2), :, y, x].max()) == 0


# Correspondence and histograms


def test_correspondence_takes_the_like_pixel_of_the_same_region() -> None:
    directions = functional.normalize(torch.tensor([[1.0, 0], [0.8, 0.6], [0, 1], [1.0, 0.01]]), dim=1)
    colours = torch.tensor([[0.1], [0.2], [0.3], [0.9]])
    of_region = torch.tensor([[1.0, 1, 1, 0], [0, 0, 0, 1]])
    source = functional.normalize(torch.tensor([[[0.0, 2], [0.9, 0.6], [1, 0.01]]]), dim=2)
    where = torch.tensor([[[1.0, 1, 0], [0, 1, 1]]])
    found = makeup.corresponding(source, directions, where, of_region, colours, sharpness=1e4)
    # The third pixel is most like the fourth of the reference; the second, in both regions, takes from both.
    torch.testing.assert_close(found, torch.tensor([[[[0.3, 0.2, 0.0]], [[0.0, 0.9, 0.9]]]]))


def test_soft_correspondence_is_the_weighted_mean() -> None:
    source, reference = (
        functional.normalize(torch.randn(*size, generator=seeded()), dim=-1) for size in ((2, 5, 3), (4, 3))
    )
    mask, values = torch.rand(1, 4, generator=seeded(1)) + 0.1, torch.rand(4, 2, generator=seeded(2))
    found = makeup.corresponding(source, reference, torch.ones(2, 1, 5), mask, values, sharpness=3.0)
    for photo in range(2):
        for pixel in range(5):
            weight = torch.exp(3 * reference @ source[photo, pixel]) * mask[0]
            torch.testing.assert_close(found[photo, 0, :, pixel], (weight[:, None] * values).sum(0) / weight.sum())


def test_a_face_corresponds_to_itself(heads: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    images, points5, landmarks, _ = heads
    small = functional.interpolate(images, size=(28, 28), mode="area")
    points, spots = ((given + 0.5) / 4 - 0.5 for given in (points5, landmarks))
    described = makeup.descriptors(small, points, spots, 28, 0.1)
    torch.testing.assert_close(described.norm(dim=2), torch.ones(2, 28 * 28))
    # Not at the borders, where all offsets are nearly alike.
    inner = torch.zeros(28, 28, dtype=torch.bool)
    inner[8:22, 8:20] = True
    best = (described[:, inner.flatten()] @ described.transpose(1, 2)).argmax(-1)
    assert torch.equal(best, torch.nonzero(inner.flatten())[:, 0].expand(2, -1))


def test_descriptors_do_not_depend_on_place_size_and_turn() -> None:
    landmarks = torch.rand(1, 68, 2, generator=seeded()) * 20 + 5
    points5 = landmarks[:, :5] + torch.tensor([0.3, 0.1])
    turned = torch.stack((30 - landmarks[..., 1], landmarks[..., 0]), -1)
    turned5 = torch.stack((30 - points5[..., 1], points5[..., 0]), -1)
    flat = torch.full((1, 3, 31, 31), 0.5)
    straight = makeup.descriptors(flat, points5, landmarks, 31, 0.0).unflatten(1, (31, 31))
    # A quarter turn takes pixel (x, y) to (30 - y, x).
    after = makeup.descriptors(flat, turned5, turned, 31, 0.0).unflatten(1, (31, 31))
    torch.testing.assert_close(after.transpose(1, 2).flip(1), straight, atol=1e-5, rtol=0)


def test_histogram_is_that_of_sorted_values() -> None:
    values, wanted = (torch.rand(3, 2, 40, generator=seeded(seed)) for seed in (0, 1))
    inside = torch.rand(3, 1, 40, generator=seeded(2)) > 0.4
    found = makeup.matched(values, wanted, inside)
    for photo in range(3):
        here = inside[photo, 0].numpy()
        for channel in range(2):
            given, other = values[photo, channel].numpy(), wanted[photo, channel].numpy()
            expected = given.copy()
            expected[here] = np.sort(other[here])[np.argsort(np.argsort(given[here]))]
            np.testing.assert_array_equal(found[photo, channel].numpy(), expected)


def test_paint_moves_lips_to_the_colour_of_the_palette(heads: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    images, _, landmarks, _ = heads
    masks = makeup.regions(landmarks, SIDE)
    result = makeup.painted(images, masks, "plum")
    lips = masks[:, 2] > 0.99
    colour, opacity = torch.tensor(makeup.PALETTES["plum"][2][0]), makeup.PALETTES["plum"][2][1]
    for photo in range(2):
        before, after = (given[photo][:, lips[photo]].mean(1) for given in (images, result))
        torch.testing.assert_close(after, before + opacity * (colour - before), atol=0.03, rtol=0)
    outside = (masks.sum(1, keepdim=True) == 0).expand_as(images)
    assert torch.equal(result[outside], images[outside])


# The decoder


def test_decoders_of_a_batch_are_networks_of_their_own() -> None:
    condition, given = (torch.rand(3, c, 20, 20, generator=seeded(c)) for c in (6, 3 + NOISE))
    together = UntrainedDecoder(condition, seeded())
    assert torch.equal(together(given), torch.zeros(3, 3, 20, 20))
    with torch.no_grad():
        together.weights["out"].copy_(torch.randn(together.weights["out"].shape, generator=seeded(1)))
    for photo in range(3):
        alone = UntrainedDecoder(condition[photo : photo + 1], seeded())
        for name, weight in together.weights.items():
            alone.weights[name] = torch.nn.Parameter(weight[photo : photo + 1].detach())
        torch.testing.assert_close(alone(given[photo : photo + 1])[0], together(given)[photo], atol=1e-4, rtol=1e-4)


# The protector


def test_makeup_stays_on_the_face(heads: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    images, points5, _, _ = heads
    found = protected(Dfpp(steps=1), images, points5)
    area = makeup.regions(makeup.landmarks68(images, points5), SIDE).sum(1, keepdim=True).expand_as(images)
    assert torch.equal(found[area == 0], images[area == 0])
    assert not torch.equal(found[area > 0], images[area > 0])


def test_photos_of_a_batch_do_not_influence_each_other(heads: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    images, points5, _, _ = heads
    protector = Dfpp(steps=2)
    first = protected(protector, images, points5)[:1]
    other = protected(protector, torch.stack((images[0], torch.zeros_like(images[0]))), points5)[:1]
    torch.testing.assert_close(first, other, atol=1.01 / 255, rtol=0)


def test_likeness_to_the_target_rises_with_the_steps(heads: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    images, points5 = heads[0][:1], heads[1][:1]
    protector = Dfpp(steps=12)
    after = protected(protector, images, points5)
    assert protector.target is not None
    # By other photos of the target person, which were not used.
    (held,) = protector._surrogates.embed(protector.target.images, protector.target.points5)
    early = protected(Dfpp(steps=1), images, points5)
    start, first, last = (
        float((protector._surrogates.embed(photos, points5)[0] @ held.T).mean()) for photos in (images, early, after)
    )
    assert last > first + 0.1
    assert last > start + 0.1


def test_skin_keeps_its_brightness(heads: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    images, points5, _, _ = heads
    dark = images * 0.4
    face = MadeUpFace(dark, points5, Dfpp()._reference)
    skin = face._masks[:, :1] > 0.5
    luma = torch.tensor(makeup.LUMA)[:, None, None]
    for photo in range(2):
        before, after = ((given[photo] * luma).sum(0)[skin[photo, 0]].mean() for given in (dark, face._wanted[:, 0]))
        assert float(after) == pytest.approx(float(before), abs=0.02)
        # Lips do take the colour of the reference.
        lips = face._masks[photo, 2] > 0.5
        assert float((face._wanted[photo, 2] - dark[photo])[0][lips].mean()) > 0.1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"steps": 0}, "takes steps >= 1, got 0"),
        ({"makeup": -1.0}, "takes makeup >= 0, got -1"),
        ({"palette": "clown"}, "there is no palette 'clown'; choose one of rose"),
        ({"palette": "rose", "reference": Path("face.png")}, "leave one of them out"),
        ({"surrogates": "faceres"}, "kept for judging"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, float | str | Path], words: str) -> None:
    with pytest.raises(ProtectorError, match=words):
        Dfpp(**settings)  # type: ignore[arg-type]


def test_reference_photo_is_used_and_counts_by_content(
    heads: tuple[Tensor, Tensor, Tensor, Tensor], tmp_path: Path, yunet_weights: Path
) -> None:
    images, _, _, _ = heads
    names = ["a.png", "b.png"]
    for name in names:
        picture = (images[0] * 255).byte().permute(1, 2, 0).numpy()[..., ::-1]
        cv2.imwrite(str(tmp_path / name), cv2.resize(picture, (336, 336)))
    first, second = (Dfpp(reference=tmp_path / name) for name in names)
    assert first.declaration == second.declaration
    assert first.declaration != Dfpp().declaration
    cv2.imwrite(str(tmp_path / "none.png"), np.zeros((100, 100, 3), np.uint8))
    with pytest.raises(ProtectorError, match=r"none\.png shows 0 faces; give a photo of one face with makeup"):
        Dfpp(reference=tmp_path / "none.png")
