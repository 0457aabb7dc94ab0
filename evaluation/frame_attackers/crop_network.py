"""A plain two-layer network on crops that fit the opening of the camera: cheap to train, and the strongest so far.

It is trained with a margin softmax over the people (Wang et al., "CosFace", CVPR 2018) and, as a second task, to
predict what else is known of each person: of synthetic people the parameters that made them, of photographs the
embedding that a clean recogniser finds (distillation). The second task tells the network what a face is made of, where
a softmax over a few hundred people tells it only that they differ.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from evaluation.draws import uniform
from evaluation.frame_attackers.encoded import EncodedFaces, contrast, fitted_crop, placement, shaken
from evaluation.frame_attackers.recognisers import Attacker
from evaluation.training import optimise, people_of
from faces.recognisers import CosineHead

_WIDTHS, _DIM, _DROPOUT = (1280, 768), 256, 0.1
_MARGIN, _SCALE, _RATE = 0.15, 24.0, 2e-3
#: Share of the second task in the loss; its error is 1 for a network that has learned nothing.
_AUXILIARY = 2.0
#: Views that are averaged: the crop itself, and crops shifted by this share of the eye distance all around.
_VIEWS, _SHIFT = 6, 0.04
_CHUNK = 256


class _Network(nn.Module):
    """Two hidden layers with batch norm; one output is the embedding, the other predicts the auxiliary targets."""

    def __init__(self, inputs: int, targets: int) -> None:
        super().__init__()
        first, second = _WIDTHS
        self.entrance = nn.BatchNorm1d(inputs)
        self.first, self.norm1 = nn.Linear(inputs, first, bias=False), nn.BatchNorm1d(first)
        self.second, self.norm2 = nn.Linear(first, second, bias=False), nn.BatchNorm1d(second)
        self.embedding = nn.Linear(second, _DIM)
        self.auxiliary: nn.Module | None = nn.Linear(second, targets) if targets else None

    def forward(self, rows: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor | None]:
        """Embeddings (N, D), not normalised, and predicted targets (N, T), if there are any, of rows (N, inputs).

        Args:
            rows: Pixels and placement of the crops.
            generator: Source of the dropout; None for none.
        """
        seen = self._drop(functional.relu(self.norm1(self.first(self.entrance(rows)))), generator)
        seen = self._drop(functional.relu(self.norm2(self.second(seen))), generator)
        return self.embedding(seen), None if self.auxiliary is None else self.auxiliary(seen)

    @staticmethod
    def _drop(seen: Tensor, generator: torch.Generator | None) -> Tensor:
        if generator is None:
            return seen
        return seen * (uniform(seen.shape, generator, seen) >= _DROPOUT) / (1 - _DROPOUT)


def auxiliary_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over the targets (N, T) that are known; 0 where all of them are NaN."""
    known = ~target.isnan()
    error = (predicted - target.nan_to_num()).square() * known
    return error.sum() / known.sum().clamp_min(1)


class CropNetwork(Attacker):
    """A two-layer network on the crop that fits the opening, with the place of the crop in the frame as input.

    Args:
        seed: Seed for weights, batches and noise.
        steps: Training steps.
        batch: Faces in a step.
    """

    knowledge = "trains a two-layer network on encoded frames of other people, cropped to the opening of the camera"

    def __init__(self, *, seed: int, steps: int, batch: int = 192) -> None:
        self.name = "crop-network"
        self.seed, self.steps, self.batch = seed, steps, batch

    def _rows(self, faces: EncodedFaces, frames: Tensor, points5: Tensor) -> Tensor:
        crops = self._crop.cut((frames - self._mean) / self._sd, points5, faces.scene_px)
        return torch.cat([crops.flatten(1), placement(points5, faces.scene_px)], dim=1)

    def fit(self, faces: EncodedFaces) -> None:
        """Train with fresh noise and a little other framing in every step; the head is thrown away."""
        place, people = people_of(faces.identity)
        generator = torch.Generator().manual_seed(self.seed)
        self._mean, self._sd = contrast(faces, generator)
        self._crop = fitted_crop(faces)
        device, channels = faces.signal.device, faces.signal.shape[1]
        auxiliary = faces.auxiliary
        targets = 0 if auxiliary is None else auxiliary.shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = _Network(channels * self._crop.size**2 + 4, targets)
            head = CosineHead(_DIM, people, margin=_MARGIN, scale=_SCALE)
        self.network, head = network.to(device).train(), head.to(device)
        labels = place.to(device)

        def loss(step: int) -> Tensor:
            pick = torch.randint(len(faces), (self.batch,), generator=generator).to(device)
            points5 = shaken(faces.points5[pick], generator)
            rows = self._rows(faces, faces.read(faces.signal[pick], generator), points5)
            embedded, predicted = self.network(rows, generator)
            value = head.loss(embedded, labels[pick])
            if auxiliary is not None and predicted is not None:
                value = value + _AUXILIARY * auxiliary_loss(predicted, auxiliary[pick])
            return value

        groups = [([*self.network.parameters(), *head.parameters()], _RATE)]
        optimise(groups, loss, steps=self.steps, weight_decay=5e-2)
        self.network.eval()

    def _view(self, faces: EncodedFaces, frames: Tensor, points5: Tensor, view: int) -> Tensor:
        """Unit embeddings of one view of frames: 0 is the crop itself, the others are shifted."""
        if view:
            angle = 2 * math.pi * view / (_VIEWS - 1)
            eyes = (points5[:, 1] - points5[:, 0]).norm(dim=-1)
            shift = points5.new_tensor([math.cos(angle), math.sin(angle)])
            points5 = points5 + _SHIFT * eyes[:, None, None] * shift
        embedded: Tensor = self.network(self._rows(faces, frames, points5))[0]
        return functional.normalize(embedded, dim=1)

    @torch.no_grad()
    def embed(self, faces: EncodedFaces, seed: int) -> Tensor:
        """Mean over a few shifts of the crop of one exposure; see :meth:`Attacker.embed`."""
        generator = torch.Generator().manual_seed(seed)
        found = []
        for pick in torch.arange(len(faces)).split(_CHUNK):
            frames, points5 = faces.read(faces.signal[pick], generator), faces.points5[pick]
            views = [self._view(faces, frames, points5, view) for view in range(_VIEWS)]
            found.append(torch.stack(views).sum(dim=0))
        return functional.normalize(torch.cat(found), dim=1)

    @torch.no_grad()
    def embed_exposures(self, faces: EncodedFaces, seed: int, exposures: int) -> Tensor:
        """As in the base class, with one view of each exposure: other noise and another shift at once."""
        generator = torch.Generator().manual_seed(seed)
        found = []
        for pick in torch.arange(len(faces)).split(_CHUNK):
            signal, points5 = faces.signal[pick], faces.points5[pick]
            total = points5.new_zeros(len(pick), _DIM)
            for shot in range(exposures):
                total = total + self._view(faces, faces.read(signal, generator), points5, shot % _VIEWS)
            found.append(total)
        return functional.normalize(torch.cat(found), dim=1)
