"""A tested run, as `gfnet report` reads it: the tested checkpoint, its results, the run's record and its curves."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gfnet_pl.errors import UserError
from gfnet_pl.run.checkpoint import Checkpoint
from gfnet_pl.run.folder import RunFolder
from gfnet_pl.run.record import read_counts, read_sessions
from gfnet_pl.run.results import Results, read_results, sha256

Curve = list[tuple[float, float]]

_CURVES = ("train/accuracy", "val/accuracy", "train/loss", "val/loss", "train/lr", "train/images_per_second")


@dataclass(frozen=True)
class Run:
    """A run that has been tested.

    Attributes:
        folder: The folder of the run.
        checkpoint: The checkpoint that was tested. Its `epochs` count up to that checkpoint, not to the run's end.
        results: What `gfnet test` wrote.
        sessions: One entry per `gfnet fit` command that trained the run, see `record.provenance`.
        curves: (epoch, value) points by TensorBoard tag; empty if there are no TensorBoard events.
        counts: Number of pictures by split.
    """

    folder: RunFolder
    checkpoint: Checkpoint
    results: Results
    sessions: list[dict[str, Any]]
    curves: dict[str, Curve]
    counts: dict[str, int]

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
    return Run(
        folder=folder,
        checkpoint=Checkpoint.load(path),
        results=results,
        sessions=read_sessions(folder),
        curves=read_curves(folder),
        counts=read_counts(folder),
    )


def read_curves(folder: RunFolder) -> dict[str, Curve]:
    """Reads the curves of training from the TensorBoard events; their x values are finished epochs."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    events = EventAccumulator(str(folder.path), size_guidance={"scalars": 0}).Reload()
    known = events.Tags()["scalars"]
    by_epoch = {
        tag: [(event.step + 1.0, event.value) for event in events.Scalars(tag)] for tag in known if tag in _CURVES
    }
    last = max((x for tag in ("train/accuracy", "val/accuracy") for x, _ in by_epoch.get(tag, [])), default=0.0)
    for tag in ("train/loss", "train/lr"):  # their x values are optimizer steps
        if by_epoch.get(tag) and last:
            steps = by_epoch[tag][-1][0]
            by_epoch[tag] = [(step / steps * last, value) for step, value in by_epoch[tag]]
    return {tag: curve for tag, curve in by_epoch.items() if curve}
