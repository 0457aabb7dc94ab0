"""What counts as rounding when a camera reads back its settings."""

from __future__ import annotations

from typing import Any

import pytest

from firmware_bridge.protocols import CameraSettings
from firmware_bridge.session.setting import FalseReadback, check_settings

WANTED = CameraSettings(exposure_s=0.01, gain_db=3.0, bits=12)


def settings(**changes: Any) -> CameraSettings:
    return CameraSettings(**{"exposure_s": 0.01, "gain_db": 3.0, "bits": 12, **changes})


@pytest.mark.parametrize("read", [{}, {"exposure_s": 0.0101}, {"gain_db": 3.05}, {"roi": (0, 0, 640, 480)}])
def test_rounding_is_believed(read: dict[str, Any]) -> None:
    check_settings(WANTED, settings(**read))


@pytest.mark.parametrize(
    ("wanted", "read", "words"),
    [
        ({}, {"exposure_s": 0.012}, r"expose 0\.01 s and exposes 0\.012 s"),
        ({}, {"gain_db": 4.0}, r"a gain of 3 dB and has 4 dB"),
        ({}, {"bits": 8}, r"12 bits of roi None and has 8 bits"),
        (
            {"roi": (0, 0, 64, 64)},
            {"roi": (0, 0, 640, 480)},
            r"roi \(0, 0, 64, 64\) and has 12 bits of roi \(0, 0, 6",
        ),
        ({"roi": (0, 0, 64, 64)}, {}, r"has 12 bits of roi None"),
    ],
)
def test_anything_else_is_refused(wanted: dict[str, float], read: dict[str, Any], words: str) -> None:
    with pytest.raises(FalseReadback, match=words):
        check_settings(settings(**wanted), settings(**read))
