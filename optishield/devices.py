"""The processor that networks and optics are computed on: what ``--device`` means."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from optishield.errors import ConfigError

if TYPE_CHECKING:
    import torch


class DeviceName(StrEnum):
    """What a user may ask for."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


def choose(name: str) -> torch.device:
    """The device that a name stands for.

    Args:
        name: ``cpu``, ``cuda`` (the current CUDA device), or ``auto``: CUDA where it is present, the CPU elsewhere.

    Returns:
        A device that can be used at once. torch is imported here, not with this module.

    Raises:
        ConfigError: CUDA was asked for and is absent (it is never replaced by the CPU), or there is no such name.
    """
    if name not in list(DeviceName):
        raise ConfigError(f"There is no device {name!r}; choose one of {', '.join(DeviceName)}.")
    import torch

    if name == DeviceName.cpu:
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    if name == DeviceName.auto:
        return torch.device("cpu")
    why = (
        f"torch {torch.__version__} was built without CUDA; install a build for CUDA"
        if torch.version.cuda is None
        else f"torch {torch.__version__} (CUDA {torch.version.cuda}) sees no GPU; check its driver"
    )
    raise ConfigError(f"--device cuda: {why}, or use --device cpu.")
