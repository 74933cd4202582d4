import numpy as np
import pytest
from sklearn.covariance import EmpiricalCovariance

from gfnet_pl.evaluation.familiarity import KEPT, Familiarity


@pytest.fixture
def learned():
    """Features of three classes, stretched along one axis, and their labels."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 400)
    stretch = np.diag([10.0, 1, 1, 1])
    return (rng.normal(size=(1200, 4)) + 20 * np.eye(4)[labels]) @ stretch, labels


def test_the_distance_is_mahalanobis_from_the_nearest_class_mean(learned):
    features, labels = learned
    means = np.stack([features[labels == k].mean(0) for k in range(3)])
    reference = EmpiricalCovariance(assume_centered=True).fit(features - means[labels])
    found = Familiarity.fit(features, labels).distances(features)
    expected = np.sqrt(np.stack([reference.mahalanobis(features - mean) for mean in means]).min(0))
    np.testing.assert_allclose(found, expected, rtol=0.15)  # ours is shrunk by a hundredth
    assert np.corrcoef(found, expected)[0, 1] > 0.99


def test_what_is_apart_from_all_classes_is_farther_than_95_percent_of_good_pictures(learned):
    features, labels = learned
    known = Familiarity.fit(features, labels)
    rng = np.random.default_rng(1)
    others = (rng.normal(size=(1000, 4)) + 20 * np.eye(4)[rng.integers(0, 3, 1000)]) @ np.diag([10.0, 1, 1, 1])
    good = rng.uniform(size=1000) < 0.8
    known = known.limited_by(others, good)
    assert (known.distances(others[good]) <= known.limit).mean() == pytest.approx(KEPT, abs=0.002)
    assert known.distances([[0, 0, 0, 40], [0, 10, 10, 0]]).min() > known.limit


def test_the_limit_stands_for_the_next_picture_too():
    known = Familiarity.fit(np.random.default_rng(0).normal(size=(100, 2)), np.zeros(100, int))
    few = np.random.default_rng(1).normal(size=(10, 2))
    assert known.limited_by(few, np.ones(10, bool)).limit == known.distances(few).max()
    assert known.limited_by(few, np.zeros(10, bool)).distances(1e9 * few).max() < known.limit


def test_few_pictures_equal_ones_and_absent_classes_have_distances():
    known = Familiarity.fit(np.ones((3, 8)), np.array([0, 4, 4]))
    assert known.distances(np.ones((1, 8))) == pytest.approx(0, abs=1e-5)
    assert np.isfinite(known.distances(np.zeros((1, 8)))).all()
    assert len(known.means) == 2
