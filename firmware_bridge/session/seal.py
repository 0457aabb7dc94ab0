"""Sealed sessions: a manifest that binds every frame to plan, bench, firmware, calibrations and origin.

The manifest is canonical JSON, the same for the same frames whether the session was interrupted or not. Its Merkle root
is that of RFC 6962, section 2.1, over the canonical JSON of the records in their order. The journal's last line holds
the hash of the manifest. Whoever uses frames opens a session by :func:`load_sealed`, which refuses one without a seal.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from firmware_bridge.errors import SessionError
from firmware_bridge.protocols import Levels
from firmware_bridge.session.files import canonical_json, has_sha256, parse_model, sha256_hex, write_durably
from firmware_bridge.session.folder import (
    FRAMES,
    JOURNAL,
    MANIFEST,
    FrameRecord,
    Header,
    read_header,
    replay,
)
from firmware_bridge.session.frames import read_frame
from firmware_bridge.session.journal import Entry, Journal, read_journal
from firmware_bridge.session.setting import PATTERNS
from ground.files import TEMPORARY
from ground.gates import Gate


class Manifest(BaseModel):
    """What is sealed.

    Attributes:
        session: Its settings.
        frames: Its frames in their order.
        merkle_root: Hash over all frames; see the head of this file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    session: Header
    frames: tuple[FrameRecord, ...]
    merkle_root: str

    def as_bytes(self) -> bytes:
        """The file."""
        return canonical_json(self.model_dump(mode="json")) + b"\n"


@dataclass(frozen=True)
class Sealed:
    """A sealed session.

    Attributes:
        folder: Where it is.
        manifest: What was sealed.
        sha256: Hash of the manifest, by which the session can be cited.
    """

    folder: Path
    manifest: Manifest
    sha256: str

    @property
    def origin(self) -> str:
        """Where all frames come from: "bench", "emulated", "simulated"; or "mixed"."""
        return self.manifest.session.origin

    def read(self, record: FrameRecord) -> Levels:
        """Values of a frame, (H, W) uint8 or uint16, read-only.

        Raises:
            SessionError: The file is not the sealed one, or does not hold what its record says.
        """
        levels = read_frame(self.folder / record.file, record.sha256)
        if levels.shape != record.shape or levels.dtype.name != record.dtype:
            raise SessionError(
                f"the frame {record.file} holds {levels.shape} values of {levels.dtype}, its record says "
                f"{record.shape} of {record.dtype}; use a copy of the session."
            )
        return levels


def merkle_root(leaves: Sequence[bytes]) -> str:
    """Merkle tree hash of RFC 6962, section 2.1, as 64 hexadecimal digits."""
    return _tree(leaves).hex()


def _tree(leaves: Sequence[bytes]) -> bytes:
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    left = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + _tree(leaves[:left]) + _tree(leaves[left:])).digest()


def _root(frames: Sequence[FrameRecord]) -> str:
    return merkle_root([canonical_json(record.model_dump(mode="json")) for record in frames])


def seal(folder: Path, *, wall: Callable[[], float] = time.time) -> Sealed:
    """Seal a session whose frames are all there; may be called again.

    Args:
        folder: Folder of the session.
        wall: Wall clock, in s since 1970.

    Raises:
        SessionError: Frames are missing or damaged, or another process works on it.
    """
    with Journal(folder / JOURNAL, wall) as journal:
        header = read_header(folder, journal.lines)
        done = replay(journal.lines)
        order = header.shots()
        missing = [shot.key for shot in order if shot.key not in done or not done[shot.key].is_of(shot)]
        if missing:
            raise SessionError(
                f"{len(missing)} of {len(order)} frames of {folder} are missing, the first is {missing[0]}; resume the "
                "session, then seal it."
            )
        frames = tuple(done[shot.key] for shot in order)
        for check in (_frames_check(folder, frames), _patterns_check(folder, header), _no_others(folder, frames)):
            if not check.passed:
                raise SessionError(f"{folder} cannot be sealed: {check.reason}; resume the session, then seal it.")
        # What a process that was killed while it wrote has left.
        for left in folder.glob(TEMPORARY):
            left.unlink()
        text = Manifest(session=header, frames=frames, merkle_root=_root(frames)).as_bytes()
        digest = sha256_hex(text)
        if journal.lines[-1].kind is not Entry.seal:
            journal.add(Entry.seal, [{"manifest": digest}])
        elif journal.lines[-1].body.get("manifest") != digest:
            raise SessionError(f"{folder} was sealed with other frames than are here; use a copy of the session.")
        try:
            write_durably(folder / MANIFEST, text)
        except OSError as error:
            raise SessionError(f"the manifest cannot be written: {error}; make space, then seal again.") from error
    return load_sealed(folder)


