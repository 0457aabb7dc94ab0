"""``optishield bench``: sessions on the virtual bench and on emulated devices, from the command line."""

from __future__ import annotations

import inspect
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

from firmware_bridge.devices import AravisOptions, GentlOptions, SlmOptions, UvcOptions
from firmware_bridge.devices.genicam import GenicamCamera
from firmware_bridge.devices.gentl import gentl_camera
from firmware_bridge.devices.slm_window import SlmWindow
from firmware_bridge.devices.uvc import UvcCamera
from optishield.bench.requirements import REQUIREMENTS, Requirement, examine
from optishield.bench.view import Look, dark_gate, focus_gate, light_gate, look, picture
from tests.firmware_bridge.camera_doubles import gige_port, waits_for_the_port
from tests.firmware_bridge.wire_doubles import built
from tests.optishield.bench.bench_doubles import BENCH, CAPTURE, FRAMES, PLAN, run, write_sources


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sources(tmp_path, monkeypatch)


def test_a_session_from_capture_to_export(capsys: pytest.CaptureFixture[str]) -> None:
    code, sealed, err = run(capsys, *CAPTURE, "--calibration", "psf=psf-7")
    assert code == 0, err
    assert (sealed["origin"], sealed["frames"]) == ("simulated", FRAMES)
    assert [(gate["name"], gate["passed"]) for gate in sealed["gates"]] == [
        *((name, True) for name in ("devices", "plan", "dark", "light")),
        # Nobody has turned the focus of a simulated bench, so nothing is claimed of it.
        ("focus", None),
    ]
    manifest = json.loads(Path("session/manifest.json").read_text())
    assert {frame["origin"] for frame in manifest["frames"]} == {"simulated"}
    assert {frame["calibrations"]["psf"] for frame in manifest["frames"]} == {"psf-7"}

    code, verified, _ = run(capsys, "verify", "session")
    assert code == 0 and verified["passed"]
    code, again, _ = run(capsys, "seal", "session")
    assert (code, again["manifest"]) == (0, sealed["manifest"])

    h5py = pytest.importorskip("h5py", reason="h5py is missing (extra export)")
    tifffile = pytest.importorskip("tifffile", reason="tifffile is missing (extra export)")
    code, exported, _ = run(capsys, "export", "session", "--nexus", "copy.nxs", "--tiff", "copy.tif")
    assert (code, exported["nexus"], exported["tiff"]) == (0, "copy.nxs", "copy.tif")
    frame = np.load(Path("session") / manifest["frames"][-1]["file"])
    with h5py.File("copy.nxs") as file:
        assert file["entry/origin"][()].decode() == "simulated"
    with tifffile.TiffFile("copy.tif") as file:
        assert len(file.pages) == FRAMES
        np.testing.assert_array_equal(file.pages[-1].asarray(), frame)

    # One level of one frame is changed.
    path = Path("session") / manifest["frames"][2]["file"]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    code, verified, _ = run(capsys, "verify", "session")
    assert code == 3 and not verified["passed"]
    assert [check["name"] for check in verified["checks"] if not check["passed"]] == ["frames"]


def test_what_was_interrupted_is_resumed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from sim.bench.twins import CameraTwin

    grab, grabbed = CameraTwin.grab, []

    def until_ctrl_c(camera: CameraTwin, timeout_s: float) -> Any:
        grabbed.append(1)
        if len(grabbed) == 9:
            raise KeyboardInterrupt
        return grab(camera, timeout_s)

    monkeypatch.setattr(CameraTwin, "grab", until_ctrl_c)
    code, _, err = run(capsys, *CAPTURE)
    assert code == 130
    assert "continue with: optishield bench resume session --operator 'Ada'" in err
    code, _, err = run(capsys, "seal", "session")
    assert code == 3 and "of 7 frames of session are missing" in err
    code, sealed, err = run(capsys, "resume", "session", "--operator", "Ada")
    assert code == 0, err
    assert (sealed["frames"], "gates" in sealed) == (FRAMES, False)
    code, again, _ = run(capsys, "resume", "session", "--operator", "Ada")
    assert (code, again["manifest"]) == (0, sealed["manifest"])


# The command line, killed where a frame is asked for; the checklist takes the first three.
KILLED = """
import os, signal, sys
from optishield.cli import main
from sim.bench.twins import CameraTwin
grab, left = CameraTwin.grab, int(sys.argv[1])

def kill(camera, timeout_s):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return grab(camera, timeout_s)

CameraTwin.grab = kill
main(["bench", *sys.argv[2:]])
"""


