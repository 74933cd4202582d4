"""`gfnet sweep … --space FILE`: many short trainings with other settings, and which of them was best.

Optuna proposes the settings (TPE) and ends hopeless trials early (below the median of the others at the same epoch).
Its study is a journal beside the runs of the trials. So several processes, on one machine or on several with one file
system, share a sweep by giving the same command, and a command that was killed goes on where it was.
"""

import argparse
import json
import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext, redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import yaml  # type: ignore[import-untyped]
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console

from gfnet_pl.errors import OneLineParser, UserError, one_line, require
from gfnet_pl.files import reading, replacing
from gfnet_pl.locks import locked
from gfnet_pl.messages import quiet
from gfnet_pl.run.results import SetResults
from gfnet_pl.run.sweep import SweepFolder, Tried, best_of
from gfnet_pl.training.lightning_cli import run_trainer
from gfnet_pl.training.outputs import KeepOutputs
from gfnet_pl.training.space import ends, logarithmic, read_space
from gfnet_pl.training.trials import drawn, in_words, trials_table

log = logging.getLogger(__name__)

OBJECTIVES = ("val", "mean", "worst")
_FIRST = 5  # trials before any is ended early, and epochs of each
_ERROR, _RUN = "error", "run"  # what a trial remembers
_NOT_VALIDATED = "a sweep compares validations: drop data.folds and trainer.limit_val_batches"
_WAITING = "waiting for another process of this sweep that writes"
_OTHER = "give the same space, command and objective, or another --stage NAME"


def run_sweep(args: list[str], command: list[str]) -> None:
    """Runs `gfnet sweep`.

    Args:
        args: What follows `gfnet sweep`, with configs as paths.
        command: The words as the user wrote them, for the record of each run.

    Raises:
        UserError: The command line or the space is wrong, or trials fail from the first one on.
    """
    require("optuna", what="gfnet sweep", extra="sweep")
    values, words = _parser().parse_known_args(args)
    for word in words:
        if word.startswith("--print_config") or word.partition("=")[0].endswith((".help", "--help-all")):
            raise UserError(f"{word} is for gfnet fit, which takes the same options")
    space = read_space(values.space)
    if values.objective != "val" and not any(word.partition("=")[0] == "--data.split_by" for word in words):
        words.append("--data.split_by=group")
    _check(words, space)
    folder = SweepFolder.of_stage(values.stage)
    study = _study(folder, space, words, values.objective)
    _take_up(study, folder)
    begun = time.monotonic()
    while len(_counted(study)) < values.trials:
        if values.minutes and time.monotonic() - begun > 60 * values.minutes:
            log.info("%d minutes are over; the same command goes on", values.minutes)
            break
        _try(study, folder, space, [*words, f"--stage={values.stage}"], command, values.objective)
    trials = _tried(study)
    Console().print(trials_table(trials, values.objective))
    log.info("every trial: %s; drawn: %s", folder.trials, folder.plot)
    if best := best_of(trials):
        log.info("its settings alone: %s; next: gfnet fit --config %s/config.yaml --stage NAME", folder.best, best.run)


def _parser() -> OneLineParser:
    parser = OneLineParser("gfnet sweep", allow_abbrev=False)
    parser.add_argument("--space", type=Path, required=True)
    parser.add_argument("--trials", type=_positive, default=20)
    parser.add_argument("--minutes", type=_positive)
    parser.add_argument("--objective", choices=OBJECTIVES, default="val")
    parser.add_argument("--stage", default="sweep")
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text} is no whole number above 0")
    return int(text)


def score(found: SetResults, objective: str) -> float:
    """What is sought, 0 to 1: the share of right pictures; or of the groups' shares the mean, or the lowest.

    Raises:
        UserError: It is about groups, and they are unknown.
    """
    right = found.logits.argmax(1) == found.labels
    if objective == "val":
        return float(right.mean())
    groups = np.array([picture.group for picture in found.pictures])
    if not all(groups):
        raise UserError(
            f"--objective {objective} is about groups, and those of the validation pictures are unknown: give "
            "--data.group_by, or --objective val"
        )
    shares = [float(right[groups == group].mean()) for group in np.unique(groups)]
    return min(shares) if objective == "worst" else float(np.mean(shares))


class Watch(Callback):
    """Tells a trial of Optuna's what each validation found, and ends the training if the trial is hopeless.

    Attributes:
        value: What the last validation found, see `score`; None before the first.
        pruned: Whether the trial was ended.
    """

    def __init__(self, trial: Any, objective: str) -> None:  # noqa: ANN401
        self.trial, self.objective = trial, objective
        self.value: float | None = None
        self.pruned = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:  # of a part of the pictures
            return
        callbacks: Any = getattr(trainer, "callbacks")  # noqa: B009  (its type does not declare them)
        outputs = next(each for each in callbacks if isinstance(each, KeepOutputs))
        self.value = score(outputs.sets["val"], self.objective)
        self.trial.report(self.value, trainer.current_epoch)
        is_last = trainer.max_epochs is not None and trainer.current_epoch + 1 >= trainer.max_epochs
        if not is_last and self.trial.should_prune():
            self.pruned = trainer.should_stop = True


