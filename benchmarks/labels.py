"""How many of the "labels to check" are wrong: trains on pictures of which some have a wrong label, and counts.

    python benchmarks/labels.py WORK                     # 3 % wrong, quick.yaml and robust.yaml
    python benchmarks/labels.py WORK --plain             # without augmentation: a net that knows its pictures by heart
    python benchmarks/labels.py WORK --share 0           # nothing wrong: what is suspected without a cause
    python benchmarks/labels.py WORK --data DIR          # your pictures, in class folders, as gfnet fit DIR trains

Further words are options of gfnet fit.

Without --data the pictures are embedded ones, of 24 signers at 48 x 48 pixels, so that it takes minutes. WORK is a
folder for data and runs. Prints one line: of the first 40 pictures in the run's losses.csv, how many are wrong ones,
and which share of all wrong ones they are; the same of as many as are wrong; and of the suspected ones.
"""

import argparse
import csv
import os
import random
import shutil
from pathlib import Path

from gfnet_pl.cli import main
from gfnet_pl.hand_signs.files import write_hand_signs
from gfnet_pl.run.folder import RunFolder, new_run
from gfnet_pl.run.losses import read_losses, suspected

_FIRST = 40
_EMBEDDED = ["--config", "base.yaml", "--config", "quick.yaml", "--model.image_size=48"]


def write_data(folder: Path, data: Path | None, share: float, seed: int) -> set[str]:
    """Pictures and a manifest in which `share` of the labels are wrong; returns the paths of these."""
    if data:
        shutil.copytree(data, folder, dirs_exist_ok=True)
        pictures = sorted(path for path in folder.glob("*/*") if path.is_file())
    else:
        write_hand_signs(folder, signers=24, frames=6, unseen_signers=8, seed=0)
        pictures = sorted(folder.glob("Train/*/*.png"))
    classes = sorted({path.parent.name for path in pictures})
    draw = random.Random(seed)
    wrong = set(draw.sample(pictures, round(share * len(pictures))))
    with (folder / "pictures.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label"))
        for path in pictures:
            name = path.parent.name
            label = draw.choice([each for each in classes if each != name]) if path in wrong else name
            writer.writerow((path.relative_to(folder).as_posix(), label))
    return {path.relative_to(folder).as_posix() for path in wrong}


def count(run: RunFolder, wrong: set[str]) -> str:
    """What the list of a run finds."""
    losses = read_losses(run)
    is_wrong = [each.path in wrong for each in losses]
    total = sum(is_wrong)

    def among(first: int) -> str:
        found = sum(is_wrong[:first])
        return f"{found} of the first {first} ({found / max(1, total):.0%} of all)"

    return f"{total} of {len(losses):,} wrong: {among(_FIRST)}; {among(total)}; suspected: {among(suspected(losses))}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--share", type=float, default=0.03)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    values, options = parser.parse_known_args()
    values.work.mkdir(parents=True, exist_ok=True)
    data = values.data and values.data.absolute()
    os.chdir(values.work)
    folder = Path(f"pictures-{data.name if data else 'hands'}-{values.share}-{values.seed}")
    made_wrong = write_data(folder, data, values.share, values.seed)
    settings: list[str] = [] if data else [*_EMBEDDED, *([] if values.plain else ["--config", "robust.yaml"])]
    kept = new_run("labels")
    status = main(["fit", *settings, f"--data.root={folder / 'pictures.csv'}", "--stage=labels", *options])
    raise SystemExit(status or print(count(kept, made_wrong)))
