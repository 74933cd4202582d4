"""What lies where on disk: a folder as its archive unpacks it, a CSV manifest, or packed files -> a table of pictures.

The layouts are `ROOT/<class>/…`, `ROOT/<split folder>/<class>/…` and a manifest (`manifest.py`). The name of a split
folder starts or ends with a word for its split, in any case (`Train`, `asl_alphabet_test`, `Validation`). Two kinds of
extra folder levels may exist: a folder of the same name inside a split folder, and one folder around everything.
A test folder may hold `<class>_test.jpg` files instead of class folders. Everything below a class folder is of that
class. A folder without a picture in a class folder may hold packed files (`packed.py`).

Classes are mapped by name, never by position: sorting puts "Nothing" between N and O. The training folder says which
there are. Names are compared in NFC form, so that a name typed on one system is found on another; a provided set's
class is the training class of that name, else the only one that equals it ignoring case. Two training folders that
differ only in case are two classes, because only their owner can know better; the table shows both.

A set that is silently smaller than expected is worse than an error: what is left out is listed with the reason, except
hidden files and OS clutter. A folder that cannot be read is an error.
"""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from rich.table import Column, Table
from rich.text import Text

from gfnet_pl.data.formats import holds_pictures
from gfnet_pl.data.manifest import SPLIT_WORDS, Picture, read_manifest
from gfnet_pl.data.packed import class_order, packed_files, packed_set, renamed
from gfnet_pl.data.tree import Tree
from gfnet_pl.errors import UserError, nearest
from gfnet_pl.messages import printable

__all__ = ["Found", "Picture", "pictures_in", "scan", "table_of"]

_COLUMNS = ("train", "val", "test", "holdout", "dev", "unseen", "other", "unused")
OTHER = "other"  # the split of pictures of other data that provide none
_FLAT = re.compile(r"(.+)_test", re.IGNORECASE)


class Found(NamedTuple):
    """What `scan` found.

    Attributes:
        folder: What the paths are relative to: the root, or the manifest's folder.
        pictures: In a stable order.
        left_out: Pictures, folders and kinds of files that are not among them, each with the reason.
    """

    folder: Path
    pictures: list[Picture]
    left_out: list[tuple[str, str]]


def scan(root: Path, classes: Sequence[str] | None = None, *, known: Sequence[str] | None = None) -> Found:
    """Lists the pictures of a data set with the classes, splits and groups that it provides.

    Args:
        root: A folder in one of the layouts above, a `.csv` manifest, or a packed file.
        classes: The classes to take, by name, exactly or else ignoring case; labels are spelt as they are here. Where
            the classes of packed files are numbers, their names. Default: all classes of the training folder.
        known: The classes of a net that the pictures are scored with, and not trained: no training folder is needed,
            pictures of other classes are left out, and what would be of the split train is of the split other.

    Returns:
        The pictures, and what was left out.

    Raises:
        UserError: `root` is neither, holds no training class, a training class folder is empty, a folder cannot be
            read, a manifest's line is wrong, or `classes` names one that is not there or the same one twice. With
            `known`, there is no picture of these classes.
    """
    empty: list[tuple[str, str]] = []
    left_out: list[tuple[str, str]] = []
    if root.is_file() and holds_pictures(root):
        folder, where = root.parent, f"{root}: nothing there is for training"
        pictures, left_out = packed_set(root)
    elif root.suffix.lower() == ".csv" and not root.is_dir():
        folder, where = root.parent, f"{root}: no line of it is of the split train"
        pictures = read_manifest(
            root, key="data.root", splits=SPLIT_WORDS, required=("path", "label"), folder=root.parent
        )
    elif root.is_dir():
        tree = Tree(root)
        splits = _split_folders(tree, to_train=known is None)
        folder = root
        where = f"no class folder with pictures in {root / splits.get('train', '')}; expected <class>/*.png"
        where += ", or give the .zip itself" if ".zip" in tree.others else ""
        pictures = [picture for split, name in splits.items() for picture in _class_folders(tree, name, split, empty)]
        pictures = tree.without_repeats(pictures)
        left_out = tree.left_out + [
            (f"*{suffix} ({count})", "no picture by the suffix") for suffix, count in sorted(tree.others.items())
        ]
        trainable = len({picture.label for picture in pictures}) > (1 if known is None else 0)
        if not trainable and (inside := _packed_folder(tree)) is not None:
            where = f"{root / inside}: nothing there is for training"
            pictures, left_out = _packed_below(tree, inside)
            empty = []
    else:
        raise UserError(
            f"data.root: {root} is not a folder; give the folder that holds the class folders, a .zip of it, a .csv, "
            "an .npz or an IDX file of pictures"
        )
    if classes is not None:
        pictures = renamed(pictures, classes, whole=known is None)
    if known is not None:
        left_out += [(name + "/", "holds no picture") for name, _ in empty]
        return _scored(root, Found(folder, pictures, left_out), known)
    trained = {picture.label for picture in pictures if picture.split == "train"}
    if not trained:
        raise UserError(f"data.root: {where}")
    chosen = _chosen(trained | {label for _, label in empty}, classes)
    for name, label in empty:
        if label in chosen:
            raise UserError(f"{root / name} holds no picture; add some or remove the folder")
        left_out.append((name + "/", "not among data.classes"))
    return Found(folder, _with_labels(pictures, chosen, trained, left_out, "training"), left_out)


