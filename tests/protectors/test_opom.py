"""OPOM on the recogniser itself: unseen photos, the gradient of a shared mask, hulls, enrolment, several people."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from faces.alignment import align
from faces.families import load_recogniser
from faces.framing import FRAME_POINTS
from protectors import opom
from protectors.auxiliary import Faces, auxiliary_faces
from protectors.errors import ProtectorError
from protectors.hulls import Hulls
from protectors.opom import Opom
from protectors.person import covered, person_mean, whole_people
from protectors.registry import make_protector

pytestmark = pytest.mark.usefixtures("sface_weights")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Faces:
    """Two people, six photos each, in one frame: masks belong to it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        found = auxiliary_faces("synthetic", people=2, captures=6, first=29_000_000)
    points = (torch.tensor(FRAME_POINTS) * 112 - 0.5).expand(12, 5, 2)
    images = align(found.images, found.points5, 112, points[0]).clamp(0, 1)
    return Faces(images, points, found.identity, found.content_hash)


def some(heads: Faces, *rows: int) -> Faces:
    """Photos 0 to 5 are of the first person, 6 to 11 of the second."""
    return heads.subset(torch.tensor(rows))


def fitted(protector: Opom, shown: Faces, seed: int = 0) -> Opom:
    protector.fit(shown.images, shown.points5, shown.identity, seeded(seed))
    return protector


def protected(protector: object, faces: Faces) -> Tensor:
    return protector.protect(faces.images, faces.points5, faces.identity, seeded(1))  # type: ignore[attr-defined]


def likeness(images: Tensor, faces: Faces, clean: Faces) -> Tensor:
    """Mean cosine (N,) between photos and the clean photos of the same person, by SFace."""
    sface = load_recogniser("sface")
    with torch.no_grad():
        cosine = sface.embed(images, faces.points5) @ sface.embed(clean.images, clean.points5).T
    same = (faces.identity[:, None] == clean.identity).float()
    return (cosine * same).sum(1) / same.sum(1)


def test_unseen_photos_lose_far_more_than_noise_takes(heads: Faces) -> None:
    shown, unseen = some(heads, 0, 1, 2, 3), some(heads, 4, 5)
    before = likeness(unseen.images, unseen, shown)
    noisy = likeness(protected(make_protector("noise:linf=0.0314"), unseen), unseen, shown)
    cloaked = likeness(protected(fitted(Opom(), shown), unseen), unseen, shown)
    assert bool((before - noisy < 0.1).all())
    assert bool((before - cloaked > 0.15).all())


def test_one_step_follows_the_mean_gradient(heads: Faces) -> None:
    # Worked out again: one photo at a time, the closed form of the centre, and the sign of the mean.
    alone = some(heads, 0, 1)
    protector = fitted(Opom(hull="centre", steps=1, centre_steps=0), alone, seed=3)
    start = (2 * torch.rand(1, 3, 112, 112, generator=seeded(3)) - 1) * (8 / 255)
    sface, gradients = load_recogniser("sface"), []
    centre = sface.embed(alone.images, alone.points5).mean(0)
    for image, points in zip(alone.images, alone.points5, strict=True):
        delta = start[0].clone().requires_grad_()
        far = (sface.embed((image + delta)[None], points[None])[0] - centre).square().mean()
        gradients.append(torch.autograd.grad(far, delta)[0])
    moved = start[0] + torch.stack(gradients).mean(0).sign() / 255
    kept = [(image + moved.clamp(-8 / 255, 8 / 255)).clamp(0, 1) - image for image in alone.images]
    mask = protector.enrolment()["masks"][0]
    # The sign of a gradient near zero may hang on the last bit.
    assert float((mask - torch.stack(kept).mean(0)).abs().gt(1e-6).float().mean()) < 0.01


