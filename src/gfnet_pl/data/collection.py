"""The pictures that a command works on, decoded: the way from a folder on disk to rows of the cache, before the splits.

Broken pictures are known here, before anything is drawn, so that every set has the size that it was asked to have.
"""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gfnet_pl.data.archive import opened
from gfnet_pl.data.cache import cached_images
from gfnet_pl.data.canvas import Canvas
from gfnet_pl.data.decode import refuse_broken
from gfnet_pl.data.duplicates import THRESHOLD, border_of, clusters
from gfnet_pl.data.formats import holds_pictures
from gfnet_pl.data.groups import assign_groups, kinds_of
from gfnet_pl.data.layouts import Found, Picture, scan
from gfnet_pl.data.manifest import outside
from gfnet_pl.data.packed import class_order, file_of
from gfnet_pl.data.prints import fingerprints
from gfnet_pl.data.splits import read_splits
from gfnet_pl.errors import UserError
from gfnet_pl.files import refuse_url
from gfnet_pl.hand_signs.files import GROUPS, hand_signs_root, version_of

log = logging.getLogger(__name__)

SYNTHETIC = "embedded data: synthetic, rendered hand signs"  # what every figure on them is to be read with
_NAMED = "hand-signs-v2"  # what a root may be called that is no folder of the user's


class Collection(NamedTuple):
    """What was found.

    Attributes:
        pictures: In a stable order, with their provided splits or those of the file, and their groups.
        rows: (N,) each picture's row in `images`.
        images: (rows, *canvas.shape) uint8, a memory map.
        left_out: What is not among the pictures, and why.
        folder: What the pictures' paths are relative to.
    """

    pictures: list[Picture]
    rows: npt.NDArray[np.int64]
    images: npt.NDArray[np.uint8]
    left_out: list[tuple[str, str]]
    folder: Path


def collect(
    root: str | None,
    *,
    canvas: Canvas,
    splits: str | None = None,
    classes: list[str] | None = None,
    group_by: str | None = None,
    skip_broken: bool = False,
    known: Sequence[str] | None = None,
) -> Collection:
    """Lists, decodes and groups pictures.

    Args:
        root: A folder, manifest or packed file, see `layouts.scan`, or a .zip of them; the embedded data where None.
        canvas: What each picture is made into.
        splits: A run's splits.csv: its pictures, splits and groups instead of what is there.
        classes: As for `layouts.scan`.
        group_by: As `rule` for `groups.assign_groups`; where None, groups are a manifest's or the embedded data's own.
        skip_broken: Leave pictures that cannot be read out instead of raising.
        known: As for `layouts.scan`: the pictures are of other data, and only scored.

    Raises:
        UserError: As for the functions that this one calls, and where a class has only broken pictures to train on.
    """
    check_root(root)
    embedded = hand_signs_root() if root is None else None
    source = embedded or opened(Path(root or ""))
    if splits:
        found = _there(source, Path(splits), classes)
    else:
        found = scan(source, classes, known=known)
    pictures, left_out = found.pictures, found.left_out
    images, rows, broken = cached_images(found.folder, [picture.path for picture in pictures], canvas)
    if broken:
        if not skip_broken:
            refuse_broken(found.folder, broken)
        left_out = [*left_out, *broken]
        lost = {picture.label for picture in pictures if picture.split == "train"}
        pictures = [picture for picture, row in zip(pictures, rows, strict=True) if row >= 0]
        rows = rows[rows >= 0]
        if lost := lost - {picture.label for picture in pictures if picture.split == "train"}:
            raise UserError(f"{found.folder}: all training pictures of class {min(lost)} are broken; repair some")
    if known is not None and group_by in ("blocks", "near-duplicates"):
        group_by = None  # they say which pictures to split together, and nothing is split
    rule = group_by or (GROUPS if embedded or version_of(found.folder) else None)
    if rule and not splits:
        pictures = assign_groups(pictures, rule, lambda: _clusters(pictures, images, rows))
    return Collection(pictures, rows, images, left_out, found.folder)


