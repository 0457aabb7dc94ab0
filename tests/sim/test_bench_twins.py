"""The virtual bench counts photons right, its imperfections are what they say, and a seed fixes all of it."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from firmware_bridge.errors import DeviceError
from firmware_bridge.protocols import CameraSettings, Frame, Origin, Pattern
from firmware_bridge.session.bench import Wanted
from sim.bench.design import IDEAL, Design, Imperfections
from sim.bench.drivers import VirtualBench
from sim.bench.twins import CameraTwin, LightTwin, MaskTwin, StageTwin
from sim.bench.world import Wander, World
from tests.firmware_bridge.wire_doubles import FakeClock

MIDDLE = (slice(92, 132), slice(108, 148))


class Bench:
    """All twins of one world on a clock of the test."""

    def __init__(self, seed: int, imperfections: Imperfections, design: Design | None = None) -> None:
        self.clock = FakeClock()
        self.world = World(seed, design, imperfections, start_s=self.clock())
        clocks: dict[str, Any] = {"clock": self.clock, "sleep": self.clock.sleep}
        self.mask = MaskTwin(self.world, "M", **clocks)
        self.light = LightTwin(self.world, "L", **clocks)
        self.stage = StageTwin(self.world, "S", **clocks)
        self.camera = CameraTwin(self.world, "C", **clocks)

    def show(self, levels: np.ndarray) -> None:
        self.mask.arm("test")
        self.mask.stage(Pattern(levels))
        self.mask.commit()

    def lit(self, share: float = 1.0, level: int = 255) -> Bench:
        self.show(np.full((64, 64), level, np.uint8))
        self.light.arm("test")
        self.light.set(share)
        return self

    def frame(self, exposure_s: float = 1e-3, gain_db: float = 0.0, bits: int = 12) -> Frame:
        self.camera.configure(CameraSettings(exposure_s, gain_db, bits))
        self.camera.start()
        return self.camera.grab(60.0)


def photons(exposure_s: float, share: float, transmission: float) -> float:
    """Photons of a pixel by hand: power, photon energy, and the share of the mask's image that a pixel takes."""
    energy_j = 6.626_070_15e-34 * 299_792_458 / 532e-9
    # Magnification f / (z - f) = 0.5 turns 64 pixels of 36 µm into 192 pixels of 6 µm.
    pixels = (64 * 36e-6 * 0.5 / 6e-6) ** 2
    return 0.9e-3 * share * exposure_s / energy_j * 1e-4 / pixels * transmission


def enclosed() -> float:
    """Light of a point within +-76.5 µm of a lens of 6 mm at 75 mm: 1 - EE ~ 2 / (pi x) for the circle, averaged over
    the directions of the square."""
    x = math.pi * 76.5e-6 * 6e-3 / (532e-9 * 75e-3)
    return 1 - 2 / (math.pi * x) * (4 / math.pi) * math.sin(math.pi / 4)


@pytest.mark.parametrize(("share", "level", "exposure_s"), [(1.0, 255, 1e-3), (0.25, 255, 2e-3), (1.0, 51, 1e-3)])
def test_the_mean_signal_is_that_of_photon_arithmetic(share: float, level: int, exposure_s: float) -> None:
    frame = Bench(1, IDEAL).lit(share, level).frame(exposure_s)
    electrons = 0.6 * photons(exposure_s, share, level / 255) * enclosed() + 5.0 * exposure_s
    expected = 128 + electrons * (4095 - 128) / 10_000
    assert frame.levels[MIDDLE].mean() == pytest.approx(expected, rel=4e-3)


@pytest.mark.parametrize("gain_db", [0.0, 6.0])
@pytest.mark.parametrize("exposure_s", [0.1e-3, 0.5e-3])
def test_the_noise_is_that_of_emva_1288(gain_db: float, exposure_s: float) -> None:
    """sigma^2 = sigma_q^2 + K^2 (sigma_d^2 + mu_e), eq. 8 there, from the difference of two frames."""
    bench = Bench(2, IDEAL).lit()
    one, two = (bench.frame(exposure_s, gain_db).levels[MIDDLE].astype(float) for _ in range(2))
    gain = (4095 - 128) / (10_000 / 10 ** (gain_db / 20))
    electrons = 0.6 * photons(exposure_s, 1.0, 1.0) * enclosed() + 5.0 * exposure_s
    expected = 1 / 12 + gain**2 * (2.5**2 + electrons)
    found = 0.5 * ((one - two) ** 2).mean()
    # 1600 pixels: the variance of a variance is 2 / (n - 1), so three standard deviations are 11 %.
    assert found == pytest.approx(expected, rel=0.11)


