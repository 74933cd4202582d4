"""What a net was trained on is never scored, and other data never take the place of the run's own."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import QUIET, write_picture

from gfnet_pl.cli import main
from gfnet_pl.run.checkpoint import Checkpoint
from gfnet_pl.run.folder import RunFolder
from gfnet_pl.run.trained_data import trained_on

RUN = Path("runs/base/version_0")
BEST, LAST = RUN / "checkpoints" / "best.ckpt", RUN / "checkpoints" / "last.ckpt"


def rows(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def split_of(run=RUN):
    return {row["path"]: row["split"] for row in rows(run / "splits.csv")}


def results_on(root, run=RUN):
    return RunFolder(run).of_other_data(str(root)).predictions


@pytest.fixture
def base(tiny):
    assert main([*tiny, "--trainer.max_epochs=1"]) == 0
    return tiny


@pytest.fixture
def grown(pictures, tmp_path):
    """The same folder with one new picture in each training class."""
    root = shutil.copytree(pictures, tmp_path / "grown")
    for label in ("ant", "bee", "Cat"):
        write_picture(root / "Train" / label / "new.png", label, 7000 + len(label) + ord(label[0]))
    return root


def test_of_other_data_all_is_scored_but_what_the_net_was_trained_on(base, grown, caplog):
    assert main(["test", *QUIET]) == 0
    trained = sorted(path for path, split in split_of().items() if split == "train")
    shutil.copy(grown / trained[0], grown / "Train" / Path(trained[0]).parent.name / "copy.png")
    before = {path: path.read_bytes() for path in RUN.rglob("*") if path.is_file()}
    assert main(["test", *QUIET, f"--data.root={grown}"]) == 0
    assert all(path.read_bytes() == content for path, content in before.items())
    assert [path for path in RUN.rglob("*.csv") if path not in before] == [results_on(grown)]
    scored = {row["path"] for row in rows(results_on(grown))}
    listed = {path.relative_to(grown).as_posix() for path in grown.rglob("*.png")}
    assert listed - scored == {*trained, f"{Path(trained[0]).parent}/copy.png"}
    assert "49 pictures are left out, because the net was trained on them" in caplog.messages
    metrics = json.loads(results_on(grown).with_name("metrics.json").read_text())
    own = json.loads((RUN / "metrics.json").read_text())
    assert metrics["calibration"]["temperature"] == own["calibration"]["temperature"]


def test_a_split_that_somebody_else_made_is_other_data_too(base, pictures):
    made = Path("mine.csv")
    with made.open("w") as file:
        file.write("path,label,split\n")
        file.writelines(f"{path},{path.split('/')[1]},test\n" for path in split_of())
    assert main(["test", *QUIET, f"--data.splits={made}"]) == 0
    assert not (RUN / "predictions.csv").exists()
    scored = {row["path"] for row in rows(results_on(pictures))}
    assert scored == {path for path, split in split_of().items() if split != "train"}
    assert main(["test", *QUIET, f"--data.splits={RUN / 'splits.csv'}"]) == 0
    assert (RUN / "predictions.csv").exists()


def test_other_data_need_neither_all_classes_nor_a_training_folder(base, tmp_path, capsys, caplog):
    other = tmp_path / "other"
    write_picture(other / "Test" / "cat" / "a.png", "Cat", 9001)
    write_picture(other / "Test" / "dog" / "a.png", "Cat", 9002)
    assert main(["test", *QUIET, f"--data.root={other}"]) == 0
    assert "1 pictures are left out: the net has no class 'dog' (1)" in caplog.messages
    assert [(row["path"], row["label"]) for row in rows(results_on(other))] == [("Test/cat/a.png", "Cat")]
    assert main(["validate", *QUIET, f"--data.root={other}"]) == 2
    assert "provides no validation pictures; gfnet test scores all of them" in capsys.readouterr().err
    shutil.rmtree(other / "Test" / "cat")
    assert main(["test", *QUIET, f"--data.root={other}"]) == 2
    assert "holds no picture of a class that the net knows: Cat, ant, bee" in capsys.readouterr().err


def test_data_that_were_moved_are_the_runs_own(base, pictures, tmp_path):
    moved = pictures.rename(tmp_path / "moved")
    write_picture(moved / "Train" / "ant" / "new.png", "ant", 9003)
    assert main(["test", *QUIET, f"--data.root={moved}"]) == 0
    assert {row["path"] for row in rows(RUN / "predictions.csv")} == {
        path for path, split in split_of().items() if split not in ("train", "unused")
    }


def test_polishing_on_grown_data_evaluates_nothing_that_the_net_was_trained_on(base, grown, pictures, caplog):
    caplog.set_level("INFO")
    polish = ["fit", "--config=polish.yaml", "--ckpt_path=last.ckpt", *QUIET, "--trainer.max_epochs=1"]
    assert main([*polish, f"--data.root={grown}", "--data.val_fraction=0.4"]) == 0
    before, now = split_of(), split_of(Path("runs/polish/version_0"))
    trained = {path for path, split in before.items() if split == "train"}
    assert trained <= {path for path, split in now.items() if split == "train"}
    assert any("go to training, because the net was trained on them before" in line for line in caplog.messages)
    # and what polishing did not see itself is still known
    polished = Path("runs/polish/version_0/checkpoints/last.ckpt")
    shutil.rmtree(grown / "Train" / "bee")
    assert main(["test", *QUIET, f"--ckpt_path={polished}", f"--data.root={pictures}"]) == 0
    scored = {row["path"] for row in rows(results_on(pictures, polished.parents[1]))}
    assert not scored & trained
    assert scored


@pytest.mark.parametrize("root", ["there", "gone"])
def test_what_an_older_checkpoint_was_trained_on_is_read_or_known_by_path(base, pictures, grown, root, caplog):
    content = torch.load(BEST, weights_only=True)
    now = trained_on(Checkpoint.load(BEST))
    del content["gfnet_pl"]["trained_on"]
    torch.save(content, BEST)
    if root == "gone":
        shutil.rmtree(pictures)
        (grown / "Test" / "bee" / "01.png").unlink()  # or these were the run's own data, moved
    assert main(["test", *QUIET, f"--data.root={grown}"]) == 0
    trained = {path for path, split in split_of().items() if split == "train"}
    assert not trained & {row["path"] for row in rows(results_on(grown))}
    assert any("with the same path" in line for line in caplog.messages) == (root == "gone")
    if root == "there":
        assert trained_on(Checkpoint.load(BEST)).digests.tolist() == now.digests.tolist()


def test_a_resumed_run_keeps_its_splits_whatever_the_root(base, grown, caplog):
    before = split_of()
    assert main([*base, "--ckpt_path=last.ckpt", f"--data.root={grown}"]) == 0
    assert split_of() == before
    assert torch.load(LAST, weights_only=True)["global_step"] == 6


def test_a_relative_root_is_found_from_elsewhere(base, pictures, workplace, tmp_path, monkeypatch, capsys):
    pictures.rename(workplace / "pictures")
    assert main(["fit", *base[1:], "--data.root=pictures", "--trainer.max_epochs=1", "--stage=relative"]) == 0
    checkpoint = Path("runs/relative/version_0/checkpoints/best.ckpt")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert main(["test", *QUIET, f"--ckpt_path={workplace / checkpoint}"]) == 0
    both = workplace.rename(tmp_path / "both moved")  # the run and its data
    assert main(["test", *QUIET, f"--ckpt_path={both / checkpoint}"]) == 0
    (both / "pictures").rename(both / "renamed")
    assert main(["test", *QUIET, f"--ckpt_path={both / checkpoint}"]) == 2
    assert "pictures does not exist; if the pictures have moved, give --data.root" in capsys.readouterr().err


def test_a_deleted_picture_is_left_out_and_named(base, pictures, capsys, caplog):
    of = {split: sorted(path for path, its in split_of().items() if its == split) for split in ("train", "val", "test")}
    for split in of:
        (pictures / of[split][0]).unlink()
    before = (RUN / "splits.csv").read_bytes()
    names = ", ".join(sorted(paths[0] for paths in of.values()))
    words = f"3 of 87 pictures are gone and left out (1 test, 1 train, 1 val): {names}"
    for command in (["test"], ["validate"], [*base, "--ckpt_path=last.ckpt"]):
        caplog.clear()
        assert main([*command, *QUIET]) == 0
        assert [line for line in caplog.messages if "gone" in line] == [words]
    assert (RUN / "splits.csv").read_bytes() == before
    kept = (RUN / "metrics.json").read_bytes()
    shutil.rmtree(pictures / "Unseen")
    assert main(["test", *QUIET]) == 2
    assert "has none of the 15 unseen pictures of" in capsys.readouterr().err
    assert (RUN / "metrics.json").read_bytes() == kept


@pytest.mark.parametrize("option", ["data.root", "data.splits", "ckpt_path", "stage"])
def test_an_empty_setting_is_an_error(workplace, capsys, option):
    assert main(["fit", f"--{option}", ""]) == 2
    assert f"{option} is empty: is the variable that it comes from unset?" in capsys.readouterr().err
