"""Locks between processes, by files beside what they are about. The system frees them, however a process ends."""

import errno
import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gfnet_pl.errors import UserError
from gfnet_pl.files import part_of

log = logging.getLogger(__name__)

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM, errno.EINVAL}  # of flock


@contextmanager
def held(lock: Path, otherwise: str) -> Iterator[None]:
    """Holds a lock that one process at a time can have. The system frees it when the process ends, however it ends.

    Where the file system has no locks, nothing is held.

    Args:
        lock: The lock's file, which is removed in the end. Its folder must exist.
        otherwise: What to say where another process holds it.

    Raises:
        UserError: Another process holds it.
    """
    from filelock import FileLock, Timeout  # here, because `gfnet --help` locks nothing

    file = FileLock(lock)
    try:
        file.acquire(blocking=False)
    except Timeout:
        if _can_lock(lock.parent):
            raise UserError(otherwise) from None
    except (OSError, NotImplementedError) as error:
        if not isinstance(error, NotImplementedError) and error.errno not in _NO_LOCKS:
            raise
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no file that is open
            lock.unlink()
        file.release()


@contextmanager
def locked(path: Path, waiting: str = "cache: waiting for another run that builds") -> Iterator[Path]:
    """Holds the lock beside `path`; the system frees it when the process ends, however it ends.

    Some network file systems have no locks. There, one line says so, and nobody waits: two processes may do the same
    work at once, each under another name.

    Args:
        path: The file or folder that is about to be replaced.
        waiting: What to say, before the path, while another process holds the lock.

    Yields:
        The name beside `path` under which to write what will replace it.
    """
    from filelock import FileLock, Timeout  # here, because `gfnet --help` locks nothing

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_suffix(".lock"))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        if _can_lock(path.parent):
            log.info("%s %s", waiting, path)
            lock.acquire()
    except (OSError, NotImplementedError) as error:
        if not isinstance(error, NotImplementedError) and error.errno not in _NO_LOCKS:
            raise
    if not lock.is_locked:
        log.warning("%s: its file system has no locks: runs that begin at once do the same work", path.parent)
        yield path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")
        return
    try:
        yield part_of(path)
    finally:
        lock.release()


def _can_lock(folder: Path) -> bool:
    """Whether a lock that nobody else can hold is given: older versions of filelock take any failure for a held one."""
    from filelock import FileLock

    probe = folder / f".{secrets.token_hex(8)}.lock"
    try:
        with FileLock(probe, blocking=False):
            return True
    except OSError:
        return False
    finally:
        probe.unlink(missing_ok=True)
