"""Which pictures are the same, or nearly: frames of one video, re-encoded, brightened or slightly shifted copies.

Two pictures are *twins* where the correlation of their 32 x 32 box-averaged thumbnails is 0.98 or more: the averaging
takes camera grain and JPEG noise away, and the correlation does not see brightness or contrast. Where all pictures look
alike (X-rays, solar cells, parts), that is no copy yet, and `border_of` finds a higher border. Equal pixels are twins
whatever their correlation, which is how blank pictures (they have none) find each other.

The candidates are found by the *outlines* of `prints.Prints`: by Cauchy and Schwarz the product of two is never below
the correlation of the thumbnails. So no pair is missed, which no Hamming distance can promise (pHash within 10 bits
finds 99.5 % of the twins among the embedded hand signs and leaves 2.5 times as many candidates), and a matrix product
of 65 columns takes less time than the XOR and population count of as many 64-bit hashes.

Pairs are processed block by block and never stored: a picture of a video may have thousands of twins.
N pictures of H x W; a picture is named by its position in N.
"""

import math
from collections.abc import Iterator
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from gfnet_pl.data.prints import Prints, fingerprints, thumbnails_of
from gfnet_pl.messages import follow

THRESHOLD = 0.98  # the lowest border
CHANCE = 0.02  # share of pictures that may have a twin by chance, among the pictures of other classes and groups

Ints = npt.NDArray[np.int64]

_SLACK = 2e-3  # above the rounding of a product in bf16 or TF32, which a run may have set: the bound stays one
_QUERIES, _POOL = 512, 2048  # a block of pairs, 4 MiB of float32: it stays in a core's cache
_HIGHEST = 0.999  # the highest border: a copy that was saved again is above it
_COPIES = 10  # of a picture under other classes, on average: as many do not move the border
_ASKED = 1_000  # pictures of which the border looks for a similar one among all
_PAIRED = 2_000  # pictures of which the border takes all pairs, some tenths of a second
_FEWEST_PAIRS = 200  # below that, a few copies would be taken for what chance does
_TRAINED_PER_EVALUATED = 20  # in `leak_share`: 21,000 pictures are read in a second or two


def border_of(prints: Prints, kinds: npt.ArrayLike) -> float:
    """The correlation from which two pictures are twins, by how alike different pictures are in these data.

    Pictures of different classes, and of different groups where these are known, are no copies of each other. If more
    than one picture in fifty has such a twin at 0.98, the border is where one in 200 has. Real copies under other
    classes (wrong labels) would raise it, so it is never above what the less similar pairs say, see `_by_chance`.

    Args:
        prints: Of N pictures.
        kinds: (N, K) codes: pictures are different if none of their codes is the same; see `groups.kinds_of`.

    Returns:
        0.98 to 0.999; 0.98 where there are too few pairs of different pictures.
    """
    kinds = np.asarray(kinds, np.int64)
    seen = np.flatnonzero(prints.outlines.any(1).numpy())  # not the blank ones
    rng = np.random.default_rng(0)
    asked = seen if len(seen) <= _ASKED else rng.choice(seen, _ASKED, replace=False)
    best = np.zeros(len(asked), np.float32)
    for some, others, correlation in _close(prints, asked, seen, THRESHOLD):
        correlation[~_differ(kinds[asked[some]], kinds[seen[others]])] = 0
        best[some] = np.maximum(best[some], correlation.max(1))
    if not len(asked) or (best >= THRESHOLD).mean() <= CHANCE:
        return THRESHOLD
    paired = seen if len(seen) <= _PAIRED else rng.choice(seen, _PAIRED, replace=False)
    different = _differ(kinds[paired], kinds[paired])
    if np.count_nonzero(different) < _FEWEST_PAIRS:
        return THRESHOLD
    thumbnails = thumbnails_of(prints, paired)
    expected = _by_chance((thumbnails @ thumbnails.T).numpy()[different], len(seen))
    return min(max(THRESHOLD, min(float(np.quantile(best, 1 - CHANCE / 4)), expected)), _HIGHEST)


def _differ(some: Ints, others: Ints) -> npt.NDArray[np.bool_]:
    """(a, b) whether pictures with these (a, K) and (b, K) codes are different."""
    different: npt.NDArray[np.bool_] = (some[:, None] != others).all(2)
    return different


