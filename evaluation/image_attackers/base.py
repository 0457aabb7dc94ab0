"""What an attacker on photographs is, and what all of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

import torch
from torch import Tensor

from evaluation.errors import EvaluationError
from evaluation.labels import Level
from evaluation.measures.metrics import Values, rank_k, roc_auc, score_matrix
from evaluation.photos import Knowledge, Photos
from evaluation.training import people_of
from faces.families import Recogniser

Tier = Literal["smoke", "standard", "full"]
Candidate = TypeVar("Candidate")

#: Photographs treated at a time: bounds memory.
CHUNK = 64


class ImageAttacker(ABC):
    """One way to tell who is shown on protected photographs.

    To add an attacker:

    1. Write a file in this folder with a sub-class of :class:`ImageAttacker`, or of :class:`Restoration` if it changes
       photographs and then looks with the recogniser as published. Set the attributes below; what it spends on training
       is given to its constructor. It draws random numbers through :mod:`evaluation.draws`, from a generator that is
       seeded with ``knowledge.seed``, and makes tensors on the device of the photographs. :class:`Validation` and
       :func:`best` choose among settings, :mod:`evaluation.training` holds the training loops.
    2. Add a line to ``_MAKERS`` in ``__init__.py``: its name and, for each tier, how it is made. ``optishield evaluate
       --attackers NAME`` takes the name from then on; ``evaluation/config.py`` lists those that are tried by default.
    3. Add a line to ``ROWS`` in ``tests/evaluation/image_attackers/test_image_attackers.py``, with a budget of seconds.
       The contract (same knowledge, same bits; unit vectors; no look at its neighbours; nothing that it was given is
       changed) and the tests on devices run over it by themselves. Write one test of your own: that it succeeds on its
       positive control, where the recogniser as published fails.

    Attributes:
        name: Short name used in results.
        level: What the attacker knows, as a level.
        knowledge: The same in a sentence, for the report.
        budget: What the attacker spends on its preparation, for the report.
        control: The positive control: a protection on which the attacker must succeed, or it proves nothing elsewhere.
        frames: Captures of one scene that are averaged in linear light before it looks at them; whoever runs the
            attacker supplies the averages.
    """

    name: str
    level: Level
    knowledge: str
    budget: str
    control: str
    frames: int = 1

    def inapplicable(self, knowledge: Knowledge, recogniser: Recogniser) -> str | None:
        """Why this attack cannot be tried here, or None. An attack that cannot be tried is not one that failed."""
        return None

    @abstractmethod
    def fit(self, recogniser: Recogniser, knowledge: Knowledge) -> None:
        """Prepare on people of the attacker's own. Same knowledge, same bits.

        Raises:
            EvaluationError: The knowledge does not suffice, or the attack is inapplicable.
        """

    @abstractmethod
    def embed(self, photos: Photos, *, protected: bool) -> Tensor:
        """One unit vector (N, D) for each photograph, whatever else is in the batch.

        Args:
            photos: Photographs to look at.
            protected: Whether they went through the protector; an attacker knows which side it looks at.
        """


class Restoration(ImageAttacker):
    """Undoes what it can of the protection, then looks with the recogniser as published.

    Clean photographs are looked at as they are.
    """

    _recogniser: Recogniser

    @abstractmethod
    def restore(self, images: Tensor) -> Tensor:
        """Photographs (N, 3, S, S) in 0..1 as the attacker wants to see them, from protected ones."""

    def clean(self, images: Tensor) -> Tensor:
        """The same for photographs that were never protected."""
        return images

    @torch.no_grad()
    def embed(self, photos: Photos, *, protected: bool) -> Tensor:
        """Embed restored photographs; see :meth:`ImageAttacker.embed`."""
        treat = self.restore if protected else self.clean
        images = torch.cat([treat(part) for part in photos.images().split(CHUNK)])
        return self._recogniser.embed(images, photos.points5)


def checked(knowledge: Knowledge) -> tuple[Tensor, int]:
    """Labels (N,) of the training people and their number.

    Raises:
        EvaluationError: Protected photographs are not those of the clean ones, or there are too few people.
    """
    for part, clean, protected in (
        ("training", knowledge.train, knowledge.train_protected),
        ("validation", knowledge.validation, knowledge.validation_protected),
    ):
        if len(clean) != len(protected) or not torch.equal(clean.identity, protected.identity):
            raise EvaluationError(
                f"{len(protected)} protected photographs for {part} do not pair with {len(clean)} clean ones; protect "
                "the same photographs in the same order."
            )
    return people_of(knowledge.train.identity)


def thin(photos: Photos, most: int) -> Tensor:
    """Positions of at most ``most`` photographs, spread evenly over the set."""
    count = len(photos)
    return torch.arange(count) if count <= most else torch.arange(most) * count // most


class Validation:
    """Protected probes against a clean gallery of the attacker's own people: how it chooses among settings.

    Args:
        knowledge: What the attacker is given.
        most: Probes that are tried at most; the gallery is kept whole.

    Attributes:
        gallery: Clean photographs that are enrolled.
        probes: Protected photographs, of other captures.

    Raises:
        EvaluationError: Gallery or probes are empty.
    """

    def __init__(self, knowledge: Knowledge, most: int) -> None:
        enrolled = knowledge.validation.gallery
        if bool(enrolled.all()) or not bool(enrolled.any()):
            raise EvaluationError(
                f"{int(enrolled.sum())} of {len(enrolled)} validation photographs are enrolled; choosing a setting "
                "needs both enrolled photographs and probes."
            )
        self.gallery = knowledge.validation.subset(enrolled)
        probes = knowledge.validation_protected.subset(~enrolled)
        self.probes = probes.subset(thin(probes, most))

    def score(self, gallery: Values, probes: Values) -> tuple[float, float]:
        """Rank-1 and, to settle ties, AUC of embeddings of the two sides."""
        matrix = score_matrix(gallery, self.gallery.identity, probes, self.probes.identity)
        return rank_k(matrix, 1), roc_auc(matrix.genuine, matrix.impostor)


def best(candidates: Sequence[Candidate], score: Callable[[Candidate], tuple[float, float]]) -> Candidate:
    """The candidate with the highest score, the earliest of equals."""
    scores = [score(candidate) for candidate in candidates]
    return candidates[scores.index(max(scores))]
