"""Which setting wins, and what a name, a path and a printed config mean."""

from pathlib import Path

import pytest
import torch
import yaml
from conftest import QUIET

from gfnet_pl.cli import main


def printed(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        main(["fit", *words, "--print_config"])
    assert stop.value.code == 0
    return yaml.safe_load(capsys.readouterr().out)


def test_flags_win_over_configs_wherever_they_stand(workplace, capsys):
    Path("one.yaml").write_text("model:\n  lr: 0.5\n  dim: 8\ndata:\n  augment:\n    scale: 0.1\n    shift: 0.2\n")
    Path("two.yaml").write_text("model:\n  dim: 16\n")
    Path("net.yaml").write_text("depth: 3\nlr: 0.25\n")
    flags = ["--data.augment.scale=0.3", "--model.lr", "1", "--model=net.yaml"]
    shown = printed(capsys, *flags, "--config=one.yaml", "-c", "two.yaml")
    assert shown["model"]["lr"] == 1
    assert shown["model"]["dim"] == 16  # the later config
    assert shown["model"]["depth"] == 3
    assert (shown["data"]["augment"]["scale"], shown["data"]["augment"]["shift"]) == (0.3, 0.2)
    assert shown == printed(capsys, "--config=one.yaml", "--config=two.yaml", *reversed(flags[3:]), *flags[:3])


def test_names_and_paths_are_read_as_they_are_written(workplace, capsys, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    Path("names.yaml").write_text(
        "stage: 2026\nckpt_path: null\ntrainer:\n  max_epochs: 3\nmodel:\n  lr: 1e-3\n"
        "data:\n  root: ~/2\n  splits: ~\n  classes: [1, no, 01, 'yes', null]\n"
        "  class_emphasis: {1: 2, no: 3, 01: 1e-1}\n"
    )
    shown = printed(capsys, "--config=names.yaml")
    assert shown["stage"] == "2026"
    assert shown["ckpt_path"] is shown["data"]["splits"] is None
    assert (shown["trainer"]["max_epochs"], shown["model"]["lr"]) == (3, 0.001)
    assert shown["data"]["root"] == "/home/someone/2"
    assert shown["data"]["classes"] == ["1", "no", "01", "yes", "null"]
    assert shown["data"]["class_emphasis"] == {"1": 2, "no": 3, "01": 0.1}
    shown = printed(capsys, "--data.classes", "[1, no, 01]", "--data.class_emphasis={no: 2}", "--stage=1")
    assert shown["data"]["classes"] == ["1", "no", "01"]
    assert shown["data"]["class_emphasis"] == {"no": 2}
    assert shown["stage"] == "1"


def test_print_config_shows_what_would_be_trained(workplace, capsys):
    shown = printed(capsys, "--config=base.yaml", "--config=quick.yaml", "--model.image_size=64")
    assert (shown["stage"], shown["model"]["dim"], shown["trainer"]["gradient_clip_val"]) == ("quick", 96, 1.0)
    assert "image_size" not in shown["data"]  # it follows the model's
    assert not Path("runs").exists()


def test_a_run_s_own_config_makes_the_same_run_again(tiny):
    def weights(run):
        return torch.load(f"runs/{run}/checkpoints/last.ckpt", weights_only=True)["state_dict"]

    assert main([*tiny, "--trainer.max_epochs=1", "--model.dropout=0.3"]) == 0
    assert main(["fit", "--config=runs/base/version_0/config.yaml"]) == 0
    torch.testing.assert_close(weights("base/version_1"), weights("base/version_0"), rtol=0, atol=0)
    polish = ["fit", "--config=polish.yaml", *QUIET, "--trainer.max_epochs=1"]
    assert main([*polish, "--ckpt_path=runs/base/version_0/checkpoints/last.ckpt"]) == 0
    config = Path("runs/polish/version_0/config.yaml")
    first = config.read_text()
    assert main(["fit", f"--config={config}"]) == 0
    torch.testing.assert_close(weights("polish/version_1"), weights("polish/version_0"), rtol=0, atol=0)
    assert main(["fit", "--ckpt_path=last.ckpt", "--trainer.max_epochs=2"]) == 0
    resumed = yaml.safe_load(Path("runs/polish/version_1/config.yaml").read_text())
    assert resumed["ckpt_path"] == yaml.safe_load(first)["ckpt_path"]  # where the run came from, not itself
    assert resumed["trainer"]["max_epochs"] == 2
