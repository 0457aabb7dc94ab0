"""Fixtures of the tests of sessions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from firmware_bridge.session.run import capture
from tests.firmware_bridge.session_doubles import World, begin, session, write_sources


@pytest.fixture
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Hash of the manifest of a session without trouble."""
    folder = tmp_path_factory.mktemp("undisturbed")
    write_sources(folder)
    world = World()
    return capture(session(world, begin(world, folder))).sha256


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed session, to be copied before it is changed."""
    folder = tmp_path_factory.mktemp("original")
    write_sources(folder)
    world = World()
    made = begin(world, folder)
    capture(session(world, made))
    return made


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    assert made.safe or made.gone
    assert made.opened == []


@pytest.fixture
def folder(world: World, tmp_path: Path) -> Path:
    write_sources(tmp_path)
    return begin(world, tmp_path)
