"""A deformable mirror over the firmware built for this machine, and over two functions; and how masks settle."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from firmware_bridge.devices.deformable_mirror import CommandVector, DeformableMirror, MirrorLimits, actuator_grid
from firmware_bridge.devices.mcu import Controller
from firmware_bridge.devices.settling import measure_settle
from firmware_bridge.errors import DeviceError
from firmware_bridge.fw.emulator import Emulator, build
from firmware_bridge.protocols import (
    Armable,
    CameraSettings,
    Frame,
    Identity,
    Levels,
    MaskCapabilities,
    MaskDevice,
    Origin,
    Pattern,
)
from firmware_bridge.wire.link import Link
from firmware_bridge.wire.serial_transport import SerialTransport
from tests.firmware_bridge.wire_doubles import PACKAGES
from tests.firmware_bridge.wire_doubles import built as built_program

ACTUATORS = 140
GRID = actuator_grid(ACTUATORS, 12)
LIMITS = MirrorLimits(low=0, high=4000, neighbour=900, grid=GRID)
IDENTITY = Identity("mask", "membrane", "DM7", "", Origin.emulated)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built_program("host")  # skips where there is no compiler
    assert "gcc" in PACKAGES
    return build("host", tmp_path_factory.mktemp("firmware"), width=ACTUATORS, height=1, bits=14)


@pytest.fixture
def shown(tmp_path: Path) -> Path:
    return tmp_path / "shown"


@pytest.fixture
def mirror(built: Path, tmp_path: Path, shown: Path) -> Iterator[DeformableMirror]:
    with Emulator.host(built, tmp_path / "log", shown=shown) as device:
        opened = DeformableMirror(Controller(Link(SerialTransport.emulated(device.path)), "HOST0001").mask(), LIMITS)
        yield opened
        opened.close()


def command(**levels: int) -> Pattern:
    """All actuators at 500, but for those named a0, a1, ..."""
    values = np.full((1, ACTUATORS), 500, np.uint16)
    for name, level in levels.items():
        values[0, int(name[1:])] = level
    return Pattern(values)


# -- over the wire -----------------------------------------------------------------------------------------------------


def test_a_command_reaches_the_actuators_of_the_firmware(mirror: DeformableMirror, shown: Path) -> None:
    assert isinstance(mirror, MaskDevice) and isinstance(mirror, Armable)
    assert (mirror.capabilities().width, mirror.capabilities().height) == (ACTUATORS, 1)
    assert mirror.identify().origin is Origin.emulated
    wanted = command(a0=1400, a139=0)
    mirror.arm("Ada")
    mirror.stage(wanted)
    assert mirror.commit().pattern_id == wanted.pattern_id
    np.testing.assert_array_equal(np.frombuffer(shown.read_bytes(), "<u2"), wanted.levels[0])
    assert mirror.park().parked
    assert not any(shown.read_bytes())


def test_what_breaks_a_limit_never_reaches_the_device(mirror: DeformableMirror) -> None:
    mirror.arm("Ada")
    mirror.stage(command())
    shown = mirror.commit()
    for wrong in (command(a5=4001), command(a5=1401)):
        with pytest.raises(DeviceError, match="actuator"):
            mirror.stage(wrong)
    assert mirror.readback().pattern_id == shown.pattern_id


def test_the_selftest_passes_and_leaves_it_parked(mirror: DeformableMirror) -> None:
    checks = mirror.selftest()
    assert [check.passed for check in checks] == [True, True, True]
    assert mirror.readback().parked


# -- limits ------------------------------------------------------------------------------------------------------------


def test_the_stroke_is_kept() -> None:
    LIMITS.check(np.full((1, ACTUATORS), 4000, np.uint16))
    with pytest.raises(DeviceError, match=r"actuator 7 is commanded to 4001, its stroke goes from 0 to 4000.*1 of 140"):
        LIMITS.check(command(a7=4001).levels)


# By hand: without corners, row 0 of 12 x 12 holds actuators 0..9 in columns 1..10, row 1 10..21 in columns 0..11.
@pytest.mark.parametrize(("one", "other"), [(0, 1), (0, 11), (11, 12), (9, 20), (138, 139)])
def test_neighbours_may_not_differ_too_much(one: int, other: int) -> None:
    LIMITS.check(command(**{f"a{one}": 1400}).levels)
    with pytest.raises(
        DeviceError, match=rf"actuators .*\b{one}\b.* neighbours and differ by 901, the membrane bears 900"
    ):
        LIMITS.check(command(**{f"a{one}": 1401}).levels)
    only = MirrorLimits(0, 4000, 900, GRID)
    pairs = {(int(a), int(b)) for left, right in only.pairs() for a, b in zip(left, right, strict=True)}
    assert (one, other) in pairs


def test_the_ends_of_two_rows_are_no_neighbours() -> None:
    # Actuator 9 ends row 0, actuator 10 begins row 1: far apart, though their numbers follow one another.
    pairs = {(int(a), int(b)) for left, right in LIMITS.pairs() for a, b in zip(left, right, strict=True)}
    assert (9, 10) not in pairs
    assert len(pairs) == 2 * 11 * 12 - 8  # those of the square, but for two at each corner


@pytest.mark.parametrize(
    ("actuators", "across", "first"),
    [(9, 3, [0, 1, 2]), (5, 3, [-1, 0, -1]), (97, 11, [-1, -1, -1, 0, 1, 2, 3, 4, -1, -1, -1])],
)
def test_grids_of_common_mirrors(actuators: int, across: int, first: list[int]) -> None:
    grid = actuator_grid(actuators, across)
    assert grid[0].tolist() == first
    assert sorted(grid[grid >= 0].tolist()) == list(range(actuators))


def test_an_unknown_grid_is_refused() -> None:
    with pytest.raises(DeviceError, match=r"no grid 12 across has 139 actuators: a square has 144, .* corners has 140"):
        actuator_grid(139, 12)


# -- over two functions ------------------------------------------------------------------------------------------------


class Maker:
    """What a maker's package does: it takes a vector, clips it, and tells what it applies."""

    def __init__(self, top: int = 16383) -> None:
        self.applied: Levels = np.full((1, ACTUATORS), 77, np.uint16)
        self.top = top

    def write(self, levels: Levels) -> None:
        self.applied = np.minimum(levels, self.top).astype(np.uint16)

    def read(self) -> Levels:
        return self.applied


