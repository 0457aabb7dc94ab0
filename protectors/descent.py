"""Steps of iterative methods: gradients of a batch, momentum, and the direction that a norm takes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from protectors.canvas import Canvas
from protectors.errors import ProtectorError
from protectors.largest import check_largest
from protectors.views import diverse, seen

#: Value to be raised, (N,), of photos (N, 3, S, S) and their points (N, 5, 2).
Objective = Callable[[Tensor, Tensor], Tensor]


class Climb:
    """Gradient of an objective with respect to a perturbation, over random views where asked for.

    Args:
        canvas: photos and budget.
        points5: (N, 5, 2).
        objective: value of each photo, to be raised.
        generator: Source of the views.
        eot: random views a step (:func:`protectors.views.seen`), each with its own backward pass; 0: the photo itself.
            What is done to the views goes around from step to step, so that a single one a step covers everything too.
        diversity: probability of diverse input (:func:`protectors.views.diverse`).
    """

    def __init__(
        self,
        canvas: Canvas,
        points5: Tensor,
        objective: Objective,
        generator: torch.Generator,
        *,
        eot: int = 0,
        diversity: float = 0.0,
    ) -> None:
        self._canvas, self._points5, self._objective = canvas, points5, objective
        self._generator, self._eot, self._diversity = generator, eot, diversity
        self._drawn = 0

    def gradient(self, delta: Tensor) -> Tensor:
        """Gradient (N, 3, R, R) at a perturbation, the mean over the views; grey on grey photos."""
        return self.evaluated(delta)[1]

    def evaluated(self, delta: Tensor) -> tuple[Tensor, Tensor]:
        """Value (N,) and gradient (N, 3, R, R) at a perturbation, means over the views; grey on grey photos."""
        value, gradient = delta.new_zeros(len(delta)), torch.zeros_like(delta)
        views = max(1, self._eot)
        # A grey photo varies along grey alone, so the gradient is averaged over its channels.
        for _ in range(views):
            with torch.enable_grad():
                moved = delta.detach().requires_grad_()
                images, points5 = self._canvas.add(moved), self._points5
                if self._eot:
                    images, points5 = seen(images, points5, self._drawn, self._generator)
                    self._drawn += 1
                if self._diversity:
                    images = diverse(images, self._diversity, self._generator)
                now = self._objective(images, points5)
                (found,) = torch.autograd.grad(now.sum(), moved)
            value += now.detach()
            gradient += found
        return value / views, self._canvas.greyed(gradient / views)


def unit_mean(gradient: Tensor) -> Tensor:
    """Gradient (N, ...) divided by the mean of its absolute values in each photo (MI-FGSM, Dong et al., CVPR 2018)."""
    size = gradient.abs().flatten(1).mean(1).clamp_min(torch.finfo(gradient.dtype).tiny)
    return gradient / size.reshape(-1, *[1] * (gradient.ndim - 1))


def unit_l2(gradient: Tensor) -> Tensor:
    """Gradient (N, ...) divided by its Euclidean norm in each photo."""
    size = torch.linalg.vector_norm(gradient.flatten(1), dim=1).clamp_min(torch.finfo(gradient.dtype).tiny)
    return gradient / size.reshape(-1, *[1] * (gradient.ndim - 1))


class Momentum:
    """Accumulated direction g <- decay g + gradient / mean |gradient| (MI-FGSM); a decay of 0 keeps nothing."""

    def __init__(self, decay: float) -> None:
        self._decay = decay
        self._sum: Tensor | None = None

    def __call__(self, gradient: Tensor) -> Tensor:
        """The direction after one more gradient (N, ...)."""
        scaled = unit_mean(gradient)
        self._sum = scaled if self._sum is None else self._decay * self._sum + scaled
        return self._sum


def check_iteration(name: str, *, steps: int, eot: int = 0, diversity: float = 0.0) -> None:
    """Refuse settings of iterative methods that are out of range.

    Raises:
        ProtectorError: naming the setting.
    """
    if steps < 1:
        raise ProtectorError(f"{name} takes steps >= 1, got {steps}.")
    check_largest(name, steps=steps)
    if not 0 <= eot <= 64:
        raise ProtectorError(f"{name} takes eot from 0 (none) to 64 views a step, got {eot}.")
    if not 0 <= diversity <= 1:
        raise ProtectorError(f"{name} takes diversity as a probability, 0..1, got {diversity:g}.")
