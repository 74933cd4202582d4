"""The table of pictures that the steps of the data side hand on, and its CSV file.

One reader serves both files of that kind: a manifest that somebody wrote (`--data.root pictures.csv`) and the
`splits.csv` of a run. A column that is not known is refused: a misspelt `split` would train on the test set.
"""

import csv
import os
import stat
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from operator import itemgetter
from pathlib import Path
from typing import IO, NamedTuple

from gfnet_pl.errors import UserError, nearest
from gfnet_pl.files import replacing
from gfnet_pl.tables import read_rows, write_rows

SPLIT_WORDS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"}
SPLIT_WORDS |= {"test": "test", "testing": "test", "dev": "dev", "unseen": "unseen"}


class Picture(NamedTuple):
    """One picture.

    Attributes:
        path: Where it is below the data's folder, with "/"; `file#index` in a packed file, see `packed.py`.
        label: Its class, in Unicode's NFC form.
        split: The split that the data provide, "train" where they provide none; after `draw_splits` the one drawn.
        group: Its signer, session or video; "" where that is not known.
    """

    path: str
    label: str
    split: str
    group: str = ""


def read_manifest(
    path: Path, *, key: str, splits: Mapping[str, str], required: Sequence[str], folder: Path | None = None
) -> list[Picture]:
    """Reads a CSV file with the columns path, label, split and group, in any order.

    Args:
        path: The file, UTF-8, with or without a byte order mark; blank lines are passed over.
        key: The option that named it, for messages.
        splits: What may stand in the split column (in any case) and the split that it means.
        required: The columns that must be there; without `split` every picture is "train", without `group` it is "".
        folder: What the paths are relative to and must lie in, links resolved; None leaves the files unchecked.

    Returns:
        The pictures in the file's order.

    Raises:
        UserError: The file cannot be read, has other columns, or a line is wrong; it is named by its number.
    """
    pictures: list[Picture] = []
    line_of: dict[str, int] = {}
    problem_of = outside(folder) if folder else None

    def refuse(line: int, problem: str) -> UserError:
        return UserError(f"{key}: {path}, line {line}: {problem}")

    for line, name, label, split, group in _rows(path, key, required):
        if not name or not label.strip():
            raise refuse(line, f"the {'label' if name else 'path'} is empty; fill it in or remove the line")
        if os.path.isabs(name) or (".." in name and ".." in name.replace(os.sep, "/").split("/")):
            raise refuse(line, f"{name} leads out of the folder; give a path below {folder or 'the data'}, without ..")
        if split.lower() not in splits:
            raise refuse(line, f"no split {split!r}; there are {', '.join(dict.fromkeys(splits.values()))}")
        name = os.path.normpath(name).replace(os.sep, "/")  # "./a.png" is "a.png" again
        if name in line_of:
            raise refuse(line, f"{name} stands in line {line_of[name]} already; remove one of the two")
        if problem_of and (problem := problem_of(name)):
            raise refuse(line, f"{name} {problem}")
        line_of[name] = line
        pictures.append(Picture(name, unicodedata.normalize("NFC", label), splits[split.lower()], group))
    return pictures


def write_manifest(path: Path, pictures: Iterable[Picture]) -> None:
    """Writes `path,label,split,group`, sorted, UTF-8."""
    with replacing(path) as file:
        write_rows(file, [Picture._fields, *sorted(pictures)])


def _rows(path: Path, key: str, required: Sequence[str]) -> Iterator[tuple[int, str, str, str, str]]:
    """The number of each row's (last) line, its path, label, split and group."""
    known = list(Picture._fields)
    with users_table(path, key) as file:
        rows = read_rows(file)
        _, header = next(rows, (0, []))
        expected = f"expected {','.join(known)} (needed: {','.join(required)})"
        for column in header:
            if column not in known:
                raise UserError(f"{key}: {path} has a column {column!r}; {expected}{nearest(column, known)}")
        if len(set(header)) < len(header) or not set(required) <= set(header):
            raise UserError(f"{key}: {path} has the columns {','.join(header) or '(none)'}; {expected}")
        absent = [column for column in ("split", "group") if column not in header]
        defaults = ["train" if column == "split" else "" for column in absent]
        in_order = itemgetter(*map([*header, *absent].index, known))
        for line, values in rows:
            if values and len(values) != len(header):
                raise UserError(
                    f"{key}: {path}, line {line}: {len(values)} values for {len(header)} columns; "
                    "put quotes round a value that holds a comma"
                )
            if values:
                yield (line, *in_order(values + defaults))


@contextmanager
def users_table(path: Path, key: str, otherwise: str = "") -> Iterator[IO[str]]:
    """Opens a CSV file that a person wrote; what is wrong with it while it is read is one line.

    Args:
        path: The file.
        key: The option that names it.
        otherwise: What else to do if it cannot be had, beginning with a comma.

    Raises:
        UserError: It is missing, cannot be read, or is no CSV in UTF-8.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            yield file
    except FileNotFoundError:
        raise UserError(f"{key}: {path} does not exist; check the name{otherwise}") from None
    except UnicodeDecodeError:
        raise UserError(f"{key}: {path} is not UTF-8; save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise UserError(f"{key}: {path}, {error}; check the commas and quotes") from None
    except OSError as error:
        raise UserError(f"{key}: {path} cannot be read ({error.strerror}); check the file{otherwise}") from None


def outside(folder: Path) -> Callable[[str], str]:
    """A function that says what is wrong with a path below `folder`, "" where nothing is."""
    top = os.path.realpath(folder)

    def within(path: str) -> bool:
        return path == top or path.startswith(os.path.join(top, ""))

    @cache  # once per folder, not per picture: it asks the system about every part of the path
    def real_folder(name: str) -> str | None:
        real = os.path.realpath(os.path.join(top, name))
        return real if within(real) else None

    def problem(name: str) -> str:
        where, _, base = name.rpartition("/")
        try:
            parent = real_folder(where)
            file = f"{parent}/{base}"
            mode = os.lstat(file).st_mode if parent else 0
            if not parent or (stat.S_ISLNK(mode) and not within(os.path.realpath(file))):
                return f"is a link that leads out of {folder}; put the picture itself there"
            if stat.S_ISLNK(mode):
                mode = os.stat(file).st_mode
        except (OSError, ValueError):  # ValueError: a zero byte in the name
            return "does not exist; correct the path or remove the line"
        return "" if stat.S_ISREG(mode) else "is no file; name a picture"

    return problem
