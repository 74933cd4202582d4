"""Collects the net's outputs for every evaluated picture, in the order of its set, for any number of devices."""

from collections import defaultdict
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from gfnet_pl.data.batches import Batch
from gfnet_pl.data.datamodule import ImageDataModule
from gfnet_pl.evaluation.familiarity import Familiarity
from gfnet_pl.run.results import SetResults
from gfnet_pl.training.classifier import GFNetClassifier

_LEARNED_FROM = 2_000  # training pictures; more take longer and turn away the same: docs/calibration.md
_Floats = npt.NDArray[np.float32]
_Part = tuple[npt.NDArray[np.int64], Tensor, Tensor]


class KeepOutputs(Callback):
    """Collects the outputs of each validation and test.

    Attributes:
        sets: The outputs of the last validation or test by set, available once it has ended. A set of which nothing was
            evaluated has no rows. With a strategy that starts processes of its own (ddp_spawn) there is no set.
        learned: The features of the training pictures, summed up before a test; None if there are no such pictures.
    """

    def __init__(self) -> None:
        self.sets: dict[str, SetResults] = {}
        self.learned: Familiarity | None = None
        self._parts: dict[str, list[_Part]] = defaultdict(list)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        loader: Any = trainer.val_dataloaders
        self._keep("val", loader.sampler[batch_idx].images, outputs)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, GFNetClassifier)
        data: ImageDataModule = trainer.datamodule  # type: ignore[attr-defined]  # as below
        loader = data.training_sample(_LEARNED_FROM)
        self.learned = None
        if loader is None:
            return
        features, labels = [], []
        for number, batch in enumerate(loader):
            on_device = trainer.strategy.batch_to_device(batch)
            with trainer.precision_plugin.test_step_context():
                features.append(pl_module.predict_step(on_device, number)["features"].float().cpu())
            labels.append(batch.labels.cpu())
        found = torch.cat(features)
        if found.isfinite().all():  # otherwise the test itself tells
            self.learned = Familiarity.fit(found.numpy(), torch.cat(labels).numpy())

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        assert isinstance(pl_module, GFNetClassifier)
        loaders: Any = trainer.test_dataloaders
        self._keep(pl_module.test_sets[dataloader_idx], loaders[dataloader_idx].sampler[batch_idx].images, outputs)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._put_together(["val"], trainer)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, GFNetClassifier)
        self._put_together(pl_module.test_sets, trainer)

    def _keep(self, split: str, places: npt.NDArray[np.int64], outputs: dict[str, Tensor]) -> None:
        # Outputs stay on their device until the set is complete: copying each batch would mean to wait for the GPU.
        self._parts[split].append((places, outputs["logits"], outputs["features"]))

    def _put_together(self, splits: list[str], trainer: Trainer) -> None:
        data: ImageDataModule = trainer.datamodule  # type: ignore[attr-defined]  # the command line creates no other
        self.sets = {}
        for split in splits:
            logits, features = self._collected(split, trainer)
            self.sets[split] = SetResults(
                pictures=[picture for picture in data.pictures if picture.split == split],
                labels=data.sets[split].labels,
                logits=logits,
                features=features,
            )
        self._parts.clear()

    def _collected(self, split: str, trainer: Trainer) -> tuple[_Floats, _Floats]:
        """Logits and features of a set, in its order, from all devices. All must take part, with or without a batch."""
        kept = self._parts[split]
        parts = [(places, logits.float().cpu(), features.float().cpu()) for places, logits, features in kept]
        if trainer.world_size > 1:
            of_ranks: list[list[_Part]] = [[] for _ in range(trainer.world_size)]
            torch.distributed.all_gather_object(of_ranks, parts)
            parts = [part for each in of_ranks for part in each]
        if not parts:
            return np.empty((0, 0), np.float32), np.empty((0, 0), np.float32)
        order = torch.from_numpy(np.concatenate([places for places, _, _ in parts])).argsort()
        logits = torch.cat([logits for _, logits, _ in parts])[order].numpy()
        return logits, torch.cat([features for _, _, features in parts])[order].numpy()
