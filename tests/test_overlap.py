import numpy as np
import pytest
from scipy.stats import spearmanr
from test_neighbours import clouds, unknown

from gfnet_pl.evaluation.neighbours import Neighbours, neighbour_confusion
from gfnet_pl.evaluation.overlap import Explanation, InPixels, confused_pairs, explain, pair_overlap, rank_correlation


def logits_of(said, second, classes):
    logits = np.zeros((len(said), classes))
    logits[np.arange(len(said)), second] = 1
    logits[np.arange(len(said)), said] = 2
    return logits


def explanation(errors, right, pixel_accuracy=0.9):
    return Explanation(InPixels(*errors), InPixels(*right), pixel_accuracy, 0.9, 0.1, 0.1)


def test_pair_overlap_is_the_mean_of_both_ways():
    overlap = pair_overlap(np.array([[0.7, 0.3, 0], [0.1, 0.9, 0], [np.nan] * 3]))
    assert overlap[0, 1] == overlap[1, 0] == pytest.approx(0.2)
    assert overlap.diagonal().tolist() == [0, 0, 0]
    assert np.isnan(overlap[:2, 2]).all()


def test_rank_correlation_is_spearmans():
    rng = np.random.default_rng(0)
    for values in (5, 1_000):  # many ties, and few
        one, other = rng.integers(0, values, (2, 80))
        expected = spearmanr(one, one + other).statistic
        assert rank_correlation(one, one + other) == pytest.approx(expected, abs=1e-12)
        ranks = [1 + (side[:, None] > side).sum(1) + ((side[:, None] == side).sum(1) - 1) / 2 for side in (one, other)]
        assert rank_correlation(one, other) == pytest.approx(np.corrcoef(ranks)[0, 1], abs=1e-12)
    assert rank_correlation([1, 2, 3, np.nan], [9, 8, 1, 5]) == pytest.approx(-1)


def test_rank_correlation_takes_rounding_for_equality():
    assert rank_correlation([0.1 + 0.2, 0.3, 1], [1, 2, 3]) == rank_correlation([0.3, 0.3, 1], [1, 2, 3])


@pytest.mark.parametrize(
    ("one", "other"), [([], []), ([1, 2], [2, 1]), ([1, 2, np.nan], [1, 2, 3]), ([1] * 4, [*"1234"])]
)
def test_rank_correlation_is_not_defined(one, other):
    assert rank_correlation(one, np.array(other, float)) is None
    assert rank_correlation(np.array(other, float), one) is None


def test_confused_pairs_count_both_ways_and_order_ties_by_class():
    labels = [3, 3, 0, 2, 1, 1, 1, 0, 0]
    said = [0, 0, 3, 1, 2, 3, 1, 0, 3]
    assert confused_pairs(labels, said, 5) == [(0, 3, 2, 2), (1, 2, 1, 1), (1, 3, 1, 0)]
    assert confused_pairs([3, 1, 2], [2, 0, 1], 4) == [(0, 1, 0, 1), (1, 2, 0, 1), (2, 3, 0, 1)]
    assert confused_pairs(labels, said, 5, limit=1) == [(0, 3, 2, 2)]
    assert confused_pairs(labels, labels, 5) == confused_pairs([], [], 2) == []


def test_an_error_is_in_the_pixels_where_the_wrong_class_is_as_near():
    votes = np.array([[3, 3, 0], [4, 2, 0], [0, 0, 6], [0, 0, 6], [0, 0, 0], [1, 5, 0], [5, 1, 0]])
    labels = np.array([0, 0, 0, 0, 0, 0, 0])
    said = np.array([1, 1, 1, 2, 1, 0, 0])  # near; not; neither there; nearer; no neighbours; two right ones
    second = np.array([0, 0, 0, 0, 0, 1, 1])
    found = explain(labels, logits_of(said, second, 3), *[Neighbours(votes, np.eye(3), 0.5)] * 2)
    assert (found.errors, found.right) == (InPixels(2, 4), InPixels(1, 2))
    assert found.errors.share == 0.5


