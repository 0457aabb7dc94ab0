"""The story of a camera of pairs for the report: what happens to the light of one face until a few places leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from codesign.records import AttackerResult, ChannelFacts, PooledResult, TrainMaskSummary, WinnersFacts
from optishield.errors import OptiShieldError
from optishield.report import pairs_pictures as drawn
from optishield.report import pictures
from optishield.report.findings import other_optics
from optishield.report.names import shown_as
from optishield.report.numbers import decimal, known, percent, span

Arrays = Mapping[str, NDArray[Any]]

#: Pairs that are shown with all their pictures: of the anchor, and of each channel that follows it.
ANCHOR_PAIRS_SHOWN, FOLLOWER_PAIRS_SHOWN = 3, 1
#: Pixels across the picture of a tile's relief.
RELIEF_GRID = 132


@dataclass(frozen=True)
class Cell:
    """One picture of a chain, with the words below it."""

    picture: Markup
    caption: str


@dataclass(frozen=True)
class Channel:
    """What one channel does with the light of the first face.

    Attributes:
        name: The part that it looks for.
        colour: Its colour in all pictures.
        words: How many pairs are added, and where their sum is searched.
        face: The face with the window; None without pictures of faces.
        pairs: The pictures of each pair that is shown: kernel, reliefs, light, log ratio.
        ends: Drive over the window, and the winner on the face.
        kernels: The kernels of all pairs.
    """

    name: str
    colour: str
    words: str
    face: Markup | None
    pairs: tuple[tuple[Cell, ...], ...]
    ends: tuple[Cell, ...]
    kernels: tuple[Markup, ...]


def _shaped(arrays: Arrays, name: str, like: Sequence[int | None], words: str) -> NDArray[Any] | None:
    """An array that must have a shape (None: any length); None where it is missing."""
    found = arrays.get(name)
    if found is None:
        return None
    fits = found.ndim == len(like) and all(want in (None, have) for want, have in zip(like, found.shape, strict=True))
    if not fits:
        raise OptiShieldError(f"{name} has shape {found.shape}; it must be {words}.")
    return np.asarray(found)


@dataclass(frozen=True)
class _Found:
    """The arrays of a camera of pairs, each None where it is missing."""

    channel: NDArray[Any] | None
    kernels: NDArray[Any] | None
    height: NDArray[Any] | None
    light: NDArray[Any] | None
    ratio: NDArray[Any] | None
    drive: NDArray[Any] | None
    windows: NDArray[Any] | None
    biases: tuple[NDArray[Any] | None, ...]
    places: NDArray[Any] | None
    scenes: NDArray[np.float64] | None
    diameter_m: float | None


def _kernels(arrays: Arrays, tiles: int | None) -> NDArray[Any] | None:
    """Signed kernels (J, K, K), in grey and turned by half a circle: as the face meets them, for light convolves."""
    psf = _shaped(arrays, "pairs_psf", (tiles, None, None, None), "tiles x wavelengths x K x K, two tiles a pair")
    weights = arrays.get("filter_weights")
    if psf is None or weights is None:
        return None
    if len(weights) != psf.shape[1]:
        raise OptiShieldError(f"filter_weights has shape {weights.shape}; it must hold a weight for each wavelength.")
    grey = np.einsum("tlyx,l->tyx", psf.astype(np.float64), weights)
    return np.asarray((grey[0::2] - grey[1::2])[:, ::-1, ::-1])


def _read(arrays: Arrays, winners: WinnersFacts) -> _Found:
    count, tiles = len(winners.channels), winners.tiles
    windows = _shaped(arrays, "pairs_windows", (count, 4), "channels x 4: top, left, height, width")
    biases = [
        None if windows is None else _shaped(arrays, f"pairs_bias_{number}", tuple(windows[number, 2:]), "its window")
        for number in range(count)
    ]
    scenes, diameter = arrays.get("scenes"), arrays.get("pupil_diameter_m")
    height = _shaped(arrays, "pairs_height_m", (tiles, None, None), "tiles x P x P")
    if height is not None:
        # All tiles share a bowl, beside which their differences would not be seen.
        height = height - height.mean(0)
    return _Found(
        channel=_shaped(arrays, "pairs_channel", (tiles // 2,), "one channel for each pair"),
        kernels=_kernels(arrays, tiles),
        height=height,
        light=_shaped(arrays, "pairs_light", (tiles, None, None), "tiles x n x n, of the first face"),
        ratio=_shaped(arrays, "pairs_ratio", (tiles // 2, None, None), "pairs x n x n, of the first face"),
        drive=_shaped(arrays, "pairs_drive", (None, count, None, None), "faces x channels x n x n"),
        windows=windows,
        biases=tuple(biases),
        places=_shaped(arrays, "places", (None, count, 2), "faces x channels x 2"),
        scenes=None if scenes is None else pictures.display(scenes),
        diameter_m=None if diameter is None else float(np.asarray(diameter)),
    )


def _kernel_pictures(found: _Found, pairs: NDArray[Any], name: str) -> list[Markup]:
    """Kernels of a channel, cut to what holds nearly all of them together."""
    if found.kernels is None:
        return []
    own = found.kernels[pairs]
    half, middle = pictures.window(own**2), own.shape[1] // 2
    cut = slice(max(middle - half, 0), middle + half + 1)
    return [drawn.signed(kernel[cut, cut], f"{name}, kernel of pair {i + 1}") for i, kernel in enumerate(own)]


def _pair(found: _Found, pair: int, kernel: Markup | None, name: str) -> tuple[Cell, ...]:
    """The pictures of one pair, in the order in which light meets them."""
    cells = [] if kernel is None else [Cell(kernel, "kernel")]
    sides = ((2 * pair, "+"), (2 * pair + 1, "−"))
    if found.height is not None:
        for tile, sign in sides:
            relief = pictures.mask_surface(found.height[tile], found.diameter_m, bare=True, grid=RELIEF_GRID)
            cells.append(Cell(relief, f"mask {sign}"))
    if found.light is not None:
        white = float(max(found.light[tile].max() for tile, _ in sides))
        cells += [
            Cell(drawn.light(found.light[tile], white, f"{name}, light behind mask {sign}"), f"light {sign}")
            for tile, sign in sides
        ]
    if found.ratio is not None:
        cells.append(Cell(drawn.signed(found.ratio[pair], f"{name}, log ratio"), "log ratio"))
    return tuple(cells)


def _box(found: _Found, number: int) -> tuple[int, int, int, int] | None:
    """Window of a channel in the first face, in pixels of the chip: that of a follower lies about the anchor."""
    if found.windows is None:
        return None
    top, left, height, width = (int(value) for value in found.windows[number])
    if number:
        if found.places is None:
            return None
        x, y = (int(value) for value in found.places[0, 0])
        top, left = top + y, left + x
    return top, left, height, width


def _over_window(found: _Found, number: int, box: tuple[int, int, int, int]) -> NDArray[np.float64] | None:
    """Drive with its bias over the window in the first face; NaN where the window leaves the pixels."""
    bias = found.biases[number]
    if found.drive is None or bias is None:
        return None
    top, left, height, width = box
    reach = max(found.drive.shape[-2:])
    padded = np.pad(found.drive[0, number].astype(np.float64), reach, constant_values=np.nan)
    return np.asarray(padded[top + reach : top + reach + height, left + reach : left + reach + width] + bias)


def _channel(found: _Found, facts: ChannelFacts, number: int, pixels: int) -> Channel:
    name, colour, box = facts.name.replace("-", " "), drawn.channel_colour(number), _box(found, number)
    own = np.array([], dtype=int) if found.channel is None else np.flatnonzero(found.channel == number)
    kernels = _kernel_pictures(found, own, name)
    shown = own[: FOLLOWER_PAIRS_SHOWN if number else ANCHOR_PAIRS_SHOWN]
    rows = [_pair(found, int(pair), kernels[i] if kernels else None, name) for i, pair in enumerate(shown)]
    face, ends = None, []
    if box is not None and found.scenes is not None:
        scene, pixel = found.scenes[0], found.scenes.shape[1] / pixels
        face = drawn.face_with_window(scene, box, pixel, colour, "", f"the face and the window of {name}")
    winner = None if found.places is None else found.places[0, number]
    values = None if box is None else _over_window(found, number, box)
    if box is not None and values is not None:
        at = None if winner is None else (int(winner[0]) - box[1], int(winner[1]) - box[0])
        ends.append(Cell(drawn.drive(values, at, colour, f"drive of {name} over its window"), "drive over the window"))
    if face is not None and box is not None and winner is not None and found.scenes is not None:
        marks = drawn.winner_marks(winner[None], pixel, (number,))
        shown_on = drawn.face_with_window(scene, box, pixel, colour, marks, f"winner of {name} on the face")
        ends.append(Cell(shown_on, "winner"))
    together = f"the sum of {facts.pairs} pairs" if facts.pairs > 1 else "one pair"
    where = "about the anchor's winner" if number else "of a fixed window"
    words = f"{together}, searched in {facts.places} places {where}"
    return Channel(name, colour, words, face, tuple(filter(None, rows)), tuple(ends), tuple(kernels))


def _on_faces(found: _Found, arrays: Arrays, pixels: int, most: int) -> list[Markup]:
    """Winners and released landmarks on the faces, with the true ones."""
    if found.scenes is None or found.places is None:
        return []
    pixel, numbers = found.scenes.shape[1] / pixels, range(found.places.shape[1])
    true, released = arrays.get("landmarks_true"), arrays.get("landmarks_pred")
    return [
        pictures.landmark_picture(
            scene,
            f"winners and landmarks of face {i + 1}",
            true=None if true is None else true[i],
            found=None if released is None else released[i],
            marks=drawn.winner_marks(found.places[i], pixel, numbers),
        )
        for i, scene in enumerate(found.scenes[:most])
    ]


def _seen(found: _Found, arrays: Arrays, summary: TrainMaskSummary, most: int) -> list[dict[str, Any]]:
    """Rows of pictures: all that leaves the chip, and the landmarks that are made of it."""
    rows: list[dict[str, Any]] = []
    pixels = summary.camera.pixels
    if found.places is not None and summary.winners is not None:
        places = found.places[:most]
        cells = [drawn.released_places(one, pixels, f"places, face {i + 1}") for i, one in enumerate(places)]
        note = f"{len(summary.winners.channels)} of {pixels} × {pixels} places, {decimal(summary.winners.bits, 1)} bits"
        rows.append({"name": "leaves the chip", "role": "ours", "note": note, "cells": cells})
    heat = arrays.get("heatmaps")
    if heat is not None:
        cells = [drawn.heatmap(one, f"heatmap of landmarks, face {i + 1}") for i, one in enumerate(heat[:most])]
        rows.append({"name": "landmarks", "role": "ours", "note": "as heatmaps", "cells": cells})
    return rows


def _figures(result: AttackerResult, pooled: PooledResult | None) -> dict[str, str]:
    return {
        "rank1": percent(result.rank1),
        "interval": span(result.rank1_ci95),
        "auc": decimal(result.auc),
        "pooled": "–" if pooled is None else percent(pooled.rank1),
        "pooled_interval": "" if pooled is None else span(pooled.rank1_ci95),
    }


def _ablations(summary: TrainMaskSummary) -> list[dict[str, str]]:
    """Our camera, and the same with other optics, each at its own landmark error."""
    found = []
    for key in other_optics(summary):
        row, camera = summary.ablations[key], summary.baselines[key]
        error = row.error
        change = "–" if error is None or not known(error.value) else decimal(error.value)
        found.append({
            "name": shown_as(key),
            "note": f"lacks {row.lacks}",
            "error": decimal(camera.nme),
            "change": change if change.startswith(("−", "–")) else f"+{change}",
            "change_interval": "" if error is None else span(error.ci95, "decimal"),
            **_figures(camera.worst, camera.worst_pooled),
        })  # fmt: skip
    if not found:
        return []
    ours = {"name": "this camera", "note": "", "error": decimal(summary.nme), "change": "", "change_interval": ""}
    return [{**ours, **_figures(summary.ours.worst, summary.ours.worst_pooled)}, *found]


def _surfaces(summary: TrainMaskSummary) -> list[dict[str, str]]:
    return [
        {
            "name": surface.name,
            "attacker": shown_as(surface.attacker),
            "rank1": percent(surface.rank1),
            "interval": span(surface.rank1_ci95),
            "auc": decimal(surface.auc),
            "pooled": percent(surface.pooled_rank1),
            "pooled_interval": "",
        }
        for surface in summary.surfaces
    ]


def _hardware(summary: TrainMaskSummary, winners: WinnersFacts) -> list[tuple[str, str]]:
    camera, noise = summary.camera, summary.noise
    rows = [
        ("tiles, two for each pair", f"{winners.tiles}"),
        ("width of their array", pictures.length_text(winners.array_width_m)),
        ("aperture of a tile", pictures.length_text(camera.aperture_diameter_m)),
        ("tallest relief", f"{pictures.length_text(camera.mask_relief_m)} of {camera.mask_material.replace('-', ' ')}"),
        ("residual of the PSFs, mean", decimal(winners.residual_mean, 2)),
        ("residual of the worst tile", decimal(winners.residual_worst, 2)),
        ("light that falls into the window", f"{summary.throughput:.1%}"),
        ("pixels of a tile", f"{camera.pixels} × {camera.pixels}, pitch {pictures.length_text(camera.pixel_pitch_m)}"),
        ("electrons of a white pixel", f"{noise.electrons_at_white:,.0f}"),
        ("bits that leave for one picture", decimal(winners.bits, 1)),
    ]
    if known(winners.missed):
        rows.append(("validation faces that presence misses", f"{winners.missed:.1%}"))
    if known(winners.false_alarms):
        rows.append(("scrambled scenes taken for a face", f"{winners.false_alarms:.1%}"))
    return rows


def _efforts(summary: TrainMaskSummary) -> list[dict[str, str]]:
    """What more people to train with, and more exposures of a still face, bring an attacker."""
    rows = [
        {
            "name": f"trained on {point.trained_on} people",
            "attacker": shown_as(point.attacker),
            **_figures(point, point.pooled),
        }
        for point in summary.learning_curve
    ]
    rows += [
        {
            "name": "one exposure" if point.exposures == 1 else f"mean of {point.exposures} exposures",
            "attacker": shown_as(point.attacker),
            **_figures(point, point.pooled),
        }
        for point in summary.exposures
    ]
    return rows


def story(summary: TrainMaskSummary, arrays: Arrays, most: int) -> dict[str, Any] | None:
    """What the page shows of a camera of pairs; None for a run that designed another camera.

    Args:
        summary: What the run found.
        arrays: Those of the report; what is missing is left out.
        most: Most faces in a row.

    Raises:
        OptiShieldError: An array has another shape than the camera asks for.
    """
    winners = summary.winners
    if winners is None:
        return None
    found, pixels = _read(arrays, winners), summary.camera.pixels
    channels = [_channel(found, facts, number, pixels) for number, facts in enumerate(winners.channels)]
    ours = summary.ours.worst_pooled
    return {
        "channels": channels,
        "chains": [channel for channel in channels if channel.pairs],
        "kernels": [channel for channel in channels if channel.kernels],
        "faces": _on_faces(found, arrays, pixels, most),
        "truth": "landmarks_true" in arrays,
        "seen": _seen(found, arrays, summary, most),
        "ablations": _ablations(summary),
        "surfaces": _surfaces(summary),
        "efforts": _efforts(summary),
        "hardware": _hardware(summary, winners),
        "facts": [
            (channel.name, facts.pairs, facts.places, decimal(facts.kernel_error))
            for channel, facts in zip(channels, winners.channels, strict=True)
        ],
        "bits": decimal(winners.bits, 1),
        "pooled": None if ours is None else {
            "probes": ours.probes, "rank1": percent(ours.rank1), "interval": span(ours.rank1_ci95),
        },
    }  # fmt: skip
