"""What somebody else made executes nothing: checkpoints, configs, splits, names, pictures. docs/reliability.md."""

import csv
import json
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import QUIET, TINY_NET, write_picture
from PIL import Image

from gfnet_pl.cli import main
from gfnet_pl.data import decode
from gfnet_pl.data.canvas import Canvas
from gfnet_pl.data.collection import collect
from gfnet_pl.data.manifest import read_manifest, write_manifest
from gfnet_pl.errors import UserError
from gfnet_pl.files import replacing
from gfnet_pl.run.checkpoint import Checkpoint
from gfnet_pl.tables import read_rows, write_rows

OLD = Path(__file__).parent / "old_run"
RUN = Path("runs/base/version_0")
LAST = RUN / "checkpoints" / "last.ckpt"
RUNS_CODE = {"class_path": "evil.Evil"}


@pytest.fixture
def theirs(workplace, monkeypatch):
    """A run of somebody else, and a module that leaves a file when it is imported."""
    shutil.copytree(OLD / "pictures", "pictures")
    shutil.copytree(OLD / "version_0", RUN)
    Path("evil.py").write_text("open('executed', 'w').close()\nfrom lightning.pytorch import Callback as Evil")
    monkeypatch.syspath_prepend(str(workplace))
    yield torch.load(LAST, weights_only=True)
    assert not Path("executed").exists()
    sys.modules.pop("evil", None)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("trainer.callbacks", [RUNS_CODE]),
        ("trainer.callbacks", "evil.Evil"),
        ("trainer.callbacks", [{"class_path": "LambdaCallback", "init_args": {"on_fit_start": "evil.Evil"}}]),
        ("trainer.plugins", [RUNS_CODE]),
        ("trainer.strategy", RUNS_CODE),
        ("trainer.accelerator", "evil.Evil"),
        ("trainer.profiler", {"class_path": "AdvancedProfiler", "init_args": {"dirpath": ".", "filename": "executed"}}),
        ("trainer.logger", {"class_path": "CSVLogger", "init_args": {"save_dir": "executed"}}),
        ("trainer.default_root_dir", "executed"),
        ("data.augment", RUNS_CODE),
    ],
)
def test_a_setting_of_a_checkpoint_never_names_code_or_a_place_to_write_to(theirs, caplog, key, value):
    section, name = key.split(".")
    theirs["gfnet_pl"]["config"][section][name] = value
    torch.save(theirs, LAST)
    command = ["fit", "--stage=base", "--ckpt_path=last.ckpt", "--trainer.max_epochs=3", "--trainer.max_steps=5"]
    assert main([*command, "--trainer.enable_progress_bar=false"]) in (0, 2)
    assert any(f"its run had {key}" in line for line in caplog.messages) == (key != "data.augment")
    assert not any(name == "evil" for name in sys.modules)


def test_what_a_config_may_import_is_named_by_the_user_and_not_by_the_config(theirs, capsys, monkeypatch):
    for option in ("--trainer.callbacks=evil.Evil", "--trainer.logger={class_path: evil.Evil}"):
        assert main(["fit", "--config=base.yaml", "--data.root=pictures", option]) == 2
        assert "if you trust it, set GFNET_IMPORTS=evil" in capsys.readouterr().err.splitlines()[-1]
    assert main(["fit", "--config=base.yaml", "--trainer.callbacks=LambdaCallback"]) == 2
    assert "is not imported" in capsys.readouterr().err.splitlines()[-1]
    monkeypatch.setenv("GFNET_IMPORTS", "a/b")
    assert main(["fit", "--config=base.yaml"]) == 2
    assert capsys.readouterr().err.startswith("gfnet: error: GFNET_IMPORTS: ")


