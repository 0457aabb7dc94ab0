"""What camera drivers check on every frame: justification, order, and pictures that stand still."""

from __future__ import annotations

import numpy as np
import pytest

from firmware_bridge.devices.frames import GIGE_HIGH, FrameOrder, read_back, right_justified
from firmware_bridge.errors import DeviceError

RNG = np.random.default_rng(1)


def noisy(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(100, 200, (20, 30)).astype(np.uint8)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_both_justifications_give_the_same_values(bits: int) -> None:
    values = RNG.integers(0, 1 << bits, (8, 8)).astype(np.uint16)
    np.testing.assert_array_equal(right_justified(values, bits, left=False), values)
    found = right_justified(values * np.uint16(1 << (16 - bits)), bits, left=True)
    np.testing.assert_array_equal(found, values)
    assert found.dtype == np.uint16


def test_sixteen_bits_have_no_justification() -> None:
    values = np.array([[0, 0xFFFF]], np.uint16)
    for left in (False, True):
        np.testing.assert_array_equal(right_justified(values, 16, left=left), values)


def test_a_statement_that_the_words_contradict_is_refused() -> None:
    left = np.array([[0x10, 0x20], [0xFF0, 0]], np.uint16)
    with pytest.raises(DeviceError, match="all values are multiples of 16, so they look left-justified by 4 bits"):
        right_justified(left, 12, left=False)
    with pytest.raises(DeviceError, match="end at 4095, and 4096 came; say that the camera justifies to the left"):
        right_justified(np.array([[4096]], np.uint16), 12, left=False)
    with pytest.raises(DeviceError, match="leave the lowest 4 bits of a word zero, and they are not"):
        right_justified(np.array([[0x11]], np.uint16), 12, left=True)
    with pytest.raises(DeviceError, match="have 9 to 16 bits, not 8"):
        right_justified(left, 8, left=True)


def test_ids_of_gige_go_from_65535_to_1() -> None:
    order = FrameOrder(GIGE_HIGH)
    assert [order.advance(raw) for raw in (65534, 65535, 1, 2, 5)] == [65534, 65535, 65536, 65537, 65540]
    with pytest.raises(DeviceError, match="frame 5 came twice"):
        order.advance(5)
    with pytest.raises(DeviceError, match="frame 3 came after frame 5; the order of the frames is lost"):
        order.advance(3)
    with pytest.raises(DeviceError, match="go from 1 to 65535, and 0 came"):
        order.advance(0)


def test_long_ids_do_not_wrap() -> None:
    order = FrameOrder()
    assert [order.advance(raw) for raw in (0, 65535, 65536)] == [0, 65535, 65536]
    with pytest.raises(DeviceError, match="frame 1 came after frame 65536"):
        order.advance(1)


def test_a_restart_leaves_a_gap_of_the_frame_that_never_came() -> None:
    order = FrameOrder(GIGE_HIGH)
    assert order.advance(7) == 7
    order.restart()
    assert [order.advance(raw) for raw in (1, 2)] == [9, 10]


def test_a_clock_that_stands_still_is_refused() -> None:
    order = FrameOrder()
    assert order.check(1, 5.0, noisy(1), 8) == 1
    with pytest.raises(DeviceError, match=r"stood at 5\.000000 s and then at 5\.000000 s; it repeats frames"):
        order.check(2, 5.0, noisy(2), 8)


def test_a_picture_that_comes_again_with_its_noise_is_refused() -> None:
    order = FrameOrder()
    order.check(1, None, noisy(1), 8)
    with pytest.raises(DeviceError, match="frame 2 has the very values of the frame before it"):
        order.check(2, None, noisy(1), 8)
    assert order.check(3, None, noisy(2), 8) == 3


@pytest.mark.parametrize("level", [0, 8, 255])
def test_dark_and_saturated_pictures_may_be_equal(level: int) -> None:
    levels = np.full((20, 30), level, np.uint8)
    levels[3, 4] = 77  # a hot pixel
    order = FrameOrder()
    assert [order.check(raw, raw / 10, levels, 8) for raw in (1, 2, 3)] == [1, 2, 3]


def test_a_setting_may_be_rounded_and_no_more() -> None:
    assert read_back("exposure", 0.01, 0.010_15, "s", step=1e-6) == 0.010_15
    assert read_back("exposure", 20e-6, 30e-6, "s", step=20e-6) == 30e-6
    with pytest.raises(DeviceError, match=r"exposure was set to 0\.01 s and reads back 0\.02 s; the camera does not"):
        read_back("exposure", 0.01, 0.02, "s", step=1e-6)
