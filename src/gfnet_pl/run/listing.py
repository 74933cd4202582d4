"""`gfnet runs`: the runs in ./runs, the newest first. It loads neither torch nor Lightning, and answers at once."""

import os
import platform
import re
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from gfnet_pl.errors import OneLineParser, UserError
from gfnet_pl.files import read_arrays, read_json, reading, sha256
from gfnet_pl.messages import columns_of, printable
from gfnet_pl.run.folder import RUNS, RunFolder
from gfnet_pl.run.record import read_sessions
from gfnet_pl.tables import read_rows

_HEADINGS = ("run", "date", "data", "epochs", "val", "unseen", "state")
_DATA = 2  # the column that is shortened where a terminal is too narrow


@dataclass(frozen=True)
class Listed:
    """A run in a few words.

    Attributes:
        folder: The run.
        started: When it was last trained, in UTC.
        data: The folder of its data, or the words that they are synthetic.
        epochs: Finished epochs; None if unknown.
        max_epochs: Epochs that it should have; None without such an end.
        val: Accuracy on validation pictures, by the last `gfnet test`, which gives the net all its views. If it was not
            tested since it was trained: in training, of the best epoch, or the last one; None if unknown.
        unseen: Accuracy on unseen groups, by the last `gfnet test`; None if it was not tested since it was trained.
        state: running, finished, stopped (resume it) or failed.
    """

    folder: RunFolder
    started: datetime
    data: str
    epochs: int | None
    max_epochs: int | None
    val: float | None
    unseen: float | None
    state: str


def run_runs(args: list[str]) -> None:
    """Runs `gfnet runs` and prints a line per run.

    Raises:
        UserError: The command line is wrong, or there is no run.
    """
    OneLineParser("gfnet runs", description="List the runs in ./runs, the newest first.").parse_args(args)
    if not (runs := list_runs()):
        raise UserError(f"no run in ./{RUNS} yet: train one with gfnet fit --config base.yaml")
    print(table(runs, width=columns_of(sys.stdout) if sys.stdout.isatty() else None))


def list_runs() -> list[Listed]:
    """Reads all runs below ./runs, the newest first. Of one whose record is damaged, little is known."""
    found = [RunFolder(path) for path in RUNS.glob("*/*") if RunFolder(path).record.is_file()]
    return sorted(map(_listed, found), key=lambda run: run.started, reverse=True)


def table(runs: list[Listed], *, width: int | None = None) -> str:
    """A line per run, below headings.

    Args:
        runs: At least one.
        width: Columns; names of data that do not fit lose their beginning. Default: as wide as it needs to be.
    """
    rows = [_HEADINGS, *map(_row, runs)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if width is not None:
        widths[_DATA] = max(8, widths[_DATA] - max(0, sum(widths) + 2 * (len(widths) - 1) - width))
    lines = []
    for row in rows:
        cells = [_end_of(cell, space).ljust(space) for cell, space in zip(row, widths, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _row(run: Listed) -> tuple[str, ...]:
    local, now = run.started.astimezone(), datetime.now().astimezone()
    epochs = "?" if run.epochs is None else str(run.epochs)
    return (
        run.folder.name,
        f"{local:%m-%d %H:%M}" if local.year == now.year else f"{local:%Y-%m-%d}",
        printable(run.data),
        epochs if run.max_epochs is None else f"{epochs}/{run.max_epochs}",
        *("-" if share is None else f"{100 * share:.1f} %" for share in (run.val, run.unseen)),
        run.state,
    )


def _end_of(text: str, space: int) -> str:
    return text if len(text) <= space else "…" + text[len(text) - space + 1 :]


def _listed(run: RunFolder) -> Listed:
    sessions = read_sessions(run)
    last = sessions[-1] if sessions else {}
    epochs, total = last.get("epochs", _drawn_epochs(run)), _max_epochs(run)
    tested = _tested(run)
    best = last.get("best") or {}
    return Listed(
        folder=run,
        started=run.trained() or datetime.fromtimestamp(0, UTC),
        data="hand signs (synthetic)" if str(last.get("data", "")).startswith("embedded") else last.get("data", "?"),
        epochs=epochs if isinstance(epochs, int) else None,
        max_epochs=total,
        val=_share(tested.get("val", best.get("val_accuracy", _last_validation(run)))),
        unseen=_share(tested.get("unseen")),
        state=str(last.get("state") or "") or _state(last, epochs, total),
    )


def _share(value: object) -> float | None:
    return value if isinstance(value, float | int) else None


def _state(session: dict[str, Any], epochs: int | None, total: int | None) -> str:
    """The state of a run that did not say how it ended: it goes on, it was killed, or an older version trained it."""
    host, _, process = str(session.get("process", "")).rpartition(":")
    if host == platform.node() and process.isdecimal() and _is_alive(int(process)):
        return "running"
    return "finished" if epochs is not None and epochs == total else "stopped"


def _is_alive(process: int) -> bool:
    if os.name != "posix":
        return False  # there, signal 0 would end it
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is another user's
        return True
    return True


def _max_epochs(run: RunFolder) -> int | None:
    try:
        found = re.search(r"^  max_epochs: (\d+)$", run.config.read_text(encoding="utf-8"), re.MULTILINE)
    except (OSError, ValueError):
        return None
    return int(found[1]) if found else None


def _drawn_epochs(run: RunFolder) -> int | None:
    """Finished epochs, of which each has left a drawing of the filters."""
    try:
        return int(read_arrays(run.filters)["epochs"][-1])
    except (UserError, LookupError, TypeError, ValueError):
        return None


def _last_validation(run: RunFolder) -> float | None:
    try:
        with reading(run.confusion, ""), run.confusion.open(newline="", encoding="utf-8") as file:
            counts = np.array([row[1:] for _, row in read_rows(file)][1:], np.int64)
            return float(counts.trace() / counts.sum()) if counts.any() else None
    except UserError:
        return None


def _tested(run: RunFolder) -> dict[str, float]:
    """Accuracy by set, of the last test; none if the tested checkpoint has been replaced since."""
    try:
        with reading(run.metrics, ""):
            record = read_json(run.metrics)
            sets = {name: each["accuracy"]["share"] for name, each in record["sets"].items()}
            tested = run.checkpoint(Path(record["checkpoint"]["path"]).name)
            return sets if sha256(tested) == record["checkpoint"]["sha256"] else {}
    except UserError:
        return {}
