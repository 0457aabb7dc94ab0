"""A capture session on an emulated GigE Vision camera that loses packets and is unplugged in the middle.

The camera is Aravis' simulator fed with the photons of the virtual bench, the driver and the wire are real. Printed is
what became of every frame: how many are sealed, how often one had to be taken again, and what the journal says.

    python benchmarks/gige_session.py --frames 500 --lost 0.001
"""

from __future__ import annotations

import argparse
import collections
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # The checkout is the product: it need not be installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from firmware_bridge.devices.genicam import GenicamCamera
from firmware_bridge.session.bench import open_bench, read_bench
from firmware_bridge.session.folder import create
from firmware_bridge.session.journal import read_journal
from firmware_bridge.session.plan import read_plan
from firmware_bridge.session.run import Session, capture
from firmware_bridge.session.seal import verify
from sim.bench.genicam_feed import GenicamFeed

SERIAL = "SESSION-01"
BENCH = f"""
name = "gige"
origin = "emulated"
[camera]
driver = "aravis"
serial = "{SERIAL}"
[limits]
exposure_s = 0.1
light_share = 0.9
disk_free_bytes = 10000000
"""
PLAN = """
name = "many"
bits = 12
[[steps]]
name = "frames"
exposure_s = 0.001
averages = {frames}
"""


def taken(folder: Path, frames: int, lost: float, unplug_at: int | None) -> dict[str, Any]:
    """Capture, seal and verify in ``folder``.

    Args:
        folder: An empty folder.
        frames: Number of frames of the session.
        lost: Share of packets that are lost.
        unplug_at: Number of the frame before which the camera is unplugged and plugged in again, or None.
    """
    (folder / "bench.toml").write_text(BENCH)
    (folder / "plan.toml").write_text(PLAN.format(frames=frames))
    file, plan, session = read_bench(folder / "bench.toml"), read_plan(folder / "plan.toml"), folder / "session"
    start = time.monotonic()
    with GenicamFeed(SERIAL, lost=lost) as feed:
        pulled: list[int] = []

        class Unplugged(GenicamCamera):
            """A camera that is unplugged and plugged in again before one of its frames."""

            def begin_shot(self, index: int, key: str) -> None:
                """Pull the plug where it is time."""
                if index == unplug_at and not pulled:
                    pulled.append(index)
                    feed.unplug()
                    feed.plug()

        drivers = {"aravis": lambda wanted: Unplugged(wanted.serial, mono16_bits=12, gain_step_db=1.0)}
        with open_bench(file, drivers) as opened:
            create(session, plan, folder, opened, {})
        sealed = capture(Session(session, drivers, "benchmark", poll_s=0.2))
    seconds = time.monotonic() - start
    lines = collections.Counter(str(line.kind) for line in read_journal(session / "journal.jsonl")[0])
    records = sealed.manifest.frames
    return {
        "origin": sealed.origin,
        "planned": frames,
        "sealed": len(records),
        "different_contents": len({record.sha256 for record in records}),
        "journal": dict(lines),
        "unplugged_before": pulled,
        "checks_failed": [check.name for check in verify(session) if check.passed is False],
        "seconds": round(seconds, 1),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; see ``--help``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--frames", type=int, default=500)
    parser.add_argument("--lost", type=float, default=0.001, help="share of packets that are lost")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        found = taken(Path(name), chosen.frames, chosen.lost, chosen.frames // 2)
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
