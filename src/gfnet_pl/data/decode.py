"""Pictures on disk -> uint8 pixels on one canvas, grey or in colour; many of them on all cores.

What becomes of an unusual picture: on a grey canvas, colour is turned to grey (ITU-R 601); what is transparent shows
white, as on a page; of an animation or of several pages the first is taken; a camera's rotation is applied; 16-bit grey
keeps its upper 8 bits; grey without a fixed range (32-bit integers, floats) is stretched from its own least to its
greatest value. A picture that cannot be decoded whole, or of more than `MAX_PIXELS`, is broken: nothing replaces it.

Many pictures are decoded by child processes (`processes.py`): a small picture is half Python.
"""

import errno
import io
import os
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from gfnet_pl.data.canvas import Canvas, padded, scaled
from gfnet_pl.data.packed import picture_in
from gfnet_pl.errors import UserError, one_line
from gfnet_pl.messages import follow
from gfnet_pl.processes import EndedEarly, in_processes

DECODING = 2  # a change to any decoded pixel, or to what counts as broken, needs another number
MAX_PIXELS = 100_000_000  # 10,000 x 10,000: 0.5 GB in grey, 0.8 GB in colour, times the cores
MAX_PIXELS_OF = {
    "WEBP": 40_000_000,
    "JPEG2000": 40_000_000,
    "AVIF": 80_000_000,
}  # their decoders take 10 to 20 B a pixel
# Pillow has more: some start other programs (EPS), some are no pictures for people (BUFR), and few pictures are in the
# rest. HEIF is added where pillow-heif is installed.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")

_STRIP = 2**22  # pixels of a large picture that are converted at once, or there would be several whole copies of it
_CHUNK_BYTES = 2**21  # decoded pixels that a process sends at once
_CHUNK_PICTURES = 256
_WORTH_PROCESSES = 200  # fewer are decoded sooner than two Pythons have started
_WHITE = 255
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # brands in the files' first bytes
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = (5, 6, 7, 8)

Images = npt.NDArray[np.uint8]


class BrokenPicture(UserError):
    """A picture's content cannot be decoded; `reason` says why, without the path."""

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"{path} cannot be read as a picture ({reason}); repair or delete it")
        self.reason = reason


class Refused(UserError):
    """A picture's file is missing, or the system does not let it be read; `reason` says which, without the path."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class Decoded(NamedTuple):
    """Some pictures in order: `images` (N, *canvas.shape), and the position and reason of each broken one."""

    images: Images
    broken: list[tuple[int, str]]


def read_picture(path: Path | bytes, canvas: Canvas) -> Images:
    """Reads a picture.

    While it runs, warnings are silenced in the whole process. For several threads use `read_all`.

    Args:
        path: A file in one of `FORMATS`, or in HEIC where pillow-heif is installed; its name may end in anything. Or
            the bytes of such a file.
        canvas: What it is made into.

    Returns:
        `canvas.shape`, 0 to 255.

    Raises:
        BrokenPicture: The content cannot be decoded whole, or has more than `MAX_PIXELS`.
        Refused: The file is missing, or the system does not let it be read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of bombs, odd EXIF and the like: what matters of them is an error here
        return _read(path, canvas)


