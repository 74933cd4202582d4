"""What a trained net brings to a folder of other classes, and what model.freeze changes.

    python benchmarks/transfer.py --checkpoint runs/robust/version_0/checkpoints/last.ckpt --out DIR

Ten pictures per class of the rows of small_folders.py, scored on 300 of their test pictures. All nets have 200 steps of
16 pictures, with the augmentation of robust.yaml: the quick net from new weights, and the checkpoint's net without
freezing, and with half of its blocks frozen. *Head only* is a logistic regression on what the net's body says of the
pictures, once with the normalisation of the checkpoint and once with that of the pictures. (The new net trains on nine
of the ten pictures and the checkpoint's on eight, as their settings keep them out for validation.)
"""

import argparse
import json
import statistics
from pathlib import Path

import numpy as np
import torch
from measuring import markdown
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from small_folders import pictures_of, resized, some_of_each

from gfnet_pl.cli import main as gfnet
from gfnet_pl.data.manifest import Picture, write_manifest
from gfnet_pl.run.checkpoint import Checkpoint
from gfnet_pl.run.folder import newest_run
from gfnet_pl.run.result_files import read_metrics

EACH, TESTED = 10, 300
STEPS = [f"--{option}" for option in ("trainer.max_epochs=10", "data.epoch_size=320", "data.batch_size=16")]


def written(row: str, seed: int, folder: Path) -> Path:
    """A manifest of the pictures."""
    data, draw = pictures_of(row, seed), np.random.default_rng(seed)
    chosen = some_of_each(data.train_labels, EACH, draw)
    parts = {"train": (data.train[chosen], data.train_labels[chosen])}
    tested = draw.permutation(len(data.test))[:TESTED]
    parts["test"] = (data.test[tested], data.test_labels[tested])
    rows = []
    folder.mkdir(parents=True)
    for split, (images, labels) in parts.items():
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            Image.fromarray(image).save(folder / f"{split}{number}.png")
            rows.append(Picture(f"{split}{number}.png", f"class {label}", split, ""))
    write_manifest(folder / "pictures.csv", rows)
    return folder / "pictures.csv"


def trained(root: Path, seed: int, *options: str) -> float:
    """Test accuracy of a net that is trained with these options."""
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.precision=32-true"]
    settings = [*STEPS, *quiet, f"--data.root={root}", f"--seed_everything={seed}", "--model.warmup_epochs=1"]
    settings += ["--data.holdout_per_class=0", "--trainer.logger=false"]
    for command in (["fit", *options, *settings], ["test", "--ckpt_path=last.ckpt", *quiet]):
        if gfnet(command):
            raise SystemExit("gfnet ended with an error")
    return float(read_metrics(newest_run())["sets"]["test"]["accuracy"]["share"])


def head_only(checkpoint: Checkpoint, row: str, seed: int, *, own: bool) -> float:
    """Test accuracy of a logistic regression on the net's features."""
    data, draw = pictures_of(row, seed), np.random.default_rng(seed)
    chosen = some_of_each(data.train_labels, EACH, draw)
    tested = draw.permutation(len(data.test))[:TESTED]
    net = checkpoint.net()
    train, test = (
        torch.from_numpy(resized(part, net.image_size[0]))[:, None] for part in (data.train[chosen], data.test[tested])
    )
    if own:
        net.set_normalisation([train.float().mean()], [train.float().std()])
    with torch.no_grad():
        seen = [torch.cat([net.features(part) for part in images.split(64)]).numpy() for images in (train, test)]
    fitted = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500)).fit(
        seen[0], data.train_labels[chosen]
    )
    return float(fitted.score(seen[1], data.test_labels[tested]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", nargs="+", default=["digits", "fashion-100"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    values = parser.parse_args()
    checkpoint = Checkpoint.load(values.checkpoint)
    start = [f"--ckpt_path={values.checkpoint}", "--stage=transfer", "--model.lr=1e-3"]
    depth = checkpoint.settings["model.depth"]
    methods = {
        "new weights": lambda root, row, seed: trained(root, seed, "--config=quick.yaml", "--config=robust.yaml"),
        **{
            f"freeze {count}": lambda root, row, seed, count=count: trained(
                root, seed, *start, f"--model.freeze={count}"
            )
            for count in (0, depth // 2)
        },
        "head only, its normalisation": lambda root, row, seed: head_only(checkpoint, row, seed, own=False),
        "head only, the pictures'": lambda root, row, seed: head_only(checkpoint, row, seed, own=True),
    }
    file = values.out / "transfer.json"
    done = json.loads(file.read_text()) if file.is_file() else {}
    for seed in values.seeds:
        for row in values.rows:
            root = values.out / row / str(seed)
            root = root / "pictures.csv" if root.is_dir() else written(row, seed, root)
            for name, method in methods.items():
                key = f"{name}/{row}/{seed}"
                if key not in done:
                    done[key] = method(root.absolute(), row, seed)
                    file.write_text(json.dumps(done, indent=1))
    lines = [["", *values.rows]]
    for name in methods:
        shares = [[100 * done[f"{name}/{row}/{seed}"] for seed in values.seeds] for row in values.rows]
        lines.append([name, *(f"{statistics.mean(each):.1f} ({min(each):.1f} to {max(each):.1f})" for each in shares)])
    print(markdown(lines[0], lines[1:]))


if __name__ == "__main__":
    main()
