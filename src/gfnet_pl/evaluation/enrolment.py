"""A new person shows each sign once, and is recognised better from then on: nothing is trained.

The features of a picture are compared with the person's own: score = log probability + `WEIGHT` x cosine with the mean
feature of the person's pictures of that class. A class that the person did not show counts as if it were as near as the
nearest one that he did, so that its probability stays and enrolment of few classes changes little. Without this, the
classes that were shown would draw all pictures to them: with a quarter of the classes missing, accuracy fell from 99.7
to 87 % (docs/enrolment.md).

Somebody whose pictures are likelier in a mirror is seen in one from then on: most nets know few left hands. A net that
reads these all the same finds them unfamiliar. By its probabilities alone a third of left-handers was missed.

Axes: N pictures, K classes, D features.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import softmax  # type: ignore[import-untyped]

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]
Images = npt.NDArray[np.uint8]
WEIGHT = 15.0  # by the log loss of validation people, each left out in turn: docs/enrolment.md
PICTURES = (0, 1, 2, 4)  # per class, of the curve
_LEAST = 1e-30  # a probability, so that its logarithm is finite
MIRRORED_FROM = math.log(9)  # how much likelier, in logarithms: a tenth of people sign with the left hand
LEAST_LIKELY = 1e-3  # a probability there, so that no picture under a wrong sign decides alone
_CLIP = re.compile(r"clip\d+")


class Seen(NamedTuple):
    """What a net says of N pictures.

    Attributes:
        shares: (N, K) calibrated probabilities.
        features: (N, D).
        distances: (N,) from what was learned, in standard deviations; None if that was not measured.
    """

    shares: Floats
    features: Floats
    distances: Floats | None = None

    @classmethod
    def of(cls, shares: Floats, features: Floats, distances: Floats | None, limit: float | None) -> "Seen":
        """Beyond the distance up to which a picture is familiar all are equally strange."""
        return cls(shares, features, distances if distances is None or limit is None else np.minimum(distances, limit))

    def at(self, places: Ints) -> "Seen":
        """The same of some of the pictures."""
        return Seen(*(None if each is None else each[places] for each in self))  # type: ignore[arg-type]

    def likely(self, labels: Ints) -> Floats:
        """(N,) how likely pictures of the (N,) classes look so: log probability, less the distance."""
        likely: Floats = np.log(np.maximum(self.shares[np.arange(len(labels)), labels], LEAST_LIKELY))
        return likely if self.distances is None else likely - self.distances


InMirror = Callable[[Ints], Seen]  # positions (M,) -> what the net says of the mirror images of the pictures there


@dataclass(frozen=True)
class Enrolment:
    """A person's own features.

    Attributes:
        means: (K, D) float32, mean features of length 1; zeros for a class that the person did not show.
        counts: (K,) number of pictures.
        mirrored: Whether the net is to see the person's pictures in a mirror, as it saw those for `means`.
    """

    means: npt.NDArray[np.float32]
    counts: Ints
    mirrored: bool = False

    @classmethod
    def of(cls, features: Floats, labels: Ints, classes: int, *, mirrored: bool = False) -> "Enrolment":
        """From the (N, D) features and (N,) labels of a person's pictures, of which there may be none."""
        sums, rows = np.zeros((classes, features.shape[1])), np.asarray(features, np.float64)
        np.add.at(sums, labels, rows)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        means = np.divide(sums, lengths, out=np.zeros_like(sums), where=lengths > 0)
        return cls(means.astype(np.float32), np.bincount(labels, minlength=classes), mirrored)

    def seen(self, pixels: Images) -> Images:
        """The person's pictures, (N, height, width) or (N, height, width, 3), as the net is to see them."""
        return mirror_images(pixels) if self.mirrored else pixels

    def probabilities(self, shares: Floats, features: Floats, weight: float = WEIGHT) -> npt.NDArray[np.float32]:
        """What the net's probabilities become.

        Args:
            shares: (N, K) calibrated probabilities.
            features: (N, D).
            weight: Of the cosines.
        """
        scores, shown = np.log(np.maximum(shares, _LEAST, dtype=np.float64)), self.counts > 0
        if shown.any():
            lengths = np.linalg.norm(features, axis=1, keepdims=True)
            cosines = (features / np.maximum(lengths, _LEAST)) @ self.means[shown].T.astype(np.float64)
            scores[:, shown] += weight * (cosines - cosines.max(1, keepdims=True))
        found: npt.NDArray[np.float32] = softmax(scores, axis=1).astype(np.float32)
        return found


