"""Exports a run's net: it is written aside, checked against the checkpoint, measured, and then put in its place."""

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gfnet_pl.errors import UserError, require
from gfnet_pl.evaluation.calibration import Calibration
from gfnet_pl.export.check import Checked, Reference, check_int8, check_onnx, check_own, check_weights
from gfnet_pl.export.describe import describe
from gfnet_pl.export.graph import Exported, write_onnx
from gfnet_pl.export.int8 import WAYS, loss, write_int8
from gfnet_pl.export.speed import SECONDS, speeds
from gfnet_pl.export.vectors import Vectors
from gfnet_pl.files import sha256
from gfnet_pl.locks import held
from gfnet_pl.model.weights import write_weights
from gfnet_pl.run.checkpoint import Checkpoint
from gfnet_pl.run.export import Export, calibration_digest, intact, read_export, write_export
from gfnet_pl.run.folder import ExportFolder, RunFolder
from gfnet_pl.run.record import machine
from gfnet_pl.run.result_files import read_calibration

log = logging.getLogger(__name__)

_PACKAGES = ("onnx", "onnxscript", "onnxruntime", "safetensors")


def export_run(run: RunFolder, folder: ExportFolder, *, data: str | None, max_drop: float) -> Export:
    """Exports the best checkpoint of a run.

    Args:
        run: The run.
        folder: Where to. Files of an earlier export there are replaced; others stay.
        data: Where the run's pictures are now; default: where they were.
        max_drop: How much accuracy int8 may lose, in points.

    Raises:
        UserError: A package or the pictures are missing, or the export is not the net of the checkpoint. Then nothing
            is left of it, and an earlier export is as it was.
    """
    require(*_PACKAGES, what="gfnet export")
    checkpoint = Checkpoint.load(run.checkpoint_to_test())
    calibration = (read_calibration(checkpoint.path) or Calibration()).in_float32()
    if not calibration.rejections:
        log.warning(
            "%s has not been tested: the export says no accuracy, its probabilities are not calibrated, and whether to "
            "accept a prediction is unknown; run gfnet test, then export again",
            run.path,
        )
    reference = Reference.of(checkpoint, calibration, data)
    with _aside(folder) as aside:
        reference.vectors.write(aside.vectors)
        exported = Exported(checkpoint.net(), calibration)
        write_weights(aside.weights, exported.net, checkpoint.arguments, checkpoint.classes, exported.learned)
        description = describe(run, checkpoint, calibration, sha256(aside.weights))
        write_onnx(aside.onnx, exported, description)
        own = check_own(reference)
        checks = [own, check_weights(aside, reference), check_onnx(aside, reference)]
        left_out = {}
        for way in WAYS.values():
            write_int8(aside.onnx, aside.int8, **way)
            small = check_int8(aside, reference)
            lost, where = loss(small, own)
            if lost <= max_drop:
                checks.append(small)
                break
            aside.int8.unlink()
        else:
            left_out[aside.int8.name] = f"it loses {lost:.1f} points on {where}, and --max-drop is {max_drop:g}"
        canvas = checkpoint.canvas
        models = [checkpoint.path, *(file for file in (aside.onnx, aside.int8) if file.is_file())]
        timed = speeds(models, (canvas.channels, canvas.height, canvas.width), SECONDS)
        export = Export(
            description=description,
            files={file.name: _stamp(file) for file in sorted(aside.path.iterdir())},
            checkpoint=str(checkpoint.path),
            calibration_sha256=calibration_digest(checkpoint.path),
            checks=[asdict(each) for each in checks],
            speeds=[asdict(each) for each in timed],
            machine=machine(),
            left_out=left_out,
        )
        write_export(aside, export)
    return export


def check_export(folder: ExportFolder, *, data: str | None) -> list[Checked]:
    """Compares all formats of an export with its test vectors, and with the checkpoint if that is here.

    Args:
        folder: The export.
        data: Where the run's pictures are now; default: where they were.

    Returns:
        A row for the checkpoint, if it is here, and one for each format.

    Raises:
        UserError: A file is missing or damaged, a package is missing, the classes are others than the checkpoint's, or
            a format in float32 gives something else.
    """
    require(*_PACKAGES, what="gfnet export")
    export = read_export(folder)
    if export is None:
        raise UserError(f"{folder.path} is no export; name a folder that gfnet export wrote")
    for name in export.files:
        intact(folder, export, folder.path / name)
    vectors = Vectors.read(folder.vectors)
    vectors.check_decoding(export.description.size)
    checkpoint = _checkpoint(folder, export)
    if checkpoint is None:
        log.warning("%s is not here any more: only the test vectors are compared", export.checkpoint)
        reference = Reference(vectors)
    elif checkpoint.classes != export.description.classes:
        raise UserError(f"{folder.path} has other classes than {checkpoint.path}: export it again")
    else:
        calibration = read_calibration(checkpoint.path) or Calibration()
        reference = Reference.of(checkpoint, calibration, data, vectors)
    checks = [] if checkpoint is None else [check_own(reference)]
    checks += [check_weights(folder, reference), check_onnx(folder, reference)]
    return [*checks, check_int8(folder, reference)] if folder.int8.name in export.files else checks


def _checkpoint(folder: ExportFolder, export: Export) -> Checkpoint | None:
    """The checkpoint of an export, in the run around it or where it was; None if it is gone, or another one by now."""
    around = RunFolder(folder.path.absolute().parent).checkpoint(Path(export.checkpoint).name)
    for path in (around, Path(export.checkpoint)):
        if path.is_file() and sha256(path) == export.description.checkpoint_sha256:
            return Checkpoint.load(path)
    return None


@contextmanager
def _aside(folder: ExportFolder) -> Iterator[ExportFolder]:
    """A folder in `folder` to write to. Its files are moved up at the end, the record last; after an error they go.

    Whoever reads in between finds files that the record does not know, and says so. What others put there stays.

    Raises:
        UserError: Another process writes there.
    """
    aside, is_new = ExportFolder(folder.path / ".partial"), not folder.path.exists()
    folder.path.mkdir(parents=True, exist_ok=True)
    busy = f"{folder.path}: another gfnet export writes there; wait for it, or give another --out"
    try:
        with held(folder.path / ".lock", busy):
            try:
                shutil.rmtree(aside.path, ignore_errors=True)
                aside.path.mkdir()
                yield aside
                written = [file.name for file in aside.path.iterdir()]
                for name in sorted(written, key=lambda name: name == aside.record.name):
                    os.replace(aside.path / name, folder.path / name)
                if folder.int8.name not in written:
                    folder.int8.unlink(missing_ok=True)  # of an earlier export
                is_new = False
            finally:
                shutil.rmtree(aside.path, ignore_errors=True)
    except OSError as error:  # libraries write here, and ONNX Runtime also into the folder of temporary files
        error.filename = error.filename or f"{folder.path} or {tempfile.gettempdir()}"
        raise
    finally:
        if is_new:
            with suppress(OSError):
                folder.path.rmdir()


def _stamp(file: Path) -> dict[str, Any]:
    return {"bytes": file.stat().st_size, "sha256": sha256(file)}
