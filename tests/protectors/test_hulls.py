"""Projections on hulls of embeddings: against a conic solver, on degenerate sets, and by what is optimal."""

from __future__ import annotations

import cvxpy
import numpy as np
import pytest
import torch
from cvxpy.atoms.affine.sum import sum as total
from cvxpy.atoms.sum_squares import sum_squares
from torch import Tensor
from torch.nn import functional

from protectors import hulls
from protectors.errors import ProtectorError
from protectors.hulls import Hulls, onto_simplex

#: Largest difference from the solver, in values of unit vectors.
TOLERANCE = 1e-4


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def unit(count: int, length: int, *, spread: float, seed: int) -> Tensor:
    """Unit vectors around one direction, as embeddings of a person are."""
    generator = seeded(seed)
    around = torch.randn(1, length, generator=generator)
    return functional.normalize(around + spread * torch.randn(count, length, generator=generator), dim=1)


def sets() -> dict[str, Tensor]:
    several = unit(6, 32, spread=0.5, seed=1)
    # Exact in single precision, so that the points do lie on a line.
    ends, line = (several[:2] * 1024).round() / 1024, torch.linspace(0, 1, 5)[:, None]
    return {
        "one": unit(1, 16, spread=1.0, seed=2),
        "two": unit(2, 16, spread=1.0, seed=3),
        "several": several,
        "copies": several[torch.tensor([0, 1, 0, 1, 2, 2])],
        "all the same": several[:1].expand(4, -1),
        "nearly the same": several[:1] + 1e-4 * torch.randn(4, 32, generator=seeded(4)),
        "collinear": line * ends[0] + (1 - line) * ends[1],
        "more than dimensions": unit(9, 3, spread=1.0, seed=5),
        "opposite": torch.stack((several[0], -several[0], several[1])),
        "photos of a person": unit(12, 128, spread=0.05, seed=6),
    }


def queries(points: Tensor) -> Tensor:
    """Far away, near, one of the set, and inside its hull."""
    length = points.shape[1]
    share = torch.rand(2, len(points), generator=seeded(7))
    return torch.cat(
        (
            functional.normalize(torch.randn(2, length, generator=seeded(8)), dim=1),
            points[:1] + 0.05 * torch.randn(2, length, generator=seeded(9)),
            points[-1:],
            share / share.sum(1, keepdim=True) @ points,
        )
    )


def solved(points: Tensor, asked: Tensor, *, convex: bool) -> np.ndarray:
    exact = points.double().numpy()
    shares = cvxpy.Variable((len(asked), len(exact)))
    limits = [total(shares, axis=1) == 1, *([shares >= 0] if convex else [])]
    problem = cvxpy.Problem(cvxpy.Minimize(sum_squares(shares @ exact - asked.double().numpy())), limits)
    problem.solve(solver="CLARABEL")
    assert problem.status == "optimal"
    return shares.value @ exact


@pytest.mark.parametrize("name", sets())
def test_hulls_agree_with_a_conic_solver(name: str) -> None:
    points = sets()[name]
    asked = queries(points)
    people = torch.zeros(len(asked), dtype=torch.int64)
    hull = Hulls(points, torch.zeros(len(points), dtype=torch.int64))
    for convex, found in ((False, hull.nearest_affine(asked, people)), (True, hull.nearest_convex(asked, people))):
        np.testing.assert_allclose(found.numpy(), solved(points, asked, convex=convex), atol=TOLERANCE)


def test_people_of_different_sizes_do_not_mix() -> None:
    each = [sets()["two"], unit(5, 16, spread=0.3, seed=10), sets()["one"]]
    asked = functional.normalize(torch.randn(9, 16, generator=seeded(11)), dim=1)
    whose = torch.arange(9) % 3
    shuffled = torch.randperm(8, generator=seeded(12))
    people = torch.repeat_interleave(torch.arange(3), torch.tensor([2, 5, 1]))[shuffled]
    together = Hulls(torch.cat(each)[shuffled], people)
    for person, points in enumerate(each):
        own = whose == person
        alone = Hulls(points, torch.zeros(len(points), dtype=torch.int64))
        nobody = torch.zeros(int(own.sum()), dtype=torch.int64)
        for kind in ("nearest_centre", "nearest_affine", "nearest_convex"):
            batched, single = getattr(together, kind)(asked, whose)[own], getattr(alone, kind)(asked[own], nobody)
            torch.testing.assert_close(batched, single, atol=2 * hulls._DISTANCE, rtol=0)


