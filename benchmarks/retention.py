"""How much of a protection is left after what happens to photos on their way: compression, resizing, another crop.

Each protected probe is compared with a template of the other, clean photos of its person; PSR is the share that is not
matched at a threshold frozen at a false match rate of .01 on clean photos, of other people where heads are synthetic.
Recognisers that the method used are marked. Nothing here adapts: it is the easy case for a protection, see
``optishield evaluate``.

    python benchmarks/retention.py --methods 'photo-cloak;opom' --people 30
    python benchmarks/retention.py --methods photo-cloak --faces PHOTOS      (one folder a person)
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # The checkout is the product: it need not be installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(_name, "1")

import torch
from torch import Tensor

from evaluation.image_attackers.preprocess import TRANSFORMS
from evaluation.measures.intervals import korn_graubard
from evaluation.measures.quality import ssim
from evaluation.measures.threshold import Threshold, freeze_threshold
from faces.families import load_recogniser, recogniser_names
from faces.folders import load_folder
from faces.samples import five_points
from faces.synthetic import generate
from protectors.auxiliary import FIRST_AUXILIARY
from protectors.registry import make_protector
from protectors.views import cropped

#: Synthetic people who are protected, and who set thresholds, are numbered from here.
FIRST_TESTED, FIRST_CALIBRATION = FIRST_AUXILIARY + 2_000_000, FIRST_AUXILIARY + 3_000_000
SIZE_PX = 112
CONDITIONS = ("none", "jpeg-90", "jpeg-75", "jpeg-50", "resize-0.75", "resize-0.5", "blur-0.7", "grey")


@dataclass(frozen=True)
class People:
    """Clean photos (N, 3, S, S) in 0..1 with points (N, 5, 2) and persons (N,)."""

    images: Tensor
    points5: Tensor
    identity: Tensor


def synthetic(people: int, captures: int, first: int) -> People:
    """Synthetic heads."""
    heads = generate(people, captures, size=SIZE_PX, seed=0, first_identity=first)
    return People(heads.images.float() / 255, five_points(heads.landmarks).float(), heads.identity)


def folder(path: Path) -> People:
    """Photos of real people."""
    found = load_folder(path, SIZE_PX)
    return People(found.faces.images.float() / 255, found.points5, found.faces.identity)


def templates(vectors: Tensor, identity: Tensor, probes: Tensor) -> tuple[Tensor, Tensor]:
    """Of each probe, the template of every person without the probe's own photo (P, K, D), and the people (K,)."""
    people = torch.unique(identity)
    member = (identity[None, :] == people[:, None]).float()
    sums = member @ vectors
    own = (identity[probes][:, None] == people[None, :]).float()
    return torch.nn.functional.normalize(sums[None] - own[..., None] * vectors[probes][:, None], dim=-1), people


def scores(vectors: Tensor, shown: Tensor, identity: Tensor, probes: Tensor) -> tuple[Tensor, Tensor]:
    """Scores (P,) of probes with their own person, and (P, K - 1) with the others."""
    known, people = templates(vectors, identity, probes)
    all_scores = torch.einsum("pkd,pd->pk", known, shown)
    own = identity[probes][:, None] == people[None, :]
    return all_scores[own], all_scores[~own].view(len(probes), -1)


