"""Upper limits on what any attacker can learn: certified by a release, or as true as a model of the signal."""

from __future__ import annotations

from evaluation.limits.information import (
    Certificate,
    check_attack,
    class_bits_upper,
    fano_bound,
    gaussian_bits,
    scene_distance,
    signal_dependent_bits,
    stationary_bits,
)
from evaluation.limits.release import clip_to_ball, noisy_release, release_bound, tar_bound

__all__ = [
    "Certificate",
    "check_attack",
    "class_bits_upper",
    "clip_to_ball",
    "fano_bound",
    "gaussian_bits",
    "noisy_release",
    "release_bound",
    "scene_distance",
    "signal_dependent_bits",
    "stationary_bits",
    "tar_bound",
]
