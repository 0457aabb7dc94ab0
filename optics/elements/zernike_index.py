"""Orders and normalisations of Zernike coefficients: Noll, OSA/ANSI and Fringe.

All number the same functions, ``N R_n^|m|(r) cos(m t)`` for m >= 0 and ``N R_n^|m|(r) sin(|m| t)`` for m < 0:

- ``"noll"``: j from 1, cosine terms even, sine terms odd (R. J. Noll, J. Opt. Soc. Am. 66, 207 (1976)).
- ``"osa"`` (ANSI Z80.28): ``j = (n (n + 2) + m) / 2``, from 0.
- ``"fringe"`` (University of Arizona): ``j = (1 + (n + |m|) / 2)^2 - 2 |m| + [m < 0]``, from 1, without end.
- ``"fringe37"``: the customary set of 37, which is ``"fringe"`` from 1 to 36 and (12, 0) in place 37. The general rule
  has (6, 6) there and (12, 0) in place 49.

Noll and OSA coefficients are usually RMS values (``N = sqrt(n + 1)``, or ``sqrt(2 (n + 1))`` for m != 0: mean of Z^2
over the disc is 1), Fringe coefficients peak values (``N = 1``: Z is +-1 on the rim). A conversion assumes that unless
told otherwise. The angle t runs from +x towards +y, and y points down (see :mod:`.zernike`); a source that
measures angles upwards has the opposite sign in all m < 0.
"""

from __future__ import annotations

from functools import lru_cache
from math import isqrt, sqrt
from typing import Literal

import torch

from optics.elements.zernike import nm_to_noll, noll_to_nm
from optics.errors import OpticsError

ZernikeOrder = Literal["noll", "osa", "fringe", "fringe37"]
ZernikeNorm = Literal["rms", "peak"]

_FIRST = {"noll": 1, "osa": 0, "fringe": 1, "fringe37": 1}


def index_to_nm(index: int, order: ZernikeOrder) -> tuple[int, int]:
    """Return (n, m) of an index; m > 0 means the cosine term, m < 0 the sine term.

    Raises:
        OpticsError: The order is unknown or has no such index.
    """
    first = _first(order)
    if index < first or (order == "fringe37" and index > 37):
        end = "37" if order == "fringe37" else "any number"
        raise OpticsError(f"{order} index {index} does not exist; indices run from {first} to {end}.")
    if order == "noll":
        return noll_to_nm(index)
    if order == "osa":
        n = (isqrt(8 * index + 1) - 1) // 2
        return n, 2 * index - n * (n + 2)
    if order == "fringe37" and index == 37:
        return 12, 0
    # Group q holds the indices q^2 + 1 to (q + 1)^2: the pairs |m| = q ... 1 (cosine first), then m = 0.
    q = isqrt(index - 1)
    place = index - 1 - q * q
    m = q - place // 2
    return 2 * q - m, m if place % 2 == 0 else -m


