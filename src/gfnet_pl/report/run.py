"""A run's folder as the report reads it: the tested checkpoint, its results, its record, its curves."""

import csv
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gfnet_pl.errors import UserError
from gfnet_pl.evaluation.results import Results, read_results, sha256
from gfnet_pl.names import find_checkpoint
from gfnet_pl.training.warm_start import Source

Curve = list[tuple[float, float]]

_CURVES = ("train/accuracy", "val/accuracy", "train/loss", "val/loss", "train/lr", "train/images_per_second")


@dataclass(frozen=True)
class Run:
    """A run that has been tested.

    Attributes:
        folder: `runs/<stage>/version_N`.
        source: The checkpoint that was tested; its `epochs` are those before it was written, not the run's.
        results: What `gfnet test` left.
        sessions: run.json: an entry for each `gfnet fit` that worked on it.
        curves: (epoch, value) by TensorBoard tag; empty where the events are gone.
        counts: Pictures by split.
    """

    folder: Path
    source: Source
    results: Results
    sessions: list[dict[str, Any]]
    curves: dict[str, Curve]
    counts: dict[str, int]

    @property
    def name(self) -> str:
        """Such as "robust/version_0"."""
        return "/".join(self.folder.absolute().parts[-2:])


def newest_run() -> Path:
    """The folder of the run that wrote a checkpoint last.

    Raises:
        UserError: There is none.
    """
    return find_checkpoint("last.ckpt").parent.parent


def checkpoint_to_test(folder: Path) -> Path:
    """A run's best checkpoint, else its last.

    Raises:
        UserError: It has neither, or is no run.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} does not exist; name the folder of a run, runs/<stage>/version_N")
    for name in ("best.ckpt", "last.ckpt"):
        if (folder / "checkpoints" / name).is_file():
            return folder / "checkpoints" / name
    raise UserError(
        f"{folder} has no checkpoint: there is nothing to report until gfnet fit has finished an epoch of it"
    )


def read_run(folder: Path) -> Run:
    """Reads a run that has been tested.

    Raises:
        UserError: It has not been tested since it was trained, or something in it is missing or cannot be read.
    """
    if (run := read_if_tested(folder)) is None:
        raise UserError(f"{folder} has not been tested since it was trained; run gfnet test")
    return run


def read_if_tested(folder: Path) -> Run | None:
    """Reads a run; None where there are no results, or those of older weights.

    Raises:
        UserError: Something in it is missing or cannot be read.
    """
    if (results := read_results(folder)) is None:
        return None
    checkpoint = folder / "checkpoints" / Path(results.checkpoint["path"]).name
    if not checkpoint.is_file() or sha256(checkpoint) != results.checkpoint["sha256"]:
        return None
    try:
        record = folder / "run.json"
        sessions = json.loads(record.read_text()) if record.is_file() else []
        with (folder / "splits.csv").open(newline="", encoding="utf-8") as file:
            counts = Counter(row["split"] for row in csv.DictReader(file))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder}: its record cannot be read ({' '.join(str(error).split())})") from None
    return Run(folder, Source.load(checkpoint), results, sessions, read_curves(folder), dict(counts))


def read_curves(folder: Path) -> dict[str, Curve]:
    """What TensorBoard's events say over training, in finished epochs."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    known = events.Tags()["scalars"]
    by_epoch = {
        tag: [(event.step + 1.0, event.value) for event in events.Scalars(tag)] for tag in known if tag in _CURVES
    }
    last = max((x for tag in ("train/accuracy", "val/accuracy") for x, _ in by_epoch.get(tag, [])), default=0.0)
    for tag in ("train/loss", "train/lr"):  # their steps are the optimizer's
        if by_epoch.get(tag) and last:
            steps = by_epoch[tag][-1][0]
            by_epoch[tag] = [(step / steps * last, value) for step, value in by_epoch[tag]]
    return {tag: curve for tag, curve in by_epoch.items() if curve}
