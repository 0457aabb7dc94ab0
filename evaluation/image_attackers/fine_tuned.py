"""The published recogniser trained on, with protected and clean photographs of the attacker's people."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from evaluation.errors import EvaluationError
from evaluation.frame_attackers.encoded import mirrored
from evaluation.image_attackers.base import CHUNK, ImageAttacker, Validation, checked, thin
from evaluation.photos import Knowledge, Photos
from evaluation.training import optimise
from faces.families import Recogniser
from faces.recognisers import CosineHead

#: Part of the way at which the weights are tried on validation people; the published ones are tried too.
_TRIED = (0.25, 0.5)


class _Best:
    """Weights that did best on validation people so far."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._score = (-1.0, -1.0)
        self._weights: Mapping[str, Tensor] = {}

    def look(self, score: tuple[float, float]) -> None:
        """Keep the present weights if they are better than all before."""
        if score > self._score:
            self._score = score
            self._weights = {name: value.detach().clone() for name, value in self._module.state_dict().items()}

    def restore(self) -> None:
        """Put the best weights back."""
        self._module.load_state_dict(self._weights)


def last_linear(recogniser: Recogniser) -> nn.Linear | None:
    """The linear layer that writes the embedding, or None where a network ends otherwise (in pooling, say)."""
    layers = [module for module in recogniser.network.modules() if isinstance(module, nn.Linear)]
    return layers[-1] if layers and layers[-1].out_features == recogniser.embedding_dim else None


