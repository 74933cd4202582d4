"""What a command takes from a checkpoint: everything (resume), the net and the data (warm start), or all to test it.

Given `--ckpt_path`, LightningCLI would replace settings of the config by the checkpoint's hyper-parameters, and restore
optimizer, schedule and epoch count. The fine-tuning of `polish.yaml` would then train at the old learning rate, or not
at all. Here, a checkpoint's settings become the *defaults* of the command, so config files and flags still override
them. The stage decides what happens: a run of the same stage resumes exactly where the checkpoint's run stopped, a run
of another stage starts a new training from the checkpoint's weights. If its data have other classes, it takes the body
of the net alone, and what suits the old data only (their splits, their classes) is not taken.
"""

import logging
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import Tensor

from gfnet_pl.data.splits import SplitRule, read_splits
from gfnet_pl.errors import UserError, one_line
from gfnet_pl.run.checkpoint import Checkpoint
from gfnet_pl.run.confusion import confusion_emphasis
from gfnet_pl.run.folder import RunFolder, run_of
from gfnet_pl.run.trained_data import data_root, has_other_classes, is_other_data
from gfnet_pl.training.classifier import GFNetClassifier
from gfnet_pl.training.gone import GONE
from gfnet_pl.training.precision import FLOAT32

log = logging.getLogger(__name__)

_NAMED = 8  # classes in a line
_DRAWS_SPLITS = tuple(f"data.{field.name}" for field in fields(SplitRule))
_MAY_MOVE = ("data.root", "data.splits", "data.on_broken", "data.group_table")  # moved or damaged since, or given late
_OF_THE_MACHINE = ("data.num_workers", "data.device_cache")  # they change no batch
_RECIPE = ("model.lr", "model.weight_decay", "model.warmup_epochs", "model.sam_rho", "model.freeze")
_OF_THE_DATA = (
    *_DRAWS_SPLITS,
    "data.classes",
    "data.class_emphasis",
    "data.epoch_size",
    "data.group_table",
)  # of no use for other classes
_KEPT = {
    "model.stem": "patch",
    "model.layer_scale": None,
    "model.shifted_views": False,
    "model.mirrored_views": False,
    "data.colour": False,
    "data.fit": "stretch",
}  # a net keeps these; and what they were before one could say
_OF_THE_NET = tuple(f"model.{name}" for name in ("image_size", "patch_size", "dim", "depth", "dropout", "drop_path"))
# Settings beside the net's and the data's that change a step, and what they are where they are unset. To change one of
# them is to train another run.
_OF_THE_STEP: dict[str, object] = {
    "seed_everything": None,
    "tf32.enabled": True,
    "trainer.accumulate_grad_batches": 1,
    "trainer.gradient_clip_algorithm": "norm",
    "trainer.gradient_clip_val": 0,
    "trainer.limit_train_batches": 1.0,
    "trainer.precision": FLOAT32,
    "trainer.sync_batchnorm": False,
}
_PRECISIONS = {"64": "64-true", "32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed"}  # Lightning's short names
_LR = 1e-3  # of a net that has learned something; a new one of the same size is planned to begin at 5e-3
# What any weights fit.
_FREE_AGAIN = tuple(f"model.{name}" for name in ("dropout", "drop_path", "shifted_views", "mirrored_views"))


def resumes(checkpoint: Checkpoint, stage: str) -> bool:
    """Whether a fit of `stage` continues the checkpoint's run, instead of starting a new run from its weights."""
    return stage == checkpoint.stage


def transfers(checkpoint: Checkpoint, said: dict[str, Any], stage: str) -> bool:
    """Whether a fit takes the body of the checkpoint's net alone: it is a new run, and the data have other classes."""
    return not resumes(checkpoint, stage) and has_other_classes(checkpoint, said)


def kept_in_plan(checkpoint: Checkpoint) -> dict[str, Any]:
    """What a plan for other data has to keep of the net, by dotted key, and the learning rate that suits it."""
    own = {key: value for key, value in (_KEPT | checkpoint.settings).items() if key in (*_OF_THE_NET, *_KEPT)}
    return own | {"model.lr": _LR, "model.pretrained": None}


