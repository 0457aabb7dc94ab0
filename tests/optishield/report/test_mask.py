"""The report is one page, complete, repeatable, and says no more than its figures."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markupsafe import Markup

from codesign.records import TrainMaskSummary
from optishield.errors import OptiShieldError
from optishield.report import figures, findings, numbers, pictures
from optishield.report import mask as report
from tests.optishield.report.pages import Page
from tests.optishield.summaries import (
    WORST,
    ablation,
    attacker,
    attackers,
    gaps,
    photo_summary,
    refused,
    train_summary,
)


def face_points() -> np.ndarray:
    """A plain iBUG-68 layout in a 64 x 64 frame."""
    turn = np.linspace(np.pi * 0.98, 0.02 * np.pi, 17)
    jaw = np.stack([32 + 20 * np.cos(turn), 30 + 26 * np.sin(turn)], 1)
    brows = [np.stack([np.linspace(x, x + 12, 5), 23 - 2 * np.sin(np.linspace(0, np.pi, 5))], 1) for x in (16, 36)]
    nose = np.concatenate([np.stack([np.full(4, 32.0), np.linspace(28, 37, 4)], 1),
                           np.stack([np.linspace(28, 36, 5), [40, 40.6, 41, 40.6, 40]], 1)])  # fmt: skip
    ring = np.linspace(np.pi, -np.pi, 7)[:-1]
    eyes = [np.stack([x + 4 * np.cos(ring), 28 - 1.8 * np.sin(ring)], 1) for x in (22, 42)]
    lip = np.linspace(np.pi, -np.pi, 13)[:-1]
    mouth = np.stack([32 + 8 * np.cos(lip), 47 - 3.2 * np.sin(lip)], 1)
    inner = np.linspace(np.pi, -np.pi, 9)[:-1]
    inside = np.stack([32 + 6 * np.cos(inner), 47 - 1.2 * np.sin(inner)], 1)
    return np.concatenate([jaw, *brows, nose, *eyes, mouth, inside])


def example() -> tuple[TrainMaskSummary, dict[str, np.ndarray]]:
    """A complete made-up run: drawn faces, a wavy mask, plausible figures."""
    rng = np.random.default_rng(0)
    side, faces = 64, 6
    y, x = np.mgrid[:side, :side].astype(float)
    points = np.stack([face_points() + rng.normal(0, 0.9, (1, 2)) for _ in range(faces)])
    scenes = np.full((faces, side, side, 3), 0.09)
    for i in range(faces):
        cx, cy = points[i, :, 0].mean(), points[i, :, 1].mean() - 3
        skin = np.array([0.55, 0.36, 0.27]) * rng.uniform(0.5, 1.2)
        disc = 1 / (1 + np.exp((np.hypot((x - cx) / 20, (y - cy) / 27) - 1) * 14))
        shade = 0.65 + 0.35 * (cx - x) / 20 * rng.choice([-1, 1])
        scenes[i] = scenes[i] * (1 - disc[..., None]) + disc[..., None] * skin * np.clip(shade, 0.2, 1.3)[..., None]
        for spot in (slice(36, 42), slice(42, 48), slice(48, 60)):
            sx, sy = points[i, spot, 0].mean(), points[i, spot, 1].mean()
            dark = np.exp(-(((x - sx) / 4.5) ** 2) - ((y - sy) / 2) ** 2)
            scenes[i] *= 1 - 0.75 * dark[..., None]
    scenes = np.clip(scenes, 0, 1)
    grey = scenes.mean(axis=3)

    def coarse(size: int, noise: float) -> np.ndarray:
        step = side // size
        small = grey.reshape(faces, size, step, size, step).mean(axis=(2, 4))
        small = small / small.max() + noise * rng.normal(size=small.shape)
        return np.clip(small, 0, 1)[..., None] ** 0.5

    v, u = np.mgrid[-1:1:128j, -1:1:128j]
    height = 1e-6 * (0.5 + 0.28 * np.sin(9 * u + 3 * v**2) * np.cos(7 * v - 2 * u) + 0.3 * (u**2 - v**2) + 0.2 * u * v)
    waves = np.array([480e-9, 550e-9, 630e-9])
    spectrum = []
    for wave in waves:
        pupil = np.pad((u**2 + v**2 <= 1) * np.exp(2j * np.pi * 0.5 * height / wave), 64)
        spectrum.append(np.abs(np.fft.fftshift(np.fft.fft2(pupil))) ** 2)
    psf = np.stack(spectrum)[:, 64:193, 64:193]
    psf /= psf.sum(axis=(1, 2), keepdims=True)
    found = points + rng.normal(0, 0.8, points.shape)
    heat = np.exp(-((x - found[..., 0, None, None]) ** 2 + (y - found[..., 1, None, None]) ** 2) / 3).max(axis=1)
    steps = np.arange(0, 3000, 25)
    history = np.stack(
        [steps, 0.3 * np.exp(-steps / 500) + 0.08, 0.5 + 0.3 * np.exp(-steps / 900), np.where(steps < 500, np.nan, 0.4),
         2.5 - steps / 3000 + 0.05 * rng.normal(size=len(steps))], 1
    )  # fmt: skip
    arrays = {
        "mask_height_m": height, "pupil_diameter_m": np.array(4e-3), "psf": psf, "psf_pitch_m": np.array(1.1e-6),
        "wavelengths_m": waves, "scenes": scenes, "frames_ours": coarse(32, 0.05), "frames_clean": scenes**0.45,
        "frames_gaussian-blur": coarse(32, 0.03), "frames_low-resolution": coarse(16, 0.03), "landmarks_true": points,
        "landmarks_pred": found, "heatmaps": heat, "reconstructions_wiener": coarse(32, 0.15),
        "reconstructions_unet": coarse(32, 0.0), "history": history,
    }  # fmt: skip
    return train_summary(), arrays


@pytest.fixture(scope="module")
def page() -> str:
    return report.render(*example())


def test_every_section_is_there_and_the_page_is_well_formed(page: str) -> None:
    parsed = Page(page)
    assert parsed.headings == [
        "Privacy against utility", "The mask", "The image of a point", "What the sensor sees", "What the decoder finds",
        "What attackers get back", "Every attacker, every camera", "Training", "The simulated camera", "Checks",
        "Limits of the claim", "Provenance",
    ]  # fmt: skip
    assert len(parsed.ids) == len(set(parsed.ids))


def test_the_page_asks_for_nothing_from_outside(page: str) -> None:
    addresses = re.findall(r'(?:href|src|url)\s*[=(]\s*"?([^")\s>]+)', page)
    assert addresses
    assert all(a.startswith(("data:image/png;base64,", "#")) for a in addresses)
    assert "<script" not in page and "@import" not in page
    assert len(page) < 3_000_000


def test_no_marker_colour_is_left_in_a_chart(page: str) -> None:
    assert not re.search(r"#0000[0-9]{2}", page)
    assert "var(--ours)" in page


def test_the_same_run_gives_the_same_bytes(page: str) -> None:
    assert report.render(*example()) == page


def test_the_page_says_that_it_is_simulated(page: str) -> None:
    text = Page(page).text
    assert "Simulation: synthetic heads, simulated camera" in text
    assert "Everything on this page is simulated" in text


@pytest.mark.parametrize("gone", sorted(example()[1]))
def test_any_array_may_be_missing(gone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("frontier", "strip", "profile", "training", "mtf_chart"):  # drawing is slow, and tested above
        monkeypatch.setattr(figures, name, lambda *_: Markup("<svg></svg>"))
    monkeypatch.setattr(pictures, "png_uri", lambda _: "data:image/png;base64,")
    summary, arrays = example()
    arrays.pop(gone)
    Page(report.render(summary, arrays))  # whose tags all close


def test_a_summary_read_from_its_file_gives_the_same_page(page: str) -> None:
    summary, arrays = example()
    again = findings.read_summary(json.loads(json.dumps(summary.to_json())), "summary.json")
    assert again == summary
    assert report.render(again, arrays) == page


def test_a_few_landmarks_are_drawn_as_crosses_and_not_as_a_face() -> None:
    scene, points = np.zeros((64, 64, 3)), face_points()
    few = points[[36, 45, 30, 48, 54]]
    drawn = pictures.landmark_picture(scene, "five", true=few, found=few + 1)
    assert drawn.count("<path") == 2
    assert f"M{few[0, 0] - 64 / 22:.2f},{few[0, 1]:.2f}h{128 / 22:.2f}" in drawn
    assert drawn.count("<circle") == 5
    assert "<poly" not in drawn
    assert "<polygon" in pictures.landmark_picture(scene, "all", true=points)


def test_undefined_figures_are_shown_as_such() -> None:
    shown = attackers(0.46) | {WORST: attacker(0.46, 0.7).model_copy(update={"rank1_ci95": (None, None)})}
    undefined = gaps(None, None, None, reason="Nothing to close.")
    summary = train_summary(attackers=shown, gap_closed=undefined, nme=math.nan)
    text = Page(report.render(summary, {})).text
    assert "undefined" in text
    assert "Nothing to close." in text
    assert "cannot say how much" in text
    assert not re.search(r"\bnan\b|\bNone\b", text)


def headline_with(low: float, high: float, **more: Any) -> str | None:
    return findings.headline(train_summary(**{"gap_closed": gaps((low + high) / 2, low, high), **more}))


def test_the_headline_follows_the_interval_not_the_estimate() -> None:
    assert headline_with(0.1, 0.3) == "This camera closes 20% of the gap between the best baseline and landmarks alone."
    assert headline_with(-0.1, 0.7) == "No difference from the best baseline is shown."
    assert headline_with(-0.5, -0.1) == "This camera gives away more than the best baseline."
    assert headline_with(0.1, 0.3, gates=refused(["clean recognition"])) == ("No claim: clean recognition was not met.")
    assert headline_with(0.1, 0.3, identities={"test": 12}) == (
        "Exploratory: this camera closes 20% of the gap between the best baseline and landmarks alone."
    )
    assert headline_with(0.1, 0.3, gap_closed=None) is None


def test_overlapping_intervals_and_unequal_errors_are_said() -> None:
    assert "The two intervals do not overlap." in findings.plain_words(train_summary())
    words = " ".join(findings.plain_words(train_summary(attackers=attackers(0.66), nme=0.2)))
    assert "intervals overlap" in words
    assert "landmark errors differ (0.200 and 0.097)" in words


def test_the_gap_against_a_camera_that_lacks_one_part_is_said_beside_the_headline() -> None:
    lacking = {"same-field-mono-pixels": ablation("the one-bit converter", 0.1, 0.4)}
    words = " ".join(findings.plain_words(train_summary(ablations=lacking)))
    assert "Measured from monochrome pixels behind the same field stop, a camera that lacks the one-bit" in words
    assert "the gap closed in rank-1 is 0.25 (0.10–0.40)." in words


def test_the_gap_is_measured_from_the_baseline_that_the_run_chose() -> None:
    best = findings.best_baseline(train_summary(best_baseline="gaussian-blur"))
    assert best is not None and best.key == "gaussian-blur"
    assert findings.best_baseline(train_summary(best_baseline=None)) is None
    assert findings.best_baseline(photo_summary()) is None


def test_photos_of_few_people_are_exploratory() -> None:
    _, arrays = example()
    arrays.pop("history")
    page = report.render(photo_summary(people=12, run="<b>holiday</b>"), arrays)
    text = Page(page).text
    assert "Exploratory: 12 people" in text
    assert "photos from a folder" in text
    assert "synthetic heads" not in text.lower()
    assert "<b>holiday</b>" not in page


def test_the_file_goes_into_a_folder_or_to_a_name(tmp_path: Path) -> None:
    assert report.write_report(tmp_path, train_summary(), {}) == tmp_path / "report.html"
    other = report.write_report(tmp_path / "other.html", photo_summary(), {})
    assert other.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other.html", "report.html"]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("psf", np.ones((4, 4)), "wavelengths x K x K"),
        ("mask_height_m", np.ones(4), "table of heights"),
        ("frames_ours", np.ones((4, 4)), "n x h x w"),
        ("history", np.ones((4, 2)), "history_names holds 5 names"),
        ("reconstructions_wiener", np.ones((2, 4, 4, 2)), "H x W x 1, 3 or 4"),
    ],
)
def test_a_wrong_shape_is_named(key: str, value: np.ndarray, message: str) -> None:
    with pytest.raises(OptiShieldError, match=message):
        report.render(train_summary(), {key: value})


def test_quantities_carry_their_units() -> None:
    assert numbers.quantity("focal_length_m", 8e-3) == ("focal length", "8 mm")
    assert numbers.quantity("pixel_pitch_m", 1.12e-6) == ("pixel pitch", "1.12 µm")
    assert numbers.quantity("wavelengths_m", [4.8e-7, 5.5e-7]) == ("wavelengths", "480 nm, 550 nm")
    assert numbers.quantity("exposure_s", 0.01) == ("exposure", "10 ms")
    assert numbers.quantity("read_noise_e", 2.0) == ("read noise", "2 e⁻")
    assert numbers.quantity("throughput", 0.861) == ("throughput", "86.1%")
    assert numbers.quantity("colour", False) == ("colour", "no")


def test_scale_bars_have_round_lengths() -> None:
    assert [pictures.nice_length(x) for x in (9.9, 4.9, 1.0, 0.03)] == pytest.approx([5, 2, 1, 0.02])


def test_the_psf_window_holds_the_energy() -> None:
    psf = np.zeros((1, 65, 65))
    psf[0, 32, 32], psf[0, 32, 42] = 0.9, 0.1
    assert pictures.window(psf, margin=1.0) == 10  # 0.9 of the energy is not enough
    psf[0, 32, 42], psf[0, 32, 33] = 0.001, 0.099
    assert pictures.window(psf, margin=1.0) == 6  # never fewer than 13 samples across


def test_the_transfer_function_of_a_gaussian_is_the_analytic_one() -> None:
    y, x = np.mgrid[-32:32, -32:32]
    pitch = 2e-6
    frequency, mean, low, high = figures.radial_mtf(np.exp(-(x**2 + y**2) / (2 * 2.0**2)), pitch)
    at = 5
    assert frequency[at] == pytest.approx(at / (64 * pitch) / 1e3)
    assert mean[0] == pytest.approx(1.0)
    exact = np.exp(-2 * (np.pi * 2.0 * at / 64) ** 2)
    assert low[at] <= exact <= high[at]
    assert mean[at] == pytest.approx(exact, rel=0.05)


def test_pictures_hold_the_pixels_they_were_given() -> None:
    import base64
    import io

    from matplotlib.image import imread

    pixels = np.linspace(0, 1, 12).reshape(2, 6)
    coded = pictures.png_uri(pixels).removeprefix("data:image/png;base64,")
    back = imread(io.BytesIO(base64.b64decode(coded)))
    np.testing.assert_allclose(back[..., 0], pixels, atol=0.5 / 255 + 1e-6)
    assert back.shape[:2] == (2, 6)
