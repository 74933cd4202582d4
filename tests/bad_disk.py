"""A disk that becomes full, or read-only, at a chosen moment: what Python writes below a folder fails from then on.

A full disk takes no new files, folders and bytes, but files can be renamed and removed. On a read-only one nothing can
be changed. What libraries in other languages write is not seen; `/dev/full` and RLIMIT_FSIZE are for that.
"""

import builtins
import errno
import io
import os
import re
import sys
from contextlib import contextmanager

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