def settings_from(checkpoint: Checkpoint, subcommand: str, said: dict[str, Any], stage: str) -> dict[str, Any]:
    """The settings that a command takes from the checkpoint unless its config files and flags set them.

    Args:
        checkpoint: The checkpoint that the command starts from.
        subcommand: fit, validate or test.
        said: The settings in config files and flags, by dotted key.
        stage: The stage of the command.

    Returns:
        The settings by dotted key.

    Raises:
        UserError: The command contradicts what must come from the checkpoint, the run's splits are missing, or the run
            cannot be resumed by this version.
    """
    of_the_command = ("config", "ckpt_path", "weights_only", "data.image_size", "emphasis_from")
    taken: dict[str, Any] = _KEPT | {
        key: value for key, value in checkpoint.settings.items() if key not in of_the_command
    }
    if subcommand != "fit":  # how it was trained, and on which machine, says nothing about how to evaluate it
        taken = {key: value for key, value in taken.items() if not key.startswith("trainer.")} | {"trainer.devices": 1}
    elif "trainer.precision" in taken:
        taken["trainer.precision"] = taken["trainer.precision"] or FLOAT32  # null in a run of version 0.1.0
    again = subcommand == "fit" and not resumes(checkpoint, stage)
    new_head = subcommand == "fit" and transfers(checkpoint, said, stage)
    if subcommand == "fit" and not again:
        _refuse_what_is_gone(checkpoint)
        _refuse_to_resume_on_others(checkpoint, said)
        _tell_what_is_not_taken(checkpoint, said)
    taken = {"model.pretrained": None, "model.freeze": 0} | taken  # a run of version 0.1.0 does not have them
    if (run := taken.pop("data.emphasis_from", None)) and subcommand == "fit":  # a run of version 0.1.0
        taken["data.class_emphasis"] = confusion_emphasis(RunFolder(Path(run)))
    if again:
        taken = {
            key: value
            for key, value in taken.items()
            if (key.startswith(("model.", "data.")) and key not in _RECIPE) or key == "trainer.precision"
        }
    if new_head:
        taken = {key: value for key, value in taken.items() if key not in _OF_THE_DATA}
        taken |= {"model.classes": None, "model.pretrained": None}  # the net is built for the classes of the data
    taken["data.root"] = data_root(checkpoint)
    resumed = subcommand == "fit" and not again
    chosen = said.get("data.splits")
    if "data.splits" not in said or (resumed and not chosen):  # a run's own config says null
        own = resumed or not (new_head or is_other_data(checkpoint, said))
        taken["data.splits"] = _splits(checkpoint) if own else None
        taken |= {} if own else {"data.group_table": None}
    elif chosen and checkpoint.run and os.path.realpath(chosen) == os.path.realpath(checkpoint.run.splits):
        _splits(checkpoint)
    elif chosen and resumed:
        _refuse_other_splits(checkpoint, chosen)
    fixed = (*_KEPT, *(key for key in taken if key.startswith("model.") and key != "model.compile"))
    if again:
        fixed = tuple(key for key in fixed if key not in _FREE_AGAIN)
    elif subcommand == "fit":
        fixed += tuple(key for key in taken if key.startswith("data.") and key not in (*_MAY_MOVE, *_OF_THE_MACHINE))
        fixed += tuple(_OF_THE_STEP)
    _refuse_contradictions(checkpoint, said, taken, fixed)
    return taken


def started_from(checkpoint: Checkpoint) -> str | None:
    """The checkpoint of another run from whose weights the checkpoint's run once started; None if there is none."""
    origin = checkpoint.settings.get("ckpt_path")
    return origin if origin and run_of(Path(origin)) != checkpoint.run else None  # version 0.1.0 named its own here


def refuse_if_finished(checkpoint: Checkpoint, *, max_epochs: int | None, max_steps: int) -> None:
    """Refuses to resume a run that would not train a single step.

    Raises:
        UserError: The checkpoint's run has all its epochs or steps. -1 means no limit.
    """
    for done, limit, option in (
        (checkpoint.epochs, -1 if max_epochs is None else max_epochs, "epochs"),
        (checkpoint.steps, max_steps, "steps"),
    ):
        if 0 <= limit <= done:
            raise UserError(
                f"{checkpoint.path}: this {checkpoint.stage} run has finished its {done} {option}; for more of it give "
                f"--trainer.max_{option}, for a new run from its weights another --stage"
            )


def give_weights(checkpoint: Checkpoint, model: GFNetClassifier) -> None:
    """Puts the checkpoint's weights and normalisation into `model`.

    Raises:
        UserError: The shapes differ.
    """
    _load(checkpoint, model, checkpoint.weights)


def _load(checkpoint: Checkpoint, model: GFNetClassifier, weights: dict[str, Tensor]) -> None:
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"{checkpoint.path}: its weights do not fit the net ({one_line(error)})") from None


