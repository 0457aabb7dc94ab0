"""Upper limits on what any attacker can learn: certified by a release, or as true as a model of the signal.

Each :class:`Certificate` says how far its bound goes:

- certified: a vector clipped to a ball and Gaussian noise are all that leaves the device; nothing is assumed about
  faces (:func:`noisy_release`, :func:`release_bound`, :func:`tar_bound`);
- model-based: the signal is Gaussian with the covariance given, an estimate unless it comes from
  :func:`class_bits_upper` (:func:`gaussian_bits`, :func:`stationary_bits`, :func:`signal_dependent_bits`,
  :func:`fano_bound`);
- empirical: nothing is assumed; the best attack that was tried, no bound (``Certificate.of_attack``).

``Certificate.vacuous`` is true where the bound allows half of all names or more: at useful picture quality, that is
where bounds on whole pictures end. :func:`check_attack` tells whether an attack beat its certificate, which is a bug or
a wrong model, never luck.
"""

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
