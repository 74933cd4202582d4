"""The losses of the training pictures, by which labels to check are found."""

import csv
from pathlib import Path

import pytest

from gfnet_pl.cli import main
from gfnet_pl.errors import UserError
from gfnet_pl.run.folder import RunFolder
from gfnet_pl.run.losses import PictureLoss, read_losses, suspected, write_losses


def test_wrong_labels_come_first_also_in_a_resumed_run_and_in_parts_of_batches(tiny, pictures, monkeypatch):
    monkeypatch.setattr("gfnet_pl.training.micro_batches.LARGEST", 5 * 16 * 64)  # five images per part
    wrong = {"Train/bee/x05.png", "Train/ant/x11.png"}
    for path in wrong:
        other = {"bee": "ant", "ant": "Cat"}[Path(path).parent.name]
        (pictures / "Train" / other / Path(path).name[1:]).rename(pictures / path)
    learn = ["--model.lr=2e-2", "--data.holdout_per_class=0", "--data.val_fraction=0.01"]
    learn += ["--trainer.check_val_every_n_epoch=5"]  # drawing its pages takes longer than training
    assert main([*tiny, *learn, "--trainer.max_epochs=10", "--trainer.max_steps=14"]) == 0  # of 4 per epoch
    run = RunFolder(Path("runs/base/version_0"))
    before = {each.path: each for each in read_losses(run)}
    assert {each.times for each in before.values()} == {3, 4}
    assert main(["fit", "--ckpt_path=last.ckpt", "--trainer.max_steps=40"]) == 0
    losses = read_losses(run)
    assert [-each.loss for each in losses] == sorted(-each.loss for each in losses)
    assert {each.path for each in losses[:2]} == wrong
    assert {each.path: each.instead for each in losses[:2]} == {"Train/bee/x05.png": "ant", "Train/ant/x11.png": "Cat"}
    with run.splits.open(newline="") as file:
        trained = {row["path"]: row["label"] for row in csv.DictReader(file) if row["split"] == "train"}
    assert {each.path: each.label for each in losses} == trained
    assert {each.times for each in losses} == {10}


@pytest.mark.parametrize(
    ("hard", "wrong", "found"),
    [
        (2.0, 4.0, 3),  # a fifth is hard, but not four times less probable than by a guess among four: log 16 is 2.77
        (3.0, 4.0, 23),
        (0.02, 2.0, 0),
        (0.03, 0.03, 0),
    ],
)
def test_a_label_is_suspected_that_is_believed_far_less_than_others_and_than_by_a_guess(hard, wrong, found):
    values = [0.01 + 0.0005 * number for number in range(77)] + [hard] * 20 + [wrong] * 3
    losses = [PictureLoss(str(number), "ABCD"[number % 4], value, 9, "") for number, value in enumerate(values)]
    assert suspected(losses) == found


def test_nothing_is_suspected_of_a_net_that_has_hardly_begun():
    losses = [PictureLoss(str(number), "ABCD"[number % 4], 1.2 + 0.005 * number, 1, "") for number in range(80)]
    assert suspected(losses) == 0  # half of them are above a guess, none is far from the others


def test_the_list_comes_back_with_every_name(tmp_path):
    run = RunFolder(tmp_path)
    assert read_losses(run) == []
    rows = [PictureLoss('a,"b\n.png', "no", 1.5, 3, "1"), PictureLoss("é.png", "null", 0.25, 2, "")]
    write_losses(run, reversed(rows))
    assert read_losses(run) == rows
    run.losses.write_text("path,label\na,b\n")
    with pytest.raises(UserError, match=r"losses\.csv cannot be read"):
        read_losses(run)
