"""What the main job needs from the application around it: a place to keep results, and a progress display.

``optishield`` implements both (``optishield.run.folder.RunFolder``, ``optishield.progress``). Stating them here keeps
the import law: co-design never imports the application, and a test may pass a small stand-in.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch


@runtime_checkable
class RunStore(Protocol):
    """A run folder as the job sees it. Names are relative paths with forward slashes inside the folder.

    Every write is atomic: after a crash a file is either the old one, the new one, or absent.
    JSON values may hold numpy or torch scalars and arrays; NaN means "not defined" and is stored as null,
    an infinite number is refused.
    """

    @property
    def path(self) -> Path:
        """The folder itself."""
        ...

    def stage_done(self, name: str) -> dict[str, Any] | None:
        """What ``mark_stage`` stored for this stage, or None when the stage has to be done."""
        ...

    def mark_stage(self, name: str, result: Mapping[str, Any] | None = None) -> None:
        """Declare a stage done. Write its files first; metrics logged so far reach the disk before the mark."""
        ...

    def log_metrics(self, values: Mapping[str, Any]) -> None:
        """Append one line to ``metrics.jsonl``.

        On resume, lines logged after the last finished stage are dropped, since that stage runs again.
        """
        ...

    def read_metrics(self) -> list[dict[str, Any]]:
        """All lines of ``metrics.jsonl``, oldest first."""
        ...

    def has(self, name: str) -> bool:
        """Whether the file exists."""
        ...

    def write_json(self, name: str, value: Any) -> Path:
        """Store a JSON file."""
        ...

    def read_json(self, name: str) -> Any:
        """Load a JSON file of this folder."""
        ...

    def write_bytes(self, name: str, data: bytes) -> Path:
        """Store raw bytes, for example a PNG."""
        ...

    def write_text(self, name: str, text: str) -> Path:
        """Store UTF-8 text."""
        ...

    def write_tensors(
        self, name: str, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None
    ) -> Path:
        """Store tensors as safetensors (state dictionaries fit as they are)."""
        ...

    def read_tensors(self, name: str) -> dict[str, torch.Tensor]:
        """Load a safetensors file of this folder onto the CPU."""
        ...


@runtime_checkable
class StageProgress(Protocol):
    """A stage that is running."""

    def advance(self, n: int = 1) -> None:
        """Count ``n`` finished steps."""
        ...

    def note(self, text: str) -> None:
        """Show a short remark beside the stage, for example the current loss."""
        ...


@runtime_checkable
class Progress(Protocol):
    """Where the job says what it is doing. Never used for results."""

    def stage(self, name: str, total: int | None = None, *, even: bool = True) -> AbstractContextManager[StageProgress]:
        """Open a stage; leaving the context closes it.

        Args:
            name: Name of the stage.
            total: Number of steps; None if it is unknown.
            even: Whether steps take about equally long. Where they do not, nothing is said about the time left.
        """
        ...

    def note(self, text: str) -> None:
        """Say one sentence that is worth a line of its own."""
        ...
