"""Checkpoints and records survive kills, full disks, damage and a second command. docs/reliability.md has the table."""

import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch
from conftest import QUIET

from gfnet_pl.cli import main
from gfnet_pl.errors import UserError
from gfnet_pl.files import replacing
from gfnet_pl.locks import held
from gfnet_pl.run import folder
from gfnet_pl.run.checkpoint import Checkpoint, read_content
from gfnet_pl.run.folder import RunFolder, claimed
from gfnet_pl.run.record import read_sessions
from gfnet_pl.training.best_checkpoint import is_of_best
from gfnet_pl.training.checkpoint_files import CheckpointFiles, refuse_bad_weights
from gfnet_pl.training.classifier import GFNetClassifier

OLD = Path(__file__).parent / "old_run"
RUN = Path("runs/base/version_0")
BEST, LAST, PREVIOUS = (RUN / "checkpoints" / f"{name}.ckpt" for name in ("best", "last", "last.prev"))


@pytest.fixture
def old_run(workplace):
    shutil.copytree(OLD / "pictures", "pictures")
    shutil.copytree(OLD / "version_0", RUN)
    return RUN


def trained(*options):
    return main(["fit", *QUIET, "--stage=base", "--ckpt_path=last.ckpt", *options])


def test_a_flipped_byte_anywhere_in_a_checkpoint_is_noticed_or_changes_nothing(old_run):
    whole, content = LAST.read_bytes(), torch.load(LAST, weights_only=True)
    noticed = 0
    for place in random.Random(0).sample(range(len(whole)), 300):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        LAST.write_bytes(damaged)
        try:
            found = read_content(LAST)
        except UserError as error:
            assert "last.ckpt" in str(error) and "\n" not in str(error)
            noticed += 1
        else:  # it was in what only fills the file up
            torch.testing.assert_close(found["state_dict"], content["state_dict"], rtol=0, atol=0)
            torch.testing.assert_close(found["optimizer_states"], content["optimizer_states"], rtol=0, atol=0)
    assert noticed > 100


@pytest.mark.parametrize("damage", ["cut", "zeroed", "flipped", "gone", "empty"])
def test_where_last_ckpt_is_damaged_the_one_before_takes_its_place(old_run, caplog, damage):
    shutil.copy(LAST, PREVIOUS)
    content = bytearray(LAST.read_bytes())
    middle = len(content) // 2
    if damage == "flipped":
        content = content.replace(torch.load(LAST, weights_only=True)["state_dict"]["net.pos_embed"].numpy().tobytes(),
                                  torch.zeros(16 * 16).numpy().tobytes())  # fmt: skip
    elif damage == "zeroed":
        content[middle : middle + 4096] = bytes(4096)
    LAST.unlink() if damage == "gone" else LAST.write_bytes(content[: {"cut": middle, "empty": 0}.get(damage)])
    assert Checkpoint.load(LAST).path == PREVIOUS
    assert any("last.prev.ckpt takes its place, of step 6" in line for line in caplog.messages)


def test_a_run_goes_on_from_the_checkpoint_before_and_test_and_predict_take_it_too(old_run, caplog):
    shutil.copy(LAST, PREVIOUS)
    LAST.write_bytes(LAST.read_bytes()[:-2000])
    assert main(["test", *QUIET, "--ckpt_path=last.ckpt"]) == 0
    assert main(["predict", "pictures/Unseen", "--ckpt_path", str(LAST)]) == 0
    assert trained("--trainer.max_epochs=3") == 0
    assert sum("takes its place" in line for line in caplog.messages) == 3
    assert Checkpoint.load(LAST).epochs == 3
    assert [path.name for path in RUN.rglob("*") if path.suffix in (".partial", ".lock")] == []
    BEST.write_bytes(BEST.read_bytes()[:-2000])
    assert main(["test", *QUIET]) == 2  # nothing takes the place of best.ckpt without a word


def keep_saving(file):
    torch.set_num_threads(1)  # after a fork, OpenMP would wait for threads that only the parent has
    writer, number = CheckpointFiles(), 0
    while True:
        number += 1
        writer.save_checkpoint({"weights": torch.full((1_000_000,), float(number))}, file)


