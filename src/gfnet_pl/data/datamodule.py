"""ImageDataModule: a folder of class folders -> batches of 96 x 96 grey images.

The pictures are decoded once into memory as uint8, and a batch is one indexing of that array: there is nothing for
worker processes to do and nothing for training to wait for. Normalisation is the network's (its buffers), so that
training, export and a browser cannot disagree.
"""

import glob
import logging
import os
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gfnet_pl.data.decode import read_all
from gfnet_pl.data.hand_signs import hand_signs_root
from gfnet_pl.data.layouts import Picture, pictures_in, scan
from gfnet_pl.data.order import EpochOrder
from gfnet_pl.data.splits import EVALUATED, SPLITS, draw_splits, read_splits
from gfnet_pl.errors import UserError

log = logging.getLogger(__name__)

SYNTHETIC = "embedded data: synthetic, rendered hand signs"


class Batch(NamedTuple):
    """`images` (B, 1, H, W) uint8 grey levels, `labels` (B,) int64; labels are -1 where none are known."""

    images: Tensor
    labels: Tensor


class ImageArray(Dataset[Batch]):
    """Decoded images that are indexed a whole batch at a time."""

    def __init__(self, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> None:
        self.images, self.labels = torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, positions: list[int]) -> Batch:
        index = torch.tensor(positions)
        return Batch(self.images[index], self.labels[index])