def load_sealed(folder: Path) -> Sealed:
    """Open a sealed session. Frames are checked when they are read; :func:`verify` checks all of them.

    Raises:
        SessionError: It is not sealed, or not what was sealed.
    """
    for check in _structure(folder):
        if not check.passed:
            raise SessionError(f"{folder} cannot be used: {check.reason}.")
    data = (folder / MANIFEST).read_bytes()
    return Sealed(folder, parse_model(data, Manifest, str(folder / MANIFEST)), sha256_hex(data))


def verify(folder: Path) -> list[Gate]:
    """Check everything that a seal promises; stops after a check without which the next make no sense."""
    checks = list(_structure(folder))
    if not all(check.passed for check in checks):
        return checks
    manifest = load_sealed(folder).manifest
    return [
        *checks,
        _frames_check(folder, manifest.frames),
        _patterns_check(folder, manifest.session),
        _no_others(folder, manifest.frames),
    ]


def _structure(folder: Path) -> Iterator[Gate]:
    """Checks that need no frame; ends with the first that fails."""
    try:
        data = (folder / MANIFEST).read_bytes()
    except OSError:
        yield Gate("sealed", False, "it has no manifest, so it is not sealed; resume it, then seal it")
        return
    yield Gate("sealed", True, f"manifest {sha256_hex(data)}")
    try:
        lines, whole = read_journal(folder / JOURNAL)
        header = read_header(folder, lines)
        done = replay(lines)
        manifest = parse_model(data, Manifest, str(folder / MANIFEST))
    except SessionError as error:
        yield Gate("journal", False, str(error).rstrip("."))
        return
    yield Gate("journal", True, f"{len(lines)} lines in one chain")
    last = lines[-1]
    bound = last.kind is Entry.seal and last.body.get("manifest") == sha256_hex(data)
    bound = bound and whole == (folder / JOURNAL).stat().st_size
    yield Gate("seal", bound, "the journal ends with the hash of the manifest" if bound else _UNBOUND)
    if not bound:
        return
    order = header.shots()
    whole_plan = (
        manifest.session == header
        and len(manifest.frames) == len(order)
        and all(record.is_of(shot) for record, shot in zip(manifest.frames, order, strict=True))
        and all(done.get(record.key) == record for record in manifest.frames)
        and _root(manifest.frames) == manifest.merkle_root
    )
    yield Gate(
        "frames of the plan",
        whole_plan,
        f"{len(order)} frames, Merkle root {manifest.merkle_root}"
        if whole_plan
        else "manifest, plan and journal name different frames; use a copy of the session",
    )
    if not whole_plan:
        return
    linked = [name for name in (FRAMES, PATTERNS) if (folder / name).is_symlink()]
    if linked:
        yield Gate("own folders", False, f"{linked[0]} is a link that leads out of the session; use a copy of it")
        return
    odd = [record.key for record in manifest.frames if header.origin not in ("mixed", record.origin)]
    yield Gate("origin", not odd, f"{odd[0]} is not {header.origin}" if odd else header.origin)


_UNBOUND = "the journal does not end with the hash of this manifest; use a copy of the session"


def _frames_check(folder: Path, frames: Sequence[FrameRecord]) -> Gate:
    return _hashes("frames", folder, {record.file: record.sha256 for record in frames})


def _patterns_check(folder: Path, header: Header) -> Gate:
    return _hashes("patterns", folder, {f"{PATTERNS}/{name}.npy": sha256 for name, sha256 in header.patterns.items()})


def _hashes(name: str, folder: Path, wanted: dict[str, str]) -> Gate:
    wrong = [file for file, sha256 in wanted.items() if not has_sha256(folder / file, sha256)]
    if wrong:
        return Gate(
            name, False, f"{len(wrong)} of {len(wanted)} {name} are missing or changed, the first is {wrong[0]}"
        )
    return Gate(name, True, f"{len(wanted)} files have their hashes")


def _no_others(folder: Path, frames: Sequence[FrameRecord]) -> Gate:
    known = {record.file for record in frames}
    others = sorted(
        f"{FRAMES}/{path.name}"
        for path in (folder / FRAMES).iterdir()
        if f"{FRAMES}/{path.name}" not in known and not path.name.endswith(".tmp")
    )
    if others:
        return Gate("nothing else", False, f"{len(others)} files belong to no frame, the first is {others[0]}")
    return Gate("nothing else", True, "every file of a frame is in the manifest")
