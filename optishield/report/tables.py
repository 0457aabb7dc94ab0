"""Tables of the report of an evaluation: rows of texts from its summary."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from optishield.report.numbers import decimal, known, number, span
from optishield.report.standings import COMBINATIONS, THREATS, Standing, label, tone, verdict_word

Triple = tuple[str, str, str]
Summary = Mapping[str, Any]

NOT_MEASURED = "not measured"
#: Share of a gallery at which the survey's "leakage" is quoted; the whole curve is a chart.
LEAKED = 0.1

#: Columns of the survey's tables as the page names them, and how their values are written.
_SURVEY = {
    "source": ("source", "text"), "threats": ("claims to prevent", "list"),
    "auxiliary_data": ("auxiliary data", "text"), "stores": ("keeps of a person", "text"),
    "open_set": ("open set: lower limit of PSR net", "share"), "latency_p95_s": ("p95 latency", "seconds"),
    "real_time": ("real time, 25 fps", "yes"), "scalability_images_per_s": ("scalability, photos/s", "number"),
    "hardware": ("hardware", "yes"), "target_asr": ("hits its target (ASR)", "share"),
    "person_specific": ("one mask a person: PSR net", "share"),
    "leakage": (f"{LEAKED:.0%} clean leaked: PSR net", "leak"),
    "api": ("commercial services", "text"),
}  # fmt: skip


def seconds(value: Any) -> str:
    """``31 ms`` or ``2.4 s``, or a dash."""
    if not known(value):
        return "–"
    return f"{1e3 * number(value):.3g} ms" if number(value) < 1 else f"{number(value):.3g} s"


def rate(value: Any) -> str:
    """A rate with a digit more than a percentage near its ends, where one decides."""
    if not known(value):
        return "–"
    share = number(value)
    if 0 < share < 0.0005 or 0.9995 < share < 1:
        return "<0.1%" if share < 0.5 else ">99.9%"
    written = f"{share:.1%}" if 0 < share < 0.1 or 0.9 < share < 1 else f"{share:.0%}"
    return written.replace("-", "−")


def amount(value: Any) -> str:
    """Three digits, without powers of ten: ``37,900``, ``4.31``."""
    found = number(value)
    return f"{float(f'{found:.3g}'):,.0f}" if found >= 1000 else f"{found:.3g}"


def interval(pair: Sequence[Any] | None) -> str:
    """``24–39%``, or nothing."""
    return span(pair or ())


def bar(value: Any, low: float, high: float) -> dict[str, float | None]:
    """Places in percent of a bar's width; what lies outside 0..1 is drawn at its end."""
    at, low, high = (float(np.clip(100 * number(v), 0, 100)) for v in (value, low, high))
    return {"at": at if known(at) else None, "low": low if known(low) else None, "high": high if known(high) else None}


def triple(row: Mapping[str, Any]) -> Triple:
    """Protector, attacker and recogniser of a row."""
    return str(row["protector"]), str(row["attacker"]), str(row["recogniser"])


def _seen(unseen: bool | None) -> str:
    return {True: "unseen", False: "surrogate", None: ""}[unseen]


def own_claims(summary: Summary) -> list[dict[str, Any]]:
    """What each protector claims of itself, with whoever decides first and all others behind."""
    table = []
    for claim in summary.get("own_claims") or []:
        judges = [
            {
                "name": judge["judge"], "seen": _seen(judge["unseen"]), "value": rate(judge["value"]),
                "interval": interval(judge["ci95"]), "bar": bar(judge["value"], *(judge["ci95"] or (None, None))),
                "noise": rate(judge["noise"]), "noise_at": bar(judge["noise"], 0, 0)["at"],
                "raw": rate(judge["raw"]), "clean": rate(judge["clean"]), "verdict": judge["verdict"],
                "reason": readable(str(judge["reason"]), summary), "tone": tone(judge["verdict"]),
                "primary": judge["primary"],
            }
            for judge in claim["judges"]
        ]  # fmt: skip
        said, measure = THREATS[claim["threat"]]
        table.append({
            "name": label(claim["protector"]), "claim": said, "measure": measure, "threat": claim["threat"],
            "bar": rate(claim["bar"]) if known(claim["bar"]) else "", "verdict": claim["verdict"],
            "tone": tone(claim["verdict"]), "reason": readable(str(claim["reason"]), summary),
            "deciding": [judge for judge in judges if judge["primary"]],
            "others": [judge for judge in judges if not judge["primary"]],
        })  # fmt: skip
    return table


