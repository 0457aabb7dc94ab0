"""Tolerances: what errors of making and mounting do to the peak of the PSF."""

# %% The design: a camera with a weak random mask, and the errors to expect.
import torch

from optics import PupilGrid, PupilToPsf, ThinLens, Tolerance, ToleranceCamera, monte_carlo, random_mask, sensitivities
from optics.tolerance import Perturbation, SurfaceTolerance

grid, lens = PupilGrid(0.5e-3, 64), ThinLens(4e-3, 1.0)
mask = random_mask(grid, 8, 1.5e-6, torch.Generator().manual_seed(0), spread=0.3)
camera = ToleranceCamera(mask, PupilToPsf(grid, lens, [540e-9], 3e-6, samples=41))
tolerances: list[Perturbation] = [
    Tolerance("etch_scale", 0.03),
    Tolerance("decentre_x_m", 10e-6, law="uniform"),
    Tolerance("sensor_shift_m", 30e-6),
    SurfaceTolerance(grid, rms_m=15e-9, correlation_m=100e-6),
]


def peak(psf: torch.Tensor) -> torch.Tensor:
    """Share of the light in the brightest cell: any function of the PSF will do, an attacker's success too."""
    return psf.amax()


# %% By gradients: one derivative per tolerance, no trials.
found = sensitivities(camera, tolerances, peak, generator=torch.Generator().manual_seed(1))
print(f"peak {float(found.nominal):.4f}")
for name, deviation in found.deviation.items():
    print(f"    {name}: standard deviation {float(deviation):.5f}, mean shift {float(found.mean_shift[name]):+.5f}")

# %% By Monte Carlo: what the derivatives leave out.
trials = monte_carlo(camera, tolerances, peak, 100, torch.Generator().manual_seed(2), alone=False)
value, low, high = trials.percentile(10)
print(f"90 of 100 cameras have a peak above {float(value):.4f} (95 %: {float(low):.4f} to {float(high):.4f})")
print(f"mean {float(trials.samples.mean()):.4f}; by derivatives {float(found.mean):.4f}")
assert abs(float(trials.samples.mean()) - float(found.mean)) < 0.1 * float(found.nominal)
