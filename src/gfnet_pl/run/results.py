"""What `gfnet test` writes into a run's folder and `gfnet report` reads: a row per picture, figures, calibration.

- `predictions.csv`: path, split, group, label, prediction, probability (calibrated) and the three likeliest classes.
- `outputs.npz`: each set's logits and features, in the order of those rows.
- `metrics.json`: the figures of every set, see `figures.SetFigures`.
- beside the checkpoint, `best.calibration.json`: the temperature and the thresholds that `gfnet predict` uses, and
  `best.calibration.npz`: what was learned, see `evaluation.familiarity`.
"""

import json
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
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
    Rejection,
    judged_by_others,
    probabilities,
)
from gfnet_pl.evaluation.familiarity import Familiarity
from gfnet_pl.evaluation.figures import Gap, People, SetFigures, gap, set_figures
from gfnet_pl.files import flush, read_json, reading, replacing, sha256
from gfnet_pl.locks import held
from gfnet_pl.run.checkpoint import Checkpoint
from gfnet_pl.run.folder import RunFolder, calibration_beside, learned_beside, run_of
from gfnet_pl.run.predictions import likeliest
from gfnet_pl.tables import read_records, write_rows

_AGAIN = "run gfnet test again"
_LEARNED = "learned"  # no set has this name
_COLUMNS = ("path", "split", "group", "label", "prediction", "probability", "top3")


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


def write_results(results: Results) -> RunFolder:
    """Writes the four files that the docstring of this module lists. Older ones are replaced, all or none.

    If the data are not the run's own, its results stay: the files go to a folder below it, without a calibration.

    Returns:
        The folder with the files.
    """
    checkpoint = Path(results.checkpoint["path"])
    run = run_of(checkpoint) or RunFolder(checkpoint.parent)
    if results.calibration_of_run is not None:
        run = run.of_other_data(results.root)
        run.path.mkdir(parents=True, exist_ok=True)
    familiarity = results.calibration.familiarity
    calibration = {
        "fitted_on": results.fitted_on,
        "sha256": results.checkpoint["sha256"],
        "temperature": results.calibration.temperature,
        "rejections": [rejection._asdict() for rejection in results.calibration.rejections],
        "new_groups": results.calibration.new_groups,
        "promise": results.calibration.promise,
        "familiar_within": familiarity.limit if familiarity else None,  # the longest distance
    }
    record = {
        "checkpoint": results.checkpoint,
        "source": results.source,
        "root": results.root,
        "classes": results.classes,
        "known": results.known,
        "calibration": calibration,
        "gap": results.gap and asdict(results.gap),
        "properties": results.properties,
        "sets": {
            name: asdict(each) | {"bins": [row._asdict() for row in each.bins]}
            for name, each in results.figures.items()
        },
    }
    arrays = {f"{name}/logits": each.logits for name, each in results.sets.items()}
    arrays |= {f"{name}/features": each.features for name, each in results.sets.items()}
    learned = {"means": familiarity.means, "whitening": familiarity.whitening} if familiarity else {}
    arrays |= {f"{_LEARNED}/{name}": array for name, array in learned.items()}
    busy = f"{run.path}: another gfnet test writes its results there at this moment; run gfnet test again"
    with ExitStack() as files:  # all are written before the first replaces an older one
        files.enter_context(held(run.metrics.with_suffix(".lock"), busy))
        rows, metrics = (files.enter_context(replacing(file)) for file in (run.predictions, run.metrics))
        outputs = files.enter_context(replacing(run.outputs, "wb"))
        write_rows(rows, [_COLUMNS])
        for name, each in results.sets.items():
            named_rows = likeliest(results.probabilities(each), results.classes)
            write_rows(
                rows,
                (
                    (picture.path, name, picture.group, picture.label, *named)
                    for picture, named in zip(each.pictures, named_rows, strict=True)
                ),
            )
        np.savez(outputs, allow_pickle=False, **arrays)
        metrics.write(json.dumps(record, indent=1, allow_nan=False) + "\n")
        flush(rows, metrics, outputs)
        if results.calibration_of_run is None:
            beside = files.enter_context(replacing(calibration_beside(checkpoint)))
            beside.write(json.dumps(calibration, indent=1) + "\n")
            learned_file = files.enter_context(replacing(learned_beside(checkpoint), "wb"))
            np.savez(learned_file, allow_pickle=False, sha256=np.array(results.checkpoint["sha256"]), **learned)
            flush(beside, learned_file)
    return run


