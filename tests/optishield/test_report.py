"""The report is one page, complete, repeatable, and says no more than its figures."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optishield.errors import OptiShieldError
from optishield.report import figures, findings, pictures
from optishield.report import mask as report


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


def attacker(rank1: float, auc: float, half: float = 0.07) -> dict[str, Any]:
    return {
        "rank1": rank1, "rank1_ci95": [max(rank1 - half, 0), min(rank1 + half, 1)], "auc": auc,
        "auc_ci95": [auc - 0.02, min(auc + 0.02, 1)], "tar_at_fmr_0.01": rank1 * 0.8, "threshold": 0.41,
    }  # fmt: skip


def attackers(top: float) -> dict[str, Any]:
    return {
        "fresh_recogniser": attacker(top, 0.6 + 0.38 * top),
        "wiener_then_recogniser": attacker(top * 0.8, 0.58 + 0.37 * top),
        "unet_then_recogniser": attacker(top * 0.9, 0.59 + 0.37 * top),
        "face_recognition_network": attacker(top * 0.4, 0.5 + 0.25 * top),
    }


def example() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
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
        "frames_gaussian_blur": coarse(32, 0.03), "frames_few_pixels": coarse(16, 0.03), "landmarks_true": points,
        "landmarks_pred": found, "heatmaps": heat, "reconstructions_wiener": coarse(32, 0.15),
        "reconstructions_u_net": coarse(32, 0.0), "history": history,
    }  # fmt: skip
    curves = [
        {
            "camera": camera,
            "nme": nme,
            "rank1": rank1,
            "rank1_ci95": [rank1 - 0.06, rank1 + 0.06],
            "auc": 0.6 + 0.38 * rank1,
        }
        for camera, shift in {"gaussian_blur": 0.0, "few_pixels": 0.03, "sensor_noise": 0.05}.items()
        for nme, rank1 in ((0.07, 0.85 - shift), (0.1, 0.74 - shift), (0.14, 0.6 - shift), (0.2, 0.42 - shift))
    ] + [
        {"camera": "oracle", "nme": n, "rank1": r, "auc": 0.55 + r} for n, r in ((0.03, 0.3), (0.1, 0.14), (0.2, 0.08))
    ]
    summary = {
        "run": "2024-05-03 standard seed 0", "budget": "standard", "seed": 0, "nme": 0.098, "identities": 60,
        "chance_rank1": 1 / 60, "attackers": attackers(0.46), "worst_attacker": "fresh_recogniser",
        "baselines": {
            name: {"parameter": p, "nme": nme, "attackers": attackers(top), "worst_attacker": "fresh_recogniser"}
            for name, p, nme, top in (("gaussian_blur", "2 px", 0.1, 0.74), ("few_pixels", "16 px", 0.101, 0.71),
                                      ("sensor_noise", "0.1", 0.097, 0.69))
        },
        "clean": {"nme": 0.051, "attackers": attackers(0.97), "worst_attacker": "fresh_recogniser"},
        "oracle": {"nme": 0.098, "rank1": 0.14, "rank1_ci95": [0.09, 0.2], "auc": 0.69},
        "gap_closed": {"rank1": {"value": 0.42, "ci95": [0.24, 0.58]}, "auc": {"value": 0.31, "ci95": [0.12, 0.49]}},
        "throughput": 0.86, "noise": {"photons_full": 4000.0, "read_noise_e": 2.0, "bits": 8},
        "camera": {"focal_length_m": 8e-3, "aperture_diameter_m": 4e-3, "pixel_pitch_m": 12e-6, "exposure_s": 0.01,
                   "pixels": 32, "colour": False, "wavelengths_m": waves.tolist()},
        "limits": ["Synthetic heads: no statement about photographs of people.",
                   "The attackers are those listed; a stronger one may find more.",
                   "One distance and one field position of the lens."],
        "curves": curves,
        "gates": {"clean_recognition": {"passed": True, "reason": "TAR at FMR 1% is 96% on the clean camera."},
                  "labels_shuffled": {"passed": True, "reason": "Rank-1 is 2%, chance is 2%."}},
        "verdict": "", "timing": {"scenes": 31.2, "design": 1204.0, "attackers": 913.4},
        "history_names": ["step", "landmark_loss", "identity_score", "adversary_rank1", "mask_roughness"],
        "versions": {"optishield": "0.1.0", "torch": "2.13.0"}, "hashes": {"dataset": "9f" * 32},
        "config": {"camera": {"pixels": 32}, "steps": 3000},
    }  # fmt: skip
    return summary, arrays


class Page(HTMLParser):
    """Collects tags, attributes and text; complains about tags that do not close."""

    VOID = frozenset({"meta", "br"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[str] = []
        self.ids: list[str] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value for name, value in attrs if name == "id" and value]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)
        if "style" not in self.open:
            self.text.append(data)


@pytest.fixture(scope="module")
def page() -> str:
    return report.render(*example())


def test_every_section_is_there_and_the_page_is_well_formed(page: str) -> None:
    parsed = Page(page)
    assert parsed.open == []
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
    text = " ".join(Page(page).text)
    assert "Simulation: synthetic heads, simulated camera" in text
    assert "Everything on this page is simulated" in text


def test_an_empty_run_still_gives_a_page() -> None:
    parsed = Page(report.render({}, {}))
    assert parsed.open == []
    assert parsed.headings == []


@pytest.mark.parametrize("gone", sorted(example()[0]) + sorted(example()[1]))
def test_anything_may_be_missing(gone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("frontier", "strip", "profile", "training", "mtf_chart"):  # drawing is slow, and tested above
        monkeypatch.setattr(figures, name, lambda *_: report.Markup("<svg></svg>"))
    monkeypatch.setattr(pictures, "png_uri", lambda _: "data:image/png;base64,")
    summary, arrays = example()
    summary.pop(gone, None)
    if gone == "history_names":
        arrays.pop("history")
    arrays.pop(gone, None)
    assert Page(report.render(summary, arrays)).open == []


def test_a_few_landmarks_are_drawn_as_crosses_and_not_as_a_face() -> None:
    scene, points = np.zeros((64, 64, 3)), face_points()
    few = points[[36, 45, 30, 48, 54]]
    drawn = pictures.landmark_picture(scene, "five", true=few, found=few + 1)
    assert drawn.count("<path") == 2
    assert f"M{few[0, 0] - 64 / 22:.2f},{few[0, 1]:.2f}h{128 / 22:.2f}" in drawn
    assert drawn.count("<circle") == 5
    assert "<poly" not in drawn
    assert "<polygon" in pictures.landmark_picture(scene, "all", true=points)


def test_null_figures_are_shown_as_not_defined() -> None:
    summary, _ = example()
    summary["gap_closed"] = {"rank1": {"value": None, "ci95": [None, None], "reason": "Nothing to close."}}
    summary["attackers"]["fresh_recogniser"]["rank1_ci95"] = [math.nan, math.nan]
    summary["nme"] = None
    text = " ".join(Page(report.render(summary, {})).text)
    assert "undefined" in text
    assert "Nothing to close." in text
    assert "cannot say how much" in text
    assert not re.search(r"\bnan\b|\bNone\b", text)


def headline_with(low: float, high: float, **more: Any) -> str | None:
    summary, _ = example()
    summary["gap_closed"]["rank1"] = {"value": (low + high) / 2, "ci95": [low, high]}
    return findings.headline({**summary, **more})


def test_the_headline_follows_the_interval_not_the_estimate() -> None:
    assert headline_with(0.1, 0.3) == "This camera closes 20% of the gap between the best baseline and landmarks alone."
    assert headline_with(-0.1, 0.7) == "No difference from the best baseline is shown."
    assert headline_with(-0.5, -0.1) == "This camera gives away more than the best baseline."
    assert headline_with(0.1, 0.3, gates={"clean_recognition": {"passed": False}}) == (
        "No claim: clean recognition was not met."
    )
    assert headline_with(0.1, 0.3, identities=12) == (
        "Exploratory: this camera closes 20% of the gap between the best baseline and landmarks alone."
    )
    assert headline_with(0.1, 0.3, gap_closed={}) is None


def test_overlapping_intervals_and_unequal_errors_are_said() -> None:
    summary, _ = example()
    assert "The two intervals do not overlap." in findings.plain_words(summary, findings.cameras(summary))
    summary["attackers"] = attackers(0.66)
    summary["nme"] = 0.2
    words = " ".join(findings.plain_words(summary, findings.cameras(summary)))
    assert "intervals overlap" in words
    assert "landmark errors differ (0.200 and 0.097)" in words


def test_the_gap_against_a_camera_that_lacks_one_part_is_said_beside_the_headline() -> None:
    summary, _ = example()
    gap = {"rank1": {"value": 0.25, "ci95": [0.1, 0.4]}}
    summary["ablations"] = {"sensor_noise": {"lacks": "the converter", "gap_closed": gap}}
    words = " ".join(findings.plain_words(summary, findings.cameras(summary)))
    assert "Measured from sensor noise, a camera that lacks the converter of ours and has all the rest" in words
    assert "the gap closed in rank-1 is 0.25 (0.10–0.40)." in words


def test_the_best_baseline_is_the_most_private_one() -> None:
    summary, _ = example()
    best = findings.best_baseline(findings.cameras(summary))
    assert best is not None and best.key == "sensor_noise"
    chosen = findings.best_baseline(findings.cameras(summary), "gaussian_blur")
    assert chosen is not None and chosen.key == "gaussian_blur"


def test_photos_of_few_people_are_exploratory() -> None:
    summary, arrays = example()
    summary |= {"mode": "photos", "identities": 12, "run": "<b>holiday</b>"}
    page = report.render(summary, arrays)
    text = " ".join(Page(page).text)
    assert "Exploratory: 12 people" in text
    assert "photos from a folder" in text
    assert "synthetic heads" not in text.lower().replace("synthetic heads: no statement", "")
    assert "<b>holiday</b>" not in page


def test_the_file_goes_into_a_folder_or_to_a_name(tmp_path: Path) -> None:
    assert report.write_report(tmp_path, {"run": "a"}, {}) == tmp_path / "report.html"
    other = report.write_report(tmp_path / "other.html", {"run": "a"}, {})
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
    summary, _ = example()
    with pytest.raises(OptiShieldError, match=message):
        report.render({"history_names": summary["history_names"]}, {key: value})


def test_quantities_carry_their_units() -> None:
    assert findings.quantity("focal_length_m", 8e-3) == ("focal length", "8 mm")
    assert findings.quantity("pixel_pitch_m", 1.12e-6) == ("pixel pitch", "1.12 µm")
    assert findings.quantity("wavelengths_m", [4.8e-7, 5.5e-7]) == ("wavelengths", "480 nm, 550 nm")
    assert findings.quantity("exposure_s", 0.01) == ("exposure", "10 ms")
    assert findings.quantity("read_noise_e", 2.0) == ("read noise", "2 e⁻")
    assert findings.quantity("throughput", 0.861) == ("throughput", "86.1%")
    assert findings.quantity("colour", False) == ("colour", "no")


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
