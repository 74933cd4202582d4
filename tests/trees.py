"""Writes a small data set of real pictures in each layout that people bring: `python tests/trees.py DIR` shows them.

A function a layout; each writes what its archive unpacks to below `folder`, and returns what `--data.root` is given.
"""

import csv
import gzip
import string
import struct
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


# Packed data sets: a picture's first pixel is its place in its file, and its label is that modulo the classes


def stack(count: int, shape: tuple[int, ...] = (5, 5), seed: int = 0) -> np.ndarray:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)
    pixels[:, 0, 0] = np.arange(count).reshape(-1, *[1] * (len(shape) - 2))
    return pixels


def write_idx(file: Path, values: np.ndarray) -> Path:
    """Values as IDX, as a gzip if the name ends in .gz."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.astype(np.uint8).tobytes()
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)
    return file


def write_pixels(file: Path, images: np.ndarray, labels: Iterable[object], *, header: bool = True) -> Path:
    """A line for each picture: its label and its pixels."""
    file.parent.mkdir(parents=True, exist_ok=True)
    flat = images.reshape(len(images), -1)
    with file.open("w", newline="", encoding="utf-8") as stream:
        if header:
            csv.writer(stream).writerow(["label", *(f"pixel{number + 1}" for number in range(flat.shape[1]))])
        csv.writer(stream).writerows([label, *row] for label, row in zip(labels, flat.tolist(), strict=True))
    return file


def mnist(folder: Path) -> Path:
    """Four files as MNIST, Fashion-MNIST and KMNIST have them."""
    for split, count in (("train", 36), ("t10k", 12)):
        write_idx(folder / f"{split}-images-idx3-ubyte.gz", stack(count))
        write_idx(folder / f"{split}-labels-idx1-ubyte.gz", np.arange(count) % 12)
    return folder


def emnist(folder: Path, name: str = "emnist-letters") -> Path:
    """Transposed pictures, labels from 1, and a file that says what they mean."""
    for split, count in (("train", 9), ("test", 3)):
        write_idx(folder / f"{name}-{split}-images-idx3-ubyte.gz", stack(count, (4, 6)))
        write_idx(folder / f"{name}-{split}-labels-idx1-ubyte.gz", np.arange(count) % 3 + 1)
    (folder / f"{name}-mapping.txt").write_text("1 65 97\n2 66 98\n3 67 99\n", encoding="ascii")
    return folder


def sign_mnist(folder: Path) -> Path:
    """Two CSV files, each once more in a folder, and pictures beside them that are of no class."""
    labels = [number for number in range(13) if number != 9]
    for split, count in (("train", 36), ("test", 12)):
        name = f"sign_mnist_{split}"
        for file in (folder / f"{name}.csv", folder / name / f"{name}.csv"):
            write_pixels(file, stack(count), (labels[number % 12] for number in range(count)))
    write_grey(folder / "amer_sign2.png")
    return folder


def medmnist(folder: Path, shape: tuple[int, ...] = (5, 5, 3)) -> Path:
    """One .npz with its own splits."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for number, (split, count) in enumerate((("train", 6), ("val", 3), ("test", 4))):
        arrays[f"{split}_images"] = stack(count, shape, number)
        arrays[f"{split}_labels"] = (np.arange(count) % 3)[:, None].astype(np.uint8)
    np.savez_compressed(folder / "pathmnist.npz", **arrays)
    return folder


def arrays(folder: Path, **more: object) -> Path:
    """images, labels, split, groups and classes in one .npz; `more` instead of some of them, None for none."""
    folder.mkdir(parents=True, exist_ok=True)
    everything = {
        "images": stack(12),
        "labels": np.arange(12) % 2,
        "split": np.array(["train"] * 8 + ["val"] * 2 + ["Test"] * 2),
        "groups": np.arange(12) // 2,
        "classes": np.array(["bée", "ant"]),
    }
    np.savez(folder / "mine.npz", **{name: value for name, value in (everything | more).items() if value is not None})
    return folder


PACKED = (mnist, emnist, sign_mnist, medmnist, arrays)
LAYOUTS = (kapillondhe, grassknoted, debashishsau, danrasband, lexset, class_folders, split_folders, manifest)

if __name__ == "__main__":
    for layout in (*LAYOUTS, *PACKED):
        print(layout(Path(sys.argv[1]) / layout.__name__))