def test_a_module_that_the_user_names_is_imported(workplace, monkeypatch, capsys):
    Path("kind.py").write_text("from lightning.pytorch import Callback\nclass Kind(Callback): pass")
    monkeypatch.syspath_prepend(str(workplace))
    monkeypatch.setenv("GFNET_IMPORTS", "kind")
    assert main(["fit", "--config=base.yaml", "--data.root=none", "--trainer.callbacks=kind.Kind"]) == 2
    assert "none is not a folder" in capsys.readouterr().err and "kind" in sys.modules


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("dim", 4096), ("depth", 1000), ("depth", 10**9), ("image_size", 20_000), ("classes", list("abcd"))),
        *(("mlp_ratio", 1000.0), ("patch_size", 0), ("dim", "16"), ("classes", [1, 2, 3]), ("classes", "abc")),
        *(("stem", "conv"), ("dim", (16, 65_536)), ("filter_size", (3, 3))),
    ],
)
def test_a_checkpoint_takes_no_more_memory_than_its_file(theirs, key, value):
    theirs["hyper_parameters"][key] = value
    torch.save(theirs, LAST)
    with pytest.raises(UserError, match=r"contradicts itself|no checkpoint of a GFNetClassifier"):
        Checkpoint.load(LAST)


WIDE = 65_536


@pytest.mark.parametrize(
    ("net", "missing"),
    [
        ({"stem": "conv", "image_size": 4, "dim": WIDE}, "patch_embed.proj.6.weight"),
        ({"stem": "double_conv", "image_size": 4, "dim": WIDE}, "patch_embed.proj.12.weight"),
        ({"image_size": 8, "dim": (WIDE, WIDE), "depth": (1, 1)}, "blocks.1.down.proj.weight"),
        ({"image_size": 8, "dim": WIDE, "depth": 1000}, "blocks.1.filter.complex_weight"),
    ],
)
def test_no_weight_of_a_small_checkpoint_is_made_large_by_its_settings(theirs, net, missing):
    theirs["hyper_parameters"] |= {"patch_size": 4, "stem": "patch", "depth": 1, "mlp_ratio": 1 / WIDE} | net
    side = net["image_size"] // 4
    shapes = {
        "patch_embed.proj.weight": (WIDE, 1, 4, 4),
        "pos_embed": (1, side * side, WIDE),
        "head.weight": (len(theirs["hyper_parameters"]["classes"]), WIDE),
        "blocks.0.filter.complex_weight": (side, side // 2 + 1, WIDE, 2),
        "blocks.0.mlp.fc1.weight": (1, WIDE),
    }
    theirs["state_dict"] = {f"net.{name}": torch.zeros(shape) for name, shape in shapes.items()}
    torch.save(theirs, LAST)
    with pytest.raises(UserError, match=f"contradicts itself: its settings say that {re.escape(missing)} is"):
        Checkpoint.load(LAST)


@pytest.mark.parametrize("part", ["state_dict", "hyper_parameters", "loops", "global_step", "gfnet_pl", "epoch"])
@pytest.mark.parametrize("instead", [None, [], "x", {"net.pos_embed": 1, "stage": 1}])
def test_a_part_of_a_checkpoint_that_is_something_else_is_a_user_error(theirs, part, instead):
    theirs[part] = instead
    torch.save(theirs, LAST)
    with pytest.raises(UserError, match=r"last\.ckpt"):
        Checkpoint.load(LAST)


def test_weights_that_are_larger_than_their_file_are_refused(theirs):
    theirs["state_dict"]["net.more"] = torch.zeros(1).expand(10**9)
    torch.save(theirs, LAST)
    with pytest.raises(UserError, match="its weights are larger than the file"):
        Checkpoint.load(LAST)


class Bomb:
    """What `pickle` runs when it reads this."""

    def __reduce__(self):
        return Path.touch, (Path("executed"),)


def hostile(name):
    """Replaces a file of the run by one that somebody made to do harm."""
    evil = "<script>alert(1)</script>\x1b]0;owned\x07"
    file = RUN / name
    if file.suffix == ".ckpt":
        torch.save({"state_dict": Bomb(), "gfnet_pl": Bomb()}, file)
    elif name in ("splits.csv", "predictions.csv"):
        with file.open(newline="") as text:
            header, first, *rows = csv.reader(text)
        places = ["../secret.png", str(Path("secret.png").absolute()), "link/secret.png", "Train/../../secret.png"]
        bad = [
            [place if column == "path" else value for column, value in zip(header, first, strict=True)]
            for place in places
        ]
        with file.open("w", newline="") as text:
            csv.writer(text).writerows([header, *bad, *rows])
    elif name == "config.yaml":
        file.write_text(
            f"trainer: {{callbacks: [{{class_path: evil.Evil}}], logger: {{class_path: evil.Evil}}}}\n# {evil}"
        )
    elif name == "outputs.npz":
        np.savez(file, **{"val/logits": np.array([Bomb()], object), "../../executed": np.zeros(3)})
    elif name == "export/export.json":
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({"files": {"../../../secret.png": {"bytes": 1, "sha256": "0"}}, "checkpoint": evil}))
        (file.parent / "model.onnx").write_bytes(b"\x08\x07" + b"\xff" * 4096)
    elif name == "run.json":
        file.write_text(json.dumps([{"command": evil, "folder": "../..", "stage": "../../executed", "started": evil}]))
    elif name == "metrics.json":
        found = json.loads(file.read_text())
        found["checkpoint"]["path"], found["source"], found["root"] = "../../secret.png", evil, "../.."
        found["classes"] = [evil, *found["classes"][1:]]
        file.write_text(json.dumps(found))
    else:
        file.write_bytes(b"\x80\x04" + b"\x00" * 64)


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """The file that PyTorch's exporter, which takes seconds, makes of the net."""
    folder = tmp_path_factory.mktemp("graph")
    shutil.copytree(OLD / "pictures", folder / "pictures")
    shutil.copytree(OLD / "version_0", folder / RUN)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setattr("gfnet_pl.export.export.speeds", lambda *_: [])
        assert main(["test", *QUIET, "--trainer.precision=32-true"]) == 0
        assert main(["export"]) == 0
    return (folder / RUN / "export/model.onnx").read_bytes()


