"""Refractive indices from published dispersion formulas.

A :class:`Material` joins a named formula (:class:`Sellmeier`, :class:`Cauchy`, :class:`Schott`, or :class:`AirFormula`)
with the range of wavelengths it was fitted in and, where published, a law of temperature. Coefficients are those of the
literature: the vacuum wavelength ``L`` is in micrometres inside the formulas and in metres everywhere else.

Sources:
    Fused silica: I. H. Malitson, J. Opt. Soc. Am. 55, 1205 (1965); temperature: SCHOTT catalogue, LITHOSIL-Q.
    N-BK7: SCHOTT optical glass catalogue, with its temperature coefficients (relative to air at 20 C, 101325 Pa).
    Calcium fluoride: I. H. Malitson, Appl. Opt. 2, 1103 (1963).
    Silicon nitride (LPCVD): K. Luke et al., Opt. Lett. 40, 4823 (2015).
    PMMA, polycarbonate, polystyrene: N. Sultanova, S. Kasarova, I. Nikolov, Acta Phys. Pol. A 116, 585 (2009).
    PDMS (Sylgard 184): F. Schneider et al., Sens. Actuators A 151, 95 (2009).
    NOA61 (cured optical adhesive): Norland Products, data sheet.
    Air (15 C, 101325 Pa, dry, 450 ppm CO2): P. E. Ciddor, Appl. Opt. 35, 1566 (1996), eq. 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Protocol

import torch

from optics.errors import OpticsError

# The lines of the Abbe number: blue F and red C of hydrogen, yellow d of helium, in micrometres.
_F_UM, _D_UM, _C_UM = 0.4861327, 0.5875618, 0.6562725


class Dispersion(Protocol):
    """A formula that gives the index at the reference temperature."""

    def index(self, wavelength_um: float) -> float:
        """Return the refractive index at a vacuum wavelength in micrometres."""


class Thermal(Protocol):
    """A law that gives the change of the absolute index with temperature."""

    def change(self, index: float, wavelength_um: float, temperature_c: float) -> float:
        """Return ``n(T) - n(reference)`` for the index at the reference temperature."""


@dataclass(frozen=True)
class Sellmeier:
    """``n^2 = 1 + sum_i B_i L^2 / (L^2 - C_i)``.

    Attributes:
        strengths: Coefficients ``B_i`` (no unit).
        resonances_um2: Coefficients ``C_i`` in square micrometres.
    """

    strengths: tuple[float, ...]
    resonances_um2: tuple[float, ...]

    def index(self, wavelength_um: float) -> float:
        """Return the refractive index at a vacuum wavelength in micrometres."""
        square = wavelength_um**2
        return sqrt(
            1.0 + sum(b * square / (square - c) for b, c in zip(self.strengths, self.resonances_um2, strict=True))
        )


@dataclass(frozen=True)
class Cauchy:
    """``n = sum_i A_i / L^(2 i)``; one coefficient is a constant index.

    Attributes:
        coefficients: ``A_i`` in micrometres to the power 2 i.
    """

    coefficients: tuple[float, ...]

    def index(self, wavelength_um: float) -> float:
        """Return the refractive index at a vacuum wavelength in micrometres."""
        return sum(a * wavelength_um ** (-2 * i) for i, a in enumerate(self.coefficients))

    @classmethod
    def from_abbe(cls, n_d: float, v_d: float) -> Cauchy:
        """Return the two-term formula with exactly this index and Abbe number ``V_d = (n_d - 1) / (n_F - n_C)``.

        Raises:
            OpticsError: n_d is not above 1 or v_d not above 0.
        """
        if not (isfinite(n_d) and n_d > 1 and isfinite(v_d) and v_d > 0):
            raise OpticsError(f"n_d={n_d}, v_d={v_d} describe no glass; n_d must exceed 1 and v_d must exceed 0.")
        slope = (n_d - 1) / v_d / (_F_UM**-2 - _C_UM**-2)
        return cls((n_d - slope / _D_UM**2, slope))


@dataclass(frozen=True)
class Schott:
    """``n^2 = a_0 + a_1 L^2 + a_2 L^-2 + a_3 L^-4 + a_4 L^-6 + a_5 L^-8``, the form of older glass catalogues.

    Attributes:
        coefficients: ``a_0`` to ``a_5`` in powers of micrometres.
    """

    coefficients: tuple[float, float, float, float, float, float]

    def index(self, wavelength_um: float) -> float:
        """Return the refractive index at a vacuum wavelength in micrometres."""
        powers = (0, 2, -2, -4, -6, -8)
        return sqrt(sum(a * wavelength_um**p for a, p in zip(self.coefficients, powers, strict=True)))


@dataclass(frozen=True)
class AirFormula:
    """``n = 1 + sum_i a_i / (b_i - L^-2)`` (Ciddor).

    Attributes:
        strengths_um2: ``a_i`` in inverse square micrometres.
        resonances_um2: ``b_i`` in inverse square micrometres.
    """

    strengths_um2: tuple[float, ...]
    resonances_um2: tuple[float, ...]

    def index(self, wavelength_um: float) -> float:
        """Return the refractive index at a vacuum wavelength in micrometres."""
        wave = wavelength_um**-2
        return 1.0 + sum(a / (b - wave) for a, b in zip(self.strengths_um2, self.resonances_um2, strict=True))


@dataclass(frozen=True)
class GlassThermal:
    """SCHOTT's law (Technical Information TIE-19) for the index against vacuum, reference 20 C.

    ``dn = (n^2 - 1) / (2 n) [D_0 t + D_1 t^2 + D_2 t^3 + (E_0 t + E_1 t^2) / (L^2 - L_TK^2)]``, t = T - 20 C.
    """

    d0: float
    d1: float
    d2: float
    e0: float
    e1: float
    resonance_um: float

    def change(self, index: float, wavelength_um: float, temperature_c: float) -> float:
        """Return ``n(T) - n(20 C)``."""
        t = temperature_c - 20.0
        resonant = (self.e0 * t + self.e1 * t**2) / (wavelength_um**2 - self.resonance_um**2)
        return (index**2 - 1) / (2 * index) * (self.d0 * t + self.d1 * t**2 + self.d2 * t**3 + resonant)


@dataclass(frozen=True)
class LinearThermal:
    """``dn = dn/dT (T - T_0)``: one published coefficient, the same at all wavelengths.

    Attributes:
        per_kelvin: dn/dT in 1/K.
        reference_c: T_0 in degrees Celsius.
    """

    per_kelvin: float
    reference_c: float = 20.0

    def change(self, index: float, wavelength_um: float, temperature_c: float) -> float:
        """Return ``n(T) - n(T_0)``."""
        return self.per_kelvin * (temperature_c - self.reference_c)


@dataclass(frozen=True)
class GasThermal:
    """``n - 1`` in proportion to the density of the gas: ``1 / [1 + 3.4785e-3 / C (T - 15 C)]`` (SCHOTT TIE-19)."""

    def change(self, index: float, wavelength_um: float, temperature_c: float) -> float:
        """Return ``n(T) - n(15 C)``."""
        t = 3.4785e-3 * (temperature_c - 15.0)
        return -(index - 1) * t / (1 + t)


@dataclass(frozen=True)
class Material:
    """A transparent, homogeneous material.

    Attributes:
        name: Name used by :func:`get_material`.
        formula: Dispersion formula.
        range_m: Shortest and longest vacuum wavelength of the published fit, in metres.
        in_air: The formula gives the index relative to air at 20 C, as glass catalogues do; :meth:`index` converts.
        thermal: Law of temperature, or None where none is published.
    """

    name: str
    formula: Dispersion
    range_m: tuple[float, float]
    in_air: bool = False
    thermal: Thermal | None = None

    def index(self, wavelength_m: float, temperature_c: float | None = None) -> float:
        """Return the refractive index against vacuum.

        Args:
            wavelength_m: Vacuum wavelength in metres.
            temperature_c: Temperature in degrees Celsius; None means that of the published fit.

        Raises:
            OpticsError: The wavelength lies outside the published range, or no law of temperature is known.
        """
        low, high = self.range_m
        if not (isfinite(wavelength_m) and low <= wavelength_m <= high):
            raise OpticsError(
                f"wavelength_m={wavelength_m:g} is outside the range {low:g} to {high:g} m in which the index of "
                f"{self.name} is known; choose a wavelength inside it or another material."
            )
        wavelength_um = wavelength_m * 1e6
        index = self.formula.index(wavelength_um)
        if self.in_air:
            index *= AIR.index(min(max(wavelength_m, AIR.range_m[0]), AIR.range_m[1]), 20.0)
        if temperature_c is None:
            return index
        if self.thermal is None:
            raise OpticsError(
                f"no temperature law is published here for {self.name}; leave temperature_c={temperature_c:g} out, or "
                "build a Material with thermal=LinearThermal(...)."
            )
        if not (isfinite(temperature_c) and -100 <= temperature_c <= 200):
            raise OpticsError(f"temperature_c={temperature_c:g} must be in degrees Celsius, between -100 and 200.")
        return index + self.thermal.change(index, wavelength_um, temperature_c)

    def abbe_number(self) -> float:
        """Return ``V_d = (n_d - 1) / (n_F - n_C)`` of the published formula."""
        n_f, n_d, n_c = (self.formula.index(w) for w in (_F_UM, _D_UM, _C_UM))
        return (n_d - 1) / (n_f - n_c)


FUSED_SILICA = Material(
    "fused silica",
    Sellmeier((0.6961663, 0.4079426, 0.8974794), (0.0684043**2, 0.1162414**2, 9.896161**2)),
    (0.21e-6, 3.71e-6),
    thermal=GlassThermal(2.06e-5, 2.51e-8, -2.47e-11, 3.12e-7, 4.22e-10, 0.16),
)
BK7 = Material(
    "BK7",
    Sellmeier((1.03961212, 0.231792344, 1.01046945), (0.00600069867, 0.0200179144, 103.560653)),
    (0.3e-6, 2.5e-6),
    in_air=True,
    thermal=GlassThermal(1.86e-6, 1.31e-8, -1.37e-11, 4.34e-7, 6.27e-10, 0.17),
)
CALCIUM_FLUORIDE = Material(
    "calcium fluoride",
    Sellmeier((0.5675888, 0.4710914, 3.8484723), (0.050263605**2, 0.1003909**2, 34.649040**2)),
    (0.23e-6, 9.7e-6),
)
SILICON_NITRIDE = Material(
    "silicon nitride", Sellmeier((3.0249, 40314.0), (0.1353406**2, 1239.842**2)), (0.31e-6, 5.504e-6)
)
PMMA = Material("PMMA", Sellmeier((1.1819,), (0.011313,)), (0.4368e-6, 1.052e-6))
POLYCARBONATE = Material("polycarbonate", Sellmeier((1.4182,), (0.021304,)), (0.4368e-6, 1.052e-6))
POLYSTYRENE = Material("polystyrene", Sellmeier((1.4435,), (0.020216,)), (0.4368e-6, 1.052e-6))
PDMS = Material("PDMS", Sellmeier((1.0093,), (0.013185,)), (0.35e-6, 0.70e-6))
NOA61 = Material("NOA61", Cauchy((1.5375, 8.29045e-3, -2.11046e-4)), (0.4e-6, 1.0e-6))
AIR = Material(
    "air", AirFormula((0.05792105, 0.00167917), (238.0185, 57.362)), (0.23e-6, 1.69e-6), thermal=GasThermal()
)

_MATERIALS = {
    material.name.lower(): material
    for material in (
        FUSED_SILICA,
        BK7,
        CALCIUM_FLUORIDE,
        SILICON_NITRIDE,
        PMMA,
        POLYCARBONATE,
        POLYSTYRENE,
        PDMS,
        NOA61,
        AIR,
    )
}


def get_material(name: str) -> Material:
    """Return the material of this name (case, hyphens and underscores do not matter).

    Raises:
        OpticsError: No material has this name.

    >>> round(get_material("fused silica").index(587.6e-9), 4)
    1.4585
    """
    key = name.lower().replace("_", " ").replace("-", " ")
    if key not in _MATERIALS:
        raise OpticsError(f"no material is called {name!r}; choose one of {', '.join(sorted(_MATERIALS))}.")
    return _MATERIALS[key]


def index_differences(
    material: Material,
    wavelengths_m: Sequence[float],
    surround: Material = AIR,
    temperature_c: float | None = None,
) -> torch.Tensor:
    """Return ``n_material - n_surround`` at each wavelength: the optical path per metre of mask height.

    Args:
        material: Material of the mask.
        wavelengths_m: Vacuum wavelengths in metres.
        surround: Medium around the mask.
        temperature_c: Temperature of both in degrees Celsius; None means that of the published fits.

    Returns:
        float64 tensor of shape (L,).

    Without a mask, for a wedge or a plate of any material:

    >>> [round(d, 4) for d in index_differences(FUSED_SILICA, [620e-9, 540e-9]).tolist()]
    [0.4571, 0.4601]
    """
    return torch.tensor(
        [material.index(w, temperature_c) - surround.index(w, temperature_c) for w in wavelengths_m],
        dtype=torch.float64,
        device="cpu",
    )
