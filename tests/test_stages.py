"""A net in stages goes all the way, and `model.variant` gives the shape of a net of GFNet's authors."""

import logging
from pathlib import Path

import pytest
import torch
import yaml
from conftest import QUIET
from test_options import printed

from gfnet_pl import GFNet
from gfnet_pl.cli import main
from gfnet_pl.errors import UserError
from gfnet_pl.model.arguments import VARIANTS
from gfnet_pl.run.checkpoint import Checkpoint
from gfnet_pl.training.classifier import GFNetClassifier

RUN = Path("runs/base/version_0")
STAGES = ["--model.dim=[8, 16]", "--model.depth=[1, 2]", "--model.layer_scale=0.1"]
ONE_EPOCH = [*QUIET, "--trainer.max_epochs=1"]


def test_a_net_in_stages_is_trained_resumed_polished_scored_explained_and_exported(tiny, monkeypatch, capsys):
    monkeypatch.setattr("gfnet_pl.export.export.SECONDS", 0.01)  # of each way to run it
    assert main([*tiny, *STAGES, *ONE_EPOCH]) == 0
    assert main(["fit", "--ckpt_path=last.ckpt", "--trainer.max_epochs=2", *QUIET]) == 0
    capsys.readouterr()
    assert main(["fit", "--config=polish.yaml", "--ckpt_path=last.ckpt", "--model.variant=gfnet-h-ti"]) == 2
    assert "error: model.variant is gfnet-h-ti in this command but None in " in capsys.readouterr().err
    assert main(["fit", "--config=polish.yaml", "--ckpt_path=last.ckpt", "--model.freeze=2", *ONE_EPOCH]) == 0
    old, new = (Checkpoint.load(Path(f"runs/{run}/version_0/checkpoints/last.ckpt")) for run in ("base", "polish"))
    changed = [name for name in new.weights if not torch.equal(new.weights[name], old.weights[name])]
    assert "net.blocks.2.gamma" in changed
    frozen = ("net.patch_embed.", "net.blocks.0.", "net.blocks.1.")  # with blocks.1.down
    assert not any(name.startswith(frozen) for name in changed)
    assert main(["test", *QUIET]) == 0
    assert main(["report"]) == 0
    assert "dim [8, 16], depth [1, 2]" in Path("runs/polish/version_0/report.html").read_text()
    assert main(["export", "--max-drop=100"]) == 0  # it compares each format with the checkpoint
    again = GFNet.from_export("runs/polish/version_0/export")
    pictures = torch.rand(2, 1, 16, 16) * 255
    torch.testing.assert_close(
        again(pictures), Checkpoint.load(Path("runs/polish/version_0/checkpoints/best.ckpt")).net()(pictures)
    )


def test_a_variant_settles_the_shape_and_nothing_else(workplace, capsys):
    shown = printed(capsys, "--config=base.yaml", "--model.variant=gfnet-h-s", "--model.dropout=0.3")
    usual = printed(capsys, "--config=base.yaml")
    assert {key: shown["model"][key] for key in VARIANTS["gfnet-h-s"]} == {
        "patch_size": 4,
        "stem": "patch",
        "dim": [96, 192, 384, 768],
        "depth": [3, 3, 10, 3],
        "mlp_ratio": 4,
        "layer_scale": 1e-5,
    }
    others = usual["model"].keys() - VARIANTS["gfnet-h-s"].keys() - {"variant", "dropout"}
    assert {key: shown["model"][key] for key in others} == {key: usual["model"][key] for key in others}
    Path("again.yaml").write_text(yaml.safe_dump(shown))
    assert printed(capsys, "--config=again.yaml") == shown


