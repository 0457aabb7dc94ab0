"""A result at a terminal: one sentence, one short table, the checks, and where the report lies."""

from __future__ import annotations

from pathlib import Path

from codesign.records import Summary, TrainMaskSummary
from optishield.console import print_pairs, print_table, show
from optishield.report.findings import cameras, headline, outcome
from optishield.report.names import shown_as
from optishield.report.numbers import decimal, percent, span

HEAD = ("camera", "landmark error", "rank-1", "95 %", "AUC", "strongest attacker", "pooled", "95 %")


def print_summary(summary: Summary, run: Path, report: Path) -> None:
    """Print what a run of ``train-mask`` or ``evaluate-mask`` found on stdout.

    Args:
        summary: The result.
        run: The run folder.
        report: The page.
    """
    said = headline(summary) or summary.verdict
    if said:
        show(f"{said}\n", lines=True)
    for line in outcome(summary):
        show(line)
    if outcome(summary):
        show("")
    rows = []
    for camera in cameras(summary):
        found, worst = camera.headline, "" if camera.role == "floor" else shown_as(camera.worst)
        limits = span(found.rank1_ci95)
        pooled = camera.pooled
        together = ("", "") if pooled is None else (percent(pooled.rank1), span(pooled.rank1_ci95))
        rows.append((
            camera.name, decimal(camera.nme), percent(found.rank1), limits, decimal(found.auc), worst, *together,
        ))  # fmt: skip
    print_table(HEAD, rows)
    counts = {camera.pooled.probes for camera in cameras(summary) if camera.pooled is not None}
    if counts:
        show(f"pooled: people named when {max(counts)} pictures of each are taken together", lines=True)
    show("")
    if isinstance(summary, TrainMaskSummary):
        for name, gate in {**summary.gates, **summary.findings}.items():
            show(f"{'met    ' if gate.passed else 'not met'}  {name}: {gate.reason}")
        show("")
    print_pairs([("run", run), ("report", report)])
