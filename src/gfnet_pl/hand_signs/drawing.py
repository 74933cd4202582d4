"""Draws one finger-spelled letter: a jointed hand of capsules, seen by one signer's camera.

Every image belongs to a *signer* (hand shape, background, light, camera; some are left-handed) and is a frame of the
smooth clip of (signer, class), so neighbouring frames are near duplicates, as in data sets cut from videos. A capsule
is a bone's ends and a radius; a ray straight down z meets it in closed form, only inside the capsule's bounding box.

The frame and its units are those of `hand_poses`. The same arguments give the same picture on every machine, within one
grey level: the random streams are those that NumPy has frozen, parameters are float64 scalars, pixels are float32 and
see only additions, products and square roots, and no BLAS is involved.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from gfnet_pl.hand_signs.capsules import (
    FAR,
    OVERSAMPLE,
    Floats,
    before,
    clip_drift,
    draw_capsule,
    photographed,
    random_stream,
    seen_part,
    wall,
)
from gfnet_pl.hand_signs.poses import BONES, CLASSES, KNUCKLES, PALM, POSES, RADII, Capsule, Pose, Vector


@dataclass(frozen=True, slots=True)
class Signer:
    """What stays the same over all of one signer's images."""

    scale: float
    thick: float
    bones: list[list[float]]
    left_handed: bool
    zoom: float
    offset: tuple[float, float]
    light: Vector
    tone: float
    gain: float
    noise: float
    turn: Vector
    background: Floats


def render(label: str, *, signer: int, frame: int, seed: int = 0, size: int = 96) -> npt.NDArray[np.uint8]:
    """Draws one picture; a pure function of its arguments.

    Args:
        label: One of `CLASSES`; "Nothing" is the background alone.
        signer: Whose hand, background, light and camera, 0 or more.
        frame: Time within the clip of (signer, label), 0 or more; neighbours are near duplicates but for the grain.
        seed: Another seed is another population of signers, 0 or more.
        size: Height and width in pixels, a multiple of 16.

    Returns:
        A uint8 array of shape (size, size), 0 black to 255 white.

    Raises:
        ValueError: For an unknown label, a negative number, or a size that is no positive multiple of 16.
    """
    if label not in CLASSES:
        raise ValueError(f"label {label!r} is not one of {', '.join(CLASSES)}")
    if min(signer, frame, seed) < 0:
        raise ValueError(f"signer, frame and seed must be 0 or more, not {signer}, {frame} and {seed}")
    if size < 16 or size % 16:
        raise ValueError(f"size must be a positive multiple of 16, not {size}")
    who, index = _signer(seed, signer, size), CLASSES.index(label)
    drift = clip_drift(random_stream(seed, 1, signer, index), frame)
    image = seen_part(who.background, size * OVERSAMPLE, drift)
    gain = who.gain * (1 + next(drift) * 0.05)
    if label in POSES:
        image = _over(image, who, POSES[label], drift)
    return photographed(image, gain, who.noise, random_stream(seed, 2, signer, index, frame))


@lru_cache(maxsize=8)
def _signer(seed: int, number: int, size: int) -> Signer:
    stream = random_stream(seed, 0, number)

    def normal(scale: float) -> float:
        return scale * float(stream.standard_normal())

    def uniform() -> float:
        return float(stream.random_sample())

    x, y, z = normal(0.5), 0.5 + normal(0.3), 1.0
    length = math.sqrt(x * x + y * y + z * z)
    return Signer(
        scale=1 + normal(0.05),
        thick=1 + normal(0.08),
        bones=[[bone * (1 + normal(0.04)) for bone in finger] for finger in BONES],
        left_handed=uniform() < 0.15,
        zoom=1.35 * (1 + normal(0.08)),
        offset=(normal(0.10), normal(0.10)),
        light=(x / length, y / length, z / length),
        tone=0.35 + 0.6 * uniform(),
        gain=0.8 + 0.4 * uniform(),
        noise=0.04 * uniform(),
        turn=(normal(8), normal(7), normal(5)),
        background=wall(stream, int(size * OVERSAMPLE * 1.2)),
    )


