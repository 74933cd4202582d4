"""K folds: every picture is scored once, by a net that was not trained on it."""

import csv
import shutil
from collections import Counter
from pathlib import Path

import pytest
from conftest import write_picture

from gfnet_pl.cli import main
from gfnet_pl.data.datamodule import ImageDataModule
from gfnet_pl.data.folds import draw_fold
from gfnet_pl.data.manifest import Picture
from gfnet_pl.data.splits import SplitRule, read_splits
from gfnet_pl.errors import UserError
from gfnet_pl.run.checkpoint import Checkpoint
from gfnet_pl.run.facts import facts
from gfnet_pl.run.folder import RunFolder
from gfnet_pl.run.folds import read_pooled
from gfnet_pl.run.result_files import read_metrics
from gfnet_pl.run.run import read_run


def folds_of(pictures, folds, **rule):
    """The splits of each fold's run, by path."""
    drawn = [draw_fold(pictures, SplitRule(folds=folds, fold=fold + 1, **rule), seed=1) for fold in range(folds)]
    return [{picture.path: picture.split for picture in each} for each in drawn]


def listed(counts, groups=None, split="train"):
    return [
        Picture(f"{label}/{number}.png", label, split, f"person{number % groups}" if groups else "")
        for label, count in counts.items()
        for number in range(count)
    ]


def test_each_picture_is_validated_once_and_trained_on_in_all_other_runs():
    pictures = [
        *listed({"ant": 11, "bee": 6, "cat": 4}),
        Picture("v.png", "ant", "val"),
        Picture("t.png", "ant", "test"),
    ]
    runs = folds_of(pictures, 4, holdout_per_class=2)
    for path in {picture.path for picture in pictures} - {"t.png"}:
        assert Counter(run[path] for run in runs) == {"val": 1, "train": 3}  # also what was provided for validation
    assert {run["t.png"] for run in runs} == {"test"}
    sizes = [Counter(path[:3] for path, split in run.items() if split == "val") for run in runs]
    assert {each.total() for each in sizes} == {5, 6}
    assert all(max(each[name] for each in sizes) - min(each[name] for each in sizes) <= 1 for name in ("ant", "bee"))
    assert folds_of(pictures[::-1], 4) == runs
    assert all(Counter(run.values())["unused"] > 5 for run in folds_of(pictures, 4, train_per_class=2))


def test_groups_stay_whole_and_their_classes_are_spread():
    pictures = [*listed({"ant": 40, "bee": 20}, groups=10), Picture("cat/0.png", "cat", "train", "person0")]
    pictures += [Picture("cat/1.png", "cat", "train", "person5")]
    group = {picture.path: picture.group for picture in pictures}
    for rule in ({}, {"split_by": "group"}):  # where all have one, groups need not be asked for
        runs = folds_of(pictures, 5, **rule)
        for run in runs:
            held, trained = ({group[path] for path, split in run.items() if split == name} for name in ("val", "train"))
            assert len(held) == 2 and not held & trained
            assert {path[:3] for path, split in run.items() if split == "train"} == {"ant", "bee", "cat"}
        assert Counter(path for run in runs for path, split in run.items() if split == "val") == dict.fromkeys(group, 1)
    runs = folds_of(pictures, 3, unseen_groups=2)
    kept_out = [{group[path] for path, split in run.items() if split == "unseen"} for run in runs]
    assert len(kept_out[0]) == 2 and kept_out == kept_out[:1] * 3


@pytest.mark.parametrize(
    ("pictures", "rule", "message"),
    [
        (listed({"ant": 5, "bee": 3}), {"folds": 4, "fold": 1}, r"folds is 4: class 'bee' has 3 pictures.*at most 3"),
        (listed({"ant": 5, "bee": 1}), {"folds": 2, "fold": 1}, r"'bee' has 1 picture, .*or drop data.folds"),
        (
            listed({"ant": 9, "bee": 9}, 3),
            {"folds": 4, "fold": 1},
            r"are of 3 groups, which stay whole; give at most 3",
        ),
        (listed({"ant": 9, "bee": 1}, 3), {"folds": 3, "fold": 1}, r"all groups of class 'bee' are in one fold"),
        (listed({"ant": 9}), {"folds": 3, "fold": 1, "split_by": "group"}, r"split_by group needs groups"),
        (listed({"ant": 9}), {"folds": 3}, r"data\.fold: which of the 3 folds"),
        ([], {"fold": 1}, r"data\.fold is one of data\.folds: give that"),
        ([], {"folds": 3, "fold": 4}, r"data\.fold is 4: it must be at least 1 and at most 3"),
        ([], {"folds": 1}, r"data\.folds is 1: it must be at least 2"),
    ],
)
def test_folds_that_cannot_be_are_refused_in_one_line(pictures, rule, message):
    with pytest.raises(UserError, match=message):
        draw_fold(pictures, SplitRule(**rule), seed=1)


def test_the_command_trains_each_fold_and_shows_all_pictures_by_nets_that_do_not_know_them(tiny, capsys, caplog):
    command = [*tiny, "--data.folds=2", "--trainer.max_epochs=1"]
    assert main(command) == 0
    out = capsys.readouterr().out
    runs = [RunFolder(Path(f"runs/base/version_{number}")) for number in range(2)]
    known = [{p.path for p in read_splits(run.splits) if p.split == "train"} for run in runs]
    with runs[0].folds_predictions.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["path"] for row in rows} == known[0] | known[1] and len(rows) == 60
    assert not any(row["path"] in known[int(row["fold"]) - 1] for row in rows)
    right = sum(row["label"] == row["prediction"] for row in rows)
    # those of the last epoch's nets
    for run, number in zip(runs, "12", strict=True):
        assert Path(read_metrics(run)["checkpoint"]["path"]) == run.checkpoint("last.ckpt")
        net = Checkpoint.load(run.checkpoint("last.ckpt")).net()
        data = ImageDataModule(tiny_root(tiny), splits=str(run.splits), image_size=16)
        data.setup("test")
        batch = next(iter(data.val_dataloader()))
        said = [data.classes[place] for place in net(batch.images).argmax(1)]
        of_path = {row["path"]: row["prediction"] for row in rows if row["fold"] == number}
        assert said == [of_path[p.path] for p in data.pictures if p.split == "val"]
    pooled = read_pooled(runs[1])
    assert pooled == read_pooled(runs[0]) and (pooled.right, pooled.pictures) == (right, 60)
    assert f"{right} of 60 pictures are right" in " ".join(out.split())
    assert [share.images for share in pooled.folds] == [30, 30]
    assert "all folds" in dict(facts(read_run(runs[1])))
    # a fold that has finished is kept
    shutil.rmtree(runs[1].path)
    caplog.clear()
    assert main(command) == 0
    assert [line for line in caplog.messages if line.startswith("fold ")] == [
        "fold 1 of 2: runs/base/version_0 has finished, and is kept",
        "fold 2 of 2:",
    ]
    write_picture(Path(tiny_root(tiny)) / "Train" / "ant" / "later.png", "ant", 77)
    shutil.rmtree(runs[1].path)
    assert main(command) == 2
    assert "are not the folds of the same pictures: the data have changed" in capsys.readouterr().err
    assert main([*command, f"--data.splits={runs[0].splits}"]) == 2
    assert "data.splits says already which picture is in which split" in capsys.readouterr().err


def tiny_root(tiny):
    return next(word.partition("=")[2] for word in tiny if word.startswith("--data.root="))
