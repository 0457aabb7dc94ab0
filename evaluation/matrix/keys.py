"""Names of results: a hash of everything that a result depends on, the code included."""

from __future__ import annotations

import hashlib
import inspect
import json
import types
from collections.abc import Iterator, Mapping
from functools import cache, partial
from pathlib import Path

import numpy as np
from torch import Tensor

from evaluation.errors import EvaluationError
from evaluation.matrix.source import ROOMS, project


def content_key(kind: str, module: str, **parts: object) -> str:
    """Name of a result: its kind and a SHA-256 of all that it depends on.

    Args:
        kind: Kind of the result, the first part of the name.
        module: Module of the job (``__name__``). Its code, and that of all which it imports from this project, is a
            part of the name; comments and docstrings are not.
        parts: Settings, weights and inputs as plain values, tensors by :func:`tensor_hash`.

    Raises:
        EvaluationError: There is no such module.
    """
    said = {"code": project().hash(module), "kind": kind, **parts}
    text = json.dumps(said, sort_keys=True, separators=(",", ":"))
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:40]}"


def tensor_hash(*tensors: Tensor) -> str:
    """SHA-256 of types, shapes and values."""
    digest = hashlib.sha256()
    for tensor in tensors:
        array = tensor.detach().cpu().contiguous()
        digest.update(f"{array.dtype}{tuple(array.shape)}".encode())
        digest.update(array.reshape(-1).numpy().data)
    return digest.hexdigest()


def object_code_hash(value: object) -> str:
    """SHA-256 of the code of an object and of all objects that it holds: their classes' modules with all they import.

    The package of the object's own class is followed as the rooms are. Of classes and functions of other packages, such
    as torch, the names count.

    Raises:
        EvaluationError: A class was not defined in a file, so its results cannot be kept.
    """
    own = type(value).__module__.partition(".")[0]
    digest = hashlib.sha256()
    codes = {_code_of(part, own) for part in _parts(value, ()) if isinstance(part, type | types.FunctionType)}
    for code in sorted(codes):
        digest.update(f"{code}\n".encode())
    return digest.hexdigest()


def settings_of(value: object) -> list[str]:
    """The plain values that an object and all objects in it hold, in order: numbers, texts, paths and tensors."""
    return [str(part) for part in _parts(value, ()) if not isinstance(part, type | types.FunctionType)]


def _parts(value: object, above: tuple[int, ...]) -> Iterator[object]:
    """Classes, functions and plain values (as text) of an object and of what it holds, depth first."""
    if id(value) in above:
        return
    above = (*above, id(value))
    if value is None or isinstance(value, bool | int | float | str | bytes | Path):
        yield repr(value)
    elif isinstance(value, Tensor):
        yield tensor_hash(value)
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype}{value.shape}{hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()}"
    elif isinstance(value, type):
        yield value
    elif isinstance(value, types.FunctionType):
        yield value
        yield repr(value.__qualname__)
        held = [cell.cell_contents for cell in value.__closure__ or () if cell != types.CellType()]
        for part in (*held, *(value.__defaults__ or ())):
            yield from _parts(part, above)
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _parts(key, above)
            yield from _parts(part, above)
    elif isinstance(value, list | tuple | set | frozenset):
        parts = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
        yield repr(len(parts))
        for part in parts:
            yield from _parts(part, above)
    else:
        yield type(value)
        if isinstance(value, partial):
            yield from _parts((value.func, value.args, value.keywords), above)
        yield from _parts(getattr(value, "__dict__", {}), above)


@cache
def _code_of(part: type | types.FunctionType, own: str) -> str:
    """Name and code of the module of a class or function; of foreign packages the name alone."""
    module, package = part.__module__, part.__module__.partition(".")[0]
    if package == "builtins" or package not in (*ROOMS, own):
        return f"{module}.{part.__qualname__}"
    try:
        file = Path(inspect.getfile(part))
    except (OSError, TypeError) as error:
        raise EvaluationError(
            f"{part.__qualname__} was not defined in a file, so its results cannot be kept; put it into a module."
        ) from error
    code = project() if package in ROOMS else project(package, _above(file, module))
    # A script (__main__), or a file that lies elsewhere than the name of its module says, is found by its path.
    return code.hash(module) if code.file(module) == file else code.hash_of_file(file)


def _above(file: Path, module: str) -> Path:
    """The folder that holds the top-level package of a module."""
    names = module.split(".")
    steps = len(names) if file.name == "__init__.py" else len(names) - 1
    return file.parents[min(steps, len(file.parents) - 1)]
