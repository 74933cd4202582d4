"""`gfnet fit DIR`: the settings that are chosen for a folder."""

from pathlib import Path

import pytest
import torch
import yaml
from conftest import QUIET, TINY_NET
from PIL import Image

from gfnet_pl import newest_run, read_run
from gfnet_pl.cli import main
from gfnet_pl.data.survey import Survey, survey
from gfnet_pl.model.pretrained import small_file
from gfnet_pl.run.facts import facts
from gfnet_pl.training import plan
from gfnet_pl.training.plan import make_plan


def found(counts=(120, 120, 120), **other):
    counts = {f"class{number}": count for number, count in enumerate(counts)}
    facts = {"provided": frozenset(), "side": 64, "shapes": (1.0, 1.0), "colour": False, "groups": 0}
    return Survey(counts, **facts | other)


def planned(survey, **said):
    return make_plan(survey, {"data.root": "there", **said}).settings


def test_few_pictures_are_drawn_often_enough_for_2000_steps():
    few = planned(found())
    assert few["trainer.max_epochs"] * few["data.epoch_size"] // few["data.batch_size"] >= 2000
    many = planned(found((1000,) * 28))
    assert "data.epoch_size" not in many
    assert many["trainer.max_epochs"] == 20
    huge = planned(found((10_000,) * 30), **{"trainer.accelerator": "cpu"})
    assert huge["trainer.max_epochs"] == 3
    assert planned(found((2, 2)))["data.epoch_size"] <= 4000


def test_on_an_nvidia_gpu_many_pictures_are_kept_there_if_they_fit_and_the_net_is_compiled_if_that_can_be(monkeypatch):
    many = found((10_000,) * 30, side=96)  # 2.8 GB
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (80e9, 80e9))
    monkeypatch.setattr(plan, "find_spec", lambda name: name)
    monkeypatch.setattr(plan.shutil, "which", lambda name: name)
    chosen = make_plan(many, {"data.root": "there"})
    assert chosen.settings["model.dim"] == 256
    assert chosen.settings["data.device_cache"] is True
    assert chosen.settings["model.compile"] is True
    assert "compiled" in chosen.reasons[2]
    assert planned(many, **{"model.compile": False})["model.compile"] is False
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (8e9, 80e9))
    monkeypatch.setattr(plan.shutil, "which", lambda name: None)
    assert not {"data.device_cache", "model.compile"} & planned(many).keys()
    assert not {"data.device_cache", "model.compile"} & planned(many, **{"trainer.accelerator": "cpu"}).keys()
    assert not {"data.device_cache", "model.compile"} & planned(found()).keys()


@pytest.mark.parametrize(
    ("side", "image", "tokens"), [(8, 32, 8), (28, 32, 8), (40, 48, 12), (64, 64, 16), (96, 96, 12), (300, 128, 16)]
)
def test_images_are_about_as_large_as_the_pictures(side, image, tokens):
    chosen = planned(found(side=side))
    assert chosen["model.image_size"] == image
    assert image // chosen["model.patch_size"] == tokens


@pytest.mark.parametrize("size", [96, 128, 224, 50, (96, 128), [64, 48], 97])
def test_patches_fit_an_image_size_of_the_command_line(size):
    chosen = planned(found(), **{"model.image_size": size})
    assert chosen["model.image_size"] == size
    sides = [size] if isinstance(size, int) else size
    assert all(side % chosen["model.patch_size"] == 0 for side in sides)
    assert (chosen["model.stem"] == "conv") == (size not in (50, 97))  # their patches are no power of two, or 1


def test_a_small_net_starts_from_the_weights_of_the_package_where_they_fit():
    usual = planned(found())
    assert usual["model.pretrained"] == "small"
    assert usual["model.lr"] < planned(found(), **{"model.pretrained": None})["model.lr"]
    assert planned(found(), **{"model.lr": 0.01})["model.lr"] == 0.01
    assert planned(found(), **{"model.pretrained": "gfnet-xs.pth"})["model.dim"] == 256  # of the authors
    for key, value in (("model.dim", 32), ("model.stem", "patch"), ("model.patch_size", 2)):
        assert not planned(found(), **{key: value}).get("model.pretrained")


def test_pictures_become_as_large_as_all_stages_of_a_net_need():
    four = {"model.dim": (8, 16, 32, 64), "model.depth": (1, 1, 1, 1)}
    assert planned(found(side=48))["model.image_size"] == 48
    assert planned(found(side=48), **four)["model.image_size"] == 64


def test_steps_are_sharpness_aware_where_few_pictures_are_drawn_often():
    assert planned(found())["model.sam_rho"] > 0
    assert "sharpness-aware" in make_plan(found(), {"data.root": "there"}).reasons[2]
    assert planned(found(), **{"model.sam_rho": 0.0})["model.sam_rho"] == 0
    assert "model.sam_rho" not in planned(found((1000,) * 28))
    assert "model.sam_rho" not in planned(found(), **{"trainer.accumulate_grad_batches": 2})
    assert "model.sam_rho" not in planned(found(), **{"trainer.precision": "16-mixed"})
    assert planned(found(), **{"trainer.precision": "bf16-mixed"})["model.sam_rho"] > 0
    assert "model.sam_rho" not in planned(found(), **{"model.pretrained": "gfnet-xs.pth"})
    assert "model.sam_rho" not in planned(found(), **{"model.dim": 16})  # the radius was chosen for another size


