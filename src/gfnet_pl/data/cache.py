"""All pictures of a folder, decoded once into one file of uint8 pixels that every run maps into its memory.

The file holds the pixels (rows, *canvas.shape), then a *record*, JSON: each picture's path, size and time of change,
the broken ones with their reasons, and one SHA-256 for every `_BLOCK` of pixels; then a last line of fixed length with
the record's length and SHA-256. The record comes last because it is only known when the pixels are written. A picture
is decoded again when its size or time has changed.

A cache file is never changed, only replaced as a whole. So a reader needs no lock and keeps what it has mapped. A
process that builds holds a lock, which the system releases if the process dies; other processes wait and then find the
finished file. Every byte is checked when a file is opened. A cache file may be deleted at any time.
"""

import errno
import hashlib
import json
import logging
import mmap
import os
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import PIL

from gfnet_pl.data.canvas import Canvas
from gfnet_pl.data.decode import DECODING, Images, decoded, heif_version
from gfnet_pl.data.packed import file_of
from gfnet_pl.errors import UserError
from gfnet_pl.files import cache_folder, check_room, replacing
from gfnet_pl.locks import locked
from gfnet_pl.processes import cores, tell_if_cut

log = logging.getLogger(__name__)

FORMAT = 1  # of the file; a change to its layout needs another number
_BLOCK = 2**23  # bytes of pixels under one digest: few digests, and work for every core
_LAST_LINE = "\ngfnet_pl images, format {:03d}, record {:012d} bytes, sha256 {}\n"
_LAST_LENGTH = len(_LAST_LINE.format(0, 0, "0" * 64))
_LAST_PATTERN = re.compile(rb"\ngfnet_pl images, format (\d{3}), record (\d{12}) bytes, sha256 ([0-9a-f]{64})\n")

Stamps = npt.NDArray[np.int64]  # (N, 2): a file's size in bytes and its time of change in ns


class Cached(NamedTuple):
    """Decoded pictures.

    Attributes:
        images: (rows, *canvas.shape) uint8, a read-only memory map.
        rows: (N,) row of each asked picture; -1 where it is broken.
        broken: Path and reason of each broken picture among those asked, in their order.
    """

    images: Images
    rows: npt.NDArray[np.int64]
    broken: list[tuple[str, str]]


def cached_images(folder: Path, paths: Sequence[str], canvas: Canvas, *, home: Path | None = None) -> Cached:
    """Gives pictures from the folder's cache file, which is built or brought up to date first where it must be.

    The file keeps what others asked for, as long as those pictures are on disk unchanged.

    Args:
        folder: The data's root.
        paths: Pictures, as paths below it.
        canvas: What each picture is made into. Every canvas has a cache file of its own.
        home: Where cache files lie; default: `images` in `files.cache_folder()`.

    Returns:
        The images, where each picture is among them, and which are broken.

    Raises:
        UserError: A picture is missing or may not be read, or the cache file cannot be written.
    """
    if not paths:
        return Cached(np.empty((0, *canvas.shape), np.uint8), np.empty(0, np.int64), [])
    folder = folder.resolve()
    stamps = _stamps(folder, paths)
    home = home or cache_folder() / "images"
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    path = home / f"{name}-{canvas.name}.images"
    for file in _existing(path):
        with suppress(OSError, _Unusable):  # what is wrong is said below, under the lock
            if served := _served(file, paths, stamps, canvas):
                return served
    try:
        with locked(path) as partial:
            return _current(path, partial, folder, paths, stamps, canvas)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        advice = "with more room" if full else "that can be written"
        raise UserError(
            f"{path}: the cache of decoded pictures cannot be written ({error.strerror}); "
            f"set XDG_CACHE_HOME to a folder {advice}"
        ) from None


def decoding() -> str:
    """What decodes the pictures here: other versions may give other pixels."""
    heif = heif_version()
    return f"decoding {DECODING} with Pillow {PIL.__version__}" + (f" and pillow-heif {heif}" if heif else "")


class _Unusable(Exception):
    """A cache file that cannot be used, and why."""


