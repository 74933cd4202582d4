"""`gfnet sweep`: better settings, found by trying."""

import csv
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
import yaml
from conftest import QUIET, TINY_NET
from forked import Forked

from gfnet_pl.cli import main
from gfnet_pl.data.manifest import Picture
from gfnet_pl.errors import UserError
from gfnet_pl.locks import held
from gfnet_pl.run.folder import RunFolder, newest_run
from gfnet_pl.run.results import SetResults
from gfnet_pl.run.sweep import SweepFolder
from gfnet_pl.training import sweep
from gfnet_pl.training.outputs import KeepOutputs
from gfnet_pl.training.space import read_space
from gfnet_pl.training.sweep import Watch, score

SWEEP = Path("runs/sweep")
SPACE = {"model.lr": {"low": 1e-3, "high": 1e-2, "log": True}, "data.augment.flip": [0.0, 0.5]}


@pytest.fixture
def command(pictures, workplace):
    Path("space.yaml").write_text(yaml.safe_dump(SPACE))
    data = [f"--data.root={pictures}", "--data.batch_size=16", "--trainer.max_epochs=1", "--model.warmup_epochs=0"]
    return ["sweep", "--config=base.yaml", "--space=space.yaml", *TINY_NET, *QUIET, *data]


def trials():
    with (SWEEP / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def failing(monkeypatch, at, error):
    """Lets the training with this number (from 0) end with an error."""
    trained, usual = [], sweep.run_trainer

    def run_trainer(words, command, callbacks=()):
        if "--print_config" not in words:
            trained.append(words)
            if len(trained) == at + 1:
                raise error
        return usual(words, command, callbacks)

    monkeypatch.setattr(sweep, "run_trainer", run_trainer)
    return trained


def test_a_sweep_tries_settings_and_keeps_every_trial_and_the_best_as_a_config(command, capsys):
    assert main([*command, "--trials=3"]) == 0
    rows = trials()
    assert [row["state"] for row in rows] == ["complete"] * 3
    assert all(1e-3 <= float(row["model.lr"]) <= 1e-2 for row in rows)
    best = max(rows, key=lambda row: float(row["value"]))
    said = yaml.safe_load((SWEEP / "best.yaml").read_text())
    assert said["model"]["lr"] == float(best["model.lr"])
    assert said["data"]["augment"]["flip"] == float(best["data.augment.flip"])
    run = RunFolder(Path(best["run"]))
    assert yaml.safe_load(run.config.read_text())["model"]["lr"] == float(best["model.lr"])
    assert (SWEEP / "trials.png").read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr()
    assert "3 trials, the best first" in shown.out
    assert shown.err.count("near twin") <= 1  # what the first trial says of the data, all would
    assert f"next: gfnet fit --config {run.config} --stage NAME" in shown.err

    assert main([*command, "--trials=4"]) == 0  # goes on
    assert [row["trial"] for row in trials()] == ["0", "1", "2", "3"]
    assert not list(SWEEP.glob(".trial*"))

    assert main(["fit", f"--config={run.config}", "--stage=chosen"]) == 0
    assert newest_run().stage == "chosen"
    assert main([*command, "--trials=5"]) == 0
    assert newest_run().stage == "chosen"  # no command takes a trial by itself


def test_a_trial_that_fails_is_recorded_and_the_sweep_goes_on(command, monkeypatch, capsys):
    failing(monkeypatch, 1, UserError("the loss is not finite"))
    assert main([*command, "--trials=3"]) == 0
    assert [(row["state"], row["error"]) for row in trials()] == [
        ("complete", ""),
        ("fail", "the loss is not finite"),
        ("complete", ""),
    ]
    assert "trial 1 failed: the loss is not finite" in capsys.readouterr().err


def test_what_fails_from_the_first_trial_on_ends_the_sweep_in_one_line(command, monkeypatch, capsys):
    failing(monkeypatch, 0, UserError("data.root: nothing there"))
    assert main([*command, "--trials=3"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "gfnet: error: data.root: nothing there"


def test_what_was_stopped_or_killed_is_tried_again(command, monkeypatch, capsys):
    trained = failing(monkeypatch, 1, SystemExit(143))
    with pytest.raises(SystemExit):
        main([*command, "--trials=3"])
    assert "the same command tries it again, and goes on" in capsys.readouterr().err
    assert main([*command, "--trials=3"]) == 0
    assert [row["state"] for row in trials()] == ["complete", "fail", "complete", "complete"]
    assert trained[2] == trained[1]

    study = optuna.load_study(study_name="sweep", storage=storage())
    killed, alive = study.ask(), study.ask()
    with held(SWEEP / f".trial_{alive.number}.lock", ""):  # another process is in it
        assert main([*command, "--trials=5"]) == 0
    states = [row["state"] for row in trials()]
    assert (states[killed.number], states[alive.number]) == ("fail", "running")
    assert len(states) == 7
    assert states[-1] == "complete"


def storage():
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(str(SWEEP / "sweep.journal")))


def test_a_trial_that_just_begins_is_not_taken_for_a_killed_one(command, monkeypatch):
    threads, usual = [], SweepFolder.running

    def running(folder, number):  # at this moment, another process comes to see which trials were killed
        threads.append(
            threading.Thread(
                target=lambda: sweep._take_up(optuna.load_study(study_name="sweep", storage=storage()), folder)
            )
        )
        threads[-1].start()
        threads[-1].join(0.3)
        return usual(folder, number)

    monkeypatch.setattr(SweepFolder, "running", running)
    assert main([*command, "--trials=2"]) == 0
    for each in threads:
        each.join()
    assert [row["state"] for row in trials()] == ["complete", "complete"]


def test_several_processes_share_a_sweep(command):
    both = [Forked([*command, "--trials=4"]) for _ in range(2)]
    assert [each.wait() for each in both] == [0, 0]
    rows = trials()
    assert {row["state"] for row in rows} == {"complete"}
    assert 4 <= len(rows) <= 5
    assert len({row["run"] for row in rows}) == len(rows)


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ("model.lrr: [1.0, 2.0]", "did you mean"),
        ("model.depth: {low: 4, high: 2}", "model.depth: "),
        ("model.lr: {low: 0.0, high: 1.0, log: true}", "model.lr: "),
        ("model.lr: {low: 1e-3, high: 1e-2}", "YAML needs 1.0e-3"),
        ("model.lr: {low: 0.1}", "low and high"),
        ("model.lr: 0.1", "a list of values"),
        ("model.lr: []", "a list of"),
        ("model.lr: [[1, 2]]", "a list of numbers"),
        ("- model.lr", "no keys"),
        ("model.lr: {", "space.yaml cannot be read"),
        ("model.depth: [two]", "model.depth"),
    ],
)
def test_a_space_that_cannot_be_is_one_line_before_anything_is_trained(command, capsys, space, words):
    Path("space.yaml").write_text(space)
    assert main(command) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("gfnet: error: ")
    assert words in line
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    "option",
    [
        "--trials=0",
        "--minutes=-1",
        "--objective=best",
        "--space=nowhere.yaml",
        "--stage=../x",
        "--print_config",
        "--trainer.help",
    ],
)
def test_options_that_cannot_be_are_one_line(command, capsys, option):
    assert main([*command, option]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_another_sweep_or_other_runs_are_not_mixed_with_this_one(command, capsys):
    assert main([*command, "--trials=1"]) == 0
    assert main([*command, "--trials=2", "--model.dim=8"]) == 2
    assert "runs/sweep is another sweep" in capsys.readouterr().err
    assert main(["fit", *command[3:], "--config=base.yaml", "--stage=mine"]) == 0
    assert main([*command, "--stage=mine"]) == 2
    assert "runs/mine holds other runs" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["garbage\n" * 3, "[1]\n", '{"op_code": 99}\n', "\0" * 100 + "\n"])
