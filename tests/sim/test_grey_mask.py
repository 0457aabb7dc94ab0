"""A grey mask: the light of each pixel, its meter, its gradient, and its way through files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from optics import FieldStop, OpticsError
from sim.camera import EncoderCamera, Exposure, FixedPsf, Geometry
from sim.errors import SimError
from sim.grey_mask import GreyMask, logits_of
from sim.stored import StoredCamera

EXPOSURE = Exposure(8, False, (0.2, 0.7, 0.1), 500.0, 1000.0, 2.0, 12, 64.0, "fixed")
GEOMETRY = Geometry(4e-3, 0.5e-3, 1.0, 1.0, 0.24, 32, (620e-9, 540e-9, 460e-9), 270)


def point() -> FixedPsf:
    psf = torch.zeros(3, 31, 31)
    psf[:, 15, 15] = 1.0
    return FixedPsf(psf)


def steps() -> torch.Tensor:
    """A transmission of its own for each of 8 x 8 pixels."""
    return torch.linspace(0.1, 0.9, 64).view(8, 8)


def behind(grey: GreyMask | None, exposure: Exposure = EXPOSURE) -> EncoderCamera:
    return EncoderCamera(point(), exposure, 32, grey)


def test_each_pixel_gets_its_share_of_the_light() -> None:
    scenes = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    through = behind(GreyMask(torch.logit(steps()))).signal(scenes)
    torch.testing.assert_close(through, behind(None).signal(scenes) * steps(), rtol=1e-5, atol=1e-3)


def test_the_meter_does_not_make_up_for_a_grey_mask() -> None:
    """It reads the light and not the mask: a grey surface is exposed alike, and half the light is half the signal."""
    metered = replace(EXPOSURE, metering="centre-weighted")
    view = behind(GreyMask(torch.logit(steps())), metered)
    signal = view.signal(torch.full((1, 3, 32, 32), 0.36))
    assert float(view.meter_gain(signal).detach()) == pytest.approx(0.5, rel=1e-5)


def test_a_mask_made_from_a_stop_passes_what_the_stop_does() -> None:
    stop = FieldStop(0.5, 0.54, 0.28, 0.295, 0.03)
    grey = GreyMask(logits_of(stop.transmission(32), 8))
    scenes = torch.ones(1, 3, 32, 32)
    behind_stop = behind(None, replace(EXPOSURE, field_stop=stop)).signal(scenes)
    # But for pixels in the dark, which keep a fiftieth so that they can learn.
    assert float((behind(grey).signal(scenes) - behind_stop).abs().max()) <= 0.0201 * EXPOSURE.electrons_at_white


def test_light_on_a_pixel_pulls_at_its_transmission_alone() -> None:
    grey = GreyMask(nn.Parameter(torch.zeros(8, 8)))
    behind(grey).signal(torch.ones(1, 3, 32, 32))[0, 0, 3, 5].backward()
    gradient = grey.logits.grad
    assert gradient is not None
    assert [tuple(at) for at in gradient.nonzero().tolist()] == [(3, 5)]
    assert float(gradient[3, 5]) == pytest.approx(500 * 0.25)


@pytest.mark.parametrize(
    ("exposure", "words"),
    [
        (
            replace(EXPOSURE, pixels=16),
            "a grey mask of 8 pixels does not fit a sensor of 16 pixels without a field stop",
        ),
        (replace(EXPOSURE, field_stop=FieldStop(0.5, 0.5, 0.3, 0.3, 0.03)), "of 8 pixels with a field stop; it stands"),
    ],
)
def test_a_grey_mask_that_does_not_fit_is_refused(exposure: Exposure, words: str) -> None:
    with pytest.raises(OpticsError, match=words):
        behind(GreyMask(torch.zeros(8, 8)), exposure)


@pytest.mark.parametrize("logits", [torch.zeros(8), torch.zeros(8, 4), torch.full((8, 8), torch.inf)])
def test_logits_are_a_square_of_finite_numbers(logits: torch.Tensor) -> None:
    with pytest.raises(OpticsError, match="must be a square of finite numbers"):
        GreyMask(logits)


def stored(folder: Path) -> StoredCamera:
    camera = StoredCamera(GEOMETRY, EXPOSURE, point().psf, torch.zeros(8, 8), steps())
    camera.save(lambda name, data: (folder / name).write_bytes(data))
    return camera


def test_a_camera_with_a_grey_mask_is_read_as_it_was_written(tmp_path: Path) -> None:
    camera = stored(tmp_path)
    again = StoredCamera.load(tmp_path)
    assert again.grey is not None
    assert torch.equal(again.grey, steps())
    np.testing.assert_array_equal(np.load(tmp_path / "grey_mask.npy"), steps().numpy())
    scenes = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(again.camera.signal(scenes), behind(GreyMask(torch.logit(steps()))).signal(scenes))
    assert again.content_hash == camera.content_hash
    # A version that knows no grey mask must not take this for a camera without one.
    assert '"format": 2' in (tmp_path / "camera.json").read_text(encoding="utf-8")


def test_another_grey_mask_is_noticed(tmp_path: Path) -> None:
    stored(tmp_path)
    np.save(tmp_path / "grey_mask.npy", np.full((8, 8), 0.5, dtype=np.float32))
    with pytest.raises(SimError, match=r"grey_mask\.npy is not the file that the run wrote"):
        StoredCamera.load(tmp_path)
