"""The report of a run: one HTML page that needs nothing else, not even the network.

``write_report`` takes the summary and arrays. An array that is missing is left out with its section; figures are shown
with their intervals, and where intervals do not part, the page says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from codesign.records import EvaluateMaskSummary, GapResult, PooledResult, Summary, TrainMaskSummary
from ground.files import write_atomic
from optishield.errors import OptiShieldError
from optishield.report import figures, pictures
from optishield.report import pairs as pairs_story
from optishield.report.findings import (
    LANDMARKS_ALONE,
    Camera,
    best_baseline,
    cameras,
    clean_camera,
    exploratory,
    floor_camera,
    headline,
    our_camera,
    plain_words,
)
from optishield.report.findings import points as measured_points
from optishield.report.names import shown_as
from optishield.report.numbers import decimal, percent, quantity, span, words
from optishield.report.page import render_page

Arrays = Mapping[str, NDArray[Any]]

FACES_SHOWN = 6


def _rows(block: Mapping[str, object], ahead: str = "") -> list[tuple[str, str]]:
    """Entries of a nested block as (name, value with unit)."""
    rows: list[tuple[str, str]] = []
    for key, value in block.items():
        if isinstance(value, Mapping):
            rows += _rows(value, f"{ahead}{words(str(key))}: ")
        else:
            name, text = quantity(str(key), value)
            rows.append((ahead + name, text))
    return rows


def _frames(arrays: Arrays, prefix: str) -> dict[str, NDArray[Any]]:
    found = {key.removeprefix(prefix): np.asarray(value) for key, value in arrays.items() if key.startswith(prefix)}
    for key, value in found.items():
        if value.ndim not in (3, 4):
            raise OptiShieldError(f"{prefix}{key} has shape {value.shape}; it must be n x h x w or n x h x w x C.")
    place = {"clean": 0, "ours": 1}
    return dict(sorted(found.items(), key=lambda item: place.get(item[0], 2)))


def _strip_of(pixels: NDArray[Any], label: str) -> list[Markup]:
    return [pictures.photo(image, f"{label}, face {i + 1}") for i, image in enumerate(pixels[:FACES_SHOWN])]


_LABELS = {"ours": ("through this mask", "ours"), "clean": ("clean camera", "clean")}


def _camera_label(key: str) -> tuple[str, str]:
    return _LABELS.get(key) or (shown_as(key), "base")


def _seen(arrays: Arrays) -> list[dict[str, Any]]:
    frames = _frames(arrays, "frames_")
    rows: list[dict[str, Any]] = []
    if "scenes" in arrays and frames:
        scenes = pictures.display(arrays["scenes"])
        rows.append({"name": "scene", "role": "scene", "note": "before the lens", "cells": _strip_of(scenes, "scene")})
    for key, value in frames.items():
        name, role = _camera_label(key)
        size = f"{value.shape[2]} × {value.shape[1]} px"
        rows.append({"name": name, "role": role, "note": size, "cells": _strip_of(value, name)})
    return rows


def _landmark_cells(arrays: Arrays) -> list[Markup]:
    if "scenes" not in arrays or not ("landmarks_pred" in arrays or "heatmaps" in arrays):
        return []
    scenes = pictures.display(arrays["scenes"])[:FACES_SHOWN]
    true, found, heatmaps = (arrays.get(key) for key in ("landmarks_true", "landmarks_pred", "heatmaps"))
    return [
        pictures.landmark_picture(
            scene,
            f"landmarks of face {i + 1}",
            true=None if true is None else true[i],
            found=None if found is None else found[i],
            heatmap=None if heatmaps is None else heatmaps[i],
        )
        for i, scene in enumerate(scenes)
    ]


def _optics(pixel_m: float | None, arrays: Arrays) -> dict[str, Any]:
    part: dict[str, Any] = dict.fromkeys(("surface", "surface_bare", "profile", "relief", "psf", "window", "mtf"))
    height, diameter = arrays.get("mask_height_m"), arrays.get("pupil_diameter_m")
    across = float(np.asarray(diameter)) if diameter is not None else None
    if height is not None:
        part["surface"] = pictures.mask_surface(height, across)
        part["surface_bare"] = pictures.mask_surface(height, across, bare=True)
        inside = pictures.aperture(height)
        part["profile"] = figures.profile(height, inside, across)
        relief = float(height[inside].max() - height[inside].min())
        part["relief"] = pictures.length_text(relief)
    psf = arrays.get("psf")
    if psf is None:
        return part
    psf = np.asarray(psf, dtype=np.float64)
    if psf.ndim != 3 or psf.shape[1] != psf.shape[2]:
        raise OptiShieldError(f"psf has shape {psf.shape}; it must be wavelengths x K x K.")
    pitch = arrays.get("psf_pitch_m")
    pitch_m = float(np.asarray(pitch)) if pitch is not None else None
    waves = np.asarray(arrays["wavelengths_m"]).ravel() if "wavelengths_m" in arrays else None
    names = [f"{w * 1e9:.0f} nm" for w in waves] if waves is not None else [f"band {i + 1}" for i in range(len(psf))]
    half = pictures.window(psf)
    part["psf"] = [
        {
            "name": name,
            "colour": pictures.wavelength_colour(float(waves[i])) if waves is not None else "var(--muted)",
            "linear": pictures.psf_picture(psf[i], pitch_m, half, log=False, label=f"PSF at {name}, linear"),
            "log": pictures.psf_picture(psf[i], pitch_m, half, log=True, label=f"PSF at {name}, four decades"),
            "otf": pictures.otf_picture(psf[i], f"OTF magnitude at {name}"),
        }
        for i, name in enumerate(names)
    ]
    part["window"] = f"{2 * half + 1} of {psf.shape[1]} samples"
    if pitch_m:
        part["mtf"] = figures.mtf_chart(psf, pitch_m, names, 1 / (2 * pixel_m) / 1e3 if pixel_m else None)
    return part


def series(summary: Summary, found: Sequence[Camera]) -> list[figures.Series]:
    """Cameras on the privacy-utility plane: measured curves first, single points for cameras without a curve."""
    drawn = {camera.key: camera for camera in found}
    return [
        figures.Series(drawn[key].name, drawn[key].role, drawn[key].colour, tuple(points))
        for key, points in measured_points(summary, found).items()
    ]


def _pooled(found: PooledResult | None) -> dict[str, Any] | None:
    if found is None or found.rank1 is None:
        return None
    return {"probes": found.probes, "rank1": percent(found.rank1), "interval": span(found.rank1_ci95)}


def _cell(camera: Camera, name: str) -> dict[str, Any] | None:
    attacker = camera.attackers.get(name)
    if attacker is None or attacker.rank1 is None:
        return None
    low, high = attacker.rank1_ci95
    return {
        "rank1": percent(attacker.rank1),
        "at": 100 * attacker.rank1,
        "low": None if low is None else 100 * low,
        "high": None if high is None else 100 * high,
        "interval": span((low, high)),
        "auc": decimal(attacker.auc),
        "auc_interval": span(attacker.auc_ci95, "decimal"),
        "tar": percent(attacker.tar) if attacker.tar is not None else "",
        "pooled": _pooled(attacker.pooled),
        "worst": name == camera.worst and camera.role != "floor",
        "variable": camera.variable,
    }


def _table(found: Sequence[Camera]) -> dict[str, Any]:
    names = list(dict.fromkeys(name for camera in found for name in camera.attackers if camera.role != "floor"))
    if any(camera.role == "floor" for camera in found):
        names.append(LANDMARKS_ALONE)
    rows = [(shown_as(name), [_cell(camera, name) for camera in found]) for name in names]
    return {
        "cameras": found,
        "rows": rows,
        "accepts": any(cell and cell["tar"] for _, cells in rows for cell in cells),
        "pooled": any(cell and cell["pooled"] for _, cells in rows for cell in cells),
    }


def _strip(summary: Summary) -> Markup | None:
    """Forest plot of clean camera, best baseline, ours and floor."""
    compared = [clean_camera(summary), best_baseline(summary), our_camera(summary), floor_camera(summary)]
    rows = [
        (camera.name, camera.colour, *figures.point(camera.nme, camera.headline).rank1)
        for camera in compared
        if camera is not None and camera.headline.rank1 is not None
    ]
    return figures.strip(rows, summary.chance_rank1) if rows else None


def _history(summary: Summary, arrays: Arrays) -> Markup | None:
    history = arrays.get("history")
    if history is None:
        return None
    names = [words(name) for name in summary.history_names] if isinstance(summary, TrainMaskSummary) else []
    if history.ndim != 2 or history.shape[1] != len(names):
        raise OptiShieldError(f"history has shape {history.shape}, but history_names holds {len(names)} names.")
    return figures.training(history, names) if len(history) > 1 else None


def _faces(arrays: Arrays) -> dict[str, Any]:
    """What the sensor sees, and what attackers make of it."""
    reconstructions = [
        {
            "name": shown_as(key),
            "role": "base",
            "note": "",
            "cells": _strip_of(value, f"reconstruction, {shown_as(key)}"),
        }
        for key, value in _frames(arrays, "reconstructions_").items()
    ]
    seen = _seen(arrays)
    if reconstructions and seen and seen[0]["role"] == "scene":
        reconstructions.insert(0, {**seen[0], "note": "what they try to get back"})
    return {
        "seen": seen,
        "landmarks": _landmark_cells(arrays),
        "truth": "landmarks_true" in arrays,
        "reconstructions": reconstructions,
    }


def _provenance(summary: Summary) -> dict[str, list[tuple[str, str]]]:
    found = {"budget": [("", summary.budget)], "seed": [("", str(summary.seed))]}
    if isinstance(summary, TrainMaskSummary):
        found["config"] = _rows(summary.config)
        found["data"] = _rows(summary.to_json()["data"])
        found["timing"] = [
            (words(key.removesuffix("_s")), f"{seconds:.1f} s") for key, seconds in summary.timing.to_json().items()
        ]
    elif isinstance(summary, EvaluateMaskSummary):
        found["trained run"] = [("", summary.trained_run)]
        found["data"] = _rows(summary.data.to_json())
    return found


def _physics(summary: Summary) -> dict[str, list[tuple[str, str]]]:
    if not isinstance(summary, TrainMaskSummary):
        return {"physics": [], "noise": []}
    camera = _rows({**summary.camera.to_json(), "throughput": summary.throughput})
    return {"physics": camera, "noise": _rows(summary.noise.to_json())}


def _gap_parts(summary: TrainMaskSummary) -> list[tuple[str, GapResult]]:
    """The gaps closed by name: of single pictures, and with all pictures of a person pooled."""
    found = []
    for suffix, gaps in (("", summary.gap_closed), (", pictures pooled", summary.gap_closed_pooled)):
        if gaps is not None:
            found += [(f"rank-1{suffix}", gaps.rank1), (f"AUC{suffix}", gaps.auc)]
    return found


def _gaps(summary: Summary) -> list[dict[str, str]]:
    if not isinstance(summary, TrainMaskSummary) or summary.gap_closed is None:
        return []
    return [
        {
            "name": name,
            "value": decimal(part.value, 2) if part.value is not None else "undefined",
            "interval": span(part.ci95, "decimal"),
        }
        for name, part in _gap_parts(summary)
    ]


def _pairs(summary: Summary, arrays: Arrays) -> dict[str, Any] | None:
    """The story of a camera of pairs; None for other cameras."""
    return pairs_story.story(summary, arrays, FACES_SHOWN) if isinstance(summary, TrainMaskSummary) else None


def _among_frames(frames: list[dict[str, Any]], released: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Scene, what the camera of pairs releases, and the frames of the other cameras."""
    rest = [row for row in frames if row["role"] not in ("scene", "ours")]
    return [*(row for row in frames if row["role"] == "scene"), *released, *rest]


