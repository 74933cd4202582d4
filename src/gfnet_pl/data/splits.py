"""Which picture is in which split: drawn once, written to the run, read back by everything that follows it.

A class's pictures are taken in the order of a hash of (seed, path), so the draw is seeded, stratified by class, and
does not depend on how the file system lists them. `holdout` is what training never used although it could have;
`unused` is what `train_per_class` left over.
"""

import csv
import hashlib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from gfnet_pl.data.layouts import Picture
from gfnet_pl.errors import UserError

EVALUATED = ("val", "test", "holdout", "unseen")
SPLITS = ("train", *EVALUATED, "unused")


def draw_splits(
    pictures: Iterable[Picture],
    *,
    val_fraction: float,
    holdout_per_class: int,
    train_per_class: int | None,
    seed: int,
) -> list[Picture]:
    """Splits the training pictures of each class into train, val, holdout and unused; provided splits stay.

    Args:
        pictures: What `layouts.scan` found.
        val_fraction: Share of a class's training pictures that go to val, rounded, at least one; ignored where the
            folders provide a validation set.
        holdout_per_class: Pictures a class that go to holdout.
        train_per_class: At most so many a class are trained on; None for all.
        seed: Another seed is another draw.

    Returns:
        The same pictures, each with its split, in the order in which they are written and read back: the order of an
        epoch counts on it.

    Raises:
        UserError: A class has too few pictures for what was asked.
    """
    pictures = list(pictures)
    provided = [picture for picture in pictures if picture.split != "train"]
    has_val = any(picture.split == "val" for picture in provided)
    by_class = defaultdict(list)
    for picture in pictures:
        if picture.split == "train":
            by_class[picture.label].append(picture)
    drawn = []
    for label, members in by_class.items():
        members.sort(key=lambda picture: hashlib.sha256(f"{seed}/{picture.path}".encode()).digest())
        val = 0 if has_val else max(1, round(val_fraction * len(members)))
        train = len(members) - val - holdout_per_class
        if train < 1:
            raise UserError(
                f"class {label!r} has {len(members)} pictures: too few for {val} val, {holdout_per_class} holdout and "
                "at least one to train on; lower data.holdout_per_class or data.val_fraction, or add pictures"
            )
        train = min(train, train_per_class or train)
        ends = (holdout_per_class, holdout_per_class + val, holdout_per_class + val + train)
        for position, picture in enumerate(members):
            split = ("holdout", "val", "train", "unused")[sum(position >= end for end in ends)]
            drawn.append(picture._replace(split=split))
    return sorted(drawn + provided)


def write_splits(path: Path, pictures: Iterable[Picture]) -> None:
    """Writes `path,label,split`, sorted, UTF-8."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Picture._fields)
        writer.writerows(sorted(pictures))


def read_splits(path: Path) -> list[Picture]:
    """Reads what `write_splits` wrote.

    Raises:
        UserError: The file is missing or is not such a table.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
            pictures = [Picture(*row) for row in rows]
    except FileNotFoundError:
        raise UserError(f"data.splits: {path} does not exist; name the splits.csv of a run") from None
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise UserError(f"data.splits: {path} cannot be read as path,label,split ({error})") from None
    if tuple(header) != Picture._fields or any(picture.split not in SPLITS for picture in pictures):
        raise UserError(f"data.splits: {path} is not a splits.csv (expected the columns {','.join(Picture._fields)})")
    return pictures
