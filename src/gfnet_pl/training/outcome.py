"""What a command found with a checkpoint: the figures, shown and written."""

import logging
from dataclasses import dataclass

from rich.console import Console

from gfnet_pl.data.datamodule import ImageDataModule
from gfnet_pl.data.manifest import Picture
from gfnet_pl.data.splits import read_splits
from gfnet_pl.errors import UserError, told_by_system
from gfnet_pl.evaluation.calibration import Calibration
from gfnet_pl.evaluation.figures import figures_table
from gfnet_pl.run.checkpoint import Checkpoint
from gfnet_pl.run.result_files import read_calibration, write_results
from gfnet_pl.run.results import Results
from gfnet_pl.training.outputs import KeepOutputs

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What `test` or `validate` found.

    Attributes:
        checkpoint: What was scored.
        outputs: What its net gave for each picture.
        data: The pictures.
        other_data: Whether they are other data than those of the checkpoint's run.
        tells: Whether this process shows and writes it: the first of several devices.
    """

    checkpoint: Checkpoint
    outputs: KeepOutputs
    data: ImageDataModule
    other_data: bool
    tells: bool

    def tested(self) -> None:
        """Shows the figures, and writes them, the predictions and the calibration into the run."""
        results = self._results(self.data.evaluated)
        self._show(results)
        if self.tells:
            try:
                folder = write_results(results)
            except OSError as error:
                raise UserError(f"the figures above are not kept: {told_by_system(error)}") from None
            log.info("picture by picture: %s; the figures: %s", folder.predictions, folder.metrics)
            if not self.other_data:
                log.info("next: gfnet report")

    def validated(self) -> None:
        """Shows the figures of the validation set."""
        self._show(self._results(["val"]))

    def _show(self, results: Results) -> None:
        if not self.tells:
            return
        title, caption = self.checkpoint.described, results.source
        Console().print(figures_table(results.figures, results.known, title=title, caption=caption))
        if results.gap:
            Console().print(results.gap.sentence, highlight=False)
        Console().print(f"calibration: {results.calibration.promise}", highlight=False)

    def _results(self, expected: list[str]) -> Results:
        return Results.of(
            self.checkpoint,
            self.outputs.sets,
            expected=expected,
            source=self.data.source,
            root=self.data.root,
            calibration_of_run=(read_calibration(self.checkpoint.path) or Calibration()) if self.other_data else None,
            trained=[picture for picture in self._own_pictures() if picture.split == "train"],
            learned=self.outputs.learned,
            properties=self.data.properties,
        )

    def _own_pictures(self) -> list[Picture]:
        """The pictures of the run whose net is scored, with their splits."""
        splits = self.checkpoint.own_splits if self.other_data else None
        return read_splits(splits) if splits else self.data.pictures
