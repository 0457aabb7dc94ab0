"""Picture quality against scikit-image and against sums written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor, nn

from evaluation import (
    EvaluationError,
    deep_feature_distance,
    dssim,
    kernel_distance,
    l2_distance,
    linf_distance,
    psnr,
    ssim,
)


def pair(seed: int = 0, count: int = 3, channels: int = 3, peak: float = 1.0) -> tuple[Tensor, Tensor]:
    """Smooth pictures, and the same with noise of rising strength."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, channels, 6, 7, generator=generator)
    clean = nn.functional.interpolate(coarse, size=(40, 33), mode="bicubic").clamp(0, 1)
    noise = torch.linspace(0.01, 0.2, count)[:, None, None, None] * torch.randn(clean.shape, generator=generator)
    return peak * clean, peak * (clean + noise).clamp(0, 1)


@pytest.mark.parametrize(("channels", "peak"), [(3, 1.0), (1, 255.0)])
def test_ssim_and_psnr_equal_scikit_image(channels: int, peak: float) -> None:
    clean, changed = pair(channels=channels, peak=peak)
    ours, decibel = ssim(clean, changed, peak=peak), psnr(clean, changed, peak=peak)
    for i in range(len(clean)):
        a, b = clean[i].double().numpy(), changed[i].double().numpy()
        reference = structural_similarity(
            a, b, channel_axis=0, data_range=peak, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        assert float(ours[i]) == pytest.approx(reference, abs=1e-10)
        assert float(decibel[i]) == pytest.approx(peak_signal_noise_ratio(a, b, data_range=peak))
    assert ours[0] > 0.9 > 0.7 > ours[2]
    torch.testing.assert_close(dssim(clean, changed, peak=peak), (1 - ours) / 2)


def test_a_shift_of_brightness_has_the_ssim_of_its_luminance_term() -> None:
    dark, bright = torch.full((1, 1, 16, 16), 0.3), torch.full((1, 1, 16, 16), 0.5)
    expected = (2 * 0.3 * 0.5 + 1e-4) / (0.3**2 + 0.5**2 + 1e-4)
    assert float(ssim(dark, bright)) == pytest.approx(expected, abs=1e-6)
    assert float(psnr(dark, bright)) == pytest.approx(20 * math.log10(1 / 0.2), abs=1e-4)


def test_equal_pictures_are_perfect() -> None:
    clean, _ = pair()
    assert ssim(clean, clean).tolist() == pytest.approx([1.0] * 3)
    assert psnr(clean, clean).tolist() == [math.inf] * 3
    assert linf_distance(clean, clean).tolist() == [0.0] * 3


def test_the_budgets_of_a_hand_made_change() -> None:
    clean = torch.full((2, 3, 4, 4), 0.5)
    changed = clean.clone()
    changed[0, 0, 0, 0] += 0.3
    changed[0, 2, 3, 3] -= 0.4
    assert linf_distance(clean, changed).tolist() == pytest.approx([0.4, 0.0])
    assert l2_distance(clean, changed).tolist() == pytest.approx([0.5, 0.0])


def test_gradients_of_ssim_are_right() -> None:
    generator = torch.Generator().manual_seed(1)
    clean, changed = torch.rand(2, 1, 1, 12, 12, generator=generator, dtype=torch.float64).unbind(0)
    assert torch.autograd.gradcheck(lambda x: ssim(clean, x), changed.requires_grad_())


def test_the_deep_distance_is_twice_one_minus_the_cosine() -> None:
    torch.manual_seed(0)
    layers = nn.ModuleList([nn.Conv2d(3, 5, 3, stride=2), nn.Conv2d(5, 4, 3)])

    @torch.no_grad()
    def features(batch: Tensor) -> list[Tensor]:
        first = torch.relu(layers[0](batch))
        return [first + 0.1, layers[1](first)]

    clean, changed = pair()
    found = deep_feature_distance(clean, changed, features)
    for i in range(3):
        expected = 0.0
        for one, other in zip(features(clean), features(changed), strict=True):
            a, b = one[i].flatten(1).double().numpy(), other[i].flatten(1).double().numpy()
            cosine = [x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in zip(a.T, b.T, strict=True)]
            expected += np.mean(2 * (1 - np.array(cosine))) / 2
        assert float(found[i]) == pytest.approx(expected, rel=1e-5)
    assert found[0] < found[1] < found[2]
    assert deep_feature_distance(clean, clean, features).tolist() == [0.0] * 3
    # Only the direction of a feature counts, and opposite ones are farthest.
    assert deep_feature_distance(clean + 1, 3 * (clean + 1), lambda x: [x]).tolist() == pytest.approx(
        [0.0] * 3, abs=1e-9
    )
    assert deep_feature_distance(clean + 1, -clean - 1, lambda x: [x]).tolist() == pytest.approx([4.0] * 3)


def test_the_kernel_distance_is_the_double_sum_over_different_samples() -> None:
    generator = torch.Generator().manual_seed(2)
    x, y = torch.randn(9, 5, generator=generator), 1 + torch.randn(9, 5, generator=generator)

    def kernel(a: Tensor, b: Tensor) -> float:
        return (float(a.double() @ b.double()) / 5 + 1) ** 3

    off = [(i, j) for i in range(9) for j in range(9) if i != j]
    expected = (
        sum(kernel(x[i], x[j]) for i, j in off) / 72
        + sum(kernel(y[i], y[j]) for i, j in off) / 72
        - 2 * sum(kernel(a, b) for a in x for b in y) / 81
    )
    found = kernel_distance(x, y, subsets=3, subset_size=9)  # every subset is the whole set
    assert found.value == pytest.approx(expected)
    assert found.sd == pytest.approx(0.0, abs=1e-9)


def test_the_kernel_distance_has_no_bias() -> None:
    generator = torch.Generator().manual_seed(3)
    x, y = torch.randn(3000, 8, generator=generator), torch.randn(3000, 8, generator=generator)
    same = kernel_distance(x, y, subsets=300, subset_size=20)
    # A biased estimate would be higher by about twice E[k(x, x) - k(x, y)] / 20 = .8 and more.
    assert abs(same.value) < 4 * same.sd / 300**0.5
    shifted = kernel_distance(x, y + 0.5, subsets=300, subset_size=20)
    assert shifted.value > same.value + 10 * same.sd / 300**0.5
    assert kernel_distance(x, y, subsets=300, subset_size=20) == same
    assert kernel_distance(x, y, subsets=300, subset_size=20, seed=1) != same


def test_faulty_input_is_named() -> None:
    clean, changed = pair()
    with pytest.raises(EvaluationError, match="of one shape"):
        ssim(clean, changed[:2])
    with pytest.raises(EvaluationError, match="divide by 255"):
        psnr(clean.to(torch.uint8), changed.to(torch.uint8))
    with pytest.raises(EvaluationError, match="peak is 0"):
        psnr(clean, changed, peak=0)
    with pytest.raises(EvaluationError, match="needs 11 x 11 pixels; got 10 x 33"):
        ssim(clean[:, :, :10], changed[:, :, :10])
    with pytest.raises(EvaluationError, match="same layers, at least one"):
        deep_feature_distance(clean, changed, lambda x: [])
    with pytest.raises(EvaluationError, match="with one D"):
        kernel_distance(torch.zeros(4, 3), torch.zeros(4, 2))
    with pytest.raises(EvaluationError, match="2 to 4 samples; got 100 of 1000"):
        kernel_distance(torch.zeros(4, 3), torch.zeros(6, 3))
