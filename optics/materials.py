"""Refractive indices from published dispersion formulas.

Glasses and polymers follow Sellmeier, ``n^2 - 1 = sum_i B_i L^2 / (L^2 - C_i)`` with the vacuum wavelength ``L`` in
micrometres. The formula of Ciddor for air has the same terms but gives ``n - 1``; ``gives`` tells the two apart.

Sources:
    Fused silica: I. H. Malitson, J. Opt. Soc. Am. 55, 1205 (1965).
    PMMA: N. Sultanova, S. Kasarova, I. Nikolov, Acta Phys. Pol. A 116, 585 (2009).
    Air (15 C, 101325 Pa, dry, 450 ppm CO2): P. E. Ciddor, Appl. Opt. 35, 1566 (1996), eq. 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Literal

import torch

from optics.errors import OpticsError


@dataclass(frozen=True)
class Material:
    """A transparent, homogeneous material.

    Attributes:
        name: Name used by :func:`get_material`.
        strengths: Coefficients ``B_i`` (no unit).
        resonances_um2: Coefficients ``C_i`` in square micrometres.
        range_m: Shortest and longest vacuum wavelength of the published fit, in metres.
        gives: What the sum of terms is: ``"n^2-1"`` (Sellmeier) or ``"n-1"`` (Ciddor).
    """

    name: str
    strengths: tuple[float, ...]
    resonances_um2: tuple[float, ...]
    range_m: tuple[float, float]
    gives: Literal["n^2-1", "n-1"] = "n^2-1"

    def index(self, wavelength_m: float) -> float:
        """Return the refractive index at a vacuum wavelength in metres.

        Raises:
            OpticsError: The wavelength lies outside the range of the published fit.
        """
        low, high = self.range_m
        if not (isfinite(wavelength_m) and low <= wavelength_m <= high):
            raise OpticsError(
                f"wavelength_m={wavelength_m:g} is outside the range {low:g} to {high:g} m in which the index of "
                f"{self.name} is known; choose a wavelength inside it or another material."
            )
        square_um2 = (wavelength_m * 1e6) ** 2
        total = sum(b * square_um2 / (square_um2 - c) for b, c in zip(self.strengths, self.resonances_um2, strict=True))
        return sqrt(1.0 + total) if self.gives == "n^2-1" else 1.0 + total


FUSED_SILICA = Material(
    "fused silica",
    (0.6961663, 0.4079426, 0.8974794),
    (0.0684043**2, 0.1162414**2, 9.896161**2),
    (0.21e-6, 3.71e-6),
)
PMMA = Material("PMMA", (1.1819,), (0.011313,), (0.4368e-6, 1.052e-6))
# Ciddor writes a / (b - L^-2); the same term in Sellmeier's form is (a / b) L^2 / (L^2 - 1 / b).
AIR = Material(
    "air",
    (0.05792105 / 238.0185, 0.00167917 / 57.362),
    (1.0 / 238.0185, 1.0 / 57.362),
    (0.23e-6, 1.69e-6),
    gives="n-1",
)

_MATERIALS = {material.name.lower(): material for material in (FUSED_SILICA, PMMA, AIR)}


def get_material(name: str) -> Material:
    """Return the material of this name (case, hyphens and underscores do not matter).

    Raises:
        OpticsError: No material has this name.
    """
    key = name.lower().replace("_", " ").replace("-", " ")
    if key not in _MATERIALS:
        raise OpticsError(f"no material is called {name!r}; choose one of {', '.join(sorted(_MATERIALS))}.")
    return _MATERIALS[key]


def index_differences(material: Material, wavelengths_m: Sequence[float], surround: Material = AIR) -> torch.Tensor:
    """Return ``n_material - n_surround`` at each wavelength: the optical path per metre of mask height.

    Args:
        material: Material of the mask.
        wavelengths_m: Vacuum wavelengths in metres.
        surround: Medium around the mask.

    Returns:
        float64 tensor of shape (L,).
    """
    return torch.tensor([material.index(w) - surround.index(w) for w in wavelengths_m], dtype=torch.float64)
