"""Networks that a protector trains itself: once, on declared data, kept under the name of all that they depend on."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping

from safetensors.torch import load, save
from torch import Tensor

from faces.files import cache_folder
from ground.files import write_atomic
from protectors.errors import ProtectorError

_LOG = logging.getLogger(__name__)

Weights = dict[str, Tensor]


def trained(kind: str, settings: Mapping[str, str | int | float], train: Callable[[], Weights]) -> Weights:
    """Weights from the cache, or from training now.

    Args:
        kind: name of the network, part of the file name.
        settings: everything that decides the result, a version of the training code among it.
        train: makes the weights; same settings, same weights.

    Raises:
        ProtectorError: The file in the cache is damaged, or training gave values that are not finite.
    """
    text = json.dumps({"kind": kind, **settings}, sort_keys=True)
    path = cache_folder("protectors") / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:20]}.safetensors"
    if path.is_file():
        try:
            return load(path.read_bytes())
        except Exception as error:  # safetensors raises its own class, which it does not export everywhere
            raise ProtectorError(f"{path} is damaged ({error}); delete it, and it is made anew.") from error
    _LOG.warning("training %s once, with %s; kept in %s", kind, text, path)
    start = time.perf_counter()
    weights = {name: value.detach().cpu().contiguous() for name, value in train().items()}
    broken = [name for name, value in weights.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if broken:
        raise ProtectorError(f"training of {kind} with {text} diverged ({broken[0]} is not finite); lower its rate.")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, save(weights, metadata={"settings": text}))
    _LOG.info("trained %s in %.0f s", kind, time.perf_counter() - start)
    return weights
