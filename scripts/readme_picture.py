"""Make docs/picture.png from a finished run of the camera of pairs: scene, filters, masks, what leaves, landmarks.

Usage: python scripts/readme_picture.py RUN docs/picture.png
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from safetensors.numpy import load_file

from faces.samples import linear_to_srgb


def _pairs(channel_of: np.ndarray[Any, Any]) -> list[int]:
    """The first pair of each of the first three channels."""
    return [int(np.flatnonzero(channel_of == channel)[0]) for channel in range(3)]


def main(run: Path, out: Path) -> None:
    """Draw the first three test faces of a run.

    Args:
        run: folder of a finished ``train-mask`` run on synthetic heads.
        out: picture to write.
    """
    import torch

    arrays = load_file(run / "report.safetensors")
    scenes = linear_to_srgb(torch.from_numpy(arrays["scenes"]).clamp(0, 1)).numpy()
    places, points, true = arrays["places"], arrays["landmarks_pred"], arrays["landmarks_true"]
    psfs, heights = arrays["pairs_psf"].mean(1), arrays["pairs_height_m"] * 1e6
    figure, axes = plt.subplots(3, 5, figsize=(11.5, 7.2), dpi=110)
    titles = (
        "scene (synthetic head)", "matched filter of a pair", "mask of a tile, µm", "all that leaves the chip",
        "landmarks read from it",
    )  # fmt: skip
    side, pixels = scenes.shape[1], arrays["frames_ours"].shape[1]
    axis = np.linspace(-1, 1, heights.shape[-1])
    outside = axis[:, None] ** 2 + axis**2 > 1
    for row, pair in enumerate(_pairs(arrays["pairs_channel"])):
        kernel = psfs[2 * pair] - psfs[2 * pair + 1]
        height = np.where(outside, np.nan, heights[2 * pair])
        axes[row, 0].imshow(scenes[row], interpolation="bicubic")
        axes[row, 1].imshow(kernel, cmap="RdBu_r", vmin=-np.abs(kernel).max(), vmax=np.abs(kernel).max())
        shown = axes[row, 2].imshow(height - np.nanmin(height), cmap="Blues")
        figure.colorbar(shown, ax=axes[row, 2], fraction=0.046)
        axes[row, 3].imshow(arrays["frames_ours"][row].mean(-1), cmap="gray", vmin=0, vmax=1)
        axes[row, 4].imshow(scenes[row].mean(-1), cmap="gray", alpha=0.6, extent=(0, side, side, 0))
        axes[row, 4].plot(true[row, :, 0] + 0.5, true[row, :, 1] + 0.5, "o", mfc="none", mec="w", ms=7)
        axes[row, 4].plot(points[row, :, 0] + 0.5, points[row, :, 1] + 0.5, "c+", ms=9, mew=2)
        for x, y in places[row]:
            axes[row, 4].plot((x + 0.5) * side / pixels, (y + 0.5) * side / pixels, "y.", ms=4)
        for cell, title in zip(axes[0], titles, strict=True):
            cell.set_title(title, fontsize=10)
        for cell in axes[row]:
            cell.set_axis_off()
    figure.tight_layout()
    figure.savefig(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
