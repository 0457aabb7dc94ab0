"""What protected photographs still serve for: gender, expression and landmarks as networks read them, and realism.

The networks of :mod:`faces.face_api` see the crop around the points of the *clean* photograph, so a face that a
detector misses does not count twice: that is the failure to acquire of :mod:`evaluation.matrix.quality`. What cannot
be measured, mostly for want of weights, is None with a reason, never 0. The direction of gaze is not measured at all:
no published package holds a network for it that could be registered in :mod:`faces.weights`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from evaluation.errors import EvaluationError
from evaluation.image_attackers.base import thin
from evaluation.matrix.jobs import Site, guarded
from evaluation.matrix.keys import content_key, tensor_hash
from evaluation.matrix.store import Store
from evaluation.measures.attributes import balanced_accuracy, class_agreement, nme_increase
from evaluation.measures.gates import LEAST_PEOPLE
from evaluation.measures.metrics import Floats, Values, as_array
from evaluation.photos import Photos
from faces import weights
from faces.face_api import chips, load_age_gender_net, load_expression_net, load_landmark_net
from faces.landmarks import nme
from faces.samples import interocular

#: Photographs that the networks of face-api read at most, spread evenly over the probes.
MOST = 128
_CHUNK = 32

#: Columns that could be measured, and reasons for others.
Found = tuple[dict[str, float], dict[str, str]]
#: Columns of the result table that come from here; see :func:`gender`, :func:`expression`, :func:`landmarks` and
#: :func:`realism`. The numbers of photographs are None where nothing was read.
COLUMNS = (
    "gender_agreement",
    "gender_balanced_agreement",
    "gender_accuracy",
    "gender_accuracy_clean",
    "expression_unchanged",
    "expression_agreement",
    "nme_clean",
    "nme_increase",
    "utility_photos",
    "kid",
    "kid_sd",
    "kid_photos",
)


@dataclass(frozen=True)
class Pairs:
    """Probes before and after protection.

    Attributes:
        clean: The clean photographs.
        protected: The same photographs, protected, in the same order.
        male: Whether (N,) each person was drawn as a man, for synthetic heads; None where nobody knows.
    """

    clean: Photos
    protected: Photos
    male: Tensor | None


def measure(site: Site, everything: Photos, protected: Photos) -> Found:
    """All of :data:`COLUMNS` that could be measured, and a reason for each of the others.

    Args:
        site: Where everything of the run lies.
        everything: Photographs of the test, gallery and probes.
        protected: The same photographs, protected.
    """
    probes = torch.nonzero(~everything.gallery)[:, 0]
    few = probes[thin(everything.subset(probes), MOST)]
    clean = everything.subset(few)
    male = drawn_as_men(clean.identity, site.config.seed) if site.config.faces == "synthetic" else None
    pairs = Pairs(clean, protected.subset(few), male)
    found: dict[str, float] = {}
    reasons: dict[str, str] = {}
    for columns, measured in (
        (COLUMNS[:4], lambda: gender(site.store, pairs)),
        (COLUMNS[4:6], lambda: expression(site.store, pairs)),
        (COLUMNS[6:8], lambda: landmarks(site.store, pairs)),
        (COLUMNS[9:11], lambda: realism(site, everything, protected)),
    ):
        outcome = guarded(measured)
        values, reason = outcome.value or ({}, {})
        found.update(values)
        reasons.update({column: reason.get(column, outcome.reason) for column in columns if column not in found})
    if any(column in found for column in COLUMNS[:8]):
        found["utility_photos"] = len(few)
    return found, reasons


def gender(store: Store, pairs: Pairs) -> Found:
    """Whether :class:`faces.face_api.AgeGenderNet` names the same gender before and after; figures and reasons.

    ``gender_agreement`` is the share of photographs of which the network's answer is unchanged,
    ``gender_balanced_agreement`` the balanced accuracy of its answer after protection against *its own* answer before
    (so neither says that it is right). Where the gender is known, ``gender_accuracy`` and ``gender_accuracy_clean`` are
    its balanced accuracies against that.
    """

    def read(photos: Photos) -> Tensor:
        network = load_age_gender_net()
        return _by_chips(photos, lambda chip: network(chip)[1].argmax(1))

    before, after = (_once(store, "age-gender", photos, read) for photos in (pairs.clean, pairs.protected))
    figures = {"gender_agreement": float((before == after).double().mean())}
    reasons: dict[str, str] = {}
    tried: list[tuple[str, Tensor, Tensor | None]] = [
        ("gender_balanced_agreement", after, before),
        ("gender_accuracy", after, None if pairs.male is None else 1 - pairs.male.long()),
        ("gender_accuracy_clean", before, None if pairs.male is None else 1 - pairs.male.long()),
    ]
    for column, named, truth in tried:
        if truth is None:
            reasons[column] = "nobody wrote down the gender of these people"
            continue
        try:
            figures[column] = balanced_accuracy(named, truth, pairs.clean.identity).value
        except EvaluationError as error:
            reasons[column] = str(error)
    return figures, reasons


def expression(store: Store, pairs: Pairs) -> Found:
    """How far :class:`faces.face_api.ExpressionNet` answers alike before and after; figures and reasons.

    ``expression_unchanged`` is the share of photographs with the same best class, ``expression_agreement`` the mean of
    1 - total variation of its distributions (:func:`evaluation.measures.attributes.class_agreement`).
    """

    def read(photos: Photos) -> Tensor:
        network = load_expression_net()
        return _by_chips(photos, lambda chip: network(chip).double().softmax(1))

    before, after = (_once(store, "face-expression", photos, read) for photos in (pairs.clean, pairs.protected))
    return {
        "expression_unchanged": float((before.argmax(1) == after.argmax(1)).double().mean()),
        "expression_agreement": float(class_agreement(before, after).mean()),
    }, {}


def landmarks(store: Store, pairs: Pairs) -> Found:
    """Rise of the error of the 68 landmarks of :class:`faces.face_api.LandmarkNet68`; figures and reasons.

    On synthetic heads the error is against the true landmarks, and ``nme_clean`` is the one before protection. On
    photographs nobody knows these: the network's own answer on the clean photograph stands for them, ``nme_clean`` is
    None, and ``nme_increase`` is how far its answer moved. In units of the distance of the outer eye corners.
    """

    def read(photos: Photos) -> Tensor:
        network = load_landmark_net()
        pieces = zip(photos.images().split(_CHUNK), photos.points5.split(_CHUNK), strict=True)
        return torch.cat([network.landmarks(images * 255, points) for images, points in pieces])

    before, after = (_once(store, "face-landmark-68", photos, read) for photos in (pairs.clean, pairs.protected))
    known = pairs.clean.faces.landmarks
    marked = bool(torch.isfinite(known).all())
    truth = known if marked else before
    unit = interocular(truth)
    figures = {"nme_increase": float(nme_increase(after, before, truth, unit).double().mean())}
    if not marked:
        return figures, {"nme_clean": "nobody marked the true landmarks of these photographs"}
    return {**figures, "nme_clean": float(nme(before, truth, unit).double().mean())}, {}


def realism(site: Site, everything: Photos, protected: Photos) -> Found:
    """:func:`paired_kernel_distance` of protected and clean probes by the first recogniser that can be loaded.

    Its embeddings are what every attack looks up anyway, so they cost nothing. They carry identity: a protector that
    moves people far has a large distance, however natural its pictures look.
    """
    probes = ~everything.gallery
    people = len(torch.unique(everything.identity[probes]))
    if people < LEAST_PEOPLE:
        raise EvaluationError(f"{people} people are fewer than {LEAST_PEOPLE}; a kernel distance needs more.")
    tried = [guarded(site.recogniser, name) for name in site.config.recognisers]
    network = next((outcome.value for outcome in tried if outcome.value is not None), None)
    if network is None:
        raise EvaluationError("; ".join(dict.fromkeys(outcome.reason for outcome in tried)))
    with torch.no_grad():
        # All photographs in their order, as attacks embed them, so that the memory of the recogniser knows them.
        before, after = (network.embed(photos.images(), photos.points5)[probes] for photos in (everything, protected))
    found = paired_kernel_distance(before, after, everything.identity[probes])
    return {"kid": found[0], "kid_sd": found[1], "kid_photos": int(probes.sum())}, {}


def paired_kernel_distance(first: Values, second: Values, identity: Values) -> tuple[float, float]:
    """Kernel distance of two views of the same photographs, unbiased in spite of the pairing.

    The squared maximum mean discrepancy of :func:`evaluation.measures.quality.kernel_distance` takes its two samples as
    independent. Here they show the same people, so all three of its means leave out pairs of one person. Without
    protection the result is exactly 0. The kernel is (cosine + 1)^3, that is, features have the length sqrt(D).

    Args:
        first: Unit features (N, D).
        second: Unit features (N, D) of the other view of the same photographs.
        identity: Person (N,) on each photograph.

    Returns:
        The distance, and its standard deviation by the jackknife over people (Efron & Stein, Ann. Stat. 9, 1981).

    Raises:
        EvaluationError: shapes disagree, or there are fewer than 3 people.
    """
    x, y = (as_array(values).astype(np.float64) for values in (first, second))
    people, place = np.unique(as_array(identity), return_inverse=True)
    if x.shape != y.shape or x.ndim != 2 or len(place) != len(x) or len(people) < 3:
        raise EvaluationError(
            f"need features (N, D) twice, a person for each row and at least 3 people; got {x.shape}, {y.shape} and "
            f"{len(place)} rows of {len(people)} people."
        )

    def kernel(one: Floats, other: Floats) -> Floats:
        return np.asarray((one @ other.T + 1) ** 3)

    crossed = kernel(x, y)
    member = np.eye(len(people))[place]
    sums = member.T @ (kernel(x, x) + kernel(y, y) - crossed - crossed.T) @ member
    counts = np.outer(member.sum(0), member.sum(0))
    for table in (sums, counts):
        np.fill_diagonal(table, 0)
    without = (sums.sum() - 2 * sums.sum(1)) / (counts.sum() - 2 * counts.sum(1))
    spread = (len(people) - 1) / len(people) * ((without - without.mean()) ** 2).sum()
    return float(sums.sum() / counts.sum()), float(np.sqrt(spread))


def drawn_as_men(identity: Tensor, seed: int) -> Tensor:
    """Whether synthetic people (N,) of a seed were drawn as men, (N,) bool; some milliseconds for each person."""
    from faces.synthetic.identity import draw_identity

    people, place = torch.unique(identity, return_inverse=True)
    return torch.tensor([draw_identity(seed, number).male > 0.5 for number in people.tolist()])[place]


def _by_chips(photos: Photos, network: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.cat([network(part) for part in chips(photos.images() * 255, photos.points5).split(_CHUNK)])


def _once(store: Store, name: str, photos: Photos, read: Callable[[Photos], Tensor]) -> Tensor:
    """What a network reads from photographs, looked up where it has seen them before."""
    # Before the store is asked: weights that were taken away must not live on there.
    weights.verify(name)
    pictures = tensor_hash(photos.faces.images, photos.points5)
    key = content_key("read", __name__, network=name, weights=weights.info(name).sha256, pictures=pictures)
    with torch.no_grad():
        found, _ = store.once(key, lambda: ({"found": read(photos)}, {}))
    return found["found"]
