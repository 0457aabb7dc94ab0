"""Orders of Zernike terms against their published tables, and coefficients against written-out polynomials."""

from __future__ import annotations

from math import sqrt

import pytest
import torch

from optics import OpticsError
from optics.elements import convert_coefficients, index_to_nm, nm_to_index, rms_of_unit_peak, zernike_values
from optics.elements.zernike_index import ZernikeOrder

TOLERANCE = {torch.float64: 1e-13, torch.float32: 1e-6}

# (n, m), m > 0 cosine, m < 0 sine.
NOLL = [
    (0, 0), (1, 1), (1, -1), (2, 0), (2, -2), (2, 2), (3, -1), (3, 1), (3, -3), (3, 3), (4, 0), (4, 2), (4, -2),
    (4, 4), (4, -4), (5, 1), (5, -1), (5, 3), (5, -3), (5, 5), (5, -5), (6, 0), (6, -2), (6, 2), (6, -4), (6, 4),
    (6, -6), (6, 6), (7, -1), (7, 1), (7, -3), (7, 3), (7, -5), (7, 5), (7, -7), (7, 7),
]  # fmt: skip
OSA = [
    (0, 0), (1, -1), (1, 1), (2, -2), (2, 0), (2, 2), (3, -3), (3, -1), (3, 1), (3, 3), (4, -4), (4, -2), (4, 0),
    (4, 2), (4, 4), (5, -5), (5, -3), (5, -1), (5, 1), (5, 3), (5, 5), (6, -6), (6, -4), (6, -2), (6, 0), (6, 2),
    (6, 4), (6, 6), (7, -7), (7, -5), (7, -3), (7, -1), (7, 1), (7, 3), (7, 5), (7, 7),
]  # fmt: skip
FRINGE = [
    (0, 0), (1, 1), (1, -1), (2, 0), (2, 2), (2, -2), (3, 1), (3, -1), (4, 0), (3, 3), (3, -3), (4, 2), (4, -2),
    (5, 1), (5, -1), (6, 0), (4, 4), (4, -4), (5, 3), (5, -3), (6, 2), (6, -2), (7, 1), (7, -1), (8, 0), (5, 5),
    (5, -5), (6, 4), (6, -4), (7, 3), (7, -3), (8, 2), (8, -2), (9, 1), (9, -1), (10, 0),
]  # fmt: skip
TABLES: list[tuple[ZernikeOrder, int, list[tuple[int, int]]]] = [
    ("noll", 1, NOLL),
    ("osa", 0, OSA),
    ("fringe", 1, FRINGE),
    ("fringe37", 1, [*FRINGE, (12, 0)]),
]


@pytest.mark.parametrize(("order", "first", "table"), TABLES)
def test_published_tables(order: ZernikeOrder, first: int, table: list[tuple[int, int]]) -> None:
    assert [index_to_nm(first + p, order) for p in range(len(table))] == table
    assert [nm_to_index(n, m, order) for n, m in table] == list(range(first, first + len(table)))


def test_general_fringe_rule_goes_on_where_the_set_of_37_jumps() -> None:
    assert index_to_nm(37, "fringe") == (6, 6)
    assert index_to_nm(49, "fringe") == (12, 0)
    assert nm_to_index(6, -6, "fringe") == 38


@pytest.mark.parametrize("order", ["noll", "osa", "fringe"])
def test_round_trip_of_a_thousand_indices(order: ZernikeOrder) -> None:
    pairs = [index_to_nm(j, order) for j in range(1, 1001)]
    assert [nm_to_index(n, m, order) for n, m in pairs] == list(range(1, 1001))
    assert len(set(pairs)) == 1000


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_fringe_coefficients_give_the_written_out_wavefront(dtype: torch.dtype) -> None:
    rho, t = torch.tensor([0.0, 0.3, 0.6, 0.85, 1.0]).double(), torch.tensor([0.4, -2.0, 1.1, 0.2, 2.9]).double()
    direct = (
        0.7 * rho * torch.sin(t)  # 3
        - 0.2 * (2 * rho**2 - 1)  # 4
        + 0.5 * (3 * rho**3 - 2 * rho) * torch.cos(t)  # 7
        + 0.3 * (6 * rho**4 - 6 * rho**2 + 1)  # 9
        + 0.9 * (4 * rho**4 - 3 * rho**2) * torch.sin(2 * t)  # 13
    )
    fringe = torch.zeros(13, dtype=dtype)
    fringe[[2, 3, 6, 8, 12]] = torch.tensor([0.7, -0.2, 0.5, 0.3, 0.9], dtype=dtype)
    noll = convert_coefficients(fringe, "fringe", "noll")
    assert noll.dtype == dtype
    values = zernike_values(noll.shape[-1], rho, t)
    assert (noll.double() @ values - direct).abs().max() < TOLERANCE[dtype]
    assert float(noll[10]) == pytest.approx(0.3 / sqrt(5), rel=1e-6)
    assert float(noll[12]) == pytest.approx(0.9 / sqrt(10), rel=1e-6)


