"""A glance at a sample of picture files before any is decoded whole: do they have colour, and what shapes have they.

Files that cannot be read are passed over: whoever decodes them says why.
"""

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from gfnet_pl.data.decode import SIDEWAYS, open_picture, orientation
from gfnet_pl.processes import cores

_SIDE = 32  # pixels of a thumbnail: averaging takes the noise of a JPEG's colours away
_LEVELS = 16  # of brightness, see `coloured_share`
_COLOURED = 20.0  # levels of Cb and Cr from the tint; of grey pictures in a JPEG they are 3 off at most
_OF_A_PICTURE, _OF_ALL = 0.02, 0.1  # the shares from which a picture, and the sample, count as coloured
_GREY = {"1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L"}

Floats = npt.NDArray[np.float64]


def colour_tells(paths: Sequence[Path], most: int = 200) -> bool:
    """Whether a tenth of the pictures, or more, have real colour; arguments as for `coloured_share`."""
    return coloured_share(paths, most) >= _OF_ALL


def coloured_share(paths: Sequence[Path], most: int = 200) -> float:
    """The share of pictures with real colour, from 0 to 1; 0 where none can be read.

    A picture has it if 2 % of its area are 20 levels of Cb and Cr or more away from the tint. The tint is one hue, as
    strong at each brightness as the median of all pictures there: grey for most data, brown where all are in sepia.

    Args:
        paths: The pictures. Of more than `most`, evenly spaced ones are read.
        most: Pictures that are read.
    """
    found = _of_each(paths, most, _thumbnail)
    if not found:
        return 0.0
    pixels = np.stack(found).astype(np.float32)  # (N, 32, 32, 3)
    level, chroma = (pixels[..., 0] * (_LEVELS / 256)).astype(np.int64), pixels[..., 1:] - 128
    present, counts = np.unique(level, return_counts=True)
    medians = np.zeros((_LEVELS, 2))
    medians[present] = [np.median(chroma[level == each], axis=0) for each in present]
    # One hue for all levels: where each class has its own brightness and its own colour, the median at a level is that
    # class's colour, and no tint.
    hue = counts @ medians[present]
    hue /= np.hypot(*hue) or 1.0
    tint = np.maximum(medians @ hue, 0)[:, None] * hue  # (levels, 2)
    coloured = np.hypot(*np.moveaxis(chroma - tint[level], -1, 0)) >= _COLOURED
    return float((coloured.mean((1, 2)) >= _OF_A_PICTURE).mean())


def aspect_ratios(paths: Sequence[Path], most: int = 1_000) -> Floats:
    """Width / height of each picture as it is seen, after its camera's rotation. Only headers are read.

    Args:
        paths: The pictures. Of more than `most`, evenly spaced ones are read.
        most: Files that are read.

    Returns:
        (n,), n at most `most`.
    """
    found = sizes(paths, most)
    return found[:, 0] / found[:, 1]


def sizes(paths: Sequence[Path], most: int = 1_000) -> Floats:
    """Width and height of each picture, (n, 2) in pixels, as `aspect_ratios` sees them."""
    return np.array(_of_each(paths, most, _size), np.float64).reshape(-1, 2)


def _of_each(paths: Sequence[Path], most: int, what: Callable[[Image.Image], Any]) -> list[Any]:
    """What a function finds in each picture of a sample, on all cores: Pillow decodes outside of Python's lock."""
    chosen = [paths[place] for place in np.linspace(0, len(paths) - 1, min(most, len(paths))).astype(int)]

    def look(path: Path) -> Any:  # noqa: ANN401
        try:
            with open_picture(path) as image:
                return what(image)
        except Exception:  # Pillow raises nearly anything on a broken file
            return None

    with warnings.catch_warnings(), ThreadPoolExecutor(cores()) as threads:
        warnings.simplefilter("ignore")
        return [found for found in threads.map(look, chosen) if found is not None]


def _thumbnail(image: Image.Image) -> npt.NDArray[np.uint8]:
    """(32, 32, 3) brightness, Cb and Cr."""
    if image.mode in _GREY:  # its brightness does not matter
        return np.full((_SIDE, _SIDE, 3), 128, np.uint8)
    image.draft("RGB", (2 * _SIDE, 2 * _SIDE))
    seen = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if seen.mode == "RGBA":
        page = Image.new("RGB", seen.size, "white")
        page.paste(seen, mask=seen.getchannel("A"))
        seen = page
    return np.asarray(seen.resize((_SIDE, _SIDE), Image.Resampling.BOX).convert("YCbCr"))


def _size(image: Image.Image) -> tuple[int, int]:
    late = image.format == "PNG" and "exif" not in image.info  # to look for it behind the pixels would decode them
    return image.size[::-1] if not late and orientation(image) in SIDEWAYS else image.size
