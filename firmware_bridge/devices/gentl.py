"""Cameras by the GenTL producer of their vendor (a file ``.cti``), through harvesters; extra ``gentl``.

For cameras that libaravis cannot reach: CoaXPress, Camera Link, and those whose vendor wants its own producer. One
process opens a producer once, so one camera at a time comes by each.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from firmware_bridge.devices.frames import GIGE_HIGH
from firmware_bridge.devices.genicam import GenicamCamera
from firmware_bridge.devices.genicam_wire import Arrived, Region, choose, held, is_program
from firmware_bridge.errors import DeviceError

VARIABLE = "GENICAM_GENTL64_PATH"
"""Environment variable with the folders of installed producers (GenTL Standard 1.5, "Installation")."""

_BUFFERS = 4
_POLL_MS = 20
# Types of transport layers that are a wire (GenTL Standard 1.5, TLType). What calls itself Custom, as producers do that
# make up their pictures, is not known to be one.
_WIRES = frozenset({"GEV", "U3V", "CXP", "CL", "CLHS", "IIDC", "UVC", "Ethernet", "PCI"})

_LOGGER = logging.getLogger(__name__)
_LOGGER.addHandler(logging.NullHandler())


def gentl_camera(
    serial: str,
    *,
    producer: str | None = None,
    mono16_bits: int = 16,
    mono16_left: bool = False,
    gain_step_db: float | None = None,
    patience_s: float = 10.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> GenicamCamera:
    """A :class:`GenicamCamera` by GenTL.

    Args:
        serial: Serial number.
        producer: File of the producer; None for all that :data:`VARIABLE` leads to.
        mono16_bits: Significant bits of pixel format Mono16.
        mono16_left: Whether Mono16 has them in the upper bits of a word.
        gain_step_db: Gain of one step in dB, for a camera that has raw gain only.
        patience_s: How long to wait while another program holds it.
        clock: Monotonic clock of the host, in s.
        sleep: Waits on that clock, in s.

    Raises:
        DeviceError: See there; or there is no producer.
    """
    return GenicamCamera(
        serial,
        connect=partial(GentlWire, producer=producer),
        mono16_bits=mono16_bits,
        mono16_left=mono16_left,
        gain_step_db=gain_step_db,
        patience_s=patience_s,
        clock=clock,
        sleep=sleep,
    )


class GentlWire:
    """See :class:`Wire`. A camera is a program unless its transport layer is known to be a wire; or if it answers from
    this machine.

    Args:
        serial: Serial number.
        producer: File of the producer; None for all that :data:`VARIABLE` leads to.

    Raises:
        Held: Another program holds it.
        DeviceError: It is not there, or there are two; there is no producer, or it cannot be used; or harvesters is
            not installed.
    """

    def __init__(self, serial: str, *, producer: str | None = None) -> None:
        self._core = _harvesters()
        from genicam import genapi, gentl

        self._absent = (genapi.EAccessMode.NI, genapi.EAccessMode.NA)
        self._refusals = (gentl.GenericException, genapi.GenericException)
        self._busy = (gentl.ResourceInUseException, gentl.AccessDeniedException)
        self._damaged = False
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as opening:
            opening.callback(self._stack.close)
            self._acquirer = self._find(serial, _producers(producer))
            self._nodes = self._acquirer.remote_device.node_map
            kind = str(self._acquirer.device.tl_type)
            address = ""
            if self.has("GevCurrentIPAddress"):
                address = str(ipaddress.ip_address(int(self.number("GevCurrentIPAddress"))))
            self.emulated = kind not in _WIRES or is_program(self.vendor, address)
            wide = self.has("GevGVSPExtendedIDMode") and self.text("GevGVSPExtendedIDMode") == "On"
            self.high = GIGE_HIGH if kind == "GEV" and not wide else None
            opening.pop_all()

    def _find(self, serial: str, files: list[Path]) -> Any:
        core = self._core
        harvester = core.Harvester(config=core.ParameterSet({core.ParameterKey.LOGGER: _LOGGER}))
        self._stack.enter_context(harvester)
        for file in files:
            harvester.add_file(str(file))
        with _heard() as complaints:
            harvester.update()
        present = harvester.device_info_list
        serials = [self._info(device, "serial_number") or "" for device in present]
        if serial not in serials and complaints:
            raise DeviceError(
                f"GenTL producers {[str(file) for file in files]} cannot all be used: {'; '.join(complaints)}. By the "
                f"others there are {sorted(serials)}. Mind that a process opens a producer once, and so one of its "
                "cameras."
            )
        index = choose(serial, serials, lambda one: str(self._info(present[one], "id_")))
        self.vendor, self.model = (str(self._info(present[index], what) or "") for what in ("vendor", "model"))
        acquirer = self._create(serial, harvester, present[index])
        self._stack.enter_context(acquirer)
        acquirer.add_callback(acquirer.Events.INCOMPLETE_BUFFER, self._watch())
        return acquirer

    def _create(self, serial: str, harvester: Any, device: Any) -> Any:
        key = self._core.ParameterKey
        options = {
            key.ENABLE_AUTO_CHUNK_DATA_UPDATE: False,
            key.NUM_BUFFERS_FOR_FETCH_CALL: _BUFFERS,
            key.TIMEOUT_PERIOD_ON_UPDATE_EVENT_DATA_CALL: _POLL_MS,
        }
        interrupt = signal.getsignal(signal.SIGINT)
        try:
            return harvester.create(device, config=self._core.ParameterSet(options))
        except self._busy as error:
            raise held(serial) from error
        except self._refusals as error:
            raise DeviceError(f"camera {serial} cannot be opened: {_said(error)}.") from error
        finally:
            # harvesters takes Ctrl-C for itself; here it must reach the session, which makes the bench safe.
            if interrupt is not None and threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, interrupt)

    def _watch(self) -> Any:
        """What harvesters calls when it throws away a damaged frame."""
        wire = self

        class Watch(self._core.Callback):  # type: ignore[misc, name-defined]  # known at run time only
            def emit(self, context: object = None) -> None:
                wire._damaged = True

        return Watch()

    def lost(self) -> bool:
        """See :meth:`Wire.lost`."""
        try:
            # Every standard of GenICam has its version, or a mark, in the first four bytes.
            self._acquirer.remote_device.port.read(0, 4)
        except self._refusals:
            return True
        return False

    def has(self, feature: str) -> bool:
        """See :meth:`Wire.has`."""
        node = getattr(self._nodes, feature, None)
        with self._asking(feature):
            return node is not None and self._offered(node)

    def text(self, feature: str) -> str:
        """See :meth:`Wire.text`."""
        return str(self._value(feature))

    def set_text(self, feature: str, value: str) -> None:
        """See :meth:`Wire.set_text`."""
        self._set(feature, value)

    def flag(self, feature: str) -> bool:
        """See :meth:`Wire.flag`."""
        return bool(self._value(feature))

    def set_flag(self, feature: str, value: bool) -> None:
        """See :meth:`Wire.set_flag`."""
        self._set(feature, value)

    def number(self, feature: str) -> float:
        """See :meth:`Wire.number`."""
        return float(self._value(feature))

    def pixel_formats(self) -> list[str]:
        """See :meth:`Wire.pixel_formats`."""
        return self._choices("PixelFormat")

    def sensor(self) -> tuple[int, int]:
        """See :meth:`Wire.sensor`."""
        return int(self.number("WidthMax")), int(self.number("HeightMax"))

    def region(self) -> Region:
        """See :meth:`Wire.region`."""
        left, top = (int(self.number(name)) if self.has(name) else 0 for name in ("OffsetX", "OffsetY"))
        return left, top, int(self.number("Width")), int(self.number("Height"))

    def set_region(self, region: Region) -> None:
        """See :meth:`Wire.set_region`."""
        left, top, width, height = region
        # A region can grow only from the corner, and move only when it has its size.
        for feature, value in (
            ("OffsetX", 0), ("OffsetY", 0), ("Width", width), ("Height", height), ("OffsetX", left), ("OffsetY", top),
        ):  # fmt: skip
            if value or self.has(feature):
                self._set(feature, value)

    def exposure_us(self) -> float:
        """See :meth:`Wire.exposure_us`."""
        return self.number(self._exposure())

    def set_exposure_us(self, value: float) -> None:
        """See :meth:`Wire.set_exposure_us`."""
        self._set(self._exposure(), value)

    def exposure_bounds_us(self) -> tuple[float, float]:
        """See :meth:`Wire.exposure_bounds_us`."""
        return self._bounds(self._exposure())

    def gain(self) -> float:
        """See :meth:`Wire.gain`."""
        return self.number(self._gain())

    def set_gain(self, value: float) -> None:
        """See :meth:`Wire.set_gain`."""
        feature = self._gain()
        self._set(feature, round(value) if feature == "GainRaw" else value)

    def gain_bounds(self) -> tuple[float, float]:
        """See :meth:`Wire.gain_bounds`."""
        return self._bounds(self._gain())

    def wait_for_trigger(self) -> None:
        """See :meth:`Wire.wait_for_trigger`."""
        if self.has("AcquisitionMode"):
            self._set("AcquisitionMode", "Continuous")
        if self.has("TriggerSelector"):
            for other in self._choices("TriggerSelector"):
                self._set("TriggerSelector", other)
                self._set("TriggerMode", "Off")
            self._set("TriggerSelector", "FrameStart")
        self._set("TriggerSource", "Software")
        self._set("TriggerMode", "On")

    def begin(self) -> None:
        """See :meth:`Wire.begin`."""
        self._damaged = False
        try:
            with self._asking("AcquisitionStart"):
                self._acquirer.start()
        except DeviceError:
            self.end()
            raise

    def trigger(self) -> None:
        """See :meth:`Wire.trigger`."""
        with self._asking("TriggerSoftware"):
            self._node("TriggerSoftware").execute()

    def receive(self, timeout_s: float) -> Arrived | None:
        """See :meth:`Wire.receive`."""
        self._damaged = False
        try:
            # harvesters takes 0 s for no limit.
            buffer = self._acquirer.try_fetch(timeout=max(timeout_s, 1e-3), is_raw=True)
        except self._refusals as error:
            raise DeviceError(f"no frame can be fetched: {_said(error)}; is the camera plugged in?") from error
        if buffer is None:
            return Arrived(None, "parts of it are missing") if self._damaged else None
        with self._asking("a frame"):
            try:
                return self._arrived(buffer)
            finally:
                buffer.parent.queue_buffer(buffer)

    def end(self) -> None:
        """See :meth:`Wire.end`."""
        try:
            self._acquirer.stop()
        except self._refusals:
            # A camera that does not answer lets harvesters give up half-way.
            for stream in self._acquirer.data_streams:
                with contextlib.suppress(*self._refusals):
                    stream.stop_acquisition(self._core.ACQ_STOP_FLAGS_LIST.ACQ_STOP_FLAGS_KILL)

    def close(self) -> None:
        """See :meth:`Wire.close`."""
        self.end()
        for stream in self._acquirer.data_streams:
            with contextlib.suppress(*self._refusals):
                # harvesters would first ask for the buffers, and give up where a camera that is lost refuses them.
                stream.close()
        self._stack.close()

    def _arrived(self, buffer: Any) -> Arrived:
        offset = self._info(buffer, "image_offset") or 0
        left, top = (self._info(buffer, name) or 0 for name in ("offset_x", "offset_y"))
        return Arrived(
            buffer.frame_id,
            region=(left, top, buffer.width, buffer.height),
            pixel_format=buffer.pixel_format,
            time_s=self._time_s(buffer),
            # A copy, which a slice of all bytes is not: the memory is cleared and filled again.
            data=bytes(memoryview(buffer.raw_buffer)[offset : buffer.size_filled]),
        )

    def _time_s(self, buffer: Any) -> float | None:
        nanoseconds = self._info(buffer, "timestamp_ns")
        if nanoseconds is not None:
            return nanoseconds * 1e-9 or None
        # Producers before GenTL 1.5 count in ticks of the device.
        ticks, frequency = self._info(buffer, "timestamp"), self._info(self._acquirer.device, "timestamp_frequency")
        return ticks / frequency if ticks and frequency else None

    def _exposure(self) -> str:
        return "ExposureTime" if self.has("ExposureTime") else "ExposureTimeAbs"

    def _gain(self) -> str:
        return "Gain" if self.has("Gain") else "GainRaw"

    def _choices(self, feature: str) -> list[str]:
        with self._asking(feature):
            return [entry.symbolic for entry in self._node(feature).entries if self._offered(entry)]

    def _bounds(self, feature: str) -> tuple[float, float]:
        with self._asking(feature):
            return float(self._node(feature).min), float(self._node(feature).max)

    def _value(self, feature: str) -> Any:
        with self._asking(feature):
            # From the camera: the cache of GenApi holds what was written, whatever the camera made of it.
            return self._node(feature).get_value(False, True)

    def _set(self, feature: str, value: str | float | bool) -> None:
        with self._asking(feature, f" be set to {value}"):
            self._node(feature).value = value

    def _node(self, feature: str) -> Any:
        node = getattr(self._nodes, feature, None)
        if node is None:
            raise DeviceError(f"this camera has no feature {feature}, which is needed; look for newer firmware.")
        return node

    def _offered(self, node: Any) -> bool:
        return node.get_access_mode() not in self._absent

    def _info(self, module: Any, name: str) -> Any:
        """What a producer tells, or None where it does not."""
        try:
            return getattr(module, name)
        except self._refusals:
            return None

    @contextlib.contextmanager
    def _asking(self, feature: str, change: str = " be read") -> Iterator[None]:
        try:
            yield
        except self._refusals as error:
            raise DeviceError(f"{feature} cannot{change}: {_said(error)}.") from error


def _harvesters() -> Any:
    try:
        # The import changes what warnings do in the whole process.
        with warnings.catch_warnings():
            import harvesters.core
    except ImportError as error:
        raise DeviceError(
            "cameras by GenTL need the package harvesters; install the extra: pip install 'optishield[gentl]'."
        ) from error
    return harvesters.core


def _producers(producer: str | None) -> list[Path]:
    if producer is not None:
        path = Path(producer).expanduser()
        if not path.is_file():
            raise DeviceError(f"there is no GenTL producer {path}; give the file .cti of the camera's vendor.")
        return [path]
    places = os.environ.get(VARIABLE, "")
    found = [file for place in places.split(os.pathsep) if place for file in sorted(Path(place).glob("*.cti"))]
    if not found:
        raise DeviceError(
            f"no GenTL producer is in the folders of {VARIABLE} ({places!r}); install that of the camera's vendor, or "
            "name its file .cti by the option producer."
        )
    return found


@contextlib.contextmanager
def _heard() -> Iterator[list[str]]:
    """Complaints of harvesters, which goes on without a producer that cannot be opened."""
    complaints: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            complaints.append(_said(record.getMessage()))

    listener = Listener(logging.WARNING)
    _LOGGER.addHandler(listener)
    try:
        yield complaints
    finally:
        _LOGGER.removeHandler(listener)


def _said(error: object) -> str:
    """The first sentence of a message, without the place in its source."""
    return str(error).partition(" : ")[0].strip().rstrip(".")
