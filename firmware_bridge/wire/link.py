"""The link to a controller: one command at a time, carried out exactly once whatever the wire does.

The rules are those of docs/wire-protocol.md. Round trips are measured as in RFC 6298 (Jacobson's mean and deviation,
Karn's rule for repeated commands), with limits that suit a serial line.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from firmware_bridge.errors import DeviceError, LinkError
from firmware_bridge.protocols import Origin
from firmware_bridge.wire import codec, schema
from firmware_bridge.wire.codec import Packet, Splitter, Value
from firmware_bridge.wire.schema import BY_NAME, NAK_MEANING, Command, NakCode


class Refused(DeviceError):
    """The device answered NAK: the command was not carried out.

    Attributes:
        code: Why it was refused.
        detail: Number that belongs to the code; the table of the schema says what it means.
    """

    def __init__(self, command: str, code: NakCode, detail: int) -> None:
        super().__init__(f"the controller refused {command}: {code.name} ({NAK_MEANING[code]}; detail {detail}).")
        self.code = code
        self.detail = detail


class StateLost(LinkError):
    """The controller was reset, or another program took it: nothing is staged, shown, lit or armed any more.

    The link has opened a new session already; arm and stage again.
    """


class PortUnavailable(LinkError):
    """The port is not there, or may not be opened now; that may change."""


class Transport(Protocol):
    """Two streams of bytes, with what is known of the other end."""

    @property
    def origin(self) -> Origin:
        """Whether a real device is behind it."""
        ...

    def open(self) -> None:
        """Find the device and open it; what was sent before is thrown away.

        Raises:
            PortUnavailable: It is not there, or may not be opened now.
            LinkError: It will not be found by trying again.
        """
        ...

    def read(self, timeout_s: float) -> bytes:
        """What has come, as soon as there is any; b"" after ``timeout_s``.

        Raises:
            OSError: The port is lost.
        """
        ...

    def write(self, data: bytes) -> None:
        """Send all of it.

        Raises:
            OSError: The port is lost.
        """
        ...

    def close(self) -> None:
        """Let go of the port; may be called again, and after a loss."""
        ...


@dataclass(frozen=True)
class Gap:
    """A time in which the controller could not be reached; on the monotonic clock of the host.

    Attributes:
        began_s: Time of the last answer before.
        ended_s: Time of the first answer after.
        state_lost: Whether the controller had lost its session.
        reason: What was seen.
    """

    began_s: float
    ended_s: float
    state_lost: bool
    reason: str


@dataclass
class Counters:
    """What the wire did.

    Attributes:
        commands: Commands that were answered.
        repeats: Frames that were sent again.
        damaged: Frames that came damaged.
        strays: Whole frames that answered nothing that was asked.
    """

    commands: int = 0
    repeats: int = 0
    damaged: int = 0
    strays: int = 0


class _Silent(Exception):
    """No answer in the last try."""


class _SessionGone(Exception):
    """The device does not know the session."""


class Link:
    """A session with one controller. Every method may be called from any thread.

    Args:
        transport: The port, not yet open.
        patience_s: How long a lost port is tried again, in s.
        clock, sleep: Monotonic clock of the host, in s.
        rng: Draws the numbers of sessions; None draws its seed from the system, as a program must that may share its
            device with others.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        patience_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        rng: np.random.Generator | None = None,
    ) -> None:
        self._transport = transport
        self._patience_s = patience_s
        self._clock = clock
        self._sleep = sleep
        self._rng = rng or np.random.default_rng(secrets.randbits(64))
        self._lock = threading.RLock()
        self._splitter = Splitter()
        self._session = 0
        self._nonce = 0
        self._seq = 0
        self._srtt_s: float | None = None
        self._rttvar_s = 0.0
        self._rto_s = schema.RTO_FIRST_S
        self._spoke_s = -np.inf
        self._answered_s = clock()
        self._broken: str | None = "the link is not open; call open() first"
        self._deferred: StateLost | None = None
        self._unanswered: tuple[Packet, Command] | None = None
        self._hello: dict[str, Value] = {}
        self.counters = Counters()
        self.gaps: list[Gap] = []

    @property
    def origin(self) -> Origin:
        """Where readings over this link come from."""
        return self._transport.origin

    @property
    def hello(self) -> dict[str, Value]:
        """What the controller said of itself: the answer to HELLO."""
        return dict(self._hello)

    @property
    def rto_s(self) -> float:
        """How long the next command waits for its first answer, in s."""
        return self._rto_s

    def open(self) -> None:
        """Open the port and a new session; the controller is then safe.

        Raises:
            LinkError: It does not answer, or speaks another schema.
        """
        with self._lock:
            self._session = int(self._rng.integers(1, schema.U32, endpoint=True))
            self._nonce, self._deferred, self._unanswered = 0, None, None
            self._transport.open()
            try:
                self._greet()
            except (OSError, _Silent, LinkError) as error:
                self._transport.close()
                if isinstance(error, LinkError):
                    raise
                raise LinkError(
                    f"nothing answers HELLO in {schema.TRIES} tries ({error or 'silence'}); is this the controller, is "
                    f"it powered, and its rate {schema.BAUD} baud?"
                ) from error
            self._broken = None

    def close(self) -> None:
        """Let go of the port; may be called again. The lease runs out by itself."""
        with self._lock:
            self._broken = "the link was closed; call open() first"
            self._transport.close()

    def call(self, name: str, **values: Value) -> dict[str, Value]:
        """Have a command carried out, once.

        Args:
            name: Name of the command in the schema.
            values: Its fields.

        Returns:
            The fields of its answer.

        Raises:
            Refused: It was not carried out.
            StateLost: The controller lost its state; a new session is open, and the command was not repeated in it.
            LinkError: The controller cannot be reached (whether the command was carried out is not known), or a value
                is not allowed. Call :meth:`open` again.
        """
        command = BY_NAME[name]
        body = codec.pack(command.request, values)
        with self._lock:
            if self._deferred is not None:
                deferred, self._deferred = self._deferred, None
                raise deferred
            if self._broken:
                raise LinkError(f"{name} was not sent: {self._broken}.")
            if self._unanswered is not None:
                # Ctrl-C came while a command was open. Whether the device has carried it out is not known, and a new
                # command may take no number before that: the old one is repeated, and its answer dropped.
                self._complete(*self._unanswered)
            self._seq = self._seq % schema.SEQ_HIGH + 1
            answer = self._complete(Packet(command.code, self._seq, self._nonce, body), command)
            self.counters.commands += 1
        if answer.type != schema.NAK_CODE:
            return codec.unpack(command.reply, answer.body)
        nak = codec.unpack(schema.NAK, answer.body)
        raise Refused(name, NakCode(int(nak["code"])), int(nak["detail"]))

    def tick(self) -> dict[str, Value] | None:
        """Send HEARTBEAT if nothing was sent for its period, and return the answer; call it more often than that.

        Nothing is sent while the link is broken.
        """
        with self._lock:
            if self._broken or self._clock() - self._spoke_s < schema.HEARTBEAT_S:
                return None
            return self.call("HEARTBEAT")

    def defer(self, error: StateLost) -> None:
        """Have the next :meth:`call` raise an error that a heartbeat met."""
        with self._lock:
            self._deferred = error

    def _complete(self, packet: Packet, command: Command) -> Packet:
        """The answer to a command, over losses of the port."""
        self._unanswered = (packet, command)
        began_s = self._answered_s
        deadline_s: float | None = None
        reason = ""
        while True:
            try:
                answer = self._exchange(packet, command)
            except (OSError, _Silent, _SessionGone) as error:
                # The patience counts from the first failure of this command, however often it fails.
                deadline_s = deadline_s or self._clock() + self._patience_s
                reason = str(error)
                resumed = self._recover(error, deadline_s)
                if resumed:
                    continue
                self._unanswered = None
                self.gaps.append(Gap(began_s, self._clock(), True, reason))
                raise StateLost(
                    f"the controller lost its state before or while {command.name} was sent ({reason}); arm and stage "
                    "again."
                ) from error
            except LinkError as error:
                self._fail(str(error))
                raise
            if deadline_s is not None:
                self.gaps.append(Gap(began_s, self._clock(), False, reason))
            self._unanswered = None
            return answer

    def _greet(self) -> bool:
        """HELLO; returns whether the session was still open with all its state."""
        command = BY_NAME["HELLO"]
        challenge = int(self._rng.integers(0, schema.U32, endpoint=True))
        values: dict[str, Value] = {
            "schema": schema.SCHEMA_HASH,
            "session": self._session,
            "challenge": challenge,
        }
        self._splitter = Splitter()
        while True:
            answer = self._exchange(Packet(command.code, 0, 0, codec.pack(command.request, values)), command)
            theirs = codec.peek(command.reply[0], answer.body)
            if theirs is not None and theirs != schema.SCHEMA_HASH:
                raise _other_schema(theirs)
            hello = codec.unpack(command.reply, answer.body)
            if hello["challenge"] == challenge:
                break
            # The answer to an earlier HELLO, which the wire held back.
            self.counters.strays += 1
        resumed = bool(hello["resumed"]) and answer.nonce == self._nonce
        if not resumed:
            self._nonce, self._seq = answer.nonce, 0
        self._hello = hello
        return resumed

    def _recover(self, error: Exception, deadline_s: float) -> bool:
        """Open the port again and ask for the session; returns whether it was still open with all its state."""
        while self._clock() < deadline_s:
            try:
                if not isinstance(error, _SessionGone):
                    self._transport.close()
                    self._transport.open()
                return self._greet()
            except (OSError, PortUnavailable, _Silent) as again:
                error = again
                self._sleep(0.05)
            except LinkError as final:
                self._fail(str(final))
                raise
        self._fail("the controller was lost")
        raise LinkError(
            f"the controller did not come back within {self._patience_s:g} s ({error}); check cable and power. Whether "
            "the last command was carried out is not known."
        ) from error

    def _fail(self, why: str) -> None:
        self._broken = f"{why.rstrip('.')}; call open() again"
        self._unanswered = None
        self._transport.close()

    def _exchange(self, packet: Packet, command: Command) -> Packet:
        """Send a frame until it is answered.

        Raises:
            _Silent: It was not.
            _SessionGone: The device does not know the session.
            OSError: The port is lost.
            LinkError: The other side speaks another protocol.
        """
        frame = codec.encode(packet)
        rto_s = self._rto_s
        for attempt in range(schema.TRIES):
            sent_s = self._clock()
            # The delimiter in front closes a frame that was cut off.
            self._transport.write(b"\0" + frame if attempt else frame)
            self._spoke_s = sent_s
            self.counters.repeats += attempt > 0
            answer, damaged = self._await(packet, command, sent_s + rto_s)
            if answer is not None:
                self._answered_s = self._clock()
                # A repeated frame cannot tell which of its copies was answered (Karn); the longer wait is kept.
                if attempt == 0:
                    self._measure(self._answered_s - sent_s)
                else:
                    self._rto_s = rto_s
                return answer
            if not damaged:
                rto_s = min(2 * rto_s, schema.RTO_HIGH_S)
        raise _Silent(f"no answer to {command.name} in {schema.TRIES} tries")

    def _await(self, packet: Packet, command: Command, until_s: float) -> tuple[Packet | None, bool]:
        """The answer, or None, with whether the device said that the frame came damaged."""
        while (left_s := until_s - self._clock()) > 0:
            for frame in self._splitter.feed(self._transport.read(left_s)):
                try:
                    answer = codec.decode(frame)
                except codec.DamagedFrame:
                    self.counters.damaged += 1
                    continue
                if answer.type == schema.NAK_CODE:
                    # Fields of NAK are read without its table: a device of another schema sends it too.
                    code = codec.peek(schema.NAK[0], answer.body)
                    if code == NakCode.crc and answer.seq == 0:
                        return None, True
                    if answer.seq == packet.seq and code == NakCode.schema:
                        detail = codec.peek(schema.NAK[1], answer.body)
                        raise _other_schema(int(detail or 0).to_bytes(4, "big"))
                    if answer.seq == packet.seq and code == NakCode.session:
                        raise _SessionGone("the controller does not know the session")
                    if answer.seq == packet.seq and code == NakCode.sequence:
                        raise LinkError(
                            f"the controller did not expect command {packet.seq}; something else writes there."
                        )
                ours = answer.seq == packet.seq and answer.nonce == (packet.nonce or answer.nonce)
                if ours and answer.type in (command.code | schema.REPLY, schema.NAK_CODE):
                    return answer, False
                self.counters.strays += 1
        return None, False

    def _measure(self, rtt_s: float) -> None:
        if self._srtt_s is None:
            self._srtt_s, self._rttvar_s = rtt_s, rtt_s / 2
        else:
            self._rttvar_s += 0.25 * (abs(self._srtt_s - rtt_s) - self._rttvar_s)
            self._srtt_s += 0.125 * (rtt_s - self._srtt_s)
        wanted_s = self._srtt_s + 4 * self._rttvar_s
        self._rto_s = min(max(wanted_s, schema.RTO_LOW_S), schema.RTO_HIGH_S)


def _other_schema(theirs: Value) -> LinkError:
    spoken = theirs.hex() if isinstance(theirs, bytes) else theirs
    return LinkError(
        f"the firmware was built from the schema {spoken}, this program from {schema.SCHEMA_HASH.hex()}; build and "
        "flash the firmware of this checkout."
    )


class Heartbeat:
    """Keeps the lease of a link from a thread of its own, until it is stopped.

    A loss of state that it meets is raised by the next command; so is a broken link, until :meth:`Link.open`.

    Args:
        link: The link to keep; it may be opened later, and again.
        wait: Waits for so many seconds, and tells whether to stop; by default until :meth:`stop` on the clock of this
            machine.
    """

    def __init__(self, link: Link, wait: Callable[[float], bool] | None = None) -> None:
        self._link = link
        self._stop = threading.Event()
        self._wait = wait or self._stop.wait
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._wait(schema.HEARTBEAT_S / 4):
            try:
                self._link.tick()
            except StateLost as error:
                self._link.defer(error)
            except LinkError:
                # The link is broken now, and says so to whoever calls it.
                continue

    def stop(self) -> None:
        """End it; may be called again. Returns when the thread has ended."""
        self._stop.set()
        self._thread.join()
