"""The people of version 2: in which ways signers differ, written down, and drawn so that few of them cover each range.

Each property is drawn by a Latin hypercube over every 16 signers: each sixteenth of its range has one of them, in an
order of its own. So the ranges are covered by the 16 of dev and by the 16 of unseen, and no signer depends on how many
others there are.
"""

from dataclasses import dataclass, fields
from functools import lru_cache

from gfnet_pl.hand_signs.capsules import random_stream

TOGETHER = 16  # signers that cover each range
DEV, UNSEEN = 1000, 2000  # the first numbers of these sets; training's is 0
LEFT_HANDERS = 0.1

RANGES: dict[str, tuple[float, float]] = {
    "skin": (0.3, 0.9),
    "contrast": (0.06, 0.42),
    "finger_length": (0.88, 1.12),
    "stoutness": (0.85, 1.2),
    "sleeve": (0.0, 1.0),
    "distance": (0.86, 1.22),
    "tilt": (0.0, 25.0),
    "turn": (0.0, 25.0),
    "loose": (0.0, 1.0),
}


@dataclass(frozen=True, slots=True)
class Signer:
    """The ways in which people differ, as `signers.csv` has them. `RANGES` has the range of each number.

    Attributes:
        hand: "left" or "right"; a tenth sign with the left hand.
        skin: How light the skin is, 0 black to 1 white.
        contrast: How far the wall behind is from the skin in lightness, darker or lighter.
        finger_length: Length of the fingers by that of the palm, 1 for the usual hand.
        stoutness: Thickness of fingers and palm, 1 for the usual hand.
        sleeve: How much of the forearm in the picture is covered, 1 up to the wrist.
        distance: Of the camera, 1 for the usual one; a clip's own is 10 % nearer or farther.
        tilt: Degrees by which the hand leans to a side.
        turn: Degrees by which it is turned from the camera.
        loose: How far the letters are from their textbook form, 0 to 1.
    """

    hand: str
    skin: float
    contrast: float
    finger_length: float
    stoutness: float
    sleeve: float
    distance: float
    tilt: float
    turn: float
    loose: float


PROPERTIES: tuple[str, ...] = tuple(field.name for field in fields(Signer))


@lru_cache(maxsize=1024)
def signer(seed: int, number: int) -> Signer:
    """A signer; a pure function of its arguments.

    Args:
        seed: Another seed is another population.
        number: From 0 in training, from `DEV` and `UNSEEN` in these sets.
    """
    of_set, place = divmod(number, DEV)
    block, member = divmod(place, TOGETHER)
    stream = random_stream(seed, 3, of_set, block)
    shares = {}
    for name in ("hand", *RANGES):
        order, within = stream.permutation(TOGETHER), stream.random_sample(TOGETHER)
        shares[name] = (float(order[member]) + float(within[member])) / TOGETHER
    values = {name: round(low + (high - low) * shares[name], 3) for name, (low, high) in RANGES.items()}
    return Signer(hand="left" if shares["hand"] >= 1 - LEFT_HANDERS else "right", **values)
