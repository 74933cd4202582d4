"""What a run takes from a checkpoint: everything (resume), the net and the data (warm start), or all to test it.

LightningCLI would merge a checkpoint's hyper-parameters over the config and restore optimizer, schedule and epoch
count whenever it sees `--ckpt_path`: polishing would then train at the old learning rate, or not at all. Here a
checkpoint's settings become the *defaults* of the command, so that config files and flags still win, and its stage
decides: a run of the same stage resumes it exactly, a run of another stage starts anew from its weights.
"""

import os
import pickle
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gfnet_pl.errors import UserError
from gfnet_pl.training.classifier import GFNetClassifier

RECORD = "gfnet_pl"  # the checkpoint's entry with the run's stage and resolved config

_DRAWS_SPLITS = (
    "data.group_by",
    "data.split_by",
    "data.unseen_groups",
    "data.val_fraction",
    "data.holdout_per_class",
    "data.train_per_class",
)
_MAY_MOVE = ("data.root", "data.splits")  # the same pictures may lie elsewhere by now
_RECIPE = ("model.lr", "model.weight_decay", "model.decay_matrices_only", "model.warmup_epochs")
_REGULARISATION = ("model.dropout", "model.drop_path")


@dataclass(frozen=True)
class Source:
    """A checkpoint that a command starts from.

    Attributes:
        path: The file.
        stage: The stage of the run that wrote it; None where no `gfnet` command did.
        epochs: Finished epochs.
        settings: Its run's resolved settings by dotted key, such as "model.dim".
        weights: The classifier's state dict.
    """

    path: Path
    stage: str | None
    epochs: int
    settings: dict[str, Any]
    weights: dict[str, torch.Tensor]

    @classmethod
    def load(cls, path: Path) -> "Source":
        """Reads a checkpoint.

        Raises:
            UserError: No such file, not readable, or not a GFNetClassifier's.
        """
        if path.is_file() and not zipfile.is_zipfile(path):
            raise UserError(f"--ckpt_path: {path} is no checkpoint, or a damaged one")
        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except FileNotFoundError:
            raise UserError(f"--ckpt_path: {path} does not exist") from None
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError) as error:
            raise UserError(f"--ckpt_path: {path} cannot be read as a checkpoint ({_first_line(error)})") from None
        model = content.get("hyper_parameters", {}) if isinstance(content, dict) else {}
        weights = content.get("state_dict", {}) if isinstance(content, dict) else {}
        if not model.get("classes") or "net.pos_embed" not in weights:
            raise UserError(f"--ckpt_path: {path} is no checkpoint of a GFNetClassifier; give one that gfnet fit wrote")
        record = content.get(RECORD, {})
        config = record.get("config", {}) | {"model": model}
        settings = dict(_dotted(config))
        return cls(path, record.get("stage"), _finished_epochs(content), settings, weights)

    @property
    def run(self) -> Path | None:
        """The run's folder, relative to the current one, if the checkpoint still lies in one."""
        folder = Path(os.path.relpath(self.path.absolute().parent.parent))
        return folder if (folder / "splits.csv").is_file() else None

    def resumes(self, stage: str) -> bool:
        """Whether a fit of `stage` continues this run rather than starting anew from its weights."""
        return stage == self.stage

    def defaults(self, subcommand: str, said: dict[str, Any], stage: str) -> dict[str, Any]:
        """The settings that a command takes from the checkpoint where it does not say otherwise.

        Args:
            subcommand: fit, validate, test or predict.
            said: What config files and flags say, by dotted key.
            stage: Of the command.

        Raises:
            UserError: The command contradicts what must come from the checkpoint, or the run's splits are missing.
        """
        of_the_command = ("config", "ckpt_path", "weights_only", "data.predict_paths", "data.image_size")
        taken = {key: value for key, value in self.settings.items() if key not in of_the_command}
        if subcommand == "predict":
            return {
                key: value for key, value in taken.items() if not key.startswith("data.") or key == "data.batch_size"
            }
        anew = subcommand == "fit" and not self.resumes(stage)
        if anew:
            taken = {
                key: value
                for key, value in taken.items()
                if (key.startswith(("model.", "data.")) and key not in _RECIPE) or key == "trainer.precision"
            }
        other_data = "data.root" in said and said["data.root"] != self.settings.get("data.root")
        if "data.splits" not in said and not other_data:
            taken["data.splits"] = self._splits()
        fixed = tuple(key for key in taken if key.startswith("model.") and key != "model.compile")
        if anew:
            fixed = tuple(key for key in fixed if key not in _REGULARISATION)
        elif subcommand == "fit":
            fixed += tuple(key for key in taken if key.startswith("data.") and key not in _MAY_MOVE)
        self._refuse_contradictions(said, taken, fixed)
        return taken

    def _splits(self) -> str:
        if self.run is None:
            raise UserError(
                f"{self.path}: without its run's splits.csv nobody knows which pictures it was trained on; "
                "keep the checkpoint in its run's folder, or give --data.splits FILE"
            )
        return str(self.run / "splits.csv")

    def _refuse_contradictions(self, said: dict[str, Any], taken: dict[str, Any], fixed: tuple[str, ...]) -> None:
        for key in sorted(said.keys() & taken.keys()):
            if _plain(said[key]) == _plain(taken[key]):
                continue
            if key in fixed:
                raise UserError(f"{key} is {said[key]} in this command but {taken[key]} in {self.path}: drop it")
            if key in _DRAWS_SPLITS and "data.splits" in taken:
                raise UserError(
                    f"{key} is {said[key]} in this command, but the splits come from {taken['data.splits']}: drop it"
                )

    def give_weights(self, model: GFNetClassifier) -> None:
        """Puts the weights and the normalisation into `model`.

        Raises:
            UserError: The shapes differ.
        """
        try:
            model.load_state_dict(self.weights)
        except RuntimeError as error:
            raise UserError(f"{self.path}: its weights do not fit the net ({_first_line(error)})") from None


def _dotted(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """A config's settings by dotted key; a value that is a dict itself, such as class_emphasis, stays one."""
    for key, value in settings.items():
        name = prefix + key
        if isinstance(value, dict) and (not prefix or name == "data.augment"):
            yield from _dotted(value, f"{name}.")
        else:
            yield name, value


def _finished_epochs(content: dict[str, Any]) -> int:
    """A checkpoint's `epoch` is the one that it was written in, which may be half done."""
    batches = content["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    return int(content["epoch"]) + bool(batches["is_last_batch"])


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
