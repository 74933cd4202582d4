"""`gfnet curve [RUN]`: trains a run's net again on a quarter and on half of its training pictures.

The run itself is the third point. All three have the same settings, the same number of steps and the same pictures to
be tested on: the run's own splits are read, and the pictures that a smaller net goes without are "unused" there. So the
difference is that of the pictures alone, and of chance.

Where the set that counts is of new people, the smaller nets have fewer people instead: half of the frames of every
video would bring nearly all that the video can teach, and more pictures would seem to be useless.
"""

import io
import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from gfnet_pl.data.manifest import Picture
from gfnet_pl.data.splits import read_splits, thinned, write_splits
from gfnet_pl.errors import OneLineParser, UserError
from gfnet_pl.evaluation.figures import People
from gfnet_pl.messages import duration, quiet
from gfnet_pl.run.checkpoint import Checkpoint
from gfnet_pl.run.folder import CURVE, RunFolder, newest_run
from gfnet_pl.run.learning_curve import CAVEAT, LearningCurve, point, write_learning_curve
from gfnet_pl.run.record import read_sessions
from gfnet_pl.run.results import Results
from gfnet_pl.run.run import read_if_tested, read_run
from gfnet_pl.run.trained_data import data_root, is_other_data
from gfnet_pl.training.lightning_cli import run_trainer

log = logging.getLogger(__name__)

_SHARES = (0.25, 0.5)
_FEWEST_PEOPLE = 8  # in training: a quarter of them are two


def run_curve(args: list[str]) -> None:
    """Runs `gfnet curve`, and prints a line for each number of pictures and what the last doubling brought.

    Args:
        args: The words after `gfnet curve`.

    Raises:
        UserError: The command line is wrong, the run cannot be read, or it cannot be compared with smaller ones.
    """
    parser = OneLineParser("gfnet curve", description="Would more pictures help? Train on a quarter and on half.")
    parser.add_argument("run", metavar="RUN", type=Path, nargs="?", help="runs/<stage>/version_N; default: the newest")
    values = parser.parse_args(args)
    run = RunFolder(values.run) if values.run else newest_run()
    checkpoint = Checkpoint.load(run.checkpoint_to_test())
    _refuse_warm_start(run, checkpoint)
    sessions = read_sessions(run)
    _refuse_devices(run, sessions)
    pictures = read_splits(checkpoint.own_splits or run.splits)
    trained = _trained(pictures)
    results = _tested(run)
    by_people = _by_people(results, trained)
    parts = {share: thinned(pictures, share, seed=0, by_group=by_people) for share in _SHARES}
    if not len(_trained(parts[0.25])) < len(_trained(parts[0.5])) < len(trained):
        raise UserError(
            f"{run.path}: {len(trained):,} training pictures are too few to take a quarter and half of them"
        )
    seconds = sum(float(session.get("seconds", 0)) for session in sessions)
    how_long = f", about {duration(2 * seconds, exact=False)} in all if the machine is as fast as then" * (seconds > 0)
    log.info("%s: its net is trained on a quarter and on half of its pictures%s", run.path, how_long)
    points, smaller = [], []
    for share, part in parts.items():
        few = _trained(part)
        log.info("%s of %s training pictures:", f"{len(few):,}", f"{len(trained):,}")
        folder = _train(run, checkpoint, share, part, len(trained), args)
        smaller.append(_tested(folder))
        points.append(point(share, folder, smaller[-1], len(few), _groups(few)))
    points.append(point(1.0, run, results, len(trained), _groups(trained)))
    thins: Literal["pictures", "people"] = "people" if by_people else "pictures"
    curve = LearningCurve.of_results(points, smaller[-1], results, thins)
    write_learning_curve(run, curve)
    Console().print(curve_table(curve))
    Console().print(f"{curve.sentence}\n{CAVEAT}", highlight=False)
    log.info("next: gfnet report %s", run.path)


def curve_table(curve: LearningCurve) -> Table:
    """A row for each number of pictures, with the accuracy on the set that counts."""
    table = Table(title=f"accuracy on {curve.set}: {curve.people}", box=None, padding=(0, 2, 0, 0))
    for heading in ("", "pictures", "per class", "people", "accuracy", "95 %"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for each in curve.points:
        accuracy, low, high = each.sets[curve.set]
        table.add_row(
            each.name,
            f"{each.pictures:,}",
            f"{each.per_class:.0f}",
            f"{each.groups:,}" if each.groups else "-",
            f"{accuracy:.1%}",
            f"{100 * low:.1f}-{100 * high:.1f}",
        )
    return table


def _train(
    run: RunFolder, checkpoint: Checkpoint, share: float, part: Sequence[Picture], size: int, args: list[str]
) -> RunFolder:
    """Trains the run's net on a part of its pictures, with epochs as long as before, and returns the new run."""
    splits = run.thinned_splits(share)
    write_splits(splits, part)
    words = ["fit", "--config", str(run.config), "--stage", CURVE, "--data.splits", str(splits)]
    if (root := data_root(checkpoint)) is not None:
        words += ["--data.root", root]
    if checkpoint.settings.get("data.epoch_size") is None:
        words += ["--data.epoch_size", str(size)]
    folder = run_trainer(words, ["curve", *args])
    assert folder is not None  # fit has made one
    return folder


def _tested(run: RunFolder) -> Results:
    """The results of a run, which is tested without a word if it has not been."""
    if found := read_if_tested(run):
        return found.results
    command = ["test", "--ckpt_path", str(run.checkpoint_to_test())]
    with redirect_stdout(io.StringIO()), quiet("gfnet_pl"):
        run_trainer(command, command)
    return read_run(run).results


def _by_people(results: Results, trained: Sequence[Picture]) -> bool:
    """Whether the set that counts is of new people, and each class has enough of them in training to take fewer."""
    name = results.trusted
    if People.of(name, results.figures[name], results.known) is not People.NEW:
        return False
    of_class: defaultdict[str, set[str]] = defaultdict(set)
    for picture in trained:
        of_class[picture.label].add(picture.group)
    return all("" not in groups and len(groups) >= _FEWEST_PEOPLE for groups in of_class.values())


def _refuse_warm_start(run: RunFolder, checkpoint: Checkpoint) -> None:
    """Refuses a run whose weights came from a net that has seen its pictures: the smaller nets would know them all."""
    origin = checkpoint.settings.get("ckpt_path")
    if not origin or not Path(origin).is_file():
        return
    first = Checkpoint.load(Path(origin))
    if first.run and first.run != run and not is_other_data(first, {"data.root": data_root(checkpoint)}):
        raise UserError(
            f"{run.path} began with the weights of {origin}, which has seen all its pictures: give that run, "
            f"gfnet curve {first.run.path}"
        )


def _refuse_devices(run: RunFolder, sessions: Sequence[dict[str, Any]]) -> None:
    """Refuses a run of several devices: a batch of one has fewer pictures, and each would start this command."""
    devices = {str(session.get("devices", "1 x ")).partition(" x ")[0] for session in sessions}
    if devices - {"1"}:
        raise UserError(
            f"{run.path} was trained on {max(devices)} devices, and gfnet curve trains on one: train it with "
            "--trainer.devices 1, and a data.batch_size as large as those of all devices"
        )


def _trained(pictures: Sequence[Picture]) -> list[Picture]:
    return [picture for picture in pictures if picture.split == "train"]


def _groups(pictures: Sequence[Picture]) -> int:
    groups = Counter(picture.group for picture in pictures)
    return 0 if "" in groups else len(groups)
