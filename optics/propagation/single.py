"""Propagation by one scaled transform from the field to the output plane; common to Fresnel and Fraunhofer."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

import torch

from optics.propagation.fourier import Axis, AxisKernel, Method, axis_kernel, transform, transform_adjoint, use_matrix
from optics.propagation.free_space import FreeSpace
from optics.propagation.propagator import SLACK, Margin, Propagator, SamplingError


class _Kernel(NamedTuple):
    rows: AxisKernel
    columns: AxisKernel
    gain: torch.Tensor  # (L, 1, 1) or (Z, L, 1, 1)


class SingleTransform(Propagator):
    """One sum over the input samples for each output sample, separable in y and x."""

    # Whether the sum has the quadratic phase of the input plane, too.
    _curved: bool

    def __init__(self, space: FreeSpace, *, method: Method = "auto", dtype: torch.dtype = torch.float32) -> None:
        super().__init__(space, dtype=dtype)
        self._matrix = use_matrix(method, space.input_plane.shape, space.output_plane.shape)
        if 0.0 in self.distances_m:
            raise SamplingError("distance_m=0 has no single transform; use AngularSpectrum.")
        self.check()

    def _copy_margin(self, dim: int) -> Margin:
        """Margin of the rule that no copy of the sampled field reaches the output plane."""
        nearest, shortest = min(abs(z) for z in self.distances_m), min(self.space.medium_wavelengths_m)
        pitch, axis = self.space.input_plane.pitches_m[dim], "yx"[dim]
        window = self.space.reach_m(dim)
        if not self._curved:
            window = self.space.output_plane.span_m[dim] / 2 + abs(self.space.output_plane.centre_m[dim])
        free = shortest * nearest * (1 / pitch - self.space.nyquist_per_m(dim))
        if not window <= free * SLACK:
            raise SamplingError(
                f"at distance_m={nearest:g} the field sampled every pitch_m={pitch:g} along {axis} repeats within "
                f"{free:.3g} m, and the planes need {window:.3g} m; make pitch_m of input_plane finer, raise "
                "distance_m, or make the planes smaller (shorter distances: AngularSpectrum)."
            )
        return Margin(f"sideways distance along {axis} in metres", window, free)

    def _geometry(self) -> Hashable:
        return self._matrix

    def _build(self, wavelength_m: torch.Tensor, distance_m: torch.Tensor) -> _Kernel:
        scale = 1 / (wavelength_m * distance_m)
        b = scale / 2
        a = b if self._curved else torch.zeros_like(b)
        axes = []
        for dim in (0, 1):
            source, target = (
                Axis(plane.first_m[dim], plane.pitches_m[dim], plane.shape[dim])
                for plane in (self.space.input_plane, self.space.output_plane)
            )
            axes.append(axis_kernel(a, b, -scale, source, target, matrix=self._matrix, dtype=self.dtype))
        gain = torch.complex(torch.zeros_like(scale), -scale * self.space.input_plane.area_m2).to(self.complex_dtype)
        return _Kernel(axes[0], axes[1], gain)

    def _forward(self, field: torch.Tensor, kernel: Any) -> torch.Tensor:
        return transform(field, kernel.rows, kernel.columns) * kernel.gain

    def _adjoint(self, field: torch.Tensor, kernel: Any) -> torch.Tensor:
        result = transform_adjoint(field * kernel.gain.conj(), kernel.rows, kernel.columns)
        return result.sum(dim=-4, keepdim=True) if self.space.depths else result
