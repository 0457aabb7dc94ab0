"""The bad wire: each fault alone, its rate and seed, and the firmware behind it on a terminal."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from firmware_bridge.errors import LinkError
from firmware_bridge.fw.emulator import Emulator
from firmware_bridge.wire.link import Link, Refused, StateLost
from firmware_bridge.wire.serial_transport import SerialTransport
from sim.bench.faults import FaultProxy, FaultRates, FaultStream, FaultyTransport
from tests.firmware_bridge.wire_doubles import FakeClock, InProcess, built, smoke

FRAMES = [bytes([1 + index % 255]) * 20 + b"\0" for index in range(1000)]


def through(rates: FaultRates, seed: int = 0) -> tuple[bytes, FaultStream]:
    stream = FaultStream(rates, np.random.default_rng(seed))
    for frame in FRAMES:
        assert stream.push(frame, 0.0) == []
    return stream.pop(1e9), stream


def test_a_good_wire_changes_nothing_however_it_is_cut() -> None:
    data = b"\0" + b"".join(FRAMES)
    stream = FaultStream(FaultRates(), np.random.default_rng(0))
    for start in range(0, len(data), 7):
        stream.push(data[start : start + 7], 0.0)
    assert stream.pop(0.0) == data


def test_a_lost_frame_is_lost_whole() -> None:
    out, stream = through(FaultRates(drop=0.3))
    kept = [frame + b"\0" for frame in out.split(b"\0")[:-1]]
    assert len(kept) == 1000 - stream.counts["drop"] and 240 < stream.counts["drop"] < 360
    assert set(kept) <= set(FRAMES)


def test_a_flip_turns_one_bit_and_spares_the_delimiter() -> None:
    out, stream = through(FaultRates(flip=1.0))
    assert stream.counts["flip"] == 1000 and len(out) == sum(map(len, FRAMES))
    for index, frame in enumerate(FRAMES):
        damaged = out[21 * index : 21 * (index + 1)]
        turned = [a ^ b for a, b in zip(frame, damaged, strict=True) if a != b]
        assert len(turned) == 1 and turned[0].bit_count() == 1 and damaged[-1] == 0


def test_a_cut_frame_loses_its_end_and_delimiter() -> None:
    out, stream = through(FaultRates(truncate=1.0))
    assert stream.counts["truncate"] == 1000 and 0 not in out
    assert 0 < len(out) < 20 * 1000


def test_a_doubled_frame_comes_twice_in_a_row() -> None:
    out, _ = through(FaultRates(duplicate=1.0))
    assert out == b"".join(frame * 2 for frame in FRAMES)


def test_a_delayed_frame_comes_later_and_is_overtaken() -> None:
    stream = FaultStream(FaultRates(delay=0.5, delay_s=0.1), np.random.default_rng(0))
    for index, frame in enumerate(FRAMES[:100]):
        stream.push(frame, index * 0.001)
    early = stream.pop(0.099)
    assert 50 * 21 < len(early) < 100 * 21
    whole = early + stream.pop(0.2)
    assert sorted(whole.split(b"\0")) == sorted(b"".join(FRAMES[:100]).split(b"\0"))
    assert whole != b"".join(FRAMES[:100]) and stream.due_s is None


def test_the_same_seed_gives_the_same_faults() -> None:
    rates = FaultRates(drop=0.1, flip=0.1, truncate=0.1, duplicate=0.1)
    assert through(rates, 1)[0] == through(rates, 1)[0] != through(rates, 2)[0]


def test_endless_garbage_passes_and_is_not_kept() -> None:
    stream = FaultStream(FaultRates(drop=1.0), np.random.default_rng(0))
    stream.push(b"\1" * 100_000, 0.0)
    assert stream.pop(0.0) == b"\1" * 100_000


def test_impossible_rates_are_refused() -> None:
    with pytest.raises(LinkError, match=r"rate drop of a fault is a share 0\.\.1, .* got 5"):
        FaultRates(drop=5)
    with pytest.raises(LinkError, match=r"faults reset the device at the rate 0.1; say by `reboot` how"):
        FaultyTransport(InProcess(FakeClock()), FaultRates(reboot=0.1), seed=0)


def test_commands_over_a_terminal(tmp_path: Path) -> None:
    """The whole way: pyserial, two pseudo-terminals, the proxy, the firmware as a program under its sanitizers.

    Lost frames are waited for. Ten thousand commands therefore run on a clock of the test in test_link.py, and here by
    benchmarks/link.py.
    """
    rates = FaultRates(drop=0.05, flip=0.05, duplicate=0.05, truncate=0.05)
    with (
        Emulator.host(built("host"), tmp_path / "log") as device,
        FaultProxy(device.path, tmp_path / "port", rates, seed=12) as proxy,
    ):
        link = Link(SerialTransport.emulated(tmp_path / "port"), patience_s=60)
        link.open()
        for level in range(1, 151):
            while True:
                try:
                    assert link.call("LIGHT", level=level) == {"level": level}
                    break
                except Refused:
                    link.call("ARM", operator="test", light=True)
        link.close()
        events = device.events()
        assert proxy.up.counts["frames"] >= 150 and link.counters.repeats > 15
    assert [e["value"] for e in events if e["event"] == "light" and e["value"]] == list(range(1, 151))


def test_unplugged_and_plugged_in_again(tmp_path: Path) -> None:
    with (
        Emulator.host(built("host"), tmp_path / "log") as device,
        FaultProxy(device.path, tmp_path / "port", FaultRates(), seed=0) as proxy,
    ):
        link = Link(SerialTransport.emulated(tmp_path / "port"), patience_s=1.0)
        smoke(link)
        proxy.unplug()
        _until(lambda: not (tmp_path / "port").is_symlink())
        with pytest.raises(LinkError, match=r"did not come back within 1 s .*does not exist.*check cable and power"):
            link.call("HEARTBEAT")
        proxy.replug()
        _until((tmp_path / "port").exists)
        smoke(link)
        link.close()


def test_lost_ports_and_resets_by_themselves(tmp_path: Path) -> None:
    with Emulator.host(built("host"), tmp_path / "log") as device:
        rates = FaultRates(unplug=0.01, unplug_s=0.05, reboot=0.01)
        with FaultProxy(device.path, tmp_path / "port", rates, seed=13, reboot=device.reset):
            link = Link(SerialTransport.emulated(tmp_path / "port"), patience_s=60)
            link.open()
            lost = done = 0
            while done < 300:
                try:
                    link.call("STOP")
                    done += 1
                except StateLost:
                    lost += 1
            link.close()
        boots = [e for e in device.events() if e["event"] == "boot"]
    assert lost > 0 and len(boots) > lost / 2
    assert sum(gap.state_lost for gap in link.gaps) == lost
    assert any(not gap.state_lost for gap in link.gaps)


def test_the_proxy_leaves_nothing_behind(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with Emulator.host(built("host"), tmp_path / "log") as device:
        proxy = FaultProxy(device.path, tmp_path / "port", FaultRates(), seed=0)
        proxy.close()
        proxy.close()
    assert not (tmp_path / "port").is_symlink()
    assert len(os.listdir("/proc/self/fd")) == before


def _until(true: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(0.01)
