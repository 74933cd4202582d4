"""A flat map of pictures on which near neighbours stay near: UMAP (McInnes, Healy and Melville 2018).

It is for looking at: how far apart two clouds are on it says nothing. What overlaps by how much is counted in the full
space (`overlap.py`). umap-learn is an optional dependency, imported only when a map is drawn.
"""

import warnings
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt

from gfnet_pl.errors import UserError
from gfnet_pl.evaluation.neighbours import nearest, principal_components

NEIGHBOURS = 15  # of each point, itself among them: UMAP's default
_EPOCHS = 200  # on up to 5,600 pictures the map keeps as many neighbours as with UMAP's 500, to 4 percentage points


def umap_missing() -> str | None:
    """What to do where umap-learn is not installed; None where it is."""
    if find_spec("umap") is not None:
        return None
    return 'the map needs umap-learn, which is not installed: pip install "gfnet_pl[map]"'


def umap_map(points: npt.ArrayLike, seed: int = 0) -> npt.NDArray[np.float32]:
    """Places points in the unit square so that near neighbours are near.

    UMAP starts from the first two principal components, with the exact neighbours. Those two components themselves are
    the map of at most 15 points, of points in one or two dimensions, and of points that are all the same.

    Two maps, of 50 and of 96 dimensions, take 9 s of one core for 2,000 points and 12 s for 5,600; 6 s of them go into
    the import and compilation. The first import after an installation compiles for another 18 s, once.

    Args:
        points: (N, D), from `overlap.pixel_space` or a net's features.
        seed: The same one gives the same map.

    Returns:
        (N, 2) from 0 to 1 on both axes; 0.5 on an axis on which all points are the same.

    Raises:
        UserError: umap-learn is not installed.
        ValueError: A point is not finite.
    """
    if missing := umap_missing():
        raise UserError(missing)
    points = np.asarray(points, np.float32)
    places, distances = nearest(points, NEIGHBOURS - 1)
    if len(points) <= NEIGHBOURS or points.shape[1] <= 2 or (points == points[0]).all():
        flat = principal_components(points, 2)
        return _unit_square(np.pad(flat, ((0, 0), (0, 2 - flat.shape[1]))))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Tensorflow not installed", ImportWarning)  # for another class than this one
        umap = import_module("umap")
        # The neighbours come without a search index, which only points added to a map would need.
        warnings.filterwarnings("ignore", r"precomputed_knn\[2\] \(knn_search_index\) is not", UserWarning)
        itself = np.arange(len(points))[:, None]
        flat = umap.UMAP(
            n_neighbors=NEIGHBOURS,
            n_epochs=_EPOCHS,
            init="pca",
            precomputed_knn=(np.hstack((itself, places)), np.pad(distances, ((0, 0), (1, 0)))),
            random_state=seed,
            n_jobs=1,  # what a seed means anyway, and without a warning that says so
        ).fit_transform(points)
    return _unit_square(flat)


def _unit_square(flat: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    if not len(flat):
        return flat
    low, span = flat.min(0), np.ptp(flat, 0)
    return np.where(span > 0, (flat - low) / np.where(span > 0, span, 1), np.float32(0.5))
