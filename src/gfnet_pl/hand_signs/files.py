"""The embedded data set: rendered hands as 96 x 96 grey PNG files, laid out as people's own data is.

    ROOT/Train/<class>/signer003_frame05.png    the first frames of every training signer's clips
    ROOT/Test/<class>/…                         four per class: later frames of training signers' clips
    ROOT/Unseen/<class>/…                       signers that appear nowhere else
    ROOT/hand_signs.json                        settings, counts and a digest

Version 2 has better hands, and people whose differences are known. Its signers outside of training are in two halves,
with two clips each: other light, another wall and another distance. They have three frames per clip, 10 apart, whatever
training has, so that sets of any size are judged by the same pictures.

    ROOT/Train/<class>/signer003_clip1_frame05.png
    ROOT/Dev/<class>/signer1004_clip2_frame10.png       new signers to choose by
    ROOT/Unseen/<class>/signer2004_clip2_frame10.png    new signers to report
    ROOT/signers.csv, signers.json                      the ways in which they differ; in the latter, also their clips

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
from dataclasses import asdict
from pathlib import Path

from PIL import Image

from gfnet_pl.errors import UserError
from gfnet_pl.files import cache_folder
from gfnet_pl.hand_signs import scene
from gfnet_pl.hand_signs.drawing import render
from gfnet_pl.hand_signs.people import DEV, PROPERTIES, UNSEEN, signer
from gfnet_pl.hand_signs.poses import CLASSES
from gfnet_pl.messages import follow
from gfnet_pl.processes import EndedEarly, cores, in_processes
from gfnet_pl.tables import write_rows

log = logging.getLogger(__name__)

__all__ = ["CLASSES", "hand_signs_root", "render", "write_hand_signs"]

VERSIONS = (1, 2)  # a change to any picture or name needs another number
RECORD, SIGNERS = "hand_signs.json", "signers.csv"
# Signers, frames and new signers, where nothing else is asked for. Version 2 has as many pictures, but of more people:
# that is what helps new ones (docs/people.md).
USUAL = {1: (64, 6, 8), 2: (384, 1, 32)}
GROUPS = r"(signer\d+)_"  # what a signer is called in the name of a picture
NEW_FRAMES = tuple(range(0, 30, 10))  # of a new signer's clip, in version 2
TESTS = 4  # test pictures per class
PARTIAL = ".hand-signs-partial-"
STALE = 3600  # seconds without a finished signer after which a partial folder belongs to a run that was killed
Settings = dict[str, int]


def hand_signs_root(
    *,
    version: int = 1,
    signers: int | None = None,
    frames: int | None = None,
    unseen_signers: int | None = None,
    seed: int = 0,
) -> Path:
    """Finds the data set in the user's cache folder, or makes it there once.

    Args:
        version: As for `write_hand_signs`.
        signers: As for `write_hand_signs`.
        frames: As for `write_hand_signs`.
        unseen_signers: As for `write_hand_signs`.
        seed: As for `write_hand_signs`.

    Returns:
        The data set's folder, below `files.cache_folder()`.

    Raises:
        UserError: As for `write_hand_signs`.
    """
    signers, frames, new = _size(version, signers, frames, unseen_signers)
    folder = cache_folder() / f"hand-signs-v{version}-{signers}x{frames}-unseen{new}-seed{seed}"
    if not folder.exists():
        log.info("the embedded data are rendered once, into %s", folder)
    return write_hand_signs(folder, version=version, signers=signers, frames=frames, unseen_signers=new, seed=seed)


def _size(version: int, *asked: int | None) -> tuple[int, ...]:
    """Signers, frames and new signers: what was asked for, else those of USUAL."""
    if version not in VERSIONS:
        raise UserError(f"hand signs: there is no version {version}; give 1 or 2")
    return tuple(usual if each is None else each for each, usual in zip(asked, USUAL[version], strict=True))


def write_hand_signs(
    out: Path,
    *,
    version: int = 1,
    signers: int | None = None,
    frames: int | None = None,
    unseen_signers: int | None = None,
    seed: int = 0,
    processes: int | None = None,
    progress: bool = True,
) -> Path:
    """Renders the data set into `out`; the pixels depend on the settings only, not on the number of processes.

    Args:
        out: The folder to make. If it is already this data set with these settings, nothing is done.
        version: 1, or 2 with the folder Dev and a table of the signers.
        signers: Training signers, 1 or more, in version 2 at most 1,000. Default: 64, in version 2 384.
        frames: Training frames per signer and class, 1 or more; in version 1 also those of an unseen signer, who has
            three in each of his two clips in version 2. Default: 6, in version 2 1.
        unseen_signers: Signers for Unseen, 1 or more, in version 2 for Dev and Unseen together, half each. Default: 8,
            in version 2 32.
        seed: Another seed is another population of signers, 0 or more.
        processes: 1 or more; None takes every core that this process may use.
        progress: Whether to show a live line on standard error.

    Returns:
        `out`, with 28 * (signers * frames + unseen_signers * n) + 112 pictures below it; n is frames in version 1, and
        6 in version 2.

    Raises:
        UserError: For numbers out of range, if `out` exists and is anything else, or if it cannot be written.
    """
    signers, frames, new = _size(version, signers, frames, unseen_signers)
    settings = {"signers": signers, "frames": frames, "unseen_signers": new, "seed": seed}
    processes = cores() if processes is None else processes
    for name, value, least in (*((k, v, k != "seed") for k, v in settings.items()), ("processes", processes, 1)):
        if value < least:
            raise UserError(f"hand signs: {name} is {value}; give {int(least)} or more")
    if version == 2:
        if new % 2:
            raise UserError(f"hand signs: unseen_signers is {new}; in version 2 half are Dev's: give an even number")
        if most := next((name for name in ("signers", "unseen_signers") if settings[name] > DEV), None):
            raise UserError(f"hand signs: {most} is {settings[most]:,}; version 2 has at most {DEV:,}")
        settings["version"] = version
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


def version_of(folder: Path) -> int:
    """Which version of this data set a folder is, 0 if it is none. `GROUPS` finds its signers."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return record["format"] if record["format"] in VERSIONS else 0
    except (OSError, ValueError, LookupError, TypeError):
        return 0