@pytest.mark.timeout(600)
def test_what_was_killed_and_resumed_is_byte_for_byte_what_was_not(capsys: pytest.CaptureFixture[str]) -> None:
    # More frames than go to the disk together, at two places of the stage.
    bench = BENCH.replace("[limits]", '[stage]\ndriver = "sim://stage"\nserial = "S1"\n[limits]')
    Path("bench.toml").write_text(bench)
    plan = PLAN.replace("averages = 3", "averages = 30").replace(
        "light_share = 0.5\n", "light_share = 0.5\nposition_m = 0.0\n"
    )
    Path("plan.toml").write_text(plan.replace("position_m = 0.0\naverages", "position_m = 0.001\naverages"))
    root = str(Path(__file__).resolve().parents[3])

    def killed(grabs: int, *words: str) -> None:
        command = [sys.executable, "-c", KILLED, str(grabs), *words]
        done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONPATH": root}, timeout=300)
        assert done.returncode == -signal.SIGKILL, done.stderr

    code, undisturbed, err = run(capsys, *CAPTURE[:4], "undisturbed", *CAPTURE[5:])
    assert code == 0, err
    killed(38, *CAPTURE)
    assert Path("session/journal.jsonl").read_text().count('"DONE"') == 16
    killed(9, "resume", "session", "--operator", "Ada")
    assert not Path("session/manifest.json").exists()
    code, _, err = run(capsys, "resume", "session", "--operator", "Ada")
    assert code == 0, err
    code, sealed, _ = run(capsys, "seal", "session")
    assert (code, sealed["manifest"]) == (0, undisturbed["manifest"])
    manifests = [Path(name, "manifest.json").read_bytes() for name in ("undisturbed", "session")]
    assert manifests[0] == manifests[1]
    assert Path("session/journal.jsonl").read_text().count('"RESUME"') == 2


@pytest.mark.parametrize(
    ("old", "new", "gate", "reason"),
    [
        ("exposure_s = 0.001", "exposure_s = 0.09", "light", "of the pixels are saturated"),
        ("exposure_s = 0.001", "exposure_s = 0.00002", "light", "above dark, at least 5% are needed"),
        ("exposure_s = 0.001", "exposure_s = 0.2", "plan", "exposure_s = 0.2, camera and bench allow 2e-05 to 0.1"),
        ('pattern = "checker"', 'pattern = "chess"', "plan", "no pattern 'chess'"),
    ],
)
def test_a_gate_that_is_not_met_ends_the_capture(
    capsys: pytest.CaptureFixture[str], old: str, new: str, gate: str, reason: str
) -> None:
    Path("plan.toml").write_text(PLAN.replace(old, new, 1))
    code, result, err = run(capsys, *CAPTURE)
    assert code == 5
    assert [one["name"] for one in result["gates"] if not one["passed"]] == [gate]
    assert f"gate not met: {gate}" in err and reason in " ".join(err.split())
    assert not Path("session").exists()


def test_the_example_is_captured_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    code, found, err = run(capsys, "init", "example/new")
    assert (code, found["written"]) == (0, ["example/new/bench.toml", "example/new/plan.toml"]), err
    assert "bench capture example/new/bench.toml example/new/plan.toml --out example/new/session" in err
    code, sealed, err = run(capsys, "capture", *found["written"], "--out", "session", "--operator", "Ada", "--yes")
    # Two of the sentinel at the beginning, 8 of the first step, 1, 6 of the second, 1.
    assert (code, sealed["frames"], sealed["origin"]) == (0, 18, "simulated"), err
    before = Path("example/new/plan.toml").read_bytes()
    Path("example/new/bench.toml").unlink()
    code, _, err = run(capsys, "init", "example/new")
    assert code == 3 and "plan.toml exists already; name another folder" in err
    assert not Path("example/new/bench.toml").exists() and Path("example/new/plan.toml").read_bytes() == before


def test_nobody_is_asked_where_there_is_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, *CAPTURE[:-1])
    assert code == 2 and "add --yes" in err


