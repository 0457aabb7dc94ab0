"""A small model of settings with every kind of key, so that layers and run folders are tested without a room."""

from __future__ import annotations

from typing import Self

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


@pytest.fixture
def settings() -> type[Settings]:
    """The model."""
    return Settings