@pytest.mark.skipif(sys.platform == "win32", reason="it has no fork")
def test_a_kill_while_saving_leaves_a_whole_checkpoint_and_at_most_one_part(tmp_path, monkeypatch):
    file, rng = tmp_path / "saved" / "last.ckpt", random.Random(1)
    file.parent.mkdir()
    if Path("/dev/shm").is_dir():
        monkeypatch.setattr(tempfile, "tempdir", "/dev/shm")  # another file system
    for _ in range(20):
        child = multiprocessing.get_context("fork").Process(target=keep_saving, args=(file,))
        child.start()
        while not file.is_file():  # the first save, on a busy machine too
            time.sleep(0.01)
        time.sleep(0.05 + 0.1 * rng.random())
        child.kill()
        child.join()
        for path in (file, file.with_name("last.prev.ckpt")):
            if path.exists():
                weights = read_content(path)["weights"]
                assert (weights == weights[0]).all()
    names = {"last.ckpt", "last.prev.ckpt"}
    assert file.is_file()
    assert {path.name for path in file.parent.iterdir()} <= names | {f"{name}.partial" for name in names}
    CheckpointFiles().save_checkpoint({"weights": torch.zeros(3)}, file)  # the next save clears what was left
    assert {path.name for path in file.parent.iterdir()} == names


@pytest.mark.parametrize("call", ["replace", "fsync", "link"])
def test_whatever_fails_while_a_file_is_replaced_a_whole_one_is_there(tmp_path, monkeypatch, call):
    file, before = tmp_path / "last.ckpt", tmp_path / "last.prev.ckpt"
    file.write_text("2")
    before.write_text("1")
    real, calls = getattr(os, call), []

    def fails(*args):
        calls.append(args)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fails)
    if call == "link":  # a file system without links
        with replacing(file, before=before) as stream:
            stream.write("3")
        assert (file.read_text(), before.read_text()) == ("3", "2")
        return
    with pytest.raises(OSError), replacing(file, before=before) as stream:
        stream.write("3")
    assert calls and (file.read_text(), before.read_text()) == ("2", "1")
    monkeypatch.setattr(os, call, real)
    with replacing(file, before=before) as stream:
        stream.write("3")
    assert sorted((path.name, path.read_text()) for path in tmp_path.iterdir() if path.is_file()) == [
        ("last.ckpt", "3"),
        ("last.prev.ckpt", "2"),
    ]


def test_weights_that_are_not_finite_are_never_saved_over_good_ones(old_run, capsys, monkeypatch):
    from gfnet_pl.training.classifier import GFNetClassifier

    before = {path.name: path.read_bytes() for path in (BEST, LAST)}

    def spoil(self, *_):
        if self.trainer.is_last_batch:
            with torch.no_grad():
                self.net.head.bias.fill_(torch.nan)

    monkeypatch.setattr(GFNetClassifier, "on_train_batch_end", spoil, raising=False)
    assert trained("--trainer.max_epochs=3") == 2
    assert "the weights are not finite after step 9; training stops and the checkpoints stay" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in (BEST, LAST)} == before
    with pytest.raises(UserError):
        refuse_bad_weights({"a": torch.zeros(2), "b": torch.tensor([1.0, torch.inf]), "c": torch.tensor(1)}, 3)


def test_a_copied_run_keeps_the_score_of_its_best_checkpoint_and_one_without_it_writes_another(old_run, monkeypatch):
    monkeypatch.setattr("gfnet_pl.training.best_checkpoint.FEW", 0)  # or the last epoch would be the best
    Path("elsewhere").mkdir()
    content = torch.load(BEST, weights_only=True)
    (state,) = [state for state in content["callbacks"].values() if is_of_best(state)]
    state["best_model_score"].fill_(2.0)
    torch.save(content, BEST)
    shutil.copytree(RUN, "elsewhere/copy")
    best = Path("elsewhere/copy/checkpoints/best.ckpt")
    before = best.read_bytes()
    last = str(best.with_name("last.ckpt"))
    assert main(["fit", *QUIET, "--stage=base", f"--ckpt_path={last}", "--trainer.max_epochs=3"]) == 0
    assert best.read_bytes() == before
    best.unlink()
    assert main(["fit", *QUIET, "--stage=base", f"--ckpt_path={last}", "--trainer.max_epochs=4"]) == 0
    assert Checkpoint.load(best).epochs == 4