def read_metrics(run: RunFolder) -> dict[str, Any]:
    """Reads the stored figures, as plain values.

    Raises:
        UserError: The file cannot be read.
    """
    with reading(run.metrics, _AGAIN):
        record: dict[str, Any] = read_json(run.metrics)
        return record


def read_results(run: RunFolder) -> Results | None:
    """Reads what `write_results` wrote; None if the run has not been tested.

    Raises:
        UserError: The files cannot be read, or they come from different tests.
    """
    if not run.metrics.is_file():
        return None
    record = read_metrics(run)
    with reading(run.metrics, _AGAIN):
        number = {name: place for place, name in enumerate(record["classes"])}
        rows: dict[str, list[Picture]] = {name: [] for name in record["sets"]}
        checkpoint = {"stage": None, "epochs": 0} | record["checkpoint"]
        if not (isinstance(checkpoint["path"], str) and isinstance(checkpoint["sha256"], str)):
            raise ValueError("it does not say which checkpoint was tested")
        if not isinstance(record["source"], str) or not isinstance(record["root"], str | None) or not number:
            raise ValueError("it does not say what was tested on")
        known = [name for name in record["known"] if name in rows]
        properties = record.get("properties", {})  # absent in version 0.1.0
        if not all(
            isinstance(row, dict) and all(isinstance(v, str) for v in row.values()) for row in properties.values()
        ):
            raise ValueError("it does not say what is known of the groups")
    with reading(run.predictions, _AGAIN), run.predictions.open(newline="", encoding="utf-8") as text:
        for row in read_records(text):
            rows[row["split"]].append(Picture(row["path"], row["label"], row["split"], row["group"]))
        labels = {
            name: np.array([number[picture.label] for picture in pictures], np.int64) for name, pictures in rows.items()
        }
    with reading(run.outputs, _AGAIN), run.outputs.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        sets = {
            name: SetResults(pictures, labels[name], arrays[f"{name}/logits"], arrays[f"{name}/features"])
            for name, pictures in rows.items()
        }
        learned = None  # in a run of version 0.1.0
        if f"{_LEARNED}/means" in arrays:
            learned = Familiarity(arrays[f"{_LEARNED}/means"], arrays[f"{_LEARNED}/whitening"])
        if not all(
            each.is_whole and len(each.labels) and each.logits.shape[1] == len(number) for each in sets.values()
        ):
            raise ValueError(f"{run.predictions.name} is of another test")
    return Results(
        classes=record["classes"],
        checkpoint=checkpoint,
        source=record["source"],
        root=record["root"],
        known=known,
        sets=sets,
        learned=learned,
        properties=properties,
    )


def read_calibration(checkpoint: Path) -> Calibration | None:
    """Reads the calibration of a checkpoint; None if there is none, or if it was fitted for other weights.

    Raises:
        UserError: It cannot be read.
    """
    file = calibration_beside(checkpoint)
    if not file.is_file():
        return None
    with reading(file, "remove it, or run gfnet test again"):
        found = read_json(file)
        if found["sha256"] != sha256(checkpoint):
            return None
        calibration = Calibration(
            temperature=float(found["temperature"]),
            rejections=[Rejection(**each) for each in found["rejections"]],
            new_groups=int(found.get("new_groups", 0)),  # absent in version 0.1.0, as is the next one
        )
        if not calibration.temperature > 0:
            raise ValueError(f"its temperature is {calibration.temperature}")
        for rate, threshold in calibration.rejections:
            if not 0 <= rate <= 1 or not (threshold is None or 0 <= threshold <= 1):
                raise ValueError("a threshold is no probability")
        within = None if found.get("familiar_within") is None else float(found["familiar_within"])
    if within is None:
        return calibration
    learned = learned_beside(checkpoint)
    with (
        reading(learned, "run gfnet test again"),
        learned.open("rb") as opened,
        np.load(opened, allow_pickle=False) as arrays,
    ):
        if str(arrays["sha256"]) != found["sha256"]:
            raise ValueError("it is of other weights")
        means, whitening = arrays["means"], arrays["whitening"]
        if not (means.shape[1] == whitening.shape[0] == whitening.shape[1] and np.isfinite(means @ whitening).all()):
            raise ValueError("its arrays do not fit")
        return calibration._replace(familiarity=Familiarity(means, whitening, within))
