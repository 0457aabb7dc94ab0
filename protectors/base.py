"""What all protectors share: checked input, work in parts, and results in the levels of a file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, TypeVar, cast

import torch
from torch import Tensor

from faces.errors import FaceFailed
from faces.protection import Declaration, KnownBlur, Target
from protectors.errors import ProtectorError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Preset = TypeVar("Preset", bound=DataclassInstance)

#: A photo has 256 levels a channel.
TOP_LEVEL = 255

#: Standard deviation in linear light at 18 % grey of rounding to these levels: one level / sqrt(12), times the slope of
#: the inverse sRGB transfer there.
ROUNDING_SD = 9.47e-4


class _WholeLevels(torch.autograd.Function):
    """Rounding to levels with the gradient of the identity, so that attacks and protectors can see through it."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, images: Tensor) -> Tensor:
        return (images * TOP_LEVEL).round() / TOP_LEVEL

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        return gradient


def whole_levels(images: Tensor) -> Tensor:
    """Images as a file of 8 bits a channel gives them back: cut to 0..1, rounded to multiples of 1/255.

    The gradient is 1 inside the range (straight through the rounding) and 0 outside.
    """
    return cast(Tensor, _WholeLevels.apply(images.clamp(0, 1)))


def refuse(failed: Tensor, reason: str) -> None:
    """Raise an error for the first photo that could not be protected; nothing happens where there is none.

    Args:
        failed: (N,) bool, the photos that failed.
        reason: One sentence that holds for each of them; see :class:`FaceFailed`.

    Raises:
        FaceFailed: At least one photo failed.
    """
    if bool(failed.any()):
        raise FaceFailed(int(failed.nonzero()[0]), reason)


def with_given(preset: Preset, **given: float | str | None) -> Preset:
    """A preset with those of its values replaced that a user gave; None stands for "not given".

    Args:
        preset: Frozen dataclass with the values of the preset.
        given: New values of its fields, by name.
    """
    return replace(preset, **{name: value for name, value in given.items() if value is not None})


