"""Says whether the build of torch that pip installed is the one that was asked for; run by the Makefile."""

from __future__ import annotations

import sys
import warnings


def complaint(asked: str) -> str | None:
    """What is wrong with the installed build, or None.

    Args:
        asked: The requirement given to pip, for example ``torch==2.13.0+cpu``. A local version other than ``cpu``
            asks for a GPU; everything else asks for the CPU.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch

    built_for_gpu = bool(torch.version.cuda or torch.version.hip)
    local = asked.partition("+")[2]
    if built_for_gpu and local in ("", "cpu"):
        return (
            f"torch {torch.__version__} is built for a GPU, and {asked} asks for the CPU; remove the environment and "
            "set TORCH to a CPU build, or name the build for your GPU, for example TORCH=torch==2.13.0+cu130"
        )
    if local not in ("", "cpu") and not built_for_gpu:
        return f"{asked} asks for a GPU, but pip installed torch {torch.__version__}; tell pip where those wheels are"
    return None


if __name__ == "__main__":
    found = complaint(sys.argv[1])
    sys.exit(f"error: {found} (README.md, PyTorch)" if found else None)
