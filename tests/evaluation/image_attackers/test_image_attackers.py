"""Every attacker on photographs keeps one contract, and succeeds where its control says that it must."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from evaluation import EvaluationError, rank_k, score_matrix
from evaluation.config import VIDEO_ATTACKERS, EvaluateConfig
from evaluation.image_attackers import ImageAttacker, attacker_names, make_attacker, pixels
from evaluation.image_attackers.discriminants import LinearProtected, PixelsDiscriminant
from evaluation.image_attackers.fine_tuned import EndToEnd, FineTuned
from evaluation.image_attackers.known_blur import KnownPsf, scaled_psf
from evaluation.image_attackers.preprocess import TRANSFORMS, Preprocess
from evaluation.image_attackers.published import AsPublished
from evaluation.image_attackers.purifier import Course, Purifier, noise_over_signal
from evaluation.image_attackers.realign import Realign
from evaluation.image_attackers.restorers import GenericRestorer, Restorer, degraded
from evaluation.image_attackers.scratch import ScratchProtected
from evaluation.image_attackers.subtract import SubtractAverage
from evaluation.image_attackers.views import FlipTta
from evaluation.labels import Level
from evaluation.photos import Knowledge, Photos
from faces.alignment import template
from faces.detection import Detection
from faces.families import Recogniser
from faces.protection import KnownBlur
from faces.recognisers import load_sface
from faces.samples import FaceSet, five_points, linear_to_srgb
from faces.synthetic import generate
from optics import convolve

SIDE, CHIP = 44, 32
#: The face fills the frame but for six pixels on each side.
POINTS = template(CHIP) + 6
Protect = Callable[[Photos], Photos]


class LocalContrast(nn.Module):
    """Signs of local contrast, projected: blind to light that changes slowly, easily upset by fine noise."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(CHIP * CHIP, 64, bias=False)
        generator = torch.Generator().manual_seed(0)
        self.project.weight.data = torch.randn(64, CHIP * CHIP, generator=generator) / CHIP

    def forward(self, chips: Tensor) -> Tensor:
        grey = chips.mean(1, keepdim=True)
        around = functional.avg_pool2d(grey, 9, 1, 4, count_include_pad=False)
        rows: Tensor = self.project(torch.tanh(10 * (grey - around)).flatten(1))
        return rows


def fake() -> Recogniser:
    network = LocalContrast().eval().requires_grad_(False)
    return Recogniser("fake", "test", network, template(CHIP), (CHIP, CHIP), 64, (0.0, 1.0), "RGB", "none")


