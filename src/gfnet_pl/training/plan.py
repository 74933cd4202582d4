"""The settings of `gfnet fit DIR` without a config: chosen by what the data hold and what the machine is.

Each choice is a step of a short table, and docs/small-data.md has the figures behind it. What the command line sets is
kept. The plan is written into the run as a config, to be edited and run again.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch

from gfnet_pl.data.survey import Survey
from gfnet_pl.files import settings_text
from gfnet_pl.model.arguments import in_words, per_stage
from gfnet_pl.model.pretrained import SMALL, comes_with_weights

AUTO = "auto"  # of a run whose settings were planned

# Pictures of at most so many pixels (the shorter side) -> side of the images, side of the patches.
_IMAGES = ((30, 32, 4), (48, 48, 4), (80, 64, 4), (160, 96, 8))
_LARGEST_IMAGE = (0, 128, 8)
_SMALL_NET = {
    "stem": "conv",
    "dim": 96,
    "depth": 4,
    "dropout": 0.0,
    "drop_path": 0.1,
    "shifted_views": True,
    "lr": 5e-3,
    "weight_decay": 0.05,
}
_STUDYS_NET = {
    "stem": "patch",
    "dim": 256,
    "depth": 12,
    "dropout": 0.2,
    "drop_path": 0.1,
    "lr": 1e-3,
    "weight_decay": 1e-6,
}
_LR_FROM_SMALL = 2e-3
_SAM_RHO = 0.2
_MANY = 100_000  # pictures from which the study's net is trained, on a GPU
_BATCH, _LARGE_BATCH = 32, 512
_EPOCHS, _FEWEST_EPOCHS, _STEPS_PER_EPOCH, _WARMUP = 20, 3, 100, 0.1
_MOST_TIMES = 1000  # that a picture is drawn in an epoch: two pictures are not worth 2,000 steps
_MOST_DRAWN = 1_000_000  # pictures in all on a CPU: about an hour on two cores
_UNEVEN, _WIDE = 3, 1.25  # largest by smallest class; widest by narrowest shape
_FIFTH, _TENTH, _FEW = 0.2, 0.1, 2_000  # shares kept for validation, and of how many pictures a fifth is
_FEW_VALIDATED, _FOLDS = 200, 5
_HOLDOUT_FROM, _HOLDOUT = 200, 20  # pictures per class
_GROUPS, _MANY_GROUPS = 5, 20
_FEW_PER_CLASS = 200
_OTHER_TOOL = (
    "so few pictures: an SVM on histograms of gradients may be as good, in seconds; on clothes, 10 and 100 per class, "
    "it had 74 and 84 %, such a net the same; on clip art, 50 per class, 42 and 45 (docs/small-data.md)"
)
_AUGMENT = {"rotation": 14.3, "scale": 0.2, "shift": 0.075, "brightness": 0.1, "contrast": 0.3}


@dataclass(frozen=True)
class Plan:
    """Settings and why they were chosen.

    Attributes:
        settings: By dotted key.
        reasons: A line each, for people.
    """

    settings: dict[str, Any]
    reasons: list[str]

    def config(self) -> str:
        """The text of a config with these settings, headed by the reasons."""
        head = "What gfnet fit chose for these pictures. Edit a copy of this, and run it: gfnet fit --config FILE"
        return settings_text(self.settings, [head, *self.reasons])


def make_plan(found: Survey, said: Mapping[str, Any]) -> Plan:
    """Chooses settings.

    Args:
        found: What the data hold.
        said: What the command line sets, by dotted key; it has `data.root`. It is kept, and the rest follows.
    """
    gpu = torch.accelerator.is_available() and said.get("trainer.accelerator") != "cpu"
    large = gpu and found.pictures >= _MANY
    images = _images(found, said)
    net = _net(images, said, large=large)
    kept = _kept_out(found, group_by=said.get("data.group_by"), folds=said.get("data.folds"))
    batch = said.get("data.batch_size", _LARGE_BATCH if large else _BATCH)
    training = max(1, found.pictures - kept.pop("pictures"))
    drawn = max(training, min(_STEPS_PER_EPOCH * batch, _MOST_TIMES * training))  # pictures per epoch
    epochs = _EPOCHS if gpu else max(_FEWEST_EPOCHS, min(_EPOCHS, _MOST_DRAWN // drawn))
    epochs = said.get("trainer.max_epochs") or epochs
    settings = {"stage": AUTO, "trainer.max_epochs": epochs}
    settings |= {f"model.{key}": value for key, value in (images | net).items()}
    settings |= {
        "model.warmup_epochs": _WARMUP * epochs,
        "data.root": os.path.abspath(said["data.root"]),
        "data.batch_size": batch,
    }
    settings |= {"data.epoch_size": drawn} if drawn > training else {}
    accumulated, precision = said.get("trainer.accumulate_grad_batches", 1), str(said.get("trainer.precision"))
    if drawn > training and "pretrained" in net and accumulated == 1 and precision not in ("16", "16-mixed"):
        settings["model.sam_rho"] = _SAM_RHO  # few pictures are learned by heart; a radius is right for one size of net
    settings |= {"data.balanced": True} if _uneven(found) else {}
    settings |= _on_nvidia(found, images["image_size"]) if large else {}
    settings |= _seen_as(found) | kept
    settings |= {f"data.augment.{key}": value for key, value in _AUGMENT.items()}
    settings |= {"data.folds": folds} if (folds := said.get("data.folds")) else {}
    settings |= {key: said[key] for key in settings if key in said and key != "data.root"}
    return Plan(settings, _reasons(found, settings, training=training, gpu=gpu))


def _net(images: dict[str, Any], said: Mapping[str, Any], *, large: bool) -> dict[str, Any]:
    """The net's settings; a small net starts from the weights that come with the package, if they fit."""
    if large or said.get("model.variant") or said.get("model.pretrained", SMALL) not in (None, SMALL):
        return _STUDYS_NET
    net = _SMALL_NET | ({} if images["patch_size"] in (2, 4, 8, 16) else {"stem": "patch"})
    own = {key.removeprefix("model."): value for key, value in said.items() if key.startswith("model.")}
    asked = images | net | own
    starts = said.get("model.pretrained", SMALL) == SMALL and comes_with_weights(asked)
    return net | ({"pretrained": SMALL, "lr": _LR_FROM_SMALL} if starts else {})


