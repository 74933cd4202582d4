"""What lies where on disk: a folder of class folders -> a table of pictures.

Two layouts are read: `ROOT/<class>/…` and `ROOT/{Train,Val,Test,Unseen}/<class>/…` (split folders in any case, all but
Train optional). Classes are mapped by name, never by position: sorting puts "Nothing" between N and O.
"""

import os
from pathlib import Path
from typing import NamedTuple

from gfnet_pl.errors import UserError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm"})
PROVIDED = ("train", "val", "test", "unseen")


class Picture(NamedTuple):
    """One picture: its path below the data's root (with "/"), its class, and the split it is in."""

    path: str
    label: str
    split: str


def scan(root: Path) -> list[Picture]:
    """Lists the pictures below `root` in a stable order, with the splits that the folders provide.

    Args:
        root: A folder of class folders, with or without split folders above them.

    Returns:
        Every picture; `split` is "train" where there are no split folders.

    Raises:
        UserError: `root` is no folder, holds no class folder, a class folder is empty, or a split names a class that
            the training folder does not have.
    """
    if not root.is_dir():
        raise UserError(f"data.root: {root} is not a folder; give the folder that holds the class folders")
    splits = {folder.name.lower(): folder for folder in _folders(root) if folder.name.lower() in PROVIDED}
    if "train" not in splits:
        splits = {"train": root}
    pictures = [picture for split, folder in splits.items() for picture in _class_folders(root, folder, split)]
    known = {picture.label for picture in pictures if picture.split == "train"}
    if not known:
        raise UserError(
            f"data.root: no class folder with pictures in {splits['train']}; expected <class>/*.png or .jpg"
        )
    for picture in pictures:
        if picture.label not in known:
            raise UserError(f"{root / picture.path}: class {picture.label!r} has no folder in {splits['train']}")
    return pictures


def pictures_in(folder: Path) -> list[Path]:
    """Every file below `folder` that is named like a picture, sorted; links to folders are not followed."""
    return sorted(
        Path(where, name)
        for where, folders, names in os.walk(folder)
        for name in names
        if Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")
    )


def _folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _class_folders(root: Path, folder: Path, split: str) -> list[Picture]:
    found = []
    for class_folder in _folders(folder):
        paths = pictures_in(class_folder)
        if not paths:
            raise UserError(f"{class_folder} holds no picture; add some or remove the folder")
        found += [Picture(path.relative_to(root).as_posix(), class_folder.name, split) for path in paths]
    return found
