"""Which pictures the audit calls near twins: in sets of pictures that look alike, and among copies that are real.

    apt-get install dataset-fashion-mnist     # without it, that row is left out
    python benchmarks/twins.py                # a minute; --count 2000 for more pictures of each drawn set

For each set: the border that `duplicates.border_of` takes, the share of pictures with a twin, and with one in another
class, by a border of 0.98 and by this one. None of these sets has copies, except Fashion-MNIST, which has some, and the
embedded hands, whose clips are near duplicates. Then, how many of 200 copies are found: saved again as JPEG of quality
50, as a file of half the size, 15 % brighter, cropped by 2 % on each side, and mirrored.

Drawn here: *cells*, solar cells of 300 x 300 with the same grid and bus bars, other light, grains and edges, half of
them with cracks; and *X-rays*, blurred chests of 256 x 256 whose parts vary by some pixels, half of them with spots.
"""

import argparse
import gzip
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter
from sklearn.datasets import load_digits

from gfnet_pl.data.canvas import Canvas
from gfnet_pl.data.collection import collect
from gfnet_pl.data.duplicates import THRESHOLD, border_of, nearest_twins
from gfnet_pl.data.prints import Prints, fingerprints

FASHION = Path("/usr/share/datasets/fashion-mnist")
SIDE = 96
Picture = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


def cells(count: int) -> tuple[list[Picture], Labels]:
    """Solar cells, sound and cracked."""
    return [_cell(np.random.default_rng((0, number)), cracked=number % 2 == 1) for number in range(count)], _halves(
        count
    )


def x_rays(count: int) -> tuple[list[Picture], Labels]:
    """Chests, with and without spots."""
    return [_chest(np.random.default_rng((1, number)), spots=number % 2 == 1) for number in range(count)], _halves(
        count
    )


def fashion(count: int) -> tuple[list[Picture], Labels]:
    """The first training pictures of Fashion-MNIST, 28 x 28, ten classes."""
    pixels = np.frombuffer(gzip.open(FASHION / "train-images-idx3-ubyte.gz").read(), np.uint8, offset=16)
    labels = np.frombuffer(gzip.open(FASHION / "train-labels-idx1-ubyte.gz").read(), np.uint8, offset=8)
    return list(pixels.reshape(-1, 28, 28)[:count]), labels[:count].astype(np.int64)


def digits(count: int) -> tuple[list[Picture], Labels]:
    """Scikit-learn's digits, 8 x 8, ten classes."""
    found = load_digits()
    return list(np.round(found.images[:count] * 255 / 16).astype(np.uint8)), found.target[:count]


def hands(count: int) -> tuple[list[Picture], Labels]:
    """The embedded hands of the training signers, all of them whatever the count: a clip has six frames."""
    found = collect(None, canvas=Canvas(SIDE, SIDE))
    trained = [place for place, picture in enumerate(found.pictures) if picture.split == "train"]
    names = sorted({picture.label for picture in found.pictures})
    labels = np.array([names.index(found.pictures[place].label) for place in trained])
    return list(found.images[found.rows[trained]]), labels


def _halves(count: int) -> Labels:
    return np.arange(count) % 2


def _cell(rng: np.random.Generator, *, cracked: bool, side: int = 300) -> Picture:
    level, (y, x) = rng.normal(130, 8), np.mgrid[0:side, 0:side] / side - 0.5
    grains = Image.fromarray(rng.normal(0, 3, (12, 12)).astype(np.float32)).resize((side, side))
    light = rng.normal(0, 6) * x + rng.normal(0, 6) * y + 12 * np.exp(-(x**2 + y**2) / 0.15)
    image = Image.fromarray((level + light + np.asarray(grains)).clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for third in (1, 2):
        middle = side * third // 3 + int(rng.integers(-2, 3))
        draw.rectangle([0, middle - 6, side, middle + 6], fill=int(level - 75))
    for finger in range(40):
        draw.line([finger * side / 40, 0, finger * side / 40, side], fill=int(level - 12))
    top, left, bottom, right = rng.integers(0, 5, 4).tolist()
    for box in (
        [0, 0, side, top],
        [0, 0, left, side],
        [0, side - 1 - bottom, side, side],
        [side - 1 - right, 0, side, side],
    ):
        draw.rectangle(box, fill=20)
    for _ in range(int(rng.integers(1, 4)) if cracked else 0):
        place, angle, points = rng.uniform(0, side, 2), rng.uniform(0, 6.3), []
        for _ in range(7):
            points.append(tuple(place))
            angle += rng.normal(0, 0.4)
            place = place + 20 * np.array([np.cos(angle), np.sin(angle)])
        draw.line(points, fill=int(level - 45), width=2)
    return (np.asarray(image) + rng.normal(0, 5, (side, side))).clip(0, 255).astype(np.uint8)


def _chest(rng: np.random.Generator, *, spots: bool, side: int = 256) -> Picture:
    image = Image.new("L", (side, side), 40)
    draw = ImageDraw.Draw(image)

    def moved(*box: float, by: float = 6) -> list[float]:
        return (np.array(box) + rng.normal(0, by, 4)).tolist()

    draw.ellipse(moved(10, 5, 246, 300), fill=170)
    draw.ellipse(moved(38, 45, 115, 215), fill=70)
    draw.ellipse(moved(141, 45, 218, 215), fill=70)
    draw.rectangle(moved(118, 10, 138, side, by=2), fill=200)
    draw.ellipse(moved(105, 120, 185, 205), fill=190)
    for rib in range(7):
        draw.arc(moved(30, 40 + 24 * rib, 226, 130 + 24 * rib, by=2.5), 190, 350, fill=150, width=6)
    for _ in range(3 if spots else 0):
        middle = np.array([rng.choice([60, 165]), 70]) + rng.uniform(0, 1, 2) * [30, 100]
        radius = rng.uniform(8, 22)
        draw.ellipse([*(middle - radius), *(middle + radius)], fill=int(rng.uniform(90, 140)))
    pixels = np.asarray(image.filter(ImageFilter.GaussianBlur(7))).astype(float)
    grain = rng.normal(0, 4, pixels.shape)
    return (pixels * rng.normal(1, 0.05) + rng.normal(0, 6) + grain).clip(0, 255).astype(np.uint8)


def saved_again(picture: Picture) -> Picture:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=50)
    return np.asarray(Image.open(file))


