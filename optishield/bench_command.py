"""``optishield bench``: find, test and watch a bench, and take, seal, check and export capture sessions on it.

Every result names its origin, and only files name drivers: no command replaces a device that is missing.
"""

from __future__ import annotations

import contextlib
import importlib.util
import select
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from optishield.console import Json, Quiet, end_on_unmet, print_json, print_pairs, say
from optishield.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from firmware_bridge.protocols import CameraSettings, Check, Identity, Pattern
    from firmware_bridge.session.bench import Bench, Driver
    from firmware_bridge.session.plan import Plan
    from firmware_bridge.session.seal import Sealed
    from optishield.bench_view import Gate, Look

bench_app = typer.Typer(
    help="An optical bench: find, test and watch its devices; take, seal, check and export sessions.",
    no_args_is_help=True,
)

_BenchFile = Annotated[Path, typer.Argument(metavar="BENCH.toml", help="File of the bench.")]
_Folder = Annotated[Path, typer.Argument(metavar="SESSION", help="Folder of the session.")]
_Name = Annotated[str, typer.Option(metavar="NAME", help="Who takes the responsibility for light and motion.")]
_Yes = Annotated[bool, typer.Option("--yes", help="Ask nothing: go on where a gate is met, end with 5 where not.")]

# What a part of the bench needs, and where it comes from.
_PACKAGES: dict[str, tuple[tuple[str, ...], str]] = {
    "controllers": (("cobs", "cbor2"), "optishield[bench]"),
    "modulator window": (("pyglet", "mss"), "optishield[slm]"),
    "export": (("h5py", "tifffile"), "optishield[export]"),
}
_PROGRAMS: dict[str, tuple[tuple[str, ...], str]] = {
    "emulated firmware": (("make", "gcc"), "Debian: build-essential"),
    "displays": (("xrandr",), "Debian: x11-xserver-utils"),
}

# Time that a frame may take beyond its exposure.
_GRAB_S = 2.0

_SELFTEST_BENCH = """
name = "self-test"
origin = "emulated"
[camera]
driver = "emulated"
serial = "SELFTEST-CAMERA"
options = { seed = 5 }
[mask]
driver = "emulated"
serial = "SELFTEST"
[light]
part_of = "mask"
[stage]
part_of = "mask"
[limits]
exposure_s = 0.1
light_share = 0.9
disk_free_bytes = 10000000
"""

# The lamp of the virtual bench warms up while this runs; hence the wide tolerance.
_SELFTEST_PLAN = """
name = "self-test"
bits = 12
roi = [0, 0, 256, 224]
[sentinel]
every = 6
pattern = "checker"
exposure_s = 0.001
light_share = 0.5
position_m = 0.0
flux_tolerance = 0.2
[[steps]]
name = "ramp"
pattern = "ramp-x"
exposure_s = 0.001
light_share = 0.5
position_m = 0.0
averages = 4
darks = 2
[[steps]]
name = "defocused"
pattern = "checker"
exposure_s = 0.002
light_share = 0.4
position_m = 0.001
averages = 4
"""


