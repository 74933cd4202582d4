"""What an export says about itself: `export.json`, and the same description inside of the ONNX files.

It is read without torch, so that a program with onnxruntime alone can use an export.
"""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from gfnet_pl.data.canvas import Canvas
from gfnet_pl.errors import UserError
from gfnet_pl.evaluation.calibration import Calibration, Rejection
from gfnet_pl.files import read_json, reading, replacing, sha256
from gfnet_pl.run.folder import ExportFolder, RunFolder, calibration_beside

FORMAT = 1  # of export.json and of the graph's inputs and outputs


@dataclass(frozen=True)
class Description:
    """What a net is, for whoever uses it elsewhere. All values are plain.

    Attributes:
        format: Of these fields; another number is of another version.
        version: Of this package.
        commit: Of the checkout that trained the net; None if unknown.
        run: Stage and version of the run.
        checkpoint_sha256: Of the checkpoint that was exported.
        weights_sha256: Of model.safetensors, the same weights without anything else.
        opset: Of the ONNX graph.
        classes: Names in the order of the logits.
        canvas: height, width, colour and fit, see `data.canvas.Canvas`.
        input: The name, type and axes of the graph's input, in words.
        outputs: The graph's outputs by name, in words.
        preparation: How a picture's file becomes the input, in the order of the operations.
        source: Where the data come from.
        synthetic: Whether they are drawn, so that no figure here says anything about real pictures.
        calibrated: For whom the probabilities and thresholds hold, in words.
        temperature: By which the logits are divided before the softmax; it is in the graph.
        thresholds: error_rate and threshold (the lowest probability that is accepted, or None) for each error rate. The
            first is the one by which predictions are accepted. Empty if the run was not tested.
        new_groups: Number of new people that this was fitted on, see `Calibration`.
        familiar_within: The largest output `distance` at which a picture is like the training pictures; None if the
            graph has no such output.
        accuracy: For each evaluated set, the one to trust first: share, low and high (95 %), images, people and
            over_people (see `figures.Promise`), and worst: name, share and images of the worst person, or None.
        mirrored_views: Whether the net looks at each picture in a mirror by itself.
    """

    format: int
    version: str
    commit: str | None
    run: str
    checkpoint_sha256: str
    weights_sha256: str
    opset: int
    classes: list[str]
    canvas: dict[str, Any]
    input: str
    outputs: dict[str, str]
    preparation: list[str]
    source: str
    synthetic: bool
    calibrated: str
    temperature: float
    thresholds: list[dict[str, Any]]
    new_groups: int
    familiar_within: float | None
    accuracy: dict[str, dict[str, Any]]
    mirrored_views: bool = False  # an export of an earlier version does not say it

    @property
    def size(self) -> Canvas:
        """What every picture is made into."""
        return Canvas(**self.canvas)

    @property
    def calibration(self) -> Calibration:
        """Temperature and thresholds; familiarity is an output of the graph."""
        return Calibration(self.temperature, [Rejection(**each) for each in self.thresholds], self.new_groups)


@dataclass(frozen=True)
class Export:
    """The record of an export.

    Attributes:
        description: Of the net.
        files: Size in bytes and SHA-256 of each file, by name.
        checkpoint: The path of the checkpoint, as in the command that exported it.
        calibration_sha256: Of the file of its calibration; "" without one.
        checks: A row for each format, see `export.check.Checked`.
        speeds: A row for each format, see `export.speed.Speed`.
        machine: On which the speeds were measured, in words.
        left_out: Why a file was not written, by its name.
    """

    description: Description
    files: dict[str, dict[str, Any]]
    checkpoint: str
    calibration_sha256: str
    checks: list[dict[str, Any]] = field(default_factory=list)
    speeds: list[dict[str, Any]] = field(default_factory=list)
    machine: str = ""
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def headings(self) -> list[str]:
        """Of the columns of `rows`: `format`, then size, accuracy by set in percent, and speed."""
        sets = list(self.checks[0]["accuracy"])
        return ["format", "MB", *sets, "changed", "ms", "95 %", "per s", "memory"]

    @property
    def rows(self) -> list[list[str]]:
        """A row for each format, that of the checkpoint in PyTorch first, in words."""
        checks, own = {each["name"]: each for each in self.checks}, self.checks[0]
        return [_cells(row, checks.get(row["name"], own), row["name"] not in checks) for row in self.speeds]

    @property
    def legend(self) -> str:
        """What the columns mean."""
        return (
            f"On {self.machine}. changed: pictures with another class than by PyTorch; ms: one picture on one core, "
            "median and 95th percentile; per s: pictures in batches of 64 on all cores; memory: peak of the process"
        )


def _cells(speed: dict[str, Any], check: dict[str, Any], is_own: bool) -> list[str]:
    return [
        "PyTorch" if is_own else speed["name"],
        f"{speed['bytes'] / 1e6:.1f}",
        *(f"{100 * share:.2f}" for share in check["accuracy"].values()),
        "-" if is_own else f"{check['changed']:,}",
        f"{speed['one']:.2f}",
        f"{speed['one_95']:.2f}",
        f"{speed['per_second']:,.0f}",
        f"{speed['memory'] / 1e6:,.0f} MB" if speed["memory"] else "-",
    ]


def write_export(folder: ExportFolder, export: Export) -> None:
    """Writes the record of an export."""
    with replacing(folder.record) as file:
        file.write(json.dumps(asdict(export), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_export(folder: ExportFolder) -> Export | None:
    """Reads the record of an export; None if there is none.

    Raises:
        UserError: It cannot be read, or is of another version.
    """
    if not folder.record.is_file():
        return None
    with reading(folder.record, "run gfnet export again"):
        found = read_json(folder.record)
        if found["description"]["format"] != FORMAT:
            raise ValueError(f"its format is {found['description']['format']}, not {FORMAT}")
        said = {"mirrored_views": False} | found["description"]
        known = {each.name: said[each.name] for each in fields(Description)}
        return Export(**found | {"description": Description(**known)})


def export_of(run: RunFolder, folder: ExportFolder | None = None, *, checkpoint: Path | None = None) -> Export | None:
    """The export in a run's folder, or in another one.

    None if there is none, or if it is not of this checkpoint (default: the run's) and its calibration as they are now.
    """
    if (export := read_export(folder or run.export)) is None:
        return None
    checkpoint = checkpoint or run.checkpoint_to_test()
    same = export.description.checkpoint_sha256 == sha256(checkpoint)
    return export if same and export.calibration_sha256 == calibration_digest(checkpoint) else None


def calibration_digest(checkpoint: Path) -> str:
    """The SHA-256 of the file of a checkpoint's calibration; "" without one."""
    file = calibration_beside(checkpoint)
    return sha256(file) if file.is_file() else ""


def intact(folder: ExportFolder, export: Export, file: Path) -> Path:
    """A file of an export, if its bytes are those that were exported and checked.

    Raises:
        UserError: It is missing, cut, changed, or of another export.
    """
    written = export.files.get(file.name)
    if written is None:
        raise UserError(f"{folder.path} was exported without {file.name}; run gfnet export again")
    if not file.is_file():
        raise UserError(f"{file} does not exist; run gfnet export again")
    if file.stat().st_size != written["bytes"] or sha256(file) != written["sha256"]:
        raise UserError(
            f"{file} is damaged, or of another export: it is not the file that was checked; export it again"
        )
    return file
