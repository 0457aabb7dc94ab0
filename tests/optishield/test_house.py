"""Rules of the house that no linter knows: what source may not say, and what the packaging must agree on."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ROOMS = PROJECT["tool"]["importlinter"]["root_packages"]
SOURCES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))

_TORCH_STATE = {"manual_seed", "seed", "set_rng_state"}
_TORCH_DRAWS = {"rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "poisson"}
_NUMPY_FINE = {"default_rng", "Generator", "SeedSequence", "PCG64", "Philox", "BitGenerator"}


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Call):
        return _dotted(node.func)
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _offences(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield node.lineno, "bare except"
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            if any(name.split(".")[0] == "tests" for name in names):
                yield node.lineno, "imports tests"
            if any(name in ("random", "pickle") for name in names):
                yield node.lineno, f"imports {names}"
        if isinstance(node, ast.Call) and _dotted(node.func) == "print":
            yield node.lineno, "print"
    yield from _random_offences(tree, restored=False)


def _random_offences(node: ast.AST, *, restored: bool) -> Iterator[tuple[int, str]]:
    """Draws from, and changes of, process-wide random state; ``restored`` is true inside ``fork_rng``.

    Seeding is allowed there, because layers draw their first weights from the process-wide state only.
    """
    if isinstance(node, ast.With):
        restored |= any(_dotted(item.context_expr).endswith("random.fork_rng") for item in node.items)
    if isinstance(node, ast.Call):
        name = _dotted(node.func)
        package, _, tail = name.partition(".")
        if package == "torch" and tail in _TORCH_STATE and not restored:
            yield node.lineno, f"{name} changes the state of the whole process; use a torch.Generator or fork_rng"
        if package == "torch" and tail in _TORCH_DRAWS and not any(k.arg == "generator" for k in node.keywords):
            yield node.lineno, f"{name} without generator="
        if re.match(r"(np|numpy)\.random\.", name) and name.split(".")[2] not in _NUMPY_FINE:
            yield node.lineno, f"{name} draws from the global numpy state; use numpy.random.default_rng"
        if name.endswith("random.default_rng") and not node.args and not node.keywords:
            yield node.lineno, "default_rng without a seed"
    for child in ast.iter_child_nodes(node):
        yield from _random_offences(child, restored=restored)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_source_keeps_the_rules(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=name)
    found = [f"{name}:{line}: {what}" for line, what in _offences(tree)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("source", "offence"),
    [
        ("try:\n    f()\nexcept:\n    g()", "bare except"),
        ("print(1)", "print"),
        ("torch.manual_seed(0)", "torch.manual_seed changes the state"),
        ("x = torch.randn(3)", "torch.randn without generator="),
        ("np.random.seed(0)", "np.random.seed draws from the global"),
        ("np.random.default_rng()", "default_rng without a seed"),
        ("from tests.optics import x", "imports tests"),
        ("import pickle", "imports ['pickle']"),
    ],
)
def test_the_guard_sees_each_offence(source: str, offence: str) -> None:
    assert next(what for _, what in _offences(ast.parse(source))).startswith(offence)


def test_the_guard_lets_good_code_pass() -> None:
    good = (
        "x = torch.randn(3, generator=g)\ny = np.random.default_rng(seed).normal()\nz = g.manual_seed(1)\n"
        "with torch.random.fork_rng(devices=[]):\n    torch.manual_seed(seed)\n    layer = nn.Linear(2, 2)"
    )
    assert list(_offences(ast.parse(good))) == []


#: What makes a tensor of its own on the default device, unless told where.
_MAKERS = {"zeros", "ones", "full", "empty", "eye", "linspace", "logspace", "tensor", "hann_window"}
#: Files, and one room, that still make tensors on the CPU in functions that may be given tensors of another device. The
#: list shrinks as they are mended; nothing is added to it.
_CPU_ONLY = (
    "protectors/",
    "optics/elements/amplitude.py",
    "optics/elements/masks/smooth.py",
    "optics/elements/mirror.py",
    "optics/elements/slm.py",
    "optics/elements/zernike.py",
    "optics/fabrication/coefficients.py",
    "optics/fabrication/limits.py",
    "optics/fabrication/modulator.py",
    "optics/imaging/motion.py",
    "optics/imaging/psf.py",
    "optics/imaging/spectrum.py",
    "optics/imaging/stray_light.py",
    "optics/imaging/varying.py",
    "optics/plane.py",
    "optics/propagation/propagator.py",
    "optics/pupil.py",
    "optics/sensor/sensor.py",
    "optics/tolerance/evaluate.py",
    "optics/tolerance/sensitivity.py",
    "faces/alignment.py",
    "faces/face_api.py",
    "faces/families.py",
    "faces/folders.py",
    "faces/synthetic/generator.py",
    "faces/tiny_detector.py",
    "sim/bench/world.py",
    "evaluation/matrix/jobs.py",
    "evaluation/matrix/perceptual.py",
    "evaluation/matrix/quality.py",
    "evaluation/matrix/results.py",
    "evaluation/matrix/utility.py",
    "photos/frames.py",
)


def _stranded(node: ast.AST, *, exempt: bool = False) -> Iterator[tuple[int, str]]:
    """Tensors made without saying where: beside tensors of another device they end the program.

    Exempt is what moves afterwards: buffers and parameters of a module, what ``.to`` follows at once, and whole numbers
    that count positions (``arange`` without a dtype).
    """
    if isinstance(node, ast.FunctionDef):
        exempt |= node.name in ("__init__", "__post_init__")
    if isinstance(node, ast.Call):
        name = _dotted(node.func)
        exempt |= name.endswith(("register_buffer", "Parameter"))
        exempt |= isinstance(node.func, ast.Attribute) and node.func.attr == "to"
        given = {keyword.arg for keyword in node.keywords}
        tail = name.removeprefix("torch.")
        makes = tail in _MAKERS or (tail == "arange" and "dtype" in given)
        if name.startswith("torch.") and makes and "device" not in given and not exempt:
            yield node.lineno, f"{name} without device="
    for child in ast.iter_child_nodes(node):
        yield from _stranded(child, exempt=exempt)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_new_tensors_say_where_they_lie(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    if name.startswith(_CPU_ONLY):
        return
    found = [f"{name}:{line}: {what}" for line, what in _stranded(ast.parse(path.read_text(encoding="utf-8")))]
    assert not found, "\n".join(found)


def test_the_guard_of_devices_sees_what_is_stranded_and_no_more() -> None:
    bad = "def f(x):\n    y = torch.zeros(3)\n    return x + torch.arange(3, dtype=x.dtype)"
    assert [line for line, _ in _stranded(ast.parse(bad))] == [2, 3]
    good = (
        "def f(x):\n    y = torch.zeros(3, device=x.device) + torch.tensor(2.0).to(x)\n"
        "    return x[torch.arange(3)]\nclass M:\n    def __init__(self):\n        self.a = torch.zeros(3)"
    )
    assert list(_stranded(ast.parse(good))) == []


@pytest.mark.parametrize(
    "path", sorted((ROOT / "optishield").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_everything_printed_is_escaped_by_the_console(path: Path) -> None:
    calls = {
        _dotted(node.func)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    }
    printed = calls & {"typer.echo", "typer.secho", "sys.stdout.write", "sys.stderr.write"}
    assert path.name == "console.py" or not printed, f"{path}: use optishield.console.show or say"


def test_lists_of_rooms_agree() -> None:
    tool = PROJECT["tool"]
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages == set(ROOMS)
    assert tool["hatch"]["build"]["targets"]["wheel"]["packages"] == ROOMS
    assert tool["mypy"]["files"] == [*ROOMS, "tests", "benchmarks", "examples", "scripts"]
    assert tool["coverage"]["run"]["source"] == ROOMS
    assert tool["ruff"]["lint"]["isort"]["known-first-party"] == ROOMS
    layers = tool["importlinter"]["contracts"][0]["layers"]
    assert {room.strip() for layer in layers for room in layer.split("|")} == set(ROOMS)


def test_help_and_settings_do_not_load_torch() -> None:
    code = (
        "import sys\n"
        "from optishield.cli import main\n"
        "assert all(main([*words, '--help']) == 0 for words in ([], ['train-mask'], ['evaluate']))\n"
        "import optishield.run.folder, optishield.progress\n"
        "heavy = {'torch', 'cv2', 'scipy', 'matplotlib', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert main(['config', 'show']) == 0\n"
        "assert 'torch' not in sys.modules, 'codesign.config loads torch'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def _shell_lines(text: str) -> Iterator[str]:
    for block in re.findall(r"```(?:sh|bash|console)\n(.*?)```", text, flags=re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            yield line.strip().removeprefix("$ ")


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_documented_commands_exist(name: str) -> None:
    from typer.main import get_command

    from codesign.config import TrainMaskConfig
    from optishield.commands.root import app
    from optishield.run.settings import known_keys

    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    lines = [line for line in _shell_lines((ROOT / name).read_text(encoding="utf-8")) if line]
    assert lines, f"{name} shows no command"
    for line in lines:
        words = shlex.split(line, comments=True)
        if words[:1] == ["make"]:
            assert {word for word in words[1:] if "=" not in word} <= targets, line
        if words[:1] != ["optishield"]:
            continue
        command, rest = get_command(app), words[1:]
        while rest and hasattr(command, "commands"):
            assert rest[0] in command.commands, line
            command, rest = command.commands[rest[0]], rest[1:]
        for key in (rest[index + 1].partition("=")[0] for index, word in enumerate(rest) if word == "--set"):
            assert key in dict(known_keys(TrainMaskConfig)), line
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= options, line


def test_links_of_the_documents_lead_somewhere() -> None:
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            if target == "docs/picture.png" and not (ROOT / target).exists():
                continue
            assert (path.parent / target).exists(), f"{path.relative_to(ROOT)} links to {target}, which is not there"
