from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from firmware_bridge.errors import SessionError
from firmware_bridge.protocols import MaskCapabilities
from firmware_bridge.session.bench import open_bench, read_bench
from firmware_bridge.session.plan import NAMED_PATTERNS, Plan, Role, check_plan, named_pattern, read_plan, shots
from tests.firmware_bridge.session_doubles import BENCH, PLAN, World, write_sources

Check = Callable[..., tuple[Plan, dict[str, list[int]]]]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    def run(plan: str = PLAN, bench: str = BENCH) -> tuple[Plan, dict[str, list[int]]]:
        write_sources(tmp_path, plan, bench)
        with open_bench(read_bench(tmp_path / "bench.toml"), World().drivers()) as opened:
            read = read_plan(tmp_path / "plan.toml")
            return read, check_plan(read, opened, tmp_path)

    return run


def test_order_by_hand(check: Check) -> None:
    plan, ids = check()
    assert [(shot.step, str(shot.role), shot.repeat) for shot in shots(plan, ids)] == [
        ("sentinel", "sentinel-dark", 0),
        ("sentinel", "sentinel", 0),
        ("checker", "dark", 0),
        ("checker", "dark", 1),
        ("checker", "light", 0),
        ("checker", "light", 1),
        ("sentinel", "sentinel", 0),
        ("checker", "light", 2),
        ("stack", "light", 0),
        ("stack", "light", 1),
        ("stack", "light", 0),
        ("sentinel", "sentinel", 0),
        ("stack", "light", 1),
        ("sentinel", "sentinel", 0),
    ]


def test_ids_and_settings_of_shots(check: Check, tmp_path: Path) -> None:
    plan, ids = check()
    stack = np.load(tmp_path / "stack.npy")
    assert ids["stack"] == [zlib.crc32(levels.tobytes()) for levels in stack]
    order = shots(plan, ids)
    assert len({shot.key for shot in order}) == len(order)
    assert [shot.index for shot in order] == list(range(len(order)))
    for shot in order:
        dark = shot.role in (Role.dark, Role.sentinel_dark)
        assert (shot.light_share == 0) == dark
        assert shot.settings.bits == 12
    assert [order[index].pattern_id for index in (8, 9, 10, 12)] == [ids["stack"][n] for n in (0, 0, 1, 1)]


def test_named_patterns_by_hand() -> None:
    mask = MaskCapabilities(width=10, height=9, bits=10, settle_s=0)
    made = {name: named_pattern(name, mask) for name in NAMED_PATTERNS}
    assert all(levels.shape == (9, 10) and levels.dtype == np.uint16 for levels in made.values())
    assert np.unique(made["half"]).tolist() == [512]
    assert made["ramp-x"][3, [0, 1, 9]].tolist() == [0, 113, 1023]
    assert made["ramp-y"][[0, 8], 5].tolist() == [0, 1023]
    assert made["checker"][[0, 0, 8, 8], [0, 8, 0, 8]].tolist() == [0, 1023, 1023, 0]


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        (
            "exposure_s = 0.02",
            "exposure_s = 0.7",
            r"step 'checker': exposure_s = 0.7, camera and bench allow 1e-05 to 0.5",
        ),
        ("light_share = 0.5", "light_share = 0.7", r"step 'checker': light_share = 0.7, the bench allows up to 0.6"),
        ("light_share = 0.5\n", "", r"step 'checker': light_share is missing"),
        ("position_m = 0.002", "position_m = 0.02", r"step 'checker': position_m = 0.02, the stage goes from -0.01 to"),
        ("bits = 12", "bits = 10", r"bits = 10, the camera offers 8, 12"),
        ("bits = 12", "bits = 12\ngain_db = 20", r"gain_db = 20, the camera offers 0 to 12"),
        ("bits = 12", "bits = 12\nroi = [4, 0, 24, 8]", r"roi = \[4, 0, 24, 8\] does not lie on the sensor of 24 x 16"),
        (
            'pattern = "checker"',
            'pattern = "stripes"',
            r"step 'checker': there is no pattern 'stripes'; name a .npy file",
        ),
        (
            "averages = 3",
            "averages = 1000000",
            "take 1000[0-9]{3} frames, and a session holds 1000000",
        ),
        ('pattern = "checker"', 'pattern = "none.npy"', r"step 'checker': pattern none.npy cannot be read"),
        (
            'pattern = "half"',
            'pattern = "stack.npy"',
            r"step 'sentinel': a sentinel has one pattern, stack.npy holds 2",
        ),
    ],
)
def test_impossible_plans_name_the_step(check: Check, old: str, new: str, match: str) -> None:
    assert old in PLAN
    with pytest.raises(SessionError, match=match):
        check(PLAN.replace(old, new, 1))


