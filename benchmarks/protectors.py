"""Seconds and memory that each protector takes for a face of 112 x 112 pixels, beside what its recognisers alone take.

An iterative method cannot be faster than the forward and backward passes that it asks of the recognisers it is tuned
against, and of the network that it trains itself: that is its floor, measured in the same process on the same batch.
Whatever exceeds it is overhead.

    python benchmarks/protectors.py --methods dfpp,sparse
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

if __name__ == "__main__":
    # The checkout is the product: it need not be installed. Threads are set before torch is imported, here and, by
    # inheritance, in the processes that measure.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    _threads = sys.argv[sys.argv.index("--threads") + 1] if "--threads" in sys.argv[:-1] else "1"
    for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[_name] = _threads

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from protectors import registry
from protectors.auxiliary import FIRST_AUXILIARY, auxiliary_faces
from protectors.classifiers import FaceClassifier
from protectors.dfpp import UntrainedDecoder
from protectors.surrogates import Surrogates
from protectors.unet import UNet

#: Numbers of the synthetic people who are protected start here, apart from those that protectors use.
FIRST_PERSON = FIRST_AUXILIARY + 1_000_000


@dataclass(frozen=True)
class Row:
    """A method, and the passes that it asks of its surrogates for each photo with the settings of ``spec``.

    Of a method with a mask for each person these are the passes for each photo that is shown for enrolment.

    Attributes:
        method: its name.
        forward: forward passes of every surrogate.
        backward: those of them that are followed by a backward pass.
        surrogates: recognisers, joined by "+"; empty where none is asked while a photo is protected.
        own: class of the method's own network; its passes are counted while it works.
        settings: Settings that are not the default ones.
    """

    method: str
    forward: int = 0
    backward: int = 0
    surrogates: str = ""
    own: type[nn.Module] | None = None
    settings: str = ""

    @property
    def spec(self) -> str:
        """As given to ``make_protector``."""
        return f"{self.method}:{self.settings}" if self.settings else self.method


ROWS = (
    # Unlearnable examples train a classifier of their own on the whole set, with auxiliary people: no recogniser is
    # asked, and passes belong to the set rather than to a photo. EM does it in enrolment; REM in a tenth of its steps.
    Row("em", own=FaceClassifier),
    Row("rem", own=FaceClassifier, settings="train_steps=20"),
    # 16 steps, and the forward pass of the clean photos.
    Row("opom", forward=17, backward=16, surrogates="sface"),
    # 60 steps of one view, and the forward pass of the clean photos.
    Row("person-cloak", forward=61, backward=60, surrogates="sface+dlib-resnet"),
    # 40 steps, and the forward pass of the clean photo.
    Row("fawkes", forward=41, backward=40, surrogates="sface"),
    # In each step one forward pass, and for each of ten targets a backward pass and a forward pass of the candidate. A
    # tenth of the steps is timed.
    Row("tip-im", forward=56, backward=50, surrogates="sface", settings="steps=5"),
    # On the device 10 steps and the forward pass of the clean photo; the server asks no recogniser.
    Row("apf", forward=11, backward=10, surrogates="sface"),
    # One pass of its own network; how long that was trained does not change what it takes.
    Row("feed-forward", own=UNet, settings="steps=2,people=2,captures=2,batch=2"),
    # 50 steps of Adam, each with one forward and backward pass, also of the decoder that makes the change; one forward
    # pass before the first.
    Row("dfpp", forward=51, backward=50, surrogates="sface", own=UntrainedDecoder),
    # 30 steps of 4 views, and the forward pass of the clean photo.
    Row("photo-cloak", forward=121, backward=120, surrogates="sface+dlib-resnet"),
    # 48 gradients and the forward pass of the clean photo.
    Row("sparse", forward=49, backward=48, surrogates="sface"),
)

#: Protectors without a row: controls, and the optical encoder, which needs a training run and asks no recogniser.
WITHOUT = frozenset({"optical-encoder"})


@dataclass(frozen=True)
class Measured:
    """What was measured of a method.

    Attributes:
        method: its name.
        spec: name and settings.
        seconds: for a face, median; where passes belong to enrolment, for a photo shown there.
        spread_seconds: longest minus shortest run, for a face.
        floor_seconds: passes of its surrogates and of its own network, for a face.
        ratio: Seconds over floor; None for a method that asks no network.
        apply_seconds: for a face, where ``seconds`` are those of enrolment; else None.
        peak_mb: growth of the resident memory from before the first photo to its largest, in 10^6 bytes.
    """

    method: str
    spec: str
    seconds: float
    spread_seconds: float
    floor_seconds: float
    ratio: float | None
    apply_seconds: float | None
    peak_mb: float


def names() -> list[str]:
    """Names of the protectors that must have a row."""
    return [name for name in registry.names() if name not in WITHOUT and not registry.registered(name).about.control]


def timed(tasks: Sequence[Callable[[], object]], runs: int) -> list[list[float]]:
    """Seconds of so many runs of each task, after one that is not counted.

    Tasks take turns, so that a change in the load of the machine meets all of them.
    """
    found: list[list[float]] = [[] for _ in tasks]
    for run in range(runs + 1):
        for task, seconds in zip(tasks, found, strict=True):
            start = time.perf_counter()
            task()
            if run:
                seconds.append(time.perf_counter() - start)
    return found


def forget_peak() -> None:
    """Let the peak start from the present size, past that of loading. Only Linux can; elsewhere peaks come out low."""
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    """Largest resident memory of this process so far, or since :func:`forget_peak`."""
    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found if sys.platform == "darwin" else found * 1024


def measured(row: Row, photos: int, runs: int, threads: int) -> Measured:
    """Time and memory of a method; to be called in a process of its own, since memory is that of the process.

    Args:
        row: the method.
        photos: faces in a batch.
        runs: timed runs, of which the median counts.
        threads: Number of threads that torch may use.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    faces = auxiliary_faces("synthetic", people=photos, captures=1, first=FIRST_PERSON)
    protector = registry.make_protector(row.spec)
    surrogates = Surrogates(row.surrogates) if row.surrogates else None
    if surrogates is not None:
        # Weights are loaded before memory is counted.
        surrogates.embed(faces.images[:1], faces.points5[:1])
    given = (faces.images, faces.points5, faces.identity)
    enrols = protector.declaration.person_specific

    def protect() -> object:
        return protector.protect(*given, torch.Generator().manual_seed(0))

    def enrol() -> None:
        protector.fit(*given, torch.Generator().manual_seed(0))

    work = enrol if enrols else protect
    # Once beforehand: networks are loaded, or trained, when they are first needed.
    work()
    forget_peak()
    before = peak_bytes()
    with counted(row.own) as calls:
        work()
    peak = peak_bytes() - before
    tasks, counts = replays(calls)
    if surrogates is not None:
        tasks += passes(surrogates, faces.images, faces.points5)
        counts += [row.forward - row.backward, row.backward]
    found = timed([work, protect, *tasks] if enrols else [work, *tasks], runs)
    own, *asked = ([second / photos for second in seconds] for seconds in found)
    applied = statistics.median(asked.pop(0)) if enrols else None
    median = statistics.median(own)
    floor = sum(count * statistics.median(seconds) for count, seconds in zip(counts, asked, strict=True))
    return Measured(
        method=row.method, spec=row.spec, seconds=median, spread_seconds=max(own) - min(own), floor_seconds=floor,
        ratio=median / floor if floor else None, apply_seconds=applied, peak_mb=peak / 1e6,
    )  # fmt: skip


