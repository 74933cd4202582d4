"""What `gfnet` shows while it trains and scores: a line per epoch, a live bar below it, and what came of it at the end.

The lines go to standard output. The bar is drawn by the clock, so that a step costs little more than a look at it.
"""

import math
import sys
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, Timer

from gfnet_pl.data.batches import Batch
from gfnet_pl.evaluation.intervals import wilson
from gfnet_pl.messages import LiveLine, duration
from gfnet_pl.run.folder import LAST, RunFolder
from gfnet_pl.training.classifier import GFNetClassifier
from gfnet_pl.training.ending import Best, best_epoch
from gfnet_pl.training.stopping import Stopped


class Progress(ProgressBar):
    """A line per epoch, a live bar for the batches of every loop, and at the end of training what to know and do next.

    `12/20  val 90.9 %  train 79.1 %  loss 0.31  33 s, 5 min left`: finished epochs, accuracy on validation pictures and
    on the training pictures as they were drawn and augmented, mean training loss, and time. Where the line is too long
    for the terminal, the loss is left out.

    Args:
        run: The folder of the run that is trained; None if none is kept.
        is_fold: Whether it is one of several folds: what comes next is another one then.
    """

    def __init__(self, run: RunFolder | None = None, *, is_fold: bool = False) -> None:
        super().__init__()
        self._shows = True
        self._line = LiveLine(sys.stdout)
        self._run, self._is_fold = run, is_fold
        self._start: float | None = None
        self._trained = 0  # batches since then
        self._batches = 0  # of the evaluation that is going on
        self._ended = self._validated = False  # of this epoch

    def disable(self) -> None:
        self._shows = False

    def enable(self) -> None:
        self._shows = True

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        weights = sum(parameter.numel() for parameter in pl_module.parameters())
        frozen = sum(parameter.numel() for parameter in pl_module.parameters() if not parameter.requires_grad)
        kept = f", {frozen:,} of them frozen" if frozen else ""
        self._say(f"run: {self._run.path if self._run else 'not kept'}; the net has {weights:,} weights{kept}")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start = self._epoch_start = time.monotonic()  # an epoch that is resumed midway has no start of its own

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # The line of an epoch waits until here: in on_train_epoch_end, callbacks run before the module, and would see
        # the training accuracy of the epoch before.
        self._end_epoch(trainer, trainer.current_epoch)
        self._epoch_start = time.monotonic()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Batch,
        batch_idx: int,
    ) -> None:
        self._trained += 1
        if self._shows and self._line.is_due():
            loss = float(outputs["loss"]) * trainer.accumulate_grad_batches  # waits for a GPU, but rarely
            done = trainer.current_epoch * trainer.num_training_batches + batch_idx + 1
            after = f"loss {loss:.2f}  {self._left(trainer, done)}"
            epoch = _count(trainer, trainer.current_epoch + 1)
            self._line.draw(epoch, batch_idx + 1, int(trainer.num_training_batches), after)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._ended = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end_epoch(trainer, trainer.current_epoch)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._batches = 0

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        if not trainer.sanity_checking:
            epoch = _count(trainer, trainer.current_epoch + 1) + "  " if trainer.training or self._start else ""
            self._evaluated(f"{epoch}validation", trainer.num_val_batches)

    def on_test_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        self._evaluated("test", trainer.num_test_batches)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validated = not trainer.sanity_checking
        if not self._start:
            self._line.clear()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._line.clear()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._line.clear()
        if self._start:
            self._say_end(trainer, pl_module, stopped=False)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._line.clear()
        if self._start and not isinstance(exception, Exception):  # Ctrl-C or a signal
            self._end_epoch(trainer, trainer.current_epoch)
            self._say_end(trainer, pl_module, stopped=True, told=isinstance(exception, Stopped) and exception.agreed)

    def _say(self, text: str) -> None:
        if self._shows:
            self._line.say(text)

    def _evaluated(self, what: str, batches: Any) -> None:  # noqa: ANN401  (a number, or one for each loader)
        self._batches += 1
        if self._shows and self._line.is_due():
            self._line.draw(what, self._batches, sum(batches) if isinstance(batches, list) else batches)

    def _end_epoch(self, trainer: Trainer, epoch: int) -> None:
        """Writes the line of an epoch that has ended."""
        if not self._ended:
            return
        known = trainer.callback_metrics
        accuracy = [
            f"{name} {100 * float(known[f'{name}/accuracy']):5.1f} %"
            for name in ("val", "train")
            if f"{name}/accuracy" in known and (name == "train" or self._validated)
        ]
        loss = [f"loss {float(known['train/epoch_loss']):.2f}"] if "train/epoch_loss" in known else []
        left = self._left(trainer, epoch * trainer.num_training_batches)
        times = ", ".join(filter(None, [duration(time.monotonic() - self._epoch_start), left]))
        start = [_count(trainer, epoch), *accuracy]
        line = "  ".join([*start, *loss, times])
        self._say(line if len(line) <= self._line.columns else "  ".join([*start, times]))
        self._ended = self._validated = False

    def _left(self, trainer: Trainer, done: float) -> str:
        """The time left, from the speed since the start; "" at the end, and where the end is not known."""
        total = _total_batches(trainer)
        if self._start is None or not self._trained or done >= total or math.isinf(total):
            return ""
        seconds = (time.monotonic() - self._start) / self._trained * (total - done)
        limits = [callback.time_remaining() for callback in _callbacks(trainer) if isinstance(callback, Timer)]
        seconds = min([seconds, *(limit for limit in limits if limit is not None)])
        return f"{duration(seconds, exact=False)} left"

    def _say_end(self, trainer: Trainer, pl_module: LightningModule, *, stopped: bool, told: bool = False) -> None:
        assert self._start is not None  # as the callers know
        spent, epochs = duration(time.monotonic() - self._start), trainer.current_epoch
        assert isinstance(pl_module, GFNetClassifier)  # the command line creates no other class
        if best := best_epoch(trainer, pl_module):
            self._say(_in_words(best))
        ends = f"{'stopped after ' if stopped else ''}{epochs} epoch{'' if epochs == 1 else 's'}"
        if not stopped and not trainer.is_last_batch:  # by max_steps or max_time
            stopped, ends = True, f"stopped after step {trainer.global_step}, within epoch {epochs}"
        self._say(f"{ends}, {spent}; run: {self._run.path if self._run else 'not kept'}")
        if self._run is None or self._run.is_trial or told:
            return
        if stopped and self._run.checkpoint(LAST).is_file():
            self._say("next: gfnet fit --ckpt_path last.ckpt goes on with it")
        elif not (stopped or self._is_fold):
            views = pl_module.net.views
            seen = f", with {views} views of each picture; val above had one" if views > 1 else ""
            self._say(f"next: gfnet test{seen}")