def test_live_tells_levels_and_focus(capsys: pytest.CaptureFixture[str]) -> None:
    lit = ("--pattern", "full", "--light-share", "0.5", "--operator", "Ada")
    words = ("live", "bench.toml", "--exposure-s", "0.001", "--bits", "12", "--frames", "2")
    code, dark, err = run(capsys, *words)
    assert code == 0, err
    code, bright, err = run(capsys, *words, *lit)
    assert code == 0, err
    assert (dark["origin"], dark["frames"]) == ("simulated", 2)
    assert sum(dark["histogram"]) == 256 * 224
    assert bright["mean"] > 2 * dark["mean"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--pattern", "full"), "name them with --operator"),
        (("--operator", "A", "--pattern", "chess"), "--pattern chess cannot be shown: there are zero, half"),
        (("--operator", "A", "--light-share", "0.9"), "--light-share 0.9: the bench allows up to 0.8"),
    ],
)
def test_live_refuses(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str) -> None:
    code, _, err = run(capsys, "live", "bench.toml", "--exposure-s", "0.001", "--frames", "1", *words)
    assert code == 2 and message in err
    code, _, err = run(capsys, "live", "bench.toml", "--exposure-s", "0.2", "--frames", "1")
    assert code == 2 and "the bench allows up to 0.1 s" in err


def test_the_doctor_opens_the_devices_of_a_bench(capsys: pytest.CaptureFixture[str]) -> None:
    code, found, err = run(capsys, "doctor", "bench.toml")
    assert code == 0, err
    assert {kind: one["origin"] for kind, one in found["devices"].items()} == dict.fromkeys(
        ("camera", "mask", "light"), "simulated"
    )
    code, found, _ = run(capsys, "doctor")
    assert (code, found["devices"]) == (0, {})
    assert {"controllers", "modulator window", "emulated firmware", "serial ports"} <= set(found["machine"])
    assert {"mcu", "slm", "aravis", "uvc", "emulated", "sim://camera"} <= set(found["drivers"])


def test_the_doctor_knows_all_that_the_selftest_needs() -> None:
    def without(*missing: str) -> dict[str, str]:
        everything = [replace(one, found=lambda name: name not in missing) for one in REQUIREMENTS]
        return {gate.name: gate.reason for gate in examine(tuple(everything))}

    assert without()["self-test"] == "can run: optishield bench selftest"
    for name, part, install in (
        ("libaravis-0.8.so.0", "cameras by GenICam", "libaravis-0.8-0"),
        ("gcc", "emulated firmware", "gcc"),
        ("make", "emulated firmware", "make"),
        ("cbor2", "controllers", r"optishield[bench]"),
    ):
        found = without(name)
        assert f"{name} missing; install " in found[part] and install in found[part]
        assert found["self-test"] == f"needs: {part}"
    assert without("tifffile")["self-test"].startswith("can run")


def test_what_is_required_is_looked_for_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Requirement("x", ("json",), REQUIREMENTS[0].found, "nothing")
    assert [gate.passed for gate in examine((here,))] == [True, True]
    monkeypatch.setenv("PATH", str(tmp_path))
    found = {gate.name: gate for gate in examine()}
    assert found["emulated firmware"].passed is False
    absent = replace(REQUIREMENTS[2], names=("libnothing-0.0.so.0",))
    assert absent.part == "cameras by GenICam" and not examine((absent,))[0].passed


def test_all_devices_that_are_missing_are_told_at_once_and_none_is_replaced(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPLAY", ":9876")
    text = BENCH.replace('origin = "simulated"', 'origin = "mixed"')
    text = text.replace("sim://light", "mcu").replace('"sim://mask"', '"slm"\noptions = { settle_s = 0.01 }')
    Path("bench.toml").write_text(text)
    code, _, err = run(capsys, "doctor", "bench.toml")
    assert code == 4
    first, light, mask = err.splitlines()
    assert first == "optishield: error: virtual table is not ready, 2 of 3 devices fail:"
    assert light.startswith("  light: no USB serial device has the serial number 'L1'")
    assert mask.startswith("  mask: ")


def test_a_driver_that_does_not_exist_is_a_mistake_in_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path("bench.toml").write_text(BENCH.replace("sim://camera", "camera").replace("sim://light", "uvc"))
    code, _, err = run(capsys, "doctor", "bench.toml")
    assert code == 3
    assert "light.driver: 'uvc' drives a camera; camera.driver: there is no driver 'camera'; known are: aravis" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("bench.toml", None, "bench.toml: No such file or directory; check the path."),
        ("plan.toml", None, "plan.toml: No such file or directory; check the path."),
        ("bench.toml", "name = 3", "bench.toml is not as it must be: name: Input should be a valid string; origin: "),
        ("bench.toml", "name = ", "bench.toml is no valid TOML: Invalid value (at end of document)"),
        ("plan.toml", PLAN.replace("bits = 12", "bits = 99"), "plan.toml is not as it must be: bits: Input should be"),
        ("plan.toml", "a = " + "[" * 100_000, "plan.toml holds lists or tables nested more than 64 times"),
        ("bench.toml", "\x00", "bench.toml is no valid TOML"),
    ],
)
def test_files_that_are_wrong_are_named_with_the_place_and_are_no_fault_of_the_hardware(
    capsys: pytest.CaptureFixture[str], file: str, text: str | None, message: str
) -> None:
    Path(file).unlink()
    if text is not None:
        Path(file).write_text(text)
    code, _, err = run(capsys, *CAPTURE)
    assert code == 3 and f"optishield: error: {message}" in err
    assert len(err.splitlines()) == 1