@dataclass(frozen=True)
class Pass:
    """A pass of a method's own network.

    Attributes:
        network: The network that was called.
        shape: Shape of the photos.
        training: with batch statistics; then the gradient goes to the weights.
        backward: Whether there is a gradient.
    """

    network: nn.Module
    shape: tuple[int, ...]
    training: bool
    backward: bool


@contextmanager
def counted(own: type[nn.Module] | None) -> Iterator[Counter[Pass]]:
    """Count the passes of networks of this class meanwhile."""
    calls: Counter[Pass] = Counter()

    def note(network: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        if own is not None and isinstance(network, own):
            calls[Pass(network, tuple(given[0].shape), network.training, output.requires_grad)] += 1

    hook = register_module_forward_hook(note)
    try:
        yield calls
    finally:
        hook.remove()


def replays(calls: Counter[Pass]) -> tuple[list[Callable[[], None]], list[int]]:
    """The distinct passes, and how often each was made."""

    def replay(one: Pass) -> Callable[[], None]:
        photos = torch.rand(one.shape, generator=torch.Generator().manual_seed(0))

        def run() -> None:
            one.network.train(one.training)
            given = photos.requires_grad_(one.backward and not one.training)
            with torch.set_grad_enabled(one.backward):
                value = one.network(given).sum()
            if one.backward:
                torch.autograd.grad(value, list(one.network.parameters()) if one.training else [given])

        return run

    return [replay(one) for one in calls], list(calls.values())


def passes(surrogates: Surrogates, images: Tensor, points5: Tensor) -> list[Callable[[], None]]:
    """A forward pass of all surrogates over a batch, and a forward with a backward pass to the photos."""

    def forward() -> None:
        with torch.no_grad():
            surrogates.embed(images, points5)

    def both() -> None:
        given = images.clone().requires_grad_()
        value = torch.cat([vectors[:, 0] for vectors in surrogates.embed(given, points5)]).sum()
        torch.autograd.grad(value, given)

    return [forward, both]


def in_own_process(row: Row, photos: int, runs: int, threads: int) -> Measured:
    """The same as :func:`measured`, in a new process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measured, row, photos, runs, threads).result()


def table(rows: Sequence[Measured]) -> str:
    """A table in Markdown."""
    lines = [
        "| method | s / face | floor, s | ratio | spread, s | applying, s | peak, MB |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        ratio = "–" if row.ratio is None else f"{row.ratio:.2f}"
        cells = (
            row.spec, f"{row.seconds:.3f}", f"{row.floor_seconds:.3f}", ratio,
            f"{row.spread_seconds:.3f}", "–" if row.apply_seconds is None else f"{row.apply_seconds:.4f}",
            f"{row.peak_mb:.0f}",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; see ``--help``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    known = {row.method: row for row in ROWS}
    parser.add_argument("--methods", default=",".join(known), help="names, joined by commas")
    parser.add_argument("--photos", type=int, default=4, help="faces in a batch")
    parser.add_argument("--runs", type=int, default=5, help="timed runs, of which the median counts")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    chosen = parser.parse_args(arguments)
    methods = chosen.methods.split(",")
    unknown = [name for name in methods if name not in known]
    if unknown:
        parser.error(f"no row for {', '.join(unknown)}; choose among {', '.join(known)}")
    if min(chosen.photos, chosen.runs, chosen.threads) < 1:
        parser.error("photos, runs and threads must be at least 1")
    found = [in_own_process(known[name], chosen.photos, chosen.runs, chosen.threads) for name in methods]
    sys.stdout.write(table(found) + "\n")
    if chosen.json is not None:
        given = {"photos": chosen.photos, "runs": chosen.runs, "threads": chosen.threads, "torch": torch.__version__}
        chosen.json.write_text(json.dumps({**given, "methods": [asdict(row) for row in found]}, indent=2) + "\n")


if __name__ == "__main__":
    main()
