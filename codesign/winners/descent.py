"""One descent with a one-cycle rate that can be stopped and gone on with, to the bit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from codesign.errors import CodesignError

BETAS = (0.9, 0.98)


#: Share of the steps in which the rate rises, and its share of the peak at the first step.
RISING, FIRST = 0.2, 0.04


def one_cycle(step: int, steps: int) -> float:
    """Share of the peak rate at a step: half a cosine up, then half a cosine down to nothing."""
    rising = max(1.0, RISING * steps)
    if step < rising:
        return FIRST + (1 - FIRST) * (1 - math.cos(math.pi * step / rising)) / 2
    return (1 + math.cos(math.pi * (step - rising) / max(1.0, steps - rising))) / 2


class Descent:
    """Adam on named parameters; all randomness comes from one generator.

    Args:
        groups: (parameters by name, peak rate) of each group; names are unique.
        loss: The loss of one batch, drawn with the generator that it is given.
        steps: Steps in all.
        seed: Seed of the generator.
    """

    def __init__(
        self,
        groups: Sequence[tuple[Mapping[str, nn.Parameter], float]],
        loss: Callable[[torch.Generator], Tensor],
        steps: int,
        seed: int,
    ) -> None:
        self.parameters = {name: value for group, _ in groups for name, value in group.items()}
        self.generator = torch.Generator().manual_seed(seed)
        self.loss, self.steps, self.done = loss, steps, 0
        self.rates = [rate for _, rate in groups]
        self.optimiser = torch.optim.Adam([{"params": list(group.values())} for group, _ in groups], betas=BETAS)

    def step(self) -> float:
        """One step; returns the loss.

        Raises:
            CodesignError: If the loss is no longer finite.
        """
        share = one_cycle(self.done, self.steps)
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * share
        loss = self.loss(self.generator)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise CodesignError("the loss of the kernels is no longer finite; lower winners.rate.")
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.done += 1
        return value

    def state(self) -> dict[str, Tensor]:
        """All that the next step depends on."""
        found = {"generator": self.generator.get_state(), "done": torch.tensor(self.done, device="cpu")}
        for name, value in self.parameters.items():
            found[f"parameter/{name}"] = value.detach().clone()
            for key, moment in self.optimiser.state[value].items():
                found[f"moment/{name}/{key}"] = moment.clone()
        return found

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from :meth:`state` of a descent that was made alike."""
        self.generator.set_state(state["generator"])
        for name, value in self.parameters.items():
            value.data.copy_(state[f"parameter/{name}"])
            prefix = f"moment/{name}/"
            moments = {key[len(prefix) :]: item for key, item in state.items() if key.startswith(prefix)}
            if moments:
                self.optimiser.state[value] = dict(moments)
        self.done = int(state["done"])
