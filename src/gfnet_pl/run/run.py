"""A tested run, as `gfnet report` reads it: the tested checkpoint, its results, the run's record and its curves."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gfnet_pl.errors import UserError
from gfnet_pl.files import sha256
from gfnet_pl.run.checkpoint import Checkpoint
from gfnet_pl.run.curves import Curve, read_curves
from gfnet_pl.run.export import Export, export_of
from gfnet_pl.run.folder import LAST, RunFolder
from gfnet_pl.run.folds import Pooled, read_pooled
from gfnet_pl.run.learning_curve import LearningCurve, read_learning_curve
from gfnet_pl.run.record import read_counts, read_sessions
from gfnet_pl.run.result_files import read_results
from gfnet_pl.run.results import Results


@dataclass(frozen=True)
class Run:
    """A run that has been tested.

    Attributes:
        folder: The folder of the run.
        checkpoint: The checkpoint that was tested. Its `epochs` count up to that checkpoint, not to the run's end.
        results: What `gfnet test` wrote.
        sessions: One entry per `gfnet fit` command that trained the run, see `record.provenance`.
        curves: (epoch, value) points by name, see `curves.read_curves`; empty if there are no TensorBoard events.
        learning_curve: What `gfnet curve` found about this checkpoint; None if it was not called since.
        export: What `gfnet export` found about this checkpoint; None if it was not called since.
        pooled: The figures over all folds of which the run is one; None if it is none.
        counts: Number of pictures by split.
        training_counts: Number of training pictures by class.
        trained_epochs: Number of epochs that the run finished, or those of the checkpoint if there is no last one.
    """

    folder: RunFolder
    checkpoint: Checkpoint
    results: Results
    sessions: list[dict[str, Any]]
    curves: dict[str, Curve]
    learning_curve: LearningCurve | None
    export: Export | None
    pooled: Pooled | None
    counts: dict[str, int]
    training_counts: dict[str, int]
    trained_epochs: int

    @property
    def name(self) -> str:
        """Stage and version, for example "robust/version_0"."""
        return self.folder.name


def read_run(folder: RunFolder) -> Run:
    """Reads a run that has been tested.

    Raises:
        UserError: It has not been tested since it was trained, or something in it is missing or cannot be read.
    """
    if (run := read_if_tested(folder)) is None:
        raise UserError(f"{folder.path} has not been tested since it was trained; run gfnet test")
    return run


def read_if_tested(folder: RunFolder) -> Run | None:
    """Reads a run; None if there are no results, or if they are those of other weights.

    Raises:
        UserError: Something in it is missing or cannot be read.
    """
    if (results := read_results(folder)) is None:
        return None
    path = folder.checkpoint(Path(results.checkpoint["path"]).name)
    if not path.is_file() or sha256(path) != results.checkpoint["sha256"]:
        return None
    checkpoint, last = Checkpoint.load(path), folder.checkpoint(LAST)
    counts, of_classes = read_counts(checkpoint.own_splits or folder.splits)
    grown = read_learning_curve(folder)
    return Run(
        folder=folder,
        checkpoint=checkpoint,
        results=results,
        sessions=read_sessions(folder),
        curves=read_curves(folder),
        learning_curve=grown if grown and grown.of == results.checkpoint["sha256"] else None,
        export=export_of(folder),
        pooled=read_pooled(folder),
        counts=counts,
        training_counts=of_classes,
        trained_epochs=Checkpoint.load(last).epochs if last.is_file() else checkpoint.epochs,
    )
