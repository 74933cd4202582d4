"""Which pictures are alike: the nearest neighbours of each picture, by pixels or by the net's features.

The neighbours of a picture vote on its class. In features the vote does not depend on the net's last layer; in pixels
it does not depend on the net at all. Pictures of the same group (a signer, a video) have no vote: frames of one video
are near duplicates, and would hide that their class overlaps with another.

Axes: N pictures.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# The search for principal components keeps _SPARE extra dimensions for _ROUNDS rounds. For 2,000 pictures of 96 x 96,
# 99.7 % of the ten nearest neighbours are then those of the exact 50 components.
_SPARE = 30
_ROUNDS = 4
_CHUNK = 500  # pictures whose distances to all others are in memory at the same time: 24 MB for 6,000


@dataclass(frozen=True)
class Neighbours:
    """The classes of the nearest neighbours of each picture.

    Attributes:
        votes: (N, classes) number of neighbours of each class; all 0 if a picture has no neighbours.
        matrix: (classes, classes) mean share, over the pictures of class a, of their neighbours that are of class b.
            Rows sum to 1; NaN for a class without pictures, or whose pictures have no neighbours.
        accuracy: Share of the pictures whose most frequent class among the neighbours is their own, 0 to 1; pictures
            without neighbours do not count. None if no picture has neighbours.
    """

    votes: Ints
    matrix: Floats
    accuracy: float | None


def principal_components(rows: npt.ArrayLike, components: int) -> npt.NDArray[np.float32]:
    """Projects rows on their principal components by randomised subspace iteration.

    Halko, Martinsson and Tropp, "Finding structure with randomness", SIAM Review 2011, algorithm 4.4, from a fixed
    start: the same rows always give the same numbers. The largest weight of each direction is positive.

    Written out, because `scipy.sparse.linalg.svds` is no faster and refuses as many components as min(N, D).

    Args:
        rows: (N, D).
        components: Number of directions; N and D limit it.

    Returns:
        (N, min(components, N, D)), centred, highest variance first.
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

    Brightness and contrast depend on how a picture was taken and not on what it shows. Without them the vote of the
    nearest pictures is right more often.

    Args:
        images: (N, H, W) grey levels or (N, H, W, 3) colours, 0 to 255.
        components: At most this many numbers per picture.

    Returns:
        (N, min(components, N, numbers per picture)).
    """
    rows = images.reshape(len(images), math.prod(images.shape[1:])).astype(np.float32)
    rows -= rows.mean(1, keepdims=True)
    rows /= rows.std(1, keepdims=True).clip(min=1)  # at least one grey level: a blank picture has deviation 0
    return principal_components(rows, components)


def nearest(points: npt.ArrayLike, k: int, groups: Sequence[str] | None = None) -> tuple[Ints, Floats]:
    """Finds the k nearest points of each point by Euclidean distance, outside of its own group.

    Args:
        points: (N, D).
        k: Number of neighbours per point.
        groups: (N,) names; a point with "" is a group of its own. Default: every point is a group of its own.

    Returns:
        (N, k) positions, nearest first, -1 if there are no more points outside of the group; and (N, k) distances,
        infinite for these.

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
        points -= points.mean(0)  # smaller squares have smaller rounding errors
    squares = np.square(points).sum(1)
    places = np.full((len(points), k), -1)
    distances = np.full((len(points), k), np.inf)
    found = min(k, len(points))
    for start in range(0, len(points), _CHUNK):
        part = slice(start, start + _CHUNK)
        # A matrix product, because scipy's cdist takes seven times as long in 256 dimensions.
        squared = squares[part, None] + squares - 2 * points[part] @ points.T  # (chunk, N)
        squared[group_of[part, None] == group_of] = np.inf
        close = np.sort(np.argpartition(squared, found - 1, axis=1)[:, :found])
        values = np.take_along_axis(squared, close, 1)
        order = np.argsort(values, axis=1, kind="stable")  # stable: among equally near points the first one comes first
        places[part, :found] = np.take_along_axis(close, order, 1)
        distances[part, :found] = np.sqrt(np.take_along_axis(values, order, 1).clip(min=0))
    places[np.isinf(distances)] = -1
    return places, distances


def neighbour_confusion(
    points: npt.ArrayLike, labels: npt.ArrayLike, groups: Sequence[str], classes: int, k: int = 10
) -> Neighbours:
    """Counts the classes of the k nearest pictures of each picture, outside of its own group.

    If there are fewer than k, all of them vote. A tie is decided by the nearest picture of the tied classes.

    Args:
        points: (N, D), from `pixel_space` or a net's features.
        labels: (N,) 0 to classes - 1.
        groups: (N,) signer, session or video; "" if unknown. Only the picture itself is then left out of the vote, and
            near duplicates of it make classes look more separate than they are.
        classes: Number of classes.
        k: Neighbours per picture.

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

    agreeing = np.zeros(places.shape, np.int64)  # (N, k) neighbours of the same class as this neighbour
    agreeing[pictures, columns] = votes[pictures, shown]
    known = agreeing.any(1)
    winner = places[np.arange(len(places)), agreeing.argmax(1)]  # the nearest neighbour of the most frequent class
    accuracy = float((labels[winner] == labels)[known].mean()) if known.any() else None

    sums = np.zeros((classes, classes))
    np.add.at(sums, labels[known], votes[known] / votes[known].sum(1, keepdims=True))
    return Neighbours(votes, by_row(sums, np.bincount(labels[known], minlength=classes)), accuracy)


def by_row(sums: npt.NDArray[np.float64 | np.int64], counts: Ints) -> Floats:
    """Divides each row of a (rows, columns) matrix by its (rows,) count; NaN if that is 0."""
    shares: Floats = np.divide(sums, counts[:, None], out=np.full(sums.shape, np.nan), where=counts[:, None] > 0)
    return shares
