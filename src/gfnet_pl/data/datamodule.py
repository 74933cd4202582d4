"""ImageDataModule: a folder of pictures in classes -> batches of images of one size, grey or in colour.

Every picture is decoded once, into a memory map of uint8 that later runs share, and a batch is one indexing of it:
training does not wait for data. Normalisation is the network's (its buffers), so that training, export and
a browser cannot disagree.
"""

import logging
import os
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from unicodedata import normalize

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.data import DataLoader

from gfnet_pl.data.augment import Augment
from gfnet_pl.data.batches import Batch, ImageArray, ResumableLoader
from gfnet_pl.data.canvas import Canvas, Fit
from gfnet_pl.data.collection import SYNTHETIC, check_root, collect, named_root
from gfnet_pl.data.duplicates import THRESHOLD, leak_share
from gfnet_pl.data.folds import draw_fold
from gfnet_pl.data.glance import aspect_ratios, colour_tells
from gfnet_pl.data.group_table import Properties, of_groups, read_group_table
from gfnet_pl.data.groups import kinds_of
from gfnet_pl.data.layouts import Picture
from gfnet_pl.data.order import EpochOrder, class_shares, class_weights, in_turn
from gfnet_pl.data.packed import class_order
from gfnet_pl.data.seen import Seen
from gfnet_pl.data.splits import SPLITS, TESTED, SplitRule, draw_splits
from gfnet_pl.errors import LARGEST_SEED, UserError, check_range
from gfnet_pl.hand_signs.files import SIGNERS, version_of

log = logging.getLogger(__name__)

_TOLD = 40  # classes in a log line; more are only in TensorBoard
_SEEN = 1.25  # a picture that is stretched by more looks wrong
_GLANCED_AT = 40  # pictures: fit asks this of every run, and large ones take 0.05 s each


