"""How a run was made: an entry in its record for each session, its splits, and the data that it did not use.

A session is one `gfnet fit` command. A resumed run has several.
"""

import json
import logging
import os
import platform
import shlex
import subprocess
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfnet_pl.data.manifest import Picture
from gfnet_pl.data.splits import write_splits
from gfnet_pl.errors import UserError
from gfnet_pl.files import read_json, reading, replacing
from gfnet_pl.processes import cores
from gfnet_pl.run.folder import RunFolder
from gfnet_pl.tables import read_records, write_rows

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_PACKAGES = ("gfnet_pl", "torch", "lightning", "torchmetrics", "jsonargparse", "numpy", "pillow")


def provenance(command: list[str], *, precision: str, device: "torch.device", devices: int) -> dict[str, Any]:
    """How a session is made: command, time, commit, hardware and versions.

    Args:
        command: The words after `gfnet`.
        precision: Lightning's name of the precision.
        device: The device on which the session runs.
        devices: Number of devices.

    Returns:
        Plain values that JSON can store.
    """
    import torch  # here, so that `gfnet runs` need not wait for it

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else device
    return {
        "command": shlex.join(["gfnet", *command]),
        "folder": str(Path.cwd()),
        "started": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "process": f"{platform.node()}:{os.getpid()}",
        "commit": _commit(),
        "seed": os.environ.get("PL_GLOBAL_SEED"),
        "precision": precision,
        "devices": f"{devices} x {name}",
        "cpu": machine(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cuda": torch.version.cuda,
        **{package: version(package) for package in _PACKAGES},
    }


def machine() -> str:
    """The number of cores that this process may use, and the CPU's name."""
    return f"{cores()} x {_cpu_name()}"


def write_record(
    run: RunFolder, session: dict[str, Any], pictures: Sequence[Picture] | None, left_out: Sequence[tuple[str, str]]
) -> None:
    """Writes the splits and the record of a run. The session is added after the earlier sessions of the run.

    Args:
        run: The run; its folder must exist.
        session: From `provenance`, and further entries if there are any.
        pictures: The pictures with their splits and groups; None leaves the splits as they are written.
        left_out: (path, reason) of each file in the data that is not used.

    """
    if pictures is not None:
        write_splits(run.splits, pictures)
    if left_out:
        with replacing(run.left_out) as file:
            write_rows(file, [("path", "reason"), *left_out])
    earlier = read_sessions(run)
    if not earlier and run.record.is_file():
        os.replace(run.record, run.damaged_record)
    sessions = [*earlier, session]
    with replacing(run.record) as file:
        file.write(json.dumps(sessions, indent=2) + "\n")


def end_session(run: RunFolder, facts: dict[str, Any]) -> None:
    """Adds to the last entry of a run's record how that session ended.

    Args:
        run: The run. Without a record, nothing is written.
        facts: Plain values that JSON can store.
    """
    if sessions := read_sessions(run):
        sessions[-1] |= facts
        with replacing(run.record) as file:
            file.write(json.dumps(sessions, indent=2) + "\n")


def read_sessions(run: RunFolder) -> list[dict[str, Any]]:
    """Reads the entries of a run's record. The list is empty without a record, and with a damaged one, which is told.

    Nothing but what people read about a run stands there, so that a run goes on without.
    """
    if not run.record.is_file():
        return []
    try:
        with reading(run.record, "what it says about the run is left out"):
            sessions: list[dict[str, Any]] = read_json(run.record)
            for session in sessions:
                datetime.fromisoformat(session["started"])
                if not isinstance(session.get("data", ""), str) or not isinstance(session.get("best") or {}, dict):
                    raise ValueError("an entry is of other types")
            if not isinstance(sessions, list):
                raise ValueError("it is no list")
    except UserError as error:
        log.warning("%s", error)
        return []
    return sessions


def read_counts(splits: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Counts the pictures of each split of a run, and the training pictures of each class.

    Args:
        splits: Its splits.csv.

    Raises:
        UserError: The run's splits cannot be read.
    """
    with reading(splits, "put it back"), splits.open(newline="", encoding="utf-8") as file:
        cells = Counter((row["split"], row["label"]) for row in read_records(file))
    sizes: Counter[str] = Counter()
    for (split, _), count in cells.items():
        sizes[split] += count
    return dict(sizes), {label: count for (split, label), count in cells.items() if split == "train"}


def _commit() -> str | None:
    """The commit of the checkout, with "+" if files differ from it; None if there is no checkout or no git."""
    source = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=source, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