def test_a_resume_leaves_the_splits_alone_and_notices_if_somebody_has_edited_them(old_run, capsys):
    before = (RUN / "splits.csv").stat().st_ino, (RUN / "splits.csv").read_bytes()
    assert trained("--trainer.max_epochs=3") == 0
    assert ((RUN / "splits.csv").stat().st_ino, (RUN / "splits.csv").read_bytes()) == before
    text = before[1].decode()
    for edited in (text.replace(",train,", ",test,", 3), text[: len(text) // 2], text.splitlines()[0] + "\n"):
        (RUN / "splits.csv").write_text(edited)
        for command in (["test"], ["test", f"--data.splits={RUN / 'splits.csv'}"], ["validate"]):
            assert main([*command, *QUIET, "--ckpt_path=last.ckpt"]) == 2
            assert "splits.csv is not what runs/base/version_0/checkpoints/last.ckpt was" in capsys.readouterr().err
        assert trained("--trainer.max_epochs=4") == 2
    Path("other.csv").write_text(text.replace(",train,", ",test,", 3))
    (RUN / "splits.csv").write_bytes(before[1])
    assert trained("--trainer.max_epochs=4", "--data.splits=other.csv") == 2
    assert "but a run that goes on keeps its runs/base/version_0/splits.csv" in capsys.readouterr().err
    shutil.copy(RUN / "splits.csv", "same.csv")
    assert trained("--trainer.max_epochs=4", "--data.splits=same.csv") == 0


def test_no_two_commands_get_one_folder_and_one_that_fails_leaves_none(workplace, monkeypatch):
    number = iter([0, 0, 1])
    monkeypatch.setattr(folder, "new_run", lambda stage: RunFolder(Path(f"runs/{stage}/version_{next(number)}")))
    with claimed("a") as first, claimed("a") as second:
        assert (first.path.name, second.path.name) == ("version_0", "version_1")
        (first.path / "config.yaml").touch()  # what was begun and did not come to be a run
        second.checkpoint("last.ckpt").parent.mkdir()
        second.checkpoint("last.ckpt").touch()
    assert [path.as_posix() for path in Path("runs").rglob("*")][:2] == ["runs/a", "runs/a/version_1"]
    assert not first.path.exists()


def test_a_run_that_is_being_trained_is_not_resumed_by_a_second_command(old_run, capsys):
    with held(RUN / ".lock", ""):
        assert trained("--trainer.max_epochs=3") == 2
        assert "runs/base/version_0 is being trained by another command" in capsys.readouterr().err
    (RUN / ".lock").touch()
    assert trained("--trainer.max_epochs=3") == 0  # a killed one holds nothing
    assert not (RUN / ".lock").exists()


def test_two_tests_at_once_do_not_mix_their_results(old_run, capsys):
    assert main(["test", *QUIET]) == 0
    before = (RUN / "metrics.json").read_bytes()
    with held(RUN / "metrics.lock", ""):
        assert main(["test", *QUIET]) == 2
    assert "another gfnet test writes its results there at this moment" in capsys.readouterr().err
    assert (RUN / "metrics.json").read_bytes() == before
    assert not (RUN / "metrics.lock").exists()


def test_a_fit_that_fails_before_it_trains_leaves_no_folder(workplace):
    assert main(["fit", "--config=base.yaml", "--data.root=none"]) == 2
    assert not Path("runs").exists()


def test_a_gpu_that_fails_is_told_in_one_line_and_the_run_goes_on(tiny, capsys, monkeypatch):
    run, step = RunFolder(Path("runs/base/version_0")), GFNetClassifier.training_step

    def fails(self, batch, number):
        if self.current_epoch == 1:
            self.trainer.checkpoint_callback.best_model_score = torch.empty(
                (), device="meta"
            )  # cannot be read any more
            raise torch.AcceleratorError("CUDA error: unspecified launch failure\nSearch for")
        return step(self, batch, number)

    with monkeypatch.context() as patch:
        patch.setattr(GFNetClassifier, "training_step", fails)
        assert main([*tiny, "--trainer.max_epochs=2"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(
        "gfnet: error: the GPU failed (CUDA error: unspecified launch failure): another program on it"
    )
    (session,) = read_sessions(run)
    assert (session["state"], session["best"]["epoch"]) == ("failed", 1)
    assert main(["fit", "--ckpt_path=last.ckpt", *QUIET]) == 0
    assert [session["state"] for session in read_sessions(run)] == ["failed", "finished"]
