"""What a net says of pictures, as rows for people: the likeliest classes, and whether to accept the first one."""

import csv
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, count
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.table import Table
from rich.text import Text

from gfnet_pl.evaluation.calibration import Calibration, Floats, probabilities
from gfnet_pl.files import replacing

_SHOWN = 32  # characters of a path in the table
_PREDICTED = ("path", "prediction", "probability", "top3", "accepted", "reason")

Row = tuple[str, ...]  # its columns


def write_predictions(
    file: Path,
    paths: Sequence[Path],
    logits: npt.ArrayLike,
    classes: Sequence[str],
    calibration: Calibration | None,
    broken: Mapping[int, str],
) -> list[Row]:
    """Writes the predictions for pictures without labels, one row per picture.

    The columns are path, prediction (the most probable class), its probability, the three most probable classes, and
    accepted. "accepted" is "yes" if on the validation set at most 1 % of the predictions that are at least as probable
    are wrong, otherwise "no". It is empty without a calibration. A picture that cannot be read has no prediction; it is
    "unknown", and the last column is the reason.

    Args:
        file: The CSV file to write, or to replace.
        paths: N paths of pictures.
        logits: (N, classes).
        classes: Names in the order of the logits.
        calibration: The calibration of the checkpoint; None writes the probabilities without calibration.
        broken: Positions in `paths` of the pictures that cannot be read, and why.

    Returns:
        The rows.
    """
    shares = probabilities(logits, calibration.temperature if calibration else 1.0)
    accepted = _accepted(shares.max(1), calibration)
    rows: list[Row] = [
        (str(path), "", "", "", "unknown", broken[place]) if place in broken else (str(path), *row, verdict, "")
        for place, (path, row, verdict) in enumerate(zip(paths, likeliest(shares, classes), accepted, strict=True))
    ]
    with replacing(file) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerows([_PREDICTED, *rows])
    return rows


def free_name(file: Path) -> Path:
    """`file`, or if it exists already, the first of predictions-2.csv, predictions-3.csv, … that does not."""
    numbered = (file.with_name(f"{file.stem}-{number}{file.suffix}") for number in count(2))
    return next(path for path in chain([file], numbered) if not os.path.lexists(path))


def predictions_table(rows: Iterable[Row]) -> Table:
    """The rows of `write_predictions` as a table to print."""
    table = Table("picture", "prediction", "next", "accepted", box=None, pad_edge=False)
    for path, prediction, probability, top, accepted, reason in rows:
        shown = path if len(path) <= _SHOWN else "..." + path[3 - _SHOWN :]  # the end of a path tells pictures apart
        said = f"{accepted}: {reason}" if reason else accepted
        following = " ".join(_percent(part) for part in top.split()[1:])
        table.add_row(*map(Text, (shown, _percent(f"{prediction}:{probability}"), following, said)))
    return table


def _percent(named: str) -> str:
    """A class with its probability: of "A:0.9812", "A 98%"; without a class, nothing."""
    name, _, value = named.rpartition(":")
    return f"{name} {float(value):.0%}" if name else ""


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
