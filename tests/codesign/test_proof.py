"""Jobs of the proof on made-up cameras and embeddings."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from codesign import proof
from codesign.attackers import Target, wiener
from codesign.cameras import build, displayed, ours
from codesign.config import TrainMaskConfig
from codesign.data import Part
from codesign.decoders import relative_signal
from codesign.errors import CodesignError
from codesign.files import load_checked, load_tensors, sha256
from codesign.masks import flat
from codesign.proof import judge, report_rows, scores
from faces.samples import FaceSet, linear_to_srgb
from optics import PupilGrid

CONFIG = TrainMaskConfig.for_budget("smoke")


def part(people: int, captures: int, enrolled: int, seed: int = 0) -> Part:
    generator = torch.Generator().manual_seed(seed)
    count = people * captures
    images = torch.randint(256, (count, 3, 64, 64), dtype=torch.uint8, generator=generator)
    capture = torch.arange(captures).repeat(people)
    landmarks = 20 + 24 * torch.rand(count, 68, 2, generator=generator)
    identity = torch.arange(people).repeat_interleave(captures) + 100 * seed
    faces = FaceSet(images, identity, capture, landmarks, "test", "none")
    return Part(faces, landmarks[:, :5], capture < enrolled)


def vectors(part: Part, sharp: bool) -> Tensor:
    """Embeddings that name everybody, or nobody."""
    count = len(part.faces)
    generator = torch.Generator().manual_seed(5)
    noise = 0.01 * torch.randn(count, 16, generator=generator)
    people = torch.unique(part.faces.identity, return_inverse=True)[1]
    return torch.nn.functional.one_hot(people, 16).float() + noise if sharp else noise


@pytest.fixture
def parts() -> dict[str, Part]:
    return {"calibration": part(8, 4, 2, seed=1), "test": part(10, 4, 2, seed=2)}


@pytest.mark.parametrize(("sharp", "rank1"), [(True, (1.0, 1.0)), (False, (0.0, 0.5))])
def test_attackers_who_name_everybody_or_nobody_are_judged_so(
    sharp: bool, rank1: tuple[float, float], parts: dict[str, Part]
) -> None:
    embeddings = {name: vectors(one, sharp) for name, one in parts.items()}
    figures, table, threshold = judge(embeddings, parts, 0.1, "hash")
    assert rank1[0] <= figures["rank1"] <= rank1[1]
    assert figures["auc"] == pytest.approx(1.0 if sharp else 0.5, abs=0.2)
    # Ten people with two probes each, against ten templates.
    assert len(table.genuine) == 20
    assert len(table.impostor) == 20 * 9
    assert threshold.value > float(torch.tensor(scores(embeddings, parts)[0].impostor).median())


def test_scores_are_centred_with_calibration_people_only(parts: dict[str, Part]) -> None:
    embeddings = {name: vectors(one, True) for name, one in parts.items()}
    before = scores(embeddings, parts)[1]
    moved = embeddings | {"calibration": embeddings["calibration"] + 1.0}
    after = scores(moved, parts)[1]
    assert before.genuine.mean() != pytest.approx(after.genuine.mean(), abs=1e-6)


def test_the_report_shows_the_first_probe_of_the_first_people(parts: dict[str, Part]) -> None:
    rows = report_rows(parts["test"])
    assert rows.tolist() == [4 * person + 2 for person in range(proof.PICTURES)]


def target() -> Target:
    state = flat(CONFIG.mask, PupilGrid(CONFIG.optics.aperture_diameter_m, CONFIG.optics.pupil_samples)).state_dict()
    camera = build(ours(CONFIG), CONFIG, state)
    train = part(6, 4, 2)
    return Target(camera, train, relative_signal(camera, train.faces), CONFIG, 0)


def test_the_wiener_filter_knows_shot_read_and_rounding_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def keep(psf: Tensor, pixels: int, scenes: Tensor, variance: float) -> None:
        given.update(psf=psf, pixels=pixels, scenes=scenes, variance=variance)

    monkeypatch.setattr("codesign.attackers.WienerFilter", keep)
    one = target()
    wiener(one)
    exposure = one.camera.exposure
    electrons = one.signal.float() * exposure.electrons_at_white
    shot = float((electrons * one.camera.meter_gain(electrons)).mean())
    step = exposure.full_well_e / 1  # one bit: two codes, one step
    expected = (shot + exposure.read_noise_e**2 + step**2 / 12) / exposure.electrons_at_white**2
    assert given["variance"] == pytest.approx(expected, rel=1e-4)
    assert given["pixels"] == 32
    assert given["scenes"].shape == (24, 1, 64, 64)
    # A metered scene is brought to 18 % grey whatever its own light.
    assert float(given["scenes"].mean()) == pytest.approx(0.18, rel=0.2)


def test_displayed_frames_have_white_at_one() -> None:
    exposure = ours(CONFIG).exposure
    frames = torch.linspace(0, 1, 5).reshape(1, 1, 1, 5)
    light = frames * 1008 / 4000
    torch.testing.assert_close(displayed(exposure, frames), linear_to_srgb(light))
    torch.testing.assert_close(displayed(exposure, frames, lambda given: given / 2), linear_to_srgb(light / 2))
    assert float(displayed(exposure, frames, lambda given: given * 100).max()) == pytest.approx(1.0)


def test_a_row_that_promises_pictures_must_have_an_attacker_that_restores() -> None:
    one = target()
    with pytest.raises(CodesignError, match="linear restores nothing"):
        proof.pictures(type("Blind", (), {"name": "linear"})(), one.camera, part(3, 3, 1), one.signal, 0)
    seer: Any = type("Seer", (), {"name": "seer", "restore": staticmethod(lambda frames: frames + 1)})()
    shown = proof.pictures(seer, one.camera, part(3, 3, 1), one.signal, 0)
    assert shown.shape == (3, 1, 32, 32)
    assert float(shown.min()) >= 1


# Files between jobs


@pytest.mark.parametrize("content", [None, b"", b"\x80\x04pickle", b"\x08\x00\x00\x00\x00\x00\x00\x00{}", b"\xff" * 40])
def test_tensors_that_cannot_be_read_are_refused_in_one_sentence(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "mask.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CodesignError, match=r"mask\.safetensors (cannot be read|is damaged) \(.*\); train again\.$"):
        load_tensors(path, "train again")


def test_a_file_is_known_by_its_hash(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "mask.safetensors"
    save_file({"controls": torch.zeros(4, 4)}, path)
    digest = sha256(path)
    assert math.prod(load_checked(path, digest, "train again")["controls"].shape) == 16
    save_file({"controls": torch.ones(4, 4)}, path)
    assert load_checked(path, None, "train again")["controls"].sum() == 16
    with pytest.raises(CodesignError, match=r"is not the file that this run wrote .*; train again\.$"):
        load_checked(path, digest, "train again")
