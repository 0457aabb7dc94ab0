"""A matrix over noise pictures, small enough to be run many times."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from joblib.externals.loky import get_reusable_executor

from evaluation import people
from evaluation.config import EvaluateConfig, controls
from evaluation.run import evaluate
from optishield.progress import QuietProgress
from optishield.run.folder import RunFolder
from tests.evaluation.matrix import matrix_fakes

Evaluate = Callable[..., dict[str, Any]]
SMALL = {
    "tier": "smoke",
    "protectors": [*controls(32), "negative", "hide"],
    "attackers": ["as-published", "average-4", "inverting"],
    "recognisers": ["pixels"],
    "people": {
        "train_people": 6, "validation_people": 4, "calibration_people": 34, "test_people": 30, "captures": 4,
        "gallery_captures": 2, "fit_captures": 1, "size_px": 32,
    },
    "scoring": {"alphas": [0.01, 0.1, 0.001], "template_photos": [1, 2, 3]},
    "latency_photos": 3,
    "workers": 1,
}  # fmt: skip


def small(**changes: Any) -> EvaluateConfig:
    return EvaluateConfig.model_validate({**SMALL, **changes})


@pytest.fixture
def evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Evaluate:
    """Run the matrix: (folder name, changes of the configuration) -> summary as JSON; the cache is that of the test."""
    monkeypatch.setenv("OPTISHIELD_CACHE", str(tmp_path / "cache"))
    # Workers that other tests left behind would keep the environment, and so the weights, of those tests.
    get_reusable_executor().shutdown(wait=True)

    def generate(count: int, captures: int, *, size: int, first_identity: int, **others: Any) -> Any:
        return matrix_fakes.heads(count, captures, first_identity)

    monkeypatch.setattr(people, "generate", generate)

    def run(name: str = "run", **changes: Any) -> dict[str, Any]:
        config, folder = small(**changes), tmp_path / name
        common: dict[str, Any] = {"config": config, "command": ["evaluate"], "seeds": {"seed": config.seed}}
        resume = folder.exists()
        store = (
            RunFolder.resume(folder, may_differ=("workers", "engine"), **common)
            if resume
            else RunFolder.create(verb="evaluate", slug="test", out=folder, **common)
        )
        try:
            found = evaluate(
                config,
                store,
                make_protector=matrix_fakes.make_protector,
                resume=resume,
                progress=QuietProgress(),
                make_attacker=matrix_fakes.make_attacker,
                load_recogniser=matrix_fakes.load_recogniser,
            )
            return found.to_json()
        finally:
            store.close()

    return run
