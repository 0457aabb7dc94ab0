"""What makes a person: shape weights and paint, drawn once per identity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from faces.synthetic.asset import HeadAsset, load_asset
from faces.synthetic.raster import F32

RACES = ("african", "asian", "caucasian")

# Standard deviations of the local shapes by folder, before LOCAL_GAIN; larger values look like caricatures.
LOCAL_SIGMA = {
    "head": 0.38, "forehead": 0.40, "eyebrows": 0.40, "eyes": 0.42, "nose": 0.42, "mouth": 0.38, "chin": 0.42,
    "cheek": 0.45, "ears": 0.40, "neck": 0.15,
}  # fmt: skip
LOCAL_GAIN = 0.8
ASYMMETRY = 0.12
_OPPOSITES = (
    ("-decr", "-incr"),
    ("-down", "-up"),
    ("-in", "-out"),
    ("-backward", "-forward"),
    ("-concave", "-convex"),
    ("-compress", "-uncompress"),
)
HAIR_STYLES = ("bald", "cropped", "short", "full", "receding", "long")
_STYLE_CHANCES = ((0.01, 0.05, 0.14, 0.25, 0.0, 0.55), (0.08, 0.22, 0.30, 0.18, 0.20, 0.02))  # women, men
BEARDS = ("none", "stubble", "moustache", "goatee", "full", "sideburns")


@dataclass(frozen=True)
class Paint:
    """Colours and hair of a person; lengths in metres on the mean head.

    Attributes:
        melanin: 0 (light) .. 1 (dark).
        redness: Gain of the reddish zones.
        lip_tone: (redness, darkness) of the lips.
        iris: (3,) linear albedo of the iris.
        hair: (3,) linear albedo of the hair.
        style: One of ``HAIR_STYLES``.
        hairline_m: Height of the frontal hairline above the eyes.
        hairline_shape: (width, peak, parting) of the hairline.
        hair_depth_m: Thickness of the hair on the scalp.
        hair_length_m: How far long hair hangs below the eyes.
        brow: (thickness_m, arch_m, density, length factor, gap_m).
        beard: One of ``BEARDS``.
        beard_density: 0..1.
        wrinkles: 0..1 strength of age lines.
        freckles: 0..1.
        moles: (M, 3) azimuth (rad), height (m), radius (m).
        texture_seed: Seed of the small-scale variation.
    """

    melanin: float
    redness: float
    lip_tone: tuple[float, float]
    iris: tuple[float, float, float]
    hair: tuple[float, float, float]
    style: str
    hairline_m: float
    hairline_shape: tuple[float, float, float]
    hair_depth_m: float
    hair_length_m: float
    brow: tuple[float, float, float, float, float]
    beard: str
    beard_density: float
    wrinkles: float
    freckles: float
    moles: F32
    texture_seed: int


@dataclass(frozen=True)
class Identity:
    """One person.

    Attributes:
        points_m: (V, 3) neutral bare head, origin between the eyeballs.
        paint: Colours and hair.
        male, age: Degree of masculinity and of age (0 young adult .. 1 old).
    """

    points_m: F32
    paint: Paint
    male: float
    age: float


def stream(seed: int, *key: int) -> np.random.Generator:
    """An independent random stream for a seed and a path of non-negative numbers."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


def draw_identity(seed: int, number: int) -> Identity:
    """Draw person ``number`` of a seed; shape and paint use separate streams."""
    asset = load_asset()
    rng = stream(seed, number, 0)
    male = float(np.clip(rng.integers(2) + rng.normal(0, 0.12), 0, 1))
    race = rng.dirichlet([0.45] * 3)
    age = float(rng.beta(1, 2.2))
    muscle = float(rng.uniform(0.2, 0.8))
    weight = float(np.clip(rng.normal(0.5, 0.22), 0, 1))
    weights = _macro_weights(male, race, age, muscle, weight)
    weights.update(_local_weights(asset, rng))
    row = np.array([weights.get(name, 0.0) for name in asset.shape_names], np.float32)
    points = asset.base_m + (row @ asset.shapes).reshape(-1, 3)
    eyes = (asset.vertex_group == 1) | (asset.vertex_group == 2)
    points = points - points[eyes].mean(axis=0)
    paint = _draw_paint(stream(seed, number, 1), male, race, age)
    return Identity(points_m=points.astype(np.float32), paint=paint, male=male, age=age)


def _macro_weights(male: float, race: np.ndarray, age: float, muscle: float, weight: float) -> dict[str, float]:
    """Products of memberships, as the MakeHuman macro shapes are meant to be mixed."""

    def three(value: float) -> dict[str, float]:
        low, high = max(0.0, 1 - 2 * value), max(0.0, 2 * value - 1)
        return {"min": low, "average": 1 - low - high, "max": high}

    result: dict[str, float] = {}
    for gender, g in (("female", 1 - male), ("male", male)):
        for years, a in (("young", 1 - age), ("old", age)):
            for name, r in zip(RACES, race, strict=True):
                result[f"macro/{name}-{gender}-{years}"] = g * a * float(r)
            for m_name, m in three(muscle).items():
                for w_name, w in three(weight).items():
                    result[f"macro/{gender}-{years}-{m_name}-{w_name}"] = g * a * m * w
    return result


