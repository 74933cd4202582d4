"""A trained net from Python, in three lines: load it, give it pictures, read the class.

    classifier = Classifier.load("runs/robust/version_0")
    print(classifier("hand.jpg").label)

It takes an export's ONNX file and onnxruntime where both are there, otherwise PyTorch; never Lightning.
"""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Literal, cast, overload

import numpy as np
import numpy.typing as npt
from PIL import Image

from gfnet_pl.data.canvas import Canvas
from gfnet_pl.data.decode import Images, picture_in_memory, read_picture
from gfnet_pl.data.packed import file_of
from gfnet_pl.errors import UserError, nearest, require
from gfnet_pl.evaluation.calibration import Calibration
from gfnet_pl.evaluation.enrolment import Enrolment, Seen, better_mirrored, mirror_images
from gfnet_pl.export.runtime import OnnxRuntime, Outputs, Runtime, batch_of, run_all
from gfnet_pl.files import refuse_url, sha256
from gfnet_pl.run.export import Export, export_of, intact, read_export
from gfnet_pl.run.folder import ExportFolder, RunFolder, run_of

Picture = str | PathLike[str] | bytes | Image.Image | npt.NDArray[np.generic]
By = Literal["onnxruntime", "torch"]

log = logging.getLogger(__name__)

TOP = 3  # classes of a prediction


@dataclass(frozen=True)
class Prediction:
    """What a net says of a picture.

    Attributes:
        label: The most probable class.
        probability: Its probability, calibrated, 0 to 1.
        top: The three most probable classes (or as many as were asked for) with their probabilities, the first one
            first.
        accepted: Whether the probability is so high, and the picture so much like the training pictures, that at most
            1 % of those accepted are wrong; None if that is unknown, as for a run that was not tested.
        reason: Why it is not accepted, or why that is unknown; "" if it is accepted.
        features: (D,) from which the last layer classifies.
    """

    label: str
    probability: float
    top: list[tuple[str, float]]
    accepted: bool | None
    reason: str
    features: npt.NDArray[np.float32]


