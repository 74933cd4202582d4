"""What TensorBoard shows of a run, besides the scalars that the classifier logs; docs/dashboards.md describes it.

Only the first device writes to TensorBoard, and it does not write during Lightning's check before training. The x axis
is the epoch, as for the scores. All this takes little time: `benchmarks/dashboard.py` measures it.
"""

import logging
from collections import Counter
from dataclasses import asdict
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData  # type: ignore[import-untyped]
from torch.utils.tensorboard.summary import hparams

from gfnet_pl.data.batches import Batch
from gfnet_pl.data.datamodule import ImageDataModule
from gfnet_pl.data.splits import EVALUATED, SPLITS
from gfnet_pl.errors import UserError
from gfnet_pl.evaluation.calibration import Floats
from gfnet_pl.evaluation.filters import magnitude
from gfnet_pl.files import read_arrays, reading, replacing
from gfnet_pl.run.curves import TAGS
from gfnet_pl.run.folder import RunFolder
from gfnet_pl.training.classifier import GFNetClassifier, SetMetrics
from gfnet_pl.training.drawings import bars, filters, grid, history, short
from gfnet_pl.training.outputs import KeepOutputs
from gfnet_pl.training.validation_pages import ValidationPages

log = logging.getLogger(__name__)

_CHARTS = {
    "training against validation": {
        "accuracy": ["Multiline", [TAGS["train/accuracy"], TAGS["val/accuracy"]]],
        "loss": ["Multiline", [TAGS["train/epoch_loss"], TAGS["val/loss"]]],
    },
    "all sets": {
        "accuracy": ["Multiline", [TAGS["val/accuracy"], "test/[^/]+/accuracy"]],
        "loss": ["Multiline", [TAGS["val/loss"], "test/[^/]+/loss"]],
    },
}
_ACCURACIES = {
    TAGS["val/accuracy"] if split == "val" else f"test/{split}/accuracy": f"{split} accuracy" for split in EVALUATED
}
_FIRST_COLUMNS = ("augment", "drop_path", "dropout", "lr", "weight_decay")


class FirstBatch(Callback):
    """Draws the first training batch as the network receives it, augmented and normalised, with its labels."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        writer = None if trainer.current_epoch or batch_idx else _writer(trainer)
        if writer:
            classifier = _classifier(pl_module)
            names = [short(_classes(classifier)[label]) for label in batch.labels[:32]]
            seen = classifier.net.normalise(batch.images[:32]).float().cpu()
            # Black is two standard deviations below the mean, white is two above it.
            levels = ((seen + 2) / 4 * 255).clamp(0, 255).byte().numpy()  # (B, C, H, W)
            page = grid(
                levels[:, 0] if levels.shape[1] == 1 else levels.transpose(0, 2, 3, 1), names, columns=8, side=96
            )
            writer.add_image("train/first_batch", page, trainer.global_step, dataformats="HWC")


class ClassBalance(Callback):
    """Draws how many pictures each class has in each split."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if writer := _writer(trainer):
            classes = _classes(_classifier(pl_module))
            counted = Counter((picture.split, picture.label) for picture in _data(trainer).pictures)
            counts = {split: np.array([counted[split, name] for name in classes]) for split in SPLITS}
            present = {split: of_split for split, of_split in counts.items() if of_split.any()}
            writer.add_image("train/class_balance", bars(present, classes), dataformats="HWC")


class Charts(Callback):
    """Arranges the custom scalars: curves that belong together share a chart.

    Training logs its loss per step. `train/epoch_loss` is the mean of that loss over an epoch. Its x axis is the epoch,
    as for the validation loss.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if writer := _writer(trainer):
            writer.add_custom_scalars(_CHARTS)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # The module has the sum anyway, and resets it after this. Logging each step would cost a slow epoch 0.6 %.
        summed = _classifier(pl_module).metrics["train_set"]
        assert isinstance(summed, SetMetrics)
        mean = summed.loss.compute() / summed.confusion.compute().sum()
        pl_module.log("train/epoch_loss", mean, sync_dist=True)


class Classes(Callback):
    """Draws the accuracy of each class after each epoch so far, and how many of its images an epoch used.

    Checkpoints hold the accuracies, so that a resumed run goes on with them.
    """

    def __init__(self) -> None:
        self._accuracy: dict[int, list[float]] = {}  # by epoch
        self._used: list[int] | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"accuracy": self._accuracy}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._accuracy = dict(state_dict["accuracy"])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        classifier, epoch = _classifier(pl_module), trainer.current_epoch
        if not trainer.sanity_checking:
            self._accuracy[epoch] = classifier.scores["val"].by_class.tolist()
        if writer := _writer(trainer):
            epochs = sorted(self._accuracy)
            shares = np.array([self._accuracy[each] for each in epochs]).T
            page = history(shares, [each + 1 for each in epochs], _classes(classifier))
            writer.add_image("val/classes", page, epoch, dataformats="HWC")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        classifier = _classifier(pl_module)
        summed = classifier.metrics["train_set"]
        assert isinstance(summed, SetMetrics)
        used = summed.confusion.compute().cpu().reshape(len(_classes(classifier)), -1).sum(1)
        if (writer := _writer(trainer)) and used.tolist() != self._used:  # most runs use the same in every epoch
            page = bars({"images in this epoch:": used.numpy()}, _classes(classifier))
            writer.add_image("train/class_images", page, trainer.current_epoch, dataformats="HWC")
        self._used = used.tolist()


class HyperParameters(Callback):
    """Fills the hparams tab: the settings in which runs differ, and the accuracy on all sets.

    The accuracies are the last values of scalars that are there anyway. Before `gfnet test` has written its own, a run
    has no value instead of 0. TensorBoard takes the columns of the table from any one of the runs, so all runs declare
    the same columns.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if writer := _writer(trainer):
            data = _data(trainer)
            augment = [f"{name} {value:g}" for name, value in asdict(data.augment).items() if value]
            values = {name: value for name, value in pl_module.hparams.items() if name != "classes"} | {
                "augment": ", ".join(augment) or "off",
                "balanced": data.balanced,
                "batch_size": data.batch_size,
                "max_epochs": trainer.max_epochs,
                "precision": trainer.precision,
                "seed": data.seed,
                "train_images": len(data.sets["train"]),
            }
            for summary in _hparams_summaries(values):
                writer.file_writer.add_summary(summary)


