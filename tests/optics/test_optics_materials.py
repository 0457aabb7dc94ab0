"""Refractive indices against published values."""

from __future__ import annotations

import pytest

from optics import AIR, FUSED_SILICA, PMMA, OpticsError, get_material, index_differences


@pytest.mark.parametrize(
    ("material", "wavelength_m", "expected", "tolerance"),
    [
        (FUSED_SILICA, 587.5618e-9, 1.458464, 1e-6),  # Malitson's n_d
        (FUSED_SILICA, 486.1327e-9, 1.463126, 1e-6),  # n_F
        (FUSED_SILICA, 656.2725e-9, 1.456367, 1e-6),  # n_C
        (PMMA, 587.5618e-9, 1.4906, 1e-4),
        (AIR, 633e-9, 1.0002765, 1e-7),
    ],
)
def test_index_matches_the_literature(material, wavelength_m: float, expected: float, tolerance: float) -> None:
    assert material.index(wavelength_m) == pytest.approx(expected, abs=tolerance)


def test_index_difference_is_taken_against_air() -> None:
    difference = index_differences(FUSED_SILICA, [587.5618e-9])
    assert float(difference[0]) == pytest.approx(1.458464 - 1.000277, abs=2e-6)


def test_wavelength_in_nanometres_is_refused() -> None:
    with pytest.raises(OpticsError, match=r"wavelength_m=550 is outside the range 2.1e-07 to 3.71e-06 m"):
        FUSED_SILICA.index(550)


def test_materials_are_found_by_name() -> None:
    assert get_material("Fused_Silica") is FUSED_SILICA
    with pytest.raises(OpticsError, match="no material is called 'glass'; choose one of air, fused silica, pmma"):
        get_material("glass")
