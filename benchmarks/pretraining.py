"""Makes the pictures from which the nets that come with the package were trained, and puts such a net into it.

    python benchmarks/pretraining.py pictures DIR       # 76,000 of 96 x 96, grey, in 162 classes
    gfnet fit --config base.yaml --config quick.yaml --config robust.yaml --data.root DIR --data.val_fraction 0.02
        --data.holdout_per_class 0 --data.batch_size 64 --trainer.precision bf16-mixed --seed_everything 1 and
        --stage small4 --model.image_size 32 --model.patch_size 4 --trainer.max_epochs 8
        --stage small8 --data.epoch_size 64000 --trainer.max_epochs 6
    python benchmarks/pretraining.py keep runs/small4/version_0     # and small8

Nothing of it is a photograph. The classes are:

    hand_…      the 28 signs of the rendered hands, version 2: 896 signers, who are not those of its Dev and Unseen
    glyph_…     letters, digits and signs, in the fonts that matplotlib brings, slanted, anywhere, in any two greys
    contour_…   families of closed curves, one in the other: a class is a number of corners, how deep they are, how
                rough, wide and filled the curves are (after Kataoka et al., "Replacing Labeled Real-image Datasets
                with Auto-generated Contours", CVPR 2022)
"""

import argparse
import math
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from gfnet_pl.data.layouts import scan
from gfnet_pl.hand_signs.files import write_hand_signs
from gfnet_pl.model.pretrained import SMALL, small_file
from gfnet_pl.run.checkpoint import Checkpoint
from gfnet_pl.run.folder import RunFolder

SIDE, FINE = 96, 192  # of a picture, and of what is drawn before it is made smaller
SIGNERS, GLYPHS, CONTOURS = 896, 500, 300  # pictures per class
SIGNS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghijmnqrty23456789&@#?%"
FAMILIES = 80
FONTS = ("DejaVu", "STIXGeneral", "cmr", "cmss", "cmtt", "cmb", "cmti")


def greys(rng: np.random.Generator) -> tuple[int, int]:
    """Of the ground and of the ink, at least 60 apart."""
    ground = int(rng.integers(256))
    return ground, int((ground + rng.uniform(60, 195)) % 256)


def finished(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Made smaller, with light from a side, and with grain."""
    pixels = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX), float)
    across, down = np.meshgrid(*2 * [np.linspace(-1, 1, SIDE)])
    pixels = pixels + rng.normal(0, 12) * across + rng.normal(0, 12) * down
    return Image.fromarray((pixels + rng.normal(0, rng.uniform(0, 15), pixels.shape)).clip(0, 255).astype(np.uint8))


def glyph(sign: int, rng: np.random.Generator) -> Image.Image:
    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    fonts = sorted(file for file in folder.glob("*.ttf") if file.name.startswith(FONTS) and "Display" not in file.name)
    font = ImageFont.truetype(fonts[rng.integers(len(fonts))], float(rng.uniform(90, 170)))
    ground, ink = greys(rng)
    image = Image.new("L", (FINE, FINE), ground)
    left, top, right, bottom = font.getbbox(SIGNS[sign])
    x, y = FINE / 2 + rng.uniform(-20, 20, 2) - [(left + right) / 2, (top + bottom) / 2]
    ImageDraw.Draw(image).text((x, y), SIGNS[sign], fill=ink, font=font)
    slant = rng.uniform(-0.3, 0.3)
    moved = (1, slant, -slant * FINE / 2, 0, 1, 0)
    return finished(image.transform((FINE, FINE), Image.Transform.AFFINE, moved, fillcolor=ground), rng)


def contour(family: int, rng: np.random.Generator) -> Image.Image:
    own = np.random.default_rng((7, family))  # what the pictures of a family share
    corners, copies = int(own.integers(2, 13)), int(own.integers(1, 7))
    depth, rough, flat = own.uniform(0, 0.6), own.uniform(0, 0.12), own.uniform(0.5, 1)
    width, filled, waves = own.uniform(2, 9), own.random() < 0.4, int(own.integers(2, 30))
    ground, ink = greys(rng)
    image = Image.new("L", (FINE, FINE), ground)
    draw = ImageDraw.Draw(image)
    angles = np.linspace(0, 2 * math.pi, 181)[:-1]
    size, turn = FINE * rng.uniform(0.28, 0.46), rng.uniform(-0.35, 0.35)
    middle = FINE / 2 + rng.uniform(-16, 16, 2)
    noise = rng.normal(0, rough / 2, (waves, 2))
    shape = 1 - depth * rng.uniform(0.85, 1.15) * np.abs(np.sin(corners * angles / 2))
    shape = shape + sum(a * np.cos(k * angles) + b * np.sin(k * angles) for k, (a, b) in enumerate(noise, 1)) / 2
    for copy in range(copies):
        radius = size * shape * (1 - copy / copies)
        x, y = radius * np.cos(angles), radius * flat * rng.uniform(0.95, 1.05) * np.sin(angles)
        x, y = x * math.cos(turn) - y * math.sin(turn) + middle[0], x * math.sin(turn) + y * math.cos(turn) + middle[1]
        points = list(zip(x.tolist(), y.tolist(), strict=True))
        if filled:
            draw.polygon(points, fill=(ink, ground)[copy % 2])
        else:
            draw.line([*points, points[0]], fill=ink, width=round(width))
    return finished(image, rng)


def write_drawn(task: tuple[int, Path]) -> None:
    """Writes the pictures of a class into its folder. Glyphs come first, then contours."""
    number, folder = task
    is_glyph = number < len(SIGNS)
    draw: Callable[[int, np.random.Generator], Image.Image] = glyph if is_glyph else contour
    which = number if is_glyph else number - len(SIGNS)
    place = Path(folder, f"glyph_{ord(SIGNS[which]):02x}" if is_glyph else f"contour_{which:02}")
    place.mkdir(parents=True)
    for index in range(GLYPHS if is_glyph else CONTOURS):
        draw(which, np.random.default_rng((number, index))).save(place / f"{index:03}.png", compress_level=1)


def write_pictures(folder: Path) -> None:
    hands = write_hand_signs(folder.with_name(folder.name + "-hands"), version=2, signers=SIGNERS, frames=1)
    for picture in scan(hands).pictures:
        if picture.split == "train":
            place = folder / f"hand_{picture.label}"
            place.mkdir(parents=True, exist_ok=True)
            (place / Path(picture.path).name).hardlink_to(hands / picture.path)
    with multiprocessing.Pool() as processes:
        processes.map(write_drawn, [(number, folder) for number in range(len(SIGNS) + FAMILIES)], chunksize=1)


def keep(run: Path) -> None:
    """Takes a run's net into the package, without its head, in half precision."""
    trained = Checkpoint.load(RunFolder(run).checkpoint("last.ckpt"))
    weights = {name.removeprefix("net."): value for name, value in trained.weights.items()}
    left_out = ("mean", "std", "head.weight", "head.bias")
    body = {name: value for name, value in weights.items() if name not in left_out}
    body = {name: value.half() if value.is_floating_point() else value for name, value in body.items()}
    file = small_file(trained.settings["model.patch_size"])
    file.parent.mkdir(exist_ok=True)
    torch.save(body, file)
    print(f"model.pretrained {SMALL}: {file}, {file.stat().st_size / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("pictures").add_argument("folder", type=Path)
    commands.add_parser("keep").add_argument("run", type=Path)
    options = parser.parse_args()
    if options.command == "pictures":
        write_pictures(options.folder.absolute())
    else:
        keep(options.run)


if __name__ == "__main__":
    main()
