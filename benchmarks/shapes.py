"""What becomes of pictures of many shapes: stretched, in a letterbox with bars of two kinds, or cropped.

    python benchmarks/shapes.py [--seeds 3]

Circles, ellipses, squares and rectangles near the middle of noisy pictures that are 0.5 to 2 times as wide as high: the
shape alone tells the class. Black bars are drawn into the files. The figures are the accuracy on 400 test pictures, in
percent. A run takes about 15 seconds of a core.
"""

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from gfnet_pl import main, newest_run
from gfnet_pl.run.result_files import read_metrics

CLASSES = {
    "circle": ("ellipse", 1.0),
    "ellipse": ("ellipse", 1.6),
    "rectangle": ("rectangle", 1.6),
    "square": ("rectangle", 1.0),
}
NET = "--model.image_size=48 --model.patch_size=6 --model.dim=48 --model.depth=3 --model.dropout=0 --model.lr=5e-3"
TRAINING = "--model.weight_decay=0.05 --model.warmup_epochs=1 --trainer.max_epochs=24 --data.batch_size=32"
AUGMENT = "--data.augment.shift=0.1 --data.augment.scale=0.1 --data.augment.flip=0.5 --data.augment.brightness=0.1"
QUIET = "--trainer.precision=32-true --trainer.accelerator=cpu --trainer.enable_progress_bar=false"


def draw(label: str, seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    ratio = 2 ** rng.uniform(-1, 1)
    width, height = round(96 * ratio**0.5), round(96 / ratio**0.5)
    ground, contrast = rng.uniform(60, 140), 60
    image = Image.fromarray(np.clip(rng.normal(ground, 8, (height, width)), 0, 255).astype(np.uint8))
    kind, long = CLASSES[label]
    side = min(width, height) * rng.uniform(0.4, 0.6)
    wide, high = (side * long**0.5, side / long**0.5) if rng.random() < 0.5 else (side / long**0.5, side * long**0.5)
    left, top = (width - wide) / 2 + rng.uniform(-4, 4), (height - high) / 2 + rng.uniform(-4, 4)
    getattr(ImageDraw.Draw(image), kind)((left, top, left + wide, top + high), fill=int(ground + contrast))
    return image


def in_black(image: Image.Image) -> Image.Image:
    side = max(image.size)
    page = Image.new("L", (side, side))
    page.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return page


def write(folder: Path, *, black: bool) -> Path:
    for split, count, first in (("train", 250, 0), ("test", 100, 10_000)):
        for place, label in enumerate(CLASSES):
            (folder / split / label).mkdir(parents=True)
            for number in range(count):
                image = draw(label, first + 1000 * place + number)
                (in_black(image) if black else image).save(folder / split / label / f"{number}.png")
    return folder


def accuracy(root: Path, fit: str, seed: int) -> float:
    words = f"{NET} {TRAINING} {AUGMENT} {QUIET} --data.root={root} --data.fit={fit} --seed_everything={seed}"
    assert main(["fit", "--config=shapes.yaml", *words.split()]) == 0
    assert main(["test"]) == 0
    return 100 * float(read_metrics(newest_run())["sets"]["test"]["accuracy"]["share"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds
    work = Path(tempfile.mkdtemp())
    os.chdir(work)
    Path("shapes.yaml").write_text("stage: shapes\n")  # with a config, nothing is chosen by itself
    plain, black = write(work / "plain", black=False), write(work / "black", black=True)
    ways = {"stretch": (plain, "stretch"), "letterbox": (plain, "letterbox"), "crop": (plain, "crop")}
    ways["letterbox with black bars"] = (black, "stretch")
    for name, (root, fit) in ways.items():
        found = [accuracy(root, fit, seed) for seed in range(1, seeds + 1)]
        print(f"RESULT | {name} | {np.mean(found):.1f} ({min(found):.1f} to {max(found):.1f}) |", flush=True)
