"""The files that ``optishield bench init`` writes: a virtual bench and a plan for it, as an example to start from."""

from __future__ import annotations

from pathlib import Path

from ground.files import write_new

BENCH_TOML = """\
# A bench: its devices, and the limits that no plan may exceed.
# This one is simulated, so that it works without any device. For a real bench change the drivers, the serial numbers
# and the origin; docs/bench.md lists the drivers.

name = "virtual table"
origin = "simulated"         # what every device must be: bench, emulated, simulated; or mixed

[camera]
driver = "sim://camera"
serial = "C1"
options = { seed = 3 }       # for all imperfections and the noise of the virtual bench

[mask]                       # mask, light and stage may be left out
driver = "sim://mask"
serial = "M1"

[light]
driver = "sim://light"       # or instead of both lines, behind one controller: part_of = "mask"
serial = "L1"

[limits]
exposure_s = 0.1             # longest exposure
light_share = 0.8            # largest power, as a share of what the light can
disk_free_bytes = 100000000  # space that stays free
# temperature_c = 55.0       # highest temperature of the sensor, for cameras that tell it
"""

PLAN_TOML = """\
# A plan: which frames a session takes, in this order. It is compared with the bench before anything moves.

name = "first light"
bits = 12                    # depth of the camera
# gain_db = 0.0
# roi = [0, 0, 128, 128]     # left, top, width, height in pixels; the whole sensor without it

[sentinel]                   # one frame again and again, to see that the bench still is what it was
every = 8                    # frames of steps between two of them
pattern = "checker"          # zero, half, full, checker, ramp-x, ramp-y, or a .npy file beside this one
exposure_s = 0.001
light_share = 0.5
flux_tolerance = 0.1         # largest change of its level above dark

[[steps]]
name = "ramp"
pattern = "ramp-x"
exposure_s = 0.001
light_share = 0.5
averages = 6                 # frames of each pattern
darks = 2                    # frames without light, before the first pattern

[[steps]]
name = "open"
pattern = "full"
exposure_s = 0.0005
light_share = 0.4
averages = 6
"""

FILES = {"bench.toml": BENCH_TOML, "plan.toml": PLAN_TOML}


def write_example(folder: Path) -> list[Path]:
    """Write both files; none of them may exist yet.

    Args:
        folder: Where they go; it is made where it does not exist.

    Returns:
        The files.

    Raises:
        FileExistsError: One of them exists; then neither is written.
        OSError: The folder cannot be made or written.
    """
    paths = [folder / name for name in FILES]
    for path in paths:
        if path.exists() or path.is_symlink():
            raise FileExistsError(f"{path} exists already")
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in zip(paths, FILES.values(), strict=True):
        write_new(path, text.encode("utf-8"))
    return paths
