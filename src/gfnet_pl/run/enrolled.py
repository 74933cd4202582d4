"""The people who have shown a net their signs: `enrolled/NAME.npz` in its run, or beside a net that lies elsewhere.

A file holds the person's mean features, and of which net they are: those of another net mean nothing to this one. There
are no pictures in it.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gfnet_pl.errors import UserError
from gfnet_pl.evaluation.enrolment import Enrolment
from gfnet_pl.files import read_arrays, reading, replacing
from gfnet_pl.run.folder import enrolled_beside

_FORMAT = 2
_WITHOUT_MIRROR = 1
_NAME = re.compile(r"\w[\w.-]{0,98}(?<!\.)")


def enrolled_file(net: Path, name: str) -> Path:
    """The file of a person, for the net in this file.

    Raises:
        UserError: The name cannot be that of a file.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"--name: {name!r} cannot name a file; begin with a letter or digit, then also . _ -")
    return enrolled_beside(net) / f"{name}.npz"


def write_enrolment(file: Path, enrolment: Enrolment, classes: Sequence[str], net: str) -> None:
    """Writes a person's enrolment, also over an older one.

    Args:
        file: Its folder is made if need be.
        enrolment: The features.
        classes: Names in their order.
        net: SHA-256 of the checkpoint whose features they are.
    """
    file.parent.mkdir(exist_ok=True)
    with replacing(file, "wb") as opened:
        np.savez(
            opened,
            means=enrolment.means,
            counts=enrolment.counts,
            mirrored=np.array(int(enrolment.mirrored)),  # as a number, which the browser's page reads, too
            classes=np.array(classes, np.str_),
            net=np.array(net),
            format=np.array(_FORMAT),
        )


def read_enrolment(file: Path, classes: Sequence[str], net: str) -> Enrolment:
    """Reads a person's enrolment.

    Args:
        file: As `write_enrolment` wrote it.
        classes: Those of the net.
        net: SHA-256 of its checkpoint.

    Raises:
        UserError: The file is missing or damaged, or is of another net.
    """
    if not file.is_file():
        there = ", ".join(sorted(path.stem for path in file.parent.glob("*.npz"))) or "nobody"
        raise UserError(f"{file} does not exist: enrolled is {there}; gfnet enrol --pictures DIR --name {file.stem}")
    arrays, again = read_arrays(file), "enrol again"
    with reading(file, again):
        means, counts = np.asarray(arrays["means"], np.float32), np.asarray(arrays["counts"], np.int64)
        if (version := int(arrays["format"])) not in (_FORMAT, _WITHOUT_MIRROR):
            raise ValueError(f"its format is {version}, not {_FORMAT}")
        mirrored = version == _FORMAT and bool(arrays["mirrored"])
        names, of = [str(name) for name in arrays["classes"].tolist()], str(arrays["net"])
        if means.ndim != 2 or len(means) != len(names) or counts.shape != (len(names),):
            raise ValueError("its arrays do not fit together")
        if not np.isfinite(means).all() or (counts < 0).any():
            raise ValueError("its numbers are none of a net")
    if of != net or names != list(classes):
        raise UserError(f"{file} is of another net: its features mean nothing to this one; {again}")
    return Enrolment(means, counts, mirrored)