@pytest.mark.parametrize(
    ("levels", "match"),
    [
        (np.zeros((6, 9), np.uint8), r"has \(6, 9\) values of uint8, the mask shows \(6, 8\)"),
        (np.zeros((6, 8), np.uint16), r"values of uint16, the mask shows .* in uint8"),
        (np.zeros((0, 6, 8), np.uint8), r"odd.npy holds no pattern"),
    ],
)
def test_patterns_that_the_mask_cannot_show(check: Check, tmp_path: Path, levels: np.ndarray, match: str) -> None:
    np.save(tmp_path / "odd.npy", levels)
    with pytest.raises(SessionError, match=f"step 'checker': .*{match}"):
        check(PLAN.replace('pattern = "checker"', 'pattern = "odd.npy"'))


def _archive() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, levels=np.zeros((6, 8), np.uint8))
    return stream.getvalue()


def _claims(shape: str) -> bytes:
    """A file whose header claims another shape than its values have."""
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(48)


@pytest.mark.parametrize(
    "data", [b"", b"\x93NUM", b"no array", _archive(), _claims("(10**30, 8)"), _claims(f"({10**12}, {10**12})")]
)
def test_files_of_patterns_that_are_none_end_in_one_sentence(check: Check, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "odd.npy").write_bytes(data)
    reason = r"step 'checker': pattern odd\.npy (cannot be read|is an archive of arrays)"
    with pytest.raises(SessionError, match=reason):
        check(PLAN.replace('pattern = "checker"', 'pattern = "odd.npy"'))


def test_all_that_is_wrong_is_told_at_once(check: Check) -> None:
    plan = PLAN.replace("exposure_s = 0.02", "exposure_s = 9.0").replace("light_share = 0.25", "light_share = 0.9")
    with pytest.raises(SessionError, match=r"step 'checker': exposure_s = 9.*; step 'stack': light_share = 0.9"):
        check(plan)


def test_a_bench_without_mask_light_and_stage(check: Check) -> None:
    bench = BENCH[: BENCH.index("[mask]")] + BENCH[BENCH.index("[limits]") :]
    plan, ids = check('name = "p"\n[[steps]]\nname = "a"\nexposure_s = 0.01\naverages = 2', bench)
    assert [(shot.pattern_id, shot.light_share, shot.position_m) for shot in shots(plan, ids)] == [(None,) * 3] * 2
    with pytest.raises(
        SessionError, match=r"pattern is given, .*light_share is given, .*position_m is given.*darks = 2"
    ):
        check(PLAN, bench)


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ('name = "stack"', 'name = "checker"', "each step needs a name of its own"),
        ('name = "stack"', 'name = "sentinel"', "each step needs a name of its own"),
        ('name = "stack"', 'name = "../x"', r"steps\.1\.name: String should match"),
        ("averages = 3", "averages = 0", r"steps\.0\.averages"),
        ("averages = 3", "averages = 1000000000", r"steps\.0\.averages: Input should be less than or equal to 1000000"),
        ("darks = 2", "darks = 1000000000", r"steps\.[01]\.darks: Input should be less than or equal to 1000000"),
        ("averages = 3", "averages = true", r"steps\.0\.averages: Input should be a valid integer"),
        ("every = 4", "every = 0", r"sentinel\.every"),
        ("exposure_s = 0.02", "exposure = 0.02", r"steps\.0\.exposure_s: Field required; steps\.0\.exposure: Extra"),
    ],
)
def test_wrong_files_are_refused_with_the_place(check: Check, old: str, new: str, match: str) -> None:
    with pytest.raises(SessionError, match=match):
        check(PLAN.replace(old, new, 1))


def test_json_is_read_as_toml_is(tmp_path: Path) -> None:
    write_sources(tmp_path)
    plan = read_plan(tmp_path / "plan.toml")
    (tmp_path / "plan.json").write_text(plan.model_dump_json())
    assert read_plan(tmp_path / "plan.json") == plan
