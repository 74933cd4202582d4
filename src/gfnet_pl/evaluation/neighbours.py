"""Which pictures are alike: the nearest ones of each picture, by its pixels or by the net's features of it.

What the nearest pictures of a picture show is a vote that owes nothing to the net's last layer; from pixels it owes
nothing to the net at all. Pictures of the same group (a signer, a video) have no vote: frames of one video are near
duplicates, and would hide that their class overlaps with another.

Axes: N pictures.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_SPARE = 30  # dimensions that the search for principal components keeps beyond those asked for, and its rounds: of
_ROUNDS = 4  # 2,000 pictures of 96 x 96, 99.7 % of the ten nearest are then those of the exact 50 components
_CHUNK = 500  # pictures whose distances to all others are in memory at once: 24 MB for 6,000


@dataclass(frozen=True)
class Neighbours:
    """What the nearest pictures of each picture show.

    Attributes:
        votes: (N, classes) how many of them are of each class; all 0 where a picture has none.
        matrix: (classes, classes) for pictures of class a the share of their neighbours that is of class b, each
            picture counting alike. Rows sum to 1; NaN for a class without pictures, or whose pictures have no
            neighbours.
        accuracy: Share of the pictures whose commonest neighbour is of their class; None where none has neighbours.
    """

    votes: Ints
    matrix: Floats
    accuracy: float | None


def principal_components(rows: npt.ArrayLike, components: int) -> npt.NDArray[np.float32]:
    """Projects rows on the directions in which they differ most, by randomised subspace iteration.

    Halko, Martinsson and Tropp, "Finding structure with randomness", SIAM Review 2011, algorithm 4.4, from a fixed
    start: the same rows always give the same numbers. The largest weight of each direction is positive.

    Args:
        rows: (N, D).
        components: How many directions; there are no more than N or D.

    Returns:
        (N, min(components, N, D)), centred, in the order of falling variance.
    """
    rows = np.array(rows, np.float32)  # a copy
    if not rows.size:
        return np.zeros((len(rows), 0), np.float32)
    rows -= rows.mean(0)
    count = min(components, *rows.shape)
    width = min(count + _SPARE, *rows.shape)
    basis = np.random.default_rng(0).standard_normal((rows.shape[1], width), np.float32)
    for _ in range(_ROUNDS):
        basis = np.linalg.qr(rows.T @ np.linalg.qr(rows @ basis).Q).Q  # (D, width)
    inside = rows @ basis  # (N, width)
    turn = np.linalg.svd(inside, full_matrices=False).Vh[:count].T  # (width, count)
    directions = basis @ turn  # (D, count)
    largest = np.take_along_axis(directions, np.abs(directions).argmax(0)[None], 0)[0]
    projected: npt.NDArray[np.float32] = inside @ turn * np.where(largest < 0, np.float32(-1), np.float32(1))
    return projected


def pixel_space(images: npt.NDArray[np.uint8], components: int = 50) -> npt.NDArray[np.float32]:
    """Describes pictures by the principal components of their pixels, each picture at mean 0 and standard deviation 1.

    A picture's own brightness and contrast say how it was taken and not what it shows: without them the vote of the
    nearest pictures is right more often.

    Args:
        images: (N, H, W) grey levels.
        components: At most so many numbers a picture.

    Returns:
        (N, min(components, N, H * W)).
    """
    rows = images.reshape(len(images), math.prod(images.shape[1:])).astype(np.float32)
    rows -= rows.mean(1, keepdims=True)
    rows /= rows.std(1, keepdims=True).clip(min=1)  # at least one grey level: a blank picture has no contrast
    return principal_components(rows, components)


def nearest(points: npt.ArrayLike, k: int, groups: Sequence[str] | None = None) -> tuple[Ints, Floats]:
    """Finds the k nearest other points of each point by Euclidean distance, none of its own group.

    Args:
        points: (N, D).
        k: How many.
        groups: (N,) names; "" is a group of its own, as is every point where no groups are given.

    Returns:
        (N, k) positions, nearest first, -1 where there are no more points outside of the group; and (N, k) distances,
        infinite there.

    Raises:
        ValueError: A point is not finite.
    """
    points = np.array(points, np.float64)
    if not np.isfinite(points).all():
        first = np.flatnonzero(~np.isfinite(points).all(1))[0]
        raise ValueError(f"point {first} is not finite: it has no distance to others")
    group_of = np.arange(len(points))
    if groups is not None:
        names, numbers = np.unique(np.asarray(groups, np.str_), return_inverse=True)
        group_of = np.where(names[numbers] == "", len(names) + group_of, numbers)
    if len(points):
        points -= points.mean(0)  # differences of smaller squares lose fewer bits
    squares = np.square(points).sum(1)
    places = np.full((len(points), k), -1)
    distances = np.full((len(points), k), np.inf)
    found = min(k, len(points))
    for start in range(0, len(points), _CHUNK):
        part = slice(start, start + _CHUNK)
        squared = squares[part, None] + squares - 2 * points[part] @ points.T  # (chunk, N)
        squared[group_of[part, None] == group_of] = np.inf
        close = np.sort(np.argpartition(squared, found - 1, axis=1)[:, :found])
        values = np.take_along_axis(squared, close, 1)
        order = np.argsort(values, axis=1, kind="stable")  # of equally near ones the first comes first
        places[part, :found] = np.take_along_axis(close, order, 1)
        distances[part, :found] = np.sqrt(np.take_along_axis(values, order, 1).clip(min=0))
    places[np.isinf(distances)] = -1
    return places, distances


def neighbour_confusion(
    points: npt.ArrayLike, labels: npt.ArrayLike, groups: Sequence[str], classes: int, k: int = 10
) -> Neighbours:
    """Asks the k nearest pictures of each picture, none of its own group, for their classes.

    Where there are fewer than k, those there are vote. In a vote with several winners the nearest of their pictures
    decides.

    Args:
        points: (N, D), from `pixel_space` or a net's features.
        labels: (N,) 0 to classes - 1.
        groups: (N,) signer, session or video. Where it is not known, "", the picture itself is all that has no vote:
            near duplicates of it then make classes look better apart than they are.
        classes: How many there are.
        k: Neighbours a picture.

    Raises:
        ValueError: The lengths differ, or a point is not finite.
    """
    labels = np.asarray(labels, np.int64)
    places, _ = nearest(points, k, groups)
    if not len(places) == len(labels) == len(groups):
        raise ValueError(f"{len(places)} points with {len(labels)} labels and {len(groups)} groups")
    pictures, columns = np.nonzero(places >= 0)
    shown = labels[places[pictures, columns]]  # the class of each neighbour, picture by picture
    votes = np.zeros((len(labels), classes), np.int64)
    np.add.at(votes, (pictures, shown), 1)

    agreeing = np.zeros(places.shape, np.int64)  # how many neighbours are of the class of this one
    agreeing[pictures, columns] = votes[pictures, shown]
    known = agreeing.any(1)
    winner = places[np.arange(len(places)), agreeing.argmax(1)]  # the nearest of the commonest class
    accuracy = float((labels[winner] == labels)[known].mean()) if known.any() else None

    sums = np.zeros((classes, classes))
    np.add.at(sums, labels[known], votes[known] / votes[known].sum(1, keepdims=True))
    return Neighbours(votes, by_row(sums, np.bincount(labels[known], minlength=classes)), accuracy)


def by_row(sums: npt.NDArray[np.float64 | np.int64], counts: Ints) -> Floats:
    """Divides each row by its count; NaN where that is 0."""
    shares: Floats = np.divide(sums, counts[:, None], out=np.full(sums.shape, np.nan), where=counts[:, None] > 0)
    return shares
