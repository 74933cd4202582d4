"""Splits files for training pictures drawn class by class, and for as many drawn at random: does the imbalance matter?

    python benchmarks/random_subset.py hands --per-class 1428
    gfnet fit --config base.yaml --data.root hands --data.splits hands-by-class.csv
    gfnet fit --config base.yaml --data.root hands --data.splits hands-at-random.csv

All other sets are the same in both, those of base.yaml.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np

from gfnet_pl import ImageDataModule
from gfnet_pl.data.manifest import write_manifest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root")
    parser.add_argument("--per-class", type=int, required=True, help="training pictures, in the mean")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    data = ImageDataModule(options.root, seed=options.seed, holdout_per_class=200, train_per_class=options.per_class)
    data.prepare_data()
    pool = [picture for picture in data.pictures if picture.split in ("train", "unused")]
    rest = [picture for picture in data.pictures if picture.split not in ("train", "unused")]
    taken = sum(picture.split == "train" for picture in pool)
    drawn = set(np.random.default_rng(options.seed).permutation(len(pool))[:taken].tolist())
    at_random = [picture._replace(split="train" if n in drawn else "unused") for n, picture in enumerate(pool)]
    for name, pictures in (("by-class", pool), ("at-random", at_random)):
        counts = Counter(picture.label for picture in pictures if picture.split == "train")
        (rarest, least), (commonest, most) = counts.most_common()[-1], counts.most_common(1)[0]
        file = Path(f"{Path(options.root).name}-{name}.csv")
        write_manifest(file, [*rest, *pictures])
        print(f"{file}: {taken:,} training pictures, {least:,} of {rarest} to {most:,} of {commonest}")


if __name__ == "__main__":
    main()