class FineTuned(ImageAttacker):
    """Last layer of the recogniser, trained with a margin softmax on features computed once.

    The layer is the network's own last linear layer, or, where the network ends in pooling, a new one behind it that
    starts as the identity. Of several stages of the training the best on validation people is kept.

    Args:
        steps: Training steps.
        batch: Photographs in a step, half of them protected on average.
        most: Training photographs of each side, and validation probes, that are used.
        rate: Peak learning rate of the layer; that of the new softmax is ten times as large.
    """

    name = "fine-tuned-protected"
    level = "K2"
    knowledge = "owns the protector; fine-tunes the last layer of the recogniser on clean and protected people"
    control = "a fixed change of the pixels that leaves all information in them"

    def __init__(self, *, steps: int, batch: int, most: int, rate: float = 1e-3) -> None:
        self.steps, self.batch, self.most, self.rate = steps, batch, most, rate
        self.budget = f"{steps} steps of {batch} on features of at most {most} photographs of each side"

    def _features(self, photos: Photos) -> Tensor:
        """What the last layer is given, (N, F)."""
        if self._own is None:
            return self._recogniser.embed(photos.images(), photos.points5)
        kept: list[Tensor] = []
        hook = self._own.register_forward_pre_hook(lambda _, given: kept.append(given[0].detach().flatten(1).half()))
        try:
            for images, points in zip(photos.images().split(CHUNK), photos.points5.split(CHUNK), strict=True):
                self._recogniser.embed_chips(self._recogniser.chips(images, points))
        finally:
            hook.remove()
        return torch.cat(kept)

    def fit(self, recogniser: Recogniser, knowledge: Knowledge) -> None:
        """Train the layer; see :meth:`ImageAttacker.fit`."""
        place, people = checked(knowledge)
        self._recogniser, self._own = recogniser, last_linear(recogniser)
        if self._own is None:
            self.layer = nn.Linear(recogniser.embedding_dim, recogniser.embedding_dim, bias=False)
            nn.init.eye_(self.layer.weight)
        else:
            self.layer = copy.deepcopy(self._own)
        self.layer.requires_grad_(True)
        generator = torch.Generator().manual_seed(knowledge.seed)
        pick = thin(knowledge.train, self.most)
        validation = Validation(knowledge, self.most)
        with torch.no_grad():
            sides = [self._features(side.subset(pick)) for side in (knowledge.train, knowledge.train_protected)]
            gallery, probes = self._features(validation.gallery), self._features(validation.probes)
        rows, labels = torch.cat(sides), place[pick].repeat(2)
        self.layer.to(rows.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(knowledge.seed)
            head = CosineHead(recogniser.embedding_dim, people).to(rows.device)
        kept = _Best(self.layer)

        def look() -> None:
            with torch.no_grad():
                kept.look(validation.score(self.layer(gallery.float()), self.layer(probes.float())))

        stages = {0, *(round(part * self.steps) for part in _TRIED)}

        def loss(step: int) -> Tensor:
            if step in stages:
                look()
            pick = torch.randint(len(rows), (self.batch,), generator=generator)
            return head.loss(self.layer(rows[pick].float()), labels[pick].to(rows.device))

        groups = [(self.layer.parameters(), self.rate), (head.parameters(), 10 * self.rate)]
        optimise(groups, loss, steps=self.steps, weight_decay=1e-2)
        look()
        kept.restore()

    @torch.no_grad()
    def embed(self, photos: Photos, *, protected: bool) -> Tensor:
        """Embed with the trained layer; see :meth:`ImageAttacker.embed`."""
        return functional.normalize(self.layer(self._features(photos).float()), dim=1)


class EndToEnd(ImageAttacker):
    """All weights of the recogniser, trained with a margin softmax. Batch norm, where there is any, stays as it is.

    Args:
        steps: Training steps.
        batch: Photographs in a step, half of them protected on average.
        most: Validation probes that are used.
        rate: Peak learning rate of the network; that of the new softmax is a hundred times as large.
    """

    name = "end-to-end-protected"
    level = "K2"
    knowledge = "owns the protector; fine-tunes the whole recogniser on clean and protected people"
    control = "a fixed change of the pixels that leaves all information in them"

    def __init__(self, *, steps: int, batch: int, most: int, rate: float = 1e-4) -> None:
        self.steps, self.batch, self.most, self.rate = steps, batch, most, rate
        self.budget = f"{steps} steps of {batch} photographs"

    def inapplicable(self, knowledge: Knowledge, recogniser: Recogniser) -> str | None:
        """A recogniser without gradients cannot be trained."""
        return None if recogniser.differentiable else f"no gradients pass through the recogniser {recogniser.name}"

    def fit(self, recogniser: Recogniser, knowledge: Knowledge) -> None:
        """Train a copy; see :meth:`ImageAttacker.fit`."""
        reason = self.inapplicable(knowledge, recogniser)
        if reason:
            raise EvaluationError(f"{self.name} cannot be tried: {reason}; choose linear-protected instead.")
        place, people = checked(knowledge)
        network = copy.deepcopy(recogniser.network).requires_grad_(True)
        self._recogniser = replace(recogniser, network=network)
        generator = torch.Generator().manual_seed(knowledge.seed)
        validation = Validation(knowledge, self.most)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(knowledge.seed)
            head = CosineHead(recogniser.embedding_dim, people)
        levels = torch.cat([knowledge.train.faces.images, knowledge.train_protected.faces.images])
        head.to(levels.device)
        points, labels = knowledge.train.points5.repeat(2, 1, 1), place.repeat(2)
        kept = _Best(network)

        def look() -> None:
            rows = [
                self.embed(side, protected=protected)
                for side, protected in ((validation.gallery, False), (validation.probes, True))
            ]
            kept.look(validation.score(*rows))

        stages = {0, *(round(part * self.steps) for part in _TRIED)}

        def loss(step: int) -> Tensor:
            if step in stages:
                look()
            pick = torch.randint(len(levels), (self.batch,), generator=generator)
            chips = recogniser.chips(levels[pick].float() / 255, points[pick])
            rows = self._recogniser.embed_chips(mirrored(chips, generator))
            return head.loss(rows, labels[pick].to(rows.device))

        groups = [(network.parameters(), self.rate), (head.parameters(), 100 * self.rate)]
        optimise(groups, loss, steps=self.steps, weight_decay=1e-3)
        look()
        kept.restore()
        network.requires_grad_(False)

    @torch.no_grad()
    def embed(self, photos: Photos, *, protected: bool) -> Tensor:
        """Embed with the trained network; see :meth:`ImageAttacker.embed`."""
        return self._recogniser.embed(photos.images(), photos.points5)
