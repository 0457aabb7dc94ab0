"""Export a mask: limits of the process, files for the workshop, and proof that each file keeps the PSF."""

# %% An eight-level mask on features of 8 micrometres, and the folder for its files: the one named, or a fresh one.
import sys
from pathlib import Path
from tempfile import mkdtemp

import torch

from optics import DiffractiveMask, OpticsError, PupilGrid, PupilToPsf, ThinLens
from optics.elements import MeasuredHeight
from optics.fabrication import (
    Gds,
    Png,
    ProcessLimits,
    Relief,
    Stl,
    Tiff,
    Zygo,
    check_limits,
    export_relief,
    import_relief,
    round_trip,
)
from optics.pictures import psf_figure, save_figure

folder = Path(sys.argv[1] if len(sys.argv) > 1 else mkdtemp(prefix="export-a-mask-"))
folder.mkdir(parents=True, exist_ok=True)
grid, lens, waves = PupilGrid(0.512e-3, 128), ThinLens(4e-3, 1.0), (620e-9, 540e-9, 460e-9)
controls = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
mask = DiffractiveMask(grid, 8, design_wavelength_m=540e-9, feature_m=8e-6, start=controls)
relief = Relief.from_mask(mask, waves)

# %% A process that is too coarse says where; one that fits lets the files be written.
coarse = ProcessLimits(min_feature_m=10e-6, max_levels=4)
for violation in check_limits(relief, coarse).violations:
    print(violation)
try:
    export_relief(relief, folder / "mask.gds", Gds(), coarse)
except OpticsError as refusal:
    print("refused:", str(refusal)[:70], "...")

fine = ProcessLimits(height_range_m=(0, 2e-6), max_levels=16, min_feature_m=8e-6, grid_m=0.5e-6)
for file_format in (Gds(layers="binary"), Tiff(), Png(), Zygo(), Stl()):
    export_relief(relief, folder / f"mask{file_format.suffix}", file_format, fine)
    trip = round_trip(relief, file_format, lens, 10e-6, 41, object_distance_m=0.7)
    print(f"{file_format}: the PSF changes by {trip.peak_change:.1e} of its peak")
    assert trip.peak_change <= 1e-3

# %% What the workshop gets is all that is needed to compute the picture.
back = import_relief(folder / "mask.gds")
to_psf = PupilToPsf(back.grid, lens, back.wavelengths_m, 10e-6, 41)
psf = to_psf(MeasuredHeight(back.grid, back.height_m, material=back.material))
save_figure(psf_figure(psf[1], 10e-6), folder / "psf.png")
print(f"files: {folder}")
