"""Cameras that release a few coordinates and nothing else: the same attacker as on the floor under every camera."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from codesign.attacker_records import AttackerResult
from codesign.data import ATTACKERS, Part
from codesign.errors import CodesignError
from codesign.proof import EMBEDDED, judge
from evaluation import LandmarkAttacker


@dataclass(frozen=True)
class Coordinates:
    """What a camera releases of one part of the people.

    Attributes:
        points: (N, K, 2) coordinates (x, y) in cells of the camera, usually whole numbers. Where the camera says that
            there is no face they may hold anything, the same in each such frame.
        present: (N,) bool, whether the camera says that there is a face; None for a camera that does not say.
    """

    points: Tensor
    present: Tensor | None = None

    def confidence(self) -> Tensor | None:
        """The presence as the attacker takes it, (N, K) in 0..1."""
        return None if self.present is None else self.present.float()[:, None].expand(self.points.shape[:2])


@dataclass(frozen=True)
class CoordinateAttack:
    """What an attacker got from coordinates.

    Attributes:
        result: Figures of single pictures and, in ``pooled``, of all probes of a person together.
        embeddings: Unit embeddings of the parts of :data:`codesign.proof.EMBEDDED`, for gaps and differences.
        learner: Which learner was chosen on the validation people.
    """

    result: AttackerResult
    embeddings: dict[str, Tensor]
    learner: str


def attack_coordinates(
    released: Mapping[str, Coordinates],
    parts: Mapping[str, Part],
    *,
    frame_size: float,
    steps: int,
    seed: int,
    fmr: float,
    manifest_hash: str,
) -> CoordinateAttack:
    """Train an attacker on what a camera releases of its training people, and judge him on the test people.

    Args:
        released: Coordinates of ``train``, ``validation``, ``calibration`` and ``test``, and of ``attackers`` if the
            camera was shown those; in the order of ``parts``.
        parts: The people.
        frame_size: Cells across the frame that the coordinates count in.
        steps: Training steps of each network of the attacker.
        seed: Seed of the attacker.
        fmr: False match rate that the threshold is frozen for, on the calibration people.
        manifest_hash: Hash of the manifest of the people.

    Raises:
        CodesignError: A part has another number of faces than of coordinates.
        EvaluationError: Coordinates of the wrong shape.
    """
    for name, shown in released.items():
        if len(shown.points) != len(parts[name]):
            raise CodesignError(
                f"the part {name!r} has {len(parts[name])} faces but coordinates of {len(shown.points)}; give those of "
                "each face, in the same order."
            )
    own = [name for name in ("train", ATTACKERS) if name in released]
    known = [released[name].confidence() for name in own]
    attacker = LandmarkAttacker(frame_size, seed=seed, steps=steps)
    attacker.fit(
        torch.cat([released[name].points for name in own]),
        torch.cat([parts[name].identity for name in own]),
        confidence=torch.cat([rows for rows in known if rows is not None]) if known[0] is not None else None,
        validation=(released["validation"].points, parts["validation"].identity),
        validation_confidence=released["validation"].confidence(),
    )
    embeddings = {name: attacker.embed(released[name].points, released[name].confidence()).float() for name in EMBEDDED}
    figures, _, _ = judge(embeddings, parts, fmr, manifest_hash)
    return CoordinateAttack(AttackerResult.from_json(figures, "attack on coordinates"), embeddings, attacker.chosen)
