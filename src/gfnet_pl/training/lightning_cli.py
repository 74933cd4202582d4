"""fit, validate and test: LightningCLI with this package's defaults, run folders and checkpoint names."""

import errno
import logging
import os
import signal
import threading
import time
import traceback
from argparse import ArgumentError
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher, subprocess_script
from lightning.pytorch.utilities import rank_zero_only

from gfnet_pl.data.datamodule import ImageDataModule
from gfnet_pl.data.survey import survey
from gfnet_pl.errors import UserError, told_by_system
from gfnet_pl.files import replacing
from gfnet_pl.help import tell_our_defaults
from gfnet_pl.locks import held
from gfnet_pl.messages import quiet
from gfnet_pl.run.checkpoint import Checkpoint
from gfnet_pl.run.folder import BEST, LAST, RunFolder, claimed, find_checkpoint, new_run, newest_run
from gfnet_pl.run.trained_data import is_other_data, trained_on
from gfnet_pl.training.agreement import SameData
from gfnet_pl.training.best_checkpoint import BestCheckpoint
from gfnet_pl.training.callbacks import Tell, TF32Precision, Throughput
from gfnet_pl.training.checkpoint_files import CheckpointFiles
from gfnet_pl.training.classifier import GFNetClassifier
from gfnet_pl.training.dashboard import Charts, ClassBalance, Classes, Filters, FirstBatch, HyperParameters, Validation
from gfnet_pl.training.ending import Ending
from gfnet_pl.training.folds import Fold, refuse_folds_of, run_folds
from gfnet_pl.training.last_checkpoint import LastCheckpoint
from gfnet_pl.training.losses import Losses
from gfnet_pl.training.lost import PATIENCE, observe, observe_first, told_of_loss
from gfnet_pl.training.memory import told_of_batch
from gfnet_pl.training.mistakes import of_lightning, of_parser
from gfnet_pl.training.options import allow_imports, names_as_text, read_names_as_text
from gfnet_pl.training.outcome import Outcome
from gfnet_pl.training.outputs import KeepOutputs
from gfnet_pl.training.plan import AUTO, Plan, make_plan
from gfnet_pl.training.precision import choose_precision
from gfnet_pl.training.progress import Progress
from gfnet_pl.training.run_logger import RunLogger, telling
from gfnet_pl.training.run_record import RunRecord, config_text
from gfnet_pl.training.settings import check_said, check_types, settle, take_emphasis, take_variant
from gfnet_pl.training.stopping import Stop, Stopped, is_started_by_lightning
from gfnet_pl.training.warm_start import (
    give_body,
    give_weights,
    kept_in_plan,
    refuse_if_finished,
    refuse_other_devices,
    resumes,
    settings_from,
    started_from,
    transfers,
)

log = logging.getLogger(__name__)


def run_trainer(args: list[str], command: list[str], callbacks: Sequence[Callback] = ()) -> RunFolder | None:
    """Runs one of the trainer's subcommands.

    Args:
        args: The subcommand and its options, with configs as paths.
        command: The subcommand and its options as the user wrote them, for the run's record.
        callbacks: Further callbacks for the trainer.

    Returns:
        The run that was trained, if one was.

    Raises:
        UserError: Anything that the user can correct.
        KeyboardInterrupt: Ctrl-C. The run is closed then.
        SystemExit: Another signal, with 128 and its number.
    """
    with ExitStack() as stack:  # what the command holds until it ends: the signals, the run's folder and its lock
        stop = Stop()
        on_ctrl_c = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is threading.main_thread():
            stack.callback(signal.signal, signal.SIGINT, on_ctrl_c)  # after Ctrl-C, Lightning ignores it
        if args[0] == "fit":
            stack.enter_context(stop.handled())
        subprocess_script._launch_process_observer = observe  # type: ignore[attr-defined]  # it is private
        if is_started_by_lightning():
            observe_first()
        try:
            with quiet("lightning.pytorch", "lightning.fabric"):  # seeds, accelerators, other products
                cli = GFNetCLI(args, command, stop, stack, callbacks)
                if cli.in_folds:
                    if cli.precision:
                        log.info("%s", cli.precision)
                    test = [f"--trainer.accelerator={cli.config['fit']['trainer']['accelerator']}"]
                    run_folds(cli.folds(), args, command, stage=cli.stage, test=test, run=run_trainer)
            if stop.number:  # the run had come to its end, but what follows the command must not begin
                raise Stopped(stop.number)
            return cli.run
        except Stopped as stopped:
            if stopped.agreed and is_started_by_lightning():
                raise SystemExit(0) from None  # the first process would be killed for another status, and tells its own
            if stopped.number == signal.SIGINT:
                raise KeyboardInterrupt from None
            raise SystemExit(128 + stopped.number) from None
        except UserError:
            if is_started_by_lightning():
                time.sleep(PATIENCE)  # the first process says the same, and ends this one, unless it is alone with it
            raise
        except SystemExit as ended:
            if isinstance(ended.__context__, KeyboardInterrupt):
                raise ended.__context__ from None
            raise
        except OSError as error:
            if stop.number and error.errno == errno.EIO:  # a terminal that was closed takes no last words
                raise SystemExit(128 + stop.number) from None
            raise


