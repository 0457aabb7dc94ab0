"""The pool: seeds by their definition, jobs in this process and in others, and what it refuses."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest
import torch

from ground.errors import GroundError
from ground.pool import derived_seed, open_engine, run_jobs, threads


def square(value: int) -> tuple[int, int]:
    """The square, and the number of threads that torch was given."""
    return value * value, torch.get_num_threads()


def fail(value: int) -> int:
    raise ValueError(f"{value} is refused")


def test_the_ground_is_imported_without_torch() -> None:
    script = (
        "import pkgutil, ground, importlib, sys\n"
        "for found in pkgutil.iter_modules(ground.__path__, 'ground.'): importlib.import_module(found.name)\n"
        "print('torch' in sys.modules, 'ground.pool' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_a_seed_is_the_start_of_a_hash_of_its_names() -> None:
    digest = hashlib.sha256(b"7/attack/noise").hexdigest()
    assert derived_seed(7, "attack", "noise") == int(digest[:12], 16)
    assert derived_seed(7, "attack", "noise") != derived_seed(7, "noise", "attack")


def test_threads_are_given_back_also_after_an_error() -> None:
    before = torch.get_num_threads()
    with pytest.raises(ValueError, match="stop"), threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise ValueError("stop")
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("workers", [1, 2])
def test_jobs_come_back_with_their_positions_from_one_thread_each(workers: int) -> None:
    found = {index: result for index, result, _ in run_jobs(square, [(3,), (4,), (5,)], workers)}
    assert found == {0: (9, 1), 1: (16, 1), 2: (25, 1)}
    assert list(run_jobs(square, [], workers)) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_the_error_of_a_job_arrives(workers: int) -> None:
    with open_engine("local", workers) as engine, pytest.raises(ValueError, match="4 is refused"):
        list(engine(fail, [(4,), (4,)]))


def test_one_worker_without_limited_threads_computes_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    with open_engine("local", 1) as engine:
        assert sorted((index, result) for index, result, _ in engine(square, [(3,), (4,)])) == [
            (0, (9, 1)),
            (1, (16, 1)),
        ]


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(GroundError, match="no engine 'ray'; choose local or dask"), open_engine("ray", 1):
        pass
