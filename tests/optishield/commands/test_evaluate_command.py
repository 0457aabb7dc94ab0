"""``optishield evaluate`` from outside, with a stand-in for the engine."""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from evaluation.records import Claim, Judge, Ordering, Summary
from faces.protection import Threat
from ground.gates import Gate
from optishield.cli import main
from protectors.identity import Identity
from tests.evaluation import made

Job = Callable[..., Summary]

pytestmark = pytest.mark.usefixtures("own_folder")


def _summary(**more: Any) -> Summary:
    """What the engine returns where nothing was measured, and one made-up headline."""
    worst = made.worst(
        0.125,
        claimed=False,
        attacker="linear-protected",
        level="K2",
        recogniser="sface",
        low=0.0625,
        verdict="broken",
    )
    return made.summary(
        **{
            "headline": {"pixelate:cells=8": made.headline("control", "a control", evasion=worst)},
            "protectors": {"pixelate:cells=8": made.method(title="mosaic", control=True)},
            **more,
        }
    )


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Job], list[Any]]:
    """Put a stand-in for the engine and for weights in place; the list holds the settings it was called with."""
    (tmp_path / "weights").write_bytes(b"")
    monkeypatch.setattr("faces.weights.cached_path", lambda name: tmp_path / "weights")
    monkeypatch.setattr("faces.weights.verify", lambda name: tmp_path / "weights")
    calls: list[Any] = []

    def install(job: Job) -> list[Any]:
        def recorded(config: Any, run: Any, **rest: Any) -> Summary:
            calls.append(config)
            mode: Literal["synthetic", "photos"] = "synthetic" if config.faces == "synthetic" else "photos"
            return replace(job(config, run, **rest), run=run.path.name, mode=mode)

        module = types.ModuleType("evaluation.run")
        module.evaluate = recorded  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "evaluation.run", module)
        return calls

    return install


