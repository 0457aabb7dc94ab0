"""Blur by a PSF that changes over the field: pixel by pixel, patch by patch, low rank; time and error in one run.

python benchmarks/varying.py --size 256 --samples 63 --field 7 --aberration 1 --json figures.json

The PSFs are those of a lens with coma, astigmatism and field curvature. "direct" interpolates the PSF of every pixel
and adds up what it spreads, for all pixels of a strip and one row of the PSF at a time. Times are medians of runs
taken in turns; errors are relative L2 against the direct sum in float64.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

if __name__ == "__main__":
    # The checkout is the product: it need not be installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from optics import FlatMask, OffAxis, PupilGrid, PupilToPsf, Seidel, ThinLens
from optics.imaging import FieldGrid, LowRankBlur, PatchBlur

WAVES_M = (620e-9, 540e-9, 460e-9)
PITCH_M = 1e-6
STRIP = 16


def lens_psf(field: FieldGrid, samples: int, aberration: float) -> torch.Tensor:
    """PSFs at f/4, a third of a wave of coma in the corner for ``aberration`` 1, float64 of shape (F, 3, K, K)."""
    grid, lens = PupilGrid(1e-3, 128), ThinLens(4e-3, 1.0)
    x_m, y_m = field.positions_m(PITCH_M)
    paths_m = (0.06e-6, 0.18e-6, 0.15e-6, 0.12e-6)
    seidel = Seidel(*(aberration * path_m for path_m in paths_m))
    off_axis = OffAxis(grid, lens, float((x_m**2 + y_m**2).sqrt().max()), seidel=seidel, dtype=torch.float64)
    to_psf = PupilToPsf(grid, lens, WAVES_M, PITCH_M, samples, dtype=torch.float64)
    return off_axis.psf(to_psf, FlatMask(grid, dtype=torch.float64), x_m, y_m)


def direct_blur(field: FieldGrid, psf: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """``out[q] = sum_p h_p[q - p] scene[p]`` as it stands, on strips of the frame that fit the cache."""
    height, width, half = field.height, field.width, psf.shape[-1] // 2
    out = images.new_zeros(*images.shape[:2], height + 2 * half, width + 2 * half)
    grid = (len(field.rows_px), len(field.columns_px))
    per_row = psf.permute(2, 1, 3, 0).unflatten(-1, grid)  # (K, C, K, rows, columns)
    rows, columns = field.row_weights.to(psf), field.column_weights.to(psf)
    for y in range(0, height, STRIP):
        scene = images[:, :, None, y : y + STRIP]
        for i, row in enumerate(per_row):
            spread = (rows[y : y + STRIP] @ row @ columns.mT) * scene  # (N, C, K, STRIP, W)
            for j in range(psf.shape[-1]):
                out[..., y + i : y + i + scene.shape[-2], j : j + width] += spread[:, :, j]
    return out[..., half : half + height, half : half + width]


def median_ms(calls: dict[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """Median time of each call in milliseconds, the calls taken in turns, after one round to warm up."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for run in range(runs + 1):
        for name, call in calls.items():
            start_s = time.perf_counter()
            call()
            if run:
                times[name].append((time.perf_counter() - start_s) * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def with_gradient(blur: PatchBlur | LowRankBlur, images: torch.Tensor) -> None:
    """Blur, and the gradient to the scene."""
    scene = images.clone().requires_grad_()
    blur(scene).sum().backward()


def measure(size: int, samples: int, points: int, aberration: float, tolerance: float, runs: int) -> dict[str, object]:
    """Run all methods on one scene."""
    field = FieldGrid.even(size, size, points, points)
    exact_psf = lens_psf(field, samples, aberration)
    scene = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    truth = direct_blur(field, exact_psf, scene)
    psf, images = exact_psf.float(), scene.float()
    patch, low = PatchBlur(field, psf), LowRankBlur(field, psf, tolerance=tolerance)
    calls: dict[str, Callable[[], torch.Tensor]] = {
        "direct": lambda: direct_blur(field, psf, images),
        "patch": lambda: patch(images),
        "low_rank": lambda: low(images),
    }
    error = {name: float((call().double() - truth).norm() / truth.norm()) for name, call in calls.items()}
    with torch.no_grad():
        ms = median_ms(dict(calls), runs)
        prepare = {"patch": lambda: PatchBlur(field, psf), "low_rank": lambda: LowRankBlur(field, psf, rank=low.rank)}
        prepare_ms = median_ms(dict(prepare), runs)
    gradient = {"patch": lambda: with_gradient(patch, images), "low_rank": lambda: with_gradient(low, images)}
    return {
        "frame": [3, size, size],
        "samples": samples,
        "field_points": field.count,
        "aberration": aberration,
        "threads": torch.get_num_threads(),
        "rank": low.rank,
        "tolerance": tolerance,
        "expected_relative_l2": low.error,
        "relative_l2": error,
        "ms": ms,
        "times_faster": {name: ms["direct"] / ms[name] for name in ("patch", "low_rank")},
        "prepare_ms": prepare_ms,
        "forward_backward_ms": median_ms(dict(gradient), runs),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", type=int, default=256, help="pixels along one side of the frame")
    parser.add_argument("--samples", type=int, default=63, help="cells along one side of a PSF")
    parser.add_argument("--field", type=int, default=7, help="field points along one side")
    parser.add_argument("--aberration", type=float, default=1.0, help="factor on the aberrations")
    parser.add_argument("--tolerance", type=float, default=5e-4, help="expected relative L2 of low rank")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    figures = measure(
        arguments.size,
        arguments.samples,
        arguments.field,
        arguments.aberration,
        arguments.tolerance,
        arguments.runs,
    )
    text = json.dumps(figures, indent=2) + "\n"
    sys.stdout.write(text)
    if arguments.json:
        arguments.json.write_text(text)


if __name__ == "__main__":
    main()
