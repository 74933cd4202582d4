"""Polishing really polishes, and resuming really resumes: read at the first step of both, through the command line."""

import csv
from pathlib import Path

import pytest
import torch
import yaml
from conftest import QUIET, write_picture

from gfnet_pl.cli import main
from gfnet_pl.run.checkpoint import Checkpoint
from gfnet_pl.training.callbacks import Throughput
from gfnet_pl.training.dashboard import FirstBatch

HEAD = {"net.head.weight", "net.head.bias"}
HELD = {"net.pos_embed", "net.patch_embed.proj.weight"}  # of what freezing one block keeps; block 1 is not among it
HELD |= {f"net.blocks.{block}.{name}" for block in (0, 1) for name in ("filter.complex_weight", "mlp.fc1.weight")}


@pytest.fixture
def base(tiny):
    assert main(tiny) == 0
    return tiny


@pytest.fixture
def first_step(monkeypatch):
    """What the first training step of the next run finds."""
    seen = {}

    def look(self, trainer, pl_module, *_):
        if not seen:
            optimizer = trainer.optimizers[0]
            seen.update(
                lr=optimizer.param_groups[0]["lr"],
                weight_decay=optimizer.param_groups[0]["weight_decay"],
                epoch=trainer.current_epoch,
                step=trainer.global_step,
                optimizer_steps=[int(state["step"]) for state in optimizer.state.values()],
                weights={name: value.clone() for name, value in pl_module.state_dict().items()},
                data=trainer.datamodule,
                clip=trainer.gradient_clip_val,
            )

    monkeypatch.setattr(Throughput, "on_train_batch_start", look, raising=False)
    return seen


def load(path):
    return torch.load(path, weights_only=True)


def polish(*options):
    return main(["fit", "--config", "polish.yaml", "--ckpt_path", "last.ckpt", *QUIET, *options])


def test_polishing_starts_again_from_the_weights(base, first_step, caplog):
    assert polish() == 0
    assert first_step["lr"] == pytest.approx(1e-4)
    assert first_step["weight_decay"] == 1e-5
    assert first_step["epoch"] == first_step["step"] == 0
    assert first_step["optimizer_steps"] == []
    assert first_step["clip"] == 1.0
    for name, value in load("runs/base/version_0/checkpoints/last.ckpt")["state_dict"].items():
        assert torch.equal(first_step["weights"][name], value), name
    (line,) = [line for line in caplog.messages if "warm start" in line]
    assert "runs/base/version_0/checkpoints/last.ckpt (stage base, 2 epochs)" in line
    assert "splits.csv" in line
    done = load("runs/polish/version_0/checkpoints/last.ckpt")
    assert done["epoch"] == 9
    assert done["hyper_parameters"]["lr"] == 1e-4


def test_polishing_takes_shape_batch_size_and_splits_of_its_run(base, first_step, pictures):
    write_picture(pictures / "Train" / "ant" / "later.png", "ant", 77)
    assert polish("--trainer.max_epochs=1") == 0
    splits = [Path(f"runs/{stage}/version_0/splits.csv").read_text() for stage in ("base", "polish")]
    assert splits[0] == splits[1]
    assert "later.png" not in splits[1]
    assert first_step["data"].batch_size == 16
    rows = list(csv.DictReader(splits[0].splitlines()))
    held_out = {row["path"] for row in rows if row["split"] in ("val", "holdout", "test", "unseen")}
    trained = {picture.path for picture in first_step["data"].pictures if picture.split == "train"}
    assert len(held_out) == 6 + 6 + 12 + 15
    assert not trained & held_out


def test_the_same_stage_resumes_exactly(base, first_step, caplog):
    extended = [*base, "--trainer.max_epochs=3", "--ckpt_path=last.ckpt"]
    before = load("runs/base/version_0/checkpoints/last.ckpt")
    assert main(extended) == 0
    assert first_step["epoch"] == 2
    assert first_step["step"] == before["global_step"] == 6
    assert set(first_step["optimizer_steps"]) == {6}
    (group,) = before["optimizer_states"][0]["param_groups"]
    assert first_step["lr"] == group["lr"]
    assert first_step["weight_decay"] == group["weight_decay"] == 1e-6
    for name, value in before["state_dict"].items():
        assert torch.equal(first_step["weights"][name], value), name
    assert any("resuming" in line and "at epoch 2" in line for line in caplog.messages)
    assert not Path("runs/base/version_1").exists()


