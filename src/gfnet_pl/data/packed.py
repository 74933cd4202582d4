"""Packed data sets: files that hold many pictures each, MNIST's for example -> pictures with paths `file#index`.

Such a path may stand wherever a picture's path does: in a table, in a run's splits.csv, on the command line. The index
counts the file's pictures from 0, as they come; in an .npz those of train, then val, then test.

A packed file is unpacked once, into the user's cache folder: its pixels, which every process maps into its memory, and
what it says of the pictures. It is unpacked again when it has changed. `formats.py` reads the formats.

Which files belong together is told by their names without the word for their split: `sign_mnist_train.csv` and
`sign_mnist_test.csv`, `train-images-idx3-ubyte.gz` and `t10k-images-idx3-ubyte`.
"""

import json
import math
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from gfnet_pl.data.archive import unpacked_once
from gfnet_pl.data.formats import IDX, Contents, holds_pictures, read, sources
from gfnet_pl.data.manifest import SPLIT_WORDS, Picture
from gfnet_pl.errors import UserError
from gfnet_pl.processes import tell_if_cut

_PATH = re.compile(r"(.+(?:\.npz|\.csv|[-_.]idx3[-_.]ubyte(?:\.gz)?))#(\d{1,9})", re.IGNORECASE | re.DOTALL)
_OF_A_NAME = SPLIT_WORDS | {"t10k": "test"}  # MNIST's name for its 10,000 test pictures
_KINDS = ("IDX", ".npz", ".csv")  # if a folder has the same pictures in several, the first is taken
_PIXELS, _TABLE = "pixels", "table.json"


def file_of(path: str) -> str:
    """The file that a picture's path is about: of `file#index` the packed file, of any other path itself."""
    found = _PATH.fullmatch(path) if "#" in path else None
    return found[1] if found else path


def picture_in(path: str | os.PathLike[str]) -> Image.Image | None:
    """The picture of a path `file#index`; None for a path that is not packed.

    Raises:
        ValueError: The file has no picture of that index.
        OSError: The file cannot be read.
        UserError: It is not as its format says.
    """
    found = _PATH.fullmatch(text) if "#" in (text := os.fspath(path)) else None
    if found is None:
        return None
    stat = os.stat(found[1])
    pixels = _pixels(found[1], stat.st_size, stat.st_mtime_ns)
    if int(found[2]) >= len(pixels):
        raise ValueError(f"the file has {len(pixels):,} pictures, the first is #0")
    return Image.fromarray(pixels[int(found[2])])


def pictures_of(file: Path) -> list[Path]:
    """The path of each picture in a packed file; any other file is its own.

    Raises:
        UserError: The file is not as its format says.
    """
    if not holds_pictures(file):
        return [file]
    return [Path(f"{file}#{index}") for index in range(len(_contents(file).labels))]


def packed_files(folder: Path) -> list[str]:
    """The names of packed files in a folder, sorted.

    Raises:
        UserError: The folder cannot be read.
    """
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file() and entry.name[0] != ".")
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror}); make it readable or remove it") from None
    return [name for name in names if holds_pictures(folder / name)]


def packed_set(root: Path) -> tuple[list[Picture], list[tuple[str, str]]]:
    """The pictures of a packed data set, with the splits and groups that it provides.

    Args:
        root: The folder of its files, or one of these: then the others of the set are those that are named like it.

    Returns:
        The pictures, with paths below the folder, and which packed files of the folder are left out, and why.

    Raises:
        UserError: The folder has files of several sets, or several for a split; a file is not as its format says; or
            training pictures have no labels.
    """
    folder, chosen = (root.parent, root.name) if root.is_file() else (root, None)
    names = packed_files(folder)
    kinds = defaultdict(list)
    for name in names:
        kinds[_kind(name)].append(name)
    kind = _kind(chosen) if chosen else next(kind for kind in _KINDS if kinds[kind])
    sets: defaultdict[str, list[str]] = defaultdict(list)
    for name in kinds[kind]:
        sets[_named(name)[0]].append(name)
    if not chosen and len(sets) > 1:
        some = ", ".join(files[0] for files in list(sets.values())[:5])
        raise UserError(f"data.root: {folder} has {len(sets)} data sets; give a file of the one to take: {some}")
    mine = sets[_named(chosen)[0]] if chosen else sets.popitem()[1]
    mine = [name for name in mine if not (name.lower().endswith(".gz") and name[:-3] in mine)]
    left_out = [(name, "not of the same data set") for name in names if name not in mine and not chosen]
    pictures: list[Picture] = []
    file_of_split: dict[str, str] = {}
    for name in mine:
        of_name = _named(name)[1]
        if (other := file_of_split.setdefault(of_name, name)) != name:
            raise UserError(f"data.root: {folder} has {other} and {name}, both of the split {of_name}; keep one")
        found = _contents(folder / name)
        if not any(found.labels) and of_name != "train":
            left_out.append((name, "has no labels"))
            continue
        if "" in found.labels:
            first = f"{folder / name}#{found.labels.index('')}"
            raise UserError(f"{first} has no label; give its labels: in a file beside it, a column or an array")
        pictures += _pictures(folder / name, found, of_name)
    return pictures, left_out


