"""A run that is stopped goes on exactly: from any batch, with accumulation, with workers, whatever stopped it."""

from pathlib import Path

import pytest
import torch
from conftest import QUIET, write_picture
from lightning.pytorch.callbacks import Timer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gfnet_pl.cli import main
from gfnet_pl.training.dashboard import FirstBatch
from gfnet_pl.training.last_checkpoint import LastCheckpoint

RANDOM = [
    "--model.dropout=0.2",
    "--model.drop_path=0.1",
    "--model.stem=conv",
    "--data.augment.rotation=20",
    "--data.augment.erasing=0.25",
]
LAST = Path("runs/base/version_0/checkpoints/last.ckpt")


def state(path):
    checkpoint = torch.load(path, weights_only=True)
    (optimizer,) = checkpoint["optimizer_states"]
    return checkpoint["state_dict"], optimizer["state"], checkpoint["lr_schedulers"], checkpoint["global_step"]


class EveryBatch(LastCheckpoint):
    """Writes a checkpoint of its own after each batch, at the moment at which last.ckpt may be written."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        trainer.save_checkpoint(f"within/{trainer.global_step}.ckpt", weights_only=False)


@pytest.mark.parametrize(
    "options", [[], ["--data.num_workers=2", "--data.balanced=true", "--data.epoch_size=70", "--trainer.max_steps=8"]]
)
def test_a_run_resumed_at_any_batch_ends_as_one_that_was_never_stopped(tiny, options, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("gfnet_pl.training.lightning_cli.LastCheckpoint", EveryBatch)
        assert main([*tiny, *RANDOM, *options]) == 0
    whole = state(LAST)
    steps = sorted(Path("within").glob("*.ckpt"), key=lambda path: int(path.stem))
    assert len(steps) == whole[-1] == (8 if options else 6)  # 8 of 10: max_steps ends it within its second epoch
    for path in steps[:-1]:
        path = path.rename(LAST.with_name(path.name))
        assert main([*tiny, *RANDOM, *options, f"--ckpt_path={path}"]) == 0
        torch.testing.assert_close(state(LAST), whole, rtol=0, atol=0)


def test_last_ckpt_is_written_within_an_epoch_but_never_between_accumulated_batches(tiny, monkeypatch):
    written = []

    class Often(LastCheckpoint):
        INTERVAL = 0

        def _write(self, trainer):
            super()._write(trainer)
            written.append((trainer.current_epoch, trainer.fit_loop.batch_idx))

    monkeypatch.setattr("gfnet_pl.training.lightning_cli.LastCheckpoint", Often)
    assert main([*tiny, "--trainer.accumulate_grad_batches=2", "--data.batch_size=2"]) == 0  # 24 batches an epoch
    assert written == [(0, 19), (0, 23), (1, 19), (1, 23)]


class Clock(Timer):
    """Counts batches instead of seconds."""

    def on_train_batch_end(self, trainer, *_):
        self.batches = getattr(self, "batches", 0) + 1
        self._check_time_remaining(trainer)

    def time_elapsed(self, stage="train"):
        return self._offset + getattr(self, "batches", 0)


Clock.__qualname__ = Timer.__qualname__  # by which Lightning knows a callback's state again


@pytest.mark.parametrize(
    ("seconds", "options"),
    [
        (3, ["--trainer.accumulate_grad_batches=2"]),  # it stops after the fourth batch, when a step is complete
        (6, ["--trainer.max_steps=10", "--trainer.log_every_n_steps=1"]),  # at the end of the epoch
        (4, ["--trainer.max_steps=10", "--trainer.val_check_interval=4", "--trainer.log_every_n_steps=1"]),
    ],
)
def test_a_run_that_max_time_stops_goes_on_with_each_command_until_it_is_whole(tiny, seconds, options, monkeypatch):
    monkeypatch.setattr("lightning.pytorch.trainer.connectors.callback_connector.Timer", Clock)
    tiny = [*tiny, *RANDOM, "--data.batch_size=8", *options]  # 6 batches an epoch
    assert main([*tiny, "--stage=whole"]) == 0
    assert main([*tiny, "--stage=cut", f"--trainer.max_time=00:00:00:{seconds:02}"]) == 0
    commands = 1
    while main(["fit", *QUIET, "--ckpt_path=runs/cut/version_0/checkpoints/last.ckpt"]) == 0:
        commands += 1
    assert commands == {3: 3, 6: 2, 4: 3}[seconds]
    whole, cut = (Path(f"runs/{stage}/version_0") for stage in ("whole", "cut"))
    torch.testing.assert_close(
        state(cut / "checkpoints/last.ckpt"), state(whole / "checkpoints/last.ckpt"), rtol=0, atol=0
    )
    expected, found = (
        [(event.step, event.value) for event in EventAccumulator(str(run)).Reload().Scalars("accuracy/train")]
        for run in (whole, cut)
    )
    assert {step for step, _ in found} == {step for step, _ in expected} == {0, 1}
    if "--trainer.log_every_n_steps=1" in options:  # the steps are counted on, each once
        losses = [EventAccumulator(str(run)).Reload().Scalars("train/loss") for run in (whole, cut)]
        assert [event.step for event in losses[1]] == [event.step for event in losses[0]] == list(range(10))


def test_a_run_that_max_steps_stopped_within_an_epoch_finishes_that_epoch(tiny, capsys):
    tiny = [*tiny, "--data.batch_size=8"]  # 6 steps an epoch
    assert main([*tiny, "--trainer.max_steps=4", "--trainer.enable_progress_bar=true"]) == 0
    *_, end, then = capsys.readouterr().out.splitlines()
    assert end.startswith("stopped after step 4, within epoch 1, ")
    assert then == "next: gfnet fit --ckpt_path last.ckpt goes on with it"
    resume = ["fit", *QUIET, "--ckpt_path=last.ckpt"]
    assert main(resume) == 2
    assert "has finished its 4 steps; for more of it give --trainer.max_steps" in capsys.readouterr().err
    assert main([*resume, "--trainer.max_steps=-1"]) == 0
    assert state(LAST)[-1] == 12
    assert torch.load(LAST, weights_only=True)["epoch"] == 1


def test_last_ckpt_is_that_of_the_last_step_however_seldom_a_run_is_validated(tiny, caplog):
    assert main([*tiny, "--stage=earlier", "--trainer.max_epochs=1"]) == 0
    logger = ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=elsewhere"]
    assert main([*tiny, "--trainer.check_val_every_n_epoch=5", *logger]) == 0
    assert any("never validated" in line for line in caplog.messages)
    assert state(LAST)[-1] == 6
    assert main(["test", *QUIET]) == 0
    assert f"checkpoint {LAST} (stage base, 2 epochs)" in caplog.messages
    assert main([*tiny, "--data.batch_size=8", "--trainer.val_check_interval=4", "--stage=often"]) == 0  # of 6 batches
    checkpoints = Path("runs/often/version_0/checkpoints")
    assert state(checkpoints / "last.ckpt")[-1] == 12
    best = state(checkpoints / "best.ckpt")[-1]
    assert best in (4, 10)  # the weights that were validated
    path = (checkpoints / "best.ckpt").rename(checkpoints / "from.ckpt")
    last = state(checkpoints / "last.ckpt")
    assert main(["fit", *QUIET, f"--ckpt_path={path}"]) == 0
    torch.testing.assert_close(state(checkpoints / "last.ckpt"), last, rtol=0, atol=0)


def test_a_run_is_resumed_without_naming_its_stage(tiny):
    assert main([*tiny, "--stage=quick"]) == 0
    assert main(["fit", *QUIET, "--ckpt_path=last.ckpt", "--trainer.max_epochs=3"]) == 0
    assert [path.name for path in Path("runs").iterdir()] == ["quick"]
    assert state("runs/quick/version_0/checkpoints/last.ckpt")[-1] == 9


@pytest.mark.parametrize("of_earlier_version", [False, True])
def test_a_run_that_was_moved_keeps_its_best_checkpoint(tiny, monkeypatch, of_earlier_version):
    monkeypatch.setattr("gfnet_pl.training.best_checkpoint.FEW", 0)  # or the last epoch would be the best
    assert main(tiny) == 0
    best = LAST.with_name("best.ckpt")
    content = torch.load(best, weights_only=True)
    (kept,) = [state for state in content["callbacks"].values() if "best_model_score" in state]
    if of_earlier_version:
        del kept["best_loss"]
    kept["best_model_score"].fill_(2.0)  # better than any that follows
    torch.save(content, best)
    before = best.read_bytes()
    Path("moved").mkdir()
    Path("runs").rename("moved/runs")
    monkeypatch.chdir("moved")
    assert main(["fit", *QUIET, "--ckpt_path=last.ckpt", "--trainer.max_epochs=4"]) == 0
    assert best.read_bytes() == before


def test_a_run_that_was_killed_before_its_first_checkpoint_is_not_mistaken_for_another(tiny, capsys, monkeypatch):
    assert main([*tiny, "--stage=earlier"]) == 0

    def kill(self, *_):
        raise KeyError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(FirstBatch, "on_train_batch_start", kill)
        assert main([*tiny, "--stage=killed"]) == 1
    for command in ([*tiny, "--stage=killed", "--ckpt_path=last.ckpt"], ["test"], ["report"]):
        assert main(command) == 2
        assert "runs/killed/version_0 has no checkpoint" in capsys.readouterr().err.splitlines()[-1]
    assert not Path("runs/killed/version_1").exists()


def test_nothing_trained_is_an_error(tiny, capsys):
    assert main([*tiny, "--trainer.max_time=00:00:00:00"]) == 2
    assert "nothing was trained" in capsys.readouterr().err.splitlines()[-1]


def test_what_would_change_its_steps_is_refused_by_name(tiny, pictures, capsys):
    tiny = [*tiny, "--seed_everything=1", "--trainer.precision=32-true"]
    assert main([*tiny, "--trainer.max_epochs=1"]) == 0

    def resumed(*options):
        status = main([*tiny, "--ckpt_path=last.ckpt", *options])
        return status, capsys.readouterr().err.splitlines()[-1]

    for option, had in {
        "seed_everything=2": "1",
        "trainer.accumulate_grad_batches=2": "1",
        "trainer.gradient_clip_val=0.5": "1.0",
        "trainer.precision=bf16-mixed": "32-true",
        "trainer.limit_train_batches=0.5": "None",
        "data.batch_size=8": "16",
        "data.augment.rotation=5.0": "0.0",
        "model.weight_decay=0.2": "1e-06",
    }.items():
        key, _, value = option.partition("=")
        status, line = resumed(f"--{option}")
        assert status == 2
        assert line == f"gfnet: error: {key} is {value} in this command but {had} in {LAST}: drop it"
    content = torch.load(LAST, weights_only=True)
    content["gfnet_pl"]["devices"] = 2
    torch.save(content, LAST.with_name("of_two.ckpt"))
    status, line = resumed(f"--ckpt_path={LAST.with_name('of_two.ckpt')}")
    assert (status, "was trained with 2 devices, and here is 1" in line) == (2, True)
    path = next(
        row.split(",")[0] for row in (LAST.parents[1] / "splits.csv").read_text().splitlines() if "train" in row
    )
    kept = (pictures / path).read_bytes()
    write_picture(pictures / path, "ant", 77_777)
    status, line = resumed()
    assert (status, "1 training picture in" in line) == (2, True)
    (pictures / path).write_bytes(kept)
    same = ["--trainer.accumulate_grad_batches=1", "--trainer.precision=32", "--data.num_workers=1"]
    assert resumed(*same)[0] == 0  # the same in other words, and what changes no step
