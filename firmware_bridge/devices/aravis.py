"""libaravis 0.8, called through ctypes: what a camera driver and an emulated camera need of it, and no more.

Its Python binding needs the interpreter of the operating system; this needs the library alone (Debian:
libaravis-0.8-0). Function names, arguments and numbers are those of its C interface.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from ctypes import POINTER, c_char_p, c_double, c_int, c_size_t, c_uint, c_uint32, c_uint64, c_void_p
from typing import Any

from firmware_bridge.errors import DeviceError

LIBRARY = "libaravis-0.8.so.0"

STATUS = {
    -1: "unknown",
    0: "success",
    1: "cleared",
    2: "timeout",
    3: "missing packets",
    4: "wrong packet id",
    5: "size mismatch",
    6: "filling",
    7: "aborted",
    8: "payload not supported",
}
"""What the status of a buffer means."""

SUCCESS = 0


class _Error(ctypes.Structure):
    _fields_ = (("domain", c_uint32), ("code", c_int), ("message", c_char_p))


FILL_PATTERN = ctypes.CFUNCTYPE(None, c_void_p, c_void_p, c_uint32, c_uint32, c_uint32)
"""Fills a buffer of an emulated camera: buffer, data, exposure in µs, raw gain, pixel format."""

_INT, _SIZE = POINTER(c_int), POINTER(c_size_t)

# Name: result, arguments, whether a place for an error follows them.
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...], bool]] = {
    "g_error_free": (None, (c_void_p,), False),
    "g_free": (None, (c_void_p,), False),
    "g_object_unref": (None, (c_void_p,), False),
    "arv_enable_interface": (None, (c_char_p,), False),
    "arv_disable_interface": (None, (c_char_p,), False),
    "arv_update_device_list": (None, (), False),
    "arv_get_n_devices": (c_uint, (), False),
    "arv_get_device_id": (c_char_p, (c_uint,), False),
    "arv_get_device_serial_nbr": (c_char_p, (c_uint,), False),
    "arv_get_device_vendor": (c_char_p, (c_uint,), False),
    "arv_get_device_model": (c_char_p, (c_uint,), False),
    "arv_get_device_address": (c_char_p, (c_uint,), False),
    "arv_camera_new": (c_void_p, (c_char_p,), True),
    "arv_camera_get_device": (c_void_p, (c_void_p,), False),
    "arv_camera_is_gv_device": (c_int, (c_void_p,), False),
    "arv_gv_device_is_controller": (c_int, (c_void_p,), False),
    "arv_camera_is_feature_available": (c_int, (c_void_p, c_char_p), True),
    "arv_camera_set_string": (None, (c_void_p, c_char_p, c_char_p), True),
    "arv_camera_get_string": (c_char_p, (c_void_p, c_char_p), True),
    "arv_camera_set_boolean": (None, (c_void_p, c_char_p, c_int), True),
    "arv_camera_get_boolean": (c_int, (c_void_p, c_char_p), True),
    "arv_camera_get_float": (c_double, (c_void_p, c_char_p), True),
    "arv_camera_get_sensor_size": (None, (c_void_p, _INT, _INT), True),
    "arv_camera_set_region": (None, (c_void_p, c_int, c_int, c_int, c_int), True),
    "arv_camera_get_region": (None, (c_void_p, _INT, _INT, _INT, _INT), True),
    "arv_camera_dup_available_pixel_formats_as_strings": (c_void_p, (c_void_p, POINTER(c_uint)), True),
    "arv_camera_set_exposure_time": (None, (c_void_p, c_double), True),
    "arv_camera_get_exposure_time": (c_double, (c_void_p,), True),
    "arv_camera_get_exposure_time_bounds": (None, (c_void_p, POINTER(c_double), POINTER(c_double)), True),
    "arv_camera_set_gain": (None, (c_void_p, c_double), True),
    "arv_camera_get_gain": (c_double, (c_void_p,), True),
    "arv_camera_get_gain_bounds": (None, (c_void_p, POINTER(c_double), POINTER(c_double)), True),
    "arv_camera_set_trigger": (None, (c_void_p, c_char_p), True),
    "arv_camera_software_trigger": (None, (c_void_p,), True),
    "arv_camera_get_payload": (c_uint, (c_void_p,), True),
    "arv_camera_create_stream": (c_void_p, (c_void_p, c_void_p, c_void_p), True),
    "arv_camera_start_acquisition": (None, (c_void_p,), True),
    "arv_camera_stop_acquisition": (None, (c_void_p,), True),
    "arv_stream_push_buffer": (None, (c_void_p, c_void_p), False),
    "arv_stream_try_pop_buffer": (c_void_p, (c_void_p,), False),
    "arv_stream_timeout_pop_buffer": (c_void_p, (c_void_p, c_uint64), False),
    "arv_buffer_new_allocate": (c_void_p, (c_size_t,), False),
    "arv_buffer_get_status": (c_int, (c_void_p,), False),
    "arv_buffer_get_frame_id": (c_uint64, (c_void_p,), False),
    "arv_buffer_get_timestamp": (c_uint64, (c_void_p,), False),
    "arv_buffer_get_image_pixel_format": (c_uint32, (c_void_p,), False),
    "arv_buffer_get_data": (c_void_p, (c_void_p, _SIZE), False),
    "arv_buffer_get_image_region": (None, (c_void_p, _INT, _INT, _INT, _INT), False),
    "arv_gv_fake_camera_new_full": (c_void_p, (c_char_p, c_char_p, c_char_p), False),
    "arv_gv_fake_camera_is_running": (c_int, (c_void_p,), False),
    "arv_gv_fake_camera_get_fake_camera": (c_void_p, (c_void_p,), False),
    "arv_fake_camera_set_fill_pattern": (None, (c_void_p, FILL_PATTERN, c_void_p), False),
    "arv_fake_camera_set_trigger_frequency": (None, (c_void_p, c_double), False),
    "arv_fake_camera_write_register": (c_int, (c_void_p, c_uint32, c_uint32), False),
    "g_object_set_property": (None, (c_void_p, c_char_p, c_void_p), False),
}


@functools.cache
def _library() -> ctypes.CDLL:
    try:
        return ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise DeviceError(
            f"GenICam cameras need {LIBRARY}, which cannot be loaded ({error}); install it (Debian: libaravis-0.8-0)."
        ) from error


@functools.cache
def _function(name: str) -> tuple[Callable[..., Any], bool]:
    result, arguments, may_fail = _FUNCTIONS[name]
    function = getattr(_library(), name)
    function.restype = result
    function.argtypes = (*arguments, POINTER(POINTER(_Error))) if may_fail else arguments
    return function, may_fail


def call(name: str, *arguments: Any) -> Any:
    """Call a function of the library; the place for an error is added where it takes one.

    Args:
        name: Name of the function.
        arguments: All arguments but the place for an error.

    Raises:
        DeviceError: It reports an error, or the library is not installed.
    """
    function, may_fail = _function(name)
    if not may_fail:
        return function(*arguments)
    error = POINTER(_Error)()
    result = function(*arguments, ctypes.byref(error))
    if error:
        message = error.contents.message.decode(errors="replace").rstrip(". ")
        call("g_error_free", error)
        raise DeviceError(f"{name.removeprefix('arv_')}: {message}.")
    return result


def text(name: str, *arguments: Any) -> str:
    """Call a function that returns text; "" where it returns none."""
    return (call(name, *arguments) or b"").decode(errors="replace")


def integers(name: str, camera: int, count: int) -> tuple[int, ...]:
    """Call a function that fills in ``count`` integers."""
    places = [c_int() for _ in range(count)]
    call(name, camera, *map(ctypes.byref, places))
    return tuple(place.value for place in places)


def bounds(name: str, camera: int) -> tuple[float, float]:
    """Call a function that fills in a lowest and a highest number."""
    low, high = c_double(), c_double()
    call(name, camera, ctypes.byref(low), ctypes.byref(high))
    return low.value, high.value


def pixel_formats(camera: int) -> list[str]:
    """Names of the pixel formats that a camera offers now."""
    count = c_uint()
    names = call("arv_camera_dup_available_pixel_formats_as_strings", camera, ctypes.byref(count))
    try:
        return [name.decode() for name in ctypes.cast(names, POINTER(c_char_p))[: count.value]]
    finally:
        call("g_free", names)


def data(buffer: int) -> ctypes.Array[Any]:
    """The bytes of a buffer, where they lie; valid until it is pushed again."""
    size = c_size_t()
    address = call("arv_buffer_get_data", buffer, ctypes.byref(size))
    return (ctypes.c_uint8 * size.value).from_address(address)


class _Value(ctypes.Structure):
    """GValue: a type and room for a number."""

    _fields_ = (("type", c_size_t), ("number", c_double), ("unused", c_uint64))


def set_number(thing: int, name: str, number: float) -> None:
    """Set a property of an object to a floating-point number."""
    # 15 << 2 is G_TYPE_DOUBLE, a fixed number of GObject's interface.
    call("g_object_set_property", thing, name.encode(), ctypes.byref(_Value(15 << 2, number, 0)))
