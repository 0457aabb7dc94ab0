"""Refractive indices against published values."""

from __future__ import annotations

import pytest

from optics import AIR, FUSED_SILICA, PMMA, Material, OpticsError, get_material, index_differences
from optics.materials import (
    BK7,
    CALCIUM_FLUORIDE,
    NOA61,
    PDMS,
    POLYCARBONATE,
    POLYSTYRENE,
    SILICON_NITRIDE,
    Cauchy,
    LinearThermal,
    Schott,
)

D_LINE = 587.5618e-9


@pytest.mark.parametrize(
    ("material", "wavelength_m", "expected", "tolerance"),
    [
        (FUSED_SILICA, D_LINE, 1.458464, 1e-6),  # Malitson's n_d
        (FUSED_SILICA, 486.1327e-9, 1.463126, 1e-6),  # n_F
        (FUSED_SILICA, 656.2725e-9, 1.456367, 1e-6),  # n_C
        (CALCIUM_FLUORIDE, D_LINE, 1.43385, 1e-5),
        (SILICON_NITRIDE, 1.55e-6, 1.9963, 1e-4),
        (PMMA, D_LINE, 1.491, 6e-4),  # the polymers: table 1 of Sultanova et al., three decimals
        (PMMA, 833e-9, 1.484, 6e-4),
        (POLYCARBONATE, 486.1e-9, 1.599, 1.1e-3),
        (POLYCARBONATE, D_LINE, 1.585, 6e-4),
        (POLYCARBONATE, 1.052e-6, 1.565, 2e-3),
        (POLYSTYRENE, 486.1e-9, 1.606, 1.1e-3),
        (POLYSTYRENE, D_LINE, 1.592, 6e-4),
        (PDMS, 635e-9, 1.4295, 6e-5),
        (PDMS, 530e-9, 1.4349, 6e-5),
        (PDMS, 450e-9, 1.4421, 6e-5),
        (NOA61, 589e-9, 1.56, 1e-3),
        (AIR, 633e-9, 1.0002765, 1e-7),
    ],
)
def test_index_matches_the_literature(
    material: Material, wavelength_m: float, expected: float, tolerance: float
) -> None:
    assert material.index(wavelength_m) == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize(
    ("wavelength_m", "expected"),
    [(D_LINE, 1.51680), (486.1327e-9, 1.52238), (656.2725e-9, 1.51432), (1.0600e-6, 1.50669), (435.8343e-9, 1.52668)],
)
def test_bk7_of_the_catalogue_is_relative_to_air(wavelength_m: float, expected: float) -> None:
    assert BK7.index(wavelength_m) / AIR.index(wavelength_m, 20.0) == pytest.approx(expected, abs=6e-6)
    assert BK7.index(wavelength_m) > expected + 3e-4
    assert BK7.abbe_number() == pytest.approx(64.17, abs=5e-3)


@pytest.mark.parametrize(
    ("wavelength_m", "absolute", "relative"),
    [(1.06e-6, 1.1e-6, 2.4e-6), (546.0740e-9, 1.6e-6, 3.0e-6), (435.8343e-9, 2.1e-6, 3.5e-6)],
)
def test_bk7_temperature_coefficients_of_the_data_sheet(wavelength_m: float, absolute: float, relative: float) -> None:
    change = BK7.index(wavelength_m, 40.0) - BK7.index(wavelength_m, 20.0)
    assert change / 20 == pytest.approx(absolute, abs=6e-8)
    ratio = [BK7.index(wavelength_m, t) / AIR.index(wavelength_m, t) for t in (20.0, 40.0)]
    assert (ratio[1] - ratio[0]) / 20 == pytest.approx(relative, abs=6e-8)


def test_other_temperature_laws() -> None:
    # Fused silica in the visible: about 8.5e-6 per kelvin against vacuum (D. B. Leviton, B. J. Frey 2006).
    silica = (FUSED_SILICA.index(D_LINE, 30.0) - FUSED_SILICA.index(D_LINE, 20.0)) / 10
    assert silica == pytest.approx(8.5e-6, abs=3e-7)
    assert FUSED_SILICA.index(D_LINE, 20.0) == FUSED_SILICA.index(D_LINE)
    # Air: (n - 1) in proportion to density, 288.15 / T, to the accuracy of the formula.
    share = (AIR.index(D_LINE, 40.0) - 1) / (AIR.index(D_LINE) - 1)
    assert share == pytest.approx(288.15 / 313.15, abs=3e-4)
    glass = Material("mine", Cauchy((1.5,)), (0.4e-6, 0.7e-6), thermal=LinearThermal(-1e-4, 25.0))
    assert glass.index(0.5e-6, 35.0) == pytest.approx(1.499)


def test_schott_formula_on_two_catalogue_glasses() -> None:
    bsm4 = Schott((2.559693, -0.01014464, 0.01426178, 0.0004753199, -3.128766e-05, 1.735988e-06))
    assert bsm4.index(0.5875618) == pytest.approx(1.612716, abs=1e-6)
    bk7 = Schott((2.2718929, -1.0108077e-2, 1.0592509e-2, 2.0816965e-4, -7.6472538e-6, 4.9240991e-7))
    assert bk7.index(0.5875618) == pytest.approx(1.51680, abs=1e-6)


def test_index_and_abbe_number_fix_a_cauchy_glass() -> None:
    formula = Cauchy.from_abbe(1.62004, 36.37)
    glass = Material("F2", formula, (0.4e-6, 0.7e-6))
    assert glass.index(D_LINE) == pytest.approx(1.62004, abs=1e-12)
    assert glass.abbe_number() == pytest.approx(36.37, abs=1e-9)
    assert glass.index(486.1327e-9) == pytest.approx(1.63208, abs=3e-4)  # the catalogue; two terms leave 2e-4
    with pytest.raises(OpticsError, match=r"n_d=0\.9, v_d=50 describe no glass"):
        Cauchy.from_abbe(0.9, 50)


def test_index_difference_is_taken_against_air() -> None:
    difference = index_differences(FUSED_SILICA, [D_LINE])
    assert float(difference[0]) == pytest.approx(1.458464 - 1.000277, abs=2e-6)
    warm = index_differences(FUSED_SILICA, [D_LINE], temperature_c=40.0) - index_differences(
        FUSED_SILICA, [D_LINE], temperature_c=20.0
    )
    assert float(warm[0]) / 20 == pytest.approx(8.5e-6 + 0.9e-6, abs=3e-7)


def test_wavelength_in_nanometres_is_refused() -> None:
    with pytest.raises(OpticsError, match=r"wavelength_m=550 is outside the range 2.1e-07 to 3.71e-06 m"):
        FUSED_SILICA.index(550)


def test_temperatures_without_a_law_or_in_kelvin_are_refused() -> None:
    with pytest.raises(OpticsError, match="no temperature law is published here for PMMA; leave temperature_c=30 out"):
        PMMA.index(D_LINE, 30.0)
    with pytest.raises(OpticsError, match="temperature_c=293 must be in degrees Celsius"):
        BK7.index(D_LINE, 293.0)


def test_materials_are_found_by_name() -> None:
    assert get_material("Fused_Silica") is FUSED_SILICA
    assert get_material("silicon-nitride") is SILICON_NITRIDE
    assert get_material("BK7") is BK7
    with pytest.raises(OpticsError, match="no material is called 'glass'; choose one of air, bk7, calcium fluoride"):
        get_material("glass")
