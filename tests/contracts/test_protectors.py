"""What every protector keeps to. A new one is one more row of the table in ``protector_rows.py``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import getattr_static
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from codesign import masks
from codesign.cameras import geometry_of
from codesign.config import TrainMaskConfig
from codesign.export import write_camera
from faces import weights
from faces.dlib_resnet import DlibResNet
from faces.faceres import FaceRes
from faces.families import load_recogniser, recogniser_names
from faces.protection import Enrolling, Protector
from faces.recognisers import SFace, load_sface
from optishield.run.folder import RunFolder
from protectors import registry
from protectors.errors import ProtectorError
from protectors.registry import make_protector
from tests.contracts.protector_rows import ROWS, SIDE, Row

#: The networks of the recognisers.
PUBLISHED: dict[type[nn.Module], str] = {SFace: "sface", DlibResNet: "dlib-resnet", FaceRes: "faceres"}


each = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.spec)


@pytest.fixture(scope="module", autouse=True)
def fetched(sface_weights: Path, dlib_resnet_weights: Path, face_landmark_weights: Path) -> None:
    """Weights of the recognisers that protectors are tuned against, and of the landmarks that makeup follows."""


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, sface_weights: Path) -> Iterator[None]:
    """A cache of its own, so that networks which protectors train are trained by the code under test."""
    cache = tmp_path_factory.mktemp("cache")
    (cache / "weights").symlink_to(sface_weights.parent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPTISHIELD_CACHE", str(cache))
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the optical encoder needs of a training run, with the mask that training starts from."""
    config = TrainMaskConfig.for_budget("smoke")
    out = tmp_path_factory.mktemp("runs") / "run"
    folder = RunFolder.create(verb="train-mask", slug="start", config=config, command=[], seeds={}, out=out)
    mask = masks.start(config.mask, geometry_of(config.optics).grid, seeded(0))
    write_camera(config, folder, mask.state_dict())
    folder.write_json("summary.json", {})
    folder.close()
    return out


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photos(count: int, side: int = SIDE, channels: int = 3) -> Tensor:
    """Photos in whole levels: smooth shading, texture, and both ends of the range."""
    coarse = torch.rand(count, channels, 5, 5, generator=seeded(count))
    smooth = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear", align_corners=True)
    noisy = smooth * 1.2 - 0.1 + 0.1 * torch.rand(count, channels, side, side, generator=seeded(side))
    return ((noisy.clamp(0, 1) * 255).round() / 255).expand(-1, 3, -1, -1).clone()


def protected(protector: Protector, images: Tensor, seed: int = 1) -> Tensor:
    points5, identity = of_one_person(images)
    return protector.protect(images, points5.to(images.device), identity.to(images.device), seeded(seed))


def of_one_person(images: Tensor) -> tuple[Tensor, Tensor]:
    points = torch.tensor(((0.37, 0.41), (0.63, 0.41), (0.5, 0.56), (0.39, 0.7), (0.61, 0.7))) * images.shape[-1] - 0.5
    return points.expand(len(images), 5, 2), torch.zeros(len(images), dtype=torch.int64)


@contextmanager
def recognisers_asked() -> Iterator[set[str]]:
    """Names of the published recognisers that were loaded or run in the meantime, in whatever way."""
    asked: set[str] = set()
    verify, features = weights.verify, SFace.features

    def loaded(name: str, cache_dir: Path | None = None) -> Path:
        if name in recogniser_names():
            asked.add(name)
        return verify(name, cache_dir)

    def run_in_part(network: SFace, batch: Tensor) -> Tensor:
        asked.add("sface")
        return features(network, batch)

    def note(module: nn.Module, _: tuple[Any, ...]) -> None:
        if type(module) in PUBLISHED:
            asked.add(PUBLISHED[type(module)])

    hook = register_module_forward_pre_hook(note)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(weights, "verify", loaded)
            patch.setattr(SFace, "features", run_in_part)
            yield asked
    finally:
        hook.remove()


