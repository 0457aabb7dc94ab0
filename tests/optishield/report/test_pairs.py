"""The page of a camera of pairs tells its story in order, in pictures that hold what they say."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from markupsafe import Markup
from matplotlib.image import imread

from optishield.errors import OptiShieldError
from optishield.report import figures, findings, pairs, pairs_pictures, pictures, terminal
from optishield.report import mask as report
from tests.optishield.report import pairs_run
from tests.optishield.report.pages import Page
from tests.optishield.summaries import ablation, train_summary

CHAIN = ["kernel", "mask +", "mask −", "light +", "light −", "log ratio"]


@pytest.fixture(scope="module")
def page() -> str:
    return report.render(pairs_run.summary(), pairs_run.arrays())


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without charts and pixels, which take long and are looked at elsewhere."""
    for name in ("frontier", "strip"):
        monkeypatch.setattr(figures, name, lambda *_: Markup("<svg></svg>"))
    monkeypatch.setattr(pictures, "png_uri", lambda _: "data:image/png;base64,")
    monkeypatch.setattr(pictures, "mask_surface", lambda *_, **__: Markup("<svg></svg>"))


def test_the_parts_stand_in_the_order_of_the_story(page: str) -> None:
    assert Page(page).headings == [
        "From the face to 2 places", "All kernels", "Winners on the faces", "What an attacker sees",
        "What the masks do", "Where identity leaks", "An attacker who tries harder", "The hardware",
        "Privacy against utility", "Every attacker, every camera", "The simulated camera", "Checks",
        "Limits of the claim", "Provenance",
    ]  # fmt: skip


def test_the_page_asks_for_nothing_from_outside(page: str) -> None:
    addresses = re.findall(r'(?:href|src|url)\s*[=(]\s*"?([^")\s>]+)', page)
    assert addresses
    assert all(a.startswith(("data:image/png;base64,", "#")) for a in addresses)
    assert "<script" not in page and "@import" not in page
    assert not re.search(r"#0000[0-9]{2}", page)


def test_the_page_calls_nothing_a_frame_or_a_mask_that_is_none(page: str) -> None:
    text = Page(page).text
    assert "frame of the sensor" not in text and "this mask" not in text
    assert "encoded frame" not in text and "through this mask" not in text
    assert "trained on what leaves it" in text


def test_single_and_pooled_figures_and_bits_stand_at_the_top(page: str) -> None:
    top = Page(page).text.split("From the face")[0]
    assert "recognised by the worst attacker, rank 1 of 60 people" in top
    assert "of the people named from 5 pictures of each together" in top
    assert "11.6 bits leave the chip for one picture" in top
    # The strongest with five pictures is another attacker than the strongest with one.
    assert "7%" in top and "20%" in top


def test_every_channel_has_its_chain_from_face_to_winner() -> None:
    story = pairs.story(pairs_run.summary(), pairs_run.arrays(), 6)
    assert story is not None
    anchor, eye = story["chains"]
    assert [[cell.caption for cell in row] for row in anchor.pairs] == [CHAIN] * pairs.ANCHOR_PAIRS_SHOWN
    assert [[cell.caption for cell in row] for row in eye.pairs] == [CHAIN]
    for channel in (anchor, eye):
        assert [cell.caption for cell in channel.ends] == ["drive over the window", "winner"]
        assert channel.face is not None
    assert (len(anchor.kernels), len(eye.kernels)) == (4, 1)
    assert "80 places of a fixed window" in anchor.words and "20 places about the anchor's winner" in eye.words


def pixels_of(picture: str) -> list[np.ndarray]:
    """The images inside a picture."""
    coded = re.findall(r'href="data:image/png;base64,([^"]+)"', picture)
    return [imread(io.BytesIO(base64.b64decode(one))) for one in coded]


def test_a_kernel_is_the_grey_difference_of_its_tiles_turned_round() -> None:
    arrays = pairs_run.arrays()
    arrays["pairs_psf"] = np.zeros_like(arrays["pairs_psf"])
    middle = pairs_run.CELLS // 2
    # Pair 1: green light plus above the axis, minus to the right of it; red is weaker by its weight.
    arrays["pairs_psf"][2, 1, middle - 3, middle] = 1.0
    arrays["pairs_psf"][3, 0, middle, middle + 2] = 1.0
    story = pairs.story(pairs_run.summary(), arrays, 6)
    assert story is not None
    (shown,) = pixels_of(story["kernels"][0].kernels[1])
    half = shown.shape[0] // 2
    blue = shown[..., 2] - shown[..., 0]
    assert np.unravel_index(blue.argmax(), blue.shape) == (half + 3, half)
    assert np.unravel_index(blue.argmin(), blue.shape) == (half, half - 2)
    plus, minus = shown[half + 3, half, :3], shown[half, half - 2, :3]
    np.testing.assert_allclose(plus, pairs_pictures.SIGNED_MAP(1.0)[:3], atol=1 / 255)
    np.testing.assert_allclose(minus, pairs_pictures.SIGNED_MAP(0.5 - 0.5 * 0.2 / 0.7)[:3], atol=0.02)


