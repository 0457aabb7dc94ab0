"""The whole matrix on noise pictures: controls, failures, interruption, and the same table wherever it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import torch
from safetensors.torch import load_file

from evaluation import EvaluationError, people
from faces.folders import FolderFaces
from faces.samples import five_points
from tests.evaluation.matrix import matrix_fakes

Evaluate = Callable[..., dict[str, Any]]


def _cell(summary: Mapping[str, Any], protector: str, attacker: str, combination: str) -> dict[str, Any]:
    wanted = {"protector": protector, "attacker": attacker, "combination": combination}
    (found,) = [row for row in summary["rows"] if wanted.items() <= row.items()]
    return dict(found)


def test_controls_and_known_protectors_get_what_they_deserve(evaluated: Evaluate, tmp_path: Path) -> None:
    summary = evaluated(protectors=["negative", "hide"])
    # Named or not, controls are run.
    assert {row["protector"].partition(":")[0] for row in summary["rows"]} == {
        "identity", "gaussian-blur", "pixelate", "noise", "negative", "hide",
    }  # fmt: skip
    for combination in ("CP", "PC", "PP"):
        assert _cell(summary, "identity", "as-published", combination)["psr_net"] == 0
        assert _cell(summary, "hide", "inverting", combination)["psr_net"] > 0.9
    # The recogniser as published is fooled by a negative, but not by two of them, and not if it undoes it.
    negative = {name: _cell(summary, "negative", "as-published", name) for name in ("CP", "PC", "PP")}
    assert negative["CP"]["psr_net"] == negative["PC"]["psr_net"] == 1
    assert negative["PC"]["delta_accuracy"] > 0.9
    assert negative["PP"]["psr_net"] == 0
    assert _cell(summary, "negative", "inverting", "CP")["psr_net"] == 0
    assert _cell(summary, "negative", "inverting", "CP")["verdict"] == "broken"
    head = summary["headline"]["negative"]["CP"]
    assert (head["attacker"], head["raw_psr"], head["claimed"]) == ("inverting", 1, True)
    assert head["low"] < 0.01
    assert (head["worst_person"], summary["headline"]["negative"]["claims"]["unlinkable"]) == (0, False)
    # Nobody lets a claim rest on a recogniser whose control failed.
    gates = summary["gates"]
    for name in ("recogniser-strength", "label-shuffle", "identity-control", "parrot-control"):
        assert gates[f"{name}/pixels"]["passed"], gates[f"{name}/pixels"]
    assert gates["wiener-control/pixels"]["passed"] is None
    assert gates["equal-noise/hide/pixels"]["passed"] in (True, False)
    hidden = _cell(summary, "hide", "as-published", "CP")
    assert hidden["verdict"] in ("strong", "protects") or hidden["reason"].startswith("equal-noise")
    assert summary["exploratory"] == ""
    assert [entry["attacker"] for entry in summary["inapplicable"]].count("average-4") == 4
    assert _cell(summary, "noise:linf=0.03", "average-4", "CP")["frames"] == 4
    # Holm multiplies the least p by the number of pairs.
    tests = [test for test in summary["comparisons"] if test["combination"] == "CP"]
    least = min(tests, key=lambda test: test["p"])
    assert len(tests) == 15
    assert least["p_holm"] == pytest.approx(min(1, 15 * least["p"]))
    curves = load_file(tmp_path / "run" / "curves.safetensors")
    assert curves["fnmr"].shape == (len(summary["curves"]["points"]), 4, 3, 49)
    assert not (tmp_path / "run" / "work").exists()


@pytest.mark.timeout(400)  # starts seven processes that import torch
def test_one_worker_four_workers_and_dask_make_the_same_bytes(
    evaluated: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = {}
    for name, changes in (
        ("one", {"workers": 1}),
        ("four", {"workers": 4}),
        ("dask", {"workers": 2, "engine": "dask"}),
    ):
        monkeypatch.setenv("OPTISHIELD_CACHE", str(tmp_path / f"cache-{name}"))
        evaluated(name, protectors=["negative"], attackers=["as-published", "inverting"], **changes)
        tables[name] = (tmp_path / name / "rows.parquet").read_bytes()
    assert tables["one"] == tables["four"] == tables["dask"]
    table = pyarrow.parquet.read_table(tmp_path / "one" / "rows.parquet")
    assert table.num_rows == 5 * 2 * 4
    assert "seconds_per_image" not in table.column_names


def test_a_killed_run_goes_on_to_the_same_bytes(
    evaluated: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill = tmp_path / "kill"
    monkeypatch.setenv("OPTISHIELD_TEST_KILL", str(kill))
    kill.touch()
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        evaluated("stopped", attackers=["as-published", "killed"])
    kept = sorted(path.name for path in (tmp_path / "cache" / "evaluation").glob("attack-*"))
    assert len(kept) == 6
    kill.unlink()
    evaluated("stopped", attackers=["as-published", "killed"])
    monkeypatch.setenv("OPTISHIELD_CACHE", str(tmp_path / "another"))
    evaluated("straight", attackers=["as-published", "killed"])
    assert (tmp_path / "stopped" / "rows.parquet").read_bytes() == (tmp_path / "straight" / "rows.parquet").read_bytes()


def test_what_fails_is_named_and_the_rest_survives(evaluated: Evaluate) -> None:
    summary = evaluated(
        protectors=["broken", "negative"],
        attackers=["as-published", "crashing", "unknown"],
        recognisers=["pixels", "weak", "absent"],
    )
    missing = {(entry["stage"], entry["what"]): entry["reason"] for entry in summary["missing"]}
    assert missing["clean", "absent"] == "FileNotFoundError: its weights were not fetched"
    assert missing["attack", "unknown"] == "ValueError: no such attacker"
    assert missing["attack", "negative, crashing, pixels"] == "ZeroDivisionError: it always does"
    assert missing["protect", "broken, test"] == "RuntimeError: the lens fell off"
    assert {row["attacker"] for row in summary["rows"]} == {"as-published"}
    assert {row["recogniser"] for row in summary["rows"]} == {"pixels", "weak"}
    weak = [row for row in summary["rows"] if row["recogniser"] == "weak" and row["combination"] != "CC"]
    assert not summary["gates"]["recogniser-strength/weak"]["passed"]
    assert {row["verdict"] for row in weak} == {"no claim"}
    assert all(row["reason"].startswith("recogniser-strength/weak: ") for row in weak)
    assert summary["headline"]["negative"]["CP"]["recogniser"] == "pixels"


def test_a_known_blur_gets_a_certificate(evaluated: Evaluate) -> None:
    summary = evaluated(protectors=["lens", "noise"], attackers=["as-published"])
    assert list(summary["certificates"]) == ["lens"]
    stated = summary["certificates"]["lens"]
    # 3072 pixels with a signal of several times the noise: far more bits than a name has.
    assert (stated["tier"], stated["people"], stated["frames"], stated["vacuous"]) == ("model-based", 30, 1, True)
    assert stated["bits"] > 100
    assert summary["gates"]["certificate"]["passed"]
    assert summary["headline"]["lens"]["claims"]["certified"] is False


def test_no_recogniser_at_all_is_an_error(evaluated: Evaluate) -> None:
    with pytest.raises(EvaluationError, match=r"no recogniser could be used \(absent: FileNotFoundError"):
        evaluated(recognisers=["absent"])


def test_few_people_are_exploratory(evaluated: Evaluate) -> None:
    config = {"train_people": 4, "validation_people": 4, "calibration_people": 8, "test_people": 12}
    shape = {"captures": 4, "gallery_captures": 2, "fit_captures": 1, "size_px": 32}
    summary = evaluated(people={**config, **shape}, protectors=["hide"], attackers=["as-published"])
    assert summary["exploratory"].startswith("12 tested people are fewer than 30")
    verdicts = {row["verdict"] for row in summary["rows"] if row["protector"] == "hide"}
    assert not verdicts & {"protects", "strong", "withstands"}


@pytest.mark.parametrize("spare", [0, 1])
def test_a_person_specific_protector_sees_other_photographs(evaluated: Evaluate, spare: int) -> None:
    shape = {"captures": 4, "gallery_captures": 2, "fit_captures": spare, "size_px": 32}
    counts = {"train_people": 6, "validation_people": 4, "calibration_people": 34, "test_people": 30}
    summary = evaluated(people={**counts, **shape}, protectors=["person"], attackers=["as-published"])
    reasons = [entry["reason"] for entry in summary["missing"] if entry["what"] == "person, test"]
    if spare:
        assert _cell(summary, "person", "as-published", "CP")["psr_net"] == 1
        (entry,) = [entry for entry in summary["tables"] if entry["protector"] == "person"]
        assert entry["person_specific"] > 0.8
    else:
        assert reasons == [
            "EvaluationError: person must see each person first, but 30 of 30 people have no photograph to spare; "
            "raise people.fit_captures, or give more photographs of each person."
        ]


def _album(people_count: int) -> FolderFaces:
    faces = matrix_fakes.heads(people_count, 5, 0)
    return FolderFaces(faces, five_points(faces.landmarks), (), torch.zeros(len(faces)), ())


@pytest.mark.parametrize(("count", "exploratory"), [(20, True), (74, False)])
def test_photographs_of_few_people_are_all_tested(
    evaluated: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, exploratory: bool
) -> None:
    monkeypatch.setattr(people, "load_folder", lambda path, size: _album(count))
    summary = evaluated(faces=str(tmp_path), protectors=["identity"], attackers=["as-published"])
    assert bool(summary["exploratory"]) == exploratory
    assert summary["identities"] == (20 if exploratory else 30)
    # Photographs leave nothing behind outside the run folder, nor in it.
    assert not (tmp_path / "cache" / "evaluation").exists()
    assert not (tmp_path / "run" / "work").exists()
