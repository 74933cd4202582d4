"""The embedded data set: rendered hands as 96 x 96 grey PNG files, laid out as people's own data is.

    ROOT/Train/<class>/signer003_frame05.png    the first frames of every training signer's clips
    ROOT/Test/<class>/…                         four per class: later frames of training signers' clips
    ROOT/Unseen/<class>/…                       signers that appear nowhere else
    ROOT/hand_signs.json                        settings, counts and a digest

A data set appears whole or not at all: it is written under a hidden sibling folder and renamed at the end, so a folder
with a readable `hand_signs.json` can be trusted. The pictures are synthetic: accuracy on them says nothing about
people's hands.
"""

import errno
import hashlib
import json
import logging
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from PIL import Image

from gfnet_pl.errors import UserError
from gfnet_pl.files import cache_folder
from gfnet_pl.hand_signs.drawing import render
from gfnet_pl.hand_signs.poses import CLASSES
from gfnet_pl.messages import follow
from gfnet_pl.processes import EndedEarly, cores, in_processes

log = logging.getLogger(__name__)

__all__ = ["CLASSES", "hand_signs_root", "render", "write_hand_signs"]

FORMAT = 1  # a change to any picture or name needs another number
RECORD = "hand_signs.json"
TESTS = 4  # test pictures per class
PARTIAL = ".hand-signs-partial-"
STALE = 3600  # seconds without a finished signer after which a partial folder belongs to a run that was killed
Settings = dict[str, int]


def hand_signs_root(*, signers: int = 64, frames: int = 6, unseen_signers: int = 8, seed: int = 0) -> Path:
    """Finds the data set in the user's cache folder, or makes it there once.

    Args:
        signers: As for `write_hand_signs`.
        frames: As for `write_hand_signs`.
        unseen_signers: As for `write_hand_signs`.
        seed: As for `write_hand_signs`.

    Returns:
        The data set's folder, below `files.cache_folder()`.

    Raises:
        UserError: As for `write_hand_signs`.
    """
    folder = cache_folder() / f"hand-signs-v{FORMAT}-{signers}x{frames}-unseen{unseen_signers}-seed{seed}"
    if not folder.exists():
        log.info("the embedded data are rendered once, into %s", folder)
    return write_hand_signs(folder, signers=signers, frames=frames, unseen_signers=unseen_signers, seed=seed)


def write_hand_signs(
    out: Path,
    *,
    signers: int = 64,
    frames: int = 6,
    unseen_signers: int = 8,
    seed: int = 0,
    processes: int | None = None,
    progress: bool = True,
) -> Path:
    """Renders the data set into `out`; the pixels depend on the settings only, not on the number of processes.

    Args:
        out: The folder to make. If it is already this data set with these settings, nothing is done.
        signers: Training signers, 1 or more.
        frames: Training frames per signer and class, 1 or more; also the frames of an unseen signer.
        unseen_signers: Signers for Unseen, 1 or more.
        seed: Another seed is another population of signers, 0 or more.
        processes: 1 or more; None takes every core that this process may use.
        progress: Whether to show a live line on standard error.

    Returns:
        `out`, with (signers + unseen_signers) * 28 * frames + 112 pictures below it.

    Raises:
        UserError: For numbers out of range, if `out` exists and is anything else, or if it cannot be written.
    """
    settings = {"signers": signers, "frames": frames, "unseen_signers": unseen_signers, "seed": seed}
    processes = cores() if processes is None else processes
    for name, value, least in (*((k, v, k != "seed") for k, v in settings.items()), ("processes", processes, 1)):
        if value < least:
            raise UserError(f"hand signs: {name} is {value}; give {int(least)} or more")
    target = Path(os.path.abspath(out))
    if os.path.lexists(target):
        _check(target, settings)
        return out
    partial = target.parent / f"{PARTIAL}{secrets.token_hex(4)}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(target.parent)
        try:
            _fill(partial, settings, processes, progress)
            won = _rename(partial, target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)  # nothing is left there after the rename
    except OSError as error:
        raise UserError(_advice(target.parent, error)) from error
    except EndedEarly:
        raise UserError(f"{target}: a rendering process ended early; free some memory, or use one process") from None
    if not won:
        _check(target, settings)
    return out


