"""Cost tables, curves, and tables I and II of the survey as measurements: None where nothing was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evaluation.people import PARTS

Triple = tuple[str, str, str]
#: Seconds of a frame at the rate that counts as real time.
FRAME_S = 1 / 25


def cost_rows(
    protected: Mapping[tuple[str, str, int], Mapping[str, Any]],
    latencies: Mapping[str, Mapping[str, Any]],
    attacked: Mapping[Triple, Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """What protection and attacks took, on the machine that did them; never part of the result table."""
    rows: list[dict[str, Any]] = []
    for name in sorted({key[0] for key in protected}):
        parts = [protected[name, part, 1] for part in PARTS if (name, part, 1) in protected]
        images = sum(part["images"] for part in parts)
        speed = latencies.get(name)
        rows.append({
            "kind": "protect", "protector": name, "attacker": None, "recogniser": None,
            "seconds_per_image": sum(part["seconds"] for part in parts) / images,
            "fit_s": sum(part["fit_seconds"] for part in parts),
            "peak_growth_bytes": max((part["peak_growth_bytes"] or 0 for part in parts), default=0) or None,
            "latency_p95_s": None if speed is None else percentile(speed["single_s"]),
            "images_per_s": None if speed is None else throughput(speed["batch_s"]),
        })  # fmt: skip
    for protector, attacker, recogniser in sorted(attacked):
        seconds = attacked[protector, attacker, recogniser]["seconds"]
        rows.append({
            "kind": "attack", "protector": protector, "attacker": attacker, "recogniser": recogniser,
            "fit_s": seconds["fit"] + seconds["calibrate"], "embed_s": seconds["embed"],
        })  # fmt: skip
    return rows


def percentile(seconds: Sequence[float], share: float = 0.95) -> float:
    """The latency that this share of single photographs stays within."""
    return float(np.quantile(np.asarray(seconds), share, method="higher"))


def throughput(batches: Mapping[str, float]) -> float | None:
    """Images a second: the inverse slope of seconds over batch size; None if a larger batch took no longer."""
    if len(batches) < 2:
        return None
    sizes = np.asarray([float(size) for size in batches])
    slope = float(np.polyfit(sizes, np.asarray(list(batches.values())), 1)[0])
    return 1 / slope if slope > 0 else None


def survey_tables(
    protectors: Mapping[str, Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    latencies: Mapping[str, Mapping[str, Any]],
    scored: Mapping[Triple, Mapping[str, Any]],
    impersonated: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Tables I and II of the survey, a row for each protector.

    ``open_set``: lower limit of PSR_net by the recogniser as published on people whom neither protector nor recogniser
    has seen (evasion; the least over recognisers). ``real_time``: whether 95 % of photographs take at most a frame at
    25 fps. ``scalability``: images a second. ``hardware``: whether it is optics. ``target_asr``: share of probes that
    pass for its target (the least over recognisers). ``person_specific``: PSR_net with one preparation for each person,
    on other photographs of them. ``leakage``: PSR_net over the share of clean photographs in a protected gallery.
    ``api``: commercial services.
    """
    table = []
    for name, said in protectors.items():
        plain = [
            row
            for row in rows
            if row["protector"] == name and row["level"] == "K0" and row["frames"] == 1 and row["ci95"] is not None
        ]
        evasion = [row["ci95"][0] for row in plain if row["combination"] == "CP"]
        speed = latencies.get(name)
        p95 = None if speed is None else percentile(speed["single_s"])
        curves = [
            scored[key]["leakage"]
            for key in sorted(scored)
            if key[0] == name and scored[key]["rows"][0]["level"] == "K0"
        ]
        table.append({
            "protector": name,
            "source": said["source"],
            "threats": said["threats"],
            "auxiliary_data": said["auxiliary_data"],
            "stores": said["stores"],
            "open_set": min(evasion, default=None),
            "latency_p95_s": p95,
            "real_time": None if p95 is None else p95 <= FRAME_S,
            "scalability_images_per_s": None if speed is None else throughput(speed["batch_s"]),
            "hardware": "sensor" in said["threats"],
            "target_asr": min((row["asr"] for row in impersonated if row["protector"] == name), default=None),
            "person_specific": min(evasion, default=None) if said["person_specific"] else None,
            "leakage": curves[0] if curves else None,
            "api": None,
        })  # fmt: skip
    return table


def curves(scored: Mapping[Triple, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Leakage and template curves of every attack, in the order of ``curves.safetensors``."""
    return [
        {
            "protector": key[0], "attacker": key[1], "recogniser": key[2],
            "frames": scored[key]["rows"][0]["frames"],
            "leakage": scored[key]["leakage"], "templates": scored[key]["templates"],
        }
        for key in sorted(scored)
    ]  # fmt: skip
