"""What TensorBoard shows of one validation: confusion, worst errors, confidences, curves, the space of features."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from gfnet_pl.data.batches import ImageArray
from gfnet_pl.evaluation.calibration import Floats, Ints, probabilities
from gfnet_pl.training.drawings import confusion_matrix, grid, sentence, short
from gfnet_pl.training.outputs import Outputs

_ERRORS = 24  # pictures
_PROJECTED = 1000  # pictures: the projector works in the browser
_THUMBNAIL = 48  # pixels
_CONFIDENCES = np.linspace(0, 1, 21)


@dataclass(frozen=True)
class Validated:
    """What a validation saw and what the net said of it.

    Attributes:
        epoch: The epoch after which it was.
        classes: Names.
        paths: N.
        images: The set.
        outputs: Logits and features of its N pictures.
    """

    epoch: int
    classes: list[str]
    paths: list[str]
    images: ImageArray
    outputs: Outputs

    @cached_property
    def probabilities(self) -> Floats:
        """(N, classes) as the net gives them."""
        return probabilities(self.outputs.logits.numpy(), 1.0)

    @property
    def labels(self) -> Ints:
        """(N,)."""
        return self.images.labels

    @cached_property
    def predicted(self) -> Ints:
        """(N,)."""
        places: Ints = self.probabilities.argmax(1)
        return places

    def pixels(self, places: Ints) -> npt.NDArray[np.uint8]:
        """(len(places), H, W), grey."""
        return self.images.images[self.images.rows[places]]


def show_confusion(writer: Any, seen: Validated) -> None:  # noqa: ANN401  (a SummaryWriter, which has no types)
    """The confusion matrix."""
    counts = np.zeros((len(seen.classes), len(seen.classes)), np.int64)
    np.add.at(counts, (seen.labels, seen.predicted), 1)
    writer.add_image("val/confusion", confusion_matrix(counts, seen.classes), seen.epoch, dataformats="HWC")


def show_worst_errors(writer: Any, seen: Validated) -> None:  # noqa: ANN401
    """The pictures with the highest probability of a wrong class, worst first."""
    confidence = seen.probabilities.max(1)
    wrong = np.flatnonzero(seen.predicted != seen.labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")[:_ERRORS]]
    titles = [
        f"{short(seen.classes[seen.labels[place]])}, taken for "
        f"{short(seen.classes[seen.predicted[place]])} {confidence[place]:.2f}"
        for place in worst
    ]
    page = grid(seen.pixels(worst), titles, columns=8, side=112) if titles else sentence("no errors")
    writer.add_image("val/worst_errors", page, seen.epoch, dataformats="HWC")


def show_confidences(writer: Any, seen: Validated) -> None:  # noqa: ANN401
    """How sure the net is where it is right, and where it is wrong; a kind that does not occur has no histogram."""
    confidence, right = seen.probabilities.max(1).clip(0, 1), seen.predicted == seen.labels
    for name, values in (("right", confidence[right]), ("wrong", confidence[~right])):
        if len(values):
            writer.add_histogram(f"val_confidence/{name}", values, seen.epoch, bins=_CONFIDENCES)


def show_curves(writer: Any, seen: Validated) -> None:  # noqa: ANN401
    """Precision against recall of each class that has pictures."""
    for place in np.unique(seen.labels):
        writer.add_pr_curve(
            f"val_curve/{seen.classes[place]}", seen.labels == place, seen.probabilities[:, place], seen.epoch
        )


def show_features(writer: Any, seen: Validated) -> None:  # noqa: ANN401
    """The pictures as points in the net's feature space, for the projector."""
    count = min(_PROJECTED, len(seen.labels))
    places = (
        np.linspace(0, len(seen.labels) - 1, count).round().astype(np.int64)
    )  # evenly, so that all classes have some
    names = [[_one_line(seen.classes[place]) for place in each[places]] for each in (seen.labels, seen.predicted)]
    verdict = np.where(seen.predicted == seen.labels, "right", "wrong")[places]
    metadata = [list(row) for row in zip(*names, verdict, [_one_line(seen.paths[i]) for i in places], strict=True)]
    images = torch.from_numpy(seen.pixels(places))[:, None].float() / 255
    thumbnails = F.interpolate(images, (_THUMBNAIL, _THUMBNAIL), mode="bilinear", antialias=True)
    writer.add_embedding(
        seen.outputs.features[places],
        metadata=metadata,
        metadata_header=["class", "prediction", "verdict", "path"],
        label_img=thumbnails.expand(-1, 3, -1, -1),
        global_step=seen.epoch,
        tag="val_features",
    )


def _one_line(text: str) -> str:
    return " ".join(text.splitlines()).replace("\t", " ")  # the projector's table is separated by tabs
