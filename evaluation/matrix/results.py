"""Result tables as files: Parquet for figures, safetensors for curves."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import torch

from evaluation.errors import EvaluationError
from evaluation.labels import Combination
from evaluation.matrix.scoring import COMBINATIONS, DET_FMR
from evaluation.measures.metrics import Floats
from evaluation.records import Scored, Triple


def parquet(rows: Sequence[Mapping[str, object]]) -> bytes:
    """Rows of named cells as a Parquet file; the same rows give the same bytes.

    Raises:
        EvaluationError: The package pyarrow is not installed.
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


def curves_tensors(scored: Mapping[Triple, Scored]) -> dict[str, torch.Tensor]:
    """Curves for the report.

    Returns:
        ``fmr`` (49,), and for ``N`` attacks in rising order of (protector, attacker, recogniser), by the four
        combinations: ``fnmr`` (N, 4, 3, 49), the DET curve with the limits of its band, and ``people`` (N, 4, G), the
        protection of each person; ``identities`` (G,). ``fmr`` alone where nothing was scored.
    """
    if not scored:
        return {"fmr": torch.from_numpy(DET_FMR)}
    attacks = [scored[triple] for triple in sorted(scored)]

    def stacked(curves: Sequence[Mapping[Combination, Floats]]) -> torch.Tensor:
        return torch.stack([torch.stack([torch.from_numpy(one[name]) for name in COMBINATIONS]) for one in curves])

    return {
        "fmr": torch.from_numpy(DET_FMR),
        "fnmr": stacked([one.det for one in attacks]),
        "people": stacked([one.people for one in attacks]),
        "identities": torch.tensor(attacks[0].identities, dtype=torch.int64),
    }
