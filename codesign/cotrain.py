"""Co-training: the mask, the heatmap decoder behind it, and the adversaries that try to name the person.

Each round, the adversaries (two recognisers and an inverter) take several steps on frames of the present camera; then
mask and decoder take one step together. The mask is paid for landmarks and charged for what the adversaries gain over
guessing, for identity information in a closed-form model, and for light outside the window. Recognisers start anew in
turn, so that the optics do not overfit one of them. Sensor noise and bits are always on; gradients pass through them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from codesign.config import TrainMaskConfig
from codesign.errors import CodesignError
from codesign.losses import bounded_inversion_loss, bounded_privacy_loss, identity_bits
from evaluation.frame_attackers.encoded import face_crop
from evaluation.frame_attackers.inverters import UNet
from faces.landmarks import HeatmapDecoder, decode, gaussian_heatmaps, heatmap_loss, nme, points_in, released
from faces.recognisers import CosineHead, SmallRecogniser
from faces.samples import FaceSet, five_points, interocular
from ground.protocols import Progress, RunStore
from optics import FreeformMask, PhaseMask, PupilGrid, ZernikeMask, get_material
from sim.camera import EncoderCamera, Exposure, Geometry, MaskPsf

CROP = 32
#: Phase step between pupil samples, in turns, from which a mask is charged; the sampling check refuses one half.
SLOPE_LIMIT = 0.35
MOST_CAPTURES = 4


def make_mask(config: TrainMaskConfig, grid: PupilGrid, generator: torch.Generator) -> PhaseMask:
    """A trainable mask at its start: relief of the configured spread, drawn from the generator (0 starts flat)."""
    settings = config.mask
    material = get_material(settings.material)
    if settings.kind == "free-form":
        # The mean of neighbouring controls keeps the start smooth, so that its light stays inside the window.
        noise = torch.randn(1, 1, settings.cells + 4, settings.cells + 4, generator=generator)
        smooth = functional.avg_pool2d(noise, 5, stride=1)[0, 0] * 5.0
        start = nn.Parameter(settings.start_spread * smooth)
        return FreeformMask(grid, settings.cells, settings.max_height_m, material, start)
    order = torch.arange(settings.terms, dtype=torch.float32)
    drawn = torch.randn(settings.terms, generator=generator) / (1.0 + order)
    return ZernikeMask(
        grid, settings.terms, nn.Parameter(drawn * settings.start_spread * settings.max_height_m / 4), material
    )


def wrapped_mask(config: TrainMaskConfig, grid: PupilGrid, state: dict[str, Tensor]) -> PhaseMask:
    """The mask of a finished or interrupted run from its state."""
    mask = make_mask(config, grid, torch.Generator().manual_seed(0))
    mask.load_state_dict(state)
    return mask


@dataclass
class _Adversary:
    network: SmallRecogniser
    head: CosineHead
    optimiser: torch.optim.Optimizer


class _Trainer:
    """Everything that changes during co-training, and how it is saved."""

    def __init__(
        self, config: TrainMaskConfig, geometry: Geometry, exposure: Exposure, train: FaceSet, seed: int
    ) -> None:
        self.config, self.geometry, self.exposure = config, geometry, exposure
        self.generator = torch.Generator().manual_seed(seed)
        self.scenes, self.landmarks = train.linear(), released(train.landmarks, config.landmarks)
        self.unit = interocular(train.landmarks)
        people, self.place = torch.unique(train.identity, return_inverse=True)
        self.people = len(people)
        self.rows = [torch.nonzero(self.place == p)[:, 0] for p in range(self.people)]
        # Scatter within a person needs two captures at least; people may differ in how many they have.
        self.captures = min(MOST_CAPTURES, min(len(rows) for rows in self.rows))
        if self.captures < 2:
            raise CodesignError("some training people have a single capture; co-design needs at least two of each.")
        self.points5 = five_points(train.landmarks)
        self.scene_px = geometry.scene_px
        settings = config.training
        channels = 3 if exposure.colour else 1
        self.channels = channels
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.mask = make_mask(config, geometry.grid, self.generator)
            self.source = MaskPsf(geometry, self.mask)
            self.camera = EncoderCamera(self.source, exposure, geometry.scene_px)
            self.decoder = HeatmapDecoder(
                channels,
                exposure.pixels,
                settings.decoder_width,
                geometry.scene_px,
                points=points_in(config.landmarks),
            )
            self.adversaries = [self._new_adversary() for _ in range(2)]
            self.inverter = UNet(1, width=8)
        rate = settings.mask_rate if config.mask.kind == "free-form" else settings.mask_rate * 1e-6
        self.mask_optimiser = torch.optim.Adam(self.mask.parameters(), lr=rate, betas=(0.9, 0.99))
        self.decoder_optimiser = torch.optim.AdamW(self.decoder.parameters(), settings.network_rate, weight_decay=1e-3)
        self.inverter_optimiser = torch.optim.AdamW(self.inverter.parameters(), settings.network_rate)
        grey = self.scenes.mean(1, keepdim=True)
        self.targets = functional.avg_pool2d(grey, max(1, self.scene_px // CROP)).clamp(0, 1).sqrt()
        self.uninformed = float((self.targets - self.targets.mean(0)).abs().mean())

    def _new_adversary(self) -> _Adversary:
        network = SmallRecogniser(self.channels, CROP, width=16)
        head = CosineHead(network.embedding_dim, self.people, margin=0.0, scale=16.0)
        parameters = [*network.parameters(), *head.parameters()]
        rate = self.config.training.network_rate
        return _Adversary(network, head, torch.optim.AdamW(parameters, rate, weight_decay=1e-2))

    def batch(self) -> Tensor:
        """Positions of a batch: a few captures each of several people, captures of a person next to each other."""
        count = max(2, self.config.training.batch // self.captures)
        chosen = torch.randperm(self.people, generator=self.generator)[:count]
        picks = []
        for person in chosen.tolist():
            rows = self.rows[person]
            order = torch.randperm(len(rows), generator=self.generator)[: self.captures]
            picks.append(rows[order])
        return torch.cat(picks)

    def _crop(self, frames: Tensor, pick: Tensor) -> Tensor:
        return face_crop(frames, self.points5[pick], self.scene_px, CROP, 0.8)

    def _invert(self, frames: Tensor) -> Tensor:
        grey = frames.mean(1, keepdim=True)
        size = (self.targets.shape[-1],) * 2
        result: Tensor = self.inverter(functional.interpolate(grey, size=size, mode="bilinear", align_corners=False))
        return result

    def adversary_step(self, psf: Tensor) -> None:
        """One step of both recognisers and of the inverter on frames of the present camera."""
        pick = self.batch()
        with torch.no_grad():
            frames = self.camera.read(self.camera.signal(self.scenes[pick], psf), self.generator)
            crop = self._crop(frames, pick)
        for adversary in self.adversaries:
            loss = adversary.head.loss(adversary.network(crop), self.place[pick])
            adversary.optimiser.zero_grad()
            loss.backward()
            adversary.optimiser.step()
        inversion = (self._invert(frames) - self.targets[pick]).abs().mean()
        self.inverter_optimiser.zero_grad()
        inversion.backward()
        self.inverter_optimiser.step()

    def step(self, move_mask: bool) -> dict[str, float]:
        """One step of the decoder and, after the warm-up, of the mask."""
        settings = self.config.training
        with torch.no_grad():
            frozen = self.camera.psf
        # Until the mask moves one adversary step is enough: there is nothing to keep up with.
        for _ in range(settings.adversary_steps if move_mask else 1):
            self.adversary_step(frozen)
        pick = self.batch()
        psf = self.camera.psf if move_mask else frozen
        signal = self.camera.signal(self.scenes[pick], psf)
        frames = self.camera.read(signal, self.generator)
        logits = self.decoder(frames)
        truth = self.landmarks[pick]
        targets = gaussian_heatmaps(truth, self.scene_px, logits.shape[-1], 1.0)
        points, _ = decode(logits, self.scene_px)
        distance = nme(points, truth, self.unit[pick]).mean()
        utility = heatmap_loss(logits, targets) / math.log(logits.shape[-1] ** 2) + 4.0 * distance
        logged = {"utility": float(utility.detach()), "nme": float(distance.detach())}
        loss = utility
        if move_mask:
            crop = self._crop(frames, pick)
            gains = [
                bounded_privacy_loss(functional.cross_entropy(a.head(a.network(crop)), self.place[pick]), self.people)
                for a in self.adversaries
            ]
            privacy = torch.stack(gains).max()
            inversion = bounded_inversion_loss(
                (self._invert(frames) - self.targets[pick]).abs().mean(), self.uninformed
            )
            people = len(pick) // self.captures
            analogue = functional.avg_pool2d(self._crop(signal, pick), 2)
            variance = signal.mean().detach() + self.exposure.read_noise_e**2
            bits = identity_bits(analogue, variance, people) / math.log2(people)
            outside = 1.0 - psf.sum(dim=(-2, -1)).mean()
            loss = (
                utility
                + settings.privacy_weight * privacy
                + settings.inverter_weight * inversion
                + settings.subspace_weight * bits
                + settings.window_weight * outside
                + settings.slope_weight * self._too_steep()
            )
            logged |= {
                "privacy": float(privacy.detach()),
                "inversion": float(inversion.detach()),
                "identity_bits": float(bits.detach()),
                "outside": float(outside.detach()),
            }
        for optimiser in (self.mask_optimiser, self.decoder_optimiser):
            optimiser.zero_grad()
        for adversary in self.adversaries:
            adversary.optimiser.zero_grad()
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

    def _too_steep(self) -> Tensor:
        """Mean excess of the phase step between pupil samples over what the sampling check still allows, in turns."""
        waves = self.geometry.wavelengths_m
        turns_per_metre = float((self.mask.index_differences(waves) / torch.tensor(waves)).max())
        height = self.mask.height_m() * turns_per_metre
        steps = [height.diff(dim=0).abs(), height.diff(dim=1).abs()]
        excess = [functional.relu(step - SLOPE_LIMIT).square().sum() for step in steps]
        return torch.stack(excess).sum()

    def renew(self, turn: int) -> None:
        """Start one recogniser anew."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**31, (1,), generator=self.generator)))
            self.adversaries[turn % len(self.adversaries)] = self._new_adversary()

    def _parts(self) -> dict[str, nn.Module]:
        parts: dict[str, nn.Module] = {"mask": self.mask, "decoder": self.decoder, "inverter": self.inverter}
        for number, adversary in enumerate(self.adversaries):
            parts |= {f"adversary{number}": adversary.network, f"head{number}": adversary.head}
        return parts

    def _optimisers(self) -> dict[str, torch.optim.Optimizer]:
        result = {
            "mask": self.mask_optimiser,
            "decoder": self.decoder_optimiser,
            "inverter": self.inverter_optimiser,
        }
        return result | {f"adversary{n}": a.optimiser for n, a in enumerate(self.adversaries)}

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
            prefix = f"{name}/"
            part.load_state_dict({k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)})
        for name, optimiser in self._optimisers().items():
            moments: dict[int, dict[str, Tensor]] = {}
            prefix = f"optimiser/{name}/"
            for key, value in state.items():
                if key.startswith(prefix):
                    number, what = key[len(prefix) :].split("/")
                    moments.setdefault(int(number), {})[what] = value
            optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})

    @torch.no_grad()
    def validate(self, faces: FaceSet) -> float:
        """Landmark error on other people with the co-trained decoder."""
        generator = torch.Generator().manual_seed(1)
        psf = self.camera.psf
        errors = []
        for pick in torch.arange(len(faces)).split(256):
            part = faces.subset(pick)
            frames = self.camera.read(self.camera.signal(part.linear(), psf), generator)
            points, _ = self.decoder.landmarks(frames)
            errors.append(nme(points, released(part.landmarks, self.config.landmarks), interocular(part.landmarks)))
        return float(torch.cat(errors).mean())


