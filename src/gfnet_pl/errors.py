"""The error for mistakes that a user can correct, shown as one line without a traceback, and helpers for such lines."""

import argparse
import difflib
from typing import NoReturn


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


def nearest(word: str, known: list[str]) -> str:
    """The end of an error message about an unknown word.

    It is "; did you mean X?" if a known word is similar. Otherwise it is the list of known words, or "" if there are 12
    or more.
    """
    close = difflib.get_close_matches(word, known, 1, 0.5)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}" if len(known) < 12 else ""
