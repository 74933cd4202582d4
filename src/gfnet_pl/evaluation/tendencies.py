"""Which property of people goes with a net's failures: a rank correlation over groups, honest about how few they are.

A number is compared by its rank among the groups, and each value of a text by who has it. Accuracy is ranked, too, so
the correlation is Spearman's, and one very bad person counts as one. Many properties are looked at, and the largest of
many correlations is large by chance: how often it would be is found by dealing the accuracies to the groups at random
(Westfall and Young 1993, the distribution of the maximum). Only what is rare then is said to go with the failures.

Axes: G groups, P properties.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata  # type: ignore[import-untyped]

Floats = npt.NDArray[np.float64]

FEWEST_GROUPS = 8  # below, a correlation is anything
RARE = 0.05
_DEALT = 4_000  # times the accuracies are dealt at random
_DRAWN = 2_000  # samples of groups for an interval
_FEWEST_OF_A_VALUE = 2  # groups that have a text's value, and that have not
_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Tendency:
    """How accuracy goes with one property.

    Attributes:
        name: The column; for a text "column: value".
        is_number: Whether it is a number. Then the sides are the halves of the groups.
        correlation: Of the ranks of accuracy and property, -1 to 1.
        low: Lower end of its 95 % interval over groups (bootstrap).
        high: Upper end.
        less: Mean accuracy of the groups with less of it, or without the value, 0 to 1.
        more: The same of those with more, or with the value.
        groups: How many groups have more, or the value.
        by_chance: How often the largest of all properties' correlations would be so large if none mattered, 0 to 1.
    """

    name: str
    is_number: bool
    correlation: float
    low: float
    high: float
    less: float
    more: float
    groups: int
    by_chance: float

    @property
    def stands_out(self) -> bool:
        """Whether it is said to go with the failures."""
        return self.by_chance < RARE


def tendencies(accuracy: Mapping[str, float], properties: Mapping[str, Mapping[str, str]]) -> list[Tendency]:
    """Finds out which properties go with accuracy.

    Args:
        accuracy: By group, 0 to 1.
        properties: Values by group and column. Groups without properties do not count, nor do columns that lack values
            of some groups, texts that nearly all or nearly no group has, and columns that are the same for all.

    Returns:
        Largest correlation first; empty for fewer than `FEWEST_GROUPS` groups, or if all are equally accurate.
    """
    groups = sorted(accuracy.keys() & properties.keys())
    shares = np.array([accuracy[group] for group in groups])
    if len(groups) < FEWEST_GROUPS or np.ptp(shares) == 0:
        return []
    columns = dict.fromkeys(name for group in groups for name in properties[group])
    found: list[tuple[str, bool, Floats]] = []
    for name in columns:
        found += _numbers(name, [properties[group].get(name, "") for group in groups])
    if not found:
        return []
    values = np.stack([each for *_, each in found])  # (P, G)
    ranks = _standard(rankdata(values, axis=1))
    ranked = _standard(rankdata(shares))
    correlations = ranks @ ranked
    random = np.random.default_rng(0)
    dealt = np.array([random.permutation(ranked) for _ in range(_DEALT)])  # (times, G)
    largest = np.abs(dealt @ ranks.T).max(1)
    low, high = _interval(values, shares, random)
    answers = []
    for place, (name, is_number, each) in enumerate(found):
        more = each > (np.median(each) if is_number else 0.5)
        if not more.any():  # most groups share the highest value
            more = each == each.max()
        answers.append(
            Tendency(
                name=name,
                is_number=is_number,
                correlation=float(correlations[place]),
                low=float(low[place]),
                high=float(high[place]),
                less=float(shares[~more].mean()),
                more=float(shares[more].mean()),
                groups=int(more.sum()),
                by_chance=float((1 + (largest >= abs(correlations[place]) - 1e-9).sum()) / (1 + _DEALT)),
            )
        )
    return sorted(answers, key=lambda each: -abs(each.correlation))


def _numbers(name: str, cells: Sequence[str]) -> list[tuple[str, bool, Floats]]:
    """What is compared of a column: its numbers, or for each value of a text who has it."""
    if not all(cells):
        return []
    try:
        numbers = np.array([float(cell) for cell in cells])
    except ValueError:
        counts = Counter(cells)
        most = len(cells) - _FEWEST_OF_A_VALUE
        kept = [value for value in sorted(counts) if _FEWEST_OF_A_VALUE <= counts[value] <= most]
        if len(kept) == len(counts) == 2:  # the second is the first one's opposite
            kept = [min(kept, key=lambda value: counts[value])]
        return [(f"{name}: {value}", False, np.array([float(cell == value) for cell in cells])) for value in kept]
    return [(name, True, numbers)] if np.isfinite(numbers).all() and np.ptp(numbers) > 0 else []


def _interval(values: Floats, shares: Floats, random: np.random.Generator) -> tuple[Floats, Floats]:
    """The 2.5 and 97.5 percentiles of each property's correlation over samples of the groups, drawn with return."""
    count = len(shares)
    drawn = []
    for _ in range(_DRAWN // _CHUNK):
        chosen = random.integers(0, count, (_CHUNK, count))
        ranks = _standard(rankdata(values[:, chosen], axis=2))  # (P, chunk, G)
        ranked = _standard(rankdata(shares[chosen], axis=1))
        drawn.append((ranks * ranked).sum(2))
    low, high = np.quantile(np.concatenate(drawn, axis=1), [0.025, 0.975], axis=1)
    return low, high


def _standard(ranks: Floats) -> Floats:
    """Ranks along the last axis with mean 0 and length 1; 0 where all are equal."""
    centred = ranks - ranks.mean(-1, keepdims=True)
    length = np.sqrt(np.square(centred).sum(-1, keepdims=True))
    standard: Floats = np.divide(centred, length, out=np.zeros_like(centred), where=length > math.ulp(1.0))
    return standard
