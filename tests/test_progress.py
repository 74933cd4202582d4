"""What fit, validate, test and predict show while they work."""

import re
import signal
from types import SimpleNamespace

import pytest
from conftest import QUIET
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gfnet_pl.cli import main
from gfnet_pl.messages import duration
from gfnet_pl.run.curves import TAGS
from gfnet_pl.training import progress
from gfnet_pl.training.progress import _count

SHOWN = QUIET[1:]  # all but the switch that hides the progress


@pytest.fixture
def shown(tiny):
    return [word for word in tiny if word not in QUIET[:1]]


def test_each_epoch_is_one_line_with_its_own_accuracies_and_the_end_says_what_to_do(shown, capsys):
    assert main([*shown, "--trainer.max_epochs=3", "--model.lr=5e-3"]) == 0
    out, err = capsys.readouterr()
    first, *epochs, best, spent, following = out.splitlines()
    assert re.fullmatch(r"run: runs/base/version_0; the net has [0-9,]+ weights", first)
    curves = EventAccumulator("runs/base/version_0").Reload()
    val, train, loss = (
        [event.value for event in curves.Scalars(TAGS.get(tag, tag))]
        for tag in ("val/accuracy", "train/accuracy", "train/epoch_loss")
    )
    assert len(set(train)) > 1  # or the accuracy of another epoch would go unnoticed
    for epoch, line in enumerate(epochs):
        scores = f"val {100 * val[epoch]:5.1f} %  train {100 * train[epoch]:5.1f} %  loss {loss[epoch]:.2f}"
        times = r"\d+ s" if epoch == 2 else r"\d+ s, \d+ s left"
        assert re.fullmatch(f"{epoch + 1}/3  {re.escape(scores)}  {times}", line)
    right = round(6 * val[-1])  # six pictures are too few to choose another epoch
    words = f"best: epoch 3, the last one, val {100 * val[-1]:.1f} %, 95 % interval "
    assert best.startswith(words)
    assert best.endswith(f" ({right} of 6)")
    assert re.fullmatch(r"3 epochs, \d+ s; run: runs/base/version_0", spent)
    assert following == "next: gfnet test"
    told = [line for line in err.splitlines() if not line.startswith("precision: ")]
    assert len(told) == 3
    assert told[0].startswith("cache: 87 pictures decoded")
    assert told[1].endswith(": 87 pictures in 3 classes")
    assert told[2] == "48 train, 6 val, 12 test, 6 holdout, 15 unseen"


def test_of_a_net_with_five_views_the_end_says_that_the_test_will_differ(shown, capsys):
    assert main([*shown, "--trainer.max_epochs=1", "--model.shifted_views=true"]) == 0
    assert capsys.readouterr().out.endswith("next: gfnet test, with 5 views of each picture; val above had one\n")


def test_a_resumed_run_counts_on_and_an_evaluation_leaves_no_line(shown, capsys):
    assert main([*shown, "--trainer.max_epochs=1"]) == 0
    assert main([*shown, "--trainer.max_epochs=2", "--ckpt_path=last.ckpt"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("2/2  val")]
    assert main(["validate", *SHOWN]) == 0
    assert "validation" not in capsys.readouterr().out


def test_ctrl_c_ends_with_what_to_do_and_status_130(shown, usual_handlers, capsys, monkeypatch):
    def stop(self, trainer, *_):
        if trainer.current_epoch == 1:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(progress.Progress, "on_train_batch_end", stop)
    handler = signal.getsignal(signal.SIGINT)
    assert main(shown) == 130
    assert signal.getsignal(signal.SIGINT) is handler
    out, err = capsys.readouterr()
    best, spent = out.splitlines()[-2:]
    assert best.startswith("best: epoch 1, ")
    assert spent.startswith("stopped after 1 epoch, ")
    *_, following, end = err.splitlines()
    last = "runs/base/version_0/checkpoints/last.ckpt"
    assert following == f"SIGINT: stopped after step 4; gfnet fit --ckpt_path {last} goes on from there"
    assert end == "gfnet: stopped"


@pytest.mark.parametrize(
    ("seconds", "exact", "rough"),
    [
        (0.4, "0 s", "0 s"),
        (59.6, "1 min 0 s", "1 min"),
        (451, "7 min 31 s", "8 min"),
        (7810, "2 h 10 min", "2 h 10 min"),
    ],
)
def test_times_are_in_words(seconds, exact, rough):
    assert (duration(seconds), duration(seconds, exact=False)) == (exact, rough)


@pytest.mark.parametrize(
    ("max_epochs", "max_steps", "count"), [(20, -1, " 3/20"), (-1, 35, "3/7"), (None, -1, "3"), (20, 35, "3/7")]
)
def test_an_epoch_is_counted_to_the_end_where_there_is_one(max_epochs, max_steps, count):
    trainer = SimpleNamespace(
        max_epochs=max_epochs, max_steps=max_steps, num_training_batches=10, accumulate_grad_batches=2
    )
    assert _count(trainer, 3) == count


def test_no_line_stands_before_an_error(workplace, capsys):
    assert main(["fit", "--data.root=nowhere"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.match("gfnet: error: data.root: .*nowhere is not a folder", err)
    assert len(err.splitlines()) == 1