@bench_app.command("doctor")
def doctor(
    bench: Annotated[Path | None, typer.Argument(metavar="[BENCH.toml]", help="File of a bench to open.")] = None,
    json_output: Json = False,
) -> None:
    """What this machine can drive; with a file, whether each of its devices answers. Nothing moves, nothing lights."""
    facts = _environment()
    devices: dict[str, Identity] = {}
    if bench is not None:
        with _opened(bench) as opened:
            devices.update(opened.identities.items())
    if json_output:
        print_json({"machine": facts, "devices": {kind: vars(one) for kind, one in devices.items()}})
        return
    print_pairs(list(facts.items()))
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
    from optishield.progress import choose_progress

    progress = choose_progress(quiet=quiet)
    result: dict[str, Any]
    if bench is not None:
        with _opened(bench) as opened:
            checks = _device_checks(opened)
            result = {"origin": opened.origin}
    else:
        with tempfile.TemporaryDirectory(prefix="optishield-") as name, progress.stage("self-test"):
            result, checks = _emulated_session(Path(name))
    result["checks"] = [vars(check) for check in checks]
    if json_output:
        print_json(result)
    else:
        print_pairs([(key, value) for key, value in result.items() if key != "checks"])
        for check in checks:
            verdict = {True: "ok  ", False: "FAIL", None: "--  "}[check.passed]
            typer.echo(f"{verdict}  {check.name}: {check.reason}")
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
    from optishield.bench_view import look_at

    with _opened(bench) as opened:
        _check_limits(opened, exposure_s, light_share)
        shown = _named_pattern(opened, pattern)
        if operator is not None:
            opened.arm(operator)
        can = opened.camera.capabilities()
        settings = CameraSettings(exposure_s, gain_db, bits, (0, 0, can.width, can.height))
        _set(opened, settings, shown, light_share, None)
        seen, count = None, 0
        with contextlib.suppress(KeyboardInterrupt), _screen(opened.origin) as show:
            while frames is None or count < frames:
                seen = look_at(opened.camera.grab(exposure_s + _GRAB_S))
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
    json_output: Json = False,
    quiet: Quiet = False,
) -> None:
    """Take a session: a checklist with one instruction at a time, then every frame of the plan, then the seal."""
    from firmware_bridge.session.bench import open_bench, read_bench
    from firmware_bridge.session.folder import create
    from firmware_bridge.session.plan import read_plan
    from optishield.bench_drivers import bench_drivers

    if not yes and not sys.stdin.isatty():
        raise UsageError("there is nobody to ask at this terminal; add --yes, and the gates decide alone.")
    calibrations = _calibrations(calibration or [])
    file, wanted = read_bench(bench), read_plan(plan)
    guide = _Operator(file.origin, yes=yes, quiet=quiet)
    with bench_drivers(file) as drivers:
        with open_bench(file, drivers) as opened:
            passed = _checklist(opened, wanted, plan.parent, operator, guide)
            if passed:
                create(out, wanted, plan.parent, opened, calibrations)
        if not passed:
            if json_output:
                print_json({"origin": file.origin, "gates": [vars(gate) for gate in guide.gates]})
            end_on_unmet({gate.name: vars(gate) for gate in guide.gates if not gate.passed})
        _take(out, drivers, operator, guide.gates, json_output=json_output, quiet=quiet)


@bench_app.command("resume")
def resume(folder: _Folder, operator: _Name, json_output: Json = False, quiet: Quiet = False) -> None:
    """Take the frames that are missing from a session, and seal it. The devices must be those it was begun with."""
    from firmware_bridge.session.folder import JOURNAL, read_header
    from firmware_bridge.session.journal import read_journal
    from optishield.bench_drivers import bench_drivers

    lines, _ = read_journal(folder / JOURNAL)
    with bench_drivers(read_header(folder, lines).bench) as drivers:
        _take(folder, drivers, operator, [], json_output=json_output, quiet=quiet)


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
            typer.echo(f"{'ok  ' if check.passed else 'FAIL'}  {check.name}: {check.reason}")
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
    from optishield.bench_drivers import bench_drivers

    file = read_bench(path)
    with bench_drivers(file) as drivers, open_bench(file, drivers) as bench:
        yield bench


def _environment() -> dict[str, str]:
    """What is installed, and what to install where it is not; with the serial numbers of all serial ports."""
    from serial.tools import list_ports

    facts = {}
    for what, (names, source) in _PACKAGES.items():
        missing = [name for name in names if importlib.util.find_spec(name) is None]
        facts[what] = f"without {' and '.join(missing)}; install {source}" if missing else "installed"
    for what, (names, source) in _PROGRAMS.items():
        missing = [name for name in names if shutil.which(name) is None]
        facts[what] = f"without {' and '.join(missing)}; install ({source})" if missing else "installed"
    ports = [f"{port.device} ({port.serial_number})" for port in list_ports.comports() if port.serial_number]
    return {**facts, "serial ports": ", ".join(ports) or "none with a serial number"}


