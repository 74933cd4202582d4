"""best.ckpt: which epoch of a run is its best one. The rule stands in `is_better`, and nowhere else."""

import math
from pathlib import Path
from typing import Any, Literal, NamedTuple

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from gfnet_pl.run.checkpoint import Unreadable, read_content
from gfnet_pl.run.folder import BEST
from gfnet_pl.training.classifier import GFNetClassifier

FEW = 1000  # validation pictures: below that, chance decides between epochs (docs/small-data.md has figures)
_LOSS = "best_loss"  # in the callback's state


class Validated(NamedTuple):
    """What validation found after an epoch.

    Attributes:
        accuracy: 0 to 1.
        loss: Mean cross entropy; None if it is unknown, in a run that an earlier version began.
        images: Number of validation pictures.
    """

    accuracy: float
    loss: float | None
    images: int


def chosen_by(images: int) -> Literal["accuracy", "last"]:
    """What decides on that many validation pictures: where they are few, the last epoch is taken."""
    return "last" if images < FEW else "accuracy"


def is_better(new: Validated, best: Validated) -> bool:
    """Whether an epoch takes the place of the best one so far. Of two that are equal, the earlier one stays.

    On few pictures the later one does, unless its loss is not a number. On more, the higher accuracy wins, and of equal
    ones the lower loss. Where the loss of the best one is unknown, only the accuracy can be compared.
    """
    if chosen_by(new.images) == "last":
        return new.loss is None or not math.isnan(new.loss)
    if new.loss is None or best.loss is None:
        return new.accuracy > best.accuracy
    loss, lowest = (math.inf if math.isnan(each) else each for each in (new.loss, best.loss))
    return (new.accuracy, -loss) > (best.accuracy, -lowest)


def state_of(best: Path) -> dict[str, Any] | None:
    """The state of the callback that best.ckpt itself holds; None if the file is gone or damaged.

    Only that is sure to be about this file: a run may have been copied, or killed after best.ckpt and before last.ckpt.
    """
    try:
        states: dict[str, dict[str, Any]] = read_content(best, mapped=True)["callbacks"]
        return next(state for state in states.values() if is_of_best(state))
    except (Unreadable, LookupError, AttributeError, StopIteration):
        return None


def is_of_best(state: Any) -> bool:  # noqa: ANN401
    """Whether a callback's state in a checkpoint is that of `BestCheckpoint`."""
    return isinstance(state, dict) and Path(str(state.get("best_model_path", ""))).name == BEST


class BestCheckpoint(ModelCheckpoint):
    """Writes best.ckpt after each validation that is better than those before it, see `is_better`.

    Args:
        path: The file.

    Attributes:
        accuracy: Of the best epoch, whatever it was chosen by; None before the first one. Lightning's
            `best_model_score` is on the device, which may have failed when a run ends.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(
            dirpath=path.parent,
            filename=path.stem,
            monitor="val/accuracy",
            mode="max",
            enable_version_counter=False,
            verbose=False,
        )
        self.accuracy: float | None = None
        self._loss: float | None = None

    @property
    def state_key(self) -> str:
        """That of Lightning's class, under which the checkpoints of earlier versions have the state of the best one."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        """Whether the epoch that was just validated is the best one. If it is, Lightning writes it."""
        if current is None:
            return False
        classifier = trainer.lightning_module
        assert isinstance(classifier, GFNetClassifier)  # the command line creates no other
        score = classifier.scores["val"]
        new = Validated(float(current), score.loss, score.images)
        best = self.accuracy
        better = best is None or is_better(new, Validated(best, self._loss, score.images))
        if better := trainer.strategy.reduce_boolean_decision(better):
            # Here and not in a hook, as the checkpoint that is now written has to hold them.
            self.accuracy, self._loss = new.accuracy, new.loss
        return better

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {_LOSS: self._loss}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.accuracy = None if self.best_model_score is None else float(self.best_model_score)
        self._loss = state_dict.get(_LOSS)
