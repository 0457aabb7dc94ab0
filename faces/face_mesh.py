"""MediaPipe Face Mesh: 468 points of a face in a photograph, 192 x 192 pixels; those of the iBUG order among them.

Trained by its publisher on photographs of its own (Kartynnik et al., "Real-time Facial Surface Geometry from Monocular
Video on Mobile GPUs", CVPR workshop 2019), so it knows nothing of the data behind the other landmark networks here.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from faces.alignment import align, similarity
from faces.published import SameConv2d, check_images, load_network

#: Side of the chip in pixels.
CHIP_SIZE = 192
POINTS = 468

#: The side of the chip over the longer side of the mesh within it, as its publisher cuts faces.
MARGIN = 1.5

#: Roughly where eye centres, nose tip and mouth corners lie in such a chip; a first cut is made by them.
CHIP_POINTS = ((74.5, 82.0), (116.5, 82.0), (95.5, 107.0), (78.0, 127.0), (113.0, 127.0))

#: Outer corners of the eyes in the mesh, image left first.
EYE_CORNERS = (33, 263)

#: The vertex of the mesh for each of the 68 landmarks of the iBUG order: outline, brows, nose, eyes, mouth. Eyes and
#: mouth are those of anatomy; elsewhere the vertex that lay nearest to the landmark on 90 synthetic heads.
IBUG68 = (
    127, 227, 147, 213, 58, 172, 150, 176, 152, 400, 379, 397, 288, 433, 376, 447, 356, 46, 53, 52, 66, 107, 336, 296,
    282, 283, 276, 6, 197, 5, 1, 98, 99, 2, 328, 327, 33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380, 61,
    39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87,
)  # fmt: skip

# Widths of the blocks of the trunk after its first convolution; where the map halves, a width is negative.
_TRUNK = (16, 16, -32, 32, 32, -64, 64, 64, -128, 128, 128, -128, 128, 128)
_MESH, _FLAG = (-128, 128, 128), (-128,)


class _Block(nn.Module):
    """A separable convolution around a shortcut; where it halves the map, the shortcut takes the largest of 2 x 2."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.more, self.stride = width - channels, stride
        self.depthwise = SameConv2d(channels, channels, 3, stride, groups=channels, bias=False)
        self.pointwise = nn.Conv2d(channels, width, 1)
        self.prelu = nn.PReLU(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.pointwise(self.depthwise(x))
        if self.stride == 2:
            x = functional.pad(functional.max_pool2d(x, 2), (0, 0, 0, 0, 0, self.more))
        result: torch.Tensor = self.prelu(x + y)
        return result


def _blocks(channels: int, widths: tuple[int, ...]) -> list[nn.Module]:
    found: list[nn.Module] = []
    for width in widths:
        found.append(_Block(channels, abs(width), 2 if width < 0 else 1))
        channels = abs(width)
    return found


def _head(widths: tuple[int, ...], outputs: int) -> nn.Sequential:
    """Blocks, a narrow convolution, one more block, and the map of 3 x 3 cells read at once."""
    narrow = [nn.Conv2d(128, 32, 1), nn.PReLU(32), _Block(32, 32, 1), nn.Conv2d(32, outputs, 3)]
    return nn.Sequential(*_blocks(128, widths), *narrow)


class FaceMesh(nn.Module):
    """Finds 468 points of a face and says whether there is one."""

    value_range = (0.0, 255.0)
    channel_order = "RGB"
    input_size = (CHIP_SIZE, CHIP_SIZE)
    differentiable = True

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(SameConv2d(3, 16, 3, 2), nn.PReLU(16), *_blocks(16, _TRUNK))
        self.mesh = _head(_MESH, 3 * POINTS)
        self.flag = _head(_FLAG, 1)

    def forward(self, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Points and probabilities of a face, of chips (N, 3, 192, 192), RGB in 0..255.

        Returns:
            (N, 468, 3) x and y in pixels of the chip, and the depth in the same unit, towards the back; and (N,).

        Raises:
            FacesError: if the chips have another shape.
        """
        check_images(batch, self.input_size, "Face Mesh")
        maps = self.trunk(batch / 255)
        points = self.mesh(maps).view(-1, POINTS, 3)
        # The publisher counts from the edge of the chip, not from the centre of the first pixel.
        places = torch.cat([points[..., :2] - 0.5, points[..., 2:]], -1)
        return places, torch.sigmoid(self.flag(maps)).flatten()

    def landmarks(self, images: torch.Tensor, points5: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The 68 landmarks of the iBUG order (N, 68, 2) in pixels of the images, and the probabilities (N,) of a face.

        A first chip is cut by the five points, a second one as the publisher cuts it: around the mesh of the first,
        turned until the eyes are level. So the five points decide hardly more than which face is meant.

        Args:
            images: (N, 3, H, W), RGB in 0..255.
            points5: (N, 5, 2) pixels: eye centres, nose tip, mouth corners, image left first.

        Raises:
            FacesError: if shapes do not fit or points are unusable.
        """
        first, _ = self._in_image(
            images, points5, torch.tensor(CHIP_POINTS, dtype=torch.float64, device=points5.device)
        )
        corners, target = _square_around(first)
        mesh, sure = self._in_image(images, corners, target)
        return mesh[:, list(IBUG68)], sure

    def _in_image(
        self, images: torch.Tensor, places: torch.Tensor, target: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mesh (N, 468, 2) in pixels of the images, of chips in which the five places lie at ``target``."""
        points, sure = self(align(images, places, CHIP_SIZE, target))
        turn, shift = similarity(places.double(), target)
        found = torch.view_as_complex(points[..., :2].double().contiguous())
        back = torch.view_as_real((found - shift[:, None]) / turn[:, None])
        return back.to(images.dtype), sure


def _square_around(mesh: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Corners and centre (N, 5, 2) of the square to cut around a mesh, and where these lie in the chip, (5, 2)."""
    eyes = mesh[:, EYE_CORNERS[1]] - mesh[:, EYE_CORNERS[0]]
    along = eyes / eyes.norm(dim=-1, keepdim=True)
    axes = torch.stack([along, torch.stack([-along[:, 1], along[:, 0]], -1)], 1)
    level = torch.einsum("npj,nij->npi", mesh, axes)
    low, high = level.amin(1), level.amax(1)
    half = (high - low).amax(1) * (MARGIN / 2)
    unit = mesh.new_tensor([[-1.0, -1.0], [1.0, -1.0], [0.0, 0.0], [-1.0, 1.0], [1.0, 1.0]])
    places = (low + high)[:, None] / 2 + unit * half[:, None, None]
    # Back along the turned axes; the edges of the chip lie half a pixel outside its outermost centres.
    return torch.einsum("npi,nij->npj", places, axes), (unit.double() + 1) * (CHIP_SIZE / 2) - 0.5


def load_face_mesh(path: Path | None = None) -> FaceMesh:
    """The network with its published weights, in eval mode; ``path`` as in :func:`faces.published.load_network`."""
    return load_network(FaceMesh(), "face-mesh", path)