def measure(method: str, tested: People, thresholds: dict[str, Threshold], probes: Tensor, seed: int) -> dict[str, Any]:
    """PSR of one method in each condition by each recogniser, with 95 % limits over people."""
    protector = make_protector(method)
    generator = torch.Generator().manual_seed(seed)
    others = torch.ones(len(tested.identity), dtype=torch.bool)
    others[probes] = False
    if protector.declaration.person_specific:
        protector.fit(tested.images[others], tested.points5[others], tested.identity[others], generator)
    shown, points5, identity = tested.images[probes], tested.points5[probes], tested.identity[probes]
    start = time.perf_counter()
    protected = protector.protect(shown, points5, identity, generator).detach()
    seconds = (time.perf_counter() - start) / len(probes)
    kept = ssim(shown, protected)
    changes: dict[str, Callable[[Tensor], Tensor]] = {t.name: t.apply for t in TRANSFORMS if t.name in CONDITIONS}
    used = protector.declaration.surrogates or ()
    rows = []
    for name in thresholds:
        recogniser = load_recogniser(name)
        with torch.no_grad():
            clean = recogniser.embed(tested.images, tested.points5)
            for condition in (*CONDITIONS, "crop"):
                at = points5
                if condition == "crop":
                    at = cropped(points5, torch.Generator().manual_seed(seed + 1))
                seen = protected if condition == "crop" else changes[condition](protected)
                before = shown if condition == "crop" else changes[condition](shown)
                missed = ~_accepted(thresholds[name], clean, recogniser.embed(seen, at), tested.identity, probes)
                idle = ~_accepted(thresholds[name], clean, recogniser.embed(before, at), tested.identity, probes)
                found = korn_graubard(missed.double(), identity)
                rows.append(
                    {
                        "recogniser": name, "used": name in used, "condition": condition, "psr": found.value,
                        "low": found.low, "high": found.high, "psr_unprotected": float(idle.double().mean()),
                    }
                )  # fmt: skip
    return {
        "method": method, "seconds": seconds, "probes": len(probes), "people": len(torch.unique(identity)),
        "ssim": {"median": float(kept.median()), "least": float(kept.min())}, "rows": rows,
    }  # fmt: skip


def _accepted(threshold: Threshold, clean: Tensor, shown: Tensor, identity: Tensor, probes: Tensor) -> Tensor:
    return torch.from_numpy(threshold.accepts(scores(clean, shown, identity, probes)[0]))


def freeze(people: People) -> dict[str, Threshold]:
    """Thresholds of all recognisers at a false match rate of .01 on these people."""
    every = torch.arange(len(people.identity))
    found = {}
    for name in recogniser_names():
        with torch.no_grad():
            vectors = load_recogniser(name).embed(people.images, people.points5)
        found[name] = freeze_threshold(scores(vectors, vectors, people.identity, every)[1])
    return found


def first_of_each(identity: Tensor, count: int) -> Tensor:
    """Positions of the first photos of each person."""
    order = torch.tensor([int((identity[:row] == person).sum()) for row, person in enumerate(identity)])
    return torch.nonzero(order < count)[:, 0]


def show(result: dict[str, Any]) -> None:
    """One line for each recogniser and condition."""
    print(
        f"{result['method']}: {result['people']} people, {result['probes']} photos, SSIM median "
        f"{result['ssim']['median']:.3f}, least {result['ssim']['least']:.3f}, {result['seconds']:.1f} s a photo"
    )
    for row in result["rows"]:
        mark = "used by the method" if row["used"] else "unseen"
        print(
            f"  {row['recogniser']:<12} {mark:<18} {row['condition']:<12} PSR {row['psr']:.3f} "
            f"[{row['low']:.3f}, {row['high']:.3f}]  unprotected {row['psr_unprotected']:.3f}"
        )


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--methods", required=True, help="names with settings, separated by ';' or ','-free names by ','"
    )
    parser.add_argument("--faces", default="synthetic", help="synthetic, or a folder with one folder a person")
    parser.add_argument("--people", type=int, default=30, help="synthetic people who are protected")
    parser.add_argument("--captures", type=int, default=4, help="photos of each synthetic person")
    parser.add_argument("--probes", type=int, default=1, help="protected photos of each person")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write the figures there")
    given = parser.parse_args()
    methods = given.methods.split(";")
    if given.faces == "synthetic":
        tested = synthetic(given.people, given.captures, FIRST_TESTED)
        thresholds = freeze(synthetic(given.people, given.captures, FIRST_CALIBRATION))
    else:
        tested = folder(Path(given.faces))
        thresholds = freeze(tested)
        print("thresholds from the tested people themselves: exploratory")
    probes = first_of_each(tested.identity, given.probes)
    results = []
    for method in methods:
        results.append(measure(method, tested, thresholds, probes, given.seed))
        show(results[-1])
    if given.json:
        given.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