def orderings(summary: Summary) -> list[dict[str, str]]:
    """Pairs of the survey's methods in the order that it states, and what became of them."""
    relations = {"above": ">", "below": "<", "equal": "≈"}
    table = []
    for row in summary.get("orderings") or []:
        pair = f"{label(row['first'])} {relations[row['relation']]} {label(row['second'])}"
        within = f" within {row['margin']:.2g}" if row["relation"] == "equal" else ""
        table.append({
            "statement": f"{row['figure']}: {pair}{within}",
            "judge": row["judge"], "first": decimal(row["value_first"]), "second": decimal(row["value_second"]),
            "difference": decimal(row["difference"]),
            "interval": " to ".join(decimal(limit) for limit in row["ci95"] or ()),
            "verdict": row["verdict"], "tone": tone(row["verdict"]), "reason": readable(str(row["reason"]), summary),
        })  # fmt: skip
    return table


def cost(summary: Summary) -> list[dict[str, str]]:
    """What protection and attacks took; a column without a value is left out."""
    rows = summary.get("cost") or []
    table = []
    for row in (row for row in rows if row["kind"] == "protect"):
        against = [r for r in rows if r["kind"] == "attack" and r["protector"] == row["protector"]]
        spent = sum(number(r[key]) for r in against for key in ("fit_s", "embed_s"))
        table.append({
            "name": label(row["protector"]),
            "per photo": seconds(row.get("seconds_per_image")),
            "p95, one photo": seconds(row.get("latency_p95_s")),
            "photos/s": amount(row["images_per_s"]) if known(row.get("images_per_s")) else "–",
            "preparation": seconds(row.get("fit_s")),
            "growth of memory": f"{amount(row['peak_growth_bytes'] / 1e6)} MB" if row.get("peak_growth_bytes") else "–",
            "all attacks on it": seconds(spent) if against else "–",
        })  # fmt: skip
    return _filled(table)


def _filled(table: list[dict[str, str]]) -> list[dict[str, str]]:
    """The table without columns in which nobody has a value."""
    keep = [key for key in (table[0] if table else ()) if any(row[key] != "–" for row in table)]
    return [{key: row[key] for key in keep} for row in table]


def _with_sd(value: Any, sd: Any) -> str:
    return f"{decimal(value)} ± {decimal(sd)}" if known(value) and known(sd) else "–"


def quality(found: Sequence[Standing]) -> list[dict[str, str]]:
    """What protection does to the pictures, and to what they serve for; a column without a value is left out."""
    table = []
    for one in found:
        row = one.rows[0] if one.rows else {}
        table.append({
            "name": one.name,
            "SSIM": decimal(row.get("ssim")),
            "SSIM, 5th percentile": decimal(row.get("ssim_p5")),
            "PSNR": f"{row['psnr']:.1f} dB" if known(row.get("psnr")) else "–",
            "DSSIM": decimal(row.get("dssim")),
            "distance of features": decimal(row.get("deep_distance")),
            "no face found": rate(row.get("fta")),
            "no face found, clean": rate(row.get("fta_clean")),
            "same gender read": rate(row.get("gender_agreement")),
            "same gender read, balanced": rate(row.get("gender_balanced_agreement")),
            "gender read rightly": rate(row.get("gender_accuracy")),
            "gender read rightly, clean": rate(row.get("gender_accuracy_clean")),
            "same expression read": rate(row.get("expression_unchanged")),
            "expression, 1 − total variation": decimal(row.get("expression_agreement")),
            "landmark error (NME), clean": decimal(row.get("nme_clean")),
            "rise of landmark error": decimal(row.get("nme_increase"), 4),
            "kernel distance (KID)": _with_sd(row.get("kid"), row.get("kid_sd")),
            "photos read": amount(row["utility_photos"]) if known(row.get("utility_photos")) else "–",
            "photos in KID": amount(row["kid_photos"]) if known(row.get("kid_photos")) else "–",
        })  # fmt: skip
    shown = _filled(table)
    return shown if any(len(row) > 1 for row in shown) else []


