"""A camera with a phase mask that is not quite as designed: from named perturbations to its PSF, with gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite

import torch
from torch import nn

from optics.elements.masks import PhaseMask
from optics.errors import OpticsError
from optics.fft import fft2
from optics.imaging.psf import PupilToPsf, cell_integrals
from optics.lens import ThinLens
from optics.tolerance.resample import CubicResampler

# The index of the mask is interpolated between the material's own values at these distances from the wavelength.
_STEP_M = 10e-9
_NODES = (-2.0, -1.0, 0.0, 1.0, 2.0)


@dataclass(frozen=True)
class ThermalCoefficients:
    """What a kelvin does.

    Attributes:
        index_per_k: Change of the index of the mask over that of its surround.
        expansion_per_k: Relative expansion of the mask, in height and width.
        housing_per_k: Relative expansion of the distance from pupil to sensor.
    """

    index_per_k: float
    expansion_per_k: float
    housing_per_k: float = 0.0

    def __post_init__(self) -> None:
        for name in ("index_per_k", "expansion_per_k", "housing_per_k"):
            if not isfinite(getattr(self, name)):
                raise OpticsError(f"{name}={getattr(self, name)} must be finite.")


class ToleranceCamera(nn.Module):
    """The PSF of a camera as a function of its errors.

    ==================  =====================================================================================
    name                meaning (a number per trial, unless it says map)
    ==================  =====================================================================================
    ``figure_m``        map added to the height (B, P, P); see :class:`SurfaceTolerance`
    ``roughness_m``     another such map
    ``etch_scale``      relative error of the depth: ``h (1 + e)``
    ``decentre_x_m``    the mask moves to the right against the stop, ``decentre_y_m`` downwards
    ``rotation_rad``    the mask turns about the axis from +x towards +y
    ``tilt_x_rad``      slope added to the relief (a wedge), rising towards +x; ``tilt_y_rad`` towards +y
    ``object_shift_m``  the object is farther away
    ``sensor_shift_m``  the sensor is farther away: defocus and scale
    ``temperature_k``   rise in temperature; needs ``thermal``
    ``wavelength_m``    shift of all wavelengths, up to 20 nm: phase, dispersion of the mask and scale
    ==================  =====================================================================================

    In order: depth and expansion, maps, move of the whole, slope. A moved mask is interpolated by cubic splines (exact
    in the cells, twice differentiable); outside its map it keeps the height of the nearest edge of the grid, so a mask
    that ends at the rim (:class:`optics.ZernikeMask`) brings its edge into the stop. A plate that tilts as a whole
    changes the path only to second order in the angle and is not modelled.

    Args:
        mask: Mask.
        to_psf: PSF of the perfect camera; its grid is that of the mask.
        object_distance_m: Distance of the object in metres; None means in focus.
        thermal: Coefficients for ``temperature_k``.

    Raises:
        OpticsError: The grids differ, or ``mask`` is no relief: a height and a material are what errors act on.
    """

    numbers = (
        "etch_scale",
        "decentre_x_m",
        "decentre_y_m",
        "rotation_rad",
        "tilt_x_rad",
        "tilt_y_rad",
        "object_shift_m",
        "sensor_shift_m",
        "temperature_k",
        "wavelength_m",
    )
    maps = ("figure_m", "roughness_m")
    coordinate_m: torch.Tensor

    def __init__(
        self,
        mask: PhaseMask,
        to_psf: PupilToPsf,
        object_distance_m: float | None = None,
        thermal: ThermalCoefficients | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(mask, PhaseMask):
            raise OpticsError(
                f"a {type(mask).__name__} has no height and material for errors to act on; give a PhaseMask, for a "
                "stack the one that is to be made."
            )
        if mask.grid != to_psf.grid:
            raise OpticsError(f"mask has {mask.grid} but to_psf {to_psf.grid}; build both on one grid.")
        self.mask = mask
        self.to_psf = to_psf
        self.object_distance_m = object_distance_m
        self.thermal = thermal
        device = to_psf.cells.device
        self._resample = CubicResampler(to_psf.grid).to(device)
        self.register_buffer("coordinate_m", to_psf.grid.coordinate_m.to(device), persistent=False)

    def forward(self, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the perturbed PSFs.

        Args:
            values: Perturbations by name, shape (B,), or (B, P, P) for maps; a name left out is zero. Tensors may carry
                gradients, and the mask may be trained through the result.

        Returns:
            Share of the transmitted light in each cell, shape (B, L, K, K); B is 1 without any values.

        Raises:
            OpticsError: A name is unknown, a shape does not fit, or a value is outside what the model covers.
        """
        trials, active = self._check(values), _active(values)
        field = self._field(active, trials)
        cells = self._cells(active)
        if field.device.type != "cpu":
            return _cell_shares(field, cells)
        # One trial at a time: the padded planes of a whole batch outgrow a processor's cache.
        own = (cells if cells.ndim == 3 else cells[trial] for trial in range(trials))
        return torch.stack([_cell_shares(plane, across) for plane, across in zip(field, own, strict=True)])

    def height_m(self, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the perturbed height of the mask in metres, shape (B, P, P); values as in :meth:`forward`."""
        trials, height = self._check(values), self._height(_active(values))
        return height.expand(trials, *height.shape[1:])

    def _check(self, values: Mapping[str, torch.Tensor]) -> int:
        side = self.to_psf.grid.samples
        trials = {len(value) for value in values.values() if value.ndim}
        for name, value in values.items():
            if name not in self.numbers + self.maps:
                raise OpticsError(
                    f"the camera has no parameter {name!r}; choose from {', '.join(self.maps + self.numbers)}."
                )
            shape = (side, side) if name in self.maps else ()
            if value.ndim == 0 or tuple(value.shape[1:]) != shape or len(trials) != 1:
                wanted = ", ".join(map(str, ("B", *shape)))
                raise OpticsError(
                    f"{name} has shape {tuple(value.shape)}; ({wanted}) is needed, with one number of trials B for all."
                )
            if not bool(torch.isfinite(value).all()):
                raise OpticsError(f"{name} holds values that are not finite.")
        if "temperature_k" in values and self.thermal is None:
            raise OpticsError("temperature_k was given to a camera without coefficients; pass thermal to it.")
        return trials.pop() if trials else 1

    def _number(self, active: Mapping[str, torch.Tensor], name: str) -> torch.Tensor | None:
        """A perturbation on the device of the camera in float64, shape (B,), or None if it is zero."""
        return active[name].to(self.to_psf.cells.device, torch.float64) if name in active else None

    def _height(self, active: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Perturbed height, shape (B, P, P) or (1, P, P)."""
        like = self.to_psf.cells
        height = self.mask.height_m().to(like)[None]
        etch, kelvin = self._number(active, "etch_scale"), self._number(active, "temperature_k")
        if etch is not None:
            height = height * (1 + etch).to(like)[:, None, None]
        growth = None
        if kelvin is not None and self.thermal is not None and self.thermal.expansion_per_k != 0:
            growth = kelvin * self.thermal.expansion_per_k
            height = height * (1 + growth).to(like)[:, None, None]
        for name in self.maps:
            if name in active:
                height = height + active[name].to(like)
        moves = *(self._number(active, n) for n in ("decentre_x_m", "decentre_y_m", "rotation_rad")), growth
        if any(move is not None for move in moves):
            height = self._resample(height, *moves)
        for name, axis in (("tilt_x_rad", self.coordinate_m), ("tilt_y_rad", self.coordinate_m[:, None])):
            slope = self._number(active, name)
            if slope is not None:
                height = height + (slope[:, None, None] * axis).to(like)
        return height

    def _sensor_shift_m(self, active: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
        shift, kelvin = self._number(active, "sensor_shift_m"), self._number(active, "temperature_k")
        if kelvin is not None and self.thermal is not None and self.thermal.housing_per_k != 0:
            growth = kelvin * (self.thermal.housing_per_k * self.to_psf.lens.sensor_distance_m)
            shift = growth if shift is None else shift + growth
        if shift is not None and not bool((shift > -self.to_psf.lens.sensor_distance_m).all()):
            raise OpticsError(
                f"sensor_shift_m={float(shift.detach().min()):g} moves the sensor through the lens, "
                f"{self.to_psf.lens.sensor_distance_m:g} m away; make it smaller."
            )
        return shift

    def _defocus_m(self, active: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
        """Path error of object and sensor, float64 of shape (B, P, P) or (P, P)."""
        lens, r2 = self.to_psf.lens, self.to_psf.pupil.radius_squared_m2
        path: torch.Tensor | None = None
        farther = self._number(active, "object_shift_m")
        if farther is not None:
            start = lens.focus_distance_m if self.object_distance_m is None else self.object_distance_m
            if not isfinite(start):
                raise OpticsError("object_shift_m was given for an object at infinity; set a finite object_distance_m.")
            path = lens.defocus_opd_m(r2, start + farther)
        elif self.object_distance_m is not None:
            path = lens.defocus_opd_m(r2, self.object_distance_m)
        shift = self._sensor_shift_m(active)
        if shift is not None:
            # The paths from pupil to sensor differ as those from an object do: the same formula, focused at d.
            distance = lens.sensor_distance_m
            extra = ThinLens(distance / 2, distance).defocus_opd_m(r2, distance + shift)
            path = extra if path is None else path + extra
        return path

    def _wavelengths_m(self, active: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Vacuum wavelengths, float64 of shape (B, L) or (1, L)."""
        base = self.coordinate_m.new_tensor(self.to_psf.wavelengths_m)[None]
        shift = self._number(active, "wavelength_m")
        return base if shift is None else base + shift[:, None]

    def _index_difference(self, active: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Index of the mask over its surround, float64 of shape (B, L) or (1, L)."""
        base, device = self.to_psf.wavelengths_m, self.to_psf.cells.device
        shift, kelvin = self._number(active, "wavelength_m"), self._number(active, "temperature_k")
        if shift is None:
            index = self.mask.index_differences(base).to(device)[None]
        else:
            reach = max(_NODES) * _STEP_M
            largest = float(shift.detach().abs().max())
            if largest > reach:
                raise OpticsError(
                    f"wavelength_m shifts by {largest:g} m; the model covers {reach:g} m. Make it "
                    "smaller, or build the camera at another wavelength."
                )
            at = [w + node * _STEP_M for w in base for node in _NODES]
            known = self.mask.index_differences(at).to(device).reshape(len(base), len(_NODES))
            nodes = self.coordinate_m.new_tensor(_NODES)
            series = torch.linalg.solve(torch.linalg.vander(nodes), known.T)
            powers = torch.stack([(shift / _STEP_M) ** k for k in range(len(_NODES))], dim=1)
            index = powers @ series
        if kelvin is not None and self.thermal is not None:
            index = index + (kelvin * self.thermal.index_per_k)[:, None]
        return index

    def _field(self, active: Mapping[str, torch.Tensor], trials: int) -> torch.Tensor:
        """Complex pupil field, shape (B, L, P, P)."""
        like, wavelengths = self.to_psf.cells, self._wavelengths_m(active)
        per_metre = (self._index_difference(active) / wavelengths).to(like)
        turns = self._height(active)[:, None] * per_metre[..., None, None]
        path = self._defocus_m(active)
        if path is not None:
            turns = turns + (path.unsqueeze(-3) / wavelengths[..., None, None]).to(like)
        phase = (turns - turns.detach().round()) * (2 * torch.pi)
        amplitude = self.to_psf.pupil.amplitude
        field = torch.complex(amplitude * phase.cos(), amplitude * phase.sin())
        return field.expand(trials, *field.shape[1:])

    def _cells(self, active: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Matrix W of :mod:`optics.imaging.psf` at the perturbed scale, (B, L, K, length), or the camera's own."""
        shift = self._sensor_shift_m(active)
        if shift is None and "wavelength_m" not in active:
            return self.to_psf.cells
        grid, lens, like = self.to_psf.grid, self.to_psf.lens, self.to_psf.cells
        distance = lens.sensor_distance_m if shift is None else (lens.sensor_distance_m + shift)[:, None]
        share = self.to_psf.pitch_m * grid.pitch_m / (self._wavelengths_m(active) * distance)
        cells = cell_integrals(share, self.to_psf.samples, grid.samples, like.shape[-1])
        power = grid.area_m2 / grid.pitch_m**2
        return (cells / power**0.5).to(like)


def _active(values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The perturbations that are not zero in all trials, or whose gradient is wanted; the others cost nothing."""
    return {k: v for k, v in values.items() if v.requires_grad or bool((v != 0).any())}


def _cell_shares(field: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
    """Share of the light in each cell from the pupil field of shape (..., L, P, P); see :mod:`optics.imaging.psf`."""
    length = cells.shape[-1]
    spectrum = fft2(field, (length, length))
    # Plain operations, for the curvature needs a second derivative.
    return (cells @ (spectrum.real.square() + spectrum.imag.square()) @ cells.mT).clamp(min=0.0)
