"""What K folds found over all pictures, each scored by the net that was not trained on it.

- `folds.json` in the run of each fold: the figures over all pictures, and the runs they are of.
- `folds.csv` in the run of the first fold: path, fold, run, group, label, prediction, probability and the three
  likeliest classes of each picture.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from gfnet_pl.data.splits import read_splits
from gfnet_pl.errors import UserError
from gfnet_pl.evaluation.calibration import Calibration, probabilities
from gfnet_pl.evaluation.figures import Promise, SetFigures, Share, set_figures
from gfnet_pl.files import read_json, reading, replacing, sha256
from gfnet_pl.run.folder import LAST, RunFolder, all_runs
from gfnet_pl.run.predictions import likeliest
from gfnet_pl.run.record import read_sessions
from gfnet_pl.run.results import Results, SetResults
from gfnet_pl.tables import write_rows

HOW_TO_READ = (
    "The nets are those of last.ckpt: each best.ckpt was chosen on the pictures that are scored here, and would seem "
    "better than it is. The interval does not say how far another seed would move the figure."
)
_SET = "all"
_MOST_CLASSES = 40  # rows in the terminal; all are in the file
_COLUMNS = ("path", "fold", "run", "group", "label", "prediction", "probability", "top3")


@dataclass(frozen=True)
class Pooled:
    """The figures over the pictures of all folds.

    Attributes:
        of: SHA-256 of each fold's last checkpoint by run, "stage/version", in the order of the folds.
        pictures: Number of pictures.
        right: Those that are right.
        accuracy: right / pictures.
        low: Lower end of its 95 % interval, over people if every fold was of people that its net did not know.
        high: Upper end.
        people: Who is on the pictures, seen from the nets that scored them, see `figures.People`.
        macro_accuracy: Mean accuracy of the classes.
        folds: Accuracy on each fold.
        classes: Accuracy by class.
    """

    of: dict[str, str]
    pictures: int
    right: int
    accuracy: float
    low: float
    high: float
    people: str
    macro_accuracy: float
    folds: list[Share]
    classes: dict[str, Share]

    @property
    def sentence(self) -> str:
        """The figure in one sentence."""
        return (
            f"{self.right:,} of {self.pictures:,} pictures are right, {self.accuracy:.1%} (95 %: {100 * self.low:.1f} "
            f"to {100 * self.high:.1f}), each by the one of {len(self.of)} nets that was not trained on it"
        )


def pool(runs: Sequence[RunFolder], results: Sequence[Results]) -> tuple[Pooled, SetResults]:
    """Puts the validation sets of all folds together.

    Args:
        runs: The run of each fold, in order.
        results: What the test of its last checkpoint found.

    Raises:
        UserError: The runs are not the folds of the same pictures.
    """
    sets = [each.sets["val"] for each in results]
    everything = SetResults.joined(sets)
    divided = [
        {picture.path for picture in read_splits(run.splits) if picture.split in ("train", "val", "unused")}
        for run in runs
    ]
    scored = [picture.path for picture in everything.pictures]
    same = all(each == divided[0] for each in divided) and len({tuple(each.classes) for each in results}) == 1
    if not same or len(set(scored)) != len(scored) or not divided[0].issuperset(scored):
        raise UserError(
            f"{', '.join(run.name for run in runs)} are not the folds of the same pictures: the data have changed "
            "between them; remove these runs, or give another --stage"
        )
    judged = Calibration().judge(everything.logits, everything.features)
    figures = set_figures(everything.logits, everything.labels, everything.groups, results[0].classes, judged)
    return _pooled(runs, results, figures), everything


def _pooled(runs: Sequence[RunFolder], results: Sequence[Results], figures: SetFigures) -> Pooled:
    known = [_SET] if any("val" in each.known for each in results) else []
    promise = Promise.of(_SET, figures, known)
    return Pooled(
        of={run.name: each.checkpoint["sha256"] for run, each in zip(runs, results, strict=True)},
        pictures=figures.accuracy.images,
        right=figures.accuracy.right,
        accuracy=figures.accuracy.share or 0.0,
        low=promise.low,
        high=promise.high,
        people=promise.people.value,
        macro_accuracy=figures.macro_accuracy,
        folds=[each.figures["val"].accuracy for each in results],
        classes={name: each.recall for name, each in figures.classes.items()},
    )


def write_pooled(runs: Sequence[RunFolder], pooled: Pooled, everything: SetResults, classes: Sequence[str]) -> None:
    """Writes the files that the docstring of this module lists, in place of earlier ones.

    Args:
        runs: The run of each fold, in order.
        pooled: The figures.
        everything: The pictures of all folds with the outputs of their nets, fold after fold.
        classes: Names in the order of the logits.
    """
    of_fold = [(number, run) for number, run in enumerate(runs, 1) for _ in range(pooled.folds[number - 1].images)]
    named = likeliest(probabilities(everything.logits), classes)
    with replacing(runs[0].folds_predictions) as file:
        rows = (
            (picture.path, fold, run.name, picture.group, picture.label, *words)
            for picture, (fold, run), words in zip(everything.pictures, of_fold, named, strict=True)
        )
        write_rows(file, [_COLUMNS, *rows])
    for run in runs:
        with replacing(run.folds) as file:
            file.write(json.dumps(asdict(pooled), indent=1, allow_nan=False) + "\n")


def read_pooled(run: RunFolder) -> Pooled | None:
    """Reads the figures over all folds from the run of one of them; None if there are none, or if it has gone on since.

    Raises:
        UserError: They cannot be read.
    """
    if not run.folds.is_file():
        return None
    with reading(run.folds, "remove it"):
        found: dict[str, Any] = read_json(run.folds)
        folds = [Share(**each) for each in found["folds"]]
        classes = {name: Share(**each) for name, each in found["classes"].items()}
        pooled = Pooled(**found | {"folds": folds, "classes": classes})
        return pooled if sha256(run.checkpoint(LAST)) in pooled.of.values() else None


def finished_fold(stage: str, config: str) -> RunFolder | None:
    """The newest run of a stage with exactly this config that has all its epochs; None if there is none."""
    return next((run for run in all_runs() if run.stage == stage and _has_finished(run, config)), None)


def _has_finished(run: RunFolder, config: str) -> bool:
    try:
        same = run.config.read_text(encoding="utf-8") == config
    except (OSError, ValueError):
        return False
    return (
        same
        and run.checkpoint(LAST).is_file()
        and any(session.get("state") == "finished" for session in read_sessions(run)[-1:])
    )


def pooled_table(pooled: Pooled, *, caption: str) -> Table:
    """A row for all pictures, for each fold, and for each class, the worst first."""
    title = f"{len(pooled.of)} folds, {pooled.people}"
    table = Table(title=Text(title), caption=Text(caption), box=None, padding=(0, 2, 0, 0))
    for heading in ("", "pictures", "right", "accuracy", "95 %"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    overall = Share(pooled.right, pooled.pictures, pooled.accuracy, pooled.low, pooled.high)
    table.add_row(*_row("all pictures", overall))
    table.add_row("mean of the classes", "", "", f"{pooled.macro_accuracy:.1%}", "", end_section=True)
    for number, (run, share) in enumerate(zip(pooled.of, pooled.folds, strict=True), 1):
        table.add_row(*_row(f"fold {number}: {run}", share), end_section=number == len(pooled.folds))
    worst = sorted(pooled.classes.items(), key=lambda item: item[1].share or 0.0)
    for name, share in worst[:_MOST_CLASSES]:
        table.add_row(*_row(name, share))
    if more := len(worst) - _MOST_CLASSES:
        table.add_row(f"and {more:,} more classes" if more > 0 else "", *[""] * 4)
    return table


def _row(name: str, share: Share) -> tuple[Text | str, ...]:
    return (
        Text(name),
        f"{share.images:,}",
        f"{share.right:,}",
        f"{share.share:.1%}" if share.share is not None else "-",
        f"{100 * share.low:.1f}-{100 * share.high:.1f}",
    )
