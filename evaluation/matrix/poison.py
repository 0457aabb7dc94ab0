"""The claim of poison: who trains on protected photographs of a person does not recognise clean ones.

Everybody's enrolled photographs of the test are what a victim trains on, protected together with the probes as by
people who protect all they publish; the *clean* probes, other captures, are what it is tried on. Two kinds of victim:

- ``scratch``: a residual network trained from nothing to tell the tested people apart, all of them protected, as for
  photographs that are made unlearnable (Huang et al., ICLR 2021). It is none of the networks that protectors train.
- ``nearest`` and ``linear``: a published recogniser as it is, and a nearest neighbour or a linear layer made anew on
  its embeddings. Here a person who protects is alone among people who do not, each in turn, as for cloaks against
  trackers (Shan et al., USENIX Security 2020; evaluated so by Radiya-Dixit et al., ICLR 2022).

Victims do not sit still: each also treats what it is given (grey, JPEG: Liu, Zhao and Larson, ICML 2023), trains on
random crops, or trains against perturbations of its own (Wong, Rice and Kolter, ICLR 2020).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from evaluation.config import Tier
from evaluation.draws import uniform
from evaluation.frame_attackers.encoded import face_crop, mirrored, shaken
from evaluation.image_attackers.base import CHUNK
from evaluation.image_attackers.preprocess import TRANSFORMS
from evaluation.labels import Verdict
from evaluation.matrix.jobs import Site, protected_photos
from evaluation.matrix.keys import content_key, tensor_hash
from evaluation.measures.comparisons import paired_difference
from evaluation.measures.gates import POISONS, beats_noise, claim_verdict, victim_strength
from evaluation.measures.intervals import Interval, korn_graubard, per_identity
from evaluation.measures.metrics import Floats, Ints
from evaluation.measures.protection import poisoning_effect
from evaluation.photos import Photos
from evaluation.records import PoisonRow
from evaluation.training import fit_classifier, fresh_classifier
from ground.gates import Gate
from ground.pool import derived_seed

SCRATCH = "scratch"
AS_IS = "as-is"
CROPS = "crop-resize"
ADVERSARIAL = "adversarial-4"
#: What victims do, weaker first. On published embeddings only what treats a photograph by itself applies.
TREATMENTS = (AS_IS, "grey", "jpeg-10")
COUNTERMEASURES = (*TREATMENTS, CROPS, ADVERSARIAL)
#: With fewer enrolled photographs of a person a network learns too little from nothing, however clean they are.
LEAST_PHOTOS = 5
#: Share of the mean diagonal that is added to the normal equations of the linear layer.
RIDGE = 1e-2
#: Largest change of a value in adversarial training, and the step as a multiple of it (Wong et al., section 5).
_REACH, _STEP = 4 / 255, 1.25
#: Least side of a random crop, as a share of the whole.
_LEAST_CROP = 0.6

_TREATMENTS = {one.name: one.apply for one in TRANSFORMS if one.name in TREATMENTS}


@dataclass(frozen=True)
class TrainingBudget:
    """What a victim spends on training from nothing: steps, photographs in a step, side of its crop in pixels."""

    steps: int
    batch: int
    size: int = 64


BUDGETS: dict[Tier, TrainingBudget] = {
    "smoke": TrainingBudget(250, 32),
    "standard": TrainingBudget(600, 48),
    "full": TrainingBudget(1500, 64),
}


class ScratchVictim:
    """A small residual network with a margin softmax over the tested people.

    Args:
        budget: What its training may spend.
        countermeasure: One of :data:`COUNTERMEASURES`.
        seed: Seed of weights, batches and views; the same for all protectors, so that they are compared in pairs.
    """

    #: The crop shows hair and jaw too.
    face_scale = 0.8

    def __init__(self, budget: TrainingBudget, countermeasure: str, seed: int) -> None:
        self._budget, self._countermeasure, self._seed = budget, countermeasure, seed

    def fit(self, photos: Photos, labels: Tensor) -> None:
        """Train on photographs of people numbered from 0, (N,)."""
        budget, generator = self._budget, torch.Generator().manual_seed(self._seed)
        images = treated(photos.images(), self._countermeasure)
        people = int(labels.max()) + 1
        self._network, self._head = fresh_classifier(3, budget.size, people, seed=self._seed, device=images.device)

        def crops(pick: Tensor, generator: torch.Generator) -> Tensor:
            shown = mirrored(self._crop(images[pick], shaken(photos.points5[pick], generator)), generator)
            if self._countermeasure == CROPS:
                return random_crops(shown, generator)
            if self._countermeasure == ADVERSARIAL:
                return self._perturbed(shown, labels[pick], generator)
            return shown

        fit_classifier(
            self._network, self._head, crops, labels, steps=budget.steps, batch=budget.batch, generator=generator
        )

    @torch.no_grad()
    def named(self, photos: Photos) -> Tensor:
        """Whom it takes the people on these photographs for, (N,)."""
        images = treated(photos.images(), self._countermeasure)
        parts = zip(images.split(CHUNK), photos.points5.split(CHUNK), strict=True)
        return torch.cat([self._head(self._network(self._crop(*part))).argmax(1) for part in parts])

    def _crop(self, images: Tensor, points5: Tensor) -> Tensor:
        crop = face_crop(images, points5, images.shape[-1], self._budget.size, self.face_scale)
        return crop.contiguous(memory_format=torch.channels_last)

    def _loss(self, shown: Tensor, labels: Tensor) -> Tensor:
        return self._head.loss(self._network(shown), labels)

    def _perturbed(self, shown: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """One step from a random start against the present network."""
        delta = (2 * uniform(shown.shape, generator, shown) - 1) * _REACH
        delta.requires_grad_()
        (slope,) = torch.autograd.grad(self._loss(shown + delta, labels), delta)
        moved = (delta.detach() + _STEP * _REACH * slope.sign()).clamp(-_REACH, _REACH)
        return (shown + moved).clamp(0, 1)


def treated(images: Tensor, countermeasure: str) -> Tensor:
    """Photographs (N, 3, S, S) in 0..1 as a victim wants to see them, both to train on and to recognise."""
    return _TREATMENTS[countermeasure](images) if countermeasure in _TREATMENTS else images


def random_crops(images: Tensor, generator: torch.Generator) -> Tensor:
    """A random square part of each photograph, .6 to 1 of its side, stretched to the whole (bilinear)."""
    count = len(images)
    share = _LEAST_CROP + (1 - _LEAST_CROP) * uniform((count,), generator, images)
    # Coordinates run from -1 to 1, so the centre may move by what the part leaves free.
    shift = (2 * uniform((count, 2), generator, images) - 1) * (1 - share)[:, None]
    affine = images.new_zeros(count, 2, 3)
    affine[:, 0, 0] = affine[:, 1, 1] = share
    affine[:, :, 2] = shift
    grid = functional.affine_grid(affine, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def nearest_alone(clean: Floats, protected: Floats, labels: Ints, probes: Floats, probe_labels: Ints) -> Floats:
    """Whether each clean probe (P,) is nearest to an enrolled photograph of its person, who alone is protected.

    Args:
        clean: Unit embeddings (N, D) of the enrolled photographs as the others show them.
        protected: Unit embeddings (N, D) of the same photographs, protected.
        labels: Person (N,) on each enrolled photograph.
        probes: Unit embeddings (P, D) of clean probes.
        probe_labels: Person (P,) on each probe.
    """
    own = probe_labels[:, None] == labels[None, :]
    mine = np.where(own, probes @ protected.T, -np.inf).max(axis=1)
    others = np.where(own, -np.inf, probes @ clean.T).max(axis=1)
    return np.asarray(mine > others, dtype=np.float64)


def linear_alone(clean: Floats, protected: Floats, labels: Ints, probes: Floats, probe_labels: Ints) -> Floats:
    """Whether a linear layer names each clean probe (P,) rightly, trained anew with its person alone protected.

    Least squares on one-hot labels with a ridge, in closed form: no budget, and no seed, stands between protectors.
    Arguments are those of :func:`nearest_alone`.
    """
    people, place = np.unique(labels, return_inverse=True)
    first, second, seen = (np.hstack([rows, np.ones((len(rows), 1))]) for rows in (clean, protected, probes))
    sums = np.zeros((len(people), first.shape[1]))
    np.add.at(sums, place, first)
    normal = first.T @ first
    normal += RIDGE * np.trace(normal) / len(normal) * np.eye(len(normal))
    right = np.zeros(len(probes))
    for person in range(len(people)):
        mine, tried = place == person, probe_labels == people[person]
        changed = normal - first[mine].T @ first[mine] + second[mine].T @ second[mine]
        targets = sums.copy()
        targets[person] = second[mine].sum(axis=0)
        right[tried] = (np.linalg.solve(changed, seen[tried].T).T @ targets.T).argmax(axis=1) == person
    return right


_ALONE = {"nearest": nearest_alone, "linear": linear_alone}


class Victim(NamedTuple):
    """Who trains on protected photographs.

    Attributes:
        head: :data:`SCRATCH`, or what is made anew on embeddings: "nearest" or "linear".
        recogniser: Name of the recogniser whose embeddings it reads; "" of a network trained from nothing.
    """

    head: str
    recogniser: str = ""

    @property
    def name(self) -> str:
        """The victim in a word, for tables."""
        return f"{self.head}/{self.recogniser}" if self.recogniser else self.head


def victim(
    site: Site, budget: TrainingBudget, clean: str, protected: str, kind: str, countermeasure: str
) -> dict[Victim, list[float]]:
    """Train a victim on protected photographs of the tested people, and try it on clean ones.

    Args:
        site: Where everything of the run lies.
        budget: What a network trained from nothing may spend.
        clean: Key of the photographs of the test as the control that changes nothing left them.
        protected: Key of the protected ones.
        kind: :data:`SCRATCH`, or the name of a recogniser whose embeddings are used.
        countermeasure: What the victim does against poison.

    Returns:
        Whether each clean probe was named rightly, by victim: one network, or both heads on the embeddings.
    """
    everything, shown = protected_photos(site, "test", clean), protected_photos(site, "test", protected)
    enrolled = everything.gallery
    before, after, probes = everything.subset(enrolled), shown.subset(enrolled), everything.subset(~enrolled)
    if kind == SCRATCH:
        return {Victim(SCRATCH): _from_nothing(site, budget, after, probes, countermeasure)}
    recogniser = site.recogniser(kind)

    def rows(photos: Photos) -> Floats:
        with torch.no_grad():
            found = recogniser.embed(treated(photos.images(), countermeasure), photos.points5)
        return functional.normalize(found.double(), dim=1).cpu().numpy()

    given = (rows(before), rows(after), before.identity.numpy(), rows(probes), probes.identity.numpy())
    return {Victim(head, kind): right(*given).tolist() for head, right in _ALONE.items()}


def _from_nothing(
    site: Site, budget: TrainingBudget, train: Photos, probes: Photos, countermeasure: str
) -> list[float]:
    key = content_key(
        "victim",
        __name__,
        countermeasure=countermeasure,
        budget=vars(budget),
        seed=site.config.seed,
        pictures=[tensor_hash(one.faces.images, one.points5, one.identity) for one in (train, probes)],
    )

    def make() -> tuple[dict[str, Tensor], dict[str, Any]]:
        people, labels = torch.unique(train.identity, return_inverse=True)
        made = ScratchVictim(budget, countermeasure, derived_seed(site.config.seed, "victim", countermeasure))
        made.fit(train, labels)
        return {"right": (people[made.named(probes)] == probes.identity).double()}, {}

    found: list[float] = site.store.once(key, make)[0]["right"].tolist()
    return found


def inapplicable(photos_each: int) -> str:
    """Why no victim can be trained from nothing on so many enrolled photographs of each person, or ""."""
    if photos_each >= LEAST_PHOTOS:
        return ""
    return (
        f"a network trained from nothing needs at least {LEAST_PHOTOS} enrolled photographs of each person, there are "
        f"{photos_each}; raise people.captures and people.gallery_captures"
    )


@dataclass(frozen=True)
class Learnt:
    """What victims learnt: whether each clean probe is named rightly.

    Attributes:
        identity: Person (P,) of each probe.
        clean: Outcomes (P,) by victim and countermeasure, after training on clean photographs.
        protected: Outcomes (P,) by protector, victim and countermeasure.
        noise: Outcomes (P,) by protector and victim, after training on random noise of equal size.
    """

    identity: Ints
    clean: Mapping[tuple[Victim, str], Sequence[float]]
    protected: Mapping[tuple[str, Victim, str], Sequence[float]]
    noise: Mapping[tuple[str, Victim], Sequence[float]]


def rows(
    learnt: Learnt, unseen: Callable[[str, str], bool | None], controls: Sequence[str], exploratory: str, seed: int
) -> tuple[PoisonRow, ...]:
    """A row for each protector, victim and countermeasure.

    ``delta``, (clean - protected) / (clean - chance), is 1 if the victim guesses and 0 if it learnt as well as from
    clean photographs; clean and protected with the same countermeasure.

    Args:
        learnt: What the victims learnt.
        unseen: Function of protector and recogniser: whether the first was made without that family; None without any.
        controls: Protectors that claim nothing.
        exploratory: Why no claim can rest on these people, or "".
        seed: Seed of permutations.
    """
    found = []
    for (protector, name, countermeasure), right in sorted(learnt.protected.items()):
        clean = learnt.clean.get((name, countermeasure))
        if clean is None:
            continue
        chance = 1 / len(np.unique(learnt.identity))
        accuracy, reference = (korn_graubard(one, learnt.identity) for one in (right, clean))
        people, people_clean = (per_identity(one, learnt.identity)[1] for one in (right, clean))
        effect = poisoning_effect(people_clean, people, chance)
        delta = Interval(effect.value, effect.low, effect.high, effect.people) if effect.defined else None
        noise = learnt.noise.get((protector, name)) if countermeasure == AS_IS else None
        strength = victim_strength(reference)
        beaten = _beaten(learnt, people, noise, seed) if countermeasure == AS_IS else _NOT_ASKED
        verdict = claim_verdict(delta, POISONS, [strength, beaten], exploratory)
        if protector in controls:
            verdict = Verdict("control", "a control of the evaluation")
        found.append(
            PoisonRow(
                protector=protector,
                victim=name.name,
                countermeasure=countermeasure,
                unseen=True if name.head == SCRATCH else unseen(protector, name.recogniser),
                accuracy=accuracy.value,
                accuracy_ci95=(accuracy.low, accuracy.high),
                accuracy_clean=reference.value,
                accuracy_clean_ci95=(reference.low, reference.high),
                chance=chance,
                psr=1 - accuracy.value,
                delta=None if delta is None else delta.value,
                delta_ci95=None if delta is None else (delta.low, delta.high),
                delta_noise=None if noise is None or delta is None else _lost(np.mean(noise), np.mean(clean), chance),
                weak=not strength.passed,
                verdict=verdict.label,
                reason=verdict.reason,
                people=tuple(people.tolist()),
            )
        )
    return tuple(found)


_NOT_ASKED = Gate("equal-noise", True, "not asked of a countermeasure")


def _beaten(learnt: Learnt, people: Floats, noise: Sequence[float] | None, seed: int) -> Gate:
    """Whether protection spoils more than random noise of equal size does."""
    if noise is None:
        return beats_noise(None, "spoils")
    noisy = per_identity(noise, learnt.identity)[1]
    return beats_noise(paired_difference(noisy, people, seed=seed).difference, "spoils")


def _lost(accuracy: np.floating, clean: np.floating, chance: float) -> float:
    return float((clean - accuracy) / (clean - chance))


def gates(learnt: Learnt) -> dict[str, Gate]:
    """Whether each victim learns the tested people from clean photographs, without any countermeasure."""
    found = {}
    for (name, countermeasure), right in sorted(learnt.clean.items()):
        if countermeasure == AS_IS:
            gate = victim_strength(korn_graubard(right, learnt.identity))
            found[f"{gate.name}/{name.name}"] = replace(gate, name=f"{gate.name}/{name.name}")
    return found
