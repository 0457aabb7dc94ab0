"""What synthetic people are made of, as numbers that a network can be trained to predict. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from faces.errors import FacesError
from faces.synthetic.asset import load_asset
from faces.synthetic.identity import BEARDS, Identity, draw_identity
from faces.synthetic.raster import F32

#: The front of the head, in metres from the middle between the eyes: what a camera shows of the shape of a face.
_FRONT_M = {"beside": 0.075, "below": 0.13, "above": 0.06, "behind": 0.06}
#: Values below are differences of rounding, for instance of a colour that everybody shares.
_LEAST_SPREAD = 1e-6


def identity_parameters(seed: int, numbers: Sequence[int], components: int = 40) -> F32:
    """Parameters of people of a seed: shape of the face, then colours, brows, beard, age and gender.

    The shape is given by the principal components of the neutral faces of these people. Every column has mean 0 and
    standard deviation 1 over them (0 throughout where they do not differ).

    Args:
        seed: Seed of the population.
        numbers: Numbers of the people, at least two different ones.
        components: Principal components of the shape; fewer people than that have fewer.

    Returns:
        (N, P), one row for each number.

    Raises:
        FacesError: Fewer than two people.
    """
    if len(set(numbers)) < 2:
        raise FacesError(f"parameters are compared between people; give at least 2, got {len(set(numbers))}.")
    people = [draw_identity(seed, number) for number in numbers]
    x, y, z = load_asset().mean_m.T
    front = (np.abs(x) < _FRONT_M["beside"]) & (y > -_FRONT_M["below"]) & (y < _FRONT_M["above"])
    front &= z > -_FRONT_M["behind"]
    shapes = np.stack([person.points_m[front].ravel() for person in people]).astype(np.float64)
    rows = np.concatenate([_components(shapes, components), np.stack([_paint(person) for person in people])], axis=1)
    centred = rows - rows.mean(axis=0)
    spread = centred.std(axis=0)
    return np.asarray(np.where(spread > _LEAST_SPREAD, centred / np.maximum(spread, _LEAST_SPREAD), 0.0), np.float32)


def _components(shapes: np.ndarray, count: int) -> np.ndarray:
    """Principal components (N, count) by the Gram matrix: there are fewer people than coordinates."""
    centred = shapes - shapes.mean(axis=0)
    value, vector = np.linalg.eigh(centred @ centred.T)
    kept = min(count, len(shapes) - 1)
    strongest = vector[:, ::-1][:, :kept]
    # The sign of an eigenvector is free; a fixed one keeps results the same on every machine.
    strongest = strongest * np.sign(strongest[np.abs(strongest).argmax(axis=0), np.arange(kept)])
    found: np.ndarray = strongest * np.sqrt(np.maximum(value[::-1][:kept], 0.0))
    return found


def _paint(person: Identity) -> np.ndarray:
    paint = person.paint
    beard = [paint.beard_density * (paint.beard == name) for name in BEARDS[1:]]
    return np.array(
        [
            paint.melanin, paint.redness, *paint.lip_tone, *np.log(paint.iris), *np.log(paint.hair), *paint.brow,
            *beard, paint.hairline_m, paint.wrinkles, paint.freckles, person.male, person.age,
        ],
        np.float64,
    )  # fmt: skip