def _named(one: Identity) -> str:
    firmware = f", firmware {one.firmware}" if one.firmware else ""
    return f"{one.model} {one.serial}{firmware}, origin {one.origin}"


def _device_checks(opened: Bench) -> list[Check]:
    return [check for device in opened.devices.values() for check in device.selftest()]


def _emulated_session(folder: Path) -> tuple[dict[str, Any], list[Check]]:
    """Device tests, a session, its seal and its verification."""
    from firmware_bridge.session.bench import open_bench, read_bench
    from firmware_bridge.session.folder import create
    from firmware_bridge.session.plan import read_plan
    from firmware_bridge.session.run import Session
    from firmware_bridge.session.run import capture as take
    from firmware_bridge.session.seal import verify as verify_session
    from optishield.bench_drivers import bench_drivers

    (folder / "bench.toml").write_text(_SELFTEST_BENCH)
    (folder / "plan.toml").write_text(_SELFTEST_PLAN)
    file, plan, session = read_bench(folder / "bench.toml"), read_plan(folder / "plan.toml"), folder / "session"
    start_s = time.monotonic()
    with bench_drivers(file) as drivers:
        with open_bench(file, drivers) as opened:
            checks = _device_checks(opened)
            create(session, plan, folder, opened, {})
        sealed = take(Session(session, drivers, "selftest"))
    result = {
        "origin": sealed.origin,
        "frames": len(sealed.manifest.frames),
        "manifest": sealed.sha256,
        "seconds": round(time.monotonic() - start_s, 1),
    }
    return result, [*checks, *verify_session(session)]


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


def _set(
    opened: Bench,
    settings: CameraSettings,
    pattern: Pattern | None,
    light_share: float | None,
    position_m: float | None,
) -> None:
    """Expose, move, show and light as told; the devices are there."""
    from firmware_bridge.session.setting import configure

    opened.camera.stop()
    configure(opened.camera, settings)
    opened.camera.start()
    if position_m is not None and opened.stage:
        opened.stage.move_to(position_m)
    if pattern is not None and opened.mask:
        opened.mask.stage(pattern)
        opened.mask.commit()
    if light_share is not None and opened.light:
        opened.light.set(light_share)


@contextlib.contextmanager
def _screen(origin: str) -> Iterator[Callable[[Look], None]]:
    """Figures of frames on stderr, drawn over one another on a terminal; nothing elsewhere."""
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    from optishield.bench_view import picture

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda seen: None
        return
    best = 0.0
    with Live(console=console, auto_refresh=False) as screen:

        def show(seen: Look) -> None:
            nonlocal best
            best = max(best, seen.focus)
            screen.update(Group(Text(f"origin {origin}"), picture(seen, best)), refresh=True)

        yield show


class _Operator:
    """Whoever answers at the terminal; with ``--yes`` nobody, and each gate is looked at once."""

    def __init__(self, origin: str, *, yes: bool, quiet: bool) -> None:
        from rich.console import Console

        self._origin = origin
        self._yes = yes
        self._console = Console(stderr=True, quiet=quiet)
        self.gates: list[Gate] = []

    def step(self, instruction: str, check: Callable[[], Gate]) -> bool:
        """One instruction, and whether its gate is met in the end."""
        while True:
            self._console.print(f"{len(self.gates) + 1}. {instruction}", markup=False, highlight=False)
            if not self._yes:
                self._wait("Enter when done")
            gate = check()
            self._console.print(gate.text())
            if gate.passed or self._yes or self._wait("Enter to try again, q to stop") == "q":
                self.gates.append(gate)
                return gate.passed

    def watch(self, grab: Callable[[], Look]) -> list[Look]:
        """Frames until Enter; one frame where there is nobody."""
        seen = [grab()]
        if not self._yes:
            self._console.print("   Enter to go on")
            with _screen(self._origin) as show:
                while not select.select([sys.stdin], [], [], 0)[0]:
                    seen.append(grab())
                    show(seen[-1])
            self._read()
        return seen

    def _wait(self, question: str) -> str:
        self._console.print(f"   {question} ", end="", markup=False, highlight=False)
        return self._read()

    @staticmethod
    def _read() -> str:
        line = sys.stdin.readline()
        if not line:
            raise KeyboardInterrupt
        return line.strip().lower()


