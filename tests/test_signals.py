"""SIGTERM, SIGHUP and Ctrl-C end a training after its step, with last.ckpt and status 128 + n; nothing hangs."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import QUIET
from forked import Forked

from gfnet_pl.cli import main
from gfnet_pl.data.datamodule import ImageDataModule
from gfnet_pl.training import stopping
from gfnet_pl.training.dashboard import ClassBalance
from gfnet_pl.training.last_checkpoint import LastCheckpoint

LAST = Path("runs/base/version_0/checkpoints/last.ckpt")
pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="it has other signals"),
    pytest.mark.usefixtures("usual_handlers"),
]


def status(command):
    """As a shell sees it."""
    try:
        return main(command)
    except SystemExit as end:
        return end.code


def saved(path=LAST):
    return torch.load(path, weights_only=True)


@pytest.fixture
def send(monkeypatch):
    """Sends signals in the midst of a step, or of a validation after it."""

    def at(step, *names, hook="on_train_batch_end"):
        def hooked(self, trainer, *_):
            if trainer.global_step == step and not trainer.sanity_checking:
                for name in names:
                    signal.raise_signal(getattr(signal, name))

        monkeypatch.setattr(ClassBalance, hook, hooked, raising=False)

    return at


@pytest.mark.parametrize(("name", "number"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_a_signal_ends_a_training_after_its_step_and_says_how_to_go_on(tiny, send, capsys, name, number):
    before = signal.getsignal(getattr(signal, name))
    send(4, name, *(["SIGTERM"] if name == "SIGTERM" else []))  # some programs send it twice
    assert status(tiny) == number
    assert saved()["global_step"] == 4  # of 6
    error = capsys.readouterr().err
    assert f"{name}: stopped after step 4; gfnet fit --ckpt_path {LAST} goes on from there\n" in error
    assert "Traceback" not in error
    assert signal.getsignal(getattr(signal, name)) is before
    assert not (LAST.parents[1] / ".lock").exists()


def test_a_run_that_a_signal_stopped_within_a_validation_goes_on_exactly(tiny, send, monkeypatch):
    random = [*tiny, "--model.dropout=0.2", "--data.augment.rotation=20"]
    assert main([*random, "--stage=whole"]) == 0
    with monkeypatch.context() as patched:
        patched.setattr(LastCheckpoint, "PATIENCE", -1.0)  # or it would wait for the end of the validation
        send(3, "SIGTERM", hook="on_validation_batch_start")
        assert status(random) == 143
    assert saved()["global_step"] == 3
    assert not LAST.with_name("best.ckpt").exists()
    send(0)
    assert main(["fit", *QUIET, f"--ckpt_path={LAST}"]) == 0
    whole = saved("runs/whole/version_0/checkpoints/last.ckpt")
    torch.testing.assert_close(saved()["state_dict"], whole["state_dict"], rtol=0, atol=0)


@pytest.mark.parametrize(("step", "left"), [(3, True), (6, False)])
def test_a_signal_in_the_last_step_of_an_epoch_waits_for_its_validation(tiny, send, capsys, step, left):
    send(step, "SIGTERM")
    assert status(tiny) == 143  # at the end of the run too, so that no other command follows
    assert saved()["global_step"] == step
    assert LAST.with_name("best.ckpt").exists()
    assert ("goes on from there" in capsys.readouterr().err) == left


def test_before_the_training_a_signal_ends_the_command_at_once_and_leaves_no_run(tiny, monkeypatch, capsys):
    monkeypatch.setattr(ImageDataModule, "prepare_data", lambda self: signal.raise_signal(signal.SIGTERM))
    assert status(tiny) == 143
    assert not Path("runs").exists()
    assert "Traceback" not in capsys.readouterr().err


def test_a_signal_that_falls_into_a_destructor_is_not_dropped(tiny, monkeypatch, capsys):
    class Destroyed:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    def prepare(self):
        Destroyed()
        time.sleep(20)

    monkeypatch.setattr(ImageDataModule, "prepare_data", prepare)
    began = time.monotonic()
    assert status(tiny) == 143
    assert time.monotonic() - began < 15
    assert "Traceback" not in capsys.readouterr().err


def test_the_second_ctrl_c_ends_the_process_whatever_it_does(tiny, send, monkeypatch):
    class Ended(BaseException):
        pass

    def end(number):
        raise Ended(number)

    monkeypatch.setattr(stopping.os, "_exit", end)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)  # a notebook's test may have run in this process
    send(4, "SIGINT", "SIGINT")
    with pytest.raises(Ended, match="130"):
        main(tiny)
    assert not LAST.exists() or saved()["global_step"] == 3


def test_a_signal_that_is_ignored_stays_ignored(tiny, send):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    try:
        send(4, "SIGHUP")
        assert main(tiny) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, 2)])
def test_whichever_process_gets_it_all_end_within_30_seconds(tiny, number, code):
    command = [*tiny, "--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.max_epochs=100000"]
    first = Forked([*command, "--trainer.accumulate_grad_batches=2"])
    try:
        until = time.monotonic() + 100
        while not LAST.is_file() and time.monotonic() < until:
            time.sleep(0.1)
        children = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
        processes = [first.pid, *map(int, children)]
        os.kill(processes[1], number)
        began = time.monotonic()
        assert first.wait(60) == code
        assert time.monotonic() - began < 30
    finally:
        first.kill()
    assert "Traceback" not in first.stderr
    if number == signal.SIGTERM:
        assert "SIGTERM: stopped after step" in first.stderr
    else:
        lost = "gfnet: error: process 1 of 2 is lost (SIGKILL), so all end; a training goes on with"
        assert lost in first.stderr
    assert saved()["global_step"] > 0
    until = time.monotonic() + 20
    while any(Path(f"/proc/{process}").exists() for process in processes) and time.monotonic() < until:
        time.sleep(0.1)
    assert time.monotonic() < until
