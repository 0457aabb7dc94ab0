"""How a camera of pairs may differ from its design: light, distance, reliefs, mounting, chip."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from sim.camera import Geometry

#: Depth error of all reliefs alike, relative.
DEPTH = 0.03
#: RMS and correlation length of the height error of each relief, in metres.
SURFACE_RMS_M, SURFACE_LENGTH_M = 50e-9, 100e-6
#: Most by which a tile's image lies beside its place, along each axis, in pixels.
SHIFT_PX = 0.5


@dataclass(frozen=True)
class OpticsChange:
    """What changes the light on the pixels; deviations with equal changes share it.

    Attributes:
        distance: Distance of the faces over that of the design. What is modelled: defocus, parallax between the
            tiles, and the size of the face. Its perspective stays; where a farther face would show more around it than
            the picture holds, the picture goes on mirrored.
        depth: Relative error of the height of all reliefs.
        rough: Whether each relief has a random height error of :data:`SURFACE_RMS_M`.
        shifted: Whether the image of each tile is moved at random, up to :data:`SHIFT_PX`.
    """

    distance: float = 1.0
    depth: float = 0.0
    rough: bool = False
    shifted: bool = False


@dataclass(frozen=True)
class Deviation:
    """One camera that is not quite the designed one.

    Attributes:
        name: Name in files and results.
        changed: What is different, in words.
        optics: What changes the light on the pixels.
        light: Light of the scene over that of the design; the exposure stays.
        other_chip: Whether it is built on another chip than the one that decoder and attackers know.
    """

    name: str
    changed: str
    optics: OpticsChange = OpticsChange()
    light: float = 1.0
    other_chip: bool = False


#: All of them; the first is the design itself, as a measure for the others.
DEVIATIONS = (
    Deviation("as-designed", "nothing"),
    Deviation("light-tenth", "a tenth of the light", light=0.1),
    Deviation("light-hundredth", "a hundredth of the light", light=0.01),
    Deviation("nearer", "faces at 0.8 of the distance", OpticsChange(distance=0.8)),
    Deviation("farther", "faces at 1.25 of the distance", OpticsChange(distance=1.25)),
    Deviation("deeper", f"reliefs {DEPTH:.0%} too deep", OpticsChange(depth=DEPTH)),
    Deviation("shallower", f"reliefs {DEPTH:.0%} too shallow", OpticsChange(depth=-DEPTH)),
    Deviation(
        "surface",
        f"height errors of {SURFACE_RMS_M * 1e9:g} nm RMS over {SURFACE_LENGTH_M * 1e6:g} um",
        OpticsChange(rough=True),
    ),
    Deviation("shifted", f"tiles up to {SHIFT_PX:g} pixel beside their places", OpticsChange(shifted=True)),
    Deviation("another-chip", "another chip", other_chip=True),
)


def groups() -> list[OpticsChange]:
    """The changes of the light, each once, that of the design first."""
    return list(dict.fromkeys(row.optics for row in DEVIATIONS))


def file_of(group: int) -> str:
    """File of a run with what left the chip of the deviations of a group, below ``proof/ours``."""
    return f"deviating-{group}.safetensors"


def under(part: str, name: str) -> str:
    """Name under which what a deviating camera gives of a part of the people is kept."""
    return f"{part}.under-{name}"


def at_distance(geometry: Geometry, distance: float) -> Geometry:
    """The same lens and pixels before faces at another distance: the window on the scene is wider the farther it is.

    Args:
        geometry: As designed.
        distance: Distance over that of the design.
    """
    return replace(
        geometry,
        object_distance_m=geometry.object_distance_m * distance,
        frame_width_m=geometry.frame_width_m * distance,
    )


def seen_from(scenes: Tensor, landmarks: Tensor, distance: float) -> tuple[Tensor, Tensor]:
    """Scenes (N, 3, S, S) and landmarks (N, K, 2) as a window shows them from another distance.

    Args:
        scenes: Linear light at the distance of the design.
        landmarks: In pixels of the scene.
        distance: Distance over that of the design.
    """
    if distance == 1.0:
        return scenes, landmarks
    rows = torch.tensor([[distance, 0.0, 0.0], [0.0, distance, 0.0]]).to(scenes)
    grid = functional.affine_grid(rows.expand(len(scenes), -1, -1), list(scenes.shape), align_corners=False)
    seen = functional.grid_sample(scenes, grid, align_corners=False, padding_mode="reflection")
    half = scenes.shape[-1] / 2
    return seen, ((landmarks + 0.5) / half - 1) / distance * half + half - 0.5
