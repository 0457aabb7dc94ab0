"""Propagation operators as operators: adjoint, gradients, batches, cache, choice, and every refusal."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch

from optics import OpticsError
from optics import fft as room_fft
from optics.plane import Plane
from optics.propagation import (
    AngularSpectrum,
    BandLimitedAngularSpectrum,
    Fraunhofer,
    FreeSpace,
    FresnelTransfer,
    FresnelTransform,
    KernelCache,
    Propagator,
    SamplingError,
    carrier_turns,
    choose_propagator,
    kernel_cache,
)

EXACT = 1e-10
WAVES = [450e-9, 650e-9]
PLANE = Plane(7, 6, (3e-6, 4e-6), (2e-6, -1e-6))
SAME = Plane(5, 8, (3e-6, 4e-6), (3.7e-6, 5e-6))
OTHER = Plane(4, 9, (2e-6, 5e-6), (-3e-6, 4e-6))

# Constructor and a distance that it accepts for the planes above.
OPERATORS: dict[str, tuple[Any, float]] = {
    "angular": (AngularSpectrum, 60e-6),
    "angular, periodic": (partial(AngularSpectrum, periodic=True), 1e-2),
    "angular, evanescent": (partial(AngularSpectrum, periodic=True), 2e-6),
    "angular, chirp": (partial(AngularSpectrum, method="chirp"), 60e-6),
    "angular, matrix": (partial(AngularSpectrum, method="matrix"), -60e-6),
    "band-limited": (BandLimitedAngularSpectrum, 90e-6),
    "Fresnel transfer": (FresnelTransfer, 40e-6),
    "Fresnel, chirp": (partial(FresnelTransform, method="chirp"), 1e-2),
    "Fresnel, matrix": (partial(FresnelTransform, method="matrix"), -1e-2),
    "Fraunhofer, chirp": (partial(Fraunhofer, method="chirp"), 2e-2),
    "Fraunhofer, matrix": (partial(Fraunhofer, method="matrix", lens=True), 1e-2),
}
INDEX: dict[str, float | list[float]] = {"angular, evanescent": 0.1, "band-limited": [1.3, 1.5]}
every_operator = pytest.mark.parametrize("name", OPERATORS)


@pytest.fixture(autouse=True)
def empty_cache() -> Iterator[None]:
    limit = kernel_cache.limit_bytes
    kernel_cache.clear()
    yield
    kernel_cache.set_limit(limit)
    kernel_cache.clear()


def random_field(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(sum(shape)))


def build(name: str, out: Plane, distance: float | torch.Tensor, dtype: torch.dtype = torch.float64) -> Propagator:
    space = FreeSpace(PLANE, out, WAVES, distance, index=INDEX.get(name, 1.0))
    operator: Propagator = OPERATORS[name][0](space, dtype=dtype)
    return operator


@pytest.mark.parametrize("out", [SAME, OTHER])
@pytest.mark.parametrize("depths", [False, True])
@every_operator
def test_adjoint(name: str, depths: bool, out: Plane) -> None:
    z = OPERATORS[name][1]
    operator = build(name, out, torch.tensor([1.0, 1.1, 1.2], dtype=torch.float64) * z if depths else z)
    x = random_field(3, 2, *PLANE.shape)
    y = random_field(3, *((3,) if depths else ()), 2, *out.shape)
    forward, adjoint = operator(x), operator.adjoint(y)
    assert forward.shape == y.shape and adjoint.shape == x.shape
    left, right = torch.vdot(y.flatten(), forward.flatten()), torch.vdot(adjoint.flatten(), x.flatten())
    assert abs(left - right) < EXACT * abs(left)


@pytest.mark.parametrize("out", [SAME, OTHER])
@every_operator
def test_gradients_of_field_and_distance(name: str, out: Plane) -> None:
    # In units of the distance, so that the differences of gradcheck suit it; a step of 1e-6 moves the phase little.
    z = OPERATORS[name][1]

    def run(field: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = build(name, out, scale * z)(field)
        return result

    field, scale = random_field(2, *PLANE.shape).requires_grad_(), torch.tensor([1.0, 1.1], dtype=torch.float64)
    check = partial(torch.autograd.gradcheck, fast_mode=True)
    assert check(run, (field, scale.requires_grad_()), eps=1e-7, atol=1e-5, rtol=1e-5)
    operator = build(name, out, z)
    assert check(operator, (field,))
    assert check(operator.adjoint, (random_field(2, *out.shape).requires_grad_(),))


@pytest.mark.parametrize("out", [SAME, OTHER])
@every_operator
def test_batches_are_loops_and_single_precision_follows(name: str, out: Plane) -> None:
    constructor, z = OPERATORS[name]
    depths = torch.tensor([1.0, 1.25], dtype=torch.float64) * z
    x = random_field(2, 3, 2, *PLANE.shape)
    whole = build(name, out, depths)(x)
    for i, depth in enumerate(depths.tolist()):
        for j, wave in enumerate(WAVES):
            index = INDEX.get(name, 1.0)
            index = index[j] if isinstance(index, list) else index
            one = constructor(FreeSpace(PLANE, out, wave, depth, index=index), dtype=torch.float64)
            for part, field in zip(whole.flatten(0, 1), x.flatten(0, 1), strict=True):
                assert (part[i, j] - one(field[j : j + 1])[0]).abs().max() < EXACT * whole.abs().max()
    single = build(name, out, depths, torch.float32)(x.to(torch.complex64))
    assert single.dtype == torch.complex64
    assert (single - whole).norm() / whole.norm() < 2e-6


def test_zero_distance_is_the_identity() -> None:
    x = random_field(2, *PLANE.shape)
    for method in (AngularSpectrum, BandLimitedAngularSpectrum, FresnelTransfer):
        assert (method(FreeSpace(PLANE, PLANE, WAVES, 0.0), dtype=torch.float64)(x) - x).abs().max() < EXACT
    # Evanescent waves, too, are still there where they start.
    fine = Plane(7, 6, 0.1e-6)
    for method in (AngularSpectrum, BandLimitedAngularSpectrum):
        assert (method(FreeSpace(fine, fine, WAVES, 0.0), dtype=torch.float64)(x) - x).abs().max() < EXACT


def test_a_trainable_distance_is_a_parameter_and_never_cached() -> None:
    z = torch.nn.Parameter(torch.tensor(60e-6, dtype=torch.float64))
    operator = AngularSpectrum(FreeSpace(PLANE, SAME, WAVES, z), dtype=torch.float64)
    assert [p is z for p in operator.parameters()] == [True]
    x = random_field(2, *PLANE.shape)
    before = operator(x)
    assert len(kernel_cache) == 0
    with torch.no_grad():
        z.mul_(1.1)
    fixed = AngularSpectrum(FreeSpace(PLANE, SAME, WAVES, float(z.detach())), dtype=torch.float64)
    assert (operator(x) - fixed(x)).abs().max() < EXACT
    assert (operator(x) - before).abs().max() > 1e-3
    with torch.no_grad():
        z.mul_(100)
    with pytest.raises(SamplingError, match=r"at distance_m=0.0066 the finest waves"):
        operator(x)


def test_operators_of_one_geometry_share_a_kernel_within_the_limit() -> None:
    x = random_field(2, *PLANE.shape)
    first, second = (AngularSpectrum(FreeSpace(PLANE, SAME, WAVES, 60e-6), dtype=torch.float64) for _ in range(2))
    assert first(x).equal(second(x))
    assert len(kernel_cache) == 1
    size = 2 * first.padded[0] * first.padded[1] * 16
    assert kernel_cache.used_bytes == size
    for other in (
        AngularSpectrum(FreeSpace(PLANE, SAME, WAVES, 61e-6), dtype=torch.float64),
        AngularSpectrum(FreeSpace(PLANE, SAME, WAVES[::-1], 60e-6), dtype=torch.float64),
        AngularSpectrum(FreeSpace(PLANE, SAME, WAVES, 60e-6, index=1.1), dtype=torch.float64),
        BandLimitedAngularSpectrum(FreeSpace(PLANE, SAME, WAVES, 60e-6), dtype=torch.float64),
    ):
        other(x)
    assert len(kernel_cache) == 5
    kernel_cache.set_limit(2 * size)
    assert len(kernel_cache) == 2 and kernel_cache.used_bytes == 2 * size
    kernel_cache.set_limit(size - 1)
    assert first(x).equal(second(x))
    assert len(kernel_cache) == 0 and kernel_cache.used_bytes == 0


def test_cache_forgets_what_was_used_longest_ago(caplog: pytest.LogCaptureFixture) -> None:
    cache = KernelCache(24)
    built: list[str] = []

    def make(key: str, count: int = 3) -> torch.Tensor:
        built.append(key)
        return torch.zeros(count)

    for key in "abacb":
        cache.get(key, partial(make, key))
    assert built == ["a", "b", "c", "b"]
    with caplog.at_level(logging.INFO):
        cache.get("large", partial(make, "large", 7))
    assert "a kernel of 28 bytes exceeds the cache of 24 bytes" in caplog.text
    assert len(cache) == 2 and cache.used_bytes == 24
    with pytest.raises(OpticsError, match="limit_bytes=-1 must not be negative"):
        cache.set_limit(-1)


@every_operator
def test_kernel_built_in_inference_mode_serves_a_gradient_later(name: str) -> None:
    operator = build(name, SAME, OPERATORS[name][1])
    x = random_field(2, *PLANE.shape)
    with torch.inference_mode():
        operator(x)
    x.requires_grad_()
    (grad,) = torch.autograd.grad(operator(x).abs().square().sum(), x)
    assert (grad - 2 * operator.adjoint(operator(x))).abs().max() < EXACT * grad.abs().max()


def test_large_planes_go_through_the_guarded_transforms(monkeypatch: pytest.MonkeyPatch) -> None:
    x = random_field(2, *PLANE.shape)
    operator = AngularSpectrum(FreeSpace(PLANE, SAME, WAVES, 60e-6), dtype=torch.float64)
    truth = operator(x)

    def faulty(*_args: Any, **_kwargs: Any) -> torch.Tensor:
        raise AssertionError("two-dimensional routine used")

    monkeypatch.setattr(room_fft, "_LARGE_PLANE", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    for name in ("fft2", "ifft2"):
        monkeypatch.setattr(torch.fft, name, faulty)
    assert (operator(x) - truth).abs().max() < EXACT


CHOICE = Plane(256, 256, 4e-6)


@pytest.mark.parametrize(
    ("plane", "distance", "options", "expected"),
    [
        (CHOICE, 5e-3, {}, AngularSpectrum),
        (CHOICE, 0.1, {}, FresnelTransform),
        (Plane(512, 512, 4e-6), 40e-3, {}, BandLimitedAngularSpectrum),
        (CHOICE, 0.1, {"bandwidth_per_m": 1e4}, AngularSpectrum),
        (Plane(64, 64, 0.2e-6), 20e-6, {}, BandLimitedAngularSpectrum),
    ],
)
def test_choice_and_its_reason(
    plane: Plane, distance: float, options: dict[str, Any], expected: type, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        operator = choose_propagator(FreeSpace(plane, plane, 550e-9, distance, **options))
    assert type(operator) is expected
    chosen = [r.getMessage() for r in caplog.records if r.levelno == logging.INFO]
    assert len(chosen) == 1 and chosen[0].startswith(expected.__name__ + ": ") and "(limit " in chosen[0]
    for record in caplog.records:
        if record.levelno == logging.DEBUG:
            assert "distance_m" in record.getMessage()
    for margin in operator.check():
        assert margin.value <= margin.limit


def test_the_rule_of_the_choice_is_the_crossing_of_the_two_methods() -> None:
    # Angular spectrum and single transform meet where L z / p is twice the window: z = 2 N p^2 / L.
    plane, crossing = Plane(64, 64, 4e-6), 2 * 64 * (4e-6) ** 2 / 550e-9
    near, far = (choose_propagator(FreeSpace(plane, plane, 550e-9, crossing * factor)) for factor in (0.97, 1.03))
    assert type(near) is AngularSpectrum and type(far) is FresnelTransform


def test_no_method_is_an_error_with_all_reasons() -> None:
    sparse = Plane(16, 16, 1e-3)
    wide = Plane(16, 16, 1.0, (0.0, 40.0))
    with pytest.raises(
        OpticsError, match=r"no propagation method is valid here; follow one .*AngularSpectrum: .*Fresnel"
    ):
        choose_propagator(FreeSpace(sparse, wide, 550e-9, 0.5))
    with pytest.raises(OpticsError, match="split distance_m into nearer and farther depths"):
        choose_propagator(FreeSpace(CHOICE, CHOICE, 550e-9, torch.tensor([1e-3, 50.0])))


def refused(match: str, call: Any) -> Any:
    return pytest.param(call, match, id=match[:40])


@pytest.mark.parametrize(
    ("call", "match"),
    [
        refused(r"rows=0 must be a whole number", lambda: Plane(0, 4, 1e-6)),
        refused(r"columns=2.5 must be a whole number", lambda: Plane(4, 2.5, 1e-6)),  # type: ignore[arg-type]
        refused(r"pitch_m=-1e-06 must be a positive length", lambda: Plane(4, 4, -1e-6)),
        refused(r"pitch_m=nan must be a positive length", lambda: Plane(4, 4, float("nan"))),
        refused(r"pitch_m=\(1e-06, 0\) must be", lambda: Plane(4, 4, (1e-6, 0))),
        refused(r"centre_m=\(0, nan\) must be a pair", lambda: Plane(4, 4, 1e-6, (0, float("nan")))),
        refused(
            r"wavelengths_m=\(0.0,\) must be one or more", lambda: AngularSpectrum(FreeSpace(PLANE, PLANE, 0.0, 1e-6))
        ),
        refused(r"wavelengths_m=\(\) must be one or more", lambda: AngularSpectrum(FreeSpace(PLANE, PLANE, [], 1e-6))),
        refused(r"wavelengths_m=\(nan,\) must", lambda: choose_propagator(FreeSpace(PLANE, PLANE, float("nan"), 1e-6))),
        refused(
            r"index has 3 values for 2 wave",
            lambda: AngularSpectrum(FreeSpace(PLANE, PLANE, WAVES, 0.0, index=[1, 1, 1])),
        ),
        refused(
            r"index=\(-1.0, -1.0\) must be", lambda: AngularSpectrum(FreeSpace(PLANE, PLANE, WAVES, 0.0, index=-1))
        ),
        refused(
            r"distance_m=\(nan,\) must be finite", lambda: AngularSpectrum(FreeSpace(PLANE, PLANE, WAVES, float("nan")))
        ),
        refused(r"distance_m=\(inf,\) must be finite", lambda: carrier_turns(WAVES, torch.tensor([float("inf")]))),
        refused(
            r"distance_m has shape \(1, 1\)", lambda: AngularSpectrum(FreeSpace(PLANE, PLANE, WAVES, torch.ones(1, 1)))
        ),
        refused(r"distance_m has shape \(2,\) and torch.int64", lambda: carrier_turns(WAVES, torch.tensor([1, 2]))),
        refused(
            r"distance_m=0 has no single",
            lambda: FresnelTransform(FreeSpace(PLANE, PLANE, WAVES, torch.tensor([1.0, 0.0]))),
        ),
        refused(
            r"dtype=torch.float16 is not",
            lambda: AngularSpectrum(FreeSpace(PLANE, PLANE, WAVES, 0.0), dtype=torch.float16),
        ),
        refused(
            r"bandwidth_per_m=-1 must", lambda: AngularSpectrum(FreeSpace(PLANE, PLANE, WAVES, 0.0, bandwidth_per_m=-1))
        ),
        refused(
            r"padded=\(13, 10\) is less than \(13, 11\) samples",
            lambda: AngularSpectrum(FreeSpace(PLANE, PLANE, WAVES, 0.0), padded=(13, 10)),
        ),
        refused(
            r"padded=\(9, 9\) contradicts periodic=True",
            lambda: AngularSpectrum(FreeSpace(PLANE, PLANE, WAVES, 0.0), padded=(9, 9), periodic=True),
        ),
        refused(
            r"periodic=True needs no band limit",
            lambda: BandLimitedAngularSpectrum(FreeSpace(PLANE, PLANE, WAVES, 0.0), periodic=True),
        ),
        refused(
            r"method='fft' is unknown; use 'auto'",
            lambda: FresnelTransform(FreeSpace(PLANE, PLANE, WAVES, 1.0), method="fft"),  # type: ignore[arg-type]
        ),
        refused(
            r"before light wraps round; raise padded to \d+ along y, reduce distance_m, state a smaller",
            lambda: AngularSpectrum(FreeSpace(CHOICE, CHOICE, 550e-9, 0.1)),
        ),
        refused(
            r"raise pitch_m of input_plane above half a wavelength",
            lambda: AngularSpectrum(FreeSpace(Plane(64, 64, 0.2e-6), Plane(64, 64, 0.2e-6), 550e-9, 1e-6)),
        ),
        refused(
            r"at distance_m=0.1 the finest waves of input_plane move .* or use FresnelTransform",
            lambda: FresnelTransfer(FreeSpace(CHOICE, CHOICE, 550e-9, -0.1)),
        ),
        refused(
            r"only .* Fresnel zones of input_plane pass the band limit along y .*; raise padded",
            lambda: BandLimitedAngularSpectrum(FreeSpace(CHOICE, CHOICE, 550e-9, 3.0)),
        ),
        refused(
            r"the field sampled every pitch_m=4e-06 along y repeats within .* make pitch_m of input_plane finer",
            lambda: FresnelTransform(FreeSpace(CHOICE, CHOICE, 550e-9, 5e-3)),
        ),
        refused(
            r"the paraxial approximation leaves out .* turns of phase \(limit 0.1\)",
            lambda: FresnelTransform(FreeSpace(Plane(512, 512, 4e-6), Plane(512, 512, 4e-6), 550e-9, 40e-3)),
        ),
        refused(
            r"at distance_m=0.1 the far field leaves out .* raise distance_m to .* or pass lens=True",
            lambda: Fraunhofer(FreeSpace(CHOICE, CHOICE, 550e-9, 0.1)),
        ),
    ],
)
def test_refusals(call: Any, match: str) -> None:
    with pytest.raises(OpticsError, match=match):
        call()


def test_refusals_of_a_field() -> None:
    operator = AngularSpectrum(FreeSpace(PLANE, SAME, WAVES, 60e-6))
    field = random_field(2, *PLANE.shape)
    with pytest.raises(OpticsError, match=r"the field is torch.complex128 and the operator torch.complex64; convert"):
        operator(field)
    with pytest.raises(OpticsError, match=r"the field is torch.float32 and the operator torch.complex64"):
        operator(field.real.float())
    with pytest.raises(
        OpticsError, match=r"shape \(1, 7, 6\); its last dimensions must be \(2, 7, 6\), from wavelengths_m"
    ):
        operator(field[:1])
    with pytest.raises(OpticsError, match=r"shape \(7, 6\); its last dimensions must be \(2, 7, 6\)"):
        operator(field[0])
    with pytest.raises(OpticsError, match=r"must be \(2, 5, 8\), from wavelengths_m and output_plane"):
        operator.adjoint(field)
    depths = AngularSpectrum(FreeSpace(PLANE, SAME, WAVES, torch.tensor([1e-6, 2e-6])))
    with pytest.raises(
        OpticsError, match=r"must be \(2, 2, 5, 8\), from wavelengths_m and output_plane and distance_m"
    ):
        depths.adjoint(random_field(2, *SAME.shape))
    live = AngularSpectrum(FreeSpace(PLANE, SAME, WAVES, torch.tensor(60e-6, requires_grad=True)))
    with pytest.raises(OpticsError, match=r"the field is on meta and distance_m on cpu; move one of them"):
        live(field.to(torch.complex64).to("meta"))


def test_plane_positions() -> None:
    even, odd = Plane(4, 2, 2.0, (10.0, -1.0)), Plane(3, 1, (1.0, 5.0))
    assert even.y_m[:, 0].tolist() == [7, 9, 11, 13] and even.x_m[0].tolist() == [-2, 0]
    assert odd.y_m[:, 0].tolist() == [-1, 0, 1] and odd.x_m[0].tolist() == [0]
    assert even.first_m == (7, -2) and even.span_m == (6, 2) and even.area_m2 == 4
    assert Plane(4, 2, 2.0, (10.0, -1.0)) == even and hash(Plane(3, 1, (1.0, 5.0))) == hash(odd)
