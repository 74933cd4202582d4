"""How good `gfnet fit DIR`, without an option, is on small folders, against other classifiers.

    pip install scikit-image       # and Debian's dataset-fashion-mnist and openclipart-png
    python benchmarks/small_folders.py run DIR                    # all rows, methods and seeds; finished ones are kept
    python benchmarks/small_folders.py run DIR --rows digits shapes --methods gfnet --seeds 0 1
    python benchmarks/small_folders.py write                      # the table of docs/small-data.md

A seed draws the training pictures (and the weights); every method gets the same ones and is scored once, on the same
test pictures. What each must choose (the SVM's C and gamma, the regression's C, the net's best epoch), it chooses on
training pictures. Rows:

    digits        scikit-learn's, 1,797 of 8 x 8, of which 60 of each class are for the test
    shapes        circles, squares and triangles, 120 of each, 64 x 64, noisy, any place, size, turn and grey
    fashion-N     Fashion-MNIST, N pictures per class; its own 10,000 test pictures
    clipart-N     the Open Clip Art Library, N pictures per class, 96 x 96, grey: animals, food, geography, office,
                  people, plants, recreation, tools, transportation; tested on all others
    hands-N       the embedded rendered hand signs, N per class; tested on the 1,344 pictures of unseen signers
"""

import argparse
import gzip
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from measuring import markdown, write_between
from PIL import Image, ImageDraw
from torch import Tensor, nn

from gfnet_pl import __version__
from gfnet_pl.data.layouts import scan
from gfnet_pl.data.manifest import Picture, write_manifest
from gfnet_pl.hand_signs.files import hand_signs_root
from gfnet_pl.run.folder import newest_run
from gfnet_pl.run.result_files import read_metrics

RESULTS = Path(__file__).parent / "small_folders.json"
DOCUMENT = Path(__file__).parents[1] / "docs" / "small-data.md"
FASHION = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package dataset-fashion-mnist puts it
CLIPART = Path("/usr/share/openclipart/png")  # of openclipart-png
ROWS = (
    *("digits", "shapes", "fashion-10", "fashion-100", "fashion-1000"),
    *("clipart-50", "hands-5", "hands-20", "hands-100"),
)
STEPS, BATCH = 2000, 32  # of the ResNet


class Pictures(NamedTuple):
    """Training and test pictures: (N, H, W) uint8 grey levels, and (N,) class numbers."""

    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray


def pictures_of(row: str, seed: int) -> Pictures:
    draw = np.random.default_rng(seed)
    name, _, count = row.partition("-")
    if name == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        images, labels = (digits.images * 15.9).astype(np.uint8), digits.target
        tested = np.isin(np.arange(len(labels)), some_of_each(labels, 60, draw))
        return Pictures(images[~tested], labels[~tested], images[tested], labels[tested])
    if name == "shapes":
        return Pictures(*shapes(120, draw), *shapes(300, draw))
    if name == "clipart":
        images, labels = clipart()
        chosen = some_of_each(labels, int(count), draw)
        tested = np.setdiff1d(np.arange(len(labels)), chosen)
        return Pictures(images[chosen], labels[chosen], images[tested], labels[tested])
    if name == "fashion":
        images, labels, test, test_labels = (
            read_idx(f"{part}-{what}") for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1")
        )
    else:
        images, labels, test, test_labels = hands()
    chosen = some_of_each(labels, int(count), draw)
    return Pictures(images[chosen], labels[chosen].astype(int), test, test_labels.astype(int))


def some_of_each(labels: np.ndarray, count: int, draw: np.random.Generator) -> np.ndarray:
    """Positions of `count` random pictures of each class."""
    return np.concatenate([draw.permutation(np.flatnonzero(labels == label))[:count] for label in np.unique(labels)])


