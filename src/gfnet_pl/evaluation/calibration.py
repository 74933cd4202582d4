"""Whether a net's probabilities can be trusted: temperature, calibration error, and thresholds of rejection.

Everything is fitted on the validation set and then shown on all sets: what holds on validation need not hold on other
people.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq  # type: ignore[import-untyped]
from scipy.special import logsumexp, softmax  # type: ignore[import-untyped]

from gfnet_pl.evaluation.intervals import wilson

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BINS = 15  # of the calibration error, as in Guo et al. 2017
ERROR_RATES = (0.01, 0.02, 0.05)
_COLDEST, _HOTTEST = 0.05, 20.0  # temperatures


class Bin(NamedTuple):
    """Pictures whose probability of the predicted class is in (low, high].

    Attributes:
        low: Lower end.
        high: Upper end.
        images: Number of pictures.
        confidence: Their mean probability; the middle of the bin if it has no pictures.
        accuracy: The share that is right; 0 if it has no pictures.
    """

    low: float
    high: float
    images: int
    confidence: float
    accuracy: float


class Rejection(NamedTuple):
    """The lowest probability at which predictions are accepted if at most `error_rate` of them may be wrong.

    Attributes:
        error_rate: The highest acceptable share of errors, 0 to 1.
        threshold: The probability, 0 to 1; None if the set is too small or too hard for that error rate.
    """

    error_rate: float
    threshold: float | None


class Calibration(NamedTuple):
    """What is fitted on validation.

    Attributes:
        temperature: Divides the logits.
        rejections: One for each of `ERROR_RATES`; empty if nothing was fitted.
    """

    temperature: float = 1.0
    rejections: Sequence[Rejection] = ()

    @classmethod
    def fit(cls, logits: npt.ArrayLike, labels: Ints) -> "Calibration":
        """Fits temperature and thresholds to (N, classes) logits and (N,) labels."""
        temperature = fit_temperature(logits, labels)
        shares = probabilities(logits, temperature)
        return cls(temperature, rejections(shares.max(1), shares.argmax(1) == labels))


def probabilities(logits: npt.ArrayLike, temperature: float = 1.0) -> Floats:
    """Softmax of (N, classes) logits divided by a temperature, in float64."""
    shares: Floats = softmax(np.asarray(logits, np.float64) / temperature, axis=1)
    return shares


def log_loss(logits: npt.ArrayLike, labels: Ints, temperature: float = 1.0) -> float:
    """Mean negative log probability of the true class, from (N, classes) logits, so that no probability underflows."""
    scaled = np.asarray(logits, np.float64) / temperature
    return float((logsumexp(scaled, axis=1) - scaled[np.arange(len(labels)), labels]).mean())


def fit_temperature(logits: npt.ArrayLike, labels: Ints) -> float:
    """The temperature with the smallest log loss (Guo et al., "On Calibration of Modern Neural Networks", 2017).

    The loss is convex in 1 / temperature, so its slope has at most one root, which is the minimum.

    Args:
        logits: (N, classes).
        labels: (N,).

    Returns:
        0.05 to 20; 1 if all pictures are right or all are wrong, because the loss then has no minimum.
    """
    logits = np.asarray(logits, np.float64)
    right = logits.argmax(1) == labels
    if right.all() or not right.any():
        return 1.0
    true = logits[np.arange(len(labels)), labels]

    def slope(inverse: float) -> float:
        return float(((probabilities(logits, 1 / inverse) * logits).sum(1) - true).mean())

    low, high = 1 / _HOTTEST, 1 / _COLDEST
    if slope(low) >= 0:
        return _HOTTEST
    if slope(high) <= 0:
        return _COLDEST
    return float(1 / brentq(slope, low, high))


def reliability(confidence: Floats, right: npt.NDArray[np.bool_]) -> list[Bin]:
    """Sorts pictures into `BINS` bins of equal width by the probability of the predicted class.

    Args:
        confidence: (N,) probability of the predicted class, 0 to 1.
        right: (N,) whether it is the true class.
    """
    place = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    bins = []
    for index in range(BINS):
        mine = place == index
        low, high, count = index / BINS, (index + 1) / BINS, int(mine.sum())
        mean = float(confidence[mine].mean()) if count else (low + high) / 2
        bins.append(Bin(low, high, count, mean, float(right[mine].mean()) if count else 0.0))
    return bins


def calibration_error(bins: list[Bin]) -> float:
    """Expected calibration error: mean distance of accuracy from confidence, weighted by pictures, 0 to 1.

    Written out, because torchmetrics has other bins, [low, high) and one for exactly 1: it gives another answer where
    probabilities are 1 (0.022 instead of 0.018 with 3,000 of 4,000), and its bins are not those that the page shows.
    """
    images = sum(each.images for each in bins)
    return sum(each.images * abs(each.accuracy - each.confidence) for each in bins) / max(1, images)


def rejections(confidence: Floats, right: npt.NDArray[np.bool_]) -> list[Rejection]:
    """The lowest thresholds whose error rate is at most `ERROR_RATES` at the upper end of Wilson's 95 % interval.

    The upper end counts and not the rate itself: after 100 pictures without an error, the true rate may still be 3.7 %.
    Geifman and El-Yaniv 2017 do the same, but bound all thresholds at once, and so reject more.

    Args:
        confidence: (N,) probability of the predicted class, 0 to 1.
        right: (N,) whether it is the true class.
    """
    order = np.argsort(-confidence, kind="stable")
    errors = np.cumsum(~right[order])
    sorted_confidence = confidence[order]
    last_of_its_value = np.flatnonzero(np.append(sorted_confidence[1:] < sorted_confidence[:-1], len(order) > 0))
    bounds = [1 - wilson(int(taken + 1 - errors[taken]), int(taken + 1))[0] for taken in last_of_its_value]
    found = []
    for rate in ERROR_RATES:
        good = [taken for taken, bound in zip(last_of_its_value, bounds, strict=True) if bound <= rate]
        found.append(Rejection(rate, float(sorted_confidence[good[-1]]) if good else None))
    return found