def test_light_doubles_with_exposure_and_ends_at_full_well() -> None:
    bench = Bench(3, IDEAL).lit()
    short, long = (bench.frame(exposure_s).levels[MIDDLE].mean() - 128 for exposure_s in (0.5e-3, 1e-3))
    assert long / short == pytest.approx(2, rel=2e-3)
    full = bench.frame(10e-3).levels[MIDDLE]
    assert full.max() == 4095 and np.median(full) >= 4090
    assert bench.frame(10e-3, bits=8).levels.dtype == np.uint8


def test_a_dark_bench_is_dark() -> None:
    bench = Bench(4, IDEAL)
    assert bench.frame().levels.mean() == pytest.approx(128, abs=0.1)
    bench.lit().light.off()
    assert bench.frame().levels.mean() == pytest.approx(128, abs=0.1)
    bench.lit().mask.park()
    assert bench.frame().levels.mean() == pytest.approx(128, abs=0.1)


def test_a_pixel_of_the_mask_falls_where_the_registration_says() -> None:
    bench = Bench(5, replace(IDEAL, rotation_rad=0.02, scale=0.01, shift_m=60e-6))
    truth = bench.world.registration
    assert abs(truth - World(0, None, IDEAL).registration).max() > 0.5
    ys, xs = np.mgrid[:224, :256] + 0.5
    for column, row in ((10, 10), (50, 20), (30, 55)):
        levels = np.zeros((64, 64))
        levels[row, column] = 1.0
        seen = bench.world.brightness(levels).numpy()
        found = np.array([(seen * xs).sum(), (seen * ys).sum()]) / seen.sum()
        expected = truth @ (column + 0.5, row + 0.5, 1.0)
        assert np.hypot(*(found - expected)) < 0.05
        # Nine pixels of the sensor to one of the mask, and no light lost but far away.
        assert seen.sum() == pytest.approx(abs(np.linalg.det(truth[:, :2])) * enclosed(), rel=6e-3)


def test_defocus_spreads_the_light_as_geometry_says() -> None:
    """A point z0 + dz away makes a disc of diameter D d |1/z0 - 1/z| on the sensor; its RMS radius is D / sqrt(8)."""
    bench = Bench(6, IDEAL)
    bench.stage.arm("test")
    position_m = bench.stage.move_to(4e-3)
    assert position_m == pytest.approx(4e-3) == bench.stage.position()
    psf = bench.world.psf()[0].numpy()
    axis = (np.arange(51) - 25) * 3e-6
    near = psf * ((axis[:, None] ** 2 + axis[None, :] ** 2) < 60e-6**2)
    rms_m = math.sqrt((near * (axis[:, None] ** 2 + axis[None, :] ** 2)).sum() / near.sum())
    blur_m = 6e-3 * 75e-3 * (1 / 150e-3 - 1 / 154e-3)
    assert rms_m == pytest.approx(blur_m / math.sqrt(8), rel=0.1)


def test_the_mask_has_steps_crosstalk_and_a_crooked_curve() -> None:
    panel = World(7, None, replace(IDEAL, panel_bits=2)).panel
    ramp = np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))
    np.testing.assert_allclose(np.unique(panel.response(ramp)), [0, 1 / 3, 2 / 3, 1], atol=1e-12)

    spot = np.zeros((64, 64), np.uint8)
    spot[30, 30] = 255
    spread = World(7, None, replace(IDEAL, crosstalk=0.05)).panel.response(spot)
    np.testing.assert_allclose(spread[29:32, 29:32], [[0, 0.05, 0], [0.05, 0.8, 0.05], [0, 0.05, 0]], atol=1e-12)

    crooked = World(7, None, replace(IDEAL, lut_error=0.05, leak=0.01)).panel
    drive = np.linspace(0, 1, 1001)
    curve = crooked.transfer(drive)
    assert curve[0] == pytest.approx(0.01) and curve[-1] == pytest.approx(1.0)
    assert 0.005 < abs(curve - (0.01 + 0.99 * drive)).max() <= 0.05
    assert (np.diff(curve) > 0).all()


def test_the_mask_settles_exponentially() -> None:
    bench = Bench(8, replace(IDEAL, settle_time_s=1e-3))
    bench.world.panel.show(np.full((64, 64), 255, np.uint8), 10.0)
    # Mean of 1 - exp(-t / tau) over t = 0.5 .. 1.5 ms, by the midpoint rule on 10000 points.
    times = 0.5 + (np.arange(10_000) + 0.5) / 10_000
    expected = (1 - np.exp(-times)).mean()
    assert bench.world.panel.transmission(10.0005, 1e-3)[0, 0] == pytest.approx(expected, rel=1e-6)
    bench.show(np.zeros((64, 64), np.uint8))
    left = bench.world.panel.transmission(bench.clock(), 1e-6)[0, 0]
    assert left == pytest.approx(math.exp(-2.0), rel=2e-3), "the stated settling time is two time constants here"


