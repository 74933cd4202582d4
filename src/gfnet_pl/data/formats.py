"""Files that hold many pictures of one size: IDX as MNIST has it, CSV with a row of pixels per picture, and .npz.

A reader copies the pixels, as they are, to a file, some at a time, and returns what else is known of the pictures.
Nothing in a file is trusted: what a header claims is checked against the file's length before it is read, a compressed
file may not unpack to far more than pictures are compressed, and objects (pickles) are never loaded.
"""

import gzip
import math
import re
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from gfnet_pl.data.archive import DAMAGED, check_size
from gfnet_pl.errors import UserError, one_line
from gfnet_pl.messages import printable

IDX = re.compile(r"(.*?)[-_.]?images[-_.]idx3[-_.]ubyte(\.gz)?", re.IGNORECASE)  # group 1 says set and split
_SET = re.compile(r"(.*?)[-_.](train|test)[-_.]images.*", re.IGNORECASE)  # of EMNIST, which has a mapping for each

_CHUNK = 2**20  # bytes that are copied at once
_ROWS = 1_000  # of a CSV that are read at once
_LONGEST_LINE = 2**22  # of a CSV: 1,000 x 1,000 pixels
_FEWEST = 9  # columns of a CSV with a digit in their names, if they are pixels: pixel1, 1x1, or the values themselves
_BYTES = 8  # IDX's code for uint8
_NPZ_SPLITS = ("train", "val", "test")
_EXPECTED = "expected images and labels, or train_images, train_labels and so on"


class Contents(NamedTuple):
    """What a file says of its N pictures.

    Attributes:
        shape: Of each picture's pixels: (height, width), or (height, width, 3) in red, green and blue.
        labels: N class names; numbers as they are; "" where the file does not tell.
        splits: N words for splits, in the file's own spelling; "" where it does not tell.
        groups: N names of signers, sessions or videos; "" where it does not tell.
    """

    shape: tuple[int, ...]
    labels: list[str]
    splits: list[str]
    groups: list[str]


def holds_pictures(file: Path) -> bool:
    """Whether a file's name, and of a CSV the first line, say that it is in one of these formats."""
    suffix = file.suffix.lower()
    if suffix == ".csv":
        return _holds_pixels(file)
    return suffix == ".npz" or IDX.fullmatch(file.name) is not None


def sources(file: Path) -> list[Path]:
    """The file and those beside it that belong to it: of IDX, the labels, and of EMNIST what the labels mean."""
    if file.suffix.lower() in (".csv", ".npz"):
        return [file]
    name = re.sub("idx3", "idx1", re.sub("images", "labels", file.name, flags=re.I), flags=re.I)
    other = name.removesuffix(".gz") if name.endswith(".gz") else f"{name}.gz"
    of_set = _SET.fullmatch(file.name)
    beside = [file.with_name(name), file.with_name(other)]
    mapping = [file.with_name(f"{of_set[1]}-mapping.txt")] if of_set else []
    return [file, *[path for path in beside if path.is_file()][:1], *[path for path in mapping if path.is_file()]]


def read(file: Path, out: IO[bytes]) -> Contents:
    """Copies the pixels of all pictures, uint8, one picture after another.

    Raises:
        UserError: The file is not as its format says, or cannot be read.
        OSError: `out` cannot be written.
    """
    suffix = file.suffix.lower()
    reader = _read_csv if suffix == ".csv" else _read_npz if suffix == ".npz" else _read_idx
    try:
        found = reader(file, out)
    except DAMAGED as error:
        raise UserError(f"{file} is damaged ({one_line(error)}); get it again") from None
    except (NotImplementedError, RuntimeError) as error:  # the latter asks for a password
        raise UserError(f"{file} cannot be read here ({one_line(error)}); save it without") from None
    if not found.labels or not math.prod(found.shape):
        raise UserError(f"{file} holds no picture; get it again")
    return found


# IDX: four bytes that say what it is, a big-endian number for each dimension, the values