def people(count: int, captures: int, seed: int) -> Photos:
    """A smooth picture for each person; captures differ in light and in a little detail. Half of them are enrolled."""
    generator = torch.Generator().manual_seed(seed)

    def smooth(amount: int, cells: int) -> Tensor:
        coarse = torch.randn(amount, 3, cells, cells, generator=generator)
        return functional.interpolate(coarse, size=(SIDE, SIDE), mode="bicubic")

    total = count * captures
    own = smooth(count, 8).repeat_interleave(captures, 0)
    pictures = 0.5 + 0.12 * own + 0.04 * smooth(total, 8) + 0.05 * smooth(total, 3)
    capture = torch.arange(captures).repeat(count)
    images = (pictures.clamp(0, 1) * 255).round().to(torch.uint8)
    identity = torch.arange(count).repeat_interleave(captures) + 1000 * seed
    faces = FaceSet(images, identity, capture, torch.zeros(total, 68, 2), "patterns", "none")
    return Photos(faces, POINTS.float().expand(total, 5, 2).clone(), capture < captures // 2)


def known(protect: Protect, blur: KnownBlur | None = None, count: int = 24) -> Knowledge:
    train, validation = people(count, 4, seed=1), people(8, 4, seed=2)
    return Knowledge(train, protect(train), validation, protect(validation), blur, seed=0)


def rank1(attacker: ImageAttacker, test: Photos, protected: Photos) -> float:
    """Protected probes against a clean gallery."""
    enrolled = test.gallery
    gallery = attacker.embed(test.subset(enrolled), protected=False)
    probes = attacker.embed(protected.subset(~enrolled), protected=True)
    return rank_k(score_matrix(gallery, test.identity[enrolled], probes, test.identity[~enrolled]), 1)


def both(attacker: ImageAttacker, protect: Protect, knowledge: Knowledge | None = None) -> tuple[float, float]:
    """Rank-1 of the recogniser as published and of the attacker, on 12 people who were never seen."""
    test = people(12, 4, seed=3)
    published = AsPublished()
    for each in (published, attacker):
        each.fit(fake(), known(protect) if knowledge is None else knowledge)
    return rank1(published, test, protect(test)), rank1(attacker, test, protect(test))


# Protectors of the controls


def noise(photos: Photos) -> Photos:
    generator = torch.Generator().manual_seed(len(photos))
    return photos.with_images(photos.images() + 0.6 * torch.randn(photos.faces.images.shape, generator=generator))


def pixelate(photos: Photos) -> Photos:
    cells = functional.avg_pool2d(photos.images(), 11)
    return photos.with_images(cells.repeat_interleave(11, -1).repeat_interleave(11, -2))


def _mask(seed: int) -> Tensor:
    coarse = torch.randn(1, 3, 11, 11, generator=torch.Generator().manual_seed(seed))
    return functional.interpolate(coarse, size=(SIDE, SIDE), mode="bicubic")


def one_mask(photos: Photos) -> Photos:
    return photos.with_images(photos.images() * 0.5 + 0.25 + 0.15 * _mask(50))


def two_masks(photos: Photos) -> Photos:
    """Two fixed masks in amounts that vary from photograph to photograph."""
    amount = torch.randn(2, len(photos), 1, 1, 1, generator=torch.Generator().manual_seed(len(photos)))
    return photos.with_images(photos.images() + 0.3 * (amount[0] * _mask(51) + amount[1] * _mask(52)))


def faint(photos: Photos) -> Photos:
    return photos.with_images(photos.images() * 0.4 + 0.45)


def gaussian(sd: float, side: int = 15) -> Tensor:
    line = torch.exp(-((torch.arange(side) - side // 2.0) ** 2) / (2 * sd**2))
    psf = line[:, None] * line
    return (psf / psf.sum())[None]


def blurred(photos: Photos, psf: Tensor) -> Photos:
    return photos.with_images(linear_to_srgb(convolve(photos.faces.linear(), psf.expand(3, -1, -1)).clamp(0, 1)))


# The contract


class StillDetector:
    """Finds every face but those of a dark picture, where the five points truly are."""

    def detect(self, image: np.ndarray) -> list[Detection]:
        if image.mean() < 5:
            return []
        return [Detection(np.zeros(4, np.float32), POINTS.numpy().astype(np.float32), 0.9)]


def linear(most: int, inner: ImageAttacker | None = None) -> ImageAttacker:
    inner = AsPublished() if inner is None else inner
    return LinearProtected(inner, name="linear", level="K2", knowledge="test", control="test", most=most)


ROWS: dict[str, Callable[[], ImageAttacker]] = {
    "as-published": AsPublished,
    "video-average-4": lambda: AsPublished(frames=4),
    "video-average-16": lambda: AsPublished(frames=16),
    "preprocess": lambda: Preprocess(4),
    "flip-tta": FlipTta,
    "realign": lambda: Realign(StillDetector),
    "generic-restorer": lambda: GenericRestorer(steps=3, batch=2, patch=16),
    "purifier": lambda: Purifier(steps=3, batch=2, patch=16, backward=(1, 2), most=4),
    "restorer": lambda: Restorer(steps=3, batch=2, patch=16, guide=0.1),
    "linear-protected": lambda: linear(40),
    "fine-tuned-protected": lambda: FineTuned(steps=4, batch=8, most=20),
    "end-to-end-protected": lambda: EndToEnd(steps=4, batch=8, most=8),
    "scratch-protected": lambda: ScratchProtected(steps=3, batch=8, size=16),
    "pixels-discriminant": lambda: PixelsDiscriminant(size=8, most=40),
    "known-psf": lambda: KnownPsf(most=8),
    "known-psf-wrong-10": lambda: KnownPsf(most=8, wrong=0.1),
    "known-psf-wrong-20": lambda: KnownPsf(most=8, wrong=0.2),
    "known-psf-linear": lambda: linear(40, KnownPsf(most=8)),
    "subtract-average": SubtractAverage,
}


@pytest.fixture(scope="module")
def soft() -> Knowledge:
    """What the contract is tried with: a protector with optics."""
    psf = gaussian(1.0, 7)
    return known(lambda photos: blurred(photos, psf), KnownBlur(psf, 0.01, 3), count=8)


def test_every_attacker_has_a_row() -> None:
    assert tuple(ROWS) == attacker_names()


def test_the_larger_tiers_try_every_attacker() -> None:
    for tier in ("standard", "full"):
        usual = EvaluateConfig.for_tier(tier)
        # Averages of captures are worth their time where the noise differs from capture to capture: behind optics.
        assert usual.attackers == tuple(name for name in attacker_names() if name not in VIDEO_ATTACKERS)
        assert set(usual.with_optics("optical-encoder:run=here").attackers) == set(attacker_names())


@pytest.mark.parametrize("name", attacker_names())
def test_description_and_tiers(name: str) -> None:
    for tier in ("smoke", "standard", "full"):
        attacker = make_attacker(name, tier)
        assert attacker.name == name
        assert attacker.level in get_args(Level)
        assert all((attacker.knowledge, attacker.budget, attacker.control))
        assert attacker.frames == (int(name.rpartition("-")[2]) if name.startswith("video") else 1)


@pytest.mark.parametrize("name", attacker_names())
def test_contract(name: str, soft: Knowledge) -> None:
    recogniser, test = fake(), people(5, 2, seed=3)
    parts = [soft.train, soft.train_protected, soft.validation, soft.validation_protected]
    before = [part.faces.content_hash() for part in parts]
    weights = copy.deepcopy(recogniser.network.state_dict())
    state = torch.random.get_rng_state()
    rows = []
    for _ in range(2):
        attacker = ROWS[name]()
        assert attacker.inapplicable(soft, recogniser) is None
        attacker.fit(recogniser, soft)
        rows.append(torch.stack([attacker.embed(test, protected=side) for side in (False, True)]))
    assert torch.equal(rows[0], rows[1]), "same knowledge, same bits"
    assert rows[0].shape[:2] == (2, len(test))
    assert not rows[0].requires_grad
    torch.testing.assert_close(rows[0].norm(dim=2), torch.ones(2, len(test)), atol=1e-4, rtol=0)
    # What it says of a photograph depends on no other photograph of the test.
    alone = attacker.embed(test.subset(torch.tensor([3])), protected=True)
    torch.testing.assert_close(alone[0], rows[0][1, 3], atol=1e-4, rtol=0)
    assert [part.faces.content_hash() for part in parts] == before
    assert all(torch.equal(value, weights[key]) for key, value in recogniser.network.state_dict().items())
    assert not any(weight.requires_grad for weight in recogniser.network.parameters())
    assert torch.equal(state, torch.random.get_rng_state()), "the global generator is left alone"


@pytest.mark.parametrize("name", [name for name in attacker_names() if name.startswith("known-psf")])
def test_without_optics_there_is_nothing_to_invert(name: str, soft: Knowledge) -> None:
    knowledge, attacker = replace(soft, blur=None), ROWS[name]()
    assert attacker.inapplicable(knowledge, fake()) == "this protector has no optics to invert"
    with pytest.raises(EvaluationError, match="no optics to invert; leave it out"):
        attacker.fit(fake(), knowledge)


def test_a_recogniser_without_gradients_is_not_trained(soft: Knowledge) -> None:
    recogniser = replace(fake(), differentiable=False)
    assert ROWS["end-to-end-protected"]().inapplicable(soft, recogniser) == (
        "no gradients pass through the recogniser fake"
    )
    with pytest.raises(EvaluationError, match="choose linear-protected"):
        ROWS["end-to-end-protected"]().fit(recogniser, soft)


def test_knowledge_that_does_not_suffice(soft: Knowledge) -> None:
    few = known(pixelate, count=3)
    with pytest.raises(EvaluationError, match=r"3 people are too few .* at least 4"):
        PixelsDiscriminant(size=8, most=40).fit(fake(), few)
    shorter = soft.train_protected.subset(torch.arange(5))
    with pytest.raises(EvaluationError, match="5 protected photographs for training do not pair with 32 clean"):
        SubtractAverage().fit(fake(), replace(soft, train_protected=shorter))
    enrolled = replace(soft.validation, gallery=torch.ones(len(soft.validation), dtype=torch.bool))
    with pytest.raises(EvaluationError, match="32 of 32 validation photographs are enrolled"):
        Preprocess(4).fit(fake(), replace(soft, validation=enrolled))


def test_unknown_names() -> None:
    with pytest.raises(EvaluationError, match="no attacker 'magic'; choose one of as-published"):
        make_attacker("magic")
    with pytest.raises(EvaluationError, match="no tier 'quick'; choose one of smoke"):
        make_attacker("preprocess", "quick")  # type: ignore[arg-type]


# Positive controls


@pytest.mark.parametrize("attacker", [AsPublished(), FlipTta()], ids=["as-published", "flip-tta"])
def test_unprotected_people_are_known(attacker: ImageAttacker) -> None:
    assert both(attacker, lambda photos: photos)[1] > 0.9


def test_smoothing_is_chosen_against_fine_noise() -> None:
    attacker = Preprocess(16)
    published, treated = both(attacker, noise)
    assert attacker.chosen.name.startswith(("blur", "resize"))
    assert treated > published + 0.2


def test_nothing_is_chosen_where_nothing_helps() -> None:
    attacker = Preprocess(16)
    attacker.fit(fake(), known(lambda photos: photos))
    # All score 1 here, and the first of equals is taken.
    assert attacker.chosen.name == TRANSFORMS[0].name == "none"
    assert not attacker.both_sides


@pytest.mark.parametrize(
    ("attacker", "count"),
    [(PixelsDiscriminant(size=12, most=200), 24), (ScratchProtected(steps=120, batch=32, size=16), 80)],
    ids=["pixels-discriminant", "scratch-protected"],
)
def test_retraining_sees_through_pixelation(attacker: ImageAttacker, count: int) -> None:
    published, trained = both(attacker, pixelate, known(pixelate, count=count))
    assert published < 0.5
    assert trained > 0.6


def test_the_average_perturbation_is_taken_off() -> None:
    published, restored = both(SubtractAverage(), one_mask)
    assert restored > 0.9 > published + 0.2


def test_average_of_a_fixed_offset_is_that_offset() -> None:
    attacker = SubtractAverage()
    offset = torch.tensor([10.0, -5.0, 0.0]).view(3, 1, 1) / 255
    attacker.fit(fake(), known(lambda photos: photos.with_images(photos.images() + offset)))
    torch.testing.assert_close(attacker.mean, offset.expand_as(attacker.mean), atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    "attacker",
    [linear(200), FineTuned(steps=150, batch=32, most=200), EndToEnd(steps=150, batch=16, most=200, rate=1e-3)],
    ids=["linear", "fine-tuned", "end-to-end"],
)
def test_training_on_protected_people_ignores_masks(attacker: ImageAttacker) -> None:
    published, trained = both(attacker, two_masks)
    assert trained > published + 0.1


def test_without_a_last_linear_layer_a_new_one_is_trained() -> None:
    class Pooled(LocalContrast):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("weight", self.project.weight.data)
            del self.project

        def forward(self, chips: Tensor) -> Tensor:
            grey = chips.mean(1, keepdim=True)
            around = functional.avg_pool2d(grey, 9, 1, 4, count_include_pad=False)
            return torch.tanh(10 * (grey - around)).flatten(1) @ self.get_buffer("weight").T

    attacker = FineTuned(steps=4, batch=8, most=20, rate=0.0)
    recogniser = replace(fake(), network=Pooled().eval())
    attacker.fit(recogniser, known(pixelate))
    test = people(4, 2, seed=3)
    expected = fake().embed(test.images(), test.points5)
    # It starts as the identity, and a rate of 0 leaves it there.
    torch.testing.assert_close(attacker.embed(test, protected=False), expected, atol=1e-4, rtol=0)


def test_learned_inverse_undoes_a_change_of_levels() -> None:
    attacker = Restorer(steps=60, batch=8, patch=24)
    attacker.fit(fake(), known(faint))
    test = people(6, 2, seed=3)
    before = (faint(test).images() - test.images()).abs().mean()
    after = (attacker.restore(faint(test).images()) - test.images()).abs().mean()
    assert float(after) < 0.4 * float(before)


def test_generic_restorer_improves_photographs_that_it_was_never_shown() -> None:
    attacker = GenericRestorer(steps=250, batch=8, patch=24)
    attacker.fit(fake(), known(lambda photos: photos))
    test = people(6, 2, seed=3).images()
    worse = degraded(test, torch.Generator().manual_seed(5))
    assert float((attacker.restore(worse) - test).square().mean()) < 0.95 * float((worse - test).square().mean())


def test_noise_of_the_diffusion_is_the_integral_of_its_rate() -> None:
    for time in (0.05, 0.2):
        grid = torch.linspace(0, time, 20_001, dtype=torch.float64)
        weight = math.exp(-float(torch.trapezoid(0.1 + 19.9 * grid, grid)))
        assert noise_over_signal(time) == pytest.approx(math.sqrt((1 - weight) / weight), rel=1e-6)


def test_purifier_takes_off_some_of_the_noise_it_adds() -> None:
    attacker = Purifier(steps=120, batch=8, patch=16, backward=(1, 3), most=4)
    attacker.fit(fake(), known(noise))
    attacker.chosen = Course(0.05, 1)
    test = people(6, 2, seed=3).images()
    # Pictures of -1..1 hold twice the contrast of pictures of 0..1.
    added = noise_over_signal(0.05) / 2
    assert float((attacker.restore(test) - test).std()) < 0.9 * added


def test_realign_finds_faces_where_the_given_points_are_off() -> None:
    test = people(12, 4, seed=3)
    shifted = Photos(test.faces, test.points5 + torch.tensor([5.0, -4.0]), test.gallery)
    published, attacker = AsPublished(), Realign(StillDetector)
    for each in (published, attacker):
        each.fit(fake(), known(noise))
    assert rank1(published, test, shifted) < 0.5
    assert rank1(attacker, test, shifted) > 0.9
    dark = shifted.with_images(shifted.images() * (torch.arange(len(test)) != 2).view(-1, 1, 1, 1))
    rows = attacker.embed(dark, protected=True)
    assert attacker.acquired.tolist() == [place != 2 for place in range(len(test))]
    assert torch.equal(rows[2], published.embed(dark, protected=True)[2])


def test_a_face_elsewhere_is_not_the_one_that_was_asked_for() -> None:
    test = people(4, 2, seed=3)
    attacker = Realign(StillDetector)
    attacker.fit(fake(), known(noise))
    attacker.embed(Photos(test.faces, test.points5 + 25, test.gallery), protected=True)
    assert not attacker.acquired.any()


# Known optics


def test_scaled_gaussian_is_the_wider_gaussian() -> None:
    wide = scaled_psf(0.9 * gaussian(2.0, 25).double(), 1.2)[0]
    x = torch.arange(len(wide), dtype=torch.float64) - len(wide) // 2
    assert len(wide) % 2 == 1
    assert float(wide.sum()) == pytest.approx(0.9)
    # Bilinear interpolation adds a sixth of a squared cell of width of its own.
    variance = 1.2**2 * (2.0**2 + 1 / 6)
    assert float((wide * x.square()).sum() / wide.sum()) == pytest.approx(variance, rel=0.01)


def test_known_blur_is_undone_and_a_wrong_one_less_well() -> None:
    psf = gaussian(1.5)
    knowledge = known(lambda photos: blurred(photos, psf), KnownBlur(psf, 0.0, 3))
    test = people(6, 2, seed=3)
    soft = blurred(test, psf).images()
    inner = (..., slice(8, -8), slice(8, -8))
    error = {}
    for wrong in (0.0, 0.2):
        attacker = KnownPsf(most=16, wrong=wrong)
        attacker.fit(fake(), knowledge)
        error[wrong] = float((attacker.restore(soft) - test.images())[inner].square().mean())
    blur = float((soft - test.images())[inner].square().mean())
    assert error[0.0] < 0.3 * blur
    assert error[0.0] < error[0.2]


def test_monochrome_optics_show_grey_on_both_sides() -> None:
    psf = gaussian(1.0, 7)
    attacker = KnownPsf(most=8)
    attacker.fit(fake(), known(lambda photos: blurred(photos, psf), KnownBlur(psf, 0.0, 1)))
    for pictures in (attacker.restore(people(2, 2, seed=3).images()), attacker.clean(people(2, 2, seed=3).images())):
        assert pictures.shape == (4, 3, SIDE, SIDE)
        assert torch.equal(pictures[:, 0], pictures[:, 2])


def test_known_psf_names_people_whom_the_published_recogniser_has_lost(sface_weights: Path, tmp_path: Path) -> None:
    size, psf = 64, gaussian(2.6, 19)
    recogniser = replace(
        fake(),
        network=load_sface(sface_weights).folded(),
        points=template(112),
        input_size=(112, 112),
        embedding_dim=128,
        value_range=(0.0, 255.0),
    )

    def heads(count: int, captures: int, first: int) -> Photos:
        faces = generate(count, captures, size=size, seed=5, first_identity=first, cache_dir=tmp_path)
        return Photos(faces, five_points(faces.landmarks), faces.capture < captures // 2)

    train, validation, test = heads(4, 2, 0), heads(4, 2, 100), heads(12, 3, 200)
    knowledge = Knowledge(
        train, blurred(train, psf), validation, blurred(validation, psf), KnownBlur(psf, 0.0, 3), seed=0
    )
    found = {}
    for attacker in (AsPublished(), KnownPsf(most=4)):
        attacker.fit(recogniser, knowledge)
        found[attacker.name] = rank1(attacker, test, blurred(test, psf))
    assert found["known-psf"] > 0.85 > found["as-published"] + 0.1


# Pixels


def test_gaussian_blur_has_the_width_it_says() -> None:
    spot = torch.zeros(1, 3, 41, 41, dtype=torch.float64)
    spot[..., 20, 20] = 1
    result = pixels.gaussian_blur(spot, 2.0)[0, 1]
    x = torch.arange(41.0, dtype=torch.float64) - 20
    assert float(result.sum()) == pytest.approx(1)
    assert float((result.sum(0) * x.square()).sum()) == pytest.approx(4.0, rel=0.03)


def test_jpeg_keeps_channels_in_place_and_worse_quality_loses_more() -> None:
    images = people(2, 2, seed=3).images()
    fine, coarse = (pixels.jpeg(images, [quality] * 4) for quality in (95, 10))
    assert float((fine - images).abs().mean()) < 0.02
    assert float((coarse - images).abs().mean()) > 2 * float((fine - images).abs().mean())
