"""Small stand-ins that worker processes can import: protectors, attackers and a recogniser of a few lines each."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor, nn

from evaluation.image_attackers.base import ImageAttacker
from evaluation.image_attackers.published import AsPublished
from evaluation.photos import Knowledge, Photos
from faces.alignment import template
from faces.families import Recogniser
from faces.protection import Declaration, KnownBlur, Target, Threat
from faces.samples import FaceSet, five_points

SIDE = 32


#: What a fake claims, where it is not evasion.
THREATS = {"code": Threat.poison, "tint": Threat.poison, "paste": Threat.impersonate, "wish": Threat.impersonate}


class Fake:
    """A protector; ``person`` must see people first.

    ``code`` puts a picture of noise in place of each photo, one for each person; ``tint`` leaves little but the
    brightness of a photo, at a quarter of its contrast, and adds a colour of the person without brightness. ``paste``
    puts a photo of its target there; ``wish`` has a target and does nothing.
    """

    photo_px: int | None = None
    blur: KnownBlur | None = None
    target: Target | None = None

    def __init__(self, spec: str) -> None:
        self.spec = spec
        base = spec.partition(":")[0]
        self.declaration = Declaration(
            base, base, "control", frozenset({THREATS.get(base, Threat.dodge)}),
            deterministic=base not in ("noise", "hide"),
            person_specific=base == "person", control=base in ("identity", "gaussian-blur", "pixelate", "noise"),
            settings=(("spec", spec),), surrogates=(),
        )  # fmt: skip
        self.seen: set[int] = set()
        if base == "lens":
            self.blur = KnownBlur(torch.ones(1, 1, 1), noise_sd=0.05, planes=3)
        if base in ("paste", "wish"):
            people = heads(2, 3, 90_000)
            self.target = Target(people.images / 255, five_points(people.landmarks).float(), people.identity)

    def fit(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> None:
        self.seen = set(identity.tolist())

    def protect(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> Tensor:
        base, _, setting = self.spec.partition(":")
        if base == "broken":
            raise RuntimeError("the lens fell off")
        if base == "person" and not set(identity.tolist()) <= self.seen:
            raise RuntimeError("a stranger")
        if base in ("identity", "gaussian-blur", "pixelate", "lens", "wish"):
            return images
        if base == "paste" and self.target is not None:
            return ((self.target.images[:1] * 255).round() / 255).expand_as(images)
        if base in ("code", "tint"):
            return ((coded(images, identity, base) * 255).round() / 255).clamp(0, 1)
        if base == "noise":
            sd = float(setting.partition("=")[2]) / (3 * SIDE * SIDE) ** 0.5 if setting.startswith("l2") else 0.05
            noise = torch.randn(images.shape, generator=generator) * sd
            return ((images + noise).clamp(0, 1) * 255).round() / 255
        if base == "hide":
            return torch.randint(0, 256, images.shape, generator=generator) / 255
        # A negative fools the recogniser and nobody else.
        return ((1 - images) * 255).round() / 255


def coded(images: Tensor, identity: Tensor, how: str) -> Tensor:
    """Photos with a code of each person: noise in place of the photo, or a colour."""
    weights = torch.tensor([0.299, 0.587, 0.114])
    codes = []
    for person in identity.tolist():
        generator = torch.Generator().manual_seed(person)
        colour = 0.7 * torch.rand(3, 1, 1, generator=generator) - 0.35
        codes.append(
            torch.rand(images.shape[1:], generator=generator)
            if how == "code"
            else colour - (weights @ colour.flatten())
        )
    if how == "code":
        return torch.stack(codes)
    bright = (images * weights[:, None, None]).sum(1, keepdim=True)
    return 0.5 + 0.25 * (bright - 0.5) + torch.stack(codes)


def make_protector(spec: str) -> Fake:
    return Fake(spec)


class Crashing(ImageAttacker):
    """Fails whenever it is told to."""

    name, level, knowledge, budget, control = "crashing", "K2", "none", "none", "none"

    def fit(self, recogniser: Recogniser, knowledge: Knowledge) -> None:
        raise ZeroDivisionError("it always does")

    def embed(self, photos: Photos, *, protected: bool) -> Tensor:
        raise NotImplementedError


class Killed(AsPublished):
    """Ends its process by an exception that nothing catches, as long as a file is there."""

    def fit(self, recogniser: Recogniser, knowledge: Knowledge) -> None:
        if Path(os.environ["OPTISHIELD_TEST_KILL"]).exists():
            raise KeyboardInterrupt
        super().fit(recogniser, knowledge)


class Inverting(AsPublished):
    """K2: knows that a negative was made and makes another."""

    level = "K2"

    def __init__(self) -> None:
        super().__init__()
        self.name = "inverting"

    def embed(self, photos: Photos, *, protected: bool) -> Tensor:
        shown = photos.with_images(1 - photos.images()) if protected else photos
        return super().embed(shown, protected=protected)


class Blind(AsPublished):
    """Acquires only every second face of the protected photographs."""

    def embed(self, photos: Photos, *, protected: bool) -> Tensor:
        rows = super().embed(photos, protected=protected).clone()
        if protected:
            rows[::2] = torch.nan
        return rows


def make_attacker(name: str, tier: str) -> ImageAttacker:
    if name == "unknown":
        raise ValueError("no such attacker")
    made: ImageAttacker = {
        "as-published": AsPublished, "average-4": lambda: AsPublished(frames=4), "crashing": Crashing,
        "killed": Killed, "inverting": Inverting, "blind": Blind,
    }[name]()  # fmt: skip
    return made


class Pixels(nn.Module):
    """Fixed random projection of the pixels."""

    def __init__(self) -> None:
        super().__init__()
        weight = torch.randn(24, 3 * SIDE * SIDE, generator=torch.Generator().manual_seed(1))
        self.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, chips: Tensor) -> Tensor:
        return (chips - 0.5).flatten(1) @ self.weight.T


def load_recogniser(name: str) -> Recogniser:
    if name == "absent":
        raise FileNotFoundError("its weights were not fetched")
    network = Pixels().eval()
    if name == "weak":
        network.weight.data[1:] = 0
        network.weight.data[0] = 1e-3
    return Recogniser(
        name=name, family=f"family of {name}", network=network, points=template(SIDE), input_size=(SIDE, SIDE),
        embedding_dim=24, value_range=(0.0, 1.0), channel_order="RGB", weights_hash=f"sha256 of {name}",
    )  # fmt: skip


def heads(people: int, captures: int, first: int, spread: float = 0.05) -> FaceSet:
    """Noise pictures: a smooth random one for each person, with a little noise for each capture."""
    generator = torch.Generator().manual_seed(first + people)
    coarse = torch.rand(people, 1, 3, 8, 8, generator=generator).expand(-1, captures, -1, -1, -1)
    images = nn.functional.interpolate(coarse.flatten(0, 1), size=(SIDE, SIDE), mode="bilinear")
    images = images + spread * torch.randn(images.shape, generator=generator)
    landmarks = torch.zeros(people * captures, 68, 2)
    five = template(SIDE).float()
    for start, stop, point in zip((36, 42, 30, 48, 54), (42, 48, 31, 49, 55), five, strict=True):
        landmarks[:, start:stop] = point
    return FaceSet(
        (images.clamp(0, 1) * 255).round().to(torch.uint8),
        torch.arange(first, first + people).repeat_interleave(captures),
        torch.arange(captures).repeat(people),
        landmarks,
        "noise pictures",
        "CC0-1.0",
    )
