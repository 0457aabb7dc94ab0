from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from firmware_bridge.errors import DeviceError, SessionError
from firmware_bridge.protocols import CameraSettings, Device, Origin
from firmware_bridge.session.bench import BenchFile, Wanted, open_bench, read_bench
from firmware_bridge.session.setting import FalseReadback, check_settings
from tests.firmware_bridge.session_doubles import BENCH, World, write_sources


@pytest.fixture
def bench_file(tmp_path: Path) -> Callable[..., BenchFile]:
    def read(text: str = BENCH) -> BenchFile:
        write_sources(tmp_path, bench=text)
        return read_bench(tmp_path / "bench.toml")

    return read


def test_devices_by_kind_and_serial(bench_file: Callable[..., BenchFile]) -> None:
    file = bench_file()
    assert file.wanted("light").serial == "M1"
    assert file.wanted("light").driver == "controller"
    world = World()
    with open_bench(file, world.drivers()) as bench:
        assert sorted(world.opened) == ["camera", "light", "mask", "stage"]
        assert bench.origin == "simulated"
        assert bench.describe()["camera"]["serial"] == "C1"
        json.dumps(bench.describe())
    assert world.opened == []


def test_devices_that_were_left_lit_are_made_safe(bench_file: Callable[..., BenchFile]) -> None:
    world = World(share=0.4, armed=True, pattern=np.zeros((6, 8), np.uint8))
    with open_bench(bench_file(), world.drivers()):
        assert world.safe


def test_options_of_the_owner_come_first(bench_file: Callable[..., BenchFile]) -> None:
    text = BENCH.replace('serial = "M1"', 'serial = "M1"\noptions = {baud = 9600, lane = 1}')
    file = bench_file(text.replace("[stage]", "options = {lane = 2}\n\n[stage]"))
    assert file.wanted("light").options == {"baud": 9600, "lane": 2}
    assert file.wanted("mask").options == {"baud": 9600, "lane": 1}


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ('serial = "C1"', 'serial = "M1"', "camera have one serial number, 'M1'; correct it, or write part_of"),
        ('serial = "C1"', "", r"camera: .*give driver and serial, or part_of alone"),
        ('part_of = "mask"\n\n[stage]', 'part_of = "mask"\nserial = "x"\n\n[stage]', "or part_of alone"),
        ('part_of = "mask"\n\n[stage]', 'part_of = "stage"\n\n[stage]', "light is part of 'stage', which must be"),
        (
            'origin = "simulated"',
            'origin = "any"',
            "origin: Input should be 'bench', 'emulated', 'simulated' or 'mixed'",
        ),
        ('origin = "simulated"', "", "origin: Field required"),
        ("exposure_s = 0.5", "exposure_s = nan", r"limits\.exposure_s: "),
        ("exposure_s = 0.5", 'exposure_s = "0.5"', r"limits\.exposure_s: Input should be a valid number"),
        ("light_share = 0.6", "light_share = 1.1", r"limits\.light_share: .*less than or equal to 1"),
        ("[limits]", "[limits]\na = " + "[" * 100_000, "holds lists or tables nested more than 64 times"),
        ("[limits]", "[limits]\ncolour = 3", r"limits\.colour: Extra inputs are not permitted"),
        ("[limits]", "[limits", r"bench\.toml is no valid TOML: .*line 19, column 8"),
    ],
)
def test_wrong_files_are_refused_with_the_place(
    bench_file: Callable[..., BenchFile], old: str, new: str, match: str
) -> None:
    assert old in BENCH
    with pytest.raises(SessionError, match=match):
        bench_file(BENCH.replace(old, new, 1))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match="No such file"):
        read_bench(tmp_path / "bench.toml")


def test_all_failures_are_reported_and_what_was_opened_is_closed(bench_file: Callable[..., BenchFile]) -> None:
    world = World()
    drivers = world.drivers()

    def permission(wanted: Wanted) -> Device:
        raise PermissionError(13, "Permission denied", "/dev/video0")

    controller = drivers["controller"]

    def no_stage(wanted: Wanted) -> Device:
        if wanted.kind == "stage":
            raise DeviceError("no stage with serial number 'M1'; plug it in.")
        return controller(wanted)

    with pytest.raises(DeviceError, match=r"2 of 4 devices fail:\n  stage: no stage.*\n  camera: .*Permission denied"):
        open_bench(bench_file(), {"camera": permission, "controller": no_stage})
    assert world.opened == []
    assert world.safe


