"""Pictures on disk -> one uint8 array in memory, decoded once, on all cores.

Pillow lets go of Python's lock while it decodes, so threads are enough. 223,000 pictures of 96 x 96 are 2 GB.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from rich.progress import track

from gfnet_pl.errors import UserError

_CHUNK = 256
_WORTH_A_BAR = 5_000


def read_grey(path: Path, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Reads a picture as grey levels, stretched to `size`.

    Args:
        path: Any file that Pillow reads.
        size: Height and width in pixels.

    Returns:
        (height, width), 0 to 255.

    Raises:
        UserError: The picture is broken or missing, named with the reason.
    """
    height, width = size
    try:
        with Image.open(path) as image:
            image.draft("L", (width, height))  # a JPEG is decoded in grey and at a reduced scale: twice as fast
            picture: Image.Image = ImageOps.exif_transpose(image)
            if picture.mode.startswith("I;16"):  # convert("L") would clip 65,536 levels to the lowest 256
                picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
            picture = picture.convert("L")
            if picture.size != (width, height):
                picture = picture.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3.0)
            return np.asarray(picture)
    except FileNotFoundError:
        raise UserError(
            f"{path} does not exist; if the pictures have moved, give --data.root and --data.splits"
        ) from None
    except Exception as error:  # Pillow raises nearly anything on a broken file, SyntaxError among it
        raise UserError(f"{path} cannot be read as a picture ({error}); repair or delete it") from None


def read_all(paths: Sequence[Path], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Reads many pictures with `read_grey`; (N, height, width). A progress bar shows where it takes long."""
    images = np.empty((len(paths), *size), np.uint8)

    def fill(start: int) -> None:
        for position, path in enumerate(paths[start : start + _CHUNK], start):
            images[position] = read_grey(path, size)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        chunks = [pool.submit(fill, start) for start in range(0, len(paths), _CHUNK)]
        try:
            for chunk in track(chunks, "reading pictures", disable=len(paths) < _WORTH_A_BAR, transient=True):
                chunk.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return images
