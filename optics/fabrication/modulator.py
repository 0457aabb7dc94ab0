"""Patterns for a spatial light modulator (SLM) and command vectors for a deformable mirror.

SLM layout: grey PNG, one pixel per modulator pixel, row 0 at the top; 8 bits, or up to 16 bits right-aligned in 16. The
text chunk ``optishield`` is JSON: ``kind``, ``axes``, ``bits``, ``pitch_m``, ``wavelength_m``, ``table_rad`` (phase of
each code at that wavelength), ``error_rad`` (half the largest step of the table: what rounding to codes may cost).

Mirror layout: CSV. Line 1 is ``# `` and JSON (``kind``, ``unit``, ``axes``); line 2 the columns
``actuator,x_m,y_m,command_m``; then one line per actuator with its place (x right, y down, axis of the mirror at 0) and
its command, positive where the surface retreats from the light.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np
import torch

from optics.elements.slm import SpatialLightModulator
from optics.errors import OpticsError
from optics.fabrication.files import new_file, parse_header, read_lines, with_suffix, write_lines
from optics.fabrication.images import read_grey_png, write_grey_png

_SLM = "optishield slm pattern 1"
_MIRROR = "optishield mirror commands 1"
_AXES = "[y, x], x right, y down, seen looking at the device"
_COLUMNS = "actuator,x_m,y_m,command_m"


@dataclass(frozen=True, eq=False)
class SlmPattern:
    """Codes of a modulator and what they mean.

    Attributes:
        codes: int64 of shape (H, W).
        table_rad: Phase of each code in radians, float64 of shape (2^bits,).
        pitch_m: Side of a modulator pixel in metres.
        wavelength_m: Vacuum wavelength at which the table holds, in metres.
    """

    codes: torch.Tensor
    table_rad: torch.Tensor
    pitch_m: float
    wavelength_m: float

    def __post_init__(self) -> None:
        count = len(self.table_rad)
        if self.table_rad.ndim != 1 or count not in [2**bits for bits in range(1, 17)]:
            raise OpticsError(f"table_rad has shape {tuple(self.table_rad.shape)}; pass 2^bits phases, 1 to 16 bits.")
        if not bool(torch.isfinite(self.table_rad).all()):
            raise OpticsError("table_rad holds values that are not finite; measure the table again.")
        if self.codes.ndim != 2 or int(self.codes.min()) < 0 or int(self.codes.max()) >= count:
            raise OpticsError(f"codes must be of shape (H, W) with values 0 to {count - 1}.")
        for name in ("pitch_m", "wavelength_m"):
            if not (isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise OpticsError(f"{name}={getattr(self, name)} must be a positive length in metres.")

    @classmethod
    def from_modulator(cls, modulator: SpatialLightModulator) -> SlmPattern:
        """Return what a modulator shows now."""
        pitch = modulator.grid.diameter_m / modulator.pixels
        return cls(modulator.grey_levels().cpu(), modulator.table.double().cpu(), pitch, modulator.wavelength_m)

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return len(self.table_rad).bit_length() - 1

    def phase_rad(self) -> torch.Tensor:
        """Return the phase that the modulator shows in radians, float64 of shape (H, W)."""
        return self.table_rad[self.codes]


def export_slm(pattern: SlmPattern, path: str | Path) -> None:
    """Write a new PNG file; see the module for its layout.

    Args:
        pattern: What to show.
        path: File to make, ending in .png.

    Raises:
        OpticsError: The file exists, or the suffix is another.
    """
    path = with_suffix(path, ".png")
    text = {
        "kind": _SLM,
        "axes": _AXES,
        "bits": pattern.bits,
        "pitch_m": pattern.pitch_m,
        "wavelength_m": pattern.wavelength_m,
        "table_rad": pattern.table_rad.tolist(),
        "error_rad": float(pattern.table_rad.diff().abs().max()) / 2,
    }
    codes = pattern.codes.cpu().numpy().astype(np.uint8 if pattern.bits <= 8 else np.uint16)
    with new_file(path) as temporary:
        write_grey_png(temporary, codes, {"optishield": json.dumps(text)}, pattern.pitch_m)


def import_slm(path: str | Path) -> SlmPattern:
    """Read a file that :func:`export_slm` wrote.

    Raises:
        OpticsError: It was not, or it is damaged.
    """
    codes, text = read_grey_png(Path(path))
    values = parse_header(path, text.get("optishield", ""), _SLM, _AXES)
    try:
        lut = torch.tensor(values["table_rad"], dtype=torch.float64)
        return SlmPattern(torch.from_numpy(codes.astype(np.int64)), lut, values["pitch_m"], values["wavelength_m"])
    except (KeyError, TypeError) as error:
        raise OpticsError(f"path={str(path)!r}: the header lacks or garbles {error}; export it again.") from error


@dataclass(frozen=True, eq=False)
class MirrorCommands:
    """Commands of a deformable mirror and where they act.

    Attributes:
        commands_m: Commands in metres, shape (A,), as of :class:`optics.elements.DeformableMirror`.
        places_m: (x, y) of each actuator in metres, shape (A, 2).
    """

    commands_m: torch.Tensor
    places_m: torch.Tensor

    def __post_init__(self) -> None:
        count = len(self.commands_m)
        if self.commands_m.ndim != 1 or tuple(self.places_m.shape) != (count, 2):
            raise OpticsError(
                f"commands_m has shape {tuple(self.commands_m.shape)} and places_m {tuple(self.places_m.shape)}; "
                "pass (A,) and (A, 2)."
            )
        if not bool(torch.isfinite(self.commands_m).all() and torch.isfinite(self.places_m).all()):
            raise OpticsError("commands_m or places_m hold values that are not finite; replace them.")


def export_mirror(commands: MirrorCommands, path: str | Path, max_command_m: float) -> None:
    """Write a new CSV file; see the module for its layout.

    Args:
        commands: What to set.
        path: File to make, ending in .csv.
        max_command_m: Largest absolute command of the mirror in metres.

    Raises:
        OpticsError: A command leaves the range, the file exists, or the suffix is another.
    """
    path = with_suffix(path, ".csv")
    values = commands.commands_m.detach().double().cpu()
    beyond = (values.abs() > max_command_m).nonzero().flatten().tolist()
    if beyond:
        raise OpticsError(
            f"commands_m of the actuators {beyond} reach {float(values.abs().max()):g} m but "
            f"max_command_m={max_command_m:g}; reduce commands_m."
        )
    header = "# " + json.dumps({"kind": _MIRROR, "unit": "m", "axes": _AXES, "positive": "away from the light"})
    rows = torch.column_stack([commands.places_m.detach().double().cpu(), values]).tolist()
    lines = [f"{k},{x!r},{y!r},{s!r}" for k, (x, y, s) in enumerate(rows)]
    with new_file(path) as temporary:
        write_lines(temporary, [header, _COLUMNS, *lines])


def import_mirror(path: str | Path) -> MirrorCommands:
    """Read a file that :func:`export_mirror` wrote.

    Raises:
        OpticsError: It was not, or it is damaged.
    """
    lines = read_lines(path)
    parse_header(path, lines[0].removeprefix("# "), _MIRROR, _AXES)
    try:
        rows = [[float(v) for v in line.split(",")] for line in lines[2:]]
        values = torch.tensor(rows, dtype=torch.float64).reshape(-1, 4)
    except (ValueError, RuntimeError) as error:
        raise OpticsError(f"path={str(path)!r} holds a line that is not {_COLUMNS} ({error}).") from error
    if lines[1] != _COLUMNS or values[:, 0].tolist() != list(range(len(values))):
        raise OpticsError(f"path={str(path)!r} must hold the columns {_COLUMNS} and the actuators in order.")
    return MirrorCommands(values[:, 3].clone(), values[:, 1:3].clone())
