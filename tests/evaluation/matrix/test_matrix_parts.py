"""The pieces of the matrix against hand-worked numbers and closed forms."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from evaluation import EvaluationError, Threshold
from evaluation.config import EvaluateConfig, controls
from evaluation.matrix import jobs
from evaluation.matrix.jobs import Site
from evaluation.matrix.keys import content_key
from evaluation.matrix.perceptual import check_no_near_duplicates, perceptual_hashes
from evaluation.matrix.remember import remembering
from evaluation.matrix.scoring import (
    Labels,
    centre_of,
    centred,
    compare,
    figures,
    freeze,
    leaked_gallery,
    net_protection,
    protection_of_people,
)
from evaluation.matrix.store import Store
from evaluation.people import Part, check_parts, restore, store
from evaluation.photos import Photos
from evaluation.records import Latency
from evaluation.verdicts import presets, tables
from evaluation.verdicts.certificates import channel_bits
from faces.errors import FaceFailed, FacesError
from faces.protection import KnownBlur
from faces.samples import FaceSet, five_points, linear_to_srgb, srgb_to_linear
from optishield.run.folder import RunFolder
from tests.evaluation.matrix import matrix_fakes
from tests.evaluation.matrix.conftest import small


def _photos(faces: FaceSet, enrolled: int = 2) -> Photos:
    return Photos(faces, five_points(faces.landmarks), faces.capture < enrolled)


def _part(faces: FaceSet) -> Part:
    photos = _photos(faces)
    return Part(photos, photos.subset(torch.zeros(len(photos), dtype=torch.bool)))


# Splits


def test_a_person_or_a_picture_in_two_parts_is_refused() -> None:
    first, second = matrix_fakes.heads(4, 4, 0), matrix_fakes.heads(4, 4, 100)
    check_parts({"train": _part(first), "test": _part(second)})
    with pytest.raises(FacesError, match="person 0 of 'noise pictures' is in the parts 'train' and 'test'"):
        check_parts({"train": _part(first), "test": _part(matrix_fakes.heads(2, 4, 0))})
    copied = replace(second, images=torch.cat([first.images[:1], second.images[1:]]))
    with pytest.raises(FacesError, match="same pixels as image 0 of the part 'train'"):
        check_parts({"train": _part(first), "test": _part(copied)})


def _jpeg(image: Tensor, quality: int) -> Tensor:
    _, data = cv2.imencode(".jpg", image.permute(1, 2, 0).numpy()[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    back = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert back is not None
    return torch.from_numpy(np.ascontiguousarray(back[..., ::-1])).permute(2, 0, 1)


def test_a_compressed_copy_of_a_picture_is_found() -> None:
    first, second = matrix_fakes.heads(4, 4, 0), matrix_fakes.heads(4, 4, 100)
    squeezed = _jpeg(first.images[5], 40)
    assert not torch.equal(squeezed, first.images[5])
    copied = replace(second, images=torch.cat([second.images[:3], squeezed[None], second.images[4:]]))
    with pytest.raises(
        EvaluationError, match=r"Image 5 of the part 'train' \(person 1\) and image 3 of the part 'test' \(person 100\)"
    ):
        check_no_near_duplicates({"train": first, "test": copied})


def test_the_hash_is_the_sign_of_cosine_sums() -> None:
    faces = matrix_fakes.heads(1, 1, 7)
    # Frames of the size of the thumbnail are taken as they are.
    big = faces.images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    grey = (big[0].double() * torch.tensor([0.299, 0.587, 0.114]).double()[:, None, None]).sum(0).numpy()
    place = np.arange(64) + 0.5
    waves = [[np.sum(grey * np.outer(np.cos(np.pi * u * place / 64), np.cos(np.pi * v * place / 64)))
              / math.sqrt(1 + (u == 0)) / math.sqrt(1 + (v == 0)) for v in range(16)] for u in range(16)]  # fmt: skip
    low = np.ravel(waves)[1:]
    expected = np.packbits(low > np.median(low))
    found = perceptual_hashes(replace(faces, images=big))
    assert int(np.bitwise_count(found[0] ^ expected).sum()) <= 2  # float32 brightness against float64


# Scoring

LABELS = Labels(
    np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]),
    np.array([True, True, False, False] * 3),
    np.array([0, 1, 2, 3] * 3),
)
AXES = np.eye(3).repeat(4, axis=0)


def test_combinations_take_gallery_and_probe_from_the_right_side() -> None:
    turned = np.roll(AXES, 1, axis=1)
    sides = {False: AXES, True: turned}
    rates = {name: compare(sides, LABELS, name).named().mean() for name in ("CC", "CP", "PC", "PP")}
    assert rates == {"CC": 1, "CP": 0, "PC": 0, "PP": 1}


def test_faces_that_were_not_acquired_are_guessed() -> None:
    lost = AXES.copy()
    lost[[2, 6]] = np.nan
    comparison = compare({False: AXES, True: lost}, LABELS, "CP")
    threshold = Threshold(0.1, 0.5, 100)
    assert comparison.accepted(threshold).tolist() == [0.1, 1, 0.1, 1, 1, 1]
    assert comparison.named(1).tolist() == pytest.approx([1 / 3, 1, 1 / 3, 1, 1, 1])
    # A person whose whole gallery was lost has no template: probes of that person are guesses, the others are not.
    lost = AXES.copy()
    lost[[0, 1]] = np.nan
    comparison = compare({False: AXES, True: lost}, LABELS, "PC")
    assert comparison.accepted(threshold).tolist() == [0.1, 0.1, 1, 1, 1, 1]
    assert comparison.matrix.template_id.tolist() == [1, 2]
    with pytest.raises(EvaluationError, match="none of the 6 probes of the combination CP"):
        compare({False: AXES, True: np.full_like(AXES, np.nan)}, LABELS, "CP")


def test_net_protection_counts_pairs_that_match_clean() -> None:
    people = np.array([0, 0, 1, 1, 2, 2])
    clean = np.array([1, 1, 1, 0, 1, 0.0])
    protected = np.array([0, 1, 0, 1, 0, 0.0])
    net = net_protection(protected, clean, people)
    assert net is not None
    assert net.value == pytest.approx(3 / 4)
    assert net_protection(protected, np.array([1, 1, 0, 0, 0, 0.0]), people) is None


def test_figures_of_an_attack_that_half_succeeds() -> None:
    turned = AXES.copy()
    turned[[3, 7, 11]] = np.roll(AXES, 1, axis=1)[[3, 7, 11]]
    sides = {False: AXES, True: turned}
    frozen = {0.1: Threshold(0.1, 0.5, 300), 0.01: Threshold(0.01, 0.9, 3000)}
    row = figures(compare(sides, LABELS, "CP"), compare(sides, LABELS, "CC"), frozen, frozen)
    assert row.psr == row.psr_net == row.rank1 == row.psr_net_at_fmr["0.01"] == 0.5
    # Each of three turned probes matches one of the two strangers: 3 of 12 impostor comparisons.
    assert row.fmr == pytest.approx(3 / 12)
    assert (row.tar_clean, row.identities, row.probes, row.chance_rank1) == (1, 3, 6, 1 / 3)


def test_thresholds_need_impostors_enough() -> None:
    rng = np.random.default_rng(0)
    labels = Labels(np.arange(40).repeat(4), np.tile([True, True, False, False], 40), np.tile(np.arange(4), 40))
    rows = rng.normal(size=(160, 8))
    comparison = compare({False: rows, True: rows}, labels, "CC")
    frozen = freeze(comparison, (0.001, 0.01, 0.1), "abc")
    # 80 probes against 39 strangers: 3120 comparisons, too few for .001, which is kept only as the primary one.
    assert {alpha: value.supported for alpha, value in frozen.items()} == {0.001: False, 0.01: True, 0.1: True}
    assert list(freeze(comparison, (0.1, 0.01, 0.001), "abc")) == [0.1, 0.01]
    false = [float((comparison.matrix.impostor > value.value).mean()) for value in frozen.values()]
    assert false == pytest.approx([0.001, 0.01, 0.1], abs=1e-3)


def test_leaked_photographs_are_nested_and_as_many_as_said() -> None:
    labels = Labels(np.arange(20).repeat(4), np.tile([True, True, False, False], 20), np.tile(np.arange(4), 20))
    sides = {False: np.zeros((80, 2)), True: np.ones((80, 2))}
    leaked = [set(np.flatnonzero(leaked_gallery(sides, labels, share, 3)[:, 0] == 0)) for share in (0, 0.1, 0.5, 1)]
    assert [len(rows) for rows in leaked] == [0, 4, 20, 40]
    assert leaked[1] < leaked[2] < leaked[3]
    assert all(labels.gallery[list(rows)].all() for rows in leaked)


def test_templates_are_cut_to_the_first_photographs() -> None:
    shuffled = Labels(LABELS.identity, np.array([True, True, True, False] * 3), np.array([3, 1, 2, 0] * 3))
    assert np.flatnonzero(shuffled.first_enrolled(1)).tolist() == [1, 5, 9]
    assert np.flatnonzero(shuffled.first_enrolled(2)).tolist() == [1, 2, 5, 6, 9, 10]


def test_centre_ignores_lost_rows_and_protection_is_per_person() -> None:
    rows = np.array([[1.0, 0.0], [0.0, 1.0], [np.nan, np.nan]])
    assert centre_of(rows).tolist() == [0.5, 0.5]
    moved = centred({True: rows}, {True: centre_of(rows)})[True]
    assert moved[:2] == pytest.approx(np.array([[1, -1], [-1, 1]]) / math.sqrt(2))
    assert np.isnan(moved[2]).all()
    turned = AXES.copy()
    turned[3] = AXES[4]
    comparison = compare({False: AXES, True: turned}, LABELS, "CP")
    people, shares = protection_of_people(comparison, Threshold(0.1, 0.5, 100))
    assert (people.tolist(), shares.tolist()) == ([0, 1, 2], [0.5, 0, 0])


# Store and memory


def test_a_damaged_result_is_made_again(tmp_path: Path) -> None:
    kept = Store(tmp_path / "store")
    made: list[int] = []

    def make() -> tuple[dict[str, Tensor], dict[str, Any]]:
        made.append(1)
        return {"x": torch.arange(3)}, {"seconds": 1.5}

    key = content_key("test", "evaluation.matrix.store", a=1)
    for _ in range(2):
        tensors, facts = kept.once(key, make)
    assert (tensors["x"].tolist(), facts, len(made)) == ([0, 1, 2], {"seconds": 1.5}, 1)
    kept.path(key).write_bytes(kept.path(key).read_bytes()[:-5])
    assert kept.once(key, make)[0]["x"].tolist() == [0, 1, 2]
    assert len(made) == 2
    assert [path.suffix for path in kept.folder.iterdir()] == [".safetensors"]


def test_a_fine_tuned_network_is_not_mistaken_for_the_published_one(tmp_path: Path) -> None:
    recogniser = remembering(matrix_fakes.load_recogniser("pixels"), Store(tmp_path))
    photos = _photos(matrix_fakes.heads(3, 4, 0))
    images = photos.images()
    plain = matrix_fakes.load_recogniser("pixels").embed(images, photos.points5)
    for _ in range(2):
        assert torch.equal(recogniser.embed(images, photos.points5), plain)
    assert len(list(tmp_path.iterdir())) == 1
    weight = recogniser.network.get_parameter("weight")
    with torch.no_grad():
        weight.mul_(torch.linspace(0.1, 2, weight.shape[1]))
    assert not torch.allclose(recogniser.embed(images, photos.points5), plain)
    wanted = images.clone().requires_grad_()
    recogniser.embed(wanted, photos.points5).sum().backward()
    assert wanted.grad is not None
    assert float(wanted.grad.abs().sum()) > 0


# Protection


def _site(tmp_path: Path) -> Site:
    config = small()
    run = RunFolder.create(
        verb="evaluate", slug="x", out=tmp_path / "run", config=config, command=["x"], seeds={"seed": 0}
    )
    parts = {name: _part(matrix_fakes.heads(4, 4, 100 * at)) for at, name in enumerate(("train", "test"), start=1)}
    store(run, parts)
    run.close()
    assert torch.equal(restore(run.path, "test").photos.faces.images, parts["test"].photos.faces.images)
    makers = (matrix_fakes.make_protector, matrix_fakes.make_attacker, matrix_fakes.load_recogniser)
    return Site(run.path, tmp_path / "store", config, "hash", *makers)


class _Elsewhere:
    """A protector that notes where the photographs lie that it is given, and hands back grey ones on the CPU."""

    def __init__(self, inner: Any, seen: list[str]) -> None:
        self._inner = inner
        self._seen = seen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def protect(self, images: torch.Tensor, points5: torch.Tensor, identity: torch.Tensor, generator: Any) -> Any:
        self._seen += [images.device.type, points5.device.type, identity.device.type]
        return torch.full(images.shape, 0.5)


def test_protectors_work_on_the_device_of_the_site_and_results_of_its_kind_are_kept_apart(tmp_path: Path) -> None:
    here = _site(tmp_path)
    seen: list[str] = []
    # "meta" has shapes but no values; what is shown to a protector can be told apart without a GPU.
    there = replace(
        here, device="meta", make_protector=lambda name: _Elsewhere(matrix_fakes.make_protector(name), seen)
    )
    key = jobs.protect(there, "noise", "test", 1).key
    assert set(seen) == {"meta"}
    assert jobs.protected_photos(there, "test", key).faces.images.device.type == "cpu"
    assert there.store.folder == tmp_path / "store" / "meta"
    assert here.store.folder == tmp_path / "store"
    assert here.store.read(key) is None
    jobs.latency(there, "noise")
    assert set(seen) == {"meta"}


def test_frames_are_averaged_in_linear_light(tmp_path: Path) -> None:
    site = _site(tmp_path)
    photos = site.part("test").photos
    one = jobs.protected_photos(site, "test", jobs.protect(site, "noise", "test", 1).key)
    many = jobs.protected_photos(site, "test", jobs.protect(site, "noise", "test", 16).key)
    clean = srgb_to_linear(photos.images().double())
    sd = [float((srgb_to_linear(shown.images().double()) - clean).std()) for shown in (one, many)]
    # The mean of 16 independent frames has a quarter of the noise; clipping and rounding add a little.
    assert sd[1] / sd[0] == pytest.approx(0.25, abs=0.03)
    again = jobs.protect(site, "noise", "test", 1)
    assert again == jobs.protect(site, "noise", "test", 1)
    assert again.images == 16
    dark, light = torch.tensor(0.1), torch.tensor(0.9)
    mean = linear_to_srgb((srgb_to_linear(dark) + srgb_to_linear(light)) / 2)
    assert float(mean) > 0.6  # and not .5


class _Bad(matrix_fakes.Fake):
    def protect(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> Tensor:
        return images * 2 if self.spec == "bright" else images[:1]


@pytest.mark.parametrize(("spec", "text"), [("bright", r"values in 0\.\d+\.\.\d\.\d+; clamp"), ("one", "returned")])
def test_pictures_out_of_range_or_shape_are_refused(spec: str, text: str) -> None:
    with pytest.raises(EvaluationError, match=text):
        jobs.protected_images(_Bad(spec), _photos(matrix_fakes.heads(2, 4, 0)), 0)


class _Picky(matrix_fakes.Fake):
    """Cannot protect the third and the sixth photograph, whoever stands beside them, and inverts the others."""

    def protect(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> Tensor:
        for row, image in enumerate(images):
            if float(image.flatten()[0]) in self.bad:
                raise FaceFailed(row, "no change keeps the similarity")
        return 1 - images

    bad: tuple[float, ...] = ()


def test_a_photograph_that_cannot_be_protected_stays_as_it_was_and_costs_no_other() -> None:
    photos = _photos(matrix_fakes.heads(2, 4, 0))
    images = photos.images()
    picky = _Picky("picky")
    picky.bad = (float(images[2].flatten()[0]), float(images[5].flatten()[0]))
    found, left = jobs.protected_as_far_as_possible(picky, photos, 0)
    expected = [row for row in range(len(images)) if float(images[row].flatten()[0]) in picky.bad]
    assert {2, 5} <= left == set(expected)
    for row in range(len(images)):
        assert torch.equal(found[row], images[row] if row in left else 1 - images[row])


def test_a_protector_that_names_a_row_which_it_was_not_given_is_refused() -> None:
    class Lost(matrix_fakes.Fake):
        def protect(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> Tensor:
            raise FaceFailed(len(images), "nobody")

    with pytest.raises(EvaluationError, match="named row 8 of 8 as the one that it could not protect"):
        jobs.protected_as_far_as_possible(Lost("lost"), _photos(matrix_fakes.heads(2, 4, 0)), 0)


# Certificates, tables, presets, settings


def test_bits_through_a_pinhole_of_white_scenes() -> None:
    generator = torch.Generator().manual_seed(0)
    light = torch.randn(4000, 3, 4, 4, generator=generator, dtype=torch.float64) * 0.3
    blur = KnownBlur(torch.ones(1, 1, 1) * 0.5, noise_sd=0.1, planes=3)
    for frames in (1, 4):
        expected = 48 / 2 * math.log2(1 + frames * 0.25 * 0.09 / 0.01)
        assert channel_bits(light, blur, frames) == pytest.approx(expected, rel=0.01)
    grey = KnownBlur(torch.ones(1, 1, 1) * 0.5, noise_sd=0.1, planes=1)
    assert channel_bits(light, grey, 1) == pytest.approx(16 / 2 * math.log2(1 + 0.25 * 0.03 / 0.01), rel=0.02)
    with pytest.raises(EvaluationError, match="5 pixels is larger than photographs of 4"):
        channel_bits(light, KnownBlur(torch.ones(1, 5, 5), 0.1, 3), 1)


def test_latency_and_throughput_by_hand() -> None:
    assert tables.percentile([0.01] * 18 + [0.05, 0.2]) == 0.2
    assert tables.percentile([0.01] * 19 + [0.2]) == pytest.approx(0.2)
    assert tables.percentile([0.01] * 39 + [0.2]) == 0.01
    assert tables.throughput({1: 0.3, 2: 0.5, 4: 0.9}) == pytest.approx(5)
    assert tables.throughput({1: 0.3}) is None


def test_slow_protectors_are_timed_on_fewer_photographs(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, asked = [0.0], []

    def protect(_: object, photos: Photos, seed: int) -> Tensor:
        asked.append(len(photos))
        clock[0] += cost * len(photos)
        return photos.images()

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(jobs, "protected_images", protect)
    part = _part(matrix_fakes.heads(8, 4, 0))
    site = SimpleNamespace(
        part=lambda _: part, there=lambda photos: photos, make_protector=matrix_fakes.make_protector, config=small()
    )
    cost = 0.5
    found = jobs.latency(site, "negative")  # type: ignore[arg-type]
    assert found == Latency((0.5,) * 3, {1: 0.5, 2: 1.0, 4: 2.0, 8: 4.0, 16: 8.0})
    cost = 20.0
    asked.clear()
    assert jobs.latency(site, "negative") == Latency((20.0,) * 2, {1: 20.0, 2: 40.0})  # type: ignore[arg-type]
    # One more, at first, to warm up.
    assert asked == [1, 1, 1, 1, 2]


@pytest.mark.parametrize(("name", "share", "people"), [("S1", 0.8, 50), ("S2", 0.5, 500)])
def test_presets_state_what_they_change(name: str, share: float, people: int) -> None:
    config = EvaluateConfig.for_preset(name, "standard")
    assert config.people.gallery_captures / config.people.captures == share
    assert config.people.test_people == people
    text = " ".join(presets.deviations(config))
    assert all(published in text for key, published in presets.PUBLISHED[name].items() if key != "measure")
    assert presets.deviations(EvaluateConfig.for_tier("standard")) == []


def test_settings_are_checked() -> None:
    for tier in ("smoke", "standard", "full"):
        assert EvaluateConfig.for_tier(tier).protectors[:-1] == controls(112)
    for change, text in (
        ({"protectors": ["noise", "noise"]}, "protectors names one of noise, noise twice"),
        ({"scoring": {"alphas": [0.0]}}, r"alphas\.0\s+Input should be greater than 0"),
        ({"people": {**small().people.model_dump(), "gallery_captures": 4}}, "no probe is left"),
    ):
        with pytest.raises(ValidationError, match=text):
            small(**change)
    with pytest.raises(ValueError, match="no tier is called 'huge'"):
        EvaluateConfig.for_tier("huge")
