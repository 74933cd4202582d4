"""Files that are always replaced as a whole, paths, and the folder for files that can be made again."""

import csv
import hashlib
import json
import math
import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from gfnet_pl.errors import UserError, one_line

_URL = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)  # Path makes one slash of two; "C:/" is no scheme


def cache_folder() -> Path:
    """This package's folder below the user's cache folder; it may be deleted at any time.

    On Linux it is `$XDG_CACHE_HOME/gfnet_pl` or `~/.cache/gfnet_pl`, on macOS and Windows it is in the system's usual
    place. A relative XDG_CACHE_HOME is ignored, as its specification requires.

    Raises:
        UserError: The user has no home folder.
    """
    from platformdirs import user_cache_path  # here, because `gfnet --help` needs no folder

    try:
        return user_cache_path("gfnet_pl", appauthor=False)
    except RuntimeError:
        raise UserError("you have no home folder; set XDG_CACHE_HOME to a folder that can be written") from None


def check_output(option: str, name: str | Path) -> Path:
    """The path of a file that a command is about to write, checked before the work that comes first.

    Args:
        option: The option that names the file, for the message.
        name: The file's path.

    Raises:
        UserError: No file can be written there.
    """
    path = Path(name)
    if not path.name or path.is_dir():
        raise UserError(f"{option}: {path} is a folder; name a file")
    if not path.absolute().parent.is_dir():
        raise UserError(f"{option}: {path.parent} is not a folder; make it first")
    if not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise UserError(f"{option}: {path} may not be written; name another place")
    return path


def check_room(folder: Path, size: int, what: str) -> None:
    """Refuses to write into the cache folder what will not fit, before it begins.

    Args:
        folder: Where to. It must exist.
        size: In bytes.
        what: What is written, for the message.

    Raises:
        UserError: Less is free there.
    """
    free = shutil.disk_usage(folder).free
    if size > free:
        raise UserError(
            f"{folder}: {what} takes {size / 1e9:,.2f} GB, and {free / 1e9:,.2f} GB are free there; make room, or set "
            "XDG_CACHE_HOME to a folder with more"
        )


def refuse_url(key: str, name: str | os.PathLike[str]) -> None:
    """Refuses a URL in the place of a path: nothing is downloaded.

    Args:
        key: The option that names it, for the message.
        name: The path.

    Raises:
        UserError: It is a URL, such as https://…, s3://… or file://….
    """
    text = os.fspath(name)
    if _URL.match(text) and not os.path.lexists(text):
        raise UserError(f"{key}: {text} is a URL, and gfnet downloads nothing; download it, and give its path here")


