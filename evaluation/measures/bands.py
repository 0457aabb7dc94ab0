"""False match rates and DET curves, with limits in which both people of a comparison count.

An impostor comparison has two people, the probe's and the template's, and depends on every other that shares one of
them. The interval of a false match rate sums over such pairs; the band of a DET curve resamples whole people.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from evaluation.errors import EvaluationError
from evaluation.measures.intervals import Interval, check_level, proportion_limits
from evaluation.measures.metrics import Bools, Floats, ScoreMatrix, Values, as_array

DYAD_CORRELATION_FLOOR = 0.025  # least correlation assumed between false matches that share a person; by simulation


def false_match_interval(matrix: ScoreMatrix, threshold: float, *, level: float = 0.95) -> Interval:
    """False match rate at a threshold, with an interval in which both people of a comparison count.

    Two impostor comparisons depend on each other when they share a person, as probe or as template. The variance sums
    the products of their residuals over all such pairs (dyadic-robust; Fafchamps & Gubert, J. Dev. Econ. 83, 2007) and
    is turned into limits as in :func:`evaluation.korn_graubard`, as Fogliato, Patil & Perona (IJCV 2024) do
    with Wilson's. The floor ``DYAD_CORRELATION_FLOOR`` stands in where false matches are too few to show how they
    cluster. In simulations with Gaussian embeddings of 20 to 100 people the 95 % interval covers in .97 to 1.00 of
    cases, and in .90 to .96 at a rate of .1 where some people match strangers far more often than others.

    Args:
        matrix: Scores of the test people.
        threshold: Frozen; a score matches when it is above.
        level: Nominal coverage.

    Raises:
        EvaluationError: Fewer than 2 people are probed.
    """
    check_level(level)
    place = matrix.own.argmax(axis=1)
    probes = np.bincount(place, minlength=len(matrix.template_id)).astype(np.float64)
    probed = int((probes > 0).sum())
    if probed < 2:
        raise EvaluationError(f"an interval over people needs at least 2 who are probed; got {probed}.")
    false, met = np.zeros((2, len(probes), len(probes)))
    np.add.at(false, place, (matrix.scores > threshold) & ~matrix.own)
    met += probes[:, None]
    np.fill_diagonal(met, 0.0)
    total = met.sum()
    rate = false.sum() / total
    residual, weight = ((table + table.T) for table in (false - rate * met, met))

    def spread(dyads: Floats) -> tuple[float, float]:
        """Sums of squares by person and by pair of people (each pair stands twice in the table)."""
        return float((dyads.sum(axis=1) ** 2).sum()), float((dyads**2).sum() / 2)

    by_person, by_pair = spread(residual)
    # A pair of people counts with each of the two, so once too often; that correction may not cancel the rest.
    variance = probed / (probed - 1) * max(by_person - by_pair, by_pair) / total**2
    by_person, by_pair = spread(weight)
    floor = DYAD_CORRELATION_FLOOR
    largest = total**2 / ((1 - 2 * floor) * by_pair + floor * by_person)
    # Without any false match there is no variance; then the floor alone decides, not the number of people.
    size = min(rate * (1 - rate) / variance, largest) if variance > 1e-15 else largest
    low, high = proportion_limits(rate, size, total, probed, level=level)
    return Interval(float(rate), float(low), float(high), probed, level)


@dataclass(frozen=True)
class DetBand:
    """A DET curve with a pointwise band.

    Attributes:
        fmr: (K,) false match rates asked for.
        fnmr: (K,) false non-match rate at the lowest threshold whose false match rate is at most that.
        low: (K,) lower limits of fnmr.
        high: (K,) upper limits.
        people: Identities probed.
        level: Nominal coverage at each point.
    """

    fmr: Floats
    fnmr: Floats
    low: Floats
    high: Floats
    people: int
    level: float


def det_band(
    matrix: ScoreMatrix, fmr: Values, *, replicates: int = 1000, seed: int = 0, level: float = 0.95
) -> DetBand:
    """DET curve with a band from the double-or-nothing bootstrap over people.

    Each replicate keeps every person with probability 1/2. A genuine comparison counts if its person is kept, an
    impostor comparison if both people are, so the dependence of comparisons that share a person is kept (Owen & Eckles,
    Ann. Appl. Stat. 6, 2012; Fogliato, Patil & Perona, IJCV 2024). The threshold is found anew in each replicate. The
    percentile limits are for the curve only: a rate that is claimed has :func:`evaluation.korn_graubard`,
    because a bootstrap cannot see failures that the sample does not hold and collapses near 0. In simulations with 20
    to 100 people the 95 % band covers in .93 to .99 of cases where the curve is at .06 or above, but in .41 to .67
    where it is at .004.

    Args:
        matrix: Scores of the test people.
        fmr: (K,) false match rates in 0..1.
        replicates: Number of bootstrap replicates.
        seed: Seed of the bootstrap.
        level: Nominal coverage at each point.
    """
    check_level(level)
    rates = as_array(fmr).astype(np.float64)
    if rates.ndim != 1 or not len(rates) or not ((rates >= 0) & (rates <= 1)).all():
        raise EvaluationError("fmr must be a non-empty row of false match rates between 0 and 1.")
    place, template = np.nonzero(~matrix.own)
    owner = matrix.own.argmax(axis=1)
    falling = np.argsort(-matrix.impostor, kind="stable")
    impostor = matrix.impostor[falling]
    probe_of, template_of = owner[place][falling], template[falling]
    rising = np.argsort(matrix.genuine, kind="stable")
    genuine, genuine_of = matrix.genuine[rising], owner[rising]

    def missed(kept: Bools) -> Floats:
        """False non-match rates (R, K) of replicates that keep people (R, people); NaN where nothing is left."""
        met = (kept[:, probe_of] & kept[:, template_of]).cumsum(axis=1)
        own = np.pad(kept[:, genuine_of].cumsum(axis=1), ((0, 0), (1, 0)))
        total, trials = met[:, -1:], own[:, -1:]
        # Whole numbers, so that rows stacked on distinct offsets can be searched at once, exactly. The allowance keeps
        # a product such as 0.29 * 100 from losing its last match.
        allowed = np.floor(rates * total + 1e-9).astype(np.int64)
        row = np.arange(len(kept))[:, None]
        offset = row * (met.shape[1] + 1)
        passed = np.searchsorted((met + offset).ravel(), (allowed + offset).ravel(), "right").reshape(allowed.shape)
        passed -= row * met.shape[1]
        cut = np.append(impostor, -np.inf)[passed]
        share = np.take_along_axis(own, np.searchsorted(genuine, cut, "right"), axis=1)
        return np.where((total > 0) & (trials > 0), share / np.maximum(trials, 1), np.nan)

    people = len(matrix.template_id)
    kept = np.random.default_rng(seed).integers(0, 2, (replicates, people)).astype(bool)
    # Blocks of about 50 MB.
    blocks = np.array_split(kept, math.ceil(replicates * len(impostor) / 2_000_000))
    drawn = np.concatenate([missed(block) for block in blocks])
    low, high = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    everybody = missed(np.ones((1, people), dtype=bool))[0]
    return DetBand(rates, everybody, low, high, len(np.unique(matrix.probe_id)), level)