def test_the_lamp_drifts_and_warms_up() -> None:
    world = World(9, None, replace(IDEAL, lamp_warm_up=0.1))
    world.lamp.set(0.5, 100.0)
    assert world.lamp.output(100.0) == pytest.approx(0.5)
    assert world.lamp.output(160.0) == pytest.approx(0.5 * (1 - 0.1 * (1 - math.exp(-1))))
    drift = World(9, None, replace(IDEAL, lamp_drift=0.01)).lamp
    drift.set(1.0, 0.0)
    values = np.array([drift.output(time_s) for time_s in np.arange(0, 50_000, 1.7)])
    assert values.std() == pytest.approx(0.01, rel=0.05) and values.mean() == pytest.approx(1, abs=5e-4)


def test_vibration_moves_the_image() -> None:
    wander = Wander(2.0, (0.03, 0.011), np.random.default_rng(0))
    values = np.array([wander(time_s) for time_s in np.arange(0, 10, 1e-3)])
    assert values.std() == pytest.approx(2.0, rel=0.02)
    bench = Bench(10, replace(IDEAL, vibration_m=6e-6)).lit()
    spot = np.zeros((64, 64), np.uint8)
    spot[32, 32] = 255
    bench.show(spot)
    xs = np.arange(256) + 0.5
    places = []
    for time_s in np.arange(2000.0, 2001.0, 0.0137):
        seen = bench.world.photons(time_s, 1e-4).numpy().sum(0)
        places.append((seen * xs).sum() / seen.sum())
    assert np.std(places) == pytest.approx(1.0, rel=0.2), "6 µm are one pixel"


def test_the_sensor_warms_up_and_has_hot_pixels() -> None:
    bench = Bench(11, replace(IDEAL, sensor_rise_c=14.0, hot_pixels=1e-3, hot_e_s=1e4))
    assert bench.frame().temperature_c == pytest.approx(25.0, abs=0.01)
    cold_e = bench.world.dark_e(bench.clock(), 1.0)
    bench.clock.sleep(1e5)
    assert bench.frame().temperature_c == pytest.approx(39.0, abs=0.01)
    assert bench.world.dark_e(bench.clock(), 1.0) / cold_e == pytest.approx(4, rel=1e-3), "twice a doubling of 7 K"
    hot = bench.frame(0.1).levels > 128 + 40
    count = np.count_nonzero(bench.world.hot_e_s)
    assert count == pytest.approx(256 * 224e-3, abs=25)
    assert 0.8 * count < np.count_nonzero(hot) <= count


def test_frames_are_dropped_and_come_late() -> None:
    bench = Bench(12, replace(IDEAL, dropped=0.2, late=0.2, late_s=0.5)).lit()
    bench.camera.configure(CameraSettings(1e-3, 0.0, 8, (0, 0, 8, 8)))
    bench.camera.start()
    ids, waits_s, lost = [], [], 0
    for _ in range(400):
        begin_s = bench.clock()
        try:
            ids.append(bench.camera.grab(1.0).frame_id)
            waits_s.append(bench.clock() - begin_s)
        except DeviceError as error:
            assert "no frame came in 1 s" in str(error)
            assert bench.clock() - begin_s == pytest.approx(1.0)
            lost += 1
    # Binomial: 80 +- 8 of 400.
    assert abs(lost - 80) < 32
    assert np.all(np.diff(ids) >= 1) and ids[-1] - len(ids) <= lost
    assert abs(np.mean(np.array(waits_s) > 0.4) - 0.2) < 0.1
    with pytest.raises(DeviceError, match=r"no frame came in 0\.001 s"):
        bench.camera.grab(0.001)


def test_a_seed_fixes_every_bit_and_another_changes_all() -> None:
    def run(seed: int) -> list[Frame]:
        bench = Bench(seed, Imperfections()).lit(0.5)
        return [bench.frame(exposure_s) for exposure_s in (1e-3, 2e-3)]

    one, again, other = run(13), run(13), run(14)
    for left, right in zip(one, again, strict=True):
        np.testing.assert_array_equal(left.levels, right.levels)
        assert (left.device_time_s, left.temperature_c) == (right.device_time_s, right.temperature_c)
    assert (one[0].levels != other[0].levels).any()
    assert (one[0].levels != one[1].levels).any()
    assert not np.allclose(World(13).registration, World(14).registration)


