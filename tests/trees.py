"""Writes a small data set of real pictures in each layout that people bring: `python tests/trees.py DIR` shows them.

A function a layout; each writes what its archive unpacks to below `folder`, and returns what `--data.root` is given.
"""

import csv
import string
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

LETTERS = tuple(string.ascii_uppercase)
NOTHING_SPACE = (*LETTERS, "Nothing", "Space")  # 28
DEL_NOTHING_SPACE = (*LETTERS, "del", "nothing", "space")  # 29
BLANK = (*LETTERS, "Blank")  # 27


def write_grey(path: Path, number: int = 0, side: int = 8) -> Path:
    """Noise, another one for each number."""
    pixels = np.random.default_rng(number).integers(0, 256, (side, side), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def write_classes(folder: Path, classes: Iterable[str], count: int, name: str = "{label}{number}.jpg") -> Path:
    for label in classes:
        for number in range(1, count + 1):
            write_grey(folder / label / name.format(label=label, number=number), number)
    return folder


def kapillondhe(folder: Path, train: int = 3) -> Path:
    """ASL_Dataset/{Train,Test}/<class>/, four test pictures a class."""
    root = folder / "ASL_Dataset"
    write_classes(root / "Train", NOTHING_SPACE, train, "{number}.jpg")
    write_classes(root / "Test", NOTHING_SPACE, 4, "{number}.jpg")
    return root


def grassknoted(folder: Path) -> Path:
    """Doubled folders, and a flat test folder without `del`."""
    write_classes(folder / "asl_alphabet_train" / "asl_alphabet_train", DEL_NOTHING_SPACE, 3)
    for label in DEL_NOTHING_SPACE:
        if label != "del":
            write_grey(folder / "asl_alphabet_test" / "asl_alphabet_test" / f"{label}_test.jpg", 99)
    return folder


def debashishsau(folder: Path) -> Path:
    """ASL_Alphabet_Dataset/ with asl_alphabet_train/<class>/ and a flat asl_alphabet_test/."""
    root = folder / "ASL_Alphabet_Dataset"
    write_classes(root / "asl_alphabet_train", DEL_NOTHING_SPACE, 3, "{label} ({number}).jpg")
    for label in DEL_NOTHING_SPACE:
        write_grey(root / "asl_alphabet_test" / f"{label}_test.jpg", 99)
    return root


def danrasband(folder: Path) -> Path:
    """<class>/A0001_test.jpg, no split."""
    return write_classes(folder, DEL_NOTHING_SPACE, 3, "{label}{number:04}_test.jpg")


def lexset(folder: Path) -> Path:
    """Train_Alphabet/<class>/ and Test_Alphabet/<class>/, names without an order."""
    write_classes(folder / "Train_Alphabet", BLANK, 3, "1ce{number}f-{label}-c0ffee.png")
    write_classes(folder / "Test_Alphabet", BLANK, 1, "9ab{number}d-{label}-decade.png")
    return folder


def class_folders(folder: Path) -> Path:
    return write_classes(folder, ("ant", "bee"), 3, "{number}.png")


def split_folders(folder: Path, names: Iterable[str] = ("train", "val", "test", "unseen")) -> Path:
    for name in names:
        write_classes(folder / name, ("ant", "bee"), 2, "{number}.png")
    return folder


def manifest(folder: Path, header: str = "path,label,split,group", rows: Iterable[Iterable[str]] | None = None) -> Path:
    """pictures.csv with pictures in folders that mean nothing; `rows` instead of its own ones writes no picture."""
    if rows is None:
        rows = [
            (f"day {day}/{label}{number}.png", label, "test" if day == 3 else "train", f"signer{day}")
            for day in (1, 2, 3)
            for label in ("ant", "bee")
            for number in range(2)
        ]
        for number, (path, *_) in enumerate(rows):
            write_grey(folder / path, number)
    file = folder / "pictures.csv"
    folder.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header.split(","), *rows])
    return file


LAYOUTS = (kapillondhe, grassknoted, debashishsau, danrasband, lexset, class_folders, split_folders, manifest)

if __name__ == "__main__":
    for layout in LAYOUTS:
        print(layout(Path(sys.argv[1]) / layout.__name__))
