"""Heatmaps, decoding, landmark error and the decoder network."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from faces.errors import FacesError
from faces.landmarks import (
    HeatmapDecoder,
    LandmarkSet,
    decode,
    gaussian_heatmaps,
    heatmap_loss,
    mirror_order,
    nme,
    points_in,
    released,
    rescale_points,
)
from faces.samples import five_points, interocular
from faces.synthetic.asset import load_asset

DOUBLE: dict[str, Any] = {"rtol": 0.0, "atol": 1e-9}


def _points(count: int, size: int, seed: int = 0) -> torch.Tensor:
    gen = torch.Generator().manual_seed(seed)
    return torch.rand(count, 68, 2, dtype=torch.float64, generator=gen) * size * 0.6 + size * 0.2


def test_heatmap_is_the_gaussian_of_its_definition() -> None:
    points = _points(2, 64)
    maps = gaussian_heatmaps(points, 64, 32, 1.5).numpy()
    at = (points.numpy() + 0.5) / 2 - 0.5
    y, x = np.mgrid[:32, :32]
    for n, k in ((0, 0), (1, 30), (1, 67)):
        expected = np.exp(-((x - at[n, k, 0]) ** 2 + (y - at[n, k, 1]) ** 2) / (2 * 1.5**2))
        np.testing.assert_allclose(maps[n, k], expected, atol=1e-12)


def test_heatmaps_are_indexed_y_then_x() -> None:
    maps = gaussian_heatmaps(torch.tensor([[[5.0, 2.0]]]), 8, 8, 1.0)
    assert maps.shape == (1, 1, 8, 8)
    assert float(maps[0, 0, 2, 5]) == 1.0


def test_rescaling_keeps_the_edges_of_the_frame() -> None:
    edges = torch.tensor([[-0.5, 63.5]], dtype=torch.float64)
    torch.testing.assert_close(rescale_points(edges, 64, 32), torch.tensor([[-0.5, 31.5]], dtype=torch.float64))


def test_decoding_the_logarithm_of_a_gaussian_returns_its_centre() -> None:
    points = _points(3, 64, seed=1)
    # The softmax of a log-Gaussian is that Gaussian; with sigma 1 its cut-off tails shift the mean by < 1e-4 pixel.
    logits = gaussian_heatmaps(points, 64, 32, 1.0).clamp_min(1e-300).log()
    found, confidence = decode(logits, 64)
    torch.testing.assert_close(found, points, rtol=0, atol=1e-4)
    # A circular Gaussian has 1 - exp(-r^2/2) of its mass within r = 2 sigma; the pixel grid makes it coarse.
    assert float(confidence.mean()) == pytest.approx(1 - math.exp(-2), abs=0.05)


def test_a_flat_heatmap_decodes_to_the_middle_without_confidence() -> None:
    found, confidence = decode(torch.zeros(1, 68, 32, 32, dtype=torch.float64), 64)
    torch.testing.assert_close(found, torch.full((1, 68, 2), 31.5, dtype=torch.float64))
    # Cell centres lie at odd halves from (15.5, 15.5): 12 of them within two cells.
    torch.testing.assert_close(confidence, torch.full((1, 68), 12 / 1024, dtype=torch.float64))


def test_decoding_is_differentiable() -> None:
    logits = torch.randn(1, 2, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(lambda x: decode(x, 10)[0], (logits.requires_grad_(True),))


def test_loss_is_least_at_the_target_and_equals_its_entropy() -> None:
    target = gaussian_heatmaps(_points(1, 64), 64, 16, 1.0)
    share = (target / target.sum((2, 3), keepdim=True)).flatten(2)
    entropy = -(share * share.clamp_min(1e-300).log()).sum(-1).mean()
    best = target.clamp_min(1e-300).log()
    torch.testing.assert_close(heatmap_loss(best, target), entropy, **DOUBLE)
    flat = heatmap_loss(torch.zeros_like(target), target)
    assert float(flat) == pytest.approx(math.log(256))
    assert float(flat) > float(entropy)


def test_a_landmark_outside_the_frame_costs_nothing() -> None:
    target = gaussian_heatmaps(torch.full((1, 3, 2), 1e4, dtype=torch.float64), 64, 16, 1.0)
    assert float(heatmap_loss(torch.randn(1, 3, 16, 16, dtype=torch.float64), target)) == 0.0


def test_error_is_in_units_of_the_outer_eye_corners() -> None:
    truth = _points(2, 64)
    truth[:, 36], truth[:, 45] = torch.tensor([20.0, 30.0]), torch.tensor([40.0, 30.0])
    shifted = truth + torch.tensor([3.0, 4.0])
    unit = interocular(truth)
    quarter = torch.full((2,), 0.25, dtype=torch.float64)
    torch.testing.assert_close(nme(shifted, truth, unit), quarter, **DOUBLE)
    # Fewer points are measured by the same length.
    torch.testing.assert_close(nme(five_points(shifted), five_points(truth), unit), quarter, **DOUBLE)
    one = truth.clone()
    one[1, 10, 0] += 68
    torch.testing.assert_close(nme(one, truth, unit), torch.tensor([0.0, 0.05], dtype=torch.float64), **DOUBLE)


def test_error_refuses_faces_without_truth() -> None:
    truth = _points(2, 64)
    truth[1, 36] = math.nan
    with pytest.raises(FacesError, match="1 of 2 faces have no true interocular distance"):
        nme(truth, truth, interocular(truth))
    with pytest.raises(FacesError, match=r"two sets of shape \(N, K, 2\) and N units"):
        nme(truth[:1], truth, torch.ones(2))
    with pytest.raises(FacesError, match=r"got \(2, 68, 2\), \(2, 68, 2\) and \(1,\)"):
        nme(truth, truth, torch.ones(1))


def test_a_set_of_five_is_the_alignment_points_and_of_sixty_eight_is_all() -> None:
    points = _points(3, 64)
    torch.testing.assert_close(released(points, "five"), five_points(points), **DOUBLE)
    assert torch.equal(released(points, "sixty-eight"), points)
    assert [points_in("five"), points_in("sixty-eight")] == [5, 68]
    with pytest.raises(FacesError, match="no landmark set 'seven'; choose one of five, sixty-eight"):
        released(points, "seven")  # type: ignore[arg-type]
    with pytest.raises(FacesError, match=r"must be \(\.\.\., 68, 2\), got \(3, 5, 2\)"):
        released(points[:, :5], "sixty-eight")


@pytest.mark.parametrize("which", ["five", "sixty-eight"])
def test_the_mirror_order_makes_a_mirrored_head_a_head_again(which: LandmarkSet) -> None:
    asset = load_asset()
    mean = torch.from_numpy(asset.mean_m[asset.landmarks].mean(axis=1)).double()
    face = released(mean[:, :2], which)
    mirrored = (face * torch.tensor([-1.0, 1.0]))[list(mirror_order(which))]
    # The mean head is symmetric to well under a millimetre; points of one eye are centimetres from the other's.
    assert float((mirrored - face).norm(dim=-1).max()) < 1e-3
    order = torch.tensor(mirror_order(which))
    assert torch.equal(order[order], torch.arange(points_in(which)))


@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 20), (1, 32), (1, 48), (3, 64)])
def test_decoder_takes_any_sensor_and_its_cost_is_as_stated(channels: int, size: int) -> None:
    network = HeatmapDecoder(channels, size, points=68)
    count = 0

    def add(module: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal count
        assert isinstance(module, (nn.Conv2d, nn.Linear))
        weight = module.weight
        count += weight[0].numel() * output[0].numel() if isinstance(module, nn.Conv2d) else weight.numel()

    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(add)
    frames = torch.rand(2, channels, size, size, generator=torch.Generator().manual_seed(0))
    logits = network(frames)
    assert logits.shape == (2, 68, 32, 32)
    assert 19e6 < count < 21e6
    points, confidence = network.landmarks(frames)
    assert points.shape == (2, 68, 2)
    assert confidence.shape == (2, 68)


def test_every_pixel_of_the_frame_reaches_every_landmark() -> None:
    torch.manual_seed(0)
    network = HeatmapDecoder(1, 32).double()
    frames = torch.rand(1, 1, 32, 32, dtype=torch.float64, requires_grad=True)
    # One cell in the corner of one map depends on the whole frame, hence the global bottleneck.
    network(frames)[0, 3, 0, 0].backward()
    assert frames.grad is not None
    assert float((frames.grad != 0).double().mean()) == 1.0


def test_decoder_learns_where_a_dot_is() -> None:
    torch.manual_seed(1)
    gen = torch.Generator().manual_seed(1)
    network = HeatmapDecoder(1, 16, width=8, scene_size=64)
    assert network.points == 5
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    errors = []
    for _ in range(50):
        truth = torch.rand(8, 1, 2, generator=gen) * 40 + 12
        frames = gaussian_heatmaps(truth, 64, 16, 1.0)
        truth = truth.expand(8, 5, 2)
        logits = network(frames)
        loss = heatmap_loss(logits, gaussian_heatmaps(truth, 64, 32, 1.5))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        errors.append(float((decode(logits.detach(), 64)[0] - truth).norm(dim=-1).mean()))
    # Guessing the middle is 15 pixels off on average.
    assert errors[0] > 8
    assert np.mean(errors[-5:]) < 7.5


def test_decoder_refuses_what_it_cannot_read() -> None:
    with pytest.raises(FacesError, match=r"8 <= size <= 64.*got 1, 4, 16, 64 and 5"):
        HeatmapDecoder(1, 4)
    with pytest.raises(FacesError, match=r"points >= 1, got 1, 32, 16, 64 and 0"):
        HeatmapDecoder(1, 32, points=0)
    with pytest.raises(FacesError, match=r"shape \(N, 1, 16, 16\), got \(2, 3, 16, 16\)"):
        HeatmapDecoder(1, 16)(torch.zeros(2, 3, 16, 16))
    with pytest.raises(FacesError, match=r"positive sizes and a positive sigma, got 64, 32 and 0"):
        gaussian_heatmaps(torch.zeros(1, 68, 2), 64, 32, 0)
    with pytest.raises(FacesError, match=r"shape \(N, K, 2\), got \(68, 2\)"):
        gaussian_heatmaps(torch.zeros(68, 2), 64, 32, 1)