def test_rms_of_unit_peak_is_the_mean_square_over_the_disc() -> None:
    # Defocus 2 r^2 - 1: mean square 1/3. Tilt r cos t: mean square 1/4.
    assert rms_of_unit_peak(2, 0) == pytest.approx(sqrt(1 / 3))
    assert rms_of_unit_peak(1, 1) == pytest.approx(0.5)


@pytest.mark.parametrize("target", ["osa", "fringe"])
def test_conversion_and_back_for_a_batch_equals_each_alone(target: ZernikeOrder) -> None:
    batch = torch.randn(2, 3, 45, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    there = convert_coefficients(batch, "noll", target)
    back = convert_coefficients(there, target, "noll")
    assert (back[..., :45] - batch).abs().max() < TOLERANCE[torch.float64]
    assert not back[..., 45:].any()
    assert torch.equal(there[1, 2], convert_coefficients(batch[1, 2], "noll", target))


def test_norms_can_be_stated() -> None:
    one = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    same = convert_coefficients(one, "noll", "noll", target_norm="peak")
    assert float(same[3]) == pytest.approx(sqrt(3))
    kept = convert_coefficients(one, "noll", "fringe", source_norm="peak")
    assert float(kept[3]) == 1.0


def test_conversion_is_linear_with_its_gradient() -> None:
    coefficients = torch.randn(20, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda c: convert_coefficients(c, "osa", "fringe"), (coefficients,))


def test_term_37_of_the_set_survives_the_way_through_noll() -> None:
    set37 = torch.zeros(37, dtype=torch.float64)
    set37[36] = 0.25
    noll = convert_coefficients(set37, "fringe37", "noll")
    assert noll.nonzero().flatten().tolist() == [nm_to_index(12, 0, "noll") - 1]
    assert torch.allclose(convert_coefficients(noll, "noll", "fringe37"), set37)


def test_what_does_not_exist_is_refused() -> None:
    with pytest.raises(OpticsError, match="fringe37 index 38 does not exist; indices run from 1 to 37"):
        index_to_nm(38, "fringe37")
    with pytest.raises(OpticsError, match="osa index -1 does not exist"):
        index_to_nm(-1, "osa")
    with pytest.raises(OpticsError, match="order='wyant' is unknown; choose one of noll, osa, fringe, fringe37"):
        nm_to_index(2, 0, "wyant")  # type: ignore[arg-type]
    with pytest.raises(OpticsError, match="no Zernike polynomial has n=3, m=2"):
        nm_to_index(3, 2, "fringe")
    with pytest.raises(OpticsError, match="n=6, m=6 is not among the 37"):
        nm_to_index(6, 6, "fringe37")
    with pytest.raises(OpticsError, match="terms 27, 28 of the noll coefficients have no place"):
        convert_coefficients(torch.ones(28), "noll", "fringe37")
    with pytest.raises(OpticsError, match="has 38 terms but source='fringe37' has 37"):
        convert_coefficients(torch.ones(38), "fringe37", "noll")
    with pytest.raises(OpticsError, match="normalisation 'max' is unknown"):
        convert_coefficients(torch.ones(3), "noll", "osa", target_norm="max")  # type: ignore[arg-type]
    with pytest.raises(OpticsError, match=r"shape \(\) and torch.float32 cannot be converted"):
        convert_coefficients(torch.tensor(1.0), "noll", "osa")