def _local_weights(asset: HeadAsset, rng: np.random.Generator) -> dict[str, float]:
    """One normal number per pair of opposite shapes, shared by both sides up to a small asymmetry."""
    names = set(asset.shape_names)
    drawn: dict[str, float] = {}
    result: dict[str, float] = {}
    for name in asset.shape_names:
        folder, short = name.split("/")
        if folder == "macro":
            continue
        sigma = LOCAL_SIGMA[folder] * LOCAL_GAIN
        if any(name.endswith(p) and name.removesuffix(p) + n in names for n, p in _OPPOSITES):
            continue  # comes with its opposite
        pair = next(((n, p) for n, p in _OPPOSITES if name.endswith(n) and name.removesuffix(n) + p in names), None)
        sided = short[:2] in ("l-", "r-")
        key = f"{folder}/{short[2:]}" if sided else name
        if key not in drawn:
            drawn[key] = rng.normal(0, sigma)
        value = drawn[key]
        if sided:
            value += rng.normal(0, ASYMMETRY * sigma)
        value = float(np.clip(value, -0.95, 0.95))
        if pair is None:
            result[name] = max(0.0, value)  # round, square, ... act one way only
        else:
            result[name] = max(0.0, -value)
            result[name.removesuffix(pair[0]) + pair[1]] = max(0.0, value)
    return result


def _draw_paint(rng: np.random.Generator, male: float, race: np.ndarray, age: float) -> Paint:
    melanin = float(np.clip(race @ [0.80, 0.30, 0.16] + rng.normal(0, 0.10), 0.02, 1))
    redness = float(np.clip(rng.normal(0.5, 0.25), 0, 1.2))
    lip_tone = (float(rng.uniform(0.3, 1.1)), float(rng.uniform(0.0, 0.4)))
    light_eyes = rng.uniform() < max(0.0, 0.75 - 1.6 * melanin)
    if light_eyes:
        iris = np.array([[0.06, 0.10, 0.16], [0.07, 0.10, 0.055], [0.10, 0.115, 0.12]])[rng.integers(3)]
    else:
        iris = np.array([0.055, 0.028, 0.014])
    iris = iris * rng.uniform(0.5, 1.5)
    blond = rng.uniform() < max(0.0, 0.5 - 1.3 * melanin)
    dark = np.array([0.018, 0.013, 0.010]) * rng.uniform(0.6, 2.5)
    palette = np.array([[0.30, 0.20, 0.09], [0.13, 0.07, 0.035], [0.22, 0.08, 0.03]])
    hair = palette[rng.integers(3)] * rng.uniform(0.6, 1.3) if blond else dark
    grey = float(np.clip((age - 0.42) * 1.6 + rng.normal(0, 0.25), 0, 1)) if age > 0.25 else 0.0
    hair = hair * (1 - grey) + np.array([0.36, 0.36, 0.35]) * grey
    chances = (
        np.array([0.08, 0.22, 0.30, 0.18, 0.20, 0.02]) if male > 0.5 else np.array([0.01, 0.05, 0.14, 0.25, 0.0, 0.55])
    )
    style = HAIR_STYLES[int(rng.choice(6, p=chances))]
    hairline = rng.normal(0.058, 0.006) + (0.022 * rng.uniform(0.4, 1.2) if style == "receding" else 0.0)
    shape = (float(rng.uniform(0.55, 0.85)), float(rng.normal(0, 0.004)), float(rng.uniform(-0.5, 0.5)))
    depths = {"bald": 0.0, "cropped": 0.003, "short": 0.010, "full": 0.019, "receding": 0.006, "long": 0.013}
    depth = depths[style] * rng.uniform(0.7, 1.35)
    brow = (
        float(np.clip(rng.normal(0.0046 if male > 0.5 else 0.0034, 0.0010), 0.0018, 0.0075)),
        float(rng.normal(0.0, 0.0016)),
        float(rng.uniform(0.5, 1.0)),
        float(rng.uniform(0.85, 1.15)),
        float(rng.normal(0.0, 0.0015)),
    )
    beard = BEARDS[int(rng.choice(6, p=[0.42, 0.22, 0.08, 0.09, 0.14, 0.05]))] if male > 0.5 else "none"
    density = float(rng.uniform(0.45, 0.95))
    wrinkles = float(np.clip(age * 1.3 + rng.normal(0, 0.12), 0, 1))
    freckles = float(rng.uniform(0.3, 1)) if melanin < 0.35 and rng.uniform() < 0.22 else 0.0
    count = int(rng.poisson(2.5))
    moles = np.stack(
        [rng.uniform(-1.0, 1.0, count), rng.uniform(-0.11, 0.05, count), rng.uniform(0.0008, 0.0024, count)], axis=1
    )
    return Paint(
        melanin=melanin,
        redness=redness,
        lip_tone=lip_tone,
        iris=tuple(float(v) for v in iris),  # type: ignore[arg-type]
        hair=tuple(float(v) for v in hair),  # type: ignore[arg-type]
        style=style,
        hairline_m=float(hairline),
        hairline_shape=shape,
        hair_depth_m=float(depth),
        hair_length_m=float(rng.uniform(0.10, 0.20)),
        brow=brow,
        beard=beard,
        beard_density=density,
        wrinkles=wrinkles,
        freckles=freckles,
        moles=moles.astype(np.float32),
        texture_seed=int(rng.integers(2**31)),
    )
