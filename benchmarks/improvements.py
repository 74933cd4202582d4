"""What helps after the base stage: variants of polishing, each from the same checkpoint, over several seeds.

Trains the runs that do not exist yet (`gfnet fit --config polish.yaml --config VARIANT.yaml --ckpt_path BASE …`, with
the configs in benchmarks/polish), tests each run's best checkpoint and prints the table of docs/improvements.md. Start
it in the folder that contains runs/:

    gfnet fit --config base.yaml --config quick.yaml --config robust.yaml
    python benchmarks/improvements.py --base runs/robust/version_0
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import torch
from scipy.stats import t

from gfnet_pl.run.folder import RunFolder
from gfnet_pl.run.result_files import read_results
from gfnet_pl.run.results import Results

GFNET = Path(sys.executable).with_name("gfnet")
POLISH = Path(__file__).parent.resolve() / "polish"
VARIANTS = (  # stages; each but the first is a config in POLISH
    "polish",
    "polish-lower-lr",
    "polish-more-dropout",
    "polish-less-dropout",
    "polish-cosine",
    "polish-confusing",
)
SETS = ("val", "holdout", "unseen")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="run whose last.ckpt all variants start from")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=5, help="epochs per polish")
    values = parser.parse_args()
    base = tested(values.base)
    print("| variant | " + " | ".join(f"{name} | against polish" for name in SETS) + " |")
    print("|---|" + "---|---|" * len(SETS))
    row("no polish", [base], None)
    control: list[Results] = []
    for variant in VARIANTS:
        found = [tested(trained(values.base, variant, seed, values.epochs)) for seed in values.seeds]
        control = control or found
        row(variant, found, None if found is control else control)


def trained(base: Path, variant: str, seed: int, epochs: int) -> Path:
    """The run of a variant and a seed; it is trained if there is none."""
    if (folder := find(variant, seed, epochs)) is None:
        over = [] if variant == "polish" else ["--config", str(POLISH / f"{variant.removeprefix('polish-')}.yaml")]
        if variant == "polish-confusing":
            over += ["--emphasis_from", str(base)]
        start = ["--ckpt_path", str(base / "checkpoints" / "last.ckpt"), "--seed_everything", str(seed)]
        length = ["--trainer.max_epochs", str(epochs), "--trainer.enable_progress_bar", "false"]
        command = [str(GFNET), "fit", "--config", "polish.yaml", *over, *start, *length]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        folder = find(variant, seed, epochs)
    assert folder is not None
    return folder


def find(variant: str, seed: int, epochs: int) -> Path | None:
    """A finished run of this variant, seed and number of epochs."""
    for record in sorted(Path("runs", variant).glob("*/run.json")):
        last = record.parent / "checkpoints" / "last.ckpt"
        if json.loads(record.read_text())[-1]["seed"] == str(seed) and last.is_file():
            if torch.load(last, map_location="cpu", weights_only=True)["epoch"] + 1 == epochs:
                return record.parent
    return None


def tested(folder: Path) -> Results:
    if (found := read_results(RunFolder(folder))) is None:
        command = [str(GFNET), "test", "--ckpt_path", str(folder / "checkpoints" / "best.ckpt")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ)
        found = read_results(RunFolder(folder))
    assert found is not None
    return found


def row(name: str, runs: list[Results], control: list[Results] | None) -> None:
    """Mean accuracy with the middle seed's interval; mean difference to the control over seeds, with its interval."""
    cells = [name]
    for part in SETS:
        shares = [run.figures[part].accuracy.share for run in runs]
        middle = sorted(runs, key=lambda run: run.figures[part].accuracy.right)[len(runs) // 2].figures[part]
        low, high = (
            middle.new_groups if part == "unseen" and middle.new_groups else (middle.accuracy.low, middle.accuracy.high)
        )
        cells.append(f"{100 * statistics.mean(shares):.2f} ({100 * low:.1f} to {100 * high:.1f})")
        if control is None:
            cells.append("")
            continue
        differences = [
            100 * (share - run.figures[part].accuracy.share) for share, run in zip(shares, control, strict=True)
        ]
        half = statistics.stdev(differences) / len(differences) ** 0.5 * t.ppf(0.975, len(differences) - 1)
        cells.append(f"{statistics.mean(differences):+.2f} ± {half:.2f}")
    print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