def _checkpoint(start: int, step: int) -> str:
    return f"design/start-{start}-{step}.safetensors"


def design_mask(
    config: TrainMaskConfig,
    geometry: Geometry,
    exposure: Exposure,
    train: FaceSet,
    validation: FaceSet,
    run: RunStore,
    progress: Progress,
    seed: int,
) -> dict[str, Any]:
    """Design the mask; resumes from the last checkpoint of the run.

    Args:
        config: configuration of the run.
        geometry: lens and window.
        exposure: sensor.
        train: training people.
        validation: other people, for choosing among starts and for the log.
        run: where checkpoints (stages ``design-<start>-<part>``) and metrics go.
        progress: display.
        seed: of everything random here.

    Returns:
        ``mask``: state of the best mask; ``history``: logged values; ``starts``: validation figures of each start.

    Raises:
        CodesignError: If training diverges.
        OpticsError: If the mask found is too steep for the sampling of the pupil.
    """
    settings = config.training
    total = settings.warmup_steps + settings.steps
    results: list[dict[str, Any]] = []
    for start in range(settings.starts):
        trainer = _Trainer(config, geometry, exposure, train, seed + 1000 * start)
        with progress.stage(f"design, start {start + 1} of {settings.starts}", total) as stage:
            step, summary = 0, {}
            while step < total:
                until = min(total, (step // settings.checkpoint_every + 1) * settings.checkpoint_every)
                name = f"design-{start}-{until}"
                done = run.stage_done(name)
                if done is not None:
                    stage.advance(until - step)
                    step, summary = until, done
                    later = f"design-{start}-{min(total, until + settings.checkpoint_every)}"
                    if until == total or run.stage_done(later) is None:
                        trainer.load(run.read_tensors(_checkpoint(start, until)))
                    continue
                before = step
                while step < until:
                    if step > settings.warmup_steps and (step - settings.warmup_steps) % settings.reset_every == 0:
                        trainer.renew((step - settings.warmup_steps) // settings.reset_every)
                    logged = trainer.step(move_mask=step >= settings.warmup_steps)
                    step += 1
                    if step % 10 == 0 or step == total:
                        run.log_metrics({"stage": "design", "start": start, "step": step, **logged})
                        stage.note(f"NME {logged['nme']:.3f}")
                    stage.advance()
                summary = {"validation_nme": trainer.validate(validation), **logged}
                run.write_tensors(_checkpoint(start, until), trainer.state())
                run.mark_stage(name, summary)
                # Only now: a run that is killed before the mark goes on from the checkpoint before.
                (run.path / _checkpoint(start, before)).unlink(missing_ok=True)
        trainer.source.check()
        cost = summary["utility"] + settings.privacy_weight * summary.get("privacy", 0.0)
        results.append({"mask": trainer.mask.state_dict(), "cost": cost, **summary})
    best = min(range(len(results)), key=lambda n: results[n]["cost"])
    return {
        "mask": {key: value.detach().clone() for key, value in results[best]["mask"].items()},
        "best_start": best,
        "starts": [{key: value for key, value in result.items() if key != "mask"} for result in results],
    }
