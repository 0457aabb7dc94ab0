"""Run folders: everything one command made, in one place, written so that a crash never leaves half a file.

Layout of ``runs/<utc>-<verb>-<slug>/``::

    config.toml        the resolved configuration
    environment.json   versions, git commit, processor, threads, seeds, command line
    metrics.jsonl      one JSON object a line
    stages/NAME.json   a finished stage and what it returned; finished stages are skipped on resume
    ...                whatever the job stores (JSON, safetensors, figures, report.html)

The layout and its reasons: docs/decisions/0004-run-folder-and-resume.md.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import json
import os
import re
import secrets
import shutil
import weakref
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pydantic import BaseModel

from ground.files import TEMPORARY, write_all, write_atomic
from ground.jsonable import json_bytes, plain
from optishield.errors import RunError, describe_os_error, one_line
from optishield.run.environment import describe_environment
from optishield.run.settings import differing_keys, load_config, write_config

if TYPE_CHECKING:
    import torch

Model = TypeVar("Model", bound=BaseModel)

CONFIG = "config.toml"
ENVIRONMENT = "environment.json"
METRICS = "metrics.jsonl"
STAGES = "stages"


class RunFolder:
    """One run folder, opened for writing. Fulfils ``ground.protocols.RunStore``.

    Make one with ``create`` or ``resume``. Names of files are relative paths with forward slashes.
    While it is open no other process can resume the same folder; ``close`` or the end of the process frees it.
    """

    def __init__(self, path: Path) -> None:
        """Open an existing folder.

        Raises:
            RunError: the folder is missing, or another run writes to it.
        """
        self._path = path
        with _disk(path):
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
            verb: the command, for example ``train-mask``.
            slug: a few words that tell this run from others.
            config: the resolved configuration.
            command: the command line as typed.
            seeds: every seed of the run by name.
            out: the folder itself; None takes a fresh name inside ``parent``.
            parent: where unnamed runs go.
            now: the time used in the name; None reads the clock.

        Raises:
            RunError: the folder exists and is not empty, or cannot be written.
        """
        moment = now or datetime.now(UTC)
        name = f"{moment:%Y%m%dT%H%M%SZ}-{verb}-{_slug(slug)}"
        target = out if out is not None else parent / name
        with _disk(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            draft = target.parent / f".{secrets.token_hex(6)}.new-run"
            try:
                (draft / STAGES).mkdir(parents=True)
                write_config(draft / CONFIG, config)
                environment = describe_environment(command=command, seeds=seeds, now=moment)
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

        Lines of ``metrics.jsonl`` after the last finished stage are dropped, because that stage runs again.

        Args:
            path: the run folder.
            config: the configuration now asked for; it must equal the stored one.
            command: the command line as typed.
            seeds: every seed of the run by name.
            may_differ: dotted keys that do not change results, for example the number of workers.

        Raises:
            RunError: not a run folder, or a different configuration (the differing keys are named).
        """
        stored = stored_config(path, type(config))
        keys = differing_keys(stored.model_dump(mode="json"), config.model_dump(mode="json"))
        keys = [key for key in keys if key not in may_differ]
        if keys:
            raise RunError(
                f"Cannot resume {path}: its configuration differs in {', '.join(keys)}; "
                "drop those options, or start a new run without --resume."
            )
        run = cls(path)
        run._drop_leftovers()
        number = 1
        while run.has(f"environment-resume-{number}.json"):
            number += 1
        run.write_json(f"environment-resume-{number}.json", describe_environment(command=command, seeds=seeds))
        return run

    # Stages

    def stage_done(self, name: str) -> dict[str, Any] | None:
        """What ``mark_stage`` stored for this stage, or None when the stage has to be done."""
        marker = f"{STAGES}/{_stage_name(name)}.json"
        if not self.has(marker):
            return None
        result = self.read_json(marker)["result"]
        if not isinstance(result, dict):
            raise RunError(f"{self._path / marker} is damaged; delete that file and the stage runs again.")
        return result

    def mark_stage(self, name: str, result: Mapping[str, Any] | None = None) -> None:
        """Declare a stage done, after the metrics logged so far have reached the disk.

        Args:
            name: letters, digits, dot, dash and underscore.
            result: what later stages need to know; returned by ``stage_done``.
        """
        metrics = self._path / METRICS
        size = 0
        if metrics.exists():
            with _disk(metrics):
                handle = os.open(metrics, os.O_RDWR)
                try:
                    os.fsync(handle)
                    size = os.fstat(handle).st_size
                finally:
                    os.close(handle)
        self.write_json(f"{STAGES}/{_stage_name(name)}.json", {"result": dict(result or {}), "metrics_bytes": size})

    # Metrics

    def log_metrics(self, values: Mapping[str, Any]) -> None:
        """Append one line to ``metrics.jsonl``; a line that does not fit on the disk is taken back.

        Raises:
            GroundError: A value that JSON cannot hold; its key is named.
            RunError: The disk is full or read-only.
        """
        line = json.dumps(plain(dict(values), METRICS), ensure_ascii=False, allow_nan=False) + "\n"
        metrics = self._path / METRICS
        with _disk(metrics):
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
        """All whole lines of ``metrics.jsonl``, oldest first; a line cut off by a crash is left out."""
        if not self.has(METRICS):
            return []
        data = (self._path / METRICS).read_bytes()
        return [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]

    def _drop_leftovers(self) -> None:
        """Remove what a stopped run left: temporary files, and metrics of the stage that will run again."""
        with _disk(self._path):
            for leftover in self._path.rglob(TEMPORARY):
                leftover.unlink()
        metrics = self._path / METRICS
        if not metrics.exists():
            return
        markers = (self.read_json(f"{STAGES}/{file.name}") for file in (self._path / STAGES).glob("*.json"))
        keep = max((int(marker["metrics_bytes"]) for marker in markers), default=0)
        with _disk(metrics):
            os.truncate(metrics, min(keep, metrics.stat().st_size))

    # Files

    def has(self, name: str) -> bool:
        """Whether the file exists."""
        return self._inside(name).is_file()

    def write_bytes(self, name: str, data: bytes) -> Path:
        """Store raw bytes, atomically; folders in the name are made.

        Raises:
            RunError: the disk is full or read-only; nothing is left half-written.
        """
        path = self._inside(name)
        with _disk(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, data)
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
            RunError: the file is missing or is not JSON.
        """
        path = self._inside(name)
        with _disk(path):
            data = path.read_bytes()
        try:
            return json.loads(data)
        except ValueError as error:
            raise RunError(f"{path} is damaged ({error}); delete it, then resume the run.") from error

    def write_tensors(
        self, name: str, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None
    ) -> Path:
        """Store tensors as safetensors, atomically.

        Args:
            name: the file, usually ending in ``.safetensors``.
            tensors: any devices and strides; stored contiguous, values and dtypes unchanged.
            metadata: a few texts kept in the header.
        """
        from safetensors.torch import save

        packed = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
        return self.write_bytes(name, save(packed, dict(metadata) if metadata else None))

    def read_tensors(self, name: str) -> dict[str, torch.Tensor]:
        """Load a safetensors file of this folder onto the CPU.

        Raises:
            RunError: the file is missing or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        path = self._inside(name)
        with _disk(path):
            data = path.read_bytes()
        try:
            return load(data)
        except SafetensorError as error:
            raise RunError(f"{path} is damaged ({error}); delete it, then resume the run.") from error

    def _inside(self, name: str) -> Path:
        relative = PurePosixPath(name)
        if not name or relative.is_absolute() or ".." in relative.parts:
            raise RunError(f"{name!r} does not name a file inside the run folder; use a relative path without '..'.")
        return self._path / relative


def stored_config(path: Path, model: type[Model]) -> Model:
    """The configuration that a run folder was made with.

    Raises:
        RunError: the path is not a run folder.
    """
    if not (path / CONFIG).is_file() or not (path / ENVIRONMENT).is_file():
        raise RunError(f"{path} is not a run folder (no {CONFIG} and {ENVIRONMENT}); name a folder that a run made.")
    return load_config(model, toml_path=path / CONFIG)


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


@contextlib.contextmanager
def _disk(path: Path) -> Iterator[None]:
    """Turn errors of the operating system into one sentence; nothing half-written remains (see ``write_atomic``)."""
    try:
        yield
    except OSError as error:
        named = error if error.filename else OSError(error.errno, error.strerror, str(path))
        raise RunError(one_line(describe_os_error(named))) from error


def _stage_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise RunError(f"{name!r} cannot name a stage; use letters, digits, dot, dash and underscore.")
    return name


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40] or "run"