def over(maker: Maker, settle_s: float = 0.0, sleeps: list[float] | None = None, safe_level: int = 0) -> CommandVector:
    can = MaskCapabilities(ACTUATORS, 1, 14, settle_s)
    slept: list[float] = [] if sleeps is None else sleeps
    return CommandVector(maker.write, maker.read, IDENTITY, can, safe_level=safe_level, sleep=slept.append)


def test_it_is_safe_when_opened_and_when_closed() -> None:
    maker = Maker()
    mirror = DeformableMirror(over(maker, safe_level=2000), LIMITS, safe_level=2000)
    assert isinstance(mirror, MaskDevice)
    assert (maker.applied == 2000).all() and mirror.readback().parked
    mirror.arm("Ada")
    wanted = command(a3=100)
    mirror.stage(wanted)
    assert (maker.applied == 2000).all()
    assert mirror.commit().pattern_id == wanted.pattern_id
    np.testing.assert_array_equal(maker.applied, wanted.levels)
    mirror.close()
    mirror.close()
    assert (maker.applied == 2000).all()


def test_it_waits_until_the_command_has_settled() -> None:
    sleeps: list[float] = []
    vector = over(Maker(), settle_s=0.003, sleeps=sleeps)
    vector.stage(command())
    vector.commit()
    assert sleeps == [0.003, 0.003]


