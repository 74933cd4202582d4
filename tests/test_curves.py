"""The curves that a run's TensorBoard events hold, whatever version wrote them and whatever was logged in between."""

import pytest
from torch.utils.tensorboard import SummaryWriter

from gfnet_pl.run.curves import read_curves
from gfnet_pl.run.folder import RunFolder


@pytest.fixture
def log(tmp_path):
    clock = iter(range(1, 1000))

    def write(**values):
        """Writes a file of events: a list of (step, value) by tag, in the order of time."""
        with SummaryWriter(str(tmp_path), filename_suffix=str(next(clock))) as writer:
            for tag, points in values.items():
                for step, value in points:
                    writer.add_scalar(tag.replace("__", "/"), value, step, walltime=next(clock))
        return read_curves(RunFolder(tmp_path))

    return write


def test_x_is_the_finished_epoch(log):
    curves = log(loss__val=[(0, 3.0), (1, 2.0)], train__loss=[(10, 4.0), (40, 1.0)], accuracy__train=[(0, 0.5), (1, 1)])
    assert curves == {
        "val/loss": [(1, 3.0), (2, 2.0)],
        "train/loss": [(2 * 11 / 41, 4.0), (2, 1.0)],
        "train/accuracy": [(1, 0.5), (2, 1.0)],
    }


def test_a_run_of_an_older_version_goes_on_with_its_curves_and_without_what_validate_logged(log):
    log(val__accuracy=[(0, 0.25)], train__accuracy=[(0, 0.5)])
    log(val__accuracy=[(1, 0.75)], train__accuracy=[(1, 0.5)])
    log(val__accuracy=[(0, 0.75)], epoch=[(0, 0)])  # gfnet validate
    curves = log(accuracy__val=[(2, 0.875)], accuracy__train=[(2, 1)])
    assert curves["val/accuracy"] == [(1, 0.25), (2, 0.75), (3, 0.875)]
    assert curves["train/accuracy"] == [(1, 0.5), (2, 0.5), (3, 1.0)]


def test_epochs_that_were_trained_again_count_once(log):
    log(accuracy__val=[(0, 0.25), (1, 0.5)], accuracy__train=[(0, 0), (1, 0)])
    curves = log(accuracy__val=[(1, 0.75)], accuracy__train=[(1, 1)])
    assert curves == {"val/accuracy": [(1, 0.25), (2, 0.75)], "train/accuracy": [(1, 0.0), (2, 1.0)]}


def test_a_run_without_events_has_no_curves(tmp_path):
    assert read_curves(RunFolder(tmp_path)) == {}
