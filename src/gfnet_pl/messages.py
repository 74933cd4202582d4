"""What a command says while it works: log lines, warnings, and below them one live line in a terminal or a notebook.

A live line is drawn over itself, a few times per second at most. In a file, in a pipe, on a CI machine and in a "dumb"
terminal there is none, so that only whole lines stand there.
"""

import codecs
import io
import logging
import os
import re
import sys
import textwrap
import time
import warnings
from collections.abc import Iterable, Iterator, Sized
from contextlib import ExitStack, contextmanager
from typing import Any, TextIO, TypeVar

T = TypeVar("T")

_WIDTH = 80  # columns where the output has none of its own
_EVERY = 0.3  # seconds between two drawings of a live line
_LONGEST_BAR = 30

_HIDDEN = (  # warnings about things that a user cannot correct
    ".*module\\(s\\) in eval mode at the start of training.*",  # those that model.freeze keeps there
    ".*does not have many workers.*",  # the pictures are in memory: workers would have nothing to do
    ".*smaller than the logging interval.*",  # a small set has few batches an epoch, and that is fine
    ".*Checkpoint directory .* exists and is not empty.*",  # a resumed run continues in its own folder
    ".*callbacks used to create the checkpoint need to be provided.*",  # version 0.1.0 wrote last.ckpt otherwise
    ".*could not find the monitored key in the returned metrics.*",  # before the first validation
    ".*is not supported by the model summary.*",  # its estimate of the size in bf16, shown beside the right count
    ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",  # Lightning 2.6 on torch 2.13, inside Lightning
)

_SIMILAR = {"…": "...", "–": "-", "—": "-", "×": "x", "±": "+-", "→": "->", "≥": ">=", "≤": "<=", "·": "."}  # noqa: RUF001

# Control characters, other ends of lines, and what turns the direction of a text: a file's name may have them all.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

_shown: list["LiveLine"] = []  # the live lines that stand in the output now


def use_plain_characters() -> None:
    """From now on, the output shows characters that its encoding lacks as similar ones, or else by their number."""

    def plain(error: UnicodeError) -> tuple[str | bytes, int]:
        assert isinstance(error, UnicodeEncodeError)
        similar = [_SIMILAR.get(character, "") for character in error.object[error.start : error.end]]
        return ("".join(similar), error.end) if all(similar) else codecs.backslashreplace_errors(error)

    codecs.register_error("gfnet_pl.plain", plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="gfnet_pl.plain")


def printable(text: str) -> str:
    r"""The text in one line that cannot steer a terminal: a line feed becomes `\n`, the escape character `\x1b`."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


@contextmanager
def messages() -> Iterator[None]:
    """Shows the log lines of this package and all warnings on standard error.

    Afterwards, the settings of logging and of warnings are as they were.
    """
    handler = _Handler()
    logging.getLogger("gfnet_pl").addHandler(handler)
    try:
        with _at_level(logging.INFO, "gfnet_pl"), warnings.catch_warnings():
            for pattern in _HIDDEN:
                warnings.filterwarnings("ignore", pattern)
            warnings.showwarning = _show_warning
            yield
    finally:
        logging.getLogger("gfnet_pl").removeHandler(handler)


@contextmanager
def quiet(*names: str, warnings: bool = True) -> Iterator[None]:
    """Hides the log lines of packages, except their warnings if these are to be shown; they must have been imported."""
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(_at_level(logging.WARNING if warnings else logging.ERROR, name))
        yield


@contextmanager
def _at_level(level: int, name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)


class _Handler(logging.Handler):
    """Writes log lines to standard error, as it is then: above the live line, and only by the first of the devices."""

    def emit(self, record: logging.LogRecord) -> None:
        if os.environ.get("LOCAL_RANK", "0") != "0" and record.levelno < logging.ERROR:
            return
        try:
            text = self.format(record)
            say(f"warning: {text}" if record.levelno >= logging.WARNING else text, sys.stderr)
        except Exception:
            self.handleError(record)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    logging.getLogger("gfnet_pl").warning("%s", " ".join(str(message).split()))


def say(text: str, stream: TextIO) -> None:
    """Writes a line above the live line. In a terminal, a long one is broken between words."""
    text = printable(text)
    if _is_terminal(stream):
        wrapper = textwrap.TextWrapper(columns_of(stream), subsequent_indent="  ")
        wrapper.break_on_hyphens = wrapper.break_long_words = False
        text = wrapper.fill(text)
    for line in _shown:
        line.clear()
    print(text, file=stream, flush=True)


class LiveLine:
    """A line that is drawn over itself.

    Args:
        stream: Where it is drawn. Default: standard error.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self._notebook = _Notebook() if "ipykernel" in type(self.stream).__module__ else None
        self.is_live = self._notebook is not None or _can_go_back(self.stream)
        self._next = time.monotonic() + _EVERY  # what is over before that needs no line

    @property
    def columns(self) -> int:
        """The number of characters that a line may have."""
        return columns_of(self.stream)

    def is_due(self) -> bool:
        """Whether it is time to draw; never, if nothing is drawn at all."""
        return self.is_live and time.monotonic() >= self._next

    def draw(self, before: str, done: int, total: int, after: str = "") -> None:
        """Draws a bar between two texts, as long as there is room."""
        if not self.is_live:
            return
        count, columns = f"{done:{len(f'{total:,}')},}/{total:,}", self.columns
        room = columns - len(before) - len(count) - len(after) - 6
        parts = [before, bar(done, total, min(room, _LONGEST_BAR), self.stream), count, after]
        text = "  ".join(filter(None, parts))
        if self._notebook:
            self._notebook.draw(text)
        else:
            self.stream.write("\r" + text[:columns].ljust(columns))
            self.stream.flush()
            _shown[:] = [self]
        self._next = time.monotonic() + _EVERY

    def say(self, text: str) -> None:
        """Writes a line that stays, above the live line."""
        if self._notebook:
            self._notebook.say(printable(text))
        else:
            say(text, self.stream)

    def clear(self) -> None:
        """Removes the line, until it is drawn again."""
        if self._notebook:
            self._notebook.draw("")
        elif self in _shown:
            _shown.clear()
            self.stream.write("\r" + " " * self.columns + "\r")
            self.stream.flush()
        self._next = 0.0


