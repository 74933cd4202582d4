"""How a session of training ended: its best epoch, and an entry about it in the run's record."""

import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from gfnet_pl.errors import one_line
from gfnet_pl.run.checkpoint import Checkpoint
from gfnet_pl.run.folder import RunFolder
from gfnet_pl.run.record import end_session
from gfnet_pl.training.best_checkpoint import BestCheckpoint, chosen_by
from gfnet_pl.training.classifier import GFNetClassifier


@dataclass(frozen=True)
class Best:
    """The epoch of best.ckpt.

    Attributes:
        epoch: Its number, from 1.
        val_accuracy: 0 to 1.
        right: Validation pictures that are right.
        images: All validation pictures.
        by: What it was chosen by: accuracy; or last, for it is the last one.
    """

    epoch: int
    val_accuracy: float
    right: int
    images: int
    by: str


def best_epoch(trainer: Trainer, classifier: GFNetClassifier) -> Best | None:
    """The epoch of best.ckpt; None if nothing was validated, or somebody has taken the file away."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # its type does not declare them
    kept = [each for each in callbacks if isinstance(each, BestCheckpoint)]
    if not kept or kept[0].accuracy is None or "val" not in classifier.scores:
        return None
    if not (best := Path(kept[0].best_model_path)).is_file():
        return None
    share, images = kept[0].accuracy, classifier.scores["val"].images
    right = round(share * images)
    return Best(Checkpoint.load(best).epochs, right / max(1, images), right, images, chosen_by(images))


class Ending(Callback):
    """Writes into the run's record when and how this session ended.

    The state is "finished" if all epochs were trained, "failed" after an error, and otherwise "stopped": by Ctrl-C, a
    signal, a limit of time, or early stopping. A session that was killed has no such entry.

    Args:
        run: The run's folder.
    """

    def __init__(self, run: RunFolder) -> None:
        self._of = run
        self._run: RunFolder | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._run = self._of if trainer.is_global_zero else None
        self._start = time.monotonic()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        ended = trainer.max_epochs is not None and trainer.current_epoch >= trainer.max_epochs > 0
        ended &= trainer.is_last_batch  # max_time may have cut the last epoch off
        steps = 0 < trainer.max_steps <= trainer.global_step
        self._write(trainer, pl_module, state="finished" if ended or steps else "stopped")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        with suppress(OSError):  # where nothing can be written, the first error says so
            if isinstance(exception, Exception):
                self._write(trainer, pl_module, state="failed", reason=one_line(exception))
            else:
                self._write(trainer, pl_module, state="stopped", reason=str(exception) or type(exception).__name__)

    def _write(self, trainer: Trainer, pl_module: LightningModule, **how: Any) -> None:  # noqa: ANN401
        if self._run is None:  # it did not begin, or another device writes
            return
        assert isinstance(pl_module, GFNetClassifier)  # the command line creates no other
        best = best_epoch(trainer, pl_module)
        facts = {
            "ended": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - self._start, 1),
            "epochs": trainer.current_epoch,
            "best": best and asdict(best),
        }
        end_session(self._run, how | facts)
