"""What a user may set for the main job: geometry, sensor, mask, data, training and proof, with presets by budget.

No torch is imported here, so that the command line shows and checks a configuration at once. Defaults of the sensor and
the mask come out of the experiments in ``docs/experiments.md``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from codesign.baselines import NAMES as BASELINES
from ground.settings import Section

#: Attackers on cameras, by their names in ``codesign.attackers`` (which needs torch).
ATTACKERS = (
    "crop-network", "linear-discriminant", "scratch-recogniser", "wiener-sface", "wiener-sface-fine-tuned",
    "sface-fine-tuned", "unet-inverter", "sface-as-published", "winner-places", "landmarks-only", "fused",
)  # fmt: skip
Budget = Literal["smoke", "quick", "standard", "full"]
#: Materials that a mask can be made of, by their names in ``optics.materials`` (which needs torch).
MATERIALS = (
    "fused-silica", "bk7", "calcium-fluoride", "silicon-nitride", "pmma", "polycarbonate", "polystyrene", "pdms",
    "noa61",
)  # fmt: skip


def _known(what: str, names: tuple[str, ...]) -> AfterValidator:
    def check(value: str) -> str:
        # Case, spaces and underscores are read as ``optics.get_material`` reads them.
        if value.lower().replace("_", "-").replace(" ", "-") not in names:
            raise ValueError(f"no {what} is called {value!r}; choose one of {', '.join(names)}")
        return value

    return AfterValidator(check)


BaselineName = Annotated[str, _known("baseline", BASELINES), Field(json_schema_extra={"enum": list(BASELINES)})]
MaterialName = Annotated[str, _known("material", MATERIALS), Field(json_schema_extra={"examples": list(MATERIALS)})]

AttackerName = Annotated[str, _known("attacker", ATTACKERS), Field(json_schema_extra={"enum": list(ATTACKERS)})]
#: Parts of a face that a channel of the camera of pairs can look for; ``codesign.winners.parts`` says where they are.
PARTS = ("left-eye", "right-eye", "nose-tip", "upper-lip", "mouth-left", "mouth-right", "chin")

# Upper bounds are far beyond what is useful. They catch slips of the exponent before anything is computed.
_STEPS = 10_000_000
_PEOPLE = 100_000  # of each part; synthetic people are numbered in millions
_WEIGHT = 1e6
Share = Annotated[float, Field(ge=0, le=1)]
Wavelength = Annotated[float, Field(gt=1e-7, lt=2e-5)]
PixelCount = Annotated[int, Field(ge=8, le=64)]


#: No camera has a shorter length or a flatter relief: a smaller number is a slip of the unit and fails much later.
_SHORTEST_M, _LOWEST_RELIEF_M = 1e-6, 1e-9


class OpticsConfig(Section):
    """Geometry that every camera of a run shares."""

    focal_length_m: float = Field(4e-3, ge=_SHORTEST_M, le=1)
    aperture_diameter_m: float = Field(0.5e-3, ge=_SHORTEST_M, le=0.1)
    focus_distance_m: float = Field(1.0, ge=_SHORTEST_M, le=1e6, description="Distance the bare lens is focused on.")
    object_distance_m: float = Field(1.0, ge=_SHORTEST_M, le=1e6, description="Distance of the faces from the pupil.")
    frame_width_m: float = Field(
        0.24, ge=_SHORTEST_M, le=1e6, description="Width of the scene window at the object distance."
    )
    scene_px: int = Field(
        64, ge=32, le=64, multiple_of=8, description="Samples across the window; one image cell each."
    )
    wavelengths_m: tuple[Wavelength, Wavelength, Wavelength] = Field(
        (620e-9, 540e-9, 460e-9), description="One wavelength for each of the red, green and blue scene channel."
    )
    pupil_samples: int = Field(270, ge=32, le=2048)


class FieldStopConfig(Section):
    """Elliptical opening in front of the sensor, in shares of the window; see ``optics.FieldStop``."""

    enabled: bool = Field(True, description="false takes the stop away: every pixel sees light.")
    centre_x: float = Field(0.5, gt=0, lt=1)
    centre_y: float = Field(0.54, gt=0, lt=1)
    half_width: float = Field(0.28, gt=0, le=2, description="The less it shows of hair and jaw, the less identity.")
    half_height: float = Field(0.295, gt=0, le=2)
    edge: float = Field(0.03, gt=0, lt=1, description="Softness of the rim, share of the half axes.")


class SensorConfig(Section):
    """A sensor and its exposure, given as the photo-electrons that a white surface makes in one pixel."""

    pixels: PixelCount = Field(description="Pixels across the window; must divide optics.scene_px.")
    colour: bool = False
    filter_weights: tuple[Share, Share, Share] = Field(
        (1 / 3, 1 / 3, 1 / 3), description="Shares of red, green and blue in a monochrome pixel; they sum to 1."
    )
    electrons_at_white: float = Field(ge=1, le=1e9)
    full_well_e: float = Field(ge=1, le=1e9, description="Electrons at which a pixel saturates.")
    read_noise_e: float = Field(ge=1e-3, le=1e6, description="RMS electrons; no sensor is free of it.")
    bits: int = Field(8, ge=1, le=16)
    black_level_dn: float = Field(0, ge=0, lt=65535)
    metering: Literal["fixed", "centre-weighted"] = Field(
        "fixed", description="Whether the exposure time follows a centre-weighted meter; for all cameras."
    )
    field_stop: FieldStopConfig = Field(
        FieldStopConfig(), description="Opening of our own camera; baselines proper have none."
    )
    grey_mask: bool = Field(
        False, description="Learn the transmission of each pixel, from the field stop on and in its place."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if abs(sum(self.filter_weights) - 1) > 1e-6:
            raise ValueError("filter_weights must be three non-negative numbers that sum to 1")
        if self.black_level_dn >= 2**self.bits - 1:
            raise ValueError(
                f"black_level_dn = {self.black_level_dn} must lie below the top code {2**self.bits - 1} of "
                f"{self.bits} bits"
            )
        return self


class MaskConfig(Section):
    """The surface to be designed."""

    kind: Literal["free-form", "zernike"] = "free-form"
    material: MaterialName = "fused-silica"
    cells: int = Field(32, ge=4, le=512, description="Controls across the aperture of a free-form mask.")
    terms: int = Field(120, ge=4, le=500, description="Noll terms of a Zernike mask.")
    max_height_m: float = Field(4e-6, ge=_LOWEST_RELIEF_M, le=1e-3, description="Height range of the relief.")
    start_spread: float = Field(0.02, ge=0, le=100, description="Spread of the random start; 0 starts flat.")


PartName = Annotated[str, _known("part of a face", PARTS), Field(json_schema_extra={"enum": list(PARTS)})]


class WinnersConfig(Section):
    """The camera of pairs: its pixels, its channels, and how kernels and reliefs are found."""

    pixels: PixelCount = Field(32, description="Pixels across the window in each tile; must divide optics.scene_px.")
    filter_weights: tuple[Share, Share, Share] = Field(
        (0.2126, 0.7152, 0.0722), description="Shares of red, green and blue in a pixel; they sum to 1."
    )
    electrons_at_white: float = Field(
        100_000.0, ge=1, le=1e9, description="Photo-electrons of a pixel that a white surface makes in each tile."
    )
    dark_e: float = Field(20.0, ge=0, le=1e6)
    read_noise_e: float = Field(5.0, ge=0, le=1e6)
    floor_e: float = Field(20.0, gt=0, le=1e6, description="Electrons at which the logarithm of a pixel ends.")
    gain_mismatch: float = Field(0.01, ge=0, le=1, description="RMS difference of response within a pair, relative.")
    offset_mismatch: float = Field(0.01, ge=0, le=1, description="RMS offset of a comparison, in natural logarithms.")
    comparator_noise: float = Field(0.05, ge=0, le=100, description="RMS noise of a drive, in units of the drive.")
    anchor_pairs: int = Field(16, ge=1, le=24, description="Pairs that are added to find the whole face.")
    anchor_radius_px: int = Field(13, ge=2, le=31, description="Half side of their kernels in pixels.")
    followers: tuple[PartName, ...] = Field(
        ("left-eye", "right-eye", "upper-lip"), description="Parts that are searched about the anchor's winner."
    )
    follower_pairs: int = Field(2, ge=1, le=24, description="Pairs of each of them.")
    follower_radius_px: int = Field(9, ge=2, le=31)
    follower_half_px: int = Field(3, ge=1, le=15, description="Half side of a follower's window in pixels.")
    copies: int = Field(2, ge=0, le=20, description="Moved copies of each training scene.")
    batch: int = Field(48, ge=2, le=4096)
    rate: float = Field(2e-3, gt=0, le=1, description="Peak rate of the kernels' coefficients.")
    anchor_steps: int = Field(ge=1, le=_STEPS)
    follower_steps: int = Field(ge=1, le=_STEPS)
    relief_cells: int = Field(40, ge=4, le=512, description="Controls across the aperture of each tile's mask.")
    max_height_m: float = Field(9e-5, ge=_LOWEST_RELIEF_M, le=1e-3, description="Height range of the reliefs.")
    relief_steps: int = Field(120, ge=1, le=_STEPS)
    tile_pitch_m: float = Field(1.2e-3, ge=_SHORTEST_M, le=1, description="Distance of neighbouring tiles.")
    tile_columns: int = Field(8, ge=1, le=1000)
    trim_steps: int = Field(
        ge=1, le=_STEPS, description="Steps in which the read-out is trimmed to the realised masks."
    )
    decoder_steps: int = Field(ge=1, le=_STEPS)
    decoder_batch: int = Field(256, ge=2, le=4096)
    decoder_rate: float = Field(2e-3, gt=0, le=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if abs(sum(self.filter_weights) - 1) > 1e-6:
            raise ValueError("filter_weights must be three non-negative numbers that sum to 1")
        if len(set(self.followers)) != len(self.followers):
            raise ValueError("followers names a part twice")
        return self


class DataConfig(Section):
    """How many people, and how many captures of each."""

    train_people: int = Field(ge=8, le=_PEOPLE)
    calibration_people: int = Field(ge=4, le=_PEOPLE)
    validation_people: int = Field(ge=4, le=_PEOPLE)
    test_people: int = Field(ge=4, le=_PEOPLE)
    train_captures: int = Field(16, ge=2, le=1000)
    test_captures: int = Field(10, ge=2, le=1000, description="Captures of calibration, validation and test people.")
    gallery_captures: int = Field(5, ge=1, le=1000, description="Of these, enrolled; the others are probes.")
    attacker_people: int = Field(
        1000, ge=4, le=_PEOPLE,
        description="Further synthetic people on whom attackers alone are trained, beside the training people.",
    )  # fmt: skip
    attacker_captures: int = Field(10, ge=2, le=1000, description="Captures of each of them.")

    @model_validator(mode="after")
    def _probes(self) -> Self:
        if self.gallery_captures >= self.test_captures:
            raise ValueError("gallery_captures must be smaller than test_captures, or no probe is left")
        return self


class TrainingConfig(Section):
    """Co-training of mask, decoder and adversaries."""

    starts: int = Field(ge=1, le=1000, description="Random starts; validation people decide which one is kept.")
    screening_steps: int = Field(
        0, ge=0, le=_STEPS,
        description="Optics steps after which the best quarter of the starts goes on; 0 trains all to the end.",
    )  # fmt: skip
    warmup_steps: int = Field(ge=0, le=_STEPS, description="Steps of decoder and adversaries before the mask moves.")
    steps: int = Field(ge=1, le=_STEPS, description="Optics steps.")
    adversary_steps: int = Field(
        3, ge=1, le=1000, description="Adversary steps for each step of the decoder or the optics."
    )
    adversary_batch: int = Field(32, ge=8, le=4096, description="Captures in a step of the adversaries.")
    batch: int = Field(32, ge=8, le=4096)
    decoder_width: int = Field(
        8, ge=8, le=256, multiple_of=8, description="Width of the decoder during co-training; a full one follows."
    )
    mask_rate: float = Field(0.02, gt=0, le=10)
    grey_rate: float = Field(0.05, gt=0, le=10, description="Rate of the log odds of transmission of a grey mask.")
    network_rate: float = Field(2e-3, gt=0, le=1)
    adversary_rate: float = Field(
        3e-3, gt=0, le=1, description="Peak rate of the adversaries; after the warm-up a fixed share of it."
    )
    privacy_weight: float = Field(
        0.6, ge=0, le=_WEIGHT, description="Weight of the bounded recogniser loss, which stops at chance."
    )
    subspace_weight: float = Field(
        0.02, ge=0, le=_WEIGHT,
        description="Weight of the closed-form identity information, over the bits that name a person of its batch.",
    )  # fmt: skip
    subspace_people: int = Field(
        48, ge=4, le=4096, description="People, with up to four captures each, whose identity information is counted."
    )
    inverter_weight: float = Field(
        0.1, ge=0, le=_WEIGHT, description="Weight of what a learned inverter gets back, bounded."
    )
    window_weight: float = Field(1.0, ge=0, le=_WEIGHT, description="Weight of light outside the window.")
    slope_weight: float = Field(
        0.05, ge=0, le=_WEIGHT, description="Weight of relief that is too steep for the samples of the pupil."
    )
    reset_every: int = Field(
        150, ge=1, le=_STEPS, description="Optics steps after which one adversary starts anew, in turn."
    )
    checkpoint_every: int = Field(50, ge=1, le=_STEPS)


class DecoderConfig(Section):
    """The heatmap decoder that every camera gets: same network, same steps."""

    steps: int = Field(ge=1, le=_STEPS)
    batch: int = Field(32, ge=2, le=4096)
    width: int = Field(16, ge=8, le=256, multiple_of=8)
    rate: float = Field(3e-3, gt=0, le=1)


class ProofConfig(Section):
    """Fresh attackers and baselines after the optics are frozen."""

    baselines: tuple[BaselineName, ...]
    mono_pixels: tuple[PixelCount, ...] = Field(
        (16,), min_length=1, description="Pixel counts of the monochrome baselines; the first is the one that blurs."
    )
    attackers: tuple[AttackerName, ...] = Field(
        ATTACKERS, min_length=1, description="Which attackers are tried; each camera meets those made for its kind."
    )
    attacker_copies: int = Field(
        2, ge=0, le=100, description="Moved and mirrored copies of each face that attackers are trained on."
    )
    auxiliary: Literal["none", "parameters", "embedding", "both"] = Field(
        "parameters",
        description="What the crop network learns beside names: of synthetic people the parameters that made them, "
        "the embedding of the clean picture by SFace, or both; of photographs always that embedding, unless none.",
    )
    crop_network_steps: int = Field(1200, ge=1, le=_STEPS)
    learning_curve: tuple[Share, ...] = Field(
        (0.25, 0.5), description="Shares of the people with which the strongest learned attacker is trained once more."
    )
    exposures: int = Field(
        25, ge=1, le=10_000, description="Exposures of each still scene that an attacker on our camera may average."
    )
    tolerances: bool = Field(
        True,
        description="Judge a camera of pairs also off its design: in less light, at other distances, with errors of "
        "relief and mounting, on another chip.",
    )
    scratch_steps: int = Field(ge=1, le=_STEPS)
    fine_tune_steps: int = Field(ge=1, le=_STEPS)
    wiener_fine_tune_steps: int = Field(ge=1, le=_STEPS)
    unet_steps: int = Field(ge=1, le=_STEPS)
    landmark_steps: int = Field(1000, ge=1, le=_STEPS)
    match_rounds: int = Field(
        3, ge=1, le=100, description="Decoders trained to bring a baseline to our landmark error."
    )
    nme_tolerance: float = Field(0.004, gt=0, le=1)
    fmr: float = Field(0.01, gt=0, lt=1)


class TrainMaskConfig(Section):
    """Everything that decides the result of ``optishield train-mask``."""

    budget: Budget
    seed: int = Field(0, ge=0, lt=2**63)
    faces: str = Field("synthetic", description="'synthetic', or a folder with one folder of photos per person.")
    tune: str = Field(
        "",
        description="Of a folder of photographs, the people who may train, set thresholds and validate: NAME,NAME or "
        "FIRST:LAST; all others are tested. Empty: by lot.",
    )
    design: Literal["winners", "frame"] = Field(
        "winners",
        description="What is designed: a camera of pairs that releases places of winners, or one mask in front of a "
        "coarse sensor that releases frames.",
    )
    landmarks: Literal["five", "sixty-eight"] = Field(
        "five", description="Points that decoders find and release; the more, the more they tell about a person."
    )
    workers: int = Field(2, ge=1, le=1024, description="Processes; the result does not depend on it.")
    optics: OpticsConfig = OpticsConfig()
    sensor: SensorConfig
    mask: MaskConfig = MaskConfig()
    winners: WinnersConfig
    data: DataConfig
    training: TrainingConfig
    decoder: DecoderConfig
    proof: ProofConfig

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.tune and self.faces == "synthetic":
            raise ValueError(f"tune = {self.tune!r} names people of a folder of photographs; give that folder as faces")
        counts = {
            "sensor.pixels": (self.sensor.pixels,),
            "winners.pixels": (self.winners.pixels,),
            "proof.mono_pixels": self.proof.mono_pixels,
        }
        for key, values in counts.items():
            for pixels in values:
                if self.optics.scene_px % pixels:
                    raise ValueError(f"{key} = {pixels} must divide optics.scene_px = {self.optics.scene_px}")
        return self

    @classmethod
    def for_budget(cls, name: str) -> TrainMaskConfig:
        """The preset of a budget: ``smoke``, ``quick``, ``standard`` or ``full``.

        Raises:
            ValueError: If there is no such budget.
        """
        if name not in _PRESETS:
            raise ValueError(f"no budget is called {name!r}; choose one of {', '.join(_PRESETS)}")
        return cls.model_validate({"budget": name, "sensor": _SENSOR, **_PRESETS[name]})


# A field stop that shows eyes, nose and mouth but not hair, ears and jaw line; one bit, plenty of light and a meter:
# shading and skin tone fall under or over one threshold, 0.7 times the metered mean, and hardly any noise is left to
# act as dither. Why not finer pixels or another opening: docs/experiments.md.
_SENSOR: dict[str, Any] = {
    "pixels": 32,
    "filter_weights": (0.2126, 0.7152, 0.0722),
    "electrons_at_white": 4000.0,
    "full_well_e": 1008.0,
    "read_noise_e": 2.0,
    "bits": 1,
    "metering": "centre-weighted",
}  # fmt: skip
_PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {
        "winners": {
            "anchor_steps": 4, "follower_steps": 4, "relief_steps": 3, "trim_steps": 2,
            "decoder_steps": 6, "anchor_pairs": 8, "follower_pairs": 2,
        },
        "data": {
            "train_people": 12, "calibration_people": 8, "validation_people": 6, "test_people": 8,
            "train_captures": 4, "test_captures": 4, "gallery_captures": 2, "attacker_people": 6,
            "attacker_captures": 3,
        },
        "training": {
            "starts": 1, "warmup_steps": 2, "steps": 4, "adversary_steps": 1, "batch": 8, "checkpoint_every": 2,
        },
        "decoder": {"steps": 6, "batch": 8, "width": 8},
        "proof": {
            "baselines": ["mono-pixels"], "scratch_steps": 4, "fine_tune_steps": 1, "wiener_fine_tune_steps": 1,
            "unet_steps": 2, "landmark_steps": 10, "match_rounds": 1, "crop_network_steps": 6, "learning_curve": [0.5],
            "exposures": 3, "tolerances": False,
        },
    },
    "quick": {
        "winners": {
            "anchor_steps": 2500, "follower_steps": 1200, "relief_steps": 120, "trim_steps": 400,
            "decoder_steps": 1500, "anchor_pairs": 16, "follower_pairs": 2,
        },
        "data": {
            "train_people": 280, "calibration_people": 50, "validation_people": 40, "test_people": 150,
            "train_captures": 16, "test_captures": 10, "gallery_captures": 5,
        },
        "training": {"starts": 1, "warmup_steps": 200, "steps": 160},
        "decoder": {"steps": 900},
        "proof": {
            "baselines": ["mono-pixels", "same-field-mono-pixels"], "scratch_steps": 800, "fine_tune_steps": 120,
            "wiener_fine_tune_steps": 150, "unet_steps": 150, "match_rounds": 3, "tolerances": False,
            # U-Net and fine-tuned SFace cost more than all of these together and never were the strongest.
            "attackers": [
                "crop-network", "linear-discriminant", "scratch-recogniser", "wiener-sface", "sface-as-published",
                "winner-places", "landmarks-only", "fused",
            ],
        },
    },
    "standard": {
        "winners": {
            "anchor_steps": 8000, "follower_steps": 4000, "relief_steps": 300, "trim_steps": 1500,
            "decoder_steps": 4000, "anchor_pairs": 24, "follower_pairs": 4,
        },
        "data": {
            "train_people": 600, "calibration_people": 100, "validation_people": 60, "test_people": 200,
            "train_captures": 20, "test_captures": 12, "gallery_captures": 6, "attacker_people": 3000,
        },
        "training": {"starts": 8, "screening_steps": 300, "warmup_steps": 400, "steps": 1500},
        "decoder": {"steps": 3000},
        "proof": {
            "baselines": [
                "mono-pixels", "gaussian-blur", "defocus", "low-resolution", "random-mask", "same-field-mono-pixels",
                "same-sensor-no-mask",
            ],
            "mono_pixels": [16, 32, 64],
            "crop_network_steps": 6000,
            "scratch_steps": 2500, "fine_tune_steps": 500, "wiener_fine_tune_steps": 400, "unet_steps": 800,
            "match_rounds": 4,
        },
    },
    "full": {
        "winners": {
            "anchor_steps": 20000, "follower_steps": 10000, "relief_steps": 600, "trim_steps": 4000,
            "decoder_steps": 8000, "anchor_pairs": 24, "follower_pairs": 6,
        },
        "data": {
            "train_people": 1500, "calibration_people": 250, "validation_people": 150, "test_people": 500,
            "train_captures": 24, "test_captures": 12, "gallery_captures": 6, "attacker_people": 10_000,
        },
        "training": {"starts": 16, "screening_steps": 1000, "warmup_steps": 1000, "steps": 6000},
        "decoder": {"steps": 10000},
        "proof": {
            "baselines": [
                "mono-pixels", "gaussian-blur", "defocus", "low-resolution", "random-mask", "same-field-mono-pixels",
                "same-sensor-no-mask",
            ],
            "mono_pixels": [16, 32, 64],
            "crop_network_steps": 30000,
            "scratch_steps": 10000, "fine_tune_steps": 3000, "wiener_fine_tune_steps": 2000, "unet_steps": 4000,
            "match_rounds": 5,
        },
    },
}  # fmt: skip