class PhotoProtector(ABC):
    """A :class:`faces.protection.Protector` that has only to say how it changes photos.

    A subclass states ``about``, passes every setting that changes its result to ``super().__init__`` and implements
    :meth:`change`; if it has to see people first, :meth:`prepare` too; if it is a blur, it sets ``blur``.

    Args:
        surrogates: The recognisers that these settings use, as in :attr:`faces.protection.Declaration.surrogates`; ()
            for none. The argument has no name of its own, so that a setting may be called the same.
        settings: every setting that changes the result; values of None are left out. They become part of the
            declaration and thereby of the cache key, so a file goes in as its hash and not as its path.

    Attributes:
        about: the declaration without settings.
        chunk: photos that :meth:`change` gets at most; bounds memory.
        photo_px: side of the photos it is made for, or None for any.
        least_px: smallest side of photos that these settings take.
        declaration: the declaration with its settings.
        blur: the optics that an attacker may know.
        target: the people whom protected photos should resemble.
        watch: Called while :meth:`fit` or :meth:`protect` works, with the share of the work that is done, 0..1; see
            :class:`faces.protection.Watched`.
    """

    about: ClassVar[Declaration]
    chunk: int = 64
    photo_px: int | None = None
    least_px: int = 1
    declaration: Declaration
    blur: KnownBlur | None = None
    target: Target | None = None
    watch: Callable[[float], None] | None = None
    # Which share of the work the part at hand is: where it begins, and how large it is.
    _work_part: tuple[float, float] = (0.0, 1.0)

    def __init__(self, surrogates: tuple[str, ...], /, **settings: float | str | None) -> None:
        given = tuple((name, str(value)) for name, value in settings.items() if value is not None)
        self.declaration = replace(self.about, settings=given, surrogates=surrogates)

    @abstractmethod
    def change(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> Tensor:
        """Protected photos of a part of a batch; values outside 0..1 and between the levels are allowed.

        Arguments are those of :meth:`faces.protection.Protector.protect`, checked.

        Raises:
            FaceFailed: One of these photos cannot be protected; ``index`` is its row in this part.
        """

    def prepare(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> None:  # noqa: B027
        """Look at people before their photos are protected; nothing to do for most."""

    def fit(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> None:
        """Prepare for the people shown; see :meth:`faces.protection.Protector.fit`.

        Raises:
            ProtectorError: If the photos are not what they must be.
        """
        self._check(images, points5, identity)
        self._work_part = (0.0, 1.0)
        self.prepare(images, points5, identity, generator)

    def protect(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> Tensor:
        """Protected photos (N, 3, S, S) in whole levels; see :meth:`faces.protection.Protector.protect`.

        Raises:
            ProtectorError: If the photos are not what they must be.
            FaceFailed: If one of them cannot be protected; ``index`` is its row in this batch.
        """
        self._check(images, points5, identity)
        if len(images) == 0:
            return images.clone()
        parts = zip(images.split(self.chunk), points5.split(self.chunk), identity.split(self.chunk), strict=True)
        done: list[Tensor] = []
        for part in parts:
            self._work_part = (sum(map(len, done)) / len(images), len(part[0]) / len(images))
            try:
                done.append(self._saved(part[0], self.change(*part, generator)))
            except FaceFailed as error:
                # A part counts its photos from 0, whoever called counts those of the batch.
                raise FaceFailed(sum(map(len, done)) + error.index, error.reason) from error
        return torch.cat(done)

    def steps(self, count: int) -> Iterator[int]:
        """The numbers of the steps of an iteration, from 0; whoever watches is told after each."""
        begin, size = self._work_part
        for step in range(count):
            yield step
            if self.watch is not None:
                self.watch(begin + size * (step + 1) / count)

    def _check(self, images: Tensor, points5: Tensor, identity: Tensor) -> None:
        name, count = self.about.name, len(images)
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
            raise ProtectorError(f"{name} takes square photos (N, 3, S, S), got {tuple(images.shape)}; crop them.")
        if images.dtype != torch.float32:
            raise ProtectorError(
                f"{name} takes float32 photos in 0..1, got {images.dtype}; divide uint8 photos by 255, as float32."
            )
        if self.photo_px is not None and images.shape[-1] != self.photo_px:
            raise ProtectorError(
                f"{name} is made for photos of {self.photo_px} pixels, got {images.shape[-1]}; "
                f"set px={images.shape[-1]} in its name, or resize the photos."
            )
        if images.shape[-1] < self.least_px:
            raise ProtectorError(
                f"{name} takes photos of {self.least_px} pixels or more with the settings "
                f"{dict(self.declaration.settings)}, got {images.shape[-1]}; change them, or give larger photos."
            )
        if count and not (float(images.detach().amin()) >= 0 and float(images.detach().amax()) <= 1):
            raise ProtectorError(
                f"{name} takes values from 0 to 1, got {float(images.detach().amin()):.4g} to "
                f"{float(images.detach().amax()):.4g}; divide by the largest value that the photos can have."
            )
        if tuple(points5.shape) != (count, 5, 2):
            raise ProtectorError(f"{name} needs points5 of shape ({count}, 5, 2), got {tuple(points5.shape)}.")
        if tuple(identity.shape) != (count,) or identity.dtype != torch.int64:
            raise ProtectorError(
                f"{name} needs identity of shape ({count},) and type int64, got {tuple(identity.shape)} and "
                f"{identity.dtype}."
            )

    def _saved(self, before: Tensor, after: Tensor) -> Tensor:
        if after.shape != before.shape:
            raise ProtectorError(
                f"{self.about.name} made of photos {tuple(before.shape)} something of shape {tuple(after.shape)}; "
                f"report this to whoever wrote it, with its settings {dict(self.declaration.settings)}."
            )
        refuse(
            ~torch.isfinite(after).flatten(1).all(1),
            f"{self.about.name} made values of this face that are not finite; report this to whoever wrote it, with "
            f"its settings {dict(self.declaration.settings)}.",
        )
        return whole_levels(after)