def classes_in(root: str | None) -> list[str]:
    """The classes of the training folder, sorted. No picture is read.

    Args:
        root: As for `collect`.

    Raises:
        UserError: As for `layouts.scan`.
    """
    check_root(root)
    found = scan(hand_signs_root() if root is None else opened(Path(root)))
    return class_order(found.pictures)


def named_root(root: str) -> str:
    """The folder of version 2 of the embedded data where a root is their name, rendered if need be; else the root."""
    return str(hand_signs_root(version=2)) if root == _NAMED and not os.path.lexists(root) else root


def check_root(root: str | None) -> None:
    """Raises UserError if `root` is a URL, or an empty text, which would mean the current folder."""
    if root is not None and not root.strip():
        raise UserError(
            "data.root is empty: is the variable that it comes from unset? Give the folder of the pictures, or drop it "
            "for the embedded data"
        )
    if root is not None:
        refuse_url("data.root", root)


def folder_of(source: Path) -> Path:
    """What the paths of the pictures are relative to: a folder itself, else the folder of the manifest or packed file.

    Args:
        source: What `archive.opened` returns for a root. It may be gone.
    """
    return source.parent if source.is_file() or source.suffix.lower() == ".csv" else source


def _clusters(pictures: Sequence[Picture], images: npt.NDArray[np.uint8], rows: npt.NDArray[np.int64]) -> Sequence[int]:
    prints = fingerprints(images, rows)
    border = border_of(prints, kinds_of(pictures))
    if border > THRESHOLD:
        log.info("pictures of different classes look alike: near duplicates begin at a correlation of %.4f", border)
    found: list[int] = clusters(prints, border).tolist()
    return found


def _there(source: Path, splits: Path, classes: Sequence[str] | None) -> Found:
    """The pictures of a splits file without those that have been deleted since. One line names and counts these.

    Raises:
        UserError: The data, or all pictures of a split, are gone; or the file has no picture of one of the classes.
    """
    folder = folder_of(source)
    if not folder.is_dir():
        raise UserError(f"data.root: {folder} does not exist; if the pictures have moved, give --data.root")
    listed = read_splits(splits)
    if classes:
        if lacking := [name for name in classes if name not in {picture.label for picture in listed}]:
            raise UserError(f"data.classes: {splits} has no picture of the class {lacking[0]!r}; drop it")
        listed = [picture for picture in listed if picture.label in classes]
    top = os.fspath(folder)
    # Links of a folder are followed, but none in a manifest's lines.
    if source.suffix.lower() == ".csv" and not holds_pictures(source):
        problem_of = outside(folder)
        if wrong := next((p for p in listed if os.path.lexists(f"{top}/{p.path}") and problem_of(p.path)), None):
            raise UserError(f"data.splits: {splits}: {wrong.path} {problem_of(wrong.path)}")
    gone = [picture for picture in listed if not os.path.lexists(f"{top}/{file_of(picture.path)}")]
    if not gone:
        return Found(folder, listed, [])
    lost = {picture.path for picture in gone}
    left = [picture for picture in listed if picture.path not in lost]
    before, now = Counter(p.split for p in listed), Counter(p.split for p in left)
    if whole := [split for split in before if not now[split]]:
        first = next(picture.path for picture in gone if picture.split == whole[0])
        raise UserError(
            f"data.root: {folder} has none of the {before[whole[0]]:,} {whole[0]} pictures of {splits}, first {first}; "
            "put them back, or give --data.root if they have moved"
        )
    counts = ", ".join(f"{before[split] - now[split]:,} {split}" for split in before if now[split] < before[split])
    names = ", ".join(sorted(lost)[:3]) + (", …" if len(lost) > 3 else "")
    log.warning("%s of %s pictures are gone and left out (%s): %s", *_thousands(gone, listed), counts, names)
    return Found(folder, left, [(path, "it is gone") for path in sorted(lost)])


def _thousands(*lists: Sequence[Picture]) -> list[str]:
    return [f"{len(each):,}" for each in lists]
