"""Attackers on easy patterns and on frames that carry nothing; the Wiener filter against closed forms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from evaluation import EvaluationError, rank_k, score_matrix
from evaluation.frame_attackers.crop_network import CropNetwork
from evaluation.frame_attackers.encoded import Crop
from evaluation.frame_attackers.recognisers import (
    Attacker,
    EncodedFaces,
    LinearDiscriminant,
    ScratchRecogniser,
    SFaceAttacker,
    UNetInverter,
    WienerFilter,
    face_crop,
)
from faces.alignment import align, template
from faces.recognisers import SFace, load_sface
from optics import bin_pixels, convolve

SIDE = 32
# Where the five points of an upright face lie when it fills a frame of 32 pixels, edge to edge with the crop.
POINTS = template(26) + 3


def patterns(people: int, captures: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """One smooth picture for each person; captures differ a little in brightness and in detail."""
    generator = torch.Generator().manual_seed(seed)

    def smooth(count: int) -> torch.Tensor:
        coarse = torch.randn(count, 1, 6, 6, generator=generator)
        return torch.nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bicubic")

    own, change = smooth(people).repeat_interleave(captures, 0), smooth(people * captures)
    light = 1 + 0.1 * torch.randn(people * captures, 1, 1, 1, generator=generator)
    scenes = ((0.5 + 0.15 * own + 0.03 * change) * light).clamp(0, 1)
    return scenes, torch.arange(people).repeat_interleave(captures) + 1000 * seed


def noisy(signal: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return signal + 0.03 * torch.randn(signal.shape, generator=generator)


def blind(signal: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A sensor that shows noise only."""
    return 0.5 + 0.1 * torch.randn(signal.shape, generator=generator)


def encoded(people: int, captures: int, seed: int, read: Callable[..., torch.Tensor] = noisy) -> EncodedFaces:
    scenes, identity = patterns(people, captures, seed)
    points = POINTS.expand(len(scenes), 5, 2)
    capture = torch.arange(captures).repeat(people)
    return EncodedFaces(scenes, identity, capture, points, SIDE, read)


def rank1(attacker: Attacker, faces: EncodedFaces, seed: int = 5) -> float:
    rows = attacker.embed(faces, seed)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(len(faces)), atol=1e-4, rtol=0)
    enrolled = faces.capture < 2
    return rank_k(score_matrix(rows[enrolled], faces.identity[enrolled], rows[~enrolled], faces.identity[~enrolled]), 1)


def linear() -> Attacker:
    return LinearDiscriminant(seed=0, crop=Crop(12, 0.8))


def scratch() -> Attacker:
    return ScratchRecogniser(seed=0, steps=50, batch=32, crop=Crop(16, 0.8))


def crop_network() -> Attacker:
    return CropNetwork(seed=0, steps=40, batch=32)


