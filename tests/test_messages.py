"""Lines, and the live line below them, in terminals and elsewhere."""

import io
import logging
import sys
import warnings

import pytest

from gfnet_pl import messages
from gfnet_pl.messages import LiveLine, bar, follow, printable, quiet, say


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(messages, "_EVERY", 0.0)
    return Terminal()


def rows(terminal):
    """What stands in the terminal's rows in the end."""
    seen = []
    for text in terminal.getvalue().split("\n"):
        row = ""
        for part in text.split("\r"):
            row = part + row[len(part) :]
        seen.append(row.rstrip())
    return seen


def test_a_live_line_stays_below_all_other_lines_and_leaves_nothing(terminal, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal)
    line = LiveLine(terminal)
    line.draw("1/3", 10, 20, "loss 0.31")
    assert rows(terminal)[-1] == f"1/3  {'━' * 15}{'─' * 15}  10/20  loss 0.31"
    line.say("1/3  val 90.9 %")
    with messages.messages():
        line.draw("2/3", 1, 20)
        logging.getLogger("gfnet_pl.data").info("a line")
        line.draw("2/3", 2, 20)
        warnings.simplefilter("always")  # the tests make errors of warnings
        warnings.warn("a\nwarning", UserWarning, stacklevel=1)
    line.draw("2/3", 3, 20)
    line.clear()
    assert rows(terminal) == ["1/3  val 90.9 %", "a line", "warning: a warning", ""]


def test_no_line_is_longer_than_the_terminal(terminal):
    line = LiveLine(terminal)
    line.draw("x" * 60, 1, 2, "y" * 60)
    say("word " * 50, terminal)
    say("12/20  val 90.9 %", terminal)
    assert all(len(row) < 80 for row in rows(terminal))
    assert rows(terminal)[-2] == "12/20  val 90.9 %"


@pytest.mark.parametrize("variable", [("TERM", "dumb"), ("CI", "true"), None])
def test_elsewhere_there_are_only_whole_lines(terminal, monkeypatch, variable):
    stream = terminal if variable else io.StringIO()
    if variable:
        monkeypatch.setenv(*variable)
    line = LiveLine(stream)
    assert not line.is_due()
    line.draw("1/3", 1, 2)
    line.say("1/3  val 90.9 %")
    line.clear()
    assert stream.getvalue() == "1/3  val 90.9 %\n"


def test_a_stream_that_knows_ascii_only_gets_ascii():
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    assert bar(1, 4, 8, ascii_only) == "##------"
    assert bar(1, 4, 4, ascii_only) == ""


def test_what_is_followed_comes_as_it_is(terminal, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(follow(range(3), "reading")) == [0, 1, 2]
    assert "reading" in terminal.getvalue()
    assert rows(terminal) == [""]


def test_logging_and_warnings_are_as_before_afterwards():
    ours, other = logging.getLogger("gfnet_pl"), logging.getLogger("another.package")
    other.setLevel(logging.INFO)
    before = ours.handlers[:], ours.level, warnings.showwarning, warnings.filters[:]
    with messages.messages(), quiet("another.package"):
        assert not other.isEnabledFor(logging.INFO)
    assert (ours.handlers, ours.level, warnings.showwarning, warnings.filters) == before
    assert other.level == logging.INFO


def test_a_name_neither_breaks_a_line_nor_steers_the_terminal():
    assert printable("emoji 😀 é\xa0") == "emoji 😀 é\xa0"
    assert printable("a\nb\r\t\x1b[31m\u2028\u202e\x9b") == r"a\nb\r\t\x1b[31m\u2028\u202e\x9b"
    stream = io.StringIO()
    say("class 'a\n\x1b[2Jb'", stream)
    assert stream.getvalue() == "class 'a\\n\\x1b[2Jb'\n"
