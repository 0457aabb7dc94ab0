"""Model-based limits and certificates against closed forms, brute force and optimal attackers."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import binom, norm

from evaluation.errors import EvaluationError
from evaluation.limits import (
    Certificate,
    check_attack,
    class_bits_upper,
    clip_to_ball,
    fano_bound,
    gaussian_bits,
    noisy_release,
    scene_distance,
    signal_dependent_bits,
    stationary_bits,
    tar_bound,
)
from optics import PupilGrid, PupilToPsf, ThinLens, convolve
from optics.elements import zernike_basis

EXACT = 1e-12
PRINTED = 6e-4  # the reference prints three decimals
SURE = 1e-6  # chance that a Monte-Carlo check fails by bad luck, were it not seeded


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


def covariance(side: int, seed: int, rank: int | None = None) -> torch.Tensor:
    root = normal(side, rank or side + 2, seed=seed)
    return root @ root.mT


def lower_limit(wins: int, trials: int) -> float:
    """Largest rate under which so many wins would be a surprise of less than ``SURE``."""
    rates = np.linspace(0, wins / trials, 20_001)
    return float(rates[binom.sf(wins - 1, trials, rates) < SURE][-1])


# Strong Fano.


@pytest.mark.parametrize(
    ("bits", "success"),
    [(0.01, 0.039), (0.05, 0.067), (0.1, 0.091), (0.25, 0.146), (0.5, 0.219), (1.0, 0.337), (2.0, 0.529)],
)
def test_fano_table_of_fifty_people(bits: float, success: float) -> None:
    assert float(fano_bound(bits, 50)) == pytest.approx(success, abs=PRINTED)


@pytest.mark.parametrize("people", [2, 3, 50, 10**6])
def test_fano_is_reached_by_the_symmetric_channel(people: int) -> None:
    # Y = ID with chance a, else any other person: I = log2 M - H(Y | ID).
    share = torch.tensor([0.05, 0.3, 0.6, 0.9, 0.999], dtype=torch.float64)
    success = 1 / people + (1 - 1 / people) * share
    failure = 1 - success
    bits = math.log2(people) + success * success.log2() + failure * (failure / (people - 1)).log2()
    assert fano_bound(bits, people).numpy() == pytest.approx(success.numpy(), abs=EXACT)


def test_fano_ends_at_chance_and_at_certainty() -> None:
    assert float(fano_bound(0.0, 50)) == pytest.approx(1 / 50, abs=1e-7)
    # Few bits: d(p + x || p) = x^2 / (2 p (1 - p)) nats.
    rise = math.sqrt(2 * 0.02 * 0.98 * 1e-8 * math.log(2))
    assert float(fano_bound(1e-8, 50)) - 0.02 == pytest.approx(rise, rel=1e-3)
    for people in (2, 3, 7, 50, 999):
        assert float(fano_bound(math.log2(people) + 0.01, people)) == 1.0


def test_fano_gradient() -> None:
    bits = torch.tensor([0.01, 0.4, 2.0, 5.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda b: fano_bound(b, 50), bits)
    more = torch.tensor([0.0, 7.0], dtype=torch.float64, requires_grad=True)
    fano_bound(more, 50).sum().backward()
    assert more.grad is not None and bool(torch.isfinite(more.grad).all()) and float(more.grad[1]) == 0.0


# Distance of scenes.


def test_scene_distance_is_the_mahalanobis_distance() -> None:
    step, noise = normal(5), covariance(5, 1)
    expected = math.sqrt(float(step @ torch.linalg.inv(noise) @ step))
    assert float(scene_distance(step, noise)) == pytest.approx(expected, rel=1e-10)
    assert float(scene_distance(step, torch.full((5,), 4.0))) == pytest.approx(float(step.norm()) / 2, rel=EXACT)


# Gaussian information.


def test_scalar_channel() -> None:
    bits = gaussian_bits(torch.tensor([[3.0]]), torch.tensor([0.5]), frames=4)
    assert float(bits) == pytest.approx(0.5 * math.log2(1 + 4 * 3 / 0.5), rel=EXACT)
    tiny = gaussian_bits(torch.tensor([[1e-18]], dtype=torch.float64), torch.ones(1))
    assert float(tiny) == pytest.approx(0.5e-18 / math.log(2), rel=EXACT)


def test_rounding_of_single_precision_is_not_refused() -> None:
    blur, scenes = normal(40, 40), covariance(40, 1, rank=5)
    rough = blur.float() @ scenes.float() @ blur.float().mT
    assert bool((rough != rough.mT).any())
    exact = gaussian_bits(blur @ scenes @ blur.mT, torch.ones(40))
    assert float(gaussian_bits(rough, torch.ones(40))) == pytest.approx(float(exact), rel=1e-4)


def test_frames_equal_one_long_frame_with_independent_noise() -> None:
    signal, noise, frames = covariance(4, 1, rank=2), covariance(4, 2), 3
    one = torch.ones(frames, frames, dtype=torch.float64)
    eye = torch.eye(frames, dtype=torch.float64)
    total = torch.kron(one, signal) + torch.kron(eye, noise)
    nats = (torch.logdet(total) - frames * torch.logdet(noise)) / 2
    assert float(gaussian_bits(signal, noise, frames)) == pytest.approx(float(nats) / math.log(2), rel=1e-10)


def test_scatter_of_classes_agrees_with_the_determinant_over_people() -> None:
    # det(1 + W^-1 M' M) = det(1 + M W^-1 M') with the centred people's means M / sqrt(P - 1), P x P.
    captures = normal(6, 4, 9) + 2 * normal(6, 1, 9, seed=1)
    means = captures.mean(dim=1)
    spread = (means - means.mean(dim=0)) / math.sqrt(5)
    inner = (captures - means[:, None]).flatten(0, 1)
    within = inner.mT @ inner / (6 * 3) + 0.3 * torch.eye(9, dtype=torch.float64)
    over_people = torch.logdet(torch.eye(6, dtype=torch.float64) + spread @ torch.linalg.inv(within) @ spread.mT)
    bits = gaussian_bits(spread.mT @ spread, within)
    assert float(bits) == pytest.approx(float(over_people) / (2 * math.log(2)), rel=1e-10)


def test_stationary_spectrum_equals_the_dense_circulant_covariance() -> None:
    height, width, frames = 5, 6, 3
    psf, kernel = torch.rand(3, 3, generator=rng(), dtype=torch.float64), normal(height, width, seed=1)
    otf = torch.fft.fft2(psf, s=(height, width))
    spectrum = torch.fft.fft2(kernel).abs().square()

    def circulant(first: torch.Tensor) -> torch.Tensor:
        return torch.stack([first.roll((y, x), (0, 1)).flatten() for y in range(height) for x in range(width)], dim=1)

    padded = torch.zeros(height, width, dtype=torch.float64)
    padded[:3, :3] = psf
    blur, scenes = circulant(padded), circulant(torch.fft.ifft2(spectrum).real)
    dense = gaussian_bits(blur @ scenes @ blur.mT, torch.full((height * width,), 0.2), frames)
    assert float(stationary_bits(otf, spectrum, 0.2, frames)) == pytest.approx(float(dense), rel=1e-7)


def test_known_limit_of_natural_scenes() -> None:
    # 1/f^2 spectrum, 64 x 64, sd 0.2, Gaussian transfer function: 78 and 9 bits a frame, far above log2 50 = 5.6.
    f = torch.fft.fftfreq(64, dtype=torch.float64)
    square = f[:, None] ** 2 + f**2
    spectrum = torch.where(square > 0, 1 / square.clamp(min=1e-9), 0.0)
    spectrum = spectrum * 0.2**2 / spectrum.mean()
    for cutoff, noise_sd, bits in ((0.02, 0.05, 78), (0.01, 0.2, 9)):
        otf = torch.exp(-square / (2 * cutoff**2))
        assert float(stationary_bits(otf, spectrum, noise_sd**2)) == pytest.approx(bits, abs=0.5)


@pytest.mark.parametrize(("ratio", "bound", "bayes"), [(0.01, 0.078, 0.039), (0.1, 0.266, 0.118), (0.35, 0.558, 0.312)])
def test_bayes_attacker_stays_below_the_class_bound(ratio: float, bound: float, bayes: float) -> None:
    people, dimension, galleries, probes = 50, 10, 600, 20
    eye = torch.eye(dimension, dtype=torch.float64)
    certificate = Certificate.of_bits(
        float(gaussian_bits(ratio * eye, eye)), people, 1, noise="unit within-person scatter", assumptions="Gaussian."
    )
    assert certificate.max_success == pytest.approx(bound, abs=1.5e-3)
    gallery = math.sqrt(ratio) * normal(galleries, people, dimension)
    probe = gallery[:, :probes] + normal(galleries, probes, dimension, seed=1)
    right = torch.cdist(probe, gallery).argmin(dim=2) == torch.arange(probes)
    assert float(right.double().mean()) == pytest.approx(bayes, abs=0.012)
    assert check_attack(certificate, lower_limit(int(right.sum()), right.numel())) is None


# Noise that depends on the signal.


def test_constant_variance_gives_the_plain_formula() -> None:
    signal, variance = covariance(4, 1), torch.rand(4, generator=rng(), dtype=torch.float64) + 0.5
    assert float(signal_dependent_bits(signal, variance.expand(7, 4), 3)) == pytest.approx(
        float(gaussian_bits(signal, variance, 3)), rel=EXACT
    )


def test_variance_alone_carries_information() -> None:
    # Two scenes with the same mean and variances 1 and 9: the plain formula sees nothing at all.
    variances = torch.tensor([[1.0], [9.0]], dtype=torch.float64)
    nothing = torch.zeros(1, 1, dtype=torch.float64)
    assert float(gaussian_bits(nothing, variances.min(dim=0).values)) == 0.0

    def integrand(y: float) -> float:
        laws = [norm.pdf(y, scale=1.0), norm.pdf(y, scale=3.0)]
        return sum(0.5 * law * math.log2(law / (sum(laws) / 2)) for law in laws if law > 0)

    true = 2 * quad(integrand, 0, 40, limit=200)[0]
    assert 0.1 < true < float(signal_dependent_bits(nothing, variances))


def test_frames_with_photon_noise_equal_one_long_frame() -> None:
    signal, variances, frames = covariance(3, 1), torch.rand(50, 3, generator=rng(), dtype=torch.float64) + 0.2, 4
    eye, one = torch.eye(frames, dtype=torch.float64), torch.ones(frames, frames, dtype=torch.float64)
    total = torch.kron(one, signal) + torch.kron(eye, variances.mean(dim=0).diag())
    nats = (torch.logdet(total) - frames * variances.log().sum(dim=1).mean()) / 2
    bits = signal_dependent_bits(signal, variances, frames)
    assert float(bits) == pytest.approx(float(nats) / math.log(2), rel=1e-10)


# Confidence limit.


@pytest.mark.parametrize(("frames", "captures"), [(1, 4), (2, 4), (3, 3)])
def test_confidence_limit_covers_as_often_as_it_says(frames: int, captures: int) -> None:
    between, within, people, repeats = covariance(3, 1, rank=2), covariance(3, 2), 25, 400
    truth = float(gaussian_bits(between, within, frames))
    root_b, root_w = normal(3, 2, seed=1), torch.linalg.cholesky(within)
    covered = 0
    for seed in range(repeats):
        person = normal(people, 1, 2, seed=2 * seed) @ root_b.mT
        rows = person + normal(people, captures, 3, seed=2 * seed + 1) @ root_w.mT
        covered += float(class_bits_upper(rows, frames, confidence=0.8)) >= truth
    assert covered / repeats == pytest.approx(0.8, abs=0.08)  # four standard deviations


def test_confidence_limit_with_more_frames_than_captures() -> None:
    rows = normal(40, 3, 2) + normal(40, 1, 2, seed=1)
    three, twelve = (float(class_bits_upper(rows, frames)) for frames in (3, 12))
    assert twelve == pytest.approx(three + 0.5 * 2 * math.log2(4), rel=EXACT)  # d/2 log2(T / m)
    assert float(class_bits_upper(rows, 3, confidence=0.5)) < three
    # Many people: the limit tends to the truth, 1/2 log2 det(1 + 3 x 1) in two dimensions.
    many = normal(20_000, 3, 2) + normal(20_000, 1, 2, seed=1)
    assert float(class_bits_upper(many, 3)) == pytest.approx(math.log2(4), abs=0.05)


def test_confidence_limit_passes_gradients() -> None:
    rows = (normal(5, 3, 2) + normal(5, 1, 2, seed=1)).requires_grad_()
    assert torch.autograd.gradcheck(lambda r: class_bits_upper(r, 2), rows)


# Through the mask.


def test_gradient_from_mask_to_success() -> None:
    grid = PupilGrid(0.5e-3, 16)
    to_psf = PupilToPsf(grid, ThinLens(4e-3, 1.0), [540e-9], 6e-6, 5, dtype=torch.float64)
    modes = zernike_basis(6, grid, torch.float64)[3:] * 1e-7
    spectrum = torch.fft.fft2(normal(6, 7)).abs().square()
    scenes = covariance(16, 1, rank=4)

    def success(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        psf = to_psf.from_field(to_psf.pupil.from_turns((weight[:, None, None] * modes).sum(dim=0) / 540e-9))
        stationary = stationary_bits(torch.fft.fft2(psf, s=(6, 7)), spectrum, 300.0, frames=2)
        single = torch.eye(16, dtype=torch.float64).reshape(16, 1, 4, 4)
        blur = convolve(single, psf).flatten(1).mT
        dense = gaussian_bits(blur @ scenes @ blur.mT, torch.full((16,), 100.0), frames=2)
        verified = tar_bound(0.01, scene_distance(blur @ normal(16, seed=2), torch.full((16,), 3.0)))
        return fano_bound(stationary, 10**6), fano_bound(dense, 50), verified

    weight = torch.tensor([0.7, -0.4, 0.5], dtype=torch.float64, requires_grad=True)
    for value in success(weight):
        (slope,) = torch.autograd.grad(value, weight, retain_graph=True)
        assert 0.02 < float(value.detach()) < 0.98 and float(slope.abs().min()) > 1e-5
    assert torch.autograd.gradcheck(success, weight)


# Certificates.


def test_certificate_of_a_release() -> None:
    certificate = Certificate.of_release(0.5, 2.0, 10, people=50, frames=4)
    assert certificate.tier == "certified" and certificate.delta == 0.5 and certificate.bits is None
    assert certificate.max_success == pytest.approx(norm.cdf(norm.ppf(0.02) + 0.5), rel=EXACT)
    plain = json.loads(json.dumps(certificate.to_dict()))
    assert plain["vacuous"] is False and plain["frames"] == 4 and plain["people"] == 50
    assert plain["noise"] == "Gaussian, sd 2 in each of 10 components clipped to radius 0.5"
    assert Certificate.of_release(0.5, 2.0, 10, people=50, frames=64).vacuous is False
    assert Certificate.of_release(0.5, 2.0, 10, people=50, frames=68).vacuous is True  # sqrt(T) / 4 > 2.0537


@pytest.mark.parametrize(
    ("dimension", "people", "frames", "ratio"), [(1, 20, 1, 3.0), (3, 8, 4, 0.6), (30, 50, 16, 0.3)]
)
def test_bayes_attacker_stays_below_the_release_bound(dimension: int, people: int, frames: int, ratio: float) -> None:
    centre, noise_sd, trials = normal(dimension, seed=5), 2.0, 20_000
    scenes = centre + 100 * normal(people, dimension, seed=6)
    if dimension == 1:  # spread over the interval, which is worse than crowded at its ends
        scenes = centre + torch.linspace(-1, 1, people, dtype=torch.float64)[:, None] * ratio * noise_sd
    known = clip_to_ball(scenes, centre, ratio * noise_sd)
    identity = torch.randint(people, (trials,), generator=rng(7))
    rows = scenes[identity].repeat_interleave(frames, dim=0)
    released = noisy_release(rows, centre, ratio * noise_sd, noise_sd, rng(8))
    mean_frame = released.reshape(trials, frames, dimension).mean(dim=1)
    wins = int((torch.cdist(mean_frame, known).argmin(dim=1) == identity).sum())
    certificate = Certificate.of_release(ratio * noise_sd, noise_sd, dimension, people, frames)
    assert wins / trials > 1.5 / people  # the attacker works
    assert check_attack(certificate, lower_limit(wins, trials)) is None


def test_half_of_the_people_is_vacuous() -> None:
    def labelled(rate: float) -> Certificate:
        return Certificate.of_attack(rate, 50, 1, noise="sensor")

    assert labelled(0.5).vacuous and not labelled(0.4999).vacuous


def test_attack_above_a_limit_is_reported_with_its_cause() -> None:
    certified = Certificate.of_release(0.5, 1.0, 10, people=50, frames=1)
    assert check_attack(certified, certified.max_success) is None
    reason = check_attack(certified, 0.3)
    assert reason is not None
    assert "at least 0.3000 of 50 people from 1 frames; the certified limit is 0.0601: a bug" in reason
    model = Certificate.of_bits(0.5, 50, 16, noise="read noise 2 e", assumptions="Faces are Gaussian.")
    assert check_attack(model, 0.21) is None
    reason = check_attack(model, 0.22)
    assert reason is not None and "0.2189: the model does not hold (Faces are Gaussian.)" in reason
    assert check_attack(Certificate.of_attack(0.2, 50, 1, noise="sensor"), 0.9) is None


# Refusals.


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(EvaluationError, match="people=1 must be at least 2"):
        fano_bound(0.1, 1)
    with pytest.raises(EvaluationError, match=r"bits has the negative value -0\.5"):
        fano_bound(-0.5, 50)
    with pytest.raises(EvaluationError, match="bits holds values that are not finite"):
        fano_bound(math.nan, 50)
    with pytest.raises(EvaluationError, match=r"difference has shape \(2, 2\); \(d,\) is needed"):
        scene_distance(torch.eye(2), torch.ones(2))


def test_matrices_that_are_no_covariances_are_refused() -> None:
    eye, ones = torch.eye(2), torch.ones(2)
    with pytest.raises(EvaluationError, match=r"signal_covariance has shape \(2, 3\)"):
        gaussian_bits(torch.ones(2, 3), ones)
    with pytest.raises(EvaluationError, match="signal_covariance is not symmetric"):
        gaussian_bits(torch.tensor([[1.0, 0.5], [0.0, 1.0]]), ones)
    with pytest.raises(EvaluationError, match="signal_covariance has the negative eigenvalue -1 "):
        gaussian_bits(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), ones)
    with pytest.raises(EvaluationError, match=r"noise of shape \(3,\) does not fit a signal of 2 components"):
        gaussian_bits(eye, torch.ones(3))
    with pytest.raises(EvaluationError, match=r"the noise has the variance 0\.0"):
        gaussian_bits(eye, torch.tensor([1.0, 0.0]))
    with pytest.raises(EvaluationError, match="the noise covariance is not positive definite"):
        gaussian_bits(eye, torch.ones(2, 2))
    with pytest.raises(EvaluationError, match=r"noise_variances has shape \(2,\)"):
        signal_dependent_bits(eye, ones)


def test_spectra_on_half_a_grid_are_refused() -> None:
    psf, texture = torch.rand(3, 3, generator=rng()), normal(8, 8)
    half = torch.fft.rfft2(texture).abs().square()
    with pytest.raises(EvaluationError, match=r"give the full grid of fft2, not half of it \(rfft2\)"):
        stationary_bits(torch.fft.rfft2(psf, s=(8, 8)), half, 1.0)
    with pytest.raises(EvaluationError, match=r"otf of shape \(8, 8\) and scene_spectrum of shape \(8, 5\) do not fit"):
        stationary_bits(torch.fft.fft2(psf, s=(8, 8)), half, 1.0)
    with pytest.raises(EvaluationError, match="noise_spectrum must be positive everywhere"):
        stationary_bits(torch.fft.fft2(psf, s=(8, 8)), torch.ones(8, 8), 0.0)


def test_too_little_data_for_a_confidence_limit_is_refused() -> None:
    with pytest.raises(EvaluationError, match=r"captures has shape \(4, 3\)"):
        class_bits_upper(normal(4, 3))
    with pytest.raises(EvaluationError, match="5 people with 3 captures cannot bound d=5 components at frames=1"):
        class_bits_upper(normal(5, 3, 5))
    with pytest.raises(EvaluationError, match="there are 0; add people or captures"):
        class_bits_upper(normal(50, 2, 3), frames=1)
    with pytest.raises(EvaluationError, match=r"confidence=1\.0 must lie above 0"):
        class_bits_upper(normal(50, 3, 2), confidence=1.0)


def test_incomplete_certificates_are_refused() -> None:
    with pytest.raises(EvaluationError, match="tier='guess' is none of certified, model-based, empirical"):
        Certificate("guess", 0.1, 50, 1, "n", "a")  # type: ignore[arg-type]
    with pytest.raises(EvaluationError, match="a certified certificate with bits=None and delta=None"):
        Certificate("certified", 0.1, 50, 1, "n", "a")
    with pytest.raises(EvaluationError, match="'model-based' bits alone"):
        Certificate("model-based", 0.1, 50, 1, "n", "a", bits=1.0, delta=1.0)
    with pytest.raises(EvaluationError, match=r"max_success=1\.5 must lie between 0 and 1"):
        Certificate.of_attack(1.5, 50, 1, noise="sensor")
    with pytest.raises(EvaluationError, match="noise and assumptions must be stated"):
        Certificate.of_bits(1.0, 50, 1, noise="", assumptions="Gaussian.")
    with pytest.raises(EvaluationError, match="attack_lower_limit=50 must lie between 0 and 1"):
        check_attack(Certificate.of_attack(0.2, 50, 1, noise="sensor"), 50)
