"""The nearest point to an embedding in what a person's embeddings span: their mean, affine hull or convex hull.

All in double precision, and with the embeddings counted from their mean: coefficients that sum to one do not feel the
shift, and the matrices become better conditioned. Sets of several people, of different sizes, go in as one batch,
padded with rows that do not count.
"""

from __future__ import annotations

import torch
from torch import Tensor

from protectors.errors import ProtectorError

#: Singular values below this share of the largest count as zero: embeddings are made in single precision.
_RANK = 1e-6

#: The convex hull's point is found to this distance, and the search is given up after so many steps.
_DISTANCE = 1e-5
_MOST_STEPS = 100_000
#: Steps between two looks at whether the search has ended.
_CHECK_EVERY = 10


class Hulls:
    """The embeddings of several people, and projections onto what they span.

    Args:
        features: (N, D) embeddings.
        people: (N,) int64, whose each is, from 0 up to the number of people without a gap.

    Raises:
        ProtectorError: A person has no embedding.
    """

    def __init__(self, features: Tensor, people: Tensor) -> None:
        counts = torch.bincount(people)
        if len(people) == 0 or int(counts.min()) == 0:
            raise ProtectorError(f"each person needs an embedding, got {counts.tolist()} embeddings of the people.")
        order = torch.argsort(people, stable=True)
        self.valid = torch.arange(int(counts.max()), device=counts.device) < counts[:, None]
        """(K, M) which rows of :attr:`rows` count."""
        padded = features.new_zeros(*self.valid.shape, features.shape[1], dtype=torch.float64)
        padded[self.valid] = features.detach().double()[order]
        self.centre = padded.sum(1) / counts[:, None]
        """(K, D) means."""
        self.rows = (padded - self.centre[:, None]) * self.valid[..., None]
        """(K, M, D) embeddings less their mean, M the largest number of a person; others are padded with zeros."""
        self._inverse = torch.linalg.pinv(self.rows, rtol=_RANK)
        self._gram = self.rows @ self.rows.mT
        # Rows that are one and the same have a Gram matrix of zeros; any step will do.
        self._steepest = torch.linalg.eigvalsh(self._gram)[:, -1].clamp_min(torch.finfo(torch.float64).tiny)

    def nearest_centre(self, queries: Tensor, people: Tensor) -> Tensor:
        """The means (B, D) of the people of each query (B, D), in its type."""
        return self.centre[people].to(queries)

    def nearest_affine(self, queries: Tensor, people: Tensor) -> Tensor:
        """min over a of |sum_j a_j x_j - f|, sum_j a_j = 1: the nearest point (B, D) to each query (B, D).

        Where several a give that point, as with copies of an embedding, it is the same: the coefficients are those of
        least norm, 1/n plus the pseudo-inverse of the centred embeddings times f less their mean. Their sum is 1
        because the centred embeddings sum to zero, so this solves the optimality (KKT) conditions.

        Args:
            queries: (B, D) embeddings f.
            people: (B,) int64, whose hull each is projected on.

        Returns:
            (B, D) in the type of the queries, without gradient.
        """
        rows = self.rows[people]
        coefficients = self._offset(queries, people)[:, None] @ self._inverse[people]
        return ((coefficients @ rows)[:, 0] + self.centre[people]).to(queries)

    def nearest_convex(self, queries: Tensor, people: Tensor) -> Tensor:
        """The same with all a_j >= 0, found to a distance of 1e-5.

        Accelerated projected gradients on the coefficients (FISTA: Beck and Teboulle, SIAM J. Imaging Sci. 2009, eqs.
        4.1 to 4.3), begun anew wherever the momentum points uphill (O'Donoghue and Candes, Found. Comput. Math. 2015).
        With g the gradient of half the squared distance, g a - min_j g_j bounds how far that is from its least value
        (Jaggi, ICML 2013, eq. 2), and half the square of the distance between the two points is no larger; so the
        search ends at a known distance.

        Raises:
            ProtectorError: The search did not end.
        """
        rows, valid, gram = self.rows[people], self.valid[people], self._gram[people]
        linear = (rows @ self._offset(queries, people)[..., None])[..., 0]
        step = 1 / self._steepest[people, None]

        def gradient(at: Tensor) -> Tensor:
            return (gram @ at[..., None])[..., 0] - linear

        found = valid / valid.sum(1, keepdim=True).double()
        ahead, age = found, found.new_ones(len(queries), 1)
        for turn in range(_MOST_STEPS):
            slope = gradient(ahead)
            following = onto_simplex(ahead - step * slope, valid)
            uphill = ((ahead - following) * (following - found)).sum(1, keepdim=True) > 0
            older = torch.where(uphill, 1.0, (1 + torch.sqrt(1 + 4 * age**2)) / 2)
            share = torch.where(uphill, 0.0, (age - 1) / older)
            ahead, found, age = following + share * (following - found), following, older
            if turn % _CHECK_EVERY == 0:
                slope = gradient(found)
                gap = (slope * found).sum(1) - slope.masked_fill(~valid, torch.inf).amin(1)
                if bool((gap <= _DISTANCE**2 / 2).all()):
                    return ((found[:, None] @ rows)[:, 0] + self.centre[people]).to(queries)
        raise ProtectorError(
            f"the convex hull of a person's {int(valid.sum(1).amax())} embeddings was not resolved in {_MOST_STEPS} "
            "steps; give fewer photos of each person, or set hull=affine."
        )

    def _offset(self, queries: Tensor, people: Tensor) -> Tensor:
        """(B, D) float64, queries less the mean of their people."""
        return queries.detach().double() - self.centre[people]


def onto_simplex(vectors: Tensor, valid: Tensor) -> Tensor:
    """The nearest vectors (B, M) with entries >= 0 that sum to 1, and 0 where an entry does not count.

    By sorting (Held, Wolfe and Crowder, Math. Program. 1974): all entries that count are lowered by one number and cut
    at 0, and the largest of them that stay above it say which.

    Args:
        vectors: (B, M).
        valid: (B, M) which entries count, at least one in a row.
    """
    falling = vectors.masked_fill(~valid, -torch.inf).sort(dim=1, descending=True).values
    ranks = torch.arange(1, vectors.shape[1] + 1, device=vectors.device).to(vectors)
    lowered = (falling.cumsum(1) - 1) / ranks
    last = (falling > lowered).sum(1, keepdim=True) - 1
    return (vectors - lowered.gather(1, last)).clamp_min(0) * valid
