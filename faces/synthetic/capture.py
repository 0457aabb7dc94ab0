"""What changes from picture to picture: pose, expression, gaze, light, distance, backdrop, clothes, exposure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from faces.synthetic.raster import F32

POSE_SIGMA_DEG = (15.0, 8.0, 6.0)  # yaw, pitch, roll
POSE_CLIP = 2.2
EYE_DISTANCE = (0.23, 0.30)  # of the frame width
CENTRE_SIGMA = 0.04  # of the frame width
CENTRE_CLIP = 2.0


@dataclass(frozen=True)
class Lamp:
    """One lobe of light: exp(sharpness (cos - 1)) around a direction towards the lamp."""

    direction: F32
    sharpness: float
    colour: F32


@dataclass(frozen=True)
class Capture:
    """Everything about one picture that is not the person.

    Attributes:
        angles_rad: (yaw, pitch, roll); positive yaw turns the face to image right, positive pitch lifts the chin,
            positive roll turns the head clockwise in the image.
        actions: Weights of facial actions.
        gaze_rad: (to image right, up) of the eyes relative to the head.
        distance_m: Distance of the camera from the eyes.
        eye_distance: Distance of the pupils of the frontal face, as a fraction of the frame width.
        centre: (x, y) offset of the face as a fraction of the frame width, y down.
        lamps: Key, fill and rim light, in camera axes (x right, y up, z towards the camera).
        sky: (zenith, nadir) colours of the even light.
        exposure: Factor on the automatic exposure.
        white: (3,) channel gains of an imperfect white balance.
        cloth: (3,) linear albedo.
        collar_m: Height of the collar on the mean head.
        backdrop: (rows, columns, 3) linear light, stretched over the frame.
        panels: (P, 8) rectangles of the backdrop: x, y, half width, half height (frame widths), angle, RGB.
    """

    angles_rad: tuple[float, float, float]
    actions: dict[str, float]
    gaze_rad: tuple[float, float]
    distance_m: float
    eye_distance: float
    centre: tuple[float, float]
    lamps: tuple[Lamp, ...]
    sky: tuple[F32, F32]
    exposure: float
    white: F32
    cloth: F32
    collar_m: float
    backdrop: F32
    panels: F32


def draw_capture(rng: np.random.Generator) -> Capture:
    """Draw one capture from a random stream."""
    yaw, pitch, roll = np.deg2rad(POSE_SIGMA_DEG) * np.clip(rng.standard_normal(3), -POSE_CLIP, POSE_CLIP)
    actions, gaze = _expression(rng)
    low, high = EYE_DISTANCE
    eye_distance = low + (high - low) * rng.beta(1, 1.6)
    centre = CENTRE_SIGMA * np.clip(rng.standard_normal(2), -CENTRE_CLIP, CENTRE_CLIP)
    distance = np.exp(rng.uniform(np.log(0.4), np.log(1.6)))
    lamps, sky = _light(rng)
    exposure = np.exp(0.18 * np.clip(rng.standard_normal(), -2, 2))
    white = np.exp(0.05 * rng.standard_normal(3)).astype(np.float32)
    grey, tint = rng.uniform(0.02, 0.75) ** 1.3, rng.uniform(0, 1)
    cloth = (grey * ((1 - tint) + tint * rng.uniform(0.1, 1, 3))).astype(np.float32)
    collar = rng.uniform(-0.185, -0.145)
    backdrop, panels = _backdrop(rng)
    return Capture(
        angles_rad=(float(yaw), float(pitch), float(roll)),
        actions=actions,
        gaze_rad=gaze,
        distance_m=float(distance),
        eye_distance=float(eye_distance),
        centre=(float(centre[0]), float(centre[1])),
        lamps=lamps,
        sky=sky,
        exposure=float(exposure),
        white=white,
        cloth=cloth,
        collar_m=float(collar),
        backdrop=backdrop,
        panels=panels,
    )


def rotation(yaw: float, pitch: float, roll: float) -> F32:
    """Head-to-camera rotation; positive yaw to image right, pitch chin up, roll clockwise in the image."""
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    nod = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    tilt = np.array([[cr, sr, 0], [-sr, cr, 0], [0, 0, 1]])
    return (tilt @ nod @ turn).astype(np.float32)


def _expression(rng: np.random.Generator) -> tuple[dict[str, float], tuple[float, float]]:
    """A sparse mix: neutral often, else smile, open mouth, brows; the lids follow the gaze."""
    actions: dict[str, float] = {}

    def both(name: str, weight: float, asymmetry: float = 0.15) -> None:
        skew = float(rng.normal(0, asymmetry)) * weight
        for side, sign in (("Left", 1.0), ("Right", -1.0)):
            actions[name + side] = actions.get(name + side, 0.0) + max(0.0, weight + sign * skew)

    kind = rng.choice(5, p=[0.35, 0.30, 0.15, 0.10, 0.10])
    strength = float(rng.beta(1.6, 1.8))
    if kind == 1:
        both("mouthSmile", 0.75 * strength)
        both("cheekSquint", 0.5 * strength)
        both("mouthUpperUp", 0.25 * strength * rng.uniform())
        actions["jawOpen"] = 0.12 * strength * rng.uniform()
    elif kind == 2:
        actions["jawOpen"] = 0.05 + 0.30 * strength
        both("mouthLowerDown", 0.3 * strength * rng.uniform())
    elif kind == 3:
        both("mouthFrown", 0.6 * strength)
        both("browDown", 0.6 * strength)
    elif kind == 4:
        actions["mouthPucker"] = 0.5 * strength
        actions["mouthShrugUpper"] = 0.3 * rng.uniform()
    brows = float(rng.normal(0, 0.3))
    if brows > 0:
        actions["browInnerUp"] = 0.7 * brows
        both("browOuterUp", 0.6 * brows)
    else:
        both("browDown", -0.5 * brows)
    both("mouthPress", 0.25 * rng.uniform() ** 2)
    both("noseSneer", 0.3 * rng.uniform() ** 4)
    both("eyeSquint", 0.5 * rng.uniform() ** 3)
    blink = rng.uniform(0.3, 0.9) if rng.uniform() < 0.06 else rng.uniform(-0.2, 0.15)
    for side in ("Left", "Right"):
        actions["eyeBlink" + side] = float(blink)
    right, up = np.deg2rad([7.0, 4.0]) * np.clip(rng.standard_normal(2), -2.2, 2.2)
    for side in ("Left", "Right"):
        actions[("eyeLookUp" if up > 0 else "eyeLookDown") + side] = float(abs(up) / np.deg2rad(30))
    return actions, (float(right), float(up))


def _light(rng: np.random.Generator) -> tuple[tuple[Lamp, ...], tuple[F32, F32]]:
    def lamp(azimuth_deg: float, height_deg: float, sharpness: float, power: float, warmth: float) -> Lamp:
        a, h = np.deg2rad([azimuth_deg, height_deg])
        direction = np.array([np.sin(a) * np.cos(h), np.sin(h), np.cos(a) * np.cos(h)], np.float32)
        # Equal power per lobe, whatever its width.
        scale = power * sharpness / (1 - np.exp(-2 * sharpness))
        colour = scale * np.array([1 + warmth, 1.0, 1 - warmth])
        return Lamp(direction, sharpness, colour.astype(np.float32))

    key = lamp(
        rng.normal(0, 42), float(np.clip(rng.normal(30, 18), -10, 75)), float(np.exp(rng.uniform(0.7, 3.4))),
        rng.uniform(0.6, 1.6), rng.normal(0, 0.10),
    )  # fmt: skip
    fill = lamp(rng.uniform(-120, 120), rng.uniform(-20, 40), 2.0, rng.uniform(0.05, 0.5), rng.normal(0, 0.08))
    rim = lamp(rng.choice([-1.0, 1.0]) * rng.uniform(110, 160), rng.uniform(0, 40), 8.0,
               rng.uniform(0, 0.8) * (rng.uniform() < 0.4), rng.normal(0, 0.08))  # fmt: skip
    level = rng.uniform(0.25, 0.9)
    zenith = level * np.exp(0.08 * rng.standard_normal(3))
    nadir = level * rng.uniform(0.15, 0.7) * np.exp(0.10 * rng.standard_normal(3))
    return (key, fill, rim), (zenith.astype(np.float32), nadir.astype(np.float32))


def _backdrop(rng: np.random.Generator) -> tuple[F32, F32]:
    level = np.exp(rng.uniform(np.log(0.03), np.log(1.1)))
    tone = np.exp(0.16 * rng.standard_normal(3))
    busy = rng.uniform(0, 0.7) ** 1.5
    grid = level * tone * np.exp(busy * rng.standard_normal((6, 6, 1)) + 0.2 * busy * rng.standard_normal((6, 6, 3)))
    count = int(rng.integers(0, 7)) if rng.uniform() < 0.6 else 0
    panels = np.empty((count, 8))
    panels[:, 0:2] = rng.uniform(0, 1, (count, 2))
    panels[:, 2:4] = rng.uniform(0.02, 0.35, (count, 2))
    panels[:, 4] = np.where(rng.uniform(size=count) < 0.7, 0, rng.uniform(-90, 90, count))
    panels[:, 5:8] = level * np.exp(0.8 * rng.standard_normal((count, 1)) + 0.2 * rng.standard_normal((count, 3)))
    return grid.astype(np.float32), panels.astype(np.float32)
