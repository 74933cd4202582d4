"""A run is a folder: `runs/<stage>/version_N/`. What is written there beside checkpoints and TensorBoard's events."""

import csv
import json
import os
import platform
import shlex
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger

from gfnet_pl.data.datamodule import ImageDataModule
from gfnet_pl.data.order import write_confusion
from gfnet_pl.data.splits import write_splits
from gfnet_pl.training.classifier import GFNetClassifier
from gfnet_pl.training.warm_start import RECORD

_PACKAGES = ("gfnet_pl", "torch", "lightning", "torchmetrics", "jsonargparse", "numpy", "pillow")


class RunRecord(SaveConfigCallback):
    """Writes what a run is known by, and puts stage, settings and random state into its checkpoints.

    config.yaml, splits.csv, run.json and, where data were left out, left_out.csv are written once `fit` begins, the
    confusion matrix of the validation set after each epoch.
    The random state makes a resumed run continue bitwise where it stopped: Lightning's checkpoints hold none.

    Args:
        parser: The subcommand's parser.
        config: The resolved config.
        stage: The run's stage.
        command: The command line's words.
    """

    def __init__(self, parser: LightningArgumentParser, config: Any, *, stage: str, command: list[str]) -> None:  # noqa: ANN401
        super().__init__(parser, config, overwrite=True)
        self.stage, self.command = stage, command
        self._random_state: dict[str, Any] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit" and trainer.logger is not None:
            self._folder = Path(trainer.log_dir or "")  # asks all devices, so not below, where only one comes
            super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        folder = self._folder
        data: ImageDataModule = trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it in fit
        write_splits(folder / "splits.csv", data.pictures)
        if data.left_out:
            with (folder / "left_out.csv").open("w", newline="", encoding="utf-8") as file:
                csv.writer(file, lineterminator="\n").writerows([("path", "reason"), *data.left_out])
        facts = provenance(trainer, self.command) | {"stage": self.stage, "data": data.source}
        record = folder / "run.json"  # an entry a session: a resumed run has several
        sessions = json.loads(record.read_text()) if record.is_file() else []
        record.write_text(json.dumps([*sessions, facts], indent=2) + "\n")
        if isinstance(trainer.logger, TensorBoardLogger):
            text = "\n".join(f"    {line}" for line in (folder / "config.yaml").read_text().splitlines())
            trainer.logger.experiment.add_text("config", text)
            facts_text = "\n".join(f"- {key}: {value}" for key, value in facts.items())
            trainer.logger.experiment.add_text("run", facts_text)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, GFNetClassifier) and pl_module.classes is not None  # setup has built the net
        if trainer.is_global_zero and trainer.logger is not None and "val" in pl_module.scores:
            write_confusion(self._folder, pl_module.classes, pl_module.scores["val"].confusion.numpy())

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        config = json.loads(self.parser.dump(self.config, skip_none=False, format="json"))
        random_state = {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}
        checkpoint[RECORD] = {"stage": self.stage, "config": config, "random_state": random_state}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._random_state = checkpoint.get(RECORD, {}).get("random_state")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._random_state:
            torch.set_rng_state(self._random_state["cpu"])
            if len(self._random_state["cuda"]) == torch.cuda.device_count():
                torch.cuda.set_rng_state_all(self._random_state["cuda"])


def provenance(trainer: Trainer, command: list[str]) -> dict[str, Any]:
    """What a run was made with: command, time, commit, hardware and versions."""
    cuda = torch.cuda.is_available()
    return {
        "command": shlex.join(["gfnet", *command]),
        "folder": str(Path.cwd()),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "seed": os.environ.get("PL_GLOBAL_SEED"),
        "precision": trainer.precision,
        "devices": f"{trainer.num_devices} x {torch.cuda.get_device_name() if cuda else trainer.strategy.root_device}",
        "cpu": f"{os.cpu_count()} x {_cpu_name()}",
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cuda": torch.version.cuda,
        **{package: version(package) for package in _PACKAGES},
    }


def _commit() -> str | None:
    """The checkout's commit, with "+" where files differ from it; None for an installed wheel."""
    source = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=source, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
