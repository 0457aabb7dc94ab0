"""Names of cameras and attackers in reports."""

from __future__ import annotations

_NAMES = {
    "unet-inverter": "U-Net, then SFace",
    "sface-fine-tuned": "SFace, fine-tuned",
    "wiener-sface": "Wiener, then SFace",
    "wiener-sface-fine-tuned": "Wiener, then SFace fine-tuned",
    "sface-as-published": "SFace as published",
    "scratch-recogniser": "recogniser from scratch",
    "linear-discriminant": "linear discriminant",
    "landmarks-only": "released landmarks",
    "mono-pixels": "monochrome pixels",
    "gaussian-blur": "Gaussian blur",
    "low-resolution": "low resolution",
    "random-mask": "random mask",
    "same-sensor-no-mask": "same sensor, no mask",
    "same-field-mono-pixels": "monochrome pixels behind the same field stop",
    "wiener": "Wiener",
    "unet": "U-Net",
}


def shown_as(key: str) -> str:
    """The name under which a report shows a camera, an attacker or a reconstruction; its key where it has none."""
    return _NAMES.get(key, key)
