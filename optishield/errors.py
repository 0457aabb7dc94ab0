"""Errors of the application, and the map from any error to one line and an exit code.

Exit codes: 0 done, 1 a defect of the program, 2 wrong usage, 3 bad configuration or data, 4 hardware,
5 a quality gate is unmet, 6 a photo or a face in one was left unprotected, 130 interrupted, 141 nobody reads the
output any more.
"""

from __future__ import annotations

from enum import IntEnum

from ground.errors import describe_os_error, one_line


class ExitCode(IntEnum):
    """What the shell gets back."""

    OK = 0
    DEFECT = 1
    USAGE = 2
    BAD_INPUT = 3
    HARDWARE = 4
    GATE = 5
    UNPROTECTED = 6
    INTERRUPTED = 130
    OUTPUT_CLOSED = 141


class OptiShieldError(ValueError):
    """A mistake in what the user gave: one sentence with the facts and what to change."""

    exit_code: ExitCode = ExitCode.BAD_INPUT


class UsageError(OptiShieldError):
    """Options that contradict each other."""

    exit_code = ExitCode.USAGE


class ConfigError(OptiShieldError):
    """A configuration that cannot be read or is not valid."""


class RunError(OptiShieldError):
    """A run folder that cannot be made, read, resumed or written."""


# Each room defines its errors in <room>/errors.py. They are recognised by the module's name, because
# importing the rooms here would load torch for every `--help`.
_ROOM_EXIT_CODES = {
    "ground.errors": ExitCode.BAD_INPUT,
    "photos.errors": ExitCode.BAD_INPUT,
    "optics.errors": ExitCode.BAD_INPUT,
    "faces.errors": ExitCode.BAD_INPUT,
    "sim.errors": ExitCode.BAD_INPUT,
    "evaluation.errors": ExitCode.BAD_INPUT,
    "protectors.errors": ExitCode.BAD_INPUT,
    "calibration.errors": ExitCode.BAD_INPUT,
    "codesign.errors": ExitCode.BAD_INPUT,
    "firmware_bridge.errors": ExitCode.HARDWARE,
}


def user_error(error: BaseException) -> tuple[str, ExitCode] | None:
    """Translate an error into one line and an exit code; failures of several devices follow it, one a line.

    Args:
        error: Anything that a command raised.

    Returns:
        ``(message, exit code)``, or None when the error is a defect of the program rather than of the input.
    """
    if isinstance(error, OptiShieldError):
        return one_line(str(error)), error.exit_code
    for cls in type(error).__mro__:
        code = _ROOM_EXIT_CODES.get(cls.__module__)
        if code is not None:
            # A room may mark one of its errors as an unmet gate by an attribute `exit_code`.
            # One that tells of several devices lists what each said by an attribute `failures`.
            failures = getattr(error, "failures", ())
            message = one_line(getattr(error, "sentence", "") or str(error))
            return "\n  ".join([message, *failures]), ExitCode(getattr(error, "exit_code", code))
    if isinstance(error, OSError):
        return one_line(describe_os_error(error)), ExitCode.BAD_INPUT
    if isinstance(error, MemoryError):
        return "Out of memory; lower --workers, the batch size, or the number of people.", ExitCode.BAD_INPUT
    return None
