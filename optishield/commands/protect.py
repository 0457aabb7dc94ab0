"""``optishield protect``: protects photos of people, says which faces were left out, and checks the result."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from optishield.console import Device, Json, Quiet, chosen_device
from optishield.devices import DeviceName
from optishield.errors import ConfigError, UsageError
from photos.metadata import Keep

if TYPE_CHECKING:
    from faces.protection import Declaration, Protector
    from photos.paths import Job
    from photos.results import PhotoResult


def protect(
    paths: Annotated[
        # One file that may not be read costs no other, so it is no mistake of the whole command.
        list[Path] | None, typer.Argument(metavar="PATH...", readable=False, help="Photos, or folders of photos.")
    ] = None,
    method: Annotated[
        str | None, typer.Option(metavar="NAME[:KEY=VALUE,..]", help="How to protect; see --list.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the results.")] = None,
    enrolment: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A person's enrolment, made by optishield enroll.")
    ] = None,
    keep_metadata: Annotated[
        Keep,
        typer.Option(
            help="camera: exposure, lens, date. all: place and names too. Colour and orientation always stay."
        ),
    ] = Keep.camera,
    copy_faceless: Annotated[
        bool, typer.Option("--copy-faceless", help="Write photos without a face too, unprotected.")
    ] = False,
    skip_existing: Annotated[bool, typer.Option("--skip-existing", help="Go on where an earlier call ended.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare results and originals by recognisers that the method did not use.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed for all random numbers.")] = 0,
    device: Device = DeviceName.auto,
    list_methods: Annotated[bool, typer.Option("--list", help="Show the methods and stop.")] = False,
    json_output: Json = False,
    quiet: Quiet = False,
) -> None:
    """Protect every face of photos; the originals stay as they are.

    Exit code 6: a face or a photo was left unprotected, or no photo shows a face; 5: with --verify, a recogniser still
    matches. A photo without a face among others is named and is no error. Results are written photo by photo.
    """
    from optishield.commands import protect_report as report

    if list_methods:
        report.show_methods(json_output=json_output)
        return
    if out is None:
        raise UsageError("No folder for the results is named; add --out DIR.")
    from photos.files import pillow
    from photos.paths import check_writable, destinations, photos_in

    pillow()
    found = photos_in(paths or [])
    jobs = destinations(found.photos, paths or [], out, skip_existing=skip_existing)
    for folder in dict.fromkeys([out, *(job.out.parent for job in jobs if not job.exists)]):
        check_writable(folder)
    protector, px = _protector(method, enrolment)
    judges = _judges(protector.declaration) if verify else []
    computing = chosen_device(device)

    from faces.detection import FaceDetector
    from optishield.progress import choose_progress
    from photos.protection import PhotoProtection
    from photos.verification import Verifier

    detector = FaceDetector()
    protection = PhotoProtection(
        protector, detector, seed, px=px, person=None if enrolment is None else 0, keep=keep_metadata,
        copy_faceless=copy_faceless, verifier=Verifier(judges, detector, computing) if verify else None,
        device=computing,
    )  # fmt: skip
    done: dict[Path, PhotoResult] = {}
    interrupted = False
    try:
        with _terminated_as_interrupted():
            protection.run(jobs, choose_progress(quiet=quiet), lambda result: done.update({result.file: result}))
    except KeyboardInterrupt:
        interrupted = True
    finally:
        # Also after an error: what was written must be known.
        told = report.Told(
            _in_order(jobs, done), found.passed_over, protector.declaration, seed, str(computing), verify, interrupted
        )
        report.show_results(told, json_output=json_output)
    code = report.exit_code(told)
    if code:
        raise typer.Exit(code)


def _in_order(jobs: Sequence[Job], done: dict[Path, PhotoResult]) -> tuple[PhotoResult, ...]:
    """What became of each photo, those that were not reached included."""
    from photos.results import Outcome, PhotoResult

    return tuple(done.get(job.file) or PhotoResult(job.file, Outcome.not_reached) for job in jobs)


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Treat SIGTERM and a closed terminal as Ctrl-C, so that nothing half-written stays and the result is shown."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    # What nohup had ignored stays so.
    numbers = [one for one in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(one) is not signal.SIG_IGN]
    try:
        before = {number: signal.signal(number, interrupt) for number in numbers}
    except ValueError:
        # Not the main thread, which alone may change what a signal does.
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _protector(method: str | None, enrolment: Path | None) -> tuple[Protector, int | None]:
    """The protector, ready for work, and the side of its frames where an enrolment fixes it."""
    from protectors.registry import make_protector, registered

    if enrolment is None:
        if method is None:
            raise UsageError("No method is named; add --method NAME (optishield protect --list shows them).")
        protector = make_protector(method)
        if protector.declaration.person_specific:
            name = registered(method.partition(":")[0]).about.name
            raise ConfigError(
                f"{name} protects one person and must see photos of them first; run: optishield enroll PHOTOS "
                f"--method {method} --out ME.safetensors, then add --enrolment ME.safetensors"
            )
        return protector, None
    from photos.enrolments import enrolled, read_enrolment

    kept = read_enrolment(enrolment)
    if method is not None and make_protector(method).declaration.settings != kept.settings:
        raise UsageError(f"{enrolment} was made with --method {kept.method}; drop --method {method}, or enrol with it.")
    return enrolled(kept, enrolment), kept.px


def _judges(method: Declaration) -> list[str]:
    """Recognisers of --verify, after their weights and thresholds were found."""
    from faces.weights import cached_path, default_cache
    from photos.verification import judges

    names = judges(method)
    absent = [name for name in names if not cached_path(name).is_file()]
    if absent:
        raise ConfigError(
            f"--verify needs the weights {', '.join(absent)}, which are not in {default_cache()}; "
            f"run: optishield weights fetch {' '.join(absent)}"
        )
    return names
