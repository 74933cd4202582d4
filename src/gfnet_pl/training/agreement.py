"""Several processes train one net only on the same pictures: they compare what they see before the first step."""

import hashlib
import platform
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from gfnet_pl.data.datamodule import ImageDataModule
from gfnet_pl.data.prints import digests_of
from gfnet_pl.errors import UserError


class SameData(Callback):
    """Refuses a machine whose pictures, or their splits, are not those of the first one.

    Each machine reads its own disk and has its own cache. One with other pictures would train on them without a word.
    It stands before the callbacks that write into the run's folder, so that nothing is left of a run that never was.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if trainer.world_size == 1:
            return
        data: ImageDataModule = trainer.datamodule  # type: ignore[attr-defined]  # the command line creates no other
        seen: list[Any] = [None] * trainer.world_size
        torch.distributed.all_gather_object(seen, (platform.node(), *_digests(data)))
        first, names, pixels = seen[0]
        for rank, (host, *digests) in enumerate(seen):
            if digests != [names, pixels]:
                what = "pictures or splits" if digests[0] != names else "pixels"
                if not trainer.is_global_zero:
                    raise SystemExit(2)  # the first process says it
                raise UserError(
                    f"process {rank} on {host} sees other {what} than process 0 on {first}: every machine needs "
                    "the same files in data.root, and the same versions of this package and Pillow"
                )


def _digests(data: ImageDataModule) -> tuple[str, str]:
    """Of the names, classes and splits of the pictures; and of the pixels that are trained on and validated."""
    names = "\n".join(f"{each.path}\t{each.label}\t{each.split}" for each in data.pictures)
    pixels = hashlib.sha256()
    for split in ("train", "val"):
        if split in data.sets:
            pixels.update(digests_of(data.sets[split].images, data.sets[split].rows).tobytes())
    return hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest(), pixels.hexdigest()