def _check(words: list[str], space: Mapping[str, Any]) -> None:
    """Raises UserError if the command, with the ends of each range, is none: before anything is trained."""
    for last in (False, True):
        printed = StringIO()
        with redirect_stdout(printed), suppress(SystemExit):
            run_trainer(["fit", *words, *_options(ends(space, last=last)), "--print_config"], [])
        if yaml.safe_load(printed.getvalue())["data"]["folds"]:
            raise UserError(_NOT_VALIDATED)


def _options(settings: Mapping[str, Any]) -> list[str]:
    return [f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in settings.items()]


def _study(folder: SweepFolder, space: Mapping[str, Any], words: list[str], objective: str) -> Any:  # noqa: ANN401
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder.make()
    file = str(folder.journal)
    with reading(folder.journal, "give another --stage NAME"):
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(file, lock_obj=JournalFileOpenLock(file))),
            study_name=folder.path.name,
            direction="maximize",
            load_if_exists=True,
            sampler=optuna.samplers.TPESampler(n_startup_trials=_FIRST, constant_liar=True),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=_FIRST, n_warmup_steps=_FIRST),
        )
    asked = {"space": {key: repr(each) for key, each in space.items()}, "words": words, "objective": objective}
    if study.user_attrs.get("asked", asked) != asked:
        raise UserError(f"{folder.path} is another sweep: {_OTHER}")
    study.set_user_attr("asked", asked)
    return study


def _take_up(study: Any, folder: SweepFolder) -> None:  # noqa: ANN401
    """Settings whose process was killed are tried again."""
    from optuna.trial import TrialState

    with locked(folder.trials, _WAITING):  # between its beginning and its lock, a trial looks like one that was killed
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if not folder.is_running(trial.number):
                study.tell(trial.number, state=TrialState.FAIL)
                study.enqueue_trial(trial.params)


def _counted(study: Any) -> list[Any]:  # noqa: ANN401
    """The trials but those that wait, and those that were stopped and are tried again."""
    from optuna.trial import TrialState

    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state in (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED) or _ERROR in trial.user_attrs
    ]


def _try(
    study: Any,  # noqa: ANN401
    folder: SweepFolder,
    space: Mapping[str, Any],
    words: list[str],
    command: list[str],
    objective: str,
) -> None:
    """Runs one trial, and writes what is known then.

    Raises:
        UserError: It failed, and so did all before it.
    """
    with ExitStack() as begun:
        with locked(folder.trials, _WAITING):
            trial = study.ask(space)
            begun.enter_context(folder.running(trial.number))
        _train(study, trial, words, command, objective)
    with locked(folder.trials, _WAITING):
        trials = _tried(study)
        folder.write(trials, [f"The best of {len(trials)} trials of: gfnet sweep {' '.join(command)}"])
        with replacing(folder.plot, "wb", lasting=False) as file:
            drawn(trials, objective, logarithmic(space)).savefig(file, format="png")


def _train(study: Any, trial: Any, words: list[str], command: list[str], objective: str) -> None:  # noqa: ANN401
    """Trains with the settings of a trial, and tells the study what came of it; raises as `_try`."""
    from optuna.trial import TrialState

    log.info("trial %d: %s", trial.number, in_words(trial.params))
    watch, state = Watch(trial, objective), TrialState.FAIL
    # What the first one says about the data, all would say.
    shown = nullcontext() if trial.number == 0 else quiet("gfnet_pl", warnings=False)
    try:
        with shown:
            run = run_trainer(["fit", *words, *_options(trial.params)], ["sweep", *command], [watch])
        if run is None or watch.value is None:
            raise UserError(_NOT_VALIDATED)
        trial.set_user_attr(_RUN, str(run.path))
        state = TrialState.PRUNED if watch.pruned else TrialState.COMPLETE
    except UserError as error:
        trial.set_user_attr(_ERROR, str(error))
        if not any(each.value is not None for each in _tried(study)):
            raise
        log.warning("trial %d failed: %s", trial.number, error)
    except Exception as error:
        trial.set_user_attr(_ERROR, one_line(error))
        raise
    except (KeyboardInterrupt, SystemExit):
        study.enqueue_trial(trial.params)
        log.info("trial %d was stopped: the same command tries it again, and goes on", trial.number)
        raise
    finally:
        study.tell(trial, watch.value if state is TrialState.COMPLETE else None, state=state)


def _tried(study: Any) -> list[Tried]:  # noqa: ANN401
    """The trials of a study, without those that wait."""
    found = []
    for trial in study.get_trials(deepcopy=False):
        if (state := trial.state.name.lower()) == "waiting":
            continue
        value = trial.value if trial.value is not None else trial.intermediate_values.get(trial.last_step)
        error = trial.user_attrs.get(_ERROR, "it was stopped" if state == "fail" else "")
        seconds = round(trial.duration.total_seconds(), 1) if trial.duration else None
        found.append(Tried(trial.number, state, value, seconds, trial.params, trial.user_attrs.get(_RUN, ""), error))
    return found
