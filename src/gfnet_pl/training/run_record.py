"""Writes the record of a run into its folder, and its stage, settings and random state into its checkpoints."""

import json
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.loggers import TensorBoardLogger

from gfnet_pl.data.datamodule import ImageDataModule
from gfnet_pl.files import replacing, sha256
from gfnet_pl.run.checkpoint import RECORD
from gfnet_pl.run.confusion import write_confusion
from gfnet_pl.run.folder import RunFolder
from gfnet_pl.run.record import provenance, read_sessions, write_record
from gfnet_pl.run.trained_data import refuse_other_pictures, stored
from gfnet_pl.training.classifier import GFNetClassifier


class RunRecord(Callback):
    """Writes the record of a run, and puts stage, settings and random state into its checkpoints.

    When `fit` begins, it writes the config, the splits, the record and the list of data that are not used. After each
    epoch, it writes the confusion matrix of the validation set.

    With the random state, a resumed run gives bitwise the same results as one that was not interrupted. Lightning's
    checkpoints do not contain it.

    Args:
        run: The run's folder. With several devices, that of the first one counts.
        parser: The parser of the subcommand.
        config: The resolved config.
        stage: The stage of the run.
        command: The words of the command line.
        plan: The text of the config that was chosen for the data, if one was.
    """

    def __init__(
        self,
        run: RunFolder,
        parser: LightningArgumentParser,
        config: Any,  # noqa: ANN401
        *,
        stage: str,
        command: list[str],
        plan: str = "",
    ) -> None:
        self.run, self.parser, self.config = run, parser, config
        self.stage, self.command, self.plan = stage, command, plan
        self._random_state: dict[str, Any] | None = None
        self._splits: str | None = None  # their digest; only the first device writes, and knows it

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit" and trainer.is_global_zero:
            self._write(trainer)

    def _write(self, trainer: Trainer) -> None:
        data: ImageDataModule = trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it in fit
        session = provenance(
            self.command,
            precision=trainer.precision,
            device=trainer.strategy.root_device,
            devices=trainer.num_devices,
        )
        session |= {"stage": self.stage, "data": data.source}
        config = config_text(self.parser, self.config)
        self.run.path.mkdir(parents=True, exist_ok=True)
        with replacing(self.run.config) as file:
            file.write(config)
        if self.plan:
            with replacing(self.run.plan) as file:
                file.write(self.plan)
        # A resumed run keeps its splits: pictures that are gone now may come back, and stay in their split.
        write_record(self.run, session, None if self.run.splits.is_file() else data.pictures, data.left_out)
        self._splits = sha256(self.run.splits)
        if isinstance(trainer.logger, TensorBoardLogger):
            text = "\n".join(f"    {line}" for line in config.splitlines())
            facts = "\n".join(f"- {key}: {value}" for key, value in session.items())
            number = len(read_sessions(self.run))  # TensorBoard shows one text per step
            trainer.logger.experiment.add_text("config", text, number)
            trainer.logger.experiment.add_text("run", facts, number)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, GFNetClassifier) and pl_module.classes is not None  # setup has built the net
        if trainer.is_global_zero and "val" in pl_module.scores:
            write_confusion(self.run, pl_module.classes, pl_module.scores["val"].confusion.numpy())

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        config = json.loads(self.parser.dump(self.config, skip_none=False, format="json"))
        random_state = {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}
        data: ImageDataModule = trainer.datamodule  # type: ignore[attr-defined]
        checkpoint[RECORD] = {
            "stage": self.stage,
            "config": config,
            "random_state": random_state,
            "trained_on": stored(data.trained_on),
            "splits": self._splits,
            "devices": trainer.world_size,
        }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        record = checkpoint.get(RECORD, {})
        self._random_state = record.get("random_state")
        data: ImageDataModule = trainer.datamodule  # type: ignore[attr-defined]
        refuse_other_pictures(data.trained_on, record.get("trained_on"), data.source)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._random_state:
            torch.set_rng_state(self._random_state["cpu"])
            if len(self._random_state["cuda"]) == torch.cuda.device_count():
                torch.cuda.set_rng_state_all(self._random_state["cuda"])


def config_text(parser: LightningArgumentParser, config: Any) -> str:  # noqa: ANN401
    """The resolved settings of a command as the YAML text of a config with which it can be run again.

    Args:
        parser: The parser of the subcommand.
        config: What it parsed.
    """
    again = config.clone()
    again.pop("data.image_size", None)  # it follows model.image_size
    if again["model.pretrained"]:
        again["model.classes"] = None  # they follow the data, and a resumed run knows them from its checkpoint
    return str(parser.dump(again, skip_none=False))
