"""What a checkpoint contains: stage, settings, finished epochs and classes of its run, and the weights of the net.

A checkpoint may come from anybody. Nothing in it is executed: PyTorch reads tensors and plain values only, and of the
stored settings only plain values are taken. What could name a class, a module or a place to write to is not among them.

PyTorch writes a checkpoint as a .zip in which every tensor, and the record, has its CRC-32, and does not look at these
when it reads. They are checked here, so that no damaged weight is used: in files of any version.
"""

import inspect
import logging
import re
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gfnet_pl.data.canvas import Canvas
from gfnet_pl.errors import UserError, one_line
from gfnet_pl.files import sha256
from gfnet_pl.model.arguments import check_arguments, per_stage
from gfnet_pl.model.gfnet import GFNet
from gfnet_pl.model.global_filter import stored_size
from gfnet_pl.run.folder import LAST, PREVIOUS, RunFolder, run_of

log = logging.getLogger(__name__)

RECORD = "gfnet_pl"  # the checkpoint's entry with the run's stage, resolved config and random state
# Settings of the Trainer that can hold objects, name classes, or say where to write.
_NOT_TAKEN = ("callbacks", "default_root_dir", "logger", "model_registry", "plugins", "profiler", "strategy")
_PLAIN_NAME = re.compile(r"[\w:, -]*")  # "bf16-mixed", "00:01:30:00", "0,1"; no path of a class, which has dots


class Unreadable(UserError):
    """A checkpoint is gone or damaged."""


def read_content(path: Path, *, mapped: bool = False) -> dict[str, Any]:
    """Reads the file of a checkpoint: tensors and plain values, on the CPU.

    Args:
        path: The file.
        mapped: Map it into memory, instead of reading it.

    Raises:
        Unreadable: It does not exist, or is not whole.
    """
    try:
        with zipfile.ZipFile(path) as file:
            packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in file.infolist())
            if packed or (bad := file.testzip()):
                raise Unreadable(f"--ckpt_path: {path} is damaged{'' if packed else f' (in {bad})'}")
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        return content
    except FileNotFoundError:
        raise Unreadable(f"--ckpt_path: {path} does not exist") from None
    except Unreadable:
        raise
    except zipfile.BadZipFile:
        raise Unreadable(f"--ckpt_path: {path} is no checkpoint, or a damaged one") from None
    except Exception as error:  # PyTorch raises nearly anything on a file that somebody else made
        raise Unreadable(f"--ckpt_path: {path} cannot be read as a checkpoint ({one_line(error)})") from None


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
        not_taken: Keys of settings that its run had and that are not among `settings`: a checkpoint may not set them.
        splits: SHA-256 of the run's splits.csv; None in a run of version 0.1.0.
        trained_on: "digests" (K,) int64 of the pictures that the net was trained on, as bits of `Seen.digests`, and
            "decoding", what made their pixels; None if the checkpoint is of version 0.1.0.
        devices: How many devices its run was trained with, on all machines; None if the checkpoint does not say it.
    """

    path: Path
    stage: str | None
    epochs: int
    steps: int
    settings: dict[str, Any]
    weights: dict[str, torch.Tensor]
    not_taken: tuple[str, ...] = ()
    splits: str | None = None
    trained_on: dict[str, Any] | None = None
    devices: int | None = None

    @classmethod
    def load(cls, path: Path) -> "Checkpoint":
        """Reads a checkpoint, or where a last.ckpt is damaged or gone, the one before; then a line says so.

        The file is mapped into memory.

        Raises:
            UserError: The file does not exist, is damaged, or is not the checkpoint of a GFNetClassifier.
        """
        before = path.with_name(PREVIOUS)
        try:
            return cls._load(path)
        except Unreadable as error:
            if path.name != LAST or not before.is_file():
                raise
            found = cls._load(before)
            log.warning("%s; %s takes its place, of step %d", error, before, found.steps)
            return found

    @classmethod
    def _load(cls, path: Path) -> "Checkpoint":
        content = read_content(path, mapped=sys.platform != "win32")  # there, a mapped file could not be replaced
        try:
            found = _read(path, content)
        except (LookupError, TypeError, ValueError, AttributeError):
            found = None
        if found is None:
            raise UserError(f"--ckpt_path: {path} is no checkpoint of a GFNetClassifier; give one that gfnet fit wrote")
        if problem := _misfit(found):
            raise UserError(f"--ckpt_path: {path} contradicts itself: {problem}; give one that gfnet fit wrote")
        return found

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
    def own_splits(self) -> Path | None:
        """The splits of its run, which say what was trained on and what was not; None if it was moved out of its run.

        Raises:
            UserError: They are not those that the run was trained with.
        """
        if (run := self.run) is None:
            return None
        if self.splits and sha256(run.splits) != self.splits:
            raise UserError(
                f"{run.splits} is not what {self.path} was trained with: it is damaged or was edited; put it back; to "
                "score other pictures, give --data.root or --data.splits with another file"
            )
        return run.splits

    @property
    def canvas(self) -> Canvas:
        """What every picture is made into for its net."""
        size = self.settings["model.image_size"]
        height, width = (size, size) if isinstance(size, int) else size
        # A run of an earlier version has neither setting.
        return Canvas(height, width, self.settings.get("data.colour", False), self.settings.get("data.fit", "stretch"))

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of its net; a run of an earlier version has not all of them."""
        known = [name for name in inspect.signature(GFNet).parameters if f"model.{name}" in self.settings]
        return {name: self.settings[f"model.{name}"] for name in known} | {"num_classes": len(self.classes)}

    def net(self) -> GFNet:
        """Builds the net with these weights, on the CPU, in evaluation mode."""
        net = GFNet(**self.arguments)
        of_net = {name: value for name, value in self.weights.items() if name.startswith("net.")}
        net.load_state_dict({name.removeprefix("net."): value for name, value in of_net.items()})
        return net.eval()


