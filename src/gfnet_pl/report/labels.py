"""The training pictures whose label the net believed least while it trained: labels to check."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from gfnet_pl.data.batches import channels_first
from gfnet_pl.data.collection import Collection
from gfnet_pl.evaluation.calibration import probabilities
from gfnet_pl.model.gfnet import GFNet
from gfnet_pl.report.words import percent
from gfnet_pl.run.losses import PictureLoss, read_losses, suspected
from gfnet_pl.run.run import Run

_MOST = 40


@dataclass(frozen=True)
class Doubts:
    """What there is to check.

    Attributes:
        first: At most 40 pictures, that with the highest loss first; of each, some other class was once more probable.
        images: (N, height, width) their grey levels, or (N, height, width, 3).
        believed: (N,) probability that the tested net gives to each label now, 0 to 1; not calibrated, because that is
            for pictures that it was not trained on. Nearly 1 for a label that it knows by heart.
        suspected: Number of pictures whose loss is far beyond the others'.
        pictures: Number of training pictures.
    """

    first: list[PictureLoss]
    images: npt.NDArray[np.uint8]
    believed: list[float]
    suspected: int
    pictures: int

    @property
    def share(self) -> float:
        """Of the training pictures, those that are suspected."""
        return self.suspected / self.pictures

    @property
    def sentence(self) -> str:
        """How many there are."""
        if not self.suspected:
            return f"Of {self.pictures:,} training pictures, none was much harder to learn than the others."
        return (
            f"{self.suspected:,} of {self.pictures:,} training pictures ({percent(self.share, 1)}) were far harder to "
            f"learn than the others: their labels may be wrong."
        )


def doubts(run: Run, net: GFNet, found: Collection) -> Doubts | None:
    """The labels to check; None if the run did not keep its losses, because an earlier version trained it."""
    if not (losses := read_losses(run.folder)):
        return None
    row = {picture.path: place for picture, place in zip(found.pictures, found.rows.tolist(), strict=True)}
    first = [each for each in losses if each.path in row and each.instead][:_MOST]
    images = np.asarray(found.images[[row[each.path] for each in first]])
    believed: list[float] = []
    if first:
        with torch.inference_mode():
            logits = net(channels_first(torch.from_numpy(images))).numpy()
        places = [run.results.classes.index(each.label) for each in first]
        shares = probabilities(logits)
        believed = shares[np.arange(len(first)), places].tolist()
    return Doubts(first, images, believed, suspected(losses), len(losses))
