"""How far a share of right pictures can be trusted: 95 % intervals for one share, for groups, and for a difference.

An accuracy alone persuades nobody: 112 right of 112 still allows a true accuracy of 96.7 %. And pictures of one signer
are not independent draws: 1,344 pictures of 8 people say less about the ninth than 1,344 pictures of 1,344 people.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

LEVEL = 0.95
FEWEST_GROUPS = 5

_Z = NormalDist().inv_cdf(0.5 + LEVEL / 2)


def wilson(successes: float, trials: float, z: float = _Z) -> tuple[float, float]:
    """The score interval of a binomial share (Wilson 1927), 95 % by default; it stays within 0..1 and works at 0 and 1.

    Args:
        successes: How many are right, 0 to `trials`.
        trials: Of how many; a fraction where it is an effective number.
        z: Quantile of the normal distribution.

    Returns:
        Lower and upper end; (0, 1) where nothing was tried.
    """
    if trials <= 0:
        return 0.0, 1.0
    share = successes / trials
    centre = share + z * z / (2 * trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    low, high = (centre - half) / scale, (centre + half) / scale
    # The ends at 0 and 1 are exact; only rounding would miss them.
    return 0.0 if successes <= 0 else low, 1.0 if successes >= trials else high


def wilson_of_groups(groups: Sequence[tuple[int, int]]) -> tuple[float, float] | None:
    """The interval of a share over *new groups* (signers, videos), whose pictures go right or wrong together.

    Wilson's interval with the effective number of pictures, n / design effect, and Student's t for the few groups
    (Korn and Graubard 1998; Dean and Pagano 2015). The design effect is that of
    the variance between groups by linearisation (Cochran 1977); below 1 it counts as 1, as it does where
    all pictures are right or all wrong and nothing is known of the spread.

    Args:
        groups: (right, pictures) of each group.

    Returns:
        Lower and upper end; None for fewer than five groups, which say too little about the next one.
    """
    groups = [(right, count) for right, count in groups if count]
    if len(groups) < FEWEST_GROUPS:
        return None
    right, count = sum(right for right, _ in groups), sum(count for _, count in groups)
    share = right / count
    between = sum((ours - share * pictures) ** 2 for ours, pictures in groups)
    variance = len(groups) / (len(groups) - 1) * between / count**2
    binomial = share * (1 - share) / count
    design_effect = max(1.0, variance / binomial) if binomial else 1.0
    effective = count / design_effect
    return wilson(share * effective, effective, _student(len(groups) - 1))


def newcombe(one: tuple[float, float, float], other: tuple[float, float, float]) -> tuple[float, float]:
    """The interval of the difference of two independent shares (Newcombe 1998, method 10).

    Args:
        one: (share, low, high).
        other: The same; it is subtracted.

    Returns:
        Lower and upper end of `one - other`, -1 to 1.
    """
    (p, p_low, p_high), (q, q_low, q_high) = one, other
    difference = p - q
    return (
        difference - math.hypot(p - p_low, q_high - q),
        difference + math.hypot(p_high - p, q - q_low),
    )


def mcnemar(better: int, worse: int) -> float:
    """How likely such a difference of two nets on the same pictures is, were they equally good (McNemar 1947, exact).

    Args:
        better: Pictures that only the one has right.
        worse: Pictures that only the other has right.

    Returns:
        Two-sided p value of the binomial test; 1 where the nets differ on nothing.
    """
    both, fewer = better + worse, min(better, worse)
    tail = sum(math.comb(both, count) for count in range(fewer + 1))
    return min(1.0, float(2 * tail / 2**both))


def _student(freedom: int) -> float:
    """Student's t quantile in the place of `_Z`, 0.3 % low at 4 degrees (Abramowitz and Stegun 26.7.5)."""
    z = _Z
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )
