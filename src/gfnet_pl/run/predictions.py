"""What a net says of pictures, as rows for people: the likeliest classes, and whether to accept the first one."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gfnet_pl.evaluation.calibration import Calibration, Floats, probabilities
from gfnet_pl.files import replacing

_PREDICTED = ("path", "prediction", "probability", "top3", "accepted")


def write_predictions(
    file: Path, paths: Iterable[Path], logits: npt.ArrayLike, classes: Sequence[str], calibration: Calibration | None
) -> None:
    """Writes the predictions for pictures without labels, one row per picture.

    The columns are path, prediction (the most probable class), its probability, the three most probable classes, and
    accepted. "accepted" is "yes" if on the validation set at most 1 % of the predictions that are at least as probable
    are wrong, otherwise "no". It is empty without a calibration.

    Args:
        file: The CSV file to write, or to replace.
        paths: N paths of pictures.
        logits: (N, classes).
        classes: Names in the order of the logits.
        calibration: The calibration of the checkpoint; None writes the probabilities without calibration.
    """
    shares = probabilities(logits, calibration.temperature if calibration else 1.0)
    accepted = _accepted(shares.max(1), calibration)
    with replacing(file) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(_PREDICTED)
        rows = zip(paths, likeliest(shares, classes), accepted, strict=True)
        writer.writerows((path, *row, verdict) for path, row, verdict in rows)


def _accepted(confidences: Floats, calibration: Calibration | None) -> Iterator[str]:
    if calibration is None or not calibration.rejections:  # nothing was fitted
        yield from [""] * len(confidences)
        return
    threshold = calibration.rejections[0].threshold
    for confidence in confidences:
        yield "yes" if threshold is not None and confidence >= threshold else "no"


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
