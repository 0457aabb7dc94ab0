"""Our own amortised protector: one pass of a small network instead of a search for each photo."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn import functional

from faces.protection import Declaration, Threat
from protectors import drawing
from protectors.auxiliary import SIZE_PX, SYNTHETIC, Faces, auxiliary_faces, source_key
from protectors.base import TOP_LEVEL, PhotoProtector, refuse
from protectors.canvas import Canvas, linf_levels
from protectors.descent import check_iteration
from protectors.errors import ProtectorError
from protectors.largest import check_largest
from protectors.similarity import ssim
from protectors.surrogates import Surrogates
from protectors.trained import Weights, trained
from protectors.unet import UNet
from protectors.views import seen

NATIVE_LEVELS = 16

#: Version of the training below: a change of what it gives needs another number.
VERSION = 1

#: Seed of the untrained network and of all random numbers drawn in the training.
SEED = 0

#: Channels in: the colours, and the place on the face.
INPUTS = 5

#: Weight of each unit of SSIM below the bound, against likenesses.
WEIGHT = 20.0

#: Factor of the last layer's first weights, so that the first change is small.
START = 0.3

#: Share of the training in which the rate rises to its full value; it falls to almost nothing afterwards.
WARM_UP = 0.1


@dataclass(frozen=True)
class Training:
    """How the network is trained.

    Attributes:
        surrogates: names of the recognisers, joined by "+".
        levels: budget in whole levels.
        ssim: similarity below which the loss asks for less change.
        margin: likeness below which it asks for no more change.
        eot: random views a step, 0 for the photo itself.
        steps: steps of Adam.
        rate: their largest rate.
        batch: photos in a step.
        people: auxiliary people.
        captures: photos of each.
        width: Channels at half the size, as for :class:`UNet`.
    """

    surrogates: str
    levels: int
    ssim: float
    margin: float
    eot: int
    steps: int
    rate: float
    batch: int
    people: int
    captures: int
    width: int


class FeedForward(PhotoProtector):
    """A U-Net that was trained once, on other people, to see in a photo what makes it unlike its person.

    The change is eps tanh(u(x, where each pixel is on the face)). Its loss for a photo is the mean over random views of
    max(likeness - margin, 0), plus 20 max(ssim - SSIM, 0); the recognisers take turns from step to step. Likeness is
    the mean cosine to the other photos of the person, on a scale of 0 for two people and 1 for two photos of a person
    on average, so that recognisers count alike.

    What it learns from synthetic heads holds for synthetic heads: on other heads it left 44 and 66 % of pairs unmatched
    by its recognisers and 92 % by one that it never met, on photographs 1, 0 and 21 %, with more visible change.
    Photographs need a network trained on photographs, from a folder.

    It works on photos of 112 pixels; the change of others is made on a photo of that size and enlarged or reduced.

    Args:
        budget: "native" (16/255), "uniform" or a number.
        ssim: structural similarity to aim at (7 x 7 windows); nothing enforces it on a photo.
        margin: likeness that is low enough.
        surrogates: recognisers, joined by "+".
        eot: random views in each step of the training, 0 for the photo itself.
        steps: steps of the training.
        rate: largest rate of Adam.
        batch: photos in a step.
        people: auxiliary people.
        captures: photos of each, at least two.
        width: channels of the U-Net at half the size.
        auxiliary: "synthetic" heads or a folder with one folder of photos per person.

    Raises:
        ProtectorError: A setting is out of range.
        FacesError: A folder cannot be used.
    """

    about = Declaration(
        name="feed-forward",
        title="one pass of a network trained on other people",
        summary="Changes a photo by one pass of a network that was trained on other people; fast, but "
        "weak on photographs unless it was trained on a folder of them.",
        source="own",
        threats=frozenset({Threat.dodge}),
        auxiliary_data="synthetic heads (nobody), or a folder",
        differentiable=True,
        additive=True,
    )

    def __init__(
        self,
        *,
        budget: str = "native",
        ssim: float = 0.955,
        margin: float = 0.0,
        surrogates: str = "sface+dlib-resnet",
        eot: int = 1,
        steps: int = 800,
        rate: float = 2e-3,
        batch: int = 4,
        people: int = 100,
        captures: int = 4,
        width: int = 32,
        auxiliary: str = SYNTHETIC,
    ) -> None:
        check_iteration("feed-forward", steps=steps, eot=eot)
        if not 0 < ssim < 1:
            raise ProtectorError(f"feed-forward takes ssim between 0 and 1, got {ssim:g}.")
        if not -2 <= margin < 1:
            raise ProtectorError(f"feed-forward takes margin from -2 to 1, the likeness of a person, got {margin:g}.")
        if not 0 < rate < 1:
            raise ProtectorError(f"feed-forward takes a rate between 0 and 1, got {rate:g}.")
        for name, given, least in (
            ("batch", batch, 1), ("people", people, 2), ("captures", captures, 2), ("width", width, 1)
        ):  # fmt: skip
            if given < least:
                raise ProtectorError(f"feed-forward takes {name} >= {least}, got {given}.")
        check_largest("feed-forward", batch=batch, people=people, captures=captures, width=width)
        names = Surrogates(surrogates).names
        self._training = Training(
            surrogates=surrogates, levels=linf_levels(budget, NATIVE_LEVELS / TOP_LEVEL), ssim=ssim, margin=margin,
            eot=eot, steps=steps, rate=rate, batch=batch, people=people, captures=captures, width=width,
        )  # fmt: skip
        self._auxiliary = auxiliary
        self._networks: dict[torch.device, UNet] = {}
        self._key = source_key(auxiliary, people=people, captures=captures)
        super().__init__(
            names,
            budget=budget, ssim=ssim, margin=margin, surrogates=surrogates, eot=eot, steps=steps, rate=rate,
            batch=batch, people=people, captures=captures, width=width, auxiliary=self._key,
        )  # fmt: skip

    def change(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> Tensor:
        """Photos with what the network adds; see :meth:`PhotoProtector.change`.

        Raises:
            FaceFailed: The eyes of a photo are at the same place.
        """
        side = images.shape[-1]
        small, points = images, points5
        if side != SIZE_PX:
            small = functional.interpolate(images, (SIZE_PX, SIZE_PX), mode="bilinear", antialias=True)
            # Pixel centres stand at integers.
            points = (points5 + 0.5) * (SIZE_PX / side) - 0.5
        found = perturbation(self.network(images.device), small, points, self._training.levels)
        if side != SIZE_PX:
            found = functional.interpolate(found, (side, side), mode="bilinear", antialias=True)
        return images + Canvas(images, points5).greyed(found)

    def network(self, device: torch.device) -> UNet:
        """The network on a device, frozen; it is trained there unless it is kept from an earlier time."""
        if device in self._networks:
            return self._networks[device]
        training = self._training
        settings = {"version": VERSION, "auxiliary": self._key, **asdict(training)}
        network = UNet(INPUTS, 3, training.width, SEED)
        network.load_state_dict(trained("feed-forward", settings, lambda: train(training, self._auxiliary, device)))
        self._networks[device] = network.to(device).eval().requires_grad_(False)
        return self._networks[device]


def perturbation(network: UNet, images: Tensor, points5: Tensor, levels: int) -> Tensor:
    """What is added to photos (N, 3, S, S), of the same shape and within the budget; gradients pass.

    Raises:
        FaceFailed: The eyes of a photo are at the same place.
    """
    seen_by = torch.cat((2 * images - 1, face_coordinates(points5, images.shape[-1])), 1)
    return torch.tanh(network(seen_by)) * (levels / TOP_LEVEL)


def face_coordinates(points5: Tensor, side: int) -> Tensor:
    """Where each pixel is on the face (N, 2, S, S): tanh of its place along and across the line of the eyes.

    Places count from the mean of the five points (N, 5, 2), in eye distances.

    Raises:
        FaceFailed: The eyes of a photo are at the same place.
    """
    eyes = points5[:, 1] - points5[:, 0]
    square = eyes.square().sum(1)
    refuse(square == 0, "feed-forward needs two eyes apart from each other in points5; find the points again.")
    at = torch.arange(side, dtype=points5.dtype, device=points5.device)
    centre = points5.mean(1)
    right, down = (at - centre[:, :1])[:, None, :], (at - centre[:, 1:])[:, :, None]
    x, y = (eyes / square[:, None])[:, :, None, None].unbind(1)
    return torch.stack((right * x + down * y, down * x - right * y), 1).tanh()


def train(training: Training, auxiliary: str, device: torch.device) -> Weights:
    """Weights of the network, which is trained on the given device.

    Raises:
        ProtectorError: A folder holds too few people, or somebody in it has one photo only.
        FacesError: A folder cannot be used.
    """
    faces = auxiliary_faces(auxiliary, people=training.people, captures=training.captures).to(device)
    recognisers = [Surrogates(name) for name in Surrogates(training.surrogates).names]
    with torch.no_grad():
        scales = [Scale(each.embed(faces.images, faces.points5)[0], faces.identity) for each in recognisers]
    generator = torch.Generator().manual_seed(SEED)
    batches = _batches(faces, training.batch, generator)
    network = UNet(INPUTS, 3, training.width, SEED).to(device)
    with torch.no_grad():
        network.up[-1].get_parameter("weight").mul_(START)
    optimiser = torch.optim.Adam(network.parameters(), lr=training.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, training.rate, total_steps=training.steps, pct_start=WARM_UP
    )
    views = max(1, training.eot)
    for step in range(training.steps):
        rows = next(batches)
        images, points5 = faces.images[rows], faces.points5[rows]
        # One recogniser a step: two steps with one each teach more than a single one with both, at the same cost.
        turn, which = divmod(step, len(recognisers))
        with torch.enable_grad():
            changed = (images + perturbation(network, images, points5, training.levels)).clamp(0, 1)
            loss = WEIGHT * (training.ssim - ssim(images, changed)).clamp_min(0).mean()
            for view in range(views):
                shown, at = changed, points5
                if training.eot:
                    shown, at = seen(changed, points5, turn * views + view, generator)
                likeness = scales[which].likeness(recognisers[which].embed(shown, at)[0], rows)
                loss = loss + (likeness - training.margin).clamp_min(0).mean() / views
            optimiser.zero_grad()
            loss.backward()
        optimiser.step()
        schedule.step()
    return network.state_dict()


class Scale:
    """The likeness to a person on the scale of one recogniser.

    Args:
        features: (N, D) unit vectors of clean photos.
        identity: (N,) of at least two people, each with at least two photos.

    Raises:
        ProtectorError: There is one person only, or somebody has one photo only.
    """

    def __init__(self, features: Tensor, identity: Tensor) -> None:
        same = (identity[:, None] == identity).to(features)
        others = same - torch.eye(len(identity)).to(features)
        if bool((others.sum(1) == 0).any()) or bool((same == 1).all()):
            raise ProtectorError(
                "feed-forward learns from people with at least two photos each, and from two people at least; add "
                "photos to the auxiliary folder."
            )
        cosines = features @ features.T
        self._mates = (others @ features) / others.sum(1, keepdim=True)
        self._zero = float((cosines * (1 - same)).sum() / (1 - same).sum())
        self._one = float((cosines * others).sum() / others.sum())

    def likeness(self, features: Tensor, rows: Tensor) -> Tensor:
        """Likeness (n,) of features (n, D) to the other photos of the person whom photo number ``rows`` (n,) shows."""
        cosine = (features * self._mates[rows]).sum(1)
        return (cosine - self._zero) / (self._one - self._zero)


def _batches(faces: Faces, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Rows of endless batches, epoch after epoch, each in an order of its own; what is left of an epoch is dropped."""
    size = min(size, len(faces))
    while True:
        yield from drawing.order(len(faces), generator, faces.images)[: len(faces) // size * size].split(size)