def _in_words(best: Best) -> str:
    low, high = wilson(best.right, best.images)
    why = ", the last one" if best.by == "last" else ""
    return (
        f"best: epoch {best.epoch}{why}, val {100 * best.val_accuracy:.1f} %, "
        f"95 % interval {100 * low:.1f} to {100 * high:.1f} ({best.right:,} of {best.images:,})"
    )


def _callbacks(trainer: Any) -> list[Callback]:  # noqa: ANN401  (the type of Trainer does not declare them)
    callbacks: list[Callback] = trainer.callbacks
    return callbacks


def _total_batches(trainer: Trainer) -> float:
    """Training batches until the end; infinite if there is none."""
    ends = [math.inf]
    if trainer.max_epochs is not None and trainer.max_epochs > 0:
        ends.append(trainer.max_epochs * trainer.num_training_batches)
    if trainer.max_steps > 0:
        ends.append(trainer.max_steps * trainer.accumulate_grad_batches)
    return min(ends)


def _count(trainer: Trainer, epoch: int) -> str:
    """The number of an epoch and that of all: "12/20"; "12" where the end is not known."""
    total = _total_batches(trainer) / trainer.num_training_batches
    return str(epoch) if math.isinf(total) else f"{epoch:{len(str(math.ceil(total)))}}/{math.ceil(total)}"
