"""The firmware built for this machine with sanitizers, on a pseudo-terminal and on standard input and output."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

from firmware_bridge.errors import BridgeError, DeviceError
from firmware_bridge.fw.emulator import Emulator, build
from firmware_bridge.wire import codec, schema
from firmware_bridge.wire.codec import Packet, Splitter, Value
from firmware_bridge.wire.link import Link, StateLost
from firmware_bridge.wire.schema import BY_NAME, COMMANDS
from firmware_bridge.wire.serial_transport import SerialTransport
from tests.firmware_bridge.test_codec import draw_all
from tests.firmware_bridge.wire_doubles import built, pattern, show, smoke

ROOT = Path(__file__).resolve().parents[2]


def test_smoke_conversation_on_a_terminal(tmp_path: Path) -> None:
    shown = tmp_path / "shown"
    with Emulator.host(built("host"), tmp_path / "log", serial="BENCH-7", shown=shown) as device:
        link = Link(SerialTransport.emulated(device.path))
        smoke(link)
        assert link.hello["serial"] == "BENCH-7" and link.hello["model"] == "host"
        link.call("ARM", operator='a "quoted\\" name', light=False)
        show(link, pattern(3))
        assert shown.read_bytes() == pattern(3)
        link.call("PARK")
        assert shown.read_bytes() == bytes(4096)
        link.close()
        events = device.events()
    assert [e["value"] for e in events if e["event"] == "apply"] == [zlib.crc32(pattern(1)), zlib.crc32(pattern(3))]
    assert [e["text"] for e in events if e["event"] == "arm"] == ["smoke test", 'a "quoted\\" name']
    assert [e["value"] for e in events if e["event"] == "light" and e["value"]] == [0x8001]
    times = [e["t_ms"] for e in events]
    assert times == sorted(times)


def test_the_link_file_follows_the_device(tmp_path: Path) -> None:
    name = tmp_path / "controller"
    with Emulator.host(built("host"), tmp_path / "log", link=name) as device:
        assert name.resolve() == device.path
    assert not name.is_symlink()


def test_a_new_device_at_the_same_place_is_noticed(tmp_path: Path) -> None:
    name = tmp_path / "controller"
    first = Emulator.host(built("host"), tmp_path / "log", link=name)
    link = Link(SerialTransport.emulated(name), patience_s=20)
    link.open()
    link.call("ARM", operator="test", light=True)
    first.close()
    with Emulator.host(built("host"), tmp_path / "log", link=name):
        with pytest.raises(StateLost, match="arm and stage again"):
            link.call("LIGHT", level=1)
        assert link.call("HEARTBEAT")["state"] == schema.State.safe
        link.close()


OWNER = """
import sys, time
from pathlib import Path
from firmware_bridge.fw.emulator import Emulator
device = Emulator.host(Path(sys.argv[1]), Path(sys.argv[2]))
print(device._process.pid, flush=True)
time.sleep(600)
"""


def test_the_firmware_ends_with_the_program_that_started_it_and_was_killed(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(built("host")), str(tmp_path / "log")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    status = Path("/proc", owner.stdout.readline().strip(), "status")
    assert "firmware-host" in status.read_text()
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    # Whoever inherits it may not have asked yet how it ended.
    while status.exists() and "(zombie)" not in status.read_text():
        time.sleep(0.01)
    # It ended by itself, as when its power is cut: parked and dark.
    assert [json.loads(line)["event"] for line in (tmp_path / "log").read_text().splitlines()][-2:] == ["light", "park"]


CLIENT = """
import sys, time
from pathlib import Path
from firmware_bridge.wire.link import Heartbeat, Link
from firmware_bridge.wire.serial_transport import SerialTransport
from tests.firmware_bridge.wire_doubles import pattern, show
link = Link(SerialTransport.emulated(Path(sys.argv[1])))
link.open()
link.call("ARM", operator="victim", light=True)
show(link, pattern(1))
link.call("LIGHT", level=40000)
print("lit", flush=True)
begun = link.counters.commands
Heartbeat(link)
# So many that only they can have kept the lease.
while link.counters.commands < begun + 8:
    time.sleep(0.01)
