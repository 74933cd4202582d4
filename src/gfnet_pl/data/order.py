"""Which image comes when: a pure function of (seed, epoch, position), cut by rank."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler


def epoch_order(
    labels: npt.NDArray[np.int64], *, seed: int, epoch: int, balanced: bool = False
) -> npt.NDArray[np.int64]:
    """The order of an epoch's images.

    Args:
        labels: (N,) class of each image.
        seed: Another seed is another order.
        epoch: Counted from 0.
        balanced: Every class equally often (to within one image), whatever the counts; a class's images are all used
            before one of them comes again.

    Returns:
        (N,) positions in `labels`.
    """
    rng = np.random.default_rng((seed, epoch))
    if not balanced:
        return rng.permutation(len(labels))
    classes = rng.permutation(np.unique(labels))  # at random, who gets the few that the division leaves over
    shares = np.full(len(classes), len(labels) // len(classes))
    shares[: len(labels) % len(classes)] += 1
    chosen = []
    for label, share in zip(classes, shares, strict=True):
        members = np.flatnonzero(labels == label)
        rounds = -(-share // len(members))
        chosen.append(np.concatenate([rng.permutation(members) for _ in range(rounds)])[:share])
    return rng.permutation(np.concatenate(chosen))


class EpochOrder(Sampler[int]):
    """Gives a rank its share of `epoch_order`; Lightning calls `set_epoch` before each epoch.

    All ranks get equally many images: the few that the division leaves over are left out of this epoch.
    """

    def __init__(
        self, labels: npt.NDArray[np.int64], *, seed: int, balanced: bool = False, rank: int = 0, ranks: int = 1
    ) -> None:
        self.labels, self.seed, self.balanced, self.rank, self.ranks = labels, seed, balanced, rank, ranks
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.labels) // self.ranks

    def __iter__(self) -> Iterator[int]:
        order = epoch_order(self.labels, seed=self.seed, epoch=self.epoch, balanced=self.balanced)
        yield from order[self.rank : len(self) * self.ranks : self.ranks].tolist()
