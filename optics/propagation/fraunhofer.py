"""Fraunhofer diffraction: the far field, and the focal plane of a lens."""

from __future__ import annotations

import torch

from optics.propagation.fourier import Method
from optics.propagation.free_space import FreeSpace
from optics.propagation.propagator import SLACK, Margin, SamplingError
from optics.propagation.single import SingleTransform


class Fraunhofer(SingleTransform):
    """The far field, or the field in the focal plane of an ideal lens in the input plane (Goodman, eq. 4-25 and 5-14).

    ``U(x') = n / (i L z) exp(i pi x'^2 n / (L z)) sum_x u(x) exp(-2 pi i x x' n / (L z)) dx dy``.

    Args:
        space: Planes, wavelengths, distance and medium.
        lens: A lens of focal length ``distance_m`` fills the input plane, so the transform is exact (paraxially) at
            that distance. Without one the phase that is left out, ``r^2 n / (2 L z)`` at the corner of the input
            plane, must be below 1/16 turn (the distance 2 D^2 / L).
        method: "matrix", "chirp", or "auto" by cost.
        dtype: torch.float32 or torch.float64.

    Raises:
        OpticsError: An argument is invalid, or a sampling rule is broken; the message names what to change.
    """

    _curved = False

    # Goodman's z = 2 D^2 / L with r = D / 2.
    _far_turns = 1 / 16

    def __init__(
        self, space: FreeSpace, *, lens: bool = False, method: Method = "auto", dtype: torch.dtype = torch.float32
    ) -> None:
        self._lens = lens
        super().__init__(space, method=method, dtype=dtype)

    def check(self) -> tuple[Margin, ...]:
        """Return the margins of copies along y and x and, without a lens, of the distance.

        Raises:
            OpticsError: A rule is broken.
        """
        copies = (self._copy_margin(0), self._copy_margin(1))
        if self._lens:
            return copies
        squared = sum(
            (s / 2 + abs(c)) ** 2
            for s, c in zip(self.space.input_plane.span_m, self.space.input_plane.centre_m, strict=True)
        )
        shortest, nearest = min(self.space.medium_wavelengths_m), min(abs(z) for z in self.distances_m)
        turns = squared / (2 * shortest * nearest)
        if turns > self._far_turns * SLACK:
            enough = squared / (2 * shortest * self._far_turns)
            raise SamplingError(
                f"at distance_m={nearest:g} the far field leaves out {turns:.3g} turns of phase at the corner of "
                f"input_plane (limit {self._far_turns:g}); raise distance_m to {enough:.3g}, "
                "use FresnelTransform, or pass lens=True for the focal plane of a lens."
            )
        return (*copies, Margin("turns of curvature left out", turns, self._far_turns))