def test_explain_with_one_class_or_no_pictures():
    alone = Neighbours(np.array([[2], [2], [2]]), np.eye(1), 1.0)
    found = explain([0, 0, 0], np.zeros((3, 1)), alone, alone)
    assert (found.errors, found.right, found.rank_pixels) == (InPixels(0, 0), InPixels(0, 0), None)
    assert found.right.share is None
    none = neighbour_confusion(np.empty((0, 2)), [], [], 4)
    assert explain([], np.empty((0, 4)), none, none).verdict.startswith("Too few to tell")


def test_errors_of_a_net_on_pictures_that_are_apart_are_the_nets():
    points, labels = clouds(100, 0, 20, 40, 60)
    rng = np.random.default_rng(1)
    said = np.where(rng.random(400) < 0.2, (labels + 1) % 4, labels)
    space = neighbour_confusion(points, labels, unknown(labels), 4)
    found = explain(labels, logits_of(said, (labels + 2) % 4, 4), space, space)
    assert found.errors == InPixels(0, (said != labels).sum())
    assert found.pixel_accuracy == 1
    assert found.verdict.startswith("Mostly in the net: ")


def test_errors_on_pictures_that_look_like_another_class_are_in_the_pixels():
    points, labels = clouds(100, 0, 20, 40, 60)
    said = labels.copy()
    said[:30] = 1
    points[:30, 0] += 20  # pictures of class 0 that look like class 1, and a net that says so
    space = neighbour_confusion(points, labels, unknown(labels), 4)
    found = explain(labels, logits_of(said, (labels + 2) % 4, 4), space, space)
    assert found.errors.of == 30
    assert found.errors.share > 0.9
    assert found.right == InPixels(0, 370)
    assert found.verdict.startswith("Mostly in the pixels: the pictures nearest in pixels show the wrong class")
    assert found.rank_pixels == pytest.approx(1)  # one pair overlaps, and it is the one confused


def test_ranks_compare_shares_so_that_large_classes_do_not_weigh_more():
    sizes = [1_000, 100, 100]
    labels = np.repeat([0, 1, 2], sizes)
    said = labels.copy()
    said[:20] = 1  # 2 % of class 0
    said[1_000:1_005] = 2  # 5 % of class 1
    said[1_100:1_101] = 0
    matrix = np.array([[0.98, 0.02, 0], [0, 0.95, 0.05], [0.01, 0, 0.99]])
    space = Neighbours(np.ones((1_200, 3), int), matrix, 0.9)
    assert explain(labels, logits_of(said, labels, 3), space, space).rank_pixels == pytest.approx(1)


@pytest.mark.parametrize(
    ("errors", "right", "pixel_accuracy", "verdict"),
    [
        ((9, 9), (0, 500), 0.9, "Too few to tell where the errors come from: 9 errors, 500 right pictures."),
        ((60, 80), (9, 9), 0.9, "Too few to tell"),
        ((60, 100), (100, 500), 0.9, "Mostly in the pixels"),
        ((60, 100), (100, 500), 0.2, "Mostly in the pixels"),  # beyond what chance puts near
        ((30, 100), (50, 1_000), 0.9, "Partly in the pixels"),  # above, and yet not most
        ((60, 100), (250, 500), 0.9, "Partly in the pixels"),  # intervals overlap
        ((4, 12), (0, 9_000), 0.9, "Partly in the pixels"),
        ((20, 100), (100, 500), 0.9, "Mostly in the net"),
        ((20, 100), (100, 500), 0.5, "Mostly in the net"),
        ((20, 100), (100, 500), 0.11, "Pixels cannot tell where the errors come from: the nearest pictures' vote is "),
        ((4, 12), (100, 500), 0.9, "Partly in the pixels"),  # may be more than half
    ],
)
def test_the_verdict_is_careful(errors, right, pixel_accuracy, verdict):
    assert explanation(errors, right, pixel_accuracy).verdict.startswith(verdict)


def test_the_verdict_tells_its_figures():
    assert explanation((20, 100), (150, 1_000)).verdict == (
        "Mostly in the net: the pictures nearest in pixels show the wrong class as often as the true one for 20 % of "
        "100 errors, and the second likeliest for 15 % of 1,000 right pictures."
    )
