"""What tests of protectors that train a network share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from protectors.auxiliary import Faces, auxiliary_faces


@pytest.fixture(scope="module")
def own_cache(
    tmp_path_factory: pytest.TempPathFactory, sface_weights: Path, dlib_resnet_weights: Path
) -> Iterator[None]:
    """Heads and trained networks are kept apart from those of the user; weights of recognisers are linked in."""
    cache = tmp_path_factory.mktemp("cache")
    (cache / "weights").symlink_to(sface_weights.parent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPTISHIELD_CACHE", str(cache))
        yield


@pytest.fixture(scope="module")
def heads(own_cache: None) -> Faces:
    """Two people, two photos each."""
    return auxiliary_faces("synthetic", people=2, captures=2, first=29_000_000)
