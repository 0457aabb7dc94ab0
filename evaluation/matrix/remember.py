"""A recogniser that looks up photographs which it, with the same weights, has embedded before."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from evaluation.matrix.keys import content_key, tensor_hash
from evaluation.matrix.store import Store
from faces.families import Recogniser

#: Photographs in one stored piece; the size of a batch changes the last bits of an embedding, so pieces are fixed.
_PIECE = 64


@dataclass(frozen=True)
class StoredRecogniser(Recogniser):
    """Embeddings are kept by the content of weights, pictures and points.

    Clean photographs are embedded by every attacker, and an identity protector changes nothing: most passes of a
    matrix are repetitions. A network that was fine-tuned has other weights, hence other entries; passes with gradients
    are never looked up.
    """

    store: Store | None = None

    def embed(self, images: Tensor, points5: Tensor) -> Tensor:
        """See :meth:`faces.families.Recogniser.embed`."""
        store = self.store
        needs_gradient = torch.is_grad_enabled() and (
            images.requires_grad
            or points5.requires_grad
            or any(weight.requires_grad for weight in self.network.parameters())
        )
        if store is None or needs_gradient or self.network.training or len(images) == 0:
            return super().embed(images, points5)
        state = tensor_hash(*self.network.state_dict().values())
        chip = [self.points.tolist(), self.input_size, self.value_range, self.channel_order]
        rows = []
        for part, points in zip(images.split(_PIECE), points5.split(_PIECE), strict=True):
            key = content_key(
                "embedding",
                __name__,
                network=repr(self.network),
                state=state,
                chip=chip,
                pictures=tensor_hash(part, points),
            )
            found, _ = store.once(key, lambda part=part, points=points: ({"rows": self._fresh(part, points)}, {}))  # type: ignore[misc]
            rows.append(found["rows"].to(images.device))
        return torch.cat(rows)

    @torch.no_grad()
    def _fresh(self, images: Tensor, points5: Tensor) -> Tensor:
        return super().embed(images, points5)


def remembering(recogniser: Recogniser, store: Store) -> Recogniser:
    """The same recogniser with a memory; one of another class is returned as it is."""
    if type(recogniser) is not Recogniser:
        return recogniser
    return StoredRecogniser(**{f.name: getattr(recogniser, f.name) for f in fields(Recogniser)}, store=store)
