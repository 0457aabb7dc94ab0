"""Co-training: the mask, the heatmap decoder behind it, and the adversaries that try to name the person.

Each round, the adversaries (two recognisers and an inverter) take several steps on frames of the present camera; then
mask and decoder take one step together. The mask is paid for landmarks and charged for what the adversaries gain over
guessing, for identity information in a closed-form model, and for light outside the window. Recognisers start anew in
turn, so that the optics do not overfit one of them. Sensor noise and bits are always on; gradients pass through them.

Adversaries draw at random from the captures of all training people, except for a few of each person that they never
see: how many of those they name says whether they are awake (:attr:`Validation.accuracy`). A mask that was trained
against adversaries who guess was not trained for privacy, however private it turns out to be.

Everything is computed in float32 on one device. Mixed precision is not used: nobody has measured what it does to a
mask. Random numbers are drawn on the CPU and moved, so a seed gives the same ones on every device; what is computed
from them differs between devices in the last bits (docs/decisions/0018-devices.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from codesign import adversaries, masks
from codesign.adversaries import CROP, Contrast, Inverter, Recogniser, Schedule
from codesign.config import TrainMaskConfig
from codesign.errors import CodesignError
from codesign.losses import identity_bits
from evaluation.frame_attackers.encoded import face_crop, mirrored, shaken
from faces.landmarks import HeatmapDecoder, decode, gaussian_heatmaps, heatmap_loss, nme, points_in, released
from faces.samples import FaceSet, five_points, interocular
from sim.camera import EncoderCamera, Exposure, Geometry, MaskPsf

#: Phase step between pupil samples, in turns, from which a mask is charged; the sampling check refuses one half.
SLOPE_LIMIT = 0.35
#: Captures of a person whose identity information is counted, and how often the captures are dealt out at random.
MOST_CAPTURES, DEALS = 4, 2
RECOGNISERS = 2
#: Adversaries never see one capture in so many of a person, but at least one of who has three.
HELD_OUT = 8
CHUNK = 256


@dataclass(frozen=True)
class Validation:
    """What mask and decoder do for people that nobody was trained on.

    Attributes:
        nme: Landmark error of the co-trained decoder over the outer eye distance.
        utility: The loss of landmarks as in training; smaller is better.
        privacy: Skill of the better recogniser, 0 = a guess to 1 = no mistake
            (:meth:`codesign.adversaries.Recogniser.skill`).
        accuracy: Of the captures of *training* people that the recognisers never saw, the share that the better one
            names rightly; None where nobody has a capture to spare. A guess names one in ``people``.
        people: Training people.
    """

    nme: float
    utility: float
    privacy: float
    accuracy: float | None
    people: int


class Trainer:
    """Everything that changes during co-training, and how it is saved.

    Args:
        config: Configuration of the run.
        geometry: Lens and window.
        exposure: Sensor.
        train: Training people.
        seed: Seed for all random numbers drawn here.
        device: Where everything is computed.

    Raises:
        CodesignError: If somebody among the training people has a single capture.
    """

    def __init__(
        self,
        config: TrainMaskConfig,
        geometry: Geometry,
        exposure: Exposure,
        train: FaceSet,
        seed: int,
        device: torch.device,
    ) -> None:
        self.config, self.geometry, self.exposure, self.device = config, geometry, exposure, device
        self.generator = torch.Generator().manual_seed(seed)
        self.scenes = train.linear().to(device)
        self.landmarks = released(train.landmarks, config.landmarks).to(device)
        self.unit = interocular(train.landmarks).to(device)
        self.points5 = five_points(train.landmarks).to(device)
        people, place = torch.unique(train.identity, return_inverse=True)
        self.people, self.place = len(people), place.to(device)
        self.rows = [torch.nonzero(place == person)[:, 0] for person in range(self.people)]
        self.learnt, self.held = held_out(self.rows)
        #: Signals of all scenes as long as the mask stands still.
        self.still: Tensor | None = None
        # Scatter within a person needs two captures at least; people may differ in how many they have.
        self.captures = min(MOST_CAPTURES, min(len(rows) for rows in self.rows))
        if self.captures < 2:
            raise CodesignError("some training people have a single capture; co-design needs at least two of each.")
        self._make_networks(seed)
        index = self.mask.index_differences(geometry.wavelengths_m)
        self.turns_per_metre = float((index / torch.tensor(geometry.wavelengths_m, device=index.device)).max())

    def _make_networks(self, seed: int) -> None:
        """Mask, camera, decoder, adversaries and the optimisers of the first two."""
        settings, geometry, exposure = self.config.training, self.geometry, self.exposure
        channels = 3 if exposure.colour else 1
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.mask = masks.start(self.config.mask, geometry.grid, self.generator)
            self.grey = masks.start_grey(self.config.sensor, geometry.scene_px)
            self.source = MaskPsf(geometry, self.mask)
            self.camera = EncoderCamera(self.source, exposure, geometry.scene_px, self.grey).to(self.device)
            self.decoder = HeatmapDecoder(
                channels,
                exposure.pixels,
                settings.decoder_width,
                geometry.scene_px,
                points=points_in(self.config.landmarks),
            ).to(self.device)
            cycle = (settings.warmup_steps or settings.reset_every) * settings.adversary_steps
            schedule = Schedule(settings.adversary_rate, cycle)
            self.recognisers = [Recogniser(channels, self.people, schedule, self.device) for _ in range(RECOGNISERS)]
            self.inverter = Inverter(self.scenes, schedule)
            self.contrast = Contrast(self.device)
        mask_rate = settings.mask_rate if self.config.mask.kind == "free-form" else settings.mask_rate * 1e-6
        designed = [(list(self.mask.parameters()), mask_rate)]
        if self.grey is not None:
            designed.append((list(self.grey.parameters()), settings.grey_rate))
        self.designed = [one for values, _ in designed for one in values]
        groups = [{"params": values, "lr": rate} for values, rate in designed]
        self.mask_optimiser = torch.optim.Adam(groups, betas=(0.9, 0.99))
        self.decoder_optimiser = torch.optim.AdamW(self.decoder.parameters(), settings.network_rate, weight_decay=1e-3)

    def _any(self, count: int, among: Tensor) -> Tensor:
        """So many positions at random, with replacement."""
        pick = torch.randint(len(among), (count,), generator=self.generator, device=self.generator.device)
        return among[pick].to(self.device)

    def batch(self) -> Tensor:
        """Positions of a batch for mask and decoder, out of all captures."""
        return self._any(self.config.training.batch, torch.arange(len(self.scenes), device="cpu"))

    def grouped(self) -> Tensor:
        """Positions (people * captures,) of a few captures each of several people, those of a person side by side."""
        count = min(self.people, self.config.training.subspace_people)
        chosen = torch.randperm(self.people, generator=self.generator, device=self.generator.device)[:count]
        picks = []
        for person in chosen.tolist():
            rows = self.rows[person]
            order = torch.randperm(len(rows), generator=self.generator, device=self.generator.device)
            picks.append(rows[order[: self.captures]])
        return torch.cat(picks).to(self.device)

    def _crop(self, frames: Tensor, points5: Tensor) -> Tensor:
        return face_crop(frames, points5, self.geometry.scene_px, CROP, 0.8)

    def step(self, move_mask: bool, gradients: bool = False) -> dict[str, float]:
        """One round: steps of the adversaries, then one of the decoder and, after the warm-up, of the mask.

        Args:
            move_mask: Whether the mask moves.
            gradients: Whether to look at what moves it, too; this costs time and changes nothing.

        Returns:
            The terms of the loss, for the log, and under ``gradient_<term>`` the norm of the gradient of each weighted
            term on all that is designed.

        Raises:
            CodesignError: If the loss is no longer finite.
        """
        with torch.no_grad():
            psf = self.camera.psf
            if move_mask:
                self.still = None
            elif self.still is None:
                self.still = torch.cat([self.camera.signal(part, psf) for part in self.scenes.split(CHUNK)])
        for _ in range(self.config.training.adversary_steps):
            self._adversary_step(psf)
        return self._mask_step(gradients) if move_mask else self._decoder_step(psf)

    @torch.no_grad()
    def _frames(self, pick: Tensor, psf: Tensor) -> Tensor:
        """Frames of the present camera, with noise of their own."""
        signal = self.camera.signal(self.scenes[pick], psf) if self.still is None else self.still[pick]
        return self.camera.read(signal, self.generator)

    def _adversary_step(self, psf: Tensor) -> None:
        """One step of both recognisers and of the inverter on frames of the present camera."""
        pick = self._any(self.config.training.adversary_batch, self.learnt)
        frames = self._frames(pick, psf)
        self.contrast.follow(frames)
        frames = self.contrast(frames)
        for recogniser in self.recognisers:
            # Each sees the faces framed in another way, and half of them mirrored.
            faces = self._crop(frames, shaken(self.points5[pick], self.generator))
            recogniser.learn(mirrored(faces, self.generator), self.place[pick])
        self.inverter.learn(frames, self.inverter.targets[pick])

    def _decoder_step(self, psf: Tensor) -> dict[str, float]:
        """One step of the decoder behind a mask that stands still."""
        pick = self.batch()
        frames = self._frames(pick, psf)
        utility, distance = self._utility(self.decoder(frames), self.landmarks[pick], self.unit[pick])
        self._descend(utility, move_mask=False)
        return {"utility": float(utility.detach()), "nme": float(distance.detach())}

    def _mask_step(self, gradients: bool) -> dict[str, float]:
        """One step of mask and decoder."""
        terms, distance = self._terms()
        logged = {"nme": float(distance.detach()), **{name: float(term.detach()) for name, (_, term) in terms.items()}}
        if gradients:
            logged |= {f"gradient_{name}": self._pull(weight * term) for name, (weight, term) in terms.items()}
        self._descend(torch.stack([weight * term for weight, term in terms.values()]).sum(), move_mask=True)
        return logged

    def _pull(self, loss: Tensor) -> float:
        """Norm of the gradient of one weighted term on all that is designed."""
        found = torch.autograd.grad(loss, self.designed, retain_graph=True, allow_unused=True)
        return math.sqrt(sum(float(one.square().sum()) for one in found if one is not None))

    def _descend(self, loss: Tensor, *, move_mask: bool) -> None:
        for optimiser in (self.mask_optimiser, self.decoder_optimiser):
            optimiser.zero_grad()
        loss.backward()
        if not math.isfinite(float(loss.detach())):
            raise CodesignError(
                "the co-design loss is no longer finite; lower training.mask_rate or training.network_rate."
            )
        nn.utils.clip_grad_norm_(self.decoder.parameters(), 5.0)
        if move_mask:
            nn.utils.clip_grad_norm_(self.designed, 1.0)
            self.mask_optimiser.step()
        self.decoder_optimiser.step()

    def _utility(self, logits: Tensor, truth: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of landmarks, and the mean error of the decoded coordinates that is part of it."""
        scene_px = self.geometry.scene_px
        targets = gaussian_heatmaps(truth, scene_px, logits.shape[-1], 1.0)
        points, _ = decode(logits, scene_px)
        distance = nme(points, truth, unit).mean()
        return heatmap_loss(logits, targets) / math.log(logits.shape[-1] ** 2) + 4.0 * distance, distance

    def _terms(self) -> tuple[dict[str, tuple[float, Tensor]], Tensor]:
        """What the mask is paid and charged for, as (weight, term) by name, and the landmark error."""
        settings, pick, group = self.config.training, self.batch(), self.grouped()
        psf = self.camera.psf
        signal, compared = self.camera.signal(self.scenes[torch.cat([pick, group])], psf).split([len(pick), len(group)])
        frames = self.camera.read(signal, self.generator)
        utility, distance = self._utility(self.decoder(frames), self.landmarks[pick], self.unit[pick])
        frames = self.contrast(frames)
        faces = self._crop(frames, self.points5[pick])
        privacy = torch.stack([one.gain(faces, self.place[pick]) for one in self.recognisers]).max()
        terms = {
            "utility": (1.0, utility),
            "privacy": (settings.privacy_weight, privacy),
            "inversion": (settings.inverter_weight, self.inverter.gain(frames, self.inverter.targets[pick])),
            "identity_bits": (settings.subspace_weight, self._bits(compared, group)),
            "outside": (settings.window_weight, 1.0 - psf.sum(dim=(-2, -1)).mean()),
            "slope": (settings.slope_weight, self._too_steep()),
        }
        return terms, distance

    def _bits(self, signal: Tensor, group: Tensor) -> Tensor:
        """Identity information of grouped captures over all there is, 0 to 1, whatever the light.

        The pixels are those that the meter exposes, over the mean of their face.
        """
        exposed = signal * self.camera.meter_gain(signal)
        pixels = functional.avg_pool2d(self._crop(exposed, self.points5[group]), 2).flatten(1)
        mean = pixels.mean(1, keepdim=True)
        level = mean.mean().detach()
        variance = (level + self.exposure.read_noise_e**2) / level.square()
        rows = (pixels / mean.clamp_min(1e-3 * level)).view(-1, self.captures, pixels.shape[1])
        deals = [torch.randperm(len(group), generator=self.generator, device="cpu") for _ in range(DEALS)]
        return identity_bits(rows, variance, torch.stack(deals).to(self.device)) / math.log2(len(rows))

    def _too_steep(self) -> Tensor:
        """Sum of squares by which phase steps between pupil samples exceed what is free of charge, in turns."""
        height = self.mask.height_m() * self.turns_per_metre
        steps = [height.diff(dim=0).abs(), height.diff(dim=1).abs()]
        excess = [functional.relu(step - SLOPE_LIMIT).square().sum() for step in steps]
        return torch.stack(excess).sum()

    def renew(self, turn: int) -> None:
        """Start one recogniser anew; turns go round."""
        seed = int(torch.randint(2**31, (1,), generator=self.generator, device=self.generator.device))
        settings, one = self.config.training, self.recognisers[turn % len(self.recognisers)]
        # It is to be awake again before the next one sleeps.
        cycle = min(one.schedule.cycle, settings.reset_every * settings.adversary_steps)
        one.renew(seed, Schedule(settings.adversary_rate, cycle))

    def _parts(self) -> dict[str, nn.Module]:
        return {"mask": self.mask, "decoder": self.decoder, **adversaries.parts(self.recognisers, self.inverter)}

    def _clocks(self) -> dict[str, Recogniser | Inverter]:
        return {"inverter": self.inverter, **{f"adversary{n}": one for n, one in enumerate(self.recognisers)}}

    def _optimisers(self) -> dict[str, torch.optim.Optimizer]:
        return {
            "mask": self.mask_optimiser,
            "decoder": self.decoder_optimiser,
            **adversaries.optimisers(self.recognisers, self.inverter),
        }

    def state(self) -> dict[str, Tensor]:
        """All tensors that the next step depends on, flat."""
        result = {"generator": self.generator.get_state(), "contrast": self.contrast.levels.clone()}
        result |= {f"clock/{name}": one.clock() for name, one in self._clocks().items()}
        for name, part in self._parts().items():
            result |= {f"{name}/{key}": value.detach().clone() for key, value in part.state_dict().items()}
        if self.grey is not None:
            result[f"mask/{masks.GREY}"] = self.grey.logits.detach().clone()
        for name, optimiser in self._optimisers().items():
            for number, values in optimiser.state_dict()["state"].items():
                result |= {f"optimiser/{name}/{number}/{key}": value.clone() for key, value in values.items()}
        return result

    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from a state."""
        self.still = None
        self.generator.set_state(state["generator"])
        self.contrast.levels = state["contrast"].to(self.device)
        for name, one in self._clocks().items():
            one.set_clock(state[f"clock/{name}"])
        relief, grey = masks.split(self.config.sensor, part_of(state, "mask"))
        for name, part in self._parts().items():
            part.load_state_dict(relief if name == "mask" else part_of(state, name))
        if self.grey is not None and grey is not None:
            self.grey.load_state_dict({"logits": grey.logits})
        for name, optimiser in self._optimisers().items():
            moments: dict[int, dict[str, Tensor]] = {}
            for key, value in part_of(state, f"optimiser/{name}").items():
                number, what = key.split("/")
                moments.setdefault(int(number), {})[what] = value
            optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})

    @torch.no_grad()
    def validate(self, faces: FaceSet) -> Validation:
        """Landmarks and adversaries on other people, with the noise of one exposure each.

        The networks are those of training, so figures of different starts can be compared with each other only.
        """
        generator = torch.Generator().manual_seed(1)
        psf = self.camera.psf
        errors, utilities, cut = [], [], []
        for pick in torch.arange(len(faces)).split(CHUNK):
            part = faces.subset(pick)
            scenes, points5 = part.linear().to(self.device), five_points(part.landmarks).to(self.device)
            truth = released(part.landmarks, self.config.landmarks).to(self.device)
            frames = self.camera.read(self.camera.signal(scenes, psf), generator)
            unit = interocular(part.landmarks).to(self.device)
            loss, distance = self._utility(self.decoder(frames), truth, unit)
            utilities.append(float(loss) * len(part))
            errors.append(float(distance) * len(part))
            cut.append(self._crop(self.contrast(frames), points5))
        seen, who = torch.cat(cut), faces.identity.to(self.device)
        skills = [recogniser.skill(seen, who) for recogniser in self.recognisers]
        error, utility = (sum(values) / len(faces) for values in (errors, utilities))
        return Validation(error, utility, max(skills), self._accuracy(psf, generator), self.people)

    @torch.no_grad()
    def _accuracy(self, psf: Tensor, generator: torch.Generator) -> float | None:
        """See :attr:`Validation.accuracy`."""
        if not len(self.held):
            return None
        cut = []
        for pick in self.held.to(self.device).split(CHUNK):
            frames = self.camera.read(self.camera.signal(self.scenes[pick], psf), generator)
            cut.append(self._crop(self.contrast(frames), self.points5[pick]))
        seen, who = torch.cat(cut), self.place[self.held.to(self.device)]
        return max(recogniser.accuracy(seen, who) for recogniser in self.recognisers)


def held_out(rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Positions of the captures that adversaries train on, and of those that they never see, by person.

    The last of every :data:`HELD_OUT` captures of a person, at least one of who has three or more.

    Args:
        rows: Positions of the captures of each person.
    """
    spared = [max(1, len(one) // HELD_OUT) if len(one) > 2 else 0 for one in rows]
    pairs = list(zip(rows, spared, strict=True))
    return torch.cat([one[: len(one) - n] for one, n in pairs]), torch.cat([one[len(one) - n :] for one, n in pairs])


def part_of(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """What a state holds under a name, without the name."""
    prefix = f"{name}/"
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
