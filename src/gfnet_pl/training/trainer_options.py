"""The options of Lightning's Trainer: which of them are checked here, which are fixed, and which Lightning checks.

Lightning lets many values pass that end in a division by zero, or in a run that trains nothing, hours later. So every
option of its Trainer stands in exactly one of the three tables; a test compares them with the Trainer's own signature.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from gfnet_pl.errors import UserError, nearest

MONITORS = tuple(f"{split}/{figure}" for split in ("val", "train") for figure in ("accuracy", "macro_accuracy", "loss"))


class Values(NamedTuple):
    """The values that an option may have: a test of one, and the words for them. None is always allowed."""

    holds: Callable[[Any], bool]
    words: str


def _at_least(least: float, *or_else: object) -> Values:
    words = " or ".join([f"at least {least:g}", *map(str, or_else)])
    return Values(lambda value: value in or_else or value >= least, words)


def _batches(*, or_none: bool) -> Values:
    def holds(value: float) -> bool:
        if value == 0 and not isinstance(value, bool):
            return or_none
        return value >= 1 if isinstance(value, int) else 0 < value <= 1

    words = "a whole number of batches, or a share of them above 0 and at most 1.0"
    return Values(holds, f"{words}{', or 0 for none' if or_none else ''}")


def _is_time(value: object) -> bool:
    return not isinstance(value, str) or bool(re.fullmatch(r"\d+:\d\d:\d\d:\d\d", value.strip()))


CHECKED = {
    "accumulate_grad_batches": _at_least(1),
    "check_val_every_n_epoch": _at_least(1),
    "fast_dev_run": _at_least(0),
    "gradient_clip_val": _at_least(0),
    "limit_test_batches": _batches(or_none=True),
    "limit_train_batches": _batches(or_none=False),
    "limit_val_batches": _batches(or_none=True),
    "log_every_n_steps": _at_least(1),
    "max_epochs": _at_least(1, -1),
    "max_steps": _at_least(1, -1),
    "max_time": Values(_is_time, "a time as DD:HH:MM:SS"),
    "min_epochs": _at_least(0),
    "min_steps": _at_least(0),
    "num_nodes": _at_least(1),
    "num_sanity_val_steps": _at_least(0, -1),
    "reload_dataloaders_every_n_epochs": _at_least(0),
    "val_check_interval": Values(
        lambda value: _batches(or_none=False).holds(value) if isinstance(value, int | float) else _is_time(value),
        f"{_batches(or_none=False).words}, or a time as DD:HH:MM:SS",
    ),
}

# The one value that each of these may have here, besides None, and what to do instead.
FIXED: dict[str, tuple[object, str]] = {
    "barebones": (False, "it leaves out what a run is made of"),
    "enable_checkpointing": (True, "test, predict and report start from one"),
    "limit_predict_batches": (None, "name fewer pictures"),
    "overfit_batches": (0, "give data.train_per_class"),
    "use_distributed_sampler": (False, "the data module itself divides the data"),
}

BY_LIGHTNING = {
    "accelerator",
    "benchmark",
    "callbacks",
    "default_root_dir",
    "deterministic",
    "detect_anomaly",
    "devices",
    "enable_autolog_hparams",
    "enable_model_summary",
    "enable_progress_bar",
    "gradient_clip_algorithm",
    "inference_mode",
    "logger",
    "model_registry",
    "plugins",
    "precision",
    "profiler",
    "strategy",
    "sync_batchnorm",
}


def check_trainer(settings: Mapping[str, Any]) -> None:
    """Checks the Trainer's settings before anything is read or written.

    Args:
        settings: All settings of the Trainer by name.

    Raises:
        UserError: A value is out of its range, or a callback monitors what does not exist.
    """
    for name, (holds, words) in CHECKED.items():
        value = settings[name]
        if value is not None and not (holds(value) and math.isfinite(value if isinstance(value, float) else 0)):
            raise UserError(f"trainer.{name} is {value}: it must be {words}")
    for name, (only, instead) in FIXED.items():
        if settings[name] not in (None, only):
            raise UserError(f"trainer.{name} is {settings[name]}: leave it out; {instead}")
    if settings["max_epochs"] is None and settings["max_steps"] == -1:
        raise UserError("trainer.max_epochs is None: give max_epochs or max_steps, or the cosine has no end")
    for callback in _added(settings["callbacks"]):
        monitor = callback.get("init_args", {}).get("monitor")
        if monitor and monitor not in MONITORS:
            name = callback["class_path"].rpartition(".")[2]
            raise UserError(
                f"trainer.callbacks: {name} monitors {monitor!r}, which is not measured{nearest(monitor, [*MONITORS])}"
            )


def _added(callbacks: Any) -> list[Any]:  # noqa: ANN401  (Namespaces of jsonargparse)
    """The callbacks that the command adds, as their settings."""
    if callbacks is None:
        return []
    return [each for each in (callbacks if isinstance(callbacks, list) else [callbacks]) if "class_path" in each]
