"""The shared training loop of fresh classifiers against the same steps spelled out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from evaluation import EvaluationError
from evaluation.training import fit_classifier, fresh_classifier, people_of
from faces.recognisers import CosineHead, SmallRecogniser

PEOPLE, SIZE, STEPS, BATCH, SEED = 6, 16, 5, 8, 3
IMAGES = torch.rand(24, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(PEOPLE).repeat_interleave(4)


def spelled_out() -> tuple[SmallRecogniser, CosineHead]:
    """AdamW, one cycle of the rate, and a margin that grows to .2 over the first 30 % of the steps."""
    state = torch.random.get_rng_state()
    torch.manual_seed(SEED)
    network = SmallRecogniser(3, SIZE)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    head = CosineHead(network.embedding_dim, PEOPLE, margin=0.0, scale=20.0)
    torch.random.set_rng_state(state)
    generator = torch.Generator().manual_seed(SEED)
    weights = [*network.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(weights, lr=3e-3, weight_decay=5e-2)
    # A rise of .2 * 5 steps would be one step, by which the schedule cannot divide.
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=STEPS, pct_start=1.5 / STEPS)
    network.train()
    for step in range(STEPS):
        head.margin = 0.2 * min(1.0, step / (0.3 * STEPS))
        pick = torch.randint(len(IMAGES), (BATCH,), generator=generator)
        shown = IMAGES[pick] + 0.1 * torch.randn(BATCH, 3, SIZE, SIZE, generator=generator)
        optimiser.zero_grad()
        head.loss(network(shown), LABELS[pick]).backward()
        optimiser.step()
        schedule.step()
    return network, head


def crops(pick: Tensor, generator: torch.Generator) -> Tensor:
    return IMAGES[pick] + 0.1 * torch.randn(len(pick), 3, SIZE, SIZE, generator=generator)


def test_the_loop_takes_the_very_steps_that_are_spelled_out() -> None:
    before = torch.random.get_rng_state()
    network, head = fresh_classifier(3, SIZE, PEOPLE, seed=SEED)
    generator = torch.Generator().manual_seed(SEED)
    fit_classifier(network, head, crops, LABELS, steps=STEPS, batch=BATCH, generator=generator)
    assert torch.equal(before, torch.random.get_rng_state()), "the global generator is left alone"
    assert not network.training
    expected: tuple[nn.Module, ...] = spelled_out()
    for made, wanted in zip((network, head), expected, strict=True):
        found = made.state_dict()
        assert found.keys() == wanted.state_dict().keys()
        assert all(torch.equal(found[name], value) for name, value in wanted.state_dict().items())


def test_too_few_people_are_refused() -> None:
    with pytest.raises(EvaluationError, match="3 people are too few to train an attacker on; give at least 4"):
        people_of(torch.tensor([5, 5, 8, 9]))
