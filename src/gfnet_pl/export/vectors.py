"""Test vectors: pictures as files, the pixels that must come of them, and the outputs that must come of these.

Whoever loads an export, in whatever language, can rerun them. They are pictures of the run's own sets.
"""

import zipfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gfnet_pl.data.canvas import Canvas
from gfnet_pl.data.collection import Collection
from gfnet_pl.data.decode import Images, read_picture
from gfnet_pl.errors import UserError, one_line
from gfnet_pl.export.runtime import Outputs
from gfnet_pl.files import replacing

COUNT = 16
_LARGEST_FILE = 2**20  # bytes; larger ones are taken only if there are no others
_DECODERS_DIFFER = 2  # grey levels: other builds of the JPEG library round in other places


@dataclass(frozen=True)
class Vectors:
    """N pictures.

    Attributes:
        paths: As in the run's splits.
        files: Their bytes; empty where a picture has no file of its own.
        labels: (N,) true classes, as positions in the class names.
        pixels: (N, *canvas.shape) uint8.
        outputs: Of the checkpoint, by PyTorch.
    """

    paths: list[str]
    files: list[bytes]
    labels: npt.NDArray[np.int64]
    pixels: Images
    outputs: Outputs

    @classmethod
    def of(
        cls,
        found: Collection,
        places: Sequence[int],
        labels: npt.NDArray[np.int64],
        pixels: Images,
        outputs: Outputs,
    ) -> "Vectors":
        """Those of some of the pictures that were found, with the bytes of their files."""
        paths = [found.pictures[place].path for place in places]
        return cls(paths, [_content(found, place) for place in places], labels, pixels, outputs)

    def write(self, file: Path) -> None:
        """Writes them: paths, labels, pixels, the outputs by name, and file_00, file_01, … with the bytes."""
        arrays = {name: value for name, value in self.outputs._asdict().items() if value is not None}
        bytes_ = {_name(place): np.frombuffer(each, np.uint8) for place, each in enumerate(self.files)}
        with replacing(file, "wb") as stream:
            np.savez_compressed(
                stream,
                allow_pickle=False,
                paths=np.array(self.paths),
                labels=self.labels,
                pixels=self.pixels,
                **arrays,
                **bytes_,
            )

    @classmethod
    def read(cls, file: Path) -> "Vectors":
        """Reads them. Raises UserError if the file is damaged."""
        try:
            with np.load(file, allow_pickle=False) as arrays:
                outputs = {name: arrays[name] for name in Outputs._fields if name in arrays}
                paths = arrays["paths"].tolist()
                files = [arrays[_name(place)].tobytes() for place in range(len(paths))]
                return cls(paths, files, arrays["labels"], arrays["pixels"], Outputs(**outputs))
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"{file} cannot be read ({one_line(error)}): run gfnet export again") from None

    def check_decoding(self, canvas: Canvas) -> int:
        """Decodes the files again; the largest difference from the stored pixels, in grey levels.

        Raises:
            UserError: It is so large that another picture came of a file.
        """
        worst = 0
        for path, content, pixels in zip(self.paths, self.files, self.pixels, strict=True):
            if content:
                found = read_picture(content, canvas).astype(int)
                worst = max(worst, int(np.abs(found - pixels).max()))
                if worst > _DECODERS_DIFFER:
                    raise UserError(
                        f"{path}, one of the test vectors, is decoded otherwise here: up to {worst} levels differ; "
                        "pictures must be prepared as export.json says"
                    )
        return worst


def choose(found: Collection, sets: Sequence[str]) -> list[int]:
    """Positions of up to `COUNT` pictures, evenly over the first of these sets, then over the next if there are few."""
    places: list[int] = []
    for name in sets:
        mine = [place for place, picture in enumerate(found.pictures) if picture.split == name]
        small = [place for place in mine if 0 < _size(found, place) <= _LARGEST_FILE]
        mine = small if len(small) >= COUNT else mine
        wanted = min(COUNT - len(places), len(mine))
        places += [mine[place] for place in np.linspace(0, len(mine) - 1, wanted).round().astype(int)] if wanted else []
    return places


def _content(found: Collection, place: int) -> bytes:
    with suppress(OSError):
        return (found.folder / found.pictures[place].path).read_bytes()
    return b""


def _size(found: Collection, place: int) -> int:
    with suppress(OSError):
        return (found.folder / found.pictures[place].path).stat().st_size
    return 0


def _name(place: int) -> str:
    return f"file_{place:02}"
