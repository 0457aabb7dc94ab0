"""Round trip of the link over a pseudo-terminal, and exactly-once effect over a bad one.

The firmware runs as a program, with its sanitizers.

python benchmarks/link.py --trips 3000 --commands 10000 --json figures.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import zlib
from pathlib import Path

if __name__ == "__main__":
    # The checkout is the product: it need not be installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from firmware_bridge.fw.emulator import Emulator, build
from firmware_bridge.wire.link import Link, Refused
from firmware_bridge.wire.serial_transport import SerialTransport
from sim.bench.faults import FaultProxy, FaultRates


def round_trips(folder: Path, built: Path, trips: int) -> dict[str, float]:
    """Seconds of a HEARTBEAT and its answer, and of a whole pattern of 4096 bytes until its CRC is read back."""
    with Emulator.host(built, folder / "trips.log") as device:
        link = Link(SerialTransport.emulated(device.path))
        link.open()
        times = []
        for _ in range(trips):
            start_s = time.perf_counter()
            link.call("HEARTBEAT")
            times.append(time.perf_counter() - start_s)
        link.call("ARM", operator="benchmark", light=False)
        data = bytes(range(256)) * 16
        patterns = []
        for _ in range(max(trips // 20, 1)):
            start_s = time.perf_counter()
            for offset in range(0, len(data), 256):
                link.call("CHUNK", offset=offset, data=data[offset : offset + 256])
            link.call("STAGE", length=len(data), pattern_id=zlib.crc32(data))
            link.call("COMMIT", pattern_id=zlib.crc32(data))
            patterns.append(time.perf_counter() - start_s)
        link.close()
    return {
        "round_trip_median_s": statistics.median(times),
        "round_trip_p99_s": sorted(times)[int(0.99 * (len(times) - 1))],
        "pattern_median_s": statistics.median(patterns),
    }


def effects(folder: Path, built: Path, commands: int, rate: float, seed: int) -> dict[str, float | bool]:
    """Commands over a wire that loses, damages, cuts and doubles frames, and whether each had exactly one effect."""
    rates = FaultRates(drop=rate, flip=rate, truncate=rate, duplicate=rate)
    with (
        Emulator.host(built, folder / "effects.log") as device,
        FaultProxy(device.path, folder / "port", rates, seed),
    ):
        link = Link(SerialTransport.emulated(folder / "port"), patience_s=60)
        link.open()
        wanted = [1 + index * 7919 % 65535 for index in range(commands)]
        start_s = time.perf_counter()
        armed = 0
        for level in wanted:
            while True:
                try:
                    link.call("LIGHT", level=level)
                    break
                except Refused:
                    link.call("ARM", operator="benchmark", light=True)
                    armed += 1
        took_s = time.perf_counter() - start_s
        link.close()
        found = [event["value"] for event in device.events() if event["event"] == "light" and event["value"]]
    return {
        "commands": commands,
        "effects": len(found),
        "same_in_order": found == wanted,
        "repeats": link.counters.repeats,
        "armed": armed,
        "took_s": took_s,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trips", type=int, default=3000)
    parser.add_argument("--commands", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=0.05, help="of each fault, in each direction")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        built = build("host", folder / "build")
        figures = {
            **round_trips(folder, built, arguments.trips),
            **effects(folder, built, arguments.commands, arguments.rate, arguments.seed),
        }
    text = json.dumps(figures, indent=2) + "\n"
    sys.stdout.write(text)
    if arguments.json:
        arguments.json.write_text(text)


if __name__ == "__main__":
    main()
