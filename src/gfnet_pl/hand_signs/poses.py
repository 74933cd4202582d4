"""The letters as poses of a hand: how far each finger bends, where the thumb's tip is, how the hand is turned.

Palm frame: x towards the thumb, y along the fingers, z out of the palm towards the camera; one unit is about a palm's
length. Angles are degrees. J and Z are single frames, without their motion.
"""

import string
from dataclasses import dataclass

CLASSES: tuple[str, ...] = (*string.ascii_uppercase, "Nothing", "Space")

Vector = tuple[float, float, float]
Capsule = tuple[Vector, Vector, float]


@dataclass(frozen=True, slots=True)
class Pose:
    """Flexion of (knuckle, middle joint) for index to little finger, the place of the thumb's tip, the hand's turn."""

    fingers: tuple[tuple[float, float], ...]
    thumb: Vector
    spread: tuple[float, float, float, float] = (0, 0, 0, 0)
    turn: Vector = (0, 0, 0)  # yaw, pitch, roll


STRAIGHT, FIST, CURVE, HOOK, ROUND, CLAW = (0, 0), (85, 100), (35, 55), (20, 95), (55, 60), (60, 110)
FORWARD, OVER, DEEP = (45, 5), (80, 80), (75, 85)
CLOSED_THUMB = (0.05, 0.80, 0.55)
POSES = {
    "A": Pose((FIST, FIST, FIST, FIST), (0.62, 1.15, 0.25)),
    "B": Pose((STRAIGHT, STRAIGHT, STRAIGHT, STRAIGHT), (-0.10, 0.60, 0.35)),
    "C": Pose((CURVE, CURVE, CURVE, CURVE), (0.55, 0.65, 0.75), turn=(55, 0, 0)),
    "D": Pose((STRAIGHT, ROUND, ROUND, ROUND), (0.10, 0.95, 0.75), turn=(25, 0, 0)),
    "E": Pose((CLAW, CLAW, CLAW, CLAW), (-0.15, 0.55, 0.50)),
    "F": Pose((ROUND, STRAIGHT, STRAIGHT, STRAIGHT), (0.33, 1.0, 0.75), spread=(0, 4, -4, -12)),
    "G": Pose((STRAIGHT, FIST, FIST, FIST), (0.45, 1.25, 0.45), turn=(0, 0, 80)),
    "H": Pose((STRAIGHT, STRAIGHT, FIST, FIST), (0.05, 0.75, 0.50), turn=(0, 0, 80)),
    "I": Pose((FIST, FIST, FIST, STRAIGHT), CLOSED_THUMB),
    "J": Pose((FIST, FIST, FIST, STRAIGHT), CLOSED_THUMB, turn=(35, 0, -40)),
    "K": Pose((STRAIGHT, FORWARD, FIST, FIST), (0.18, 1.25, 0.45), spread=(6, -4, 0, 0)),
    "L": Pose((STRAIGHT, FIST, FIST, FIST), (1.25, 0.75, 0.10)),
    "M": Pose((OVER, OVER, OVER, FIST), (-0.30, 0.80, 0.28)),
    "N": Pose((OVER, OVER, FIST, FIST), (-0.02, 0.85, 0.28)),
    "O": Pose((ROUND, ROUND, ROUND, ROUND), (0.25, 0.95, 0.80), turn=(35, 0, 0)),
    "P": Pose((STRAIGHT, FORWARD, FIST, FIST), (0.18, 1.25, 0.45), spread=(6, -4, 0, 0), turn=(20, -20, 150)),
    "Q": Pose((STRAIGHT, FIST, FIST, FIST), (0.45, 1.25, 0.45), turn=(0, -10, 170)),
    "R": Pose((STRAIGHT, (8, 0), FIST, FIST), CLOSED_THUMB, spread=(-7, 9, 0, 0)),
    "S": Pose((FIST, FIST, FIST, FIST), (-0.02, 0.85, 0.62)),
    "T": Pose((DEEP, FIST, FIST, FIST), (0.20, 1.15, 0.42)),
    "U": Pose((STRAIGHT, STRAIGHT, FIST, FIST), CLOSED_THUMB, spread=(-1, 1, 0, 0)),
    "V": Pose((STRAIGHT, STRAIGHT, FIST, FIST), CLOSED_THUMB, spread=(11, -9, 0, 0)),
    "W": Pose((STRAIGHT, STRAIGHT, STRAIGHT, FIST), (-0.25, 0.80, 0.50), spread=(12, 0, -12, 0)),
    "X": Pose((HOOK, FIST, FIST, FIST), CLOSED_THUMB),
    "Y": Pose((FIST, FIST, FIST, STRAIGHT), (1.25, 0.85, 0.10), spread=(0, 0, 0, -18)),
    "Z": Pose((STRAIGHT, FIST, FIST, FIST), CLOSED_THUMB, turn=(0, 0, 25)),
    "Space": Pose(((15, 10),) * 4, (1.1, 0.9, 0.25), spread=(8, 2, -4, -12), turn=(0, -35, 0)),
}
KNUCKLES = ((0.36, 1.00), (0.12, 1.06), (-0.12, 1.00), (-0.34, 0.88))
BONES = ((0.46, 0.28, 0.22), (0.50, 0.32, 0.23), (0.46, 0.30, 0.22), (0.36, 0.22, 0.19))
RADII = (0.115, 0.12, 0.112, 0.098)
PALM: tuple[Capsule, ...] = (
    ((0.20, 0.20, 0.00), (-0.20, 0.20, 0.00), 0.200),
    ((0.18, 0.65, -0.02), (-0.18, 0.60, -0.02), 0.195),
    ((0.00, 0.10, -0.02), (0.00, -1.60, -0.05), 0.255),  # the forearm
)
