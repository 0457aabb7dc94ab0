"""From light to numbers: field stop, pixels, noise and quantisation, colour mosaics, and reports after EMVA 1288."""

from __future__ import annotations

from optics.sensor.emva import EmvaReport, Estimate, NonUniformity, emva_report
from optics.sensor.field_stop import FieldStop
from optics.sensor.mosaic import demosaic, sample_mosaic, spread_mosaic
from optics.sensor.sensor import FixedPattern, Sensor, SensorSpec

__all__ = [
    "EmvaReport",
    "Estimate",
    "FieldStop",
    "FixedPattern",
    "NonUniformity",
    "Sensor",
    "SensorSpec",
    "demosaic",
    "emva_report",
    "sample_mosaic",
    "spread_mosaic",
]
