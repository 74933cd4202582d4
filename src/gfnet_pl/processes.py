"""This process and its child processes: the number of cores, reuse of freed memory, and work on all cores."""

import ctypes
import io
import json
import os
import queue
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from gfnet_pl.errors import UserError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h

_mapped: list[str] = []  # files whose loss ends this process

Answer = tuple[Any, bytes | memoryview]  # a value for JSON, and additional bytes
Process = subprocess.Popen[bytes]


class EndedEarly(Exception):
    """A child process ended before it answered, for example because it was killed or ran out of memory."""


def cores() -> int:
    """The number of cores that this process may use, at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_freed_memory() -> None:
    """Tells glibc to keep freed memory. Otherwise the system fills it with zeros, page by page, before its next use.

    The process stays as large as it was at its peak. Without glibc, this function does nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(_M_MMAP_THRESHOLD, 2**30)
        library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def tell_if_cut(file: Path) -> None:
    """From now on, this process says so if it ends because a file that it has mapped is cut, or its disk fails.

    The system sends SIGBUS then, which ends a process without a word. A handler of Python's own would not run: the
    access is tried again, and fails again, before Python looks for signals. Without this signal (Windows), this
    function does nothing.

    Args:
        file: The file that is mapped.
    """
    if not hasattr(signal, "SIGBUS"):
        return
    if not _mapped:
        ctypes.CDLL(None).signal(signal.SIGBUS, _end_of_cut_file)
    if str(file) not in _mapped:
        _mapped.append(str(file))


@ctypes.CFUNCTYPE(None, ctypes.c_int)  # type: ignore[untyped-decorator]  # ctypes has no type for it
def _end_of_cut_file(number: int) -> None:
    names = " or ".join(_mapped)
    line = f"gfnet: error: a file was cut, or its disk failed, while it was read: {names}; run the command again\n"
    os.write(2, line.encode(errors="replace"))
    os._exit(2)


def in_processes(
    work: Callable[..., Answer], tasks: Sequence[Any], *settings: object, processes: int | None = None
) -> Generator[tuple[Any, bytes], None, None]:
    """Runs tasks in child processes. This suits work that is half Python, for which threads would wait for each other.

    The children are plain processes that are connected by pipes, so a script needs no `if __name__ == "__main__"`. They
    end when their parent ends or the generator is closed. Ctrl-C reaches only the parent.

    Args:
        work: A function of a module of this package, called as `work(task, *settings)`.
        tasks: Values that JSON can store.
        settings: Values whose `repr` is a Python expression, for example numbers, strings and tuples of them.
        processes: Number of processes, at most; default: one per core.

    Yields:
        What `work` returned for each task, in the order of the tasks. At most two answers per process are in memory.

    Raises:
        UserError: `work` raised it.
        OSError: `work` raised it.
        EndedEarly: A process ended without an answer.
    """
    count = min(cores() if processes is None else processes, len(tasks))
    with ExitStack() as stack:
        idle: queue.SimpleQueue[Process] = queue.SimpleQueue()
        pool = stack.enter_context(ThreadPoolExecutor(max(1, count)))
        for _ in range(count):
            process = stack.enter_context(_start(work, settings))
            stack.callback(_end, process)  # runs before the wait for it and its thread
            idle.put(process)
        waiting: deque[Future[tuple[Any, bytes]]] = deque()
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)
        for task in tasks:
            if len(waiting) == 2 * count:
                yield waiting.popleft().result()
            waiting.append(pool.submit(_ask, idle, task))
        while waiting:
            yield waiting.popleft().result()


def _start(work: Callable[..., Answer], settings: tuple[object, ...]) -> Process:
    package = str(Path(__file__).parents[1])  # the child imports this package too, installed or not
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))  # "" would be the current folder
    name = f"{work.__module__}:{work.__qualname__}"
    code = f"from gfnet_pl.processes import _serve; _serve({name!r}, {settings!r})"
    return subprocess.Popen(
        [sys.executable, "-P", "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
        process_group=None if sys.platform == "win32" else 0,  # Ctrl-C is for the parent
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # the same on Windows
    )


def _end(process: Process) -> None:
    process.kill()
    with suppress(OSError):  # it may not have read all that it was sent
        assert process.stdin
        process.stdin.close()


def _ask(idle: "queue.SimpleQueue[Process]", task: object) -> tuple[Any, bytes]:
    """Sends the task as a line of JSON. Receives the answer or an error as a line of JSON, and the additional bytes."""
    process = idle.get()
    assert process.stdin and process.stdout
    try:
        process.stdin.write(json.dumps(task).encode() + b"\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        beside = process.stdout.read(answer["bytes"])
        if len(beside) < answer["bytes"]:
            raise EOFError
    except (OSError, ValueError, EOFError):
        raise EndedEarly from None
    finally:
        idle.put(process)  # a dead one too, or the next thread would wait for ever
    if "user_error" in answer:
        raise UserError(answer["user_error"])
    if "os_error" in answer:
        raise OSError(*answer["os_error"])
    return answer["value"], beside


def _serve(name: str, settings: tuple[object, ...]) -> None:
    """What a child process does: it answers `_ask` until its parent closes the pipe or ends."""
    module, _, function = name.partition(":")
    source, sink = sys.stdin.buffer, io.FileIO(os.dup(1), "w")
    os.dup2(2, 1)  # the output of a library must not mix with the answers
    work: Callable[..., Answer] = getattr(import_module(module), function)
    with io.BufferedWriter(sink) as out:
        while line := source.readline():
            beside: bytes | memoryview = b""
            try:
                value, beside = work(json.loads(line), *settings)
                answer = {"value": value}
            except UserError as error:
                answer = {"user_error": str(error)}
            except OSError as error:
                answer = {"os_error": [error.errno, error.strerror, error.filename]}
            out.write(json.dumps(answer | {"bytes": len(beside)}).encode() + b"\n")
            out.write(beside)
            out.flush()