def nm_to_index(n: int, m: int, order: ZernikeOrder) -> int:
    """Return the index of (n, m); the inverse of :func:`index_to_nm`.

    Raises:
        OpticsError: No Zernike polynomial has these orders, or the set of 37 lacks it.
    """
    _first(order)
    noll = nm_to_noll(n, m)
    if order == "noll":
        return noll
    if order == "osa":
        return (n * (n + 2) + m) // 2
    if order == "fringe37" and (n, m) == (12, 0):
        return 37
    index = (1 + (n + abs(m)) // 2) ** 2 - 2 * abs(m) + (m < 0)
    if order == "fringe37" and index > 36:
        raise OpticsError(f"the term n={n}, m={m} is not among the 37 of order='fringe37'; use 'fringe'.")
    return index


def rms_of_unit_peak(n: int, m: int) -> float:
    """Return the RMS over the disc of the term that is +-1 on the rim: ``1 / sqrt(n + 1)``, over sqrt(2) for m != 0."""
    nm_to_noll(n, m)  # refuses impossible orders
    return 1 / sqrt(n + 1 if m == 0 else 2 * (n + 1))


def convert_coefficients(
    coefficients: torch.Tensor,
    source: ZernikeOrder,
    target: ZernikeOrder,
    *,
    source_norm: ZernikeNorm | None = None,
    target_norm: ZernikeNorm | None = None,
) -> torch.Tensor:
    """Convert coefficients between orders and normalisations; differentiable, any batch.

    Args:
        coefficients: Shape (..., J), entry p being index p of the source, or p + 1 where indices start at 1.
        source: Order of the input.
        target: Order of the result.
        source_norm: ``"rms"`` or ``"peak"``; None means RMS for Noll and OSA, peak for both Fringe orders.
        target_norm: The same for the result.

    Returns:
        Tensor of shape (..., K): up to the last index that a term of the source reaches, or 37 for ``"fringe37"``.

    Raises:
        OpticsError: A coefficient other than 0 has no place in the set of 37, or an argument is invalid.

    >>> spherical = torch.zeros(11)
    >>> spherical[10] = 1.0  # Noll 11, one unit RMS
    >>> convert_coefficients(spherical, "noll", "fringe").nonzero().flatten().tolist()  # Fringe 9 is entry 8
    [8]
    """
    if coefficients.ndim < 1 or coefficients.shape[-1] < 1 or not coefficients.is_floating_point():
        raise OpticsError(
            f"coefficients of shape {tuple(coefficients.shape)} and {coefficients.dtype} cannot be converted; pass a "
            "floating tensor of shape (..., J) with J >= 1."
        )
    count = coefficients.shape[-1]
    if source == "fringe37" and count > 37:
        raise OpticsError(f"coefficients has {count} terms but source='fringe37' has 37; use 'fringe'.")
    places, factors, size = _plan(count, source, target, _norm(source, source_norm), _norm(target, target_norm))
    kept = [p for p in range(count) if places[p] >= 0]
    if len(kept) < count:
        lost = [p for p in range(count) if places[p] < 0]
        if bool((coefficients.detach()[..., lost] != 0).any()):
            names = ", ".join(str(p + _FIRST[source]) for p in lost[:5])
            raise OpticsError(
                f"terms {names} of the {source} coefficients have no place in target='fringe37'; use 'fringe', or set "
                "them to 0."
            )
    scale = coefficients.new_tensor([factors[p] for p in kept])
    place = torch.tensor([places[p] for p in kept], device=coefficients.device)
    out = coefficients.new_zeros((*coefficients.shape[:-1], size))
    return out.index_copy(-1, place, coefficients[..., kept] * scale)


def _first(order: ZernikeOrder) -> int:
    if order not in _FIRST:
        raise OpticsError(f"order={order!r} is unknown; choose one of {', '.join(_FIRST)}.")
    return _FIRST[order]


def _norm(order: ZernikeOrder, norm: ZernikeNorm | None) -> ZernikeNorm:
    _first(order)
    if norm is None:
        return "rms" if order in ("noll", "osa") else "peak"
    if norm not in ("rms", "peak"):
        raise OpticsError(f"the normalisation {norm!r} is unknown; choose 'rms' or 'peak'.")
    return norm


@lru_cache(maxsize=64)
def _plan(
    count: int, source: ZernikeOrder, target: ZernikeOrder, source_norm: ZernikeNorm, target_norm: ZernikeNorm
) -> tuple[tuple[int, ...], tuple[float, ...], int]:
    """Place in the target (-1: none) and factor of each source term, and the length of the target."""
    places, factors = [], []
    for p in range(count):
        n, m = index_to_nm(p + _FIRST[source], source)
        outside = target == "fringe37" and (n, m) != (12, 0) and nm_to_index(n, m, "fringe") > 36
        places.append(-1 if outside else nm_to_index(n, m, target) - _FIRST[target])
        factor = rms_of_unit_peak(n, m)
        if source_norm == target_norm:
            factor = 1.0
        factors.append(factor if source_norm == "peak" else 1 / factor)
    return tuple(places), tuple(factors), 37 if target == "fringe37" else max(places) + 1
