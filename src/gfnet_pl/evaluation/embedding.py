"""A two-dimensional map of pictures on which near neighbours stay near: UMAP (McInnes, Healy and Melville 2018).

The map is only for looking at: the distance between two clouds on it means nothing. How much classes overlap is counted
in the full space (`overlap.py`). umap-learn is an optional dependency, imported only when a map is drawn.
"""

import warnings
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt

from gfnet_pl.errors import UserError
from gfnet_pl.evaluation.neighbours import nearest, principal_components

NEIGHBOURS = 15  # of each point, including itself: UMAP's default
_EPOCHS = 200  # for up to 5,600 pictures, as many neighbours stay as with UMAP's 500, within 4 percentage points


def umap_missing() -> str | None:
    """A message that says how to install umap-learn; None if it is installed."""
    if find_spec("umap") is not None:
        return None
    return 'the map needs umap-learn, which is not installed: pip install "gfnet_pl[map]"'


def umap_map(points: npt.ArrayLike, seed: int = 0) -> npt.NDArray[np.float32]:
    """Places points in the unit square so that near neighbours are near.

    UMAP starts from the first two principal components and uses the exact neighbours. The two components themselves are
    the map if there are at most 15 points, if the points have one or two dimensions, or if all points are the same.

    Two maps, of 50 and of 96 dimensions, together take 9 s on one core for 2,000 points and 12 s for 5,600 points. Of
    these, 6 s are the import and compilation. The first import after an installation takes another 18 s to compile.

    Args:
        points: (N, D), from `neighbours.pixel_space` or a net's features.
        seed: The same seed gives the same map.

    Returns:
        (N, 2) positions from 0 to 1 on both axes; 0.5 on an axis on which all points are the same.

    Raises:
        UserError: umap-learn is not installed.
        ValueError: A point is not finite.
    """
    if missing := umap_missing():
        raise UserError(missing)
    points = np.asarray(points, np.float32)
    if len(points) <= NEIGHBOURS or points.shape[1] <= 2 or (points == points[0]).all():
        flat = principal_components(points, 2)
        return _unit_square(np.pad(flat, ((0, 0), (0, 2 - flat.shape[1]))))
    places, distances = nearest(points, NEIGHBOURS - 1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Tensorflow not installed", ImportWarning)  # about a class not used here
        warnings.filterwarnings("ignore", "IProgress not found")  # of tqdm, about a bar in a notebook: none is shown
        umap = import_module("umap")
        # The neighbours have no search index, which is needed only to add points to a map later.
        warnings.filterwarnings("ignore", r"precomputed_knn\[2\] \(knn_search_index\) is not", UserWarning)
        itself = np.arange(len(points))[:, None]
        flat = umap.UMAP(
            n_neighbors=NEIGHBOURS,
            n_epochs=_EPOCHS,
            init="pca",
            precomputed_knn=(np.hstack((itself, places)), np.pad(distances, ((0, 0), (1, 0)))),
            random_state=seed,
            n_jobs=1,  # a seed implies one job anyway; saying so avoids a warning
        ).fit_transform(points)
    return _unit_square(flat)


def _unit_square(flat: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    if not len(flat):
        return flat
    low, span = flat.min(0), np.ptp(flat, 0)
    return np.where(span > 0, (flat - low) / np.where(span > 0, span, 1), np.float32(0.5))