def sha256(file: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def read_arrays(path: Path) -> dict[str, Any]:
    """The NumPy arrays of an .npz file by name.

    Raises:
        UserError: The file is missing or damaged.
    """
    import numpy as np  # here, because `gfnet --help` needs none

    with reading(path, "remove it"), path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def read_json(path: Path) -> Any:  # noqa: ANN401
    """The content of a JSON file; to be called in `reading`, which tells what is wrong with it.

    Raises:
        ValueError: It is no JSON, or has a number that is not finite.
        RecursionError: It is too deep.
        OSError: The file cannot be read.
    """

    def finite(text: str) -> float:
        if not math.isfinite(value := float(text)):
            raise ValueError(f"it has the number {text}")
        return value

    return json.loads(path.read_text(encoding="utf-8"), parse_float=finite, parse_constant=finite)


@contextmanager
def reading(path: Path, then: str) -> Iterator[None]:
    """Turns whatever a damaged file raises, while it is read and its content is put together, into one line.

    Only such code may stand in this block: a fault in it would be taken for damage.

    Args:
        path: The file.
        then: What to do about it.

    Raises:
        UserError: The file is missing, cannot be read, or is not what it should be.
    """
    try:
        yield
    except (
        *(OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError),
        *(AssertionError, csv.Error, zipfile.BadZipFile, zlib.error),
    ) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else one_line(error)
        if "allow_pickle" in reason:  # NumPy's advice on what is no array: nobody should follow it
            reason = "it holds no plain arrays"
        raise UserError(f"{path} cannot be read ({reason}); {then}") from None


@contextmanager
def replacing(
    path: Path,
    mode: str = "w",
    *,
    partial: Path | None = None,
    instead: Iterable[Path] = (),
    before: Path | None = None,
    lasting: bool = True,
) -> Iterator[IO[Any]]:
    """Opens a new file beside `path` that replaces it at the end. After an error, the old file is unchanged.

    However the process or the machine ends, there is the whole old file or the whole new one. The new file is in the
    same folder, so that it is renamed and never copied, and on the disk before it takes the old one's name.

    Args:
        path: The file to replace, or to make. Its folder must exist.
        mode: "w" for UTF-8 text whose line ends are not converted, "wb" for bytes, "wb+" to also read them back.
        partial: The new file's name until then. Default: that of `path`, and ".partial".
        instead: Names to take, the first that can be, where the system does not let `path` be replaced: on Windows, a
            file that a process has mapped.
        before: Where the file that is replaced is kept.
        lasting: Whether to wait until the new file is on the disk; not for what can be made again.

    Yields:
        The new file, open.

    Raises:
        OSError: It cannot be written; the error names `path`.
    """
    partial = partial or part_of(path)
    partial.unlink(missing_ok=True)  # of a process that was killed: one that lives on in it must not write into ours
    text: dict[str, str] = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    try:
        with partial.open(mode, **text) as file:  # type: ignore[call-overload]  # the mode is not a literal
            yield file
            if lasting:
                flush(file)
        kept = _linked(path, before)
        *others, last = path, *instead
        for target in others:
            with suppress(PermissionError):
                os.replace(partial, target)
                return
        os.replace(partial, last)
        if kept and before:  # only now: until here, the old file may be the only good one
            os.replace(kept, before)
        if lasting:
            _flush_folder(path.parent)
    except OSError as error:
        if error.errno is None or error.filename not in (None, os.fspath(partial)):
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None  # a failed write does not say of what
    finally:
        with suppress(OSError):  # on a disk that has become read-only; what went wrong first is raised
            partial.unlink(missing_ok=True)


def flush(*files: IO[Any]) -> None:
    """Waits until files are on the disk: where several replace older ones together, before the first of them does."""
    for file in files:
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def growing(path: Path, *, over: bool) -> Iterator[tuple[IO[str], Callable[[], None]]]:
    """Opens a text file beside `path` that takes this name when it is whole: PATH.partial.

    It is for what takes long and is worth something before its end: after an error, what was kept until then stays
    there. If that is nothing, no file stays.

    Args:
        path: The file to make. Its folder must exist.
        over: Whether a file of this name, and a part of it, are replaced.

    Yields:
        The new file, open, and a function that keeps what was written to it so far.

    Raises:
        FileExistsError: There is a part already, perhaps of a process that is writing it.
    """
    partial, kept = part_of(path), 0

    def keep() -> None:
        nonlocal kept
        file.flush()
        kept = os.fstat(file.fileno()).st_size

    if over:
        partial.unlink(missing_ok=True)  # as in `replacing`
    with partial.open("x", encoding="utf-8", newline="") as file:
        try:
            yield file, keep
            flush(file)
        except BaseException as error:
            with suppress(OSError):  # a full disk does not take what is left
                file.close()
            with suppress(OSError):
                if kept:
                    os.truncate(partial, kept)
                else:
                    partial.unlink()
            if isinstance(error, OSError) and error.errno is not None and error.filename is None:
                raise OSError(error.errno, error.strerror, os.fspath(partial)) from None  # as in `replacing`
            raise
    os.replace(partial, path)
    _flush_folder(path.parent)


def part_of(path: Path) -> Path:
    """The name that a file has until it is whole."""
    return path.with_name(f"{path.name}.partial")


def _linked(path: Path, before: Path | None) -> Path | None:
    """A second name for a file that is about to be replaced. Where there are no such links, it is renamed at once."""
    if before is None or not path.is_file():
        return None
    link = part_of(before)
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
    except OSError:
        os.replace(path, before)
        return None
    return link


def _flush_folder(folder: Path) -> None:
    """Waits until the new names in a folder are on the disk, where the system can tell."""
    if os.name == "posix":
        with suppress(OSError):
            opened = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(opened)
            finally:
                os.close(opened)


def settings_text(settings: Mapping[str, Any], head: Iterable[str]) -> str:
    """The text of a config.

    Args:
        settings: By dotted key.
        head: Lines to begin it with, as comments.
    """
    import yaml  # type: ignore[import-untyped]  # here, because help needs none

    tree: dict[str, Any] = {}
    for key, value in settings.items():
        *sections, name = key.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    return "".join(f"# {line}\n" for line in head) + str(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True))
