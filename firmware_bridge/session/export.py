"""Copies of sealed sessions for other programs: HDF5 in the layout of NeXus, and TIFF. The session itself stays.

Both carry the manifest and its hash, so that a copy can be traced to the session. NeXus: https://www.nexusformat.org,
classes NXroot, NXentry, NXinstrument, NXdetector, NXdata.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from firmware_bridge.errors import SessionError
from firmware_bridge.session.files import canonical_json, sync_folder
from firmware_bridge.session.folder import FrameRecord
from firmware_bridge.session.seal import Sealed
from ground.files import writing


def to_nexus(sealed: Sealed, path: Path) -> None:
    """Write all frames as one (N, H, W) stack into an HDF5 file, compressed, one chunk a frame.

    Beside the stack, ``/entry/instrument/detector`` holds exposure and gain of each frame, and ``/entry/frames`` key,
    role, step, SHA-256, pattern id, share of the light and position; -1 and NaN stand for devices that are not there.

    Args:
        sealed: Session to copy.
        path: File to write; must not exist.

    Raises:
        SessionError: The file exists or cannot be written, or h5py is missing.
    """
    h5py = _import("h5py")
    _write(path, lambda temporary: _nexus(h5py, sealed, temporary))


def to_tiff(sealed: Sealed, path: Path) -> None:
    """Write all frames as pages of one TIFF, in their order; the description of a page is the record of its frame.

    The first description holds SHA-256 of the manifest too.

    Args:
        sealed: Session to copy.
        path: File to write; must not exist.

    Raises:
        SessionError: The file exists or cannot be written, or tifffile is missing.
    """
    tifffile = _import("tifffile")
    _write(path, lambda temporary: _tiff(tifffile, sealed, temporary))


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise SessionError(f"this export needs {name}; install the extra: pip install 'optishield[export]'.") from error


def _write(path: Path, write: Callable[[Path], None]) -> None:
    """Whole or not at all, never over another file, not even one that appears meanwhile."""
    try:
        with writing(path) as temporary:
            write(temporary)
        sync_folder(path.parent)
    except FileExistsError as error:
        raise SessionError(f"{path} exists already; name another file.") from error
    except OSError as error:
        why = error.strerror or error
        raise SessionError(f"{path} cannot be written ({why}); free space, or name another file.") from error


def _nexus(h5py: Any, sealed: Sealed, path: Path) -> None:
    frames, session = sealed.manifest.frames, sealed.manifest.session
    with h5py.File(path, "w") as file:
        file.attrs["NX_class"], file.attrs["default"] = "NXroot", "entry"

        def group(name: str, kind: str) -> Any:
            made = file.create_group(name)
            made.attrs["NX_class"] = kind
            return made

        entry = group("entry", "NXentry")
        entry.attrs["default"] = "data"
        entry["title"], entry["origin"] = session.plan.name, sealed.origin
        entry["manifest"], entry["manifest_sha256"] = sealed.manifest.as_bytes().decode("utf-8"), sealed.sha256
        group("entry/instrument", "NXinstrument")["name"] = session.bench.name
        detector = group("entry/instrument/detector", "NXdetector")
        camera = session.devices["camera"]
        detector["model"], detector["serial_number"] = camera["model"], camera["serial"]
        stack = detector.create_dataset(
            "data",
            (len(frames), *frames[0].shape),
            frames[0].dtype,
            chunks=(1, *frames[0].shape),
            compression="gzip",
            compression_opts=1,
            shuffle=True,
            fletcher32=True,
        )
        for record in frames:
            stack[record.index] = sealed.read(record)
        _column(detector, "count_time", [record.settings.exposure_s for record in frames], "s")
        _column(detector, "gain", [record.settings.gain_db for record in frames], "dB")
        data = group("entry/data", "NXdata")
        data.attrs["signal"] = "data"
        data["data"] = h5py.SoftLink(stack.name)
        table = group("entry/frames", "NXcollection")
        for name in ("key", "role", "step", "sha256"):
            table[name] = [str(getattr(record, name)) for record in frames]
        table["pattern_id"] = np.array([-1 if one.pattern_id is None else one.pattern_id for one in frames], np.int64)
        _column(table, "light_share", [_number(record.light_share) for record in frames], "")
        _column(table, "position", [_number(record.position_m) for record in frames], "m")


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _column(group: Any, name: str, values: list[float], units: str) -> None:
    group[name] = np.array(values)
    if units:
        group[name].attrs["units"] = units


def _tiff(tifffile: Any, sealed: Sealed, path: Path) -> None:
    frames = sealed.manifest.frames
    size = sum(record.shape[0] * record.shape[1] * np.dtype(record.dtype).itemsize for record in frames)
    # Beyond 4 GB a TIFF needs the larger offsets of BigTIFF; 5 % are kept for descriptions.
    with tifffile.TiffWriter(path, bigtiff=size > 0.95 * 2**32) as writer:
        for record in frames:
            writer.write(
                sealed.read(record),
                photometric="minisblack",
                contiguous=False,
                metadata=None,
                description=_description(sealed, record),
            )


def _description(sealed: Sealed, record: FrameRecord) -> bytes:
    content = record.model_dump(mode="json")
    return canonical_json({**content, "manifest_sha256": sealed.sha256} if record.index == 0 else content)
