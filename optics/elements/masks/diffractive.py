"""A diffractive optical element (DOE): a relief of equal steps on square features.

N levels at 0, s, ... (N - 1) s metres. With a design wavelength L0 the step is ``s = L0 / (N (n - n_air))``, so one
more step would be a whole turn, and a blazed grating sends ``sinc^2(1 / N)`` of the light into its first order
(J. W. Goodman, Introduction to Fourier Optics, sec. 7.3).

An unbounded control v per feature gives the continuous level ``u = N sigmoid(v) - 1/2``; the level is u rounded, so all
levels are equally wide in sigmoid(v) and reached at finite v. Evaluation mode (``mask.eval()``) is always exact.
Training:

- ``"straight-through"``: the exact level, with the gradient of u (Y. Bengio et al., arXiv:1308.3432).
- ``"gumbel"``: the mean of the levels k under ``softmax(-(u - k)^2 / T + g)`` with Gumbel noise g (E. Jang et al.,
  arXiv:1611.01144, with distances for class scores). Towards temperature T = 0 it becomes the exact level.
"""

from __future__ import annotations

from math import isfinite
from typing import Literal

import torch
from torch import nn

from optics.checks import check_finite
from optics.elements.base import cells_across, samples_of, spread_cells, straight_through
from optics.elements.masks.base import PhaseMask
from optics.errors import OpticsError
from optics.materials import FUSED_SILICA, Material, index_differences
from optics.pupil import PupilGrid
from optics.tensors import hold


class DiffractiveMask(PhaseMask):
    """A quantised relief on square features.

    Args:
        grid: Pupil.
        levels: Number of heights N, at least 2.
        max_height_m: Height of the top level in metres; or give ``design_wavelength_m``.
        design_wavelength_m: Vacuum wavelength at which N steps are one turn; or give ``max_height_m``.
        feature_samples: Side of a feature in pupil samples; must divide the samples of the grid.
        feature_m: The same in metres instead.
        material: Material of the mask.
        quantisation: Gradient of the training mode, ``"straight-through"`` or ``"gumbel"``.
        temperature: Temperature T of ``"gumbel"``; an attribute, to be lowered during training.
        generator: Source of the Gumbel noise; needed with ``"gumbel"``.
        start: Controls v, Parameter (trained) or tensor (fixed) of shape (n, n), see :func:`controls_for_levels`; None
            starts trained at the middle height, v = 0.
        dtype: Type of controls and result.
    """

    controls: torch.Tensor

    def __init__(
        self,
        grid: PupilGrid,
        levels: int,
        *,
        max_height_m: float | None = None,
        design_wavelength_m: float | None = None,
        feature_samples: int | None = None,
        feature_m: float | None = None,
        material: Material = FUSED_SILICA,
        quantisation: Literal["straight-through", "gumbel"] = "straight-through",
        temperature: float = 0.5,
        generator: torch.Generator | None = None,
        start: torch.Tensor | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(grid, material, dtype)
        _check_levels(levels)
        if quantisation not in ("straight-through", "gumbel"):
            raise OpticsError(f"quantisation={quantisation!r} is unknown; choose 'straight-through' or 'gumbel'.")
        if quantisation == "gumbel" and generator is None:
            raise OpticsError("quantisation='gumbel' draws noise; pass generator.")
        _check_temperature(temperature)
        self.levels = levels
        self.step_m = self._step(max_height_m, design_wavelength_m)
        if (feature_samples is None) == (feature_m is None):
            raise OpticsError("the size of a feature must be given once; pass either feature_samples or feature_m.")
        if feature_m is not None:
            feature_samples = samples_of(grid, feature_m, "feature_m")
        self.feature_samples = int(feature_samples or 0)
        self.features = cells_across(grid, self.feature_samples, "a feature")
        self.quantisation = quantisation
        self.temperature = temperature
        self.generator = generator
        shape = (self.features, self.features)
        hold(self, "controls", nn.Parameter(torch.zeros(shape, dtype=dtype)) if start is None else start, shape, dtype)

    def _step(self, max_height_m: float | None, design_wavelength_m: float | None) -> float:
        if (max_height_m is None) == (design_wavelength_m is None):
            raise OpticsError("the height must be given once; pass either max_height_m or design_wavelength_m.")
        if design_wavelength_m is not None:
            difference = float(index_differences(self.material, [design_wavelength_m])[0])
            return design_wavelength_m / (self.levels * difference)
        if max_height_m is None or not (isfinite(max_height_m) and max_height_m > 0):
            raise OpticsError(f"max_height_m={max_height_m} must be a positive height in metres.")
        return max_height_m / (self.levels - 1)

    @property
    def max_height_m(self) -> float:
        """Height of the top level in metres."""
        return self.step_m * (self.levels - 1)

    @property
    def feature_m(self) -> float:
        """Side of a feature in metres."""
        return self.feature_samples * self.grid.pitch_m

    def level_map(self) -> torch.Tensor:
        """Return the level of each feature, int64 of shape (n, n), 0 to N - 1: what is made."""
        return self._continuous().detach().round().long().clamp(0, self.levels - 1)

    def height_m(self) -> torch.Tensor:
        """Return the height in metres, shape (P, P): exact levels, except in training with ``"gumbel"``."""
        continuous = self._continuous()
        if self.training and self.quantisation == "gumbel":
            level = self._relaxed(continuous)
        else:
            level = straight_through(self.level_map().to(continuous.dtype), continuous)
        return spread_cells(level * self.step_m, self.feature_samples)

    def _continuous(self) -> torch.Tensor:
        return self.levels * torch.sigmoid(self.controls) - 0.5

    def _relaxed(self, continuous: torch.Tensor) -> torch.Tensor:
        _check_temperature(self.temperature)
        if self.generator is None:
            raise OpticsError("quantisation='gumbel' draws noise; set generator.")
        number = torch.arange(self.levels, dtype=continuous.dtype, device=continuous.device)
        uniform = torch.rand(
            (*continuous.shape, self.levels),
            generator=self.generator,
            dtype=torch.float64,
            device=self.generator.device,
        )
        # float64 and the clamp keep both logarithms finite.
        noise = -(-uniform.clamp(min=1e-300).log()).clamp(min=1e-300).log()
        score = -(continuous[..., None] - number).square() / self.temperature + noise.to(continuous)
        return (score.softmax(-1) * number).sum(-1)


def controls_for_levels(level: torch.Tensor, levels: int) -> torch.Tensor:
    """Return controls v of :class:`DiffractiveMask` for level numbers, ``v = logit((level + 1/2) / N)``.

    Args:
        level: Level numbers, whole or fractional, above -1/2 and below N - 1/2, any shape.
        levels: Number of levels N.

    Returns:
        float64 tensor of the same shape.
    """
    _check_levels(levels)
    check_finite("level", level)
    low, high = float(level.min()), float(level.max())
    if not (low > -0.5 and high < levels - 0.5):
        raise OpticsError(
            f"level spans {low:g} to {high:g}; with levels={levels} it must stay within 0 to {levels - 1}."
        )
    return torch.logit((level.double() + 0.5) / levels)


def _check_levels(levels: int) -> None:
    if levels < 2:
        raise OpticsError(f"levels={levels} makes no relief; use at least 2.")


def _check_temperature(temperature: float) -> None:
    if not (isfinite(temperature) and temperature > 0):
        raise OpticsError(f"temperature={temperature} must be positive.")
