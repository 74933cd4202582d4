"""fit, validate, test and predict: LightningCLI with the project's defaults, run folders and checkpoints by name."""

import csv
import logging
import re
from argparse import ArgumentError
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console

from gfnet_pl.data.datamodule import ImageDataModule
from gfnet_pl.errors import UserError
from gfnet_pl.evaluation.calibration import Calibration, probabilities
from gfnet_pl.evaluation.figures import figures_table
from gfnet_pl.evaluation.results import (
    METRICS,
    PREDICTIONS,
    Results,
    SetResults,
    likeliest,
    read_calibration,
    refuse_bad_outputs,
    sha256,
    write_results,
)
from gfnet_pl.names import RUNS, find_checkpoint, nearest
from gfnet_pl.training.callbacks import LastWithinEpoch, ProgressBar, TF32Precision, Throughput
from gfnet_pl.training.classifier import GFNetClassifier
from gfnet_pl.training.dashboard import Charts, ClassBalance, Filters, FirstBatch, HyperParameters, Validation
from gfnet_pl.training.outputs import KeepOutputs
from gfnet_pl.training.run_record import RunRecord
from gfnet_pl.training.warm_start import Source

log = logging.getLogger(__name__)


def run_trainer(args: list[str], command: list[str]) -> None:
    """Runs one of the trainer's subcommands.

    Args:
        args: The subcommand and its options, with configs as paths.
        command: The same as the user wrote it, for the record.

    Raises:
        UserError: Anything that the user can mend.
    """
    try:
        GFNetCLI(args, command)
    except MisconfigurationException as error:
        raise UserError(" ".join(str(error).split())) from None


