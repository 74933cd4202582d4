"""How good the net of `make fit` is: the same commands with several seeds, in float32 and in bf16, machine by machine.

    python benchmarks/seeds.py run DIR --precision bf16-mixed --seeds 1 2 3   # finished seeds in DIR are kept
    python benchmarks/seeds.py collect DIR --machine "AMD EPYC, 2 cores"      # into seeds.json, README.md and docs/
    python benchmarks/seeds.py check                                          # is the newest run as good as these?

The splits are the same for every seed (`--data.seed 1`). Without --precision, `gfnet fit` chooses. `make fit` ends with
`check`, which prints one line. A run is as expected if it lies in the interval in which 95 of 100 further seeds would
(Student's, for one more value from the same distribution).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measuring import markdown, write_between
from scipy.stats import t as student

from gfnet_pl import __version__
from gfnet_pl.run.folder import RUNS, RunFolder, newest_run
from gfnet_pl.run.record import read_sessions
from gfnet_pl.run.result_files import read_metrics

SEEDS = Path(__file__).parent / "seeds.json"
README = Path(__file__).parents[1] / "README.md"
DOCUMENT = Path(__file__).parents[1] / "docs" / "performance.md"
RECIPE = ["--config", "base.yaml", "--config", "quick.yaml", "--config", "robust.yaml"]
FIGURES = {
    "val": "validation (same signers)",
    "holdout": "holdout (same signers)",
    "test": "test (later frames)",
    "unseen": "unseen signers",
    "worst": "worst unseen signer",
}
JUDGED = {"val": "validation", "unseen": "unseen signers"}


def figures(run: RunFolder) -> dict[str, float]:
    """Accuracy of each set in percent, and that of the unseen signer with the lowest."""
    sets = read_metrics(run)["sets"]
    found = {name: 100 * sets[name]["accuracy"]["share"] for name in FIGURES if name in sets}
    return found | {"worst": 100 * min(group["share"] for group in sets["unseen"]["groups"].values())}


def expected(values: Sequence[float]) -> tuple[float, float]:
    """The interval in which one more value lies 95 times in 100, cut at 100 %."""
    half = student.ppf(0.975, len(values) - 1) * statistics.stdev(values) * (1 + 1 / len(values)) ** 0.5
    return statistics.mean(values) - half, min(100.0, statistics.mean(values) + half)


def run(folder: Path, precision: str | None, seeds: Sequence[int]) -> None:
    for seed in seeds:
        place = folder / f"{precision or 'chosen'}-{seed}"
        if (place / "minutes").is_file():
            continue
        place.mkdir(parents=True, exist_ok=True)
        options = ["--seed_everything", str(seed), "--data.seed", "1"]
        options += ["--trainer.precision", precision] if precision else []
        start = time.perf_counter()
        for command in (["fit", *RECIPE, *options], ["test"]):
            subprocess.run([sys.executable, "-m", "gfnet_pl", *command], cwd=place, check=True, env=dict(os.environ))
        (place / "minutes").write_text(f"{(time.perf_counter() - start) / 60:.1f}")


def collect(folder: Path, machine: str) -> None:
    rows: list[dict[str, Any]] = json.loads(SEEDS.read_text()) if SEEDS.is_file() else []
    for found in sorted(folder.glob(f"*-*/{RUNS}/robust/version_0")):
        place = RunFolder(found)
        if place.metrics.is_file():
            session = read_sessions(place)[0]
            row = {key: session[key] for key in ("precision", "seed")} | {"version": __version__}
            rows = [each for each in rows if (each["machine"], *key(each)) != (machine, *key(row))]
            rows.append(row | {"machine": machine} | {name: round(value, 2) for name, value in figures(place).items()})
    SEEDS.write_text(json.dumps(sorted(rows, key=key), indent=1) + "\n")
    write_between(README, "seeds", f"{summary(rows)}\n\n{what_to_expect(rows)}")
    write_between(DOCUMENT, "seeds", f"{summary(rows)}\n\n{every_seed(rows)}")


def key(row: dict[str, Any]) -> tuple[str, int]:
    return row["precision"], int(row["seed"])


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """Mean, standard deviation and range of each figure, for each machine and precision."""
    lines = []
    for machine, precision in sorted({(row["machine"], row["precision"]) for row in rows}):
        mine = [row for row in rows if (row["machine"], row["precision"]) == (machine, precision)]
        cells = [spread([row[name] for row in mine]) for name in measured(rows)]
        lines.append([f"{machine}, {precision}", str(len(mine)), *cells])
    return markdown(["machine and precision", "seeds", *headings(rows)], lines)


def every_seed(rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        [row["machine"], row["precision"], str(row["seed"]), *[f"{row[name]:.2f}" for name in measured(rows)]]
        for row in sorted(rows, key=key)
    ]
    return markdown(["machine", "precision", "seed", *headings(rows)], lines)


def measured(rows: Sequence[dict[str, Any]]) -> list[str]:
    return [name for name in FIGURES if all(name in row for row in rows)]


def headings(rows: Sequence[dict[str, Any]]) -> list[str]:
    return [FIGURES[name] for name in measured(rows)]


def spread(values: Sequence[float]) -> str:
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{deviation} ({min(values):.1f} to {max(values):.1f})"


def what_to_expect(rows: Sequence[dict[str, Any]]) -> str:
    ends = [expected([row[name] for row in rows]) for name in JUDGED]
    words = [f"{low:.0f} to {high:.0f} % on {word}" for word, (low, high) in zip(JUDGED.values(), ends, strict=True)]
    return f"Expect {' and '.join(words)}: 95 of 100 further seeds would lie there."


def check() -> None:
    found, rows = figures(newest_run()), json.loads(SEEDS.read_text())
    words, verdict = [], "as expected"
    for name, word in JUDGED.items():
        low, high = expected([row[name] for row in rows])
        words.append(f"{word} {found[name]:.1f} % ({low:.0f} to {high:.0f})")
        if found[name] < low:
            verdict = "worse than expected (see docs/performance.md)"
        elif found[name] > high and verdict == "as expected":
            verdict = "better than expected"
    print(f"{verdict}: {', '.join(words)}")


def main(args: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run")
    running.add_argument("folder", type=Path)
    running.add_argument("--precision")
    running.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5, 6])
    collecting = commands.add_parser("collect")
    collecting.add_argument("folder", type=Path)
    collecting.add_argument("--machine", required=True, help="what the seeds ran on, for the tables")
    commands.add_parser("check")
    options = parser.parse_args(args)
    if options.command == "run":
        run(options.folder.absolute(), options.precision, options.seeds)
    elif options.command == "collect":
        collect(options.folder.absolute(), options.machine)
    else:
        check()


if __name__ == "__main__":
    main()
