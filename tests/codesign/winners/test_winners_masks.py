"""Reliefs of the tiles: what is wanted of them, that descent gets nearer, and what cannot be made."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from codesign.cameras import geometry_of
from codesign.config import TrainMaskConfig
from codesign.errors import CodesignError
from codesign.winners.camera import build_winners
from codesign.winners.masks import first_controls, masks_of, realise, tile_patterns, wanted_psf
from optics import bin_pixels, convolve

CONFIG = TrainMaskConfig.for_budget("smoke")
CONFIG = CONFIG.model_copy(
    update={
        "winners": CONFIG.winners.model_copy(update={"relief_steps": 6, "relief_cells": 20}),
    }
)
GEOMETRY = geometry_of(CONFIG.optics)


def _kernel() -> Tensor:
    x = torch.arange(9.0) - 4
    y = x[:, None]
    return torch.exp(-((x - 2) ** 2 + y**2) / 4) - torch.exp(-((x + 2) ** 2 + (y - 1) ** 2) / 5)


def test_a_single_pixel_is_wanted_as_the_cells_between_its_neighbours() -> None:
    pattern = torch.zeros(5, 5)
    pattern[2, 2] = 1
    psf = wanted_psf(pattern, GEOMETRY, 32)
    middle = GEOMETRY.psf_cells // 2
    line = torch.tensor([0.5, 1.0, 0.5])
    assert torch.allclose(psf[middle - 1 : middle + 2, middle - 1 : middle + 2], line[:, None] * line / 4)
    assert float(psf.sum()) == pytest.approx(1.0)


def test_pixels_behind_the_wanted_psf_see_the_kernel_of_pixels() -> None:
    """For scenes that are smooth on the scale of a pixel, where alone the two can agree."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 1, 8, 8, generator=generator)
    scene = torch.nn.functional.interpolate(coarse, size=(64, 64), mode="bicubic", align_corners=False)
    pattern = _kernel().clamp_min(0)
    pattern = pattern / pattern.sum()
    fine = bin_pixels(convolve(scene, wanted_psf(pattern, GEOMETRY, 32)[None]), 2) / 4
    plain = convolve(bin_pixels(scene, 2) / 4, pattern[None])
    inner = (..., slice(6, 26), slice(6, 26))
    assert torch.allclose(fine[inner], plain[inner], atol=0.02)


def test_descent_comes_nearer_than_the_start() -> None:
    kernels = [_kernel()[None]]
    wanted = tile_patterns(kernels, GEOMETRY, 32)
    controls = first_controls(CONFIG, GEOMETRY, kernels)
    assert wanted.shape == (2, GEOMETRY.psf_cells, GEOMETRY.psf_cells)
    unmoved = CONFIG.model_copy(update={"winners": CONFIG.winners.model_copy(update={"relief_steps": 0})})
    start = realise(unmoved, GEOMETRY, wanted[0], controls[0])
    found = realise(CONFIG, GEOMETRY, wanted[0], controls[0])
    assert found.residual < start.residual < 0.5
    assert found.light > 0.95
    assert 0 < found.height_m < CONFIG.winners.max_height_m


def test_a_kernel_larger_than_the_window_is_refused() -> None:
    with pytest.raises(CodesignError, match="do not fit into the window"):
        wanted_psf(torch.ones(65, 65), GEOMETRY, 32)


def test_masks_of_another_size_are_refused() -> None:
    with pytest.raises(CodesignError, match="use the mask file of this run"):
        masks_of(CONFIG, GEOMETRY, {"controls": torch.zeros(2, 5, 5)})
    with pytest.raises(CodesignError, match="is not whole"):
        build_winners(CONFIG, {"controls": torch.zeros(2, 20, 20)}, chip=0)
