"""What a run says of its net, in plain values, for whoever uses the net without the run."""

from pathlib import Path
from typing import Any

from gfnet_pl import __version__
from gfnet_pl.data.decode import steps
from gfnet_pl.evaluation.calibration import Calibration
from gfnet_pl.evaluation.figures import Promise, worst_person
from gfnet_pl.export.graph import DISTANCE, INPUT, OF_DISTANCE, OPSET, OUTPUTS
from gfnet_pl.files import sha256
from gfnet_pl.hand_signs.files import version_of
from gfnet_pl.run.checkpoint import Checkpoint
from gfnet_pl.run.export import FORMAT, Description
from gfnet_pl.run.folder import RunFolder
from gfnet_pl.run.record import read_sessions
from gfnet_pl.run.results import Results
from gfnet_pl.run.run import read_if_tested
from gfnet_pl.run.trained_data import data_root


def describe(run: RunFolder, checkpoint: Checkpoint, calibration: Calibration, weights: str) -> Description:
    """Describes a net.

    Args:
        run: Its run.
        checkpoint: Its checkpoint.
        calibration: Of the checkpoint.
        weights: SHA-256 of model.safetensors.
    """
    tested, sessions, canvas = read_if_tested(run), read_sessions(run), checkpoint.canvas
    learned = calibration.familiarity
    return Description(
        format=FORMAT,
        version=__version__,
        commit=sessions[-1].get("commit") if sessions else None,
        run=run.name,
        checkpoint_sha256=sha256(checkpoint.path),
        weights_sha256=weights,
        opset=OPSET,
        classes=checkpoint.classes,
        canvas=canvas._asdict(),
        input=f"{INPUT}: uint8 (batch, {canvas.channels}, {canvas.height}, {canvas.width}), levels 0 to 255, rows from "
        "top to bottom" + (", red, green and blue" if canvas.colour else ""),
        outputs=OUTPUTS | ({DISTANCE: OF_DISTANCE} if learned else {}),
        preparation=steps(canvas),
        source=source(checkpoint),
        synthetic=(root := data_root(checkpoint)) is None or version_of(Path(root)) > 0,
        calibrated=calibration.promise,
        temperature=calibration.temperature,
        thresholds=[each._asdict() for each in calibration.rejections],
        new_groups=calibration.new_groups,
        familiar_within=learned.limit if learned else None,
        accuracy=accuracy(tested.results) if tested else {},
        mirrored_views=checkpoint.arguments.get("mirrored_views", False),
    )


def source(checkpoint: Checkpoint) -> str:
    """Where the data of a checkpoint's run come from: the name of their folder without its path, which is private."""
    if (root := data_root(checkpoint)) is not None:
        return Path(root).name
    sessions = read_sessions(checkpoint.run) if checkpoint.run else []
    return str(sessions[-1].get("data", "")) if sessions else "embedded data"


def accuracy(results: Results) -> dict[str, dict[str, Any]]:
    """The accuracy of each set, see `Description`."""
    found = {}
    for name in in_order(results):
        figures = results.figures[name]
        promise, worst = Promise.of(name, figures, results.known), worst_person(figures)
        found[name] = {
            "share": figures.accuracy.share,
            "low": promise.low,
            "high": promise.high,
            "images": figures.accuracy.images,
            "people": promise.people.value,
            "over_people": promise.over_people,
            "worst": worst and {"name": worst[0], "share": worst[1].share, "images": worst[1].images},
        }
    return found


def in_order(results: Results) -> list[str]:
    """The names of the sets, the one to trust first."""
    first = results.trusted
    return [first, *(name for name in results.figures if name != first)]
