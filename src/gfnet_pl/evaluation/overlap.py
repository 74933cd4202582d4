"""Which classes overlap, and whether a net confuses them because their pictures are alike or because the net is weak.

Axes: N pictures.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr  # type: ignore[import-untyped]

from gfnet_pl.evaluation.calibration import Floats
from gfnet_pl.evaluation.figures import count_confusion
from gfnet_pl.evaluation.intervals import wilson
from gfnet_pl.evaluation.neighbours import Neighbours, by_row

FEWEST = 10  # errors, and right pictures: with fewer there is no verdict on where the errors come from


@dataclass(frozen=True)
class InPixels:
    """For `count` of `of` pictures, another class is as near in pixels as their own class."""

    count: int
    of: int

    @property
    def share(self) -> float | None:
        """0 to 1; None without pictures."""
        return self.count / self.of if self.of else None

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's, 95 %."""
        return wilson(self.count, self.of)

    def __str__(self) -> str:
        return f"{100 * (self.share or 0):.0f} % of {self.of:,}"


class ConfusedPair(NamedTuple):
    """Two classes, a < b, that the net confuses.

    Attributes:
        a: The lower class.
        b: The higher class.
        a_as_b: Pictures of a predicted as b.
        b_as_a: Pictures of b predicted as a.
    """

    a: int
    b: int
    a_as_b: int
    b_as_a: int


@dataclass(frozen=True)
class Explanation:
    """Whether a net's errors are in the pixels.

    An error, a picture of class a predicted as b, is *in the pixels* if the pictures nearest in pixels include class b
    and show it at least as often as class a. Pictures without neighbours do not count.

    Attributes:
        errors: The errors that are in the pixels: the main figure.
        right: The base rate: the same for right pictures, with the second likeliest class as b.
        pixel_accuracy: Accuracy of the vote of the nearest pictures in pixels, see `Neighbours`.
        feature_accuracy: The same in the net's features.
        rank_pixels: Spearman's rank correlation over pairs of classes, between how often the net confuses the two and
            how much they overlap in pixels, -1 to 1; None if undefined.
        rank_features: The same with their overlap in the net's features.
    """

    errors: InPixels
    right: InPixels
    pixel_accuracy: float | None
    feature_accuracy: float | None
    rank_pixels: float | None
    rank_features: float | None

    @property
    def verdict(self) -> str:
        """One sentence: the first of these cases that holds, with Wilson's 95 % intervals for independent pictures.

        - Too few to tell: fewer than 10 errors, or fewer than 10 right pictures to compare them with.
        - Mostly in the pixels: the errors' interval lies above that of the base rate, and at least half of the errors
          are in the pixels.
        - Mixed: the interval lies above, but fewer than half are.
        - Pixels cannot tell: the vote in pixels is right for less than half of the pictures. Light, place and
          background then decide which pictures are near, so it means little that the wrong class is not near.
        - Mostly in the net: the errors' interval lies below one half.
        - Mixed: all other cases.
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
                f"{100 * (self.pixel_accuracy or 0):.0f} % of the pictures, so being near says little about the class."
            )
        return f"Mostly in the net: {figures}" if errors.interval[1] < 0.5 else mixed


def pair_overlap(matrix: Floats) -> Floats:
    """How much two classes overlap, in both directions: (M + M^T) / 2 with a zero diagonal.

    Args:
        matrix: (classes, classes) shares with rows that sum to 1, such as `Neighbours.matrix`.

    Returns:
        (classes, classes), symmetric, 0 to 1; off the diagonal NaN for a class whose row is NaN.
    """
    overlap: Floats = (matrix + matrix.T) / 2
    np.fill_diagonal(overlap, 0)
    return overlap


def explain(labels: npt.ArrayLike, logits: npt.ArrayLike, pixels: Neighbours, features: Neighbours) -> Explanation:
    """Tests whether a net's errors are in the pixels, see `Explanation`.

    Args:
        labels: (N,) true classes.
        logits: (N, classes), or probabilities.
        pixels: Neighbours in pixels.
        features: Neighbours in the net's features.
    """
    labels, logits = np.asarray(labels, np.int64), np.asarray(logits)
    classes = logits.shape[1]
    likeliest = np.argsort(-logits, axis=1, kind="stable")[:, :2]
    said, second = likeliest[:, 0], likeliest[:, -1]  # the same if there is only one class
    rival = np.where(said == labels, second, said)
    everyone = np.arange(len(labels))
    own_votes, rival_votes = pixels.votes[everyone, labels], pixels.votes[everyone, rival]
    close = (rival_votes >= own_votes) & (rival_votes > 0)
    asked = pixels.votes.any(1) & (rival != labels)

    counts = count_confusion(labels, said, classes)
    confusion = pair_overlap(by_row(counts, counts.sum(1)))
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
    """Spearman's rank correlation; equal values share their mean rank.

    Args:
        one: (M,) values; they are rounded to 9 decimals, so that rounding errors do not break ties.
        other: (M,) values, the same; a pair with a NaN does not count.

    Returns:
        -1 to 1; None for fewer than three pairs, or if all values of one side are equal.
    """
    values = np.round(np.stack((np.asarray(one, np.float64), np.asarray(other, np.float64))), 9)
    values = values[:, ~np.isnan(values).any(0)]
    if values.shape[1] < 3 or (values == values[:, :1]).all(1).any():
        return None
    return float(spearmanr(*values).statistic)


def confused_pairs(
    labels: npt.ArrayLike, predictions: npt.ArrayLike, classes: int, limit: int = 8
) -> list[ConfusedPair]:
    """The pairs of classes that the net confuses most often, by errors in both directions.

    Args:
        labels: (N,) true classes.
        predictions: (N,) predicted classes.
        classes: Number of classes.
        limit: At most this many pairs.

    Returns:
        Pairs with at least one error, most errors first; among pairs with equal counts the lower classes come first.
    """
    counts = count_confusion(np.asarray(labels, np.int64), np.asarray(predictions, np.int64), classes)
    both = np.triu(counts + counts.T, 1).ravel()
    worst = np.argsort(-both, kind="stable")[:limit]
    pairs = [divmod(int(place), classes) for place in worst if both[place]]
    return [ConfusedPair(a, b, int(counts[a, b]), int(counts[b, a])) for a, b in pairs]


def _in_pixels(close: npt.NDArray[np.bool_]) -> InPixels:
    return InPixels(int(close.sum()), len(close))