def _by_chance(correlations: npt.NDArray[np.float32], count: int) -> float:
    """The correlation that one of `count` pictures in fifty reaches with another, by the pairs that are less similar.

    Fisher's z, the inverse hyperbolic tangent of a correlation, is nearly normal, so two of its quantiles give the
    others. They are those of the 10 N and 100 N most similar pairs: wrong labels do not count among so many, nor do
    pictures that were copied into ten other classes.
    """
    few = min(0.1, _COPIES / count)
    many = min(0.5, 10 * few)
    of_many, of_few = np.arctanh(np.quantile(correlations, [1 - many, 1 - few]).clip(-_HIGHEST, _HIGHEST))
    score_of_many, score_of_few, score = (-NormalDist().inv_cdf(share) for share in (many, few, CHANCE / count))
    return float(np.tanh(of_few + (of_few - of_many) / (score_of_few - score_of_many) * (score - score_of_few)))


def nearest_twins(
    prints: Prints, queries: npt.ArrayLike, pool: npt.ArrayLike, border: float = THRESHOLD
) -> tuple[Ints, npt.NDArray[np.float32]]:
    """Finds each query's best twin among `pool`; a picture is never its own.

    Args:
        prints: Of N pictures.
        queries: (Q,) positions.
        pool: (P,) positions; may share some with `queries`.
        border: The least correlation of twins, see `border_of`.

    Returns:
        (Q,) position of the twin, -1 where there is none; and (Q,) its correlation, exactly 1 where all pixels are
        equal, 0 where there is no twin.
    """
    queries, pool = np.ascontiguousarray(queries, np.int64), np.ascontiguousarray(pool, np.int64)
    twin, best = np.full(len(queries), -1), np.zeros(len(queries), np.float32)
    for asked, offered, correlation in _close(prints, queries, pool, border):
        correlation[queries[asked][:, None] == pool[offered]] = 0
        choice = correlation.argmax(1)
        value = correlation[np.arange(len(asked)), choice]
        better = (value >= border) & (value > best[asked])
        best[asked[better]], twin[asked[better]] = value[better], pool[offered[choice[better]]]
    best = np.minimum(best, np.nextafter(np.float32(1), np.float32(0)))  # 1 says that the pixels are equal
    equal = _equals(prints.digests, queries, pool)
    return np.where(equal >= 0, equal, twin), np.where(equal >= 0, np.float32(1), best)


def clusters(prints: Prints, border: float = THRESHOLD) -> Ints:
    """Puts twins together, and the twins of twins: a video, or all copies of a picture, becomes one cluster.

    Args:
        prints: Of N pictures.
        border: The least correlation of twins, see `border_of`.

    Returns:
        (N,) the cluster of each picture, named by the position of its first picture; a picture without a twin is alone
        in its own.
    """
    everyone = np.arange(len(prints.digests))
    _, first, copies = np.unique(prints.digests, return_index=True, return_inverse=True)
    sets = _Sets(len(everyone))
    for position in np.flatnonzero(first[copies] != everyone):
        sets.join(first[copies[position]], position)
    for rows, columns, correlation in _close(prints, everyone, everyone, border, once=True):
        near = correlation >= border
        # Each round joins every cluster that has a link out of it to another, so that their number halves at least:
        # a few rounds and a few joins do for a block in which a million pairs may be twins.
        while (links := near & (sets.of[rows][:, None] != sets.of[columns])).any():
            for row in np.flatnonzero(links.any(1)):
                sets.join(rows[row], columns[links[row].argmax()])
            for column in np.flatnonzero(links.any(0)):
                sets.join(rows[links[:, column].argmax()], columns[column])
    _, first, member = np.unique(sets.of, return_index=True, return_inverse=True)
    return first[member]


class Leaked(NamedTuple):
    """The share of evaluated pictures with a twin among those trained on, and the border that was taken for twins."""

    share: float
    border: float

    @property
    def is_leak(self) -> bool:
        """Whether it is worth a warning: where pictures look alike, some have a twin by chance."""
        return self.share > (0.01 if self.border == THRESHOLD else 2.5 * CHANCE)


