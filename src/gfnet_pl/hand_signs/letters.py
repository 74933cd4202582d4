"""The letters of version 2: how the hand is formed, held, and where its arm comes from; and the bones that follow.

Palm frame as in `poses`: x towards the thumb, y along the fingers, z out of the palm, the wrist at 0, one unit from the
wrist to the knuckles (about 9 cm). Proportions are those of adults' hands (Buryanov and Kotiuk, "Proportions of hand
segments", 2010): middle finger 1.05, index 0.93, ring 0.98, little finger 0.76 from the knuckle, palm 0.9 wide.
Directions of a letter are in the camera's frame: x to the right, y up, z towards the camera, for a right hand.
J and Z are single frames, without their motion.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from gfnet_pl.hand_signs.poses import Vector

Bone = tuple[Vector, Vector, float, float]  # its ends, its radius at the first, and by how much it is less at the other

UP, TO_CAMERA, FROM_CAMERA = (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, -1.0)
BELOW = (-0.12, -1.0, -0.15)  # where an arm comes from


@dataclass(frozen=True, slots=True)
class Letter:
    """One letter of a right hand.

    Attributes:
        fingers: Flexion in degrees of (knuckle, middle joint), index to little finger.
        thumb: Where the thumb's tip is, in the palm frame.
        spread: Degrees of each finger towards the thumb.
        along: Where the fingers of a flat hand would point.
        palm: Where the palm looks.
        arm: Where the forearm comes from, as seen from the wrist.
    """

    fingers: tuple[tuple[float, float], ...]
    thumb: Vector
    spread: tuple[float, ...] = (1.0, 0.0, 0.0, -1.0)
    along: Vector = UP
    palm: Vector = TO_CAMERA
    arm: Vector = BELOW


STRAIGHT, FIST, CURVE, HOOK, ROUND, CLAW = (0, 0), (86, 102), (30, 50), (25, 95), (60, 60), (50, 108)
CIRCLE, FORWARD, OVER, DEEP = (68, 62), (48, 8), (68, 80), (75, 80)
ACROSS = (-0.02, 0.80, 0.66)  # the thumb over the closed fingers
SIDEWAYS = {"along": (1.0, 0.12, 0.1), "palm": (0.25, 0.0, -1.0), "arm": (-0.9, -0.5, -0.15)}
LETTERS = {
    "A": Letter((FIST, FIST, FIST, FIST), (0.56, 1.08, 0.22)),
    "B": Letter((STRAIGHT, STRAIGHT, STRAIGHT, STRAIGHT), (-0.05, 0.62, 0.26)),
    "C": Letter((CURVE, CURVE, CURVE, CURVE), (0.62, 0.62, 0.72), palm=(0.75, 0.0, 0.66)),
    "D": Letter((STRAIGHT, CIRCLE, CIRCLE, CIRCLE), (0.17, 0.70, 0.64), palm=(0.4, 0.0, 0.9)),
    "E": Letter((CLAW, CLAW, CLAW, CLAW), (-0.16, 0.72, 0.41)),
    "F": Letter((ROUND, STRAIGHT, STRAIGHT, STRAIGHT), (0.33, 0.78, 0.71), spread=(0, 6, -6, -16)),
    "G": Letter((STRAIGHT, FIST, FIST, FIST), (0.50, 1.10, 0.28), **SIDEWAYS),
    "H": Letter((STRAIGHT, STRAIGHT, FIST, FIST), (0.02, 0.82, 0.60), **SIDEWAYS),
    "I": Letter((FIST, FIST, FIST, STRAIGHT), ACROSS, spread=(1, 0, 0, -6)),
    "J": Letter(
        (FIST, FIST, FIST, STRAIGHT), ACROSS, spread=(1, 0, 0, -6), along=(0.55, 0.8, 0.2), palm=(0.8, -0.5, 0)
    ),
    "K": Letter((STRAIGHT, FORWARD, FIST, FIST), (0.30, 1.10, 0.34), spread=(6, -6, 0, 0), palm=(0.3, 0, 0.95)),
    "L": Letter((STRAIGHT, FIST, FIST, FIST), (1.16, 0.60, 0.12)),
    "M": Letter((OVER, OVER, OVER, FIST), (-0.21, 0.84, 0.20)),
    "N": Letter((OVER, OVER, FIST, FIST), (0.0, 0.88, 0.21)),
    "O": Letter((ROUND, ROUND, ROUND, ROUND), (0.27, 0.78, 0.71), palm=(0.6, 0.0, 0.8)),
    "P": Letter(
        (STRAIGHT, FORWARD, FIST, FIST),
        (0.30, 1.10, 0.34),
        spread=(6, -6, 0, 0),
        along=(0.85, -0.45, 0.3),
        palm=(-0.45, -0.85, 0.1),
        arm=(-0.75, -0.55, -0.3),
    ),
    "Q": Letter(
        (STRAIGHT, FIST, FIST, FIST),
        (0.50, 1.10, 0.28),
        along=(0.3, -1.0, 0.15),
        palm=(0.3, 0.0, -1.0),
        arm=(-0.95, 0.05, -0.3),
    ),
    "R": Letter(((16, 6), (-8, 0), FIST, FIST), ACROSS, spread=(-12, 14, 0, 0)),
    "S": Letter((FIST, FIST, FIST, FIST), (-0.06, 0.80, 0.68)),
    "T": Letter((DEEP, FIST, FIST, FIST), (0.21, 1.02, 0.46), spread=(20, -4, -2, -2)),
    "U": Letter((STRAIGHT, STRAIGHT, FIST, FIST), ACROSS),
    "V": Letter((STRAIGHT, STRAIGHT, FIST, FIST), ACROSS, spread=(14, -12, 0, 0)),
    "W": Letter((STRAIGHT, STRAIGHT, STRAIGHT, FIST), (-0.22, 0.74, 0.62), spread=(14, 0, -14, 0)),
    "X": Letter((HOOK, FIST, FIST, FIST), ACROSS, palm=(0.35, 0, 0.93)),
    "Y": Letter((FIST, FIST, FIST, STRAIGHT), (1.16, 0.66, 0.12), spread=(0, 0, 0, -20)),
    "Z": Letter((STRAIGHT, FIST, FIST, FIST), ACROSS, along=(-0.35, 0.8, 0.5)),
    "Space": Letter(((12, 10),) * 4, (1.05, 0.80, 0.2), spread=(10, 3, -5, -14), along=(0.1, 0.75, 0.65)),
}

KNUCKLES = ((0.31, 0.97, 0.0), (0.10, 1.02, 0.02), (-0.11, 0.97, 0.01), (-0.30, 0.87, -0.02))
LENGTHS = ((0.42, 0.25, 0.17), (0.47, 0.29, 0.19), (0.44, 0.27, 0.19), (0.34, 0.19, 0.16))
RADII = (  # at the knuckle, the two joints and the tip
    (0.108, 0.096, 0.088, 0.075),
    (0.110, 0.098, 0.090, 0.077),
    (0.104, 0.094, 0.086, 0.074),
    (0.092, 0.082, 0.075, 0.064),
)
LAST = 0.6  # of the middle joint's flexion is the last joint's

THUMB_ROOT, THUMB = (0.22, 0.12, 0.06), (0.46, 0.36, 0.26)
THUMB_RADII = (0.150, 0.118, 0.102, 0.082)
PALM: tuple[Bone, ...] = (
    ((-0.19, 0.16, 0.03), (-0.27, 0.52, -0.01), 0.150, 0.02),  # the pad below the little finger
    ((0.24, 0.80, 0.00), (-0.22, 0.72, 0.00), 0.130, 0.0),  # the pads below the fingers
    ((0.16, 0.58, -0.03), (-0.18, 0.53, -0.03), 0.165, 0.0),
    ((0.15, 0.40, -0.03), (-0.16, 0.36, -0.03), 0.170, 0.0),
    ((0.14, 0.22, -0.02), (-0.13, 0.20, -0.02), 0.180, 0.0),
    ((0.11, 0.06, -0.02), (-0.11, 0.06, -0.02), 0.185, 0.0),  # the wrist
)


def hand(letter: Letter, *, finger_length: float = 1, stoutness: float = 1) -> Iterator[Bone]:
    """The bones of a hand without its forearm, in the palm frame."""
    for i, ((knuckle, middle), spread) in enumerate(zip(letter.fingers, letter.spread, strict=True)):
        at: Vector = KNUCKLES[i]
        radii = [radius * stoutness for radius in RADII[i]]
        yield (at[0] * 0.5, 0.10, -0.05), (at[0], at[1] - 0.03, at[2] - 0.04), 0.175 * stoutness, 0.04 * stoutness
        bend, aside = 0.0, math.radians(spread)
        for k, angle in enumerate((knuckle, middle, LAST * middle)):
            bend += angle
            flexion, turn = math.radians(bend), aside * math.cos(math.radians(max(0, min(bend, 60))))
            length = LENGTHS[i][k] * finger_length
            end = (
                at[0] + math.sin(turn) * math.cos(flexion) * length,
                at[1] + math.cos(turn) * math.cos(flexion) * length,
                at[2] + math.sin(flexion) * length,
            )
            yield at, end, radii[k], radii[k] - radii[k + 1]
            at = end
    yield from _thumb(letter.thumb, finger_length, stoutness)
    for a, b, radius, taper in PALM:
        yield a, b, radius * stoutness, taper * stoutness


def _thumb(tip: Vector, length: float, stoutness: float) -> Iterator[Bone]:
    """The first bone leads towards the tip, between rest and there; two-bone inverse kinematics do the rest."""
    lead = _unit(tuple(t - r for t, r in zip(tip, THUMB_ROOT, strict=True)))
    rest = (0.76, 0.58, 0.29)
    first_bone = _unit(tuple(a + b for a, b in zip(lead, rest, strict=True)))
    first = _ahead(THUMB_ROOT, first_bone, THUMB[0])
    upper, lower = THUMB[1] * length, THUMB[2] * length
    axis = _unit(tuple(t - f for t, f in zip(tip, first, strict=True)))
    reach = min(math.dist(tip, first), upper + lower - 0.005)
    along = (upper * upper - lower * lower + reach * reach) / (2 * reach)
    pole = (0.8, 0.2, 0.5)  # the side to which the thumb's last joint points
    lean = sum(p * x for p, x in zip(pole, axis, strict=True))
    side = _unit(tuple(p - lean * x for p, x in zip(pole, axis, strict=True)))
    joint = _ahead(_ahead(first, axis, along), side, math.sqrt(max(0, upper * upper - along * along)))
    end = _ahead(first, axis, reach)
    at = (THUMB_ROOT, first, joint, end)
    yield _ahead(THUMB_ROOT, first_bone, 0.6 * THUMB[0]), (0.20, 0.56, -0.04), 0.135 * stoutness, 0.0  # the web
    for k in range(3):
        wide, narrow = THUMB_RADII[k] * stoutness, THUMB_RADII[k + 1] * stoutness
        yield at[k], at[k + 1], wide, wide - narrow


def _unit(v: tuple[float, ...]) -> Vector:
    length = math.hypot(*v)
    return (v[0] / length, v[1] / length, v[2] / length)


def _ahead(at: Vector, direction: Vector, length: float) -> Vector:
    return (at[0] + direction[0] * length, at[1] + direction[1] * length, at[2] + direction[2] * length)


def frame_of(letter: Letter) -> tuple[Vector, Vector, Vector]:
    """The camera-frame directions of the palm frame's x, y and z."""
    y = _unit(letter.along)
    lean = sum(a * b for a, b in zip(letter.palm, y, strict=True))
    z = _unit(tuple(a - lean * b for a, b in zip(letter.palm, y, strict=True)))
    x = (y[1] * z[2] - y[2] * z[1], y[2] * z[0] - y[0] * z[2], y[0] * z[1] - y[1] * z[0])
    return x, y, z


def changed(letter: Letter, loose: float, normal: Callable[[], float]) -> Letter:
    """A letter as somebody forms it: joints, spread and thumb off by chance, and nearer to a hand at rest.

    Args:
        letter: The textbook's.
        loose: How far from it, 0 to 1.
        normal: Draws from the standard normal distribution.
    """
    fingers = []
    for knuckle, middle in letter.fingers:
        # A finger at rest is bent by 25 and 35 degrees: straight ones bend a little, closed ones open a little.
        ease = 0.16 * loose
        knuckle += ease * (25 - knuckle) + normal() * (2 + 4 * loose)
        middle += ease * (35 - middle) + normal() * (2 + 5 * loose)
        fingers.append((knuckle, max(0.0, middle)))
    return replace(
        letter,
        fingers=tuple(fingers),
        spread=tuple(angle + normal() * (1 + 2 * loose) for angle in letter.spread),
        thumb=tuple(v + normal() * (0.015 + 0.03 * loose) for v in letter.thumb),  # type: ignore[arg-type]
    )
