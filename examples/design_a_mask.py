"""Design a phase mask by gradient descent: a camera whose blur is alike from 0.12 m to infinity."""

# %% The camera: aperture 1 mm, focal length 4 mm, focused at 0.3 m, green light.
import sys
from pathlib import Path
from tempfile import mkdtemp

import torch

from optics import FlatMask, FreeformMask, PhaseMask, PupilGrid, PupilToPsf, ThinLens, encircled_energy
from optics.pictures import mask_figure, mtf_figure, save_figure, through_focus_figure

grid, lens, green, pitch = PupilGrid(1e-3, 96), ThinLens(4e-3, 0.3), 540e-9, 2e-6
to_psf = PupilToPsf(grid, lens, [green], pitch, samples=61)
depths = torch.tensor([0.12, 0.2, 0.3, 0.6, 100.0])

# %% The mask: a smooth relief of fused silica of at most 3 micrometres, from a random start.
start = torch.nn.Parameter(0.3 * torch.randn(12, 12, generator=torch.Generator().manual_seed(0)))
mask = FreeformMask(grid, 12, 3e-6, start=start)
radius = torch.tensor([4e-6])


def shares(element: PhaseMask) -> torch.Tensor:
    """Share of the light within 4 micrometres of the axis at each depth."""
    return encircled_energy(to_psf(element, depths), pitch, radius)[:, 0, 0]


# %% Raise the worst depth: ascend the soft minimum of the shares.
optimiser = torch.optim.Adam(mask.parameters(), lr=0.1)
for _ in range(80):
    optimiser.zero_grad()
    loss = torch.logsumexp(-40 * shares(mask), dim=0) / 40
    loss.backward()
    optimiser.step()
to_psf.check(mask)  # the sampling rules hold for the mask that came out

# %% What came of it.
with torch.no_grad():
    bare, designed = shares(FlatMask(grid)), shares(mask)
    psfs = to_psf(mask, depths)[:, 0]
for depth, before, after in zip(depths.tolist(), bare.tolist(), designed.tolist(), strict=True):
    print(f"{depth:6.2f} m: {before:.3f} of the light within 4 um without, {after:.3f} with the mask")
assert designed.min() > 2 * bare.min()

# %% Figures, in the folder that the command line names or in a fresh one.
folder = Path(sys.argv[1] if len(sys.argv) > 1 else mkdtemp(prefix="design-a-mask-"))
folder.mkdir(parents=True, exist_ok=True)
save_figure(mask_figure(mask.height_m().detach(), grid), folder / "mask.png")
save_figure(through_focus_figure(psfs, depths.tolist(), pitch), folder / "through_focus.png")
save_figure(mtf_figure(psfs[2], pitch, green, lens.f_number(grid.diameter_m)), folder / "mtf.png")
print(f"figures: {folder}")