def test_a_variant_is_kept_where_the_settings_are_chosen(pictures, workplace, capsys):
    shown = printed(capsys, str(pictures), "--model.variant=gfnet-h-ti", "--model.image_size=32")["model"]
    assert (shown["dim"], shown["patch_size"], shown["stem"]) == ([64, 128, 256, 512], 4, "patch")
    assert printed(capsys, str(pictures), "--model.variant=gfnet-h-ti")["model"]["image_size"] == 32
    assert (shown["pretrained"], shown["lr"]) == (None, 1e-3)  # as for the study's net, not a small one's 5e-3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model.variant=gfnet-x"], "model.variant is gfnet-x: it must be gfnet-ti or"),
        (["--model.variant=gfnet-s", "--model.depth=12"], "model.depth is 12, and gfnet-s has 19: drop one of the two"),
        (["--model.variant=gfnet-h-ti", "--config=quick.yaml"], 'model.stem is "conv", and gfnet-h-ti has "patch"'),
        (
            ["--model.variant=gfnet-h-ti", "--model.dim=[64, 128]"],
            "model.dim is [64, 128], and gfnet-h-ti has [64, 128, 256",
        ),
        (
            ["--model.variant=gfnet-h-ti", "--model.image_size=80"],
            "model.image_size 80 x 80 cannot be halved to 4 stages",
        ),
        (["--model.dim=[8, 16]"], "model.dim has 2 stages and depth 1: give both a number for each stage"),
        (["--model.dim=[]", "--model.depth=[]"], "model.dim has 0 stages"),
    ],
)
def test_what_contradicts_is_one_line(tiny, capsys, words, message):
    options = [word for word in tiny if not word.startswith("--model")]
    assert main([*options, *words]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_in_python_a_variant_is_stored_with_the_net():
    model = GFNetClassifier(variant="gfnet-h-ti", image_size=32, classes=["a", "b"])
    assert model.hparams["dim"] == (64, 128, 256, 512)
    assert [len(block.norm1.weight) for block in model.net.blocks] == [64] * 3 + [128] * 3 + [256] * 10 + [512] * 3
    with pytest.raises(UserError, match=r"^model\.dim is 8, and gfnet-ti has 256"):
        GFNetClassifier(variant="gfnet-ti", dim=8)


def test_the_authors_hierarchical_weights_start_a_run(tiny, tmp_path, caplog):
    net = GFNet(image_size=64, in_channels=3, num_classes=7, **VARIANTS["gfnet-h-ti"])
    starts, stage, names = {0: 0, 3: 1, 6: 2, 16: 3}, {}, {}
    for index in range(19):
        first = max(start for start in starts if start <= index)
        stage[index] = f"{starts[first]}.{index - first}"
    for name in net.state_dict():
        part, _, rest = name.partition(".")
        if part == "blocks":
            index, _, rest = rest.partition(".")
            down = rest.removeprefix("down.")
            names[name] = (
                f"patch_embed.{starts[int(index)]}.{down}" if down != rest else f"blocks.{stage[int(index)]}.{rest}"
            )
        elif name not in ("mean", "std"):
            names[name] = name.replace("patch_embed.", "patch_embed.0.")
    torch.save(
        {"model": {theirs: net.state_dict()[ours] for ours, theirs in names.items()}}, tmp_path / "gfnet-h-ti.pth"
    )
    options = [word for word in tiny if not word.startswith("--model") and "max_epochs" not in word]
    start = ["--model.variant=gfnet-h-ti", f"--model.pretrained={tmp_path / 'gfnet-h-ti.pth'}", "--model.image_size=32"]
    with caplog.at_level(logging.INFO):
        assert main([*options, *start, "--model.lr=1e-30", "--trainer.max_steps=1"]) == 0
    (line,) = [line for line in caplog.messages if "published" in line]
    assert "19 blocks of dim [64, 128, 256, 512]" in line
    weights = torch.load(RUN / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    for name in ("blocks.3.down.proj.weight", "blocks.18.mlp.fc2.weight", "blocks.6.gamma"):
        assert torch.equal(weights[f"net.{name}"], net.state_dict()[name]), name
