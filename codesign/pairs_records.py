"""Records of the camera of pairs; :mod:`codesign.records` holds those of the summaries that they are part of."""

from __future__ import annotations

from codesign.attacker_records import Number, Record


class ChannelFacts(Record):
    """One channel of the camera of pairs.

    Attributes:
        name: The part that it looks for.
        pairs: Pairs that are added for it.
        places: Places of its window.
        kernel_error: Mean error of its winners on the validation people over the outer eye distance, with ideal
            kernels and, for followers, with the error that anchors are expected to have.
    """

    name: str
    pairs: int
    places: int
    kernel_error: Number


class WinnersFacts(Record):
    """The camera of pairs.

    Attributes:
        tiles: Tiles, two for each pair.
        bits: Bits that leave the chip for one frame, presence included.
        array_width_m: Width of the array of tiles in metres.
        residual_mean: Relative residual of the masks' point-spread functions, mean over tiles, all colours together.
        residual_worst: That of the worst tile.
        missed: Share of the faces of the validation people that the level of presence was set to miss.
        false_alarms: Share of scrambled scenes, without a face, that pass that level.
        channels: The channels, the anchor first.
    """

    tiles: int
    bits: float
    array_width_m: float
    residual_mean: Number
    residual_worst: Number
    missed: Number = None
    false_alarms: Number = None
    channels: tuple[ChannelFacts, ...]
