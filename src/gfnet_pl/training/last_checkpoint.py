"""last.ckpt: written at the end of every epoch and every ten minutes within one; and where a resumed run goes on.

Lightning's own callback writes after a validation, so a run that validates seldom has an old last.ckpt or none. And
Lightning 2.6 resumes rightly only from some of the moments at which a checkpoint can be written: an epoch that
max_steps or max_time ended early counts as a whole one, and with max_steps a whole epoch is counted twice. So the
counts of a checkpoint are set right when it is loaded, whichever callback wrote it.
"""

import logging
import os
import signal
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from gfnet_pl.data.batches import Batch
from gfnet_pl.run.folder import BEST
from gfnet_pl.training.best_checkpoint import is_of_best, state_of
from gfnet_pl.training.stopping import Stop, Stopped

log = logging.getLogger(__name__)


class LastCheckpoint(Checkpoint):
    """Writes last.ckpt, and lets a run go on where the checkpoint that it resumes was written.

    It writes at the end of each epoch, also where max_steps, max_time or an early stop ends it before its last batch.
    Within an epoch it writes every ten minutes, and only after an optimizer step, because a checkpoint does not contain
    gradients that are still being accumulated. For the same reason max_time waits for the end of a step.

    It also writes after the step in which a signal has come, and then ends the training, see `stopping`. After an
    epoch's last step it waits for the validation, but not for long.

    Args:
        path: The file, in the run's folder. With several devices, that of the first one counts.
        stop: The signal that has come, if one has.
    """

    INTERVAL = 600.0  # seconds
    STEPS = 10  # between two looks at the clock, for which devices must exchange messages

    PATIENCE = 10.0  # seconds that a signal waits for a validation: systems kill after 30

    def __init__(self, path: Path, stop: Stop) -> None:
        self._path, self._stop = path, stop
        self._begins_epoch = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._path = Path(trainer.strategy.broadcast(str(self._path)))

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._begins_epoch = set_place(checkpoint["loops"]["fit_loop"], checkpoint["global_step"])
        checkpoint["callbacks"].pop("Timer", None)  # max_time is the time of a command, not of the run
        folder = os.path.realpath(self._path.parent)
        best = os.path.join(folder, BEST)
        for key in [key for key, state in checkpoint["callbacks"].items() if is_of_best(state)]:
            if (state := state_of(Path(best))) is None:
                del checkpoint["callbacks"][key]  # any epoch is better than none
                continue
            # The paths are those of now: Lightning forgets how good the best checkpoint of another folder is.
            state |= {"dirpath": folder, "best_model_path": best, "kth_best_model_path": best}
            state["best_k_models"] = {best: state["best_model_score"]}
            checkpoint["callbacks"][key] = state

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._written = time.monotonic()
        self._stop.deferred = True
        if self._begins_epoch:
            # With max_steps, Lightning would otherwise take this for a place within an epoch, and count a step twice.
            trainer.fit_loop.epoch_loop.restarting = False
            self._begins_epoch = False

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Batch,
        batch_idx: int,
    ) -> None:
        if trainer.is_last_batch:
            return
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            trainer.should_stop = False  # the timer sets it again after the next batch
        elif self._stop.agreed(trainer):
            self._end(trainer)
        elif (batch_idx + 1) % (self.STEPS * trainer.accumulate_grad_batches) == 0:
            if trainer.strategy.broadcast(time.monotonic() - self._written >= self.INTERVAL):
                self._write(trainer)

    def on_validation_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        # Several devices may have different numbers of batches here, so they cannot agree before the end.
        if self._stop.deferred and self._stop.waits > self.PATIENCE and trainer.world_size == 1:
            self._end(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._stop.agreed(trainer) and self._left(trainer):
            self._end(trainer)
        self._write(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop.deferred = False

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._stop.deferred = False

    def _left(self, trainer: Trainer) -> bool:
        """Whether there is something left to train after this epoch."""
        steps = 0 < trainer.max_steps <= trainer.global_step
        return not (steps or trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs)

    def _end(self, trainer: Trainer) -> None:
        """Writes the checkpoint, says how to go on, and ends the training.

        Raises:
            Stopped: Always.
        """
        self._write(trainer)
        number = self._stop.number
        name = signal.Signals(number).name
        words = "%s: stopped after step %d; gfnet fit --ckpt_path %s goes on from there"
        log.info(words, name, trainer.global_step, os.path.relpath(self._path))
        raise Stopped(number, agreed=True)

    def _write(self, trainer: Trainer) -> None:
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.save_checkpoint(self._path, weights_only=False)
            self._written = time.monotonic()


def set_place(loops: dict[str, Any], steps: int) -> bool:
    """Sets the counts of a checkpoint to the two states from which Lightning goes on exactly.

    They are: before an epoch, and within one, after a batch. What a checkpoint says reliably is the number of epochs
    that were begun, the batches of the last of them, and whether its last batch was among them.

    Args:
        loops: The state of Lightning's fit loop in the checkpoint. It is changed.
        steps: Optimizer steps taken.

    Returns:
        Whether the run goes on with a new epoch.
    """
    begun = loops["epoch_progress"]["current"]["started"]
    batches = loops["epoch_loop.batch_progress"]
    whole = batches["is_last_batch"] or not begun
    done = begun if whole else begun - 1
    within = 0 if whole else batches["current"]["processed"]
    for count in ("total", "current"):
        loops["epoch_progress"][count] = dict(ready=begun, started=begun, processed=done, completed=done)
    total = batches["total"]["processed"]
    after_batch = 0 if whole else 1  # Lightning counts the batch as completed, and the step, when it goes on
    for count, value in (("total", total), ("current", within)):
        batches[count] = dict(ready=value, started=value, processed=value, completed=value - after_batch)
    batches["is_last_batch"] = False
    loops["epoch_loop.state_dict"]["_batches_that_stepped"] = steps - after_batch
    validation = loops["epoch_loop.val_loop.batch_progress"]
    for count in ("total", "current"):
        validation[count] = dict(ready=0, started=0, processed=0, completed=0)
    return bool(whole)
