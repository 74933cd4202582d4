"""`gfnet sweep … --space FILE`: many short trainings with other settings, and which of them was best.

Optuna proposes the settings (TPE) and ends hopeless trials early (below the median of the others at the same epoch).
Its study is a journal beside the runs of the trials. So several processes, on one machine or on several with one file
system, share a sweep by giving the same command, and a command that was killed goes on where it was.
"""

import argparse
import json
import logging
import math
import time
from collections.abc import Mapping, Sequence, Set
from contextlib import nullcontext, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import yaml  # type: ignore[import-untyped]
from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from rich.console import Console
from rich.table import Table

from gfnet_pl.errors import OneLineParser, UserError, one_line, require
from gfnet_pl.files import reading, replacing
from gfnet_pl.locks import locked
from gfnet_pl.messages import duration, quiet
from gfnet_pl.run.results import SetResults
from gfnet_pl.run.sweep import SweepFolder, Tried, best_of
from gfnet_pl.training.lightning_cli import run_trainer
from gfnet_pl.training.outputs import KeepOutputs

log = logging.getLogger(__name__)

OBJECTIVES = ("val", "mean", "worst")
_FIRST = 5  # trials before any is ended early, and epochs of each
_SHOWN = 10  # rows of the table
_COLUMNS = 3  # of the plot
_ERROR, _RUN = "error", "run"  # what a trial remembers
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
    Console().print(_table(trials, values.objective))
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