def untrained_sface() -> SFace:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = SFace(56)
        for layer in network.modules():
            if isinstance(layer, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
                layer.momentum = 1.0
        # Random weights keep the signal alive only if every norm knows the statistics of its layer.
        network.train()(255 * patterns(16, 1, seed=9)[0].repeat(1, 3, 2, 2)[..., 4:60, 4:60])
        return network.eval()


def adapted() -> Attacker:
    return SFaceAttacker("adapted", "test", untrained_sface(), seed=0, adapt=True)


ATTACKERS = [linear, scratch, crop_network, adapted]


@pytest.mark.parametrize("make", [linear, scratch, crop_network])
def test_attacker_learns_people_it_has_never_met(make: Callable[[], Attacker]) -> None:
    attacker = make()
    attacker.fit(encoded(30, 4, seed=1))
    assert rank1(attacker, encoded(20, 4, seed=2)) > 0.6  # chance: .05


def test_published_recogniser_learns_people_it_has_never_met(sface_weights: Path) -> None:
    for steps, adapt in ((0, True), (6, False)):
        network = load_sface(sface_weights, input_size=56)
        attacker = SFaceAttacker("published", "test", network, seed=0, steps=steps, adapt=adapt, batch=16)
        attacker.fit(encoded(30, 4, seed=1))
        assert rank1(attacker, encoded(20, 4, seed=2)) > 0.6


@pytest.mark.parametrize("make", ATTACKERS)
def test_attacker_finds_nothing_in_pure_noise(make: Callable[[], Attacker]) -> None:
    attacker = make()
    attacker.fit(encoded(30, 4, seed=1, read=blind))
    assert rank1(attacker, encoded(20, 4, seed=2, read=blind)) < 0.2


@pytest.mark.parametrize("make", ATTACKERS)
def test_same_seed_same_bits(make: Callable[[], Attacker]) -> None:
    train, test = encoded(6, 3, seed=1), encoded(4, 2, seed=2)
    rows = []
    for _ in range(2):
        attacker = make()
        if isinstance(attacker, ScratchRecogniser | CropNetwork):
            attacker.steps = 3
        attacker.fit(train)
        rows.append(attacker.embed(test, 7))
    assert torch.equal(*rows)
    assert not torch.equal(rows[0], attacker.embed(test, 8))


def test_fine_tuning_changes_a_copy_only_and_is_repeatable() -> None:
    train, test = encoded(6, 3, seed=1), encoded(4, 2, seed=2)
    network = untrained_sface()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    rows: dict[int, list[torch.Tensor]] = {}
    for steps in (0, 2, 2):
        attacker = SFaceAttacker("tuned", "test", network, seed=0, steps=steps, batch=8)
        attacker.fit(train)
        rows.setdefault(steps, []).append(attacker.embed(test, 7))
    assert torch.equal(*rows[2])
    assert not torch.allclose(rows[0][0], rows[2][0], atol=1e-3)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_recogniser_sees_what_restore_shows() -> None:
    train, test = encoded(6, 3, seed=1), encoded(4, 2, seed=2)
    seen: list[torch.Size] = []

    def restore(frames: torch.Tensor) -> torch.Tensor:
        seen.append(frames.shape)
        return frames.flip(-1).repeat_interleave(2, -1).repeat_interleave(2, -2)

    shown = SFaceAttacker("shown", "test", untrained_sface(), seed=0, restore=restore)
    plain = SFaceAttacker("plain", "test", untrained_sface(), seed=0)
    for attacker in (shown, plain):
        attacker.fit(train)
    assert not torch.allclose(shown.embed(test, 7), plain.embed(test, 7), atol=1e-3)
    assert set(seen) == {torch.Size([18, 1, SIDE, SIDE]), torch.Size([8, 1, SIDE, SIDE])}


def test_three_people_cannot_train_an_attacker() -> None:
    with pytest.raises(EvaluationError, match=r"3 people are too few .* at least 4"):
        linear().fit(encoded(3, 4, seed=1))


def test_learned_inverse_comes_closer_to_the_scene_than_the_frame() -> None:
    def coarse(signal: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return 0.2 * noisy(bin_pixels(signal, 2) / 4, generator)

    train, test = encoded(30, 4, seed=1, read=coarse), encoded(20, 2, seed=2, read=coarse)
    inverter = UNetInverter(seed=0, steps=40, batch=12)
    inverter.fit(train, train.signal)
    restored = inverter.restore(test, 3)
    assert restored.shape == test.signal.shape
    assert float(restored.min()) >= 0 and float(restored.max()) <= 1
    spread = float((test.signal - train.signal.mean()).abs().mean())
    assert float((restored - test.signal).abs().mean()) < 0.5 * spread
    assert torch.equal(restored, inverter.restore(test, 3))
    with pytest.raises(EvaluationError, match="cannot be the targets"):
        inverter.fit(train, train.signal[:, :, :16, :16])


# Crops


def test_face_crop_is_the_standard_alignment() -> None:
    generator = torch.Generator().manual_seed(0)
    frames = torch.rand(3, 2, SIDE, SIDE, generator=generator)
    points = POINTS + torch.randn(3, 1, 2, generator=generator) + 0.3 * torch.randn(3, 5, 2, generator=generator)
    expected = align(frames.double(), points, 40)[..., 4:-4, 4:-4]
    torch.testing.assert_close(face_crop(frames.double(), points, SIDE, 40)[..., 4:-4, 4:-4], expected)


def test_points_are_those_of_the_scene_whatever_the_sensor() -> None:
    ramp = torch.arange(64, dtype=torch.float64).expand(1, 1, 64, 64)
    points = (2 * POINTS + 0.5).expand(1, 5, 2)  # the same places in a scene of 64 pixels
    fine = face_crop(ramp, points, 64, 24)
    coarse = face_crop(bin_pixels(ramp, 2) / 4, points, 64, 24)
    torch.testing.assert_close(fine[..., 2:-2, 2:-2], coarse[..., 2:-2, 2:-2])


def test_smaller_face_scale_shows_more_around_the_same_centre() -> None:
    ramp = torch.arange(SIDE, dtype=torch.float64).expand(1, 1, SIDE, SIDE)
    points = POINTS.expand(1, 5, 2)
    near, far = (face_crop(ramp, points, SIDE, 32, scale)[0, 0, 16] for scale in (1.0, 0.8))
    middle = slice(12, 20)
    torch.testing.assert_close(far[middle].mean(), near[middle].mean())
    assert float(far[middle].diff().mean() / near[middle].diff().mean()) == pytest.approx(1 / 0.8)


def test_coarse_crops_average_the_noise_of_fine_sensors() -> None:
    noise = torch.randn(50, 1, 96, 96, generator=torch.Generator().manual_seed(0))
    points = (3 * POINTS + 1).expand(50, 5, 2)
    crop = face_crop(noise, points, 96, 24)
    # 78 of 96 pixels become 24: about 3 x 3 pixels, more by interpolation, share each sample.
    assert float(crop.var()) < 1 / 9


# Wiener filter


def textures(count: int, seed: int) -> torch.Tensor:
    """Stationary periodic scenes around .5 with power falling as 1 / (1 + (f / f0)^2)^2."""
    generator = torch.Generator().manual_seed(seed)
    frequency = torch.fft.fftfreq(64)
    fall = 1 / (1 + (frequency[:, None] ** 2 + frequency[None, :64] ** 2) / 0.06**2)
    white = torch.randn(count, 1, 64, 64, generator=generator)
    scenes = torch.fft.ifft2(torch.fft.fft2(white) * fall).real
    return 0.5 + 0.15 * scenes / scenes.std()


def gaussian(sd: float, share: float = 1.0) -> torch.Tensor:
    line = torch.exp(-((torch.arange(15) - 7.0) ** 2) / (2 * sd**2))
    psf = line[:, None] * line[None, :]
    return (share * psf / psf.sum())[None]


def delta() -> torch.Tensor:
    return torch.nn.functional.pad(torch.ones(1, 1, 1), (1, 1, 1, 1))


INNER = (..., slice(12, 52), slice(12, 52))


def test_wiener_recovers_a_known_blur_when_there_is_hardly_noise() -> None:
    scenes = textures(60, 0)
    frames = convolve(scenes[40:], gaussian(0.8))
    restored = WienerFilter(gaussian(0.8), 64, scenes[:40], 1e-7)(frames)
    remaining = (restored - scenes[40:])[INNER].std() / (frames - scenes[40:])[INNER].std()
    assert float(remaining) < 0.15


def test_wiener_gain_without_blur_is_signal_over_signal_plus_noise() -> None:
    scenes = 0.5 + 0.2 * torch.randn(400, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    gain = WienerFilter(delta(), 64, scenes, 0.04).gain[0, 1:, 1:]
    assert float(gain.real.mean()) == pytest.approx(0.04 / (0.04 + 0.04), rel=0.02)
    assert float(gain.imag.abs().max()) < 1e-6


@pytest.mark.parametrize("pixels", [64, 16])
def test_wiener_gain_vanishes_in_noise_and_the_mean_passes(pixels: int) -> None:
    scenes = textures(40, 0)
    wiener = WienerFilter(gaussian(1.0, share=0.8), pixels, scenes, 1e8)
    assert float(wiener.gain.abs().flatten()[1:].max()) < 1e-3
    # A lens that keeps 80 % of the light shows .4 for .5.
    restored = wiener(torch.full((1, 1, pixels, pixels), 0.4))
    torch.testing.assert_close(restored, torch.full((1, 1, 64, 64), 0.5), atol=2e-3, rtol=0)


@pytest.mark.parametrize(("pixels", "psf"), [(64, gaussian(1.5)), (32, gaussian(1.5)), (16, delta())])
def test_wiener_is_best_with_the_true_noise(pixels: int, psf: torch.Tensor) -> None:
    scenes = textures(160, 0)
    sharp, sd = scenes[100:], 0.03
    frames = bin_pixels(convolve(sharp, psf), 64 // pixels) * (pixels / 64) ** 2
    frames = frames + sd * torch.randn(frames.shape, generator=torch.Generator().manual_seed(1))

    def error(variance: float) -> float:
        restored = WienerFilter(psf, pixels, scenes[:100], variance)(frames)
        return float((restored - sharp)[INNER].square().mean())

    true, held = error(sd**2), frames.repeat_interleave(64 // pixels, -1).repeat_interleave(64 // pixels, -2)
    assert true < min(error(30 * sd**2), error(sd**2 / 30))
    assert true < 0.8 * float((held - sharp)[INNER].square().mean())


def test_wiener_refuses_what_does_not_fit() -> None:
    scenes = textures(4, 0)
    with pytest.raises(EvaluationError, match="24 pixels do not divide 64 scene samples"):
        WienerFilter(delta(), 24, scenes, 1e-4)
    with pytest.raises(EvaluationError, match=r"\(3, 3, 3\) does not fit scenes"):
        WienerFilter(delta().expand(3, 3, 3), 32, scenes, 1e-4)
    with pytest.raises(EvaluationError, match="cannot be negative"):
        WienerFilter(delta(), 32, scenes, -1.0)
