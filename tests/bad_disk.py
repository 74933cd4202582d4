"""A disk that becomes full, or read-only, at a chosen moment: what Python writes below a folder fails from then on.

A full disk takes no new files, folders and bytes, but files can be renamed and removed. On a read-only one nothing can
be changed. What libraries in other languages write is not seen; `/dev/full` and RLIMIT_FSIZE are for that.
"""

import builtins
import errno
import io
import json
import os
import re
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from gfnet_pl.run.checkpoint import read_content

_CREATES = ("os.mkdir", "os.link", "os.symlink")
_CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.truncate", "os.utime", "os.chmod")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_open = io.open


class Disk:
    """What is done to the files below a folder.

    Attributes:
        events: What was tried, in order: for example "write runs/base/version_#/config.yaml.partial".
        failed: How many of them failed.
    """

    def __init__(self, root, fails=None, full=True):
        self.root, self.full = os.path.realpath(root), full
        self.fails = fails  # called with an event's number and name; from the first True on, everything fails
        self.events, self.failed, self.bad = [], 0, False

    def event(self, kind, path, *, creates):
        if not isinstance(path, str | bytes | os.PathLike):
            return
        place = os.path.abspath(os.fsdecode(path))
        if not place.startswith(self.root + os.sep) or place.endswith(".pyc"):
            return
        name = re.sub(r"partial-\w+|[0-9a-f]{16}|\d+(\.\d+)*", "#", os.path.relpath(place, self.root))
        name = re.sub(r"(tfevents).*|(tmp/).*", r"\1\2", name)
        self.events.append(f"{kind} {name}")
        if self.full and not creates:
            return
        if not self.bad and self.fails and self.fails(len(self.events) - 1, self.events[-1]):
            self.bad = True
        if self.bad:
            self.failed += 1
            number = errno.ENOSPC if self.full else errno.EROFS
            raise OSError(number, os.strerror(number), os.fsdecode(path))


class _File(io.FileIO):
    disk = None

    def write(self, data):
        try:
            self.disk.event("write", self.name, creates=True)
        except OSError as error:
            raise OSError(error.errno, error.strerror) from None  # the system names no file here
        return super().write(data)


_now = []


def _hook(name, args):
    if not _now:
        return
    if name == "open":
        path, mode, flags = args
        if (isinstance(mode, str) and set(mode) & set("wax+")) or (mode is None and flags & _WRITES):
            _now[-1].event("open", path, creates=True)
    elif name in _CREATES or name in _CHANGES:
        _now[-1].event(name.removeprefix("os."), args[1] if name == "os.rename" else args[0], creates=name in _CREATES)


def _opened(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):
    if not _now or isinstance(file, int) or not set(mode) & set("wax+") or buffering == 0:
        return _open(file, mode, buffering, encoding, errors, newline, closefd, opener)
    raw = _File(file, mode.replace("b", "").replace("t", ""), closefd, opener)
    raw.disk = _now[-1]
    buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
    if "b" in mode:
        return buffered
    text = io.TextIOWrapper(buffered, encoding or "utf-8", errors, newline)
    text.mode = mode
    return text


sys.addaudithook(_hook)


@contextmanager
def disk(root, fails=None, *, full=True):
    made = Disk(root, fails, full)
    io.open = builtins.open = _opened
    _now.append(made)
    try:
        yield made
    finally:
        _now.pop()
        io.open = builtins.open = _open


CHARTS = ("tfevents", "val_features", "projector_config")  # of TensorBoard: what is cut off there are charts
_WITHOUT = ("rename ", "remove ", "rmdir ", "truncate ", "utime ", "chmod ")  # what needs no room


def kinds_in(events, *, full):
    """The kinds of writes among a command's events that can fail on such a disk, each once."""
    found = list(dict.fromkeys(events))
    return [each for each in found if not (each.startswith(_WITHOUT) if full else each.endswith(".lock"))]


def is_whole(path):
    """Whether a file can be read to its end as what its name says."""
    if path.suffix == ".ckpt":
        return bool(read_content(path))
    if path.suffix == ".json":
        return bool(json.loads(path.read_text()))
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return bool(dict(arrays))
    if path.suffix == ".csv":
        return path.read_bytes().endswith(b"\n")
    return path.stat().st_size > 0 or path.name.endswith(".lock")


def what_is_wrong(status, error, before, *, full):
    """What a command that could not write did wrong; None if nothing.

    Args:
        status: Its exit status; 0 if it did without.
        error: What it wrote to standard error.
        before: The files below the current folder before it, with their bytes.
        full: Whether the disk was full: then no part of a file is left. On another one nothing can be removed.
    """
    lines = [line for line in error.splitlines() if line.startswith("gfnet: ")]
    if status not in (0, 2) or (status == 2 and len(lines) != 1):
        return f"status {status}: {error[-400:]}"
    if "Traceback" in error or "the system says" in error:
        return error[-400:]
    after = {path for path in Path().rglob("*") if path.is_file()}
    if lost := before.keys() - after:
        return f"lost: {lost}"
    for path in after:
        if ".partial" in str(path):
            if full:
                return f"left: {path}"
        elif not any(word in str(path) for word in CHARTS) and before.get(path) != path.read_bytes():
            try:
                if not is_whole(path):
                    return f"not whole: {path}"
            except Exception as problem:
                return f"not whole: {path}: {problem}"
    return None