class Filters(Callback):
    """After each epoch, draws what the global filters amplify, and stores it in the run's folder.

    The file has two arrays. `epochs` (E,) are the numbers of epochs trained, 0 before the first. `magnitude`
    (E, depth, H, W), float32, is the result of `gfnet_pl.evaluation.filters.magnitude` after each of them. A resumed
    run continues the file of its run.

    Args:
        run: The run's folder.
    """

    def __init__(self, run: RunFolder) -> None:
        self._file = run.filters

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero and trainer.global_step == 0:
            self._keep(magnitude(_classifier(pl_module).net), epoch=0)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            now = magnitude(_classifier(pl_module).net)
            self._keep(now, epoch=trainer.current_epoch + 1)
            if writer := _writer(trainer):
                writer.add_image("train/filters", filters(now), trainer.current_epoch, dataformats="HWC")

    def _keep(self, now: Floats, *, epoch: int) -> None:
        epochs, magnitudes = np.empty(0, np.int64), np.empty((0, *now.shape), np.float32)
        if epoch and self._file.is_file():
            try:
                with reading(self._file, "its curve begins again"):
                    kept = read_arrays(self._file)
                    earlier = kept["epochs"] < epoch  # after resuming from an older checkpoint, later ones come again
                    epochs, magnitudes = kept["epochs"][earlier], kept["magnitude"][earlier].reshape(-1, *now.shape)
            except UserError as error:
                log.warning("%s", error)
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self._file, "wb") as file:
            np.savez(
                file,
                allow_pickle=False,
                epochs=np.append(epochs, epoch),
                magnitude=np.concatenate([magnitudes, now[None].astype(np.float32)]),
            )


class Validation(Callback):
    """Draws the results of each validation, and at the end of `fit` the features of the last one.

    Args:
        outputs: Collects the outputs of the net. It must come before this callback in the list of callbacks.
    """

    def __init__(self, outputs: KeepOutputs) -> None:
        self.outputs = outputs
        self._last: ValidationPages | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if writer := _writer(trainer):
            self._last = None
            seen = self.outputs.sets["val"]
            if seen.is_whole and not len(seen.bad):  # not for a part of a set; with bad outputs, training will stop
                images, classes = _data(trainer).sets["val"], _classes(_classifier(pl_module))
                self._last = ValidationPages(writer, trainer.current_epoch, classes, seen, images)
                self._last.show()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if _writer(trainer) and self._last:
            self._last.show_features()


def _hparams_summaries(values: dict[str, Any]) -> list[Any]:
    """What the hparams tab reads for a run: the three summaries that torch makes, with the columns that come first."""
    plain = {name: value if isinstance(value, float | int) else str(value) for name, value in values.items()}
    make: Any = hparams  # it has no types in torch
    experiment, *session = make(plain, dict.fromkeys(_ACCURACIES, 0.0))
    plugin_data = experiment.value[0].metadata.plugin_data
    content = HParamsPluginData.FromString(plugin_data.content)
    for column in content.experiment.hparam_infos:
        column.differs = column.name in _FIRST_COLUMNS  # TensorBoard sorts by it, and shows five columns first
    for metric in content.experiment.metric_infos:
        metric.display_name = _ACCURACIES[metric.name.tag]
    plugin_data.content = content.SerializeToString()
    return [experiment, *session]


def _writer(trainer: Trainer) -> Any:  # noqa: ANN401
    """The SummaryWriter, if there is TensorBoard and this device is the one that writes; otherwise None."""
    logger = trainer.logger
    if trainer.is_global_zero and not trainer.sanity_checking and isinstance(logger, TensorBoardLogger):
        return logger.experiment
    return None


def _classifier(module: LightningModule) -> GFNetClassifier:
    assert isinstance(module, GFNetClassifier)  # the command line creates no other class
    return module


def _classes(classifier: GFNetClassifier) -> list[str]:
    assert classifier.classes is not None  # setup has built the net
    return classifier.classes


def _data(trainer: Trainer) -> ImageDataModule:
    data: ImageDataModule = trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it in fit
    return data
