"""`gfnet enrol --pictures DIR`: a person shows each sign, and `gfnet predict --person NAME` knows how he makes it."""

import logging
import os
from pathlib import Path

import numpy as np

from gfnet_pl.data.archive import unpacked
from gfnet_pl.data.decode import read_each
from gfnet_pl.data.layouts import scan
from gfnet_pl.errors import OneLineParser, UserError
from gfnet_pl.export.classifier import Classifier
from gfnet_pl.files import refuse_url
from gfnet_pl.run.enrolled import enrolled_file, write_enrolment
from gfnet_pl.run.folder import find_checkpoint, newest_run

log = logging.getLogger(__name__)

_HELP = """Learns how a person makes the signs, from one or more pictures of each; nothing is trained. Then gfnet
predict --person NAME recognises this person better."""


def run_enrol(args: list[str]) -> None:
    """Runs `gfnet enrol`.

    Args:
        args: The words after `gfnet enrol`.

    Raises:
        UserError: The command line is wrong, there is no such net, or no picture of its classes.
    """
    parser = OneLineParser("gfnet enrol", description=_HELP)
    words = "a folder for each class, with one or more pictures of this person; classes may be missing"
    parser.add_argument("--pictures", metavar="DIR", required=True, help=words)
    parser.add_argument("--name", help="of the person; default: the folder's name")
    words = "a checkpoint, or the folder of a run or an export; default: the newest run"
    parser.add_argument("--ckpt_path", metavar="FILE", help=words)
    values = parser.parse_args(args)
    refuse_url("--pictures", values.pictures)
    classifier = load(values.ckpt_path)
    name = values.name or Path(os.path.abspath(values.pictures)).stem
    file = enrolled_file(classifier.file, name)
    try:
        found = scan(unpacked(Path(values.pictures)), known=classifier.classes)
    except UserError as error:
        raise UserError(str(error).replace("data.root", "--pictures")) from None
    paths = [found.folder / picture.path for picture in found.pictures]
    images, broken = read_each(paths, classifier.canvas)
    if len(broken) == len(paths):
        place, reason = broken[0]
        raise UserError(f"none of the {len(paths):,} pictures can be read, first {paths[place]} ({reason})")
    left_out = [(str(paths[place]), reason) for place, reason in broken] + found.left_out
    if left_out:
        path, reason = left_out[0]
        more = f" and {len(left_out) - 1:,} more" if len(left_out) > 1 else ""
        log.warning("left out: %s (%s)%s", path, reason, more)
    good = np.delete(np.arange(len(paths)), [place for place, _ in broken])
    labels = np.array([classifier.classes.index(picture.label) for picture in found.pictures])
    enrolment = classifier.enrolment(images[good], labels[good])
    was_there = file.is_file()
    write_enrolment(file, enrolment, classifier.classes, classifier.digest)
    shown = np.flatnonzero(enrolment.counts)
    missing = [classifier.classes[place] for place in np.flatnonzero(enrolment.counts == 0)]
    words = f"{len(shown)} of {len(classifier.classes)} classes" + (f", without {_listed(missing)}" if missing else "")
    fewest, most = enrolment.counts[shown].min(), enrolment.counts[shown].max()
    log.info("%s: %s; %s per class", name, words, fewest if fewest == most else f"{fewest} to {most}")
    if enrolment.mirrored:
        log.info("%s is more familiar in a mirror, as a left-hander may be, and is seen in one from now on", name)
    log.info("%s%s; next: gfnet predict --person %s PATH…", file, " replaced" if was_there else "", name)


def load(given: str | None, *, by_torch: bool = False) -> Classifier:
    """The net of a command's --ckpt_path; None: of the newest run."""
    path = newest_run().path if given is None else Path(given) if os.path.isdir(given) else find_checkpoint(given)
    return Classifier.load(path, by="torch" if by_torch else None)


def _listed(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
