"""Error-minimising noise: photos that a classifier believes it has already learnt."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from faces.protection import Declaration, Threat
from protectors import drawing
from protectors.auxiliary import SYNTHETIC
from protectors.base import TOP_LEVEL, with_given
from protectors.canvas import linf_levels
from protectors.classifiers import Trainer, face_classifier, shuffled
from protectors.descent import Climb, check_iteration
from protectors.errors import ProtectorError
from protectors.largest import check_largest
from protectors.person import PersonProtector, person_mean
from protectors.unlearnable import FILL, Crowd, auxiliary_key, check_training, cropped, crowd, random_crops

_LOG = logging.getLogger(__name__)

#: A step of the noise, as a share of the budget, in all released settings.
STEP = 0.1

NOISES = ("class", "sample")


@dataclass(frozen=True)
class _Preset:
    levels: int
    batch: int
    train_batches: int
    stop_error: float
    rate: float


_PRESETS = {
    "faces": _Preset(levels=16, batch=64, train_batches=30, stop_error=0.1, rate=0.05),
    "cifar": _Preset(levels=8, batch=128, train_batches=10, stop_error=0.01, rate=0.1),
}
#: Steps of the noise in a round.
_STEPS = {"class": 1, "sample": 20}
_CLIP = 5.0


class Em(PersonProtector):
    """Unlearnable examples by min-min optimisation.

    min over theta, min over |delta| <= eps of the mean of loss(f_theta(x + delta), y): a classifier learns from
    ``train_batches`` batches of x + delta, then delta descends the same loss over the whole set, in turn until the
    classifier errs on less than ``stop_error`` of the set. Whoever trains on such photos finds little loss left and
    learns the noise instead of the faces.

    With one noise per class (a mask for each person, found by :meth:`fit` and added to any photo in the same frame)
    the noise of a person becomes the mean of what its photos ask for. With one noise per sample :meth:`protect` does
    the work, on the set it is given.

    The search has no end where the classifier cannot get below ``stop_error``; here it ends after ``rounds``, with a
    warning in the log. Where somebody has only a few photos it ends early instead: the classifier knows them by heart
    within a few rounds, whatever the noise. Measured with ``resolution=48`` on 25 synthetic people, 8 photos of each
    protected, one network trained on the result and tested on 50 clean photos: it named 44 % after class-wise noise,
    52 % after random noise of that budget, 60 % after none (standard error 7 points). That is no more than a tendency,
    and 12 rounds in place of the 2 that the search took were no better; with ``eot=1`` it named 22 %.

    As released, the noise of a class moves in each batch, to the mean over its photos there, so it takes several steps
    a round. On faces the original told 150 people apart, 50 of them protected and the others from another set:
    ``classes=150`` with 50 people.

    Known to be undone by training on grey or strongly compressed photos, by adversarial training and, class-wise, by
    projection (Liu et al., "Image Shortcut Squeezing", ICML 2023; Sandoval-Segura et al., "What Can We Learn from
    Unlearnable Datasets?", NeurIPS 2023).

    Args:
        preset: "faces" (released for faces: 16/255, 30 batches of 64, rate .05, stop error .1) or "cifar" (8/255, 10
            batches of 128, rate .1, stop error .01).
        noise: "class" or "sample".
        budget: "native", "uniform" or a number; the noise moves by a tenth of it a step.
        steps: steps of the noise in a round; by default 1 per class, 20 per sample.
        train_batches: batches that the classifier sees in a round.
        stop_error: share of the set misclassified below which the search ends.
        rounds: bound of the search.
        eot: random views in each step of the noise, each a crop of the photo, and in turn reduced, blurred or
            compressed; then the classifier learns from crops too. 0: none, as published. The idea is that of noise
            optimised through the extraction of the face.
        classes: least number of people told apart; auxiliary ones fill up.
        auxiliary: "synthetic" heads or a folder with one folder of photos per person.
        resolution: side of the photos that the classifier sees.

    Raises:
        ProtectorError: A setting is out of range.
    """

    about = Declaration(
        name="em",
        title="error-minimising noise",
        summary="Adds noise, one pattern for each person, from which a recogniser trained on the photos "
        "learns nothing else.",
        source="Huang, Ma, Erfani, Bailey and Wang, ICLR 2021",
        threats=frozenset({Threat.poison}),
        auxiliary_data=FILL,
        stores="one mask a person (with one noise per class)",
        differentiable=True,
        person_specific=True,
        presets=tuple(_PRESETS),
        additive=True,
    )
    #: Noise of samples is made for the whole set at once.
    chunk = 1 << 20

    def __init__(
        self,
        *,
        preset: str = "faces",
        noise: str = "class",
        budget: str = "native",
        steps: int | None = None,
        train_batches: int | None = None,
        stop_error: float | None = None,
        rounds: int = 30,
        eot: int = 0,
        classes: int = 10,
        auxiliary: str = SYNTHETIC,
        resolution: int = 64,
    ) -> None:
        if preset not in _PRESETS:
            raise ProtectorError(f"em takes preset = {', '.join(_PRESETS)}, got {preset}.")
        if noise not in NOISES:
            raise ProtectorError(f"em takes noise = {' or '.join(NOISES)}, got {noise}.")
        chosen = with_given(_PRESETS[preset], train_batches=train_batches, stop_error=stop_error)
        self._steps = _STEPS[noise] if steps is None else steps
        self._train_batches, self._stop_error = chosen.train_batches, chosen.stop_error
        check_iteration("em", steps=self._steps, eot=eot)
        check_training("em", classes=classes, resolution=resolution)
        if self._train_batches < 1 or rounds < 1:
            raise ProtectorError(
                f"em takes train_batches >= 1 and rounds >= 1, got {self._train_batches} and {rounds}."
            )
        check_largest("em", train_batches=self._train_batches, rounds=rounds)
        if not 0 < self._stop_error < 1:
            raise ProtectorError(f"em takes stop_error as a share between 0 and 1, got {self._stop_error:g}.")
        super().__init__(
            (),
            levels=linf_levels(budget, chosen.levels / TOP_LEVEL), preset=preset, noise=noise, budget=budget,
            steps=self._steps, train_batches=self._train_batches, stop_error=self._stop_error,
            rounds=rounds, eot=eot, classes=classes,
            auxiliary=auxiliary_key(auxiliary, classes=classes), resolution=resolution,
        )  # fmt: skip
        self._preset, self._rounds, self._eot = chosen, rounds, eot
        self._classes, self._auxiliary, self._resolution = classes, auxiliary, resolution
        self._per_sample = noise == "sample"
        if self._per_sample:
            self.declaration = replace(
                self.declaration, stores="nothing", deterministic=False, differentiable=False, person_specific=False,
                batch_dependent=True,
            )  # fmt: skip

    def masks(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> Tensor:
        """Noise (K, 3, S, S) of the people shown; see :meth:`PersonProtector.masks`."""
        people = self._crowd(images, points5, identity)
        return self._search(people, people.labels, generator)[: len(torch.unique(identity))]

    def prepare(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> None:
        """Search for the noise of each class; nothing to do where each sample has its own."""
        if not self._per_sample:
            super().prepare(images, points5, identity, generator)

    def change(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> Tensor:
        """Photos with their noise; see :meth:`PhotoProtector.change`."""
        if not self._per_sample:
            return super().change(images, points5, identity, generator)
        people = self._crowd(images, points5, identity)
        everybody = torch.arange(len(people), device=images.device)
        own = everybody[: len(images)]
        noise = self._search(people, everybody, generator)[own]
        return noisy(people, own, noise, self._levels)

    def _crowd(self, images: Tensor, points5: Tensor, identity: Tensor) -> Crowd:
        return crowd(images.detach(), points5, identity, classes=self._classes, auxiliary=self._auxiliary)

    def _search(self, people: Crowd, owner: Tensor, generator: torch.Generator) -> Tensor:
        """Noise (K, 3, S, S); ``owner`` (M,) says whose noise each photo of the crowd carries."""
        network = face_classifier(people.classes, self._resolution, generator, people.images.device)
        trainer = Trainer(network, rate=self._preset.rate, clip=_CLIP)
        batches = shuffled(len(people), self._preset.batch, generator)
        limit = self._levels / TOP_LEVEL
        shape = (int(owner.max()) + 1, *people.images.shape[1:])
        noise = limit * drawing.around_zero(shape, generator, people.images)
        for round_number in range(1, self._rounds + 1):
            for _ in range(self._train_batches):
                rows = next(batches)
                images = noisy(people, rows, noise[owner[rows]], self._levels)
                if self._eot:
                    images = cropped(images, random_crops(len(images), generator))
                trainer.step(images, people.labels[rows])
            self._descend(network, people, owner, noise, generator)
            error = self._error(network, people, owner, noise)
            _LOG.info("em: round %d, the classifier errs on %.3f of the protected photos", round_number, error)
            if error < self._stop_error:
                return noise
        _LOG.warning(
            "em: after rounds=%d the classifier still errs on %.3f of the protected photos, not below stop_error=%g; "
            "the noise is used as it is. Raise rounds or stop_error.", self._rounds, error, self._stop_error,
        )  # fmt: skip
        return noise

    def _descend(
        self, network: nn.Module, people: Crowd, owner: Tensor, noise: Tensor, generator: torch.Generator
    ) -> None:
        """Move the noise in place, batch after batch through the whole set, in random order."""
        for rows in drawing.order(len(people), generator, people.images).split(self._preset.batch):
            wished = self._wished(network, people, rows, noise[owner[rows]], generator)
            # Each asks for no more than the budget, so the mean keeps it too.
            found, position = torch.unique(owner[rows], return_inverse=True)
            noise[found] = person_mean(wished, position)

    def _wished(
        self, network: nn.Module, people: Crowd, rows: Tensor, noise: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Noise of each photo after descent of its own loss."""
        canvas, labels = people.canvas(rows, self._levels), people.labels[rows]

        def objective(images: Tensor, _: Tensor) -> Tensor:
            if self._eot:
                images = cropped(images, random_crops(len(images), generator))
            return -functional.cross_entropy(network(images), labels, reduction="none")

        climb = Climb(canvas, people.points5[rows], objective, generator, eot=self._eot)
        noise = canvas.project(noise)
        for _ in range(self._steps):
            noise = canvas.project(noise + STEP * self._levels / TOP_LEVEL * climb.gradient(noise).sign())
        return noise

    def _error(self, network: nn.Module, people: Crowd, owner: Tensor, noise: Tensor) -> float:
        wrong = 0
        with torch.no_grad():
            for rows in torch.arange(len(people), device=owner.device).split(self._preset.batch):
                logits = network(noisy(people, rows, noise[owner[rows]], self._levels))
                wrong += int((logits.argmax(1) != people.labels[rows]).sum())
        return wrong / len(people)


def noisy(people: Crowd, rows: Tensor, noise: Tensor, levels: int) -> Tensor:
    """Photos (n, 3, S, S) of these rows with their noise (n, 3, S, S), as they would be shown."""
    canvas = people.canvas(rows, levels)
    return canvas.add(canvas.project(noise))
