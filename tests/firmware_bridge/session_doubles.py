"""Shared by the tests of sessions: small devices that obey the protocols, on a clock of the test, and that can be told
to misbehave. Photons follow pattern, light, exposure and position; noise follows the key of the frame."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from firmware_bridge.errors import DeviceError, LinkError
from firmware_bridge.protocols import (
    CameraCapabilities,
    CameraSettings,
    Frame,
    Identity,
    Levels,
    LightCapabilities,
    MaskCapabilities,
    Origin,
    Pattern,
    Shown,
    StageCapabilities,
)
from firmware_bridge.session.bench import Wanted, open_bench, read_bench
from firmware_bridge.session.folder import JOURNAL, create
from firmware_bridge.session.journal import Entry, Line, read_journal
from firmware_bridge.session.plan import read_plan
from firmware_bridge.session.run import Session
from ground.gates import Gate

WIDTH, HEIGHT = 24, 16
MASK = MaskCapabilities(width=8, height=6, bits=8, settle_s=0.01)
PARKED_ID = 0xDEADBEEF

BENCH = """
name = "test table"
origin = "simulated"

[camera]
driver = "camera"
serial = "C1"

[mask]
driver = "controller"
serial = "M1"

[light]
part_of = "mask"

[stage]
part_of = "mask"

[limits]
exposure_s = 0.5
light_share = 0.6
temperature_c = 50.0
disk_free_bytes = 1000
"""

PLAN = """
name = "test plan"
bits = 12

[sentinel]
every = 4
pattern = "half"
exposure_s = 0.01
light_share = 0.4
position_m = 0.001
flux_tolerance = 0.05

[[steps]]
name = "checker"
pattern = "checker"
exposure_s = 0.02
light_share = 0.5
position_m = 0.002
averages = 3
darks = 2

