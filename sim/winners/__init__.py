"""A camera that releases places instead of pictures: pairs of sub-apertures, and a winner-take-all behind them.

Each pair looks at the scene through two masks, whose point-spread functions are the positive and the negative part of
a matched filter for a part of the face. Every pixel of a pair compares the light of its two images as a ratio of
logarithms; the compared pixels of several pairs are added, weighted and biased by place; and of each such sum only the
place of the largest value leaves the chip. :mod:`sim.winners.tiles` is the light up to the pixels,
:mod:`sim.winners.readout` what the chip does with it, :mod:`sim.winners.camera` both together.

Everything before the places - images, ratios, sums - is assumed never to leave the chip. A chip whose pixels can also
be read out protects nothing.
"""

from __future__ import annotations

from sim.winners.camera import WinnerCamera
from sim.winners.readout import PairPixels, Readout, Window, Winners
from sim.winners.tiles import FixedTiles, MaskTiles, TileArray, split_kernel

__all__ = [
    "FixedTiles",
    "MaskTiles",
    "PairPixels",
    "Readout",
    "TileArray",
    "Window",
    "WinnerCamera",
    "Winners",
    "split_kernel",
]