COMMANDS = (
    *("test", "validate", "report", "export", "curve", "runs", "predict pictures/Train/ant/00.png"),
    *("enrol --pictures pictures/Train", "fit --stage=base --ckpt_path=last.ckpt --trainer.max_epochs=3"),
    *(f"fit --config={RUN}/config.yaml --trainer.max_epochs=1", "audit pictures"),
)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "checkpoints/best.ckpt",
            "checkpoints/last.ckpt",
            "config.yaml",
            "splits.csv",
            "predictions.csv",
            "outputs.npz",
        ),
        *(
            "metrics.json",
            "run.json",
            "export/export.json",
            "filters.npz",
            "losses.csv",
            "checkpoints/best.calibration.json",
        ),
    ],
)
def test_no_command_is_led_astray_by_a_file_of_a_strangers_run(theirs, capsys, name, graph, monkeypatch):
    monkeypatch.setattr("gfnet_pl.export.export.speeds", lambda *_: [])
    if name not in ("metrics.json", "checkpoints/best.calibration.json"):  # what they say goes into the file
        monkeypatch.setattr("gfnet_pl.export.export.write_onnx", lambda file, *_: file.write_bytes(graph))
    Path("secret.png").write_bytes(b"secret")
    Path("pictures/link").symlink_to(".", target_is_directory=True) if os.name == "posix" else None
    assert main(["test", *QUIET]) == 0
    outside = {
        path: path.read_bytes() for path in Path().rglob("*") if path.is_file() and RUN.parent not in path.parents
    }
    hostile(name)
    for command in COMMANDS:
        options = QUIET if command.startswith(("fit", "test", "validate")) else []
        assert main([*command.split(), *options]) in (0, 2), command
        said = "".join(capsys.readouterr())
        assert "Traceback" not in said, command
        assert "\x1b]" not in said, command
    assert {path: path.read_bytes() for path in outside} == outside
    if (page := RUN / "report.html").is_file():
        assert "<script>alert" not in page.read_text(encoding="utf-8")


def test_no_cell_of_a_csv_file_is_a_formula_and_every_text_comes_back(tmp_path):
    texts = ["=cmd()", "+1+1", "-2+3", "@x", "\t=1", "\r=1", "'=quoted", "''-a", "'plain", "+", "-", "=", "-1.5", "a=b"]
    with replacing(tmp_path / "a.csv") as file:
        write_rows(file, [[text, 1] for text in texts])
    with (tmp_path / "a.csv").open(newline="") as file:
        cells = [row[0] for row in csv.reader(file)]
    assert not [cell for cell in cells if len(cell) > 1 and cell[0] in "=+-@\t\r" and cell != "-1.5"]
    assert cells[9:] == ["+", "-", "=", "-1.5", "a=b"]  # a class called + is no formula
    with (tmp_path / "a.csv").open(newline="") as file:
        assert [row[0] for _, row in read_rows(file)] == texts


