"""APF: a device makes noise against a small recogniser, a server turns it into noise against another one.

Only the noise leaves the device; see :mod:`protectors.apf_sides`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from faces.protection import Declaration, Threat
from protectors import drawing
from protectors.apf_sides import Device, Search, Server, Transfer, mate
from protectors.auxiliary import SIZE_PX, SYNTHETIC, auxiliary_faces, source_key
from protectors.base import TOP_LEVEL, PhotoProtector, with_given
from protectors.canvas import linf_levels
from protectors.descent import check_iteration
from protectors.errors import ProtectorError
from protectors.largest import check_largest
from protectors.noise_message import unpack
from protectors.surrogates import Surrogates
from protectors.trained import Weights, trained

#: A request to the server in, its reply out.
Transport = Callable[[bytes], bytes]

#: Version of the training below: a change of what it gives needs another number.
VERSION = 1

#: From this the mean squared distance is subtracted; it only keeps the loss positive.
OFFSET = 10.0

#: Seed of all random numbers drawn in the training.
SEED = 0


@dataclass(frozen=True)
class Training:
    """How the network of a server is trained.

    Attributes:
        recogniser: name of the one to be deceived.
        universal: passes over the photos that make the universal perturbation; 0: no E module.
        rate: learning rate of Adam.
        batch: photos in a step.
        people: auxiliary people.
        captures: photos of each.
        epochs: passes over the photos.
        width: Channels at half the size, as for :class:`protectors.unet.UNet`.
        residual: Whether the noise itself is added to the result, as for :class:`Transfer`.
    """

    recogniser: str
    universal: int
    rate: float
    batch: int
    people: int
    captures: int
    epochs: int
    width: int
    residual: bool


@dataclass(frozen=True)
class _Preset:
    levels: int
    start_levels: int
    diversity: float
    momentum: float
    universal: int
    rate: float
    batch: int
    people: int
    captures: int
    epochs: int
    width: int
    residual: bool


_PAPER = _Preset(
    levels=8, start_levels=1, diversity=0.5, momentum=0.0, universal=10, rate=1e-4, batch=100, people=2000, captures=50,
    epochs=50, width=64, residual=False,
)  # fmt: skip
_PRESETS = {
    "reduced": replace(_PAPER, rate=1e-3, batch=10, people=40, captures=4, epochs=3, width=16, residual=True),
    "paper": _PAPER,
    "released": replace(
        _PAPER, levels=16, start_levels=16, diversity=0.3, momentum=0.9, universal=0, rate=1e-5, batch=64
    ),
}


class Apf(PhotoProtector):
    """Adversarial privacy-preserving filter.

    The device raises the distance to another photo of the same person in the eyes of a small recogniser, the probe. The
    server was trained beforehand, on other people: from such noise to a perturbation that raises the distance in the
    eyes of its own recogniser. It learns by the loss 10 - mean |f(x + s) - f(mate)|^2.

    Photos that are protected together are each other's mates, so the result depends on the batch.

    The server's network is trained when it is first needed, and kept. The default, "reduced", trains on few people with
    ten times the rate of the paper; "paper" and "released" (16/255, momentum, no E module) train on 100,000 photos,
    which takes days. Beside the size of the training, this differs from the original: the noise of each training photo
    is made once, not anew in each epoch; the E module starts as u itself; noise starts with one random level; and both
    recognisers are others.

    Args:
        preset: "reduced", "paper" or "released".
        budget: "native" (8/255, released 16/255), "uniform" or a number, for both noises.
        steps: steps of the device.
        step_levels: change of each value in a step, in 1/255.
        diversity: probability of diverse input.
        momentum: decay of summed gradients, 0 for none.
        universal: passes over the auxiliary photos that make the universal perturbation; 0: no E module.
        rate: learning rate of Adam.
        batch: photos in a step of the training.
        people: auxiliary people.
        captures: photos of each.
        epochs: passes over the auxiliary photos that train the server's network.
        width: channels of the U-Net at half the size.
        surrogates: the probe and the server's recogniser, joined by "+".
        auxiliary: "synthetic" heads or a folder with one folder of photos per person.

    Attributes:
        transport: carries a request to the server and brings its reply; at first to a server in this process. Replace
            it to put a network between.

    Raises:
        ProtectorError: A setting is out of range.
    """

    about = Declaration(
        name="apf",
        title="noise of a device, made to transfer by a server that sees nothing else",
        summary="Makes noise on the device, which a server that never sees the photo turns into a protection.",
        source="Zhang, Sang, Zhao, Huang, Sun and Hu, ACM Multimedia 2020",
        threats=frozenset({Threat.dodge}),
        auxiliary_data="synthetic heads (nobody), or a folder",
        deterministic=False,
        presets=tuple(_PRESETS),
        additive=True,
        batch_dependent=True,
    )
    #: Mates may be anywhere in the batch.
    chunk = 1 << 20

    def __init__(
        self,
        *,
        preset: str = "reduced",
        budget: str = "native",
        steps: int = 10,
        step_levels: int = 2,
        diversity: float | None = None,
        momentum: float | None = None,
        universal: int | None = None,
        rate: float | None = None,
        batch: int | None = None,
        people: int | None = None,
        captures: int | None = None,
        epochs: int | None = None,
        width: int | None = None,
        surrogates: str = "sface+dlib-resnet",
        auxiliary: str = SYNTHETIC,
    ) -> None:
        if preset not in _PRESETS:
            raise ProtectorError(f"apf takes preset = {', '.join(_PRESETS)}, got {preset}.")
        chosen = with_given(
            _PRESETS[preset], diversity=diversity, momentum=momentum, universal=universal, rate=rate, batch=batch,
            people=people, captures=captures, epochs=epochs, width=width,
        )  # fmt: skip
        names = Surrogates(surrogates).names
        if len(names) != 2:
            raise ProtectorError(
                f"apf takes two recognisers, that of the device and that of the server, as in sface+dlib-resnet; got "
                f"surrogates = {surrogates}."
            )
        levels = linf_levels(budget, chosen.levels / TOP_LEVEL)
        self._search = Search(
            probe=names[0], levels=levels, start_levels=min(chosen.start_levels, levels), step_levels=step_levels,
            steps=steps, diversity=chosen.diversity, momentum=chosen.momentum,
        )  # fmt: skip
        self._training = Training(
            recogniser=names[1], universal=chosen.universal, rate=chosen.rate, batch=chosen.batch,
            people=chosen.people, captures=chosen.captures, epochs=chosen.epochs, width=chosen.width,
            residual=chosen.residual,
        )  # fmt: skip
        _check(self._search, self._training)
        self._auxiliary = auxiliary
        given = self._training
        self._key = source_key(auxiliary, people=given.people, captures=given.captures)
        super().__init__(
            names,
            preset=preset, budget=budget, steps=steps, step_levels=step_levels, diversity=self._search.diversity,
            momentum=self._search.momentum, universal=given.universal, rate=given.rate, batch=given.batch,
            people=given.people, captures=given.captures, epochs=given.epochs, width=given.width, surrogates=surrogates,
            auxiliary=self._key,
        )  # fmt: skip
        self.transport: Transport = self._in_process
        # A server in this process works where the photos are that were last protected.
        self._at = torch.device("cpu")
        self._servers: dict[torch.device, Server] = {}

    def device(self, images: Tensor, points5: Tensor, identity: Tensor) -> Device:
        """The device that holds these photos; arguments as of :meth:`protect`."""
        return Device(images, points5, identity, self._search)

    def server(self, device: torch.device | None = None) -> Server:
        """A server with the network for such a device; it is trained unless it is kept from an earlier time.

        Args:
            device: Where the network is trained and run; default: the processor.
        """
        device = torch.device("cpu") if device is None else device
        search, training = self._search, self._training
        settings = {"version": VERSION, "auxiliary": self._key, **asdict(search), **asdict(training)}
        weights = trained("apf", settings, lambda: train(search, training, self._auxiliary, device))
        return Server(weights, width=training.width, levels=search.levels, residual=training.residual, device=device)

    def change(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> Tensor:
        """Photos with what the server made of their noise; see :meth:`PhotoProtector.change`."""
        device, self._at = self.device(images, points5, identity), images.device
        return device.apply(self.transport(device.request(generator)))

    def _in_process(self, request: bytes) -> bytes:
        if self._at not in self._servers:
            self._servers[self._at] = self.server(self._at)
        return self._servers[self._at](request)


def train(search: Search, training: Training, auxiliary: str, device: torch.device) -> Weights:
    """Weights of the server's network, from photos of other people and the noise that a device makes of them.

    Raises:
        ProtectorError: A folder holds too few people.
        FacesError: A folder cannot be used.
    """
    faces = auxiliary_faces(auxiliary, people=training.people, captures=training.captures).to(device)
    generator = torch.Generator().manual_seed(SEED)
    device_side = Device(faces.images, faces.points5, faces.identity, search)
    noise = unpack(device_side.request(generator)).to(device)
    server = Surrogates(training.recogniser)
    with torch.no_grad():
        away = server.embed(faces.images, faces.points5)[0][mate(faces.identity)]

    def distance(rows: Tensor, perturbation: Tensor) -> Tensor:
        shown = (faces.images[rows] + perturbation).clamp(0, 1)
        return (server.embed(shown, faces.points5[rows])[0] - away[rows]).square().sum(1).mean()

    def batches(passes: int) -> Iterator[Tensor]:
        for _ in range(passes):
            yield from drawing.order(len(faces), generator, faces.images).split(training.batch)

    network = Transfer(training.width, search.levels, None, residual=training.residual).to(device)
    with torch.enable_grad():
        if training.universal:
            universal = _universal(distance, batches(training.universal), search.levels, generator, faces.images)
            network = Transfer(training.width, search.levels, universal, residual=training.residual).to(device)
        optimiser = torch.optim.Adam(network.parameters(), lr=training.rate)
        for rows in batches(training.epochs):
            loss = OFFSET - distance(rows, network(noise[rows].float()))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return network.state_dict()


def _universal(
    distance: Callable[[Tensor, Tensor], Tensor],
    batches: Iterator[Tensor],
    levels: int,
    generator: torch.Generator,
    like: Tensor,
) -> Tensor:
    """One perturbation (3, 112, 112) in 0..1 for all photos: steps of one level along the sign of a batch's gradient.

    How the original was made is not known; this is the usual way. The result has device and type of ``like``.
    """
    limit = levels / TOP_LEVEL
    universal = limit * drawing.around_zero((3, SIZE_PX, SIZE_PX), generator, like)
    for rows in batches:
        moved = universal.requires_grad_()
        (gradient,) = torch.autograd.grad(distance(rows, moved), moved)
        universal = (universal.detach() + gradient.sign() / TOP_LEVEL).clamp(-limit, limit)
    return universal


def _check(search: Search, training: Training) -> None:
    check_iteration("apf", steps=search.steps, diversity=search.diversity)
    if not 0 <= search.momentum <= 1:
        raise ProtectorError(f"apf takes momentum as a decay, 0..1, got {search.momentum:g}.")
    if training.universal < 0:
        raise ProtectorError(f"apf takes universal >= 0 passes, got {training.universal}.")
    if not 0 < training.rate < 1:
        raise ProtectorError(f"apf takes a rate between 0 and 1, got {training.rate:g}.")
    counts = {"step_levels": search.step_levels, **asdict(training)}
    for name in ("step_levels", "batch", "people", "captures", "epochs", "width"):
        if counts[name] < 1:
            raise ProtectorError(f"apf takes {name} >= 1, got {counts[name]}.")
        check_largest("apf", **{name: counts[name]})
    check_largest("apf", universal=training.universal)
