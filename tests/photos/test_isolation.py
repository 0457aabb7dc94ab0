"""How far the work on faces is, and what a failing one costs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from faces.errors import FaceFailed
from faces.framing import FRAME_POINTS
from faces.protection import Declaration
from photos.frames import Frame
from photos.isolation import FACE_STEPS, FaceWork, Failed, Shares
from protectors.base import PhotoProtector


class Slow(PhotoProtector):
    """Ten steps for two photos at a time, and none of a photo that is white."""

    about = Declaration("slow", "slow", "own", frozenset(), additive=True)
    chunk = 2

    def __init__(self) -> None:
        super().__init__(())

    def change(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> Tensor:
        for step in self.steps(10):
            if step == 5 and bool((images.flatten(1).amin(1) == 1).any()):
                raise FaceFailed(0, "it is white.")
        return (images + torch.rand(images.shape, generator=generator) * 0.2 + 0.1).clamp(0, 1)


def _frame(level: int) -> Frame:
    points = (np.array(FRAME_POINTS) * 16 - 0.5).astype(np.float32)
    return Frame(np.full((16, 16, 3), level, np.uint8), points, 1.0, np.zeros(2))


def _work(levels: list[int]) -> tuple[list[np.ndarray | Failed], list[int]]:
    told: list[int] = []
    work = FaceWork(Slow(), 0, None, torch.device("cpu"))
    return work.protected([_frame(level) for level in levels], told.append), told


def test_steps_are_told_as_they_are_done_and_come_to_a_hundred_a_face() -> None:
    _, told = _work([10, 20, 30, 40])
    # Two parts of ten steps each, of four faces.
    assert told == [FACE_STEPS * 4 // 20] * 20


@pytest.mark.parametrize("levels", [[255], [255, 10], [10, 20, 255, 40], [255, 255]])
def test_no_step_is_told_twice_where_faces_are_tried_alone(levels: list[int]) -> None:
    found, told = _work(levels)
    assert sum(told) == FACE_STEPS * len(levels)
    assert min(told) > 0
    assert [isinstance(one, Failed) for one in found] == [level == 255 for level in levels]
    assert {one.reason for one in found if isinstance(one, Failed)} == {"it is white"}


def test_a_face_is_the_same_whatever_was_protected_before_it() -> None:
    (alone,), _ = _work([10])
    work = FaceWork(Slow(), 0, None, torch.device("cpu"))
    work.protected([_frame(90), _frame(91)], lambda n: None)
    (after,) = work.protected([_frame(10)], lambda n: None)
    other_seed = FaceWork(Slow(), 1, None, torch.device("cpu")).protected([_frame(10)], lambda n: None)[0]
    assert np.array_equal(np.asarray(alone), np.asarray(after))
    assert not np.array_equal(np.asarray(alone), np.asarray(other_seed))


def test_shares_are_told_in_whole_steps() -> None:
    told: list[int] = []
    shares = Shares(10, told.append)
    for share in (0.04, 0.1, 0.35, 0.2, 0.99, 1.0, 1.0):
        shares(share)
    assert told == [1, 2, 6, 1]