@pytest.mark.parametrize("hull", ["convex", "affine", "centre", "self"])
def test_each_hull_leads_away_from_what_it_says(heads: Faces, hull: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    nearest = opom._nearest

    def noted(kind: str, *rest: Tensor) -> Tensor:
        asked.append(kind)
        return nearest(kind, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(opom, "_nearest", noted)
    fitted(Opom(hull=hull, steps=2, centre_steps=1), some(heads, 0, 1))
    assert asked == [("centre" if hull == "convex" else hull), hull]


def test_points_led_away_from_are_those_of_the_hulls() -> None:
    features = torch.randn(5, 8, generator=seeded(4))
    moved, people = features + 1, torch.tensor([0, 0, 1, 1, 1])
    spanned = Hulls(features, people)
    assert torch.equal(opom._nearest("self", spanned, features, moved, people), features)
    centres = torch.stack((features[:2].mean(0), features[2:].mean(0)))
    torch.testing.assert_close(opom._nearest("centre", spanned, features, moved, people), centres[people])
    assert torch.equal(opom._nearest("affine", spanned, features, moved, people), spanned.nearest_affine(moved, people))
    assert torch.equal(opom._nearest("convex", spanned, features, moved, people), spanned.nearest_convex(moved, people))


def test_budget_is_kept_and_used(heads: Faces) -> None:
    shown, unseen = some(heads, 0, 6), some(heads, 2, 8)
    levels = (
        protected(fitted(Opom(steps=1, centre_steps=0, budget="0.02"), shown), unseen) - unseen.images
    ).abs() * 255
    assert round(float(levels.max())) == 5


def test_enrolment_is_all_that_is_kept(heads: Faces) -> None:
    shown, unseen = some(heads, 0, 6), some(heads, 7, 2, 8)
    first, second = (Opom(steps=1, centre_steps=0) for _ in range(2))
    fitted(first, shown)
    with pytest.raises(ProtectorError, match="opom must see a person before it protects them"):
        protected(second, unseen)
    second.enrol(first.enrolment())
    assert torch.equal(protected(first, unseen), protected(second, unseen))


def test_people_worked_on_in_parts_get_the_same_masks(heads: Faces, monkeypatch: pytest.MonkeyPatch) -> None:
    # Convex hulls and summed gradients, so that nothing may be carried from one part to the next.
    shown, each = some(heads, 0, 6, 1, 7), []
    for chunk in (64, 2):
        monkeypatch.setattr(Opom, "chunk", chunk)
        each.append(fitted(Opom(steps=2, centre_steps=0, momentum=1.0), shown).enrolment()["masks"])
    together, parts = each
    assert float((together - parts).abs().gt(1e-6).float().mean()) < 0.02


def test_mask_stays_in_the_region(heads: Faces) -> None:
    # Faces of half the size, 10 pixels apart: squares of 1.5 eye distances to each side, and their union.
    alone = some(heads, 0, 1)
    points = (alone.points5 - 56) / 2 + torch.tensor((51.0, 61.0))[:, None, None]
    protector = Opom(steps=1, centre_steps=0, region="face")
    protector.fit(alone.images, points, alone.identity, seeded(0))
    touched = (protector.enrolment()["masks"][0] != 0).any(0)
    half = 1.5 * float((points[0, 1] - points[0, 0]).norm())
    rows, columns = torch.meshgrid(torch.arange(112.0), torch.arange(112.0), indexing="ij")
    places = torch.stack((columns, rows), -1)
    off = (places[None] - points.mean(1)[:, None, None]).abs().amax(-1).amin(0)
    assert not bool(touched[off > half + 2].any())
    assert bool(touched[off < half - 2].all())


def test_people_in_parts() -> None:
    identity = torch.tensor([7, 3, 7, 9, 3, 9, 9])
    found = [(rows.tolist(), people.tolist()) for rows, people in whole_people(identity, 6)]
    assert found == [([0, 1, 2, 4], [1, 0, 1, 0]), ([3, 5, 6], [0, 0, 0])]
    assert [rows.tolist() for rows, _ in whole_people(identity, 1)] == [[1, 4], [0, 2], [3, 5, 6]]


def test_means_of_people() -> None:
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 9.0]])
    expected = torch.tensor([[3.0, 5.5], [3.0, 4.0]])
    torch.testing.assert_close(person_mean(values, torch.tensor([0, 1, 0])), expected)


def test_whole_frame_is_covered_by_the_region_photo() -> None:
    images, points = torch.rand(3, 3, 8, 8, generator=seeded(5)), torch.zeros(3, 5, 2)
    assert torch.equal(covered(images, points, torch.tensor([0, 1, 1]), "photo"), torch.ones(2, 3, 8, 8))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"preset": "best"}, "opom takes preset = released, paper, transfer, got best"),
        ({"hull": "ball"}, "opom takes hull = convex, affine, centre, self, got ball"),
        ({"steps": 4}, "centre_steps from 0 to the number of steps, 4, got 5"),
        ({"momentum": 1.5}, r"momentum as a decay, 0\.\.1, got 1\.5"),
        ({"surrogates": "faceres"}, "faceres is kept for judging"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, str], words: str) -> None:
    with pytest.raises(ProtectorError, match=words):
        Opom(**settings)  # type: ignore[arg-type]


def test_presets_differ_as_the_sources_do() -> None:
    chosen = {name: dict(Opom(preset=name).declaration.settings) for name in Opom.about.presets}
    assert [found["steps"] for found in chosen.values()] == ["16", "16", "100"]
    assert [found["centre_steps"] for found in chosen.values()] == ["5", "0", "5"]
    assert [found["momentum"] for found in chosen.values()] == ["0.0", "0.0", "1.0"]
