"""Where the files of a run are: `runs/<stage>/version_N/`. Their names are defined here and nowhere else.

Lightning writes the TensorBoard events there, and the checkpoints into its subfolder `checkpoints`.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gfnet_pl.errors import UserError
from gfnet_pl.files import read_json, reading
from gfnet_pl.model.weights import WEIGHTS

RUNS = Path("runs")
BEST, LAST = "best.ckpt", "last.ckpt"
PREVIOUS = "last.prev.ckpt"  # the last.ckpt before; it takes its place if that is damaged
CONFIG = "config.yaml"
PREDICTIONS = "predictions.csv"
CURVE = "curve"  # the stage of the nets that `gfnet curve` trains
JOURNAL = "sweep.journal"  # in the folder of a stage whose nets `gfnet sweep` trains
_CHECKPOINTS = "checkpoints"
_DEVICES = re.compile("con|prn|aux|nul|(com|lpt)[0-9]", re.IGNORECASE)  # no folder can have these names on Windows


@dataclass(frozen=True)
class RunFolder:
    """A run's folder and the files in it. None of them need exist.

    Attributes:
        path: `runs/<stage>/version_N`.
    """

    path: Path

    @property
    def name(self) -> str:
        """Stage and version, for example "robust/version_0"."""
        return "/".join(self.path.absolute().parts[-2:])

    @property
    def stage(self) -> str:
        """Its stage."""
        return self.path.absolute().parent.name

    @property
    def is_trial(self) -> bool:
        """Whether `gfnet curve` or `gfnet sweep` trained it, to be compared: no command takes it by itself."""
        return self.stage == CURVE or (self.path.parent / JOURNAL).is_file()

    @property
    def config(self) -> Path:
        """All settings of the run, resolved."""
        return self.path / CONFIG

    @property
    def plan(self) -> Path:
        """The settings that were chosen for the data, with the reasons, as a config; only if the run had no config."""
        return self.path / "plan.yaml"

    @property
    def record(self) -> Path:
        """One entry per `gfnet fit` command that trained the run, see the module `record`."""
        return self.path / "run.json"

    @property
    def damaged_record(self) -> Path:
        """A record that could not be read when the run went on."""
        return self.path / "run.damaged.json"

    @property
    def splits(self) -> Path:
        """The split of every picture."""
        return self.path / "splits.csv"

    @property
    def left_out(self) -> Path:
        """Files of the data that the run did not use; it exists only if there are any."""
        return self.path / "left_out.csv"

    @property
    def confusion(self) -> Path:
        """The confusion matrix of the last validation, see the module `confusion`."""
        return self.path / "val_confusion.csv"

    @property
    def filters(self) -> Path:
        """The magnitude of the filters after each epoch."""
        return self.path / "filters.npz"

    @property
    def predictions(self) -> Path:
        """One row per picture that `gfnet test` scored, see the module `results`."""
        return self.path / PREDICTIONS

    @property
    def outputs(self) -> Path:
        """Logits and features of those pictures."""
        return self.path / "outputs.npz"

    @property
    def metrics(self) -> Path:
        """Accuracy and the other figures of every evaluated set."""
        return self.path / "metrics.json"

    @property
    def losses(self) -> Path:
        """The training pictures, that with the least believed label first, see the module `losses`."""
        return self.path / "losses.csv"

    @property
    def learning_curve(self) -> Path:
        """How accuracy grows with the training pictures, see the module `learning_curve`."""
        return self.path / "curve.json"

    @property
    def folds(self) -> Path:
        """The figures over all folds of which the run is one, see the module `folds`."""
        return self.path / "folds.json"

    @property
    def folds_predictions(self) -> Path:
        """One row per picture of all folds, in the run of the first one."""
        return self.path / "folds.csv"

    @property
    def fault(self) -> Path:
        """The traceback of the last fault of this package; it exists only after one."""
        return self.path / "fault.txt"

    @property
    def lock(self) -> Path:
        """It exists while the run is trained, and after a training that was killed."""
        return self.path / ".lock"

    @property
    def report(self) -> Path:
        """The page that `gfnet report` writes."""
        return self.path / "report.html"

    @property
    def export(self) -> "ExportFolder":
        """What `gfnet export` writes, unless it is told another place."""
        return ExportFolder(self.path / "export")

    def of_other_data(self, root: str | None) -> "RunFolder":
        """The folder below this one for the results of its net on other data; `root` as in `Results`."""
        name = re.sub(r"[^\w.-]", "_", Path(root).name) if root else "embedded"
        return RunFolder(self.path / "other_data" / f"{name}-{hashlib.sha256(str(root).encode()).hexdigest()[:6]}")

    def thinned_splits(self, share: float) -> Path:
        """The splits with a share of the training pictures, for `gfnet curve`."""
        return self.splits.with_stem(f"splits_{share:g}")

    def checkpoint(self, name: str) -> Path:
        """The path of the checkpoint with this file name."""
        return self.path / _CHECKPOINTS / name

    def checkpoint_to_test(self) -> Path:
        """The best checkpoint, or the last one if there is no best one because nothing was validated.

        Raises:
            UserError: There is neither, or the folder does not exist.
        """
        if not self.path.is_dir():
            raise UserError(f"{self.path} does not exist; name the folder of a run, {RUNS}/<stage>/version_N")
        for name in (BEST, LAST, PREVIOUS):
            if self.checkpoint(name).is_file():
                return self.checkpoint(name)
        raise UserError(
            f"{self.path} has no checkpoint: it is still in its first epoch, or was stopped there; train it again, or "
            "name another run"
        )

    def trained(self) -> datetime | None:
        """When the run was last trained: the start of the last `gfnet fit` in its record.

        A record without a time, or none, is that of another program: then the time of its last.ckpt counts. None if
        there is neither: the folder is no run.
        """
        try:
            with reading(self.record, ""):
                started = read_json(self.record)[-1]["started"]
                return datetime.fromisoformat(started).astimezone(UTC)
        except UserError:
            last = self.checkpoint(LAST)
            return datetime.fromtimestamp(last.stat().st_mtime, UTC) if last.is_file() else None


@dataclass(frozen=True)
class ExportFolder:
    """A folder that `gfnet export` wrote, and the files in it. None of them need exist.

    Attributes:
        path: The folder.
    """

    path: Path

    @property
    def record(self) -> Path:
        """What the net is, the other files with their digests, how they were checked, and how fast they are."""
        return self.path / "export.json"

    @property
    def onnx(self) -> Path:
        """The net for other programs."""
        return self.path / "model.onnx"

    @property
    def int8(self) -> Path:
        """The same with weights of 8 bits, if it is nearly as good."""
        return self.path / "model.int8.onnx"

    @property
    def weights(self) -> Path:
        """The net's weights, without pickle."""
        return self.path / WEIGHTS

    @property
    def vectors(self) -> Path:
        """Some pictures with the outputs that must come of them."""
        return self.path / "test_vectors.npz"

    @property
    def card(self) -> Path:
        """The model card."""
        return self.path / "MODEL_CARD.md"

    @property
    def page(self) -> Path:
        """The page that runs the net in a browser."""
        return self.path / "index.html"