class GFNetCLI(LightningCLI):
    """LightningCLI for GFNetClassifier and ImageDataModule."""

    def __init__(
        self,
        args: list[str],
        command: list[str],
        stop: Stop,
        stack: ExitStack,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.command, self.stop, self.stack, self.further = command, stop, stack, callbacks
        self._asked = args[0]
        self.checkpoint: Checkpoint | None = None
        self.other_data = False  # whether the command is given other data than those of the checkpoint's run
        self.stage = "base"
        self.run: RunFolder | None = None
        self.plan: Plan | None = None  # where nothing else says how to train
        self.outputs = KeepOutputs()
        self.in_folds = False  # whether each fold is to be a run of its own: then this object only reads the settings
        super().__init__(
            GFNetClassifier,
            ImageDataModule,
            args=args,
            seed_everything_default=1,
            save_config_callback=None,  # RunRecord takes its place, see instantiate_trainer
            parser_kwargs={"exit_on_error": False} | {name: {"exit_on_error": False} for name in self.subcommands()},
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,  # keeps hyper-parameters plain, as weights_only loading requires
            trainer_defaults={
                "max_epochs": 20,
                "gradient_clip_val": 1.0,
                "log_every_n_steps": 10,
                "enable_model_summary": False,  # its table has a row for the net; Progress says how many weights it has
                "use_distributed_sampler": False,  # the data module itself divides the data by rank
            },
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # LightningCLI calls it on the object
        """The one that is run: the parser of each takes a fifth of a second to make."""
        return {self._asked: LightningCLI.subcommands()[self._asked]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--stage", type=str, default="base", help="Name of the stage: a run is runs/<stage>/version_N."
        )
        parser.add_lightning_class_args(TF32Precision, "tf32")

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:  # noqa: ANN401
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand == "fit":
            words = "Folder of a run: the classes that its last validation confused are drawn up to twice as often."
            parser.add_argument("--emphasis_from", type=str | None, default=None, help=words)
        tell_our_defaults(parser)
        parser.usage = f"gfnet {subcommand} [--config FILE]… [--OPTION VALUE]…"
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        assert isinstance(args, list)
        subcommand = args[0]
        subparser = self._parser(subcommand)
        known = list(subparser.get_defaults().keys())
        if "verbose" in known:
            subparser.set_defaults({"verbose": False})  # no table by Lightning: ours is shorter
        read_names_as_text()
        allow_imports()
        asked = [word for word in args if word.partition("=")[0] == "--print_config"]
        words = names_as_text([word for word in args if word not in asked])
        try:
            explicit = parser.parse_args(words, defaults=False).get(subcommand)
            said = dict(explicit.items()) if explicit else {}
            check_said(said)
            emphasised = take_emphasis(said)
            of_variant = take_variant(said)
            self.checkpoint = _start_from(said.get("ckpt_path"), subcommand)
            taken: dict[str, Any] = {}
            if self.checkpoint:
                self.stage = said.get("stage") or self.checkpoint.stage or self.stage
                self.other_data = is_other_data(self.checkpoint, said)
                taken = settings_from(self.checkpoint, subcommand, said, self.stage)
                taken_here = {key: value for key, value in taken.items() if key in known}
                check_types(subparser, taken_here, self.checkpoint, known)
                subparser.set_defaults(taken_here)
            configs = any(word.partition("=")[0] == "--config" for word in words)
            if subcommand == "fit" and said.get("data.root") and not configs and self._begins_with_these(said):
                found = survey(said["data.root"], said.get("data.classes"), said.get("data.group_by"))
                self.plan = make_plan(found, (kept_in_plan(self.checkpoint) if self.checkpoint else {}) | said)
                subparser.set_defaults({key: value for key, value in self.plan.settings.items() if key in known})
            subparser.set_defaults(of_variant)
            if not self.checkpoint:
                self.stage = said.get("stage") or (AUTO if self.plan else self.stage)
            self.config = parser.parse_args(words)
        except ArgumentError as error:
            raise UserError(of_parser(error, known)) from None
        config = self.config[subcommand]
        settle(config, said)
        config["stage"] = self.stage
        if emphasised:
            config["data"]["class_emphasis"], config["emphasis_from"] = said["data.class_emphasis"], None
        if self.checkpoint:
            config["ckpt_path"] = str(self.checkpoint.path)
            if config["model"]["classes"] is None:
                config["model"]["classes"] = taken["model.classes"]  # None if the data have others
            if subcommand == "fit" and resumes(self.checkpoint, self.stage):
                config["data"]["splits"] = config["data"]["splits"] or taken["data.splits"]
        elif subcommand == "fit" and config["model"]["freeze"] and not config["model"]["pretrained"]:
            raise UserError("model.freeze keeps weights that were learned before: give --ckpt_path or model.pretrained")
        if asked:
            print(config_text(subparser, config), end="")
            raise SystemExit(0)
        self.precision = choose_precision(config)
        if subcommand == "fit" and config["data"]["folds"] and config["data"]["fold"] is None:
            self.in_folds = True
            refuse_folds_of(config)

    def _begins_with_these(self, said: dict[str, Any]) -> bool:
        """Whether nothing yet says how to train on these data: there is no net yet, or it is one of other classes."""
        return self.checkpoint is None or transfers(self.checkpoint, said, self.stage)

    def folds(self) -> list[Fold]:
        """The run of each fold: these settings with a fold each, and with what is settled once for all of them."""
        subparser, config = self._parser("fit"), self.config["fit"].clone()
        if config["trainer"]["devices"] == "auto":
            config["trainer"]["devices"] = "1"  # as the parser reads it from an option
        settled = ["seed_everything", "ckpt_path", "trainer.precision", "trainer.devices"]
        options = [f"--{key}={config[key]}" for key in settled if config[key] not in (None, False)]
        found = []
        for number in range(1, config["data"]["folds"] + 1):
            config["data"]["fold"] = number
            found.append(Fold([*options, f"--data.fold={number}"], config_text(subparser, config)))
        return found

    def _parse_ckpt_path(self) -> None:
        """Does nothing. LightningCLI's method would replace settings of the config by those in the checkpoint.

        See `warm_start` for what is done instead.
        """

    def instantiate_classes(self) -> None:
        if self.in_folds:
            return
        with self._told():
            super().instantiate_classes()

    def _run_subcommand(self, subcommand: str) -> None:
        if self.in_folds:
            return
        with self._told():
            try:
                super()._run_subcommand(subcommand)
            except BaseException:
                if isinstance(launcher := self.trainer.strategy.launcher, _SubprocessScriptLauncher):
                    launcher.kill(getattr(signal, "SIGKILL", signal.SIGTERM))  # those that may wait for this one
                raise

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turns what Lightning refuses into a UserError, and keeps the traceback of a fault in the run's folder."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            if message := told_of_loss(error):
                raise UserError(message) from None
            if message := self._told_of_batch(error):
                raise UserError(message) from None
            if message := of_lightning(error, self._get(self.config, "trainer")):
                raise UserError(message) from None
            run = self.run or (self.checkpoint.run if self.checkpoint else None)
            if run and run.path.is_dir() and not told_by_system(error):
                with suppress(OSError), replacing(run.fault) as file:
                    file.write(traceback.format_exc())
                    error.add_note(f"This traceback is also in {run.fault}.")
            raise

    def _told_of_batch(self, error: Exception) -> str | None:
        if self.subcommand != "fit" or not hasattr(self, "trainer"):
            return None
        return told_of_batch(error, self.trainer, self.model, self.datamodule)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:  # noqa: ANN401  (the signature of LightningCLI)
        settings = self._get(self.config_init, "trainer")
        shows_progress = settings["enable_progress_bar"] is not False
        if self.subcommand == "fit" and not settings["fast_dev_run"]:
            self.run = self._folder()
        fold = self._get(self.config, "data")["fold"]
        callbacks: list[Callback] = [Progress(self.run, is_fold=fold is not None)] if shows_progress else []
        if self.plan and fold in (None, 1):  # once for all folds
            written = [f"these settings, to edit and use as a --config: {self.run.plan}"] if self.run else []
            callbacks += [Tell(*self.plan.reasons, *written)]
        callbacks += [Tell(self.precision)] if self.precision else []
        if self.subcommand == "fit":
            callbacks += [SameData(), self.outputs, Validation(self.outputs), FirstBatch(), ClassBalance(), Charts()]
            callbacks += [Classes(), HyperParameters(), Throughput()]
            if self.run:
                callbacks += self._writers(self.run)
        else:
            kwargs["enable_checkpointing"] = False
            callbacks += [self.outputs]
        self.trainer_defaults["callbacks"] = [*callbacks, *self.further]
        if settings["logger"] in (None, True):
            kwargs["logger"] = self._logger()
        trainer = super().instantiate_trainer(**kwargs)
        trainer.strategy.checkpoint_io = CheckpointFiles()
        connector: Any = trainer._signal_connector
        connector.register_signal_handlers = lambda: None  # see `stopping`
        return trainer

    def _folder(self) -> RunFolder:
        """The folder of the run that is trained: that of the checkpoint if it is resumed, otherwise a new one.

        The first device takes it for itself; the others hear from it later.
        """
        resumed = self.checkpoint.run if self.checkpoint and resumes(self.checkpoint, self.stage) else None
        if getattr(rank_zero_only, "rank", 0):
            return resumed or new_run(self.stage)
        run = resumed or self.stack.enter_context(claimed(self.stage))
        busy = f"{run.path} is being trained by another command: wait until it has ended"
        self.stack.enter_context(held(run.lock, busy))
        return run

    def _writers(self, run: RunFolder) -> list[Callback]:
        """The callbacks that write into the folder of a run."""
        settings = self.config["fit"].clone()
        if self.checkpoint and resumes(self.checkpoint, self.stage):
            settings["ckpt_path"] = started_from(self.checkpoint)
        return [
            Filters(run),
            Losses(run),
            BestCheckpoint(run.checkpoint(BEST)),
            LastCheckpoint(run.checkpoint(LAST), self.stop),
            Ending(run),
            RunRecord(
                run,
                self._parser("fit"),
                settings,
                stage=self.stage,
                command=self.command,
                plan=self.plan.config() if self.plan else "",
            ),
        ]

    def _logger(self) -> RunLogger | bool:
        """The logger to the folder of the run that is trained or tested, or False if there is no such folder.

        `gfnet validate` logs nothing: the curves of the run have that figure already. Nor does `gfnet test` where
        nothing can be written: it still shows what it found.
        """
        if self.run:
            self.stack.enter_context(telling(self.run.path))
            return RunLogger(self.run.path.parent, self.run.path.name)
        # the run's dashboard shows its own data
        if self.checkpoint and self.checkpoint.run and self.subcommand == "test" and not self.other_data:
            run = self.checkpoint.run.path
            if os.access(run, os.W_OK):
                self.stack.enter_context(telling(run))
                return RunLogger(run.parent, run.name, tested=max(0, self.checkpoint.epochs - 1))
        return False

    def fit(self, model: GFNetClassifier, ckpt_path: str | None = None, **kwargs: Any) -> None:  # noqa: ANN401
        """Trains from scratch, resumes the checkpoint's run, or starts from its weights."""
        checkpoint, steps = self.checkpoint, 0
        if checkpoint is None:
            self.trainer.fit(model, **kwargs)
        elif resumes(checkpoint, self.stage):
            refuse_other_devices(checkpoint, self.trainer.world_size)
            refuse_if_finished(checkpoint, max_epochs=self.trainer.max_epochs, max_steps=self.trainer.max_steps)
            self._remember()
            words = "resuming %s at epoch %d, step %d: settings, splits and all state are its run's"
            if self.trainer.is_global_zero:
                log.info(words, checkpoint.path, checkpoint.epochs, checkpoint.steps)
            steps = checkpoint.steps
            self.trainer.fit(model, ckpt_path=ckpt_path, **kwargs)
        else:
            if model.classes:
                give_weights(checkpoint, model)
                taken, new = "net, weights, normalisation and classes are its own", ""
            else:
                model.start = partial(give_body, checkpoint, model)
                taken, new = "the net is its own up to the head", "normalisation, "
            self._remember()
            log.info(
                "warm start from %s: %s; %soptimizer, schedule and epoch count are new; data: %s, splits: %s",
                checkpoint.described,
                taken,
                new,
                self.datamodule.source,
                self.datamodule.splits_file or "drawn again",
            )
            self.trainer.fit(model, **kwargs)
        if self.trainer.global_step <= steps:
            limits = "trainer.max_epochs, max_steps, max_time and limit_train_batches"
            raise UserError(f"nothing was trained: one of {limits} leaves no time for a step")

    def after_fit(self) -> None:
        """Says that a run has no best checkpoint because nothing was validated."""
        if self.run and self.trainer.is_global_zero and not self.run.checkpoint(BEST).is_file():
            log.info("never validated, so there is no %s: gfnet test takes %s", BEST, LAST)

    def _remember(self) -> None:
        """Tells the data which pictures the checkpoint was trained on: the net goes on knowing them."""
        if self.checkpoint and (self.other_data or self.checkpoint.trained_on):
            self.datamodule.seen = trained_on(self.checkpoint)

    def test(self, model: GFNetClassifier, ckpt_path: str, **kwargs: Any) -> None:  # noqa: ANN401
        """Scores the checkpoint on every evaluation set."""
        self._evaluated(model)
        self.trainer.test(model, **kwargs)

    def validate(self, model: GFNetClassifier, ckpt_path: str, **kwargs: Any) -> None:  # noqa: ANN401
        """Scores the checkpoint on the validation set."""
        self._evaluated(model)
        self.trainer.validate(model, **kwargs)

    def _evaluated(self, model: GFNetClassifier) -> None:
        """Loads the weights of the checkpoint. Lightning's own loading would also expect the callbacks of training."""
        checkpoint = self.checkpoint
        assert checkpoint is not None  # parse_arguments found one, or there was an error
        give_weights(checkpoint, model)
        if self.other_data:
            self.datamodule.only_score(checkpoint.classes, trained_on(checkpoint))
        log.info("checkpoint %s", checkpoint.described)

    def after_test(self) -> None:
        """Shows and writes what was found."""
        self._outcome().tested()

    def after_validate(self) -> None:
        """Shows what was found."""
        self._outcome().validated()

    def _outcome(self) -> Outcome:
        assert self.checkpoint is not None  # as in _evaluated
        first = self.trainer.is_global_zero
        return Outcome(self.checkpoint, self.outputs, self.datamodule, self.other_data, first)


def _start_from(name: str | None, subcommand: str) -> Checkpoint | None:
    """The checkpoint that a command starts from; without a name, None for `fit` and the newest run's for the others."""
    if name:
        return Checkpoint.load(find_checkpoint(str(name)))
    return None if subcommand == "fit" else Checkpoint.load(newest_run().checkpoint_to_test())
