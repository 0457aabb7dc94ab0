"""Run folders: everything one command made, in one place, written so that a crash never leaves half a file.

Layout of ``runs/<utc>-<verb>-<slug>/``::

    config.toml        the resolved configuration; a copy that was changed is not taken for it
    environment.json   versions, git commit, processor, threads, seeds, command line, hash of config.toml
    metrics.jsonl      one JSON object a line
    stages/NAME.json   a finished stage, what it returned and wrote; finished stages are skipped on resume
    ...                whatever the job stores (JSON, safetensors, figures, report.html)

The layout and its reasons: docs/decisions/0004-run-folder-and-resume.md.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import itertools
import json
import os
import re
import secrets
import shutil
import weakref
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pydantic import BaseModel

from ground.errors import GroundError
from ground.files import TEMPORARY, write_all, write_atomic
from ground.jsonable import json_bytes, plain
from ground.parse import json_of
from optishield.errors import RunError
from optishield.run.environment import describe_environment
from optishield.run.markers import Marker, check_file, check_hash, check_presence, disk, parse_json, read_json
from optishield.run.settings import differing_keys, load_config, write_config

if TYPE_CHECKING:
    import torch

Model = TypeVar("Model", bound=BaseModel)

CONFIG = "config.toml"
ENVIRONMENT = "environment.json"
METRICS = "metrics.jsonl"
STAGES = "stages"
CONFIG_HASH = "config_sha256"


class RunFolder:
    """One run folder, opened for writing. Fulfils ``ground.protocols.RunStore``.

    Make one with ``create`` or ``resume``. Names of files are relative paths with forward slashes.
    While it is open no other process can resume the same folder; ``close`` or the end of the process frees it.
    """

    def __init__(self, path: Path) -> None:
        """Open an existing folder.

        Raises:
            RunError: The folder is missing, or another run writes to it.
        """
        self._path = path
        self._written: dict[str, str] = {}
        with disk(path):
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            self._release = weakref.finalize(self, os.close, handle)
            try:
                # A lock on the folder itself: nothing to clean up after a crash.
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunError(f"{path} is in use by another run; wait until it ends, or stop it.") from error

    def close(self) -> None:
        """Let others resume the folder."""
        self._release()

    @property
    def path(self) -> Path:
        """The folder."""
        return self._path

    @classmethod
    def create(
        cls,
        *,
        verb: str,
        slug: str,
        config: BaseModel,
        command: list[str],
        seeds: Mapping[str, int],
        out: Path | None = None,
        parent: Path = Path("runs"),
        now: datetime | None = None,
    ) -> Self:
        """Make a new run folder with its configuration and environment; it appears whole or not at all.

        Args:
            verb: The command, for example ``train-mask``.
            slug: A few words that tell this run from others.
            config: The resolved configuration.
            command: The command line as typed.
            seeds: Every seed of the run by name.
            out: The folder itself; None takes a fresh name inside ``parent``.
            parent: Where unnamed runs go.
            now: The time used in the name; None reads the clock.

        Raises:
            RunError: The folder exists and is not empty, or cannot be written.
        """
        moment = now or datetime.now(UTC)
        name = f"{moment:%Y%m%dT%H%M%SZ}-{verb}-{_slug(slug)}"
        target = out if out is not None else parent / name
        with disk(target, hidden=True):
            target.parent.mkdir(parents=True, exist_ok=True)
            draft = target.parent / f".{secrets.token_hex(6)}.new-run"
            try:
                (draft / STAGES).mkdir(parents=True)
                write_config(draft / CONFIG, config)
                environment = {
                    **describe_environment(command=command, seeds=seeds, now=moment),
                    CONFIG_HASH: _config_hash(draft),
                }
                write_atomic(draft / ENVIRONMENT, json_bytes(environment, ENVIRONMENT))
                target = _give_name(draft, target, numbered=out is None)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        return cls(target)

    @classmethod
    def resume(
        cls,
        path: Path,
        *,
        config: BaseModel,
        command: list[str],
        seeds: Mapping[str, int],
        may_differ: Collection[str] = (),
    ) -> Self:
        """Open an existing run folder to go on where it stopped.

        Lines of ``metrics.jsonl`` after the last finished stage are dropped, because that stage runs again. What the
        finished stages wrote is looked at before anything is computed.

        Args:
            path: The run folder.
            config: The configuration now asked for; it must equal the stored one.
            command: The command line as typed.
            seeds: Every seed of the run by name.
            may_differ: Dotted keys that do not change results, for example the number of workers.

        Raises:
            RunError: It is not a run folder, the configuration is another one (the differing keys are named), or a file
                of a finished stage is missing or damaged.
        """
        stored = stored_config(path, type(config))
        keys = differing_keys(stored.model_dump(mode="json"), config.model_dump(mode="json"))
        keys = [key for key in keys if key not in may_differ]
        if keys:
            raise RunError(
                f"Cannot resume {path}: its configuration differs in {', '.join(keys[:6])}"
                f"{f' and {len(keys) - 6} more keys' if len(keys) > 6 else ''}; "
                "drop those options, or start a new run without --resume."
            )
        run = cls(path)
        check_stages(path)
        run._drop_leftovers()
        number = 1
        while run.has(f"environment-resume-{number}.json"):
            number += 1
        run.write_json(f"environment-resume-{number}.json", describe_environment(command=command, seeds=seeds))
        return run

    # Stages

    def stage_done(self, name: str) -> dict[str, Any] | None:
        """What ``mark_stage`` stored for this stage, or None when the stage has to be done."""
        marker = self._marker(name)
        return Marker.read(marker).result if marker.is_file() else None

    def _marker(self, stage: str) -> Path:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", stage):
            raise RunError(f"{stage!r} cannot name a stage; use letters, digits, dot, dash and underscore.")
        return self._path / STAGES / f"{stage}.json"

    def _noted(self, name: str) -> tuple[str | None, str]:
        """The hash of a file that was written, where it is known, and what to do about one that is damaged."""
        stages = ((_again(marker), stage) for marker, stage in _finished(self._path).items() if name in stage.files)
        advice, sha256 = next(
            ((advice, stage.files[name]) for advice, stage in stages), ("resume the run, which writes it again.", None)
        )
        return self._written.get(name, sha256), advice

    def _read(self, name: str) -> tuple[Path, bytes, str]:
        """A file, its content as it was written, and what to do about one that is damaged.

        Raises:
            RunError: The file is missing or another one.
        """
        path, (sha256, advice) = self._inside(name), self._noted(name)
        check_presence(path, advice)
        with disk(path):
            data = path.read_bytes()
        check_hash(path, hashlib.sha256(data).hexdigest(), sha256, advice)
        return path, data, advice

    def mark_stage(self, name: str, result: Mapping[str, Any] | None = None) -> None:
        """Declare a stage done, after the metrics logged so far have reached the disk.

        Args:
            name: Letters, digits, dot, dash and underscore.
            result: What later stages need to know; returned by ``stage_done``.
        """
        metrics = self._path / METRICS
        size = 0
        if metrics.exists():
            with disk(metrics):
                handle = os.open(metrics, os.O_RDWR)
                try:
                    os.fsync(handle)
                    size = os.fstat(handle).st_size
                finally:
                    os.close(handle)
        marker = self._marker(name)
        files = {file: sha256 for file, sha256 in sorted(self._written.items()) if self._inside(file).is_file()}
        finished = Marker(plain(dict(result or {}), marker.name), size, files)
        self.write_json(f"{STAGES}/{marker.name}", finished.to_json())
        self._written.clear()

    # Metrics

    def log_metrics(self, values: Mapping[str, Any]) -> None:
        """Append one line to ``metrics.jsonl``; a line that does not fit on the disk is taken back.

        Raises:
            GroundError: A value that JSON cannot hold; its key is named.
            RunError: The disk is full or read-only.
        """
        line = json.dumps(plain(dict(values), METRICS), ensure_ascii=False, allow_nan=False) + "\n"
        metrics = self._path / METRICS
        with disk(metrics):
            handle = os.open(metrics, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            before = os.fstat(handle).st_size
            try:
                write_all(handle, line.encode("utf-8"))
            except OSError:
                os.ftruncate(handle, before)
                raise
            finally:
                os.close(handle)

    def read_metrics(self) -> list[dict[str, Any]]:
        """All whole lines of ``metrics.jsonl``, oldest first; a line cut off by a crash is left out.

        Raises:
            RunError: A line is damaged.
        """
        if not self.has(METRICS):
            return []
        path = self._path / METRICS
        with disk(path):
            data = path.read_bytes()
        try:
            lines = data[: data.rfind(b"\n") + 1].split(b"\n")[:-1]
            return [json_of(line, f"{path}, line {number},") for number, line in enumerate(lines, 1)]
        except GroundError as error:
            raise RunError(str(error)) from error

    def _drop_leftovers(self) -> None:
        """Remove what a stopped run left: temporary files, and metrics of the stage that will run again."""
        with disk(self._path):
            for leftover in self._path.rglob(TEMPORARY):
                leftover.unlink()
        metrics = self._path / METRICS
        if not metrics.exists():
            return
        keep = max((stage.metrics_bytes for stage in _finished(self._path).values()), default=0)
        with disk(metrics):
            os.truncate(metrics, min(keep, metrics.stat().st_size))

    # Files

    def has(self, name: str) -> bool:
        """Whether the file exists."""
        return self._inside(name).is_file()

    def write_bytes(self, name: str, data: bytes) -> Path:
        """Store raw bytes, atomically; folders in the name are made.

        Raises:
            RunError: The disk is full or read-only; nothing is left half-written.
        """
        path = self._inside(name)
        with disk(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, data)
        self._written[name] = hashlib.sha256(data).hexdigest()
        return path

    def write_text(self, name: str, text: str) -> Path:
        """Store UTF-8 text, atomically."""
        return self.write_bytes(name, text.encode("utf-8"))

    def write_json(self, name: str, value: Any) -> Path:
        """Store JSON, atomically; see ``ground.jsonable.plain`` for what becomes of numpy, torch and NaN.

        Raises:
            GroundError: A value that JSON cannot hold; its key is named.
            RunError: The disk is full or read-only.
        """
        return self.write_bytes(name, json_bytes(value, name))

    def read_json(self, name: str) -> Any:
        """Load a JSON file of this folder.

        Raises:
            RunError: The file is missing, is not JSON, or not what the run wrote.
        """
        path, data, advice = self._read(name)
        return parse_json(path, data, advice)

    def write_tensors(
        self, name: str, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None
    ) -> Path:
        """Store tensors as safetensors, atomically.

        Args:
            name: The file, usually ending in ``.safetensors``.
            tensors: Of any device and stride; stored contiguous, values and dtypes unchanged.
            metadata: A few texts kept in the header.
        """
        from safetensors.torch import save

        packed = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
        return self.write_bytes(name, save(packed, dict(metadata) if metadata else None))

    def read_tensors(self, name: str) -> dict[str, torch.Tensor]:
        """Load a safetensors file of this folder onto the CPU.

        Raises:
            RunError: The file is missing, damaged, or not what the run wrote.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        path, data, advice = self._read(name)
        try:
            return load(data)
        except SafetensorError as error:
            raise RunError(f"{path} is damaged ({error}); {advice}") from error

    def _inside(self, name: str) -> Path:
        return _inside(self._path, name)


