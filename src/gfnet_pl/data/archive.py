"""A .zip of pictures -> the folder that it unpacks to, in the user's cache folder.

It is unpacked whole, once, and again when its size or time has changed, so that everything that reads a folder reads a
.zip, too. The folder appears when it is complete: it is unpacked under another name first. It may be deleted at any
time. Links are left out; a name that leads out of the folder is refused, and so is an archive that would unpack to far
more than pictures can be compressed. An archive inside of an archive stays one.
"""

import csv
import gzip
import hashlib
import json
import logging
import lzma
import os
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

from gfnet_pl.data.tree import Tree
from gfnet_pl.errors import UserError, one_line
from gfnet_pl.files import cache_folder, check_room
from gfnet_pl.locks import locked
from gfnet_pl.messages import follow

log = logging.getLogger(__name__)

# What `zipfile` and the decompressors raise on a damaged file; ValueError for a name that is not in its encoding.
DAMAGED = (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, struct.error)
_RECORD = ".unpacked.json"  # hidden: no data
_LEAST, _MOST = 2**30, 100  # above a GiB, an archive of pictures does not unpack to a hundred times its size
_FORMAT = 1  # of what is unpacked; a change to it needs another number


def opened(source: Path) -> Path:
    """What to read for a root: the unpacked folder of a .zip, or the manifest in it; any other path itself.

    Raises:
        UserError: The .zip is missing, damaged, encrypted or unsafe, or cannot be unpacked.
    """
    folder = unpacked(source)
    return source if folder == source else _manifest(folder) or folder


def _manifest(folder: Path) -> Path | None:
    """The manifest of an unpacked archive: the only CSV at its top, or in its only folder, if it has the columns."""
    top = Tree(folder).listing("")
    if not top.pictures and len(top.folders) == 1 and not list(folder.glob("*.csv")):
        folder = folder / top.folders[0]
    tables = [path for path in folder.iterdir() if path.suffix.lower() == ".csv" and not path.name.startswith(".")]
    if len(tables) != 1:
        return None
    with tables[0].open(newline="", encoding="utf-8-sig", errors="replace") as file:
        header = next(csv.reader(file), [])
    return tables[0] if {"path", "label"} <= set(header) else None


def unpacked(archive: Path) -> Path:
    """The folder that a .zip unpacks to; any other path itself. Raises UserError as `opened` does."""
    if archive.suffix.lower() != ".zip" or archive.is_dir():
        return archive
    return unpacked_once([archive], lambda folder: _unzip(archive, folder))


def unpacked_once(sources: Sequence[Path], unpack: Callable[[Path], str]) -> Path:
    """The folder, in the user's cache folder, that some files unpack to.

    Args:
        sources: The files. It is unpacked again when the size or time of one has changed; the first names the folder.
        unpack: Writes into a new folder, and returns what to log of it.

    Raises:
        UserError: A source is missing, or the folder cannot be written. What `unpack` raises besides OSError passes.
    """
    first = sources[0]
    real = [os.path.realpath(source) for source in sources]
    name = f"{first.stem}-{hashlib.sha256(os.fsencode(real[0])).hexdigest()[:16]}"
    folder = cache_folder() / "unpacked" / name
    stamp = {"format": _FORMAT, "sources": [_source(*each) for each in zip(sources, real, strict=True)]}
    if _stamp(folder) == stamp:
        return folder
    try:
        with locked(folder) as partial:
            if _stamp(folder) != stamp:  # another run may have unpacked it in the meantime
                shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
                try:
                    partial.mkdir()
                    found = unpack(partial)
                    (partial / _RECORD).write_text(json.dumps(stamp), encoding="utf-8")
                    if _stamp(folder) != stamp:  # without locks, it may have been unpacked in the meantime
                        if folder.exists():
                            shutil.rmtree(folder)
                        partial.rename(folder)
                finally:
                    shutil.rmtree(partial, ignore_errors=True)
                log.info("%s: %s unpacked into %s", first, found, folder)
    except OSError as error:
        raise UserError(
            f"{first} cannot be unpacked into {folder.parent} ({error.strerror or one_line(error)}); set "
            "XDG_CACHE_HOME to a folder with room"
        ) from None
    return folder


def check_size(file: Path, size: int) -> None:
    """Refuses what a compressed file says to unpack to, before it is, where pictures are never compressed so far.

    Args:
        file: The file.
        size: In bytes.

    Raises:
        UserError: It is above a GiB and more than a hundred times the file's size, or the cache folder has no room.
    """
    compressed = file.stat().st_size
    if size > max(_LEAST, _MOST * compressed):
        raise UserError(
            f"{file} would unpack from {compressed:,} to {size:,} bytes, more than pictures are compressed; "
            "if you trust it, unpack it yourself"
        )
    check_room(cache_folder(), size, f"what {file.name} unpacks to")


def _source(path: Path, real: str) -> list[str | int]:
    try:
        found = path.stat()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); check the name, or give the new one if it has moved"
        ) from None
    return [os.fsencode(real).hex(), found.st_size, found.st_mtime_ns]


def _stamp(folder: Path) -> object:
    try:
        return json.loads((folder / _RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _unzip(archive: Path, folder: Path) -> str:
    try:
        with zipfile.ZipFile(archive) as file:
            entries, links = _checked(archive, file)
            for entry, name in follow(entries, f"unpacking {archive.name}"):
                target = folder / name
                (target if entry.is_dir() else target.parent).mkdir(parents=True, exist_ok=True)
                if not entry.is_dir():
                    with file.open(entry) as source, target.open("wb") as copy:
                        shutil.copyfileobj(source, copy, 2**20)
    except DAMAGED as error:
        raise UserError(f"{archive} is no .zip, or a damaged one ({one_line(error)}); get it again") from None
    except (NotImplementedError, RuntimeError) as error:  # the latter asks for a password
        raise UserError(
            f"{archive} cannot be unpacked here ({one_line(error)}); unpack it, and give the folder"
        ) from None
    if links:
        log.warning("%s: links in it are left out: %s, first %s", archive, f"{len(links):,}", links[0])
    return f"{sum(not entry.is_dir() for entry, _ in entries):,} files"


def _checked(archive: Path, file: zipfile.ZipFile) -> tuple[list[tuple[zipfile.ZipInfo, str]], list[str]]:
    """The entries to unpack with their names below the folder, and the names of the links, which are left out.

    Raises:
        UserError: A name leads out of the folder, or the archive unpacks to too much. A size that the archive states
            too small is an error of `zipfile` when it is read.
    """
    entries, links = [], []
    for entry in file.infolist():
        name = entry.filename.replace("\\", "/")  # of a program that does not keep to the format
        if name.startswith("/") or ":" in name.partition("/")[0] or ".." in name.split("/"):
            raise UserError(f"{archive} has an entry {name}, which leads out of it; do not trust it")
        if stat.S_ISLNK(entry.external_attr >> 16):
            links.append(name)
        else:
            entries.append((entry, name))
    check_size(archive, sum(entry.file_size for entry, _ in entries))
    return entries, links
