"""Co-training: the mask, the heatmap decoder behind it, and the adversaries that try to name the person.

Each round, the adversaries (two recognisers and an inverter) take several steps on frames of the present camera; then
mask and decoder take one step together. The mask is paid for landmarks and charged for what the adversaries gain over
guessing, for identity information in a closed-form model, and for light outside the window. Recognisers start anew in
turn, so that the optics do not overfit one of them. Sensor noise and bits are always on; gradients pass through them.

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
from codesign.adversaries import CROP, Inverter, Recogniser
from codesign.config import TrainMaskConfig
from codesign.errors import CodesignError
from codesign.losses import identity_bits
from evaluation.frame_attackers.encoded import face_crop
from faces.landmarks import HeatmapDecoder, decode, gaussian_heatmaps, heatmap_loss, nme, points_in, released
from faces.samples import FaceSet, five_points, interocular
from sim.camera import EncoderCamera, Exposure, Geometry, MaskPsf

#: Phase step between pupil samples, in turns, from which a mask is charged; the sampling check refuses one half.
SLOPE_LIMIT = 0.35
MOST_CAPTURES = 4
RECOGNISERS = 2
CHUNK = 256


@dataclass(frozen=True)
class Validation:
    """What mask and decoder do for people that nobody was trained on.

    Attributes:
        nme: Landmark error of the co-trained decoder over the outer eye distance.
        utility: The loss of landmarks as in training; smaller is better.
        privacy: Skill of the better recogniser, 0 = a guess to 1 = no mistake
            (:meth:`codesign.adversaries.Recogniser.skill`).
    """

    nme: float
    utility: float
    privacy: float


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
            self.source = MaskPsf(geometry, self.mask)
            self.camera = EncoderCamera(self.source, exposure, geometry.scene_px).to(self.device)
            self.decoder = HeatmapDecoder(
                channels,
                exposure.pixels,
                settings.decoder_width,
                geometry.scene_px,
                points=points_in(self.config.landmarks),
            ).to(self.device)
            rate = settings.network_rate
            self.recognisers = [Recogniser(channels, self.people, rate, self.device) for _ in range(RECOGNISERS)]
            self.inverter = Inverter(self.scenes, rate)
        mask_rate = settings.mask_rate if self.config.mask.kind == "free-form" else settings.mask_rate * 1e-6
        self.mask_optimiser = torch.optim.Adam(self.mask.parameters(), lr=mask_rate, betas=(0.9, 0.99))
        self.decoder_optimiser = torch.optim.AdamW(self.decoder.parameters(), rate, weight_decay=1e-3)

    def batch(self) -> Tensor:
        """Positions of a batch: a few captures each of several people, captures of a person next to each other."""
        count = max(2, self.config.training.batch // self.captures)
        chosen = torch.randperm(self.people, generator=self.generator, device=self.generator.device)[:count]
        picks = []
        for person in chosen.tolist():
            rows = self.rows[person]
            order = torch.randperm(len(rows), generator=self.generator, device=self.generator.device)
            picks.append(rows[order[: self.captures]])
        return torch.cat(picks).to(self.device)

    def _crop(self, frames: Tensor, points5: Tensor) -> Tensor:
        return face_crop(frames, points5, self.geometry.scene_px, CROP, 0.8)

    def step(self, move_mask: bool) -> dict[str, float]:
        """One round: steps of the adversaries, then one of the decoder and, after the warm-up, of the mask.

        Returns:
            The terms of the loss, for the log.

        Raises:
            CodesignError: If the loss is no longer finite.
        """
        with torch.no_grad():
            frozen = self.camera.psf
        # Until the mask moves one adversary step is enough: there is nothing to keep up with.
        for _ in range(self.config.training.adversary_steps if move_mask else 1):
            self._adversary_step(frozen)
        return self._mask_step(frozen, move_mask)

    def _adversary_step(self, psf: Tensor) -> None:
        """One step of both recognisers and of the inverter on frames of the present camera."""
        pick = self.batch()
        with torch.no_grad():
            frames = self.camera.read(self.camera.signal(self.scenes[pick], psf), self.generator)
            faces = self._crop(frames, self.points5[pick])
        for recogniser in self.recognisers:
            recogniser.learn(faces, self.place[pick])
        self.inverter.learn(frames, self.inverter.targets[pick])

    def _mask_step(self, frozen: Tensor, move_mask: bool) -> dict[str, float]:
        """One step of the decoder and, if the mask moves, of the mask."""
        pick = self.batch()
        psf = self.camera.psf if move_mask else frozen
        signal = self.camera.signal(self.scenes[pick], psf)
        frames = self.camera.read(signal, self.generator)
        loss, distance = self._utility(self.decoder(frames), self.landmarks[pick], self.unit[pick])
        logged = {"utility": float(loss.detach()), "nme": float(distance.detach())}
        if move_mask:
            for name, (weight, term) in self._charges(psf, signal, frames, pick).items():
                loss = loss + weight * term
                logged[name] = float(term.detach())
            loss = loss + self.config.training.slope_weight * self._too_steep()
        for optimiser in (self.mask_optimiser, self.decoder_optimiser):
            optimiser.zero_grad()
        loss.backward()
        if not math.isfinite(float(loss.detach())):
            raise CodesignError(
                "the co-design loss is no longer finite; lower training.mask_rate or training.network_rate."
            )
        nn.utils.clip_grad_norm_(self.decoder.parameters(), 5.0)
        if move_mask:
            nn.utils.clip_grad_norm_(self.mask.parameters(), 1.0)
            self.mask_optimiser.step()
        self.decoder_optimiser.step()
        return logged

    def _utility(self, logits: Tensor, truth: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of landmarks, and the mean error of the decoded coordinates that is part of it."""
        scene_px = self.geometry.scene_px
        targets = gaussian_heatmaps(truth, scene_px, logits.shape[-1], 1.0)
        points, _ = decode(logits, scene_px)
        distance = nme(points, truth, unit).mean()
        return heatmap_loss(logits, targets) / math.log(logits.shape[-1] ** 2) + 4.0 * distance, distance

    def _charges(self, psf: Tensor, signal: Tensor, frames: Tensor, pick: Tensor) -> dict[str, tuple[float, Tensor]]:
        """What the mask pays for, as (weight, term): adversaries, closed-form information, lost light."""
        settings = self.config.training
        faces = self._crop(frames, self.points5[pick])
        privacy = torch.stack([one.gain(faces, self.place[pick]) for one in self.recognisers]).max()
        inversion = self.inverter.gain(frames, self.inverter.targets[pick])
        people = len(pick) // self.captures
        analogue = functional.avg_pool2d(self._crop(signal, self.points5[pick]), 2)
        variance = signal.mean().detach() + self.exposure.read_noise_e**2
        bits = identity_bits(analogue, variance, people) / math.log2(people)
        outside = 1.0 - psf.sum(dim=(-2, -1)).mean()
        return {
            "privacy": (settings.privacy_weight, privacy),
            "inversion": (settings.inverter_weight, inversion),
            "identity_bits": (settings.subspace_weight, bits),
            "outside": (settings.window_weight, outside),
        }

    def _too_steep(self) -> Tensor:
        """Sum of squares by which phase steps between pupil samples exceed what is free of charge, in turns."""
        height = self.mask.height_m() * self.turns_per_metre
        steps = [height.diff(dim=0).abs(), height.diff(dim=1).abs()]
        excess = [functional.relu(step - SLOPE_LIMIT).square().sum() for step in steps]
        return torch.stack(excess).sum()

    def renew(self, turn: int) -> None:
        """Start one recogniser anew; turns go round."""
        seed = int(torch.randint(2**31, (1,), generator=self.generator, device=self.generator.device))
        self.recognisers[turn % len(self.recognisers)].renew(seed)

    def _parts(self) -> dict[str, nn.Module]:
        return {"mask": self.mask, "decoder": self.decoder, **adversaries.parts(self.recognisers, self.inverter)}

    def _optimisers(self) -> dict[str, torch.optim.Optimizer]:
        return {
            "mask": self.mask_optimiser,
            "decoder": self.decoder_optimiser,
            **adversaries.optimisers(self.recognisers, self.inverter),
        }

    def state(self) -> dict[str, Tensor]:
        """All tensors that the next step depends on, flat."""
        result = {"generator": self.generator.get_state()}
        for name, part in self._parts().items():
            result |= {f"{name}/{key}": value.detach().clone() for key, value in part.state_dict().items()}
        for name, optimiser in self._optimisers().items():
            for number, values in optimiser.state_dict()["state"].items():
                result |= {f"optimiser/{name}/{number}/{key}": value.clone() for key, value in values.items()}
        return result

    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from a state."""
        self.generator.set_state(state["generator"])
        for name, part in self._parts().items():
            part.load_state_dict(part_of(state, name))
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
            utility, error = self._utility(self.decoder(frames), truth, unit)
            utilities.append(float(utility) * len(part))
            errors.append(float(error) * len(part))
            cut.append(self._crop(frames, points5))
        seen, who = torch.cat(cut), faces.identity.to(self.device)
        skills = [recogniser.skill(seen, who) for recogniser in self.recognisers]
        return Validation(sum(errors) / len(faces), sum(utilities) / len(faces), max(skills))


def part_of(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """What a state holds under a name, without the name."""
    prefix = f"{name}/"
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
