"""Draws one finger-spelled letter of version 2: a signer's hand, sleeve and arm in one of his clips.

A clip has its wall, light and distance; hand and habits are the signer's. The same arguments give the same picture on
every machine, within one grey level, as in version 1.
"""

import math
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
from gfnet_pl.hand_signs.letters import LETTERS, Letter, changed, frame_of, hand
from gfnet_pl.hand_signs.people import Signer, signer
from gfnet_pl.hand_signs.poses import CLASSES, Vector

LIT = 0.82  # mean brightness of a hand, by that of its skin
VIEW = 1.45  # half of the picture's side in units of the palm, at the usual distance
NEARER = 0.1
ARM = 1.7  # length of the forearm, which leaves the picture


@dataclass(frozen=True, slots=True)
class Clip:
    """What stays the same over one of a signer's clips.

    Attributes:
        wall: Grey levels of what is behind the hand.
        level: Their mean, 0 to 1.
        light: Where the light comes from, of length 1.
        distance: Of the camera, 1 for the usual one.
        offset: Of the hand from the middle, in units of the palm.
        gain: Of the camera.
        noise: Standard deviation of its grain.
        sleeve: How light the sleeve is.
        lean: Degrees (turn, nod, tilt) of the hand, the same in all clips of a signer.
    """

    wall: Floats
    level: float
    light: Vector
    distance: float
    offset: tuple[float, float]
    gain: float
    noise: float
    sleeve: float
    lean: Vector

    @property
    def told(self) -> dict[str, object]:
        """What `signers.json` says of it."""
        told = {key: getattr(self, key) for key in ("level", "light", "distance", "gain", "noise", "sleeve", "lean")}
        return {
            key: [round(v, 3) for v in value] if isinstance(value, tuple) else round(float(value), 3)
            for key, value in told.items()
        }


@lru_cache(maxsize=8)
def clip_of(seed: int, number: int, clip: int, size: int) -> Clip:
    """A clip of a signer, from 1: odd ones and even ones have the wall on the other side of the skin, if they can."""
    who = signer(seed, number)
    own, stream = random_stream(seed, 4, number), random_stream(seed, 5, number, clip)
    lighter, sides = own.random_sample() < 0.5, own.choice([-1, 1], 3).tolist()
    lightness = LIT * who.skin
    places = [lightness + who.contrast, lightness - who.contrast]
    able = [0.08 <= place <= 0.92 for place in places]
    wanted = (clip % 2 == 1) == lighter
    level = places[0 if (wanted or not able[1]) and able[0] else 1]
    behind = wall(stream, int(size * OVERSAMPLE * 1.2))
    behind = ((behind - behind.mean()) * np.float32(0.7) + np.float32(level)).clip(0.02, 0.98)
    behind.flags.writeable = False
    angle = math.pi * (0.5 + (0.45 if clip % 2 else -0.45) * sides[2] * float(stream.random_sample()))
    x, y, z = 0.7 * math.cos(angle), 0.6 * math.sin(angle), 1.0
    length = math.sqrt(x * x + y * y + z * z)
    return Clip(
        wall=behind,
        level=level,
        light=(x / length, y / length, z / length),
        distance=who.distance * (1 + NEARER * sides[1] * (1 if clip % 2 else -1)),
        offset=(float(stream.normal(0, 0.10)), float(stream.normal(0, 0.08))),
        gain=float(stream.uniform(0.85, 1.1)),
        noise=float(stream.uniform(0.005, 0.04)),
        sleeve=float(own.uniform(0.05, 0.9)),
        lean=(who.turn * sides[0], float(own.normal(0, 6)), who.tilt * (1 if own.random_sample() < 0.5 else -1)),
    )


