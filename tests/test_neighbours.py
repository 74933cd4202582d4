import numpy as np
import pytest
from scipy.stats import norm
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from gfnet_pl.evaluation.neighbours import nearest, neighbour_confusion, pixel_space, principal_components
from gfnet_pl.evaluation.overlap import pair_overlap


def clouds(count, *centres, spread=1.0, seed=0):
    """`count` points of each class round its centre in three dimensions, and their labels."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(centres)), count)
    points = rng.normal(0, spread, (len(labels), 3))
    points[:, 0] += np.array(centres)[labels]
    return points, labels


def unknown(labels):
    return [""] * len(labels)


def test_the_nearest_are_those_of_scikit_learn_also_far_from_the_origin():
    points = np.random.default_rng(0).normal(size=(1_203, 20)).astype(np.float32) + 1_000
    places, distances = nearest(points, 7)
    theirs, same = NearestNeighbors(n_neighbors=7).fit(points.astype(float)).kneighbors()
    np.testing.assert_array_equal(places, same)
    np.testing.assert_allclose(distances, theirs, rtol=1e-9)


def test_of_equally_near_points_the_first_comes_first():
    places, _ = nearest([[0.0], [1], [1], [1], [-1], [0]], 5)
    assert places[0].tolist() == [5, 1, 2, 3, 4]


def test_a_point_that_is_not_finite_is_named():
    with pytest.raises(ValueError, match="point 1 is not finite"):
        nearest([[0.0, 0], [0, np.nan], [1, 1]], 2)


def test_the_vote_is_the_nearest_neighbour_classifier_of_scikit_learn():
    points, labels = clouds(200, 0, 1.5)
    found = neighbour_confusion(points, labels, unknown(labels), 2, k=9)  # odd: no ties
    theirs = KNeighborsClassifier(9).fit(points, labels)
    assert found.accuracy == pytest.approx((theirs.predict(None) == labels).mean())
    np.testing.assert_allclose(found.votes / 9, theirs.predict_proba(None))
    np.testing.assert_allclose(found.matrix[0], (found.votes[labels == 0] / 9).mean(0))


@pytest.mark.parametrize("nearest_class", [0, 1])
def test_a_tie_is_decided_by_the_nearest(nearest_class):
    points = [[0.0], [1], [2], [-3], [-4]]  # the first has two neighbours of each class; it is the only one of theirs
    groups = ["asked", *["others"] * 4]
    others = [nearest_class, 1 - nearest_class] * 2
    for own_class, right in ((nearest_class, 1), (1 - nearest_class, 0)):
        found = neighbour_confusion(points, [own_class, *others], groups, 2, k=4)
        assert found.votes[0].tolist() == [2, 2]
        assert found.accuracy == (right + 2) / 5  # two of the others are of its class


@pytest.mark.parametrize("distance", [0, 1, 3])
def test_overlap_of_two_normal_distributions_is_their_integral(distance):
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 3_000)
    points = rng.normal(distance * labels)[:, None]
    found = neighbour_confusion(points, labels, unknown(labels), 2)
    x = np.linspace(-8, 12, 20_001)
    one, other = norm.pdf(x), norm.pdf(x, distance)
    expected = np.trapezoid(one * other / (one + other), x)
    assert pair_overlap(found.matrix)[0, 1] == pytest.approx(expected, abs=0.015)
    np.testing.assert_allclose(found.matrix.sum(1), 1)


def test_frames_of_a_clip_do_not_hide_that_classes_overlap():
    rng = np.random.default_rng(0)
    clips = rng.normal(size=(200, 4))  # the class of a clip says nothing about its pictures
    points = np.repeat(clips, 12, axis=0) + rng.normal(0, 1e-3, (2_400, 4))
    labels = np.repeat(np.arange(200) % 2, 12)
    groups = np.repeat([f"clip{clip}" for clip in range(200)], 12).tolist()
    naive = neighbour_confusion(points, labels, unknown(labels), 2)
    assert naive.accuracy == 1
    assert pair_overlap(naive.matrix)[0, 1] == 0
    found = neighbour_confusion(points, labels, groups, 2)
    assert found.accuracy == pytest.approx(0.5, abs=0.1)
    assert pair_overlap(found.matrix)[0, 1] == pytest.approx(0.5, abs=0.05)


def test_pictures_of_unknown_groups_are_neighbours_of_each_other():
    points = [[0.0], [0.1], [0.2], [0.3]]
    found = neighbour_confusion(points, [0, 0, 1, 1], ["", "", "known", "known"], 2, k=3)
    assert found.votes.tolist() == [[1, 2], [1, 2], [2, 0], [2, 0]]


def test_pictures_without_neighbours_are_left_out():
    found = neighbour_confusion([[0.0], [1], [2]], [0, 1, 1], ["a", "a", "a"], 3)
    assert not found.votes.any()
    assert found.accuracy is None
    assert np.isnan(found.matrix).all()
    mixed = neighbour_confusion([[0.0], [1], [2], [3]], [0, 0, 1, 1], ["a", "a", "b", "b"], 3)
    assert mixed.votes.tolist() == [[0, 2, 0], [0, 2, 0], [2, 0, 0], [2, 0, 0]]
    np.testing.assert_array_equal(mixed.matrix, [[0, 1, 0], [1, 0, 0], [np.nan] * 3])
    assert mixed.accuracy == 0


def test_one_picture_none_and_one_class():
    one = neighbour_confusion([[0.0]], [0], ["a"], 2)
    assert (one.votes.tolist(), one.accuracy) == ([[0, 0]], None)
    none = neighbour_confusion(np.empty((0, 3)), [], [], 2)
    assert (none.votes.shape, none.accuracy) == ((0, 2), None)
    same = neighbour_confusion([[0.0], [1], [5]], [0, 0, 0], ["", "", ""], 1)
    assert (same.votes.tolist(), same.matrix.tolist(), same.accuracy) == ([[2], [2], [2]], [[1]], 1)


def test_lengths_that_differ_are_refused():
    with pytest.raises(ValueError, match="2 points with 1 labels and 2 groups"):
        neighbour_confusion([[0.0], [1]], [0], ["", ""], 2)


@pytest.mark.parametrize("shape", [(40, 30), (30, 2_000), (500, 300)])
def test_principal_components_are_those_of_scikit_learn(shape):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=shape) @ np.diag(0.9 ** np.arange(shape[1])) + 100
    found = principal_components(rows, 12)
    theirs = PCA(12, svd_solver="full").fit(rows)
    expected = theirs.transform(rows) * np.sign(theirs.components_[range(12), abs(theirs.components_).argmax(1)])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-4)
    np.testing.assert_array_equal(found, principal_components(rows, 12))


def test_principal_components_leave_the_rows_as_they_are():
    rows = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    before = rows.copy()
    principal_components(rows, 2)
    np.testing.assert_array_equal(rows, before)


def test_pixel_space_keeps_the_distances_between_pictures_but_for_brightness_and_contrast():
    images = np.random.default_rng(0).integers(0, 100, (30, 12, 10), dtype=np.uint8)
    points = pixel_space(images)
    assert points.shape == (30, 30)
    rows = images.reshape(30, -1).astype(float)
    _, distances = nearest(points, 5)
    _, exact = nearest((rows - rows.mean(1, keepdims=True)) / rows.std(1, keepdims=True), 5)
    np.testing.assert_allclose(distances, exact, rtol=1e-4)
    changed = images.copy()
    changed[::2] = 2 * images[::2] + 30  # every other picture is brighter and of more contrast
    np.testing.assert_allclose(pixel_space(changed), points, atol=1e-3)


@pytest.mark.parametrize(("count", "columns"), [(0, 0), (1, 1), (3, 3), (60, 16)])
def test_pixel_space_of_few_or_equal_pictures(count, columns):
    points = pixel_space(np.full((count, 4, 4), 7, np.uint8))
    assert points.shape == (count, columns)
    assert not points.any()
