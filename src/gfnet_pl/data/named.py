"""The pictures that words of a command line name: files, folders, globs, archives, packed files."""

import glob
import os
from pathlib import Path

from gfnet_pl.data.archive import unpacked
from gfnet_pl.data.layouts import pictures_in
from gfnet_pl.data.packed import file_of, packed_files, pictures_of
from gfnet_pl.errors import UserError
from gfnet_pl.files import refuse_url


def find_pictures(paths: list[str]) -> list[Path]:
    """Pictures named by files, folders (all below them) and globs, in the order given; those of packed files, too.

    Raises:
        UserError: An entry names no picture.
    """
    found: list[Path] = []
    for path in paths:
        if not path.strip():
            raise UserError("a path is empty: is the variable that it comes from unset?")
        refuse_url("gfnet predict", path)
        path = str(unpacked(Path(os.path.expanduser(path))))
        if Path(path).is_dir():
            files = pictures_in(Path(path)) or [Path(path, name) for name in packed_files(Path(path))]
        elif Path(file_of(path)).is_file():
            files = [Path(path)]
        else:
            files = [Path(match) for match in sorted(glob.glob(path, recursive=True)) if Path(match).is_file()]
        if not files:
            raise UserError(f"no picture at {path}")
        found += [picture for file in files for picture in pictures_of(file)]
    return found
