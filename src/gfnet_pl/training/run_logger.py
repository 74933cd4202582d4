"""RunLogger: what Lightning logs, as scalars in the TensorBoard events of a run."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lightning.pytorch.loggers import TensorBoardLogger

from gfnet_pl.run.curves import TAGS


class RunLogger(TensorBoardLogger):
    """Writes Lightning's metrics under the tags of `gfnet_pl.run.curves`, and leaves out its metric `epoch`.

    Most charts have the epoch as x axis, and in a test it is always 0.

    Args:
        stage: The folder of the stage.
        version: Name of the run's folder in it; default: a new one.
        tested: In a test, the epoch after which the checkpoint was written: the x value of all that is logged.
    """

    def __init__(self, stage: Path, version: str | None = None, *, tested: int | None = None) -> None:
        super().__init__(stage.parent, stage.name, version, default_hp_metric=False)
        self.tested = tested

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        shown = {TAGS.get(name, name): value for name, value in metrics.items() if name != "epoch"}
        super().log_metrics(shown, step if self.tested is None else self.tested)

    def save(self) -> None:
        """Writes what waits. Lightning's own method also writes hparams.yaml, which config.yaml says in full."""
        if self._experiment is not None:
            self._experiment.flush()


@contextmanager
def telling(folder: Path) -> Iterator[None]:
    """Lets the failure to write events be one line: TensorBoard writes in a thread, which would show a traceback.

    The same error is raised again where the next event is written. Here it gets to know where that was.
    """
    usual = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if isinstance(args.exc_value, OSError) and type(args.thread).__module__.startswith("tensorboard."):
            args.exc_value.filename = args.exc_value.filename or str(folder)
        else:
            usual(args)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = usual
