"""Fourier transforms stay right where the library's own 2-D routine may fail."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from optics import OpticsError
from optics import fft as room_fft

SINGLE = 1e-5


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_large_single_precision_plane_survives_two_threads() -> None:
    room_fft.self_check(2048)
    plane = torch.randn(2048, 2048, generator=torch.Generator().manual_seed(1))
    field = torch.complex(plane, plane.T).requires_grad_()
    # By Parseval the gradient of |F x|^2 / 2 is N^2 x.
    (grad,) = torch.autograd.grad(room_fft.fft2(field, (2048, 2048)).abs().square().sum() / 2, field)
    error = (grad / 2048**2 - field.detach()).abs().max() / field.detach().abs().max()
    assert float(error) < SINGLE


@pytest.mark.usefixtures("two_threads")
def test_large_planes_never_use_the_two_dimensional_routine_on_two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(*_args: Any, **_kwargs: Any) -> torch.Tensor:
        raise AssertionError("two-dimensional routine used")

    for name in ("fft2", "ifft2", "rfft2", "irfft2"):
        monkeypatch.setattr(torch.fft, name, faulty)
    monkeypatch.setattr(room_fft, "_LARGE_PLANE", 64 * 64)
    room_fft.self_check(64)
    with pytest.raises(AssertionError, match="two-dimensional routine used"):
        room_fft.self_check(32)
    torch.set_num_threads(1)  # where it is right, and faster
    with pytest.raises(AssertionError, match="two-dimensional routine used"):
        room_fft.self_check(64)


def test_large_single_precision_plane_is_right_on_one_thread() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        room_fft.self_check(2048)
    finally:
        torch.set_num_threads(before)


def test_self_check_reports_a_wrong_transform(monkeypatch: pytest.MonkeyPatch) -> None:
    right = torch.fft.ifft2
    monkeypatch.setattr(torch.fft, "ifft2", lambda x: right(x) / x.numel())
    with pytest.raises(OpticsError, match=r"ifft2\(fft2\(x\)\) of 64 x 64 samples .* call torch.set_num_threads\(1\)"):
        room_fft.self_check(64)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("limit", [1, 2**22])
def test_both_routes_agree_with_the_definition(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room_fft, "_LARGE_PLANE", limit)
    x = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows, columns = (
        torch.exp(-2j * torch.pi * torch.outer(torch.arange(n), torch.arange(m)).double() / n)
        for n, m in ((9, 5), (8, 6))
    )
    truth = rows @ x.to(torch.complex128) @ columns.T
    assert (room_fft.fft2(x.to(torch.complex128), (9, 8)) - truth).abs().max() < 1e-12
    assert (room_fft.rfft2(x, (9, 8)) - truth[..., :5]).abs().max() < 1e-12
    back = room_fft.irfft2(truth[..., :5], (9, 8))
    assert (back[..., :5, :6] - x).abs().max() < 1e-12
    assert (room_fft.ifft2(truth)[..., :5, :6] - x).abs().max() < 1e-12


def test_fast_lengths_are_enough_and_smooth() -> None:
    for minimum in range(1, 700):
        length = room_fft.fast_length(minimum)
        assert minimum <= length < 1.25 * minimum + 2
        for prime in (2, 3, 5):
            while length % prime == 0:
                length //= prime
        assert length == 1
