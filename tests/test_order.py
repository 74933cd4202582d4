from itertools import chain

import numpy as np
import pytest
import torch

from gfnet_pl.data.batches import ImageArray, ResumableLoader
from gfnet_pl.data.order import (
    EpochOrder,
    class_shares,
    class_weights,
    epoch_order,
    in_turn,
)
from gfnet_pl.errors import UserError

LABELS = np.array([0] * 100 + [1] * 10 + [2] * 2)
EVENLY = np.ones(3)


def drawn(order):
    return np.concatenate([draw.images for draw in order]).tolist()


def test_an_epoch_is_every_image_once():
    assert sorted(epoch_order(LABELS, seed=1, epoch=0)) == list(range(112))


@pytest.mark.parametrize("weights", [None, EVENLY])
def test_the_order_is_a_function_of_seed_and_epoch(weights):
    def order(seed, epoch):
        return epoch_order(LABELS, seed=seed, epoch=epoch, weights=weights).tolist()

    assert order(1, 5) == order(1, 5)
    assert order(1, 5) != order(1, 6)
    assert order(1, 5) != order(2, 5)


@pytest.mark.parametrize("size", [30, 112, 250])
def test_epochs_of_any_size_use_every_image_before_one_comes_again(size):
    order = np.concatenate([epoch_order(LABELS, seed=1, epoch=epoch, size=size) for epoch in range(8)])
    assert len(order) == 8 * size
    for start in range(0, len(order) - 112, 112):
        assert sorted(order[start : start + 112]) == list(range(112))


def test_even_weights_draw_every_class_equally_often_and_use_a_class_up_before_repeating():
    order = epoch_order(LABELS, seed=1, epoch=0, weights=EVENLY)  # counts differ 50-fold
    assert len(order) == len(LABELS)
    counts = np.bincount(LABELS[order])
    assert counts.max() - counts.min() <= 1
    for label in range(3):
        uses = np.bincount(order[LABELS[order] == label], minlength=112)[LABELS == label]
        assert uses.max() - uses.min() <= 1


def test_weights_are_how_often_a_class_comes():
    order = epoch_order(LABELS, seed=1, epoch=0, size=700, weights=np.array([4.0, 2.0, 1.0]))
    assert np.bincount(LABELS[order]).tolist() == [400, 200, 100]


def test_what_the_division_leaves_over_goes_round():
    shares = [class_shares(100, EVENLY, np.random.default_rng(seed)).tolist() for seed in range(30)]
    assert {share.index(34) for share in shares} == {0, 1, 2}
    assert all(sum(share) == 100 for share in shares)


def test_a_class_without_images_gets_none():
    weights = class_weights(LABELS, ["a", "b", "c", "d"], balanced=True, emphasis={})
    order = epoch_order(LABELS, seed=1, epoch=0, size=99, weights=weights)
    assert np.bincount(LABELS[order], minlength=4).tolist() == [33, 33, 33, 0]


@pytest.mark.parametrize("weights", [None, EVENLY])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_share_the_single_process_order_and_get_equally_many(ranks, weights):
    orders = [
        EpochOrder(LABELS, seed=1, batch_size=7, weights=weights, rank=rank, ranks=ranks) for rank in range(ranks)
    ]
    for order in orders:
        order.set_epoch(3)
    shares = [drawn(order) for order in orders]
    assert all(len(share) == len(shares[0]) == 112 // ranks for share in shares)
    together = [position for step in zip(*shares, strict=True) for position in step]
    assert together == epoch_order(LABELS, seed=1, epoch=3, weights=weights).tolist()[: len(together)]
    assert all(len(list(order)) == len(order) for order in orders)


def test_seeds_follow_the_place_in_the_order_and_not_the_rank_or_the_batch_size():
    def seeds(seed, epoch, batch_size, ranks):
        found = {}
        for rank in range(ranks):
            order = EpochOrder(LABELS, seed=seed, batch_size=batch_size, rank=rank, ranks=ranks, size=108)
            order.set_epoch(epoch)
            places = np.arange(rank, 108, ranks).tolist()
            found |= dict(zip(places, np.concatenate([draw.seeds for draw in order]).tolist(), strict=True))
        return [found[place] for place in range(108)]

    whole = seeds(1, 2, 108, 1)
    assert seeds(1, 2, 5, 3) == seeds(1, 2, 12, 2) == whole
    assert len({*whole, *seeds(1, 3, 108, 1), *seeds(2, 2, 108, 1)}) == 3 * 108


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("batches", [0, 1, 5, 11])
def test_a_loader_goes_on_at_any_batch_with_any_number_of_worker_processes(workers, batches):
    images = np.arange(112, dtype=np.uint8)[:, None, None]

    def loader():
        data = ImageArray(images, np.arange(112), LABELS)
        return ResumableLoader(
            data, sampler=EpochOrder(LABELS, seed=1, batch_size=10), batch_size=None, num_workers=workers
        )

    whole = loader()
    whole.sampler.set_epoch(2)
    expected = [batch.images.flatten().tolist() for batch in whole]
    assert list(chain(*expected)) == epoch_order(LABELS, seed=1, epoch=2).tolist()
    interrupted = loader()
    batches_of = iter(interrupted)
    interrupted.sampler.set_epoch(2)  # as Lightning does: after the iterator was made
    for _ in range(batches):
        next(batches_of)
    resumed = loader()
    if batches:
        resumed.load_state_dict(interrupted.state_dict())
    resumed.sampler.set_epoch(2)
    assert [batch.images.flatten().tolist() for batch in resumed] == expected[batches:]
    resumed.sampler.set_epoch(3)
    following = [batch.images.flatten().tolist() for batch in resumed]
    assert list(chain(*following)) == epoch_order(LABELS, seed=1, epoch=3).tolist()


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_evaluation_counts_every_image_once_on_any_number_of_ranks(ranks):
    shares = [drawn(in_turn(112, batch_size=25, rank=rank, ranks=ranks)) for rank in range(ranks)]
    assert sorted(chain(*shares)) == list(range(112))


def test_a_batch_is_the_rows_asked_for(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (20, 4, 6), dtype=np.uint8)
    rows = np.array([3, 19, 0, 7])
    for device in (None, torch.device("cpu")):
        data = ImageArray(images, rows, np.array([5, 6, 7, 8]), device)
        (draw,) = in_turn(4, batch_size=4)
        batch = data[draw._replace(images=draw.images[::-1].copy())]
        np.testing.assert_array_equal(batch.images[:, 0], images[[7, 0, 19, 3]])
        assert batch.labels.tolist() == [8, 7, 6, 5]


def test_class_weights_balance_and_emphasise():
    names = ["a", "b", "c"]
    assert class_weights(LABELS, names, balanced=False, emphasis={}) is None
    assert class_weights(LABELS, names, balanced=True, emphasis={}).tolist() == [1, 1, 1]
    assert class_weights(LABELS, names, balanced=False, emphasis={"b": 3}).tolist() == [100, 30, 2]
    assert class_weights(LABELS, names, balanced=True, emphasis={"c": 2}).tolist() == [1, 1, 2]


@pytest.mark.parametrize(("emphasis", "message"), [({"z": 2}, "no class 'z'"), ({"a": 0}, "a is 0"), ({"a": -1}, "-1")])
def test_emphasis_on_no_class_or_of_no_use_is_named(emphasis, message):
    with pytest.raises(UserError, match=f"data.class_emphasis: .*{message}"):
        class_weights(LABELS, ["a", "b", "c"], balanced=True, emphasis=emphasis)
