"""A whole run on a handful of synthetic people, made once, and a cache of its own for faces and weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from matplotlib.image import imsave

from faces.synthetic import generate
from optishield.cli import main

#: The smallest run in which every stage still has something to do.
SMALL = {
    # One mask before one sensor; the camera of pairs has tests of its own.
    "design": "frame",
    "data.train_people": 8, "data.calibration_people": 4, "data.validation_people": 4, "data.test_people": 4,
    "data.test_captures": 3, "data.gallery_captures": 2, "training.checkpoint_every": 3, "proof.fmr": 0.1,
    "proof.unet_steps": 1, "decoder.steps": 3, "data.attacker_people": 4, "data.attacker_captures": 2,
    "proof.crop_network_steps": 2, "proof.exposures": 2,
}  # fmt: skip

Train = Callable[..., int]


@pytest.fixture(scope="session")
def cache(
    tmp_path_factory: pytest.TempPathFactory,
    sface_weights: Path,
    yunet_weights: Path,
    face_mesh_weights: Path,
    face_landmark_weights: Path,
) -> Iterator[Path]:
    """$OPTISHIELD_CACHE with room for faces; all weights are linked in, since it stays until the last test has run."""
    folder = tmp_path_factory.mktemp("cache")
    (folder / "weights").symlink_to(sface_weights.parent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPTISHIELD_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def train(cache: Path) -> Train:
    """``optishield train-mask`` with the small settings into a new folder: (folder, more words) -> exit code."""

    def run(out: Path, *words: str) -> int:
        sets = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
        return main(["train-mask", "--budget", "smoke", "--out", str(out), "--quiet", *sets, *words])

    return run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, train: Train) -> Path:
    """The folder of a finished run, made by one process without interruption."""
    out = tmp_path_factory.mktemp("runs") / "first"
    assert train(out, "--workers", "1") == 0
    return out


@pytest.fixture(scope="session")
def album(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """Pictures of three people nobody trained on, in the layout of LFW."""
    return draw_album(tmp_path_factory.mktemp("album"), people=3, captures=4, first_identity=7_000_000)


def draw_album(folder: Path, *, people: int, captures: int, first_identity: int) -> Path:
    """One folder of pictures for each of so many synthetic people."""
    heads = generate(people, captures, size=160, seed=5, first_identity=first_identity)
    for image, person, capture in zip(heads.images, heads.identity, heads.capture, strict=True):
        place = folder / f"Person_{int(person) - first_identity}"
        place.mkdir(exist_ok=True)
        imsave(place / f"{place.name}_{int(capture):04d}.png", image.permute(1, 2, 0).numpy())
    return folder
