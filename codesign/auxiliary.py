"""What attackers may learn of their training people beside names: the second task of a network.

Of synthetic people the parameters that made them are known; of every picture, the embedding that SFace finds in it when
it is clean. An attacker has both: he can render people of his own, and photograph others without the camera.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from codesign.config import TrainMaskConfig
from codesign.data import ATTACKERS, Part, Splits
from codesign.real_people import FIRST_REAL
from faces.alignment import align
from faces.recognisers import load_sface
from faces.synthetic.parameters import identity_parameters
from ground.protocols import RunStore

#: File of the targets (N, T) of each part that attackers are trained on.
AUXILIARY = "work/auxiliary.safetensors"
_CHUNK = 64


def store_auxiliary(run: RunStore, splits: Splits, config: TrainMaskConfig) -> None:
    """Leave the targets in the run folder for the worker processes (:data:`AUXILIARY`).

    Args:
        run: The run folder.
        splits: The people.
        config: Configuration with the seed that the synthetic people were drawn with.
    """
    run.write_tensors(AUXILIARY, targets({name: splits[name] for name in ("train", ATTACKERS)}, config))


def targets(parts: Mapping[str, Part], config: TrainMaskConfig) -> dict[str, Tensor]:
    """Targets (N, T) of the pictures of each part, each about 0 with a spread of 1; NaN where they are not known.

    Args:
        parts: People on whom attackers are trained, synthetic and real ones.
        config: Configuration of the run; ``proof.auxiliary`` says which targets there are.

    Raises:
        FacesError: The weights of SFace are needed and missing.
    """
    wanted = config.proof.auxiliary
    images = torch.cat([part.faces.images for part in parts.values()])
    points5 = torch.cat([part.points5 for part in parts.values()]).float()
    identity = torch.cat([part.identity for part in parts.values()])
    synthetic, everybody = identity < FIRST_REAL, torch.ones(len(identity), dtype=torch.bool, device=identity.device)
    found = torch.zeros(len(identity), 0, device=identity.device)
    if wanted in ("parameters", "both") and bool(synthetic.any()):
        people, place = torch.unique(identity[synthetic], return_inverse=True)
        rows = torch.from_numpy(identity_parameters(config.seed, people.tolist()))[place]
        found = torch.cat([found, _spread(rows, synthetic)], dim=1)
    seen = everybody if wanted in ("embedding", "both") else ~synthetic
    if wanted != "none" and bool(seen.any()):
        rows = _clean(images[seen], points5[seen])
        found = torch.cat([found, _spread(rows, seen)], dim=1)
    return dict(zip(parts, found.split([len(part) for part in parts.values()]), strict=True))


def _spread(rows: Tensor, where: Tensor) -> Tensor:
    """Rows (M, T) put where a mask (N,) is true, (N, T), NaN elsewhere."""
    found = torch.full((len(where), rows.shape[1]), math.nan, device=rows.device)
    found[where] = rows
    return found


@torch.no_grad()
def _clean(images: Tensor, points5: Tensor) -> Tensor:
    """Embeddings of clean pictures (N, 3, S, S), scaled over all of them."""
    network = load_sface().folded()
    size = network.input_size[0]
    rows = torch.cat([
        network.embed(align(images[pick].float(), points5[pick], size))
        for pick in torch.arange(len(images)).split(_CHUNK)
    ])  # fmt: skip
    return (rows - rows.mean(dim=0)) / rows.std(dim=0).clamp_min(1e-6)
