"""What ``optishield protect`` shows: the table or JSON of its results, the exit code, and the list of methods."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ground.errors import one_line
from optishield.console import print_json, print_table, say, show
from optishield.errors import ExitCode
from photos.results import FaceResult, Outcome, PhotoResult
from photos.verification import LIMITS, Comparison

if TYPE_CHECKING:
    from faces.protection import Declaration
    from photos.paths import PassedOver
    from protectors.registry import Registered

#: What a JPEG does to the largest change that a method promises.
_JPEG_LIMITS = (
    "JPEG results: compression changes values beyond what the method did, so its largest change holds before saving; "
    "PNG, TIFF, WebP and BMP keep it exactly."
)


@dataclass(frozen=True)
class Told:
    """Everything that is shown at the end.

    Attributes:
        photos: What became of each photo, in the order given.
        passed_over: What may hold photos and was not looked into.
        method: The method as it was made.
        seed: Seed of the command.
        device: Where it computed.
        verify: Whether the results were compared with their originals.
        interrupted: Whether Ctrl-C or SIGTERM ended the work.
    """

    photos: tuple[PhotoResult, ...]
    passed_over: tuple[PassedOver, ...]
    method: Declaration
    seed: int
    device: str
    verify: bool
    interrupted: bool

    @property
    def checked(self) -> list[FaceResult]:
        """Faces that were compared with their originals."""
        return [face for one in self.photos for face in one.faces or () if face.comparisons]

    @property
    def recognised(self) -> int:
        """How many of them are recognised."""
        return sum(face.recognised for face in self.checked)

    @property
    def unchecked(self) -> list[PhotoResult]:
        """Written photos whose check failed."""
        return [one for one in self.photos if one.unchecked is not None]

    @property
    def faceless(self) -> int:
        """How many photos show no face that the detector finds."""
        return sum(one.outcome is Outcome.no_face for one in self.photos)

    @property
    def all_protected(self) -> bool:
        """Whether every photo was reached, no face is known to be unprotected, and not every photo is faceless."""
        return (
            all(one.safe for one in self.photos)
            and not self.passed_over
            and (self.faceless < len(self.photos) or not self.photos)
        )


def show_results(told: Told, *, json_output: bool) -> None:
    """The results on stdout, and on stderr everything that somebody must know of them."""
    if json_output:
        print_json(_as_json(told))
    else:
        print_table(("photo", "faces", "protected", "result"), [_row(one) for one in told.photos])
        for line in _verdicts(told.photos):
            show(line)
        for line in _remarks(told):
            show(line)
    for line in _warnings(told):
        say(line)


def exit_code(told: Told) -> ExitCode:
    """130 after an interruption, 6 where anything was left unprotected, 5 where a recogniser still matches, else 0."""
    if told.interrupted:
        return ExitCode.INTERRUPTED
    if not told.all_protected:
        return ExitCode.UNPROTECTED
    return ExitCode.GATE if told.recognised or told.unchecked else ExitCode.OK


def _row(one: PhotoResult) -> tuple[str, str, str, str]:
    faces, protected = ("-", "-") if one.faces is None else (str(len(one.faces)), str(one.protected_faces))
    if one.outcome in (Outcome.protected, Outcome.partly):
        said = str(one.written)
    elif one.outcome is Outcome.no_face:
        said = f"{one.outcome}, copied to {one.written}" if one.written else f"{one.outcome}, nothing written"
    elif one.outcome is Outcome.unprotected:
        said = "nothing written"
    else:
        said = str(one.outcome)
    return str(one.file), faces, protected, said


def _remarks(told: Told) -> Iterator[str]:
    """Sentences that belong to the results."""
    if told.verify:
        yield LIMITS
    left_out = Counter(what for one in told.photos for what in one.left_out)
    if left_out:
        listed = ", ".join(f"{what} ({_counted(count, 'photo')})" for what, count in sorted(left_out.items()))
        yield f"Left out of the results' files: {listed}."
    if told.method.additive and any(one.kind == "JPEG" and one.protected_faces for one in told.photos):
        yield _JPEG_LIMITS


def _warnings(told: Told) -> Iterator[str]:
    for one in told.passed_over:
        yield f"NOT LOOKED INTO: {one_line(one.reason)}"
    for photo in told.photos:
        if photo.outcome is Outcome.unprotected:
            yield f"NOT PROTECTED: {one_line(photo.reason or str(photo.file))}"
        for place, face in enumerate(photo.faces or (), start=1):
            if photo.outcome is Outcome.partly and face.reason is not None:
                yield (
                    f"NOT PROTECTED: face {place} of {len(photo.faces or ())} in {photo.written}: "
                    f"{one_line(face.reason).rstrip('.')}."
                )
        if photo.unchecked is not None:
            yield f"not checked: {photo.written}: {one_line(photo.unchecked)}"
    if told.faceless:
        copied = any(one.outcome is Outcome.no_face and one.written for one in told.photos)
        yield (
            f"no face found in {_counted(told.faceless, 'photo')}: "
            f"{'copied without protection' if copied else 'nothing was written'}. Look there yourself before you share "
            "anything: the detector can miss a face."
        )
    if (skipped := sum(one.outcome is Outcome.exists for one in told.photos)) > 0:
        yield f"{_counted(skipped, 'photo')} skipped, because the result exists; it was not looked at again."
    if told.verify and not {"dodge", "impersonate"} & {str(threat) for threat in told.method.threats}:
        claims = ", ".join(sorted(told.method.threats))
        yield (
            f"{told.method.name} claims {claims}, not that a protected photo is not matched; --verify measures the "
            "latter."
        )
    if told.recognised:
        yield f"gate not met: {told.recognised} of {len(told.checked)} protected faces are still recognised."
    if told.interrupted:
        left = sum(one.outcome is Outcome.not_reached for one in told.photos)
        yield (
            f"interrupted: {_counted(len(told.photos) - left, 'photo')} done, {left} left; give the same command with "
            "--skip-existing to go on."
        )


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _verdicts(results: Sequence[PhotoResult]) -> Iterator[str]:
    """One sentence for each face and recogniser, by the condition in which it recognises best."""
    for one in results:
        for place, face in enumerate(one.faces or (), start=1):
            for name in dict.fromkeys(comparison.recogniser for comparison in face.comparisons):
                worst = max(
                    (comparison for comparison in face.comparisons if comparison.recogniser == name),
                    key=lambda comparison: comparison.similarity,
                )
                yield f"{one.written}, face {place}: {_verdict(worst)}"


def _verdict(worst: Comparison) -> str:
    if worst.matched:
        return (
            f"NOT protected against {worst.recogniser} (similarity {worst.similarity:.3f} >= {worst.threshold:g}, "
            f"{worst.condition})"
        )
    return (
        f"not matched by {worst.recogniser} at this threshold (similarity {worst.similarity:.3f} < "
        f"{worst.threshold:g}, {worst.condition})"
    )


def _as_json(told: Told) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "method": told.method.name,
        "settings": dict(told.method.settings),
        "seed": told.seed,
        "device": told.device,
        "interrupted": told.interrupted,
        "photos": [_photo_as_json(one) for one in told.photos],
        "passed_over": [{"path": one.path, "reason": one.reason} for one in told.passed_over],
        "no_face": told.faceless,
        "all_protected": told.all_protected,
    }
    if told.verify:
        shown["verification"] = {"faces": len(told.checked), "recognised": told.recognised, "limits": LIMITS}
    return shown


def _photo_as_json(one: PhotoResult) -> dict[str, Any]:
    return {
        "file": one.file,
        "result": one.written,
        "outcome": str(one.outcome),
        "protected": one.outcome is Outcome.protected,
        "reason": one.reason,
        "left_out": one.left_out,
        "largest_change_kept": None if one.written is None else one.kind != "JPEG",
        "unchecked": one.unchecked,
        "faces": None if one.faces is None else [_face_as_json(face, one) for face in one.faces],
    }


def _face_as_json(face: FaceResult, photo: PhotoResult) -> dict[str, Any]:
    return {
        "box": [round(value, 1) for value in face.box],
        "eyes_px": round(face.eyes_px, 1),
        "roll_deg": round(face.roll_deg, 1),
        "protected": photo.written is not None and face.reason is None,
        "reason": face.reason,
        "checks": [
            {
                "recogniser": comparison.recogniser,
                "condition": comparison.condition,
                "similarity": comparison.similarity,
                "threshold": comparison.threshold,
                "matched": comparison.matched,
                "found": comparison.found,
            }
            for comparison in face.comparisons
        ],
    }


def show_methods(*, json_output: bool) -> None:
    """Every method that can be named: those that protect first, controls after them, doing nothing last."""
    from protectors.registry import names, registered

    known = sorted((registered(name) for name in names()), key=_rank)
    if json_output:
        print_json({"methods": [_method_as_json(one) for one in known]})
        return
    for one in known:
        claims = ", ".join(sorted(one.about.threats)) or "nothing"
        show(f"{one.about.name}: {one.line}")
        show(f"  source    {one.about.source}")
        show(f"  claims    {claims}{' (control)' if one.about.control else ''}")
        show(f"  needs     {one.about.auxiliary_data}; stores {one.about.stores}")
        show(f"  enrolment {'of the person first' if one.about.person_specific else 'none'}")
        show(f"  usage     {one.usage}")


def _rank(one: Registered) -> int:
    """Order of the list: recommended methods, others, controls, and last what claims nothing."""
    if not one.about.threats:
        return 3
    return 2 if one.about.control else int(not one.about.recommended)


def _method_as_json(one: Registered) -> dict[str, Any]:
    return {
        "name": one.about.name,
        "title": one.about.title,
        "summary": one.line,
        "recommended": one.about.recommended,
        "source": one.about.source,
        "threats": sorted(one.about.threats),
        "auxiliary_data": one.about.auxiliary_data,
        "stores": one.about.stores,
        "presets": one.about.presets,
        "person_specific": one.about.person_specific,
        "additive": one.about.additive,
        "batch_dependent": one.about.batch_dependent,
        "deterministic": one.about.deterministic,
        "control": one.about.control,
        "package": one.package,
        "usage": one.usage,
        "parameters": [
            {"name": p.name, "kind": p.kind.__name__, "required": p.required, "default": p.default}
            for p in one.parameters
        ],
    }
