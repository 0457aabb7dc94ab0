"""Compare propagators: one aperture, several distances, and which methods are valid at each."""

# %% A round aperture of 0.5 mm on 256 samples, red light.
import cmath

import torch

from optics import OpticsError, PupilGrid
from optics.plane import Plane
from optics.propagation import (
    AngularSpectrum,
    BandLimitedAngularSpectrum,
    Fraunhofer,
    FreeSpace,
    FresnelTransfer,
    FresnelTransform,
    choose_propagator,
)

grid, red = PupilGrid(0.5e-3, 256), 633e-9
pitch = grid.pitch_m
near = Plane(256, 256, pitch)
field = grid.amplitude.to(torch.complex64)[None]
methods = (AngularSpectrum, BandLimitedAngularSpectrum, FresnelTransfer, FresnelTransform, Fraunhofer)

# %% The window at the far side grows with the spread of the light.
for distance in (1e-3, 10e-3, 0.1, 1.0, 10.0):
    width = max(256 * pitch, 4 * red * distance / grid.diameter_m)
    far = Plane(257, 257, width / 257)
    chosen = choose_propagator(FreeSpace(near, far, red, distance))
    reference = chosen(field).abs()
    print(f"{distance:g} m, window {width * 1e3:.2f} mm: {type(chosen).__name__}")
    for method in methods:
        try:
            other = method(FreeSpace(near, far, red, distance))(field).abs()
        except OpticsError as refusal:
            print(f"    {method.__name__}: refused: {str(refusal)[:90]} ...")
            continue
        change = float((other - reference).norm() / reference.norm())
        print(f"    {method.__name__}: {change:.1e} from the chosen one")

# %% On the axis the exact field behind a round aperture is known: 1 - z / s exp(i k (s - z)), s the way from the rim.
distance = 50e-3
rim = (distance**2 + (grid.diameter_m / 2) ** 2) ** 0.5
exact = abs(1 - distance / rim * cmath.exp(2j * cmath.pi / red * (rim - distance)))
centre = float(choose_propagator(FreeSpace(near, Plane(1, 1, pitch), red, distance))(field).abs())
print(f"on the axis at 50 mm: |U| = {centre:.4f}, closed form {exact:.4f}")
assert abs(centre - exact) < 1e-3