def _read_idx(file: Path, out: IO[bytes]) -> Contents:
    # EMNIST's pictures are transposed, in all its forms: http://www.itl.nist.gov/iaui/vip/cs_links/EMNIST
    transposed = "emnist" in file.name.lower()
    with _stream(file) as stream:
        count, height, width = _idx_header(file, stream, 3)
        at_once = max(1, _CHUNK // max(1, height * width))
        for start in range(0, count, at_once):
            length = min(at_once, count - start) * height * width
            pixels = stream.read(length)
            if len(pixels) < length:
                held = start + len(pixels) // (height * width)
                raise UserError(f"{file} is cut short: {held:,} of its {count:,} pictures are there; get it again")
            if transposed:
                pixels = np.frombuffer(pixels, np.uint8).reshape(-1, height, width).swapaxes(1, 2).tobytes()
            out.write(pixels)
        _end(file, stream)
    found = sources(file)
    labels = [""] * count
    if len(found) > 1 and found[1].suffix.lower() != ".txt":
        labels = _idx_labels(found[1])
        if len(labels) != count:
            raise UserError(
                f"{file} has {count:,} pictures, and {found[1].name} {len(labels):,} labels; get both again"
            )
        if found[-1].suffix.lower() == ".txt":
            labels = _mapped(found[1], labels, found[-1])
    return Contents((width, height) if transposed else (height, width), labels, [""] * count, [""] * count)


def _idx_labels(file: Path) -> list[str]:
    with _stream(file) as stream:
        (count,) = _idx_header(file, stream, 1)
        values = stream.read(count)
        if len(values) < count:
            raise UserError(f"{file} is cut short: {len(values):,} of its {count:,} labels are there; get it again")
        _end(file, stream)
    return [str(value) for value in values]


def _idx_header(file: Path, stream: IO[bytes], dimensions: int) -> tuple[int, ...]:
    head = stream.read(4 + 4 * dimensions)
    if len(head) < 4 + 4 * dimensions or head[:4] != bytes([0, 0, _BYTES, dimensions]):
        what = "of pictures" if dimensions == 3 else "of labels"
        raise UserError(f"{file} is no IDX file {what}: it begins with {head[:4].hex(' ') or 'nothing'}; get it again")
    sizes = struct.unpack(f">{dimensions}I", head[4:])
    if not all(sizes):
        raise UserError(f"{file} holds nothing: its header says {' x '.join(map(str, sizes))}; get it again")
    said = len(head) + math.prod(sizes)
    if isinstance(stream, gzip.GzipFile):
        check_size(file, said)
    elif (length := file.stat().st_size) != said:
        words = "cut short" if length < said else "too long"
        raise UserError(f"{file} is {words}: its header says {said:,} bytes, and it has {length:,}; get it again")
    return sizes


def _end(file: Path, stream: IO[bytes]) -> None:
    if stream.read(1):
        raise UserError(f"{file} goes on behind what its header says; get it again")


def _mapped(file: Path, labels: list[str], mapping: Path) -> list[str]:
    """Labels by a file with a line for each: the label, and the codes of the characters that it stands for."""
    try:
        lines = [line.split() for line in mapping.read_text(encoding="ascii").splitlines()]
        name_of = {str(int(label)): chr(int(code)) for label, code, *_ in filter(None, lines)}
    except (ValueError, OverflowError):
        raise UserError(f"{mapping}: expected lines of a label and the code of a character; get it again") from None
    if strange := sorted(set(labels) - name_of.keys(), key=int):
        raise UserError(f"{file} has the label {strange[0]}, which {mapping.name} has not; get both again")
    return [name_of[label] for label in labels]


@contextmanager
def _stream(file: Path) -> Iterator[IO[bytes]]:
    """The bytes of a file, unpacked if it is a gzip, whatever its name."""
    with file.open("rb") as raw:
        is_gzip = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if is_gzip:
            with gzip.GzipFile(fileobj=raw) as unpacked:
                yield unpacked  # type: ignore[misc]  # it is one, as far as it is used here
        else:
            yield raw


# CSV: a line per picture, its label first or last, its pixels row by row


class _Columns(NamedTuple):
    """Of a CSV's lines: the place of the label, 0 or -1, None where there is none; and whether a header names them."""

    label: int | None
    pixels: int
    named: bool


def _holds_pixels(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            names = _names(stream.readline(_LONGEST_LINE))
    except OSError:
        return False  # whoever reads it says why
    return sum(re.search("[0-9]", name) is not None for name in names) >= _FEWEST and "path" not in names


def _names(line: bytes) -> list[str]:
    return [name.strip().strip('"').lower() for name in line.decode("utf-8-sig", "replace").split(",")]


def _columns(file: Path, names: list[str]) -> _Columns:
    named = not all(re.fullmatch(r"-?\d+", name) for name in names)
    if not named:  # as EMNIST comes: the label first, if what follows is a picture
        return _Columns(0, len(names) - 1, named) if _shape(len(names) - 1) else _Columns(None, len(names), named)
    if "label" not in names:
        return _Columns(None, len(names), named)
    place = names.index("label")
    if place not in (0, len(names) - 1):
        raise UserError(f"{file}: the label is column {place + 1} of {len(names):,}; put it first or last")
    return _Columns(0 if place == 0 else -1, len(names) - 1, named)


def _shape(pixels: int) -> tuple[int, ...] | None:
    """Of a square picture, in grey or in three colours."""
    for channels, colours in ((1, ()), (3, (3,))):
        side = math.isqrt(pixels // channels)
        if side**2 * channels == pixels:
            return (side, side, *colours)
    return None


def _read_csv(file: Path, out: IO[bytes]) -> Contents:
    labels: list[str] = []
    with file.open("rb") as stream:
        first = stream.readline(_LONGEST_LINE)
        if len(first) == _LONGEST_LINE:
            raise _too_long(file, 1)
        columns = _columns(file, _names(first))
        shape = _shape(columns.pixels)
        if shape is None:
            raise UserError(
                f"{file} has {columns.pixels:,} columns of pixels, which is no square picture; name the column of the "
                "labels label, and save square pictures"
            )
        lines = _lines(file, stream, [] if columns.named else [first])
        while block := list(islice(lines, _ROWS)):
            parts = [_cut(line, columns.label) for _, line in block]
            try:
                rows = [row or "-" for _, row in parts]  # else an empty one is passed over
                pixels = np.loadtxt(rows, np.uint8, delimiter=",", comments=None, ndmin=2)
                if pixels.shape[1] != columns.pixels:
                    raise ValueError("its lines differ in length")
            except ValueError as error:
                raise _wrong_line(file, block, columns) or UserError(
                    f"{file}: {one_line(error)}; get it again"
                ) from None
            labels += [_label(file, number, label) for (number, _), (label, _) in zip(block, parts, strict=True)]
            out.write(pixels.data)
    if columns.label is None:
        labels = [""] * len(labels)
    return Contents(shape, labels, [""] * len(labels), [""] * len(labels))


def _lines(file: Path, stream: IO[bytes], first: list[bytes]) -> Iterator[tuple[int, str]]:
    """Each line that is not blank, with its number."""
    lines = chain(first, iter(lambda: stream.readline(_LONGEST_LINE), b""))
    for number, line in enumerate(lines, 1 if first else 2):
        if len(line) == _LONGEST_LINE:
            raise _too_long(file, number)
        if text := line.decode("utf-8-sig", "replace").strip():
            yield number, text


def _too_long(file: Path, number: int) -> UserError:
    return UserError(f"{file}, line {number}: it is longer than {_LONGEST_LINE:,} bytes; save smaller pictures")


def _cut(line: str, place: int | None) -> tuple[str, str]:
    """A line's label and its pixels."""
    if place is None:
        return "", line
    label, _, pixels = line.partition(",") if place == 0 else line.rpartition(",")[::-1]
    return label, pixels


def _wrong_line(file: Path, block: list[tuple[int, str]], columns: _Columns) -> UserError | None:
    for number, line in block:
        values = _cut(line, columns.label)[1].split(",")
        if len(values) != columns.pixels:
            return UserError(
                f"{file}, line {number}: {len(values):,} pixels instead of {columns.pixels:,}; get it again"
            )
        for value in values:
            if not re.fullmatch(r" *\d{1,3} *", value) or int(value) > 255:
                return UserError(f"{file}, line {number}: a pixel is {value[:20]!r}; they are whole numbers, 0 to 255")
    return None


def _label(file: Path, number: int, text: str) -> str:
    label = text.strip().strip('"').strip()
    if re.fullmatch(r"-\d+", label):
        raise UserError(f"{file}, line {number}: the label is {label}; labels are names, or numbers from 0")
    return str(int(label)) if re.fullmatch("[0-9]{1,9}", label) else label


# .npz: MedMNIST's arrays, those of Keras, or images, labels, split, groups, classes


def _read_npz(file: Path, out: IO[bytes]) -> Contents:
    with zipfile.ZipFile(file) as archive:
        arrays = _Arrays(file, archive)
        parts = [
            (f"{split}_images", f"{split}_labels", f"{split}_groups", split)
            if f"{split}_images" in arrays.names
            else (f"x_{split}", f"y_{split}", "", split)
            for split in _NPZ_SPLITS
        ]
        parts.append(("images", "labels", "groups", ""))
        parts = [part for part in parts if part[0] in arrays.names]
        if not parts:
            held = printable(", ".join(sorted(arrays.names)[:8]))
            raise UserError(f"{file} has the arrays {held or '(none)'}; {_EXPECTED}")
        names = arrays.texts("classes") if "classes" in arrays.names else None
        shapes, whole = set(), Contents((), [], [], [])
        for images, labels, groups, split in parts:
            count, shape = arrays.copy(images, out)
            shapes.add(shape)
            if len(shapes) > 1:
                sizes = " and ".join(" x ".join(map(str, each)) for each in sorted(shapes))
                raise UserError(f"{file} has pictures of {sizes}; give them one size, or save each as a file")
            of_split = "split" if not split else ""
            whole.labels.extend(arrays.labels(labels, count, names))
            whole.splits.extend(arrays.texts(of_split, count) if of_split in arrays.names else [split] * count)
            whole.groups.extend(arrays.texts(groups, count) if groups in arrays.names else [""] * count)
    return whole._replace(shape=shapes.pop())


class _Arrays:
    """The arrays of an .npz file. Their headers are checked before anything is allocated; objects are refused."""

    def __init__(self, file: Path, archive: zipfile.ZipFile) -> None:
        self._file, self._archive = file, archive
        check_size(file, sum(entry.file_size for entry in archive.infolist()))
        self.names = {entry.filename.removesuffix(".npy") for entry in archive.infolist()}

    def copy(self, name: str, out: IO[bytes]) -> tuple[int, tuple[int, ...]]:
        """Copies pictures; returns how many they are and the shape of each."""
        with self._opened(name) as (stream, shape, dtype):
            if dtype != np.uint8:
                raise self._wrong(name, f"is of {dtype}; save grey levels or colours, 0 to 255, as uint8")
            if len(shape) == 4 and shape[3] == 1:
                shape = shape[:3]
            if len(shape) not in (3, 4) or shape[3:] not in ((), (3,)):
                said = " x ".join(map(str, shape))
                raise self._wrong(name, f"is {said}; it must be N x height x width, or N x height x width x 3")
            left = math.prod(shape)
            while left and (pixels := stream.read(min(left, _CHUNK))):
                out.write(pixels)
                left -= len(pixels)
            if left:
                raise EOFError(f"{name} is cut short")
        return shape[0], shape[1:]

    def labels(self, name: str, count: int, classes: list[str] | None) -> list[str]:
        if name not in self.names:
            return [""] * count
        values = self._values(name, count)
        if all(isinstance(value, str) for value in values):
            if strange := set(values) - set(classes) if classes else ():
                raise self._wrong(name, f"has the label {min(strange)!r}, which is not among the classes")
            return values
        numbers = [int(value) for value in values]
        least, most = min(numbers), max(numbers)
        if least < 0 or (classes is not None and most >= len(classes)):
            named = f"{len(classes):,} classes are named" if classes is not None else "they count from 0"
            raise self._wrong(name, f"has the label {least if least < 0 else most}, and {named}")
        return [classes[number] if classes else str(number) for number in numbers]

    def texts(self, name: str, count: int | None = None) -> list[str]:
        return [str(value) for value in self._values(name, count)]

    def _values(self, name: str, count: int | None) -> list[Any]:
        """Whole numbers or texts, one for each picture; (N, 1) as MedMNIST has them is taken, too."""
        with self._opened(name) as (stream, shape, dtype):
            content = stream.read()
        if count is not None and shape[:1] != (count,):
            raise self._wrong(name, f"has {shape[0] if shape else 1:,} values for {count:,} pictures")
        if len(shape) != 1 and shape[1:] != (1,):
            raise self._wrong(name, f"is {' x '.join(map(str, shape))}; one value for each picture is needed")
        if dtype.kind not in "iubUS":
            raise self._wrong(name, f"is of {dtype}; whole numbers or names are needed")
        try:
            values = np.frombuffer(content, dtype).tolist()
            return [value.decode() for value in values] if dtype.kind == "S" else values
        except ValueError:
            raise self._wrong(name, "has names that are not Unicode") from None

    @contextmanager
    def _opened(self, name: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype[Any]]]:
        """An array's bytes, its shape and its type."""
        archive = self._archive
        entry = archive.getinfo(f"{name}.npy")
        with archive.open(entry) as stream:
            try:
                version = np.lib.format.read_magic(stream)
                headers: dict[tuple[int, int], Callable[..., Any]] = {
                    (1, 0): np.lib.format.read_array_header_1_0,
                    (2, 0): np.lib.format.read_array_header_2_0,
                }
                shape, in_columns, dtype = headers[version](stream)
            except Exception as error:  # of a damaged header, Python's tokenizer raises other things than ValueError
                raise self._wrong(name, f"is no array ({one_line(error)})") from None
            if dtype.hasobject:
                raise self._wrong(name, "holds Python objects, which are never loaded; make it one array of one type")
            if in_columns and len(shape) > 1:
                raise self._wrong(name, "is stored column by column; save numpy.ascontiguousarray of it")
            said, held = math.prod(shape) * dtype.itemsize, entry.file_size - stream.tell()
            if min(shape, default=0) < 0 or said != held:
                raise self._wrong(name, f"is cut short or longer than it says: {held:,} bytes instead of {said:,}")
            yield stream, shape, dtype

    def _wrong(self, name: str, problem: str) -> UserError:
        return UserError(f"{self._file}: {name} {problem}")