def test_a_folder_that_is_no_session_is_no_fault_of_the_hardware(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (("resume", "none", "--operator", "A"), ("seal", "none"), ("export", "none", "--tiff", "x.tif")):
        code, _, err = run(capsys, *words)
        assert code == 3 and len(err.splitlines()) == 1, err


def test_files_with_a_byte_order_mark_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    for name, text in (("bench.toml", BENCH), ("plan.toml", PLAN)):
        Path(name).write_bytes(b"\xef\xbb\xbf" + text.encode())
    code, sealed, err = run(capsys, *CAPTURE)
    assert (code, sealed["frames"]) == (0, FRAMES), err


@pytest.mark.parametrize(
    ("driver", "options", "message"),
    [
        ("slm", "", "options of the mask is not as it must be: settle_s: Field required"),
        ("slm", "options = { settle_s = 0.1, colour = 1 }", "options of the mask is not as it must be: colour: Extra"),
        ("deformable-mirror", "options = { low = 0, high = 9 }", "neighbour: Field required; across: Field required"),
        ("mcu", "options = { baud = 9600 }", "options of the mask is not as it must be: baud: Extra inputs"),
    ],
)
def test_options_of_drivers_are_checked(
    capsys: pytest.CaptureFixture[str], driver: str, options: str, message: str
) -> None:
    Path("bench.toml").write_text(BENCH.replace('"sim://mask"', f'"{driver}"\n{options}'))
    code, _, err = run(capsys, "doctor", "bench.toml")
    assert code == 3 and message in err


@pytest.mark.parametrize(
    ("options", "opens"),
    [
        (SlmOptions, SlmWindow),
        (AravisOptions, GenicamCamera),
        (GentlOptions, gentl_camera),
        (UvcOptions, UvcCamera.usb),
    ],
)
def test_options_are_those_of_the_drivers(options: type[BaseModel], opens: Callable[..., Any]) -> None:
    parameters = inspect.signature(opens).parameters
    assert set(options.model_fields) == set(parameters) - {"serial", "connect", "patience_s", "clock", "sleep"}
    for name, field in options.model_fields.items():
        assert field.is_required() == (parameters[name].default is inspect.Parameter.empty)
        assert field.is_required() or field.default == parameters[name].default


def test_a_bench_may_not_pass_for_another_origin(capsys: pytest.CaptureFixture[str]) -> None:
    Path("bench.toml").write_text(BENCH.replace('origin = "simulated"', 'origin = "bench"'))
    code, _, err = run(capsys, "doctor", "bench.toml")
    assert code == 4 and "is simulated, and the file of the bench says origin = 'bench'" in err


def test_the_selftest_of_a_bench(capsys: pytest.CaptureFixture[str]) -> None:
    code, result, _ = run(capsys, "selftest", "bench.toml", "--quiet")
    assert (code, result["origin"]) == (0, "simulated")
    assert all(check["passed"] for check in result["checks"])


@waits_for_the_port
def test_the_selftest_takes_a_session_over_the_real_wire(capsys: pytest.CaptureFixture[str]) -> None:
    built("host")  # skips where there is no compiler
    with gige_port():
        code, result, err = run(capsys, "selftest", "--quiet")
    assert code == 0, err
    assert (result["origin"], result["frames"]) == ("emulated", 14)
    assert {"mask refuses a damaged pattern", "camera counts", "sealed"} <= {
        check["name"] for check in result["checks"]
    }


def test_without_a_compiler_the_selftest_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    code, _, err = run(capsys, "selftest", "--quiet")
    assert code == 4 and "install them (Debian: build-essential)" in err


def test_help_loads_neither_torch_nor_devices() -> None:
    program = "import sys; from optishield.cli import main; main(['bench', '--help']); print(sorted(sys.modules))"
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root)
    loaded = set(done.stdout.splitlines()[-1].strip("[]").replace("'", "").split(", "))
    assert not loaded & {"torch", "cv2", "numpy", "serial", "firmware_bridge", "sim"}