def mirror_images(pixels: Images) -> Images:
    """The (N, height, width) or (N, height, width, 3) pictures in a mirror."""
    return np.ascontiguousarray(pixels[:, :, ::-1])


def better_mirrored(seen: Seen, in_mirror: Seen, labels: Ints) -> bool:
    """Whether a person's pictures of the (N,) classes are likelier in a mirror, by more than left hands are rare."""
    return bool((in_mirror.likely(labels) - seen.likely(labels)).sum() > MIRRORED_FROM)


class Trial(NamedTuple):
    """Which of a person's pictures are for enrolment, in their order, and which are to be recognised."""

    enrolled: Ints
    tested: Ints


class PersonCurve(NamedTuple):
    """How well a person is recognised after showing more pictures.

    Attributes:
        name: Of the person.
        shares: The share that is right, for each of `PICTURES` per class.
        images: Number of pictures that were to be recognised, over all trials.
        of_other_clips: Whether these are of other clips than those for enrolment.
    """

    name: str
    shares: list[float]
    images: int
    of_other_clips: bool


def trials(labels: Ints, clips: Sequence[str]) -> list[Trial]:
    """Two ways to part a person's pictures, the one the other way round: of each class, some to show and some to test.

    With clips, those of the first are shown and those of all others tested; then those of the last are shown. Without,
    or if there is only one, the first two thirds of each class are shown and the rest tested, then the last two thirds.

    Args:
        labels: (N,) of the person's pictures, in an order in which frames follow each other.
        clips: (N,) of which clip each is; "" where that is unknown.
    """
    names = sorted(set(clips))
    found = []
    for reverse in (False, True):
        places = np.arange(len(labels))[:: -1 if reverse else 1]
        if len(names) > 1:
            first = np.array([clips[place] == names[-1 if reverse else 0] for place in places])
        else:
            rank, seen = np.zeros(len(labels), int), dict[int, int]()
            for position, label in enumerate(labels[places].tolist()):
                rank[position] = seen[label] = seen.get(label, -1) + 1
            count = np.array([seen[label] + 1 for label in labels[places].tolist()], int)
            first = rank < (2 * count) // 3
        found.append(Trial(places[first], places[~first]))
    return found


def enrolment_curve(
    seen: Seen,
    labels: Ints,
    people: Sequence[str],
    clips: Sequence[str],
    *,
    mirrored: InMirror | None = None,
) -> list[PersonCurve]:
    """How well each person is recognised after showing `PICTURES` of each class. The tested pictures are the same.

    Args:
        seen: Of N pictures of people whom the net was not trained on.
        labels: (N,).
        people: (N,).
        clips: (N,) as for `trials`.
        mirrored: What the net says of the mirror images. It is asked for the first picture of each class that a person
            shows, by which it is decided here, and for all pictures of those who are seen in a mirror then. None:
            nobody is.

    Returns:
        The people by name. Those with nothing to show or to test are left out.
    """
    found = []
    for name in sorted(set(people)):
        mine = np.array([place for place, person in enumerate(people) if person == name])
        parts = trials(labels[mine], [clips[place] for place in mine])
        if not all(len(each) for part in parts for each in part):
            continue
        right, own, turned = np.zeros(len(PICTURES)), seen.at(mine), None
        for part in parts:
            first = _first(labels[mine], part.enrolled, 1)
            its = own
            if mirrored and better_mirrored(own.at(first), mirrored(mine[first]), labels[mine[first]]):
                its = turned = turned or mirrored(mine)
            for position, count in enumerate(PICTURES):
                shown = _first(labels[mine], part.enrolled, count)
                of = its if count else own
                enrolment = Enrolment.of(of.features[shown], labels[mine[shown]], seen.shares.shape[1])
                said = enrolment.probabilities(of.shares[part.tested], of.features[part.tested]).argmax(1)
                right[position] += (said == labels[mine[part.tested]]).sum()
        images = sum(len(part.tested) for part in parts)
        of_clips = len({clips[place] for place in mine}) > 1
        found.append(PersonCurve(name, (right / images).tolist(), images, of_clips))
    return found


def _first(labels: Ints, places: Ints, count: int) -> Ints:
    """The first `count` of the places of each class."""
    kept: list[int] = []
    seen: dict[int, int] = {}
    for place in places.tolist():
        label = int(labels[place])
        seen[label] = seen.get(label, 0) + 1
        if seen[label] <= count:
            kept.append(place)
    return np.array(kept, np.int64)


def clips_in(paths: Sequence[str]) -> list[str]:
    """Which clip each picture is of, by the word "clip" with a number in its path: "clip2"; "" where there is none."""
    return [found[0] if (found := _CLIP.search(path)) else "" for path in paths]
