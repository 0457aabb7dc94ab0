"""Amplitude codes in the pupil: given, trained grey or trained binary, and the MURA.

A code is a square table of cells over the whole pupil; a cell lets the amplitude factor 0 to 1 through (the share of
light is its square).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from optics.checks import check_finite, check_wavelengths
from optics.elements.base import PupilElement, spread_cells, straight_through
from optics.errors import OpticsError
from optics.pupil import PupilGrid


class _Code(PupilElement):
    """A table of cells that fills the pupil, without path error."""

    open_area: torch.Tensor

    def __init__(self, grid: PupilGrid, cells: int, dtype: torch.dtype) -> None:
        super().__init__(grid, dtype)
        if cells < 1 or grid.samples % cells:
            raise OpticsError(f"cells={cells} does not divide the {grid.samples} samples of the pupil; change either.")
        self._samples = grid.samples // cells
        area = grid.amplitude.reshape(cells, self._samples, cells, self._samples).sum((1, 3))
        self.register_buffer("open_area", (area > 0).to(dtype), persistent=False)

    def cell_values(self) -> torch.Tensor:
        """Return the amplitude factor of each cell, shape (n, n)."""
        raise NotImplementedError

    def path_m(self, wavelengths_m: Sequence[float]) -> torch.Tensor:
        """Return zeros, shape (L, P, P)."""
        count = len(check_wavelengths(wavelengths_m))
        return self.open_area.new_zeros(()).expand(count, self.grid.samples, self.grid.samples)

    def transmission(self, wavelengths_m: Sequence[float] | None = None) -> torch.Tensor:
        """Return the amplitude factor, shape (P, P).

        Raises:
            OpticsError: No cell inside the aperture lets light through.
        """
        cells = self.cell_values()
        if not bool((cells.detach() * self.open_area).any()):
            raise OpticsError("the code blocks the whole aperture; open at least one cell inside it.")
        return spread_cells(cells, self._samples)


class FixedCode(_Code):
    """A given table of amplitude factors.

    Args:
        grid: Pupil; its samples must be a multiple of n.
        cells: Amplitude factors 0 to 1, shape (n, n); a Parameter is trained as it stands, without a limit.
        dtype: Type of the result.
    """

    cells: torch.Tensor

    def __init__(self, grid: PupilGrid, cells: torch.Tensor, *, dtype: torch.dtype = torch.float32) -> None:
        if cells.ndim != 2 or cells.shape[0] != cells.shape[1]:
            raise OpticsError(f"cells has shape {tuple(cells.shape)}; a code is a square table (n, n).")
        super().__init__(grid, cells.shape[0], dtype)
        check_finite("cells", cells)
        low, high = float(cells.min()), float(cells.max())
        if low < 0 or high > 1:
            raise OpticsError(f"cells spans {low:g} to {high:g}; amplitude factors lie in 0 to 1.")
        self._hold("cells", cells, tuple(cells.shape))
        self._follow(cells)
        self.transmission()

    def cell_values(self) -> torch.Tensor:
        """Return the amplitude factor of each cell, shape (n, n)."""
        return self.cells


class TrainedCode(_Code):
    """A trained code, ``sigmoid(v)`` of unbounded controls v, or open where v > 0 with the gradient of the sigmoid.

    Args:
        grid: Pupil; its samples must be a multiple of ``cells``.
        cells: Cells along one side.
        binary: True opens or blocks each cell; False leaves it grey.
        start: Controls v, Parameter (trained) or tensor (fixed) of shape (cells, cells); None starts a trained code at
            random around half open, from ``generator``.
        generator: Source of the start; needed if ``start`` is None.
        dtype: Type of controls and result.
    """

    controls: torch.Tensor

    def __init__(
        self,
        grid: PupilGrid,
        cells: int,
        *,
        binary: bool = False,
        start: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(grid, cells, dtype)
        self.binary = binary
        if start is None:
            if generator is None:
                raise OpticsError("a random code needs a source of randomness; pass generator or start.")
            start = nn.Parameter(torch.randn(cells, cells, generator=generator, dtype=torch.float64).to(dtype))
        self._hold("controls", start, (cells, cells))
        self._follow(start)

    def cell_values(self) -> torch.Tensor:
        """Return the amplitude factor of each cell, shape (n, n)."""
        grey = torch.sigmoid(self.controls)
        return straight_through((self.controls > 0).to(grey.dtype), grey) if self.binary else grey


def mura(size: int) -> torch.Tensor:
    """Return the modified uniformly redundant array of a prime size, 0 or 1, float64 of shape (size, size).

    With ``C_i = +1`` for squares modulo the size and -1 otherwise: row 0 is closed, the rest of column 0 open, and
    (i, j) open where ``C_i C_j = 1`` (S. R. Gottesman, E. E. Fenimore, Appl. Opt. 28, 4344 (1989)).

    Raises:
        OpticsError: The size is not an odd prime.

    >>> int(mura(5).sum())  # open cells: (size^2 - 1) / 2
    12
    """
    if size < 3 or any(size % d == 0 for d in range(2, int(size**0.5) + 1)):
        raise OpticsError(f"size={size} is not an odd prime; a MURA needs one, such as 5, 7, 11, 13, 17 or 19.")
    numbers = torch.arange(size)
    residue = torch.full((size,), -1.0, dtype=torch.float64)
    residue[(numbers[1:] ** 2) % size] = 1.0
    code = (residue[:, None] * residue > 0).to(torch.float64)
    code[:, 0] = 1.0
    code[0] = 0.0
    return code


def mura_decoder(size: int) -> torch.Tensor:
    """Return the decoder G of :func:`mura`, +1 or -1, float64 of shape (size, size).

    The cyclic correlation of code and decoder is ``(size^2 - 1) / 2`` at 0 and exactly 0 elsewhere.
    """
    decoder = 2 * mura(size) - 1
    decoder[0, 0] = 1.0
    return decoder
