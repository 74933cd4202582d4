"""Whether a net's probabilities mean what they say: temperature, calibration error, and when to say nothing.

Everything is fitted on the validation set and then shown on all sets: what holds there need not hold on other people.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gfnet_pl.evaluation.intervals import wilson

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BINS = 15  # of the calibration error, as in Guo et al. 2017
ERROR_RATES = (0.01, 0.02, 0.05)
_COLDEST, _HOTTEST = 0.05, 20.0


class Bin(NamedTuple):
    """Pictures whose probability of the predicted class is in (low, high].

    Attributes:
        low: Lower end.
        high: Upper end.
        images: How many.
        confidence: Their mean probability; the middle of the bin where there are none.
        accuracy: The share that is right; 0 where there are none.
    """

    low: float
    high: float
    images: int
    confidence: float
    accuracy: float


class Rejection(NamedTuple):
    """From which probability on a prediction can be taken, if at most `error_rate` of those taken may be wrong.

    Attributes:
        error_rate: What was asked.
        threshold: The probability; None where the set is too small or too hard to promise it.
    """

    error_rate: float
    threshold: float | None


class Calibration(NamedTuple):
    """What is fitted on validation.

    Attributes:
        temperature: Divides the logits.
        rejections: One for each of `ERROR_RATES`; none where nothing was fitted.
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
    scaled = np.asarray(logits, np.float64) / temperature
    powers = np.exp(scaled - scaled.max(1, keepdims=True))
    shares: Floats = powers / powers.sum(1, keepdims=True)
    return shares


def log_loss(logits: npt.ArrayLike, labels: Ints, temperature: float = 1.0) -> float:
    """Mean negative log probability of the true class, from logits, so that no probability is too small for it."""
    scaled = np.asarray(logits, np.float64) / temperature
    scaled -= scaled.max(1, keepdims=True)
    return float((np.log(np.exp(scaled).sum(1)) - scaled[np.arange(len(labels)), labels]).mean())


def fit_temperature(logits: npt.ArrayLike, labels: Ints) -> float:
    """The temperature that makes the log loss smallest (Guo et al., "On Calibration of Modern Neural Networks", 2017).

    The loss is convex in 1 / temperature, so halving the interval on its slope finds the one minimum.

    Args:
        logits: (N, classes).
        labels: (N,).

    Returns:
        0.05 to 20; 1 where every picture is right, or none: the loss then has no minimum, and nothing can be said.
    """
    logits = np.asarray(logits, np.float64)
    right = logits.argmax(1) == labels
    if right.all() or not right.any():
        return 1.0
    true = logits[np.arange(len(labels)), labels]

    def slope(inverse: float) -> float:
        return float(((probabilities(logits, 1 / inverse) * logits).sum(1) - true).mean())

    low, high = 1 / _HOTTEST, 1 / _COLDEST
    for _ in range(60):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return 1 / high


def reliability(confidence: Floats, right: npt.NDArray[np.bool_]) -> list[Bin]:
    """Pictures by the probability of what they were taken for, in `BINS` bins of equal width."""
    place = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    bins = []
    for index in range(BINS):
        mine = place == index
        low, high, count = index / BINS, (index + 1) / BINS, int(mine.sum())
        mean = float(confidence[mine].mean()) if count else (low + high) / 2
        bins.append(Bin(low, high, count, mean, float(right[mine].mean()) if count else 0.0))
    return bins


def calibration_error(bins: list[Bin]) -> float:
    """Expected calibration error: mean distance of accuracy from confidence, weighted by pictures, 0 to 1."""
    images = sum(each.images for each in bins)
    return sum(each.images * abs(each.accuracy - each.confidence) for each in bins) / max(1, images)


def rejections(confidence: Floats, right: npt.NDArray[np.bool_]) -> list[Rejection]:
    """The lowest thresholds whose error rate is below `ERROR_RATES` even at the upper end of Wilson's 95 % interval.

    The upper end and not the rate itself: of 100 pictures without an error, 3 % may still be wrong (as Geifman and
    El-Yaniv 2017, who bound it for every threshold at once and so reject more).

    Args:
        confidence: (N,) probability of the predicted class.
        right: (N,) whether it is the true one.
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
