"""`gfnet report [RUN…]`: how good a run is and why it errs, on one page; several runs are compared."""

import contextlib
import json
import logging
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gfnet_pl.errors import OneLineParser, UserError
from gfnet_pl.evaluation.results import METRICS
from gfnet_pl.report.analysis import Missing, analyse
from gfnet_pl.report.page import render, write
from gfnet_pl.report.run import Run, checkpoint_to_test, newest_run, read_if_tested, read_run

log = logging.getLogger(__name__)


def run_report(args: list[str]) -> None:
    """Runs `gfnet report`. A run that has not been tested is tested first.

    Raises:
        UserError: The command line is wrong, or a run cannot be read.
    """
    parser = OneLineParser("gfnet report", description="How good a run is and why it errs, on one page to look at.")
    parser.add_argument(
        "runs", metavar="RUN", type=Path, nargs="*", help="runs/<stage>/version_N; left out, the newest. More: compared"
    )
    parser.add_argument(
        "--out", metavar="FILE.html", type=Path, help="the page; left out, report.html in the first run"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON, and write no page")
    values = parser.parse_args(args)
    if values.out and not values.out.absolute().parent.is_dir():
        raise UserError(f"--out: {values.out.parent} is not a folder; make it first")
    folders = values.runs or [newest_run()]
    runs = [_tested(folder) for folder in dict.fromkeys(folders)]
    if values.json:
        print(json.dumps([_figures(run) for run in runs], indent=1, allow_nan=False))
        return
    file = values.out or runs[0].folder / "report.html"
    write(file, render(runs[0], analyse(runs[0]), runs[1:]))
    log.info("%s: open it in a browser", file)


def _tested(folder: Path) -> Run:
    checkpoint = checkpoint_to_test(folder)
    if run := read_if_tested(folder):
        return run
    from gfnet_pl.training.lightning_cli import run_trainer

    log.info("%s has not been tested since it was trained: testing %s", folder, checkpoint.name)
    command = ["test", "--ckpt_path", str(checkpoint)]
    with contextlib.redirect_stdout(sys.stderr):  # --json promises nothing but JSON
        run_trainer(command, command)
    return read_run(folder)


def _figures(run: Run) -> dict[str, Any]:
    """What the page says, as plain values: metrics.json, and what stands beside it."""
    analysis = analyse(run)
    overlap, field = analysis.overlap, analysis.field
    return {
        "run": str(run.folder),
        "sessions": run.sessions,
        "settings": run.source.settings,
        "splits": run.counts,
        **json.loads((run.folder / METRICS).read_text()),
        "near_twins_in_training": _or_reason(analysis.leaks),
        "overlap": _or_reason(overlap)
        if isinstance(overlap, Missing)
        else {
            **asdict(overlap.explanation),
            "verdict": overlap.explanation.verdict,
            "pairs": [
                {
                    "classes": [run.results.classes[pair.a], run.results.classes[pair.b]],
                    "mistaken": [pair.a_as_b, pair.b_as_a],
                    "overlap_in_pixels": float(overlap.pixels[pair.a, pair.b]),
                    "overlap_in_features": float(overlap.features[pair.a, pair.b]),
                }
                for pair in overlap.pairs
            ],
        },
        "filter_energy_by_radius": analysis.filters.energy.tolist(),
        "receptive_radius": _or_reason(field) if isinstance(field, Missing) else field[1].tolist(),
        "curves": run.curves,
    }


def _or_reason(part: object) -> object:
    return {"missing": part.reason} if isinstance(part, Missing) else part