def claims(found: Sequence[Standing]) -> dict[str, Any] | None:
    """Which bars each protector reaches, by claim: ``met``, ``not met`` or ``not measured``."""
    judged = [one for one in found if one.claims and not one.control]
    if not judged:
        return None
    names = list(judged[0].claims)
    words = {True: "met", False: "not met", None: NOT_MEASURED}
    return {
        "columns": names,
        "rows": [(one.name, one.today[0], [words[one.claims.get(name)] for name in names]) for one in judged],
    }


def readable(text: str, summary: Summary) -> str:
    """A text of the engine with protectors named as everywhere on the page; it knows no paths."""
    # The longest first, as one name may begin with another.
    for key in sorted(summary.get("protectors") or {}, key=len, reverse=True):
        text = label(key).join(re.split(re.escape(key) + r"(?!\.?\w)", text))
    return text


def gates(summary: Summary) -> dict[str, list[tuple[str, str]]]:
    """Gates as (name, reason) by what became of them: ``unmet``, ``untried`` or ``met``."""
    by_state: dict[str, list[tuple[str, str]]] = {"unmet": [], "untried": [], "met": []}
    for key, gate in (summary.get("gates") or {}).items():
        kind, *of = readable(key, summary).split("/")
        state = {True: "met", False: "unmet"}.get(gate.get("passed"), "untried")
        name = " · ".join([kind.replace("-", " "), *of])
        by_state[state].append((name, readable(str(gate.get("reason") or ""), summary)))
    return by_state


def certificates(summary: Summary) -> list[dict[str, Any]]:
    """Certificates, each with the strongest attack of no more frames than it allows."""
    table = []
    for key, found in (summary.get("certificates") or {}).items():
        if not found:
            continue
        tried = [
            row
            for row in summary.get("rows") or []
            if row["protector"] == key and row["combination"] == "CP" and row["frames"] <= found["frames"]
        ]
        best = max(tried, key=lambda row: (row["rank1"], row["attacker"]), default=None)
        terms = [f"M = {found['people']} people", f"T = {found['frames']} frame{'' if found['frames'] == 1 else 's'}"]
        if known(found.get("bits")):
            terms.insert(0, f"{amount(found['bits'])} bits")
        if known(found.get("delta")):
            terms.insert(0, f"δ = {amount(found['delta'])}")
        table.append({
            "name": label(key), "tier": found["tier"], "vacuous": bool(found["vacuous"]),
            "bound": rate(found["max_success"]), "at": 100 * number(found["max_success"]),
            "terms": ", ".join(terms),
            "noise": found.get("noise", ""), "assumptions": found.get("assumptions", ""),
            "best": None if best is None else {
                "rank1": rate(best["rank1"]), "interval": interval(best["rank1_ci95"]),
                "bar": bar(best["rank1"], *(number(v) for v in best["rank1_ci95"])),
                "attacker": best["attacker"], "recogniser": best["recogniser"],
            },
        })  # fmt: skip
    return table


def _survey_cell(value: Any, kind: str) -> str:
    if value is None:
        return NOT_MEASURED
    if kind == "yes":
        return "yes" if value else "no"
    if kind == "share":
        return rate(value)
    if kind == "seconds":
        return seconds(value)
    if kind == "number":
        return amount(value)
    if kind == "list":
        return ", ".join(str(item) for item in value) or "nothing"
    if kind == "leak":
        return next((rate(p["psr_net"]) for p in value if p["share"] == LEAKED and known(p["psr_net"])), NOT_MEASURED)
    return str(value)