def _check(folder: Path, settings: Settings) -> None:
    """Refuses a folder that is not this data set, whole, with these settings."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        same = record["format"] == settings.get("version", 1) and record["settings"] == settings
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


def _people(settings: Settings) -> dict[str, range]:
    """The numbers of each set's signers."""
    signers, new = settings["signers"], settings["unseen_signers"]
    if settings.get("version", 1) == 1:
        return {"Train": range(signers), "Unseen": range(signers, signers + new)}
    half = new // 2
    return {"Train": range(signers), "Dev": range(DEV, DEV + half), "Unseen": range(UNSEEN, UNSEEN + half)}


def _pictures(number: int, settings: Settings) -> Iterator[tuple[str, str, int, int]]:
    """(relative name, class, clip, frame) of all of a signer's pictures; in version 1 there is one clip."""
    signers, frames = settings["signers"], settings["frames"]
    split = next(split for split, people in _people(settings).items() if number in people)
    second = settings.get("version", 1) == 2
    if second and split != "Train":
        taken = [(clip, frame) for clip in (1, 2) for frame in NEW_FRAMES]
    else:
        taken = [(1, frame) for frame in range(frames)]
    plan = [(split, label, clip, frame) for label in CLASSES for clip, frame in taken]
    if split == "Train":  # the tests are dealt to the training signers in turn, each a frame later than the training's
        dealt = range(number, TESTS * len(CLASSES), signers)
        plan += [("Test", CLASSES[test // TESTS], 1, frames + test % TESTS) for test in dealt]
    for split, label, clip, frame in plan:
        of_clip = f"_clip{clip}" if second else ""
        yield f"{split}/{label}/signer{number:03d}{of_clip}_frame{frame:02d}.png", label, clip, frame


def _fill(folder: Path, settings: Settings, processes: int, progress: bool) -> None:
    """Writes every picture and, last, the record."""
    sets = _people(settings)
    splits = ("Train", "Test", *(split for split in sets if split != "Train"))
    for split in splits:
        for label in CLASSES:
            (folder / split / label).mkdir(parents=True)
    people = [number for numbers in sets.values() for number in numbers]
    digests: dict[str, str] = {}
    parts = _rendered(folder, people, settings, min(processes, len(people)))
    for part in follow(parts, "rendering hand signs", len(people)) if progress else parts:
        digests |= part
        os.utime(folder)  # tells other runs that this one is alive
    counts = {split: sum(name.startswith(split) for name in digests) for split in splits}
    whole = hashlib.sha256("".join(f"{name} {digests[name]}\n" for name in sorted(digests)).encode())
    if settings.get("version", 1) == 2:
        _write_signers(folder, sets, settings["seed"])
    record = {
        "about": "Synthetic: hands rendered by gfnet_pl, not photographs of people.",
        "format": settings.get("version", 1),
        "settings": settings,
        "classes": CLASSES,
        "counts": counts,
        "sha256": whole.hexdigest(),  # over "name sha256-of-pixels" lines, sorted by name
    }
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _write_signers(folder: Path, sets: dict[str, range], seed: int) -> None:
    """Writes who the signers are: a table for `data.group_table`, and the same with sets and clips."""
    rows, told = [], []
    for split, numbers in sets.items():
        for number in numbers:
            who, name = asdict(signer(seed, number)), f"signer{number:03d}"
            rows.append([name, *(who[key] for key in PROPERTIES)])
            clips = [scene.clip_of(seed, number, clip, 16).told for clip in ((1,) if split == "Train" else (1, 2))]
            told.append({"group": name, "set": split, **who, "clips": clips})
    with (folder / SIGNERS).open("w", newline="", encoding="utf-8") as file:
        write_rows(file, [["group", *PROPERTIES], *rows])
    (folder / "signers.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def _rendered(folder: Path, people: list[int], settings: Settings, processes: int) -> Iterator[dict[str, str]]:
    """The digests of each signer's pictures, signer by signer."""
    if processes == 1:
        for number in people:
            yield _write_signer(folder, number, settings)
        return
    # Closed before the folder is removed: then no process writes there any more.
    with closing(in_processes(_render, people, str(folder), settings, processes=processes)) as answers:
        for digests, _ in answers:
            yield digests


def _render(number: int, folder: str, settings: Settings) -> tuple[dict[str, str], bytes]:
    """A child process's work."""
    return _write_signer(Path(folder), number, settings), b""


def _write_signer(folder: Path, number: int, settings: Settings) -> dict[str, str]:
    """Writes a signer's pictures; gives the SHA-256 of each one's pixels by relative name."""
    digests = {}
    seed = settings["seed"]
    for name, label, clip, frame in _pictures(number, settings):
        if settings.get("version", 1) == 2:
            pixels = scene.render(label, number=number, clip=clip, frame=frame, seed=seed)
        else:
            pixels = render(label, signer=number, frame=frame, seed=seed)
        Image.fromarray(pixels).save(folder / name, compress_level=1)
        digests[name] = hashlib.sha256(pixels.tobytes()).hexdigest()
    return digests
