"""Where a run keeps its files: `runs/<stage>/version_N/`. No other room knows a file's name in there.

Lightning writes TensorBoard's events, and the checkpoints into the folder `checkpoints`.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from gfnet_pl.errors import UserError

RUNS = Path("runs")
BEST, LAST = "best.ckpt", "last.ckpt"
CONFIG = "config.yaml"
PREDICTIONS = "predictions.csv"
_CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class RunFolder:
    """A run's folder and the files in it, which need not be there.

    Attributes:
        path: `runs/<stage>/version_N`.
    """

    path: Path

    @property
    def name(self) -> str:
        """Such as "robust/version_0"."""
        return "/".join(self.path.absolute().parts[-2:])

    @property
    def config(self) -> Path:
        """Every setting, resolved."""
        return self.path / CONFIG

    @property
    def record(self) -> Path:
        """An entry for each `gfnet fit` that worked on the run, see `record`."""
        return self.path / "run.json"

    @property
    def splits(self) -> Path:
        """Which picture was in which split."""
        return self.path / "splits.csv"

    @property
    def left_out(self) -> Path:
        """What the data hold and the run did not use, where there is any."""
        return self.path / "left_out.csv"

    @property
    def confusion(self) -> Path:
        """The last validation's confusion matrix, see `confusion`."""
        return self.path / "val_confusion.csv"

    @property
    def filters(self) -> Path:
        """The magnitude of the filters over training."""
        return self.path / "filters.npz"

    @property
    def predictions(self) -> Path:
        """A row for each picture that `gfnet test` scored, see `results`."""
        return self.path / PREDICTIONS

    @property
    def outputs(self) -> Path:
        """Logits and features of those pictures."""
        return self.path / "outputs.npz"

    @property
    def metrics(self) -> Path:
        """The figures of every evaluated set."""
        return self.path / "metrics.json"

    @property
    def report(self) -> Path:
        """The page that `gfnet report` writes."""
        return self.path / "report.html"

    def checkpoint(self, name: str) -> Path:
        """A checkpoint by its file name."""
        return self.path / _CHECKPOINTS / name

    def checkpoint_to_test(self) -> Path:
        """The best checkpoint, else the last.

        Raises:
            UserError: There is neither, or no such folder.
        """
        if not self.path.is_dir():
            raise UserError(f"{self.path} does not exist; name the folder of a run, {RUNS}/<stage>/version_N")
        for name in (BEST, LAST):
            if self.checkpoint(name).is_file():
                return self.checkpoint(name)
        raise UserError(
            f"{self.path} has no checkpoint: there is nothing to report until gfnet fit has finished an epoch of it"
        )


def run_of(checkpoint: Path) -> RunFolder | None:
    """The run that a checkpoint lies in, relative to the current folder; None where it was moved out of its run."""
    folder = RunFolder(Path(os.path.relpath(checkpoint.absolute().parent.parent)))
    return folder if folder.splits.is_file() else None


def calibration_beside(checkpoint: Path) -> Path:
    """`best.ckpt` -> `best.calibration.json` in the same folder."""
    return checkpoint.with_suffix(".calibration.json")


def find_checkpoint(name: str) -> Path:
    """A checkpoint by path; `last.ckpt` and `best.ckpt` that are no files mean the newest run's.

    Raises:
        UserError: There is none, or no run yet.
    """
    path = Path(name)
    if path.is_file() or name not in (LAST, BEST):
        return path
    path = newest_run().checkpoint(name)
    if not path.is_file():
        raise UserError(f"{path} does not exist: the newest run has not been validated yet; try --ckpt_path {LAST}")
    return path


def newest_run() -> RunFolder:
    """The run that wrote a checkpoint last.

    Raises:
        UserError: There is none.
    """
    found = sorted(RUNS.glob(f"*/*/{_CHECKPOINTS}/{LAST}"), key=lambda last: last.stat().st_mtime)
    if not found:
        raise UserError(
            f"no run in ./{RUNS} yet: train one with gfnet fit --config base.yaml, or give --ckpt_path FILE"
        )
    return RunFolder(found[-1].parent.parent)
