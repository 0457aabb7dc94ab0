"""Frames a second from a camera to a sealed session, beside plain writes of the same bytes in the same run.

The camera is a program that has every frame ready, so that the disk and this code are all that is measured. Plain
writes are as durable: "plain files" writes and syncs one file after another, and the folder every 16 frames;
"plain stream" writes one file and syncs it every 16 frames, which is the most that the disk gives.

python benchmarks/session.py --frames 400 --json figures.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    # The checkout is the product: it need not be installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from firmware_bridge.protocols import CameraCapabilities, CameraSettings, Frame, Identity, Levels, Origin
from firmware_bridge.session.acquisition import BATCH
from firmware_bridge.session.bench import BenchFile, Driver, Wanted, open_bench
from firmware_bridge.session.files import sync_folder
from firmware_bridge.session.folder import create
from firmware_bridge.session.frames import npy_header
from firmware_bridge.session.plan import Plan
from firmware_bridge.session.run import Session
from firmware_bridge.session.seal import seal, verify
from ground.gates import Gate

WIDTH, HEIGHT = 640, 480


class ReadyCamera:
    """A camera whose frames differ in one value, by which no two are equal."""

    def __init__(self, wanted: Wanted) -> None:
        self._identity = Identity("camera", "ready", wanted.serial, "", Origin.simulated)
        self._settings = CameraSettings(1e-3, bits=16)
        self._levels = noise()
        self._count = 0

    def identify(self) -> Identity:
        """Which device this is."""
        return self._identity

    def selftest(self) -> list[Gate]:
        """Nothing to test."""
        return []

    def safe(self) -> None:
        """It is."""

    def close(self) -> None:
        """Nothing to let go of."""

    def capabilities(self) -> CameraCapabilities:
        """What it can do."""
        return CameraCapabilities(WIDTH, HEIGHT, (16,), (1e-6, 1.0), (0.0, 0.0))

    def configure(self, settings: CameraSettings) -> CameraSettings:
        """Keeps everything."""
        self._settings = replace(settings)
        return self._settings

    def start(self) -> None:
        """Begin to count."""
        self._count = 0

    def stop(self) -> None:
        """Nothing to stop."""

    def grab(self, timeout_s: float) -> Frame:
        """The next frame at once."""
        self._count += 1
        levels = self._levels.copy()
        levels[0, 0] = self._count
        now_s = time.monotonic()
        return Frame(levels, 16, self._count, now_s, now_s, self._settings, None, self._identity)


def noise() -> Levels:
    """A frame that no disk can compress."""
    return np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH), dtype=np.uint16)


def ours(folder: Path, frames: int) -> dict[str, float]:
    """Frames a second until all are on the disk, and until the session is sealed; and seconds to verify it."""
    file = BenchFile.model_validate(
        {
            "name": "benchmark",
            "origin": "simulated",
            "camera": {"driver": "ready", "serial": "1"},
            "limits": {"exposure_s": 1.0, "light_share": 0.0, "disk_free_bytes": 0},
        }
    )
    plan = Plan.model_validate(
        {"name": "benchmark", "bits": 16, "steps": [{"name": "all", "exposure_s": 1e-3, "averages": frames}]}
    )
    drivers: dict[str, Driver] = {"ready": ReadyCamera}
    with open_bench(file, drivers) as bench:
        create(folder, plan, folder.parent, bench, {})
    with Session(folder, drivers, "benchmark") as session:
        session.arm()
        start_s = time.perf_counter()
        session.run()
        run_s = time.perf_counter() - start_s
    start_s = time.perf_counter()
    seal(folder)
    seal_s = time.perf_counter() - start_s
    if not all(check.passed for check in verify(folder)):
        raise RuntimeError("the session does not verify; the figures mean nothing.")
    return {"session_frames_per_s": frames / run_s, "sealed_frames_per_s": frames / (run_s + seal_s)}


def plain_files(folder: Path, frames: int) -> float:
    """Frames a second, one file after another."""
    folder.mkdir()
    levels = noise()
    data = npy_header(levels) + levels.tobytes()
    start_s = time.perf_counter()
    for number in range(frames):
        with (folder / f"{number:06d}.npy").open("xb", buffering=0) as stream:
            stream.write(data)
            os.fsync(stream.fileno())
        if number % BATCH == BATCH - 1:
            sync_folder(folder)
    sync_folder(folder)
    return frames / (time.perf_counter() - start_s)


def plain_stream(folder: Path, frames: int) -> float:
    """Frames a second, all into one file."""
    folder.mkdir()
    data = noise().tobytes()
    start_s = time.perf_counter()
    with (folder / "all").open("xb", buffering=0) as stream:
        for number in range(frames):
            stream.write(data)
            if number % BATCH == BATCH - 1:
                os.fsync(stream.fileno())
        os.fsync(stream.fileno())
    sync_folder(folder)
    return frames / (time.perf_counter() - start_s)


def main() -> None:
    """Measure, alternating, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="on the disk to measure; by default where temporary files are")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    runs: list[dict[str, float]] = []
    for _ in range(arguments.runs):
        with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
            folder = Path(name)
            runs.append(
                {
                    **ours(folder / "session", arguments.frames),
                    "plain_files_per_s": plain_files(folder / "files", arguments.frames),
                    "plain_stream_per_s": plain_stream(folder / "stream", arguments.frames),
                }
            )
    figures = {
        "frames": arguments.frames,
        "bytes_per_frame": WIDTH * HEIGHT * 2,
        **{key: round(statistics.median(run[key] for run in runs), 1) for key in runs[0]},
    }
    text = json.dumps(figures, indent=2) + "\n"
    sys.stdout.write(text)
    if arguments.json:
        arguments.json.write_text(text)


if __name__ == "__main__":
    main()