def _check(folder: Path, settings: Settings) -> None:
    """Refuses a folder that is not this data set, whole, with these settings."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        same = record["format"] == FORMAT and record["settings"] == settings
        total = sum(record["counts"].values())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise UserError(f"{folder}: exists and is not a hand-signs data set; name a folder that is new") from None
    if not same:
        raise UserError(f"{folder}: holds hand signs with other settings; name another folder or delete this one")
    found = sum(1 for _ in folder.glob("*/*/*.png"))
    if found != total:
        raise UserError(f"{folder}: has {found} of its {total} pictures; delete the folder and run again")


def _rename(partial: Path, target: Path) -> bool:
    """Puts the finished folder in place; False if another run was first."""
    try:
        partial.rename(target)
    except OSError:
        if not os.path.lexists(target):
            raise
        return False
    return True


def _remove_stale(parent: Path) -> None:
    for folder in parent.glob(f"{PARTIAL}*"):
        try:
            stale = time.time() - folder.stat().st_mtime > STALE
        except OSError:
            continue  # its run has just ended
        if stale:
            shutil.rmtree(folder, ignore_errors=True)


def _advice(folder: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{folder}: the disk is full; free some space or choose a folder on another disk for the hand signs"
    return f"{folder}: cannot write the hand signs ({error.strerror or error}); choose a folder that you may write to"


def _pictures(signer: int, settings: Settings) -> Iterator[tuple[str, str, int]]:
    """(relative name, class, frame) of all of a signer's pictures."""
    signers, frames = settings["signers"], settings["frames"]
    split = "Train" if signer < signers else "Unseen"
    plan = [(split, label, frame) for label in CLASSES for frame in range(frames)]
    if signer < signers:  # the tests are dealt to the training signers in turn, each a frame later than the training's
        dealt = range(signer, TESTS * len(CLASSES), signers)
        plan += [("Test", CLASSES[test // TESTS], frames + test % TESTS) for test in dealt]
    for split, label, frame in plan:
        yield f"{split}/{label}/signer{signer:03d}_frame{frame:02d}.png", label, frame


def _fill(folder: Path, settings: Settings, processes: int, progress: bool) -> None:
    """Writes every picture and, last, the record."""
    for split in ("Train", "Test", "Unseen"):
        for label in CLASSES:
            (folder / split / label).mkdir(parents=True)
    people = range(settings["signers"] + settings["unseen_signers"])
    digests: dict[str, str] = {}
    parts = _rendered(folder, people, settings, min(processes, len(people)))
    for part in follow(parts, "rendering hand signs", len(people)) if progress else parts:
        digests |= part
        os.utime(folder)  # tells other runs that this one is alive
    counts = {split: sum(name.startswith(split) for name in digests) for split in ("Train", "Test", "Unseen")}
    whole = hashlib.sha256("".join(f"{name} {digests[name]}\n" for name in sorted(digests)).encode())
    record = {
        "about": "Synthetic: hands rendered by gfnet_pl, not photographs of people.",
        "format": FORMAT,
        "settings": settings,
        "classes": CLASSES,
        "counts": counts,
        "sha256": whole.hexdigest(),  # over "name sha256-of-pixels" lines, sorted by name
    }
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _rendered(folder: Path, people: range, settings: Settings, processes: int) -> Iterator[dict[str, str]]:
    """The digests of each signer's pictures, signer by signer."""
    if processes == 1:
        for signer in people:
            yield _write_signer(folder, signer, settings)
        return
    # Closed before the folder is removed: then no process writes there any more.
    with closing(in_processes(_render, people, str(folder), settings, processes=processes)) as answers:
        for digests, _ in answers:
            yield digests


def _render(signer: int, folder: str, settings: Settings) -> tuple[dict[str, str], bytes]:
    """A child process's work."""
    return _write_signer(Path(folder), signer, settings), b""


def _write_signer(folder: Path, signer: int, settings: Settings) -> dict[str, str]:
    """Writes a signer's pictures; gives the SHA-256 of each one's pixels by relative name."""
    digests = {}
    for name, label, frame in _pictures(signer, settings):
        pixels = render(label, signer=signer, frame=frame, seed=settings["seed"])
        Image.fromarray(pixels).save(folder / name, compress_level=1)
        digests[name] = hashlib.sha256(pixels.tobytes()).hexdigest()
    return digests
