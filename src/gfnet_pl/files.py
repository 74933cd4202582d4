"""Files that are only ever replaced whole, and the folder for files that can be made again."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from gfnet_pl.errors import UserError


def cache_folder() -> Path:
    """This package's folder below the user's cache folder; it may be deleted at any time.

    On Linux `$XDG_CACHE_HOME/gfnet_pl` or `~/.cache/gfnet_pl`; on macOS and Windows the system's own place. A relative
    XDG_CACHE_HOME is ignored, as its specification asks.

    Raises:
        UserError: The user has no home folder.
    """
    from platformdirs import user_cache_path  # here, because `gfnet --help` needs no folder

    try:
        return user_cache_path("gfnet_pl", appauthor=False)
    except RuntimeError:
        raise UserError("you have no home folder; set XDG_CACHE_HOME to a folder that can be written") from None


@contextmanager
def replacing(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Opens a new file beside `path` that takes its place at the end; after an error the old file is still there.

    Args:
        path: The file to replace, or to make; its folder exists.
        mode: "w" for UTF-8 text with the line ends that are written, "wb" for bytes, "wb+" to read them back too.
    """
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)  # of a process that was killed: one that lives on in it must not write into ours
    text: dict[str, str] = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    try:
        with partial.open(mode, **text) as file:  # type: ignore[call-overload]  # the mode is not a literal
            yield file
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
