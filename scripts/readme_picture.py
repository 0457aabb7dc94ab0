"""Make docs/picture.png from a finished run: scene, mask, what the sensor records, what the decoder reads.

Usage: python scripts/readme_picture.py RUN docs/picture.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from safetensors.numpy import load_file

from faces.samples import linear_to_srgb


def main(run: Path, out: Path) -> None:
    """Draw the first three test faces of a run.

    Args:
        run: folder of a finished ``train-mask`` run on synthetic heads.
        out: picture to write.
    """
    import torch

    arrays = load_file(run / "report.safetensors")
    scenes = linear_to_srgb(torch.from_numpy(arrays["scenes"]).clamp(0, 1)).numpy()
    frames, heat, points = arrays["frames_ours"], arrays["heatmaps"], arrays["landmarks_pred"]
    height = np.where(arrays["mask_height_m"] >= 0, arrays["mask_height_m"], np.nan) * 1e6
    axis = np.linspace(-1, 1, len(height))
    height[axis[:, None] ** 2 + axis**2 > 1] = np.nan
    figure, axes = plt.subplots(3, 4, figsize=(9, 7.2), dpi=110)
    titles = ("scene (synthetic head)", "mask height, µm", "what the sensor records", "what the decoder reads")
    side = scenes.shape[1]
    for row in range(3):
        axes[row, 0].imshow(scenes[row], interpolation="bicubic")
        shown = axes[row, 1].imshow(height, cmap="Blues")
        axes[row, 2].imshow(frames[row].mean(-1), cmap="gray", vmin=0, vmax=1)
        axes[row, 3].imshow(scenes[row].mean(-1), cmap="gray", alpha=0.45, extent=(0, side, side, 0))
        axes[row, 3].imshow(heat[row], cmap="magma", alpha=0.55, extent=(0, side, side, 0), interpolation="bicubic")
        axes[row, 3].plot(points[row, :, 0] + 0.5, points[row, :, 1] + 0.5, "c+", ms=8)
        if row == 0:
            for cell, title in zip(axes[0], titles, strict=True):
                cell.set_title(title, fontsize=10)
            figure.colorbar(shown, ax=axes[row, 1], fraction=0.046)
        else:
            axes[row, 1].set_visible(False)
        for cell in axes[row]:
            cell.set_axis_off()
    figure.tight_layout()
    figure.savefig(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