def _inside(folder: Path, name: str) -> Path:
    relative = PurePosixPath(name)
    if not name or relative.is_absolute() or ".." in relative.parts:
        raise RunError(f"{name!r} does not name a file inside the run folder; use a relative path without '..'.")
    return folder / relative


def check_stages(path: Path) -> None:
    """Look at what the finished stages of a run wrote, so that nothing rests on a file that was damaged or changed.

    A file that is no longer there may have been taken away by a later stage; whoever reads it says so.

    Args:
        path: The run folder.

    Raises:
        RunError: A file is not the one that the run wrote, or a marker was edited.
    """
    for marker, stage in _finished(path).items():
        for name, sha256 in stage.files.items():
            if (file := _inside(path, name)).exists():
                check_file(file, sha256, _again(marker))


def _finished(path: Path) -> dict[Path, Marker]:
    """The finished stages of a run by their markers."""
    return {marker: Marker.read(marker) for marker in sorted((path / STAGES).glob("*.json"))}


def stored_config(path: Path, model: type[Model]) -> Model:
    """The configuration that a run folder was made with.

    Raises:
        RunError: The path is not a run folder, or its configuration was changed after the run began.
        ConfigError: The configuration does not fit the model.
    """
    if not (path / CONFIG).is_file() or not (path / ENVIRONMENT).is_file():
        raise RunError(f"{path} is not a run folder (no {CONFIG} and {ENVIRONMENT}); name a folder that a run made.")
    environment = read_json(path / ENVIRONMENT, "start a new run.")
    # Runs of earlier versions kept no hash.
    known = environment.get(CONFIG_HASH) if isinstance(environment, dict) else ""
    if known is not None and known != _config_hash(path):
        raise RunError(
            f"{path / CONFIG} is not what the run began with ({ENVIRONMENT} holds another hash of it); undo the "
            f"change, or start a new run with --config {path / CONFIG}."
        )
    return load_config(model, toml_path=path / CONFIG)


def _config_hash(folder: Path) -> str:
    with disk(folder / CONFIG):
        return hashlib.sha256((folder / CONFIG).read_bytes()).hexdigest()


def _again(marker: Path) -> str:
    return f"put it back, or delete {marker}, and the stage that wrote it runs again."


def _give_name(draft: Path, target: Path, *, numbered: bool) -> Path:
    """Rename the finished draft; the rename fails on an occupied name, so two runs never share a folder."""
    for number in itertools.count(2):
        try:
            # An empty folder may be replaced (POSIX), a file or a filled folder may not.
            os.rename(draft, target)
        except OSError as error:
            if error.errno == errno.ENOTDIR:
                raise RunError(f"{target} is a file; name a folder with --out.") from error
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            if not numbered:
                resume = f"continue it with --resume {target}, or " if (target / CONFIG).exists() else ""
                raise RunError(f"{target} is not empty; {resume}name another folder with --out.") from error
            target = target.with_name(f"{re.sub(r'~[0-9]+$', '', target.name)}~{number}")
        else:
            return target
    raise AssertionError("itertools.count does not end")


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40] or "run"