def _read(path: Path, content: Any) -> Checkpoint | None:  # noqa: ANN401
    """What the file contains; None, or an error of whatever kind, if it is not what `gfnet fit` writes."""
    model, weights, record = content["hyper_parameters"], content["state_dict"], content.get(RECORD, {})
    classes, stage = model.get("classes"), record.get("stage")
    if not (isinstance(classes, list) and classes and all(isinstance(name, str) for name in classes)):
        return None
    if "net.pos_embed" not in weights or not isinstance(stage, str | None):
        return None
    if not all(isinstance(value, torch.Tensor) and value.layout == torch.strided for value in weights.values()):
        return None
    stored = dict(_dotted(record.get("config", {}) | {"model": model}))
    settings = {key: value for key, value in stored.items() if _is_taken(key, value)}
    lost = tuple(key for key, value in stored.items() if key not in settings and value not in (None, "auto"))
    steps, pictures = int(content["global_step"]), record.get("trained_on")
    splits, devices = record.get("splits"), record.get("devices")
    if pictures and not (isinstance(pictures["decoding"], str) and pictures["digests"].dtype == torch.int64):
        return None
    if not (isinstance(splits, str | None) and isinstance(devices, int | None)):
        return None
    epochs = _finished_epochs(content)
    return Checkpoint(path, stage, epochs, steps, settings, weights, lost, splits, pictures, devices)


def _is_taken(key: str, value: object) -> bool:
    """Whether a stored setting is data: a plain value, and none that could name a class or a place to write to."""
    if key.startswith("trainer."):
        if key.removeprefix("trainer.") in _NOT_TAKEN:
            return isinstance(value, bool)  # trainer.logger false
        if isinstance(value, str):
            return bool(_PLAIN_NAME.fullmatch(value))
    if key in ("data.root", "data.emphasis_from", "ckpt_path"):  # they are used before a parser has checked their type
        return isinstance(value, str | None)
    if key == "data.class_emphasis" and isinstance(value, dict):
        return all(isinstance(name, str) and isinstance(factor, int | float) for name, factor in value.items())
    if isinstance(value, list | tuple):
        return all(isinstance(each, str | int | float | None) for each in value)
    return isinstance(value, str | int | float | None)


def _misfit(checkpoint: Checkpoint) -> str | None:
    """What is wrong with the sizes of a checkpoint whose net might take far more memory than its file; or None."""
    weights = checkpoint.weights
    if sum(weight.numel() * weight.element_size() for weight in weights.values()) > checkpoint.path.stat().st_size:
        return "its weights are larger than the file"
    try:
        found = inspect.signature(GFNet).bind(**checkpoint.arguments)
        found.apply_defaults()
        check_arguments(*found.arguments.values())
    except (TypeError, ValueError) as error:
        return f"model.{one_line(error)}"
    for name, size in _large_weights(found.arguments, checkpoint.canvas):
        if f"net.{name}" not in weights or weights[f"net.{name}"].shape != size:
            return f"its settings say that {name} is {' x '.join(map(str, size))}, and its weights do not"
    return None


def _large_weights(net: dict[str, Any], canvas: Canvas) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and sizes of weights of a net with these arguments: no other one is much larger than these."""
    side, dims, depths = net["patch_size"], per_stage(net["dim"]), per_stage(net["depth"])
    rows, columns = canvas.height // side, canvas.width // side
    if net["stem"] == "patch":
        yield "patch_embed.proj.weight", (dims[0], net["in_channels"], side, side)
    else:
        last = 3 * (side.bit_length() - 1) * (2 if net["stem"] == "double_conv" else 1)
        yield f"patch_embed.proj.{last}.weight", (dims[0], dims[0], 1, 1)
    yield "pos_embed", (1, rows * columns, dims[0])
    yield "head.weight", (net["num_classes"], dims[-1])
    first = 0
    for stage, (dim, depth) in enumerate(zip(dims, depths, strict=True)):
        if stage:
            yield f"blocks.{first}.down.proj.weight", (dim, dims[stage - 1], 2, 2)
        of_filter = stored_size((rows >> stage, columns >> stage), net["filter_size"])
        for block in range(first, first + depth):
            yield f"blocks.{block}.filter.complex_weight", (*of_filter, dim, 2)
            yield f"blocks.{block}.mlp.fc1.weight", (int(dim * net["mlp_ratio"]), dim)
        first += depth


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
