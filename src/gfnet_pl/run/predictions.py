"""What a net says of pictures, as rows for people: the likeliest classes, and whether to accept the first one."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, count
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.table import Column, Table
from rich.text import Text

from gfnet_pl.evaluation.calibration import NOT_CALIBRATED, Calibration, Floats, probabilities
from gfnet_pl.files import replacing, write_rows
from gfnet_pl.messages import printable

_SHOWN = 26  # characters of a path in the table
_NAMED = re.compile(r"(.+?):([01]\.\d{4})(?: |$)", re.DOTALL)  # a class may have spaces and colons in its name
_PREDICTED = ("path", "prediction", "probability", "top3", "accepted", "reason")

Row = tuple[str, ...]  # its columns


def write_predictions(
    file: Path,
    paths: Sequence[Path],
    logits: npt.ArrayLike,
    features: npt.ArrayLike,
    classes: Sequence[str],
    calibration: Calibration | None,
    broken: Mapping[int, str],
) -> list[Row]:
    """Writes the predictions for pictures without labels, one row per picture.

    The columns are path, prediction (the most probable class), its probability, the three most probable classes,
    accepted ("yes", "no" or "unknown") and the reason, see `Calibration.verdicts`. A picture that cannot be read has no
    prediction; it is "unknown", and the reason says why.

    Args:
        file: The CSV file to write, or to replace.
        paths: N paths of pictures.
        logits: (N, classes).
        features: (N, C).
        classes: Names in the order of the logits.
        calibration: The calibration of the checkpoint; None writes the probabilities without calibration.
        broken: Positions in `paths` of the pictures that cannot be read, and why.

    Returns:
        The rows.
    """
    calibration = calibration or Calibration()
    shares = probabilities(logits, calibration.temperature)
    verdicts = calibration.verdicts(logits, features)
    rows: list[Row] = [
        (str(path), "", "", "", "unknown", broken[place]) if place in broken else (str(path), *row, *verdict)
        for place, (path, row, verdict) in enumerate(zip(paths, likeliest(shares, classes), verdicts, strict=True))
    ]
    with replacing(file) as stream:
        write_rows(stream, [_PREDICTED, *rows])
    return rows


def free_name(file: Path) -> Path:
    """`file`, or if it exists already, the first of predictions-2.csv, predictions-3.csv, … that does not."""
    numbered = (file.with_name(f"{file.stem}-{number}{file.suffix}") for number in count(2))
    return next(path for path in chain([file], numbered) if not os.path.lexists(path))


def predictions_table(rows: Iterable[Row]) -> Table:
    """The rows of `write_predictions` as a table to print."""
    kept = [Column(name, no_wrap=True) for name in ("picture", "prediction", "next")]  # reasons wrap, if anything
    table = Table(*kept, "accepted", box=None, pad_edge=False)
    for path, prediction, probability, top, accepted, reason in rows:
        shown = path if len(path) <= _SHOWN else "..." + path[3 - _SHOWN :]  # the end of a path tells pictures apart
        said = f"{accepted}: {reason}" if reason not in ("", NOT_CALIBRATED) else accepted
        following = " ".join(_percent(*named) for named in _NAMED.findall(top)[1:])
        cells = (shown, _percent(prediction, probability), following, said)
        table.add_row(*(Text(printable(cell)) for cell in cells))
    return table


def _percent(name: str, probability: str) -> str:
    """A class with its probability, "A 98%"; without a class, nothing."""
    return f"{name} {float(probability):.0%}" if name else ""


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