class _CacheFile:
    """A cache file, mapped; its record is checked at once, its pixels by `check`."""

    def __init__(self, path: Path, canvas: Canvas) -> None:
        with path.open("rb") as file:
            length = os.fstat(file.fileno()).st_size
            if length <= _LAST_LENGTH:
                raise _Unusable("it is cut short")
            self._map = mmap.mmap(file.fileno(), length, access=mmap.ACCESS_READ)
        tell_if_cut(path)
        last = _LAST_PATTERN.fullmatch(self._map[length - _LAST_LENGTH :])
        if last is None:
            raise _Unusable("its end is missing or damaged")
        if int(last[1]) != FORMAT:
            raise _Unusable(f"its format is {int(last[1])}, not {FORMAT}")
        pixels = length - _LAST_LENGTH - int(last[2])
        text = self._map[max(pixels, 0) : length - _LAST_LENGTH]
        if pixels <= 0 or hashlib.sha256(text).hexdigest() != last[3].decode():
            raise _Unusable("its record is damaged")
        try:
            record = json.loads(text)
            self.paths: list[str] = record["paths"]
            self.stamps: Stamps = np.array([record["sizes"], record["mtimes"]], np.int64).T
            self.broken: dict[int, str] = {int(row): reason for row, reason in record["broken"].items()}
            self._digests: list[str] = record["digests"]
            made_by = record["decoding"]
        except (ValueError, LookupError, TypeError, AttributeError):
            raise _Unusable("its record is damaged") from None
        if made_by != decoding():
            raise _Unusable(f"it was made by {made_by}, and this is {decoding()}")
        if pixels != len(self.paths) * canvas.bytes:
            raise _Unusable("its pixels and its record differ")
        self.images: Images = np.frombuffer(self._map, np.uint8, pixels).reshape(-1, *canvas.shape)

    def serve(self, paths: Sequence[str], stamps: Stamps) -> Cached | None:
        """The pictures asked for, or None where one is not here or has changed."""
        row_of = {path: row for row, path in enumerate(self.paths)}
        rows = np.fromiter((row_of.get(path, -1) for path in paths), np.int64, len(paths))
        if rows.min() < 0 or not np.array_equal(self.stamps[rows], stamps):
            return None
        is_broken = np.isin(rows, list(self.broken))
        broken = [(paths[place], self.broken[int(rows[place])]) for place in np.flatnonzero(is_broken).tolist()]
        rows[is_broken] = -1
        return Cached(self.images, rows, broken)

    def check(self) -> None:
        """Raises _Unusable unless the pixels are those that were written."""
        if _digests(self.images) != self._digests:
            raise _Unusable("its pixels are damaged")

    def close(self) -> None:
        """Ends the mapping if nobody has the images: until then, Windows does not let the file be replaced."""
        del self.images
        with suppress(BufferError):
            self._map.close()


def _names(path: Path) -> list[Path]:
    """The usual name, and others for Windows, where a file that a process has mapped cannot be replaced."""
    return [path, *(path.with_name(f"{path.stem}.{number}{path.suffix}") for number in range(2, 10))]


def _existing(path: Path) -> list[Path]:
    """The files of these names, the newest first."""
    times = {}
    for name in _names(path):
        with suppress(OSError):  # what is wrong is said when the file is written
            times[name] = name.stat().st_mtime_ns
    return sorted(times, key=lambda name: times[name], reverse=True)


def _served(name: Path, paths: Sequence[str], stamps: Stamps, canvas: Canvas) -> Cached | None:
    """A function of its own, so that what is not served is mapped no longer."""
    file = _CacheFile(name, canvas)
    served = file.serve(paths, stamps)
    if served:
        file.check()
    return served


def _current(path: Path, partial: Path, folder: Path, paths: Sequence[str], stamps: Stamps, canvas: Canvas) -> Cached:
    """Called with the lock held: what another run has built in the meantime, or a new file that reuses the old one."""
    old: _CacheFile | None = None
    for name in _existing(path):
        try:
            old = _CacheFile(name, canvas)
            old.check()
            if served := old.serve(paths, stamps):
                return served
            break
        except FileNotFoundError:  # somebody has just deleted it
            continue
        except _Unusable as reason:
            old = None
            log.info("cache: %s is built again: %s", name, reason)
    _build(path, partial, folder, dict(zip(paths, stamps.tolist(), strict=True)), old, canvas)
    newest, *others = _existing(path)
    for name in others:
        with suppress(OSError):  # another run has it mapped
            name.unlink()
    served = _CacheFile(newest, canvas).serve(paths, stamps)
    assert served is not None, "what was just built has what was asked for"
    return served


