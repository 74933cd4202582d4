"""The likeliest classes of a picture, as a run's files have them."""

from collections.abc import Iterable, Sequence

import numpy as np

from gfnet_pl.evaluation.calibration import Floats


def likeliest(shares: Floats, classes: Sequence[str]) -> Iterable[tuple[str, str, str]]:
    """The most probable classes of each picture.

    Args:
        shares: (N, classes) probabilities.
        classes: Names.

    Yields:
        For each row: the most probable class, its probability, and the first three, as "A:0.9800 F:0.0100 M:0.0001".
    """
    places = np.argsort(-shares, axis=1, kind="stable")[:, :3]
    for top, values in zip(places.tolist(), np.take_along_axis(shares, places, 1).tolist(), strict=True):
        named = [f"{classes[place]}:{value:.4f}" for place, value in zip(top, values, strict=True)]
        yield classes[top[0]], f"{values[0]:.4f}", " ".join(named)
