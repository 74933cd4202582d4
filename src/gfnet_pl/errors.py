"""The error for mistakes that a user can correct, shown as one line without a traceback, and helpers for such lines.

`told_by_system` tells what the system raises for a reason that a user can mend. Any other error that is not a
`UserError` is a fault of this package, and keeps its traceback.
"""

import argparse
import difflib
import errno
import os
import re
from importlib.util import find_spec
from typing import NoReturn

LARGEST_SEED = 2**32 - 1  # NumPy takes no larger one

_ADVICE = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there",
    errno.EACCES: "change who may use it, or name another place",
    errno.EPERM: "change who may use it, or name another place",
    errno.EROFS: "copy it to a place that can be written, or name another one",
    errno.ENOTDIR: "a file stands where a folder must be: move it, or name another place",
    errno.EEXIST: "a file stands where a folder must be: move it, or name another place",
    errno.EISDIR: "a folder stands where a file must be: move it, or name another place",
    errno.ENOENT: "make the folder first, or name another place",
    errno.ENAMETOOLONG: "shorten it",
}
_NO_MEMORY = re.compile("out of memory|allocate memory|size calculation overflowed")  # torch, on a GPU and on a CPU
# A driver that lost the GPU, whatever did it. What a program asks for wrongly is a fault of the program.
_OF_A_GPU = re.compile(
    r"(?:CUDA|HIP) error: (?!device-side assert|invalid|CUBLAS_STATUS_(?:INVALID|NOT_SUPPORTED))"
    r"|cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"
)
_OF_A_WORKER = re.compile(r"DataLoader worker .*?(killed by signal: [^.]+|exited unexpectedly)")


class UserError(Exception):
    """An error that a user can correct; the command line exits with 2.

    Its message is one line that names the file or the key, and says what is wrong and what to do.
    """


class OneLineParser(argparse.ArgumentParser):
    """Raises UserError instead of printing the usage and exiting, as argparse does."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message}")


def one_line(error: Exception) -> str:
    """The message of another library's error in one line of at most 200 characters, for the message of a UserError."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def require(*packages: str, what: str, extra: str = "export") -> None:
    """Refuses what packages are missing for.

    Args:
        packages: Names to import.
        what: What needs them, for the message.
        extra: The extra of this package that brings them.

    Raises:
        UserError: One of them is not installed.
    """
    if missing := [name for name in packages if find_spec(name) is None]:
        raise UserError(f'{what} needs {missing[0]}, which is not installed: pip install "gfnet_pl[{extra}]"')


def check_range(
    key: str,
    value: float | None,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    error: type[Exception] = UserError,
) -> None:
    """Refuses a value out of its range. None, which stands for a default, is in every range, and NaN is in none.

    Args:
        key: The name of the option, for the message.
        value: Its value.
        least: The smallest value that is allowed.
        above: The value must be larger than this.
        most: The largest value that is allowed.
        below: The value must be smaller than this.
        error: The class of the error.

    Raises:
        UserError: Or `error`: the value is out of its range.
    """
    if value is None:
        return
    limits = {"at least": least, "above": above, "at most": most, "below": below}
    inside = (
        (least is None or value >= least)
        and (above is None or value > above)
        and (most is None or value <= most)
        and (below is None or value < below)
    )
    if not inside or value != value:
        words = " and ".join(f"{word} {limit:,}" for word, limit in limits.items() if limit is not None)
        raise error(f"{key} is {value}: it must be {words}")


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory was used up: Python's own error, and PyTorch's on a GPU and on a CPU."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(_NO_MEMORY.search(str(error))))


def told_by_system(error: Exception) -> str | None:
    """What a user can mend about an error that the system raised, in one line; None if it is of another kind.

    It is about a file that cannot be read or written, about memory, a GPU that failed, or a name that is no text.
    """
    if isinstance(error, OSError) and error.errno is not None:
        place = error.filename2 or error.filename  # os.replace names both, and the second is the one that was asked for
        if not place and error.errno == errno.ENOENT:  # of os.getcwd
            return "the current folder is gone; change to another one"
        reason = os.strerror(error.errno)
        advice = _ADVICE.get(error.errno, "name another place")
        return f"{os.fsdecode(place)}: {reason}; {advice}" if place else f"the system says {reason}; {advice}"
    if is_out_of_memory(error):
        return f"there is not enough memory ({one_line(error)}); lower data.batch_size, or take a smaller net or image"
    if isinstance(error, RuntimeError) and (ended := _OF_A_WORKER.search(str(error))):
        return (
            f"a process that reads batches has ended ({ended[0]}): memory is used up, or a file that it reads was cut; "
            "give a lower data.num_workers, or 0"
        )
    if isinstance(error, RuntimeError) and _OF_A_GPU.match(str(error)):
        reason = str(error).splitlines()[0]
        if "no kernel image" in reason:
            return f"this torch has nothing that runs on this GPU ({reason}); install a build of torch that has"
        return (
            f"the GPU failed ({reason}): another program on it, its driver or the GPU itself; nvidia-smi may tell. Run "
            "the command again; a training is resumed by --ckpt_path"
        )
    if isinstance(error, UnicodeEncodeError):
        return f"{error.object!r}: not valid Unicode, so it can be neither written nor shown; rename it"
    if isinstance(error, ValueError) and "embedded null" in str(error):
        return "a path has a zero byte in it; look at the names in your configs"
    return None


def nearest(word: str, known: list[str]) -> str:
    """The end of an error message about an unknown word.

    It is "; did you mean X?" if a known word is similar. Otherwise it is the list of known words, or "" if there are 12
    or more.
    """
    close = difflib.get_close_matches(word, known, 1, 0.5)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}" if len(known) < 12 else ""