def test_unknown_driver_and_missing_extra(bench_file: Callable[..., BenchFile]) -> None:
    def missing(wanted: Wanted) -> Device:
        raise ImportError("install the extra: pip install 'optishield[bench]'")

    with pytest.raises(SessionError, match=r"camera\.driver: there is no driver 'camera'; known are: controller"):
        open_bench(bench_file(), {"controller": missing})
    with pytest.raises(DeviceError, match=r"4 of 4 devices fail:\n  light: install the extra: .*optishield\[bench\]"):
        open_bench(bench_file(), {"controller": missing, "camera": missing})


def test_another_device_answers(bench_file: Callable[..., BenchFile]) -> None:
    world = World()
    world.serial["camera"] = "C2"
    with pytest.raises(DeviceError, match="fake camera has serial number 'C2', not 'C1'"):
        open_bench(bench_file(), world.drivers())
    assert world.opened == []


def test_a_driver_of_another_kind(bench_file: Callable[..., BenchFile]) -> None:
    world = World()
    read = bench_file()
    drivers = world.drivers() | {"camera": lambda wanted: world.drivers()["controller"](read.wanted("mask"))}
    with pytest.raises(DeviceError, match="driver 'camera' opened a mask; name a driver of a camera"):
        open_bench(read, drivers)


@pytest.mark.parametrize("origin", ["bench", "emulated"])
def test_a_simulated_device_never_passes_for_another(bench_file: Callable[..., BenchFile], origin: str) -> None:
    with pytest.raises(
        DeviceError, match=rf"4 of 4 .*\n  light: .*is simulated, and the file of the bench says origin = '{origin}'"
    ):
        open_bench(bench_file(BENCH.replace("simulated", origin)), World().drivers())


def test_mixed_origins_only_where_the_file_says_so(bench_file: Callable[..., BenchFile]) -> None:
    world, emulated = World(), World(origin=Origin.emulated)
    drivers = world.drivers() | {"camera": emulated.drivers()["camera"]}
    with pytest.raises(DeviceError, match="fake camera C1 is emulated"):
        open_bench(bench_file(), drivers)
    with open_bench(bench_file(BENCH.replace('"simulated"', '"mixed"')), drivers) as bench:
        assert bench.origin == "mixed"


def test_all_are_made_safe_though_one_fails(bench_file: Callable[..., BenchFile]) -> None:
    world = World()
    bench = open_bench(bench_file(), world.drivers())
    bench.arm("me")
    assert bench.light and bench.light.set(0.3) == pytest.approx(0.3, abs=1e-4)

    def fails() -> None:
        raise DeviceError("the light is stuck.")

    bench.light.safe = fails  # type: ignore[method-assign]
    with pytest.raises(DeviceError, match=r"1 of 4 devices could not be made safe; .*\n  light: the light is stuck"):
        bench.safe()
    assert world.safe


def test_interrupted_while_opening(bench_file: Callable[..., BenchFile]) -> None:
    world = World()

    def interrupted(wanted: Wanted) -> Device:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_bench(bench_file(), world.drivers() | {"camera": interrupted})
    assert world.opened == []


@pytest.mark.parametrize(
    ("read", "match"),
    [
        (CameraSettings(0.033, 0, 12), "was set to expose 0.01 s and exposes 0.033 s"),
        (CameraSettings(0.01, 3, 12), "a gain of 0 dB and has 3 dB"),
        (CameraSettings(0.01, 0, 8), "12 bits of roi None and has 8 bits"),
    ],
)
def test_settings_that_were_not_kept(read: CameraSettings, match: str) -> None:
    wanted = CameraSettings(0.01, 0, 12)
    check_settings(wanted, CameraSettings(0.01004, 0.05, 12))
    with pytest.raises(FalseReadback, match=match):
        check_settings(wanted, read)
