"""All evaluated pictures of a run in one line, so that a place in it names one of them."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gfnet_pl.evaluation.calibration import Floats, Ints, probabilities
from gfnet_pl.report.run import Run


class Everything(NamedTuple):
    """All evaluated pictures of a run in one line, set after set.

    Attributes:
        paths: N.
        sets: (N,) name of each one's set.
        groups: (N,).
        labels: (N,).
        logits: (N, classes).
        features: (N, C).
        shares: (N, classes) calibrated probabilities.
    """

    paths: list[str]
    sets: list[str]
    groups: list[str]
    labels: Ints
    logits: npt.NDArray[np.float32]
    features: npt.NDArray[np.float32]
    shares: Floats

    @classmethod
    def of(cls, run: Run) -> "Everything":
        results = run.results
        pictures = [picture for each in results.sets.values() for picture in each.pictures]
        logits = np.concatenate([each.logits for each in results.sets.values()])
        return cls(
            [picture.path for picture in pictures],
            [name for name, each in results.sets.items() for _ in each.pictures],
            [picture.group for picture in pictures],
            np.concatenate([each.labels for each in results.sets.values()]),
            logits,
            np.concatenate([each.features for each in results.sets.values()]),
            probabilities(logits, results.calibration.temperature),
        )

    @property
    def predictions(self) -> Ints:
        places: Ints = self.logits.argmax(1)
        return places
