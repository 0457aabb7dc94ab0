"""The blocked transfer step: the plain formula, its adjoint, gradients of each kind, function transforms."""

from __future__ import annotations

import pytest
import torch
from torch.func import jvp, vjp, vmap

from optics import AngularSpectrum, Plane
from optics.propagation import FreeSpace, columns

# Forward-mode derivatives make torch script something when they are first used.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))


def plain(field: torch.Tensor, kernel: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """As the definition has it, with a kernel [y, x]."""
    spectrum = torch.fft.fft2(field, s=tuple(kernel.shape[-2:])) * kernel
    return torch.fft.ifft2(spectrum)[..., : shape[0], : shape[1]]


@pytest.mark.parametrize(
    ("field", "kernel"),
    [
        ((2, 5, 7), (2, 12, 9)),
        ((3, 2, 5, 7), (2, 12, 9)),
        ((1, 2, 5, 7), (3, 2, 12, 9)),
        ((4, 1, 2, 5, 7), (3, 2, 12, 9)),
    ],
)
@pytest.mark.parametrize("samples", [1, 40, 2**17])
def test_blocks_of_any_size_give_the_plain_formula_and_its_adjoint(
    monkeypatch: pytest.MonkeyPatch, field: tuple[int, ...], kernel: tuple[int, ...], samples: int
) -> None:
    monkeypatch.setattr(columns, "_BLOCK_SAMPLES", samples)
    given, h = random(*field), random(*kernel, seed=1)
    found = columns.transfer(given, h.mT, (6, 8))
    torch.testing.assert_close(found, plain(given, h, (6, 8)), rtol=0, atol=1e-12)
    other = random(*found.shape, seed=2)
    back = columns.transfer_adjoint(other, h.mT, (5, 7))
    assert back.shape == given.shape
    assert abs(torch.vdot(other.flatten(), found.flatten()) - torch.vdot(back.flatten(), given.flatten())) < 1e-10


@pytest.mark.parametrize("depths", [None, (1e-4, 2e-4)])
def test_gradients_of_both_orders_and_directions(depths: tuple[float, ...] | None) -> None:
    plane = Plane(4, 5, 4e-6)
    distance = 1e-4 if depths is None else torch.tensor(depths)
    operator = AngularSpectrum(FreeSpace(plane, plane, (500e-9, 600e-9), distance), dtype=torch.float64)
    field = random(3, 2, 4, 5).requires_grad_()
    assert torch.autograd.gradcheck(operator, field, check_forward_ad=True)
    assert torch.autograd.gradcheck(operator.adjoint, operator(field).detach().requires_grad_())
    assert torch.autograd.gradgradcheck(lambda x: operator(x).abs().square(), field)


@pytest.mark.parametrize("depths", [None, (1e-4, 2e-4)])
def test_function_transforms(depths: tuple[float, ...] | None) -> None:
    plane = Plane(4, 5, 4e-6)
    distance = 1e-4 if depths is None else torch.tensor(depths)
    operator = AngularSpectrum(FreeSpace(plane, plane, (500e-9, 600e-9), distance), dtype=torch.float64)
    fields = random(3, 2, 4, 5)
    for dim in (0, 1):
        mapped = vmap(operator, in_dims=dim)(fields.movedim(0, dim))
        torch.testing.assert_close(mapped, operator(fields))
    value, tangent = jvp(operator, (fields,), (fields.flip(0),))  # type: ignore[misc]  # three with has_aux alone
    torch.testing.assert_close(tangent, operator(fields.flip(0)))
    _, pulled = vjp(operator, fields)  # type: ignore[misc]
    torch.testing.assert_close(pulled(value)[0], operator.adjoint(value))
