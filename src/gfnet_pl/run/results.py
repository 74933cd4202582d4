"""What a net gives for the pictures of a run's sets, and the figures that come of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gfnet_pl.data.collection import SYNTHETIC
from gfnet_pl.data.group_table import Properties
from gfnet_pl.data.manifest import Picture
from gfnet_pl.errors import UserError
from gfnet_pl.evaluation.calibration import (
    FEWEST_TO_FIT,
    Calibration,
    Floats,
    Ints,
    Judged,
    judged_by_others,
    probabilities,
)
from gfnet_pl.evaluation.familiarity import Familiarity
from gfnet_pl.evaluation.figures import Gap, People, SetFigures, gap, set_figures
from gfnet_pl.files import sha256
from gfnet_pl.run.checkpoint import Checkpoint


@dataclass(frozen=True)
class SetResults:
    """The net's outputs for each picture of a set.

    Attributes:
        pictures: N pictures with their groups. The split of each is the name of its set.
        labels: (N,) true classes, as positions in the class names.
        logits: (N, classes) float32; fewer rows if only a part of the set was evaluated.
        features: (N, C) float32, the mean of the net's last tokens; as many rows as `logits`.
    """

    pictures: list[Picture]
    labels: Ints
    logits: npt.NDArray[np.float32]
    features: npt.NDArray[np.float32]

    @classmethod
    def joined(cls, sets: Iterable["SetResults"]) -> "SetResults":
        """Joins several sets into one, set after set."""
        sets = list(sets)
        return cls(
            pictures=[picture for each in sets for picture in each.pictures],
            labels=np.concatenate([each.labels for each in sets]),
            logits=np.concatenate([each.logits for each in sets]),
            features=np.concatenate([each.features for each in sets]),
        )

    @property
    def is_whole(self) -> bool:
        """Whether every picture was evaluated."""
        return len(self.logits) == len(self.labels)

    @property
    def bad(self) -> Ints:
        """Positions of the pictures for which an output of the net is not finite."""
        return np.flatnonzero(~np.isfinite(self.logits).all(1) | ~np.isfinite(self.features).all(1))

    @property
    def groups(self) -> list[str]:
        """(N,) groups of the pictures; "" where the group is not known."""
        return [picture.group for picture in self.pictures]

    @cached_property
    def predictions(self) -> Ints:
        """(N,) predicted classes, as positions in the class names."""
        places: Ints = self.logits.argmax(1)
        return places


@dataclass(frozen=True)
class Results:
    """All evaluated sets of a checkpoint.

    Attributes:
        classes: Names, in the order of the logits.
        checkpoint: `path` (as in the command), `sha256`, `stage` and `epochs`.
        source: Where the data come from, to be stated with every figure, see `ImageDataModule.source`.
        root: Absolute path of the data's folder or manifest; None for the embedded data.
        known: Names of the sets in which some pictures belong to a group of the training set, or to no known group.
        sets: Results by name of the set.
        calibration_of_run: Where the data are not the run's own: the calibration that was fitted on the run's data.
            Otherwise None, and it is fitted on these.
        learned: The features of the training pictures, summed up; None if they were not computed.
        properties: What is known of the evaluated groups, by group and name, see `group_table`.
    """

    classes: list[str]
    checkpoint: dict[str, Any]
    source: str
    root: str | None
    known: list[str]
    sets: dict[str, SetResults]
    calibration_of_run: Calibration | None = None
    learned: Familiarity | None = None
    properties: Properties = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        checkpoint: Checkpoint,
        sets: dict[str, SetResults],
        *,
        expected: Sequence[str],
        source: str,
        root: str | None,
        trained: Iterable[Picture],
        calibration_of_run: Calibration | None = None,
        learned: Familiarity | None = None,
        properties: Properties | None = None,
    ) -> "Results":
        """Puts the evaluated sets of a checkpoint together.

        Args:
            checkpoint: The checkpoint that was evaluated.
            sets: Results by name of the set.
            expected: Names of the sets that must be there.
            source: See the attribute.
            root: The data's folder or manifest as in the command; None for the embedded data.
            trained: The training pictures.
            calibration_of_run: See the attribute.
            learned: See the attribute.
            properties: What is known of the data's groups.

        Raises:
            UserError: Nothing or only a part of a set was evaluated, or an output of the net is not finite.
        """
        for name in expected:
            each = sets.get(name)
            refuse_a_part(name, len(each.logits) if each else 0, len(each.labels) if each else 0)
        for name, each in sets.items():
            _refuse_bad_outputs(name, each)
        groups = {picture.group for picture in trained} | {""}
        evaluated = {group for each in sets.values() for group in each.groups}
        return cls(
            classes=checkpoint.classes,
            checkpoint={
                "path": str(checkpoint.path),
                "sha256": sha256(checkpoint.path),
                "stage": checkpoint.stage,
                "epochs": checkpoint.epochs,
            },
            source=source,
            root=root and str(Path(root).absolute()),
            known=[name for name, each in sets.items() if groups.intersection(each.groups)],
            sets=sets,
            calibration_of_run=calibration_of_run,
            learned=learned,
            properties={name: row for name, row in (properties or {}).items() if name in evaluated},
        )

    @property
    def synthetic(self) -> bool:
        """Whether the data are the embedded ones, of any version: figures then say nothing about real pictures."""
        return self.root is None or self.source.startswith(SYNTHETIC)

    @cached_property
    def everything(self) -> SetResults:
        """All evaluated pictures, set after set, so that one number identifies a picture."""
        return SetResults.joined(self.sets.values())

    @cached_property
    def calibration(self) -> Calibration:
        """Calibration fitted on the set `fitted_on`; without one, temperature 1 and no thresholds."""
        if self.calibration_of_run is not None:
            return self.calibration_of_run
        if self.fitted_on is None:
            return Calibration()
        part = self.sets[self.fitted_on]
        groups = part.groups if self._of_new_groups(self.fitted_on) else None
        return Calibration.fit(part.logits, part.labels, groups, part.features, self.learned)

    @property
    def fitted_on(self) -> str | None:
        """The set that calibration is fitted on: one of enough new groups, otherwise val. None if it is another run's.

        Where it is `dev` or `unseen`, nobody needs to leave training, and the figures of each group there are those of
        a calibration that was fitted on the others.
        """
        if self.calibration_of_run is not None:
            return None
        new = [name for name in ("dev", "unseen", "val") if name in self.sets and self._of_new_groups(name)]
        return new[0] if new else "val" if "val" in self.sets else None

    @property
    def trusted(self) -> str:
        """The set whose figures say most about the pictures to come: one of new people if there is one."""
        names = list(reversed(self.figures))  # unseen, dev, holdout, test, val
        new = [name for name in names if People.of(name, self.figures[name], self.known) is People.NEW]
        return (new or names)[0]

    def _of_new_groups(self, name: str) -> bool:
        return name not in self.known and len(set(self.sets[name].groups)) >= FEWEST_TO_FIT

    @cached_property
    def figures(self) -> dict[str, SetFigures]:
        """The figures of each set."""
        return {
            name: set_figures(each.logits, each.labels, each.groups, self.classes, self._judged(name))
            for name, each in self.sets.items()
        }

    def _judged(self, name: str) -> Judged:
        each = self.sets[name]
        if name == self.fitted_on and self.calibration.new_groups:
            return judged_by_others(self.calibration, each.logits, each.labels, each.groups, each.features)
        return self.calibration.judge(each.logits, each.features)

    @cached_property
    def gap(self) -> Gap | None:
        """The accuracy on known groups minus that on unknown groups; None if it cannot be computed."""
        return gap(self.figures, self.known)

    def probabilities(self, part: SetResults) -> Floats:
        """(N, classes) calibrated probabilities of one of the sets, or of `everything`."""
        return probabilities(part.logits, self.calibration.temperature)


def refuse_a_part(name: str, done: int, total: int) -> None:
    """Raises an error unless all pictures were evaluated: what a part gives would pass for that of the whole.

    Args:
        name: Which pictures, for the message.
        done: Number of pictures with outputs.
        total: Number of pictures.
    """
    if not done:
        raise UserError(
            f"none of the {name} pictures was scored, so nothing is written: drop --trainer.limit_…_batches, and let "
            "--trainer.strategy be one that scores in this process (ddp, not ddp_spawn)"
        )
    if done != total:
        raise UserError(
            f"only {done:,} of {total:,} {name} pictures were scored, and figures of a part would pass for those of "
            "the whole: drop --trainer.limit_…_batches and --trainer.fast_dev_run"
        )


def _refuse_bad_outputs(name: str, each: SetResults) -> None:
    """Raises an error if outputs are not finite, since figures computed from them would mean nothing."""
    if len(bad := each.bad):
        raise UserError(
            f"the net gives no finite numbers for {len(bad):,} of {len(each.labels):,} {name} pictures, first "
            f"{each.pictures[bad[0]].path}: its weights are not finite, or --trainer.precision is too coarse; "
            "test another checkpoint, or train again with a lower model.lr"
        )