def picture_in_memory(image: Image.Image, canvas: Canvas) -> Images:
    """The same of a picture that Pillow has opened or made.

    Raises:
        BrokenPicture: It cannot be decoded whole, or has more than `MAX_PIXELS`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _refuse_large(image, "the image")
        try:
            return _on_canvas(image.copy(), canvas)  # what has been decoded is not changed, and not closed
        except Exception as error:
            raise BrokenPicture("the image", one_line(error)) from None


def steps(canvas: Canvas) -> list[str]:
    """How a file becomes the net's input, in the order of the operations, for who repeats it elsewhere."""
    size = f"{canvas.width} x {canvas.height} pixels"
    bilinear = "Pillow's BILINEAR (a triangle as wide as the reduction; first by whole numbers where it is over 3-fold)"
    fitted = {
        "stretch": f"resize to {size} with {bilinear}, whatever its shape",
        "letterbox": f"resize with {bilinear} so that all of it fits into {size}, in its own shape",
        "crop": f"cut the largest middle part that has the shape of {size}, and resize it to that with {bilinear}",
    }
    grey = "turn it to grey: (299 R + 587 G + 114 B) / 1000, or the Y of a JPEG"
    bars = "fill the bars beside it with the mean colour of the two edges that they continue"
    return [
        "decode the first frame or page; a JPEG at the smallest DCT scale (1, 1/2, 1/4, 1/8) not below the size",
        "put what is transparent on white; " + ("keep the colours (RGB)" if canvas.colour else grey),
        "16-bit grey keeps its upper 8 bits; 32-bit and float grey is stretched to 0 to 255",
        fitted[canvas.fit],
        "turn it upright as EXIF says",
        *([bars] if canvas.fit == "letterbox" else []),
        "give the levels 0 to 255 as they are: the net normalises them itself",
    ]


def open_picture(path: Path | str | io.BytesIO) -> Image.Image:
    """Opens a picture of a format that is read here, without decoding it, or one in a packed file.

    Raises what Pillow raises, or as `packed.picture_in`.
    """
    packed = None if isinstance(path, io.BytesIO) else picture_in(path)
    return packed or Image.open(path, formats=(*FORMATS, "HEIF") if heif_version() else FORMATS)


@cache
def heif_version() -> str:
    """The version of pillow-heif, with which Pillow opens HEIC from now on; "" if it is not installed."""
    try:
        package = import_module("pillow_heif")
    except ImportError:
        return ""
    package.register_heif_opener()
    return str(package.__version__)


def read_all(paths: Sequence[Path], canvas: Canvas) -> Images:
    """Reads many pictures as `read_picture` does, on all cores; (N, *canvas.shape). The first broken one is raised."""
    images = np.empty((len(paths), *canvas.shape), np.uint8)
    start = 0
    with closing(decoded([str(path) for path in paths], canvas)) as chunks:
        for chunk in chunks:
            for position, reason in chunk.broken:
                raise BrokenPicture(paths[start + position], reason)
            images[start : start + len(chunk.images)] = chunk.images
            start += len(chunk.images)
    return images


def read_each(paths: Sequence[Path], canvas: Canvas) -> Decoded:
    """Reads many pictures, on all cores. Broken ones, and those that may not be read, are black."""
    images = np.zeros((len(paths), *canvas.shape), np.uint8)
    broken: list[tuple[int, str]] = []
    start = 0
    with closing(decoded([str(path) for path in paths], canvas, refused_too=True)) as chunks:
        for chunk in chunks:
            images[start : start + len(chunk.images)] = chunk.images
            broken += [(start + position, reason) for position, reason in chunk.broken]
            start += len(chunk.images)
    return Decoded(images, broken)


