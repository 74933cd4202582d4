"""Writes the record of a run into its folder, and its stage, settings and random state into its checkpoints."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger

from gfnet_pl.data.datamodule import ImageDataModule
from gfnet_pl.run.checkpoint import RECORD
from gfnet_pl.run.confusion import write_confusion
from gfnet_pl.run.folder import CONFIG, RunFolder
from gfnet_pl.run.record import provenance, read_sessions, write_record
from gfnet_pl.run.trained_data import stored
from gfnet_pl.training.classifier import GFNetClassifier


class RunRecord(SaveConfigCallback):
    """Writes the record of a run, and puts stage, settings and random state into its checkpoints.

    When `fit` begins, it writes the config, the splits, the record and the list of data that are not used. After each
    epoch, it writes the confusion matrix of the validation set.

    With the random state, a resumed run gives bitwise the same results as one that was not interrupted. Lightning's
    checkpoints do not contain it.

    Args:
        parser: The parser of the subcommand.
        config: The resolved config.
        stage: The stage of the run.
        command: The words of the command line.
    """

    def __init__(self, parser: LightningArgumentParser, config: Any, *, stage: str, command: list[str]) -> None:  # noqa: ANN401
        super().__init__(parser, config, config_filename=CONFIG, overwrite=True)
        self.stage, self.command = stage, command
        self._run: RunFolder | None = None
        self._random_state: dict[str, Any] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        folder = trainer.log_dir if stage == "fit" else None  # asks all devices; below, only one runs
        if trainer.logger is not None and folder:  # fast_dev_run has a logger without a folder
            self._run = RunFolder(Path(folder))
            super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        data: ImageDataModule = trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it in fit
        session = provenance(
            self.command,
            precision=trainer.precision,
            device=trainer.strategy.root_device,
            devices=trainer.num_devices,
        )
        session |= {"stage": self.stage, "data": data.source}
        assert self._run is not None  # setup has found it
        own = data.splits_file and os.path.realpath(data.splits_file) == os.path.realpath(self._run.splits)
        # A resumed run keeps its splits: pictures that are gone now may come back, and stay in their split.
        write_record(self._run, session, None if own else data.pictures, data.left_out)
        if isinstance(trainer.logger, TensorBoardLogger):
            text = "\n".join(f"    {line}" for line in self._run.config.read_text(encoding="utf-8").splitlines())
            facts = "\n".join(f"- {key}: {value}" for key, value in session.items())
            number = len(read_sessions(self._run))  # TensorBoard shows one text per step
            trainer.logger.experiment.add_text("config", text, number)
            trainer.logger.experiment.add_text("run", facts, number)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, GFNetClassifier) and pl_module.classes is not None  # setup has built the net
        if trainer.is_global_zero and self._run and "val" in pl_module.scores:
            write_confusion(self._run, pl_module.classes, pl_module.scores["val"].confusion.numpy())

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        config = json.loads(self.parser.dump(self.config, skip_none=False, format="json"))
        random_state = {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}
        data: ImageDataModule = trainer.datamodule  # type: ignore[attr-defined]
        checkpoint[RECORD] = {
            "stage": self.stage,
            "config": config,
            "random_state": random_state,
            "trained_on": stored(data.trained_on),
        }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._random_state = checkpoint.get(RECORD, {}).get("random_state")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._random_state:
            torch.set_rng_state(self._random_state["cpu"])
            if len(self._random_state["cuda"]) == torch.cuda.device_count():
                torch.cuda.set_rng_state_all(self._random_state["cuda"])