def read_space(file: Path) -> dict[str, Any]:
    """Reads what to try: a YAML file of dotted keys, each with a list of values, or with `low` and `high`.

    Between two whole numbers, whole numbers are tried; `step` is the distance of two of them. With `log: true`, as many
    are tried between 1 and 10 as between 10 and 100.

    Returns:
        Optuna's distribution of each key.

    Raises:
        UserError: The file cannot be read, or a range is impossible.
    """
    if not file.is_file():
        raise UserError(f"--space: no file {file}")
    with reading(file, "write dotted keys, each with a list of values, or with low and high"):
        try:
            text = yaml.safe_load(file.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise ValueError(one_line(error)) from None
        if not isinstance(text, dict) or not text or not all(isinstance(key, str) for key in text):
            raise ValueError("it holds no keys with values to try")
    return {key: _distribution(f"{file}: {key}", values) for key, values in text.items()}


def _distribution(where: str, values: Any) -> Any:  # noqa: ANN401
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(values, list):
        if not values or not all(each is None or isinstance(each, bool | int | float | str) for each in values):
            raise UserError(f"{where} must be a list of numbers, words, true, false or null")
        return CategoricalDistribution(values)
    if not isinstance(values, Mapping) or not {"low", "high"} <= values.keys() <= {"low", "high", "log", "step"}:
        raise UserError(f"{where} must be a list of values, or low and high, and with them log or step")
    numbers = [values[key] for key in ("low", "high", "step") if key in values]
    if not all(isinstance(each, int | float) and math.isfinite(each) for each in numbers):
        raise UserError(f"{where}: low, high and step must be numbers; YAML needs 1.0e-3 for 1e-3")
    kind = IntDistribution if all(isinstance(each, int) for each in numbers) else FloatDistribution
    try:
        return kind(**values)
    except (ValueError, TypeError) as error:
        raise UserError(f"{where}: {one_line(error)}") from None


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
        ends = {
            key: each.choices[-1 if last else 0] if hasattr(each, "choices") else each.high if last else each.low
            for key, each in space.items()
        }
        try:
            with redirect_stdout(StringIO()):
                run_trainer(["fit", *words, *_options(ends), "--print_config"], [])
        except SystemExit:  # it has printed
            continue


def _options(settings: Mapping[str, Any]) -> list[str]:
    return [f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in settings.items()]


def _study(folder: SweepFolder, space: Mapping[str, Any], words: list[str], objective: str) -> Any:  # noqa: ANN401
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder.make()
    file = str(folder.journal)
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
    from optuna.trial import TrialState

    trial = study.ask(space)
    log.info("trial %d: %s", trial.number, _in_words(trial.params))
    watch, state = Watch(trial, objective), TrialState.FAIL
    # What the first one says about the data, all would say.
    shown = nullcontext() if trial.number == 0 else quiet("gfnet_pl", warnings=False)
    with folder.running(trial.number):
        try:
            with shown:
                run = run_trainer(["fit", *words, *_options(trial.params)], ["sweep", *command], [watch])
            assert run is not None  # fit has made one
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
    with locked(folder.trials, "waiting for another process of this sweep that writes"):
        trials = _tried(study)
        folder.write(trials, [f"The best of {len(trials)} trials of: gfnet sweep {' '.join(command)}"])
        logarithmic = {key for key, each in space.items() if getattr(each, "log", False)}
        with replacing(folder.plot, "wb", lasting=False) as file:
            _drawn(trials, objective, logarithmic).savefig(file, format="png")


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


def _in_words(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_short(value)}" for key, value in settings.items())


def _short(value: Any) -> str:  # noqa: ANN401
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _table(trials: Sequence[Tried], objective: str) -> Table:
    """The best trials, the best one first."""
    keys = list(dict.fromkeys(key for each in trials for key in each.settings))
    ranked = sorted(trials, key=lambda each: (each.state == "complete", each.value or 0.0), reverse=True)
    table = Table(box=None, padding=(0, 2, 0, 0), title=f"{len(trials)} trials, the best first")
    for heading in ("trial", objective, *(key.rpartition(".")[2] for key in keys), "state", "time"):
        table.add_column(heading, justify="left" if heading == "state" else "right")
    for each in ranked[:_SHOWN]:
        value = "-" if each.value is None else f"{each.value:.1%}"
        spent = "-" if each.seconds is None else duration(each.seconds, exact=False)
        settings = [_short(each.settings.get(key, "-")) for key in keys]
        table.add_row(str(each.number), value, *settings, each.state, spent)
    return table


def _drawn(trials: Sequence[Tried], objective: str, logarithmic: Set[str]) -> Figure:
    """The value of each trial in their order, with the best so far, and then against each setting."""
    keys = list(dict.fromkeys(key for each in trials for key in each.settings))
    known = [each for each in trials if each.value is not None]
    rows = -(-(1 + len(keys)) // _COLUMNS)
    figure = Figure(figsize=(4 * _COLUMNS, 3 * rows), layout="constrained")
    axes = figure.subplots(rows, _COLUMNS, squeeze=False, sharey=True).ravel()
    places: dict[str, list[Any]] = {"trial": [each.number for each in known]}
    places |= {key: [each.settings.get(key) for each in known] for key in keys}
    for axis, (name, at) in zip(axes, places.items(), strict=False):
        if any(not isinstance(each, int | float) or isinstance(each, bool) for each in at):
            at = [str(each) for each in at]
        for state, look in (("complete", {"color": "#2166ac"}), ("pruned", {"color": "#b0b0b0", "marker": "x"})):
            chosen = [place for place, each in enumerate(known) if each.state == state]
            if not chosen:
                continue
            points = [at[place] for place in chosen], [100 * (known[place].value or 0.0) for place in chosen]
            axis.scatter(*points, label=state, **look)
        axis.set_xlabel(name)
        if name in logarithmic:
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
            axis.xaxis.set_major_formatter("{x:g}")
            axis.xaxis.set_minor_formatter("")
    complete = [(each.number, 100 * (each.value or 0.0)) for each in known if each.state == "complete"]
    if complete:
        numbers, values = zip(*complete, strict=True)
        axes[0].step(numbers, np.maximum.accumulate(values), where="post", color="#b2182b", label="best so far")
    axes[0].set_ylabel(f"{objective}, %")
    axes[0].legend(frameon=False)
    for axis in axes[len(places) :]:
        axis.set_visible(False)
    return figure