def test_a_shot_is_a_function_of_the_seed_and_the_shot() -> None:
    def shot(seed: int, index: int, key: str, *, waits_s: float, before: int) -> list[Frame]:
        """Two frames of it, by somebody who did other things before."""
        bench = Bench(seed, Imperfections(dropped=0.0, late=0.0)).lit(0.1)
        for _ in range(before):
            bench.frame()
        bench.clock.sleep(waits_s)
        bench.world.turn_to(index, key)
        bench.lit(0.5, 100)
        bench.clock.sleep(waits_s)
        return [bench.frame(2e-3) for _ in range(2)]

    one = shot(17, 4, "000004-a", waits_s=0.0, before=0)
    for found, again in zip(one, shot(17, 4, "000004-a", waits_s=70.0, before=3), strict=True):
        np.testing.assert_array_equal(found.levels, again.levels)
        assert found.temperature_c == again.temperature_c
    assert (one[0].levels != one[1].levels).any()
    for other in (
        shot(18, 4, "000004-a", waits_s=0.0, before=0),
        shot(17, 4, "000004-b", waits_s=0.0, before=0),
        shot(17, 5, "000004-a", waits_s=0.0, before=0),
    ):
        assert (one[0].levels != other[0].levels).any()
    # Time passes between shots: the lamp has lost what 90 s of warming take.
    share = [shot(17, index, "a", waits_s=0.0, before=0)[0].levels[MIDDLE].mean() - 128 for index in (0, 90)]
    assert share[1] / share[0] == pytest.approx(1 - Imperfections().lamp_warm_up * (1 - math.exp(-1.5)), abs=0.02)


def test_lost_frames_of_a_shot_are_lost_again() -> None:
    def fates(before: int) -> list[bool]:
        bench = Bench(19, replace(IDEAL, dropped=0.5))
        bench.camera.configure(CameraSettings(1e-3, 0.0, 8, (0, 0, 8, 8)))
        bench.camera.start()
        found = []
        for _ in range(before):
            with contextlib.suppress(DeviceError):
                bench.camera.grab(1.0)
        for index in range(16):
            bench.world.turn_to(index, f"shot {index}")
            try:
                bench.camera.grab(1.0)
                found.append(True)
            except DeviceError:
                found.append(False)
        return found

    assert fates(0) == fates(5)
    assert 0 < sum(fates(0)) < 16


def test_drivers_open_the_twins_of_one_bench() -> None:
    clock = FakeClock()
    table = VirtualBench(15, None, IDEAL, clock=clock, sleep=clock.sleep).drivers
    assert sorted(table) == ["sim://camera", "sim://light", "sim://mask", "sim://stage"]
    devices = {
        kind: table[f"sim://{kind}"](Wanted(kind, f"sim://{kind}", f"SIM-{kind}"))
        for kind in ("camera", "mask", "light", "stage")
    }
    for kind, device in devices.items():
        identity = device.identify()
        assert (identity.kind, identity.serial, identity.origin) == (kind, f"SIM-{kind}", Origin.simulated)
    light, mask, camera = devices["light"], devices["mask"], devices["camera"]
    assert isinstance(light, LightTwin) and isinstance(mask, MaskTwin) and isinstance(camera, CameraTwin)
    light.arm("test")
    light.set(1.0)
    mask.arm("test")
    mask.stage(Pattern(np.full((64, 64), 255, np.uint8)))
    mask.commit()
    camera.configure(CameraSettings(1e-3, 0.0, 12))
    camera.start()
    assert camera.grab(1.0).levels[MIDDLE].mean() > 1000
    for device in devices.values():
        device.close()
        device.close()


def test_impossible_wishes_are_refused() -> None:
    bench = Bench(16, IDEAL)
    with pytest.raises(
        DeviceError, match=r"takes \(64, 64\) uint8 levels up to 255, the pattern has \(4, 4\) of uint8"
    ):
        bench.mask.stage(Pattern(np.zeros((4, 4), np.uint8)))
    bench.light.arm("test")
    with pytest.raises(DeviceError, match=r"a share 0\.\.1 of its largest, got 1\.5"):
        bench.light.set(1.5)
    bench.stage.arm("test")
    with pytest.raises(DeviceError, match=r"goes from -0\.005 m to 0\.005 m, not to 1 m"):
        bench.stage.move_to(1.0)
    with pytest.raises(DeviceError, match="exposure goes from 2e-05 s to 10 s with this camera, not to 11 s"):
        bench.camera.configure(CameraSettings(11.0))
    bench.camera.close()
    with pytest.raises(DeviceError, match="the twin of the camera is closed; open it again"):
        bench.camera.start()
