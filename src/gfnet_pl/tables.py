"""CSV files: every text comes back as it was, and no cell is a formula to a spreadsheet."""

import csv
import re
from collections.abc import Iterable, Iterator
from typing import IO

# What a spreadsheet takes for a formula: a text that begins so, but not a sign alone, nor a number.
_FORMULA = re.compile(r"'*(?:[=@\t\r\n].|[+-](?![\d.,]*\Z))", re.DOTALL)


def write_rows(file: IO[str], rows: Iterable[Iterable[object]]) -> None:
    r"""Writes rows of a CSV file: UTF-8, lines that end in "\n", quotes only where they are needed.

    Every text comes back as it was from `read_rows(file)`, if the file is opened with `newline=""`, as `replacing`
    does. Python's own writer leaves a carriage return inside of a value without quotes, and its reader ends the line
    there. A text that a spreadsheet would run as a formula, such as a class called `=cmd()`, gets an apostrophe.
    """
    usual, quoted = (
        csv.writer(file, lineterminator="\n", quoting=quoting) for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)
    )
    for row in rows:
        values = [f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value for value in row]
        (quoted if any("\r" in value for value in values if isinstance(value, str)) else usual).writerow(values)


def read_rows(file: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file, without the apostrophes with which `write_rows` disarms formulas.

    Args:
        file: Its lines; a file is opened with `newline=""`.

    Yields:
        The number of the row's last line, and its values.

    Raises:
        csv.Error: It is no CSV; the message says in which line.
    """
    reader = csv.reader(file, strict=True)
    try:
        for row in reader:
            values = [value[1:] if value[:1] == "'" and _FORMULA.match(value[1:]) else value for value in row]
            yield reader.line_num, values
    except csv.Error as error:
        raise csv.Error(f"line {reader.line_num}: no CSV ({error})") from None


def read_records(file: Iterable[str]) -> Iterator[dict[str, str]]:
    """The same rows by the names in the first one. Blank lines are passed over.

    Raises:
        csv.Error: It is no CSV, or a row is shorter or longer than the first.
    """
    rows = read_rows(file)
    _, header = next(rows, (0, []))
    for line, values in rows:
        if len(values) not in (0, len(header)):
            raise csv.Error(f"line {line}: {len(values)} values for {len(header)} columns")
        if values:
            yield dict(zip(header, values, strict=True))