def decoded(
    paths: Sequence[str],
    canvas: Canvas,
    *,
    length: int | None = None,
    refused_too: bool = False,
    title: str = "reading pictures",
) -> Generator[Decoded, None, None]:
    """Decodes many pictures on all cores, a few MB at a time; a live line shows how far it is.

    Args:
        paths: As for `read_picture`.
        canvas: What each is made into.
        length: Pictures per chunk; default: about 2 MB.
        refused_too: Whether a file that is missing or may not be read counts as a broken picture, and is no error.
        title: Of the live line; "" shows none.

    Yields:
        The pictures in their order, cut into chunks. A broken picture is black there.

    Raises:
        UserError: As for `read_picture`, or a process ended early.
    """
    length = length or max(1, min(_CHUNK_PICTURES, _CHUNK_BYTES // canvas.bytes))
    chunks = [paths[start : start + length] for start in range(0, len(paths), length)]
    if len(paths) < _WORTH_PROCESSES:
        yield from (_read_chunk(chunk, canvas, refused_too) for chunk in chunks)
        return
    with closing(in_processes(_decode, chunks, tuple(canvas), refused_too)) as answers:
        results: Iterator[Decoded] = _decoded(answers, chunks, canvas)
        yield from follow(results, title, len(chunks)) if title else results


def refuse_broken(folder: Path, broken: Sequence[tuple[str, str]]) -> None:
    """Raises one error about all broken pictures; does nothing where there are none.

    Args:
        folder: The data's root.
        broken: Path below `folder` and reason of each.

    Raises:
        UserError: There is any: the first ten and the count.
    """
    if not broken:
        return
    named = ", ".join(f"{path} ({reason})" for path, reason in broken[:10])
    more = f" and {len(broken) - 10:,} more" if len(broken) > 10 else ""
    raise UserError(
        f"{folder}: {len(broken):,} broken picture{'s' * (len(broken) > 1)}: {named}{more}; "
        "repair or delete them, or give --data.on_broken skip"
    )


def _read(source: Path | str | bytes, canvas: Canvas) -> Images:
    longest = max(canvas.height, canvas.width)
    path = "the picture" if isinstance(source, bytes) else source
    try:
        with open_picture(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            _refuse_large(image, path)
            # A JPEG comes at a reduced scale, and in grey if that is wanted: twice as fast.
            image.draft("RGB" if canvas.colour else "L", (longest, longest))
            # Otherwise Pillow 13 maps a TIFF without compression, and lying sideways maps it wrongly.
            if isinstance(image, ImageFile.ImageFile) and image.format == "TIFF":
                image.filename = ""
            return _on_canvas(image, canvas)
    except FileNotFoundError:
        if os.path.islink(path):
            raise BrokenPicture(path, "it is a link to nothing") from None
        message = f"{path} does not exist; if the pictures have moved, give --data.root and --data.splits"
        raise Refused(message, "it does not exist") from None
    except UserError:  # BrokenPicture, or about a whole packed file
        raise
    except Image.DecompressionBombError:
        raise BrokenPicture(path, f"it has more than {MAX_PIXELS // 10**6} million pixels") from None
    except UnidentifiedImageError:
        raise BrokenPicture(path, _what_it_is(source)) from None
    except MemoryError:
        raise BrokenPicture(path, "there is not enough memory to decode it") from None
    except Exception as error:  # Pillow raises nearly anything on a broken file, SyntaxError among it
        if isinstance(error, OSError) and error.errno == errno.ELOOP:
            raise BrokenPicture(path, "it is a link that leads to itself") from None
        # EINVAL comes of a seek to where a damaged file leads. Of what else has a number, the system is the cause.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            message = f"{path} cannot be opened ({error.strerror}); make it readable or remove it"
            raise Refused(message, str(error.strerror)) from None
        raise BrokenPicture(path, one_line(error)) from None


def _refuse_large(image: Image.Image, path: Path | str) -> None:
    most = MAX_PIXELS_OF.get(image.format or "", MAX_PIXELS)
    if image.width * image.height > most:
        raise BrokenPicture(path, f"it has more than {most // 10**6} million pixels")


def _on_canvas(image: Image.Image, canvas: Canvas) -> Images:
    image.load()
    turn = orientation(image)
    picture = _converted(image, "RGB" if canvas.colour else "L")
    picture = scaled(picture, canvas, sideways=turn in SIDEWAYS)
    if turn in _UPRIGHT:  # now that the picture is small
        picture = picture.transpose(_UPRIGHT[turn])
    pixels: Images = np.asarray(padded(picture, canvas))
    return pixels


def _what_it_is(source: Path | str | bytes) -> str:
    if isinstance(source, bytes):
        head = source[:12]
    else:
        with open(source, "rb") as file:
            head = file.read(12)
    if not head:
        return "it is empty"
    brand = head[8:] if head[4:8] == b"ftyp" else b""
    if brand in _HEIC and not heif_version():
        return "it is HEIC, which needs a package: pip install pillow-heif"
    if brand in (b"avif", b"avis"):
        return "it is AVIF, and this Pillow was built without: pip install --upgrade pillow"
    return f"it is none of {', '.join(FORMATS)}"


def _converted(image: Image.Image, mode: str) -> Image.Image:
    """A decoded picture in grey ("L") or in colour ("RGB"), which is made strip by strip."""
    convert = _coloured if mode == "RGB" else _grey
    if image.mode in ("I", "F"):
        convert = partial(_stretched, levels=_levels(image), mode=mode)
    if image.width * image.height <= _STRIP:
        return convert(image)
    whole = Image.new(mode, image.size)
    for top, strip in _strips(image):
        whole.paste(convert(strip), (0, top))
    return whole


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Parts of a picture from its top to its bottom, and the row where each begins."""
    rows = max(1, _STRIP // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _grey(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # convert("L") would clip 65,536 levels to the lowest 256
        levels = np.asarray(image)
        grey = (levels >> 8).astype(np.uint8)
        if "transparency" in image.info:
            grey[levels == image.info["transparency"]] = _WHITE
        return Image.fromarray(grey)
    if image.has_transparency_data:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        page = Image.new("L", image.size, _WHITE)
        page.paste(image.convert("L"), mask=image.getchannel("A"))
        return page
    return image.convert("L")


def _coloured(image: Image.Image) -> Image.Image:
    if image.mode in ("1", "L", "LA", "La") or image.mode.startswith("I"):
        return _grey(image).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        page = Image.new("RGB", image.size, "white")
        page.paste(image, mask=image.getchannel("A"))
        return page
    return image.convert("RGB")


def _levels(image: Image.Image) -> tuple[float, float]:
    """The least and the greatest value of a picture of 32-bit integers or floats."""
    ends = [(float(values.min()), float(values.max())) for values in (np.asarray(strip) for _, strip in _strips(image))]
    low, high = float(np.min(ends)), float(np.max(ends))
    if not np.isfinite(np.float32(high - low)):
        raise ValueError("it has values that are no finite numbers")
    return low, high


def _stretched(image: Image.Image, *, levels: tuple[float, float], mode: str) -> Image.Image:
    """Least to greatest value -> 0 to 255; one level only is taken as a grey level."""
    values: npt.NDArray[np.int32] | npt.NDArray[np.float32] = np.asarray(image)
    low, high = levels
    if low == high:
        grey = np.full(values.shape, min(max(low, 0), 255), np.uint8)
    else:
        grey = np.rint((values - low) * (255 / (high - low))).astype(np.uint8)
    return Image.fromarray(grey).convert(mode)


def orientation(image: Image.Image) -> int:
    """The turn that EXIF asks for, after loading: a TIFF is turned by then, and a PNG may tell it behind its pixels."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a damaged EXIF block does not make the pixels wrong
        return 1


def _read_chunk(paths: Sequence[str], canvas: Canvas, refused_too: bool) -> Decoded:
    images = np.zeros((len(paths), *canvas.shape), np.uint8)
    broken = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for position, path in enumerate(paths):
            try:
                images[position] = _read(path, canvas)
            except BrokenPicture as error:
                broken.append((position, error.reason))
            except Refused as error:
                if not refused_too:
                    raise
                broken.append((position, error.reason))
    return Decoded(images, broken)


def _decode(
    paths: Sequence[str], canvas: tuple[Any, ...], refused_too: bool
) -> tuple[list[tuple[int, str]], memoryview]:
    """A child process's work: what is broken, and the pixels."""
    chunk = _read_chunk(paths, Canvas(*canvas), refused_too)
    return chunk.broken, chunk.images.data.cast("B")


def _decoded(
    answers: Iterator[tuple[Any, bytes]], chunks: Sequence[Sequence[str]], canvas: Canvas
) -> Generator[Decoded, None, None]:
    """The same on the parent's side."""
    for paths in chunks:
        try:
            broken, pixels = next(answers)
        except EndedEarly:
            raise UserError(f"a process that decodes pictures ended early, near {paths[0]}; free some memory") from None
        images = np.frombuffer(pixels, np.uint8).reshape(len(paths), *canvas.shape)
        yield Decoded(images, [(position, reason) for position, reason in broken])