[[steps]]
name = "stack"
pattern = "stack.npy"
exposure_s = 0.01
light_share = 0.25
position_m = 0.0
averages = 2
"""


@dataclass
class World:
    """What the devices share: clock, optics, and what goes wrong. Counts of trouble run down as it happens."""

    now_s: float = 100.0
    key: str = ""
    pattern: np.ndarray | None = None
    staged: Pattern | None = None
    share: float = 0.0
    position_m: float = 0.0
    armed: bool = False
    light_allowed: bool = False
    lamp: float = 1.0
    temperature_c: float | None = 30.0
    drop: int = 0
    repeat: int = 0
    freeze: int = 0
    skip: int = 0
    ignore_exposure: bool = False
    lie_about_exposure: bool = False
    wrong_pattern: bool = False
    gone: bool = False
    firmware: str = "f1"
    serial: dict[str, str] = field(default_factory=lambda: {"camera": "C1", "mask": "M1", "light": "M1", "stage": "M1"})
    origin: Origin = Origin.simulated
    opened: list[str] = field(default_factory=list)
    at_shot: Callable[[int], None] | None = None

    def clock(self) -> float:
        return self.now_s

    def sleep(self, time_s: float) -> None:
        self.now_s += time_s

    def begin_shot(self, index: int, key: str) -> None:
        self.key = key
        if self.at_shot is not None:
            self.at_shot(index)

    def lose_state(self) -> None:
        """As after a reset or a lost lease."""
        self.armed, self.share, self.pattern, self.staged = False, 0.0, None, None

    @property
    def safe(self) -> bool:
        return not self.armed and self.share == 0 and self.pattern is None

    def drivers(self) -> dict[str, Callable[[Wanted], Any]]:
        parts = {"mask": FakeMask, "light": FakeLight, "stage": FakeStage}
        return {
            "camera": lambda wanted: FakeCamera(self, wanted),
            "controller": lambda wanted: parts[wanted.kind](self, wanted),
        }


class _Fake:
    def __init__(self, world: World, wanted: Wanted) -> None:
        self.world, self.kind = world, wanted.kind
        self._reach()
        world.opened.append(wanted.kind)

    def _reach(self) -> None:
        if self.world.gone:
            raise LinkError(f"the {self.kind} does not answer; plug it in.")

    def identify(self) -> Identity:
        world = self.world
        return Identity(self.kind, f"fake {self.kind}", world.serial[self.kind], world.firmware, world.origin)

    def selftest(self) -> list[Gate]:
        return [Gate(self.kind, True, "a fake")]

    def safe(self) -> None:
        self._reach()

    def close(self) -> None:
        if self.kind in self.world.opened:
            self.world.opened.remove(self.kind)
        self.safe()


class FakeCamera(_Fake):
    def __init__(self, world: World, wanted: Wanted) -> None:
        super().__init__(world, wanted)
        self._settings = CameraSettings(0.01)
        self._count = 0
        self._running = False
        self._last: Frame | None = None

    def capabilities(self) -> CameraCapabilities:
        return CameraCapabilities(WIDTH, HEIGHT, (8, 12), (1e-5, 1.0), (0.0, 12.0))

    def configure(self, settings: CameraSettings) -> CameraSettings:
        self._reach()
        if self.world.ignore_exposure:
            settings = replace(settings, exposure_s=0.033)
        self._settings = settings
        return settings

    def begin_shot(self, index: int, key: str) -> None:
        self.world.begin_shot(index, key)

    def start(self) -> None:
        self._reach()
        self._count, self._running = 0, True

    def stop(self) -> None:
        self._running = False

    def safe(self) -> None:
        super().safe()
        self.stop()

    def grab(self, timeout_s: float) -> Frame:
        world, settings = self.world, self._settings
        if not self._running:
            raise DeviceError("the camera is not started.")
        if world.gone:
            world.now_s += timeout_s
            raise DeviceError("no frame came in time.")
        exposure_s = 0.033 if world.lie_about_exposure else settings.exposure_s
        world.sleep(exposure_s)
        self._count += 1 + world.skip
        world.skip = 0
        if world.drop:
            world.drop -= 1
            raise DeviceError("a frame came damaged.")
        if world.repeat and self._last:
            world.repeat -= 1
            self._count = self._last.frame_id
            return self._last
        if world.freeze and self._last:
            world.freeze -= 1
            self._last = replace(self._last, frame_id=self._count, device_time_s=world.now_s, settings=settings)
            return self._last
        top = (1 << settings.bits) - 1
        y, x = np.indices((HEIGHT, WIDTH))
        light: float | np.ndarray = 0.0
        if world.pattern is not None:
            light = 60_000 * world.share * world.lamp * exposure_s * (0.2 + world.pattern[y % 6, x % 8] / 255)
        mean = 16 + light * (1 + 10 * world.position_m)
        noise = np.random.default_rng(zlib.crc32(world.key.encode())).normal(0, 1.5, (HEIGHT, WIDTH))
        exact = np.clip(np.rint(mean + noise), 0, top)
        levels: Levels = exact.astype(np.uint8) if settings.bits <= 8 else exact.astype(np.uint16)
        settings = replace(settings, exposure_s=exposure_s)
        self._last = Frame(
            levels,
            settings.bits,
            self._count,
            world.now_s,
            world.now_s,
            settings,
            world.temperature_c,
            self.identify(),
        )
        return self._last


class _Part(_Fake):
    def arm(self, operator: str) -> None:
        # As one controller of all three does: what it is told last counts, and only the light allows light.
        self._reach()
        self.world.armed, self.world.light_allowed = True, self.kind == "light"

    def safe(self) -> None:
        super().safe()
        self.world.lose_state()

    def _need_armed(self) -> None:
        self._reach()
        if not self.world.armed:
            raise DeviceError(f"the {self.kind} is not armed.")


class FakeMask(_Part):
    def capabilities(self) -> MaskCapabilities:
        return MASK

    def stage(self, pattern: Pattern) -> None:
        self._reach()
        self.world.staged = pattern

    def commit(self) -> Shown:
        self._need_armed()
        assert self.world.staged is not None
        self.world.pattern = self.world.staged.levels
        self.world.sleep(MASK.settle_s)
        return self.readback()

    def readback(self) -> Shown:
        self._reach()
        if self.world.pattern is None:
            return Shown(PARKED_ID, True, self.world.now_s)
        shown = Pattern(self.world.pattern).pattern_id ^ self.world.wrong_pattern
        return Shown(shown, False, self.world.now_s)

    def park(self) -> Shown:
        self.world.pattern = None
        return self.readback()


class FakeLight(_Part):
    def capabilities(self) -> LightCapabilities:
        return LightCapabilities(532e-9, 1e-3)

    def set(self, share: float) -> float:
        self._need_armed()
        if not self.world.light_allowed:
            raise DeviceError("light is not allowed.")
        self.world.share = round(share * 65535) / 65535
        return self.world.share

    def off(self) -> None:
        self.world.share = 0.0


class FakeStage(_Part):
    def capabilities(self) -> StageCapabilities:
        return StageCapabilities((-0.01, 0.01), 1e-6)

    def move_to(self, position_m: float) -> float:
        self._need_armed()
        self.world.position_m = round(position_m * 1e6) / 1e6
        return self.world.position_m

    def position(self) -> float:
        return self.world.position_m


def write_sources(folder: Path, plan: str = PLAN, bench: str = BENCH) -> None:
    """The file of a bench, a plan and its patterns."""
    (folder / "bench.toml").write_text(bench)
    (folder / "plan.toml").write_text(plan)
    stack = np.random.default_rng(5).integers(0, 256, (2, MASK.height, MASK.width), dtype=np.uint8)
    np.save(folder / "stack.npy", stack)


def begin(world: World, folder: Path) -> Path:
    """Make the session ``folder/session`` of the sources in ``folder``."""
    with open_bench(read_bench(folder / "bench.toml"), world.drivers()) as bench:
        create(
            folder / "session",
            read_plan(folder / "plan.toml"),
            folder,
            bench,
            {"dark": "cal-7"},
            wall=lambda: 1.7e9 + world.now_s,
            free_bytes=lambda path: 10**9,
        )
    return folder / "session"


def session(world: World, folder: Path, **settings: Any) -> Session:
    """A session on the devices of a world."""
    values: dict[str, Any] = {
        "clock": world.clock,
        "sleep": world.sleep,
        "wall": lambda: 1.7e9 + world.now_s,
        "free_bytes": lambda path: 10**9,
        **settings,
    }
    return Session(folder, world.drivers(), "A. Operator", **values)


def lines(folder: Path, kind: Entry) -> list[Line]:
    """Lines of the journal of one kind."""
    return [line for line in read_journal(folder / JOURNAL)[0] if line.kind is kind]


def at(world: World, index: int, act: Callable[[], None]) -> None:
    """Do something once, before the frame with this index."""
    done: list[bool] = []

    def shot(found: int) -> None:
        if found == index and not done:
            done.append(True)
            act()

    world.at_shot = shot
