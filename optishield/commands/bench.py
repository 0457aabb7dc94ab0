"""``optishield bench``: find, test and watch a bench, and take, seal, check and export capture sessions on it.

Every result names its origin, and only files name drivers: no command replaces a device that is missing.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from optishield.console import Json, Quiet, end_on_unmet, print_json, print_pairs, say, show, show_help
from optishield.errors import ExitCode, OptiShieldError, UsageError

if TYPE_CHECKING:
    from firmware_bridge.protocols import Identity, Pattern
    from firmware_bridge.session.bench import Bench
    from firmware_bridge.session.seal import Sealed

bench_app = typer.Typer(
    help="An optical bench: find, test and watch its devices; take, seal, check and export sessions.",
    callback=show_help,
    invoke_without_command=True,
)

_BenchFile = Annotated[Path, typer.Argument(metavar="BENCH.toml", help="File of the bench.")]
_Folder = Annotated[Path, typer.Argument(metavar="SESSION", help="Folder of the session.")]
_Name = Annotated[str, typer.Option(metavar="NAME", help="Who takes the responsibility for light and motion.")]
_Yes = Annotated[bool, typer.Option("--yes", help="Ask nothing: go on where a gate is met, end with 5 where not.")]

_NEEDS_FOCUS = "The lens has no focus to turn: its gate is left out."


@bench_app.command("init")
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the files go; made if it does not exist.")],
    json_output: Json = False,
) -> None:
    """Write an example to start from: bench.toml with a virtual bench, and plan.toml with a short session for it."""
    from optishield.bench.example import write_example

    try:
        written = write_example(folder)
    except FileExistsError as error:
        raise OptiShieldError(f"{error}; name another folder.") from error
    if json_output:
        print_json({"written": written})
    else:
        show("\n".join(map(str, written)), lines=True)
    bench, plan = written
    say(f"try: optishield bench capture {bench} {plan} --out {folder / 'session'} --operator YOU --yes")


@bench_app.command("doctor")
def doctor(
    bench: Annotated[Path | None, typer.Argument(metavar="[BENCH.toml]", help="File of a bench to open.")] = None,
    json_output: Json = False,
) -> None:
    """What this machine can drive and what the self-test needs; with a file, whether each of its devices answers.

    Nothing moves, nothing lights.
    """
    from serial.tools import list_ports

    from optishield.bench.drivers import all_drivers
    from optishield.bench.requirements import examine

    needs = examine()
    ports = [f"{port.device} ({port.serial_number})" for port in list_ports.comports() if port.serial_number]
    drivers = {name: driver.summary for name, driver in all_drivers().items()}
    devices: dict[str, Identity] = {}
    if bench is not None:
        with _opened(bench) as opened:
            devices.update(opened.identities.items())
    if json_output:
        found = {kind: vars(one) for kind, one in devices.items()}
        machine = {need.name: need.reason for need in needs} | {"serial ports": ports}
        print_json({"machine": machine, "drivers": drivers, "devices": found})
        return
    print_pairs([(need.name, need.reason) for need in needs])
    print_pairs([("serial ports", ", ".join(ports) or "none with a serial number")])
    print_pairs(list(drivers.items()))
    if devices:
        print_pairs([(kind, _named(one)) for kind, one in devices.items()])


@bench_app.command("selftest")
def selftest(
    bench: Annotated[
        Path | None, typer.Argument(metavar="[BENCH.toml]", help="A bench; without it, emulated devices.")
    ] = None,
    json_output: Json = False,
    quiet: Quiet = False,
) -> None:
    """Test every device. Without a file: a whole session on emulated devices, over the real wire protocol.

    The firmware runs as a program on a pseudo-terminal, and a GigE Vision camera on the loopback network sees what its
    mask shows. Nothing of that is a real bench, and the result says so.
    """
    from ground.scratch import scratch_folder
    from optishield.bench.selftest import device_checks, emulated_session
    from optishield.progress import choose_progress

    progress = choose_progress(quiet=quiet)
    result: dict[str, Any]
    if bench is not None:
        with _opened(bench) as opened:
            checks = device_checks(opened)
            result = {"origin": opened.origin}
    else:
        with scratch_folder("optishield-selftest") as folder, progress.stage("self-test"):
            session, checks = emulated_session(folder)
            result = vars(session).copy()
    result["checks"] = [vars(check) for check in checks]
    if json_output:
        print_json(result)
    else:
        print_pairs([(key, value) for key, value in result.items() if key != "checks"])
        for check in checks:
            verdict = {True: "ok  ", False: "FAIL", None: "--  "}[check.passed]
            show(f"{verdict}  {check.name}: {check.reason}")
    if any(check.passed is False for check in checks):
        raise typer.Exit(ExitCode.HARDWARE)


@bench_app.command("live")
def live(
    bench: _BenchFile,
    exposure_s: Annotated[float, typer.Option(min=0, help="Exposure time in seconds.")],
    gain_db: Annotated[float, typer.Option(help="Gain in dB.")] = 0.0,
    bits: Annotated[int, typer.Option(min=1, max=16, help="Depth.")] = 8,
    pattern: Annotated[str | None, typer.Option(help="Pattern of the mask: zero, half, full, checker, ...")] = None,
    light_share: Annotated[float | None, typer.Option(min=0, max=1, help="Power as a share of the largest.")] = None,
    operator: Annotated[str | None, typer.Option(metavar="NAME", help="Needed for a pattern or light.")] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="End after so many frames (default: at Ctrl-C).")] = None,
    json_output: Json = False,
) -> None:
    """Show histogram, saturation and focus of frame after frame, on stderr; print the last one."""
    if operator is None and (pattern is not None or light_share is not None):
        raise UsageError("a pattern or light needs somebody who is responsible; name them with --operator.")
    from firmware_bridge.protocols import CameraSettings
    from firmware_bridge.session.conditions import GRAB_S
    from optishield.bench.checklist import expose_as
    from optishield.bench.view import look_at, screen

    with _opened(bench) as opened:
        _check_limits(opened, exposure_s, light_share)
        shown = _named_pattern(opened, pattern)
        if operator is not None:
            opened.arm(operator)
        can = opened.camera.capabilities()
        settings = CameraSettings(exposure_s, gain_db, bits, (0, 0, can.width, can.height))
        expose_as(opened, settings, shown, light_share, None)
        seen, count = None, 0
        with contextlib.suppress(KeyboardInterrupt), screen(opened.origin) as show:
            while frames is None or count < frames:
                seen = look_at(opened.camera.grab(exposure_s + GRAB_S))
                count += 1
                show(seen)
        result = {"origin": opened.origin, "frames": count, **(seen.as_dict() if seen else {})}
    if json_output:
        print_json(result)
    else:
        print_pairs([(key, value) for key, value in result.items() if key != "histogram"])


@bench_app.command("capture")
def capture(
    bench: _BenchFile,
    plan: Annotated[Path, typer.Argument(metavar="PLAN.toml", help="What to capture.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the session; must not exist.")],
    operator: _Name,
    calibration: Annotated[
        list[str] | None, typer.Option(metavar="WHAT=ID", help="A calibration in force; repeatable.")
    ] = None,
    yes: _Yes = False,
    fixed_focus: Annotated[bool, typer.Option("--fixed-focus", help=_NEEDS_FOCUS)] = False,
    json_output: Json = False,
    quiet: Quiet = False,
) -> None:
    """Take a session: a checklist with one instruction at a time, then every frame of the plan, then the seal.

    While frames are taken, p pauses with the mask parked and the light off, r or Enter goes on, and q stops; what was
    taken is kept.
    """
    from firmware_bridge.session.bench import open_bench, read_bench
    from firmware_bridge.session.folder import create
    from firmware_bridge.session.plan import read_plan
    from optishield.bench.capture import take
    from optishield.bench.checklist import Guide, checklist
    from optishield.bench.drivers import bench_drivers

    if not yes and not sys.stdin.isatty():
        raise UsageError("there is nobody to ask at this terminal; add --yes, and the gates decide alone.")
    calibrations = _calibrations(calibration or [])
    file, wanted = read_bench(bench), read_plan(plan)
    guide = Guide(file.origin, yes=yes, quiet=quiet)
    with bench_drivers(file) as drivers:
        with open_bench(file, drivers) as opened:
            passed = checklist(opened, wanted, plan.parent, operator, guide, fixed_focus=fixed_focus)
            if passed:
                create(out, wanted, plan.parent, opened, calibrations)
        if not passed:
            if json_output:
                print_json({"origin": file.origin, "gates": [vars(gate) for gate in guide.gates]})
            end_on_unmet({gate.name: gate.reason for gate in guide.gates if gate.passed is False})
        sealed = take(out, drivers, operator, quiet=quiet)
    _print_sealed(sealed, {"gates": [vars(gate) for gate in guide.gates]}, json_output)


@bench_app.command("resume")
def resume(folder: _Folder, operator: _Name, json_output: Json = False, quiet: Quiet = False) -> None:
    """Take the frames that are missing from a session, and seal it. The devices must be those it was begun with.

    Keys are those of capture.
    """
    from firmware_bridge.session.folder import JOURNAL, read_header
    from firmware_bridge.session.journal import read_journal
    from optishield.bench.capture import take
    from optishield.bench.drivers import bench_drivers

    lines, _ = read_journal(folder / JOURNAL)
    with bench_drivers(read_header(folder, lines).bench) as drivers:
        sealed = take(folder, drivers, operator, quiet=quiet)
    _print_sealed(sealed, {}, json_output)


@bench_app.command("seal")
def seal(folder: _Folder, json_output: Json = False) -> None:
    """Seal a session whose frames are all there; needs no device."""
    from firmware_bridge.session.seal import seal as seal_session

    _print_sealed(seal_session(folder), {}, json_output)


@bench_app.command("verify")
def verify(folder: _Folder, json_output: Json = False) -> None:
    """Check everything that the seal of a session promises, every frame included."""
    from firmware_bridge.session.seal import verify as verify_session

    checks = verify_session(folder)
    passed = all(check.passed for check in checks)
    if json_output:
        print_json({"passed": passed, "checks": [vars(check) for check in checks]})
    else:
        for check in checks:
            show(f"{'ok  ' if check.passed else 'FAIL'}  {check.name}: {check.reason}")
    if not passed:
        raise typer.Exit(ExitCode.BAD_INPUT)


@bench_app.command("export")
def export(
    folder: _Folder,
    nexus: Annotated[Path | None, typer.Option(metavar="FILE.nxs", help="Write HDF5 in the layout of NeXus.")] = None,
    tiff: Annotated[Path | None, typer.Option(metavar="FILE.tif", help="Write one TIFF, a page for a frame.")] = None,
    json_output: Json = False,
) -> None:
    """Copy a sealed session for other programs."""
    if nexus is None and tiff is None:
        raise UsageError("nothing to write; name a file with --nexus or --tiff.")
    from firmware_bridge.session.export import to_nexus, to_tiff
    from firmware_bridge.session.seal import load_sealed

    sealed = load_sealed(folder)
    written = {}
    for name, path, write in (("nexus", nexus, to_nexus), ("tiff", tiff, to_tiff)):
        if path is not None:
            write(sealed, path)
            written[name] = path
    _print_sealed(sealed, written, json_output)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Bench]:
    """The devices of a bench, safe at the end."""
    from firmware_bridge.session.bench import open_bench, read_bench
    from optishield.bench.drivers import bench_drivers

    file = read_bench(path)
    with bench_drivers(file) as drivers, open_bench(file, drivers) as bench:
        yield bench


def _named(one: Identity) -> str:
    firmware = f", firmware {one.firmware}" if one.firmware else ""
    return f"{one.model} {one.serial}{firmware}, origin {one.origin}"


def _check_limits(opened: Bench, exposure_s: float, light_share: float | None) -> None:
    limits = opened.file.limits
    if exposure_s > limits.exposure_s:
        raise UsageError(f"--exposure-s {exposure_s:g}: the bench allows up to {limits.exposure_s:g} s.")
    if light_share is not None and opened.light is None:
        raise UsageError(f"--light-share {light_share:g}: the bench has no light; leave it out.")
    if light_share is not None and light_share > limits.light_share:
        raise UsageError(f"--light-share {light_share:g}: the bench allows up to {limits.light_share:g}.")


def _named_pattern(opened: Bench, name: str | None) -> Pattern | None:
    from firmware_bridge.protocols import Pattern
    from firmware_bridge.session.plan import NAMED_PATTERNS, named_pattern

    if name is None:
        return None
    if opened.mask is None or name not in NAMED_PATTERNS:
        why = "the bench has no mask" if opened.mask is None else f"there are {', '.join(NAMED_PATTERNS)}"
        raise UsageError(f"--pattern {name} cannot be shown: {why}.")
    return Pattern(named_pattern(name, opened.mask.capabilities()))


def _print_sealed(sealed: Sealed, more: Mapping[str, Any], json_output: bool) -> None:
    result = {
        "session": sealed.folder,
        "origin": sealed.origin,
        "frames": len(sealed.manifest.frames),
        "manifest": sealed.sha256,
        "merkle_root": sealed.manifest.merkle_root,
        **more,
    }
    if json_output:
        print_json(result)
    else:
        print_pairs([(key, value) for key, value in result.items() if key != "gates"])


def _calibrations(pairs: Sequence[str]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        what, equals, name = pair.partition("=")
        if not (what and equals and name):
            raise UsageError(f"--calibration {pair}: write WHAT=ID, for example psf=psf-0007.")
        found[what] = name
    return found
