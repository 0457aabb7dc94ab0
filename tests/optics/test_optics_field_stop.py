"""The field stop: where its opening lies, how much it passes, what it refuses."""

from __future__ import annotations

from dataclasses import replace
from math import pi

import pytest
import torch

from optics import FieldStop, OpticsError

STOP = FieldStop(centre_x=0.4, centre_y=0.55, half_width=0.3, half_height=0.2, edge=0.01)


def test_a_sharp_stop_passes_the_area_of_its_ellipse() -> None:
    share = STOP.transmission(400, dtype=torch.float64)
    # The soft rim adds pi^2 / 3 edge^2 of the area.
    assert float(share.mean()) == pytest.approx(pi * 0.3 * 0.2 * (1 + pi**2 / 3 * 0.01**2), rel=1e-3)
    assert float(share.max()) <= 1 and float(share.min()) >= 0


def test_the_opening_lies_where_it_says_x_right_y_down() -> None:
    share = STOP.transmission(200, dtype=torch.float64)
    axis = (torch.arange(200, dtype=torch.float64) + 0.5) / 200
    light = share.sum()
    assert float((share.sum(0) * axis).sum() / light) == pytest.approx(0.4, abs=1e-3)
    assert float((share.sum(1) * axis).sum() / light) == pytest.approx(0.55, abs=1e-3)


def test_half_of_the_light_passes_on_the_rim() -> None:
    # Sample 140 of 200 has its centre at 0.7025; the stop is placed so that its right rim lies there.
    stop = replace(STOP, centre_x=0.7025 - 0.3, centre_y=0.5025)
    assert float(stop.transmission(200, dtype=torch.float64)[100, 140]) == pytest.approx(0.5, abs=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"centre_x": float("nan")}, "centre_x=nan must be a finite share of the window"),
        ({"half_width": 0.0}, "half_width=0.0 must be a positive share"),
        ({"half_height": -0.1}, "half_height=-0.1 must be a positive share"),
        ({"edge": 0.0}, "edge=0.0 must be a positive share"),
    ],
)
def test_a_stop_that_cannot_be_is_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(OpticsError, match=message):
        replace(STOP, **change)
