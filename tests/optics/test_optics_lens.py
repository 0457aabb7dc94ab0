"""The ideal lens: imaging equation, path error, size of images."""

from __future__ import annotations

from decimal import Decimal, getcontext
from math import inf

import pytest
import torch

from optics import OpticsError, PupilGrid, ThinLens

GRID = PupilGrid(0.5e-3, 64)
FLOAT64, FLOAT32 = 1e-12, 1e-6


def exact_opd(r: float, z: float, z0: float) -> float:
    """The definition with 60 digits."""
    getcontext().prec = 60
    rr, a, b = Decimal(r) ** 2, Decimal(z), Decimal(z0)
    return float(((rr + a * a).sqrt() - a) - ((rr + b * b).sqrt() - b))


def test_sensor_distance_and_f_number() -> None:
    lens = ThinLens(4e-3, 1.0)
    assert 1 / lens.sensor_distance_m + 1 / 1.0 == pytest.approx(1 / 4e-3, rel=FLOAT64)
    assert lens.f_number(0.5e-3) == pytest.approx(lens.sensor_distance_m / 0.5e-3, rel=FLOAT64)
    assert ThinLens(4e-3, inf).sensor_distance_m == pytest.approx(4e-3, rel=FLOAT64)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, FLOAT64), (torch.float32, FLOAT32)])
@pytest.mark.parametrize("distance", [0.01, 0.3, 0.999, 1.001, 4.0, 1000.0])
def test_defocus_matches_sixty_digits(distance: float, dtype: torch.dtype, tolerance: float) -> None:
    radius = torch.tensor([1e-5, 1e-4, 2.5e-4, 2e-3], dtype=torch.float64)
    # The tensor's own value of z is the truth: float32 cannot hold 0.999 exactly.
    z = torch.tensor([distance], dtype=dtype)
    opd = ThinLens(4e-3, 1.0).defocus_opd_m((radius**2).to(dtype), z).double().flatten()
    truth = torch.tensor([exact_opd(float(r), float(z), 1.0) for r in radius], dtype=torch.float64)
    assert ((opd - truth) / truth).abs().max() < tolerance


def test_defocus_from_and_to_infinity() -> None:
    r2 = torch.tensor([1e-6], dtype=torch.float64)
    from_far = float(ThinLens(4e-3, inf).defocus_opd_m(r2, 2.0))
    assert from_far == pytest.approx((1e-6 + 4.0) ** 0.5 - 2.0, rel=1e-9)
    assert float(ThinLens(4e-3, 2.0).defocus_opd_m(r2, inf)) == pytest.approx(-from_far, rel=FLOAT64)
    assert float(ThinLens(4e-3, inf).defocus_opd_m(r2, inf)) == 0
    assert float(ThinLens(4e-3, 2.0).defocus_opd_m(r2, 2.0)) == 0


def test_paraxial_form_is_the_limit_near_the_axis() -> None:
    lens, r2 = ThinLens(4e-3, 1.0), torch.tensor([1e-8, 1e-2], dtype=torch.float64)
    paraxial, exact = (lens.defocus_opd_m(r2, 0.3, paraxial=p) for p in (True, False))
    assert float(paraxial[0]) == pytest.approx(0.5e-8 * (1 / 0.3 - 1), rel=FLOAT64)
    assert float(exact[0]) == pytest.approx(float(paraxial[0]), rel=1e-6)
    # Next term of the series: -r^4 / 8 (1/z^3 - 1/z0^3).
    assert float(exact[1] - paraxial[1]) == pytest.approx(-1e-4 / 8 * (0.3**-3 - 1), rel=0.1)


def test_distance_carries_a_gradient_and_a_batch() -> None:
    lens, z = ThinLens(4e-3, 1.0), torch.tensor([0.5, 0.9, 2.0], dtype=torch.float64, requires_grad=True)
    assert lens.defocus_opd_m(GRID.radius_squared_m2, z).shape == (3, 64, 64)
    r2 = torch.tensor([[1e-2, 4e-2]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda d: lens.defocus_opd_m(r2, d), (z,))


def test_magnification_is_distance_ratio() -> None:
    lens = ThinLens(4e-3, 1.0)
    assert lens.magnification() == pytest.approx(lens.sensor_distance_m, rel=FLOAT64)
    assert lens.magnification(0.5) == pytest.approx(2 * lens.sensor_distance_m, rel=FLOAT64)


def test_impossible_lenses_are_refused() -> None:
    with pytest.raises(OpticsError, match=r"focus_distance_m=0.003 is not beyond focal_length_m=0.004"):
        ThinLens(4e-3, 3e-3)
    with pytest.raises(OpticsError, match="focal_length_m=-1 must be"):
        ThinLens(-1, 1.0)
    with pytest.raises(OpticsError, match="object_distance_m=0 must be a positive distance"):
        ThinLens(4e-3, 1.0).magnification(0)
    with pytest.raises(OpticsError, match="object_distance_m has the value -1; all must be positive"):
        ThinLens(4e-3, 1.0).defocus_opd_m(GRID.radius_squared_m2, torch.tensor([1.0, -1.0]))