def _capsules(pose: Pose, who: Signer, drift: Iterator[float]) -> Iterator[Capsule]:
    """Every bone in the palm frame, before the signer's scale."""
    for i, ((knuckle, middle), spread) in enumerate(zip(pose.fingers, pose.spread, strict=True)):
        knuckle, middle = max(0, knuckle + next(drift) * 5), max(0, middle + next(drift) * 6)
        aside = math.radians(spread + next(drift) * 2)
        at: Vector = (*KNUCKLES[i], 0.0)
        yield (at[0] * 0.55, 0.08, -0.02), at, 0.152 * who.thick
        bend = 0.0
        for k, angle in enumerate((knuckle, middle, 0.6 * middle)):  # a finger's last joint follows its middle one
            bend += angle
            flexion, turn = math.radians(bend), aside * math.cos(math.radians(min(bend, 90)))
            length = who.bones[i][k]
            end = (
                at[0] + math.sin(turn) * math.cos(flexion) * length,
                at[1] + math.cos(turn) * math.cos(flexion) * length,
                at[2] + math.sin(flexion) * length,
            )
            yield at, end, RADII[i] * who.thick * (1 - 0.08 * k) * 0.965
            at = end
    yield from _thumb(tuple(v + next(drift) * 0.04 for v in pose.thumb), who.thick)
    for a, b, radius in PALM:
        yield a, b, radius * who.thick


def _thumb(tip: tuple[float, ...], thick: float) -> Iterator[Capsule]:
    """The first bone leads towards the target; two-bone inverse kinematics do the rest."""
    root, upper, lower = (0.30, 0.15, 0.05), 0.38, 0.34
    reach = math.dist(tip, root)
    lead = [t - r for t, r in zip(tip, root, strict=True)]
    first = (
        root[0] + 0.18 + 0.18 * lead[0] / reach,
        root[1] + 0.18 + 0.18 * lead[1] / reach,
        root[2] + 0.072 + 0.18 * lead[2] / reach,
    )
    reach = math.dist(tip, first)
    axis = [(t - f) / reach for t, f in zip(tip, first, strict=True)]
    reach = min(reach, upper + lower - 0.01)
    along = (upper * upper - lower * lower + reach * reach) / (2 * reach)
    pole = (0.8, 0.2, 0.5)  # the side to which the thumb's middle joint points
    lean = pole[0] * axis[0] + pole[1] * axis[1] + pole[2] * axis[2]
    side = [p - lean * x for p, x in zip(pole, axis, strict=True)]
    out = 0.6 * math.sqrt(max(1e-6, upper * upper - along * along)) / math.hypot(*side)
    elbow = (
        first[0] + axis[0] * along + side[0] * out,
        first[1] + axis[1] * along + side[1] * out,
        first[2] + axis[2] * along + side[2] * out,
    )
    end = (first[0] + axis[0] * reach, first[1] + axis[1] * reach, first[2] + axis[2] * reach)
    yield root, first, 0.16 * thick
    yield first, elbow, 0.1325 * thick
    yield elbow, end, 0.11 * thick


def _over(image: Floats, who: Signer, pose: Pose, drift: Iterator[float]) -> Floats:
    """The background with the hand before it, (s, s) like the background."""
    s = image.shape[0]
    yaw, pitch, roll = (
        math.radians(a + b + next(drift) * c) for a, b, c in zip(pose.turn, who.turn, (7, 6, 5), strict=True)
    )
    (sy, cy), (sp, cp), (sr, cr) = ((math.sin(v), math.cos(v)) for v in (yaw, pitch, roll))
    mirror = -1 if who.left_handed else 1

    def place(point: Vector) -> Vector:
        x, y, z = point[0] * who.scale, point[1] * who.scale - 0.75, point[2] * who.scale
        x, z = x * cy + z * sy, z * cy - x * sy
        y, z = y * cp - z * sp, y * sp + z * cp
        return (x * cr - y * sr) * mirror, x * sr + y * cr, z

    zoom = who.zoom * (1 + next(drift) * 0.06)
    right, up = (v + next(drift) * 0.09 for v in who.offset)
    line = np.linspace(-zoom, zoom, s)
    xs, ys = (line - right).astype(np.float32), (-line - up).astype(np.float32)
    depth, shade = np.full((s, s), FAR, np.float32), np.zeros((s, s), np.float32)
    for a, b, radius in _capsules(pose, who, drift):
        draw_capsule(place(a), place(b), radius * who.scale, xs, ys, who.light, depth, shade)
    return before(image, depth, shade, who.tone)
