"""Result tables as files: Parquet for figures, safetensors for curves."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from evaluation.errors import EvaluationError
from evaluation.matrix.scoring import COMBINATIONS, DET_FMR


def parquet(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows as a Parquet file; the same rows give the same bytes.

    Raises:
        EvaluationError: pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise EvaluationError("the result tables need pyarrow; run: pip install 'optishield[evaluate]'") from error
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = pyarrow.table({key: pyarrow.array([row.get(key) for row in rows]) for key in columns})
    sink = io.BytesIO()
    pyarrow.parquet.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def curves_tensors(scored: Mapping[tuple[str, str, str], Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """Curves for the report.

    Returns:
        ``fmr`` (49,), and for ``N`` attacks in rising order of (protector, attacker, recogniser), by the four
        combinations: ``fnmr`` (N, 4, 3, 49), the DET curve with the limits of its band, and ``people`` (N, 4, G), the
        protection of each person; ``identities`` (G,). ``fmr`` alone where nothing was scored.
    """
    if not scored:
        return {"fmr": torch.from_numpy(DET_FMR)}
    attacks = [scored[triple] for triple in sorted(scored)]

    def stacked(what: str) -> torch.Tensor:
        return torch.stack(
            [torch.stack([torch.from_numpy(one[what][name]) for name in COMBINATIONS]) for one in attacks]
        )

    return {
        "fmr": torch.from_numpy(DET_FMR),
        "fnmr": stacked("det"),
        "people": stacked("people"),
        "identities": torch.tensor(attacks[0]["identities"], dtype=torch.int64),
    }
