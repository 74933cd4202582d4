"""`gfnet fit … --data.folds K`: K nets, each validated on the pictures that it was not trained on, and their figures.

Each fold is a run of its own, which can be tested, reported and resumed like any other. A fold that has finished is
kept when the command is given again, so a command that was stopped goes on where it was.
"""

import io
import logging
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import Any, NamedTuple

from rich.console import Console

from gfnet_pl.errors import UserError
from gfnet_pl.messages import quiet
from gfnet_pl.run.folder import LAST, RunFolder
from gfnet_pl.run.folds import HOW_TO_READ, finished_fold, pool, pooled_table, write_pooled
from gfnet_pl.run.results import Results
from gfnet_pl.run.run import read_if_tested, read_run

log = logging.getLogger(__name__)

Run = Callable[[list[str], list[str]], RunFolder | None]  # `lightning_cli.run_trainer`


class Fold(NamedTuple):
    """One of the runs.

    Attributes:
        options: What the command line says of it, besides the words of the command.
        config: The text of its config.
    """

    options: list[str]
    config: str


def run_folds(
    folds: Sequence[Fold], args: list[str], command: list[str], *, stage: str, test: list[str], run: Run
) -> None:
    """Trains the folds that have not finished, scores each with its last checkpoint, and shows and writes the figures.

    Args:
        folds: In order.
        args: The words of the command, with configs as paths.
        command: The words as the user wrote them, for the record of each run.
        stage: Of the runs.
        test: Options for the test of each fold.
        run: Runs a command.

    Raises:
        UserError: As for the command; or finished runs are folds of other pictures.
    """
    runs = []
    for number, fold in enumerate(folds, 1):
        if kept := finished_fold(stage, fold.config):
            log.info("fold %d of %d: %s has finished, and is kept", number, len(folds), kept.path)
        else:
            log.info("fold %d of %d:", number, len(folds))
            kept = run([*args, *fold.options], [*command, f"--data.fold={number}"])
            assert kept is not None  # fast_dev_run is refused
        runs.append(kept)
    results = [_tested(each, test, run) for each in runs]
    pooled, everything = pool(runs, results)
    write_pooled(runs, pooled, everything, results[0].classes)
    Console().print(pooled_table(pooled, caption=results[0].source))
    Console().print(f"{pooled.sentence}. {HOW_TO_READ}", highlight=False)
    log.info("picture by picture: %s", runs[0].folds_predictions)
    log.info("next: the same gfnet fit without data.folds trains the net to use; gfnet report RUN shows a fold")


def refuse_folds_of(config: Any) -> None:  # noqa: ANN401  (a namespace of jsonargparse)
    """Raises UserError if settings of a command make its folds impossible."""
    if config["data"]["splits"]:
        raise UserError("data.splits says already which picture is in which split: drop it, or data.folds")
    if config["trainer"]["fast_dev_run"]:
        raise UserError("trainer.fast_dev_run keeps no run, and data.folds needs those of all folds: drop one")
    if config["trainer"]["devices"] not in ("auto", 1, "1"):
        raise UserError("data.folds trains one net after another on one device: drop trainer.devices")
    if config["data"]["holdout_per_class"]:
        log.info("data.holdout_per_class is not used: with folds, every picture is scored")


def _tested(folder: RunFolder, options: list[str], run: Run) -> Results:
    """The results of the last checkpoint of a run, which is tested without a word if it has not been."""
    found = read_if_tested(folder)
    if found is None or found.checkpoint.path.name != LAST:
        words = ["test", "--ckpt_path", str(folder.checkpoint(LAST)), *options]
        with redirect_stdout(io.StringIO()), quiet("gfnet_pl"):
            run(words, words)
        found = read_run(folder)
    return found.results
