"""The one error that a user can cause: shown as a single line, without a traceback."""


class UserError(Exception):
    """Names the file or the key, says what is wrong and what to do, in one line; the command line exits with 2."""
