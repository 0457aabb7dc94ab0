"""The transfer step ``crop F^-1 H F pad`` in blocks of columns.

The zero rows of the padded field are never transformed along x, nor are the rows of the result that are cut off, which
saves a quarter of the work of two whole transforms. The middle part, along y, runs over blocks of columns small enough
to stay in the cache; padded planes, which cost more in memory traffic than in arithmetic, are never formed. Only 1-D
transforms are used (see :mod:`optics.fft` for the fault of 2-D ones).
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch

# Samples in a block: of 2^15 to 2^18 the fastest for planes of 1024^2 and 2048^2 (1 MiB in complex64).
_BLOCK_SAMPLES = 2**17


def transfer(field: torch.Tensor, kernel: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """Apply a transfer function to zero-padded fields and cut the result.

    Linear in the field, with gradients of any order to it, forward and backward; none to the kernel.

    Args:
        field: Complex, shape (..., H, W).
        kernel: Transfer function with its axes exchanged, shape (..., Mx, My), in the order of the discrete transform;
            leading dimensions are broadcast.
        shape: Rows and columns (H', W') of the result, at most My and Mx.

    Returns:
        Shape (..., H', W').
    """
    leading = torch.broadcast_shapes(field.shape[:-2], kernel.shape[:-2])
    return _Transfer.apply(field, kernel, shape, leading, False)


def transfer_adjoint(field: torch.Tensor, kernel: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """Apply the adjoint of :func:`transfer`, whose input had ``shape`` and, for kernels (Z, L, Mx, My), one depth.

    Args:
        field: Complex, shape (..., H', W').
        kernel: As for :func:`transfer`.
        shape: Rows and columns (H, W) of the result.

    Returns:
        Shape (..., H, W); the dimension Z is summed and kept.
    """
    leading = torch.broadcast_shapes(field.shape[:-2], kernel.shape[:-2])
    if kernel.ndim == 4:
        leading = torch.Size((*leading[:-2], 1, leading[-1]))
    return _Transfer.apply(field, kernel, shape, leading, True)


class _Transfer(torch.autograd.Function):
    """Forward and adjoint are one operation: with padding and cut exchanged, and the kernel conjugated."""

    @staticmethod
    def forward(
        field: torch.Tensor, kernel: torch.Tensor, shape: tuple[int, int], leading: tuple[int, ...], conjugate: bool
    ) -> torch.Tensor:
        columns, rows = kernel.shape[-2:]
        along_x = torch.fft.fft(field, n=columns, dim=-1)
        wide = torch.broadcast_shapes(field.shape[:-2], kernel.shape[:-2])
        cut = field.new_empty((*leading, shape[0], columns))
        step = max(1, _BLOCK_SAMPLES // (rows * max(1, prod(wide))))
        for start in range(0, columns, step):
            block = torch.fft.fft(along_x[..., start : start + step].mT, n=rows, dim=-1)
            part = kernel[..., start : start + step, :]
            factor = part.conj() if conjugate else part
            block = block.mul_(factor) if block.shape[:-2] == wide else block * factor
            block = block.sum_to_size((*leading, *block.shape[-2:]))
            cut[..., start : start + step] = torch.fft.ifft(block, dim=-1)[..., : shape[0]].mT
        return torch.fft.ifft(cut, dim=-1)[..., : shape[1]]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        field, kernel, shape, leading, conjugate = inputs
        ctx.save_for_backward(kernel)
        ctx.save_for_forward(kernel)
        ctx.field_shape, ctx.arguments = field.shape, (shape, leading, conjugate)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (kernel,) = ctx.saved_tensors
        leading, shape = ctx.field_shape[:-2], ctx.field_shape[-2:]
        field = _Transfer.apply(gradients[0], kernel, tuple(shape), tuple(leading), not ctx.arguments[2])
        return field, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> torch.Tensor:
        (kernel,) = ctx.saved_tensors
        return _Transfer.apply(tangents[0], kernel, *ctx.arguments)

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        field: torch.Tensor,
        kernel: torch.Tensor,
        shape: tuple[int, int],
        leading: tuple[int, ...],
        conjugate: bool,
    ) -> tuple[torch.Tensor, int]:
        if in_dims[1] is not None:
            raise NotImplementedError("vmap over transfer functions; give the operator a tensor of distances")
        dim = in_dims[0]
        assert dim is not None
        # The mapped dimension goes before all others; missing ones, which a kernel may add, follow it.
        moved = field.movedim(dim, 0)
        missing = max(len(leading), kernel.ndim - 2) - (moved.ndim - 3)
        moved = moved.reshape(moved.shape[0], *[1] * missing, *moved.shape[1:])
        return _Transfer.apply(moved, kernel, shape, (moved.shape[0], *leading), conjugate), 0
