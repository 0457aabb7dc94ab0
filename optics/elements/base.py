"""What every element in the pupil offers, and a stack of them.

An element changes the field by ``T exp(+2 pi i W / L)``: a path error W in metres, positive where light is late, and a
real amplitude factor T. :class:`optics.PupilToPsf` takes any element and asks it for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

import torch
from torch import nn

from optics.checks import check_wavelengths
from optics.errors import OpticsError
from optics.pupil import PupilGrid
from optics.tensors import hold


class PupilElement(nn.Module):
    """Base of all elements: a path error and an amplitude factor on one pupil grid.

    Args:
        grid: Pupil.
        dtype: torch.float32 or torch.float64.
    """

    def __init__(self, grid: PupilGrid, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        if dtype not in (torch.float32, torch.float64):
            raise OpticsError(f"dtype={dtype} is not supported; use torch.float32 or torch.float64.")
        self.grid = grid
        self.dtype = dtype

    def path_m(self, wavelengths_m: Sequence[float]) -> torch.Tensor:
        """Return the path error in metres at each vacuum wavelength, shape (L, P, P)."""
        raise NotImplementedError

    def transmission(self, wavelengths_m: Sequence[float] | None = None) -> torch.Tensor | None:
        """Return the amplitude factor, 0 to 1, or None where all light passes.

        Args:
            wavelengths_m: Vacuum wavelengths in metres; needed only by elements whose factor depends on them.

        Returns:
            Shape (P, P), or (L, P, P) if it depends on the wavelength.
        """
        return None

    def turns(self, wavelengths_m: Sequence[float], dtype: torch.dtype | None = None) -> torch.Tensor:
        """Return the path error in wavelengths, whole turns and all.

        Args:
            wavelengths_m: Vacuum wavelengths in metres.
            dtype: Type of the result; None means that of the path.

        Returns:
            Shape (L, P, P).
        """
        waves = check_wavelengths(wavelengths_m)
        path = self.path_m(waves)
        path = path if dtype is None else path.to(dtype)
        return path / path.new_tensor(waves)[:, None, None]

    def forward(self, wavelengths_m: Sequence[float]) -> torch.Tensor:
        """Return :meth:`path_m`."""
        return self.path_m(wavelengths_m)

    def _hold(self, name: str, value: torch.Tensor, shape: tuple[int, ...]) -> None:
        """Register ``value``: a Parameter stays trainable, a tensor becomes a buffer; refuse wrong shapes and NaN."""
        hold(self, name, value, shape, self.dtype)

    def _follow(self, given: torch.Tensor | None) -> None:
        """Move what was made here to the device of a tensor that the caller gave; the last line of a constructor."""
        if given is not None:
            self.to(given.device)


def cells_across(grid: PupilGrid, samples: int, name: str) -> int:
    """Return how many cells of ``samples`` pupil samples lie across the pupil; they must fill it exactly."""
    if samples < 1 or grid.samples % samples:
        low = grid.samples // max(samples, 1) * max(samples, 1)
        raise OpticsError(
            f"{name} of {samples} pupil samples does not fill the {grid.samples} samples of the pupil; change it, or "
            f"PupilGrid samples to {low or samples} or {low + max(samples, 1)}."
        )
    return grid.samples // samples


def samples_of(grid: PupilGrid, length_m: float, name: str) -> int:
    """Return a length as a whole number of pupil samples, or refuse one that is not."""
    if not (isfinite(length_m) and length_m > 0):
        raise OpticsError(f"{name}={length_m} must be a positive length in metres.")
    ratio = length_m / grid.pitch_m
    if round(ratio) < 1 or abs(ratio - round(ratio)) > 1e-6 * ratio:
        raise OpticsError(
            f"{name}={length_m:g} is {ratio:.6g} samples of the pupil ({grid.pitch_m:g} m each); it must be a whole "
            f"number: change it to {max(round(ratio), 1) * grid.pitch_m:g}, or the samples of PupilGrid."
        )
    return round(ratio)


def spread_cells(cells: torch.Tensor, samples: int) -> torch.Tensor:
    """Repeat each cell over ``samples`` x ``samples`` pupil samples, (..., n, n) to (..., n s, n s)."""
    return cells.repeat_interleave(samples, -2).repeat_interleave(samples, -1)


class _StraightThrough(torch.autograd.Function):
    """The value of the first argument, the gradient of the second; exact, unlike ``soft + (hard - soft)``."""

    generate_vmap_rule = True

    @staticmethod
    def forward(hard: torch.Tensor, soft: torch.Tensor) -> torch.Tensor:
        return hard.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor, torch.Tensor], output: torch.Tensor) -> None:
        """Nothing of the inputs is needed."""

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[None, torch.Tensor]:
        return None, grad


def straight_through(hard: torch.Tensor, soft: torch.Tensor) -> torch.Tensor:
    """Return ``hard`` exactly, with the gradient of ``soft`` (Y. Bengio et al., arXiv:1308.3432)."""
    result: torch.Tensor = _StraightThrough.apply(hard, soft)
    return result


class ElementStack(PupilElement):
    """Elements in one pupil plane: paths add, amplitude factors multiply.

    Args:
        elements: Elements on the same grid and of the same dtype, in any order; phase masks are elements.

    >>> from optics import FlatMask, ZernikeMask
    >>> from optics.elements import FixedCode
    >>> grid = PupilGrid(1e-3, 32)
    >>> stack = ElementStack(ZernikeMask(grid, 6), FixedCode(grid, torch.full((2, 2), 0.5)), FlatMask(grid))
    >>> tuple(stack.path_m([540e-9]).shape), float(stack.transmission()[16, 16])
    ((1, 32, 32), 0.5)
    """

    def __init__(self, *elements: PupilElement) -> None:
        if not elements:
            raise OpticsError("ElementStack() has no elements; pass at least one.")
        super().__init__(elements[0].grid, elements[0].dtype)
        for number, part in enumerate(elements):
            if part.grid != self.grid:
                raise OpticsError(f"element {number} lies on {part.grid} but element 0 on {self.grid}; use one grid.")
            if part.dtype != self.dtype:
                raise OpticsError(f"element {number} has dtype {part.dtype} but element 0 {self.dtype}; use one dtype.")
        self.elements = nn.ModuleList(elements)

    def path_m(self, wavelengths_m: Sequence[float]) -> torch.Tensor:
        """Return the sum of the path errors in metres, shape (L, P, P)."""
        return _sum([element.path_m(wavelengths_m) for element in self._parts()])

    def turns(self, wavelengths_m: Sequence[float], dtype: torch.dtype | None = None) -> torch.Tensor:
        """Return the sum of the path errors in wavelengths, shape (L, P, P)."""
        return _sum([element.turns(wavelengths_m, dtype) for element in self._parts()])

    def transmission(self, wavelengths_m: Sequence[float] | None = None) -> torch.Tensor | None:
        """Return the product of the amplitude factors, shape (P, P) or (L, P, P), or None if all light passes."""
        product: torch.Tensor | None = None
        for element in self._parts():
            factor = element.transmission(wavelengths_m)
            if factor is not None:
                product = factor if product is None else product * factor
        return product

    def _parts(self) -> list[PupilElement]:
        return [element for element in self.elements if isinstance(element, PupilElement)]


def _sum(planes: list[torch.Tensor]) -> torch.Tensor:
    total = planes[0]
    for plane in planes[1:]:
        total = total + plane
    return total
