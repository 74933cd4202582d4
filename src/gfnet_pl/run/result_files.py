"""What `gfnet test` writes into a run's folder and `gfnet report` reads: a row per picture, figures, calibration.

- `predictions.csv`: path, split, group, label, prediction, probability (calibrated) and the three likeliest classes.
- `outputs.npz`: each set's logits and features, in the order of those rows.
- `metrics.json`: the figures of every set, see `figures.SetFigures`.
- beside the checkpoint, `best.calibration.json`: the temperature and the thresholds that `gfnet predict` uses, and
  `best.calibration.npz`: what was learned, see `evaluation.familiarity`.
"""

import json
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from gfnet_pl.data.manifest import Picture
from gfnet_pl.evaluation.calibration import Calibration, Rejection
from gfnet_pl.evaluation.familiarity import Familiarity
from gfnet_pl.files import flush, read_json, reading, replacing, sha256
from gfnet_pl.locks import held
from gfnet_pl.run.folder import RunFolder, calibration_beside, learned_beside, run_of
from gfnet_pl.run.predictions import likeliest
from gfnet_pl.run.results import Results, SetResults
from gfnet_pl.tables import read_records, write_rows

_COLUMNS = ("path", "split", "group", "label", "prediction", "probability", "top3")
_AGAIN = "run gfnet test again"
_LEARNED = "learned"  # no set has this name


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
