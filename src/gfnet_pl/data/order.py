"""Which image comes when: a pure function of (seed, epoch, position), cut by rank.

One order serves every rank, so the ranks' batches of a step, taken together, are that step's batch of a single process
that has all of them. Where it stopped is a number of batches, so a loader resumes at any of them.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from gfnet_pl.errors import UserError


def epoch_order(
    labels: npt.NDArray[np.int64],
    *,
    seed: int,
    epoch: int,
    size: int | None = None,
    weights: npt.NDArray[np.float64] | None = None,
) -> npt.NDArray[np.int64]:
    """The order of an epoch's images.

    Args:
        labels: (N,) class of each image, 0 to C - 1.
        seed: Another seed is another order.
        epoch: Counted from 0.
        size: Images per epoch. Default: N. Without weights, smaller epochs go through the set one after another, so
            every image comes once before one comes twice.
        weights: (C,) how often a class comes, relative to the others, whatever its count; None for every image equally
            often. Within an epoch, a class's images are all used before one of them comes again.

    Returns:
        (size,) positions in `labels`.
    """
    count = len(labels)
    size = count if size is None else size
    if weights is None:
        first, last = epoch * size // count, ((epoch + 1) * size - 1) // count
        rounds = [np.random.default_rng((seed, number)).permutation(count) for number in range(first, last + 1)]
        start = epoch * size - first * count
        order: npt.NDArray[np.int64] = np.concatenate(rounds)[start : start + size]
        return order
    rng = np.random.default_rng((seed, epoch))
    chosen = []
    for label, share in enumerate(class_shares(size, weights, rng)):
        members = np.flatnonzero(labels == label)
        rounds = [rng.permutation(members) for _ in range(-(-share // max(1, len(members))))]
        chosen += [np.concatenate(rounds)[:share]] if rounds else []
    return rng.permutation(np.concatenate(chosen))


def class_shares(
    size: int, weights: npt.NDArray[np.float64], rng: np.random.Generator | None = None
) -> npt.NDArray[np.int64]:
    """Whole images of each class, in proportion to `weights`, `size` in all; `rng` says who gets what is left over."""
    exact = size * weights / weights.sum()
    shares: npt.NDArray[np.int64] = exact.astype(np.int64)
    ties = np.zeros(len(weights)) if rng is None else rng.random(len(weights))
    after = np.lexsort((ties, shares - exact))  # the largest remainders first
    shares[after[: size - shares.sum()]] += 1
    return shares


class Draw(NamedTuple):
    """What a batch is made of: `images` (B,) positions in the set and, in training, `seeds` (B,) int64 to augment by.

    A seed is a function of (seed, epoch, position in the epoch's order), and of nothing else.
    """

    images: npt.NDArray[np.int64]
    seeds: npt.NDArray[np.int64] | None = None


class EpochOrder(Sampler[Draw]):
    """Gives a rank its batches of `epoch_order`; Lightning calls `set_epoch` before each epoch.

    All ranks get equally many images. The remainder of the division is left out of this epoch.

    Args:
        labels: As for `epoch_order`, and so are `seed`, `size` and `weights`.
        seed: Of the order.
        batch_size: Images per batch and rank; the last batch may be smaller.
        size: Images per epoch.
        weights: How often a class comes.
        rank: This process's number.
        ranks: How many there are.
    """

    def __init__(
        self,
        labels: npt.NDArray[np.int64],
        *,
        seed: int,
        batch_size: int,
        size: int | None = None,
        weights: npt.NDArray[np.float64] | None = None,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.labels, self.seed, self.weights = labels, seed, weights
        self.batch_size, self.rank, self.ranks = batch_size, rank, ranks
        self.size = len(labels) if size is None else size
        self.epoch = 0
        self.start = 0  # batches of this epoch that an interrupted run has had

    def set_epoch(self, epoch: int) -> None:
        if epoch != self.epoch:
            self.epoch, self.start = epoch, 0

    def __len__(self) -> int:
        return -(-(self.size // self.ranks) // self.batch_size)

    def __iter__(self) -> Iterator[Draw]:
        order = epoch_order(self.labels, seed=self.seed, epoch=self.epoch, size=self.size, weights=self.weights)
        mine = np.arange(self.rank, self.size // self.ranks * self.ranks, self.ranks)
        seeds = np.random.SeedSequence((self.seed, self.epoch)).generate_state(1, np.uint64).view(np.int64) + mine
        for batch in range(self.start, len(self)):
            part = slice(batch * self.batch_size, (batch + 1) * self.batch_size)
            yield Draw(order[mine[part]], seeds[part])


def in_turn(count: int, *, batch_size: int, rank: int = 0, ranks: int = 1) -> list[Draw]:
    """A rank's batches for evaluation: every image once on any number of ranks, so some ranks may have one more."""
    mine = np.arange(rank, count, ranks)
    return [Draw(mine[start : start + batch_size]) for start in range(0, len(mine), batch_size)]


def class_weights(
    labels: npt.NDArray[np.int64], classes: Sequence[str], *, balanced: bool, emphasis: dict[str, float]
) -> npt.NDArray[np.float64] | None:
    """How often each class comes, for `epoch_order`.

    Args:
        labels: (N,) class of each training image.
        classes: Names.
        balanced: All equally often instead of by their counts.
        emphasis: Factors by name on top; classes that are not named have 1.

    Returns:
        (C,) weights, or None where every image comes equally often.

    Raises:
        UserError: `emphasis` names a class that does not exist, or a factor is not above 0.
    """
    for name, factor in emphasis.items():
        if name not in classes:
            raise UserError(f"data.class_emphasis: no class {name!r} in the data; there are {', '.join(classes)}")
        if not 0 < factor < float("inf"):
            raise UserError(f"data.class_emphasis: {name} is {factor}; it must be above 0 (2: twice as often)")
    if not balanced and not emphasis:
        return None
    counts = np.bincount(labels, minlength=len(classes))
    usual = np.ones(len(classes)) if balanced else counts.astype(np.float64)
    return usual * [emphasis.get(name, 1.0) for name in classes] * (counts > 0)
