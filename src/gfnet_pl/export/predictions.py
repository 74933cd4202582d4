"""What a net says of pictures, for people and programs: rows of CSV, lines of JSON, and a table in the terminal."""

import json
from collections.abc import Iterable, Sequence
from typing import IO, NamedTuple

from rich.table import Column, Table
from rich.text import Text

from gfnet_pl.evaluation.calibration import NOT_CALIBRATED
from gfnet_pl.export.classifier import Prediction
from gfnet_pl.messages import printable
from gfnet_pl.tables import write_rows

FORMATS = ("csv", "jsonl")
_SHOWN = 26  # characters of a path in the table
_ACCEPTED = {True: "yes", False: "no", None: "unknown"}


class Classified(NamedTuple):
    """A picture and what the net says of it.

    Attributes:
        path: As it was found.
        prediction: None if it cannot be read.
        reason: Why the prediction is not accepted, or why that is unknown; or why the picture cannot be read.
    """

    path: str
    prediction: Prediction | None
    reason: str

    @property
    def accepted(self) -> bool | None:
        """Whether to accept the prediction; None if that is unknown, or there is none."""
        return self.prediction.accepted if self.prediction else None


def write_heading(file: IO[str], kind: str, top: int) -> None:
    """Writes what stands above the rows: of CSV the names of the columns, of JSON lines nothing."""
    if kind == "csv":
        write_rows(file, [("path", "prediction", "probability", f"top{top}", "accepted", "reason")])


def write_classified(file: IO[str], kind: str, rows: Iterable[Classified]) -> None:
    """Writes a line for each picture, as one of `FORMATS`."""
    if kind == "csv":
        write_rows(file, map(_cells, rows))
    else:
        file.writelines(_json(row) for row in rows)


def _cells(row: Classified) -> Sequence[str]:
    if row.prediction is None:
        return row.path, "", "", "", _ACCEPTED[None], row.reason
    named = " ".join(f"{name}:{share:.4f}" for name, share in row.prediction.top)
    shares = row.prediction.label, f"{row.prediction.probability:.4f}", named
    return row.path, *shares, _ACCEPTED[row.accepted], row.reason


def _json(row: Classified) -> str:
    found = row.prediction
    top = found and [{"label": name, "probability": round(share, 6)} for name, share in found.top]
    said = {"prediction": found and found.label, "probability": found and round(found.probability, 6), "top": top}
    line = {"path": row.path, **said, "accepted": row.accepted, "reason": row.reason}
    return json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n"


def predictions_table(rows: Iterable[Classified]) -> Table:
    """The pictures with the likeliest classes as a table to print."""
    kept = [Column(name, no_wrap=True) for name in ("picture", "prediction", "next")]  # reasons wrap, if anything
    table = Table(*kept, "accepted", box=None, pad_edge=False)
    for row in rows:
        shown = row.path if len(row.path) <= _SHOWN else "..." + row.path[3 - _SHOWN :]  # ends tell pictures apart
        accepted = _ACCEPTED[row.accepted]
        said = f"{accepted}: {row.reason}" if row.reason not in ("", NOT_CALIBRATED) else accepted
        likeliest = [f"{name} {share:.0%}" for name, share in row.prediction.top[:3]] if row.prediction else []
        cells = (shown, "".join(likeliest[:1]), " ".join(likeliest[1:]), said)
        table.add_row(*(Text(printable(cell)) for cell in cells))
    return table
