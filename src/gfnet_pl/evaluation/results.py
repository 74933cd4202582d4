"""What `gfnet test` leaves in a run's folder, and the report reads: one row a picture, the figures, the calibration.

- `predictions.csv`: path, split, group, label, prediction, probability (calibrated) and the three likeliest classes.
- `outputs.npz`: each set's logits and features, in the order of those rows.
- `metrics.json`: the figures of every set, see `figures.SetFigures`.
- beside the checkpoint, `best.calibration.json`: the temperature and the thresholds that `gfnet predict` uses.
"""

import csv
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gfnet_pl.data.manifest import Picture
from gfnet_pl.errors import UserError
from gfnet_pl.evaluation.calibration import Calibration, Floats, Ints, Rejection, probabilities
from gfnet_pl.evaluation.figures import Gap, SetFigures, gap, set_figures

PREDICTIONS, OUTPUTS, METRICS = "predictions.csv", "outputs.npz", "metrics.json"
FITTED_ON = "val"  # never on a set whose figures are to be believed
_COLUMNS = ("path", "split", "group", "label", "prediction", "probability", "top3")


@dataclass(frozen=True)
class SetResults:
    """A set, picture by picture.

    Attributes:
        pictures: N, with their groups.
        labels: (N,) positions in the class names.
        logits: (N, classes) float32.
        features: (N, C) float32, the mean of the net's last tokens.
    """

    pictures: list[Picture]
    labels: Ints
    logits: npt.NDArray[np.float32]
    features: npt.NDArray[np.float32]

    @property
    def groups(self) -> list[str]:
        """(N,) "" where not known."""
        return [picture.group for picture in self.pictures]

    @property
    def predictions(self) -> Ints:
        """(N,) positions in the class names."""
        places: Ints = self.logits.argmax(1)
        return places


@dataclass(frozen=True)
class Results:
    """All evaluated sets of a checkpoint.

    Attributes:
        classes: Names, in the order of the logits.
        checkpoint: `path` (as the command had it), `sha256`, `stage` and `epochs`.
        source: What a figure on this data must be read with, see `ImageDataModule.source`.
        root: The data's folder or manifest, absolute; None for the embedded data.
        known: Sets with pictures of groups that training has, or of no known group: drawn picture by picture.
        sets: By name.
    """

    classes: list[str]
    checkpoint: dict[str, Any]
    source: str
    root: str | None
    known: list[str]
    sets: dict[str, SetResults]

    @cached_property
    def calibration(self) -> Calibration:
        """Fitted on the validation set; temperature 1 and no thresholds where there is none."""
        part = self.sets.get(FITTED_ON)
        return Calibration.fit(part.logits, part.labels) if part else Calibration()

    @cached_property
    def figures(self) -> dict[str, SetFigures]:
        """The figures of each set."""
        return {
            name: set_figures(each.logits, each.labels, each.groups, self.classes, self.calibration)
            for name, each in self.sets.items()
        }

    @cached_property
    def gap(self) -> Gap | None:
        """Known groups less unknown ones."""
        return gap(self.figures, self.known)

    def probabilities(self, name: str) -> Floats:
        """(N, classes) calibrated, of a set."""
        return probabilities(self.sets[name].logits, self.calibration.temperature)


def refuse_bad_outputs(sets: dict[str, SetResults]) -> None:
    """Raises UserError where a logit is not a number: nothing that is counted from it would mean anything."""
    for name, each in sets.items():
        bad = np.flatnonzero(~np.isfinite(each.logits).all(1) | ~np.isfinite(each.features).all(1))
        if len(bad):
            raise UserError(
                f"the net gives no finite numbers for {len(bad):,} of {len(each.labels):,} {name} pictures, first "
                f"{each.pictures[bad[0]].path}: its weights are not finite, or --trainer.precision is too coarse; "
                "test another checkpoint, or train again with a lower model.lr"
            )


