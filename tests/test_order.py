import numpy as np
import pytest

from gfnet_pl.data.order import EpochOrder, epoch_order

LABELS = np.array([0] * 100 + [1] * 10 + [2] * 2)


def test_an_epoch_is_every_image_once():
    assert sorted(epoch_order(LABELS, seed=1, epoch=0)) == list(range(112))


@pytest.mark.parametrize("balanced", [False, True])
def test_the_order_is_a_function_of_seed_and_epoch(balanced):
    def order(seed, epoch):
        return epoch_order(LABELS, seed=seed, epoch=epoch, balanced=balanced).tolist()

    assert order(1, 5) == order(1, 5)
    assert order(1, 5) != order(1, 6)
    assert order(1, 5) != order(2, 5)


def test_balanced_draws_every_class_equally_often_and_uses_a_class_up_before_repeating():
    order = epoch_order(LABELS, seed=1, epoch=0, balanced=True)
    assert len(order) == len(LABELS)
    counts = np.bincount(LABELS[order])
    assert counts.max() - counts.min() <= 1
    for label in range(3):
        uses = np.bincount(order[LABELS[order] == label], minlength=112)[LABELS == label]
        assert uses.max() - uses.min() <= 1


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_share_the_single_process_order_and_get_equally_many(ranks):
    samplers = [EpochOrder(LABELS, seed=1, rank=rank, ranks=ranks) for rank in range(ranks)]
    for sampler in samplers:
        sampler.set_epoch(3)
    shares = [list(sampler) for sampler in samplers]
    assert all(len(share) == len(samplers[0]) == 112 // ranks for share in shares)
    together = [position for step in zip(*shares, strict=True) for position in step]
    assert together == epoch_order(LABELS, seed=1, epoch=3).tolist()[: len(together)]
