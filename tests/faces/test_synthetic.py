"""The generator of heads: determinism, exact landmarks, orientation, identity, cache, arguments."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from faces.errors import FacesError
from faces.samples import FaceSet, five_points, srgb_to_linear
from faces.synthetic import generate
from faces.synthetic.asset import ASSET_PATH, load_asset
from faces.synthetic.capture import CENTRE_CLIP, CENTRE_SIGMA, EYE_DISTANCE, Capture, Lamp, draw_capture
from faces.synthetic.head import Head, build_head
from faces.synthetic.identity import draw_identity, stream
from faces.synthetic.render import AIM_M, PIVOT_M, render

SIZE = 64


@pytest.fixture(scope="module")
def people() -> FaceSet:
    """24 people, 6 captures each."""
    return generate(24, 6, size=SIZE, seed=5, regions=True)


@pytest.fixture(scope="module")
def head() -> Head:
    return build_head(draw_identity(5, 0))


@pytest.fixture(scope="module")
def plain() -> Capture:
    """A straight, neutral, evenly lit capture before a grey wall."""
    capture = draw_capture(stream(5, 0, 2, 0))
    lamp = Lamp(np.array([0, 0, 1], np.float32), 2.0, np.full(3, 1e-6, np.float32))
    return replace(
        capture,
        angles_rad=(0.0, 0.0, 0.0),
        actions={},
        gaze_rad=(0.0, 0.0),
        centre=(0.0, 0.0),
        distance_m=1.0,
        lamps=(lamp,),
        sky=(np.full(3, 0.8, np.float32), np.full(3, 0.6, np.float32)),
        backdrop=np.full((6, 6, 3), 0.2, np.float32),
        panels=np.empty((0, 8), np.float32),
        white=np.ones(3, np.float32),
        exposure=1.0,
    )


def turned(capture: Capture, yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> Capture:
    return replace(capture, angles_rad=(yaw, pitch, roll))


def test_a_person_looks_the_same_in_any_set(people: FaceSet) -> None:
    part = generate(2, 3, size=SIZE, seed=5, first_identity=3)
    same = people.subset((people.identity >= 3) & (people.identity < 5) & (people.capture < 3))
    assert part.identity.tolist() == [3, 3, 3, 4, 4, 4]
    assert torch.equal(part.images, same.images)
    assert torch.equal(part.landmarks, same.landmarks)


def test_workers_do_not_change_a_bit(people: FaceSet) -> None:
    calls: list[tuple[int, int]] = []
    part = generate(3, 6, size=SIZE, seed=5, workers=2, progress=lambda done, total: calls.append((done, total)))
    same = people.subset(people.identity < 3)
    assert torch.equal(part.images, same.images)
    assert torch.equal(part.landmarks, same.landmarks)
    assert calls == [(6, 18), (12, 18), (18, 18)]


def test_seeds_name_different_people(people: FaceSet) -> None:
    other = generate(1, 1, size=SIZE, seed=6)
    assert not torch.equal(other.images[0], people.images[0])
    assert other.source.endswith("seed=6")


def test_labels_and_provenance(people: FaceSet) -> None:
    assert people.identity.tolist() == [k for k in range(24) for _ in range(6)]
    assert people.capture.tolist() == list(range(6)) * 24
    assert people.licence.startswith("CC0")


def test_landmarks_match_an_independent_projection(people: FaceSet) -> None:
    asset = load_asset()
    dense = asset.actions.toarray().reshape(len(asset.action_names), -1, 3).astype(np.float64)
    for number, j in ((0, 0), (1, 2), (7, 5)):
        head, capture = build_head(draw_identity(5, number)), draw_capture(stream(5, number, 2, j))
        points = head.points_m.astype(np.float64)
        for name, weight in capture.actions.items():
            points = points + weight * dense[asset.action_names.index(name)]
        yaw, pitch, roll = capture.angles_rad
        # Turning about +y carries +z to +x (image right); about -x carries +z up; about -z is clockwise on the image.
        turn = Rotation.from_rotvec([0, 0, -roll]) * Rotation.from_rotvec([-pitch, 0, 0])
        turn = turn * Rotation.from_rotvec([0, yaw, 0])
        eyes = turn.apply(points - PIVOT_M) + PIVOT_M - AIM_M
        pupils = np.linalg.norm(head.eye_centres_m[0].astype(np.float64) - head.eye_centres_m[1])
        focal = capture.eye_distance * SIZE * capture.distance_m / pupils
        cx, cy = (SIZE * (0.5 + c) - 0.5 for c in capture.centre)
        intrinsics = np.array([[focal, 0, cx], [0, focal, cy], [0, 0, 1]])
        in_camera = eyes * [1, -1, -1] + [0, 0, capture.distance_m]  # x right, y down, z away
        homogeneous = in_camera @ intrinsics.T
        pixels = homogeneous[:, :2] / homogeneous[:, 2:]
        want = (pixels[head.landmark_vertices] * head.landmark_weights[..., None].astype(np.float64)).sum(axis=1)
        others = np.r_[:17, 27:68]
        assert np.array_equal(want[others], pixels[asset.landmarks[others]].mean(axis=1))
        got = people.landmarks[number * 6 + j].double().numpy()
        assert np.abs(got - want).max() < 2e-4


def test_brow_landmarks_lie_on_the_painted_brows() -> None:
    asset = load_asset()
    for number in range(6):
        head = build_head(draw_identity(5, number))
        rows = slice(17, 27)
        place = (asset.texture[head.landmark_vertices[rows]] * head.landmark_weights[rows, :, None]).sum(axis=1)
        assert np.abs(place - head.coat.brows).max() < 0.01
        assert (head.landmark_weights[rows] >= 0).all()
        # Paint is darker under the middle of a brow than four millimetres below it.
        column, row = np.rint(head.coat.brows[[2, 7]]).astype(int).T
        light = head.coat.albedo.mean(axis=2)
        offset = 4 + round(head.identity.paint.brow[0] * 942)  # rows per metre of the texture
        assert (light[row, column] < 0.9 * light[row + offset, column]).all()


def test_order_and_orientation(head: Head, plain: Capture) -> None:
    marks = render(head, plain, SIZE).landmarks
    x, y = marks[:, 0], marks[:, 1]
    assert x[36:42].mean() < x[27] < x[42:48].mean()  # the subject's right eye lies at the left of the image
    assert (np.diff(x[4:13]) > 0).all()  # the jaw runs from image left; above, a broad jaw may narrow again
    assert x[13:17].min() - x[:4].max() > 0.3 * SIZE
    assert (np.diff(y[:8]) > 0).all()
    assert (np.diff(y[9:17]) < 0).all()
    assert y[8] > y[:17].max() - 0.5  # by way of the chin
    assert (np.diff(x[17:27]) > 0).all()
    assert (np.diff(y[27:31]) > 0).all()
    assert (np.diff(x[31:36]) > 0).all()
    for corner, upper, lower in ((36, (37, 38), (41, 40)), (42, (43, 44), (47, 46))):
        assert x[corner] < x[upper[0]] < x[upper[1]] < x[corner + 3]
        assert y[list(upper)].max() < y[list(lower)].min()
    assert (np.diff(x[48:55]) > 0).all()
    assert (np.diff(x[54:60]) < 0).all()
    assert (np.diff(x[60:65]) > 0).all()
    assert y[50:53].max() < y[61:64].min() + 0.5
    assert y[65:68].max() < y[56:59].min()
    assert y[17:27].max() < y[36:48].min() < y[30] < y[51] < y[57] < y[8]


def test_angles_have_their_documented_sign(head: Head, plain: Capture) -> None:
    straight = render(head, plain, SIZE).landmarks
    right = render(head, turned(plain, yaw=0.3), SIZE).landmarks
    up = render(head, turned(plain, pitch=0.2), SIZE).landmarks
    clockwise = render(head, turned(plain, roll=0.2), SIZE).landmarks
    # The nose tip relative to the eyes, which lie deeper.
    assert (right[30] - right[36:48].mean(0))[0] > (straight[30] - straight[36:48].mean(0))[0] + 2
    assert (up[30] - up[36:48].mean(0))[1] < (straight[30] - straight[36:48].mean(0))[1] - 1
    assert clockwise[45, 1] - clockwise[36, 1] == pytest.approx(
        (straight[45, 1] - straight[36, 1]) + np.tan(0.2) * (clockwise[45, 0] - clockwise[36, 0]), abs=1.0
    )


def test_pixels_agree_with_landmarks(head: Head, plain: Capture) -> None:
    """The painted eyes and lips lie inside their contours, on a turned head too."""
    size = 192
    for capture in (plain, turned(plain, 0.3, -0.1, 0.15)):
        picture = render(head, capture, size)
        rows, columns = np.nonzero(picture.regions == 4)
        middle = picture.landmarks[27, 0]
        for points, side in ((slice(36, 42), columns < middle), (slice(42, 48), columns > middle)):
            centre = np.array([columns[side].mean(), rows[side].mean()])
            assert np.abs(centre - picture.landmarks[points].mean(axis=0)).max() < 0.02 * size
        rows, columns = np.nonzero(picture.regions == 2)
        outer = picture.landmarks[48:60]
        box = np.array([columns.min(), rows.min(), columns.max(), rows.max()])
        contour = np.concatenate([outer.min(axis=0), outer.max(axis=0)])
        assert np.abs(box - contour).max() < 0.035 * size


def test_frontal_pupil_distance_is_as_drawn(head: Head, plain: Capture) -> None:
    # The two eyes' landmark centres stand for the pupils; lids are not centred on them to the last pixel.
    for fraction in EYE_DISTANCE:
        marks = render(head, replace(plain, eye_distance=fraction), 128).landmarks
        distance = marks[42:48, 0].mean() - marks[36:42, 0].mean()
        assert distance / 128 == pytest.approx(fraction, rel=0.08)


def test_light_comes_from_its_direction(head: Head, plain: Capture) -> None:
    def halves(x: float) -> tuple[float, float]:
        direction = np.array([x, 0.2, 0.6], np.float32)
        lamp = Lamp(direction / np.linalg.norm(direction), 6.0, np.full(3, 12.0, np.float32))
        dark = np.full(3, 0.05, np.float32)
        picture = render(head, replace(plain, lamps=(lamp,), sky=(dark, dark)), SIZE)
        linear = srgb_to_linear(torch.from_numpy(picture.image).double() / 255).mean(-1).numpy()
        skin = (picture.regions & 1) == 1
        middle = round(float(picture.landmarks[27, 0]))
        return float(linear[:, :middle][skin[:, :middle]].mean()), float(linear[:, middle:][skin[:, middle:]].mean())

    left, right = halves(-1.0)
    assert left > 1.4 * right
    left, right = halves(1.0)
    assert right > 1.4 * left


def test_sizes_show_the_same_scene(head: Head) -> None:
    """32 and 64 px share one fine grid, so block means agree up to coding and highlight compression."""
    capture = replace(draw_capture(stream(5, 0, 2, 3)), exposure=0.5)
    small, large = render(head, capture, 32), render(head, capture, 64)
    linear = srgb_to_linear(torch.from_numpy(large.image).double() / 255)
    block = linear.reshape(32, 2, 32, 2, 3).mean(dim=(1, 3))
    difference = (block - srgb_to_linear(torch.from_numpy(small.image).double() / 255)).abs()
    dim = block < 0.7
    assert difference[dim].max() < 0.006
    assert dim.double().mean() > 0.9
    assert np.allclose(small.landmarks, (large.landmarks + 0.5) / 2 - 0.5, atol=1e-4)


def test_captures_stay_within_their_limits_and_use_them() -> None:
    captures = [draw_capture(stream(0, k, 2, 0)) for k in range(400)]
    angles = np.rad2deg([c.angles_rad for c in captures])
    assert (np.abs(angles) <= np.array([33.0, 17.6, 13.2]) + 1e-6).all()
    # Clipping at 2.2 sigma takes 3 % off the standard deviation; four standard errors are 14 %.
    assert angles.std(axis=0) == pytest.approx([14.6, 7.8, 5.85], rel=0.14)
    centres = np.array([c.centre for c in captures])
    assert np.abs(centres).max() <= CENTRE_SIGMA * CENTRE_CLIP
    assert centres.std(axis=0) == pytest.approx(0.038, rel=0.15)
    distances = np.array([c.eye_distance for c in captures])
    assert EYE_DISTANCE[0] <= distances.min() < 0.235
    assert 0.285 < distances.max() <= EYE_DISTANCE[1]


def test_captures_tell_nothing_about_the_person() -> None:
    """Clothes, light and backdrop of two captures of one person are as unrelated as those of two people."""
    features = np.array(
        [
            [
                [np.log(c.cloth.mean()), c.collar_m, np.log(c.backdrop.mean()), np.log(c.sky[0].mean()), c.exposure]
                for c in (draw_capture(stream(0, k, 2, 0)), draw_capture(stream(0, k, 2, 1)))
            ]
            for k in range(300)
        ]
    )
    for i in range(features.shape[2]):
        assert abs(np.corrcoef(features[:, 0, i], features[:, 1, i])[0, 1]) < 0.23  # four standard errors


def test_faces_are_in_frame(people: FaceSet) -> None:
    inside = ((people.landmarks > -0.5) & (people.landmarks < SIZE - 0.5)).all(-1)
    assert inside.double().mean() > 0.98
    assert inside[:, 17:].double().mean() > 0.999


def rank_one(features: torch.Tensor, identity: torch.Tensor) -> float:
    """Share of captures whose nearest other capture is of the same person."""
    distance = torch.cdist(features, features).fill_diagonal_(torch.inf)
    return float((identity[distance.argmin(dim=1)] == identity).double().mean())


def test_identity_outweighs_capture(people: FaceSet) -> None:
    """Nearest neighbours by mere skin, brow and lip tones are mostly of the same person; chance is 3.5 %."""
    tones = []
    linear = people.linear()
    for image, marks in zip(linear, people.landmarks, strict=True):

        def patch(x: float, y: float, image: torch.Tensor = image) -> torch.Tensor:
            row, column = int(np.clip(round(y), 1, SIZE - 2)), int(np.clip(round(x), 1, SIZE - 2))
            return image[:, row - 1 : row + 2, column - 1 : column + 2].mean(dim=(1, 2))

        five = five_points(marks)
        places = [
            marks[30],
            marks[19],
            marks[24],
            marks[57],
            marks[8],
            (five[0] + five[3]) / 2,
            (five[1] + five[4]) / 2,
        ]
        colours = torch.stack([patch(float(x), float(y)) for x, y in places]).clamp_min(1e-3).log()
        # Differences to the cheeks and between channels cancel exposure and most of the light.
        tones.append(torch.cat([(colours - colours[5:].mean(0)).flatten(), 2 * colours.diff(dim=1).flatten()]))
    features = torch.stack(tones)
    honest = rank_one(features, people.identity)
    shuffled = people.identity[torch.randperm(len(people), generator=torch.Generator().manual_seed(0))]
    assert honest > 0.30
    assert rank_one(features, shuffled) < 0.12


def test_shape_differs_more_between_people_than_by_expression() -> None:
    asset = load_asset()
    face = np.unique(asset.landmarks)
    heads = [draw_identity(0, k).points_m[face] for k in range(20)]
    between = np.median([np.linalg.norm(a - b, axis=1).mean() for i, a in enumerate(heads) for b in heads[:i]])
    moves = [asset.action(draw_capture(stream(0, k, 2, 0)).actions)[face] for k in range(40)]
    within = np.median([np.linalg.norm(a - b, axis=1).mean() for i, a in enumerate(moves) for b in moves[:i]])
    assert between > 2 * within
    assert 0.002 < between < 0.02  # metres: people, not caricatures


def test_the_mean_head_has_symmetric_landmarks() -> None:
    asset = load_asset()
    marks = asset.mean_m[asset.landmarks].mean(axis=1)
    pairs = [(i, 16 - i) for i in range(8)] + [(17 + i, 26 - i) for i in range(5)]
    pairs += [(36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46), (31, 35), (32, 34)]
    pairs += [(48, 54), (49, 53), (50, 52), (59, 55), (58, 56), (60, 64), (61, 63), (67, 65)]
    for right, left in pairs:
        assert np.allclose(marks[right] * [-1, 1, 1], marks[left], atol=5e-4), (right, left)
    for middle in (8, 27, 28, 29, 30, 33, 51, 57, 62, 66):
        assert abs(marks[middle, 0]) < 5e-4


def test_the_asset_is_the_documented_one() -> None:
    assert load_asset().sha256 in (ASSET_PATH.parent / "README.md").read_text(encoding="utf-8")


def test_unknown_actions_are_refused() -> None:
    with pytest.raises(FacesError, match="unknown facial action 'earWiggle'"):
        load_asset().action({"earWiggle": 1.0})


def test_cache_is_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = generate(1, 2, size=32, cache_dir=tmp_path / "new" / "folder")
    assert [p.suffix for p in (tmp_path / "new" / "folder").iterdir()] == [".npz"]

    def never(*_: object) -> None:
        raise AssertionError("rendered although cached")

    monkeypatch.setattr("faces.synthetic.generator.render_identity", never)
    calls: list[tuple[int, int]] = []
    again = generate(
        1, 2, size=32, cache_dir=tmp_path / "new" / "folder", progress=lambda done, total: calls.append((done, total))
    )
    assert again.content_hash() == first.content_hash()
    assert calls == [(2, 2)]


def test_other_arguments_use_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate(1, 1, size=32, cache_dir=tmp_path)
    generate(1, 1, size=33, cache_dir=tmp_path)
    generate(1, 1, size=32, seed=1, cache_dir=tmp_path)
    generate(1, 1, size=32, first_identity=1, cache_dir=tmp_path)
    monkeypatch.setattr("faces.synthetic.generator.GENERATOR_VERSION", 10**6)
    generate(1, 1, size=32, cache_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 5


@pytest.mark.parametrize(("damage", "message"), [("flip", "do not match their hash"), ("cut", "cannot be read")])
def test_damaged_cache_is_rendered_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str, message: str
) -> None:
    good = generate(1, 1, size=32, cache_dir=tmp_path)
    (path,) = tmp_path.iterdir()
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    else:
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        arrays["images"][0, 0, 5, 5] ^= 1
        np.savez(path, **arrays)
    with caplog.at_level(logging.WARNING):
        healed = generate(1, 1, size=32, cache_dir=tmp_path)
    assert message in caplog.text
    assert healed.content_hash() == good.content_hash()
    caplog.clear()
    generate(1, 1, size=32, cache_dir=tmp_path)
    assert not caplog.records


def test_unwritable_cache_is_an_error(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("in the way")
    with pytest.raises(FacesError, match=r"cannot write the cache .* choose another cache_dir"):
        generate(1, 1, size=32, cache_dir=blocker)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_identities": 0}, "n_identities must be at least 1, got 0"),
        ({"captures": -2}, "captures must be at least 1, got -2"),
        ({"size": 31}, "size must be from 32 to 256, got 31"),
        ({"size": 257}, "size must be from 32 to 256, got 257"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"first_identity": -1}, "first_identity must be at least 0"),
        ({"workers": 0}, "workers must be at least 1"),
        ({"captures": 2.5}, "captures must be a whole number, got 2.5"),
        ({"seed": True}, "seed must be a whole number, got True"),
    ],
)
def test_bad_arguments(change: dict[str, int], message: str) -> None:
    arguments = {"n_identities": 1, "captures": 1} | change
    with pytest.raises(FacesError, match=message):
        generate(**arguments)  # type: ignore[arg-type]
