"""Runs independent jobs in processes with one thread each, here or on a cluster; results do not depend on where."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import joblib

from ground.errors import GroundError

# joblib replaces workers whose memory grows, as those of torch do, and says so each time; results do not depend on it.
warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given", category=UserWarning)

#: ``run(function, arguments)`` yields (position, result, seconds) as the jobs end.
Engine = Callable[[Callable[..., Any], Sequence[tuple[Any, ...]]], Iterator[tuple[int, Any, float]]]


def derived_seed(seed: int, *names: str) -> int:
    """A seed of its own for each job: the first six bytes of SHA-256 of the run's seed and the job's names.

    Args:
        seed: Seed of the run.
        names: What the job is called, in a fixed order.
    """
    return int.from_bytes(hashlib.sha256("/".join([str(seed), *names]).encode()).digest()[:6], "big")


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch compute with this many threads, whatever the machine or the environment offers.

    Sums are split by thread, so their last bits depend on the number, and training carries them on.

    Args:
        count: Number of threads.
    """
    # torch takes seconds to import, and those who only ask for a seed do not need it.
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _timed(index: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[int, Any, float]:
    with threads(1):
        start = time.monotonic()
        result = function(*arguments)
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
        function: Importable, and a pure function of its arguments and of the files they name.
        arguments: One tuple for each job, the longest job first.
        workers: Number of processes.
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


@contextlib.contextmanager
def open_engine(kind: str, workers: int, scheduler: str = "") -> Iterator[Engine]:
    """Somewhere to run jobs, with the same results everywhere.

    Args:
        kind: ``local`` (joblib, this machine) or ``dask`` (this machine, or every machine of a Dask cluster).
        workers: Number of processes that are started here.
        scheduler: Address of a running Dask scheduler; its workers must share the file system of this machine.

    Raises:
        GroundError: The extra ``dask`` is not installed, the scheduler does not answer, or no such kind.
    """
    if kind == "local":
        # With one worker jobs run in this process, whose linear algebra may use more threads than a worker's would
        # and then round otherwise. So they go through a worker, one at a time, unless threads are limited here too.
        limited = all(os.environ.get(name) == "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"))
        yield (
            lambda function, arguments: (
                run_jobs(function, arguments, workers)
                if workers > 1 or limited
                else (_one_at_a_time(function, arguments))
            )
        )
    elif kind == "dask":
        with _dask_client(workers, scheduler) as client:
            yield lambda function, arguments: _on_dask(client, function, arguments)
    else:
        raise GroundError(f"there is no engine {kind!r}; choose local or dask.")


def _one_at_a_time(
    function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]
) -> Iterator[tuple[int, Any, float]]:
    with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
        # joblib runs jobs in this process if told one worker; of two, one stays idle when one job is sent at a time.
        parallel = joblib.Parallel(n_jobs=2, return_as="generator_unordered", batch_size=1, pre_dispatch=1)
        yield from parallel(joblib.delayed(_in_worker)(index, function, given) for index, given in enumerate(arguments))


@contextlib.contextmanager
def _dask_client(workers: int, scheduler: str) -> Iterator[Any]:
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise GroundError("the engine dask needs Dask; run: pip install 'optishield[dask]'") from error
    if scheduler:
        try:
            client = Client(scheduler, timeout=30)
        except OSError as error:
            raise GroundError(
                f"no Dask scheduler answers at {scheduler!r} ({error}); start one with: dask scheduler"
            ) from error
        with client:
            yield client
        return
    cluster = LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=None
    )
    with cluster, Client(cluster) as client:
        yield client


def _on_dask(
    client: Any, function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]
) -> Iterator[tuple[int, Any, float]]:
    from distributed import as_completed

    # Earlier positions first; results are taken as they come and not kept on the workers.
    futures = [
        client.submit(_timed, index, function, given, pure=False, priority=-index)
        for index, given in enumerate(arguments)
    ]
    try:
        for future in as_completed(futures):
            yield future.result()
            future.release()
    finally:
        client.cancel(futures)
