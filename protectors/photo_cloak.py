"""Our own cloak of a single photo: away from several recognisers, through random views, as far as SSIM allows."""

from __future__ import annotations

import torch
from torch import Tensor

from faces.protection import Declaration, Threat
from protectors import drawing
from protectors.base import TOP_LEVEL, PhotoProtector, refuse, whole_levels
from protectors.canvas import Canvas, check_region, linf_levels
from protectors.descent import Climb, check_iteration
from protectors.errors import ProtectorError
from protectors.similarity import ssim
from protectors.surrogates import Surrogates

#: Below this cosine to the photo itself nothing more is gained: strangers lie higher.
FAR_ENOUGH = -0.2

#: Standard deviation of the start, in 1/255: where two photos are equal, their similarity has no slope.
START_SD_LEVELS = 1.0

#: Weight of each unit of SSIM below the bound, against cosines.
WEIGHT = 100.0

#: After this share of the steps the rate falls to a third.
LATE, LATE_RATE = 0.7, 0.3


class PhotoCloak(PhotoProtector):
    """Minimise the cosines between a photo and its cloaked self, over recognisers and views, with SSIM kept.

    The loss of a photo is the mean over views of the sum over recognisers of max(cos, -.2), plus 100 max(0, s - SSIM);
    Adam changes the values of the photo. What is returned is the best of all iterates that keep SSIM >= s after
    rounding to whole levels. With SSIM for a bound instead of the largest change of a value, change goes where a photo
    has texture and contrast, and transfers to recognisers that took no part.

    Args:
        ssim: least structural similarity to the photo (Gaussian windows); with region "face" of that part.
        budget: largest change of a value in addition: "native" for none, "uniform" or a number.
        steps: steps of Adam.
        rate: their rate, in values of 0..1.
        surrogates: recognisers, joined by "+".
        eot: random views a step, 0 for the photo itself.
        region: "photo", or "face" for a square around the face.

    Raises:
        ProtectorError: A setting is out of range.
    """

    about = Declaration(
        name="photo-cloak",
        title="cloak of one photo, seen through random views, bounded by SSIM",
        summary="Changes a single photo, within a bound of visible change, until several recognisers no "
        "longer match the face.",
        recommended=True,
        source="own",
        threats=frozenset({Threat.dodge}),
        deterministic=False,
        additive=True,
    )
    chunk = 16

    def __init__(
        self,
        *,
        ssim: float = 0.955,
        budget: str = "native",
        steps: int = 30,
        rate: float = 0.01,
        surrogates: str = "sface+dlib-resnet",
        eot: int = 4,
        region: str = "photo",
    ) -> None:
        check_iteration("photo-cloak", steps=steps, eot=eot)
        check_region(region)
        if not 0 < ssim < 1:
            raise ProtectorError(f"photo-cloak takes ssim between 0 and 1, got {ssim:g}.")
        if not 0 < rate <= 0.5:
            raise ProtectorError(f"photo-cloak takes rate from 0 to .5 (values are 0..1), got {rate:g}.")
        self._levels = None if budget == "native" else linf_levels(budget, 1.0)
        self._surrogates = Surrogates(surrogates)
        super().__init__(
            self._surrogates.names,
            ssim=ssim,
            budget=budget,
            steps=steps,
            rate=rate,
            surrogates=surrogates,
            eot=eot,
            region=region,
        )
        self._ssim, self._steps, self._rate, self._eot, self._region = ssim, steps, rate, eot, region

    def change(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> Tensor:
        """Cloaked photos; see :meth:`PhotoProtector.change`.

        Raises:
            FaceFailed: No change that was tried kept the similarity of a photo.
        """
        canvas = Canvas(images, points5, region=self._region, levels=self._levels)
        before = canvas.crop(canvas.images)
        saved_before = whole_levels(before)
        with torch.no_grad():
            own = self._surrogates.embed(canvas.images, points5)

        def apart(shown: Tensor, at: Tensor) -> Tensor:
            embedded = zip(self._surrogates.embed(shown, at), own, strict=True)
            return -torch.stack([(now * then).sum(1).clamp_min(FAR_ENOUGH) for now, then in embedded]).sum(0)

        climb = Climb(canvas, points5, apart, generator, eot=self._eot)
        delta = canvas.project(drawing.normal(before.shape, generator, before) * (START_SD_LEVELS / TOP_LEVEL))
        optimiser = torch.optim.Adam([delta.requires_grad_()], lr=self._rate)
        best, most = torch.zeros_like(before), before.new_full((len(images),), -torch.inf)
        for step in self.steps(self._steps):
            if step == int(LATE * self._steps):
                optimiser.param_groups[0]["lr"] = self._rate * LATE_RATE
            value, slope = climb.evaluated(delta)
            with torch.enable_grad():
                saved = whole_levels(before + delta)
                kept = ssim(before, saved, gaussian=True)
                (pull,) = torch.autograd.grad((WEIGHT * (self._ssim - kept).clamp_min(0)).sum(), delta)
            # A change of less than half a level is none: the photo would be saved as it was.
            changed = (saved.detach() != saved_before).flatten(1).any(1)
            better = changed & (kept.detach() >= self._ssim) & (value > most)
            best[better], most[better] = delta.detach()[better], value[better]
            delta.grad = canvas.greyed(pull) - slope
            optimiser.step()
            with torch.no_grad():
                delta.copy_(canvas.project(delta))
        refuse(
            ~most.isfinite(),
            f"photo-cloak found no change of this face that keeps ssim = {self._ssim} in {self._steps} steps; lower "
            "ssim, or raise steps.",
        )
        return canvas.add(best)
