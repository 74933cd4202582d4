"""Keeps the loss of every training picture while a net trains, see `run.losses`. It takes no further pass."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from gfnet_pl.data.batches import Batch
from gfnet_pl.data.datamodule import ImageDataModule
from gfnet_pl.data.order import Draw
from gfnet_pl.evaluation.calibration import Ints
from gfnet_pl.run.folder import RunFolder
from gfnet_pl.run.losses import PictureLoss, read_losses, write_losses
from gfnet_pl.training.classifier import GFNetClassifier


class Losses(Callback):
    """After each epoch, writes the mean loss of each training picture so far into the run's folder.

    A resumed run goes on with what its file says. With several devices, the first one's share of each epoch counts.

    Args:
        run: The run's folder.
    """

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self._parts: list[tuple[Ints, Tensor, Tensor]] = []
        self._draws: Iterator[Draw] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data = _data(trainer)
        self._pictures = [picture for picture in data.pictures if picture.split == "train"]
        kept = {each.path: each for each in read_losses(self._run)} if trainer.global_step else {}
        before = [kept.get(p.path, PictureLoss(p.path, p.label, 0.0, 0, "")) for p in self._pictures]
        self._times = np.array([each.times for each in before])
        self._sums = np.array([each.loss for each in before]) * self._times
        number = {name: place for place, name in enumerate(data.classes)}
        self._instead = np.array([number.get(each.instead, -1) for each in before])

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Batch,
        batch_idx: int,
    ) -> None:
        assert isinstance(pl_module, GFNetClassifier)
        if self._draws is None:  # not when the epoch starts: a run that is resumed within one does not tell that
            loader: Any = trainer.train_dataloader
            self._draws = iter(loader.sampler)
        draw = next(self._draws)
        logits = torch.cat(pl_module.training_logits)
        said = logits.argmax(1)
        instead = torch.where(said == batch.labels, -1, said)
        # They stay on their device: to copy each batch would mean to wait for it.
        self._parts.append((draw.images, F.cross_entropy(logits, batch.labels, reduction="none"), instead))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._parts and trainer.is_global_zero:
            places = np.concatenate([places for places, _, _ in self._parts])
            losses = torch.cat([losses for _, losses, _ in self._parts]).double().cpu().numpy()
            instead = torch.cat([instead for _, _, instead in self._parts]).cpu().numpy()
            np.add.at(self._sums, places, losses)
            np.add.at(self._times, places, 1)
            self._instead[places[instead >= 0]] = instead[instead >= 0]
            write_losses(self._run, self._rows(trainer))
        self._parts.clear()
        self._draws = None

    def _rows(self, trainer: Trainer) -> Iterator[PictureLoss]:
        names = [*_data(trainer).classes, ""]  # -1 is the last one
        means = (self._sums / np.maximum(1, self._times)).tolist()
        rows = zip(self._pictures, means, self._times.tolist(), self._instead.tolist(), strict=True)
        for picture, mean, times, instead in rows:
            if times:
                yield PictureLoss(picture.path, picture.label, mean, times, names[instead])


def _data(trainer: Trainer) -> ImageDataModule:
    data: ImageDataModule = trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it in fit
    return data