class ImageDataModule(LightningDataModule):
    """Batches of images from a folder of pictures in classes. docs/data.md shows the layouts.

    Args:
        root: The folder, a .zip of it, a CSV manifest, or a packed file (IDX, CSV of pixels, .npz). Default: the
            embedded data set (synthetic, rendered hand signs), which is made once in the user's cache folder, as is its
            version 2, "hand-signs-v2".
        classes: Use these classes only, in this order; or the names of classes that are numbers. Default: all, by name.
        on_broken: What to do with a picture that cannot be read: stop with an error, or skip it and list it in the run.
        splits: A run's splits.csv to read instead of drawing splits; the options of `splits.SplitRule` are then unused.
        seed: Of the splits, of the order of the images and of their augmentation. Default: that of `seed_everything`.
        batch_size: Images per batch and device.
        balanced: Draw every class equally often in training, whatever the counts.
        class_emphasis: Factor by class: 2 draws a class twice as often as without it.
        epoch_size: Images per epoch. Default: as many as there are to train on.
        augment: Random changes of the training images.
        num_workers: Processes that read batches ahead: useful where the cache does not fit into memory.
        device_cache: Keep the decoded images on the training device, if they fit.
        image_size: Height and width in pixels, or one number for both.
        colour: Keep red, green and blue. Default: pictures become grey.
        fit: How a picture of another shape than `image_size` is fitted to it: stretch changes its shape, letterbox adds
            bars in the colour of its edges, crop takes its middle.
        group_table: A CSV file with a column `group` and any others, a row per group: `gfnet report` says which of them
            go with failures. Default: that of "hand-signs-v2", and for other data none.
        **split: The options of `splits.SplitRule`.
    """

    def __init__(
        self,
        root: str | None = None,
        *,
        classes: list[str] | None = None,
        on_broken: Literal["error", "skip"] = "error",
        splits: str | None = None,
        seed: int | None = None,
        batch_size: int = 512,
        balanced: bool = False,
        class_emphasis: dict[str, float] | None = None,
        epoch_size: int | None = None,
        augment: Augment = Augment(),  # noqa: B008  (frozen)
        num_workers: int = 0,
        device_cache: bool = False,
        image_size: int | tuple[int, int] = 96,
        colour: bool = False,
        fit: Fit = "stretch",
        group_table: str | None = None,
        **split: Any,  # noqa: ANN401  (jsonargparse reads SplitRule's own signature)
    ) -> None:
        super().__init__()
        self.rule = SplitRule(**split)
        check_range("data.batch_size", batch_size, least=1)
        check_range("data.epoch_size", epoch_size, least=1, most=10**9)
        check_range("data.num_workers", num_workers, least=0, most=1024)
        check_range("data.seed", seed, least=0, most=LARGEST_SEED)
        check_root(root)
        self.root, self.splits_file = root and named_root(root), splits
        self.chosen_classes = [normalize("NFC", name) for name in classes] if classes else None  # as labels are
        self.on_broken = on_broken
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed
        self.batch_size, self.balanced, self.epoch_size = batch_size, balanced, epoch_size
        self.class_emphasis = class_emphasis or {}
        self.augment, self.num_workers, self.device_cache = augment, num_workers, device_cache
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.canvas = Canvas(height, width, colour, fit)
        self.group_table = group_table
        self.properties: Properties = {}  # of the groups, as the table has them
        self.pictures: list[Picture] = []
        self.classes = self.chosen_classes or []  # a label is a position in them
        self.left_out: list[tuple[str, str]] = []
        self.sets: dict[str, ImageArray] = {}
        self.seen = Seen()  # what the net was trained on before, if it starts from a checkpoint
        self._scored_with: list[str] | None = None  # the classes of a net that is only scored on these data
        self._training: ResumableLoader | None = None
        self._resumed_at: dict[str, int] | None = None

    @property
    def source(self) -> str:
        """What a figure on this data must be read with: the root, or the words that it is synthetic.

        A root below the current folder is named as it is from there.
        """
        if self.root is None:
            return SYNTHETIC
        root, here = Path(self.root), Path.cwd()
        if (version := version_of(root)) == 2:
            return f"{SYNTHETIC}, version 2"
        shown = str(root.relative_to(here) if root.is_relative_to(here) and root != here else root)
        return f"{SYNTHETIC}, {shown}" if version else shown

    @property
    def evaluated(self) -> list[str]:
        """The sets that `test` goes through, in order."""
        present = {picture.split for picture in self.pictures}
        return [split for split in TESTED if split in present]

    def only_score(self, classes: list[str], seen: Seen) -> None:
        """Takes all pictures to score a net, except those that it was trained on. Nothing is split.

        Args:
            classes: The classes of the net. Pictures of other classes are left out.
            seen: What the net was trained on.
        """
        self.seen, self._scored_with = seen, classes

    @cached_property
    def trained_on(self) -> Seen:
        """What a net that `fit` trains has seen afterwards: the training pictures, and what it had seen before."""
        return Seen.of(self._images, self.sets["train"].rows).joined(self.seen)

    def prepare_data(self) -> None:
        """Makes the embedded data set, finds and decodes the pictures: what is wrong shows before a run begins."""
        self._settle()

    def setup(self, stage: str) -> None:
        """Finds the pictures, settles their splits and puts together the sets that `stage` needs, each once."""
        self._settle()
        for split in {"fit": ["train", "val"], "validate": ["val"], "test": self.evaluated}[stage]:
            if split not in self.sets:
                self.sets[split] = self._set(split)
        if stage in ("validate", "test"):
            self._refuse_idle_devices(self.evaluated if stage == "test" else ["val"])
        if stage == "fit" and not self.splits_file:  # a run that goes on with another's splits has been told
            self._warn_of_leaks()
            self._tell_what_is_lost()

    def normalisation(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of the training pixels, one per channel, in levels from 0 to 255."""
        data = self.sets["train"]
        sample = data.rows[:: max(1, len(data) // 10_000)]  # 10,000 images settle it, and every class is among them
        histograms = np.zeros((self.canvas.channels, 256))
        for start in range(0, len(sample), 1_000):
            pixels = data.images[sample[start : start + 1_000]].reshape(-1, self.canvas.channels)
            for histogram, values in zip(histograms, pixels.T, strict=True):
                histogram += np.bincount(values, minlength=256)
        levels = np.arange(256)
        means, deviations = [], []
        for histogram in histograms:
            mean = (histogram @ levels) / histogram.sum()
            variance = (histogram @ (levels - mean) ** 2) / histogram.sum()
            means.append(float(mean))
            deviations.append(max(float(variance) ** 0.5, 1.0))  # at least one: a blank set divides by zero
        return means, deviations

    def train_dataloader(self) -> DataLoader[Batch]:
        data = self.sets["train"]
        weights = class_weights(data.labels, self.classes, balanced=self.balanced, emphasis=self.class_emphasis)
        order = EpochOrder(
            data.labels,
            seed=self.seed,
            batch_size=self.batch_size,
            size=self.epoch_size,
            weights=weights,
            **self._ranks(),
        )
        if weights is not None:
            self._tell_repeats(data.labels, class_shares(order.size, weights))
        self._training = ResumableLoader(data, sampler=order, **self._loading())
        if self._resumed_at:
            self._training.load_state_dict(self._resumed_at)
        return self._training

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._in_turn("val")

    def test_dataloader(self) -> list[DataLoader[Batch]]:
        return [self._in_turn(split) for split in self.evaluated]

    def training_sample(self, most: int) -> DataLoader[Batch] | None:
        """At most `most` training pictures, from the whole list, not augmented, all of them for every rank.

        None if there are no training pictures.
        """
        if all(picture.split != "train" for picture in self.pictures):
            return None
        data = self._set("train", most)
        return DataLoader(data, sampler=in_turn(len(data), batch_size=self.batch_size), **self._loading())

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augments training images, on the device where they are."""
        if batch.seeds is None:
            return batch
        return batch._replace(images=self.augment(batch.images, batch.seeds))

    def state_dict(self) -> dict[str, int]:
        """The place in the training epoch, for checkpoints.

        Lightning saves the loader's own, too, but gives it back too late: the cosine asks for the number of steps, and
        that makes the loader before its state is restored.
        """
        return self._training.state_dict() if self._training else {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on at that place."""
        self._resumed_at = state

    def _settle(self) -> None:
        """Which pictures there are, decoded, and which of them is in which split."""
        if self.pictures:
            return
        table = read_group_table(Path(self.group_table)) if self.group_table else None
        found = collect(
            self.root,
            canvas=self.canvas,
            splits=self.splits_file,
            classes=self.chosen_classes,
            group_by=self.rule.group_by,
            skip_broken=self.on_broken == "skip",
            known=self._scored_with,
        )
        self._folder, self._images, self.left_out = found.folder, found.images, found.left_out
        self._row = {picture.path: row for picture, row in zip(found.pictures, found.rows.tolist(), strict=True)}
        if self.splits_file or self._scored_with:
            self.pictures = found.pictures
        else:
            draw = draw_fold if self.rule.folds else draw_splits
            self.pictures = draw(found.pictures, self.rule, seed=self.seed)
        if self._scored_with:
            self.pictures = self._unseen_by_the_net()
        elif not self.splits_file:
            self.pictures = self._with_seen_in_training()
        self.classes = self.chosen_classes or class_order(self.pictures)
        if self._scored_with and not set(self.classes) - set(self._scored_with):
            self.classes = self._scored_with  # some classes may have no picture
        if len(self.classes) == 1 and not (self._scored_with or self.splits_file):
            raise UserError(
                f"data.root: {self.source} has one class, {self.classes[0]!r}: there is nothing to tell it from; add "
                "a folder for each other class, or give the folder above if this one is a class itself"
            )
        self._report()
        own = self._folder / SIGNERS
        if not table and version_of(self._folder) and own.is_file():
            table = read_group_table(own)
        if table:
            self.properties = of_groups(table, {p.group for p in self.pictures}, Path(self.group_table or own))

    def _seen(self) -> set[str]:
        """Paths of the pictures to score that the net was trained on."""
        to_score = [picture for picture in self.pictures if picture.split in TESTED]
        seen = self.seen.among(to_score, self._images, [self._row[picture.path] for picture in to_score])
        return {picture.path for picture, is_seen in zip(to_score, seen, strict=True) if is_seen}

    def _unseen_by_the_net(self) -> list[Picture]:
        seen = self._seen()
        kept = [picture for picture in self.pictures if picture.path not in seen]
        left = sum(picture.split in TESTED for picture in kept)
        if not left:
            raise UserError(
                f"data.root: there is nothing to score: the net was trained on all pictures of {self.source}"
            )
        if strange := Counter(reason for _, reason in self.left_out if reason.startswith("the net has no class")):
            words = "; ".join(f"{reason} ({count:,})" for reason, count in strange.most_common(5))
            log.warning("%s pictures are left out: %s", f"{strange.total():,}", words)
        if seen:
            log.info("%s pictures are left out, because the net was trained on them", f"{len(seen):,}")
        self.left_out += [(path, "the net was trained on it") for path in sorted(seen)]
        return kept

    def _with_seen_in_training(self) -> list[Picture]:
        """The drawn splits, where pictures that the net was trained on before are not evaluated."""
        if not (seen := self._seen()):
            return self.pictures
        words = "%s pictures drawn for evaluation go to training, because the net was trained on them before"
        log.info(words, f"{len(seen):,}")
        moved = [p._replace(split="train") if p.path in seen else p for p in self.pictures]
        if not any(picture.split == "val" for picture in moved):
            raise UserError(
                f"data.root: no picture is left for validation: the net was trained on all that were drawn from "
                f"{self.source}; raise data.val_fraction, or give --data.splits"
            )
        return moved

    @rank_zero_only
    def _report(self) -> None:
        """Logs what there is in two or three lines. `gfnet audit` has the table of all classes."""
        log.info("%s: %s pictures in %d classes", self.source, f"{len(self.pictures):,}", len(self.classes))
        counts = Counter(picture.split for picture in self.pictures)
        log.info(", ".join(f"{counts[split]:,} {split}" for split in SPLITS if counts[split]))
        if self.splits_file or self._scored_with:
            return
        trained = Counter(picture.label for picture in self.pictures if picture.split == "train")
        (most, high), *_, (least, low) = [*trained.most_common(), *trained.most_common()]
        if high > low:
            log.info("training pictures per class: %s (%s) to %s (%s)", f"{low:,}", least, f"{high:,}", most)
        if self.left_out:
            path, reason = self.left_out[0]
            log.info("left out: %s (%s)%s", path, reason, _and_more(len(self.left_out) - 1))

    @rank_zero_only
    def _warn_of_leaks(self) -> None:
        """Warns if validation pictures have near twins in training: the accuracy then measures memory."""
        rows = np.concatenate((self.sets["val"].rows, self.sets["train"].rows))
        evaluated, trained = np.split(np.arange(len(rows)), [len(self.sets["val"])])
        kinds = kinds_of([p for split in ("val", "train") for p in self.pictures if p.split == split])
        leaked = leak_share(self._images, rows, evaluated, trained, kinds)
        if leaked.is_leak:
            log.warning(
                "at least %.1f %% of the validation pictures have a near twin in training%s: accuracy there says "
                "little about new people or videos; see gfnet audit, and split by group: data.group_by, data.split_by",
                100 * leaked.share,
                f" (a correlation of {leaked.border:.4f}: all look alike)" if leaked.border > THRESHOLD else "",
            )

    @rank_zero_only
    def _tell_what_is_lost(self) -> None:
        """Says if pictures lose their shapes or their colours here, and how they would keep them."""
        paths = [self._folder / picture.path for picture in self.pictures]
        if self.canvas.fit == "stretch":
            ratios = aspect_ratios(paths, _GLANCED_AT)
            change = ratios * self.canvas.height / self.canvas.width
            if share := float((np.maximum(change, 1 / change) > _SEEN).mean()) if len(ratios) else 0.0:
                log.info(
                    "%.0f %% of the pictures are stretched: they are %.2g to %.2g times as wide as high, and become "
                    "%d x %d; --data.fit letterbox keeps their shapes",
                    100 * share,
                    ratios.min(),
                    ratios.max(),
                    self.canvas.width,
                    self.canvas.height,
                )
        if not self.canvas.colour and colour_tells(paths, _GLANCED_AT):
            log.info("the pictures have colours and become grey; --data.colour true keeps them")

    def _set(self, split: str, most: int | None = None) -> ImageArray:
        number = {name: position for position, name in enumerate(self.classes)}
        pictures = [picture for picture in self.pictures if picture.split == split]
        if not pictures:
            if self._scored_with:
                raise UserError(
                    f"data.root: {self.source} provides no validation pictures; gfnet test scores all of them"
                )
            raise UserError(f"data.splits: {self.splits_file} has no {split} pictures")
        if most and len(pictures) > most:
            pictures = [pictures[place] for place in np.linspace(0, len(pictures) - 1, most).astype(int)]
        rows = np.array([self._row[picture.path] for picture in pictures])
        labels = np.array([number[picture.label] for picture in pictures])
        trainer = self.trainer
        device = trainer.strategy.root_device if self.device_cache and trainer else None
        return ImageArray(self._images, rows, labels, device)

    @rank_zero_only
    def _tell_repeats(self, labels: npt.NDArray[np.int64], shares: npt.NDArray[np.int64]) -> None:
        """Logs how often an image of each class is drawn in an epoch."""
        counts = np.bincount(labels, minlength=len(self.classes))
        told = [
            f"{name} {share:,} ({share / max(1, count):.2g}x)"
            for name, share, count in zip(self.classes, shares, counts, strict=True)
        ]
        shown = ", ".join(told[:_TOLD]) + (f" and {len(told) - _TOLD:,} more classes" if len(told) > _TOLD else "")
        log.info("images an epoch by class, and how often each of them comes: %s", shown)

    def _refuse_idle_devices(self, splits: list[str]) -> None:
        """Raises an error if a device would have no batch: it would skip its turn, and the others wait for it."""
        ranks, most = self._ranks()["ranks"], max(len(self.sets[split]) for split in splits)
        if most < ranks:
            raise UserError(
                f"trainer.devices: {ranks} devices are too many for {most:,} picture{'s' * (most > 1)}; give 1"
            )

    def _ranks(self) -> dict[str, int]:
        trainer = self.trainer
        return {"rank": trainer.global_rank, "ranks": trainer.world_size} if trainer else {"rank": 0, "ranks": 1}

    def _in_turn(self, split: str) -> DataLoader[Batch]:
        data = self.sets[split]
        order = in_turn(len(data), batch_size=self.batch_size, **self._ranks())
        return DataLoader(data, sampler=order, **self._loading())

    def _loading(self) -> dict[str, Any]:
        return {
            "batch_size": None,  # a sampler's item is a whole batch already
            "num_workers": self.num_workers,
            "persistent_workers": self.num_workers > 0,
            "pin_memory": torch.cuda.is_available() and not self.device_cache,
            "generator": torch.Generator().manual_seed(self.seed),  # leaves the global one to dropout: resume is exact
        }


def _and_more(count: int) -> str:
    return f" and {count:,} more: gfnet audit lists them" if count else ""
