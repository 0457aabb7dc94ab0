"""One GenICam camera by libaravis: GigE Vision and USB3 Vision, without a producer of its vendor."""

from __future__ import annotations

import contextlib

from firmware_bridge.devices import aravis
from firmware_bridge.devices.frames import GIGE_HIGH
from firmware_bridge.devices.genicam_wire import Arrived, Region, choose, held, is_program
from firmware_bridge.errors import DeviceError

_BUFFERS = 4


class AravisWire:
    """See :class:`Wire`. A camera that answers from this machine, or says that Aravis made it, is a program.

    Args:
        serial: Serial number.

    Raises:
        Held: Another program holds it.
        DeviceError: It is not there, there are two, or libaravis is not installed.
    """

    def __init__(self, serial: str) -> None:
        aravis.call("arv_update_device_list")
        serials = [aravis.text("arv_get_device_serial_nbr", index) for index in range(aravis.call("arv_get_n_devices"))]
        index = choose(serial, serials, lambda one: aravis.text("arv_get_device_id", one))
        self.vendor, self.model, address = (
            aravis.text(f"arv_get_device_{what}", index) for what in ("vendor", "model", "address")
        )
        self.emulated = is_program(self.vendor, address)
        self._stream: int | None = None
        self._closed = False
        self._camera: int = aravis.call("arv_camera_new", aravis.text("arv_get_device_id", index).encode())
        self._gige = bool(aravis.call("arv_camera_is_gv_device", self._camera))
        self.high = GIGE_HIGH if self._gige else None
        if self.lost():
            self.close()
            raise held(serial)

    def lost(self) -> bool:
        """See :meth:`Wire.lost`; known of GigE Vision alone, elsewhere a refused trigger tells."""
        if not self._gige:
            return False
        device = aravis.call("arv_camera_get_device", self._camera)
        return not aravis.call("arv_gv_device_is_controller", device)

    def has(self, feature: str) -> bool:
        """See :meth:`Wire.has`."""
        return bool(aravis.call("arv_camera_is_feature_available", self._camera, feature.encode()))

    def text(self, feature: str) -> str:
        """See :meth:`Wire.text`."""
        return aravis.text("arv_camera_get_string", self._camera, feature.encode())

    def set_text(self, feature: str, value: str) -> None:
        """See :meth:`Wire.set_text`."""
        aravis.call("arv_camera_set_string", self._camera, feature.encode(), value.encode())

    def flag(self, feature: str) -> bool:
        """See :meth:`Wire.flag`."""
        return bool(aravis.call("arv_camera_get_boolean", self._camera, feature.encode()))

    def set_flag(self, feature: str, value: bool) -> None:
        """See :meth:`Wire.set_flag`."""
        aravis.call("arv_camera_set_boolean", self._camera, feature.encode(), int(value))

    def number(self, feature: str) -> float:
        """See :meth:`Wire.number`."""
        return float(aravis.call("arv_camera_get_float", self._camera, feature.encode()))

    def pixel_formats(self) -> list[str]:
        """See :meth:`Wire.pixel_formats`."""
        return aravis.pixel_formats(self._camera)

    def sensor(self) -> tuple[int, int]:
        """See :meth:`Wire.sensor`."""
        width, height = aravis.integers("arv_camera_get_sensor_size", self._camera, 2)
        return width, height

    def region(self) -> Region:
        """See :meth:`Wire.region`."""
        left, top, width, height = aravis.integers("arv_camera_get_region", self._camera, 4)
        return left, top, width, height

    def set_region(self, region: Region) -> None:
        """See :meth:`Wire.set_region`."""
        aravis.call("arv_camera_set_region", self._camera, *region)

    def exposure_us(self) -> float:
        """See :meth:`Wire.exposure_us`."""
        return float(aravis.call("arv_camera_get_exposure_time", self._camera))

    def set_exposure_us(self, value: float) -> None:
        """See :meth:`Wire.set_exposure_us`."""
        aravis.call("arv_camera_set_exposure_time", self._camera, value)

    def exposure_bounds_us(self) -> tuple[float, float]:
        """See :meth:`Wire.exposure_bounds_us`."""
        return aravis.bounds("arv_camera_get_exposure_time_bounds", self._camera)

    def gain(self) -> float:
        """See :meth:`Wire.gain`."""
        return float(aravis.call("arv_camera_get_gain", self._camera))

    def set_gain(self, value: float) -> None:
        """See :meth:`Wire.set_gain`."""
        aravis.call("arv_camera_set_gain", self._camera, value)

    def gain_bounds(self) -> tuple[float, float]:
        """See :meth:`Wire.gain_bounds`."""
        return aravis.bounds("arv_camera_get_gain_bounds", self._camera)

    def wait_for_trigger(self) -> None:
        """See :meth:`Wire.wait_for_trigger`."""
        aravis.call("arv_camera_set_trigger", self._camera, b"Software")

    def begin(self) -> None:
        """See :meth:`Wire.begin`."""
        stream = aravis.call("arv_camera_create_stream", self._camera, None, None)
        payload = aravis.call("arv_camera_get_payload", self._camera)
        for _ in range(_BUFFERS):
            aravis.call("arv_stream_push_buffer", stream, aravis.call("arv_buffer_new_allocate", payload))
        self._stream = stream
        try:
            aravis.call("arv_camera_start_acquisition", self._camera)
        except DeviceError:
            self.end()
            raise

    def trigger(self) -> None:
        """See :meth:`Wire.trigger`."""
        aravis.call("arv_camera_software_trigger", self._camera)

    def receive(self, timeout_s: float) -> Arrived | None:
        """See :meth:`Wire.receive`."""
        buffer = aravis.call("arv_stream_timeout_pop_buffer", self._stream, max(round(timeout_s * 1e6), 0))
        if buffer is None:
            return None
        try:
            return _arrived(buffer)
        finally:
            aravis.call("arv_stream_push_buffer", self._stream, buffer)

    def end(self) -> None:
        """See :meth:`Wire.end`."""
        if self._stream is None:
            return
        if not self.lost():
            with contextlib.suppress(DeviceError):
                # A camera that is lost cannot be told; it stops by itself when the control runs out.
                aravis.call("arv_camera_stop_acquisition", self._camera)
        aravis.call("g_object_unref", self._stream)
        self._stream = None

    def close(self) -> None:
        """See :meth:`Wire.close`."""
        if self._closed:
            return
        self._closed = True
        self.end()
        aravis.call("g_object_unref", self._camera)


def _arrived(buffer: int) -> Arrived:
    raw = aravis.call("arv_buffer_get_frame_id", buffer)
    status = aravis.call("arv_buffer_get_status", buffer)
    if status != aravis.SUCCESS:
        return Arrived(raw, str(aravis.STATUS.get(status, status)))
    left, top, width, height = aravis.integers("arv_buffer_get_image_region", buffer, 4)
    return Arrived(
        raw,
        region=(left, top, width, height),
        pixel_format=aravis.call("arv_buffer_get_image_pixel_format", buffer),
        time_s=aravis.call("arv_buffer_get_timestamp", buffer) * 1e-9 or None,
        data=bytes(aravis.data(buffer)),
    )
