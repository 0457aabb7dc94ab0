"""The complex field in the pupil, with phases reduced to turns.

The path error of mask, defocus and further elements in wavelengths, ``t = h (n - 1) / wavelength + W / wavelength``,
never contains the carrier (the thousands of turns from pupil to sensor, which every point shares), and whole turns are
removed before the sine and cosine; float32 then keeps about 1e-6 rad.
"""

from __future__ import annotations

from math import isfinite, pi
from typing import Any

import torch
from torch import nn

from optics.elements.base import PupilElement
from optics.errors import OpticsError
from optics.lens import ThinLens
from optics.pupil import PupilGrid

# Resampled or rounded transmissions may pass 1 by this much.
_TRANSMISSION_SLACK = 1e-6


class _Phasor(torch.autograd.Function):
    """``A exp(2 pi i t)`` with whole turns removed; fewer passes over memory than the library's own chain."""

    generate_vmap_rule = True

    @staticmethod
    def forward(turns: torch.Tensor, amplitude: torch.Tensor) -> torch.Tensor:
        phase = torch.sub(turns, turns.round()).mul_(2 * pi)
        return torch.complex(phase.cos().mul_(amplitude), phase.sin_().mul_(amplitude))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor, torch.Tensor], output: torch.Tensor) -> None:
        turns, amplitude = inputs
        # Turns only where the amplitude needs a gradient: there the field may be 0 and its phase lost.
        ctx.save_for_backward(output, turns if ctx.needs_input_grad[1] else None)
        ctx.amplitude_shape = amplitude.shape

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        field, turns = ctx.saved_tensors
        by_turns = by_amplitude = None
        if ctx.needs_input_grad[0]:
            by_turns = (grad * field.conj()).imag * (2 * pi)
        if ctx.needs_input_grad[1]:
            phase = (turns - turns.round()) * (2 * pi)
            by_amplitude = (grad.real * phase.cos() + grad.imag * phase.sin()).sum_to_size(ctx.amplitude_shape)
        return by_turns, by_amplitude


