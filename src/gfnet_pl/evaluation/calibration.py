"""Whether a net's probabilities can be trusted: temperature, calibration error, and which predictions to accept.

What is fitted on people whom the net was trained on holds for these people only: with others it is as sure of itself,
and wrong. So calibration is fitted on new people where there are enough of them, and `Calibration.promise` says whether
it was. They still serve as a test: their own figures are cross-fitted, each person by what is fitted on the others.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq  # type: ignore[import-untyped]
from scipy.special import logsumexp, softmax  # type: ignore[import-untyped]

from gfnet_pl.evaluation.familiarity import NO_LIMIT, Familiarity
from gfnet_pl.evaluation.intervals import FEWEST_GROUPS, wilson

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BINS = 15  # of the calibration error, as in Guo et al. 2017
ERROR_RATES = (0.01, 0.02, 0.05)
FEWEST_TO_FIT = FEWEST_GROUPS + 1  # new groups: each is judged by the others
_FOLDS = 10
_PEOPLE = 0.9  # for so many the error rate must be within the limit
NOT_CALIBRATED = "not calibrated"
UNFAMILIAR = "unlike the training pictures"
UNCERTAIN = "too uncertain"
NO_THRESHOLD = f"no threshold keeps errors below {100 * ERROR_RATES[0]:g} %"
_ROUNDING = 1e-5
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


class Verdict(NamedTuple):
    """Whether to accept a prediction.

    Attributes:
        accepted: "yes", "no" or "unknown".
        reason: Why not, in a few words; "" for "yes".
    """

    accepted: str
    reason: str


class Judged(NamedTuple):
    """What calibration makes of N pictures.

    Attributes:
        temperature: (N, 1), by which the logits of each picture are divided.
        rejections: Error rates and thresholds, those for pictures to come.
        accepted: (rates, N) whether a prediction is accepted.
    """

    temperature: Floats
    rejections: Sequence[Rejection]
    accepted: npt.NDArray[np.bool_]


class Calibration(NamedTuple):
    """What is fitted on one set, so that it holds for others.

    Attributes:
        temperature: Divides the logits.
        rejections: One for each of `ERROR_RATES`; empty if nothing was fitted.
        new_groups: The number of groups (people, sessions, videos) that it was fitted on, if training has none of them;
            otherwise 0.
        familiarity: What was learned, and how far from it a picture may be; None if it was not measured.
    """

    temperature: float = 1.0
    rejections: Sequence[Rejection] = ()
    new_groups: int = 0
    familiarity: Familiarity | None = None

    @classmethod
    def fit(
        cls,
        logits: npt.ArrayLike,
        labels: Ints,
        new_groups: Sequence[str] | None = None,
        features: npt.ArrayLike | None = None,
        learned: Familiarity | None = None,
    ) -> "Calibration":
        """Fits temperature, thresholds and the limit of familiarity.

        Args:
            logits: (N, classes).
            labels: (N,).
            new_groups: (N,) groups of the pictures, if training has none of them. Default: of known or unknown people.
            features: (N, C), for `learned`.
            learned: Of the training pictures; its limit is replaced.
        """
        temperature = fit_temperature(logits, labels)
        shares = probabilities(logits, temperature)
        confidence, right = shares.max(1), shares.argmax(1) == labels
        if learned is not None and features is not None:
            learned = learned.limited_by(features, right)
            taken = learned.distances(features) <= learned.limit
        else:
            learned, taken = None, np.ones(len(right), bool)
        groups = None if new_groups is None else np.asarray(new_groups)[taken].tolist()
        return cls(
            temperature,
            rejections(confidence[taken], right[taken], groups),
            0 if new_groups is None else len(set(new_groups)),
            learned,
        )

    def in_float32(self) -> "Calibration":
        """The same for who computes in float32: pictures lie on the borders, and rounding must not put them beyond."""
        return self._replace(
            rejections=[
                each._replace(threshold=each.threshold and each.threshold * (1 - _ROUNDING)) for each in self.rejections
            ],
            familiarity=self.familiarity
            and replace(self.familiarity, limit=min(self.familiarity.limit * (1 + _ROUNDING), NO_LIMIT)),
        )

    @property
    def promise(self) -> str:
        """For whom probabilities and verdicts hold, in a few words."""
        if not self.rejections:
            return NOT_CALIBRATED
        if self.new_groups:
            return f"for new people: fitted on {self.new_groups} whom training never saw"
        return "for the same people only: fitted on pictures of people whom training may have seen"

    def familiar(self, features: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """(N,) whether pictures with these (N, C) features are like the training pictures; all if that is unknown."""
        if self.familiarity is None:
            return np.ones(len(np.asarray(features)), bool)
        return self.familiarity.distances(features) <= self.familiarity.limit

    def judge(self, logits: npt.ArrayLike, features: npt.ArrayLike) -> Judged:
        """Applies temperature, thresholds and limit to (N, classes) logits and (N, C) features."""
        confidence, familiar = probabilities(logits, self.temperature).max(1), self.familiar(features)
        least = [np.inf if each.threshold is None else each.threshold for each in self.rejections]
        accepted = (confidence >= np.reshape(least, (-1, 1))) & familiar
        return Judged(np.full((len(confidence), 1), self.temperature), self.rejections, accepted)

    def verdicts(self, logits: npt.ArrayLike, features: npt.ArrayLike) -> list[Verdict]:
        """Whether to accept each prediction, so that at most `ERROR_RATES[0]` of the accepted ones are wrong.

        The promise holds for those of whom `promise` speaks.

        Args:
            logits: (N, classes).
            features: (N, C).
        """
        return self.verdicts_on(probabilities(logits, self.temperature).max(1), self.familiar(features))

    def verdicts_on(self, confidence: npt.ArrayLike, familiar: npt.ArrayLike) -> list[Verdict]:
        """The same, from (N,) calibrated probabilities of the likeliest class and whether a picture is familiar."""
        confidence, familiar = np.asarray(confidence), np.asarray(familiar)
        if not self.rejections:
            return [Verdict("unknown", NOT_CALIBRATED)] * len(confidence)
        threshold = self.rejections[0].threshold
        found = []
        for sure, known in zip(confidence, familiar, strict=True):
            if not known:
                found.append(Verdict("no", UNFAMILIAR))
            elif threshold is None:
                found.append(Verdict("unknown", NO_THRESHOLD))
            else:
                found.append(Verdict("yes", "") if sure >= threshold else Verdict("no", UNCERTAIN))
        return found


def judged_by_others(
    whole: Calibration,
    logits: npt.NDArray[np.floating],
    labels: Ints,
    groups: Sequence[str],
    features: npt.NDArray[np.floating],
) -> Judged:
    """Cross-fitting: judges the pictures of each group by a calibration that was fitted on other groups.

    So a set on which calibration is fitted can also show what it is worth. With more than ten groups, a tenth of them
    is judged at a time.

    Args:
        whole: What was fitted on all of these pictures.
        logits: (N, classes).
        labels: (N,).
        groups: (N,) at least `FEWEST_TO_FIT` different ones; none is in training.
        features: (N, C).
    """
    names, number = np.unique(groups, return_inverse=True)
    fold = number % _FOLDS
    temperature, accepted = np.ones((len(labels), 1)), np.zeros((len(ERROR_RATES), len(labels)), bool)
    for each in range(min(_FOLDS, len(names))):
        mine = fold == each
        others = [name for name, out in zip(groups, mine, strict=True) if not out]
        fitted = Calibration.fit(logits[~mine], labels[~mine], others, features[~mine], whole.familiarity)
        judged = fitted.judge(logits[mine], features[mine])
        temperature[mine], accepted[:, mine] = judged.temperature, judged.accepted
    return Judged(temperature, whole.rejections, accepted)


def probabilities(logits: npt.ArrayLike, temperature: float | Floats = 1.0) -> Floats:
    """Softmax of (N, classes) logits divided by a temperature, or by one for each row, in float64."""
    shares: Floats = softmax(np.asarray(logits, np.float64) / temperature, axis=1)
    return shares


def log_loss(logits: npt.ArrayLike, labels: Ints, temperature: float | Floats = 1.0) -> float:
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


def rejections(
    confidence: Floats, right: npt.NDArray[np.bool_], groups: Sequence[str] | None = None
) -> list[Rejection]:
    """The lowest thresholds at which at most `ERROR_RATES` of the accepted predictions are wrong.

    Without groups, the upper end of Wilson's 95 % interval counts and not the rate itself: after 100 pictures without
    an error, the true rate may still be 3.7 %. Geifman and El-Yaniv 2017 do the same, but bound all thresholds at once,
    and so reject more.

    With groups, people count and not pictures, because the errors are those of few people: at the threshold and at any
    higher one, the error rate of nine of ten people must be within the limit (that of each one, if they are fewer than
    ten). The next person is then within it, too, with a probability of 9 of 10 (with G people, fewer than ten, G of G +
    1), whatever the distribution (Vovk et al., "Algorithmic Learning in a Random World", 2005). Over all pictures, the
    rate must be within it if one more error is added (Angelopoulos et al., "Conformal Risk Control", 2024).

    Args:
        confidence: (N,) probability of the predicted class, 0 to 1.
        right: (N,) whether it is the true class.
        groups: (N,) people, sessions or videos, if the thresholds are to hold for others than these.
    """
    order = np.argsort(-confidence, kind="stable")
    wrong, sorted_confidence = ~right[order], confidence[order]
    errors, taken = np.cumsum(wrong), np.arange(1, len(wrong) + 1)
    if groups is None:
        bounds = np.array([1 - wilson(int(n - k), int(n))[0] for k, n in zip(errors, taken, strict=True)])
    else:
        bounds = (errors + 1) / (taken + 1)
    last_of_its_value = np.append(sorted_confidence[1:] < sorted_confidence[:-1], len(order) > 0)
    found = []
    for rate in ERROR_RATES:
        good = (bounds <= rate) & last_of_its_value
        if groups is not None:
            good &= sorted_confidence > _too_low(sorted_confidence, wrong, np.asarray(groups)[order], rate)
        places = np.flatnonzero(good)
        found.append(Rejection(rate, float(sorted_confidence[places[-1]]) if len(places) else None))
    return found


def _too_low(confidence: Floats, wrong: npt.NDArray[np.bool_], groups: npt.NDArray[np.str_], rate: float) -> float:
    """The confidence, sorted downwards, at which more than one person of ten has too many errors."""
    first = []
    for name in np.unique(groups):
        mine = groups == name
        beyond = np.flatnonzero(np.cumsum(wrong[mine]) > rate * np.arange(1, mine.sum() + 1))
        first.append(float(confidence[mine][beyond[0]]) if len(beyond) else -np.inf)
    place = min(math.ceil(_PEOPLE * (len(first) + 1)), len(first))
    return sorted(first)[place - 1] if first else np.inf