def test_what_the_data_are_decides():
    assert planned(found((100, 5)))["data.balanced"] is True
    assert "data.balanced" not in planned(found((100, 50)))
    assert planned(found(colour=True))["data.colour"] is True
    assert planned(found(shapes=(0.7, 1.4)))["data.fit"] == "letterbox"
    assert "data.fit" not in planned(found(shapes=(1.5, 1.5)))  # all are of one shape: nothing is lost
    assert planned(found(groups=8))["data.split_by"] == "group"
    assert planned(found(groups=40))["data.unseen_groups"] == 4
    folds = make_plan(found(), {"data.root": "there", "data.folds": 4})
    assert folds.settings["data.folds"] == 4 and "data.holdout_per_class" not in folds.settings
    assert folds.settings["data.epoch_size"] >= 270 and "in each of 4 runs another of 4 parts" in folds.reasons[4]
    assert "data.unseen_groups" not in planned(found(groups=40), **{"data.group_by": "blocks"})
    assert "data.split_by" not in planned(found(groups=40, provided=frozenset({"unseen"})))
    assert planned(found((300, 300)))["data.holdout_per_class"] > 0
    assert planned(found((300, 300), provided=frozenset({"test"})))["data.holdout_per_class"] == 0


def test_few_pictures_are_told_of_another_tool():
    few, enough = (make_plan(found(counts), {"data.root": "there"}).reasons for counts in ((199,) * 3, (200,) * 3))
    assert len(enough) == 5
    assert few[5].startswith("so few pictures: an SVM")


def test_a_folder_is_looked_at(tmp_path):
    for label, count, mode in (("a", 3, "L"), ("b", 2, "RGB")):
        for number in range(count):
            (tmp_path / label).mkdir(exist_ok=True)
            Image.new(mode, (30, 20)).save(tmp_path / label / f"{number}.png")
    assert survey(str(tmp_path)) == Survey(
        {"a": 3, "b": 2}, frozenset(), side=20, shapes=(1.5, 1.5), colour=False, groups=0
    )


def test_the_command_line_wins_and_the_run_keeps_the_plan_as_a_config(pictures, workplace, caplog):
    options = [*TINY_NET, *QUIET, "--data.batch_size=16", "--trainer.max_epochs=1", "--data.epoch_size=32"]
    assert main(["fit", str(pictures), *options]) == 0
    lines = caplog.messages
    assert any("60 training pictures in 3 classes (20 each), 16 pixels, grey" in line for line in lines)
    assert any("16 channels, 2 blocks; pictures become 16 x 16, in patches of 4" in line for line in lines)
    plan = Path("runs/auto/version_0/plan.yaml")
    assert f"these settings, to edit and use as a --config: {plan}" in lines
    settings = yaml.safe_load(plan.read_text())
    assert settings["data"]["root"] == str(pictures)
    assert settings["model"]["dim"] == 16
    assert main(["fit", "--config", str(plan), "--stage=again", *QUIET]) == 0
    first, again = (
        yaml.safe_load(Path(f"runs/{stage}/version_0/config.yaml").read_text()) for stage in ("auto", "again")
    )
    assert first | {"stage": "again"} == again
    assert not Path("runs/again/version_0/plan.yaml").exists()
    assert main(["test", *QUIET]) == 0  # the net with its convolutions is built again from its checkpoint


def test_a_folder_is_trained_on_from_the_weights_of_the_package_and_the_run_says_so(pictures, workplace, caplog):
    assert (
        main(["fit", str(pictures), *QUIET, "--trainer.max_epochs=1", "--data.epoch_size=32", "--model.lr=1e-30"]) == 0
    )
    assert any("starts from weights of drawn pictures" in line for line in caplog.messages)
    weights = torch.load("runs/auto/version_0/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    mlp = "blocks.3.mlp.fc2.weight"
    kept = torch.load(small_file(4), weights_only=True)[mlp]
    torch.testing.assert_close(weights[f"net.{mlp}"], kept.float())
    assert main(["test", *QUIET]) == 0
    assert "come with gfnet_pl" in dict(facts(read_run(newest_run())))["started from"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fit", "pictures", "others"], "takes one folder"),
        (["fit", "pictures", "--data.root=others"], "takes one folder"),
        (["fit", "base.yaml"], "write --config base.yaml"),
        (["fit", "nowhere"], "nowhere is not a folder"),
    ],
)
def test_a_folder_that_cannot_be_meant_is_one_line(words, message, workplace, capsys):
    assert main(words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