def give_body(checkpoint: Checkpoint, model: GFNetClassifier) -> None:
    """Puts the checkpoint's weights into a net of other classes. One line in the log says which ones it knows.

    The net's normalisation stays that of its data: the patch embedding expects pictures of mean 0 and standard
    deviation 1, and other pictures may be darker or have less contrast. A class that the checkpoint has too keeps its
    row of the head. The rows of the others are new.

    Raises:
        UserError: The shapes differ.
    """
    assert model.classes is not None  # setup has built the net
    stay = [name for name in model.classes if name in checkpoint.classes]
    here, there = ([names.index(name) for name in stay] for names in (model.classes, checkpoint.classes))
    own = model.state_dict()
    given = {name: value for name, value in checkpoint.weights.items() if name not in ("net.mean", "net.std")}
    for part in ("net.head.weight", "net.head.bias"):
        rows = own[part].clone()
        rows[here] = given[part][there].to(rows)
        given[part] = rows
    _load(checkpoint, model, own | given)
    named = ", ".join(stay[:_NAMED]) + (", …" if len(stay) > _NAMED else "")
    kept = f"{len(stay)} of them keep their rows of the head ({named})" if stay else "the head is new"
    log.info("the data have %d classes, the checkpoint %d; %s", len(model.classes), len(checkpoint.classes), kept)


def _splits(checkpoint: Checkpoint) -> str:
    if (splits := checkpoint.own_splits) is None:
        raise UserError(
            f"{checkpoint.path}: without its run's splits nobody knows which pictures it was trained on; "
            "keep the checkpoint in its run's folder, or give --data.splits FILE"
        )
    return str(splits)


def _refuse_other_splits(checkpoint: Checkpoint, name: str) -> None:
    if (own := checkpoint.own_splits) and read_splits(Path(name)) != read_splits(own):
        raise UserError(f"data.splits is {name} in this command, but a run that goes on keeps its {own}: drop it")


def _refuse_what_is_gone(checkpoint: Checkpoint) -> None:
    for key, value in GONE.items():
        if (had := checkpoint.settings.get(key, value)) != value:
            raise UserError(
                f"{checkpoint.path}: its run has {key} {had}, which this version no longer has; resume it with "
                "gfnet_pl 0.1.0, or start again from its weights with another --stage"
            )


def _refuse_to_resume_on_others(checkpoint: Checkpoint, said: dict[str, Any]) -> None:
    if is_other_data(checkpoint, said) and "data.splits" not in said and has_other_classes(checkpoint, said):
        raise UserError(
            f"data.root: {said['data.root']} has other classes than {checkpoint.path}, which is of the stage "
            f"{checkpoint.stage}, so that its run would be resumed; for a new run from its weights give another --stage"
        )


def _tell_what_is_not_taken(checkpoint: Checkpoint, said: dict[str, Any]) -> None:
    if lost := [key for key in checkpoint.not_taken if key not in said]:
        log.warning(
            "%s: its run had %s, which no checkpoint can bring back, as it could run anything; give it again",
            checkpoint.path,
            " and ".join(lost),
        )


def _refuse_contradictions(
    checkpoint: Checkpoint, said: dict[str, Any], taken: dict[str, Any], fixed: tuple[str, ...]
) -> None:
    # The variant first: its shape is other settings, which nobody gave.
    for key in sorted(said.keys() & taken.keys(), key=lambda key: (key != "model.variant", key)):
        if _plain(key, said[key]) == _plain(key, taken[key]) or (key == "model.classes" and said[key] is None):
            continue  # a run that started for the classes of its data has none in its config
        if key in fixed:
            raise UserError(f"{key} is {said[key]} in this command but {taken[key]} in {checkpoint.path}: drop it")
        if key in _DRAWS_SPLITS and (splits := said.get("data.splits") or taken.get("data.splits")):
            raise UserError(f"{key} is {said[key]} in this command, but the splits come from {splits}: drop it")


def _plain(key: str, value: object) -> object:
    """A setting's value such that two that mean the same are equal."""
    if value is None:
        return _OF_THE_STEP.get(key)
    if key == "trainer.precision":
        return _PRECISIONS.get(str(value), value)
    return list(value) if isinstance(value, tuple) else value


def refuse_other_devices(checkpoint: Checkpoint, devices: int) -> None:
    """Refuses to resume a run with more or fewer devices: each has its batch, so a step would be another one.

    Raises:
        UserError: The run was trained with another number of devices, all machines together.
    """
    if checkpoint.devices not in (None, devices):
        raise UserError(
            f"trainer.devices: {checkpoint.path} was trained with {checkpoint.devices} devices, and here "
            f"{'is' if devices == 1 else 'are'} {devices}: its steps would be other ones; give --trainer.devices and "
            "--trainer.num_nodes as they were, or train a new run from its weights with another --stage"
        )
