"""Runs independent jobs in worker processes with one thread each, so that results do not depend on their number."""

from __future__ import annotations

import hashlib
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import joblib
import torch


def derived_seed(seed: int, *names: str) -> int:
    """A seed of its own for each job: the first six bytes of SHA-256 of the run's seed and the job's names."""
    return int.from_bytes(hashlib.sha256("/".join([str(seed), *names]).encode()).digest()[:6], "big")


def _timed(index: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[int, Any, float]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    start = time.monotonic()
    try:
        result = function(*arguments)
    finally:
        torch.set_num_threads(threads)
    return index, result, time.monotonic() - start


def _in_worker(index: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[int, Any, float]:
    # Ctrl-C reaches every process of the terminal; only the first one should speak, and it ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return _timed(index, function, arguments)


def run_jobs(
    function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], workers: int
) -> Iterator[tuple[int, Any, float]]:
    """Yield (position, result, seconds) of ``function(*arguments[position])`` as the jobs end.

    Args:
        function: importable, and a pure function of its arguments and of the files they name.
        arguments: one tuple for each job, the longest job first.
        workers: processes.
    """
    if not arguments:
        return
    if workers == 1 or len(arguments) == 1:
        for index, given in enumerate(arguments):
            yield _timed(index, function, given)
        return
    with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
        parallel = joblib.Parallel(n_jobs=workers, return_as="generator_unordered", batch_size=1, pre_dispatch=workers)
        yield from parallel(joblib.delayed(_in_worker)(index, function, given) for index, given in enumerate(arguments))
