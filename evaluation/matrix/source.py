"""Hashes of the code that a result depends on: the modules that its module imports, as syntax, not as text.

A comment, a docstring or a line break changes no hash, and neither does a module that cannot be reached. What runs only
because a package is imported (the rest of its ``__init__``) does not count, unless one of its own names is used.
"""

from __future__ import annotations

import ast
import hashlib
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from evaluation.errors import EvaluationError

#: Packages of this project; imports of anything else are not followed.
ROOMS = (
    "ground", "optics", "faces", "firmware_bridge", "sim", "protectors", "calibration", "evaluation", "codesign",
    "photos", "optishield",
)  # fmt: skip

_HOME = Path(__file__).parent.parent.parent


@cache
def project(package: str = "", folder: Path = _HOME) -> Code:
    """The rooms as they lie on disk, read once in each process.

    Args:
        package: Another top-level package whose imports are followed as well, or "".
        folder: The folder in which it lies.
    """
    others = {package: folder} if package else {}
    return Code({**others, **dict.fromkeys(ROOMS, _HOME)})


@dataclass(frozen=True)
class _Import:
    """``import module`` (name is None) or ``from module import name``."""

    module: str
    name: str | None


@dataclass(frozen=True)
class _Module:
    """One parsed file.

    Attributes:
        digest: SHA-256 of its syntax.
        imports: All that it imports when it is used.
        names: Where the names come from that it imports at its top: own name to module and name there.
    """

    digest: str
    imports: tuple[_Import, ...]
    names: Mapping[str, _Import]


class Code:
    """Modules below some folders, read as text and never imported.

    Args:
        folders: The folder in which each top-level package or module lies, by its name.
    """

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = dict(folders)
        self._parsed: dict[Path, _Module] = {}
        self._hashes: dict[str, str] = {}

    def file(self, module: str) -> Path | None:
        """The file of a module by its dotted name, or None if there is none below the folders."""
        folder = self._folders.get(module.partition(".")[0])
        if folder is None:
            return None
        path = folder.joinpath(*module.split("."))
        return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)

    def reachable(self, module: str) -> dict[str, Path]:
        """The module and all that it imports, directly or not, with their files.

        Raises:
            EvaluationError: There is no such module.
        """
        file = self.file(module)
        if file is None:
            raise EvaluationError(f"there is no module {module!r} among {', '.join(sorted(self._folders))}.")
        return self._followed({module: file})

    def hash(self, module: str) -> str:
        """SHA-256 of the names and the syntax of all modules of :meth:`reachable`."""
        if module not in self._hashes:
            self._hashes[module] = self._digest(self.reachable(module))
        return self._hashes[module]

    def hash_of_file(self, file: Path) -> str:
        """The same for a file that cannot be found by the name of its module."""
        return self._digest(self._followed({f"({file.name})": file}))

    def _digest(self, files: Mapping[str, Path]) -> str:
        digest = hashlib.sha256()
        for name, file in sorted(files.items()):
            digest.update(f"{name} {self._module(file, name).digest}\n".encode())
        return digest.hexdigest()

    def _followed(self, found: dict[str, Path]) -> dict[str, Path]:
        waiting = list(found.items())
        while waiting:
            name, file = waiting.pop()
            for wanted in self._module(file, name).imports:
                target = self._target(wanted, set())
                if target is not None and target not in found:
                    path = self.file(target)
                    if path is not None:
                        found[target] = path
                        waiting.append((target, path))
        return found

    def _target(self, wanted: _Import, seen: set[_Import]) -> str | None:
        """The module that defines what is imported; packages that only hand a name on are passed through."""
        if wanted.name is not None and wanted.name != "*" and self.file(f"{wanted.module}.{wanted.name}") is not None:
            return f"{wanted.module}.{wanted.name}"
        file = self.file(wanted.module)
        if file is None or wanted in seen:
            return None
        if wanted.name is not None and file.name == "__init__.py":
            handed_on = self._module(file, wanted.module).names.get(wanted.name)
            if handed_on is not None:
                return self._target(handed_on, seen | {wanted}) or wanted.module
        return wanted.module

    def _module(self, file: Path, name: str) -> _Module:
        if file not in self._parsed:
            try:
                tree = ast.parse(file.read_bytes(), str(file))
            except (OSError, SyntaxError, ValueError) as error:
                raise EvaluationError(f"{file} cannot be read as Python ({error}); mend or remove it.") from error
            package = name if file.name == "__init__.py" else name.rpartition(".")[0]
            found = tuple(_imports(tree, package))
            names = {own: one for node in tree.body for own, one in _named(node, package)}
            digest = hashlib.sha256(ast.dump(_Plain().visit(tree)).encode()).hexdigest()
            self._parsed[file] = _Module(digest, found, types.MappingProxyType(names))
        return self._parsed[file]


class _Plain(ast.NodeTransformer):
    """Takes out what does nothing when it runs: docstrings, and strings that describe a name."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return None
        return self.generic_visit(node)


def _imports(tree: ast.AST, package: str) -> Iterator[_Import]:
    """All imports, inside functions too, but for those that only a type checker sees."""
    if isinstance(tree, ast.If) and ast.unparse(tree.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
        nodes: list[ast.AST] = list(tree.orelse)
    else:
        nodes = list(ast.iter_child_nodes(tree))
    if isinstance(tree, ast.Import | ast.ImportFrom):
        yield from (one for _, one in _named(tree, package))
    for node in nodes:
        yield from _imports(node, package)


def _named(node: ast.AST, package: str) -> Iterator[tuple[str, _Import]]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.asname or alias.name.partition(".")[0], _Import(alias.name, None)
            if alias.asname is None and "." in alias.name:
                # It gives the name of the package above, with all that this one holds.
                yield alias.name.partition(".")[0], _Import(alias.name.partition(".")[0], None)
    elif isinstance(node, ast.ImportFrom):
        above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        module = ".".join([*above, *([node.module] if node.module else [])])
        for alias in node.names:
            yield alias.asname or alias.name, _Import(module, alias.name)
