"""What landmarks alone tell about identity: the floor under every landmark camera.

Whoever releases landmarks with a given error leaks at least what this attacker finds in them. The attacker has the
best of several learners, chosen on people that are in neither training nor test:

* closed-form linear discriminants in the two-covariance model (Ioffe, "Probabilistic LDA", ECCV 2006), one of them, for
  few points, on products of coordinates too,
* two small networks trained with a cosine loss (Wang et al., "CosFace", CVPR 2018): one with a steep loss and a margin,
  for points that tell people apart well, one with a gentle loss, for few or noisy points, and
* each discriminant together with each network (the mean of both cosines).

All see the coordinates in the frame (size and place of the head can tell a person) and the similarity-aligned shape
(Procrustes), and the confidences of the points when there are any. The same class attacks cameras that release nothing
but a few whole-numbered coordinates, so that a camera and the floor under it meet the same strength.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from evaluation.discriminant import Discriminant, fit_discriminant
from evaluation.draws import normal
from evaluation.errors import EvaluationError
from evaluation.measures.metrics import Floats, rank_k, roc_auc, score_matrix

JITTER = 0.5  # training noise of the network for points given as released, in units of the scatter within a person
#: Scale and margin of the cosine loss. Steep pays off when most faces can be told apart (68 points); with five noisy
#: points it learns the training people by heart, and the gentle one finds a fifth to a third more.
NETWORKS = {"steep network": (24.0, 0.15), "gentle network": (3.0, 0.0)}
#: Up to so many points the products of their coordinates are features too; of more points there are thousands.
QUADRATIC_POINTS = 10
_AND = " and "


def _check(points: Tensor) -> Tensor:
    if points.ndim != 3 or points.shape[2] != 2:
        raise EvaluationError(f"landmarks must have shape (N, K, 2); got {tuple(points.shape)}.")
    if not bool(torch.isfinite(points).all()):
        raise EvaluationError("landmarks hold values that are not finite.")
    return points.to(torch.float32)


def _check_unit(unit: Tensor, count: int) -> Tensor:
    if unit.shape != (count,):
        raise EvaluationError(f"{count} faces need {count} eye distances; got the shape {tuple(unit.shape)}.")
    if not bool((unit > 0).all()):
        raise EvaluationError("some faces have outer eye corners at the same point; their error is undefined.")
    return unit.double()


def _check_error(nme: float) -> None:
    if not nme >= 0:
        raise EvaluationError(f"the landmark error is {nme}; it must be zero or positive.")


def normalised_mean_error(predicted: Tensor, true: Tensor, unit: Tensor) -> float:
    """Mean distance of points (N, K, 2) over the true outer-eye-corner distance (N,), mean over points and faces."""
    predicted, true = _check(predicted), _check(true)
    if predicted.shape != true.shape:
        raise EvaluationError(f"points {tuple(predicted.shape)} cannot be compared with {tuple(true.shape)} true ones.")
    error = (predicted - true).norm(dim=-1).double() / _check_unit(unit, len(true))[:, None]
    return float(error.mean())


def noise_sd_px(unit: Tensor, nme: float) -> float:
    """Standard deviation per coordinate, in pixels, of isotropic Gaussian noise whose expected error is ``nme``.

    The length of a two-dimensional Gaussian error has mean sd * sqrt(pi / 2) (Rayleigh distribution). ``unit`` (N,) are
    the outer-eye-corner distances of the faces in pixels.
    """
    _check_error(nme)
    return nme / (math.sqrt(math.pi / 2) * float((1 / _check_unit(unit, len(unit))).mean()))


def add_landmark_noise(points: Tensor, unit: Tensor, nme: float, generator: torch.Generator) -> Tensor:
    """Points (N, K, 2) with isotropic Gaussian noise scaled so that *this* set has exactly the given error.

    Args:
        points: True points in pixels.
        unit: (N,) outer-eye-corner distances of the faces in pixels.
        nme: Normalised mean error to reach, zero or positive.
        generator: Source of the noise.
    """
    points = _check(points)
    _check_error(nme)
    noise = normal(points.shape, generator, points)
    drawn = float((noise.norm(dim=-1).double() / _check_unit(unit, len(points))[:, None]).mean())
    return points + noise * (nme / drawn)


def align_shapes(points: Tensor, reference: Tensor) -> Tensor:
    """Least-squares similarity of every shape (N, K, 2) onto a centred reference shape (K, 2).

    In the complex plane the best rotation and scale of a centred shape z onto r is the single number
    sum(conj(z) r) / sum(|z|^2).
    """
    centred = points - points.mean(dim=1, keepdim=True)
    shape = torch.view_as_complex(centred.contiguous())
    target = torch.view_as_complex(reference.contiguous())
    power = shape.abs().square().sum(dim=1, keepdim=True).clamp_min(1e-12)
    turn = (shape.conj() * target).sum(dim=1, keepdim=True) / power
    return torch.view_as_real(shape * turn)


class _Features:
    """Points to feature rows; everything learned here comes from the training people."""

    def __init__(self, points: Tensor, confidence: Tensor | None, frame_size: float) -> None:
        self.frame_size = frame_size
        self.with_confidence = confidence is not None
        reference = points[0] - points[0].mean(dim=0)
        for _ in range(3):  # the Procrustes mean settles in two or three rounds
            mean = align_shapes(points, reference).mean(dim=0)
            reference = mean / mean.norm().clamp_min(1e-12)
        self.reference = reference
        raw = self._raw(points)
        self.middle, self.spread = raw.mean(dim=0), raw.std(dim=0).clamp_min(1e-6)

    def _raw(self, points: Tensor) -> Tensor:
        return (points / self.frame_size - 0.5).flatten(1)

    def __call__(self, points: Tensor, confidence: Tensor | None) -> dict[str, Tensor]:
        if points.shape[1:] != self.reference.shape:
            raise EvaluationError(f"this attacker was trained on {len(self.reference)} points; got {points.shape[1]}.")
        if (confidence is not None) != self.with_confidence:
            raise EvaluationError("give point confidences both in training and in use, or in neither.")
        raw = self._raw(points)
        shape = align_shapes(points, self.reference).flatten(1)
        extra: list[Tensor] = []
        if confidence is not None:
            if confidence.shape != points.shape[:2]:
                raise EvaluationError(
                    f"confidences must have shape (N, {points.shape[1]}); got {tuple(confidence.shape)}."
                )
            extra = [confidence.to(torch.float32)]
        found = {
            "shape": torch.cat([shape, *extra], dim=1),
            "frame": torch.cat([raw, *extra], dim=1),
            "both": torch.cat([raw, shape, *extra], dim=1),
        }
        if len(self.reference) <= QUADRATIC_POINTS:
            scaled = (raw - self.middle) / self.spread
            one, other = torch.triu_indices(raw.shape[1], raw.shape[1], device=raw.device)
            found["products"] = torch.cat([found["both"], scaled[:, one] * scaled[:, other]], dim=1)
        return found


class _Network(nn.Module):
    """Closed-form discriminant plus a learned correction, which starts at zero.

    It works on the axes of the discriminant, where within-person scatter is white; started from raw coordinates the
    same network needs far more steps than there are captures for.
    """

    def __init__(self, start: Discriminant, dim: int = 64, width: int = 256, axes: int = 128) -> None:
        super().__init__()
        self.mean: Tensor
        self.axes: Tensor
        self.register_buffer("mean", torch.from_numpy(start.mean.copy()).float())
        self.register_buffer("axes", torch.from_numpy(start.axes[:, :axes].copy()).float())
        inputs, dim = self.axes.shape[1], min(dim, self.axes.shape[1])
        self.linear = nn.Linear(inputs, dim, bias=False)
        # An axis without weight still gets a little: the direction of an embedding of length zero has no gradient.
        weights = torch.from_numpy(start.weights[:dim].copy()).float().clamp_min(1e-3)
        self.linear.weight = nn.Parameter(torch.diag(weights)[:, :dim] @ torch.eye(dim, inputs))
        last = nn.Linear(width, dim)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.correction = nn.Sequential(
            nn.Linear(inputs, width), nn.LayerNorm(width), nn.GELU(), nn.Linear(width, width), nn.GELU(), last
        )

    def project(self, rows: Tensor) -> Tensor:
        """Features on the discriminant axes; variance within a person is 1 on each."""
        return (rows - self.mean) @ self.axes

    def head(self, seen: Tensor) -> Tensor:
        """Embeddings of projected features."""
        return self.linear(seen) + self.correction(seen)

    def forward(self, rows: Tensor) -> Tensor:
        return self.head(self.project(rows))


class LandmarkAttacker:
    """Recogniser of people from landmark positions (and, if given, their confidences) alone.

    Args:
        frame_size: Side of the frame the coordinates belong to, pixels; it scales the network's input.
        seed: Seed for initial weights, batches and noise. The same seed gives the same embeddings.
        steps: Training steps of each network.
        batch: Faces in a step.

    After :meth:`fit`, ``chosen`` names the learner in use and ``validation`` holds (rank-1, AUC) of each candidate.
    """

    def __init__(self, frame_size: float, *, seed: int = 0, steps: int = 500, batch: int = 256) -> None:
        if not frame_size > 0:
            raise EvaluationError(f"frame_size is {frame_size} pixels; it must be positive.")
        self.frame_size, self.seed, self.steps, self.batch = float(frame_size), seed, steps, batch
        self.chosen = ""
        self.validation: dict[str, tuple[float, float]] = {}

    def fit(
        self,
        points: Tensor,
        identity: Tensor,
        *,
        noise_px: float = 0.0,
        confidence: Tensor | None = None,
        validation: tuple[Tensor, Tensor] | None = None,
        validation_confidence: Tensor | None = None,
    ) -> LandmarkAttacker:
        """Train on the training people and keep the best learner.

        Args:
            points: (N, K, 2), K >= 1; aligned shapes tell something from three points on. True points when
                ``noise_px`` > 0, else points as they are released.
            identity: (N,) whole numbers.
            noise_px: Standard deviation per coordinate of the error to add (:func:`noise_sd_px`): fresh noise in every
                step of the networks, a few draws for the closed form, one for validation. 0 for points that already
                carry their error.
            confidence: (N, K) of the points, if the release carries it.
            validation: (points, identity) of other people; without it, every sixth training person is kept out.
            validation_confidence: (M, K), with ``validation``.
        """
        points = _check(points)
        if points.shape[1] < 1 or not noise_px >= 0:
            raise EvaluationError(
                f"got {points.shape[1]} points and noise of {noise_px} pixels; at least one point and noise that is "
                "not negative are needed."
            )
        identity = identity.to(points.device, torch.int64)
        if len(identity) != len(points):
            raise EvaluationError(f"{len(points)} faces came with {len(identity)} identities.")
        if validation is None:
            people = torch.unique(identity)
            held = torch.isin(identity, people[::6])
            validation = points[held], identity[held]
            if confidence is not None:
                validation_confidence, confidence = confidence[held], confidence[~held]
            points, identity = points[~held], identity[~held]
        elif bool(torch.isin(validation[1], identity).any()):
            raise EvaluationError("some validation people are also in training; keep the two apart.")
        if len(points) == 0 or len(torch.unique(identity)) < 4:
            raise EvaluationError(f"{len(torch.unique(identity))} people are too few to train on; give at least 4.")
        generator = torch.Generator().manual_seed(self.seed)
        fixed = points + noise_px * normal(points.shape, generator, points)
        tested = _check(validation[0])
        tested = tested + noise_px * normal(tested.shape, generator, tested)
        self._features = _Features(fixed, confidence, self.frame_size)

        # Several noisy copies cost nothing in closed form and settle the within-person covariance.
        copies = 1 if noise_px == 0 else 4
        noisy = points.repeat(copies, 1, 1)
        noisy = noisy + noise_px * normal(noisy.shape, generator, noisy)
        repeated = None if confidence is None else confidence.repeat(copies, 1)
        labels = identity.repeat(copies).cpu().numpy()
        closed = {
            f"discriminant on {name}": fit_discriminant(rows.double().cpu().numpy(), labels)
            for name, rows in self._features(noisy, repeated).items()
        }
        self._learners: dict[str, Discriminant | _Network] = {**closed}
        for name, loss in NETWORKS.items():
            start = closed["discriminant on both"]
            self._learners[name] = self._train(points, identity, confidence, noise_px, start, loss, generator)
        alone = {name: self._apply(name, tested, validation_confidence) for name in self._learners}
        pairs = [f"{network}{_AND}{name}" for network in NETWORKS for name in closed]
        self.validation = {
            name: _rank1_and_auc(_joined(name, alone), validation[1].cpu().numpy()) for name in [*alone, *pairs]
        }
        self.chosen = max(self.validation, key=lambda name: self.validation[name])
        return self

    def embed(self, points: Tensor, confidence: Tensor | None = None) -> Tensor:
        """Unit embeddings (N, D) of released points (N, K, 2); no noise is added here."""
        if not self.chosen:
            raise EvaluationError("this attacker has not been trained; call fit first.")
        rows = {name: self._apply(name, _check(points), confidence) for name in self.chosen.split(_AND)}
        return torch.from_numpy(_joined(self.chosen, rows)).to(points.device)

    def _apply(self, name: str, points: Tensor, confidence: Tensor | None) -> Floats:
        features = self._features(points, confidence)
        learner = self._learners[name]
        if isinstance(learner, Discriminant):
            rows = learner(features[name.rsplit(" ", 1)[1]].double().cpu().numpy())
        else:
            with torch.no_grad():
                rows = learner(features["both"]).double().cpu().numpy()
        return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30))

    def _train(
        self,
        points: Tensor,
        identity: Tensor,
        confidence: Tensor | None,
        noise_px: float,
        start: Discriminant,
        loss: tuple[float, float],
        generator: torch.Generator,
    ) -> _Network:
        people, target = torch.unique(identity, return_inverse=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = _Network(start).to(points.device)
        with torch.no_grad():
            rows = network(self._features(points, confidence)["both"])
            centres = rows.new_zeros(len(people), rows.shape[1]).index_add_(0, target, functional.normalize(rows))
        centres = nn.Parameter(functional.normalize(centres))
        optimiser = torch.optim.AdamW([*network.parameters(), centres], lr=1e-3, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, total_steps=self.steps)
        scale, margin = loss
        # Points given as released cannot be drawn afresh; jitter stands in against learning them by heart.
        jitter = 0.0 if noise_px > 0 else JITTER
        for _ in range(self.steps):
            pick = torch.randint(len(points), (min(self.batch, len(points)),), generator=generator)
            seen = points[pick]
            seen = seen + noise_px * normal(seen.shape, generator, seen)
            features = self._features(seen, None if confidence is None else confidence[pick])["both"]
            projected = network.project(features)
            projected = projected + jitter * normal(projected.shape, generator, projected)
            cosine = functional.normalize(network.head(projected)) @ functional.normalize(centres).T
            logits = scale * (cosine - margin * functional.one_hot(target[pick], len(people)))
            optimiser.zero_grad()
            functional.cross_entropy(logits, target[pick]).backward()
            optimiser.step()
            schedule.step()
        return network.eval()


def _joined(name: str, rows: Mapping[str, Floats]) -> Floats:
    """Embeddings of one learner, or of two: then an inner product is the mean of both cosines."""
    parts = [rows[part] for part in name.split(_AND)]
    return np.asarray(np.concatenate(parts, axis=1) / math.sqrt(len(parts)))


def _rank1_and_auc(embeddings: Floats, identity: np.ndarray) -> tuple[float, float]:
    """Gallery: the first half of the captures of each person; probes: the rest."""
    order = np.argsort(identity, kind="stable")
    _, first, count = np.unique(identity[order], return_index=True, return_counts=True)
    turn = np.arange(len(order)) - np.repeat(first, count)
    gallery, probe = order[turn < np.repeat((count + 1) // 2, count)], order[turn >= np.repeat((count + 1) // 2, count)]
    if len(first) < 2 or len(probe) == 0:
        raise EvaluationError("validation needs at least 2 people, one of them with 2 captures.")
    matrix = score_matrix(embeddings[gallery], identity[gallery], embeddings[probe], identity[probe])
    return rank_k(matrix, 1), roc_auc(matrix.genuine, matrix.impostor)


@dataclass(frozen=True)
class LandmarkFloor:
    """Embeddings of the landmark-only release, ready for the same measures as any camera.

    Attributes:
        gallery: (N, D) and probes (P, D), unit rows.
        noise_px: Standard deviation per coordinate of the released points.
        learner: Which learner was chosen on validation.
        validation: (rank-1, AUC) of every candidate on validation people.
    """

    gallery: Floats
    probes: Floats
    noise_px: float
    learner: str
    validation: dict[str, tuple[float, float]]


def landmark_floor(
    train: tuple[Tensor, Tensor],
    gallery: Tensor,
    probes: Tensor,
    *,
    noise_px: float,
    frame_size: float,
    seed: int = 0,
    validation: tuple[Tensor, Tensor] | None = None,
    steps: int = 500,
) -> LandmarkFloor:
    """Release true points with noise and attack them.

    Args:
        train: (true points (N, K, 2), identity (N,)) of the training people.
        gallery: True points (M, K, 2) of the gallery photos; they are released with noise too.
        probes: True points (P, K, 2) of the probes.
        noise_px: Standard deviation per coordinate of the release, pixels (:func:`noise_sd_px` for a given error).
        frame_size: Side of the frame, pixels.
        seed: Seed for noise and training.
        validation: (points, identity) of people outside training and test.
        steps: Number of training steps of each network.
    """
    attacker = LandmarkAttacker(frame_size, seed=seed, steps=steps)
    attacker.fit(*train, noise_px=noise_px, validation=validation)
    generator = torch.Generator().manual_seed(seed + 1)
    shown = [points + noise_px * normal(points.shape, generator, points) for points in (gallery, probes)]
    enrolled, asked = (attacker.embed(points).cpu().numpy() for points in shown)
    return LandmarkFloor(enrolled, asked, noise_px, attacker.chosen, attacker.validation)