def _scored(root: Path, found: Found, known: Sequence[str]) -> Found:
    """What a net that knows these classes can be scored on."""
    pictures = _with_labels(found.pictures, {name: name for name in known}, known, found.left_out, "the net")
    if not pictures:
        raise UserError(f"data.root: {root} holds no picture of a class that the net knows: {', '.join(known)}")
    of_other = [p._replace(split=OTHER) if p.split == "train" else p for p in pictures]
    return Found(found.folder, of_other, found.left_out)


def pictures_in(folder: Path) -> list[Path]:
    """Every file below `folder` that is named like a picture, sorted; links to folders are not followed.

    Raises:
        UserError: A folder cannot be read.
    """
    return sorted(folder / path for path in Tree(folder).pictures(""))


def table_of(pictures: Sequence[Picture], left_out: Sequence[tuple[str, str]]) -> Table:
    """A table to print: a row per class, a column per split, totals; below it what was left out, by reason."""
    counts = Counter((picture.label, picture.split) for picture in pictures)
    present = {split for _, split in counts}
    columns = [split for split in _COLUMNS if split in present]
    table = Table("class", *(Column(name, justify="right") for name in (*columns, "all")))
    for label in class_order(pictures):
        row = [counts[label, split] for split in columns]
        table.add_row(Text(printable(label)), *(f"{count:,}" for count in (*row, sum(row))))
    table.add_section()
    totals = [sum(count for (_, split), count in counts.items() if split == column) for column in columns]
    table.add_row("all", *(f"{count:,}" for count in (*totals, sum(totals))))
    both = Table.grid()
    both.add_row(table)
    if left_out:
        reasons = defaultdict(list)
        for path, reason in left_out:
            reasons[reason].append(path)
        leavings = Table("left out", "what")
        for reason, paths in reasons.items():
            some = ", ".join(paths[:3])
            leavings.add_row(
                *(Text(printable(cell)) for cell in (reason, f"{len(paths):,}: {some}, …" if len(paths) > 3 else some))
            )
        both.add_row(leavings)
    return both


def _split_of(folder: str) -> str | None:
    words = re.findall("[a-z]+", os.path.basename(folder).lower())
    return next((SPLIT_WORDS[word] for word in (*words[:1], *words[-1:]) if word in SPLIT_WORDS), None)


def _split_folders(tree: Tree, *, to_train: bool) -> dict[str, str]:
    """The folder of class folders (or flat test files) of each split; that of "train" alone where none is provided."""
    top = ""
    while (only := _only_folder(tree, top)) and not _split_of(only) and _only_folders(tree, only):
        top = only
    named = defaultdict(list)
    for folder in (*tree.listing(top).folders, *tree.listing(top).links):
        if split := _split_of(folder):
            named[split].append(folder)
    divided = [split for split, folders in named.items() if any(_has_folders(tree, _inner(tree, f)) for f in folders)]
    if not divided:
        return {"train": top}  # of class folders, of which one may be called "test"
    if "train" not in divided and to_train:
        here, other = Path(tree.root, top), named[divided[0]][0]
        raise UserError(
            f"data.root: {here} has {os.path.basename(other)} but no train folder with class folders in it; "
            f"add one, or give {Path(tree.root, other)} to train on that"
        )
    for split, folders in named.items():
        if len(folders) > 1:
            names = " and ".join(os.path.basename(folder) for folder in sorted(folders))
            raise UserError(f"data.root: {Path(tree.root, top)} has {names}, all of the split {split}; keep one")
    found = {}
    for folder in tree.folders(top):
        if split := _split_of(folder):
            found[split] = _inner(tree, folder)
        else:
            tree.left_out.append((folder + "/", "beside the split folders"))
    tree.left_out += [(picture, "in no class folder") for picture in tree.listing(top).pictures]
    return found


