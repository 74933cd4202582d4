"""How far a picture is from what was learned: a net is sure of white noise, too, but its features lie apart.

The distance is Mahalanobis' from the nearest class mean of the training pictures, with one covariance for all classes
(Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples", NeurIPS 2018). It needs the means
and one matrix, so it can be stored beside a checkpoint, and takes microseconds per picture.

Axes: N pictures, C features, K classes.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_SHRINKAGE = 0.01  # of the covariance towards a multiple of the identity: it stays invertible with few pictures
NO_LIMIT = float(np.finfo(np.float64).max)  # JSON has no infinity
KEPT = 0.95  # share of good pictures whose distance is within the limit


@dataclass(frozen=True)
class Familiarity:
    """The features of the training pictures, summed up.

    Attributes:
        means: (K, C) class means, whitened.
        whitening: (C, C); features times this have the covariance 1 within classes.
        limit: The longest distance that counts as familiar.
    """

    means: npt.NDArray[np.float32]
    whitening: npt.NDArray[np.float32]
    limit: float = NO_LIMIT

    @classmethod
    def fit(cls, features: npt.ArrayLike, labels: Ints) -> "Familiarity":
        """Sums up the (N, C) features of training pictures with (N,) labels. Classes without pictures have no mean."""
        rows = np.asarray(features, np.float64)
        places = np.unique(labels, return_inverse=True)[1]
        counts = np.bincount(places)
        means = np.zeros((len(counts), rows.shape[1]))
        np.add.at(means, places, rows)
        means /= counts[:, None]
        inside = rows - means[places]
        covariance = inside.T @ inside / len(rows)
        size = np.trace(covariance) / len(covariance) or 1.0  # all equal: any size will do
        covariance = (1 - _SHRINKAGE) * covariance + _SHRINKAGE * size * np.eye(len(covariance))
        whitening = np.linalg.cholesky(np.linalg.inv(covariance))
        return cls((means @ whitening).astype(np.float32), whitening.astype(np.float32))

    def limited_by(self, features: npt.ArrayLike, good: npt.NDArray[np.bool_]) -> "Familiarity":
        """The same, with the limit that keeps `KEPT` of the good pictures of a set.

        Args:
            features: (N, C), better not of training pictures: these are nearer to their own means.
            good: (N,) whether a picture counts: one that the net gets right. Without any, there is no limit.
        """
        distances = np.sort(self.distances(features)[good])
        # Of N + 1 exchangeable pictures the next one is within the limit with probability KEPT: hence the + 1.
        place = int(np.ceil(KEPT * (len(distances) + 1))) - 1
        return replace(self, limit=float(distances[min(place, len(distances) - 1)]) if len(distances) else NO_LIMIT)

    def distances(self, features: npt.ArrayLike) -> Floats:
        """(N,) distances of (N, C) features from the nearest class mean, in standard deviations within classes."""
        rows = np.asarray(features, np.float64) @ self.whitening.astype(np.float64)
        means = self.means.astype(np.float64)
        squares = np.square(rows).sum(1)[:, None] + np.square(means).sum(1) - 2 * rows @ means.T  # (N, K)
        nearest: Floats = np.sqrt(squares.min(1).clip(min=0))
        return nearest
