"""Attackers who know the camera: each is trained on its frames and returns one embedding for each capture.

Every attacker sees what leaves the sensor, knows the mask and the exposure, and may use all training people. Faces are
aligned with their *true* points, so a camera cannot look private only because a detector failed on its frames. Noise is
drawn afresh in every training step: the attacker owns the same camera and can expose as often as it likes. Nothing of
the test people is seen before the attacker is finished.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from evaluation.discriminant import Discriminant, fit_discriminant
from evaluation.frame_attackers.encoded import Crop, EncodedFaces, channels_last, contrast, face_crop, fitted_crop
from evaluation.frame_attackers.inverters import UNetInverter, WienerFilter
from evaluation.training import fit_classifier, fresh_classifier, optimise, people_of
from faces.recognisers import CosineHead, SFace
from ground.pool import derived_seed

__all__ = [
    "Attacker",
    "EncodedFaces",
    "LinearDiscriminant",
    "SFaceAttacker",
    "ScratchRecogniser",
    "UNetInverter",
    "WienerFilter",
    "face_crop",
]

#: Rows of the closed-form attackers: more settle nothing and cost memory (1728 features of 8 bytes each in colour).
_MOST_ROWS = 30_000

#: Side of the crops that convolutions see: those above 24 pixels are halved at once, which costs a third of what
#: smaller ones do (:class:`faces.recognisers.SmallRecogniser`).
_CONVOLVED = 28

# Mean and standard deviation of 8-bit photographs inside the standard crop.
_PHOTO_MEAN, _PHOTO_SD = 115.0, 52.0


class Attacker(ABC):
    """One way to name the people in encoded frames.

    To add an attacker:

    1. Write a sub-class of :class:`Attacker` in a file of this folder. ``fit`` sees training people only;
       ``faces.read(faces.signal[pick], generator)`` exposes their captures afresh, as often as it likes, and
       :func:`face_crop` aligns the frames. It draws random numbers through :mod:`evaluation.draws` and makes tensors on
       the device of ``faces.signal``; :func:`evaluation.training.fit_classifier` trains a network from scratch.
    2. Add a row to ``ATTACKERS`` in ``codesign/attackers.py``: name, what it knows, how it is made from the camera, and
       on which cameras it is tried. Proof, report and jobs read that table, and nothing else.
    3. Add it to ``ATTACKERS`` in ``tests/evaluation/frame_attackers/test_recognisers.py``: it must find nothing in pure
       noise and give the same bits for the same seed. Write one test of your own: that it learns people in easy
       patterns, whom it has never met.

    Attributes:
        name: Short name used in results.
        knowledge: What the attacker knows and trains on, for the report.
    """

    name: str
    knowledge: str

    @abstractmethod
    def fit(self, faces: EncodedFaces) -> None:
        """Prepare on the training people."""

    @abstractmethod
    def embed(self, faces: EncodedFaces, seed: int) -> Tensor:
        """One unit vector (N, D) for each capture, from one exposure whose noise comes from ``seed``."""

    def embed_exposures(self, faces: EncodedFaces, seed: int, exposures: int) -> Tensor:
        """Mean embedding (N, D), of unit length, of several exposures of each capture: a still face.

        Args:
            faces: The captures.
            seed: Seed of the noise of all exposures.
            exposures: How many there are of each capture, at least 1.
        """
        total = sum(self.embed(faces, derived_seed(seed, str(shot))) for shot in range(exposures))
        return functional.normalize(torch.as_tensor(total), dim=1)


class LinearDiscriminant(Attacker):
    """Closed-form two-covariance discriminant on aligned pixels: no training luck, strong where noise dominates.

    Args:
        seed: Seed of the noise in the training frames.
        crop: How faces are cut out; None for the crop that fits the opening of the camera.
        copies: Exposures of each training capture, as far as the number of rows stays bounded.
    """

    knowledge = "trains on encoded frames of other people (closed form)"

    def __init__(self, *, seed: int, crop: Crop | None = None, copies: int = 3) -> None:
        self.name = "linear-discriminant"
        self.seed, self.crop, self.copies = seed, crop, copies

    def _rows(self, faces: EncodedFaces, picks: Tensor, generator: torch.Generator) -> Tensor:
        found = [
            self._crop.cut(faces.read(faces.signal[pick], generator), faces.points5[pick], faces.scene_px)
            for pick in picks.split(512)
        ]
        return torch.cat(found).flatten(1)

    def fit(self, faces: EncodedFaces) -> None:
        """Fit the discriminant to noisy aligned pixels of the training people."""
        place, _ = people_of(faces.identity)
        generator = torch.Generator().manual_seed(self.seed)
        self._crop = self.crop or fitted_crop(faces)
        copies = max(1, min(self.copies, _MOST_ROWS // len(faces)))
        picks = torch.arange(len(faces)).repeat(copies)
        if len(picks) > _MOST_ROWS:
            picks = torch.randperm(len(faces), generator=generator)[:_MOST_ROWS]
        rows = self._rows(faces, picks, generator)
        self._map = fit_discriminant(rows.double().cpu().numpy(), place.cpu()[picks].numpy(), ridge=1e-2)

    def embed(self, faces: EncodedFaces, seed: int) -> Tensor:
        """Project one exposure of each capture; see :meth:`Attacker.embed`."""
        picks = torch.arange(len(faces))
        return self._map.embed(self._rows(faces, picks, torch.Generator().manual_seed(seed)))


class ScratchRecogniser(Attacker):
    """A residual network trained from scratch on encoded frames with a margin softmax.

    Args:
        seed: Seed for weights, batches and noise.
        steps: Training steps.
        batch: Faces in a step.
        crop: How faces are cut out; None for a crop of 28 pixels that fits the opening of the camera.
    """

    knowledge = "trains a recogniser from scratch on encoded frames of other people"

    def __init__(self, *, seed: int, steps: int, batch: int = 64, crop: Crop | None = None) -> None:
        self.name = "scratch-recogniser"
        self.seed, self.steps, self.batch, self.crop = seed, steps, batch, crop

    def _input(self, faces: EncodedFaces, pick: Tensor, generator: torch.Generator) -> Tensor:
        frames = (faces.read(faces.signal[pick], generator) - self._mean) / (4 * self._sd) + 0.5
        crop = self._crop.cut(frames, faces.points5[pick], faces.scene_px)
        return crop.contiguous(memory_format=torch.channels_last)

    def fit(self, faces: EncodedFaces) -> None:
        """Train network and head; the head is thrown away."""
        place, people = people_of(faces.identity)
        generator = torch.Generator().manual_seed(self.seed)
        self._mean, self._sd = contrast(faces, generator)
        self._crop = self.crop or replace(fitted_crop(faces), size=_CONVOLVED)
        self.network, head = fresh_classifier(
            faces.signal.shape[1], self._crop.size, people, seed=self.seed, device=faces.signal.device
        )

        def crops(pick: Tensor, generator: torch.Generator) -> Tensor:
            return self._input(faces, pick, generator)

        labels = place.to(faces.signal.device)
        fit_classifier(self.network, head, crops, labels, steps=self.steps, batch=self.batch, generator=generator)

    @torch.no_grad()
    def embed(self, faces: EncodedFaces, seed: int) -> Tensor:
        """Embed one exposure of each capture; see :meth:`Attacker.embed`."""
        generator = torch.Generator().manual_seed(seed)
        parts = torch.arange(len(faces)).split(256)
        return torch.cat([self.network.embed(self._input(faces, pick, generator)) for pick in parts])


class SFaceAttacker(Attacker):
    """The pretrained recogniser on encoded or restored frames: as it is, adapted in closed form, or fine-tuned.

    Args:
        name: Name in the results.
        knowledge: What the attacker knows, for the report.
        seed: Seed for batches and noise.
        steps: Fine-tuning steps; 0 leaves the network as published.
        last_layer: Fine-tune only what follows the last feature map (6.4 of 10 million weights), on features computed
            once: many more steps for the same time, at the full resolution of the network.
        adapt: Fit a closed-form discriminant to its embeddings of the training people.
        restore: (frames (N, C, n, n)) -> images (N, C, m, m) shown to the recogniser, for example a Wiener filter and
            the display curve; None shows the frames themselves.
        network: SFace in eval mode; it is copied before training.
        batch: Faces in a step.
        rate: Peak learning rate of the backbone (the new head learns ten times faster).
        adapt_limit: Most training captures that are embedded for ``adapt``.
    """

    def __init__(
        self,
        name: str,
        knowledge: str,
        network: SFace,
        *,
        seed: int,
        steps: int = 0,
        last_layer: bool = False,
        adapt: bool = False,
        restore: Callable[[Tensor], Tensor] | None = None,
        batch: int = 32,
        rate: float = 1e-3,
        adapt_limit: int = 2000,
    ) -> None:
        self.name, self.knowledge = name, knowledge
        self.network = channels_last(copy.deepcopy(network))
        self.seed, self.steps, self.adapt, self.restore = seed, steps, adapt, restore
        self.batch, self.rate, self.adapt_limit, self.last_layer = batch, rate, adapt_limit, last_layer
        self._map: Discriminant | None = None

    def _crop(self, faces: EncodedFaces, pick: Tensor, generator: torch.Generator) -> Tensor:
        frames = faces.read(faces.signal[pick], generator)
        images = frames if self.restore is None else self.restore(frames)
        return face_crop(images, faces.points5[pick], faces.scene_px, self.network.input_size[0])

    def _input(self, faces: EncodedFaces, pick: Tensor, generator: torch.Generator) -> Tensor:
        # One fixed affine map for all faces: the mean and contrast that published photos have.
        levels = (self._crop(faces, pick, generator) - self._mean) / self._sd * _PHOTO_SD + _PHOTO_MEAN
        return levels.clamp(0.0, 255.0).expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)

    def fit(self, faces: EncodedFaces) -> None:
        """Measure the contrast of the images, then fine-tune and adapt as asked."""
        place, people = people_of(faces.identity)
        generator = torch.Generator().manual_seed(self.seed)
        pick = torch.randint(len(faces), (min(256, len(faces)),), generator=generator)
        with torch.no_grad():
            crop = self._crop(faces, pick, generator)
        self._mean, self._sd = float(crop.mean()), float(crop.std().clamp_min(1e-6))
        if self.steps:
            self._fine_tune(faces, place.to(faces.signal.device), people, generator)
        self.network = channels_last(self.network.folded())
        if self.adapt:
            pick = torch.randperm(len(faces), generator=generator)[: self.adapt_limit]
            rows = self._raw(faces, pick, generator).double().cpu().numpy()
            self._map = fit_discriminant(rows, place[pick].cpu().numpy(), ridge=1e-2)

    def _fine_tune(self, faces: EncodedFaces, place: Tensor, people: int, generator: torch.Generator) -> None:
        network = self.network
        if self.last_layer:
            with torch.no_grad():
                parts = torch.arange(len(faces)).split(64)
                maps = torch.cat([network.features(self._input(faces, part, generator)).half() for part in parts])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            head = CosineHead(network.embedding_dim, people).to(faces.signal.device)
            tail = [network.feature_norm, network.project, network.embedding_norm]
            # Encoded frames have other statistics than photographs: batch norm must follow them.
            for part_of in tail if self.last_layer else [network]:
                part_of.train()
            network.dropout.eval()
            weights = [w for module in (tail if self.last_layer else [network]) for w in module.parameters()]

            def loss(step: int) -> Tensor:
                pick = torch.randint(len(faces), (self.batch,), generator=generator)
                if self.last_layer:
                    rows = network.embedding_norm(network.project(network.feature_norm(maps[pick].float()).flatten(1)))
                else:
                    with torch.no_grad():
                        images = self._input(faces, pick, generator)
                    rows = network(images)
                return head.loss(rows, place[pick])

            groups = [(weights, self.rate), (list(head.parameters()), 10 * self.rate)]
            optimise(groups, loss, steps=self.steps, weight_decay=1e-2)
        network.eval()

    @torch.no_grad()
    def _raw(self, faces: EncodedFaces, pick: Tensor, generator: torch.Generator) -> Tensor:
        return torch.cat([self.network.embed(self._input(faces, part, generator)) for part in pick.split(64)])

    def embed(self, faces: EncodedFaces, seed: int) -> Tensor:
        """Embed one exposure of each capture; see :meth:`Attacker.embed`."""
        rows = self._raw(faces, torch.arange(len(faces)), torch.Generator().manual_seed(seed))
        return rows if self._map is None else self._map.embed(rows)
