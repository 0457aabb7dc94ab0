"""Cost tables, curves, and tables I and II of the survey as measurements: None where nothing was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from evaluation.people import PARTS
from evaluation.records import (
    Attacked,
    CostRow,
    CurvePoints,
    Evidence,
    ImpersonationRow,
    Latency,
    ProtectedSet,
    Row,
    Scored,
    SurveyRow,
    Triple,
)
from faces.protection import Threat

#: Seconds of a frame at the rate that counts as real time.
FRAME_S = 1 / 25


def cost_rows(
    protected: Mapping[tuple[str, str, int], ProtectedSet],
    latencies: Mapping[str, Latency],
    attacked: Mapping[Triple, Attacked],
) -> tuple[CostRow, ...]:
    """What protection and attacks took, on the machine that did them; never part of the result table."""
    rows = []
    for name in sorted({key[0] for key in protected}):
        parts = [protected[name, part, 1] for part in PARTS if (name, part, 1) in protected]
        images = sum(part.images for part in parts)
        speed = latencies.get(name)
        rows.append(
            CostRow(
                kind="protect",
                protector=name,
                seconds_per_image=sum(part.seconds for part in parts) / images,
                fit_s=sum(part.fit_seconds for part in parts),
                peak_growth_bytes=max((part.peak_growth_bytes or 0 for part in parts), default=0) or None,
                latency_p95_s=None if speed is None else percentile(speed.single_s),
                images_per_s=None if speed is None else throughput(speed.batch_s),
            )
        )
    for triple in sorted(attacked):
        seconds = attacked[triple].seconds
        rows.append(
            CostRow(
                kind="attack",
                protector=triple.protector,
                attacker=triple.attacker,
                recogniser=triple.recogniser,
                fit_s=seconds.fit + seconds.calibrate,
                embed_s=seconds.embed,
            )
        )
    return tuple(rows)


def percentile(seconds: Sequence[float], share: float = 0.95) -> float:
    """The latency that this share of single photographs stays within."""
    return float(np.quantile(np.asarray(seconds), share, method="higher"))


def throughput(batches: Mapping[int, float]) -> float | None:
    """Images a second: the inverse slope of seconds over batch size; None if a larger batch took no longer."""
    if len(batches) < 2:
        return None
    slope = float(np.polyfit(np.asarray(list(batches), dtype=float), np.asarray(list(batches.values())), 1)[0])
    return 1 / slope if slope > 0 else None


def survey_tables(
    evidence: Evidence,
    rows: Sequence[Row],
    latencies: Mapping[str, Latency],
    impersonated: Sequence[ImpersonationRow],
) -> tuple[SurveyRow, ...]:
    """Tables I and II of the survey, a row for each protector; see :class:`evaluation.records.SurveyRow`."""
    scored = evidence.scored
    table = []
    for name, said in evidence.protectors.items():
        mine = [row for row in rows if row.protector == name and row.plain and row.combination == "CP"]
        evasion = min((row.ci95[0] for row in mine if row.ci95 is not None), default=None)
        speed = latencies.get(name)
        p95 = None if speed is None else percentile(speed.single_s)
        curves = [
            scored[triple].leakage
            for triple in sorted(scored)
            if triple.protector == name and scored[triple].level == "K0"
        ]
        table.append(
            SurveyRow(
                protector=name,
                source=said.source,
                threats=said.threats,
                auxiliary_data=said.auxiliary_data,
                stores=said.stores,
                open_set=evasion,
                latency_p95_s=p95,
                real_time=None if p95 is None else p95 <= FRAME_S,
                scalability_images_per_s=None if speed is None else throughput(speed.batch_s),
                hardware=Threat.sensor in said.threats,
                target_asr=min((row.asr for row in impersonated if row.protector == name), default=None),
                person_specific=evasion if said.person_specific else None,
                leakage=curves[0] if curves else None,
                api=None,
            )
        )
    return tuple(table)


def curves(scored: Mapping[Triple, Scored]) -> tuple[CurvePoints, ...]:
    """Leakage and template curves of every attack, in the order of ``curves.safetensors``."""
    return tuple(
        CurvePoints(*triple, scored[triple].frames, scored[triple].leakage, scored[triple].templates)
        for triple in sorted(scored)
    )
