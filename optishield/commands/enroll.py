"""``optishield enroll``: looks at photos of one person and keeps what a person-specific method needs of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ground.errors import one_line
from optishield.console import Device, Json, Quiet, chosen_device, print_json, print_pairs, say
from optishield.devices import DeviceName
from optishield.errors import ConfigError, ExitCode
from photos.errors import PhotoError

if TYPE_CHECKING:
    from faces.detection import FaceDetector
    from ground.protocols import Progress
    from photos.frames import Frame


def enroll(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", readable=False, help="Photos of one person, or folders of them.")
    ],
    method: Annotated[str, typer.Option(metavar="NAME[:KEY=VALUE,..]", help="A person-specific method.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The enrolment, for protect --enrolment.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed for all random numbers.")] = 0,
    device: Device = DeviceName.auto,
    json_output: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make the reusable mask of one person from a few photos; each must show that person alone.

    Exit code 6: the mask was made, but some photos could not be used.
    """
    from photos.files import pillow
    from photos.paths import check_writable, photos_in

    pillow()
    found = photos_in(paths)
    photos = [file for file, _ in found.photos]
    if out.exists() or out.is_symlink():
        raise PhotoError(f"{out} exists already; name another file with --out.")
    check_writable(out.parent)

    import torch

    from faces.detection import FaceDetector
    from faces.protection import Enrolling, Watched, check_side
    from optishield.progress import choose_progress
    from photos.enrolments import Enrolment, write_enrolment
    from photos.frames import FRAME_PX
    from photos.isolation import Shares
    from protectors.registry import make_protector

    protector = make_protector(method)
    name = protector.declaration.name
    if not protector.declaration.person_specific:
        raise ConfigError(f"{name} needs no enrolment; run: optishield protect PHOTOS --method {method} --out DIR")
    if not isinstance(protector, Enrolling):
        raise ConfigError(f"{name} cannot keep what it learns of a person, so it cannot enrol; choose another method.")
    px = protector.photo_px or FRAME_PX
    check_side(protector, px)
    computing = chosen_device(device)
    progress = choose_progress(quiet=quiet)
    frames, refused = _frames(photos, FaceDetector(), px, progress)
    refused += [one.reason for one in found.passed_over]
    if not frames:
        first = f"; the first: {refused[0]}" if refused else ""
        raise PhotoError(f"None of {len(photos)} photos can be used to enrol{first}")

    pixels = torch.stack([torch.from_numpy(frame.pixels) for frame in frames]).to(computing)
    images = pixels.permute(0, 3, 1, 2).float() / 255
    points5 = torch.stack([torch.from_numpy(frame.points5) for frame in frames]).to(computing)
    person = torch.zeros(len(frames), dtype=torch.int64, device=computing)
    start = time.perf_counter()
    with progress.stage(f"{name}: making the mask from {len(frames)} photos, in percent", 100) as stage:
        told = Shares(100, stage.advance)
        if isinstance(protector, Watched):
            protector.watch = told
        protector.fit(images, points5, person, torch.Generator().manual_seed(seed))
    seconds = time.perf_counter() - start
    write_enrolment(
        out, Enrolment(method, protector.declaration.settings, px, len(frames), seed, protector.enrolment())
    )
    result = {"enrolment": out, "method": method, "photos": len(frames), "frame_px": px, "seconds": round(seconds, 1)}
    if json_output:
        print_json({**result, "refused": refused})
    else:
        print_pairs(list(result.items()))
    for reason in refused:
        say(f"not used: {one_line(reason)}")
    if refused:
        raise typer.Exit(ExitCode.UNPROTECTED)


def _frames(
    photos: Sequence[Path], detector: FaceDetector, px: int, progress: Progress
) -> tuple[list[Frame], list[str]]:
    """Frames of the photos that show exactly one face, and why the others were refused."""
    from faces.errors import FacesError
    from photos.files import read_photo
    from photos.finding import find_faces
    from photos.frames import cut_frame

    frames: list[Frame] = []
    refused: list[str] = []
    with progress.stage("reading photos", len(photos)) as stage:
        for file in photos:
            try:
                image = read_photo(file).upright
                found = find_faces(detector, image)
                if len(found) != 1:
                    shown = f"{len(found)} faces, so whose mask to make is not known" if found else "no face"
                    raise PhotoError(f"{file} shows {shown}; use a photo of the person alone.")
                (face,) = found
                if face.doubt is not None:
                    raise PhotoError(f"{file}: {face.doubt}.")
                frames.append(cut_frame(image, face.seen.points5, px))
            except PhotoError as error:
                refused.append(str(error))
            except FacesError as error:
                refused.append(f"{file}: {error}; use a larger photo.")
            except MemoryError:
                refused.append(f"{file} needs more memory than there is; reduce it.")
            stage.advance()
    return frames, refused
