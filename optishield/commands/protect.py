"""``optishield protect``: protects photos of people, says which faces were left out, and checks the result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from optishield.console import Json, Quiet, print_json, print_table, say, show
from optishield.errors import ConfigError, ExitCode, UsageError, one_line

if TYPE_CHECKING:
    from faces.protection import Declaration, Protector
    from photos.protection import FaceResult, PhotoResult


def protect(
    paths: Annotated[list[Path] | None, typer.Argument(metavar="PATH...", help="Photos, or folders of photos.")] = None,
    method: Annotated[
        str | None, typer.Option(metavar="NAME[:KEY=VALUE,..]", help="How to protect; see --list.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the results.")] = None,
    enrolment: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A person's enrolment, made by optishield enroll.")
    ] = None,
    strip_gps: Annotated[bool, typer.Option("--strip-gps", help="Leave the place out of the results.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare results and originals by recognisers that the method did not use.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    list_methods: Annotated[bool, typer.Option("--list", help="Show the methods and stop.")] = False,
    json_output: Json = False,
    quiet: Quiet = False,
) -> None:
    """Protect every face of photos; the originals stay as they are.

    Nothing is written for a photo without a face. Exit code 6: a photo or a face was left unprotected; 5: with
    --verify, a recogniser still matches.
    """
    if list_methods:
        _show_methods(json_output)
        return
    if out is None:
        raise UsageError("No folder for the results is named; add --out DIR.")
    from photos.files import pillow
    from photos.paths import destinations, photos_in

    pillow()
    photos = destinations(photos_in(paths or []), paths or [], out)
    protector, px = _protector(method, enrolment)
    if verify:
        _refuse_absent_weights(protector.declaration)

    import torch

    from faces.detection import FaceDetector
    from optishield.progress import choose_progress
    from photos.protection import PhotoProtection
    from photos.verification import Verifier, judges

    detector = FaceDetector()
    protection = PhotoProtection(
        protector, detector, torch.Generator().manual_seed(seed), px=px, person=None if enrolment is None else 0,
        strip_gps=strip_gps, verifier=Verifier(judges(protector.declaration), detector) if verify else None,
    )  # fmt: skip
    results = protection.run(photos, choose_progress(quiet=quiet))
    _finish(results, protector.declaration, seed, verify=verify, json_output=json_output)


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


def _refuse_absent_weights(method: Declaration) -> None:
    from faces.weights import cached_path, default_cache
    from photos.verification import judges

    absent = [name for name in judges(method) if not cached_path(name).is_file()]
    if absent:
        raise ConfigError(
            f"--verify needs the weights {', '.join(absent)}, which are not in {default_cache()}; "
            f"run: optishield weights fetch {' '.join(absent)}"
        )


def _finish(results: Sequence[PhotoResult], method: Declaration, seed: int, *, verify: bool, json_output: bool) -> None:
    """Show the result, name what was left unprotected or is still recognised, and end with the exit code."""
    from photos.verification import LIMITS

    checked = [face for one in results for face in one.faces if face.checks]
    recognised = [face for face in checked if any(check.matched for check in face.checks)]
    if json_output:
        print_json(_told(results, method, seed, verify, len(checked), len(recognised)))
    else:
        rows = [
            (
                str(one.file), str(len(one.faces)), str(sum(face.reason is None for face in one.faces))
                if one.written else "0", str(one.written or "nothing written"),
            )
            for one in results
        ]  # fmt: skip
        print_table(("photo", "faces", "protected", "result"), rows)
        if verify:
            for line in _verdicts(results):
                show(line)
            show(LIMITS, lines=True)
    for one in results:
        if one.reason is not None:
            say(f"NOT PROTECTED: {one_line(one.reason)}")
        elif not one.protected:
            for place, face in enumerate(one.faces, start=1):
                if face.reason is not None:
                    say(f"NOT PROTECTED: face {place} of {len(one.faces)} in {one.written}: {face.reason}.")
    if verify and not {"dodge", "impersonate"} & {str(threat) for threat in method.threats}:
        claims = ", ".join(sorted(method.threats))
        say(f"{method.name} claims {claims}, not that a protected photo is not matched; --verify measures the latter.")
    if not all(one.protected for one in results):
        raise typer.Exit(ExitCode.UNPROTECTED)
    if recognised:
        say(f"gate not met: {len(recognised)} of {len(checked)} protected faces are still recognised.")
        raise typer.Exit(ExitCode.GATE)


def _verdicts(results: Sequence[PhotoResult]) -> list[str]:
    """One sentence for each face and recogniser, by the condition in which it recognises best."""
    lines = []
    for one in results:
        for place, face in enumerate(one.faces, start=1):
            for name in dict.fromkeys(check.recogniser for check in face.checks):
                worst = max(
                    (check for check in face.checks if check.recogniser == name), key=lambda check: check.similarity
                )
                said = (
                    f"NOT protected against {name} (similarity {worst.similarity:.3f} >= {worst.threshold:g}"
                    if worst.matched
                    else f"not matched by {name} at this threshold (similarity {worst.similarity:.3f} < "
                    f"{worst.threshold:g}"
                )
                lines.append(f"{one.written}, face {place}: {said}, {worst.condition})")
    return lines


def _told(
    results: Sequence[PhotoResult], method: Declaration, seed: int, verify: bool, checked: int, recognised: int
) -> dict[str, Any]:
    from photos.verification import LIMITS

    told: dict[str, Any] = {
        "method": method.name,
        "settings": dict(method.settings),
        "seed": seed,
        "photos": [
            {
                "file": one.file,
                "result": one.written,
                "protected": one.protected,
                "reason": one.reason,
                "left_out": one.left_out,
                "faces": [_told_face(face, one.written is not None) for face in one.faces],
            }
            for one in results
        ],
        "all_protected": all(one.protected for one in results),
    }
    if verify:
        told["verification"] = {"faces": checked, "recognised": recognised, "limits": LIMITS}
    return told


def _told_face(face: FaceResult, written: bool) -> dict[str, Any]:
    return {
        "box": [round(value, 1) for value in face.box],
        "eyes_px": round(face.eyes_px, 1),
        "protected": written and face.reason is None,
        "reason": face.reason,
        "checks": [
            {
                "recogniser": check.recogniser,
                "condition": check.condition,
                "similarity": check.similarity,
                "threshold": check.threshold,
                "matched": check.matched,
                "found": check.found,
            }
            for check in face.checks
        ],
    }


def _show_methods(json_output: bool) -> None:
    from protectors.registry import names, registered

    known = [registered(name) for name in names()]
    if not json_output:
        for one in known:
            show(f"{one.about.name}: {one.line}")
            show(f"  source    {one.about.source}")
            claims = ", ".join(sorted(one.about.threats)) or "nothing"
            show(f"  claims    {claims}{' (control)' if one.about.control else ''}")
            show(f"  needs     {one.about.auxiliary_data}; stores {one.about.stores}")
            show(f"  enrolment {'of the person first' if one.about.person_specific else 'none'}")
            show(f"  usage     {one.usage}")
        return
    methods = [
        {
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
        for one in known
    ]
    print_json({"methods": methods})
