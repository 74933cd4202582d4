"""What a checkpoint contains: stage, settings, finished epochs and classes of its run, and the weights of the net."""

import inspect
import pickle
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gfnet_pl.data.canvas import Canvas
from gfnet_pl.errors import UserError, one_line
from gfnet_pl.model.gfnet import GFNet
from gfnet_pl.run.folder import RunFolder, run_of

RECORD = "gfnet_pl"  # the checkpoint's entry with the run's stage, resolved config and random state


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that `gfnet fit` wrote.

    Attributes:
        path: The file.
        stage: The stage of the run that wrote it; None if it was not written by a `gfnet` command.
        epochs: Number of finished epochs.
        steps: Number of optimizer steps.
        settings: The resolved settings of its run by dotted key, for example "model.dim".
        weights: The classifier's state dict.
        trained_on: "digests" (K,) int64 of the pictures that the net was trained on, as bits of `Seen.digests`, and
            "decoding", what made their pixels; None if the checkpoint is of version 0.1.0.
    """

    path: Path
    stage: str | None
    epochs: int
    steps: int
    settings: dict[str, Any]
    weights: dict[str, torch.Tensor]
    trained_on: dict[str, Any] | None = None

    @classmethod
    def load(cls, path: Path) -> "Checkpoint":
        """Reads a checkpoint. The file is mapped into memory, so the weights are read only when they are used.

        Raises:
            UserError: The file does not exist, cannot be read, or is not the checkpoint of a GFNetClassifier.
        """
        if path.is_file() and not zipfile.is_zipfile(path):
            raise UserError(f"--ckpt_path: {path} is no checkpoint, or a damaged one")
        try:
            mapped = sys.platform != "win32"  # there, a resumed run could not replace a mapped file
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        except FileNotFoundError:
            raise UserError(f"--ckpt_path: {path} does not exist") from None
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError) as error:
            raise UserError(f"--ckpt_path: {path} cannot be read as a checkpoint ({one_line(error)})") from None
        model = content.get("hyper_parameters", {}) if isinstance(content, dict) else {}
        weights = content.get("state_dict", {}) if isinstance(content, dict) else {}
        if not model.get("classes") or "net.pos_embed" not in weights:
            raise UserError(f"--ckpt_path: {path} is no checkpoint of a GFNetClassifier; give one that gfnet fit wrote")
        record = content.get(RECORD, {})
        settings = dict(_dotted(record.get("config", {}) | {"model": model}))
        steps, pictures = int(content["global_step"]), record.get("trained_on")
        return cls(path, record.get("stage"), _finished_epochs(content), steps, settings, weights, pictures)

    @property
    def classes(self) -> list[str]:
        """Class names in the order of the logits."""
        names: list[str] = self.settings["model.classes"]
        return names

    @property
    def described(self) -> str:
        """Its path, stage and epochs, for example "best.ckpt (stage base, 1 epoch)"."""
        return f"{self.path} (stage {self.stage}, {self.epochs} epoch{'' if self.epochs == 1 else 's'})"

    @property
    def run(self) -> RunFolder | None:
        """The run in whose folder the checkpoint lies; None if it was moved out of it."""
        return run_of(self.path)

    @property
    def canvas(self) -> Canvas:
        """What every picture is made into for its net."""
        size = self.settings["model.image_size"]
        height, width = (size, size) if isinstance(size, int) else size
        # A run of an earlier version has neither setting.
        return Canvas(height, width, self.settings.get("data.colour", False), self.settings.get("data.fit", "stretch"))

    def net(self) -> GFNet:
        """Builds the net with these weights, on the CPU, in evaluation mode."""
        known = [name for name in inspect.signature(GFNet).parameters if f"model.{name}" in self.settings]
        arguments: dict[str, Any] = {name: self.settings[f"model.{name}"] for name in known}
        net = GFNet(**arguments | {"num_classes": len(self.classes)})
        of_net = {name: value for name, value in self.weights.items() if name.startswith("net.")}
        net.load_state_dict({name.removeprefix("net."): value for name, value in of_net.items()})
        return net.eval()


def _dotted(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The settings of a config by dotted key. A value that is a dict itself, such as class_emphasis, stays a dict."""
    for key, value in settings.items():
        name = prefix + key
        if isinstance(value, dict) and (not prefix or name == "data.augment"):
            yield from _dotted(value, f"{name}.")
        else:
            yield name, value


def _finished_epochs(content: dict[str, Any]) -> int:
    """The number of finished epochs; the checkpoint's `epoch` is the one in which it was written, maybe unfinished."""
    batches = content["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    return int(content["epoch"]) + bool(batches["is_last_batch"])