print("kept", flush=True)
time.sleep(600)
"""


def test_a_killed_program_leaves_the_bench_parked_and_dark_within_a_second(tmp_path: Path) -> None:
    with Emulator.host(built("host"), tmp_path / "log") as device:
        client = subprocess.Popen(
            [sys.executable, "-c", CLIENT, str(device.path)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert client.stdout is not None
        assert client.stdout.readline() == "lit\n"
        assert client.stdout.readline() == "kept\n"
        assert not [e for e in device.events() if e["event"] == "lease_lost"]
        client.send_signal(signal.SIGKILL)
        killed_ms = time.monotonic() * 1000
        client.wait()
        client.stdout.close()
        # Parked is the last that it tells of a lease that was lost.
        while not any(e["event"] == "parked" for e in device.events()):
            time.sleep(0.01)
        events = device.events()
    (loss,) = (e for e in events if e["event"] == "lease_lost")
    after = events[events.index(loss) + 1 :]
    dark = next(e for e in after if e["event"] == "light")
    parked = next(e for e in after if e["event"] == "park")
    safe = next(e for e in after if e["event"] == "parked")
    assert dark["value"] == 0 and parked["value"] == zlib.crc32(bytes(4096))
    # Its own clock, from the last valid frame: 1 s and one look at the clock. It looks every 5 ms, and tells how long
    # the machine let it wait that time.
    tick = events[events.index(loss) - 1]
    assert tick["event"] == "tick"
    assert 1000 <= int(loss["value"]) <= 1000 + int(tick["value"]) + 1
    # Parking takes no time but what a busy machine takes from it.
    assert int(loss["value"]) <= int(safe["value"]) <= int(loss["value"]) + 50
    silent_from_ms = int(loss["t_ms"]) - int(loss["value"])
    assert max(int(dark["t_ms"]), int(parked["t_ms"])) - silent_from_ms <= int(safe["value"])
    # The same on the clock of this test; the last frame may have come shortly before the kill, or been on its way then.
    assert max(int(dark["monotonic_ms"]), int(parked["monotonic_ms"])) - killed_ms <= int(safe["value"]) + 50


class Piped:
    """The firmware on standard input and output, whose answers a thread takes in."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [str(built("host") / "firmware-host"), "--stdio"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.process.stdin and self.process.stdout and self.process.stderr
        self.packets: list[Packet] = []
        self.came = threading.Condition()
        self.thread = threading.Thread(target=self._take, daemon=True)
        self.thread.start()

    def _take(self) -> None:
        assert self.process.stdout is not None
        splitter = Splitter()
        while data := os.read(self.process.stdout.fileno(), 65536):
            with self.came:
                self.packets += [codec.decode(frame) for frame in splitter.feed(data)]
                self.came.notify_all()

    def send(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def hello(self, session: int) -> Packet:
        """Open a session, and return the answer."""
        challenge = session ^ 0x5A5A5A5A
        values: dict[str, Value] = {"schema": schema.SCHEMA_HASH, "session": session, "challenge": challenge}
        self.send(b"\0" + codec.encode(Packet(0x01, 0, 0, codec.pack(BY_NAME["HELLO"].request, values))))
        with self.came:
            assert self.came.wait_for(lambda: self._find(challenge) is not None, timeout=60)
            found = self._find(challenge)
        assert found is not None
        return found

    def _find(self, challenge: int) -> Packet | None:
        field = BY_NAME["HELLO"].reply[1]
        found = (p for p in self.packets if p.type == 0x81 and codec.peek(field, p.body) == challenge)
        return next(found, None)

    def end(self) -> None:
        assert self.process.stdin and self.process.stdout and self.process.stderr
        self.process.stdin.close()
        assert self.process.wait(timeout=60) == 0, self.process.stderr.read().decode()
        self.thread.join()
        self.process.stdout.close()
        self.process.stderr.close()


def test_garbage_finds_nothing_under_the_sanitizers() -> None:
    rng = np.random.default_rng(10)
    device = Piped()
    device.hello(1)
    for _ in range(200):
        device.send(rng.bytes(5000))
        # Few delimiters, and many: long frames, and many short ones.
        device.send(bytes(rng.integers(1, 256, 3000).astype(np.uint8)) + b"\0")
        device.send(bytes((rng.integers(0, 4, 2000)).astype(np.uint8)))
    hello = device.hello(2)
    assert codec.unpack(BY_NAME["HELLO"].reply, hello.body)["model"] == "host"
    device.end()


def test_whole_frames_with_damaged_bodies_find_nothing_under_the_sanitizers() -> None:
    """Frames that pass the CRC reach all of the code behind it."""
    rng = np.random.default_rng(11)
    device = Piped()
    nonce = device.hello(1).nonce
    codes = [*(command.code for command in COMMANDS), 0x00, 0x7F, 0x81, 0xFF]
    for seq in range(1, 8001):
        command = COMMANDS[int(rng.integers(1, len(COMMANDS)))]
        body = bytearray(codec.pack(command.request, draw_all(command.request, rng)))
        code = command.code
        style = int(rng.integers(4))
        if style == 1:
            code = int(rng.choice(codes[1:]))
        elif style == 2:
            for _ in range(int(rng.integers(1, 4))):
                body[int(rng.integers(len(body)))] = int(rng.integers(256))
        elif style == 3:
            body = bytearray(rng.bytes(int(rng.integers(0, schema.REQUEST_BODY_BYTES + 1))))
        device.send(codec.encode(Packet(code, seq, nonce, bytes(body))))
    hello = device.hello(2)
    answered = {packet.seq for packet in device.packets if packet.seq}
    assert answered == set(range(1, 8001))
    assert codec.unpack(BY_NAME["HELLO"].reply, hello.body)["model"] == "host"
    device.end()


def test_c_reads_cobs_as_the_library_writes_it() -> None:
    """Lengths around 254, where COBS begins a new block, with and without zeros, through CHUNK."""
    device = Piped()
    nonce = device.hello(1).nonce
    seq = 0
    for length in range(225, 257):
        for data in (b"\xff" * length, bytes(length), b"\0" + b"\x55" * (length - 1), b"\x55" * (length - 1) + b"\0"):
            seq += 1
            body = codec.pack(BY_NAME["CHUNK"].request, {"offset": 0, "data": data})
            device.send(codec.encode(Packet(0x10, seq, nonce, body)))
    device.hello(2)
    filled = [codec.unpack(BY_NAME["CHUNK"].reply, p.body)["filled"] for p in device.packets if p.type == 0x90]
    assert filled == [length for length in range(225, 257) for _ in range(4)]
    device.end()


def test_a_mask_of_16_bits(tmp_path: Path) -> None:
    built("host")
    folder = build("host", tmp_path, width=7, height=3, bits=12)
    with Emulator.host(folder, tmp_path / "log") as device:
        link = Link(SerialTransport.emulated(device.path))
        link.open()
        assert (link.hello["mask_width"], link.hello["mask_height"], link.hello["mask_bits"]) == (7, 3, 12)
        link.call("ARM", operator="test", light=False)
        data = np.arange(21, dtype="<u2").tobytes()
        assert show(link, data)["pattern_id"] == zlib.crc32(data)
        link.close()


def test_a_build_that_fails_says_why(tmp_path: Path) -> None:
    built("host")
    with pytest.raises(BridgeError, match=r"could not be built for 'nothing': .*No rule to make target"):
        build("nothing", tmp_path)


def test_an_emulator_that_ends_at_once_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="ended at once with status 2"):
        Emulator([str(built("host") / "firmware-host"), "--nonsense"], tmp_path / "log")