def test_the_window_of_a_follower_lies_about_the_anchor_and_the_largest_drive_is_bright() -> None:
    arrays = pairs_run.arrays()
    (x, y), (top, left, height, width) = arrays["places"][0, 0], pairs_run.WINDOWS[1]
    drives = np.zeros_like(arrays["pairs_drive"])
    drives[0, 1, y + top + 1, x + left + 3] = 5.0
    drives[0, 1, y + top + 2, x + left + 4] = 4.0
    arrays["pairs_drive"], arrays["pairs_bias_1"] = drives, np.zeros((height, width))
    arrays["pairs_bias_1"][2, 4] = 2.0  # the bias decides
    story = pairs.story(pairs_run.summary(), arrays, 6)
    assert story is not None
    eye = story["chains"][1]
    (shown,) = pixels_of(eye.ends[0].picture)
    assert shown.shape[:2] == (height, width)
    light = shown[..., :3].sum(-1)
    assert np.unravel_index(light.argmax(), light.shape) == (2, 4)
    pixel = pairs_run.SCENE / pairs_run.PIXELS
    assert f'class="window" x="{(x + left) * pixel - 0.5:g}" y="{(y + top) * pixel - 0.5:g}"' in eye.face


def test_places_beyond_the_pixels_are_clear() -> None:
    arrays = pairs_run.arrays()
    arrays["places"][0, 0] = (7, 4)  # the follower's window of four rows begins one row above the pixels
    story = pairs.story(pairs_run.summary(), arrays, 6)
    assert story is not None
    (shown,) = pixels_of(story["chains"][1].ends[0].picture)
    assert (shown[..., 3] == np.array([0.0, 1.0, 1.0, 1.0])[:, None]).all()


def test_the_grid_shows_the_released_places_and_nothing_else() -> None:
    arrays = pairs_run.arrays()
    (shown,) = pixels_of(pairs_pictures.released_places(arrays["places"][0], pairs_run.PIXELS, "places"))
    lit = np.argwhere(shown[..., :3].max(-1) > 0.5)
    assert {(int(x), int(y)) for y, x in lit} == {(7, 8), (5, 5)}
    assert len(np.unique(shown[..., :3].reshape(-1, 3), axis=0)) == 3


def test_ablations_are_named_so_and_stand_at_their_own_error(page: str) -> None:
    text = Page(page).text
    assert "bare lens, no masks lacks the masks 0.283 +0.185 0.15–0.21 7% 0–14% 0.610 20% 15–25%" in text
    assert "bare lens, no masks (ablation)" in text and "unlearned pairs (ablation)" in text
    found = {
        series.name: series for series in report.series(pairs_run.summary(), findings.cameras(pairs_run.summary()))
    }
    bare = found["bare lens, no masks (ablation)"]
    assert bare.role == "ablation"
    assert [point.nme for point in bare.points] == [0.283]
    best = findings.best_baseline(pairs_run.summary())
    assert best is not None and best.role == "base"


def test_a_part_that_is_compared_at_equal_error_stays_a_baseline() -> None:
    lacking = {"low-resolution": ablation("the mask")}
    roles = {camera.key: camera.role for camera in findings.cameras(train_summary(ablations=lacking))}
    assert roles["low-resolution"] == "base"


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("gone", sorted(pairs_run.arrays()))
def test_any_array_may_be_missing(gone: str) -> None:
    arrays = pairs_run.arrays()
    arrays.pop(gone)
    assert "The hardware" in Page(report.render(pairs_run.summary(), arrays)).headings


@pytest.mark.usefixtures("undrawn")
def test_without_pictures_no_face_is_shown() -> None:
    from optishield.commands.train_mask import _WITHOUT_PICTURES

    arrays = {name: value for name, value in pairs_run.arrays().items() if name in _WITHOUT_PICTURES}
    parsed = Page(report.render(pairs_run.summary(), arrays))
    assert "All kernels" in parsed.headings
    assert not {"Winners on the faces", "What an attacker sees"} & set(parsed.headings)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("pairs_psf", np.ones((8, 3, 5, 5)), "two tiles a pair"),
        ("pairs_channel", np.zeros(4, dtype=int), "one channel for each pair"),
        ("filter_weights", np.ones(2), "a weight for each wavelength"),
        ("pairs_windows", np.ones((3, 4)), "top, left, height, width"),
        ("pairs_bias_1", np.ones((2, 2)), "its window"),
        ("places", np.ones((2, 2)), "faces x channels x 2"),
    ],
)
def test_a_wrong_shape_is_named(key: str, value: np.ndarray, message: str) -> None:
    with pytest.raises(OptiShieldError, match=message):
        pairs.story(pairs_run.summary(), {**pairs_run.arrays(), key: value}, 6)


def test_the_terminal_says_bits_names_and_what_the_masks_do(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.print_summary(pairs_run.summary(), Path("run"), Path("run/report.html"))
    lines = capsys.readouterr().out.splitlines()
    assert (
        "11.6 bits leave the chip for one picture: the places of 2 winners, and whether there is a face. The landmarks "
        "read from them have an error of 0.098."
    ) in lines
    assert (
        "The worst attacker names 7% of the pictures (best baseline 69%, landmarks alone 14%); from 5 pictures "
        "together 20% of the people."
    ) in lines
    assert any(
        line.startswith("Without the masks (bare lens") and "0.283: +0.185 (0.15–0.21)" in line for line in lines
    )


def test_presence_is_told_where_it_was_measured() -> None:
    winners = pairs_run.summary().winners
    assert winners is not None
    measured = winners.model_copy(update={"missed": 0.01, "false_alarms": 0.125})
    stories = [pairs.story(pairs_run.summary(winners=one), {}, 6) for one in (winners, measured)]
    told = [dict(story["hardware"]) for story in stories if story is not None]
    assert "scrambled scenes taken for a face" not in told[0]
    assert told[1]["scrambled scenes taken for a face"] == "12.5%"
    assert told[1]["validation faces that presence misses"] == "1.0%"


def test_other_cameras_have_no_such_story() -> None:
    assert pairs.story(train_summary(), {}, 6) is None
    assert findings.outcome(train_summary()) == []
