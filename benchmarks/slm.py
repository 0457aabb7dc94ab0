"""Patterns a second through the window of a spatial light modulator: staged, drawn, and read back from the screen.

python benchmarks/slm.py --width 1024 --height 768 --seconds 3 --json figures.json

Without --display on an Xvfb of its own, whose OpenGL is software: the figure is then that of the processor.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    # The checkout is the product: it need not be installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from firmware_bridge.devices.slm_window import SlmWindow
from firmware_bridge.protocols import Pattern


@contextmanager
def xvfb(width: int, height: int) -> Iterator[str]:
    """An X server without a display, by its name."""
    command = ["Xvfb", "-displayfd", "1", "-screen", "0", f"{width}x{height}x24", "-nolisten", "tcp"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            yield f":{server.stdout.readline().strip()}" if server.stdout else ""
        finally:
            server.terminate()


def measure(display: str, serial: str, seconds: float) -> dict[str, float | str]:
    """Show random patterns, each read back, for some time."""
    modulator = SlmWindow(serial, display=display, settle_s=0.0)
    try:
        can = modulator.capabilities()
        generator = np.random.default_rng(0)
        levels = generator.integers(0, 256, (8, can.height, can.width), dtype=np.uint8)
        patterns = [Pattern(one) for one in levels]
        times: list[float] = []
        start_s = time.perf_counter()
        while (now_s := time.perf_counter()) - start_s < seconds:
            modulator.stage(patterns[len(times) % len(patterns)])
            modulator.commit()
            times.append(time.perf_counter() - now_s)
        took_s = time.perf_counter() - start_s
    finally:
        modulator.close()
    return {
        "origin": modulator.identify().origin,
        "width": can.width,
        "height": can.height,
        "patterns": len(times),
        "patterns_per_s": len(times) / took_s,
        "pattern_median_s": statistics.median(times),
        "pattern_p99_s": sorted(times)[int(0.99 * (len(times) - 1))],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--display", help="X server, for example :0")
    parser.add_argument("--serial", default="screen", help="of the display, see the message of a wrong one")
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--height", type=int, default=768)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    if arguments.display:
        figures = measure(arguments.display, arguments.serial, arguments.seconds)
    else:
        with xvfb(arguments.width, arguments.height) as display:
            figures = measure(display, arguments.serial, arguments.seconds)
    text = json.dumps(figures, indent=2) + "\n"
    sys.stdout.write(text)
    if arguments.json:
        arguments.json.write_text(text)


if __name__ == "__main__":
    main()
