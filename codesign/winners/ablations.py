"""What the optics do and what the read-out does: the same camera without learned masks, and without winners.

Each ablation keeps windows, noise, training people, read-out training and decoder of the camera, and changes one
thing. A *bare lens* is compared with the mean light of its window; *unlearned pairs* compare Gaussians of two widths,
at three scales for the anchor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from optics import FlatMask
from sim.camera import Geometry, MaskPsf, gaussian_psf
from sim.winners import Readout, Window

#: Widths in pixels of the narrow and the wide Gaussian of each unlearned pair; the first is that of followers.
WIDTHS = ((1.0, 4.0), (0.5, 2.0), (2.0, 8.0))


@dataclass(frozen=True)
class OtherOptics:
    """Optics and an untrained read-out in place of the designed ones.

    Attributes:
        psfs: (T, L, K, K) of the tiles.
        readout: Read-out with the windows of the camera.
    """

    psfs: Tensor
    readout: Readout


def other_optics(
    name: str, geometry: Geometry, pixels: int, windows: Sequence[Window], biases: Sequence[Tensor]
) -> OtherOptics:
    """The optics of an ablation.

    Args:
        name: Which one.
        geometry: Lens and window.
        pixels: Pixels across the window.
        windows: Windows of all channels.
        biases: First bias of each channel, from the camera itself.
    """
    block, cells = geometry.scene_px // pixels, geometry.psf_cells
    if name == "bare-lens":
        lens = MaskPsf(geometry, FlatMask(geometry.grid))().detach()
        uniform = torch.full_like(lens, 1.0 / cells**2)
        kinds = [torch.stack([lens, uniform])]
        anchor = kinds
    else:
        kinds = [torch.stack([gaussian_psf(width * block, cells).psf for width in pair]) for pair in WIDTHS]
        anchor, kinds = kinds, kinds[:1]
    tiles = [*anchor, *(kinds[0] for _ in windows[1:])]
    channel_of = [0] * len(anchor) + list(range(1, len(windows)))
    readout = Readout(channel_of, windows)
    with torch.no_grad():
        readout.weight.fill_(3.0)
        readout.gain.fill_(2.0)
        for own, first in zip(readout.bias, biases, strict=True):
            own.copy_(first)
    return OtherOptics(torch.cat(tiles), readout)