@pytest.mark.parametrize("rho", [0.0, 0.05])
def test_a_run_that_was_cut_and_resumed_is_bitwise_the_uninterrupted_one(tiny, monkeypatch, rho):
    options = [
        *tiny,
        "--trainer.max_epochs=4",
        "--model.dropout=0.3",
        "--model.drop_path=0.2",
        f"--model.sam_rho={rho}",
    ]
    assert main([*options, "--stage=whole"]) == 0

    def cut(self, trainer, pl_module):
        if trainer.current_epoch == 2:
            raise KeyError("cut")

    with monkeypatch.context() as context:
        context.setattr(FirstBatch, "on_train_epoch_start", cut, raising=False)
        assert main([*options, "--stage=cut"]) == 1
    torch.rand(7)  # whatever else has used the generator since
    assert main([*options, "--stage=cut", "--ckpt_path=last.ckpt"]) == 0
    whole, resumed = (load(f"runs/{stage}/version_0/checkpoints/last.ckpt") for stage in ("whole", "cut"))
    assert resumed["global_step"] == whole["global_step"]
    for name, value in whole["state_dict"].items():
        assert torch.equal(resumed["state_dict"][name], value), name


def test_the_mean_time_settings_of_a_resumed_run_are_its_own(base, first_step):
    assert main(["fit", *QUIET, "--ckpt_path=last.ckpt", "--trainer.max_epochs=3"]) == 0
    assert first_step["data"].batch_size == 16
    assert first_step["epoch"] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model.depth=3"], "model.depth is 3 in this command but 2 in"),
        (["--data.holdout_per_class=5"], "data.holdout_per_class is 5 in this command, but the splits come from"),
        (["--data.split_by=group"], "data.split_by is group in this command, but the splits come from"),
        (["--data.group_by=blocks"], "data.group_by is blocks in this command, but the splits come from"),
        (
            ["--stage=base", "--trainer.max_epochs=9", "--data.batch_size=8"],
            "data.batch_size is 8 in this command but 16",
        ),
        (["--stage=base"], "has finished its 2 epochs"),
        (["--stage=base", "--trainer.max_epochs=9", "--model.lr=0.5"], "model.lr is 0.5 in this command but 0.001 in"),
    ],
)
def test_contradictions_are_refused_in_a_line(base, capsys, options, message):
    command = ["fit", "--ckpt_path=last.ckpt", "--trainer.max_epochs=2", *QUIET, "--stage=polish", *options]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert message in error.splitlines()[-1]


def test_regularisation_may_change_in_polishing(base, first_step):
    assert polish("--model.dropout=0.5", "--trainer.max_epochs=1") == 0
    assert load("runs/polish/version_0/checkpoints/last.ckpt")["hyper_parameters"]["dropout"] == 0.5


def test_the_views_of_a_net_are_its_own_until_it_is_polished(base, capsys):
    assert main(["test", *QUIET, "--model.shifted_views=true"]) == 2
    assert "model.shifted_views is True in this command but False in" in capsys.readouterr().err
    assert polish("--model.shifted_views=true", "--trainer.max_epochs=1") == 0
    assert load("runs/polish/version_0/checkpoints/last.ckpt")["hyper_parameters"]["shifted_views"] is True


def test_data_of_other_classes_give_the_body_a_new_head_and_frozen_blocks_stay(
    base, first_step, tmp_path, caplog, capsys
):
    other = tmp_path / "other"
    for number in range(12):
        write_picture(other / "ant" / f"{number}.png", "ant", 8000 + number)
        write_picture(other / "dog" / f"{number}.png", "bee", 9000 + number)
    frozen = ["--model.freeze=1", "--model.weight_decay=0.1", "--model.dropout=0.5"]
    assert polish(f"--data.root={other}", *frozen, "--trainer.max_epochs=1") == 0
    told = "the data have 2 classes, the checkpoint 3; 1 of them keep their rows of the head (ant)"
    assert told in caplog.messages
    assert main(["fit", *QUIET, "--ckpt_path=runs/base/version_0/checkpoints/last.ckpt", f"--data.root={other}"]) == 2
    assert (
        "so that its run would be resumed; for a new run from its weights give another --stage"
        in capsys.readouterr().err
    )
    given, start = load("runs/base/version_0/checkpoints/last.ckpt")["state_dict"], first_step["weights"]
    assert torch.equal(start["net.head.weight"][0], given["net.head.weight"][1])  # of Cat, ant and bee
    assert torch.equal(start["net.head.bias"], torch.stack([given["net.head.bias"][1], torch.tensor(0.0)]))
    assert all(torch.equal(start[name], given[name]) for name in given.keys() - {"net.mean", "net.std"} - HEAD)
    assert start["net.mean"] != given["net.mean"]  # that of the other pictures
    # the base's settings of splits are not taken, such as two pictures per class for holdout
    splits = Path("runs/polish/version_0/splits.csv").read_text()
    assert splits.count(",train,") == 22 and splits.count(",val,") == 2
    # its own config resumes it
    again = ["fit", "--config", "runs/polish/version_0/config.yaml", "--ckpt_path", "last.ckpt", *QUIET]
    assert main([*again, "--trainer.max_epochs=2"]) == 0
    done = load("runs/polish/version_0/checkpoints/last.ckpt")
    assert done["hyper_parameters"]["classes"] == ["ant", "dog"]
    stays = {name for name in HELD if torch.equal(done["state_dict"][name], given[name])}
    assert stays == {name for name in HELD if "blocks.1" not in name}
    assert main(["test", *QUIET]) == 0


