"""DFPP, a reconstruction: makeup painted by an untrained network, tuned on the one photo until it passes for another.

Shamshad, Naseer, Nandakumar, "Makeup-Guided Facial Privacy Protection via Untrained Neural Network Priors", ECCV 2024
Workshops (Deep Facial Privacy Prior). Neither code nor weights of the losses were published. The parts are those of the
paper: an untrained decoder with makeup layers, a correspondence between the face and a made-up reference, a structural
and a makeup loss beside the adversarial one. Widths, weights, steps and the form of each part are ours.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from faces.face_api import chips
from faces.protection import Declaration, Threat
from protectors import drawing
from protectors import makeup as parts
from protectors.auxiliary import targets as target_people
from protectors.base import TOP_LEVEL, PhotoProtector
from protectors.canvas import Canvas, linf_levels
from protectors.descent import check_iteration
from protectors.errors import ProtectorError
from protectors.largest import check_largest
from protectors.surrogates import Surrogates
from protectors.views import seen

#: Channels of the decoder at a half, quarter and eighth of the size; of noise that it is fed beside the photo.
WIDTHS, NOISE = (16, 32, 32), 5

#: Learning rate of Adam.
RATE = 0.01

#: Side of the grid on which faces are compared, sharpness of the comparison, weight of appearance beside place.
GRID, SHARPNESS, APPEARANCE = 40, 200.0, 0.1

#: Weight of the makeup of skin, eye shadow and lips.
REGION_WEIGHTS = (0.2, 1.0, 1.0)

#: Photos of the target person to come close to.
CAPTURES = 4


class UntrainedDecoder(nn.Module):
    """A small U-Net for each photo, with makeup layers; all of them run at once as one grouped network.

    It starts with random weights and no change. A makeup layer normalises its features and scales and shifts them by
    1 x 1 convolutions of the condition. The last layer gives four values a cell, one for each pixel (Shi et al., CVPR
    2016), so that nothing has to be computed at full size.

    Args:
        condition: (N, K, S, S).
        generator: Source of the weights.
    """

    def __init__(self, condition: Tensor, generator: torch.Generator) -> None:
        super().__init__()
        self._count, given, self._side = len(condition), 3 + NOISE, condition.shape[-1]
        self._conditions = [condition]
        for _ in WIDTHS:
            side = (self._conditions[-1].shape[-1] + 1) // 2
            self._conditions.append(functional.interpolate(condition, size=(side, side), mode="area"))
        half, quarter, eighth = WIDTHS
        sizes = {
            "down1": (half, given, 3), "down2": (quarter, half, 3), "down3": (eighth, quarter, 3),
            "up2": (quarter, eighth + quarter, 3), "up1": (half, quarter + half, 3), "out": (3 * 4, half, 1),
        }  # fmt: skip
        # Each makeup layer scales and shifts the features that follow the convolution of the same name.
        several = condition.shape[1]
        sizes |= {f"{name}_makeup": (2 * out, several, 1) for name, (out, _, _) in sizes.items() if name != "out"}
        self.weights = nn.ParameterDict()
        for name, (out, inputs, side) in sizes.items():
            # He's normal start; the last layer starts at 0, so that the first result is the photo.
            drawn = drawing.normal((self._count, out, inputs, side, side), generator, condition)
            scale = 0.0 if name == "out" else math.sqrt(2 / (inputs * side * side))
            self.weights[name] = nn.Parameter(drawn * scale)

    def forward(self, given: Tensor) -> Tensor:
        """Output (N, 3, S, S), unbounded, of photos with noise (N, 3 + NOISE, S, S)."""
        down1 = self._layer("down1", given, 1, stride=2)
        down2 = self._layer("down2", down1, 2, stride=2)
        down3 = self._layer("down3", down2, 3, stride=2)
        up2 = self._layer("up2", torch.cat((_as_large(down3, down2), down2), 1), 2)
        up1 = self._layer("up1", torch.cat((_as_large(up2, down1), down1), 1), 1)
        return functional.pixel_shuffle(self._convolved("out", up1), 2)[..., : self._side, : self._side]

    def _layer(self, name: str, given: Tensor, halvings: int, stride: int = 1) -> Tensor:
        features = functional.instance_norm(self._convolved(name, given, stride))
        scale, shift = self._convolved(f"{name}_makeup", self._conditions[halvings]).chunk(2, 1)
        return functional.leaky_relu(torch.addcmul(features + shift, features, scale), 0.1)

    def _convolved(self, name: str, given: Tensor, stride: int = 1) -> Tensor:
        weight = self.weights[name]
        joined = functional.conv2d(
            given.flatten(0, 1)[None], weight.flatten(0, 1), stride=stride, padding=weight.shape[-1] // 2,
            groups=self._count,
        )  # fmt: skip
        return joined[0].unflatten(0, (self._count, -1))


def _as_large(small: Tensor, large: Tensor) -> Tensor:
    return functional.interpolate(small, size=large.shape[-2:], mode="bilinear")


class Dfpp(PhotoProtector):
    """Makeup that makes a photo pass for another person, found anew for each photo.

    The photo is changed on skin, lids and lips only. The colours of a made-up reference are carried to the face by
    correspondence and give each region the histogram that it should have; the skin keeps its own mean brightness, so
    nobody is made lighter or darker. The network is then tuned to keep the structure of the photo, to reach that
    histogram, and to bring its embedding to that of the target.

    Args:
        budget: "native" is makeup without bounds but the range of a photo; "uniform" or a number bounds each value.
        steps: steps of Adam.
        structure: weight of the structural loss, where that of the adversarial loss is 1.
        makeup: weight of the makeup loss.
        residual: weight of max(0, cos(f(x'), f(x))), which adds dodging to impersonation; 0 leaves it out.
        surrogates: recognisers that are attacked, joined by "+".
        eot: random views a step; 0: the photo itself.
        targets: "synthetic", or a folder of photos of people, the first of whom is the target.
        palette: colours of the reference, one of :data:`protectors.makeup.PALETTES`; default: the first.
        reference: photo of one face with makeup, instead of the painted head.

    Raises:
        ProtectorError: A setting is out of range.
        FacesError: A file cannot be read, or weights are missing.
    """

    about = Declaration(
        name="dfpp",
        title="makeup by an untrained network (reconstruction of DFPP)",
        summary="Paints makeup on the face until it passes for another person who was chosen beforehand.",
        source="Shamshad et al., ECCV Workshops 2024",
        threats=frozenset({Threat.impersonate, Threat.dodge}),
        auxiliary_data="photos of one target person and one made-up face, synthetic unless given",
        deterministic=False,
        additive=True,
    )
    chunk = 8

    def __init__(
        self,
        *,
        budget: str = "native",
        steps: int = 50,
        structure: float = 1.0,
        makeup: float = 1.0,
        residual: float = 0.0,
        surrogates: str = "sface",
        eot: int = 0,
        targets: str = "synthetic",
        palette: str | None = None,
        reference: Path | None = None,
    ) -> None:
        check_iteration("dfpp", steps=steps, eot=eot)
        for name, weight in (("structure", structure), ("makeup", makeup), ("residual", residual)):
            if not weight >= 0:
                raise ProtectorError(f"dfpp takes {name} >= 0, got {weight:g}.")
            check_largest("dfpp", **{name: weight})
        if reference is not None and palette is not None:
            raise ProtectorError(f"dfpp takes palette={palette} or reference={reference}; leave one of them out.")
        palette = next(iter(parts.PALETTES)) if palette is None else palette
        self._levels = None if budget == "native" else linf_levels(budget, 1.0)
        self._surrogates = Surrogates(surrogates)
        self._working, self.target = target_people(targets, people=1, captures=CAPTURES)
        self._reference = parts.reference_face(reference, palette)
        super().__init__(
            self._surrogates.names,
            budget=budget, steps=steps, structure=structure, makeup=makeup, residual=residual, surrogates=surrogates,
            eot=eot, targets=self._working.content_hash[:16], palette=self._reference.content_hash,
        )  # fmt: skip
        self._steps, self._eot = steps, eot
        self._structure, self._makeup, self._residual = structure, makeup, residual

    def change(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> Tensor:
        """Made-up photos; see :meth:`PhotoProtector.change`."""
        images = images.detach()
        canvas = Canvas(images, points5, levels=self._levels)
        face = MadeUpFace(images, points5, self._reference.to(images.device))
        decoder = UntrainedDecoder(face.condition, generator)
        noise = drawing.uniform((len(images), NOISE, *images.shape[-2:]), generator, images)
        given = torch.cat((images - 0.5, noise - 0.5), 1)
        limit = 1.0 if self._levels is None else self._levels / TOP_LEVEL
        before, goals = self._embedded(images, points5), self._goals(images.device)
        optimiser = torch.optim.Adam(decoder.parameters(), RATE)

        def delta() -> Tensor:
            return canvas.greyed(limit * torch.tanh(decoder(given)) * face.area)

        for _ in self.steps(self._steps):
            with torch.enable_grad():
                after = canvas.add(delta()).clamp(0, 1)
                loss = self._structure * face.structure(after) + self._makeup * face.makeup(after)
                loss = loss + self._adversarial(after, points5, before, goals, generator)
                optimiser.zero_grad()
                loss.sum().backward()
            optimiser.step()
        with torch.no_grad():
            return images + canvas.project(delta())

    def _adversarial(
        self, after: Tensor, points5: Tensor, before: tuple[Tensor, ...], goals: tuple[Tensor, ...],
        generator: torch.Generator,
    ) -> Tensor:  # fmt: skip
        """Mean over views and surrogates of 1 - cos(f(x'), target), and of the residual term, (N,)."""
        views, total = max(1, self._eot), after.new_zeros(len(after))
        for draw in range(views):
            shown, points = seen(after, points5, draw, generator) if self._eot else (after, points5)
            for now, own, goal in zip(self._surrogates.embed(shown, points), before, goals, strict=True):
                total = total + 1 - now @ goal + self._residual * (now * own).sum(1).clamp_min(0)
        return total / (views * len(goals))

    def _embedded(self, images: Tensor, points5: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return self._surrogates.embed(images, points5)

    def _goals(self, device: torch.device) -> tuple[Tensor, ...]:
        """Mean direction (D,) of the target person for each surrogate."""
        working = self._working.to(device)
        found = self._embedded(working.images, working.points5)
        return tuple(functional.normalize(vectors.mean(0), dim=0) for vectors in found)


class MadeUpFace:
    """Photos, the makeup that each should wear, and the losses that compare a result with both.

    Args:
        images: (N, 3, S, S).
        points5: (N, 5, 2).
        reference: the made-up face.

    Attributes:
        condition: (N, 6, S, S) masks of the regions and the wanted change.
        area: (N, 1, S, S) where makeup may be.
    """

    def __init__(self, images: Tensor, points5: Tensor, reference: parts.Reference) -> None:
        self._images, self._points5 = images, points5
        landmarks = parts.landmarks68(images, points5)
        self._masks = parts.regions(landmarks, images.shape[-1])
        self.area = self._masks.sum(1, keepdim=True).clamp(0, 1)
        carried = _carried(images, points5, landmarks, self._masks, reference)
        self._wanted = _wanted(images, self._masks, carried)
        change = ((self._wanted - images[:, None]) * self._masks[:, :, None]).sum(1)
        self.condition = torch.cat((self._masks, change), 1)
        self._slopes = _slopes(images)
        with torch.no_grad():
            self._looks = self._perceived(images)

    def structure(self, after: Tensor) -> Tensor:
        """Mean absolute change of luminance gradients in the region, and of features of the landmark network, (N,)."""
        weight = self.area / self.area.sum((2, 3), keepdim=True).clamp_min(1)
        slopes = ((_slopes(after) - self._slopes).abs() * weight).sum((1, 2, 3))
        pairs = zip(self._perceived(after), self._looks, strict=True)
        return slopes + sum((now - own).square().sum(1).mean((1, 2)) for now, own in pairs)

    def makeup(self, after: Tensor) -> Tensor:
        """Mean distance from the histogram-matched colours, over the regions by their weights, (N,)."""
        apart = (after[:, None] - self._wanted).abs().mean(2) * self._masks
        mean = apart.sum((2, 3)) / self._masks.sum((2, 3)).clamp_min(1)
        return mean @ mean.new_tensor(REGION_WEIGHTS)

    def _perceived(self, images: Tensor) -> tuple[Tensor, ...]:
        """Features of the first two blocks, each a unit vector over its channels, as in LPIPS without its weights."""
        network = parts.landmark_net(images.device)
        first = network.dense0(network.normalised(chips(images * 255, self._points5)))
        second = network.dense1(first)
        return functional.normalize(first, dim=1), functional.normalize(second, dim=1)


def _slopes(images: Tensor) -> Tensor:
    """Differences (N, 2, S, S) of luminance to the next pixel, down and to the right; 0 at the last."""
    luma = (images * images.new_tensor(parts.LUMA)[:, None, None]).sum(1)
    return torch.stack((functional.pad(luma.diff(dim=1), (0, 0, 0, 1)), functional.pad(luma.diff(dim=2), (0, 1))), 1)


def _carried(images: Tensor, points5: Tensor, landmarks: Tensor, masks: Tensor, reference: parts.Reference) -> Tensor:
    """Colours (N, 3 regions, 3, S, S) of the reference at the places of the face that correspond, on a coarse grid."""
    side = images.shape[-1]
    described, where, _ = _on_grid(images, points5, landmarks, masks)
    other, there, colours = _on_grid(reference.image, reference.points5, reference.landmarks, reference.masks)
    used = there[0].sum(0) > 0
    coarse = parts.corresponding(
        described, other[0, used], where, there[0][:, used], colours[0][:, used].T, SHARPNESS
    ).unflatten(-1, (GRID, GRID))
    # Cells outside a region hold nothing and must not darken its edge when they are enlarged.
    held = (where > 0).to(coarse).unflatten(-1, (GRID, GRID))[:, :, None]
    fine = functional.interpolate(torch.cat((coarse, held), 2).flatten(1, 2), size=(side, side), mode="bilinear")
    values, share = fine.unflatten(1, (len(parts.REGIONS), 4)).split((3, 1), 2)
    return values / share.clamp_min(1e-6)


def _on_grid(images: Tensor, points5: Tensor, landmarks: Tensor, masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Descriptors (N, P, D), masks (N, R, P) and colours (N, 3, P) of the cells of the coarse grid."""
    scale = GRID / images.shape[-1]
    small = functional.interpolate(torch.cat((images, masks), 1), size=(GRID, GRID), mode="area")
    colours, where = small.split((3, masks.shape[1]), 1)
    points, spots = ((given + 0.5) * scale - 0.5 for given in (points5, landmarks))
    described = parts.descriptors(colours, points, spots, GRID, APPEARANCE)
    return described, where.flatten(2), colours.flatten(2)


def _wanted(images: Tensor, masks: Tensor, carried: Tensor) -> Tensor:
    """Photos (N, 3 regions, 3, S, S) with the histogram of the carried colours in each region."""
    luma = images.new_tensor(parts.LUMA)[:, None, None]
    skin = masks[:, :1]
    gap = ((images - carried[:, 0]) * luma).sum(1, keepdim=True) * skin
    mean = gap.sum((2, 3), keepdim=True) / skin.sum((2, 3), keepdim=True).clamp_min(1e-6)
    even = torch.cat((carried[:, :1] + mean[:, None], carried[:, 1:]), 1)
    found = [
        parts.matched(images.flatten(2), wanted.flatten(2), (mask > 0.5).flatten(1)[:, None])
        for wanted, mask in zip(even.unbind(1), masks.unbind(1), strict=True)
    ]
    return torch.stack(found, 1).unflatten(-1, images.shape[-2:]).clamp(0, 1)
