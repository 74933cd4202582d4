"""`gfnet report [RUN…]`: how good a run is and why it makes errors, on one page; several runs are compared."""

import json
import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gfnet_pl.errors import OneLineParser
from gfnet_pl.files import check_output, replacing
from gfnet_pl.report.analysis import Missing, OfPictures, analyse
from gfnet_pl.report.page import render
from gfnet_pl.report.people import of_people
from gfnet_pl.run.folder import RunFolder, newest_run
from gfnet_pl.run.result_files import read_metrics
from gfnet_pl.run.run import Run, read_if_tested, read_run

log = logging.getLogger(__name__)


def run_report(args: list[str], test: Callable[[Path], None]) -> None:
    """Runs `gfnet report`.

    Args:
        args: The words after `gfnet report`.
        test: Tests a checkpoint. It is called for a run that has not been tested since it was trained.

    Raises:
        UserError: The command line is wrong, or a run cannot be read.
    """
    parser = OneLineParser("gfnet report", description="How good a run is and why it errs, on one page to look at.")
    words = "runs/<stage>/version_N; default: the newest. More than one: the first is compared with the others"
    parser.add_argument("runs", metavar="RUN", type=Path, nargs="*", help=words)
    parser.add_argument(
        "--out", metavar="FILE.html", type=Path, help="the page; default: report.html in the first run's folder"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON, and write no page")
    values = parser.parse_args(args)
    if values.out is not None:
        check_output("--out", values.out)
    folders = [RunFolder(path) for path in values.runs] or [newest_run()]
    runs = [_tested(folder, test) for folder in dict.fromkeys(folders)]
    if values.json:
        print(json.dumps([_figures(run) for run in runs], indent=1, allow_nan=False))
        return
    file = check_output("--out", values.out or runs[0].folder.report)
    page = render(runs[0], analyse(runs[0]), runs[1:])
    with replacing(file) as stream:  # a browser never reads a half-written page
        stream.write(page)
    log.info("%s: open it in a browser", file)


def _tested(folder: RunFolder, test: Callable[[Path], None]) -> Run:
    checkpoint = folder.checkpoint_to_test()
    if run := read_if_tested(folder):
        return run
    log.info("%s has not been tested since it was trained: testing %s", folder.path, checkpoint.name)
    test(checkpoint)
    return read_run(folder)


def _figures(run: Run) -> dict[str, Any]:
    """The contents of the page as plain values: the stored figures and the results of the analysis."""
    analysis = analyse(run)
    return {
        "run": str(run.folder.path),
        "sessions": run.sessions,
        "settings": run.checkpoint.settings,
        "splits": run.counts,
        **read_metrics(run.folder),
        "what_goes_with_failures": {
            name: [asdict(each) for each in of_people(figures, run.results.properties)]
            for name, figures in run.results.figures.items()
        },
        **_of_pictures(analysis.pictures, run.results.classes),
        "filter_energy_by_radius": analysis.filters.energy.tolist(),
        "curves": run.curves,
        "export": run.export and asdict(run.export),
        "learning_curve": run.learning_curve and asdict(run.learning_curve),
    }


def _of_pictures(part: OfPictures | Missing, classes: list[str]) -> dict[str, Any]:
    if isinstance(part, Missing):
        return {
            name: {"missing": part.reason}
            for name in ("near_twins_in_training", "overlap", "receptive_radius", "labels_to_check")
        }
    overlap, (_, radius) = part.overlap, part.field
    return {
        "near_twins_in_training": part.leaks,
        "overlap": {
            **asdict(overlap.explanation),
            "verdict": overlap.explanation.verdict,
            "pairs": [
                {
                    "classes": [classes[pair.a], classes[pair.b]],
                    "mistaken": [pair.a_as_b, pair.b_as_a],
                    "overlap_in_pixels": float(overlap.pixels[pair.a, pair.b]),
                    "overlap_in_features": float(overlap.features[pair.a, pair.b]),
                }
                for pair in overlap.pairs
            ],
        },
        "receptive_radius": radius.tolist(),
        "labels_to_check": part.doubts
        and {
            "suspected": part.doubts.suspected,
            "pictures": part.doubts.pictures,
            "first": [each._asdict() for each in part.doubts.first],
        },
    }