def test_a_damaged_journal_is_one_line(command, capsys, content):
    SWEEP.mkdir(parents=True)
    (SWEEP / "sweep.journal").write_text(content)
    assert main([*command, "--trials=1"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("gfnet: error: runs/sweep/sweep.journal cannot be read")


@pytest.mark.parametrize("option", ["--trainer.limit_val_batches=0", "--data.folds=2"])
def test_what_is_not_validated_cannot_be_compared(command, capsys, option):
    assert main([*command, "--trials=1", option]) == 2
    assert "a sweep compares validations" in capsys.readouterr().err.splitlines()[-1]


def of_groups(groups):
    pictures = [Picture(f"{number}.png", "ant", "val", group) for number, group in enumerate(groups)]
    labels = np.zeros(len(groups), np.int64)
    return pictures, labels


def test_the_objective_is_of_pictures_or_of_groups():
    pictures, labels = of_groups("aaaabb")
    logits = np.eye(3, dtype=np.float32)[[0, 0, 0, 1, 1, 1]]
    found = SetResults(pictures, labels, logits, logits)
    assert score(found, "val") == pytest.approx(3 / 6)
    assert score(found, "mean") == pytest.approx((3 / 4 + 0) / 2)
    assert score(found, "worst") == 0
    with pytest.raises(UserError, match=r"give --data.group_by, or --objective val"):
        score(SetResults(*of_groups([""] * 6), logits, logits), "worst")


@pytest.mark.parametrize(("epoch", "hopeless", "ends"), [(3, True, True), (3, False, False), (9, True, False)])
def test_a_hopeless_trial_is_ended_but_not_after_its_last_epoch(epoch, hopeless, ends):
    outputs, reported = KeepOutputs(), []
    pictures, labels = of_groups("ab")
    logits = np.eye(3, dtype=np.float32)[[0, 1]]
    outputs.sets = {"val": SetResults(pictures, labels, logits, logits)}
    trial = SimpleNamespace(report=lambda *said: reported.append(said), should_prune=lambda: hopeless)
    trainer = SimpleNamespace(
        callbacks=[outputs], current_epoch=epoch, max_epochs=10, should_stop=False, sanity_checking=False
    )
    watch = Watch(trial, "val")
    watch.on_validation_end(trainer, None)
    assert (watch.pruned, trainer.should_stop) == (ends, ends)
    assert reported == [(0.5, epoch)]


def test_ranges_are_read_as_they_are_meant(tmp_path):
    file = tmp_path / "space.yaml"
    file.write_text("a: {low: 1, high: 9, step: 2}\nb: {low: 1, high: 9.0}\nc: [x, 1, null, true]\n")
    space = read_space(file)
    assert repr(space["a"]) == "IntDistribution(high=9, log=False, low=1, step=2)"
    assert repr(space["b"]).startswith("FloatDistribution(high=9.0")
    assert space["c"].choices == ("x", 1, None, True)