def read_idx(name: str) -> np.ndarray:
    path = FASHION / f"{name}-ubyte.gz"
    if not path.is_file():
        sys.exit(f"{path} is not there: apt-get install dataset-fashion-mnist")
    content = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(content, ">i4", content[3], offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(shape)


@cache
def clipart() -> tuple[np.ndarray, np.ndarray]:
    """Grey pictures in their own shapes on a white square. Links are left out: they put a picture under two classes."""
    if not CLIPART.is_dir():
        sys.exit(f"{CLIPART} is not there: apt-get install openclipart-png")
    Image.MAX_IMAGE_PIXELS = None  # the largest are left out below
    names = "animals food geography office people plants recreation tools transportation".split()
    images, labels = [], []
    for label, name in enumerate(names):
        for file in sorted(CLIPART.glob(f"{name}/**/*.png")):
            with Image.open(file) as image:
                if file.is_symlink() or image.width * image.height > 20e6:
                    continue
                image = image.convert("RGBA")
            image.thumbnail((96, 96))
            square = Image.new("RGBA", (96, 96), "white")
            square.alpha_composite(image, ((96 - image.width) // 2, (96 - image.height) // 2))
            images.append(np.asarray(square.convert("L")))
            labels.append(label)
    return np.stack(images), np.array(labels)


def hands() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    found = scan(hand_signs_root())
    names = sorted({picture.label for picture in found.pictures})

    def of(split: str) -> tuple[np.ndarray, np.ndarray]:
        mine = [picture for picture in found.pictures if picture.split == split]
        images = [np.asarray(Image.open(found.folder / picture.path).convert("L")) for picture in mine]
        return np.stack(images), np.array([names.index(picture.label) for picture in mine])

    return *of("train"), *of("unseen")


def shapes(count: int, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    labels = np.repeat([0, 1, 2], count)
    return np.stack([shape(corners, draw) for corners in np.array([64, 4, 3])[labels]]), labels


def shape(corners: int, draw: np.random.Generator, side: int = 64) -> np.ndarray:
    """A regular polygon, filled or not, drawn four times too large and made smaller: smooth edges."""
    large = 4 * side
    ground = int(draw.integers(256))
    grey = int((ground + draw.uniform(60, 195)) % 256)
    radius, turn = draw.uniform(0.15, 0.4) * large, draw.uniform(0, 2 * math.pi)
    x, y = draw.uniform(radius, large - radius, 2)
    angles = turn + 2 * math.pi * np.arange(corners + 2) / corners
    points = [(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles]
    image = Image.new("L", (large, large), ground)
    if draw.random() < 0.5:
        ImageDraw.Draw(image).polygon(points, fill=grey)
    else:
        ImageDraw.Draw(image).line(points, fill=grey, width=int(draw.uniform(8, 24)))
    pixels = np.asarray(image.resize((side, side), Image.Resampling.BOX), float)
    return (pixels + draw.normal(0, draw.uniform(0, 25), pixels.shape)).clip(0, 255).astype(np.uint8)


def resized(images: np.ndarray, side: int) -> np.ndarray:
    if images.shape[1] == side:
        return images
    how = Image.Resampling.BOX if images.shape[1] > side else Image.Resampling.BICUBIC
    return np.stack([np.asarray(Image.fromarray(image).resize((side, side), how)) for image in images])


def logistic_regression(data: Pictures, seed: int, place: Path) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    side = min(32, data.train.shape[1])
    train, test = (resized(images, side).reshape(len(images), -1) / 255.0 for images in (data.train, data.test))
    search = GridSearchCV(LogisticRegression(max_iter=1000), {"C": [0.001, 0.01, 0.1, 1]}, cv=3)
    return float(search.fit(train, data.train_labels).score(test, data.test_labels))


def hog_svm(data: Pictures, seed: int, place: Path) -> float:
    """Histograms of oriented gradients (Dalal and Triggs, CVPR 2005), 8 x 8 cells, and an SVM with an RBF kernel."""
    from skimage.feature import hog
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVC

    side = 32 if data.train.shape[1] <= 32 else 64
    cell = (side // 8, side // 8)
    train, test = (
        np.stack([hog(image, pixels_per_cell=cell, cells_per_block=(2, 2)) for image in resized(images, side)])
        for images in (data.train, data.test)
    )
    search = GridSearchCV(SVC(), {"C": [1, 10, 100], "gamma": ["scale", 0.01, 0.1]}, cv=3)
    return float(search.fit(train, data.train_labels).score(test, data.test_labels))


class Residual(nn.Module):
    """Two 3 x 3 convolutions and a way round them (He et al., CVPR 2016)."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out))
        self.round = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(self.first(x)) + self.round(x))


def resnet(data: Pictures, seed: int, place: Path) -> float:
    """78,000 weights, 2,000 steps of 32 pictures that are moved by up to a tenth of their side; last epoch."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    train, test = (torch.tensor(resized(images, min(64, images.shape[1])))[:, None] for images in data[::2])
    labels = torch.tensor(data.train_labels)
    side = train.shape[-1]
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, 2 if side >= 64 else 1, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        Residual(16, 16, 1),
        Residual(16, 32, 2),
        Residual(32, 64, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, int(labels.max()) + 1),
    )
    mean, deviation = train.float().mean(), train.float().std()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, STEPS, pct_start=0.1)
    move = max(1, side // 10)
    for _ in range(STEPS):
        chosen = torch.randint(len(train), (BATCH,))
        images = F.pad((train[chosen] - mean) / deviation, 4 * [move], mode="replicate")
        down, across = torch.randint(2 * move + 1, (2, BATCH)).tolist()
        moved = [image[:, y : y + side, x : x + side] for image, y, x in zip(images, down, across, strict=True)]
        optimizer.zero_grad()
        F.cross_entropy(net(torch.stack(moved)), labels[chosen]).backward()
        optimizer.step()
        schedule.step()
    net.eval()
    with torch.inference_mode():
        found = torch.cat([net((images - mean) / deviation).argmax(1) for images in test.split(250)])
    return float((found == torch.tensor(data.test_labels)).float().mean())


def gfnet(data: Pictures, seed: int, place: Path) -> float:
    """`gfnet fit DIR` and `gfnet test`, on a manifest of picture files."""
    pictures = []
    for split, images, labels in (("train", *data[:2]), ("test", *data[2:])):
        folder = place / split
        folder.mkdir(parents=True, exist_ok=True)
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = folder / f"{number:05}.png"
            if not path.is_file():
                Image.fromarray(image).save(path)
            pictures.append(Picture(f"{split}/{path.name}", f"class{label:02}", split, ""))
    write_manifest(place / "pictures.csv", pictures)
    for command in (["fit", "pictures.csv", "--seed_everything", str(seed)], ["test"]):
        subprocess.run([sys.executable, "-m", "gfnet_pl", *command], cwd=place, check=True, env=dict(os.environ))
    here = Path.cwd()
    os.chdir(place)  # a run is found from the folder that holds runs/
    accuracy = read_metrics(newest_run())["sets"]["test"]["accuracy"]["share"]
    os.chdir(here)
    return float(accuracy)


METHODS: dict[str, Callable[[Pictures, int, Path], float]] = {
    "logistic regression": logistic_regression,
    "HOG + SVM": hog_svm,
    "ResNet": resnet,
    "gfnet": gfnet,
}


def run(folder: Path, rows: Sequence[str], methods: Sequence[str], seeds: Sequence[int]) -> None:
    for seed in seeds:
        for row in rows:
            for method in methods:
                found = read()
                if any((each["row"], each["method"], each["seed"]) == (row, method, seed) for each in found):
                    continue
                place = folder / f"{row}-{seed}"
                if method == "gfnet":
                    shutil.rmtree(place, ignore_errors=True)
                data = pictures_of(row, seed)
                start, busy = time.perf_counter(), os.times()
                accuracy = 100 * METHODS[method](data, seed, place)
                now = os.times()
                used = sum(now[:4]) - sum(busy[:4])  # processor time, with child processes: the machine may be shared
                result = {"row": row, "method": method, "seed": seed, "version": __version__}
                result |= {"accuracy": round(accuracy, 2), "minutes": round((time.perf_counter() - start) / 60, 1)}
                result |= {"core_minutes": round(used / 60, 1)}
                print(result, flush=True)
                RESULTS.write_text(json.dumps([*read(), result], indent=0) + "\n")


def read() -> list[dict[str, Any]]:
    return json.loads(RESULTS.read_text()) if RESULTS.is_file() else []


def write() -> None:
    """Mean and standard deviation of the accuracy in percent over the seeds; the best of each row in bold."""
    results, lines = read(), []
    for row in ROWS:
        of = {name: [each for each in results if (each["row"], each["method"]) == (row, name)] for name in METHODS}
        means = {name: statistics.mean(each["accuracy"] for each in mine) for name, mine in of.items() if mine}
        if not means:
            continue
        best = max(means.values()) if len(means) > 1 else None  # of one method there is no best
        cells = []
        for name, mine in of.items():
            values = [each["accuracy"] for each in mine]
            spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
            words = f"{means[name]:.1f}{spread} ({len(values)})" if values else ""
            cells.append(f"**{words}**" if values and means[name] == best else words)
        taken = [each["core_minutes"] for each in of["gfnet"]]
        lines.append([row, *cells, f"{statistics.median(taken):.1f}" if taken else ""])
    heads = ["pictures", *METHODS, "gfnet, minutes of one core"]
    write_between(DOCUMENT, "small folders", markdown(heads, lines))


def main(args: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run")
    running.add_argument("folder", type=Path)
    running.add_argument("--rows", nargs="+", default=ROWS, choices=ROWS)
    running.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    running.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    commands.add_parser("write")
    options = parser.parse_args(args)
    if options.command == "run":
        run(options.folder.absolute(), options.rows, options.methods, options.seeds)
    else:
        write()


if __name__ == "__main__":
    main()