def leak_share(
    images: npt.NDArray[np.uint8],
    rows: npt.ArrayLike,
    evaluated: npt.ArrayLike,
    trained: npt.ArrayLike,
    kinds: npt.ArrayLike | None = None,
    limit: int = 1_000,
) -> Leaked:
    """The share of evaluated pictures with a twin among those trained on, cheaply: `fit` asks this of every run.

    A sample of the evaluated pictures alone would give the share to within 3 percentage points. Training pictures are
    sampled too, 20 for each evaluated one at most, and a twin outside of that sample is missed: the share is then a
    lower bound, "at least". It is close to the true share if pictures have many twins, as frames of a video have. Of a
    leak by single copies in a training set of 165,670 pictures it sees an eighth.

    Args:
        images: (rows, H, W) or (rows, H, W, 3).
        rows: (N,) row of each picture, -1 where it is broken: it is left out.
        evaluated: (E,) positions in `rows`.
        trained: (T,) positions in `rows`.
        kinds: (N, K) codes as for `border_of`. Default: the lowest border.
        limit: Evaluated pictures that are looked at, at most.

    Returns:
        The share is 0 where nothing is evaluated.
    """
    rows, rng = np.asarray(rows, np.int64), np.random.default_rng(0)
    queries, pool = (
        _sample(rng, rows, np.asarray(part, np.int64), most)
        for part, most in ((evaluated, limit), (trained, limit * _TRAINED_PER_EVALUATED))
    )
    if not len(queries):
        return Leaked(0.0, THRESHOLD)
    compared = np.concatenate([queries, pool])
    prints = fingerprints(images, rows[compared])
    border = THRESHOLD if kinds is None else border_of(prints, np.asarray(kinds, np.int64)[compared])
    twin, _ = nearest_twins(prints, np.arange(len(queries)), np.arange(len(queries), len(compared)), border)
    return Leaked(float((twin >= 0).mean()), border)


def _sample(rng: np.random.Generator, rows: Ints, positions: Ints, most: int) -> Ints:
    """Positions of at most `most` pictures that are not broken, in the order of their rows."""
    positions = positions[rows[positions] >= 0]
    if len(positions) <= most:
        return positions
    chosen = rng.choice(positions, most, replace=False)
    return chosen[np.argsort(rows[chosen], kind="stable")]


class _Sets:
    """Disjoint sets of 0..count-1; `of` is always flat, so that it can be indexed by arrays."""

    def __init__(self, count: int) -> None:
        self.of = np.arange(count)
        self._members = [[position] for position in range(count)]

    def join(self, one: np.int64, other: np.int64) -> None:
        large, small = int(self.of[one]), int(self.of[other])
        if large == small:
            return
        if len(self._members[large]) < len(self._members[small]):
            large, small = small, large
        moved, self._members[small] = self._members[small], []
        self.of[moved] = large
        self._members[large] += moved


def _close(
    prints: Prints, queries: Ints, pool: Ints, border: float, *, once: bool = False
) -> Iterator[tuple[Ints, Ints, npt.NDArray[np.float32]]]:
    """Yields (a,) indices of `queries`, (b,) of `pool` and their (a, b) correlations; every twin is in one of these.

    `once`, for two lists that are the same, leaves out pairs that come in another block the other way round.
    """
    if not len(queries) or not len(pool):
        return
    # Both are sorted by one frequency, in which the pictures differ most: the squares of all differences between twins
    # add up to 2 - 2 correlation, so that a picture's twins are within reach of it there.
    reach = math.sqrt(2 * (1 - border + _SLACK))
    of_pool = prints.outlines[torch.from_numpy(pool)]
    most = int(of_pool[:, :-1].var(0, correction=0).argmax())
    places = of_pool[:, most].numpy()
    pool_order = np.argsort(places, kind="stable")
    query_order = np.argsort(prints.outlines[torch.from_numpy(queries), most].numpy(), kind="stable")
    places, outlines = places[pool_order], of_pool[torch.from_numpy(pool_order)]
    for start in follow(range(0, len(queries), _QUERIES), "looking for near twins"):
        some = query_order[start : start + _QUERIES]
        asked = prints.outlines[torch.from_numpy(queries[some])]
        first = start if once else int(np.searchsorted(places, float(asked[0, most]) - reach))
        last = int(np.searchsorted(places, float(asked[-1, most]) + reach, "right"))
        for offset in range(first, last, _POOL):
            bound = asked @ outlines[offset : min(offset + _POOL, last)].T
            if bound.amax() < border - _SLACK:
                continue
            near = bound >= border - _SLACK
            rows = some[near.any(1).nonzero()[:, 0].numpy()]
            columns = pool_order[near.any(0).nonzero()[:, 0].numpy() + offset]
            correlation = thumbnails_of(prints, queries[rows]) @ thumbnails_of(prints, pool[columns]).T
            yield rows, columns, correlation.numpy()


def _equals(digests: npt.NDArray[np.uint64], queries: Ints, pool: Ints) -> Ints:
    """A picture of the pool with the same pixels as each query and not the query itself; -1 where there is none."""
    if not len(pool):
        return np.full(len(queries), -1)
    pool = np.unique(pool)
    pool = pool[np.argsort(digests[pool], kind="stable")]
    ordered = digests[pool]
    found = np.searchsorted(ordered, digests[queries])
    last = len(pool) - 1
    found = np.where(pool[np.minimum(found, last)] == queries, found + 1, found)
    inside = np.minimum(found, last)
    equal = (found <= last) & (ordered[inside] == digests[queries])
    return np.where(equal, pool[inside], -1)
