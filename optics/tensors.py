"""Tensors that callers hand to masks and elements: checked, then held as parameters or buffers."""

from __future__ import annotations

import torch
from torch import nn

from optics.checks import check_finite
from optics.errors import OpticsError


def hold(module: nn.Module, name: str, value: torch.Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Register ``value`` under ``name``: a Parameter stays trainable, a plain tensor becomes a buffer.

    Raises:
        OpticsError: Wrong shape, values that are not finite, or a Parameter of another type than ``dtype`` (a converted
            copy would leave the caller's optimiser with a tensor that nothing uses).
    """
    if tuple(value.shape) != shape:
        raise OpticsError(f"{name} has shape {tuple(value.shape)} but {shape} is needed; change {name}.")
    check_finite(name, value)
    if not isinstance(value, nn.Parameter):
        module.register_buffer(name, value.detach().to(dtype).clone())
        return
    if value.dtype != dtype:
        raise OpticsError(f"{name} is a Parameter of {value.dtype} but dtype={dtype}; make the two agree.")
    module.register_parameter(name, value)
