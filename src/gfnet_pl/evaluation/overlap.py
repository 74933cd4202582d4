"""Which classes overlap, and whether a net confuses them because their pictures are alike or because it is at fault.

Two pictures are alike where the distance between their pixels, or between the net's features of them, is small. What
the nearest pictures of a picture show is a vote that owes nothing to the net's last layer; from pixels it owes nothing
to the net at all. Pictures of the same group (a signer, a video) have no vote: frames of one video are near duplicates,
and would hide that their class overlaps with another.

Axes: N pictures.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gfnet_pl.evaluation.calibration import Floats, Ints
from gfnet_pl.evaluation.intervals import wilson

FEWEST = 10  # errors, and right pictures, below which nothing is said about where the errors come from
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


@dataclass(frozen=True)
class InPixels:
    """For `count` of `of` pictures, another class is as near in pixels as their own."""

    count: int
    of: int

    @property
    def share(self) -> float | None:
        """0 to 1; None where there are no pictures."""
        return self.count / self.of if self.of else None

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's, 95 %."""
        return wilson(self.count, self.of)

    def __str__(self) -> str:
        return f"{self.share or 0:.0%} of {self.of:,}"


class ConfusedPair(NamedTuple):
    """Two classes, a < b, that the net mistakes for each other.

    Attributes:
        a: The one.
        b: The other.
        a_as_b: Pictures of a that the net calls b.
        b_as_a: Pictures of b that the net calls a.
    """

    a: int
    b: int
    a_as_b: int
    b_as_a: int


@dataclass(frozen=True)
class Explanation:
    """Whether a net's errors are in the pixels.

    An error, a picture of class a that is called b, is *in the pixels* where b is at least as frequent as a among the
    pictures nearest in pixels, and is there at all. Pictures without neighbours are left out.

    Attributes:
        errors: The errors for which that holds: the main figure.
        right: The base rate: right pictures for which it holds of the second likeliest class in the place of b.
        pixel_accuracy: Of the nearest pictures' vote in pixels, see `Neighbours`.
        feature_accuracy: The same in the net's features.
        rank_pixels: Spearman's rank correlation, over pairs of classes, of how often the net confuses the two with
            how much they overlap in pixels; None where it is not defined.
        rank_features: The same with how much they overlap in the net's features.
    """

    errors: InPixels
    right: InPixels
    pixel_accuracy: float | None
    feature_accuracy: float | None
    rank_pixels: float | None
    rank_features: float | None

    @property
    def verdict(self) -> str:
        """One sentence, the first of these that is so; the intervals are Wilson's, 95 %, of independent pictures.

        - Too few to tell: fewer than 10 errors, or fewer than 10 right pictures to compare them with.
        - Mostly in the pixels: the errors' interval lies above that of the base rate, and at least half of them are.
        - Mixed: it lies above, but fewer are.
        - Pixels cannot tell: the pixels' own vote is right for less than half of the pictures. Where light, place
          and background settle what is near, it says nothing that the wrong class is not.
        - Mostly in the net: the errors' interval lies below one half.
        - Mixed.
        """
        errors, right = self.errors, self.right
        if errors.of < FEWEST or right.of < FEWEST:
            return f"Too few to tell where the errors come from: {errors.of:,} errors, {right.of:,} right pictures."
        figures = (
            f"the pictures nearest in pixels show the wrong class as often as the true one for {errors} errors, and "
            f"the second likeliest for {right} right pictures."
        )
        mixed = f"Partly in the pixels, partly in the net: {figures}"
        if errors.interval[0] > right.interval[1]:
            return f"Mostly in the pixels: {figures}" if 2 * errors.count >= errors.of else mixed
        if self.pixel_accuracy is None or self.pixel_accuracy < 0.5:
            return (
                "Pixels cannot tell where the errors come from: the nearest pictures' vote is right for only "
                f"{self.pixel_accuracy or 0:.0%} of the pictures, so being near says little about the class."
            )
        return f"Mostly in the net: {figures}" if errors.interval[1] < 0.5 else mixed


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
    return Neighbours(votes, _by_row(sums, np.bincount(labels[known], minlength=classes)), accuracy)


