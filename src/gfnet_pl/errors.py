"""The one error that a user can cause, shown as a single line without a traceback, and a parser that raises it."""

import argparse
from typing import NoReturn


class UserError(Exception):
    """Names the file or the key, says what is wrong and what to do, in one line; the command line exits with 2."""


class OneLineParser(argparse.ArgumentParser):
    """Raises UserError where argparse would print its usage and exit."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message}")