def _packed_folder(tree: Tree) -> str | None:
    """The folder that holds packed files: the root, or below it the first that is not the only thing in another."""
    folder = ""
    while not packed_files(Path(tree.root, folder)):
        folder = _only_folder(tree, folder)
        if not folder:
            return None
    return folder


def _packed_below(tree: Tree, folder: str) -> tuple[list[Picture], list[tuple[str, str]]]:
    """The pictures of packed files in a folder, and what else lies there."""
    prefix = folder and folder + "/"
    pictures, left_out = packed_set(Path(tree.root, folder))
    beside = tree.listing(folder)
    left_out += [(name.removeprefix(prefix), "beside the packed files") for name in beside.pictures]
    left_out += [(name.removeprefix(prefix) + "/", "beside the packed files") for name in beside.folders + beside.links]
    if not prefix:
        return pictures, left_out
    return (
        [picture._replace(path=prefix + picture.path) for picture in pictures],
        [(prefix + name, reason) for name, reason in left_out],
    )


def _has_folders(tree: Tree, folder: str) -> bool:
    return bool(tree.listing(folder).folders or tree.listing(folder).links)


def _only_folders(tree: Tree, folder: str) -> bool:
    return _has_folders(tree, folder) and not tree.listing(folder).pictures


def _only_folder(tree: Tree, folder: str) -> str:
    """The one folder in a folder that holds nothing else to look at; "" where there are more, none, or pictures."""
    found = tree.listing(folder)
    return found.folders[0] if len(found.folders) == 1 and not found.links and not found.pictures else ""


def _inner(tree: Tree, folder: str) -> str:
    """Descends into doubled folders, as in `asl_alphabet_train/asl_alphabet_train/`."""
    name = os.path.basename(folder).lower()
    while (only := _only_folder(tree, folder)) and os.path.basename(only).lower() == name:
        folder = only
    return folder


def _class_folders(tree: Tree, folder: str, split: str, empty: list[tuple[str, str]]) -> list[Picture]:
    """A split's pictures, labelled as their folders are named; training folders without pictures go to `empty`."""
    found = []
    class_folders = tree.folders(folder)
    for class_folder in class_folders:
        label = unicodedata.normalize("NFC", os.path.basename(class_folder))
        paths = tree.pictures(class_folder)
        found += [Picture(path, label, split, "") for path in paths]
        if not paths and split == "train":
            empty.append((class_folder, label))
        elif not paths:
            tree.left_out.append((class_folder + "/", "holds no picture"))
    for path in tree.listing(folder).pictures:
        flat = _FLAT.fullmatch(os.path.splitext(os.path.basename(path))[0])
        if flat and split != "train" and not class_folders:
            found.append(Picture(path, unicodedata.normalize("NFC", flat[1]), split, ""))
        else:
            tree.left_out.append((path, "in no class folder"))
    return found


def _match(name: str, known: Collection[str]) -> str | None:
    """The known name that equals `name`, else the only one that does ignoring case."""
    if name in known:
        return name
    same = [other for other in known if other.casefold() == name.casefold()]
    return same[0] if len(same) == 1 else None


def _chosen(known: Collection[str], classes: Sequence[str] | None) -> dict[str, str]:
    """Training class -> label, of the classes that are taken."""
    if classes is None:
        return {name: name for name in known}
    chosen: dict[str, str] = {}
    for name in classes:
        spelt = unicodedata.normalize("NFC", name)
        match = _match(spelt, known)
        if match is None:
            raise UserError(f"data.classes: the training pictures have no class {name!r}{nearest(name, sorted(known))}")
        if match in chosen:
            raise UserError(f"data.classes names {match!r} twice; remove one of them")
        chosen[match] = spelt
    if not chosen:
        raise UserError("data.classes is empty; name the classes, or leave it out to take all")
    return chosen


def _with_labels(
    pictures: list[Picture],
    chosen: dict[str, str],
    trained: Collection[str],
    left_out: list[tuple[str, str]],
    who: str,
) -> list[Picture]:
    @cache  # there are few names and many pictures
    def label_of(name: str) -> tuple[str, str]:
        match = _match(name, trained)
        if match is None:
            return "", f"{who} has no class {name!r}"
        return (chosen[match], "") if match in chosen else ("", "not among data.classes")

    kept = []
    for picture in pictures:
        label, reason = label_of(picture.label)
        if reason:
            left_out.append((picture.path, reason))
        else:
            kept.append(picture if label == picture.label else picture._replace(label=label))
    return kept
