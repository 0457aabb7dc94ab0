"""Builds the firmware and runs it as a program, for tests and for benches without hardware."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from types import TracebackType

from firmware_bridge.errors import BridgeError, DeviceError

FOLDER = Path(__file__).resolve().parent


def build(target: str, folder: Path, *, width: int = 64, height: int = 64, bits: int = 8) -> Path:
    """Build the firmware with make.

    Args:
        target: "host", "inproc" or "avr".
        folder: Folder of the result; nothing is built twice there.
        width: Width of the mask in pixels; that of the microcontroller is fixed.
        height: Height of the mask in pixels.
        bits: Bits of a level.

    Returns:
        Folder of the result: of firmware-host, libfirmware.so, or firmware.elf and firmware-avr-run.

    Raises:
        BridgeError: There is no make or no compiler, or it failed.
    """
    command = ["make", "-s", "-C", str(FOLDER), target, f"BUILD={folder.resolve()}"]
    command += [f"MASK_WIDTH={width}", f"MASK_HEIGHT={height}", f"MASK_BITS={bits}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise BridgeError("the firmware is built with make and gcc; install them (Debian: build-essential).") from error
    if done.returncode:
        raise BridgeError(f"the firmware could not be built for {target!r}: {done.stderr.strip()}")
    return folder / ("avr" if target == "avr" else f"host-{width}x{height}x{bits}")


class Emulator:
    """A running firmware that answers on a pseudo-terminal. It ends with this process, however that ends.

    Attributes:
        path: Its terminal, for :meth:`SerialTransport.emulated`.
        journal: Its event log, one JSON object a line.
    """

    def __init__(self, command: list[str], journal: Path) -> None:
        self.journal = journal
        # Nothing is ever written to its standard input. The pipe ends when this process does, also by SIGKILL.
        self._process = subprocess.Popen(
            [*command, "--log", str(journal)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        line = self._process.stdout.readline().strip() if self._process.stdout else ""
        if not line:
            self._close_pipes()
            raise DeviceError(f"the emulated controller ended at once with status {self._process.wait()}.")
        self.path = Path(line)

    @classmethod
    def host(
        cls,
        built: Path,
        journal: Path,
        *,
        serial: str = "HOST0001",
        link: Path | None = None,
        shown: Path | None = None,
        broken: str = "",
    ) -> Emulator:
        """The firmware built for this machine.

        Args:
            built: Folder that :func:`build` returned.
            journal: File for its event log.
            serial: Serial number that it tells.
            link: Symbolic link to the terminal, made and removed by it.
            broken: What :meth:`break_or_mend` breaks, "mask" or "light".
            shown: File that always holds the levels on its panel, whole, as :meth:`Pattern.as_bytes` orders them.
        """
        command = [str(built / "firmware-host"), "--serial", serial, "--leash"]
        command += ["--link", str(link)] if link else []
        command += ["--shown", str(shown)] if shown else []
        command += ["--broken", broken] if broken else []
        return cls(command, journal)

    @classmethod
    def avr(cls, built: Path, journal: Path) -> Emulator:
        """The firmware built for the ATmega1284P, on a simulated one.

        Args:
            built: Folder that :func:`build` returned.
            journal: File for the changes of its lines.
        """
        return cls([str(built / "firmware-avr-run"), str(built / "firmware.elf")], journal)

    def events(self) -> list[dict[str, int | str]]:
        """What its journal holds now; a line that is being written is left out."""
        lines = self.journal.read_text().split("\n")[:-1] if self.journal.exists() else []
        return [json.loads(line) for line in lines]

    def reset(self) -> None:
        """Press its reset button; only the firmware built for this machine has one."""
        self._process.send_signal(signal.SIGUSR1)

    def break_or_mend(self) -> None:
        """Let a pixel of the mask, or the light, stay as it is; or mend it."""
        self._process.send_signal(signal.SIGUSR2)

    def close(self) -> None:
        """Cut its power; may be called again.

        Raises:
            DeviceError: It did not end well: a sanitizer stopped it, for example.
        """
        if self._process.poll() is None:
            self._process.terminate()
        status = self._process.wait(timeout=10)
        self._close_pipes()
        if status:
            raise DeviceError(f"the emulated controller ended with status {status}; its standard error tells why.")

    def _close_pipes(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()

    def __enter__(self) -> Emulator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
