"""The data that a checkpoint was trained on: where they are now, and which pictures its net has seen."""

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
import torch

from gfnet_pl.data.archive import opened
from gfnet_pl.data.cache import decoding
from gfnet_pl.data.collection import classes_in, collect, folder_of
from gfnet_pl.data.packed import file_of
from gfnet_pl.data.seen import Seen
from gfnet_pl.data.splits import read_splits
from gfnet_pl.errors import UserError
from gfnet_pl.run.checkpoint import Checkpoint
from gfnet_pl.run.record import read_sessions

log = logging.getLogger(__name__)


def data_root(checkpoint: Checkpoint) -> str | None:
    """The absolute path of the data of the checkpoint's run; None for the embedded data.

    A run of an earlier version has a path relative to the folder in which `gfnet fit` ran. It is looked for below the
    current folder, below that folder, and below the folder that holds `runs`. So is an absolute path that is gone, as
    the run and its data may have been moved together.

    Returns:
        The path where the data are; if they are nowhere, the path where they were.
    """
    stored: str | None = checkpoint.settings.get("data.root")
    if stored is None:
        return None
    run = checkpoint.run
    sessions = read_sessions(run) if run else []
    began_in = str(sessions[0].get("folder", "")) if sessions else ""
    relative = stored
    if began_in and os.path.isabs(stored):
        with suppress(ValueError):  # on Windows, they may be on two drives
            relative = os.path.relpath(stored, began_in)
    tops = [Path(), Path(began_in), *([run.path.absolute().parents[2]] if run else [])]
    paths = [Path(stored), *(top / relative for top in tops if not relative.startswith(".."))]
    return os.path.abspath(next((path for path in paths if path.exists()), paths[-1] if run else paths[0]))


def is_other_data(checkpoint: Checkpoint, said: dict[str, Any]) -> bool:
    """Whether a command names other data, or other splits, than those of the checkpoint's run.

    Data are the run's own if all pictures of its splits are there and its own folder is gone: they have been moved.

    Args:
        checkpoint: The checkpoint that the command starts from.
        said: The settings in config files and flags, by dotted key.
    """
    run = checkpoint.run
    if splits := said.get("data.splits"):
        return run is None or os.path.realpath(splits) != os.path.realpath(run.splits)
    if "data.root" not in said:
        return False
    root, own = said["data.root"], data_root(checkpoint)
    if root is None or own is None:
        return root is not own
    if os.path.realpath(os.path.expanduser(root)) == os.path.realpath(own):
        return False
    if run is None or os.path.exists(own):
        return True
    folder = folder_of(opened(Path(root)))
    return not all(os.path.lexists(folder / file_of(picture.path)) for picture in read_splits(run.splits))


def has_other_classes(checkpoint: Checkpoint, said: dict[str, Any]) -> bool:
    """Whether a command names classes that are not those of the checkpoint's net, or data with such classes.

    Args:
        checkpoint: The checkpoint that the command starts from.
        said: The settings in config files and flags, by dotted key.

    Raises:
        UserError: The data, or the file of their splits, cannot be read.
    """
    if chosen := said.get("data.classes"):
        names = {normalize("NFC", name) for name in chosen}
    elif splits := said.get("data.splits"):
        names = {picture.label for picture in read_splits(Path(splits))}
    elif is_other_data(checkpoint, said):
        names = set(classes_in(said["data.root"]))
    else:
        return False
    return names != set(checkpoint.classes)


def trained_on(checkpoint: Checkpoint) -> Seen:
    """What the net of a checkpoint was trained on.

    A checkpoint of version 0.1.0 does not say it, and digests that another version of the decoder made may not be those
    of this one. Then the training pictures of the run are read, or if they are gone, known by their paths.
    """
    stored = checkpoint.trained_on
    # A copy: the checkpoint's file is mapped, and a resumed run writes to it.
    seen = Seen(stored["digests"].numpy().copy().view(np.uint64)) if stored else Seen()
    if stored and stored["decoding"] == decoding():
        return seen
    if (run := checkpoint.run) is None:
        if not stored:
            log.warning("%s does not say what it was trained on: training pictures may be scored", checkpoint.path)
        return seen
    root = data_root(checkpoint)
    if root is None or os.path.exists(root):
        found = collect(root, canvas=checkpoint.canvas, splits=str(run.splits), skip_broken=True)
        rows = [row for picture, row in zip(found.pictures, found.rows, strict=True) if picture.split == "train"]
        return Seen.of(found.images, np.array(rows)).joined(seen)
    log.warning("%s is gone: pictures with the same path as one that the net was trained on are left out", root)
    return seen.joined(Seen(paths=frozenset(p.path for p in read_splits(run.splits) if p.split == "train")))


def stored(seen: Seen) -> dict[str, Any]:
    """What a checkpoint stores of it, see `Checkpoint.trained_on`."""
    return {"digests": torch.from_numpy(seen.digests.view(np.int64)), "decoding": decoding()}


def refuse_other_pictures(now: Seen, before: dict[str, Any] | None, source: str) -> None:
    """Refuses to go on with a run on training pictures that it was not trained on so far.

    Args:
        now: What the net will have been trained on, with what it had seen before.
        before: What its checkpoint stores, see `stored`; None, and what another decoder made, cannot be compared.
        source: The data, for the message.

    Raises:
        UserError: There are such pictures.
    """
    if before is None or before["decoding"] != decoding():
        return
    known = before["digests"].numpy().view(np.uint64)
    if new := len(np.setdiff1d(now.digests, known)):
        raise UserError(
            f"data.root: {new:,} training picture{'s' if new > 1 else ''} in {source} "
            f"{'are' if new > 1 else 'is'} not as when this run began, and a run that goes on keeps its pictures: put "
            "them back, or train a new run from its weights with another --stage"
        )
