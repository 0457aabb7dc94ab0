"""A camera of pairs in front of people whom its run has not seen, with the read-out and the decoder of the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from codesign.config import TrainMaskConfig
from codesign.data import Part
from codesign.files import MASK, load_tensors
from codesign.winners.camera import build_winners
from codesign.winners.decoder import PlaceDecoder
from codesign.winners.export import decoder_of, shown_arrays
from codesign.winners.stage import chip_of, error_of, told
from faces.samples import FaceSet
from ground.pool import derived_seed
from sim.winners import WinnerCamera


@dataclass(frozen=True)
class StoredPairs:
    """The camera of a finished run as it was stored.

    Attributes:
        camera: The camera, on the chip of the run.
        decoder: Its decoder.
        known: What left the chip of the people of the run, as :func:`codesign.winners.stage.told` names it.
    """

    camera: WinnerCamera
    decoder: PlaceDecoder
    known: Mapping[str, Tensor]

    @classmethod
    def load(cls, folder: Path, config: TrainMaskConfig) -> StoredPairs:
        """Read a run.

        Args:
            folder: Its folder.
            config: Its configuration, with its own seed, by which the chip is known.

        Raises:
            CodesignError: A file is missing or damaged.
        """
        camera = build_winners(config, load_tensors(folder / MASK), chip=chip_of(config))
        decoder = decoder_of(config, camera, load_tensors(folder / "proof" / "ours" / "decoder.safetensors"))
        return cls(camera, decoder, load_tensors(folder / "proof" / "ours" / "released.safetensors"))

    def told(
        self, parts: Mapping[str, Part], own: Mapping[str, int], config: TrainMaskConfig, seed: int
    ) -> tuple[dict[str, Tensor], float]:
        """What leaves the chip of other people, in the place of those of the run.

        Args:
            parts: Everybody, by part.
            own: Captures at the beginning of each part that are of the run, so that what left the chip is known.
            config: Configuration of the run.
            seed: Seed of all noise.

        Returns:
            What :func:`codesign.winners.stage.told` gives for all parts, and the landmark error on the part "test".
        """
        found = dict(self.known)
        for name, part in parts.items():
            first = own[name]
            if first == len(part):
                continue
            others = part.faces.subset(torch.arange(first, len(part)))
            own_seed = derived_seed(seed, "release", "photographs", name)
            fresh = told(self.camera, self.decoder, name, others, config, own_seed)
            for key, rows in fresh.items():
                rounds = config.proof.attacker_copies if key.startswith("copies.") else 1
                before = self.known[key] if first else rows[:0]
                found[key] = _behind(before, rows, rounds)
        return found, error_of(found, "test", parts["test"].faces, config)

    def shown(self, faces: FaceSet, config: TrainMaskConfig, seed: int) -> dict[str, Tensor]:
        """Arrays of the report about some people; see :func:`codesign.winners.export.shown_arrays`."""
        return shown_arrays(config, self.camera, self.decoder, faces, seed)


def _behind(before: Tensor, rows: Tensor, rounds: int) -> Tensor:
    """Rows of further captures behind those of the first ones; of moved copies, in each round of them."""
    if not rounds:
        return rows
    both = [values.unflatten(0, (rounds, len(values) // rounds)) for values in (before, rows)]
    return torch.cat(both, 1).flatten(0, 1)
