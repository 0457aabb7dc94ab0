"""Zernike polynomials in Noll's order, orthonormal on the unit disc, stable to thousands of terms.

``Z_j = sqrt(n + 1) R_n^0`` for m = 0, ``sqrt(2 (n + 1)) R_n^m cos(m t)`` for even j and ``... sin(m t)`` for odd j
(R. J. Noll, J. Opt. Soc. Am. 66, 207 (1976)). The mean of ``Z_j Z_k`` over the disc is 1 for j = k, else 0, so a
coefficient is the RMS of its term. The angle t runs from +x towards +y, that is downwards.

The radial part is a Jacobi polynomial, ``R_n^m(r) = r^m P_k^(0, m)(2 r^2 - 1)`` with ``k = (n - m) / 2``, built in
float64 by the three-term recurrence in k (NIST DLMF 18.9.2). The textbook sum of factorials loses every digit of
float32 near j = 60.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isqrt, sqrt

import torch

from optics.errors import OpticsError
from optics.pupil import PupilGrid


def noll_to_nm(j: int) -> tuple[int, int]:
    """Return (n, m) of Noll index j >= 1; m > 0 means the cosine term, m < 0 the sine term.

    Raises:
        OpticsError: j is below 1.
    """
    if j < 1:
        raise OpticsError(f"Noll index j={j} does not exist; the first is 1 (piston).")
    n = (isqrt(8 * (j - 1) + 1) - 1) // 2
    place = j - 1 - n * (n + 1) // 2
    order = n % 2 + 2 * ((place + (n + 1) % 2) // 2)
    return n, order if j % 2 == 0 else -order


def nm_to_noll(n: int, m: int) -> int:
    """Return the Noll index of (n, m); m > 0 means the cosine term, m < 0 the sine term.

    Raises:
        OpticsError: No Zernike polynomial has these orders.
    """
    if n < 0 or abs(m) > n or (n - m) % 2:
        raise OpticsError(f"no Zernike polynomial has n={n}, m={m}; |m| <= n and n - m even are needed.")
    base = n * (n + 1) // 2
    if m == 0:
        return base + 1
    # The two indices that |m| may take; cosine terms have even indices, sine terms odd ones.
    lower = base + abs(m)
    return lower if (lower % 2 == 0) == (m > 0) else lower + 1


def _radial(n_max: int, rho: torch.Tensor) -> Iterator[tuple[int, int, torch.Tensor]]:
    """Yield (n, m, R_n^m(rho)) for every m >= 0 and n <= n_max."""
    t = 2 * rho * rho - 1
    power = torch.ones_like(rho)
    for m in range(n_max + 1):
        older, current = torch.zeros_like(rho), power
        for k in range((n_max - m) // 2 + 1):
            yield m + 2 * k, m, current
            # Jacobi recurrence with alpha = 0, beta = m, from degree k to k + 1.
            if k == 0:
                following = power * (0.5 * ((m + 2) * t - m))
            else:
                s = 2 * k + m
                linear = ((s + 1) * (s + 2) * s) * t - (s + 1) * m * m
                following = (linear * current - (2 * k * (k + m) * (s + 2)) * older) / (2 * (k + 1) * (k + 1 + m) * s)
            older, current = current, following
        power = power * rho


def zernike_values(
    n_terms: int, rho: torch.Tensor, theta: torch.Tensor, dtype: torch.dtype = torch.float64
) -> torch.Tensor:
    """Evaluate Noll terms 1 to n_terms at polar points of the unit disc.

    Args:
        n_terms: Number of terms.
        rho: Radii 0 to 1, any shape.
        theta: Angles in radians, the same shape.
        dtype: Type of the result; the work is done in float64.

    Returns:
        Tensor of shape (n_terms, ...), the dots standing for the shape of rho.

    Raises:
        OpticsError: n_terms is below 1 or a radius leaves the disc.
    """
    if n_terms < 1:
        raise OpticsError(f"n_terms={n_terms} must be at least 1.")
    rho, theta = rho.double(), theta.double()
    if rho.numel() and not (rho.min() >= 0 and rho.max() <= 1):
        raise OpticsError(f"rho spans {rho.min():g} to {rho.max():g}; Zernike polynomials live on radii 0 to 1.")
    n_max = noll_to_nm(n_terms)[0]
    out = torch.empty((n_terms, *rho.shape), dtype=dtype)
    cos_m, sin_m, seen_m = torch.ones_like(rho), torch.zeros_like(rho), 0
    for n, m, radial in _radial(n_max, rho):
        if m != seen_m:
            cos_m, sin_m, seen_m = torch.cos(m * theta), torch.sin(m * theta), m
        terms: list[tuple[int, float, torch.Tensor | None]]
        if m == 0:
            terms = [(nm_to_noll(n, 0), sqrt(n + 1), None)]
        else:
            norm = sqrt(2 * (n + 1))
            terms = [(nm_to_noll(n, m), norm, cos_m), (nm_to_noll(n, -m), norm, sin_m)]
        for j, norm, angular in terms:
            if j <= n_terms:
                out[j - 1] = radial * norm if angular is None else (radial * angular).mul_(norm)
    return out


def zernike_basis(n_terms: int, grid: PupilGrid, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return Noll terms 1 to n_terms on a pupil grid; the unit disc is the aperture of that grid.

    Cells of the grey edge whose centre lies just outside take the value of the nearest point of the rim (high orders
    explode beyond it); cells wholly outside are 0.

    Args:
        n_terms: Number of terms.
        grid: Pupil.
        dtype: Type of the result; the work is done in float64.

    Returns:
        Tensor of shape (n_terms, P, P).
    """
    basis = zernike_values(n_terms, grid.radius.clamp(max=1.0), grid.angle, dtype)
    return basis.mul_(grid.amplitude > 0)