def _build(
    path: Path, partial: Path, folder: Path, asked: dict[str, list[int]], old: _CacheFile | None, canvas: Canvas
) -> None:
    """Writes a new file beside `path` and renames it: the old one's pictures that are still so, then the others."""
    began = time.monotonic()
    kept = _still_there(old, folder, asked) if old else np.empty(0, np.int64)
    held = [old.paths[row] for row in kept] if old else []
    new = list(asked.keys() - set(held)) if held else list(asked)
    new.sort()  # neighbours on disk are read one after another
    record: dict[str, Any] = {"folder": str(folder), "decoding": decoding(), "paths": held + new}
    check_room(path.parent, len(record["paths"]) * canvas.bytes, f"the cache of {len(record['paths']):,} pictures")
    with replacing(path, "wb+", partial=partial, instead=_names(path)[1:], lasting=False) as file:
        broken = {}
        if old:
            block = max(1, _BLOCK // canvas.bytes)
            for start in range(0, len(kept), block):
                _write(file, old.images[kept[start : start + block]])
            broken = {row: old.broken[was] for row, was in enumerate(kept.tolist()) if was in old.broken}
        row = len(held)
        with closing(decoded([f"{folder}/{name}" for name in new], canvas)) as chunks:
            for chunk in chunks:
                broken |= {row + position: reason for position, reason in chunk.broken}
                _write(file, chunk.images)
                row += len(chunk.images)
        file.flush()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pixels:
            record["digests"] = _digests(np.frombuffer(pixels, np.uint8))
        stamps = [*(old.stamps[kept].tolist() if old else []), *(asked[name] for name in new)]
        record["sizes"], record["mtimes"] = zip(*stamps, strict=True)
        record["broken"] = broken
        text = json.dumps(record).encode()
        file.write(text)
        file.write(_LAST_LINE.format(FORMAT, len(text), hashlib.sha256(text).hexdigest()).encode())
        if old:
            old.close()
    seconds = time.monotonic() - began
    log.info("cache: %s pictures decoded, %s kept, in %.1f s: %s", f"{len(new):,}", f"{len(held):,}", seconds, path)


def _still_there(old: _CacheFile, folder: Path, asked: dict[str, list[int]]) -> npt.NDArray[np.int64]:
    """Rows of the pictures whose file on disk is as it was."""
    now = np.array([asked.get(name) or _stamp_or_none(folder, name) for name in old.paths], np.int64).reshape(-1, 2)
    return np.flatnonzero((now == old.stamps).all(axis=1))


def _stamps(folder: Path, paths: Sequence[str]) -> Stamps:
    stamps = np.empty((len(paths), 2), np.int64)
    try:
        for row, name in enumerate(paths):
            found = _stat(f"{folder}/{file_of(name)}")
            stamps[row] = found.st_size, found.st_mtime_ns
    except FileNotFoundError:
        raise UserError(
            f"{folder / name} does not exist; if the pictures have moved, give --data.root and --data.splits"
        ) from None
    except OSError as error:
        raise UserError(f"{folder / name} cannot be read ({error.strerror}); make it readable or remove it") from None
    return stamps


def _stat(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError:
        if os.path.islink(path):  # to nothing: a broken picture, as long as the link stays so
            return os.lstat(path)
        raise


def _stamp_or_none(folder: Path, name: str) -> list[int]:
    try:
        found = _stat(f"{folder}/{file_of(name)}")
    except OSError:
        return [-1, -1]  # no file is so small
    return [found.st_size, found.st_mtime_ns]


def _digests(pixels: Images) -> list[str]:
    """SHA-256 of each block, on all cores: hashlib releases the GIL."""
    flat = pixels.data.cast("B")
    with ThreadPoolExecutor(cores()) as pool:
        starts = range(0, len(flat), _BLOCK)
        return list(pool.map(lambda start: hashlib.sha256(flat[start : start + _BLOCK]).hexdigest(), starts))


def _write(file: IO[bytes], images: Images) -> None:
    file.write(np.ascontiguousarray(images).data)
