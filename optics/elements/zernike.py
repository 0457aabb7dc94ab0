"""Zernike polynomials in Noll's order, orthonormal on the unit disc, stable to thousands of terms.

``Z_j = sqrt(n + 1) R_n^0`` for m = 0, ``sqrt(2 (n + 1)) R_n^m cos(m t)`` for even j and ``... sin(m t)`` for odd j
(R. J. Noll, J. Opt. Soc. Am. 66, 207 (1976)). The mean of ``Z_j Z_k`` over the disc is 1 for j = k, else 0, so a
coefficient is the RMS of its term. The angle t runs from +x towards +y, that is downwards.

The radial part is a Jacobi polynomial, ``R_n^m(r) = r^m P_k^(0, m)(2 r^2 - 1)`` with ``k = (n - m) / 2``, built in
float64 by the three-term recurrence in k (NIST DLMF 18.9.2). The textbook sum of factorials loses every digit of
float32 near j = 60.

Symmetry: mirrors in x, in y and in the diagonal map a square grid onto itself, and map a term onto itself (m even) or
onto its partner of the same n and m (m odd: cosine to sine), up to a sign. One octant of the disc therefore holds the
whole basis, a tenth of the memory of the square.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, lru_cache
from math import isqrt, sqrt

import torch
from torch import nn
from torch.nn.functional import pad

from optics.errors import OpticsError
from optics.pupil import PupilGrid


def noll_to_nm(j: int) -> tuple[int, int]:
    """Return (n, m) of Noll index j >= 1; m > 0 means the cosine term, m < 0 the sine term.

    Raises:
        OpticsError: j is below 1.

    >>> [noll_to_nm(j) for j in (1, 2, 3, 4, 11)]
    [(0, 0), (1, 1), (1, -1), (2, 0), (4, 0)]
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

    >>> nm_to_noll(2, 0), nm_to_noll(3, 1)
    (4, 8)
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
    _check_count(n_terms)
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


# Bases kept: at most this many, together at most about 8 x 0.4 x n_terms x P^2 / 4 bytes; 350 terms on 256^2 in float32
# are 9.4 MB, so 75 MB.
_KEPT_BASES = 8
_CHUNK_TERMS = 8


