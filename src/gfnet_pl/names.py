"""Short names on the command line: a config by its file name, a checkpoint of the newest run."""

import difflib
from pathlib import Path

from gfnet_pl.errors import UserError

RUNS = Path("runs")
_IN_PACKAGE = Path(__file__).parent / "configs"
_IN_CHECKOUT = Path(__file__).parents[2] / "configs"


def find_config(name: str) -> Path:
    """A config by path, or by name in ./configs, then among those of the package.

    Raises:
        UserError: There is none; the nearest name is suggested.
    """
    folders = [Path("configs"), _IN_PACKAGE if _IN_PACKAGE.is_dir() else _IN_CHECKOUT]
    for candidate in (Path(name), *(folder / name for folder in folders)):
        if candidate.is_file():
            return candidate
    known = sorted({path.name for folder in folders for path in folder.glob("*.yaml")})
    raise UserError(f"--config: no file {name}, nor one of that name in ./configs or the package{nearest(name, known)}")


def find_checkpoint(name: str) -> Path:
    """A checkpoint by path; `last.ckpt` and `best.ckpt` that are no files mean the newest run's.

    Raises:
        UserError: There is none, or no run yet.
    """
    path = Path(name)
    if path.is_file() or name not in ("last.ckpt", "best.ckpt"):
        return path
    found = sorted(RUNS.glob("*/*/checkpoints/last.ckpt"), key=lambda last: last.stat().st_mtime)
    if not found:
        raise UserError(
            f"no run in ./{RUNS} yet: train one with gfnet fit --config base.yaml, or give --ckpt_path FILE"
        )
    path = found[-1].with_name(name)
    if not path.is_file():
        raise UserError(f"{path} does not exist: the newest run has not been validated yet; try --ckpt_path last.ckpt")
    return path


def nearest(word: str, known: list[str]) -> str:
    """The end of an error message: "; did you mean X?", or which there are where nothing is near."""
    close = difflib.get_close_matches(word, known, 1, 0.5)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}" if len(known) < 12 else ""
