"""FaceSet, the sRGB curve and the landmark reductions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from faces.errors import FacesError
from faces.samples import REGIONS, FaceSet, concat, five_points, interocular, linear_to_srgb, srgb_to_linear


def make(count: int = 6, size: int = 8, source: str = "test", first: int = 0, **more: object) -> FaceSet:
    rng = torch.Generator().manual_seed(first)
    fields = {
        "images": torch.randint(0, 256, (count, 3, size, size), generator=rng, dtype=torch.uint8),
        "identity": torch.arange(count) // 2 + first,
        "capture": torch.arange(count) % 2,
        "landmarks": torch.rand(count, 68, 2, generator=rng) * size,
        "source": source,
        "licence": "none",
    }
    return FaceSet(**(fields | more))  # type: ignore[arg-type]


def test_the_curve_follows_the_standard() -> None:
    # IEC 61966-2-1: the linear toe below 0.04045, and tabulated values of the curve.
    x = torch.tensor([0.0, 0.04, 0.5, 0.735356983052449, 1.0], dtype=torch.float64)
    want = torch.tensor([0.0, 0.04 / 12.92, 0.21404114048223255, 0.5, 1.0], dtype=torch.float64)
    assert torch.allclose(srgb_to_linear(x), want, atol=1e-12)


def test_the_curves_are_inverse_and_differentiable() -> None:
    x = torch.linspace(0, 1, 501, dtype=torch.float64, requires_grad=True)
    back = srgb_to_linear(linear_to_srgb(x))
    assert torch.allclose(back, x, atol=2e-6)  # the standard rounds the meeting point of its two branches
    (gradient,) = torch.autograd.grad(linear_to_srgb(x).sum(), x)
    assert torch.isfinite(gradient).all()
    assert gradient[0] == pytest.approx(12.92)


def test_linear_decodes_every_code() -> None:
    codes = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(1, 3, 16, 16).contiguous()
    faces = FaceSet(codes, torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64),
                    torch.zeros(1, 68, 2), "test", "none")  # fmt: skip
    linear = faces.linear()
    assert linear.dtype == torch.float32
    want = srgb_to_linear(torch.arange(256, dtype=torch.float64) / 255).reshape(16, 16)
    assert torch.allclose(linear[0, 1].double(), want, atol=1e-7)


def test_subset_keeps_order_repeats_and_negative_positions() -> None:
    faces = make()
    picked = faces.subset([5, 0, 0, -1])
    assert picked.identity.tolist() == [2, 0, 0, 2]
    assert torch.equal(picked.images[3], faces.images[5])
    assert torch.equal(picked.landmarks[1], faces.landmarks[0])


def test_subset_by_mask_and_by_nothing() -> None:
    faces = make()
    assert faces.subset(faces.identity == 1).capture.tolist() == [0, 1]
    assert len(faces.subset([])) == 0


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ([6], "index runs from 6 to 6, but the set has 6 samples"),
        ([-7], "index runs from -7"),
        ([0.5], "integers or booleans"),
        ([True, False], "a boolean index must have 6 entries, got 2"),
        (torch.zeros(2, 2, dtype=torch.int64), "one-dimensional"),
    ],
)
def test_subset_refuses(index: object, message: str) -> None:
    with pytest.raises(FacesError, match=message):
        make().subset(index)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.zeros(6, 3, 8, 9, dtype=torch.uint8)}, "crop the images to squares"),
        ({"images": torch.zeros(6, 3, 8, 8)}, "must be uint8"),
        ({"identity": torch.zeros(5, dtype=torch.int64)}, r"identity must be \(6,\)"),
        ({"capture": torch.zeros(6)}, r"capture must be \(6,\)"),
        ({"landmarks": torch.zeros(6, 5, 2)}, r"landmarks must be \(6, 68, 2\)"),
        ({"regions": torch.zeros(6, 4, 4, dtype=torch.uint8)}, r"regions must be \(6, 8, 8\)"),
    ],
)
def test_wrong_shapes_are_refused(change: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(FacesError, match=message):
        replace(make(), **change)  # type: ignore[arg-type]


def test_the_hash_sees_every_part_but_not_the_source() -> None:
    faces = make()
    assert faces.content_hash() == make(source="elsewhere").content_hash()
    images = faces.images.clone()
    images[3, 1, 2, 2] ^= 1
    landmarks = faces.landmarks.clone()
    landmarks[0, 0, 0] += 1e-3
    changed = [
        replace(faces, images=images),
        replace(faces, landmarks=landmarks),
        replace(faces, capture=faces.capture + 1),
        replace(faces, identity=faces.identity + 1),
        replace(faces, names=("a",)),
        replace(faces, regions=torch.zeros(6, 8, 8, dtype=torch.uint8)),
        faces.subset([1, 0, 2, 3, 4, 5]),
    ]
    assert len({item.content_hash() for item in [faces, *changed]}) == len(changed) + 1


def test_concat_joins_in_order() -> None:
    a, b = make(), make(first=10, source="other")
    joined = concat([a, b])
    assert joined.identity.tolist() == [0, 0, 1, 1, 2, 2, 10, 10, 11, 11, 12, 12]
    assert torch.equal(joined.images[6:], b.images)
    assert joined.source == "test + other"
    assert joined.licence == "none"


def test_concat_refuses_clashes() -> None:
    with pytest.raises(FacesError, match="identity 0 occurs in 'test' and in 'other'"):
        concat([make(), make(source="other")])
    with pytest.raises(FacesError, match=r"one image size, got \[8, 16\]"):
        concat([make(), make(size=16, first=9)])
    with pytest.raises(FacesError, match="at least one set"):
        concat([])
    with pytest.raises(FacesError, match="same list of names"):
        concat([make(), make(first=9, names=("a",))])


def test_regions_are_bits() -> None:
    bits = torch.zeros(6, 8, 8, dtype=torch.uint8)
    bits[0, 1, 2] = 1 << REGIONS.index("eyes") | 1 << REGIONS.index("skin")
    faces = make(regions=bits)
    assert faces.region("eyes").nonzero().tolist() == [[0, 1, 2]]
    assert not faces.region("lips").any()
    assert concat([faces, faces]).region("skin").sum() == 2
    with pytest.raises(FacesError, match="unknown region 'hat'"):
        faces.region("hat")
    with pytest.raises(FacesError, match="carries no region masks"):
        make().region("skin")


def test_five_points_and_interocular() -> None:
    marks = torch.stack([torch.arange(68.0), torch.arange(68.0) ** 2], dim=-1)
    five = five_points(marks.expand(2, 68, 2))
    assert five.shape == (2, 5, 2)
    assert five[0, :, 0].tolist() == [38.5, 44.5, 30.0, 48.0, 54.0]
    assert five[1, 2].tolist() == [30.0, 900.0]
    # Points 36 and 45: (9, 45^2 - 36^2).
    assert interocular(marks) == pytest.approx((9.0**2 + 729.0**2) ** 0.5)
    with pytest.raises(FacesError, match=r"must be \(\.\.\., 68, 2\)"):
        five_points(torch.zeros(5, 2))
