"""How little the net believed the label of each training picture while it trained: a run's list of labels to check.

A net learns wrong labels last, picture by picture, and in the end it may know them by heart. So what finds them is not
the loss of the finished net but the mean over all of training (O2U-Net, Huang et al. 2019; docs/report.md has figures).
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from gfnet_pl.files import reading, replacing
from gfnet_pl.run.folder import RunFolder
from gfnet_pl.tables import read_records, write_rows

_DEVIATIONS = 6  # from the median
_WORSE = 4  # times less probable than by a guess; with 3 % of the labels wrong, 70 to 100 % of those beyond both were


class PictureLoss(NamedTuple):
    """A training picture.

    Attributes:
        path: Below the data's root.
        label: Its class.
        loss: The mean of its cross entropy, over all times that it was trained on.
        times: How often it was.
        instead: The class that was last more probable than its label; "" if there never was one.
    """

    path: str
    label: str
    loss: float
    times: int
    instead: str


def suspected(losses: Sequence[PictureLoss]) -> int:
    """How many pictures have a loss that is far beyond the others', and beyond that of a guess.

    The first by the median and the median deviation from it. Where most pictures are easy both are small, and a picture
    of a hard class is soon beyond them, though the net comes to believe its label. Hence the second: one whose label is
    believed far less than by a guess, in the mean over all of training, was taken for something else.
    """
    values = np.array([each.loss for each in losses])
    median = np.median(values)
    deviation = 1.4826 * np.median(np.abs(values - median))  # that of a normal distribution has standard deviation 1
    worse = np.log(_WORSE * len({each.label for each in losses}))  # a guess holds all classes equally probable
    return int((values > max(median + _DEVIATIONS * deviation, worse)).sum()) if deviation > 0 else 0


def write_losses(run: RunFolder, losses: Iterable[PictureLoss]) -> None:
    """Writes the list, highest loss first, in place of an earlier one."""
    with replacing(run.losses) as file:
        write_rows(file, [PictureLoss._fields])
        ordered = sorted(losses, key=lambda each: (-each.loss, each.path))
        write_rows(file, ((each.path, each.label, f"{each.loss:.4f}", each.times, each.instead) for each in ordered))


def read_losses(run: RunFolder) -> list[PictureLoss]:
    """Reads the list; it is empty if the run has none, because an earlier version trained it.

    Raises:
        UserError: It cannot be read.
    """
    if not run.losses.is_file():
        return []
    with reading(run.losses, "remove it"), run.losses.open(newline="", encoding="utf-8") as file:
        rows = list(read_records(file))
        return [PictureLoss(r["path"], r["label"], float(r["loss"]), int(r["times"]), r["instead"]) for r in rows]
