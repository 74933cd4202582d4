"""The files of a sweep, beside the runs of its trials in `runs/<stage>/`: `gfnet sweep` writes them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from gfnet_pl.errors import UserError
from gfnet_pl.files import replacing, settings_text
from gfnet_pl.locks import held
from gfnet_pl.run.folder import JOURNAL, new_run
from gfnet_pl.tables import write_rows


class Tried(NamedTuple):
    """A trial as it stands in the table.

    Attributes:
        number: From 0, as in Optuna's study.
        state: complete, pruned, failed or running.
        value: What is sought, after its last epoch, 0 to 1; None if there is none.
        seconds: How long it took; None while it runs.
        settings: What it tried, by dotted key.
        run: The folder of its run; "" if it has none.
        error: Why it failed; "" if it did not.
    """

    number: int
    state: str
    value: float | None
    seconds: float | None
    settings: Mapping[str, Any]
    run: str
    error: str


@dataclass(frozen=True)
class SweepFolder:
    """A sweep's files. None of them need exist.

    Attributes:
        path: `runs/<stage>`; its trials are the runs in it.
    """

    path: Path

    @classmethod
    def of_stage(cls, stage: str) -> "SweepFolder":
        """The sweep of this name.

        Raises:
            UserError: The name cannot be that of a folder, as for `new_run`.
        """
        return cls(new_run(stage).path.parent)

    def make(self) -> None:
        """Makes the folder.

        Raises:
            UserError: There are runs in it that are not of a sweep.
        """
        if not self.journal.is_file() and self.path.is_dir() and any(self.path.iterdir()):
            raise UserError(f"{self.path} holds other runs: give the sweep a name of its own, --stage NAME")
        self.path.mkdir(parents=True, exist_ok=True)

    @property
    def journal(self) -> Path:
        """Optuna's journal, which several processes may write, and `optuna-dashboard` reads."""
        return self.path / JOURNAL

    @property
    def trials(self) -> Path:
        """The table of the trials."""
        return self.path / "trials.csv"

    @property
    def best(self) -> Path:
        """The best trial's settings, a config to lay over those of the command."""
        return self.path / "best.yaml"

    @property
    def plot(self) -> Path:
        """What was found, drawn."""
        return self.path / "trials.png"

    @contextmanager
    def running(self, number: int) -> Iterator[None]:
        """Shows other processes that a trial is running; it ends with this process, however that ends."""
        with held(self._lock(number), "another process runs it"):
            yield

    def is_running(self, number: int) -> bool:
        """Whether a process runs this trial."""
        try:
            with held(self._lock(number), "another process runs it"):
                return False
        except UserError:
            return True

    def _lock(self, number: int) -> Path:
        return self.path / f".trial_{number}.lock"

    def write(self, trials: Sequence[Tried], head: Sequence[str]) -> None:
        """Writes the table and, if a trial came to its end, the config.

        Args:
            trials: All of them.
            head: Lines to begin the config with.
        """
        keys = sorted({key for each in trials for key in each.settings})
        with replacing(self.trials, lasting=False) as file:
            rows = [
                [each.number, each.state, each.value, each.seconds, *map(each.settings.get, keys), each.run, each.error]
                for each in trials
            ]
            write_rows(file, [["trial", "state", "value", "seconds", *keys, "run", "error"], *rows])
        if best := best_of(trials):
            with replacing(self.best, lasting=False) as file:
                file.write(settings_text(best.settings, head))


def best_of(trials: Sequence[Tried]) -> Tried | None:
    """The trial with the highest value among those that came to their end; None if none has."""
    complete = [each for each in trials if each.state == "complete" and each.value is not None]
    return max(complete, key=lambda each: each.value or 0.0, default=None)
