"""Names of cameras and attackers in reports, as their tables say."""

from __future__ import annotations

from functools import cache

from codesign.attackers import ATTACKERS
from codesign.baselines import FAMILIES
from codesign.cameras import OPTICS_ABLATIONS


@cache
def _names() -> dict[str, str]:
    restored = {row.restores: row.shown_as.split(",")[0] for row in ATTACKERS if row.restores}
    return {**restored, **OPTICS_ABLATIONS, **{row.name: row.shown_as for row in (*ATTACKERS, *FAMILIES)}}


def shown_as(key: str) -> str:
    """The name under which a report shows a camera, an attacker or a reconstruction.

    A camera that stands in a run with several pixel counts has its count behind the name; a key without a row in the
    tables is shown as it is.
    """
    names = _names()
    head, _, count = key.rpartition("-")
    if key not in names and head in names and count.isdigit():
        return f"{names[head]}, {count} px"
    return names.get(key, key)