def survey(summary: Summary) -> dict[str, Any] | None:
    """Tables I and II of the survey, a row for each protector; None if there are none."""
    table = summary.get("tables") or []
    if not table:
        return None
    columns = [key for key in table[0] if key != "protector"]
    return {
        "columns": [_SURVEY[key][0] for key in columns],
        "rows": [
            (label(row["protector"]), [_survey_cell(row[key], _SURVEY[key][1]) for key in columns]) for row in table
        ],
    }  # fmt: skip


def attacks(found: Sequence[Standing], summary: Summary) -> list[dict[str, Any]]:
    """Every attack on every protector, with all combinations."""
    cells: dict[Triple, dict[str, Mapping[str, Any]]] = {}
    for row in summary.get("rows") or []:
        cells.setdefault(triple(row), {})[row["combination"]] = row
    tables = []
    for one in found:
        rows = []
        for (key, attacker, recogniser), by in cells.items():
            if key != one.key:
                continue
            any_row = next(iter(by.values()))
            word, reason = verdict_word(str(by.get(one.combination, {}).get("verdict", "")))
            rows.append({
                "level": any_row["level"], "attacker": attacker, "recogniser": recogniser,
                "cells": [
                    (rate(by[name]["psr_net"]), interval(by[name]["ci95"])) if name in by else ("–", "")
                    for name in COMBINATIONS
                ],
                "rank1": rate(by.get("CP", {}).get("rank1")), "auc": decimal(by.get("CP", {}).get("auc"), 2),
                "verdict": word, "reason": readable(reason, summary), "tone": tone(word),
            })  # fmt: skip
        if rows:
            rows.sort(key=lambda row: (row["level"], row["attacker"], row["recogniser"]))
            tables.append({"name": one.name, "combination": COMBINATIONS[one.combination], "rows": rows})
    return tables


def comparisons(summary: Summary) -> list[dict[str, str]]:
    """Protectors against each other."""
    return [
        {
            "combination": COMBINATIONS[test["combination"]], "first": label(test["first"]),
            "second": label(test["second"]), "difference": decimal(test["difference"], 2),
            "interval": span(test["ci95"] or (), "decimal"), "p": decimal(test["p_holm"], 3),
        }
        for test in summary.get("comparisons") or []
    ]  # fmt: skip


def missing(summary: Summary) -> list[tuple[str, str]]:
    """What failed, and why."""
    rows = []
    for entry in summary.get("missing") or []:
        what = ", ".join(str(entry[key]) for key in ("stage", "what") if entry.get(key))
        rows.append((readable(what, summary), readable(str(entry["reason"]), summary)))
    return rows


def inapplicable(summary: Summary) -> list[tuple[str, str]]:
    """Attackers that could not be tried, with the protectors in one line for each reason."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for entry in summary.get("inapplicable") or []:
        grouped.setdefault((entry["attacker"], entry["reason"]), []).append(label(entry["protector"]))
    return [(f"{attacker} on {', '.join(names)}", reason) for (attacker, reason), names in grouped.items()]


def thresholds(summary: Summary) -> list[dict[str, str]]:
    """Frozen thresholds, with what they belong to."""
    manifest = summary.get("manifest") or {}
    weights = manifest.get("weights") or {}
    return [
        {
            "recogniser": name, "fmr": f"{entry['alpha']:.3g}", "value": decimal(entry["value"], 4),
            "n": f"{entry['n']:,}", "supported": "yes" if entry["supported"] else "no",
            "manifest": str(entry["manifest_hash"])[:16], "weights": str(weights.get(name, ""))[:16],
        }
        for name, entries in (manifest.get("thresholds") or {}).items()
        for entry in entries
    ]  # fmt: skip


def flat(block: Mapping[str, Any], ahead: str = "") -> list[tuple[str, str]]:
    """A nested block as rows of name and value."""
    rows: list[tuple[str, str]] = []
    for key, value in block.items():
        if isinstance(value, Mapping):
            rows += flat(value, f"{ahead}{key}: ")
        else:
            rows.append((f"{ahead}{key}", str(value)))
    return rows
