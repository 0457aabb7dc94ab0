"""Tolerances: what errors of manufacture and mounting do to the PSF, and to any number that is computed from it.

A *system* is any callable from named perturbations, ``{name: tensor of shape (B, ...)}``, to B perturbed results: the
PSF of shape (B, L, K, K) of a :class:`ToleranceCamera`, or whatever a caller's own function returns for B trials (a
tensor, or a sequence of B objects). A *metric* is any callable from one such result to a number or a tensor of numbers.
So a Strehl ratio, the accuracy of a decoder and the success of an attacker all get a tolerance in the same way.

:func:`monte_carlo` draws trials; :func:`sensitivities` differentiates.
"""

from __future__ import annotations

from optics.tolerance.camera import ThermalCoefficients, ToleranceCamera
from optics.tolerance.monte_carlo import MonteCarlo, monte_carlo
from optics.tolerance.parameters import Perturbation, SurfaceTolerance, Tolerance
from optics.tolerance.sensitivity import Sensitivities, sensitivities

__all__ = [
    "MonteCarlo",
    "Perturbation",
    "Sensitivities",
    "SurfaceTolerance",
    "ThermalCoefficients",
    "Tolerance",
    "ToleranceCamera",
    "monte_carlo",
    "sensitivities",
]