def write_results(run: Path, results: Results) -> None:
    """Writes the four files of this module's description; older ones are replaced."""
    with (run / PREDICTIONS).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for name, each in results.sets.items():
            named_rows = likeliest(results.probabilities(name), results.classes)
            for picture, named in zip(each.pictures, named_rows, strict=True):
                writer.writerow((picture.path, name, picture.group, picture.label, *named))
    arrays = {f"{name}/logits": each.logits for name, each in results.sets.items()}
    arrays |= {f"{name}/features": each.features for name, each in results.sets.items()}
    np.savez(run / OUTPUTS, allow_pickle=False, **arrays)
    calibration = {
        "fitted_on": FITTED_ON if FITTED_ON in results.sets else None,
        "sha256": results.checkpoint["sha256"],
        "temperature": results.calibration.temperature,
        "rejections": [rejection._asdict() for rejection in results.calibration.rejections],
    }
    record = {
        "checkpoint": results.checkpoint,
        "source": results.source,
        "root": results.root,
        "classes": results.classes,
        "known": results.known,
        "calibration": calibration,
        "gap": results.gap and asdict(results.gap),
        "sets": {
            name: asdict(each) | {"bins": [row._asdict() for row in each.bins]}
            for name, each in results.figures.items()
        },
    }
    (run / METRICS).write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")
    side_file(Path(results.checkpoint["path"])).write_text(json.dumps(calibration, indent=1) + "\n")


def read_results(run: Path) -> Results | None:
    """Reads what `write_results` wrote; None where the run has not been tested.

    Raises:
        UserError: The files do not go together or cannot be read.
    """
    if not (run / METRICS).is_file():
        return None
    try:
        record = json.loads((run / METRICS).read_text())
        number = {name: place for place, name in enumerate(record["classes"])}
        rows: dict[str, list[Picture]] = {name: [] for name in record["sets"]}
        with (run / PREDICTIONS).open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file, strict=True):
                rows[row["split"]].append(Picture(row["path"], row["label"], row["split"], row["group"]))
        with np.load(run / OUTPUTS, allow_pickle=False) as arrays:
            sets = {
                name: SetResults(
                    pictures,
                    np.array([number[picture.label] for picture in pictures], np.int64),
                    arrays[f"{name}/logits"],
                    arrays[f"{name}/features"],
                )
                for name, pictures in rows.items()
            }
        if any(len(each.logits) != len(each.labels) for each in sets.values()):
            raise ValueError(f"{PREDICTIONS} and {OUTPUTS} are of different tests")
        return Results(record["classes"], record["checkpoint"], record["source"], record["root"], record["known"], sets)
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        problem = " ".join(str(error).split())
        raise UserError(f"{run}: what gfnet test left there cannot be read ({problem}); run gfnet test again") from None


def likeliest(shares: Floats, classes: Sequence[str]) -> Iterable[tuple[str, str, str]]:
    """Of (N, classes) probabilities, each row's likeliest class, its probability and "A:0.98 F:0.01 M:0.00"."""
    places = np.argsort(-shares, axis=1, kind="stable")[:, :3]
    for top, values in zip(places.tolist(), np.take_along_axis(shares, places, 1).tolist(), strict=True):
        named = [f"{classes[place]}:{value:.4f}" for place, value in zip(top, values, strict=True)]
        yield classes[top[0]], f"{values[0]:.4f}", " ".join(named)


def read_calibration(checkpoint: Path) -> Calibration | None:
    """The calibration of a checkpoint; None where there is none, or it is of other weights in a file of this name."""
    file = side_file(checkpoint)
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text())
        if found["sha256"] != sha256(checkpoint):
            return None
        return Calibration(float(found["temperature"]), [Rejection(**each) for each in found["rejections"]])
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = " ".join(str(error).split())
        raise UserError(f"{file} cannot be read ({problem}); remove it, or run gfnet test again") from None


def side_file(checkpoint: Path) -> Path:
    """`best.ckpt` -> `best.calibration.json` beside it."""
    return checkpoint.with_suffix(".calibration.json")


def sha256(file: Path) -> str:
    """Of a file's bytes, in hexadecimal."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
