"""What a run was made with and of: an entry in its record for each session, its splits, and what it left out."""

import csv
import json
import os
import platform
import shlex
import subprocess
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from gfnet_pl.data.manifest import Picture
from gfnet_pl.data.splits import write_splits
from gfnet_pl.errors import UserError, one_line
from gfnet_pl.files import replacing
from gfnet_pl.processes import cores
from gfnet_pl.run.folder import RunFolder

_PACKAGES = ("gfnet_pl", "torch", "lightning", "torchmetrics", "jsonargparse", "numpy", "pillow")


def provenance(command: list[str], *, precision: str, device: torch.device, devices: int) -> dict[str, Any]:
    """What a session is made with: command, time, commit, hardware and versions.

    Args:
        command: The words after `gfnet`.
        precision: Lightning's name of it.
        device: The kind of device that it runs on.
        devices: How many of them.
    """
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else device
    return {
        "command": shlex.join(["gfnet", *command]),
        "folder": str(Path.cwd()),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "seed": os.environ.get("PL_GLOBAL_SEED"),
        "precision": precision,
        "devices": f"{devices} x {name}",
        "cpu": f"{cores()} x {_cpu_name()}",
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cuda": torch.version.cuda,
        **{package: version(package) for package in _PACKAGES},
    }


def write_record(
    run: RunFolder, session: dict[str, Any], pictures: Sequence[Picture], left_out: Sequence[tuple[str, str]]
) -> None:
    """Writes what a run is made of; a session is added to those of the run before it was resumed.

    Args:
        run: Its folder exists.
        session: See `provenance`.
        pictures: With their splits and groups.
        left_out: What the data hold beside them, and why it is not used.
    """
    write_splits(run.splits, pictures)
    if left_out:
        with replacing(run.left_out) as file:
            csv.writer(file, lineterminator="\n").writerows([("path", "reason"), *left_out])
    sessions = [*read_sessions(run), session]
    with replacing(run.record) as file:
        file.write(json.dumps(sessions, indent=2) + "\n")


def read_sessions(run: RunFolder) -> list[dict[str, Any]]:
    """The entries of a run's record; none where there is no record.

    Raises:
        UserError: The record cannot be read.
    """
    try:
        sessions: list[dict[str, Any]] = json.loads(run.record.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise UserError(f"{run.record} cannot be read ({one_line(error)}); repair or remove it") from None
    return sessions


def read_counts(run: RunFolder) -> dict[str, int]:
    """How many pictures each split of a run has.

    Raises:
        UserError: The run's splits cannot be read.
    """
    try:
        with run.splits.open(newline="", encoding="utf-8") as file:
            return dict(Counter(row["split"] for row in csv.DictReader(file)))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{run.splits} cannot be read ({one_line(error)})") from None


def _commit() -> str | None:
    """The checkout's commit, with "+" where files differ from it; None for an installed wheel."""
    source = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=source, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