def _on_nvidia(found: Survey, size: Any) -> dict[str, Any]:  # noqa: ANN401  (a side, or height and width)
    """What makes the study's net faster on an NVIDIA GPU (docs/performance.md), where this one can do it."""
    if not torch.cuda.is_available():
        return {}
    height, width = (size, size) if isinstance(size, int) else size
    needed = found.pictures * height * width * (3 if found.colour else 1)
    settings = {"data.device_cache": True} if needed < torch.cuda.mem_get_info()[0] / 4 else {}
    compiler = find_spec("triton") and (shutil.which("cc") or shutil.which("gcc"))
    return settings | ({"model.compile": True} if compiler else {})


def _images(found: Survey, said: Mapping[str, Any]) -> dict[str, Any]:
    """Side of images and patches. A patch that goes with an image size of the command line is that of its step."""
    asked = said.get("model.image_size", found.side)
    side = min(asked) if isinstance(asked, tuple | list) else asked
    _, chosen, patch = next((step for step in _IMAGES if side <= step[0]), _LARGEST_IMAGE)
    if "model.image_size" in said:
        sides = asked if isinstance(asked, tuple | list) else [asked]
        patch = next((p for p in (patch, 8, 7, 6, 5, 4, 3, 2) if not any(each % p for each in sides)), 1)
    patch = said.get("model.patch_size", patch)
    further = max(0, len(per_stage(said.get("model.dim", 1))) - 1)  # stages: each halves the map
    coarsest = max(1, patch << further)
    return {"image_size": said.get("model.image_size", -(-chosen // coarsest) * coarsest), "patch_size": patch}


def _kept_out(found: Survey, *, group_by: str | None, folds: int | None) -> dict[str, Any]:
    """What training does not use, as settings, and how many `pictures` that is about."""
    if folds:
        return {"pictures": round(found.pictures / folds)}
    least = min(found.counts.values())
    fraction = _FIFTH if found.pictures < _FEW else _TENTH
    holdout = _HOLDOUT if not found.provided & {"test", "dev", "unseen"} and least >= _HOLDOUT_FROM else 0
    kept = holdout * len(found.counts) + (0 if "val" in found.provided else round(fraction * found.pictures))
    settings: dict[str, Any] = {"data.val_fraction": fraction, "data.holdout_per_class": holdout}
    if (group_by or found.groups >= _GROUPS) and not found.provided & {"val", "dev", "unseen"}:
        settings["data.split_by"] = "group"
        if found.groups >= _MANY_GROUPS and group_by != "blocks":  # they are no people
            settings["data.unseen_groups"] = unseen = round(_TENTH * found.groups)
            kept += round(unseen / found.groups * (found.pictures - kept))
    return settings | {"pictures": kept}


def _seen_as(found: Survey) -> dict[str, Any]:
    least, most = found.shapes
    return ({"data.colour": True} if found.colour else {}) | ({"data.fit": "letterbox"} if most > _WIDE * least else {})


def _uneven(found: Survey) -> bool:
    return max(found.counts.values()) >= _UNEVEN * min(found.counts.values())


def _reasons(found: Survey, settings: Mapping[str, Any], *, training: int, gpu: bool) -> list[str]:
    counts = sorted(found.counts.values())
    each = f"{counts[0]:,}" if counts[0] == counts[-1] else f"{counts[0]:,} to {counts[-1]:,}"
    size = settings["model.image_size"]
    side = f"{size} x {size}" if isinstance(size, int) else " x ".join(map(str, size))
    shape = {"letterbox": ", in their own shapes with bars beside them"}.get(settings.get("data.fit", ""), "")
    batch, epochs = settings["data.batch_size"], settings["trainer.max_epochs"]
    drawn = settings.get("data.epoch_size") or training
    return [
        f"{found.pictures:,} training pictures in {len(counts)} classes ({each} each), {found.side} pixels, "
        f"{'colour tells' if found.colour else 'grey'}, {f'{found.groups} groups' if found.groups else 'no groups'}",
        f"net: {in_words(settings['model.dim'])} channels, {in_words(settings['model.depth'])} blocks; "
        f"pictures become {side}{shape}, in patches of {settings['model.patch_size']}",
        f"training: {epochs} epochs of {-(-drawn // batch):,} steps of {batch}, each picture "
        f"{epochs * drawn / training:,.0f} times, on {'the GPU' if gpu else 'the CPU'}"
        + (", all classes equally often" if settings.get("data.balanced") else "")
        + (", sharpness-aware (twice the time, for few pictures)" if settings.get("model.sam_rho") else "")
        + (", compiled (a minute before the first step)" if settings.get("model.compile") else ""),
        f"augmentation: {', '.join(key for key in _AUGMENT)}; no mirror image, which may be another class",
        _kept_words(found, settings),
        *([_OTHER_TOOL] if counts[len(counts) // 2] < _FEW_PER_CLASS else []),
    ]


def _kept_words(found: Survey, settings: Mapping[str, Any]) -> str:
    if folds := settings.get("data.folds"):
        by = "whole groups" if found.groups else "picture by picture"
        return f"kept out, {by}: in each of {folds} runs another of {folds} parts, so that every picture is scored"
    kept = [] if "val" in found.provided else [f"{100 * settings['data.val_fraction']:.0f} % for validation"]
    kept += [f"{count} per class for holdout"] if (count := settings["data.holdout_per_class"]) else []
    kept += [f"{count} groups as unseen"] if (count := settings.get("data.unseen_groups", 0)) else []
    validated = settings["data.val_fraction"] * found.pictures
    few = f"; so few tell little, --data.folds {_FOLDS} tells more" if validated < _FEW_VALIDATED else ""
    by = "whole groups" if settings.get("data.split_by") == "group" else "picture by picture"
    return f"kept out, {by}: {', '.join(kept) or 'what the data provide'}{few}"