class Classifier:
    """A net with its classes, its calibration, and what pictures are made into for it.

    `Classifier.load` makes one.

    Args:
        runtime: What runs the net.
        classes: Names in the order of the logits.
        canvas: What every picture is made into.
        calibration: Temperature and thresholds.
        familiar_within: The largest distance of a picture that is like the training pictures; None if unknown.
        mirrored_views: Whether the net looks at each picture in a mirror by itself.
        file: The file of the net.
        digest: SHA-256 of the checkpoint that the net is of.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        classes: Sequence[str],
        canvas: Canvas,
        calibration: Calibration,
        familiar_within: float | None,
        mirrored_views: bool = False,
        file: Path = Path(),
        digest: str = "",
    ) -> None:
        self.runtime, self.classes, self.canvas, self.file, self.digest = runtime, list(classes), canvas, file, digest
        self.calibration, self.familiar_within = calibration, familiar_within
        self.mirrored_views = mirrored_views

    @classmethod
    def load(cls, path: str | PathLike[str], *, by: By | None = None) -> "Classifier":
        """Loads a net.

        Args:
            path: The folder of a run or of an export, or a checkpoint. Of a run and a checkpoint, the run's own export
                is taken if it is whole, and of the same weights and calibration; otherwise the checkpoint.
            by: What runs the net. Default: onnxruntime where it and an export are there, otherwise PyTorch.

        Raises:
            UserError: There is no such run or export, a file is damaged, or what is to run it is missing.
        """
        given = Path(path)
        by_onnxruntime = by == "onnxruntime" or (by is None and find_spec("onnxruntime") is not None)
        if (export := read_export(ExportFolder(given))) is not None:
            return cls._of_onnx(ExportFolder(given), export) if by_onnxruntime else cls._of_weights(given, export)
        is_checkpoint = given.is_file() or given.suffix == ".ckpt"
        checkpoint = given if is_checkpoint else RunFolder(given).checkpoint_to_test()
        run = run_of(checkpoint) if is_checkpoint else RunFolder(given)
        if by_onnxruntime and run and checkpoint.is_file():
            try:
                if (export := export_of(run, checkpoint=checkpoint)) is not None:
                    return cls._of_onnx(run.export, export)
            except UserError as error:  # the checkpoint is as good
                if by == "onnxruntime":
                    raise
                log.warning("%s; until then, %s is taken", error, checkpoint)
        if by == "onnxruntime":
            raise UserError(f"{path} has no export of its present net for onnxruntime: run gfnet export {path}")
        return cls._of_checkpoint(checkpoint)

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, pictures: Picture, *, top: int = TOP, person: Enrolment | None = None
    ) -> Prediction: ...

    @overload
    def __call__(
        self, pictures: Sequence[Picture], *, top: int = TOP, person: Enrolment | None = None
    ) -> list[Prediction]: ...

    def __call__(
        self, pictures: Picture | Sequence[Picture], *, top: int = TOP, person: Enrolment | None = None
    ) -> Prediction | list[Prediction]:
        """Classifies a picture, or each one of a list.

        Args:
            pictures: A path, the bytes of a file, an image of Pillow, or an array of levels (H, W) or (H, W, 3); or a
                list or tuple of such. Of a JPEG, path and bytes give exactly the pixels that training saw: they are
                decoded at a reduced scale. Those of an image or array may differ by a few levels.
            top: How many classes `Prediction.top` has, at most.
            person: Whose pictures they are, see `enrol`. Default: of somebody whom the net does not know.

        Returns:
            A prediction for a picture, a list of them for a list.

        Raises:
            UserError: A picture cannot be read, or is none of these.
        """
        if not isinstance(pictures, list | tuple):
            return self([cast(Picture, pictures)], top=top, person=person)[0]
        found: list[Prediction] = []
        step = batch_of(self.canvas.height, self.canvas.width)  # so that a long list of files needs little memory
        for start in range(0, len(pictures), step):
            pixels = np.stack([self.prepare(picture) for picture in pictures[start : start + step]])
            pixels = person.seen(pixels) if person is not None else pixels
            found += self.predictions(run_all(self.runtime, pixels), top=top, person=person)
        return found

    def prepare(self, picture: Picture) -> Images:
        """What the net is shown of a picture: `canvas.shape`, 0 to 255. For the arguments see `__call__`."""
        if isinstance(picture, bytes | bytearray | memoryview):
            return read_picture(bytes(picture), self.canvas)
        if isinstance(picture, Image.Image):
            return picture_in_memory(picture, self.canvas)
        if isinstance(picture, str | PathLike):
            refuse_url("the picture", picture)
            path = Path(picture)
            if path.is_dir():
                raise UserError(f"{path} is a folder: give a list of its pictures")
            if not os.path.exists(file_of(str(path))):
                raise UserError(f"{path} does not exist")
            return read_picture(path, self.canvas)
        return picture_in_memory(_image(np.asarray(picture)), self.canvas)

    def enrol(self, pictures: Mapping[str, Sequence[Picture]]) -> Enrolment:
        """Learns how a person makes the signs, from one or more pictures of each; nothing is trained.

        Args:
            pictures: The person's pictures by class. Classes may be missing; they stay as the net has them.

        Returns:
            What to give as `person`. `run.enrolled.write_enrolment` keeps it.

        Raises:
            UserError: There is no picture, the net has no such class, or a picture cannot be read.
        """
        if unknown := [name for name in pictures if name not in self.classes]:
            raise UserError(f"the net has no class {unknown[0]!r}{nearest(unknown[0], self.classes)}")
        given = [(self.classes.index(name), each) for name, several in pictures.items() for each in several]
        if not given:
            raise UserError("there is no picture to enrol somebody with")
        return self.enrolment(
            np.stack([self.prepare(each) for _, each in given]), np.array([label for label, _ in given])
        )

    def enrolment(self, pixels: Images, labels: npt.NDArray[np.int64]) -> Enrolment:
        """The same from decoded pictures, (N, *canvas.shape), and their places among the classes, (N,)."""
        found = run_all(self.runtime, pixels)
        if self.mirrored_views:  # the net looks in the mirror by itself
            return Enrolment.of(found.features, labels, len(self.classes))
        in_mirror = run_all(self.runtime, mirror_images(pixels))
        mirrored = better_mirrored(self.seen(found), self.seen(in_mirror), labels)
        features = (in_mirror if mirrored else found).features
        return Enrolment.of(features, labels, len(self.classes), mirrored=mirrored)

    def seen(self, outputs: Outputs) -> Seen:
        """The net's outputs as an enrolment takes them."""
        return Seen.of(outputs.probabilities, outputs.features, outputs.distance, self.familiar_within)

    def predictions(self, outputs: Outputs, *, top: int = TOP, person: Enrolment | None = None) -> list[Prediction]:
        """What the net's outputs say of the pictures that they are of; for the arguments see `__call__`.

        They are of what `person.seen` gives of that person's pictures.
        """
        shares = outputs.probabilities
        if person is not None:
            shares = person.probabilities(shares, outputs.features)
        return list(self._predictions(outputs._replace(probabilities=shares), top))

    def _predictions(self, outputs: Outputs, count: int) -> Iterator[Prediction]:
        shares = outputs.probabilities
        familiar = np.ones(len(shares), bool)
        if self.familiar_within is not None and outputs.distance is not None:
            familiar = outputs.distance <= self.familiar_within
        verdicts = self.calibration.verdicts_on(shares.max(1), familiar)
        order = np.argsort(-shares, axis=1, kind="stable")[:, :count]
        for row, places, features, verdict in zip(shares, order.tolist(), outputs.features, verdicts, strict=True):
            top = [(self.classes[place], float(row[place])) for place in places]
            accepted = {"yes": True, "no": False}.get(verdict.accepted)
            yield Prediction(*top[0], top, accepted, verdict.reason, features)

    @classmethod
    def _of_onnx(cls, folder: ExportFolder, export: Export) -> "Classifier":
        described = export.description
        return cls(
            OnnxRuntime(intact(folder, export, folder.onnx)),
            classes=described.classes,
            canvas=described.size,
            calibration=described.calibration,
            familiar_within=described.familiar_within,
            mirrored_views=described.mirrored_views,
            file=folder.onnx,
            digest=described.checkpoint_sha256,
        )

    @classmethod
    def _of_checkpoint(cls, path: Path) -> "Classifier":
        from gfnet_pl.export.graph import Exported  # here, as below: torch takes a second to import
        from gfnet_pl.export.runtime import TorchRuntime
        from gfnet_pl.run.checkpoint import Checkpoint
        from gfnet_pl.run.result_files import read_calibration

        checkpoint = Checkpoint.load(path)
        calibration = (read_calibration(checkpoint.path) or Calibration()).in_float32()
        return cls(
            TorchRuntime(Exported(checkpoint.net(), calibration)),
            classes=checkpoint.classes,
            canvas=checkpoint.canvas,
            calibration=calibration,
            familiar_within=calibration.familiarity.limit if calibration.familiarity else None,
            mirrored_views=checkpoint.arguments.get("mirrored_views", False),
            file=checkpoint.path,
            digest=sha256(checkpoint.path),
        )

    @classmethod
    def _of_weights(cls, path: Path, export: Export) -> "Classifier":
        require("torch", "safetensors", what=str(path))
        from gfnet_pl.evaluation.familiarity import Familiarity
        from gfnet_pl.export.graph import Exported
        from gfnet_pl.export.runtime import TorchRuntime
        from gfnet_pl.model.gfnet import GFNet
        from gfnet_pl.model.weights import read_weights

        folder, described = ExportFolder(path), export.description
        file = intact(folder, export, folder.weights)
        stored, calibration = read_weights(file), described.calibration
        if stored.beside:
            learned = Familiarity(stored.beside["means"].numpy(), stored.beside["whitening"].numpy())
            calibration = calibration._replace(familiarity=learned)
        return cls(
            TorchRuntime(Exported(GFNet.from_export(file), calibration)),
            classes=described.classes,
            canvas=described.size,
            calibration=calibration,
            familiar_within=described.familiar_within,
            mirrored_views=described.mirrored_views,
            file=file,
            digest=described.checkpoint_sha256,
        )


def _image(levels: npt.NDArray[np.generic]) -> Image.Image:
    """An array as an image: 8 bits of grey or colour, or 16 of grey, as `data.decode` takes them."""
    if levels.ndim == 3 and levels.shape[2] == 1:
        levels = levels[..., 0]
    of_colour = levels.ndim == 3 and levels.shape[2] in (3, 4) and levels.dtype == np.uint8
    if levels.size and (of_colour or (levels.ndim == 2 and levels.dtype in (np.uint8, np.uint16, np.bool_))):
        return Image.fromarray(np.ascontiguousarray(levels))
    raise UserError(
        f"an array of shape {levels.shape} and type {levels.dtype} is no picture: give (height, width) or (height, "
        "width, 3) levels from 0 to 255 as uint8, and several pictures as a list"
    )