def run_of(checkpoint: Path) -> RunFolder | None:
    """The run in whose folder a checkpoint lies, relative to the current folder; None if it was moved out of it."""
    path = checkpoint.absolute().parent.parent
    with suppress(ValueError):  # on Windows, it may be on another drive
        path = Path(os.path.relpath(path))
    folder = RunFolder(path)
    return folder if folder.splits.is_file() else None


def enrolled_beside(net: Path) -> Path:
    """The folder of the people who have shown a net their signs: in its run, or beside the net's own file."""
    run = run_of(net)  # of a checkpoint and of the run's export alike
    return (run.path if run else net.parent) / "enrolled"


def calibration_beside(checkpoint: Path) -> Path:
    """The calibration file of a checkpoint: for `best.ckpt`, `best.calibration.json` in the same folder."""
    return checkpoint.with_suffix(".calibration.json")


def learned_beside(checkpoint: Path) -> Path:
    """The arrays of a checkpoint's calibration: for `best.ckpt`, `best.calibration.npz` in the same folder."""
    return checkpoint.with_suffix(".calibration.npz")


def find_checkpoint(name: str) -> Path:
    """Finds a checkpoint.

    Args:
        name: A path. `last.ckpt` and `best.ckpt` mean those of the newest run, unless there is a file of that name.

    Raises:
        UserError: The newest run has no such checkpoint, or there is no run yet.
    """
    path = Path(name)
    if path.is_file() or name not in (LAST, BEST):
        return path
    run = newest_run()
    instead = run.checkpoint_to_test()  # or there is none at all
    for file in (name, *([PREVIOUS] if name == LAST else [])):
        if run.checkpoint(file).is_file():
            return run.checkpoint(file)
    raise UserError(f"{run.path}, the newest run, has no {name}; try --ckpt_path {instead.name}")


def all_runs() -> list[RunFolder]:
    """The runs below ./runs, the one that was trained last first. Those that have no checkpoint yet are among them."""
    found = {run: run.trained() for run in map(RunFolder, RUNS.glob("*/*"))}
    times = {run: time for run, time in found.items() if time}
    return sorted(times, key=lambda run: times[run], reverse=True)


def newest_run() -> RunFolder:
    """The run that was trained last, with or without a checkpoint; a trial if there is no other.

    Raises:
        UserError: There is no run yet.
    """
    if not (found := all_runs()):
        raise UserError(
            f"no run in ./{RUNS} yet: train one with gfnet fit --config base.yaml, or give --ckpt_path FILE"
        )
    return next((run for run in found if not run.is_trial), found[0])


@contextmanager
def claimed(stage: str) -> Iterator[RunFolder]:
    """Makes the folder of the next run of a stage, which no other command gets then.

    Raises:
        UserError: As for `new_run`.
    """
    made: list[Path] = []
    while True:
        run = new_run(stage)
        made = [path for path in (run.path, run.path.parent, RUNS) if not path.exists()]
        run.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            run.path.mkdir()
            break
        except FileExistsError:  # another command was faster
            continue
    try:
        yield run
    finally:
        if run.trained() is None and not run.fault.is_file():  # it did not come to be a run
            shutil.rmtree(run.path, ignore_errors=True)
        for path in made:
            with suppress(OSError):  # other runs are in it
                path.rmdir()


def new_run(stage: str) -> RunFolder:
    """The folder of the next run of a stage; it is not made.

    Raises:
        UserError: The name of the stage cannot be that of a folder, or is one in which runs would not be found.
    """
    if not re.fullmatch(r"\w[\w.+=@ -]{0,98}(?<![ .])", stage) or re.fullmatch(_DEVICES, stage.partition(".")[0]):
        raise UserError(
            f"stage: {stage!r} cannot name a folder below {RUNS}; begin with a letter or digit, go on with those and "
            ". _ - + = @"
        )
    versions = [re.fullmatch(r"version_(\d+)", path.name) for path in (RUNS / stage).glob("version_*")]
    return RunFolder(RUNS / stage / f"version_{max((int(found[1]) for found in versions if found), default=-1) + 1}")