def recorded_makes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of protectors that will be made, all by one that takes photos of any size."""
    made: list[str] = []

    def make(name: str) -> Identity:
        made.append(name)
        return Identity()

    monkeypatch.setattr("protectors.registry.make_protector", make)
    return made


def test_json_is_the_summary_and_nothing_else(engine: Any, capsys: Any) -> None:
    engine(lambda config, run, **rest: _summary(tier=config.tier))
    assert main(["evaluate", "--tier", "smoke", "--json"]) == 0
    out, err = capsys.readouterr()
    (folder,) = Path("runs").iterdir()
    assert folder.name.endswith("-evaluate-smoke-seed0")
    found = json.loads(out)
    stored = replace(_summary(tier="smoke"), run=folder.name).to_json()
    assert found == {**stored, "run": str(folder), "report": str(folder / "report.html")}
    assert [line.split("] ")[1] for line in err.splitlines()] == [f"run folder: {folder}"]
    assert json.loads((folder / "summary.json").read_text()) == stored
    schema = json.loads((folder / "summary.schema.json").read_text())
    assert schema["properties"]["rows"]["items"] == {"$ref": "#/$defs/Row"}
    assert set(schema["required"]) == set(stored)


def test_without_json_a_table_is_printed(engine: Any, capsys: Any) -> None:
    engine(lambda config, run, **rest: _summary())
    assert main(["evaluate", "--tier", "smoke", "--quiet", "--out", "here"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert [line.split() for line in out.splitlines()] == [
        ["run", "here"],
        ["report", "here/report.html"],
        ["result", "Controls", "only:", "no", "protector", "was", "judged."],
        ["protector", "threat", "worst", "attacker", "recogniser", "PSR", "net", "lower", "verdict"],
        ["pixelate", "(cells=8)", "evasion", "linear-protected", "sface", "0.125", "0.062", "broken"],
    ]


def test_own_claims_and_orderings_come_before_the_matrix(engine: Any, capsys: Any) -> None:
    judge = Judge(
        judge="sface",
        unseen=True,
        value=0.5,
        ci95=(0.4, 0.6),
        raw=0.5,
        clean=0.02,
        noise=0.0,
        verdict="fails",
        reason="",
        primary=True,
        weak=False,
    )
    claim = Claim(
        protector="cloak", threat=Threat.dodge, measure="", bar=0.8, verdict="fails", reason="", judges=(judge,)
    )
    claims = (claim, replace(claim, threat=Threat.poison, verdict="not measured", judges=()))
    pair = Ordering(
        preset="S2",
        figure="PSR",
        first="apf",
        relation="above",
        second="fawkes",
        judge="sface",
        margin=0.0,
        value_first=0.5,
        value_second=0.2,
        difference=0.3,
        ci95=(0.1, 0.5),
        verdict="replicated",
        reason="",
    )
    engine(lambda config, run, **rest: _summary(own_claims=claims, orderings=(pair,)))
    assert main(["evaluate", "--tier", "smoke", "--quiet", "--out", "here"]) == 0
    assert [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()][3:] == [
        "protector", "cloak", "cloak", "the survey states", "PSR: apf > fawkes", "protector", "pixelate (cells=8)",
    ]  # fmt: skip


def test_names_may_be_repeated_or_separated_by_commas(engine: Any) -> None:
    calls = engine(lambda config, run, **rest: _summary())
    words = ["--protectors", "pixelate:cells=8,identity", "--protectors", "gaussian-blur:sd=0.1,px=112,noise:linf=0.1"]
    words += ["--attackers", "as-published,preprocess", "--recognisers", "sface"]
    assert main(["evaluate", "--tier", "smoke", "--quiet", *words]) == 0
    assert calls[0].protectors == ("pixelate:cells=8", "identity", "gaussian-blur:sd=0.1,px=112", "noise:linf=0.1")
    assert calls[0].attackers == ("as-published", "preprocess")
    assert calls[0].recognisers == ("sface",)


def test_all_attackers(engine: Any) -> None:
    from evaluation.image_attackers import attacker_names

    calls = engine(lambda config, run, **rest: _summary())
    assert main(["evaluate", "--tier", "smoke", "--quiet", "--attackers", "all"]) == 0
    assert calls[0].attackers == attacker_names()


def test_the_optics_of_a_run_join_the_protectors_that_are_named(engine: Any, monkeypatch: Any, tmp_path: Path) -> None:
    from evaluation.config import controls

    made = recorded_makes(monkeypatch)
    calls = engine(lambda config, run, **rest: _summary())
    assert main(["evaluate", "--tier", "smoke", "--quiet", "--run", "trained", "--set", "people.size_px=128"]) == 0
    named = f"optical-encoder:run={tmp_path / 'trained'}"
    assert calls[0].protectors == (*controls(128), named)
    assert "video-average-4" in calls[0].attackers
    assert made == list(calls[0].protectors)
    assert main(["evaluate", "--tier", "smoke", "--quiet", "--run", "trained", "--set", "people.size_px=64"]) == 0
    assert calls[1].protectors[-1] == f"{named},px=64"
    words = ["--run", "trained", "--protectors", "noise:linf=0.1", "--attackers", "as-published"]
    assert main(["evaluate", "--tier", "smoke", "--quiet", *words]) == 0
    assert calls[2].protectors == ("noise:linf=0.1", f"{named},px=112")
    assert calls[2].attackers == ("as-published",)


def test_without_protectors_a_cloak_is_judged_beside_the_controls(engine: Any, monkeypatch: Any) -> None:
    from protectors.registry import make_protector

    calls = engine(lambda config, run, **rest: _summary())
    for tier in ("smoke", "standard", "full"):
        assert main(["evaluate", "--tier", tier, "--quiet"]) == 0
        said = [make_protector(name).declaration for name in calls[-1].protectors]
        assert [one.name for one in said if not one.control] == ["photo-cloak"]
        assert sum(one.control for one in said) == 4


def test_a_preset_of_the_survey_brings_its_people_and_methods(engine: Any, monkeypatch: Any) -> None:
    from evaluation.config import EvaluateConfig

    made = recorded_makes(monkeypatch)
    calls = engine(lambda config, run, **rest: _summary())
    assert main(["evaluate", "--preset", "S2", "--tier", "smoke", "--seed", "3", "--quiet"]) == 0
    assert calls[0] == EvaluateConfig.for_preset("S2", "smoke").model_copy(update={"seed": 3})
    (folder,) = Path("runs").iterdir()
    assert folder.name.endswith("-evaluate-smoke-s2-seed3")
    assert made == ["apf", "fawkes", "tip-im"]
    assert main(["evaluate", "--preset", "S1", "--tier", "smoke", "--quiet", "--protectors", "identity"]) == 0
    assert (calls[1].protectors, calls[1].people.test_people) == (("identity",), 30)


def test_a_run_on_photographs_shows_none(engine: Any, capsys: Any) -> None:
    strip = {"strip_identity": torch.full((2, 4, 4, 3), 0.5)}

    def job(config: Any, run: Any, **rest: Any) -> Summary:
        run.write_tensors("report.safetensors", strip)
        return _summary(protectors={"identity": made.method(control=True)}, headline={})

    engine(job)
    Path("photos/jane").mkdir(parents=True)
    Path("photos/jane/1.jpg").touch()
    for faces, shown in (("photos", False), ("synthetic", True)):
        assert main(["evaluate", "--tier", "smoke", "--quiet", "--json", "--faces", faces]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["mode"] == faces
        assert ("data:image" in Path(found["report"]).read_text()) is shown


def test_only_an_unmet_gate_ends_with_5(engine: Any, capsys: Any) -> None:
    gates = {"a/sface": Gate("a/sface", True, ""), "b": Gate("b", None, "not run")}
    engine(lambda config, run, **rest: _summary(gates=gates))
    assert main(["evaluate", "--tier", "smoke", "--quiet", "--json"]) == 0
    assert capsys.readouterr().err == ""
    gates["c/sface"] = Gate("c/sface", False, "clean TAR 0.4", {"tar": 0.4})
    assert main(["evaluate", "--tier", "smoke", "--quiet", "--json"]) == 5
    out, err = capsys.readouterr()
    assert json.loads(out)["gates"] == {
        "a/sface": {"passed": True, "reason": ""},
        "b": {"passed": None, "reason": "not run"},
        "c/sface": {"passed": False, "reason": "clean TAR 0.4", "tar": 0.4},
    }
    assert err == "optishield: gate not met: c/sface: clean TAR 0.4\n"


def test_too_few_people_are_exploratory_and_no_failure(engine: Any, capsys: Any) -> None:
    gates = {"c/sface": Gate("c/sface", False, "clean TAR 1.0 with lower limit 0.3")}
    engine(lambda config, run, **rest: _summary(gates=gates, exploratory="5 people are few"))
    assert main(["evaluate", "--tier", "smoke", "--quiet", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["gates"]["c/sface"]["passed"] is False
    assert err == "optishield: exploratory: 5 people are few\n"


def test_resume_goes_on_with_other_workers_but_not_with_another_seed(engine: Any, capsys: Any) -> None:
    def interrupted(config: Any, run: Any, **rest: Any) -> Summary:
        raise KeyboardInterrupt

    engine(interrupted)
    words = ["--tier", "smoke", "--seed", "7", "--protectors", "identity", "--out", "here"]
    assert main(["evaluate", *words]) == 130
    assert capsys.readouterr().err.endswith(
        "optishield: interrupted; continue with: optishield evaluate --resume here\n"
    )
    calls = engine(lambda config, run, **rest: _summary(exploratory=f"resume is {rest['resume']}"))
    again = ["evaluate", "--resume", "here", "--quiet", "--json"]
    assert main([*again, "--workers", "3", "--engine", "dask"]) == 0
    assert json.loads(capsys.readouterr().out)["exploratory"] == "resume is True"
    assert (calls[-1].seed, calls[-1].protectors, calls[-1].workers) == (7, ("identity",), 3)
    assert main([*again, "--seed", "8"]) == 3
    assert "differs in seed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("package", "words", "extra"), [("pyarrow", [], "evaluate"), ("distributed", ["--engine", "dask"], "dask")]
)
def test_an_absent_package_is_named_before_anything_runs(
    engine: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch, package: str, words: list[str], extra: str
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    calls = engine(lambda config, run, **rest: _summary())
    assert main(["evaluate", "--tier", "smoke", *words]) == 3
    assert f"pip install 'optishield[{extra}]'" in capsys.readouterr().err
    assert calls == [] and not Path("runs").exists()


def test_photographs_without_a_folder_for_each_person_are_refused_before_a_run_folder_is_made(
    engine: Any, capsys: Any
) -> None:
    calls = engine(lambda config, run, **rest: _summary())
    Path("album").mkdir()
    Path("album/1.jpg").touch()
    assert main(["evaluate", "--tier", "smoke", "--faces", "album"]) == 3
    assert "holds 1 photographs but no folders; put the photographs of each person" in capsys.readouterr().err
    assert calls == [] and not Path("runs").exists()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("pixelate:cells=113", "pixelate with the settings {'cells': '113'} takes photos of 113 pixels or more, and"),
        ("gaussian-blur:px=64", "gaussian-blur is made for photos of 64 pixels, and these have 112; set px=112 in"),
    ],
)
def test_photographs_of_a_side_that_a_protector_does_not_take_are_refused_before_a_run_folder_is_made(
    engine: Any, capsys: Any, tmp_path: Path, spec: str, words: str
) -> None:
    out = tmp_path / "run"
    assert main(["evaluate", "--tier", "smoke", "--protectors", spec, "--out", str(out), "--quiet"]) == 3
    assert words in capsys.readouterr().err
    assert not out.exists()


def test_photographs_need_the_detector_too(capsys: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPTISHIELD_CACHE", str(tmp_path / "cache"))
    Path("photos/jane").mkdir(parents=True)
    Path("photos/jane/1.jpg").touch()
    assert main(["evaluate", "--tier", "smoke", "--faces", "photos"]) == 3
    assert capsys.readouterr().err.endswith("run: optishield weights fetch sface yunet\n")


def test_weights_that_attackers_and_recognisers_need_are_registered() -> None:
    from evaluation.image_attackers import attacker_names
    from faces.families import recogniser_names
    from faces.weights import info
    from optishield.commands.evaluate import _WEIGHTS_OF_ATTACKERS, _WEIGHTS_OF_PHOTOGRAPHS

    assert set(_WEIGHTS_OF_ATTACKERS) <= set(attacker_names())
    needed = [*recogniser_names(), *_WEIGHTS_OF_PHOTOGRAPHS, *(n for ns in _WEIGHTS_OF_ATTACKERS.values() for n in ns)]
    assert [info(name).name for name in needed] == needed