def _context(summary: Summary, arrays: Arrays) -> dict[str, Any]:
    found, ours = cameras(summary), our_camera(summary)
    pairs, faces = _pairs(summary, arrays), _faces(arrays)
    if pairs is not None:
        # Its own sections show what leaves it; a grid of lit places is no frame of a sensor.
        pairs["seen"] = _among_frames(faces["seen"], pairs["seen"])
        faces |= {"seen": [], "landmarks": []}
    trained = summary if isinstance(summary, TrainMaskSummary) else None
    lines = series(summary, found)
    return {
        "photos": summary.mode == "photos",
        "run": summary.run or "run",
        "people": summary.people,
        "few": exploratory(summary),
        "headline": headline(summary),
        "words": plain_words(summary),
        "ours": ours,
        "our_rank1": percent(ours.headline.rank1),
        "our_interval": span(ours.headline.rank1_ci95),
        "gaps": _gaps(summary),
        "nme": decimal(summary.nme) if summary.nme is not None else None,
        "strip": _strip(summary),
        "optics": _optics(trained.camera.pixel_pitch_m if trained else None, arrays),
        **faces,
        "pairs": pairs,
        "frontier": figures.frontier(lines, summary.chance_rank1) if lines else None,
        "series": lines,
        "table": _table(found),
        "training": _history(summary, arrays),
        **_physics(summary),
        "limits": list(summary.limits),
        "gates": [(name, gate.passed, gate.reason) for name, gate in trained.gates.items()] if trained else [],
        "provenance": _provenance(summary),
    }


