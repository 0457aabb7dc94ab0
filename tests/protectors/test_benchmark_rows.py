"""The benchmark of protectors: it knows them all, and its figures have the structure that they claim."""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
import torch

from protectors import registry
from protectors.sparse import Sparse

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "protectors.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    """The script as a module, under a name that is not that of the room."""
    spec = importlib.util.spec_from_file_location("benchmark_of_protectors", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_protection_has_one_row(benchmark: ModuleType) -> None:
    methods = [row.method for row in benchmark.ROWS]
    assert sorted(methods) == sorted(benchmark.names())


def test_rows_ask_for_possible_passes(benchmark: ModuleType) -> None:
    for row in benchmark.ROWS:
        assert row.forward >= row.backward >= 0
        assert bool(row.surrogates) == (row.forward > 0)
        assert row.surrogates or row.own is not None


def test_passes_of_sparse_are_those_that_it_makes(
    benchmark: ModuleType, sface_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    protector = registry.make_protector("sparse:steps=5")
    assert isinstance(protector, Sparse)
    counted = []
    embed = protector._surrogates.embed

    def counting(*given: torch.Tensor) -> tuple[torch.Tensor, ...]:
        counted.append(1)
        return embed(*given)

    monkeypatch.setattr(protector._surrogates, "embed", counting)
    points = torch.tensor(((21.0, 26), (41, 26), (31, 36), (23, 45), (39, 45)))[None]
    protector.protect(torch.rand(1, 3, 64, 64), points, torch.zeros(1, dtype=torch.int64), torch.Generator())
    # One for the clean photo and one a step, as in the row with its 48 steps.
    assert len(counted) == 6
    (row,) = (row for row in benchmark.ROWS if row.method == "sparse")
    assert (row.forward, row.backward) == (49, 48)


def test_a_small_run_gives_figures(benchmark: ModuleType, sface_weights: Path) -> None:
    threads = torch.get_num_threads()
    row = benchmark.Row("sparse", forward=3, backward=2, surrogates="sface", settings="steps=2,pixels=4")
    found = benchmark.measured(row, photos=1, runs=2, threads=threads)
    assert found.spec == "sparse:steps=2,pixels=4"
    assert found.seconds > 0 and found.spread_seconds >= 0 and found.peak_mb >= 0
    assert found.ratio == pytest.approx(found.seconds / found.floor_seconds)
    assert found.apply_seconds is None
    enrolled = benchmark.Measured("x", "x:a=1", 0.5, 0.1, 0.4, 1.25, 2.0, 30.0)
    lines = benchmark.table([found, enrolled]).splitlines()
    assert lines[3] == "| x:a=1 | 0.500 | 0.400 | 1.25 | 0.100 | 2.0000 | 30 |"
    assert len({line.count("|") for line in lines}) == 1


def test_passes_of_a_network_of_its_own_are_counted_by_kind(benchmark: ModuleType) -> None:
    network, other = torch.nn.Linear(2, 3), torch.nn.ReLU()
    given = torch.rand(4, 2)
    with benchmark.counted(torch.nn.Linear) as calls:
        network.train()
        network(given).sum().backward()
        other(given)
        network.eval()
        for _ in range(3):
            network(given.clone().requires_grad_()).sum().backward()
        with torch.no_grad():
            network(given[:1])
    network(given)
    kinds = {(one.shape, one.training, one.backward): count for one, count in calls.items()}
    assert kinds == {((4, 2), True, True): 1, ((4, 2), False, True): 3, ((1, 2), False, False): 1}
    tasks, counts = benchmark.replays(calls)
    assert counts == [1, 3, 1]
    network.weight.grad = None
    with benchmark.counted(torch.nn.Linear) as again:
        for task in tasks:
            task()
    assert {(one.shape, one.training, one.backward) for one in again} == set(kinds)
    # The floor leaves no trace in the network.
    assert network.weight.grad is None


def test_tasks_take_turns_and_their_first_run_does_not_count(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    lasts = iter([100.0, 200, 1, 10, 4, 40, 2, 20])

    def task() -> None:
        now[0] += next(lasts)

    assert benchmark.timed([task, task], 3) == [[1, 4, 2], [10, 40, 20]]


def test_unknown_methods_are_refused(benchmark: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        benchmark.main(["--methods", "sparse,none-such"])
    assert "no row for none-such; choose among" in capsys.readouterr().err
