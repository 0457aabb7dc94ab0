"""Levels with gradients, work in parts, and the words for a protector that is broken; area resampling."""

from __future__ import annotations

import math
import pickle
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from faces.errors import FaceFailed
from faces.protection import Declaration
from faces.samples import linear_to_srgb, srgb_to_linear
from protectors import drawing
from protectors.base import ROUNDING_SD, PhotoProtector, refuse, whole_levels, with_given
from protectors.errors import ProtectorError
from protectors.resampling import area_matrix, area_resample


class Recorder(PhotoProtector):
    """Hands on what ``change`` gets, and returns what it is told to."""

    about = Declaration("recorder", "records its input", "own", frozenset())
    chunk = 3

    def __init__(self, result: Tensor | None = None) -> None:
        super().__init__((), strength=0.25, steps=3, absent=None, file="abc")
        self.result = result
        self.changed: list[tuple[Tensor, ...]] = []
        self.prepared: list[tuple[Tensor, ...]] = []

    def change(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> Tensor:
        self.changed.append((images, points5, identity))
        return images if self.result is None else self.result

    def prepare(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> None:
        self.prepared.append((images, points5, identity))


def batch(count: int) -> tuple[Tensor, Tensor, Tensor, torch.Generator]:
    generator = torch.Generator().manual_seed(count)
    images = torch.rand(count, 3, 8, 8, generator=generator)
    return images, torch.rand(count, 5, 2, generator=generator), torch.arange(count), generator


def test_levels_are_those_of_a_file() -> None:
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 1.4 - 0.2
    file = np.rint(images.numpy().clip(0, 1) * 255).astype(np.uint8)
    np.testing.assert_array_equal(whole_levels(images).numpy(), file.astype(np.float32) / np.float32(255))


def test_gradient_goes_through_rounding_and_ends_at_black_and_white() -> None:
    values = torch.tensor([-0.1, 0.0, 0.3001, 0.77, 1.0, 1.2], requires_grad=True)
    (gradient,) = torch.autograd.grad((whole_levels(values) * torch.arange(6)).sum(), values)
    assert gradient.tolist() == [0, 1, 2, 3, 4, 0]


def test_rounding_noise_at_mid_grey() -> None:
    # Light around 18 % grey, spread evenly over several levels, as the photo of it is read back.
    light = torch.linspace(0.17, 0.19, 200_001, dtype=torch.float64)
    error = srgb_to_linear(whole_levels(linear_to_srgb(light))) - light
    assert float(error.std()) == pytest.approx(ROUNDING_SD, rel=0.03)


def test_batch_is_taken_in_parts_that_belong_together() -> None:
    images, points5, identity, generator = batch(7)
    recorder = Recorder()
    result = recorder.protect(images, points5, identity, generator)
    assert [len(part[0]) for part in recorder.changed] == [3, 3, 1]
    for whole, parts in zip((images, points5, identity), zip(*recorder.changed, strict=True), strict=True):
        assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(result, whole_levels(images))


def test_fit_shows_everybody_at_once() -> None:
    images, points5, identity, generator = batch(7)
    recorder = Recorder()
    recorder.fit(images, points5, identity, generator)
    ((seen, *_),) = recorder.prepared
    assert torch.equal(seen, images)
    assert recorder.changed == []


def test_settings_are_declared_as_text() -> None:
    declared = Recorder().declaration
    assert declared.settings == (("strength", "0.25"), ("steps", "3"), ("file", "abc"))
    assert Recorder.about.settings == ()


def test_recognisers_are_declared_apart_from_settings() -> None:
    class Tuned(Recorder):
        def __init__(self) -> None:
            PhotoProtector.__init__(self, ("sface",), surrogates="a setting of its own")

    assert Recorder().declaration.surrogates == ()
    assert Tuned().declaration.surrogates == ("sface",)
    assert Tuned().declaration.settings == (("surrogates", "a setting of its own"),)


class Refusing(Recorder):
    """Cannot protect photos that are black."""

    def change(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> Tensor:
        refuse(images.flatten(1).amax(1) == 0, "it is black.")
        return images


@pytest.mark.parametrize("row", range(7))
def test_face_that_fails_is_named_by_its_place_in_the_batch(row: int) -> None:
    images, points5, identity, generator = batch(7)
    images[row] = 0
    with pytest.raises(FaceFailed, match=rf"^face {row + 1} of the batch: it is black\.$") as caught:
        Refusing().protect(images, points5, identity, generator)
    assert (caught.value.index, caught.value.reason) == (row, "it is black.")
    # As it comes out of a worker process.
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.index, str(again)) == (row, str(caught.value))


def test_values_that_are_not_finite_are_the_fault_of_one_face() -> None:
    result = torch.zeros(3, 3, 8, 8)
    result[1, 0, 0, 0] = math.inf
    with pytest.raises(FaceFailed, match=r"recorder made values of this face that are not finite; .*'steps': '3'"):
        Recorder(result).protect(*batch(3))


@pytest.mark.parametrize("result", [torch.zeros(3, 3, 8, 7), torch.zeros(2, 3, 8, 8)])
def test_broken_protector_is_named(result: Tensor) -> None:
    with pytest.raises(
        ProtectorError, match=r"recorder made of photos \(3, 3, 8, 8\) something of shape .*'steps': '3'"
    ):
        Recorder(result).protect(*batch(3))


@dataclass(frozen=True)
class Chosen:
    steps: int
    rate: float


def test_preset_keeps_what_was_not_given_and_zero_is_given() -> None:
    preset = Chosen(steps=4, rate=0.5)
    assert with_given(preset, steps=None, rate=0.0) == Chosen(steps=4, rate=0.0)
    assert with_given(preset) == preset


def test_same_seed_draws_the_same_numbers_on_each_device(other_device: torch.device) -> None:
    def drawn(device: torch.device) -> list[Tensor]:
        generator, like = torch.Generator().manual_seed(3), torch.zeros(1, device=device)
        return [
            drawing.uniform((2, 3), generator, like),
            drawing.around_zero((2, 3), generator, like),
            drawing.normal((2, 3), generator, like),
            drawing.whole(-5, 6, (2, 3), generator, like),
            drawing.order(7, generator, like),
        ]

    here, there = drawn(torch.device("cpu")), drawn(other_device)
    assert all(one.device == other_device for one in there)
    assert all(torch.equal(one, other.cpu()) for one, other in zip(here, there, strict=True))
    expected = torch.Generator().manual_seed(3)
    assert torch.equal(here[0], torch.rand(2, 3, generator=expected))


def test_acted_device_refuses_what_a_real_one_refuses(other_device: torch.device) -> None:
    there = torch.arange(3.0, device=other_device)
    with pytest.raises(RuntimeError, match=r"two devices|on the same device"):
        there + torch.ones(3)
    assert (there + torch.ones(())).tolist() == [1, 2, 3]
    assert there[torch.tensor([2, 0])].tolist() == [2, 0]
    (gradient,) = torch.autograd.grad((there.requires_grad_() ** 2).sum(), there)
    assert gradient.device == other_device
    assert gradient.tolist() == [0, 2, 4]


# Area resampling


@pytest.mark.parametrize(("source", "target"), [(112, 64), (64, 112), (5, 3), (32, 64), (64, 32), (7, 1), (1, 7)])
def test_area_resampling_is_the_mean_of_the_finest_common_pixels(source: int, target: int) -> None:
    row = torch.rand(source, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = row.repeat_interleave(target).reshape(target, source).mean(1)
    torch.testing.assert_close(area_matrix(source, target) @ row, expected, atol=1e-12, rtol=0)


def test_area_resampling_does_not_mix_up_rows_and_columns() -> None:
    picture = torch.arange(36.0).reshape(1, 1, 6, 6)
    expected = torch.nn.functional.avg_pool2d(picture, 3)
    torch.testing.assert_close(area_resample(picture, 2), expected)
    assert torch.equal(area_resample(picture, 6), picture)