class ImageDataModule(LightningDataModule):
    """Batches of grey images from a folder of class folders, with or without Train/Val/Test/Unseen above them.

    Args:
        root: The folder. Left out, it is the embedded data set: synthetic, rendered hand signs, made once in the
            user's cache folder.
        splits: A run's splits.csv to read instead of drawing splits anew; the next three options then say nothing.
        val_fraction: Share of each class's training pictures kept for validation.
        holdout_per_class: Training pictures a class kept out for the holdout set.
        train_per_class: Train on at most so many pictures a class.
        seed: Of the splits and of the order of the images; left out, that of `seed_everything`.
        batch_size: Images a batch and device.
        balanced: Draw every class equally often in training, whatever the counts.
        image_size: Height and width in pixels, or one number for both; pictures are stretched to it.
        predict_paths: Pictures, folders and globs for `predict`.
    """

    def __init__(
        self,
        root: str | None = None,
        *,
        splits: str | None = None,
        val_fraction: float = 0.1,
        holdout_per_class: int = 0,
        train_per_class: int | None = None,
        seed: int | None = None,
        batch_size: int = 512,
        balanced: bool = False,
        image_size: int | tuple[int, int] = 96,
        predict_paths: list[str] | None = None,
    ) -> None:
        super().__init__()
        if not 0 < val_fraction < 1:
            raise UserError(f"data.val_fraction is {val_fraction}: it must lie between 0 and 1")
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("holdout_per_class", holdout_per_class, 0),
            ("train_per_class", train_per_class, 1),
        ):
            if value is not None and value < least:
                raise UserError(f"data.{name} is {value}: it must be at least {least}")
        self.root, self.splits_file = root, splits
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed
        self.val_fraction, self.holdout_per_class, self.train_per_class = (
            val_fraction,
            holdout_per_class,
            train_per_class,
        )
        self.batch_size, self.balanced = batch_size, balanced
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.size = (height, width)
        self.predict_paths = predict_paths
        self.pictures: list[Picture] = []
        self.sets: dict[str, ImageArray] = {}
        self.predict_files: list[Path] = []

    @property
    def classes(self) -> list[str]:
        """Class names; a label is a position in them."""
        return sorted({picture.label for picture in self.pictures})

    @property
    def source(self) -> str:
        """What a figure on this data must be read with: the root, or the words that it is synthetic."""
        return self.root or SYNTHETIC

    @property
    def evaluated(self) -> list[str]:
        """The sets that `test` goes through, in order."""
        present = {picture.split for picture in self.pictures}
        return [split for split in EVALUATED if split in present]

    def prepare_data(self) -> None:
        """Makes the embedded data set and finds the pictures, so that a wrong folder shows before a run begins."""
        if self.predict_paths is None:
            self._settle_splits()

    def setup(self, stage: str) -> None:
        """Finds the pictures, settles their splits and decodes those that `stage` needs, each once."""
        if stage == "predict":
            self.predict_files = find_pictures(self.predict_paths or [])
            images = read_all(self.predict_files, self.size)
            self.sets["predict"] = ImageArray(images, np.full(len(images), -1))
            return
        self._settle_splits()
        root = self._folder()
        wanted = {"fit": ["train", "val"], "validate": ["val"], "test": self.evaluated}[stage]
        for split in wanted:
            if split not in self.sets:
                self.sets[split] = self._read(root, split)

    def normalisation(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of the training pixels, a list of one each, in grey levels 0 to 255."""
        images = self.sets["train"].images
        sample = images[:: max(1, len(images) // 10_000)]  # 10,000 images settle it, and every class is among them
        histogram = torch.bincount(sample.flatten(), minlength=256).double()
        levels = torch.arange(256, dtype=torch.float64)
        mean = (histogram @ levels) / histogram.sum()
        variance = (histogram @ (levels - mean) ** 2) / histogram.sum()
        return [mean.item()], [max(variance.sqrt().item(), 1.0)]  # one grey level at least: a blank set divides by zero

    def train_dataloader(self) -> DataLoader[Batch]:
        data = self.sets["train"]
        order = EpochOrder(data.labels.numpy(), seed=self.seed, balanced=self.balanced, **self._ranks())
        return self._loader(data, order)

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._loader(self.sets["val"])

    def test_dataloader(self) -> list[DataLoader[Batch]]:
        return [self._loader(self.sets[split]) for split in self.evaluated]

    def predict_dataloader(self) -> DataLoader[Batch]:
        return self._loader(self.sets["predict"])

    def _folder(self) -> Path:
        return Path(self.root) if self.root else hand_signs_root()

    def _settle_splits(self) -> None:
        if self.pictures:
            return
        if self.splits_file:
            self.pictures = read_splits(Path(self.splits_file))
        else:
            self.pictures = draw_splits(
                scan(self._folder()),
                val_fraction=self.val_fraction,
                holdout_per_class=self.holdout_per_class,
                train_per_class=self.train_per_class,
                seed=self.seed,
            )
        counts = Counter(picture.split for picture in self.pictures)
        found = ", ".join(f"{counts[split]:,} {split}" for split in SPLITS if counts[split])
        log.info("data: %s; %d classes; %s", self.source, len(self.classes), found)

    def _read(self, root: Path, split: str) -> ImageArray:
        number = {name: position for position, name in enumerate(self.classes)}
        pictures = [picture for picture in self.pictures if picture.split == split]
        if not pictures:
            raise UserError(f"data.splits: {self.splits_file} has no {split} pictures")
        images = read_all([root / picture.path for picture in pictures], self.size)
        return ImageArray(images, np.array([number[picture.label] for picture in pictures]))

    def _ranks(self) -> dict[str, int]:
        trainer = self.trainer
        return {"rank": trainer.global_rank, "ranks": trainer.world_size} if trainer else {"rank": 0, "ranks": 1}

    def _loader(self, data: ImageArray, order: EpochOrder | None = None) -> DataLoader[Batch]:
        ranks = self._ranks()
        return DataLoader(
            data,
            batch_size=self.batch_size,
            sampler=order or range(ranks["rank"], len(data), ranks["ranks"]),  # every image once on any number of ranks
            collate_fn=_already_a_batch,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator().manual_seed(self.seed),  # leaves the global one to dropout: resume is exact
        )


def find_pictures(paths: list[str]) -> list[Path]:
    """Pictures named by files, folders (all below them) and globs, in the order given.

    Raises:
        UserError: An entry names no picture.
    """
    found: list[Path] = []
    for path in paths:
        if Path(path).is_dir():
            files = pictures_in(Path(path))
        elif Path(path).is_file():
            files = [Path(path)]
        else:
            files = [Path(match) for match in sorted(glob.glob(path, recursive=True)) if Path(match).is_file()]
        if not files:
            raise UserError(f"data.predict_paths: no picture at {path}")
        found += files
    return found


def _already_a_batch(batch: Any) -> Any:  # noqa: ANN401  (DataLoader's type is for lists of items)
    return batch