@cache
def _images(samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Octant of a disc of ``samples`` cells across, and where its eight images lie.

    Returns:
        Twice the (x, y) of the octant's cells in cells, 0 <= y <= x, int64 of shape (2, N); and the flat index into the
        square of each image, shape (8, N), ``samples ** 2`` for an image that an earlier one covers.
    """
    odd = (samples + 1) % 2
    axis = torch.arange(odd, samples, 2)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    # A cell belongs to the disc if its corner nearest to the axis is inside: exact in integers.
    inside = ((x - 1).clamp(min=0).square() + (y - 1).clamp(min=0).square() < samples**2) & (y <= x)
    x, y = x[inside], y[inside]
    pixels = []
    for along, across in ((x, y), (y, x)):
        for mirror_y in (1, -1):
            for mirror_x in (1, -1):
                column, row = (mirror_x * along + samples - 1) // 2, (mirror_y * across + samples - 1) // 2
                pixels.append(row * samples + column)
    flat = torch.stack(pixels).flatten()
    order = torch.arange(flat.numel())
    first = torch.full((samples**2,), flat.numel()).scatter_reduce(0, flat, order, "amin")
    return torch.stack((x, y)), torch.where(first[flat] == order, flat, samples**2).reshape(8, -1)


@cache
def _mirrors(n_terms: int) -> tuple[torch.Tensor, torch.Tensor]:
    """How terms map under the eight symmetries, in the order of :func:`_images`.

    ``Z_j(image) = sign[g, j] Z_partner[g, j](octant)``; rows end with the partner of the last term, if it has one.

    Returns:
        Partners (from 0) and signs, shapes (8, rows), rows = n_terms or n_terms + 1.
    """
    n, m = noll_to_nm(n_terms)
    rows = max(n_terms, nm_to_noll(n, -m)) if m % 2 else n_terms
    partners, signs = [], []
    for swap in (False, True):
        for mirror_y in (1, -1):
            for mirror_x in (1, -1):
                for j in range(1, rows + 1):
                    n, m = noll_to_nm(j)
                    cosine, order = m >= 0, abs(m)
                    sign = (1 if cosine else mirror_y) * (mirror_x if (order % 2 == 0) != cosine else 1)
                    partner = j
                    if swap:  # angle pi / 2 - t
                        sign *= (1, 1, -1, -1)[order % 4] if cosine else (-1, 1, 1, -1)[order % 4]
                        partner = nm_to_noll(n, -m) if order % 2 else j
                    partners.append(partner - 1)
                    signs.append(sign)
    return torch.tensor(partners).reshape(8, rows), torch.tensor(signs).reshape(8, rows)


@lru_cache(maxsize=_KEPT_BASES)
def _octant(n_terms: int, samples: int, dtype: torch.dtype) -> torch.Tensor:
    """Terms on the octant, partner of the last included, shape (rows, N); shared, never written to."""
    x, y = (_images(samples)[0].double() / samples).unbind()
    rows = _mirrors(n_terms)[0].shape[1]
    return zernike_values(rows, torch.hypot(x, y).clamp(max=1.0), torch.atan2(y, x), dtype)


def forget_bases() -> None:
    """Drop the octants that are kept (those of live objects stay)."""
    for kept in (_images, _mirrors, _octant):
        kept.cache_clear()


class ZernikeBasis(nn.Module):
    """Sums of Noll terms 1 to n_terms on a pupil grid, from one octant of the disc.

    Equal to ``coefficients @ zernike_basis(...)`` to rounding, for even and odd grids, at a tenth of its memory.
    Bases of the same size and type share their memory (until moved to another device); the eight used last are kept,
    each ``0.41 n_terms P^2 / 4`` numbers (350 terms on 256^2 in float32: 9.4 MB).

    Args:
        n_terms: Number of terms.
        grid: Pupil; the unit disc is its aperture.
        dtype: Type of the sums; terms are computed in float64.

    Raises:
        OpticsError: n_terms is below 1.
    """

    octant: torch.Tensor
    partners: torch.Tensor
    signs: torch.Tensor
    pixels: torch.Tensor

    def __init__(self, n_terms: int, grid: PupilGrid, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        _check_count(n_terms)
        self.n_terms = n_terms
        self.samples = grid.samples
        partners, signs = _mirrors(n_terms)
        self.register_buffer("octant", _octant(n_terms, grid.samples, dtype), persistent=False)
        self.register_buffer("partners", partners, persistent=False)
        self.register_buffer("signs", signs.gather(1, partners).to(dtype), persistent=False)
        self.register_buffer("pixels", _images(grid.samples)[1].flatten(), persistent=False)

    def forward(self, coefficients: torch.Tensor) -> torch.Tensor:
        """Return ``sum_j c_j Z_j``.

        Args:
            coefficients: RMS value of each term, shape (..., n_terms).

        Returns:
            Map of shape (..., P, P), 0 in cells wholly outside the aperture.
        """
        if coefficients.shape[-1] != self.n_terms:
            raise OpticsError(
                f"coefficients has shape {tuple(coefficients.shape)}; its last dimension must be the {self.n_terms} "
                "terms."
            )
        padded = pad(coefficients, (0, self.octant.shape[0] - self.n_terms))
        values = (padded[..., self.partners] * self.signs) @ self.octant
        # The last place takes the images that others cover, so every cell is written once and its gradient read once.
        plane = values.new_zeros(*values.shape[:-2], self.samples**2 + 1)
        plane = plane.index_copy(-1, self.pixels, values.flatten(-2))
        return plane[..., :-1].unflatten(-1, (self.samples, self.samples))


def zernike_basis(n_terms: int, grid: PupilGrid, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return Noll terms 1 to n_terms on a pupil grid; the unit disc is the aperture of that grid.

    Cells of the grey edge whose centre lies just outside take the value of the nearest point of the rim (high orders
    explode beyond it); cells wholly outside are 0. For sums of terms :class:`ZernikeBasis` is several times faster.

    Args:
        n_terms: Number of terms.
        grid: Pupil.
        dtype: Type of the result; the work is done in float64.

    Returns:
        Tensor of shape (n_terms, P, P).

    Raises:
        OpticsError: n_terms is below 1.

    >>> grid = PupilGrid(1e-3, 64)
    >>> defocus = zernike_basis(4, grid, torch.float64)[3]
    >>> round(float((grid.amplitude * defocus.square()).sum() / grid.amplitude.sum()), 2)  # RMS 1 on the aperture
    1.0
    """
    _check_count(n_terms)
    octant = _octant(n_terms, grid.samples, dtype)
    partners, signs = _mirrors(n_terms)
    pixels = _images(grid.samples)[1].flatten()
    source = torch.full((grid.samples**2 + 1,), pixels.numel()).scatter(0, pixels, torch.arange(pixels.numel()))[:-1]
    basis = torch.empty(n_terms, grid.samples**2, dtype=dtype)
    # A few terms at a time, so that the images stay in the cache until they are laid out.
    images = torch.zeros(_CHUNK_TERMS, pixels.numel() + 1, dtype=dtype)
    for first in range(0, n_terms, _CHUNK_TERMS):
        terms = slice(first, min(first + _CHUNK_TERMS, n_terms))
        count = terms.stop - first
        torch.mul(
            octant[partners[:, terms].T],
            signs[:, terms].T.unsqueeze(-1),
            out=images[:count, :-1].unflatten(-1, (8, -1)),
        )
        torch.index_select(images[:count], 1, source, out=basis[terms])
    return basis.unflatten(-1, (grid.samples, grid.samples))


def _check_count(n_terms: int) -> None:
    if n_terms < 1:
        raise OpticsError(f"n_terms={n_terms} must be at least 1.")
