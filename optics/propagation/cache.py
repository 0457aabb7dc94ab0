"""Prepared kernels shared by all operators of one geometry, within a stated number of bytes."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import RLock
from typing import Any

import torch

from optics.errors import OpticsError

_log = logging.getLogger(__name__)

_DEFAULT_LIMIT = 512 * 2**20


def _bytes_of(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    return sum(_bytes_of(part) for part in value) if isinstance(value, tuple) else 0


class KernelCache:
    """Keeps what was used last, and forgets what was used longest ago when the limit is reached.

    A kernel larger than the limit is returned and not kept, so it is built again at each call.

    Args:
        limit_bytes: Largest sum of the tensors kept, over all devices, in bytes.

    Raises:
        OpticsError: The limit is negative.
    """

    def __init__(self, limit_bytes: int = _DEFAULT_LIMIT) -> None:
        self._entries: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._lock = RLock()
        self._bytes = 0
        self.set_limit(limit_bytes)

    @property
    def limit_bytes(self) -> int:
        """Largest sum of the tensors kept, in bytes."""
        return self._limit

    @property
    def used_bytes(self) -> int:
        """Sum of the tensors kept now, in bytes."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._entries)

    def set_limit(self, limit_bytes: int) -> None:
        """Change the limit in bytes and forget what no longer fits; 0 keeps nothing."""
        if limit_bytes < 0:
            raise OpticsError(f"limit_bytes={limit_bytes} must not be negative; use 0 to keep nothing.")
        with self._lock:
            self._limit = limit_bytes
            self._shrink()

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
            self._bytes = 0

    def get(self, key: Hashable, build: Callable[[], Any]) -> Any:
        """Return the tensors under ``key`` (a tensor, or nested tuples of them), built if they are not there."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                return self._entries[key][0]
            # A tensor made in inference mode could never take part in a gradient later.
            with torch.inference_mode(False), torch.no_grad():
                value = build()
            size = _bytes_of(value)
            if size > self._limit:
                _log.info("a kernel of %d bytes exceeds the cache of %d bytes and is not kept", size, self._limit)
                return value
            self._entries[key] = (value, size)
            self._bytes += size
            self._shrink()
            return value

    def _shrink(self) -> None:
        while self._bytes > self._limit:
            _, (_, size) = self._entries.popitem(last=False)
            self._bytes -= size


kernel_cache = KernelCache()
"""The cache of all propagation operators: 512 MiB unless changed by ``kernel_cache.set_limit``."""
