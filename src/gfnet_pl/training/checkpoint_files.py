"""How Lightning writes and reads checkpoints here: whole files only, and none whose weights are not finite.

Lightning's own way goes through the folder of temporary files. Where that is on another disk, as /tmp often is, the
file is copied over the old checkpoint, and a process that is killed meanwhile leaves neither.
"""

from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from torch import Tensor

from gfnet_pl.errors import UserError
from gfnet_pl.files import replacing
from gfnet_pl.run.checkpoint import read_content
from gfnet_pl.run.folder import LAST, PREVIOUS


class CheckpointFiles(TorchCheckpointIO):
    """Writes a checkpoint aside and renames it, and keeps the last.ckpt before. Reads no damaged one."""

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | PathLike[str],
        storage_options: Any = None,  # noqa: ANN401
    ) -> None:
        file = Path(fspath(path))
        file.parent.mkdir(parents=True, exist_ok=True)
        before = file.with_name(PREVIOUS) if file.name == LAST else None
        with replacing(file, "wb", before=before) as stream:
            torch.save(checkpoint, stream)

    def load_checkpoint(
        self,
        path: str | PathLike[str],
        map_location: Any = None,  # noqa: ANN401
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        return read_content(Path(fspath(path)))


def refuse_bad_weights(weights: Mapping[str, Tensor], step: int) -> None:
    """Raises UserError if a weight is NaN or infinite: such a net is worth nothing, and its checkpoint less.

    Args:
        weights: A state dict.
        step: Optimizer steps taken, for the message.
    """
    floats = [weight for weight in weights.values() if weight.is_floating_point()]
    if not torch.stack([weight.isfinite().all() for weight in floats]).all():
        raise UserError(
            f"the weights are not finite after step {step}; training stops and the checkpoints stay as they were; "
            "lower model.lr, or look at the data"
        )