class _Notebook:
    """An output of a notebook's cell with the lines that were said and, below them, the live line."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._handle: Any = None

    def say(self, text: str) -> None:
        self._lines.append(text)
        self.draw("")

    def draw(self, text: str) -> None:
        from IPython.display import display

        content = {"text/plain": "\n".join([*self._lines, *filter(None, [text])])}
        if self._handle:
            self._handle.update(content, raw=True)
        elif content["text/plain"]:
            self._handle = display(content, raw=True, display_id=True)  # type: ignore[no-untyped-call]


def follow(items: Iterable[T], title: str, total: int | None = None) -> Iterator[T]:
    """Goes through items with a live line on standard error, which also tells the time left.

    Args:
        items: Any.
        title: What is done with them.
        total: Their number. Default: what `len` gives.
    """
    line, began = LiveLine(), time.monotonic()
    if total is None:
        assert isinstance(items, Sized)
        total = len(items)
    try:
        for done, item in enumerate(items):
            if line.is_due():
                line.draw(title, done, total, time_left(began, done, total))
            yield item
    finally:
        line.clear()


def time_left(began: float, done: int, total: int) -> str:
    """The time that the rest takes at the speed so far, "7 min left"; "" before anything is done.

    Args:
        began: When the first was begun, by `time.monotonic`.
        done: How many are done.
        total: Of how many.
    """
    return f"{duration((time.monotonic() - began) / done * (total - done), exact=False)} left" if done else ""


def duration(seconds: float, *, exact: bool = True) -> str:
    """A time for people: "33 s", "7 min 31 s", "2 h 10 min"; if not exact, "7 min" instead of "7 min 31 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    if minutes:
        return f"{minutes} min {rest} s" if exact else f"{round(seconds / 60)} min"
    return f"{rest} s"


def bar(done: int, total: int, length: int, stream: TextIO) -> str:
    """A bar of `length` characters, in ASCII where the stream knows no others; none if it would be very short."""
    if length < 5:
        return ""
    full, empty = "━─" if _can_write("━─", stream) else "#-"
    filled = length * min(done, total) // max(1, total)
    return full * filled + empty * (length - filled)


def _can_write(text: str, stream: TextIO) -> bool:
    try:
        text.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def columns_of(stream: TextIO) -> int:
    """The characters that a line may have. One place stays free: some terminals go to the next line after the last."""
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):  # it is no terminal, or no file at all
        columns = 0
    return (columns or _WIDTH) - 1


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty()


def _can_go_back(stream: TextIO) -> bool:
    return _is_terminal(stream) and os.environ.get("TERM") != "dumb" and not os.environ.get("CI")