def test_without_a_config_a_transfer_trains_as_suits_the_pictures_and_keeps_the_net(base, tmp_path, capsys):
    other = tmp_path / "other"
    for number in range(12):
        for label in ("dog", "eel"):
            write_picture(other / label / f"{number}.png", "bee" if label == "dog" else "ant", 100 * number)
    with pytest.raises(SystemExit):
        main(["fit", str(other), "--ckpt_path=last.ckpt", "--stage=new", "--model.freeze=1", "--print_config"])
    settings = yaml.safe_load(capsys.readouterr().out)
    assert settings["data"]["epoch_size"] >= 3200 and settings["data"]["batch_size"] == 32  # and not the base's 16
    assert settings["trainer"]["max_epochs"] * settings["data"]["epoch_size"] // 32 >= 2000
    model = settings["model"]
    assert (model["image_size"], model["patch_size"], model["dim"], model["depth"]) == (16, 4, 16, 2)
    assert (model["lr"], model["freeze"], model["classes"], settings["stage"]) == (1e-3, 1, None, "new")


def test_the_classes_of_the_same_data_may_be_chosen_again(base, caplog):
    assert polish("--data.classes=[bee, ant]", "--data.val_fraction=0.4", "--trainer.max_epochs=1") == 0
    assert any("2 of them keep their rows of the head (bee, ant)" in line for line in caplog.messages)
    assert any("go to training, because the net was trained on them before" in line for line in caplog.messages)
    assert load("runs/polish/version_0/checkpoints/last.ckpt")["hyper_parameters"]["classes"] == ["bee", "ant"]


def test_weights_that_nobody_trained_are_not_frozen(tiny, capsys):
    assert main([*tiny, "--model.freeze=1"]) == 2
    assert "model.freeze keeps weights that were learned before: give --ckpt_path" in capsys.readouterr().err


def test_new_data_of_the_same_classes_draws_its_own_splits(base, first_step, tmp_path):
    other = tmp_path / "other"
    for number, label in enumerate(("ant", "bee", "Cat")):
        for index in range(12):
            write_picture(other / label / f"{index}.png", label, 8000 + 100 * number + index)
    assert polish(f"--data.root={other}", "--data.holdout_per_class=3", "--trainer.max_epochs=1") == 0
    assert first_step["data"].splits_file is None


def test_a_checkpoint_without_its_run_cannot_say_what_was_held_out(base, capsys, tmp_path):
    lone = Path("runs/base/version_0/checkpoints/last.ckpt").rename(tmp_path / "lone.ckpt")
    assert main(["fit", "--config", "polish.yaml", f"--ckpt_path={lone}", *QUIET]) == 2
    assert "give --data.splits FILE" in capsys.readouterr().err
    options = ["--data.splits=runs/base/version_0/splits.csv", "--trainer.max_epochs=1"]
    assert main(["fit", "--config", "polish.yaml", f"--ckpt_path={lone}", *QUIET, *options]) == 0


@pytest.mark.parametrize("content", ["text", "other", "cut"])
def test_a_file_that_is_no_checkpoint_of_ours_is_refused(base, capsys, content):
    path = Path("runs/base/version_0/checkpoints/best.ckpt")
    if content == "text":
        path.write_text("hello")
    elif content == "other":
        torch.save({"state_dict": {"w": torch.zeros(1)}, "epoch": 1}, path)
    else:
        path.write_bytes(path.read_bytes()[:-2000])
    assert main(["test", f"--ckpt_path={path}", *QUIET]) == 2
    assert "checkpoint" in capsys.readouterr().err.splitlines()[-1]


def test_the_record_holds_the_whole_config(base):
    checkpoint = Checkpoint.load(Path("runs/base/version_0/checkpoints/best.ckpt"))
    assert checkpoint.stage == "base"
    assert checkpoint.settings["model.dim"] == 16
    assert checkpoint.settings["trainer.max_epochs"] == 2
    assert checkpoint.settings["model.classes"] == ["Cat", "ant", "bee"]


def test_whether_to_compile_is_not_the_checkpoints_to_say(base):
    assert main(["validate", *QUIET, "--model.compile=true"]) == 0