def test_a_manifest_of_formulas_comes_back(tmp_path):
    pictures = [("=a.png", "=cmd()", "train", "@g"), ("b.png", "-x", "val", "")]
    write_manifest(tmp_path / "m.csv", pictures)
    splits = {"train": "train", "val": "val"}
    assert read_manifest(tmp_path / "m.csv", key="k", splits=splits, required=("path", "label")) == sorted(pictures)


def test_splits_of_a_manifest_do_not_lead_out_of_its_folder_through_a_link(tmp_path):
    root, secret = tmp_path / "data", tmp_path / "secret.png"
    for name in ("a.png", "b.png"):
        write_picture(root / name, "ant", 0)
    write_picture(secret, "ant", 1)
    manifest = root / "pictures.csv"
    write_manifest(manifest, [("a.png", "x", "train", ""), ("b.png", "y", "train", "")])
    (root / "b.png").unlink()
    (root / "b.png").symlink_to(secret)
    with pytest.raises(UserError, match=r"b.png is a link that leads out of"):
        collect(str(manifest), canvas=Canvas(8, 8), splits=str(manifest))


def test_a_run_of_classes_that_are_formulas_and_markup_is_trained_tested_and_reported(workplace):
    names = ("=cmd()", "<script>alert(1)<")
    for number in range(12):
        for name, bar in zip(names, ("ant", "bee"), strict=True):
            write_picture(Path("data") / name / f"@{number}.png", bar, number)
    quick = [*TINY_NET, *QUIET, "--data.root=data", "--data.batch_size=16", "--trainer.max_epochs=1"]
    assert main(["fit", "--config=base.yaml", *quick, "--data.holdout_per_class=2"]) == 0
    assert main(["test", *QUIET]) == 0
    run = Path("runs/base/version_0")
    for file in ("predictions.csv", "splits.csv", "val_confusion.csv"):
        rows = list(csv.reader((run / file).read_text().splitlines()))
        assert any("'=cmd()" in row for row in rows)
        assert not any(cell[:1] in ("=", "@") for row in rows for cell in row)
    assert main(["report"]) == 0
    page = (run / "report.html").read_text()
    assert "=cmd()" in page and "<script>alert(1)" not in page
    assert main(["validate", *QUIET]) == 0


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
def test_a_large_picture_is_converted_strip_by_strip_to_the_same_pixels(tmp_path, monkeypatch, mode, colour):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 23, 4), np.uint8)
    if mode in ("I;16", "I", "F"):
        image = Image.fromarray(pixels[..., 0].astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]) * 200)
    else:
        image = Image.fromarray(pixels).convert(mode)
    image.save(path := tmp_path / "a.tiff")
    canvas = Canvas(40, 23, colour)
    whole = decode.read_picture(path, canvas)
    monkeypatch.setattr(decode, "_STRIP", 100)
    np.testing.assert_array_equal(decode.read_picture(path, canvas), whole)


def test_a_small_file_of_a_large_picture_is_refused_before_it_takes_memory(tmp_path):
    path = tmp_path / "bomb.webp"
    Image.new("1", (8000, 8000)).save(path, lossless=True, method=0)
    with pytest.raises(decode.BrokenPicture, match="more than 40 million pixels"):
        decode.read_picture(path, Canvas(8, 8))


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        *(("data", key, "x") for key in ("batch_size", "val_fraction", "unseen_groups")),
        *(
            ("data", "root", -1),
            ("data", "root", []),
            ("trainer", "gradient_clip_val", "x"),
            (None, "seed_everything", "x"),
        ),
    ],
)
def test_a_setting_of_another_type_is_one_line(theirs, capsys, section, key, value):
    config = theirs["gfnet_pl"]["config"]
    (config[section] if section else config)[key] = value
    torch.save(theirs, LAST)
    assert main(["fit", *QUIET, "--stage=base", "--ckpt_path=last.ckpt", "--trainer.max_steps=7"]) in (0, 2)
    assert "Traceback" not in capsys.readouterr().err
