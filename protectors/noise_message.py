"""Noise in whole levels as bytes: all that a device and a server say to each other.

A message is ``NOIS``, the version (1 byte), the number of photos and their side (4 bytes each, little-endian), then
one signed byte for each value in the order (photo, channel, row, column).
"""

from __future__ import annotations

import struct

import torch
from torch import Tensor

from protectors.errors import ProtectorError

MAGIC, VERSION = b"NOIS", 1
HEADER = struct.Struct("<4sBII")
CHANNELS = 3


def pack(levels: Tensor) -> bytes:
    """The message for noise (N, 3, S, S) int8.

    Raises:
        ProtectorError: Shape or type are others.
    """
    if (
        levels.dtype != torch.int8 or levels.ndim != 4 or levels.shape[1] != CHANNELS
        or levels.shape[2] != levels.shape[3]
    ):  # fmt: skip
        raise ProtectorError(f"a message holds int8 noise (N, 3, S, S), got {levels.dtype} {tuple(levels.shape)}.")
    header = HEADER.pack(MAGIC, VERSION, levels.shape[0], levels.shape[-1])
    return header + levels.cpu().contiguous().numpy().tobytes()


def unpack(message: bytes) -> Tensor:
    """The noise (N, 3, S, S) int8 of a message.

    Raises:
        ProtectorError: It is no such message, of another version, or not as long as it says.
    """
    if len(message) < HEADER.size or message[: len(MAGIC)] != MAGIC:
        raise ProtectorError(f"{len(message)} bytes are no message with noise; it must start with {MAGIC.decode()}.")
    _, version, count, side = HEADER.unpack_from(message)
    if version != VERSION:
        raise ProtectorError(f"the message has version {version}, this side speaks {VERSION}; update the older side.")
    due = HEADER.size + count * CHANNELS * side * side
    if len(message) != due:
        raise ProtectorError(
            f"the message says {count} photos of {side} pixels, {due} bytes, but has {len(message)}; send it again."
        )
    held = torch.frombuffer(bytearray(message), dtype=torch.int8)[HEADER.size :]
    return held.reshape(count, CHANNELS, side, side)
