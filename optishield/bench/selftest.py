"""Tests of devices, and the whole session on emulated ones that ``optishield bench selftest`` takes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from firmware_bridge.session.bench import Bench, open_bench, read_bench
from firmware_bridge.session.folder import create
from firmware_bridge.session.plan import read_plan
from firmware_bridge.session.run import Session, capture
from firmware_bridge.session.seal import verify
from ground.gates import Gate
from optishield.bench.drivers import bench_drivers

_SELFTEST_BENCH = """
name = "self-test"
origin = "emulated"
[camera]
driver = "emulated"
serial = "SELFTEST-CAMERA"
options = { seed = 5 }
[mask]
driver = "emulated"
serial = "SELFTEST"
[light]
part_of = "mask"
[stage]
part_of = "mask"
[limits]
exposure_s = 0.1
light_share = 0.9
disk_free_bytes = 10000000
"""

# The lamp of the virtual bench warms up while this runs; hence the wide tolerance.
_SELFTEST_PLAN = """
name = "self-test"
bits = 12
roi = [0, 0, 256, 224]
[sentinel]
every = 6
pattern = "checker"
exposure_s = 0.001
light_share = 0.5
position_m = 0.0
flux_tolerance = 0.2
[[steps]]
name = "ramp"
pattern = "ramp-x"
exposure_s = 0.001
light_share = 0.5
position_m = 0.0
averages = 4
darks = 2
[[steps]]
name = "defocused"
pattern = "checker"
exposure_s = 0.002
light_share = 0.4
position_m = 0.001
averages = 4
"""


def device_checks(opened: Bench) -> list[Gate]:
    """Self-tests of all devices."""
    return [check for device in opened.devices.values() for check in device.selftest()]


@dataclass(frozen=True)
class SelftestSession:
    """The session of a self-test.

    Attributes:
        origin: Where its frames come from.
        frames: Number of its frames.
        manifest: SHA-256 of its manifest.
        seconds: Time that devices and session took.
    """

    origin: str
    frames: int
    manifest: str
    seconds: float


def emulated_session(folder: Path) -> tuple[SelftestSession, list[Gate]]:
    """Device tests, a session, its seal and its verification.

    Args:
        folder: An empty folder, for the files and the session.

    Returns:
        What came out, and all checks.
    """
    (folder / "bench.toml").write_text(_SELFTEST_BENCH)
    (folder / "plan.toml").write_text(_SELFTEST_PLAN)
    file, plan, session = read_bench(folder / "bench.toml"), read_plan(folder / "plan.toml"), folder / "session"
    start_s = time.monotonic()
    with bench_drivers(file) as drivers:
        with open_bench(file, drivers) as opened:
            checks = device_checks(opened)
            create(session, plan, folder, opened, {})
        sealed = capture(Session(session, drivers, "selftest"))
    seconds = round(time.monotonic() - start_s, 1)
    result = SelftestSession(sealed.origin, len(sealed.manifest.frames), sealed.sha256, seconds)
    return result, [*checks, *verify(session)]