def half_the_size(picture: Picture) -> Picture:
    height, width = picture.shape
    return np.asarray(Image.fromarray(picture).resize((width // 2, height // 2), Image.Resampling.BICUBIC))


def brighter(picture: Picture) -> Picture:
    return (picture * 1.15 + 10).clip(0, 255).astype(np.uint8)


def cropped(picture: Picture) -> Picture:
    height, width = picture.shape
    rows, columns = max(1, round(0.02 * height)), max(1, round(0.02 * width))
    return picture[rows : height - rows, columns : width - columns]


def mirrored(picture: Picture) -> Picture:
    return np.ascontiguousarray(picture[:, ::-1])


COPIES: dict[str, Callable[[Picture], Picture]] = {
    "saved again": saved_again,
    "half the size": half_the_size,
    "brighter": brighter,
    "cropped": cropped,
    "mirrored": mirrored,
}
SETS = {"cells": cells, "X-rays": x_rays, "Fashion-MNIST": fashion, "digits": digits, "embedded hands": hands}


def prints_of(pictures: list[Picture]) -> Prints:
    """As the cache has them: 96 x 96."""
    return fingerprints(np.stack([_stretched(picture) for picture in pictures]), np.arange(len(pictures)))


def _stretched(picture: Picture) -> Picture:
    image = Image.fromarray(picture)
    if image.size == (SIDE, SIDE):
        return picture
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=3.0))


def with_twin(prints: Prints, labels: Labels, border: float) -> tuple[float, float]:
    """The percentage of pictures with a twin, and with one in another class."""
    everyone = np.arange(len(labels))
    across = 0
    for label in np.unique(labels):
        twin, _ = nearest_twins(prints, everyone[labels == label], everyone[labels != label], border)
        across += int((twin >= 0).sum())
    twin, _ = nearest_twins(prints, everyone, everyone, border)
    return 100 * float((twin >= 0).mean()), 100 * across / len(labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000, help="pictures of each set, except the embedded hands")
    count = parser.parse_args().count
    print("| set | pictures | border | with a twin, at 0.98 -> here (%) | in another class, at 0.98 -> here (%) |")
    print("|---|---|---|---|---|")
    found: dict[str, tuple[list[Picture], float]] = {}
    for name, make in SETS.items():
        if make is fashion and not FASHION.is_dir():
            continue
        pictures, labels = make(count)
        prints = prints_of(pictures)
        border = border_of(prints, labels[:, None])
        found[name] = pictures, border
        before, after = with_twin(prints, labels, THRESHOLD), with_twin(prints, labels, border)
        columns = [f"{one:.1f} -> {other:.1f}" for one, other in zip(before, after, strict=True)]
        print(f"| {name} | {len(pictures):,} | {border:.4f} | {' | '.join(columns)} |", flush=True)
    print(f"\n| copies found, at 0.98 -> here (%) | {' | '.join(COPIES)} |\n|---|{'---|' * len(COPIES)}")
    for name, (pictures, border) in found.items():
        some = pictures[:: max(1, len(pictures) // 200)][:200]
        cells_of = []
        for copy in COPIES.values():
            both, own = prints_of([*some, *map(copy, some)]), np.arange(len(some))
            shares = [
                100 * np.mean([nearest_twins(both, [one], [one + len(some)], each)[0][0] >= 0 for one in own])
                for each in (THRESHOLD, border)
            ]
            cells_of.append(" -> ".join(f"{share:.0f}" for share in shares))
        print(f"| {name} | {' | '.join(cells_of)} |", flush=True)


if __name__ == "__main__":
    main()
