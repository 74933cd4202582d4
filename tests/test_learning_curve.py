"""`gfnet curve`: what more pictures bring."""

import csv
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CLASSES, QUIET

from gfnet_pl.cli import main
from gfnet_pl.data.manifest import Picture
from gfnet_pl.data.splits import thinned
from gfnet_pl.evaluation.intervals import paired
from gfnet_pl.run.folder import newest_run
from gfnet_pl.run.learning_curve import LearningCurve, read_learning_curve
from gfnet_pl.run.record import end_session


def of_people(count, per_person=6):
    return [
        Picture(f"{label}/{who}-{number}.png", label, "train", str(who))
        for label in CLASSES
        for who in range(count)
        for number in range(per_person)
    ] + [Picture("ant/v.png", "ant", "val", "0")]


@pytest.mark.parametrize("by_group", [False, True])
def test_smaller_shares_are_within_larger_ones_class_by_class(by_group):
    pictures = of_people(8)
    before = set()
    for share in (0.1, 0.25, 0.5, 1.0):
        part = thinned(pictures, share, seed=0, by_group=by_group)
        assert [p._replace(split="") for p in part] == [p._replace(split="") for p in pictures]
        assert part[-1].split == "val"
        kept = {p.path for p in part if p.split == "train"}
        assert before <= kept
        before = kept
        people = {label: {p.group for p in part if p.split == "train" and p.label == label} for label in CLASSES}
        if by_group:  # the same ones in every class, and all their pictures
            assert people["ant"] == people["bee"] == people["Cat"]
            assert len(kept) == 3 * 6 * max(1, round(8 * share))
        else:
            count = Counter(p.label for p in part if p.split == "train")
            assert set(count.values()) == {round(48 * share)}
    assert len(before) == 144


def test_the_interval_of_a_difference_is_newcombes():
    one, other = np.repeat([True, True, False], (36, 12, 2)), np.repeat([True, False, True], (36, 12, 2))
    assert np.round(paired(one, other), 4).tolist() == [0.0569, 0.3404]  # his table II
    assert np.round(paired(other, one), 4).tolist() == [-0.3404, -0.0569]


def test_the_interval_of_a_difference_holds_for_other_people():
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(8), 40)
    inside = {True: 0, False: 0}
    for _ in range(300):
        chance = rng.random(320)
        one, other = chance < 0.8 + rng.normal(0.05, 0.08, 8)[people], chance < 0.8
        for grouped in inside:
            low, high = paired(one, other, [str(who) for who in people] if grouped else None)
            inside[grouped] += low <= 0.05 <= high
    assert inside[True] > 270
    assert inside[False] < 230


def test_what_twice_as_many_bring_is_said_as_far_as_it_is_known():
    curve = LearningCurve("", "people", [], "unseen", "new people", True, 90, (0.041, 0.01, 0.072))
    assert (
        curve.sentence == "twice as many people brought 4.1 points on unseen (95 %: 1.0 to 7.2): more people would help"
    )
    for gain, helps, words in (
        ((0.002, -0.004, 0.008), False, "more people no longer pay"),
        ((-0.03, -0.05, -0.01), False, "cost 3.0 points"),
        ((0.03, -0.01, 0.07), None, "from 90 pictures it cannot be told whether more people would help"),
        ((0.004, 0.001, 0.012), None, "cannot be told"),
    ):
        assert replace(curve, gain=gain).helps is helps
        assert words in replace(curve, gain=gain).sentence


def trained_on(splits):
    with open(splits, newline="") as file:
        return {row["path"] for row in csv.DictReader(file) if row["split"] == "train"}


def test_the_net_is_trained_again_on_fewer_people_with_as_many_steps(tiny, capsys):
    group = r"--data.group_by=((?:Unseen/\w+/)?\d+)\.png"  # twenty people in training, fifteen others in unseen
    assert main([*tiny, group, "--data.split_by=group"]) == 0
    assert main(["fit", *QUIET, "--ckpt_path=best.ckpt", "--stage=polish", "--trainer.max_epochs=1"]) == 0
    capsys.readouterr()
    assert main(["curve"]) == 2  # its net began with one that has seen all pictures
    assert "gfnet curve runs/base/version_0" in capsys.readouterr().err
    run = Path("runs/base/version_0")
    assert main(["curve", str(run)]) == 0
    shown = capsys.readouterr()
    assert "next: gfnet test" not in shown.err
    curve = json.loads((run / "curve.json").read_text())
    assert curve["set"] == "unseen"
    assert curve["thinned"] == "people"
    steps = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    before = set()
    for point in curve["points"]:
        folder = Path("runs") / point["run"]
        paths = trained_on(folder / "splits.csv")
        people = {Path(path).stem for path in paths}
        assert before < paths
        assert point["pictures"] == len(paths) == 3 * len(people) == 3 * point["groups"]
        assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == steps
        metrics = json.loads((folder / "metrics.json").read_text())
        assert point["sets"]["unseen"][0] == metrics["sets"]["unseen"]["accuracy"]["share"]
        before = paths
    assert before == trained_on(run / "splits.csv")
    points = curve["points"]
    assert curve["gain"][0] == pytest.approx(points[2]["sets"]["unseen"][0] - points[1]["sets"]["unseen"][0])
    assert "twice as many people" in " ".join(shown.out.split())
    assert newest_run().name == "polish/version_0"  # what gfnet test and gfnet report take
    (run / "curve.json").write_text("{")
    assert main(["report", str(run)]) == 2
    assert "curve.json cannot be read" in capsys.readouterr().err


def test_one_picture_per_class_has_no_half_and_several_devices_no_curve(tiny, capsys):
    assert main([*tiny, "--data.train_per_class=1"]) == 0
    assert main(["curve"]) == 2
    assert "3 training pictures are too few" in capsys.readouterr().err
    assert read_learning_curve(newest_run()) is None
    end_session(newest_run(), {"devices": "4 x cuda"})
    assert main(["curve"]) == 2
    assert "was trained on 4 devices" in capsys.readouterr().err
