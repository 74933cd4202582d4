"""Rows of the cache -> batches: one indexing of an array, with no Python code per image.

C is 1 for grey pictures and 3 for coloured ones.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gfnet_pl.data.order import Draw, EpochOrder
from gfnet_pl.errors import UserError, is_out_of_memory


class Batch(NamedTuple):
    """`images` (B, C, H, W) levels from 0 to 255, `labels` and, in training, `seeds`.

    Images are uint8, or float32 once augmented. Labels are (B,) int64, -1 where none are known. `seeds` (B,) int64
    settle the augmentation.
    """

    images: Tensor
    labels: Tensor
    seeds: Tensor | None = None


def channels_first(images: Tensor) -> Tensor:
    """Pictures as the cache has them, (B, H, W) or (B, H, W, 3) -> (B, C, H, W) as a net takes them."""
    return images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()


class ImageArray(Dataset[Batch]):
    """Some rows of an array of decoded images, indexed a whole batch at a time.

    Args:
        images: (rows, H, W) or (rows, H, W, 3) uint8, which may be a memory map.
        rows: (N,) those of this set.
        labels: (N,) int64.
        device: Where to keep a copy of the images. Default: no copy, batches are read from `images`.
    """

    def __init__(
        self,
        images: npt.NDArray[np.uint8],
        rows: npt.NDArray[np.int64],
        labels: npt.NDArray[np.int64],
        device: torch.device | None = None,
    ) -> None:
        self.images, self.rows, self.labels = images, rows, labels
        self.copy = None if device is None else _on(device, images[rows])

    def __len__(self) -> int:
        return len(self.rows)

    def __getstate__(self) -> dict[str, Any]:
        """Of a memory map, only the rows of this set: where workers are spawned (macOS, Windows), each gets a copy."""
        return self.__dict__ | {"images": self.images[self.rows], "rows": np.arange(len(self.rows))}

    def __getitem__(self, draw: Draw) -> Batch:
        if self.copy is None:
            images = torch.from_numpy(self.images[self.rows[draw.images]])
        else:
            images = self.copy[torch.from_numpy(draw.images).to(self.copy.device)]
        seeds = None if draw.seeds is None else torch.from_numpy(draw.seeds)
        return Batch(channels_first(images), torch.from_numpy(self.labels[draw.images]), seeds)


def _on(device: torch.device, images: npt.NDArray[np.uint8]) -> Tensor:
    try:
        return torch.from_numpy(images).to(device)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        size = f"{images.nbytes / 1e9:.2f} GB of pictures"
        raise UserError(f"data.device_cache: {size} do not fit into the memory of {device}; drop it") from None


class ResumableLoader(DataLoader[Any]):
    """A loader over an `EpochOrder`, whose place in the epoch can be saved and taken up again.

    Worker processes change nothing: the order is asked for only when the epoch's first batch is, and `set_epoch` has
    been called by then. A plain DataLoader with workers asks before, and gets the order of the epoch before.
    """

    sampler: EpochOrder
    _given = 0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # a generator, see above
        self._given = self.sampler.start
        for batch in super().__iter__():
            self._given += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """The epoch, and the batches of it that were given."""
        return {"epoch": self.sampler.epoch, "batches": self._given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on where `state` stopped, until another epoch is set."""
        self.sampler.epoch, self.sampler.start = state["epoch"], state["batches"]
