"""What TensorBoard shows of one validation: confusion, worst errors, confidences, curves, features."""

import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from gfnet_pl.data.batches import ImageArray, channels_first
from gfnet_pl.evaluation.calibration import Floats, Ints, probabilities
from gfnet_pl.evaluation.figures import count_confusion
from gfnet_pl.run.results import SetResults
from gfnet_pl.training.drawings import confusion_matrix, grid, sentence, short

_ERRORS = 24  # pictures, at most
_PROJECTED = 1000  # pictures, at most: the projector runs in the browser
_THUMBNAIL = 48  # pixels
_CONFIDENCES = np.linspace(0, 1, 21)


@dataclass(frozen=True)
class ValidationPages:
    """Draws a validation of a whole set.

    Attributes:
        writer: A SummaryWriter, which has no types.
        epoch: The epoch after which the validation ran.
        classes: Names in the order of the logits.
        seen: The net's outputs for the pictures.
        images: The pictures.
    """

    writer: Any
    epoch: int
    classes: list[str]
    seen: SetResults
    images: ImageArray

    def show(self) -> None:
        """Writes the pages that are drawn after every epoch."""
        self._show_confusion()
        self._show_worst_errors()
        self._show_confidences()
        self._show_curves()

    def show_features(self) -> None:
        """Writes the pictures as points in the net's feature space, for the projector."""
        labels, predictions = self.seen.labels, self.seen.predictions
        count = min(_PROJECTED, len(labels))
        places = (
            np.linspace(0, len(labels) - 1, count).round().astype(np.int64)
        )  # evenly spaced, so that all classes have some
        names = [[_one_cell(self.classes[label]) for label in each[places]] for each in (labels, predictions)]
        verdict = np.where(predictions == labels, "right", "wrong")[places]
        paths = [_one_cell(self.seen.pictures[place].path) for place in places]
        images = channels_first(torch.from_numpy(self._pixels(places))).float() / 255
        thumbnails = F.interpolate(images, (_THUMBNAIL, _THUMBNAIL), mode="bilinear", antialias=True)
        try:
            self.writer.add_embedding(
                torch.from_numpy(self.seen.features[places]),
                metadata=[list(row) for row in zip(*names, verdict, paths, strict=True)],
                metadata_header=["class", "prediction", "verdict", "path"],
                label_img=thumbnails.expand(-1, 3, -1, -1),
                global_step=self.epoch,
                tag="val_features",
            )
        except OSError as error:  # what is there of it is worth nothing
            shutil.rmtree(Path(self.writer.log_dir, f"{self.epoch:05}"), ignore_errors=True)
            error.filename = error.filename or self.writer.log_dir
            raise

    @cached_property
    def _probabilities(self) -> Floats:
        """(N, classes) probabilities, not calibrated."""
        return probabilities(self.seen.logits)

    def _pixels(self, places: Ints) -> npt.NDArray[np.uint8]:
        """The pictures at these positions, (len(places), H, W) or (len(places), H, W, 3)."""
        return self.images.images[self.images.rows[places]]

    def _show_confusion(self) -> None:
        counts = count_confusion(self.seen.labels, self.seen.predictions, len(self.classes))
        page = confusion_matrix(counts, self.classes)
        self.writer.add_image("val/confusion", page, self.epoch, dataformats="HWC")

    def _show_worst_errors(self) -> None:
        """Draws the wrongly classified pictures whose predicted class is most probable, worst first."""
        labels, predictions = self.seen.labels, self.seen.predictions
        confidence = self._probabilities.max(1)
        wrong = np.flatnonzero(predictions != labels)
        worst = wrong[np.argsort(-confidence[wrong], kind="stable")[:_ERRORS]]
        titles = [
            f"{short(self.classes[labels[place]])}, taken for "
            f"{short(self.classes[predictions[place]])} {confidence[place]:.2f}"
            for place in worst
        ]
        page = grid(self._pixels(worst), titles, columns=8, side=112) if titles else sentence("no errors")
        self.writer.add_image("val/worst_errors", page, self.epoch, dataformats="HWC")

    def _show_confidences(self) -> None:
        """Writes two histograms of the highest probability: of pictures that are right, and of those that are wrong.

        Where there are no such pictures, there is no histogram.
        """
        confidence, right = self._probabilities.max(1).clip(0, 1), self.seen.predictions == self.seen.labels
        for name, values in (("right", confidence[right]), ("wrong", confidence[~right])):
            if len(values):
                self.writer.add_histogram(f"val_confidence/{name}", values, self.epoch, bins=_CONFIDENCES)

    def _show_curves(self) -> None:
        """Writes the precision-recall curve of each class that has pictures."""
        for label in np.unique(self.seen.labels):
            tag, is_of_class = f"val_curve/{self.classes[label]}", self.seen.labels == label
            self.writer.add_pr_curve(tag, is_of_class, self._probabilities[:, label], self.epoch)


def _one_cell(text: str) -> str:
    return " ".join(text.splitlines()).replace("\t", " ")  # the projector's table is separated by tabs
