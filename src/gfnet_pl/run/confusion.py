"""The confusion matrix of a run's last validation, and how often to draw each class because of it."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gfnet_pl.errors import UserError
from gfnet_pl.files import reading, replacing
from gfnet_pl.run.folder import RunFolder
from gfnet_pl.tables import read_rows, write_rows


def write_confusion(run: RunFolder, classes: Sequence[str], counts: npt.NDArray[np.int64]) -> None:
    """Writes the confusion matrix of a run's last validation.

    Args:
        run: The folder of the run, which must exist.
        classes: Names of the C classes.
        counts: (C, C) counts; rows are true classes.
    """
    with replacing(run.confusion) as file:
        rows = [(name, *row) for name, row in zip(classes, counts.tolist(), strict=True)]
        write_rows(file, [("true", *classes), *rows])


def confusion_emphasis(run: RunFolder) -> dict[str, float]:
    """How often to draw each class, from the errors in a run's validation.

    The errors of a class are its pictures that were taken for another class, and pictures of other classes that were
    taken for it. They are divided by the number of its pictures.

    Returns:
        A factor by class name: 1 for a class without errors, 2 for the class with the largest share of errors, and
        linear in between.

    Raises:
        UserError: The matrix is missing or cannot be read.
    """
    path = run.confusion
    if not path.is_file():
        raise UserError(f"emphasis_from: {path} does not exist; name the folder of a run")
    with reading(path, "name another run for emphasis_from"):
        with path.open(newline="", encoding="utf-8") as file:
            (_, header), *rows = read_rows(file)
        counts = np.array([row[1:] for _, row in rows], np.int64).reshape(len(header) - 1, len(header) - 1)
        errors = counts.sum(0) + counts.sum(1) - 2 * counts.diagonal()
    shares = errors / np.maximum(1, counts.sum(1))
    return {name: float(1 + share / max(shares.max(), 1e-9)) for name, share in zip(header[1:], shares, strict=True)}