def renamed(pictures: list[Picture], names: Sequence[str], *, whole: bool) -> list[Picture]:
    """Gives classes that are numbers of a packed set their names, unless the names are some of these numbers.

    Args:
        pictures: With labels as they come.
        names: Of the classes, in the order of their numbers.
        whole: Whether all classes must be named.

    Raises:
        UserError: There are not as many names as classes.
    """
    some = [picture for picture in pictures if picture.split == "train" or not whole]
    numbers = class_order(some)
    if not _are_numbers(some) or set(names) <= set(numbers):
        return pictures
    if len(numbers) != len(names):
        if not whole:
            return pictures
        raise UserError(
            f"data.classes has {len(names):,} names, and the data {len(numbers):,} classes, {numbers[0]} to "
            f"{numbers[-1]}; name all of them, in this order, or choose some by their numbers"
        )
    name_of = dict(zip(numbers, names, strict=True))
    return [picture._replace(label=name_of.get(picture.label, picture.label)) for picture in pictures]


def class_order(pictures: Sequence[Picture]) -> list[str]:
    """The classes, sorted: by name, or where they are the numbers of a packed set, as numbers."""
    return sorted({picture.label for picture in pictures}, key=int if _are_numbers(pictures) else None)


def _are_numbers(pictures: Sequence[Picture]) -> bool:
    packed = bool(pictures) and file_of(pictures[0].path) != pictures[0].path
    return packed and all(picture.label.isdecimal() for picture in pictures)


def _kind(name: str) -> str:
    suffix = os.path.splitext(name)[1].lower()
    return suffix if suffix in _KINDS else "IDX"


def _named(name: str) -> tuple[str, str]:
    """The set and the split of a packed file by its name: its first or last word may say the split."""
    stem = idx[1] if (idx := IDX.fullmatch(name)) else os.path.splitext(name)[0]
    words = re.split("[-_. ]+", stem.lower())
    for place in (-1, 0):
        if words[place] in _OF_A_NAME:
            split = _OF_A_NAME[words.pop(place)]
            return "-".join(words), split
    return "-".join(words), "train"


def _pictures(file: Path, found: Contents, of_name: str) -> list[Picture]:
    for place, word in enumerate(found.splits):
        if word and word.lower() not in SPLIT_WORDS:
            there = ", ".join(dict.fromkeys(SPLIT_WORDS.values()))
            raise UserError(f"{file}#{place} is of the split {word!r}; there are {there}")
    return [
        Picture(
            f"{file.name}#{place}",
            unicodedata.normalize("NFC", label),
            SPLIT_WORDS[split.lower()] if split else of_name,
            group,
        )
        for place, (label, split, group) in enumerate(zip(*found[1:], strict=True))
    ]


def _unpacked(file: Path) -> Path:
    parts = sources(file)
    for part in parts:
        try:
            part.open("rb").close()
        except OSError as error:
            raise UserError(f"{part} cannot be read ({error.strerror}); make it readable or remove it") from None

    def unpack(folder: Path) -> str:
        with (folder / _PIXELS).open("wb") as out:
            found = read(file, out)
        (folder / _TABLE).write_text(json.dumps(found), encoding="utf-8")
        return f"{len(found.labels):,} pictures"

    return unpacked_once(parts, unpack)


def _contents(file: Path) -> Contents:
    shape, *rest = json.loads((_unpacked(file) / _TABLE).read_text(encoding="utf-8"))
    return Contents(tuple(shape), *rest)


@lru_cache(maxsize=4)
def _pixels(file: str, size: int, mtime: int) -> npt.NDArray[np.uint8]:
    """(N, H, W) or (N, H, W, 3), a memory map; size and time of change are those of the file."""
    folder = _unpacked(Path(file))
    shape = _contents(Path(file)).shape
    pixels = np.memmap(folder / _PIXELS, np.uint8, "r")
    tell_if_cut(folder / _PIXELS)
    return pixels.reshape(len(pixels) // math.prod(shape), *shape)