class PupilFunction(nn.Module):
    """Field ``A exp(2 pi i t)`` for each wavelength, from an element in the pupil and an object distance.

    The amplitude A is the share of each cell inside the aperture of the grid, times the transmission of the element.

    Args:
        grid: Pupil.
        lens: Ideal lens behind it.
        wavelengths_m: Vacuum wavelengths in metres.
        dtype: Real type of the result.
    """

    amplitude: torch.Tensor
    radius_squared_m2: torch.Tensor
    wavelength_column_m: torch.Tensor

    def __init__(self, grid: PupilGrid, lens: ThinLens, wavelengths_m: tuple[float, ...], dtype: torch.dtype) -> None:
        super().__init__()
        self.grid = grid
        self.lens = lens
        self.wavelengths_m = wavelengths_m
        self.register_buffer("amplitude", grid.amplitude.to(dtype), persistent=False)
        # Kept in float64: the defocus is computed once per call on one plane, and cancellation-free in any case.
        self.register_buffer("radius_squared_m2", grid.radius_squared_m2, persistent=False)
        column = torch.tensor(wavelengths_m, dtype=torch.float64).reshape(-1, 1, 1)
        self.register_buffer("wavelength_column_m", column, persistent=False)

    def forward(self, element: PupilElement, object_distance_m: float | torch.Tensor | None = None) -> torch.Tensor:
        """Return the complex field behind an element and the lens.

        Args:
            element: What lies in the pupil: a phase mask, any other element, or a stack of them.
            object_distance_m: Distance of the object in metres, a number or a tensor of shape (B,); None is in focus.

        Returns:
            Shape (L, P, P), or (B, L, P, P) if the distance has a batch.

        Raises:
            OpticsError: The element has another pupil or lies on another device, or as for :meth:`from_turns`.
        """
        turns = element_turns(element, self.grid, self.wavelengths_m, self.amplitude.dtype)
        return self.from_turns(turns, object_distance_m, transmission=element.transmission(self.wavelengths_m))

    def from_turns(
        self,
        turns: torch.Tensor,
        object_distance_m: float | torch.Tensor | None = None,
        *,
        transmission: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the complex field from plain tensors: what :meth:`forward` does with those of an element.

        Args:
            turns: Path error in wavelengths, positive where light arrives late; whole turns do no harm. Shape (P, P),
                (L, P, P) or (B, L, P, P).
            object_distance_m: Distance of the object in metres, a number or a tensor of shape (B,); None is in focus.
            transmission: Amplitude factor between 0 and 1 (its square is the transmitted power), same shapes as
                ``turns``; None lets all light through.

        Returns:
            Shape (L, P, P), or (B, L, P, P) if any argument has a batch.

        Raises:
            OpticsError: A shape, batch or device does not fit, a value is not finite (looked for on the CPU only, where
                it costs nothing), or a transmission leaves 0 to 1.
        """
        turns = self.with_defocus(self._per_wavelength("turns", turns), object_distance_m)
        if turns.ndim == 2:
            turns = turns.expand(len(self.wavelengths_m), -1, -1)
        amplitude = self.amplitude
        if transmission is not None:
            factor = self._per_wavelength("transmission", transmission)
            if factor.ndim == 4 and turns.ndim == 4 and factor.shape[0] != turns.shape[0]:
                raise OpticsError(
                    f"transmission has a batch of {factor.shape[0]} but the other arguments one of {turns.shape[0]}; "
                    "make them agree."
                )
            amplitude = amplitude * factor
            turns, amplitude = torch.broadcast_tensors(turns, amplitude)
        field: torch.Tensor = _Phasor.apply(turns, amplitude)
        return field

    def with_defocus(self, turns: torch.Tensor, object_distance_m: float | torch.Tensor | None) -> torch.Tensor:
        """Return a path error in wavelengths with that of the defocus added.

        Args:
            turns: Path error in wavelengths, shape (P, P), (L, P, P) or (B, L, P, P).
            object_distance_m: As for :meth:`forward`; None adds nothing.
        """
        if object_distance_m is None:
            return turns
        wavelengths = self.wavelength_column_m
        if isinstance(object_distance_m, torch.Tensor):
            object_distance_m = object_distance_m.to(wavelengths)
            if object_distance_m.ndim == 1 and turns.ndim == 4 and turns.shape[0] != object_distance_m.shape[0]:
                raise OpticsError(
                    f"turns has a batch of {turns.shape[0]} but object_distance_m {object_distance_m.shape[0]} values; "
                    "make them agree."
                )
        opd = self.lens.defocus_opd_m(self.radius_squared_m2, object_distance_m).unsqueeze(-3)
        return turns + (opd / wavelengths).to(turns.dtype)

    def _per_wavelength(self, name: str, value: torch.Tensor) -> torch.Tensor:
        """Check ``value`` of shape (P, P), (L, P, P) or (B, L, P, P) and return it in the type of the field."""
        samples, count = self.grid.samples, len(self.wavelengths_m)
        plane = (samples, samples)
        if (
            value.ndim not in (2, 3, 4)
            or tuple(value.shape[-2:]) != plane
            or (value.ndim > 2 and value.shape[-3] != count)
        ):
            raise OpticsError(
                f"{name} has shape {tuple(value.shape)}; this pupil needs {plane}, {(count, *plane)} or "
                f"(B, {count}, {samples}, {samples})."
            )
        self._check_values(name, value)
        return value.to(self.amplitude.dtype)

    def _check_values(self, name: str, value: torch.Tensor) -> None:
        if value.device != self.amplitude.device:
            raise OpticsError(
                f"{name} is on {value.device} but this pupil on {self.amplitude.device}; move one with .to(device)."
            )
        # Elsewhere the answer would make the host wait for the device.
        if value.device.type != "cpu":
            return
        value = value.detach()
        if name == "transmission":
            low, high = (float(v) for v in value.aminmax())
            if not (low >= 0 and high <= 1 + _TRANSMISSION_SLACK):
                raise OpticsError(f"{name} spans {low:g} to {high:g}; an amplitude factor lies between 0 and 1.")
        elif not isfinite(float(value.sum())):
            raise OpticsError(f"{name} has {int((~value.isfinite()).sum())} values that are not finite; change {name}.")


def element_turns(
    element: PupilElement, grid: PupilGrid, wavelengths_m: tuple[float, ...], dtype: torch.dtype
) -> torch.Tensor:
    """Return the path error of an element in wavelengths, shape (L, P, P).

    Raises:
        OpticsError: The element lies on another pupil.
    """
    if element.grid != grid:
        raise OpticsError(f"the element lies on {element.grid} but the pupil is {grid}; build both on one grid.")
    return element.turns(wavelengths_m, dtype)