class GFNetCLI(LightningCLI):
    """LightningCLI for GFNetClassifier and ImageDataModule."""

    def __init__(self, args: list[str], command: list[str]) -> None:
        self.command = command
        self.source: Source | None = None
        self.stage = "base"
        self.outputs = KeepOutputs()
        super().__init__(
            GFNetClassifier,
            ImageDataModule,
            args=args,
            seed_everything_default=1,
            save_config_callback=None,  # RunRecord takes its place, see instantiate_trainer
            parser_kwargs={"exit_on_error": False} | {name: {"exit_on_error": False} for name in self.subcommands()},
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,  # hyper-parameters stay plain, as weights_only loading needs
            trainer_defaults={
                "max_epochs": 20,
                "gradient_clip_val": 1.0,
                "log_every_n_steps": 10,
                "use_distributed_sampler": False,  # the data module cuts by rank itself
            },
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--stage", default="base", help="Name of the stage: a run is runs/<stage>/version_N.")
        parser.add_lightning_class_args(TF32Precision, "tf32")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        assert isinstance(args, list)
        subcommand = args[0]
        subparser = self._parser(subcommand)
        known = list(subparser.get_defaults().keys())
        if "verbose" in known:
            subparser.set_defaults({"verbose": False})  # of Lightning's table of test results: ours is shorter
        try:
            explicit = parser.parse_args(args, defaults=False).get(subcommand)
            said = dict(explicit.items()) if explicit else {}
            if "data.image_size" in said:
                raise UserError("data.image_size follows model.image_size: give that one")
            self.stage = said.get("stage", "base")
            name = said.get("ckpt_path") or (None if subcommand == "fit" else "best.ckpt")
            if name:
                self.source = Source.load(find_checkpoint(str(name)))
                taken = self.source.defaults(subcommand, said, self.stage)
                subparser.set_defaults({key: value for key, value in taken.items() if key in known})
            self.config = parser.parse_args(args)
        except ArgumentError as error:
            raise UserError(_explain(error, known)) from None
        config = self.config[subcommand]
        config["data"]["image_size"] = config["model"]["image_size"]
        if self.source:
            config["ckpt_path"] = str(self.source.path)

    def _parse_ckpt_path(self) -> None:
        """Not LightningCLI's way: it lays a checkpoint's hyper-parameters over the config. See `warm_start`."""

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:  # noqa: ANN401  (as LightningCLI has it)
        settings = self._get(self.config_init, "trainer")
        shows_progress = settings["enable_progress_bar"] is not False
        callbacks: list[Callback] = [ProgressBar(leave=True)] if shows_progress else []
        if self.subcommand == "fit":
            callbacks += [self.outputs, Validation(self.outputs), FirstBatch(), ClassBalance(), Charts(), Filters()]
            callbacks += [HyperParameters(), Throughput()]
            callbacks += [
                ModelCheckpoint(
                    filename="best", monitor="val/accuracy", mode="max", enable_version_counter=False, verbose=False
                ),
                # Its own callback: save_last writes only when a top-k save happens.
                ModelCheckpoint(filename="last", enable_version_counter=False),
                LastWithinEpoch(),
                RunRecord(self._parser("fit"), self.config["fit"], stage=self.stage, command=self.command),
            ]
        else:
            kwargs["enable_checkpointing"] = False
            callbacks += [self.outputs, HyperParameters()]
        self.trainer_defaults["callbacks"] = callbacks
        if settings["logger"] in (None, True):
            kwargs["logger"] = self._logger()
        return super().instantiate_trainer(**kwargs)

    def _logger(self) -> TensorBoardLogger | bool:
        """A new version of the stage; a run's own folder where it is resumed or tested; none where there is no run."""
        fit = self.subcommand == "fit"
        if self.source and (self.source.resumes(self.stage) or not fit):
            run = self.source.run
            if run and self.subcommand != "predict":
                return TensorBoardLogger(run.parent.parent, run.parent.name, run.name, default_hp_metric=False)
        return fit and TensorBoardLogger(RUNS, self.stage, default_hp_metric=False)

    def fit(self, model: GFNetClassifier, ckpt_path: str | None = None, **kwargs: Any) -> None:  # noqa: ANN401
        """Trains anew, resumes the checkpoint's run, or starts from its weights."""
        source = self.source
        if source is None:
            self.trainer.fit(model, **kwargs)
        elif source.resumes(self.stage):
            if self.trainer.max_epochs is not None and 0 <= self.trainer.max_epochs <= source.epochs:
                raise UserError(
                    f"{source.path}: this {source.stage} run has finished its {source.epochs} epochs; for more of it "
                    "give --trainer.max_epochs, for a new run from its weights another --stage"
                )
            log.info(
                "resuming %s at epoch %d: settings, splits and all state are its run's", source.path, source.epochs
            )
            self.trainer.fit(model, ckpt_path=ckpt_path, **kwargs)
        else:
            source.give_weights(model)
            log.info(
                "warm start from %s (stage %s, %d epochs): net, weights, normalisation and classes are its own; "
                "optimizer, schedule and epoch count are new; data: %s, splits: %s",
                source.path,
                source.stage,
                source.epochs,
                self.datamodule.source,
                self.datamodule.splits_file or "drawn anew",
            )
            self.trainer.fit(model, **kwargs)

    def test(self, model: GFNetClassifier, ckpt_path: str, **kwargs: Any) -> None:  # noqa: ANN401
        """Scores the checkpoint on every evaluation set."""
        self._evaluated(model)
        self.trainer.test(model, **kwargs)

    def validate(self, model: GFNetClassifier, ckpt_path: str, **kwargs: Any) -> None:  # noqa: ANN401
        """Scores the checkpoint on the validation set."""
        self._evaluated(model)
        self.trainer.validate(model, **kwargs)

    def predict(self, model: GFNetClassifier, ckpt_path: str, **kwargs: Any) -> None:  # noqa: ANN401
        """Classifies pictures with the checkpoint."""
        if not self.datamodule.predict_paths:
            raise UserError("data.predict_paths: name pictures, folders or globs")
        self._evaluated(model)
        self.trainer.predict(model, **kwargs)

    def _evaluated(self, model: GFNetClassifier) -> None:
        """Loads the weights here: Lightning would ask for the callbacks of the training, too."""
        assert self.source is not None  # parse_arguments found a checkpoint, or there was an error
        self.source.give_weights(model)
        log.info("checkpoint %s (stage %s, %d epochs)", self.source.path, self.source.stage, self.source.epochs)

    def after_test(self) -> None:
        """Writes the predictions, the figures and the calibration into the run, and shows the figures."""
        results = self._results()
        self._show(results)
        if self.trainer.is_global_zero:
            assert self.source is not None  # as in _evaluated
            folder = self.source.run or self.source.path.parent
            write_results(folder, results)
            log.info("picture by picture: %s; the figures: %s", folder / PREDICTIONS, folder / METRICS)

    def after_validate(self) -> None:
        """Shows the figures of the validation set."""
        self._show(self._results())

    def _show(self, results: Results) -> None:
        if self.trainer.is_global_zero:
            title = (
                f"{results.checkpoint['path']} ({results.checkpoint['stage']}, {results.checkpoint['epochs']} epochs)"
            )
            Console().print(figures_table(results.figures, title=title, caption=results.source))
            if results.gap:
                Console().print(results.gap.sentence, highlight=False)

    def _results(self) -> Results:
        source = self.source
        assert source is not None  # as in _evaluated
        data: ImageDataModule = self.datamodule
        for split, outputs in self.outputs.sets.items():
            if len(outputs.logits) < len(data.sets[split]):
                scored, there = len(outputs.logits), len(data.sets[split])
                raise UserError(
                    f"only {scored:,} of {there:,} {split} pictures were scored, and figures of a part would pass for "
                    "those of the whole: drop --trainer.limit_…_batches and --trainer.fast_dev_run"
                )
        sets = {
            split: SetResults(
                [picture for picture in data.pictures if picture.split == split],
                data.sets[split].labels,
                outputs.logits.numpy(),
                outputs.features.numpy(),
            )
            for split, outputs in self.outputs.sets.items()
        }
        refuse_bad_outputs(sets)
        trained = {picture.group for picture in data.pictures if picture.split == "train"} | {""}
        return Results(
            classes=self.model.classes,
            checkpoint={
                "path": str(source.path),
                "sha256": sha256(source.path),
                "stage": source.stage,
                "epochs": source.epochs,
            },
            source=data.source,
            root=data.root and str(Path(data.root).absolute()),
            known=[split for split, each in sets.items() if trained.intersection(each.groups)],
            sets=sets,
        )

    def after_predict(self) -> None:
        """Writes path, label, probability, the three likeliest classes and whether to take it, for each picture."""
        checkpoint = Path(self._get(self.config, "ckpt_path"))
        calibration = read_calibration(checkpoint)
        if calibration is None:
            log.warning(
                "%s has no calibration yet: probabilities are as the net gives them; gfnet test fits it", checkpoint
            )
            calibration = Calibration()
        shares = probabilities(torch.cat(self.trainer.predict_loop.predictions).numpy(), calibration.temperature)
        threshold = calibration.rejections[0].threshold if calibration.rejections else None
        with Path(PREDICTIONS).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("path", "label", "probability", "top3", "accepted"))
            named = likeliest(shares, self.model.classes)
            for path, row, share in zip(self.datamodule.predict_files, named, shares.max(1), strict=True):
                writer.writerow((path, *row, "yes" if threshold is not None and share >= threshold else "no"))
        log.info("%d pictures by %s: %s", len(shares), checkpoint, PREDICTIONS)


def _explain(error: ArgumentError, known: list[str]) -> str:
    """The parser's message in one line, with the nearest key there is."""
    message = " ".join(str(error).split())
    unknown = re.search(r"unrecognized arguments: (\S+)|does not accept option '(\S+)'", message)
    if unknown is None:
        return message
    key = (unknown[1] or unknown[2]).removeprefix("--").partition("=")[0]
    return f"unknown option {key}{nearest(key, known)}"
