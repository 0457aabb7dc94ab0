"""Mask, light and stage behind one controller: the devices of a bench over one link."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import numpy as np

from firmware_bridge.errors import DeviceError, LinkError
from firmware_bridge.protocols import (
    Identity,
    LightCapabilities,
    MaskCapabilities,
    Pattern,
    Shown,
    StageCapabilities,
)
from firmware_bridge.wire import schema
from firmware_bridge.wire.codec import Value
from firmware_bridge.wire.link import Heartbeat, Link, Refused
from firmware_bridge.wire.schema import NakCode
from ground.gates import Gate


class Controller:
    """An open controller, of which the devices are parts. The port is closed with the last open device.

    Args:
        link: Link to it, not yet open.
        serial_number: Serial number that the controller must tell in HELLO.
        clock, sleep: Monotonic clock of the host, in s.
        heartbeat: Whether to keep the lease from a thread. Without it, call :meth:`Link.tick` four times a second.

    Raises:
        LinkError: It does not answer, or speaks another schema.
        DeviceError: Another controller answers.
    """

    def __init__(
        self,
        link: Link,
        serial_number: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        heartbeat: bool = True,
    ) -> None:
        self.link = link
        self.clock = clock
        self.sleep = sleep
        self._open: set[str] = set()
        link.open()
        found = str(link.hello["serial"])
        if found != serial_number:
            link.close()
            raise DeviceError(
                f"the controller says that its serial number is {found!r}, not {serial_number!r}; correct the number "
                "in the file of the bench, or plug in the right one."
            )
        self._heartbeat = Heartbeat(link) if heartbeat else None

    def mask(self) -> McuMask:
        """Its mask."""
        return McuMask(self)

    def light(self) -> McuLight:
        """Its light."""
        return McuLight(self)

    def stage(self) -> McuStage:
        """Its stage."""
        return McuStage(self)

    def number(self, name: str) -> int:
        """A number of the answer to HELLO."""
        return int(self.link.hello[name])

    def identity(self, kind: str) -> Identity:
        """One of its devices."""
        hello = self.link.hello
        return Identity(kind, str(hello["model"]), str(hello["serial"]), str(hello["firmware"]), self.link.origin)

    def arm(self, operator: str, *, light: bool) -> None:
        """Allow patterns and motion, and light if wanted.

        Args:
            operator: Name of the person who takes the responsibility, up to 32 printable ASCII characters.
            light: Whether light is allowed too.

        Raises:
            DeviceError: The controller is in its fault state; make it safe first.
        """
        self.link.call("ARM", operator=operator, light=light)

    def register(self, kind: str) -> None:
        """Count a device as open; each can be open once."""
        if kind in self._open:
            raise DeviceError(f"the {kind} of this controller is open already; close it first.")
        self._open.add(kind)

    def release(self, kind: str) -> None:
        """Count a device as closed, and let go of the port after the last."""
        self._open.remove(kind)
        if not self._open:
            if self._heartbeat is not None:
                self._heartbeat.stop()
            self.link.close()


class _Part:
    """What mask, light and stage of a controller share."""

    kind: str

    def __init__(self, controller: Controller) -> None:
        controller.register(self.kind)
        self._controller = controller
        self._closed = False

    def identify(self) -> Identity:
        """Which device this is."""
        return self._controller.identity(self.kind)

    def safe(self) -> None:
        """Bring it into its safe state; may be called at any time, and again."""
        raise NotImplementedError

    def close(self) -> None:
        """Make it safe and let go of it; may be called again. A lost controller makes itself safe."""
        if self._closed:
            return
        self._closed = True
        try:
            # A controller that cannot be reached, or has lost its state, is safe without being told.
            with contextlib.suppress(LinkError):
                self.safe()
        finally:
            self._controller.release(self.kind)

    def arm(self, operator: str) -> None:
        """Allow patterns and motion, without light.

        Args:
            operator: Name of the person who takes the responsibility, up to 32 printable ASCII characters.
        """
        self._controller.arm(operator, light=False)

    def _call(self, name: str, **values: Value) -> dict[str, Value]:
        return self._controller.link.call(name, **values)

    def _shown(self, answer: dict[str, Value]) -> Shown:
        return Shown(int(answer["pattern_id"]), bool(answer["parked"]), self._controller.clock())


def _refuses(name: str, code: NakCode, act: Callable[[], object], change: str) -> Gate:
    """A check that a command is refused for the right reason."""
    try:
        act()
    except Refused as refusal:
        return Gate(name, refusal.code is code, f"refused: {refusal.code.name}")
    return Gate(name, False, f"it was carried out; {change}")


class McuMask(_Part):
    """A panel behind the controller. It shows patterns while the controller is armed."""

    kind = "mask"

    def __init__(self, controller: Controller) -> None:
        super().__init__(controller)
        self._staged_id: int | None = None

    def capabilities(self) -> MaskCapabilities:
        """What it can show."""
        number = self._controller.number
        pitch_nm = number("mask_pitch_nm")
        return MaskCapabilities(
            width=number("mask_width"),
            height=number("mask_height"),
            bits=number("mask_bits"),
            settle_s=number("mask_settle_us") * 1e-6,
            pitch_m=pitch_nm * 1e-9 if pitch_nm else None,
        )

    def stage(self, pattern: Pattern) -> None:
        """Send a pattern without showing it; see :meth:`MaskDevice.stage`."""
        can = self.capabilities()
        shape, wanted = pattern.levels.shape, np.uint8 if can.bits <= 8 else np.uint16
        if shape != (can.height, can.width) or pattern.levels.dtype != wanted:
            raise DeviceError(
                f"this mask takes ({can.height}, {can.width}) {np.dtype(wanted)} levels, the pattern has {shape} of "
                f"{pattern.levels.dtype}; scale it to the mask."
            )
        if int(pattern.levels.max()) >> can.bits:
            raise DeviceError(
                f"this mask takes levels up to {(1 << can.bits) - 1}, the pattern has {int(pattern.levels.max())}; "
                "scale it to the mask."
            )
        data = pattern.as_bytes()
        for offset in range(0, len(data), schema.CHUNK_BYTES):
            self._call("CHUNK", offset=offset, data=data[offset : offset + schema.CHUNK_BYTES])
        self._call("STAGE", length=len(data), pattern_id=pattern.pattern_id)
        self._staged_id = pattern.pattern_id

    def commit(self) -> Shown:
        """Show what was staged, wait until it has settled, and read it back; see :meth:`MaskDevice.commit`."""
        staged_id = self._staged_id
        if staged_id is None:
            raise DeviceError("nothing was staged; call stage() before commit().")
        self._call("COMMIT", pattern_id=staged_id)
        self._controller.sleep(self.capabilities().settle_s)
        shown = self.readback()
        if shown.parked or shown.pattern_id != staged_id:
            raise DeviceError(
                f"the mask shows {shown.pattern_id:08x}{' (parked)' if shown.parked else ''} instead of "
                f"{staged_id:08x}; was the lease lost? Arm and stage again."
            )
        return shown

    def readback(self) -> Shown:
        """What it shows now."""
        return self._shown(self._call("READBACK"))

    def park(self) -> Shown:
        """Show the safe pattern."""
        return self._shown(self._call("PARK"))

    def safe(self) -> None:
        """Show the safe pattern."""
        self.park()

    def selftest(self) -> list[Gate]:
        """The safe pattern, a pattern that is staged and not shown, and a damaged one that is refused."""
        self._call("SAFE")
        can, parked_id = self.capabilities(), self._controller.number("parked_id")
        shown = self.readback()
        checks = [
            Gate(
                "mask parked",
                shown.parked and shown.pattern_id == parked_id,
                f"it shows {shown.pattern_id:08x}, its safe pattern is {parked_id:08x}",
            )
        ]
        ramp = np.arange(can.width * can.height).reshape(can.height, can.width) % (1 << can.bits)
        pattern = Pattern(ramp.astype(np.uint8) if can.bits <= 8 else ramp.astype(np.uint16))
        self.stage(pattern)
        checks.append(Gate("mask stages", True, f"the controller computed {pattern.pattern_id:08x}, as the host did"))
        shown = self.readback()
        checks.append(
            Gate("mask waits for commit", shown.parked, "still parked" if shown.parked else "it shows what was staged")
        )
        checks.append(
            _refuses(
                "mask needs to be armed", NakCode.unsafe, self.commit, "the firmware must not show anything unarmed"
            )
        )
        length = len(pattern.as_bytes())
        checks.append(
            _refuses(
                "mask refuses a damaged pattern",
                NakCode.mismatch,
                lambda: self._call("STAGE", length=length, pattern_id=pattern.pattern_id ^ 1),
                "the firmware must check the CRC-32 of a pattern",
            )
        )
        self._call("SAFE")
        return checks


class McuLight(_Part):
    """A lamp or laser behind the controller."""

    kind = "light"

    def capabilities(self) -> LightCapabilities:
        """What it can do."""
        wavelength_pm = self._controller.number("light_wavelength_pm")
        power_uw = self._controller.number("light_power_uw")
        return LightCapabilities(
            wavelength_m=wavelength_pm * 1e-12 if wavelength_pm else None,
            power_w=power_uw * 1e-6 if power_uw else None,
        )

    def arm(self, operator: str) -> None:
        """Allow light, and with it patterns and motion of this controller; see :meth:`Light.arm`."""
        self._controller.arm(operator, light=True)

    def set(self, share: float) -> float:
        """Set the power as a share 0..1 of the largest, in steps of 1/65535, and return what was read back."""
        if not 0 <= share <= 1:
            raise DeviceError(f"the power of a light is a share 0..1 of its largest, got {share}.")
        answer = self._call("LIGHT", level=round(share * schema.LEVEL_HIGH))
        return int(answer["level"]) / schema.LEVEL_HIGH

    def off(self) -> None:
        """No light; it must be armed again."""
        self._call("OFF")

    def safe(self) -> None:
        """No light."""
        self.off()

    def selftest(self) -> list[Gate]:
        """Dark after opening, and no light without arming."""
        self._call("SAFE")
        level = int(self._call("HEARTBEAT")["level"])
        checks = [Gate("light off", level == 0, f"it reads back {level}/{schema.LEVEL_HIGH}")]
        checks.append(
            _refuses("light needs to be armed", NakCode.unsafe, lambda: self.set(1e-4), "the firmware must not light")
        )
        self._call("SAFE")
        return checks


class McuStage(_Part):
    """A stage with one axis behind the controller. It moves while the controller is armed."""

    kind = "stage"

    def capabilities(self) -> StageCapabilities:
        """Where it can go."""
        number = self._controller.number
        return StageCapabilities(
            limits_m=(number("stage_low_nm") * 1e-9, number("stage_high_nm") * 1e-9),
            resolution_m=number("stage_step_nm") * 1e-9,
        )

    def move_to(self, position_m: float) -> float:
        """Go there and return where it stands when it has come to rest; see :meth:`Stage.move_to`."""
        low_m, high_m = self.capabilities().limits_m
        if not low_m <= position_m <= high_m:
            raise DeviceError(f"this stage goes from {low_m:g} m to {high_m:g} m, not to {position_m:g} m.")
        start_m = self.position()
        target_nm = int(self._call("MOVE", position_nm=round(position_m * 1e9))["position_nm"])
        speed_m_s = self._controller.number("stage_speed_nm_s") * 1e-9
        # Twice the time that it needs, and a second for the wire.
        until_s = self._controller.clock() + 2 * abs(target_nm * 1e-9 - start_m) / speed_m_s + 1
        while (state := self._call("HEARTBEAT"))["moving"]:
            if self._controller.clock() > until_s:
                self._call("STOP")
                raise DeviceError(
                    f"the stage did not arrive at {target_nm} nm in time, and was stopped; is it blocked?"
                )
            self._controller.sleep(0.01)
        stopped_nm = int(state["position_nm"])
        if stopped_nm != target_nm:
            raise DeviceError(
                f"the stage stopped at {stopped_nm} nm instead of {target_nm} nm; was the lease lost? Arm again."
            )
        return stopped_nm * 1e-9

    def position(self) -> float:
        """Where it stands, in metres."""
        return int(self._call("HEARTBEAT")["position_nm"]) * 1e-9

    def safe(self) -> None:
        """Stop it where it is."""
        self._call("STOP")

    def selftest(self) -> list[Gate]:
        """Still, and no motion without arming."""
        self._call("SAFE")
        checks = [Gate("stage still", not self._call("HEARTBEAT")["moving"], "no motion after SAFE")]
        checks.append(
            _refuses(
                "stage needs to be armed", NakCode.unsafe, lambda: self.move_to(0.0), "the firmware must not move it"
            )
        )
        return checks
