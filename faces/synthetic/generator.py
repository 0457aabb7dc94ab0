"""Generate sets of synthetic heads, in parallel if wanted, with a verified cache on disk."""

from __future__ import annotations

import hashlib
import json
import logging
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import joblib
import numpy as np
import torch

from faces.errors import FacesError
from faces.samples import FaceSet
from faces.synthetic.asset import load_asset
from faces.synthetic.batch import Batch, render_identity
from ground.files import writing

log = logging.getLogger(__name__)

#: Raised whenever the same arguments give other bits.
GENERATOR_VERSION = 5
SMALLEST, LARGEST = 32, 256
LICENCE = "CC0-1.0 (rendered from MakeHuman data, see faces/assets/README.md)"

Arrays = dict[str, np.ndarray]


def generate(
    n_identities: int,
    captures: int,
    *,
    size: int = 64,
    seed: int = 0,
    first_identity: int = 0,
    workers: int = 1,
    cache_dir: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    regions: bool = False,
) -> FaceSet:
    """Render people ``first_identity .. first_identity + n_identities - 1`` of a seed.

    Person ``k`` looks the same whatever the other arguments; so does capture ``j`` of a person. Shape and paint belong
    to the person; pose, expression, gaze, light, distance, backdrop, clothes and exposure belong to the capture.
    The images carry no sensor noise.

    Args:
        n_identities: Number of people, at least 1.
        captures: Pictures of each, at least 1.
        size: Width and height in pixels, 32 .. 256.
        seed: Names the population; non-negative.
        first_identity: Number of the first person; non-negative.
        workers: Processes; the result does not depend on it.
        cache_dir: Keep the set there and read it back next time. A damaged file is made anew, with a logged warning.
        progress: Called with (images done, images in total).
        regions: Also return masks of skin, lips, eyes and lids.

    Returns:
        The set, ordered by identity, then capture.

    Raises:
        FacesError: If an argument is out of range, or the cache folder cannot be written.
    """
    for name, value, low, high in (
        ("n_identities", n_identities, 1, None),
        ("captures", captures, 1, None),
        ("size", size, SMALLEST, LARGEST),
        ("seed", seed, 0, None),
        ("first_identity", first_identity, 0, None),
        ("workers", workers, 1, None),
    ):
        _check_whole(name, value, low, high)
    recipe: dict[str, int | str] = {
        "n_identities": int(n_identities),
        "captures": int(captures),
        "size": int(size),
        "seed": int(seed),
        "first_identity": int(first_identity),
        "version": GENERATOR_VERSION,
        "asset": load_asset().sha256,
    }
    path = None if cache_dir is None else Path(cache_dir) / f"heads-{_key(recipe)}.npz"
    arrays = None if path is None else _read_cache(path)
    if arrays is None:
        arrays = _render(n_identities, captures, size, seed, first_identity, workers, progress)
        if path is not None:
            _write_cache(path, arrays)
    elif progress is not None:
        progress(n_identities * captures, n_identities * captures)
    people = torch.arange(first_identity, first_identity + n_identities, dtype=torch.int64)
    return FaceSet(
        images=torch.from_numpy(arrays["images"]),
        identity=people.repeat_interleave(captures),
        capture=torch.arange(captures, dtype=torch.int64).repeat(n_identities),
        landmarks=torch.from_numpy(arrays["landmarks"]),
        source=f"synthetic-heads/{GENERATOR_VERSION} seed={seed}",
        licence=LICENCE,
        regions=torch.from_numpy(arrays["regions"]) if regions else None,
    )


def _check_whole(name: str, value: int, low: int, high: int | None) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise FacesError(f"{name} must be a whole number, got {value!r}.")
    if value < low or (high is not None and value > high):
        limits = f"at least {low}" if high is None else f"from {low} to {high}"
        raise FacesError(f"{name} must be {limits}, got {value}.")


def _key(recipe: dict[str, int | str]) -> str:
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:32]


def _render(
    n_identities: int,
    captures: int,
    size: int,
    seed: int,
    first_identity: int,
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> Arrays:
    numbers = range(first_identity, first_identity + n_identities)
    images = np.empty((n_identities * captures, 3, size, size), np.uint8)
    landmarks = np.empty((n_identities * captures, 68, 2), np.float32)
    regions = np.empty((n_identities * captures, size, size), np.uint8)
    for k, batch in enumerate(_batches(numbers, captures, size, seed, min(workers, n_identities))):
        rows = slice(k * captures, (k + 1) * captures)
        images[rows], landmarks[rows], regions[rows] = batch
        if progress is not None:
            progress((k + 1) * captures, n_identities * captures)
    return {"images": images, "landmarks": landmarks, "regions": regions}


def _batches(numbers: range, captures: int, size: int, seed: int, workers: int) -> Iterator[Batch]:
    """Batches in the order of the numbers."""
    if workers == 1:
        for number in numbers:
            yield render_identity(seed, number, captures, size)
        return
    with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
        pool = joblib.Parallel(n_jobs=workers, return_as="generator", batch_size=1)
        yield from pool(joblib.delayed(render_identity)(seed, number, captures, size) for number in numbers)


def _digest(arrays: Arrays) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name}{arrays[name].dtype.str}{arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()


def _read_cache(path: Path) -> Arrays | None:
    """Return the cached arrays, or None if there are none or they are damaged."""
    if not path.exists():
        return None
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("images", "landmarks", "regions")}
            stored = str(file["sha256"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        log.warning("cached heads %s cannot be read (%s); rendering them again", path, error)
        return None
    if _digest(arrays) != stored:
        log.warning("cached heads %s do not match their hash; rendering them again", path)
        return None
    return arrays


def _write_cache(path: Path, arrays: Arrays) -> None:
    """Keep a set; readers never see half a file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing(path, replace=True) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, sha256=np.array(_digest(arrays)), **arrays)
    except OSError as error:
        raise FacesError(f"cannot write the cache {path} ({error}); choose another cache_dir.") from error
