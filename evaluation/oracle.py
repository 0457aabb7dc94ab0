"""What landmarks alone tell about identity: the floor under every landmark camera.

Whoever releases landmarks with a given error leaks at least what this attacker finds in them. The attacker has the
best of two learners, chosen on people that are in neither training nor test:

* a closed-form linear discriminant in the two-covariance model (Ioffe, "Probabilistic LDA", ECCV 2006), and
* a small network trained with a large-margin cosine loss (Wang et al., "CosFace", CVPR 2018).

Both see the coordinates in the frame (size and place of the head can tell a person) and the similarity-aligned shape
(Procrustes), and the confidences of the points when there are any.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from evaluation.errors import EvaluationError
from evaluation.metrics import Floats, rank_k, roc_auc, score_matrix

JITTER = 0.5  # training noise of the network for points given as released, in units of the scatter within a person
FUSED = "network and discriminant on shape"
OUTER_EYES = (36, 45)  # outer corners in iBUG-68 order, the usual normaliser of the 300-W error


def _check(landmarks: Tensor) -> Tensor:
    if landmarks.ndim != 3 or landmarks.shape[1:] != (68, 2):
        raise EvaluationError(f"landmarks must have shape (N, 68, 2); got {tuple(landmarks.shape)}.")
    if not bool(torch.isfinite(landmarks).all()):
        raise EvaluationError("landmarks hold values that are not finite.")
    return landmarks.to(torch.float32)


def _interocular(landmarks: Tensor) -> Tensor:
    right, left = OUTER_EYES
    distance = (landmarks[:, right] - landmarks[:, left]).norm(dim=-1)
    if bool((distance <= 0).any()):
        raise EvaluationError("some faces have outer eye corners at the same point; their error is undefined.")
    return distance


def normalised_mean_error(predicted: Tensor, true: Tensor) -> float:
    """Mean point error over the true outer-eye-corner distance, averaged over points and faces (both (N, 68, 2))."""
    predicted, true = _check(predicted), _check(true)
    if predicted.shape != true.shape:
        raise EvaluationError(f"{len(predicted)} predicted faces cannot be compared with {len(true)} true ones.")
    error = (predicted - true).norm(dim=-1) / _interocular(true)[:, None]
    return float(error.double().mean())


def noise_sd_px(landmarks: Tensor, nme: float) -> float:
    """Standard deviation per coordinate, in pixels, of isotropic Gaussian noise whose expected error is ``nme``.

    The length of a two-dimensional Gaussian error has mean sd * sqrt(pi / 2) (Rayleigh distribution).
    """
    if not nme >= 0:
        raise EvaluationError(f"the landmark error is {nme}; it must be zero or positive.")
    inverse = float((1 / _interocular(_check(landmarks))).double().mean())
    return nme / (math.sqrt(math.pi / 2) * inverse)


def add_landmark_noise(landmarks: Tensor, nme: float, generator: torch.Generator) -> Tensor:
    """Landmarks (N, 68, 2) with isotropic Gaussian noise scaled so that *this* set has exactly the given error.

    Args:
        landmarks: true points in pixels.
        nme: normalised mean error to reach (inter-ocular), zero or positive.
        generator: source of the noise.
    """
    landmarks = _check(landmarks)
    if not nme >= 0:
        raise EvaluationError(f"the landmark error is {nme}; it must be zero or positive.")
    noise = torch.randn(landmarks.shape, generator=generator)
    drawn = float((noise.norm(dim=-1) / _interocular(landmarks)[:, None]).double().mean())
    return landmarks + noise * (nme / drawn)


def align_shapes(landmarks: Tensor, reference: Tensor) -> Tensor:
    """Least-squares similarity of every shape (N, 68, 2) onto a centred reference shape (68, 2).

    In the complex plane the best rotation and scale of a centred shape z onto r is the single number
    sum(conj(z) r) / sum(|z|^2).
    """
    centred = landmarks - landmarks.mean(dim=1, keepdim=True)
    shape = torch.view_as_complex(centred.contiguous())
    target = torch.view_as_complex(reference.contiguous())
    power = shape.abs().square().sum(dim=1, keepdim=True).clamp_min(1e-12)
    turn = (shape.conj() * target).sum(dim=1, keepdim=True) / power
    return torch.view_as_real(shape * turn)


class _Features:
    """Landmarks to feature rows; everything learned here comes from the training people."""

    def __init__(self, landmarks: Tensor, confidence: Tensor | None, frame_size: float) -> None:
        self.frame_size = frame_size
        self.with_confidence = confidence is not None
        reference = landmarks[0] - landmarks[0].mean(dim=0)
        for _ in range(3):  # the Procrustes mean settles in two or three rounds
            mean = align_shapes(landmarks, reference).mean(dim=0)
            reference = mean / mean.norm()
        self.reference = reference

    def __call__(self, landmarks: Tensor, confidence: Tensor | None) -> dict[str, Tensor]:
        if (confidence is not None) != self.with_confidence:
            raise EvaluationError("give point confidences both in training and in use, or in neither.")
        raw = (landmarks / self.frame_size - 0.5).flatten(1)
        shape = align_shapes(landmarks, self.reference).flatten(1)
        extra: list[Tensor] = []
        if confidence is not None:
            if confidence.shape != landmarks.shape[:2]:
                raise EvaluationError(f"confidences must have shape (N, 68); got {tuple(confidence.shape)}.")
            extra = [confidence.to(torch.float32)]
        return {
            "shape": torch.cat([shape, *extra], dim=1),
            "frame": torch.cat([raw, *extra], dim=1),
            "both": torch.cat([raw, shape, *extra], dim=1),
        }


@dataclass(frozen=True)
class Discriminant:
    """Linear map whose cosine approximates the two-covariance log-likelihood ratio.

    Attributes:
        mean: (D,) of the training rows.
        axes: (D, D) discriminant directions, the strongest first; variance within a person is 1 on each.
        weights: (D,) factor of each axis.
    """

    mean: Floats
    axes: Floats
    weights: Floats

    def __call__(self, rows: Floats) -> Floats:
        """Embeddings (N, D), not normalised, of rows (N, D)."""
        return (rows - self.mean) @ self.axes * self.weights


def fit_discriminant(rows: Floats, identity: np.ndarray, ridge: float = 1e-3) -> Discriminant:
    """Two-covariance discriminant from labelled rows (N, D).

    Within-person scatter is whitened; in the eigenbasis of the between-person covariance, with variance b_k per axis
    against a within variance of 1, the product term of the log-likelihood ratio of "same person" has the weight
    b_k / (1 + 2 b_k). Axes are scaled by its square root, so that an inner product is that term.

    Args:
        rows: features.
        identity: whole number for each row; at least two people, one of them with two rows.
        ridge: share of the mean within variance added to every axis.
    """
    people, place, count = np.unique(identity, return_inverse=True, return_counts=True)
    if len(people) < 2 or count.max() < 2:
        raise EvaluationError("training needs at least 2 people and one of them with 2 captures.")
    mean = rows.mean(axis=0)
    scale = rows.std(axis=0).mean() or 1.0
    centred = (rows - mean) / scale
    sums = np.zeros((len(people), rows.shape[1]))
    np.add.at(sums, place, centred)
    means = sums / count[:, None]
    within = centred - means[place]
    sw = within.T @ within / max(len(rows) - len(people), 1)
    sw += (ridge * np.trace(sw) / len(sw) + 1e-9) * np.eye(len(sw))
    # Means of n noisy rows carry sw / n of within-person variance; it is taken off the between-person part.
    sb = means.T @ means / len(people) - sw * float((1 / count).mean())
    value, vector = np.linalg.eigh(sw)
    whiten = vector / np.sqrt(value)
    between, axes = np.linalg.eigh(whiten.T @ sb @ whiten)
    between = np.clip(between, 0.0, None)
    # Strongest axis first.
    return Discriminant(mean, (whiten @ axes / scale)[:, ::-1], np.sqrt(between / (1 + 2 * between))[::-1])


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
        weights = torch.from_numpy(start.weights[:dim].copy()).float()
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
    """Recogniser of people from 68 landmark positions (and, if given, their confidences) alone.

    Args:
        frame_size: side of the frame the coordinates belong to, pixels; it scales the network's input.
        seed: of initial weights, batches and noise. The same seed gives the same embeddings.
        steps: training steps of the network.
        batch: faces in a step.

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
        landmarks: Tensor,
        identity: Tensor,
        *,
        nme: float = 0.0,
        confidence: Tensor | None = None,
        validation: tuple[Tensor, Tensor] | None = None,
        validation_confidence: Tensor | None = None,
    ) -> LandmarkAttacker:
        """Train on the training people and keep the better learner.

        Args:
            landmarks: (N, 68, 2). True points when ``nme`` > 0, else points as they are released.
            identity: (N,) whole numbers.
            nme: landmark error to add: fresh noise in every step of the network, one draw for the closed form and
                for validation. 0 for points that already carry their error.
            confidence: (N, 68) of the points, if the release carries it.
            validation: (landmarks, identity) of other people; without it, every sixth training person is kept out.
            validation_confidence: (M, 68), with ``validation``.
        """
        landmarks = _check(landmarks)
        identity = identity.to(torch.int64)
        if len(identity) != len(landmarks):
            raise EvaluationError(f"{len(landmarks)} faces came with {len(identity)} identities.")
        if validation is None:
            people = torch.unique(identity)
            held = torch.isin(identity, people[::6])
            validation = landmarks[held], identity[held]
            if confidence is not None:
                validation_confidence, confidence = confidence[held], confidence[~held]
            landmarks, identity = landmarks[~held], identity[~held]
        elif bool(torch.isin(validation[1], identity).any()):
            raise EvaluationError("some validation people are also in training; keep the two apart.")
        if len(landmarks) == 0 or len(torch.unique(identity)) < 4:
            raise EvaluationError(f"{len(torch.unique(identity))} people are too few to train on; give at least 4.")
        generator = torch.Generator().manual_seed(self.seed)
        sd = noise_sd_px(landmarks, nme)
        fixed = landmarks + sd * torch.randn(landmarks.shape, generator=generator)
        tested = _check(validation[0])
        tested = tested + sd * torch.randn(tested.shape, generator=generator)
        self._features = _Features(fixed, confidence, self.frame_size)

        # Several noisy copies cost nothing in closed form and settle the within-person covariance.
        copies = 1 if sd == 0 else 4
        noisy = landmarks.repeat(copies, 1, 1)
        noisy = noisy + sd * torch.randn(noisy.shape, generator=generator)
        repeated = None if confidence is None else confidence.repeat(copies, 1)
        labels = identity.repeat(copies).numpy()
        closed = {
            f"discriminant on {name}": fit_discriminant(rows.double().numpy(), labels)
            for name, rows in self._features(noisy, repeated).items()
        }
        network = self._train(landmarks, identity, confidence, sd, closed["discriminant on both"], generator)
        self._learners: dict[str, Discriminant | _Network] = {**closed, "network": network}
        self.validation = {
            name: _rank1_and_auc(self._apply(name, tested, validation_confidence), validation[1].numpy())
            for name in [*self._learners, FUSED]
        }
        self.chosen = max(self.validation, key=lambda name: self.validation[name])
        return self

    def embed(self, landmarks: Tensor, confidence: Tensor | None = None) -> Tensor:
        """Unit embeddings (N, D) of released landmarks (N, 68, 2); no noise is added here."""
        if not self.chosen:
            raise EvaluationError("this attacker has not been trained; call fit first.")
        return torch.from_numpy(self._apply(self.chosen, _check(landmarks), confidence))

    def _apply(self, name: str, landmarks: Tensor, confidence: Tensor | None) -> Floats:
        if name == FUSED:  # the mean of both cosines
            pair = [self._apply(part, landmarks, confidence) for part in ("discriminant on shape", "network")]
            return np.asarray(np.concatenate(pair, axis=1) / math.sqrt(2))
        features = self._features(landmarks, confidence)
        learner = self._learners[name]
        if isinstance(learner, Discriminant):
            rows = learner(features[name.rsplit(" ", 1)[1]].double().numpy())
        else:
            with torch.no_grad():
                rows = learner(features["both"]).double().numpy()
        return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30))

    def _train(
        self,
        landmarks: Tensor,
        identity: Tensor,
        confidence: Tensor | None,
        sd: float,
        start: Discriminant,
        generator: torch.Generator,
    ) -> _Network:
        people, target = torch.unique(identity, return_inverse=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = _Network(start)
        with torch.no_grad():
            rows = network(self._features(landmarks, confidence)["both"])
            centres = torch.zeros(len(people), rows.shape[1]).index_add_(0, target, functional.normalize(rows))
        centres = nn.Parameter(functional.normalize(centres))
        optimiser = torch.optim.AdamW([*network.parameters(), centres], lr=1e-3, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, total_steps=self.steps)
        scale, margin = 24.0, 0.15
        # Points given as released cannot be drawn afresh; jitter stands in against learning them by heart.
        jitter = 0.0 if sd > 0 else JITTER
        for _ in range(self.steps):
            pick = torch.randint(len(landmarks), (min(self.batch, len(landmarks)),), generator=generator)
            seen = landmarks[pick] + sd * torch.randn(len(pick), 68, 2, generator=generator)
            features = self._features(seen, None if confidence is None else confidence[pick])["both"]
            projected = network.project(features)
            projected = projected + jitter * torch.randn(projected.shape, generator=generator)
            cosine = functional.normalize(network.head(projected)) @ functional.normalize(centres).T
            logits = scale * (cosine - margin * functional.one_hot(target[pick], len(people)))
            loss = functional.cross_entropy(logits, target[pick])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        return network.eval()


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
        nme: the error that the released points really have.
        learner: which learner was chosen on validation.
        validation: (rank-1, AUC) of every candidate on validation people.
    """

    gallery: Floats
    probes: Floats
    nme: float
    learner: str
    validation: dict[str, tuple[float, float]]


def landmark_floor(
    train: tuple[Tensor, Tensor],
    gallery: Tensor,
    probes: Tensor,
    nme: float,
    *,
    frame_size: float,
    seed: int = 0,
    validation: tuple[Tensor, Tensor] | None = None,
    steps: int = 500,
) -> LandmarkFloor:
    """Release true landmarks with noise of the given error and attack them.

    Args:
        train: (true landmarks (N, 68, 2), identity (N,)) of the training people.
        gallery: true landmarks (M, 68, 2) of the gallery photos; they are released with noise too.
        probes: true landmarks (P, 68, 2) of the probes.
        nme: landmark error (inter-ocular) of the release, met exactly by gallery and probes.
        frame_size: side of the frame, pixels.
        seed: of noise and training.
        validation: (landmarks, identity) of people outside training and test.
        steps: of the network.
    """
    attacker = LandmarkAttacker(frame_size, seed=seed, steps=steps).fit(*train, nme=nme, validation=validation)
    generator = torch.Generator().manual_seed(seed + 1)
    shown = [add_landmark_noise(points, nme, generator) for points in (gallery, probes)]
    enrolled, asked = (attacker.embed(points).numpy() for points in shown)
    error = normalised_mean_error(shown[1], probes)
    return LandmarkFloor(enrolled, asked, error, attacker.chosen, attacker.validation)
