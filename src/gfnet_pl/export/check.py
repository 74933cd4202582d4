"""Whether an exported net is the net of the checkpoint: both on the same pictures, compared."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gfnet_pl.data.collection import Collection, collect
from gfnet_pl.data.splits import EVALUATED
from gfnet_pl.errors import UserError
from gfnet_pl.evaluation.calibration import Calibration
from gfnet_pl.export.graph import Exported
from gfnet_pl.export.runtime import OnnxRuntime, Outputs, Runtime, TorchRuntime, channels_first, run_all
from gfnet_pl.export.vectors import Vectors, choose
from gfnet_pl.model.gfnet import GFNet
from gfnet_pl.run.checkpoint import Checkpoint
from gfnet_pl.run.folder import ExportFolder
from gfnet_pl.run.trained_data import data_root

Ints = npt.NDArray[np.int64]

CHECKPOINT = "checkpoint"
LIMIT = 1e-4  # of the largest output: sums in another order differ by some 1e-6 of it
_MOST_TRAINED = 1_000  # training pictures, compared only if a run has no others


@dataclass(frozen=True)
class OneSet:
    """A set to compare on.

    Attributes:
        rows: (N,) in the collection's images.
        labels: (N,) positions in the class names.
        groups: (N,) names; "" if unknown.
    """

    rows: Ints
    labels: Ints
    groups: list[str]


@dataclass(frozen=True)
class Reference:
    """What the checkpoint gives.

    Attributes:
        vectors: On the test vectors.
        images: The run's pictures, decoded; None if they, or the checkpoint, are not here.
        sets: Those of them to compare on, by name.
        outputs: The outputs on each set.
        state: The net's weights.
    """

    vectors: Vectors
    images: npt.NDArray[np.uint8] | None = None
    sets: dict[str, OneSet] = field(default_factory=dict)
    outputs: dict[str, Outputs] = field(default_factory=dict)
    state: dict[str, Tensor] | None = None

    @classmethod
    def of(
        cls, checkpoint: Checkpoint, calibration: Calibration, data: str | None, vectors: Vectors | None = None
    ) -> "Reference":
        """Runs a checkpoint on its run's validation set and, if there is one, on the unseen set.

        Args:
            checkpoint: The checkpoint; it must lie in its run.
            calibration: Of the checkpoint.
            data: Where the run's pictures are now; default: where they were.
            vectors: The test vectors; default: they are chosen from these sets.

        Raises:
            UserError: The pictures are gone, or an output is not finite.
        """
        found = _pictures(checkpoint, data)
        sets = _sets(found, checkpoint.classes)
        runtime = TorchRuntime(Exported(checkpoint.net(), calibration))
        outputs = {name: _run(runtime, found.images, name, each, CHECKPOINT) for name, each in sets.items()}
        if vectors is None:
            places = choose(found, [*reversed(sets)])  # of new people first: they are the harder ones
            pixels = np.ascontiguousarray(found.images[found.rows[places]])
            labels = [checkpoint.classes.index(found.pictures[place].label) for place in places]
            vectors = Vectors.of(found, places, np.array(labels, np.int64), pixels, run_all(runtime, pixels))
        return cls(vectors, found.images, sets, outputs, checkpoint.net().state_dict())


@dataclass(frozen=True)
class Checked:
    """What came of the comparison of one format with the checkpoint.

    Attributes:
        name: The file, or "checkpoint".
        pictures: How many were compared; 0 if only the test vectors were.
        difference: The largest difference of a logit on them.
        changed: Those whose class is another one.
        accuracy: Share that is right by set.
        worst: Share of the worst group by set, where groups are known.
        vectors: The largest difference of any output on the test vectors.
    """

    name: str
    pictures: int
    difference: float
    changed: int
    accuracy: dict[str, float]
    worst: dict[str, float]
    vectors: float


def check_own(reference: Reference) -> Checked:
    """The row of the checkpoint itself."""
    return _compared(CHECKPOINT, reference.outputs, reference, 0.0)


def check_weights(folder: ExportFolder, reference: Reference) -> Checked:
    """Compares model.safetensors, bit for bit if the checkpoint is here.

    Raises:
        UserError: It differs.
    """
    net = GFNet.from_export(folder.path)
    if reference.state is not None:
        mine = net.state_dict()
        same = mine.keys() == reference.state.keys()
        if not same or not all(torch.equal(mine[name], value) for name, value in reference.state.items()):
            raise UserError(f"{folder.weights} does not hold the weights of the checkpoint: export it again")
    with torch.inference_mode():
        logits = net(torch.from_numpy(channels_first(reference.vectors.pixels))).numpy()
    wanted = reference.vectors.outputs.logits
    # The weights are the same, so the outputs are.
    return _as_good(_compared(folder.weights.name, reference.outputs, reference, _largest(logits, wanted)), reference)


def check_onnx(folder: ExportFolder, reference: Reference) -> Checked:
    """Compares model.onnx.

    Raises:
        UserError: It cannot be run, or gives something else than the checkpoint.
    """
    return _as_good(_checked(OnnxRuntime(folder.onnx), folder.onnx.name, reference), reference)


def check_int8(folder: ExportFolder, reference: Reference) -> Checked:
    """Compares model.int8.onnx, which may differ."""
    return _checked(OnnxRuntime(folder.int8), folder.int8.name, reference)


def _checked(runtime: Runtime, name: str, reference: Reference) -> Checked:
    given = {}
    for of_set, each in reference.sets.items():
        assert reference.images is not None
        given[of_set] = _run(runtime, reference.images, of_set, each, name)
    pairs = zip(run_all(runtime, reference.vectors.pixels), reference.vectors.outputs, strict=True)
    off = max(_largest(one, other) for one, other in pairs if one is not None and other is not None)
    return _compared(name, given, reference, off)


def _compared(name: str, given: dict[str, Outputs], reference: Reference, vectors: float) -> Checked:
    accuracy, worst = {}, {}
    for of_set, each in reference.sets.items():
        right = given[of_set].logits.argmax(1) == each.labels
        accuracy[of_set] = float(right.mean())
        if all(each.groups):
            groups = np.array(each.groups)
            worst[of_set] = min(float(right[groups == group].mean()) for group in set(each.groups))
    pairs = [(given[of_set].logits, wanted.logits) for of_set, wanted in reference.outputs.items()]
    return Checked(
        name=name,
        pictures=sum(len(one) for one, _ in pairs),
        difference=max((_largest(one, other) for one, other in pairs), default=0.0),
        changed=sum(int((one.argmax(1) != other.argmax(1)).sum()) for one, other in pairs),
        accuracy=accuracy,
        worst=worst,
        vectors=vectors,
    )


def _as_good(checked: Checked, reference: Reference) -> Checked:
    """Raises an error unless no picture has another class, and no output is further off than rounding explains."""
    outputs = reference.vectors.outputs
    of_logits = LIMIT * max(1.0, float(np.abs(outputs.logits).max()))
    of_all = LIMIT * max(1.0, *(float(np.abs(value).max()) for value in outputs if value is not None))
    if checked.changed or not checked.difference <= of_logits or not checked.vectors <= of_all:
        raise UserError(
            f"{checked.name} is not the net of the checkpoint: {checked.changed:,} of {checked.pictures:,} pictures "
            f"have another class, logits are up to {checked.difference:.2g} off, test vectors by {checked.vectors:.2g}"
        )
    return checked


def _largest(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    return float(np.abs(one - other).max())


def _run(runtime: Runtime, images: npt.NDArray[np.uint8], of_set: str, each: OneSet, name: str) -> Outputs:
    outputs = run_all(runtime, images, each.rows, f"{name}: {of_set}")
    if not all(np.isfinite(value).all() for value in outputs if value is not None):
        raise UserError(f"{name} gives no finite numbers for some {of_set} pictures: its weights are not finite")
    return outputs


def _pictures(checkpoint: Checkpoint, data: str | None) -> Collection:
    if (splits := checkpoint.own_splits) is None:
        raise UserError(f"{checkpoint.path} lies in no run, so there are no pictures to check an export with")
    root = data if data is not None else data_root(checkpoint)
    try:
        return collect(root, canvas=checkpoint.canvas, splits=str(splits), skip_broken=True)
    except UserError as error:
        reason = str(error).partition(";")[0]  # the advice behind it is for other commands
        raise UserError(
            f"an export is checked on the run's pictures: {reason}; --data DIR says where they are"
        ) from None


def _sets(found: Collection, classes: list[str]) -> dict[str, OneSet]:
    """The sets val and unseen; if there is neither, other evaluated ones; if there are none, training pictures."""
    place = {name: number for number, name in enumerate(classes)}
    there = {picture.split for picture in found.pictures}
    evaluated: list[str] = [name for name in EVALUATED if name in there]
    names = [name for name in evaluated if name in ("val", "unseen")] or evaluated
    sets = {}
    for name in names or ["train"]:
        mine = [number for number, picture in enumerate(found.pictures) if picture.split == name]
        mine = mine if names else mine[:: max(1, len(mine) // _MOST_TRAINED)]
        pictures = [found.pictures[number] for number in mine]
        labels = np.array([place[picture.label] for picture in pictures], np.int64)
        sets[name] = OneSet(found.rows[mine], labels, [picture.group for picture in pictures])
    return sets