# -- figures of frames -------------------------------------------------------------------------------------------------


def test_figures_of_a_frame_worked_by_hand() -> None:
    # 1000 of 10000 pixels at the top of 12 bits, the others at a quarter of it.
    levels = np.full((100, 100), 1023, np.uint16)
    levels[:10] = 4095
    seen = look(levels, 12)
    assert seen.mean == pytest.approx(0.1 + 0.9 * 1023 / 4095)
    assert (seen.saturated, seen.bright) == (0.1, 1.0)
    assert (seen.histogram[11], seen.histogram[47], sum(seen.histogram)) == (9000, 1000, 10000)


def test_focus_rises_with_sharpness_and_not_with_light() -> None:
    y, x = np.indices((64, 64))
    sharp = np.where((x // 4 + y // 4) % 2, 200, 20).astype(np.uint8)
    soft = np.full((64, 64), 110, np.uint8) + np.round(30 * np.sin(x / 4)).astype(np.uint8)
    assert look(sharp, 8).focus > 10 * look(soft, 8).focus
    assert look(sharp // 2, 8).focus == pytest.approx(look(sharp, 8).focus, rel=0.02)
    assert look(np.zeros((8, 8), np.uint8), 8).focus == 0


def a_look(mean: float = 0.1, bright: float = 0.5, saturated: float = 0.0) -> Look:
    return Look(mean, bright, saturated, 1.0, (1, 0, 7))


def test_gates_and_their_reasons() -> None:
    assert dark_gate(a_look(mean=0.25)).passed
    assert dark_gate(a_look(mean=0.26)).reason == (
        "without light the mean is 26.0% of the range, at most 25% are allowed; cover the bench, or lower the gain"
    )
    assert light_gate(a_look(bright=0.5), a_look(bright=0.44)).passed
    assert "stand 4.0% of the range above dark" in light_gate(a_look(bright=0.5), a_look(bright=0.46)).reason
    assert light_gate(a_look(), None).passed
    assert "1.1% of the pixels are saturated" in light_gate(a_look(saturated=0.011), None).reason


# Sharpness while the focus is turned through its best place and back, three frames at each place.
THERE, BACK = [1.0] * 3 + [2.0] * 3 + [4.0] * 3 + [2.0] * 3, [3.8] * 3


@pytest.mark.parametrize(
    ("focus", "passed", "reason"),
    [
        (THERE + BACK, True, "3.8, between 1 and 4 in 15 frames"),
        # It began at the best place, and was turned to both sides.
        ([4.0] * 3 + [1.0] * 3 + [4.0] * 3 + [1.0] * 3 + [4.0] * 3, True, "4, between 1 and 4 in 15 frames"),
        (THERE, False, "2, between 1 and 4 in 12 frames; turn back to the best"),
        # Nobody touched it: one look, many looks, looks with noise.
        ([0.1264], False, "0.1264, between 0.1264 and 0.1264 in 1 frames; the best place is not known before the bar"),
        ([2.0] * 50, False, "2, between 2 and 2 in 50 frames; the best place is not known"),
        ([2.0, 2.1, 1.9] * 20, False, "the best place is not known"),
        # A single frame that stands out, for example because somebody walked past.
        ([2.0] * 10 + [9.0] + [2.0] * 10, False, "2, between 2 and 2 in 21 frames; the best place is not known"),
        # It was turned to one side only: the best may lie on the other.
        ([1.0] * 3 + [2.0] * 3 + [4.0] * 5, False, "the best place is not known"),
        ([4.0] * 5 + [1.0] * 5 + [4.0] * 5, False, "the best place is not known"),
    ],
)
def test_the_focus_must_be_seen_to_go_through_its_best_place(focus: list[float], passed: bool, reason: str) -> None:
    gate = focus_gate(focus)
    assert gate.passed is passed
    assert reason in gate.reason


def test_the_picture_shows_bars() -> None:
    lines = picture(a_look(bright=0.5, saturated=0.02), 2.0).plain.splitlines()
    assert lines[0] == "levels      |▃ █|"  # log(2) and log(8) of log(8): a third of 8 steps, and all
    assert lines[1].startswith(f"brightness  [{'#' * 15}{'.' * 15}]  50.0%")
    assert lines[3].startswith(f"focus       [{'#' * 15}{'.' * 15}] 1")
