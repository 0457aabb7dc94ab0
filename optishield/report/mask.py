"""The report of a run: one HTML page that needs nothing else, not even the network.

``write_report`` takes plain figures (``summary``) and arrays. Whatever is missing is left out with its section; what
is there is shown with its interval, and where intervals do not part, the page says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from ground.files import write_atomic
from optishield.errors import OptiShieldError
from optishield.report import figures, pictures
from optishield.report.findings import (
    CLEAN,
    EXPLORATORY_BELOW,
    FLOOR,
    OURS,
    Camera,
    Summary,
    best_baseline,
    cameras,
    decimal,
    headline,
    known,
    limits,
    number,
    people,
    percent,
    plain_words,
    quantity,
    span,
    title,
)
from optishield.report.page import render_page

Arrays = Mapping[str, NDArray[Any]]

FACES_SHOWN = 6


def _rows(block: Mapping[str, Any], ahead: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in block.items():
        if isinstance(value, Mapping):
            rows += _rows(value, f"{ahead}{title(key)}: ")
        else:
            name, text = quantity(str(key), value)
            rows.append((ahead + name, text))
    return rows


def _frames(arrays: Arrays, prefix: str) -> dict[str, NDArray[Any]]:
    found = {key.removeprefix(prefix): np.asarray(value) for key, value in arrays.items() if key.startswith(prefix)}
    for key, value in found.items():
        if value.ndim not in (3, 4):
            raise OptiShieldError(f"{prefix}{key} has shape {value.shape}; it must be n x h x w or n x h x w x C.")
    place = {**dict.fromkeys(CLEAN, 0), **dict.fromkeys(OURS, 1)}
    return dict(sorted(found.items(), key=lambda item: place.get(item[0], 2)))


def _strip_of(pixels: NDArray[Any], label: str) -> list[Markup]:
    return [pictures.photo(image, f"{label}, face {i + 1}") for i, image in enumerate(pixels[:FACES_SHOWN])]


def _camera_label(key: str) -> tuple[str, str]:
    if key in OURS:
        return "through this mask", "ours"
    if key in CLEAN:
        return "clean camera", "clean"
    return title(key), "base"


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
    parts = [arrays.get(key) for key in ("landmarks_true", "landmarks_pred", "heatmaps")]
    return [
        pictures.landmark_picture(
            scene,
            f"landmarks of face {i + 1}",
            **{k: None if p is None else p[i] for k, p in zip(("true", "found", "heatmap"), parts, strict=True)},
        )
        for i, scene in enumerate(scenes)
    ]


def _optics(summary: Summary, arrays: Arrays) -> dict[str, Any]:
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
        camera = summary.get("camera") or {}
        pixel = next((number(camera[k]) for k in ("pixel_pitch_m", "pitch_m") if known(camera.get(k))), None)
        part["mtf"] = figures.mtf_chart(psf, pitch_m, names, 1 / (2 * pixel) / 1e3 if pixel else None)
    return part


def series(summary: Summary, found: Sequence[Camera]) -> list[figures.Series]:
    """Cameras on the privacy-utility plane: measured curves first, single points for cameras without a curve."""
    colours = {c.key: (c.name, c.role, c.colour) for c in found}
    alias = {**dict.fromkeys(OURS, "ours"), **dict.fromkeys(FLOOR, "oracle")}
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for point in summary.get("curves") or []:
        key = str(point["camera"])
        rows.setdefault(alias.get(key, key), []).append(point)
    free = iter(figures.BASES[len(summary.get("baselines") or {}) % len(figures.BASES) :] + figures.BASES * 20)
    roles = {"ours": ("this mask", "ours", figures.OURS), "oracle": ("landmarks alone", "floor", figures.FLOOR)}
    for camera in found:
        if camera.key not in rows and known(camera.nme):
            rows[camera.key] = [{**camera.headline, "nme": camera.nme}]
    return [
        figures.Series(*(colours.get(key) or roles.get(key) or (title(key), "base", next(free))), tuple(points))
        for key, points in rows.items()
    ]


def _table(found: Sequence[Camera]) -> dict[str, Any]:
    names = list(dict.fromkeys(name for camera in found for name in camera.attackers if camera.role != "floor"))
    if any(camera.role == "floor" for camera in found):
        names.append("landmarks")
    rows = []
    for name in names:
        cells: list[dict[str, Any] | None] = []
        for camera in found:
            attacker = camera.attackers.get(name)
            if attacker is None or not known(attacker.get("rank1")):
                cells.append(None)
                continue
            low, high = limits(attacker, "rank1")
            cells.append(
                {
                    "rank1": percent(attacker["rank1"]),
                    "at": 100 * number(attacker["rank1"]),
                    "low": 100 * low if known(low) else None,
                    "high": 100 * high if known(high) else None,
                    "interval": span((low, high)),
                    "auc": decimal(attacker.get("auc")),
                    "auc_interval": span(limits(attacker, "auc"), "decimal"),
                    "tar": percent(attacker["tar_at_fmr_0.01"]) if known(attacker.get("tar_at_fmr_0.01")) else "",
                    "worst": name == camera.worst and camera.role != "floor",
                    "variable": camera.variable,
                }
            )
        rows.append((title(name), cells))
    accepts = any(cell and cell["tar"] for _, cells in rows for cell in cells)
    return {"cameras": found, "rows": rows, "accepts": accepts}


def _context(summary: Summary, arrays: Arrays) -> dict[str, Any]:
    found = cameras(summary)
    chance = number(summary["chance_rank1"]) if known(summary.get("chance_rank1")) else None
    ours = next((c for c in found if c.role == "ours"), None)
    base = best_baseline(found, summary.get("best_baseline"))
    compared = [c for c in found if c.role != "base" or c is base]
    strip = [
        (f"best baseline: {c.name}" if c is base else c.name, c.colour, number(c.headline["rank1"]),
         *limits(c.headline, "rank1"))
        for c in compared if known(c.headline.get("rank1"))
    ]  # fmt: skip
    gaps = [
        {
            "name": {"rank1": "rank-1", "auc": "AUC"}.get(key, key),
            "value": decimal(part.get("value"), 2) if known(part.get("value")) else "undefined",
            "interval": span(part.get("ci95") or (), "decimal"),
        }
        for key, part in (summary.get("gap_closed") or {}).items()
        if isinstance(part, Mapping)
    ]
    lines = series(summary, found)
    gates = summary.get("gates") or {}
    physics = _rows({**(summary.get("camera") or {}), **{k: summary[k] for k in ("throughput",) if k in summary}})
    noise = _rows(summary.get("noise") or {})
    history = arrays.get("history")
    names = [title(str(name)) for name in summary.get("history_names") or []]
    if history is not None and (history.ndim != 2 or history.shape[1] != len(names)):
        raise OptiShieldError(f"history has shape {history.shape}, but history_names holds {len(names)} names.")
    reconstructions = [
        {"name": title(key), "role": "base", "note": "", "cells": _strip_of(value, f"reconstruction, {title(key)}")}
        for key, value in _frames(arrays, "reconstructions_").items()
    ]
    seen = _seen(arrays)
    if reconstructions and seen and seen[0]["role"] == "scene":
        reconstructions.insert(0, {**seen[0], "note": "what they try to get back"})
    provenance = {
        title(key): _rows(summary[key]) if isinstance(summary[key], Mapping) else [("", str(summary[key]))]
        for key in ("budget", "seed", "seeds", "config", "data", "versions", "hashes", "provenance", "timing")
        if summary.get(key) not in (None, {}, [])
    }
    if "timing" in provenance:
        provenance["timing"] = [(title(k), f"{number(v):.1f} s") for k, v in summary["timing"].items()]
    return {
        "photos": summary.get("mode") == "photos",
        "run": summary.get("run") or "run",
        "people": people(summary),
        "few": (people(summary) or EXPLORATORY_BELOW) < EXPLORATORY_BELOW,
        "headline": headline(summary),
        "words": plain_words(summary, found),
        "ours": ours,
        "our_rank1": percent(ours.headline.get("rank1")) if ours else None,
        "our_interval": span(limits(ours.headline, "rank1")) if ours else "",
        "gaps": gaps,
        "nme": decimal(summary.get("nme")) if known(summary.get("nme")) else None,
        "strip": figures.strip(strip, chance) if strip else None,
        "optics": _optics(summary, arrays),
        "seen": seen,
        "landmarks": _landmark_cells(arrays),
        "truth": "landmarks_true" in arrays,
        "reconstructions": reconstructions,
        "frontier": figures.frontier(lines, chance) if lines else None,
        "series": lines,
        "table": _table(found) if found else None,
        "training": figures.training(history, names) if history is not None and len(history) > 1 else None,
        "physics": physics,
        "noise": noise,
        "limits": list(summary.get("limits") or []),
        "gates": [(title(k), bool(gate.get("passed")), gate.get("reason") or "") for k, gate in gates.items()],
        "provenance": provenance,
    }  # fmt: skip


def render(summary: Summary, arrays: Arrays) -> str:
    """The page as text; see :func:`write_report`."""
    return render_page("report.html.j2", ("report.css",), _context(summary, arrays))


def write_report(out: Path, summary: Summary, arrays: Arrays) -> Path:
    """Write the report of a run.

    Args:
        out: a run folder (the page becomes ``report.html`` in it) or the file to write.
        summary: figures of the run. Read are ``run``, ``mode`` ("photos" for a folder of photos), ``identities``,
            ``nme``, ``chance_rank1``, ``attackers``, ``worst_attacker``, ``baselines``, ``clean``, ``oracle``,
            ``gap_closed``, ``best_baseline`` (the one the gap is measured from), ``curves``, ``gates``, ``verdict``,
            ``limits``, ``camera``, ``noise``, ``throughput``,
            ``history_names``, and for the provenance ``budget``, ``seed``, ``config``, ``data``, ``versions``,
            ``hashes``, ``timing``. Null and NaN mean "not defined".
        arrays: ``mask_height_m`` (P, P), ``pupil_diameter_m``, ``psf`` (L, K, K), ``psf_pitch_m``,
            ``wavelengths_m`` (L,), ``scenes`` (n, S, S, 3) linear light, ``frames_<camera>`` and
            ``reconstructions_<attacker>`` (n, h, w, C) display values 0..1, ``landmarks_true`` and
            ``landmarks_pred`` (n, K, 2) in scene pixels, ``heatmaps`` (n, h, w), ``history`` (steps, k).

    Returns:
        The file written.

    Raises:
        OptiShieldError: an array whose shape is not the one above.
        OSError: the file cannot be written.
    """
    path = out / "report.html" if out.is_dir() else out
    write_atomic(path, render(summary, arrays).encode("utf-8"))
    return path