def nothing_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache without networks that methods train, so that they are trained before the eyes of a test."""
    kept = Path(os.environ["OPTISHIELD_CACHE"])
    for name in ("weights", "faces"):
        (kept / name).mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(kept / name)
    monkeypatch.setenv("OPTISHIELD_CACHE", str(tmp_path))


def made(row: Row, run: Path, device: torch.device | None = None) -> Protector:
    protector = make_protector(row.spec.format(run=run))
    if protector.declaration.person_specific:
        seen = photos(4)
        images, points5, identity = (shown.to(device or "cpu") for shown in (seen, *of_one_person(seen)))
        protector.fit(images, points5, identity, seeded(0))
    return protector


def test_every_protector_of_the_program_has_a_row() -> None:
    assert {row.spec.partition(":")[0] for row in ROWS} == set(registry.names())


@each
def test_results_are_photos_as_a_file_holds_them(row: Row, run: Path, device: torch.device) -> None:
    images = photos(3).to(device)
    before = images.clone()
    result = protected(made(row, run, device), images)
    assert result.shape == images.shape
    assert result.dtype == torch.float32
    assert result.device == device
    assert torch.equal(result, result.clamp(0, 1))
    assert torch.equal(result, (result * 255).round() / 255)
    assert torch.equal(images, before)


@each
def test_photos_are_worked_on_where_they_lie_with_the_same_numbers(
    row: Row, run: Path, other_device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing_trained(tmp_path, monkeypatch)
    images = photos(2)
    there = protected(made(row, run, other_device), images.to(other_device))
    assert there.device == other_device
    if other_device.type == "cuda":
        # Iterations that follow signs of gradients part ways after some steps, since sums differ in their last bits.
        return
    here = protected(made(row, run), images)
    # Optimisers take another form there, which rounds differently in the last bit.
    assert float((there.cpu() == here).float().mean()) >= 0.98


@each
def test_no_photos_in_no_photos_out(row: Row, run: Path) -> None:
    assert protected(made(row, run), photos(1)[:0]).shape == (0, 3, SIDE, SIDE)


@each
def test_randomness_comes_from_the_generator_as_declared(row: Row, run: Path) -> None:
    protector, images = made(row, run), photos(2)
    state = torch.random.get_rng_state()
    first = protected(protector, images, seed=1)
    assert torch.equal(first, protected(protector, images, seed=1))
    assert torch.equal(first, protected(protector, images, seed=2)) == protector.declaration.deterministic
    assert torch.equal(torch.random.get_rng_state(), state)


@each
def test_name_alone_makes_the_same_protector(row: Row, run: Path) -> None:
    first, second = made(row, run), made(row, run)
    assert first.declaration == second.declaration
    assert torch.equal(protected(first, photos(2)), protected(second, photos(2)))


@each
def test_each_photo_is_protected_alone(row: Row, run: Path) -> None:
    protector, images = made(row, run), photos(5)
    if not protector.declaration.deterministic:
        # Where the generator decides, each photo of a batch gets a draw of its own.
        twins = protected(protector, images[:1].expand(2, -1, -1, -1))
        assert not torch.equal(twins[0], twins[1])
        return
    single = torch.cat([protected(protector, image[None]) for image in images])
    together = protected(protector, images)
    if protector.declaration.batch_dependent:
        assert not torch.equal(single, together)
    else:
        assert float((single == together).float().mean()) >= row.shared


@each
def test_budget_is_kept_exactly(row: Row, run: Path) -> None:
    images = photos(3)
    levels = ((protected(made(row, run), images) - images) * 255).round().abs()
    assert float(levels.max()) > 0 or row.spec == "identity"
    if row.levels is not None:
        assert int(levels.max()) <= row.levels


@each
def test_other_sizes_are_taken_or_refused(row: Row, run: Path) -> None:
    protector = made(row, run)
    if row.any_size:
        assert protected(protector, photos(1, side=41)).shape == (1, 3, 41, 41)
    else:
        words = r"made for photos of 64 pixels, got 41; set px=41|was shown photos of 64 pixels and cannot .* of 41"
        with pytest.raises(ProtectorError, match=words):
            protected(protector, photos(1, side=41))


@each
def test_grey_photos_stay_grey(row: Row, run: Path) -> None:
    result = protected(made(row, run), photos(2, channels=1))
    assert torch.equal(result, result[:, :1].expand(-1, 3, -1, -1)) == row.grey


@each
def test_gradients_pass_as_declared(row: Row, run: Path) -> None:
    protector, images = made(row, run), photos(2).requires_grad_()
    result = protected(protector, images)
    assert result.requires_grad == protector.declaration.differentiable
    if result.requires_grad:
        (gradient,) = torch.autograd.grad(result.sum(), images)
        assert bool(torch.isfinite(gradient).all())
        assert bool((gradient.flatten(1).abs().amax(1) > 0).all())


@each
def test_declaration_says_what_it_must(row: Row, run: Path) -> None:
    protector = made(row, run)
    said = protector.declaration
    assert isinstance(protector, Protector)
    assert said.name == row.spec.partition(":")[0]
    assert said.title and said.source and said.auxiliary_data and said.stores
    assert registry.registered(said.name).about == getattr_static(type(protector), "about")
    assert said.control == (said.source == "control")


@each
def test_enrolment_that_changes_nothing_is_refused(row: Row, run: Path) -> None:
    protector = made(row, run)
    if not protector.declaration.person_specific:
        return
    assert isinstance(protector, Enrolling)
    kept = protector.enrolment()
    name = protector.declaration.name
    for worthless in (0.0, 1e-40, 1e-6):
        with pytest.raises(ProtectorError, match=rf"^this enrolment of {name} holds a mask that would leave"):
            protector.enrol({**kept, "masks": torch.full_like(kept["masks"], worthless)})
    for broken in (
        {"people": kept["people"]},
        {**kept, "masks": kept["masks"].double()},
        {**kept, "masks": kept["masks"] * torch.nan},
        {**kept, "masks": kept["masks"][..., :-1]},
        {**kept, "people": kept["people"].expand(2)},
    ):
        with pytest.raises(ProtectorError, match=f"^this is no enrolment of {name}; enrol the person again"):
            protector.enrol(broken)
    # What was kept before is still in place.
    again = protector.enrolment()
    assert all(torch.equal(value, again[key]) for key, value in kept.items())
    protector.enrol(kept)


@each
def test_recognisers_that_it_uses_are_those_it_declares(
    row: Row, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing_trained(tmp_path, monkeypatch)
    with recognisers_asked() as asked:
        protector = made(row, run)
        protected(protector, photos(2))
    assert tuple(sorted(asked)) == tuple(sorted(protector.declaration.surrogates or ()))


def test_counter_of_recognisers_sees_each_way_to_ask_one(faceres_weights: Path) -> None:
    images = photos(1, side=112)
    points5, _ = of_one_person(images)
    for name in recogniser_names():
        with recognisers_asked() as asked:
            load_recogniser(name).embed(images, points5)
        assert asked == {name}
    with recognisers_asked() as asked:
        load_sface().embed(images * 255)
    assert asked == {"sface"}
    with recognisers_asked() as asked:
        load_sface(input_size=56).features(images[..., :56, :56] * 255)
    assert asked == {"sface"}


@each
def test_every_setting_changes_the_key(row: Row, run: Path) -> None:
    settings = [make_protector(spec.format(run=run)).declaration.settings for spec in (row.spec, *row.others)]
    assert len(set(settings)) == len(settings)
    # A path may move without changing the result; its content counts, and everything else is in the key by name.
    known = registry.registered(row.spec.partition(":")[0]).parameters
    named = {key for found in settings for key, _ in found}
    assert {parameter.name for parameter in known if parameter.kind is not Path} <= named
    assert all(isinstance(value, str) for found in settings for _, value in found)


@each
def test_known_blur_is_one(row: Row, run: Path) -> None:
    blur = made(row, run).blur
    if blur is None:
        return
    planes, side, other = blur.psf.shape
    assert planes == blur.planes
    assert planes in (1, 3)
    assert side == other
    assert side % 2 == 1
    assert side <= SIDE
    assert float(blur.psf.min()) >= 0
    assert bool((blur.psf.sum(dim=(-2, -1)) <= 1 + 1e-5).all())
    assert blur.noise_sd > 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": torch.zeros(2, 64, 64)}, r"takes square photos \(N, 3, S, S\), got \(2, 64, 64\)"),
        ({"images": torch.zeros(2, 1, 64, 64)}, r"takes square photos \(N, 3, S, S\), got \(2, 1, 64, 64\)"),
        ({"images": torch.zeros(2, 3, 64, 48)}, r"takes square photos \(N, 3, S, S\), got \(2, 3, 64, 48\)"),
        ({"images": torch.zeros(2, 3, 64, 64, dtype=torch.uint8)}, r"float32 photos in 0\.\.1, got torch\.uint8"),
        ({"images": torch.zeros(2, 3, 64, 64, dtype=torch.float64)}, r"float32 photos in 0\.\.1, got torch\.float64"),
        ({"images": torch.full((2, 3, 64, 64), 200.0)}, r"values from 0 to 1, got 200 to 200; divide"),
        ({"images": torch.full((2, 3, 64, 64), -0.1)}, r"values from 0 to 1, got -0\.1 to -0\.1"),
        ({"images": torch.full((2, 3, 64, 64), torch.nan)}, r"values from 0 to 1, got nan to nan"),
        ({"points5": torch.zeros(2, 68, 2)}, r"points5 of shape \(2, 5, 2\), got \(2, 68, 2\)"),
        ({"identity": torch.zeros(3, dtype=torch.int64)}, r"identity of shape \(2,\) and type int64, got \(3,\)"),
        ({"identity": torch.zeros(2)}, r"identity of shape \(2,\) and type int64, got \(2,\) and torch\.float32"),
    ],
)
@each
def test_wrong_photos_are_refused_by_name(row: Row, run: Path, change: dict[str, Tensor], words: str) -> None:
    protector = made(row, run)
    given = {
        "images": torch.zeros(2, 3, 64, 64), "points5": torch.zeros(2, 5, 2),
        "identity": torch.zeros(2, dtype=torch.int64), **change,
    }  # fmt: skip
    with pytest.raises(ProtectorError, match=f"^{protector.declaration.name} .*{words}"):
        protector.protect(**given, generator=seeded(0))
    with pytest.raises(ProtectorError, match=f"^{protector.declaration.name} .*{words}"):
        protector.fit(**given, generator=seeded(0))
