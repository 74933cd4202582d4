"""A .zip of pictures -> the folder that it unpacks to, in the user's cache folder.

It is unpacked whole, once, and again when its size or time has changed, so that everything that reads a folder reads a
.zip, too. The folder appears when it is complete: it is unpacked under another name first. It may be deleted at any
time. Links are left out; a name that leads out of the folder is refused, and so is an archive that would unpack to far
more than pictures can be compressed. An archive inside of an archive stays one.
"""

import csv
import errno
import hashlib
import json
import logging
import os
import shutil
import stat
import zipfile
import zlib
from pathlib import Path

from gfnet_pl.data.tree import Tree
from gfnet_pl.errors import UserError, one_line
from gfnet_pl.files import cache_folder, locked
from gfnet_pl.messages import follow

log = logging.getLogger(__name__)

_RECORD = ".unpacked.json"  # hidden: no data
_LEAST, _MOST = 2**30, 100  # above a GiB, an archive of pictures does not unpack to a hundred times its size
_ADVICE = "unpack it, and give the folder"


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
    try:
        found = archive.stat()
    except OSError as error:
        raise UserError(
            f"{archive} cannot be read ({error.strerror}); check the name, or give the new one if it has moved"
        ) from None
    real = os.path.realpath(archive)
    name = f"{archive.stem}-{hashlib.sha256(os.fsencode(real)).hexdigest()[:16]}"
    folder = cache_folder() / "unpacked" / name
    stamp = {"archive": os.fsencode(real).hex(), "size": found.st_size, "mtime": found.st_mtime_ns}
    if _stamp(folder) == stamp:
        return folder
    try:
        with locked(folder) as partial:
            if _stamp(folder) != stamp:  # another run may have unpacked it in the meantime
                _unpack(archive, folder, partial, stamp)
    except OSError as error:
        raise UserError(
            f"{archive} cannot be unpacked into {folder.parent} ({error.strerror or one_line(error)}); set "
            f"XDG_CACHE_HOME to a folder with room, or {_ADVICE}"
        ) from None
    return folder


def _stamp(folder: Path) -> object:
    try:
        return json.loads((folder / _RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _unpack(archive: Path, folder: Path, partial: Path, stamp: dict[str, object]) -> None:
    """Called with the lock held."""
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
    try:
        with zipfile.ZipFile(archive) as file:
            entries, links = _checked(archive, file)
            partial.mkdir()
            for entry, name in follow(entries, f"unpacking {archive.name}"):
                target = partial / name
                (target if entry.is_dir() else target.parent).mkdir(parents=True, exist_ok=True)
                if not entry.is_dir():
                    with file.open(entry) as source, target.open("wb") as copy:
                        shutil.copyfileobj(source, copy, 2**20)
        (partial / _RECORD).write_text(json.dumps(stamp), encoding="utf-8")
        if _stamp(folder) != stamp:  # without locks, another run may have unpacked it in the meantime
            if folder.exists():
                shutil.rmtree(folder)
            partial.rename(folder)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UserError(f"{archive} is no .zip, or a damaged one ({one_line(error)}); get it again") from None
    except (NotImplementedError, RuntimeError) as error:  # the latter asks for a password
        raise UserError(f"{archive} cannot be unpacked here ({one_line(error)}); {_ADVICE}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    files = sum(not entry.is_dir() for entry, _ in entries)
    log.info("%s: %s files unpacked into %s", archive, f"{files:,}", folder)
    if links:
        log.warning("%s: links in it are left out: %s, first %s", archive, f"{len(links):,}", links[0])


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
    size, unpacked = archive.stat().st_size, sum(entry.file_size for entry, _ in entries)
    if unpacked > max(_LEAST, _MOST * size):
        raise UserError(
            f"{archive} would unpack from {size:,} to {unpacked:,} bytes, more than pictures are compressed; "
            f"if you trust it, {_ADVICE}"
        )
    if unpacked > shutil.disk_usage(cache_folder()).free:  # the lock lies in it
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return entries, links