def render(label: str, *, number: int, clip: int, frame: int, seed: int = 0, size: int = 96) -> npt.NDArray[np.uint8]:
    """Draws one picture; a pure function of its arguments.

    Args:
        label: One of `CLASSES`; "Nothing" is the wall alone.
        number: As for `people.signer`.
        clip: Of this signer, 1 or more.
        frame: Time within the clip of (signer, label), 0 or more; neighbours are near duplicates but for the grain.
        seed: Another seed is another population of signers, 0 or more.
        size: Height and width in pixels, a multiple of 16.

    Returns:
        A uint8 array of shape (size, size), 0 black to 255 white.

    Raises:
        ValueError: For an unknown label, or a number out of range.
    """
    if label not in CLASSES:
        raise ValueError(f"label {label!r} is not one of {', '.join(CLASSES)}")
    if min(number, frame, seed) < 0 or clip < 1 or size < 16 or size % 16:
        raise ValueError(f"out of range: {number=}, {clip=}, {frame=}, {seed=}, {size=}")
    who, where, index = signer(seed, number), clip_of(seed, number, clip, size), CLASSES.index(label)
    drift = clip_drift(random_stream(seed, 6, number, clip, index), frame)
    image = seen_part(where.wall, size * OVERSAMPLE, drift)
    gain = where.gain * (1 + next(drift) * 0.04)
    if label in LETTERS:
        own = random_stream(seed, 7, number, index)  # how this signer forms this letter, in all clips
        letter = changed(LETTERS[label], who.loose, own.standard_normal)
        image = _over(image, who, where, letter, [next(drift) for _ in range(21)])
    return photographed(image, gain, where.noise, random_stream(seed, 8, number, clip, index, frame))


def _over(image: Floats, who: Signer, where: Clip, letter: Letter, moved: list[float]) -> Floats:
    """The wall with the hand before it, (s, s); `moved` is how far this frame is from the clip's mean."""
    s = image.shape[0]
    letter = Letter(
        fingers=tuple(
            (k + 3 * moved[2 * i], max(0.0, m + 3 * moved[2 * i + 1])) for i, (k, m) in enumerate(letter.fingers)
        ),
        thumb=tuple(v + 0.02 * m for v, m in zip(letter.thumb, moved[8:11], strict=True)),  # type: ignore[arg-type]
        spread=tuple(v + m for v, m in zip(letter.spread, moved[11:15], strict=True)),
        along=letter.along,
        palm=letter.palm,
        arm=letter.arm,
    )
    x, y, z = frame_of(letter)
    yaw, pitch, roll = (math.radians(a + 4 * m) for a, m in zip(where.lean, moved[15:18], strict=True))
    (sy, cy), (sp, cp), (sr, cr) = ((math.sin(v), math.cos(v)) for v in (yaw, pitch, roll))
    mirror = -1 if who.hand == "left" else 1

    def leaning(v: Vector) -> Vector:
        a, c = v[0] * cy + v[2] * sy, v[2] * cy - v[0] * sy
        b, c = v[1] * cp - c * sp, v[1] * sp + c * cp
        return (a * cr - b * sr) * mirror, a * sr + b * cr, c

    x, y, z = leaning(x), leaning(y), leaning(z)
    arm = leaning(letter.arm)

    def place(p: Vector) -> Vector:  # the middle of an open hand is the picture's
        a, b, c = p[0], p[1] - 0.9, p[2]
        return (
            x[0] * a + y[0] * b + z[0] * c,
            x[1] * a + y[1] * b + z[1] * c,
            x[2] * a + y[2] * b + z[2] * c,
        )

    view = VIEW * where.distance * (1 + moved[18] * 0.04)
    right, up = (a + m * 0.06 for a, m in zip(where.offset, moved[19:21], strict=True))
    line = np.linspace(-view, view, s)
    xs, ys = (line - right).astype(np.float32), (-line - up).astype(np.float32)
    depth, shade = np.full((s, s), FAR, np.float32), np.zeros((s, s), np.float32)
    for a, b, radius, taper in hand(letter, finger_length=who.finger_length, stoutness=who.stoutness):
        draw_capsule(place(a), place(b), radius, xs, ys, where.light, depth, shade, taper=taper)

    def on_arm(aside: float, along: float) -> Vector:
        wrist = place((aside, 0.02, -0.02))
        return (wrist[0] + arm[0] * along, wrist[1] + arm[1] * along, wrist[2] + arm[2] * along)

    for aside in (0.07, -0.07):  # radius and ulna: a forearm is broader than thick
        a, b = on_arm(aside, 0), on_arm(aside * 1.5, ARM)
        draw_capsule(a, b, 0.195 * who.stoutness, xs, ys, where.light, depth, shade)
    bare = depth.copy()
    if who.sleeve > 0.05:
        begins = 0.15 + 0.9 * (1 - who.sleeve)
        for aside in (0.10, -0.10):
            a, b = on_arm(aside * 1.2, begins), on_arm(aside * 1.8, ARM)
            draw_capsule(a, b, 0.26 * who.stoutness, xs, ys, where.light, depth, shade)
    tone = np.where(depth > bare, np.float32(where.sleeve), np.float32(who.skin))
    return before(image, depth, shade, tone)
