"""How many of the "labels to check" are wrong: trains on the embedded data with some labels made wrong, and counts.

    python benchmarks/labels.py WORK                     # 3 % wrong, quick.yaml and robust.yaml
    python benchmarks/labels.py WORK --plain             # without augmentation: a net that knows its pictures by heart
    python benchmarks/labels.py WORK --share 0           # nothing wrong: what is suspected without a cause

The pictures are those of 24 signers, at 48 x 48 pixels, so that it takes minutes. WORK is a folder for the data and the
runs. Prints one line: of the first 40 pictures in the run's losses.csv, how many are wrong ones (precision at 40), and
which share of all wrong ones they are; the same for as many as are wrong; and what the report calls suspected.
"""

import argparse
import csv
import os
import random
from pathlib import Path

from gfnet_pl.cli import main
from gfnet_pl.hand_signs.files import write_hand_signs
from gfnet_pl.run.folder import RunFolder, new_run
from gfnet_pl.run.losses import read_losses, suspected

_FIRST = 40


def write_data(folder: Path, share: float, seed: int) -> set[str]:
    """Hand signs with a manifest in which `share` of the training labels are wrong; returns the paths of these."""
    write_hand_signs(folder, signers=24, frames=6, unseen_signers=8, seed=0)
    pictures = sorted(folder.glob("Train/*/*.png"))
    classes = sorted({path.parent.name for path in pictures})
    draw = random.Random(seed)
    wrong = set(draw.sample(pictures, round(share * len(pictures))))
    with (folder / "pictures.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "split", "group"))
        for path in [*pictures, *sorted(folder.glob("Unseen/*/*.png"))]:
            name, split = path.parent.name, path.parts[-3].lower()
            label = draw.choice([each for each in classes if each != name]) if path in wrong else name
            writer.writerow((path.relative_to(folder).as_posix(), label, split, path.name.partition("_")[0]))
    return {path.relative_to(folder).as_posix() for path in wrong}


def count(run: RunFolder, wrong: set[str]) -> str:
    """What the list of a run finds."""
    losses = read_losses(run)
    is_wrong = [each.path in wrong for each in losses]
    total, doubted = sum(is_wrong), suspected(losses)

    def among(first: int) -> str:
        found = sum(is_wrong[:first])
        return f"{found} of the first {first} ({found / max(1, total):.0%} of all)"

    return f"{total} of {len(losses):,} wrong: {among(_FIRST)}; {among(total)}; suspected: {among(doubted)}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--share", type=float, default=0.03)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    values = parser.parse_args()
    values.work.mkdir(parents=True, exist_ok=True)
    os.chdir(values.work)
    folder = Path(f"pictures-{values.share}-{values.seed}")
    made_wrong = write_data(folder, values.share, values.seed)
    configs = ["base.yaml", "quick.yaml", *([] if values.plain else ["robust.yaml"])]
    words = ["fit", *(word for config in configs for word in ("--config", config))]
    stage = "plain" if values.plain else "robust"
    kept = new_run(stage)
    words += [f"--data.root={folder / 'pictures.csv'}", "--model.image_size=48", f"--stage={stage}"]
    raise SystemExit(main(words) or print(count(kept, made_wrong)))
