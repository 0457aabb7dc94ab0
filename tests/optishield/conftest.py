"""A small stand-in for the co-design room, so that the application is tested without training anything."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any, Self

import pytest
from pydantic import BaseModel, ConfigDict, Field


class Camera(BaseModel):
    """A section, as the real settings have them."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    bits: int = Field(8, ge=1, le=16)
    pixels: int = 32
    pitch_m: float = 3e-6
    lenses: tuple[float, ...] = (1.0, 2.0)


class Settings(BaseModel):
    """The keys that the command line relies on, and a few more."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    budget: str = "quick"
    seed: int = 0
    faces: str = "synthetic"
    workers: int = 1
    note: str | None = None
    limit: int | None = None
    camera: Camera = Camera()

    @classmethod
    def for_budget(cls, name: str) -> Self:
        """Settings that differ by budget in one nested key."""
        pixels = {"smoke": 8, "quick": 32, "standard": 48, "full": 64}[name]
        return cls(budget=name, camera=Camera(pixels=pixels))


Job = Callable[..., dict[str, Any]]


@pytest.fixture
def settings() -> type[Settings]:
    """The model."""
    return Settings


@pytest.fixture
def install_job(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put stand-ins for ``codesign.config`` and ``codesign.run`` in place."""

    def install(train_mask: Job | None = None, evaluate_mask: Job | None = None) -> None:
        config = types.ModuleType("codesign.config")
        config.TrainMaskConfig = Settings  # type: ignore[attr-defined]
        run = types.ModuleType("codesign.run")
        run.train_mask = train_mask  # type: ignore[attr-defined]
        run.evaluate_mask = evaluate_mask  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "codesign.config", config)
        monkeypatch.setitem(sys.modules, "codesign.run", run)

    return install
