"""Hands faces to a method in such a way that one on which it fails costs no other its protection."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from faces.protection import Protector, Watched
from ground.errors import one_line
from photos.frames import Frame, Pixels

#: Faces that a method gets at a time.
BATCH_FACES = 16

#: Steps of a face on a display.
FACE_STEPS = 100

#: Errors of a method that can be the fault of what it was given: values and shapes, numbers that overflow or cannot be
#: inverted, and memory. Others are defects of the method and end the command.
_OF_THE_INPUT = (ValueError, ArithmeticError, MemoryError, RuntimeError)


@dataclass(frozen=True)
class Failed:
    """A face that a method did not protect.

    Attributes:
        reason: Why, as the end of a sentence.
    """

    reason: str


class Shares:
    """Hands on how far some work is, in whole steps, and none of them twice where a part of the work is done again.

    Args:
        steps: Steps of the whole work.
        done: Called with the number of steps that have just been finished.
    """

    def __init__(self, steps: int, done: Callable[[int], None]) -> None:
        self._steps, self._done = steps, done
        self._told = 0

    def __call__(self, share: float) -> None:
        """The share of the work, 0..1, that is done by now."""
        now = int(share * self._steps)
        if now > self._told:
            self._done(now - self._told)
            self._told = now


def _part(told: Callable[[float], None], begin: float, size: float) -> Callable[[float], None]:
    """Tells of a part of some work as a share of the whole."""
    return lambda share: told(begin + share * size)


class FaceWork:
    """A method at work on frames.

    What becomes of a face depends on the method, the seed and the faces of its batch alone, neither on the photos
    before it nor on where an earlier call ended: the generator of each batch begins with a hash of the seed and the
    batch's pixels.

    Args:
        protector: The method, fitted where it is person-specific.
        seed: Seed for all random numbers drawn for these faces.
        person: Number under which the protector knows the only person whom photos may show. None means any faces, all
            of different people.
        device: Where the method computes.
    """

    def __init__(self, protector: Protector, seed: int, person: int | None, device: torch.device) -> None:
        self._protector, self._seed, self._person, self._device = protector, seed, person, device

    def protected(self, frames: Sequence[Frame], done: Callable[[int], None]) -> list[Pixels | Failed]:
        """Protected pixels (S, S, 3) of each frame, or why there are none.

        Args:
            frames: Faces that are protected together.
            done: Called with the number of steps that have just been finished; each face has :data:`FACE_STEPS`.
        """
        result: dict[int, Pixels | Failed] = {}
        for px in sorted({len(frame.pixels) for frame in frames}):
            rows = [row for row, frame in enumerate(frames) if len(frame.pixels) == px]
            for start in range(0, len(rows), BATCH_FACES):
                part = rows[start : start + BATCH_FACES]
                told = Shares(len(part) * FACE_STEPS, done)
                result.update(zip(part, self._batch([frames[row] for row in part], part, told), strict=True))
                told(1.0)
        return [result[row] for row in range(len(frames))]

    def _batch(
        self, frames: Sequence[Frame], numbers: Sequence[int], told: Callable[[float], None]
    ) -> list[Pixels | Failed]:
        if isinstance(self._protector, Watched):
            self._protector.watch = told
        try:
            return self._together(frames, numbers)
        except _OF_THE_INPUT as error:
            if len(frames) == 1:
                return [Failed(_reason(error))]
        # One of them is at fault, and which one is not always said.
        found: list[Pixels | Failed] = []
        for frame, number in zip(frames, numbers, strict=True):
            found += self._batch([frame], [number], _part(told, len(found) / len(frames), 1 / len(frames)))
        return found

    def _together(self, frames: Sequence[Frame], numbers: Sequence[int]) -> list[Pixels | Failed]:
        images = torch.from_numpy(np.stack([frame.pixels for frame in frames])).to(self._device)
        points5 = torch.from_numpy(np.stack([frame.points5 for frame in frames])).to(self._device)
        people = torch.tensor(numbers if self._person is None else [self._person] * len(numbers), device=self._device)
        after = self._protector.protect(
            images.permute(0, 3, 1, 2).float() / 255, points5, people, self._generator(frames)
        )
        levels = (after.detach() * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        return [
            Failed(f"the method {self._protector.declaration.name} changed nothing of it")
            if np.array_equal(new, frame.pixels) else new
            for frame, new in zip(frames, levels, strict=True)
        ]  # fmt: skip

    def _generator(self, frames: Sequence[Frame]) -> torch.Generator:
        found = hashlib.sha256(str(self._seed).encode())
        for frame in frames:
            found.update(np.ascontiguousarray(frame.pixels).tobytes())
        return torch.Generator().manual_seed(int.from_bytes(found.digest()[:6], "big"))


def _reason(error: Exception) -> str:
    said = one_line(str(getattr(error, "reason", error))).rstrip(".")
    known = isinstance(error, ValueError) and said
    return said if known else f"{type(error).__name__}: {said}".rstrip(": ")
