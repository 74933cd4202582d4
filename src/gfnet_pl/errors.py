"""The one error that a user can cause, shown as one line without a traceback, and the words that such lines share."""

import argparse
import difflib
from typing import NoReturn


class UserError(Exception):
    """Names the file or the key, says what is wrong and what to do, in one line; the command line exits with 2."""


class OneLineParser(argparse.ArgumentParser):
    """Raises UserError where argparse would print its usage and exit."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message}")


def one_line(error: Exception) -> str:
    """What another library's error says, in one line of at most 200 characters, to be put into a UserError's."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def nearest(word: str, known: list[str]) -> str:
    """The end of an error message: "; did you mean X?", or the list of known words where none is close."""
    close = difflib.get_close_matches(word, known, 1, 0.5)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}" if len(known) < 12 else ""
