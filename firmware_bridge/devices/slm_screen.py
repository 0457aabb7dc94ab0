"""The program that owns the window of a spatial light modulator; :class:`SlmWindow` starts it and talks to it.

A program of its own, because it must outlive its parent for the moment that it takes to blank the window: it ends when
its parent closes the connection, ends, or is killed, and on SIGTERM. However it ends, it blanks the window first;
killed itself, it leaves that to the X server, which removes the window. What the display shows after that is the
desktop, whose background should therefore be black.

Requests are one byte, STAGE followed by the levels. Each has one answer, ``ANSWER``. The first answer comes unasked,
when the window is parked. A failure closes the connection, and standard error tells why.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
import struct
import sys
import time
import zlib
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import NDArray

STAGE, COMMIT, READBACK, PARK = b"S", b"C", b"R", b"P"

ANSWER = struct.Struct("<I?d")
"""CRC-32 of what was read back, or of what was staged; whether it is the parked state; seconds from one swap of buffers
to the next, measured at the start."""

PARENT_S = 0.1
"""Time between two looks whether the parent is alive."""

REQUEST_S = 5.0
"""Time that a request may take to arrive whole."""

APPEAR_S = 0.25
"""Time that a pattern may take from the swap of buffers to the screen: a few frames."""

_SWAPS = 12
_GREY = np.uint32(0x010101)
_COLOURS = np.uint32(0xFFFFFF)


class Screen:
    """A window that fills one rectangle of the X screen, and a second eye that reads the screen itself.

    Args:
        left, top, width, height: The rectangle in pixels.
    """

    def __init__(self, left: int, top: int, width: int, height: int) -> None:
        import mss
        import pyglet

        # One context is enough, and the debugging layer of pyglet costs a call after each call.
        pyglet.options["shadow_window"] = False
        pyglet.options["debug_gl"] = False
        from pyglet import gl

        self._gl = gl
        self._shape = (height, width)
        self._area = {"left": left, "top": top, "width": width, "height": height}
        found = [
            screen
            for screen in pyglet.display.get_display().get_screens()
            if (screen.x, screen.y, screen.width, screen.height) == (left, top, width, height)
        ]
        if not found:
            raise SystemExit(f"there is no display of {width} x {height} pixels at {left}, {top} any more")
        kind: Any = gl.Config
        config = kind(
            double_buffer=True, red_size=8, green_size=8, blue_size=8, alpha_size=0, depth_size=0, stencil_size=0,
            sample_buffers=0, samples=0, major_version=3, minor_version=3,
        )  # fmt: skip
        self._window: Any = pyglet.window.Window(fullscreen=True, screen=found[0], config=config, vsync=True)
        self._window.set_mouse_visible(False)
        self._eye = mss.MSS()
        self._blank = np.zeros(self._shape, np.uint8)
        self._staged = self._blank.copy()
        # Fresh memory for each picture would cost several times what is done with it.
        self._seen, self._grey = np.empty((2, *self._shape), np.uint32)
        self._levels = np.empty(self._shape, np.uint8)
        texture, framebuffer = gl.GLuint(), gl.GLuint()
        gl.glGenTextures(1, ctypes.byref(texture))
        gl.glBindTexture(gl.GL_TEXTURE_2D, texture)
        gl.glTexImage2D(gl.GL_TEXTURE_2D, 0, gl.GL_RGBA8, width, height, 0, gl.GL_RGBA, gl.GL_UNSIGNED_BYTE, None)
        gl.glGenFramebuffers(1, ctypes.byref(framebuffer))
        gl.glBindFramebuffer(gl.GL_READ_FRAMEBUFFER, framebuffer)
        gl.glFramebufferTexture2D(gl.GL_READ_FRAMEBUFFER, gl.GL_COLOR_ATTACHMENT0, gl.GL_TEXTURE_2D, texture, 0)
        gl.glDisable(gl.GL_DITHER)
        self.parked = True
        self.park()
        start_s = time.perf_counter()
        for _ in range(_SWAPS):
            self._swap()
        self.swap_s = (time.perf_counter() - start_s) / _SWAPS

    @property
    def staged(self) -> memoryview:
        """Where the bytes of a pattern go to be staged, row after row from the top; they are not shown yet."""
        return self._staged.reshape(-1).data

    def commit(self) -> int:
        """Show what was staged, and return the CRC-32 of what the screen shows."""
        self.parked = False
        return self._show(self._staged)

    def park(self) -> int:
        """Show level 0 everywhere."""
        self.parked = True
        return self._show(self._blank)

    def readback(self) -> int:
        """CRC-32 of the levels that the X server shows; of all colours if they differ, which no pattern has."""
        # (H, W) words of blue, green, red and nothing.
        words = np.frombuffer(self._eye.grab(self._area).raw, "<u4").reshape(self._shape)
        np.bitwise_and(words, _COLOURS, out=self._seen)
        np.copyto(self._levels, words, casting="unsafe")
        np.multiply(self._levels, _GREY, out=self._grey)
        return zlib.crc32(self._levels.data if np.array_equal(self._seen, self._grey) else self._seen.data)

    def rest(self) -> None:
        """Answer the window system."""
        self._window.dispatch_events()

    def _show(self, levels: NDArray[np.uint8]) -> int:
        gl, (height, width) = self._gl, self._shape
        np.multiply(levels, _GREY, out=self._grey)
        gl.glTexSubImage2D(
            gl.GL_TEXTURE_2D, 0, 0, 0, width, height, gl.GL_RGBA, gl.GL_UNSIGNED_BYTE, self._grey.ctypes.data
        )
        self._swap()
        # A swap may be carried out with the next vertical blank only, and no call of OpenGL waits for that.
        until_s, wanted = time.monotonic() + APPEAR_S, zlib.crc32(levels.data)
        while (found := self.readback()) != wanted and time.monotonic() < until_s:
            pass
        return found

    def _swap(self) -> None:
        gl, (height, width) = self._gl, self._shape
        # Row 0 of a texture is the lowest row of a window.
        gl.glBlitFramebuffer(0, 0, width, height, 0, height, width, 0, gl.GL_COLOR_BUFFER_BIT, gl.GL_NEAREST)
        self._window.flip()
        gl.glFinish()
        self._window.dispatch_events()


def serve(screen: Screen, connection: socket.socket) -> None:
    """Answer until the parent is gone."""
    parent = os.getppid()

    def answer(pattern_id: int) -> None:
        connection.sendall(ANSWER.pack(pattern_id, screen.parked, screen.swap_s))

    answer(screen.readback())
    while os.getppid() == parent:
        if not select.select([connection], [], [], PARENT_S)[0]:
            screen.rest()
            continue
        request = connection.recv(1)
        if not request:
            return
        if request == STAGE:
            if not receive(connection, screen.staged):
                return
            answer(zlib.crc32(screen.staged))
        else:
            answer({COMMIT: screen.commit, READBACK: screen.readback, PARK: screen.park}[request]())


def receive(connection: socket.socket, place: memoryview) -> bool:
    """Fill ``place``; False if the other side is gone before it is full."""
    while place:
        got = connection.recv_into(place)
        if not got:
            return False
        place = place[got:]
    return True


def main() -> None:
    """Run: the number of the connection, then left, top, width and height of the display."""
    number, *area = map(int, sys.argv[1:])

    def end(signal_number: int, frame: FrameType | None) -> None:
        raise SystemExit(0)

    # Ctrl-C reaches every program of the terminal; what it means is the parent's to decide.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end)
    with socket.socket(fileno=number) as connection:
        connection.settimeout(REQUEST_S)
        screen = Screen(*area)
        try:
            # A parent that is gone, or stopped in the middle of a request, is a reason to end and no error.
            with contextlib.suppress(OSError):
                serve(screen, connection)
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            screen.park()


if __name__ == "__main__":
    main()
