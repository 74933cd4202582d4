"""benchmarks/recipes.py, which compares variants of a recipe."""

import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gfnet_pl.data.manifest import Picture
from gfnet_pl.data.splits import read_splits

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
NET = ["image_size=16", "patch_size=4", "dim=16", "depth=2", "warmup_epochs=1"]


@pytest.fixture
def main(monkeypatch, capsys, pictures):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import recipes

    def run(*options):
        start = ["recipes.py", "base", "quick", "--data", f"root={pictures}", "batch_size=8", "holdout_per_class=0"]
        monkeypatch.setattr(sys, "argv", [*start, "--model", *NET, *options])
        recipes.main()
        return capsys.readouterr().out

    return run


def test_errors_are_known_where_wrong_answers_are_the_less_sure_ones(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    from recipes import errors_known

    logits = torch.tensor([[9.0, 0, 0], [0, 5, 1], [3, 2, 0], [1, 0, 7.5]])  # gaps 9, 4, 1, 6.5
    assert errors_known(logits, torch.tensor([1.0, 1, 0, 1])) == 100
    assert errors_known(logits, torch.tensor([0.0, 1, 1, 1])) == 0
    assert errors_known(logits, torch.tensor([1.0, 0, 1, 0])) == 50


def test_a_hand_before_another_wall_stays_and_the_wall_does_not(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    from recipes import Backgrounds, hand_mask

    from gfnet_pl.hand_signs.scene import render

    paths = [f"Train/{label}/signer00{number}_clip1_frame00.png" for number in (1, 2) for label in ("A", "Nothing")]
    pictures = [render(label, number=number, clip=1, frame=0) for number in (1, 2) for label in ("A", "Nothing")]
    assert not hand_mask(paths[1]).any()
    assert 0.05 < (hand_mask(paths[0]) == 4).mean() < 0.5
    images = torch.from_numpy(np.stack(pictures))[:, None]
    data = SimpleNamespace(pictures=[Picture(path, path.split("/")[1], "train") for path in paths])
    exchange = Backgrounds(data, images, 1.0)
    changed = [exchange(images[:1], torch.tensor([0])) for _ in range(8)]  # one of two walls, its own or another
    hand, wall = exchange.hand[0] == 1, exchange.hand[0] == 0
    assert all(torch.equal(each[0][hand], images[0][hand]) for each in changed)
    assert {next(n for n in (1, 3) if torch.equal(each[0][wall], images[n][wall])) for each in changed} == {1, 3}


def test_every_variant_trains_and_each_seed_is_its_own(main):
    plain = main("--epochs", "2", "--seeds", "1", "2", "--score", "val", "unseen")
    assert "variant seed 1: " in plain and "variant seed 2: " in plain and "12 steps" in plain
    assert "variant, best, 2 seeds: val " in plain and "unseen worst" in plain
    once = ["--epochs", "2", "--seeds", "1", "--score", "val"]
    losses = {plain.split("loss ")[1].split(",")[0]}
    for options in (
        ["--smoothing", "0.1"],
        ["--constant", "0.5"],
        ["--perspective", "0.2", "--amplitude", "0.5"],
        ["--augment", "flip=0.5", "erasing=0.5"],
        ["--model", *NET, "dim=[8, 16]", "depth=[1, 1]", "--stem", "8/2", "8", "8/2"],
        [*("--model", *NET), "sam_rho=0.05"],
    ):
        said = main(*once, *options)
        assert "variant, best, 1 seeds: val " in said
        assert ("variant, average, 1 seeds" in said) == ("--constant" in options)
        losses.add(said.split("loss ")[1].split(",")[0])
    assert len(losses) >= 6  # the rate alone, in two epochs, may not be seen in three digits
    moving = main(*once, "--average", "1e-9")  # it forgets all but the last weights
    of = {line.split(", ")[1]: line.partition(" seeds: ")[2] for line in moving.splitlines() if " seeds: " in line}
    assert of["average"] == of["last"] != ""
    assert "loss " + moving.split("loss ")[1].split(",")[0] in plain  # and moves nothing


def test_a_random_subset_is_as_large_as_that_of_each_class_and_leaves_the_rest_as_it_is(
    monkeypatch, pictures, tmp_path
):
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.chdir(tmp_path)
    import random_subset

    monkeypatch.setattr(sys, "argv", ["random_subset.py", str(pictures), "--per-class", "2"])
    random_subset.main()
    by_class, at_random = (
        {(each.path, each.split) for each in read_splits(Path(f"{pictures.name}-{name}.csv"))}
        for name in ("by-class", "at-random")
    )
    counts = [Counter(split for _, split in rows) for rows in (by_class, at_random)]
    assert counts[0] == counts[1] and counts[0]["train"] == 6
    moved = by_class ^ at_random
    assert moved and {split for _, split in moved} == {"train", "unused"}