def pair_overlap(matrix: Floats) -> Floats:
    """How much two classes overlap, whichever way: (M + M^T) / 2 with a zero diagonal, NaN for a class without row.

    Args:
        matrix: (classes, classes) shares with rows that sum to 1, such as `Neighbours.matrix`.
    """
    overlap: Floats = (matrix + matrix.T) / 2
    np.fill_diagonal(overlap, 0)
    return overlap


def explain(labels: npt.ArrayLike, logits: npt.ArrayLike, pixels: Neighbours, features: Neighbours) -> Explanation:
    """Says whether a net's errors are in the pixels, see `Explanation`.

    Args:
        labels: (N,) true classes.
        logits: (N, classes), or probabilities.
        pixels: Neighbours in pixels.
        features: Neighbours in the net's features.
    """
    labels, logits = np.asarray(labels, np.int64), np.asarray(logits)
    classes = logits.shape[1]
    likeliest = np.argsort(-logits, axis=1, kind="stable")[:, :2]
    said, second = likeliest[:, 0], likeliest[:, -1]  # of one class alone, both are that
    rival = np.where(said == labels, second, said)
    everyone = np.arange(len(labels))
    own_votes, rival_votes = pixels.votes[everyone, labels], pixels.votes[everyone, rival]
    close = (rival_votes >= own_votes) & (rival_votes > 0)
    asked = pixels.votes.any(1) & (rival != labels)

    counts = _confusion(labels, said, classes)
    confusion = pair_overlap(_by_row(counts, counts.sum(1)))
    pairs = np.triu_indices(classes, 1)
    rank_pixels, rank_features = (
        rank_correlation(confusion[pairs], pair_overlap(space.matrix)[pairs]) for space in (pixels, features)
    )
    return Explanation(
        errors=_in_pixels(close[asked & (said != labels)]),
        right=_in_pixels(close[asked & (said == labels)]),
        pixel_accuracy=pixels.accuracy,
        feature_accuracy=features.accuracy,
        rank_pixels=rank_pixels,
        rank_features=rank_features,
    )


def rank_correlation(one: npt.ArrayLike, other: npt.ArrayLike) -> float | None:
    """Spearman's: the correlation of ranks, where equal values share the mean of theirs.

    Args:
        one: (M,) values; equal to 9 decimals is equal, so that rounding makes no order.
        other: (M,); a pair with a NaN is left out.

    Returns:
        -1 to 1; None for fewer than three pairs, or where all values of a side are equal.
    """
    values = np.round(np.stack((np.asarray(one, np.float64), np.asarray(other, np.float64))), 9)
    values = values[:, ~np.isnan(values).any(0)]
    if values.shape[1] < 3 or (values == values[:, :1]).all(1).any():
        return None
    return float(np.corrcoef([_ranks(side) for side in values])[0, 1])


def confused_pairs(
    labels: npt.ArrayLike, predictions: npt.ArrayLike, classes: int, limit: int = 8
) -> list[ConfusedPair]:
    """The pairs of classes that the net mistakes for each other most often, by errors in both directions.

    Args:
        labels: (N,) true classes.
        predictions: (N,) what the net says.
        classes: How many there are.
        limit: Pairs at most.

    Returns:
        Pairs with an error; of equally frequent ones the lower classes come first.
    """
    counts = _confusion(np.asarray(labels, np.int64), np.asarray(predictions, np.int64), classes)
    both = np.triu(counts + counts.T, 1).ravel()
    worst = np.argsort(-both, kind="stable")[:limit]
    pairs = [divmod(int(place), classes) for place in worst if both[place]]
    return [ConfusedPair(a, b, int(counts[a, b]), int(counts[b, a])) for a, b in pairs]


def _confusion(labels: Ints, predictions: Ints, classes: int) -> Ints:
    """(classes, classes) counts, rows are true classes."""
    counts: Ints = np.bincount(labels * classes + predictions, minlength=classes**2).reshape(classes, classes)
    return counts


def _by_row(sums: npt.NDArray[np.float64 | np.int64], counts: Ints) -> Floats:
    """Divides each row by its count; NaN where that is 0."""
    shares: Floats = np.divide(sums, counts[:, None], out=np.full(sums.shape, np.nan), where=counts[:, None] > 0)
    return shares


def _in_pixels(close: npt.NDArray[np.bool_]) -> InPixels:
    return InPixels(int(close.sum()), len(close))


def _ranks(values: Floats) -> Floats:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return ranks