def test_a_mirror_that_clips_is_found() -> None:
    vector = over(Maker(top=400))
    vector.stage(command())
    with pytest.raises(DeviceError, match=r"the mirror applies .* instead of .*; did it clip the command"):
        vector.commit()


def test_what_does_not_fit_is_refused() -> None:
    vector = over(Maker())
    with pytest.raises(DeviceError, match=r"takes \(1, 140\) uint16 levels, the pattern has \(1, 139\)"):
        vector.stage(Pattern(np.zeros((1, 139), np.uint16)))
    with pytest.raises(DeviceError, match=r"call stage\(\) before commit"):
        vector.commit()
    with pytest.raises(DeviceError, match=r"the grid numbers 97 actuators, the device has 140 x 1"):
        DeformableMirror(over(Maker()), MirrorLimits(0, 4000, 900, actuator_grid(97, 11)))
    with pytest.raises(DeviceError, match=r"stroke 0 to 16384 with the safe level 0 does not fit 14 bits"):
        DeformableMirror(over(Maker()), MirrorLimits(0, 16384, 900, GRID))
    with pytest.raises(DeviceError, match=r"the device parks at .*, level 5 everywhere is .*; correct safe_level"):
        DeformableMirror(over(Maker()), LIMITS, safe_level=5)


def test_a_limit_that_no_level_exceeds_is_not_tried() -> None:
    mirror = DeformableMirror(over(Maker()), MirrorLimits(0, 16383, 16383, GRID))
    assert [check.passed for check in mirror.selftest()] == [True, None, None]


# -- settling ----------------------------------------------------------------------------------------------------------


class SlowMirror:
    """A mask and a camera that sees it approach its pattern: exp(-t / tau), one frame every ``period`` seconds."""

    def __init__(self, tau_s: float, period_s: float = 1e-3, swing: float = 0.0) -> None:
        self.now_s = 0.0
        self.tau_s, self.period_s, self.swing = tau_s, period_s, swing
        self.start, self.target, self.since_s = 0.0, 0.0, 0.0
        self.count = 0

    def write(self, levels: Levels) -> None:
        self.start, self.target, self.since_s = self.level(), float(levels.mean()), self.now_s
        self.applied = levels

    def read(self) -> Levels:
        return self.applied

    def level(self) -> float:
        past = math.exp(-(self.now_s - self.since_s) / self.tau_s)
        return self.target + (self.start - self.target) * past + self.swing * (-1) ** self.count

    def grab(self, timeout_s: float) -> Frame:
        self.now_s += self.period_s
        self.count += 1
        levels = np.full((8, 8), round(self.level()), np.uint16)
        settings = CameraSettings(1e-4, bits=14)
        return Frame(levels, 14, self.count, None, self.now_s, settings, None, IDENTITY)


def settle_of(slow: SlowMirror) -> float:
    can = MaskCapabilities(ACTUATORS, 1, 14, 0.0)
    mask = CommandVector(slow.write, slow.read, IDENTITY, can, clock=lambda: slow.now_s, sleep=lambda s: None)
    low, high = (Pattern(np.full((1, ACTUATORS), level, np.uint16)) for level in (1000, 11000))
    return measure_settle(mask, slow, low, high, frames=40)  # type: ignore[arg-type]


def test_the_settling_time_is_that_of_the_exponential() -> None:
    # Within 2 % of the step after tau ln 50 = 7.82 ms for tau = 2 ms: the eighth frame is the first.
    assert settle_of(SlowMirror(2e-3)) == pytest.approx(8e-3)
    assert settle_of(SlowMirror(1e-5)) == pytest.approx(1e-3)


def test_what_has_not_settled_is_refused() -> None:
    with pytest.raises(DeviceError, match=r"stepped by .* and still changed by"):
        settle_of(SlowMirror(20e-3))
    with pytest.raises(DeviceError, match=r"stepped by .* and still changed by"):
        settle_of(SlowMirror(2e-3, swing=300.0))
