"""The camera of a finished ``train-mask`` run: the photo is a scene in front of it, the result is what its sensor saw.

A photo fills the window of the camera as the faces of the run did. It is decoded to linear light, averaged over the
scene samples, exposed once, and the frame is shown as a photo of the same size: each sensor pixel becomes a block
(where blocks do not end between two pixels of the photo, the pixel that they share shows the mean of both), white
stays white, or where the sensor saturates above white, its top code becomes white; a monochrome frame is grey.

A photo has 256 levels a channel. A sensor of more than six bits or so tells a little more than its photo does.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from faces.protection import Declaration, KnownBlur, Threat
from faces.samples import linear_to_srgb, srgb_to_linear
from protectors.base import ROUNDING_SD, PhotoProtector
from protectors.errors import ProtectorError
from protectors.largest import check_largest
from protectors.resampling import area_matrix, area_resample
from sim.camera import METERED_GREY, Exposure
from sim.errors import SimError
from sim.stored import StoredCamera

#: What a run that designed a camera of pairs holds in place of ``camera.json``.
PAIRS = "tiles.json"


def load_camera(run: Path) -> StoredCamera:
    """The camera of a finished run, with the point-spread function that was stored there.

    Args:
        run: Folder that ``optishield train-mask`` made.

    Raises:
        ProtectorError: If the run is not finished, designed a camera that records no pictures, or a file is missing,
            damaged or changed.
    """
    if not (run / "config.toml").is_file():
        raise ProtectorError(
            f"{run} is not a training run (it has no config.toml); name a folder that train-mask made."
        )
    if not (run / "summary.json").is_file():
        raise ProtectorError(
            f"{run} is not finished (it has no summary.json); finish it with: optishield train-mask --resume {run}"
        )
    if (run / PAIRS).is_file():
        raise ProtectorError(
            f"{run} designed a camera of pairs, which records no picture that could stand for a photo; judge it by "
            "optishield evaluate-mask, or name a run of train-mask --set design=frame."
        )
    try:
        return StoredCamera.load(run)
    except SimError as error:
        raise ProtectorError(str(error)) from error


class OpticalEncoder(PhotoProtector):
    """A designed mask with its sensor as a protector of photos.

    The attacker may know the optics: ``blur`` is the point-spread function on the grid of the photo with everything
    linear in it (scene samples, sensor pixels, blocks), averaged over where a point lies within a sensor pixel. It
    holds inside the field stop and below saturation; a meter multiplies it by one factor for each frame. Quantisation
    counts as noise of a twelfth of a squared code.

    Args:
        run: Folder of a finished ``train-mask`` run.
        px: Side of the photos in pixels, which fixes the grid of the point-spread function.

    Attributes:
        camera: Scenes (N, 3, S, S) in linear light to frames.

    Raises:
        ProtectorError: If the run cannot be used, or a setting is out of range.
    """

    about = Declaration(
        name="optical-encoder",
        title="phase mask and sensor of a train-mask run",
        summary="Shows the photo as the camera of a train-mask run would have recorded it.",
        source="own",
        threats=frozenset({Threat.sensor, Threat.dodge}),
        auxiliary_data="the faces that the mask was trained on, at design time only",
        deterministic=False,
        differentiable=True,
    )

    def __init__(self, *, run: Path, px: int = 128) -> None:
        if px < 8:
            raise ProtectorError(f"optical-encoder takes photos of px >= 8 pixels, got {px}.")
        check_largest("optical-encoder", px=px)
        stored = load_camera(run)
        super().__init__((), camera=stored.content_hash, px=px)
        self.photo_px = px
        self.camera = stored.camera
        exposure = self.camera.exposure
        # Light in the photo at the top code, and how far all light is turned down to keep that within the photo.
        top = exposure.full_well_e / exposure.electrons_at_white
        self._top, turned_down = min(1.0, top), min(1.0, 1.0 / top)
        psf = photo_psf(self.camera.frame_psf(), px, self.camera.scene_px, exposure.pixels)
        noise_sd = math.hypot(grey_noise_e(exposure) / exposure.electrons_at_white * turned_down, ROUNDING_SD)
        self.blur = KnownBlur(psf * turned_down, noise_sd, planes=3 if exposure.colour else 1)

    def frames(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """One exposure of each photo: frames (N, C, n, n) as they leave the sensor, black 0 and top code 1."""
        frames: Tensor = self.camera.to(images.device)(
            area_resample(srgb_to_linear(images), self.camera.scene_px), generator
        )
        return frames

    def change(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> Tensor:
        """Frames shown as photos; see :meth:`PhotoProtector.change`."""
        light = area_resample(self.frames(images, generator) * self._top, images.shape[-1])
        # Read noise may take a dark pixel below black.
        return linear_to_srgb(light.clamp(0, 1)).expand_as(images)


def grey_noise_e(exposure: Exposure) -> float:
    """Noise in electrons of one pixel that sees 18 % grey: shot, read and quantisation noise."""
    spec = exposure.sensor.spec
    return math.sqrt(
        METERED_GREY * exposure.electrons_at_white + exposure.read_noise_e**2 + spec.dn_per_electron**-2 / 12
    )


def photo_psf(psf: Tensor, photo_px: int, scene_px: int, pixels: int) -> Tensor:
    """Point-spread function of photo to photo, from that on scene samples.

    A photo is averaged onto the scene samples, convolved, binned into sensor pixels and held as blocks. All but the
    convolution act on rows and columns alike, so a displacement by d samples in the scene spreads over displacements k
    in the photo by a table ``spread[d, k]``, the mean over all places of a point, and the result is
    ``spread' psf spread`` for each channel.

    Args:
        psf: (C, K, K) shares of light on scene samples, K odd.
        photo_px: Pixels across the photo.
        scene_px: Samples across the scene.
        pixels: Pixels across the sensor.

    Returns:
        (C, M, M) with M the largest odd number up to ``photo_px``; light that ends up farther away is left out.
    """
    reach, half = psf.shape[-1] // 2, (photo_px - 1) // 2
    # Three windows side by side keep edges out of the middle one, where points are placed.
    onto_scene = area_matrix(3 * photo_px, 3 * scene_px)
    held = area_matrix(3 * pixels, 3 * photo_px) @ area_matrix(3 * scene_px, 3 * pixels)
    # The chain repeats after this many pixels of the photo, a whole number of sensor pixels.
    period = photo_px // math.gcd(photo_px, pixels)
    place = torch.arange(photo_px, photo_px + period)
    points = onto_scene[:, place]
    moved = torch.stack([points.roll(step, dims=0) for step in range(-reach, reach + 1)])
    # (period, M, samples): rows of the second half of the chain at each displacement from each place.
    seen = held[place[:, None] + torch.arange(-half, half + 1)]
    spread = torch.einsum("dsx,xks->dk", moved, seen) / period
    return (spread.T @ psf.double() @ spread).to(psf.dtype)