def render(summary: Summary, arrays: Arrays) -> str:
    """The page as text; see :func:`write_report`."""
    context = _context(summary, arrays)
    sheets = ("report.css",) if context["pairs"] is None else ("report.css", "pairs.css")
    return render_page("report.html.j2", sheets, context)


def write_report(out: Path, summary: Summary, arrays: Arrays) -> Path:
    """Write the report of a run.

    Args:
        out: A run folder (the page becomes ``report.html`` in it) or the file to write.
        summary: What the run found.
        arrays: ``mask_height_m`` (P, P), ``pupil_diameter_m``, ``psf`` (L, K, K), ``psf_pitch_m``,
            ``wavelengths_m`` (L,), ``scenes`` (n, S, S, 3) linear light, ``frames_<camera>`` and
            ``reconstructions_<attacker>`` (n, h, w, C) display values 0..1, ``landmarks_true`` and
            ``landmarks_pred`` (n, K, 2) in scene pixels, ``heatmaps`` (n, h, w), ``history`` (steps, k). Of a camera
            of pairs also ``places`` (n, C, 2), ``pairs_channel`` (J,), ``pairs_height_m`` (2 J, P, P), ``pairs_psf``
            (2 J, L, K, K), ``filter_weights`` (L,), ``pairs_windows`` (C, 4), ``pairs_bias_<channel>`` over each
            window, ``pairs_drive`` (n, C, p, p), and of the first face ``pairs_light`` (2 J, p, p) and ``pairs_ratio``
            (J, p, p).

    Returns:
        The file written.

    Raises:
        OptiShieldError: an array whose shape is not the one above.
        OSError: the file cannot be written.
    """
    path = out / "report.html" if out.is_dir() else out
    write_atomic(path, render(summary, arrays).encode("utf-8"))
    return path
