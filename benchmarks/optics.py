"""Camera optics beside plain torch and every other optics package that is installed: time and error in one table.

One process, one thread on one core, processor time, everybody in turns. Plain torch is the optimum that a specialist
would write for the job alone (kernels kept, quadrant symmetry, batched products, tight transforms). The error is the
relative L2 distance from float64 (of the gradient too; Zernike terms: largest distance); beyond the limit of the job a
result is wrong, and its time stands there but takes part in no ratio.

python benchmarks/optics.py --runs 9 --json figures.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from math import inf
from pathlib import Path
from typing import Any

os.environ.update({f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS", "NUMEXPR")})
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
if __name__ == "__main__":
    # The checkout is the product: it need not be installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from benchmarks import optics_jobs as jobs
from benchmarks.optics_peers import PEERS
from optics import PointPsf, PupilGrid, ThinLens, ZernikeMask, convolve
from optics.elements import ZernikeBasis, zernike_basis
from optics.elements.zernike import forget_bases
from optics.plane import Plane
from optics.propagation import AngularSpectrum, FreeSpace, kernel_cache

# Largest error of a right answer.
LIMITS = {
    "asm512": 1e-4,
    "asm512 cold": 1e-4,
    "asm1024": 1e-4,
    "psf": 1e-5,
    "psf f+b": 1e-5,
    "conv31": 1e-5,
    "conv31 f+b": 1e-5,
    "conv127": 1e-5,
    "conv127 f+b": 1e-5,
    "zernike cold": 1e-4,
}
TITLES = {
    "asm512": "angular spectrum, 512² padded to 1024², kernel kept",
    "asm512 cold": "the same, kernel built each time",
    "asm1024": "angular spectrum, 1024² padded to 2048², kernel kept",
    "psf": "350 Zernike terms on 256² to three PSFs of 127² points",
    "psf f+b": "the same with the gradient of the coefficients",
    "conv31": "blur of 16 x 3 x 128 x 128 by three PSFs of 31²",
    "conv31 f+b": "the same with the gradients of images and PSFs",
    "conv127": "blur of 16 x 3 x 128 x 128 by three PSFs of 127²",
    "conv127 f+b": "the same with the gradients of images and PSFs",
    "zernike cold": "350 Zernike terms on 256² from nothing",
}
OURS, PLAIN = "optishield", "plain torch"


@dataclass
class Row:
    """One contestant at one job."""

    job: str
    name: str
    note: str
    work: Callable[[], Any]
    error: float = inf
    gradient_error: float | None = None
    times_s: list[float] = field(default_factory=list)

    @property
    def right(self) -> bool:
        """Whether the errors are within the limit."""
        return self.error <= LIMITS[self.job] and (self.gradient_error or 0.0) <= LIMITS[self.job]

    @property
    def median_s(self) -> float:
        """Median time in seconds."""
        return statistics.median(self.times_s)


def make_inputs() -> jobs.Inputs:
    """Inputs with a fixed seed."""
    random = np.random.default_rng(0)
    fields = {}
    for side in (512, 1024):
        x = (np.arange(side) - (side - 1) / 2) / side
        noise = random.standard_normal((side, side)) + 1j * random.standard_normal((side, side))
        # Speckle of about 30 um in a soft beam: paraxial methods are right to 1e-5 here.
        fields[side] = gaussian_filter(noise, 8) * np.exp(-((x[:, None] ** 2 + x**2) / 0.04))
    j = np.arange(1, jobs.TERMS + 1)
    kernels = {side: random.random((3, side, side)) / side**2 for side in (31, 127)}
    return jobs.Inputs(
        fields=fields,
        aperture=PupilGrid(jobs.DIAMETER_M, jobs.PUPIL).amplitude.numpy(),
        basis=jobs.recurrence(*jobs.disc(jobs.PUPIL), torch.float64).numpy(),
        coefficients_m=random.standard_normal(jobs.TERMS) * 3e-7 / np.sqrt(j),
        weights=random.random((3, jobs.POINTS, jobs.POINTS)),
        images=random.random((16, 3, 128, 128)),
        kernels=kernels,
        cotangent=random.random((16, 3, 128, 128)),
    )


def ours(given: jobs.Inputs) -> Iterator[jobs.Entry]:
    """The jobs by this project's public calls, in float32."""
    for side in (512, 1024):
        plane = Plane(side, side, jobs.FIELD_PITCH_M)
        source = torch.tensor(given.fields[side]).to(torch.complex64)[None]
        operator = AngularSpectrum(FreeSpace(plane, plane, jobs.WAVE_M, jobs.DISTANCE_M))

        def kept(operator: AngularSpectrum = operator, source: torch.Tensor = source) -> torch.Tensor:
            return operator(source)[0]

        yield f"asm{side}", "kernel kept", kept
        if side == 512:

            def cold(plane: Plane = plane, source: torch.Tensor = source) -> torch.Tensor:
                kernel_cache.clear()
                return AngularSpectrum(FreeSpace(plane, plane, jobs.WAVE_M, jobs.DISTANCE_M))(source)[0]

            yield "asm512 cold", "", cold
    grid = PupilGrid(jobs.DIAMETER_M, jobs.PUPIL)
    mask = ZernikeMask(
        grid,
        jobs.TERMS,
        torch.nn.Parameter(torch.tensor(given.coefficients_m, dtype=torch.float32)),
    )
    lens = ThinLens(jobs.SENSOR_DISTANCE_M, inf)
    to_psf = PointPsf(grid, lens, jobs.WAVES_M, jobs.POINT_PITCH_M, jobs.POINTS)
    per_metre = (torch.tensor(jobs.INDEX).double() / torch.tensor(jobs.WAVES_M).double()).float()[:, None, None]
    weights = torch.tensor(given.weights).float()

    def psf(_: torch.Tensor) -> torch.Tensor:
        return to_psf.from_field(to_psf.pupil.from_turns(mask.height_m() * per_metre))

    yield from jobs.torch_psf(psf, mask.coefficients_m, weights, "")
    yield from jobs.torch_blur(convolve, given, torch.float32, "")

    def terms() -> torch.Tensor:
        forget_bases()
        return zernike_basis(jobs.TERMS, grid)

    def octant() -> ZernikeBasis:
        forget_bases()
        return ZernikeBasis(jobs.TERMS, grid)

    yield "zernike cold", "whole square", terms
    yield "zernike cold", "one octant, what a mask keeps", octant


