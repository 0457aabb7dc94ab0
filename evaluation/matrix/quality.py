"""The job that says what protection does to the pictures, and whether a face is still found on them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from evaluation.image_attackers.base import thin
from evaluation.matrix import utility
from evaluation.matrix.jobs import Site, protected_photos
from evaluation.matrix.keys import content_key, tensor_hash
from evaluation.measures import quality
from evaluation.photos import Photos
from evaluation.records import Quality
from faces import weights
from faces.detection import FaceDetector
from faces.errors import FacesError
from faces.recognisers import load_sface

#: Convolutions of SFace (of 27) behind which feature maps are compared: strides 2, 4 and 8.
_DEPTHS = (4, 8, 12)
_CHUNK = 32
#: Photographs whose deep features are compared: two passes of a network for each.
_DEEP = 32


def measure(site: Site, protector: str, key: str) -> Quality:
    """Quality of the protected probes of the test against the clean ones, failures to acquire, and what use is left.

    Args:
        site: Where everything of the run lies.
        protector: Name with settings.
        key: Key of its protected photographs.
    """
    everything, shown = site.part("test").photos, protected_photos(site, "test", key)
    probes = ~everything.gallery
    clean, protected = everything.subset(probes), shown.subset(probes)
    use, reasons = utility.measure(site, everything, shown)
    found = {**pictures(clean, protected, deep_features()), **acquisition(site, protected, clean), **use}
    if "psnr" not in found:
        reasons["psnr"] = "no picture was changed"
    for columns, name in ((("deep_distance",), "sface"), (("fta", "fta_clean"), "yunet")):
        reasons.update({column: _absent(name) for column in columns if column not in found})
    return Quality(**found, not_measured=reasons)  # type: ignore[arg-type]  # two columns count photographs


def _absent(name: str) -> str:
    """Why registered weights cannot be used."""
    try:
        weights.verify(name)
    except FacesError as error:
        return str(error)
    return f"the weights {name!r} could not be used"


def pictures(clean: Photos, protected: Photos, features: quality.Features | None) -> dict[str, float]:
    """Similarity of protected and clean pictures, means over photographs; no ``psnr`` where none was changed."""
    pairs = list(zip(clean.images().split(_CHUNK), protected.images().split(_CHUNK), strict=True))

    def mean(measure_: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        return torch.cat([measure_(first, second) for first, second in pairs])

    similar, error = mean(quality.ssim), mean(quality.psnr)
    changed = error[torch.isfinite(error)]
    found = {
        "ssim": float(similar.mean()),
        "ssim_median": float(similar.median()),
        "ssim_p5": float(similar.quantile(0.05)),
        "dssim": float((1 - similar.mean()) / 2),
        "linf": float(mean(quality.linf_distance).max()),
        "l2": float(mean(quality.l2_distance).mean()),
    }
    if len(changed):
        found["psnr"] = float(changed.mean())
    if features is not None:
        few = thin(clean, _DEEP)
        pairs = list(
            zip(clean.subset(few).images().split(_CHUNK), protected.subset(few).images().split(_CHUNK), strict=True)
        )
        found["deep_distance"] = float(mean(partial(quality.deep_feature_distance, features=features)).mean())
    return found


def deep_features() -> quality.Features | None:
    """Maps of three depths of SFace, from frames in 0..1; None without its weights."""
    try:
        network = load_sface().folded()
    except FacesError:
        return None

    @torch.no_grad()
    def maps(images: Tensor) -> list[Tensor]:
        current = functional.interpolate(images, size=network.input_size, mode="bilinear", align_corners=False)
        current, found = (current.float() * 255 - 127.5) / 128, []
        for at, unit in enumerate(network.backbone):
            current = unit(current)
            if at in _DEPTHS:
                found.append(current)
        return found

    return maps


def acquisition(site: Site, protected: Photos, clean: Photos) -> dict[str, float]:
    """Failure to acquire: share of probes on which a detector finds no face; empty without the detector's weights."""
    try:
        detector = FaceDetector()
    except FacesError:
        return {}

    def lost(photos: Photos) -> float:
        shown = photos.faces.images
        key = content_key("detected", __name__, detector=weights.info("yunet").sha256, pictures=tensor_hash(shown))

        def detect() -> tuple[dict[str, Tensor], dict[str, Any]]:
            pictures = shown.permute(0, 2, 3, 1).contiguous().numpy()
            return {"found": torch.tensor([bool(detector.detect(picture)) for picture in pictures])}, {}

        found, _ = site.store.once(key, detect)
        return float(1 - found["found"].double().mean())

    return {"fta_clean": lost(clean), "fta": lost(protected)}
