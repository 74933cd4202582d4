import sys

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from gfnet_pl.errors import UserError
from gfnet_pl.evaluation import embedding
from gfnet_pl.evaluation.embedding import umap_map, umap_missing


@pytest.fixture(autouse=True)
def real(monkeypatch):
    monkeypatch.setattr(embedding, "NEIGHBOURS", 15)


def clouds(count=40, classes=4, dims=10):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), count)
    return (rng.normal(size=(classes, dims)) * 10)[labels] + rng.normal(size=(len(labels), dims)), labels


def test_near_neighbours_stay_near():
    points, labels = clouds()
    flat = umap_map(points)
    assert (flat.shape, flat.dtype) == ((160, 2), np.float32)
    assert (flat.min(0).tolist(), flat.max(0).tolist()) == ([0, 0], [1, 1])
    near = NearestNeighbors(n_neighbors=10).fit(flat).kneighbors(return_distance=False)
    assert (labels[near] == labels[:, None]).mean() > 0.99
    before = NearestNeighbors(n_neighbors=10).fit(points).kneighbors(return_distance=False)
    kept = [len(set(one) & set(other)) / 10 for one, other in zip(near, before, strict=True)]
    assert np.mean(kept) > 0.5  # by chance, within a cloud, a quarter


def test_a_seed_gives_one_map_and_another_seed_another():
    points, _ = clouds()
    np.testing.assert_array_equal(umap_map(points, seed=3), umap_map(points, seed=3))
    assert not np.allclose(umap_map(points, seed=3), umap_map(points, seed=4))


@pytest.mark.parametrize("count", [0, 1, 2, 4, 15, 16])
def test_few_points_have_a_map(count):
    flat = umap_map(np.random.default_rng(0).normal(size=(count, 6)))
    assert flat.shape == (count, 2)
    assert np.isfinite(flat).all()
    assert count < 3 or np.ptp(flat, 0).tolist() == [1, 1]


def test_points_in_one_or_two_dimensions_are_their_own_map():
    line = np.linspace(3, 5, 40)[:, None]
    np.testing.assert_allclose(
        umap_map(line), np.hstack((np.linspace(0, 1, 40)[:, None], np.full((40, 1), 0.5))), atol=1e-6
    )
    assert umap_map(np.random.default_rng(0).normal(size=(40, 2))).shape == (40, 2)


def test_equal_points_lie_in_the_middle():
    assert (umap_map(np.full((50, 8), 1.7)) == 0.5).all()


def test_copies_of_two_pictures_have_a_map():
    points = np.zeros((60, 8))
    points[7] = 1
    flat = umap_map(points)
    assert flat.shape == (60, 2)
    assert np.isfinite(flat).all()


def test_features_that_are_not_finite_are_named():
    points, _ = clouds()
    points[12, 3] = np.inf
    with pytest.raises(ValueError, match="point 12 is not finite"):
        umap_map(points)


def test_without_umap_the_way_to_it_is_told(monkeypatch):
    assert umap_missing() is None
    monkeypatch.setitem(sys.modules, "umap", None)
    assert umap_missing() == 'the map needs umap-learn, which is not installed: pip install "gfnet_pl[map]"'
    with pytest.raises(UserError, match=r'pip install "gfnet_pl\[map\]"'):
        umap_map(np.zeros((3, 2)))
