"""The common interface of the recogniser families: on rendered heads, and on photographs if a folder is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from faces import weights
from faces.alignment import align, template
from faces.dlib_resnet import CHIP_POINTS, load_dlib_resnet
from faces.errors import FacesError
from faces.faceres import load_faceres
from faces.families import JUDGE, Recogniser, load_recogniser, recogniser_names
from faces.folders import load_folder
from faces.recognisers import load_sface
from faces.samples import FaceSet, five_points
from faces.synthetic import generate

_PHOTOS = os.environ.get("OPTISHIELD_TEST_PHOTOS")


@pytest.fixture(scope="module")
def recognisers(sface_weights: Path, dlib_resnet_weights: Path, faceres_weights: Path) -> dict[str, Recogniser]:
    return {name: load_recogniser(name) for name in recogniser_names()}


@pytest.fixture(scope="module")
def heads() -> FaceSet:
    """Five synthetic people, three pictures each."""
    return generate(5, 3, size=112, seed=41)


def _inputs(heads: FaceSet) -> tuple[torch.Tensor, torch.Tensor]:
    return heads.images.float() / 255, five_points(heads.landmarks)


def _split(embeddings: torch.Tensor, identity: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines of pairs of one person, and of two."""
    first, second = torch.triu_indices(len(identity), len(identity), 1)
    cosines = (embeddings[first] * embeddings[second]).sum(1)
    same = identity[first] == identity[second]
    return cosines[same], cosines[~same]


def test_three_families_one_of_them_reserved(recognisers: dict[str, Recogniser]) -> None:
    assert recogniser_names() == ("sface", "dlib-resnet", "faceres")
    assert [name for name, recogniser in recognisers.items() if recogniser.reserved] == [JUDGE]
    assert len({recogniser.family for recogniser in recognisers.values()}) == 3
    for name, recogniser in recognisers.items():
        assert recogniser.name == name
        assert recogniser.weights_hash == weights.info(name).sha256


@pytest.mark.parametrize("name", recogniser_names())
def test_embeddings_are_unit_vectors_that_tell_people_apart(
    recognisers: dict[str, Recogniser], heads: FaceSet, name: str
) -> None:
    recogniser = recognisers[name]
    with torch.no_grad():
        embeddings = recogniser.embed(*_inputs(heads))
    assert embeddings.shape == (15, recogniser.embedding_dim)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(15))
    genuine, impostor = _split(embeddings, heads.identity)
    wins = (genuine[:, None] > impostor).float().mean()
    assert float(wins) > 0.95


@pytest.mark.parametrize("name", recogniser_names())
def test_gradients_pass_to_images_and_points(recognisers: dict[str, Recogniser], heads: FaceSet, name: str) -> None:
    images, points = _inputs(heads.subset([0, 3]))
    images.requires_grad_(True)
    points.requires_grad_(True)
    first, second = recognisers[name].embed(images, points)
    (first @ second).backward()
    for given in (images, points):
        assert given.grad is not None
        assert bool(torch.isfinite(given.grad).all())
        assert bool(given.grad.flatten(1).any(1).all())
    assert not any(value.requires_grad for value in recognisers[name].network.parameters())
    # A step along the gradient lowers the cosine by about step times squared norm.
    assert images.grad is not None
    step = 1e-3 / float(images.grad.norm()) ** 2
    with torch.no_grad():
        moved = recognisers[name].embed(images - step * images.grad, points)
    assert float(first.detach() @ second.detach() - moved[0] @ moved[1]) == pytest.approx(1e-3, rel=0.2)


def test_each_family_gets_the_chip_it_was_made_for(recognisers: dict[str, Recogniser], heads: FaceSet) -> None:
    images, points = _inputs(heads.subset([0, 1]))
    pixels = images * 255
    loose = (template(224) - template(224).mean(0)) * 0.4 * 224 / float(template(224)[1, 0] - template(224)[0, 0])
    by_hand = {
        "sface": load_sface()(align(pixels, points, 112)),
        "dlib-resnet": load_dlib_resnet()(align(pixels, points, 150, torch.tensor(CHIP_POINTS))),
        "faceres": load_faceres()(align(pixels, points, 224, loose + 111.5).flip(1)),
    }
    for name, expected in by_hand.items():
        with torch.no_grad():
            found = recognisers[name].embed(images, points)
        torch.testing.assert_close(found, functional.normalize(expected, dim=1).detach(), rtol=0, atol=2e-4)


def test_templates_scale_with_the_chip(recognisers: dict[str, Recogniser]) -> None:
    torch.testing.assert_close(recognisers["sface"].template(), template(112))
    torch.testing.assert_close(recognisers["sface"].template(56), template(56))
    for recogniser in recognisers.values():
        size = recogniser.input_size[0]
        torch.testing.assert_close((recogniser.template(2 * size) + 0.5) / 2 - 0.5, recogniser.template())
    with pytest.raises(FacesError, match="at least 1 pixel wide, got 0"):
        recognisers["sface"].template(0)


def test_long_batches_are_embedded_as_short_ones(recognisers: dict[str, Recogniser], heads: FaceSet) -> None:
    images, points = _inputs(heads.subset([0, 1, 2, 3, 4]))
    recogniser = recognisers["dlib-resnet"]
    with torch.no_grad():
        many = recogniser.embed(images.repeat(14, 1, 1, 1), points.repeat(14, 1, 1))
        few = recogniser.embed(images, points)
        assert recogniser.embed(images[:0], points[:0]).shape == (0, 128)
    torch.testing.assert_close(many, few.repeat(14, 1), rtol=0, atol=1e-5)


def test_bad_input_is_refused(recognisers: dict[str, Recogniser], heads: FaceSet) -> None:
    images, points = _inputs(heads)
    recogniser = recognisers["sface"]
    with pytest.raises(FacesError, match="divide uint8 images by 255"):
        recogniser.embed(heads.images, points)
    with pytest.raises(FacesError, match=r"points of shape \(15, 5, 2\), one set for each image, got \(3, 5, 2\)"):
        recogniser.embed(images, points[:3])
    with pytest.raises(FacesError, match=r"unknown \(NaN\)"):
        recogniser.embed(images, points * torch.nan)
    with pytest.raises(FacesError, match=r"sface takes floating-point images .*112, 112\), got \(1, 3, 64, 64\)"):
        recogniser.embed_chips(torch.zeros(1, 3, 64, 64))
    with pytest.raises(FacesError, match="no recogniser 'arcface'; choose one of sface, dlib-resnet, faceres"):
        load_recogniser("arcface")


@pytest.mark.skipif(_PHOTOS is None, reason="OPTISHIELD_TEST_PHOTOS names no folder of photographs")
@pytest.mark.parametrize("name", recogniser_names())
def test_people_in_photographs_are_told_apart(
    recognisers: dict[str, Recogniser], yunet_weights: Path, name: str
) -> None:
    photos = load_folder(Path(str(_PHOTOS)), 160)
    with torch.no_grad():
        embeddings = recognisers[name].embed(photos.faces.images.float() / 255, photos.points5)
    genuine, impostor = _split(embeddings, photos.faces.identity)
    # True accept rate at the threshold that one impostor pair in a hundred passes.
    assert float((genuine > impostor.quantile(0.99)).float().mean()) > 0.98
