"""Names with settings, words for wrong ones, and protectors of other packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from protectors.blur import GaussianBlur
from protectors.errors import ProtectorError
from protectors.identity import Identity
from protectors.noise import Noise
from protectors.registry import Parameter, make_protector, names, registered

CLOAK = """
from __future__ import annotations
from pathlib import Path
from faces.protection import Declaration
from protectors.base import PhotoProtector

class Cloak(PhotoProtector):
    about = Declaration("cloak", "a test", "own", frozenset())
    def __init__(self, *, key: Path, word: str = "a", weight: float | None = None) -> None:
        super().__init__((), key=str(key), word=word, weight=weight)
    def change(self, images, points5, identity, generator):
        return 1 - images

class NoProtector:
    about = Declaration("hollow", "a test", "own", frozenset())
    declaration = about
    def protect(self): ...

class Silent(PhotoProtector):
    about = Declaration("silent", "a test", "own", frozenset())
    def __init__(self) -> None:
        self.declaration = self.about
    def change(self, images, points5, identity, generator):
        return 1 - images

class Vague(Silent):
    about = Declaration("vague", "a test", "own", frozenset())
    def __init__(self, *, model: str = "arcface") -> None:
        PhotoProtector.__init__(self, (model,), model=model)

class Listed(Cloak):
    about = Declaration("listed", "a test", "own", frozenset())
    def __init__(self, *, sizes: list[int]) -> None: ...
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package beside ours, ``cloak_kit``, that registers what its file ``entry_points.txt`` says."""
    (tmp_path / "cloak_kit.py").write_text(CLOAK, encoding="utf-8")
    information = tmp_path / "cloak_kit-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: cloak-kit\nVersion: 1.0\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return information / "entry_points.txt"


def register(package: Path, line: str) -> None:
    package.write_text(f"[optishield.protectors]\n{line}\n", encoding="utf-8")


def test_settings_reach_the_protector() -> None:
    made = make_protector("gaussian-blur:sd=0.25,px=64")
    assert isinstance(made, GaussianBlur)
    assert made.declaration.settings == (("sd", "0.25"), ("px", "64"))
    assert isinstance(make_protector("identity"), Identity)
    assert make_protector("noise:l2=3").declaration == Noise(l2=3.0).declaration


def test_registered_lists_settings_with_defaults() -> None:
    blur = registered("gaussian-blur")
    assert blur.parameters == (Parameter("sd", float, False, 0.1), Parameter("px", int, False, 128))
    assert blur.usage == "gaussian-blur:sd=0.1,px=128"
    assert blur.package == "optishield"
    encoder = registered("optical-encoder")
    assert encoder.parameters[0] == Parameter("run", Path, True, None)
    assert encoder.usage == "optical-encoder:run=RUN,px=128"
    assert registered("noise").parameters == (
        Parameter("linf", float, False, None),
        Parameter("l2", float, False, None),
    )


def test_what_is_shown_as_usage_can_be_made() -> None:
    for name in names():
        known = registered(name)
        if any(parameter.required for parameter in known.parameters):
            assert name == "optical-encoder"
            continue
        made = make_protector(known.usage).declaration
        if not known.about.example:
            assert made == make_protector(name).declaration
    assert registered("noise").usage == "noise:linf=0.03"


def test_recommended_methods_come_first_and_controls_last() -> None:
    shown = [registered(name) for name in names()]
    places = [(one.about.control, not one.about.recommended) for one in shown]
    assert places == sorted(places)
    assert [one.about.name for one in shown if one.about.recommended] == ["photo-cloak", "person-cloak"]
    for one in shown:
        sentence = one.line.removesuffix(" Recommended.").removesuffix(" A control, no protection.")
        sentence = sentence.removesuffix(" For comparison and research.")
        assert sentence.endswith(".")
        assert sentence[0].isupper()
        assert sentence == one.about.summary


def test_package_without_a_summary_is_described_by_its_title(package: Path) -> None:
    register(package, "cloak = cloak_kit:Cloak")
    assert registered("cloak").line == "A test. For comparison and research."


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("pixelat", r"^there is no protector 'pixelat'; did you mean pixelate\?$"),
        ("", r"^there is no protector ''; choose one of photo-cloak, person-cloak, "),
        ("Pixelate:cells=3", r"there is no protector 'Pixelate'; did you mean pixelate\?$"),
        ("pixelate:cell=3", r"^pixelate has no setting 'cell'; did you mean cells\?$"),
        ("pixelate:x=3", r"^pixelate has no setting 'x'; choose one of cells\.$"),
        ("identity:x=3", r"^identity has no setting 'x'; it has none\.$"),
        ("pixelate:cells=3,cells=4", r"sets cells twice; keep one of them\.$"),
        ("pixelate:cells=3.5", r"^cells of pixelate must be a whole number, got '3\.5'\.$"),
        ("gaussian-blur:sd=wide", r"^sd of gaussian-blur must be a number, got 'wide'\.$"),
        ("gaussian-blur:sd=nan", r"^sd of gaussian-blur must be a finite number, got 'nan'\.$"),
        ("pixelate:", r"^'' in 'pixelate:' is no setting; write setting=value, as in pixelate:cells=16\.$"),
        ("pixelate:cells=", r"^'cells=' in 'pixelate:cells=' is no setting"),
        ("pixelate:16", r"^'16' in 'pixelate:16' is no setting; write setting=value, as in pixelate:cells=16\.$"),
        ("optical-encoder", r"^optical-encoder needs run; write optical-encoder:run=RUN,px=128\.$"),
    ],
)
def test_wrong_names_are_answered_with_right_ones(spec: str, words: str) -> None:
    with pytest.raises(ProtectorError, match=words):
        make_protector(spec)


def _numbers() -> list[tuple[str, Parameter]]:
    return [
        (name, parameter) for name in names() for parameter in registered(name).parameters
        if parameter.kind in (int, float)
    ]  # fmt: skip


def test_methods_of_the_program_have_many_numbers() -> None:
    assert len({name for name, _ in _numbers()}) >= 15
    assert len(_numbers()) > 60


@pytest.mark.parametrize(
    ("name", "parameter"), [pytest.param(*row, id=f"{row[0]}-{row[1].name}") for row in _numbers()]
)
def test_a_number_that_cannot_be_meant_is_refused_before_any_photo(name: str, parameter: Parameter) -> None:
    needed = "run=none," if name == "optical-encoder" else ""
    for value in ("1000000000", "1e9", "1" + "0" * 20, "1" + "0" * 4500, "1e300", "-1000000000"):
        with pytest.raises(ProtectorError, match=rf"\b{parameter.name}\b") as caught:
            make_protector(f"{name}:{needed}{parameter.name}={value}")
        assert len(str(caught.value)) < 250


def test_package_adds_a_protector(package: Path) -> None:
    register(package, "cloak = cloak_kit:Cloak")
    assert names()[-1] == "cloak"
    assert registered("cloak").package == "cloak-kit"
    made = make_protector("cloak:word=b:c=d,key=a, b/c,d,weight=2")
    # A comma ends a value only where a setting follows; colons and equal signs are part of it.
    assert made.declaration.settings == (("key", "a, b/c,d"), ("word", "b:c=d"), ("weight", "2.0"))
    with pytest.raises(ProtectorError, match=r"no protector 'cloack'; did you mean cloak\?"):
        make_protector("cloack")


def test_recogniser_of_a_package_is_declared_as_another(package: Path) -> None:
    register(package, "vague = cloak_kit:Vague")
    assert make_protector("vague:model=other:arcface").declaration.surrogates == ("other:arcface",)


@pytest.mark.parametrize(
    ("line", "name", "words"),
    [
        (
            "cloak = cloak_kit:Coat",
            "cloak",
            r"the protector cloak of cloak-kit cannot be imported \(.*Coat.*\); reinst",
        ),
        ("cloak = no_such_kit:Cloak", "cloak", r"the protector cloak of cloak-kit cannot be imported \(.*no_such_kit"),
        ("coat = cloak_kit:Cloak", "coat", r"cloak_kit:Cloak of cloak-kit is registered as coat but declares cloak;"),
        ("path = cloak_kit:Path", "path", r"cloak_kit:Path of cloak-kit is registered as path but declares nothing;"),
        (
            "hollow = cloak_kit:NoProtector",
            "hollow",
            r"registers as hollow .* lacks photo_px and fit and blur and ta",
        ),
        (
            "silent = cloak_kit:Silent",
            "silent",
            r"^silent of cloak-kit does not state which recognisers it uses; whoever wrote it must set Decl",
        ),
        (
            "vague = cloak_kit:Vague",
            "vague",
            r"vague of cloak-kit states surrogates = \('arcface',\); .* out of sface, dlib-resnet, faceres, or oth",
        ),
        (
            "listed = cloak_kit:Listed",
            "listed",
            r"setting sizes of listed \(cloak-kit\) is annotated list\[int\]; int, ",
        ),
        (
            "pixelate = cloak_kit:Cloak",
            "identity",
            r"two packages bring a protector called pixelate \(optishield: protectors\.pixelate:Pixelate; cloak-kit: ",
        ),
    ],
)
def test_broken_package_is_named(package: Path, line: str, name: str, words: str) -> None:
    register(package, line)
    with pytest.raises(ProtectorError, match=words):
        make_protector(name)