def truths(given: jobs.Inputs) -> dict[str, tuple[torch.Tensor, torch.Tensor | None]]:
    """Results and gradients of plain torch in float64."""
    found: dict[str, tuple[torch.Tensor, torch.Tensor | None]] = {}
    for job, _, work in jobs.plain_torch(given, torch.float64):
        result = work()
        found[job] = result if isinstance(result, tuple) else (result, None)
    return found


def distance(job: str, result: Any, truth: torch.Tensor) -> float:
    """Error of a result; a common phase of a field is nobody's error."""
    if isinstance(result, ZernikeBasis):
        result = result(torch.eye(jobs.TERMS))
    value = result if isinstance(result, torch.Tensor) else torch.tensor(np.array(result))
    value, truth = value.detach().flatten().to(truth.dtype), truth.flatten()
    if job.startswith("zernike"):
        inside = (jobs.disc(jobs.PUPIL)[0] < 1).flatten()
        return float((value - truth).reshape(jobs.TERMS, -1)[:, inside].abs().max())
    if value.is_complex():
        overlap = torch.vdot(value, truth)
        value = value * (overlap / overlap.abs())
    return float((value - truth).norm() / truth.norm())


def judge(row: Row, truth: tuple[torch.Tensor, torch.Tensor | None]) -> None:
    """Run once, to prepare what it keeps, and compare."""
    result = row.work()
    value, gradient = truth
    if gradient is None:
        row.error = distance(row.job, result, value)
    else:
        row.error, row.gradient_error = distance(row.job, result[0], value), distance(row.job, result[1], gradient)


def time_in_turns(rows: list[Row], runs: int) -> None:
    """Time all rows of a job in turns; a wrong answer that takes over a second is timed once."""
    for run in range(runs):
        for row in rows:
            if run and not row.right and row.times_s[0] > 1:
                continue
            start_s = time.process_time()
            row.work()
            row.times_s.append(time.process_time() - start_s)


def collect(given: jobs.Inputs, only: str) -> tuple[list[Row], dict[str, str]]:
    """All contestants, and why the others are missing."""
    makers = {OURS: ours, PLAIN: jobs.plain_torch, **PEERS}
    rows, missing = [], {}
    for name, maker in makers.items():
        try:
            rows += [Row(job, name, note, work) for job, note, work in maker(given) if only in job]
        except ImportError as error:
            missing[name] = f"not installed, or not usable here ({error})"
    return rows, missing


def table(job: str, rows: list[Row]) -> str:
    """The rows of one job, the fastest first."""
    reference = next(r.median_s for r in rows if r.name == PLAIN)
    lines = [f"\n{TITLES[job]} (limit {LIMITS[job]:.0e})"]
    for row in sorted(rows, key=lambda r: (not r.right, r.median_s)):
        gradient = "" if row.gradient_error is None else f" gradient {row.gradient_error:.0e}"
        ratio = f"{row.median_s / reference:6.2f} x plain" if row.right else "  WRONG"
        label = f"{row.name} ({row.note})" if row.note else row.name
        lines.append(f"  {label:48s}{1e3 * row.median_s:9.1f} ms {ratio:16s} error {row.error:.0e}{gradient}")
    return "\n".join(lines)


def figures(rows: list[Row]) -> list[dict[str, Any]]:
    """The table as values, with the ratios."""
    result = []
    for row in rows:
        same = [r for r in rows if r.job == row.job and r.right]
        plain = min((r.median_s for r in same if r.name == PLAIN), default=None)
        best = min((r.median_s for r in same if r.name not in (OURS, PLAIN)), default=None)
        values = {k: v for k, v in asdict(row).items() if k != "work"}
        values |= {
            "median_s": row.median_s,
            "right": row.right,
            "limit": LIMITS[row.job],
        }
        values["ratio_to_plain"] = row.median_s / plain if plain and row.right else None
        values["ratio_to_best_peer"] = row.median_s / best if best and row.right else None
        result.append(values)
    return result


def main() -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument(
        "--only",
        default="",
        help="jobs whose name contains this: asm512, psf, conv31, zernike ...",
    )
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    given = make_inputs()
    truth = truths(given)
    rows, missing = collect(given, arguments.only)
    for name, reason in missing.items():
        print(f"{name}: {reason}")
    for job in LIMITS:
        of_job = [row for row in rows if row.job == job]
        if not of_job:
            continue
        for row in of_job:
            judge(row, truth[job])
        time_in_turns(of_job, arguments.runs)
        print(table(job, of_job), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"rows": figures(rows), "missing": missing}, indent=2) + "\n")


if __name__ == "__main__":
    main()