def test_centre_is_the_mean() -> None:
    points = sets()["several"]
    hull = Hulls(points, torch.zeros(6, dtype=torch.int64))
    found = hull.nearest_centre(points[:2], torch.zeros(2, dtype=torch.int64))
    torch.testing.assert_close(found, points.mean(0).expand(2, -1))


def test_a_larger_hull_is_nearer_and_projections_stay() -> None:
    points = sets()["photos of a person"]
    hull, nobody = Hulls(points, torch.zeros(12, dtype=torch.int64)), torch.zeros(7, dtype=torch.int64)
    asked = queries(points)
    centre, convex = hull.nearest_centre(asked, nobody), hull.nearest_convex(asked, nobody)
    affine = hull.nearest_affine(asked, nobody)
    far = [(asked - nearest).norm(dim=1) for nearest in (centre, convex, affine)]
    assert bool((far[0] > far[1] - TOLERANCE).all())
    assert bool((far[1] > far[2] - TOLERANCE).all())
    # The first two queries lie outside: there the convex hull makes a difference.
    assert float((far[1] - far[2])[:2].min()) > 0.01
    torch.testing.assert_close(hull.nearest_affine(affine, nobody), affine, atol=1e-5, rtol=0)
    torch.testing.assert_close(hull.nearest_convex(convex, nobody), convex, atol=2e-5, rtol=0)
    # Optimal: what is left is orthogonal to the affine hull, and no embedding lies further along it than the point.
    sides = points - points[:1]
    assert float(((asked - affine) @ sides.T).abs().max()) < 1e-5
    further = ((asked - convex)[:, None] * (points[None] - convex[:, None])).sum(2)
    assert float(further.max()) < TOLERANCE


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((0.2, 0.3, 0.5), (0.2, 0.3, 0.5)),
        ((1.0, 1.0, 1.0), (1 / 3, 1 / 3, 1 / 3)),
        ((2.0, 0.0, -1.0), (1.0, 0.0, 0.0)),
        ((0.9, 0.5, -3.0), (0.7, 0.3, 0.0)),
    ],
)
def test_nearest_shares_by_hand(given: tuple[float, ...], expected: tuple[float, ...]) -> None:
    # A fourth entry, the largest, does not count.
    vectors = torch.tensor([(*given, 9.0)], dtype=torch.float64)
    found = onto_simplex(vectors, torch.tensor([(True, True, True, False)]))
    torch.testing.assert_close(found, torch.tensor([(*expected, 0.0)], dtype=torch.float64))


def test_projections_carry_no_gradient() -> None:
    asked = queries(sets()["several"]).requires_grad_()
    hull, nobody = Hulls(sets()["several"], torch.zeros(6, dtype=torch.int64)), torch.zeros(7, dtype=torch.int64)
    assert not hull.nearest_affine(asked, nobody).requires_grad
    assert not hull.nearest_convex(asked, nobody).requires_grad


def test_a_person_without_embeddings_is_refused() -> None:
    with pytest.raises(ProtectorError, match=r"each person needs an embedding, got \[2, 0, 1\]"):
        Hulls(torch.zeros(3, 4), torch.tensor([0, 0, 2]))


def test_a_search_that_does_not_end_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hulls, "_MOST_STEPS", 1)
    points = sets()["several"]
    with pytest.raises(ProtectorError, match=r"6 embeddings was not resolved in 1 steps; give fewer .* hull=affine"):
        Hulls(points, torch.zeros(6, dtype=torch.int64)).nearest_convex(
            queries(points), torch.zeros(7, dtype=torch.int64)
        )
