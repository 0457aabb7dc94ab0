"""What is handed to a workshop: a height map and all that is needed to read it without asking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch

from optics.elements.base import spread_cells
from optics.elements.masks import DiffractiveMask, PhaseMask
from optics.errors import OpticsError
from optics.materials import Material, get_material
from optics.pupil import PupilGrid

AXES = "[y, x], x right, y down, seen looking at the relief"
"""Orientation of every map, in the words that stand in the files. A map is drawn in the axes of the read-out image, so
it is mounted with the relief towards the sensor and, as seen from the sensor, turned by half a turn."""

_KIND = "optishield relief 1"
# Share of a step by which a height may miss its level: 16-bit files of some hundred levels stay below it.
_OFF_LEVEL = 1e-2


@dataclass(frozen=True, eq=False)
class Relief:
    """A square height map of transparent material over a circular aperture.

    Attributes:
        height_m: Height in metres, float32 or float64 of shape (P, P), [y, x], x right, y down; more is thicker.
        pitch_m: Side of a cell in metres. The aperture is the circle of diameter ``P * pitch_m``.
        material: A material that :func:`optics.get_material` knows: files name it, they do not describe it.
        wavelengths_m: Vacuum wavelengths of the design in metres.
        levels: Number of levels of a stepped relief, or None for a continuous one.
        step_m: Height of one step in metres; level k is ``k * step_m``. Needed with ``levels``.
    """

    height_m: torch.Tensor
    pitch_m: float
    material: Material
    wavelengths_m: tuple[float, ...]
    levels: int | None = None
    step_m: float | None = None

    def __post_init__(self) -> None:
        shape, dtype = tuple(self.height_m.shape), self.height_m.dtype
        if len(shape) != 2 or shape[0] != shape[1]:
            raise OpticsError(f"height_m has shape {shape}; a relief is square, so pass (P, P).")
        if dtype not in (torch.float32, torch.float64):
            raise OpticsError(f"height_m is {dtype}; pass float32 or float64.")
        bad = int((~torch.isfinite(self.height_m)).sum())
        if bad:
            raise OpticsError(f"height_m holds {bad} values that are not finite; replace them.")
        if not (isfinite(self.pitch_m) and self.pitch_m > 0):
            raise OpticsError(f"pitch_m={self.pitch_m} must be a positive length in metres.")
        if get_material(self.material.name) != self.material:
            raise OpticsError(
                f"the material {self.material.name!r} differs from the one that get_material returns under this name, "
                "and a file keeps the name only; pass a named material."
            )
        if not self.wavelengths_m or not all(isfinite(w) and w > 0 for w in self.wavelengths_m):
            raise OpticsError(f"wavelengths_m={self.wavelengths_m} must be one or more positive lengths in metres.")
        if (self.levels is None) != (self.step_m is None):
            raise OpticsError(f"levels={self.levels} and step_m={self.step_m} belong together; pass both or neither.")
        if self.levels is not None and self.step_m is not None:
            self._check_levels(self.levels, self.step_m)

    def _check_levels(self, levels: int, step_m: float) -> None:
        if levels < 2 or not (isfinite(step_m) and step_m > 0):
            raise OpticsError(f"levels={levels} with step_m={step_m} is no staircase; use 2 levels or more, step > 0.")
        codes = self.height_m.double() / step_m
        off = float((codes - codes.round()).abs().max())
        if off > _OFF_LEVEL or codes.min().round() < 0 or codes.max().round() > levels - 1:
            raise OpticsError(
                f"height_m spans {float(codes.min()):g} to {float(codes.max()):g} steps of {step_m:g} m and misses its "
                f"level by up to {off:.2g} steps; levels={levels} needs whole numbers from 0 to {levels - 1}: quantise "
                "height_m or change step_m."
            )

    @classmethod
    def from_mask(cls, mask: PhaseMask, wavelengths_m: Sequence[float]) -> Relief:
        """Return the relief of a mask as it stands now, without gradient; exact levels of a diffractive one."""
        waves = tuple(float(w) for w in wavelengths_m)
        if not isinstance(mask, DiffractiveMask):
            return cls(mask.height_m().detach(), mask.grid.pitch_m, mask.material, waves)
        height = spread_cells(mask.level_map().to(mask.controls.dtype) * mask.step_m, mask.feature_samples)
        return cls(height, mask.grid.pitch_m, mask.material, waves, mask.levels, mask.step_m)

    @property
    def grid(self) -> PupilGrid:
        """The pupil that this relief fills."""
        samples = self.height_m.shape[-1]
        return PupilGrid(samples * self.pitch_m, samples)

    def codes(self) -> torch.Tensor:
        """Return the level of each cell, int64 of shape (P, P).

        Raises:
            OpticsError: The relief is continuous.
        """
        if self.step_m is None:
            raise OpticsError("the relief is continuous (levels=None); quantise it and pass levels and step_m.")
        return (self.height_m.double() / self.step_m).round().long()

    def metadata(self) -> dict[str, Any]:
        """Return everything but the heights, ready for JSON; lengths in metres."""
        return {
            "kind": _KIND,
            "height_unit": "m",
            "axes": AXES,
            "pitch_m": self.pitch_m,
            "material": self.material.name,
            "wavelengths_m": list(self.wavelengths_m),
            "levels": self.levels,
            "step_m": self.step_m,
        }

    @classmethod
    def from_metadata(cls, height_m: torch.Tensor, metadata: Any) -> Relief:
        """Return the relief of heights in metres and the result of :meth:`metadata`.

        Raises:
            OpticsError: The metadata are not ours, or turned another way.
        """
        if not isinstance(metadata, dict) or metadata.get("kind") != _KIND:
            raise OpticsError(f"the file carries no metadata of kind {_KIND!r}; pass a file that export_relief wrote.")
        if metadata.get("axes") != AXES or metadata.get("height_unit") != "m":
            raise OpticsError(
                f"the file states axes {metadata.get('axes')!r} and unit {metadata.get('height_unit')!r}; only "
                f"{AXES!r} in 'm' is read: turn the map, do not edit the words."
            )
        try:
            return cls(
                height_m,
                float(metadata["pitch_m"]),
                get_material(metadata["material"]),
                tuple(float(w) for w in metadata["wavelengths_m"]),
                metadata["levels"],
                metadata["step_m"],
            )
        except (KeyError, TypeError) as error:
            raise OpticsError(f"the metadata of the file lack or garble {error}; export it again.") from error

    def brief(self, room: int) -> str:
        """Return material, wavelengths and levels in at most ``room`` ASCII characters, for headers of fixed length.

        Form: ``optishield|620,540,460 nm|fused silica|8 x 1.5e-07 m``, the last part for stepped reliefs only.

        Raises:
            OpticsError: It does not fit.
        """
        parts = ["optishield", ",".join(f"{w * 1e9:.10g}" for w in self.wavelengths_m) + " nm", self.material.name]
        if self.levels is not None:
            parts.append(f"{self.levels} x {self.step_m!r} m")
        text = "|".join(parts)
        if len(text) > room:
            raise OpticsError(
                f"the description {text!r} takes {len(text)} characters and the header holds {room}; name fewer "
                "wavelengths_m, or use TIFF."
            )
        return text

    @classmethod
    def from_brief(cls, height_m: torch.Tensor, pitch_m: float, text: str) -> Relief:
        """Return the relief of heights and pitch in metres and the result of :meth:`brief`.

        Raises:
            OpticsError: The text has another form.
        """
        parts = text.rstrip("\0 ").split("|")
        try:
            if parts[0] != "optishield" or len(parts) not in (3, 4) or not parts[1].endswith(" nm"):
                raise ValueError("its form is unknown")
            # Back to the nearest double of the number of nanometres that was written.
            wavelengths = tuple(float(f"{float(w):.10g}e-9") for w in parts[1][:-3].split(","))
            levels, step = None, None
            if len(parts) == 4:
                count, height = parts[3].removesuffix(" m").split(" x ")
                levels, step = int(count), float(height)
        except ValueError as error:
            raise OpticsError(f"the header {text!r} was not written by export_relief ({error}).") from error
        return cls(height_m, pitch_m, get_material(parts[2]), wavelengths, levels, step)
