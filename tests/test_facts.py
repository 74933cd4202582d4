"""What the report and the model card say was trained, of runs that are trained here."""

import torch

from gfnet_pl.cli import main
from gfnet_pl.run.facts import facts
from gfnet_pl.run.folder import newest_run
from gfnet_pl.run.run import read_run


def facts_of_newest():
    assert main(["test"]) == 0
    return dict(facts(read_run(newest_run())))


def test_the_parameters_are_what_the_optimizer_moved_and_the_stem_is_named(tiny):
    assert main([*tiny, "--model.stem=conv", "--trainer.max_epochs=1", "--model.warmup_epochs=0"]) == 0
    net = facts_of_newest()["net"]
    state = torch.load(newest_run().checkpoint("last.ckpt"), weights_only=True)["optimizer_states"][0]["state"]
    moved = sum(each["exp_avg"].numel() for each in state.values())
    assert f"GFNet, {moved:,} parameters: " in net  # without the statistics of batch normalisation
    assert "patches of 4 pixels (stem conv)" in net


def test_splits_are_drawn_once_and_then_as_they_were(tiny):
    assert main([*tiny, "--trainer.max_epochs=1", "--model.warmup_epochs=0"]) == 0
    assert "; drawn by image; " in facts_of_newest()["splits"]
    assert main(["fit", "--ckpt_path=last.ckpt", "--trainer.max_epochs=2"]) == 0
    assert "; as in splits.csv; " in facts_of_newest()["splits"]