def _checklist(opened: Bench, plan: Plan, sources: Path, name: str, operator: _Operator) -> bool:
    """One instruction after another, each with its gate, and the bench safe at the end.

    Returns:
        Whether all gates are met.
    """
    from firmware_bridge.errors import BridgeError
    from firmware_bridge.session.plan import check_plan, patterns, shots
    from optishield.bench_view import Gate, dark_gate, focus_gate, light_gate, look_at

    exposed = plan.sentinel or plan.steps[0]
    settings = plan.settings(exposed)
    dark: list[Look] = []

    def guarded(name: str, act: Callable[[], Gate]) -> Callable[[], Gate]:
        def check() -> Gate:
            try:
                return act()
            except BridgeError as error:
                return Gate(name, False, str(error))

        return check

    def grab() -> Look:
        return look_at(opened.camera.grab(settings.exposure_s + _GRAB_S))

    def devices() -> Gate:
        wrong = [f"{check.name}: {check.reason}" for check in _device_checks(opened) if check.passed is False]
        opened.safe()
        return Gate("devices", not wrong, "; ".join(wrong) or f"{len(opened.devices)} devices, origin {opened.origin}")

    def planned() -> Gate:
        frames = len(shots(plan, check_plan(plan, opened, sources)))
        return Gate("plan", True, f"{plan.name}: {frames} frames")

    def darkness() -> Gate:
        _set(opened, settings, None, None, None)
        dark[:] = operator.watch(grab)[-1:]
        return dark_gate(dark[0])

    def brightness() -> Gate:
        opened.arm(name)
        mask = opened.mask.capabilities() if opened.mask else None
        _set(opened, settings, next(patterns(exposed, sources, mask), None), exposed.light_share, exposed.position_m)
        return light_gate(operator.watch(grab)[-1], dark[0] if dark else None)

    def focus() -> Gate:
        return focus_gate([look.focus for look in operator.watch(grab)])

    steps = [
        (f"Switch on every device of {opened.file.name}; they are tested now, without light.", "devices", devices),
        (
            f"Put in front of the camera what {plan.name} is for; its steps are compared with the bench.",
            "plan",
            planned,
        ),
    ]
    if opened.light:
        steps.append(("Close the room or cover the bench: there is no light now.", "dark", darkness))
    steps.append(("Clear the beam, and leave it: light comes on now.", "light", brightness))
    steps.append(("Turn the focus until its bar is full.", "focus", focus))
    try:
        return all(operator.step(instruction, guarded(what, act)) for instruction, what, act in steps)
    finally:
        opened.camera.stop()
        opened.safe()


def _take(
    folder: Path,
    drivers: Mapping[str, Driver],
    operator: str,
    gates: Sequence[Gate],
    *,
    json_output: bool,
    quiet: bool,
) -> None:
    """Take what is missing, seal, and print."""
    from firmware_bridge.errors import BridgeError
    from firmware_bridge.session.folder import JOURNAL, read_header, replay
    from firmware_bridge.session.journal import read_journal
    from firmware_bridge.session.run import Session
    from firmware_bridge.session.run import capture as take
    from optishield.progress import choose_progress

    lines, _ = read_journal(folder / JOURNAL)
    header = read_header(folder, lines)
    missing = len(header.shots()) - len(replay(lines))
    try:
        with choose_progress(quiet=quiet).stage(f"capturing, origin {header.origin}", missing) as stage:
            sealed = take(Session(folder, drivers, operator, before_shot=lambda shot: stage.advance()))
    except (KeyboardInterrupt, BridgeError):
        say(f"what was taken is kept; continue with: optishield bench resume {folder} --operator {operator!r}")
        raise
    _print_sealed(sealed, {"gates": [vars(gate) for gate in gates]} if gates else {}, json_output)


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
