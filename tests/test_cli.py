import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CLASSES, QUIET

from gfnet_pl.cli import find_config, main
from gfnet_pl.data import decode
from gfnet_pl.data.canvas import Canvas
from gfnet_pl.data.decode import read_each
from gfnet_pl.export import predict
from gfnet_pl.export.runtime import TorchRuntime
from gfnet_pl.run.confusion import confusion_emphasis
from gfnet_pl.run.folder import RunFolder

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
VARIANTS = sorted((ROOT / "benchmarks" / "polish").glob("*.yaml"))


def last_line(capsys):
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("code", ["import gfnet_pl", "from gfnet_pl.cli import main; assert main(['--help']) == 0"])
def test_the_package_and_its_help_import_little(code):
    code = f"import sys; before = set(sys.modules); {code}\nprint(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *shown, imported = done.stdout.splitlines()
    packages = {name.partition(".")[0] for name in imported.split()} - sys.stdlib_module_names
    assert packages == {"gfnet_pl"}
    assert len(imported.split()) < 120  # of the standard library, too
    assert not shown or any("gfnet fit --config base.yaml" in line for line in shown)


def test_the_installed_command_exits_with_2_after_one_line(workplace):
    command = Path(sys.executable).with_name("gfnet")
    done = subprocess.run([command, "tset"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "gfnet: error: unknown command 'tset'; did you mean test?\n"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_config_parses_and_is_found_by_name(workplace, path, capsys):
    over = [] if path.name in ("base.yaml", "polish.yaml") else ["--config", "base.yaml"]
    with pytest.raises(SystemExit) as stop:
        main(["fit", *over, "--config", path.name, "--print_config"])
    assert stop.value.code == 0
    assert f"stage: {path.stem}" in capsys.readouterr().out


@pytest.mark.parametrize("path", VARIANTS, ids=lambda path: path.name)
def test_every_variant_of_polishing_parses(workplace, path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", "polish.yaml", "--config", str(path), "--print_config"])
    assert stop.value.code == 0
    assert f"stage: polish-{path.stem}" in capsys.readouterr().out


def test_a_config_is_looked_for_as_a_path_then_in_configs_then_in_the_package(workplace):
    in_package = find_config("base.yaml")
    (workplace / "configs").mkdir()
    (workplace / "configs" / "base.yaml").write_text("stage: mine\n")
    assert in_package.is_absolute()
    assert find_config("base.yaml") == Path("configs/base.yaml")
    (workplace / "base.yaml").write_text("stage: mine\n")
    assert find_config("base.yaml") == Path("base.yaml")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model.dimm", "3"], "unknown option model.dimm; did you mean model.dim?"),
        (["--model.dim", "x"], "model.dim is x: it must be a whole number"),
        (["--config", "bas.yaml"], "did you mean base.yaml?"),
        (["--config", "wrong.yaml"], "unknown option model.lrr; did you mean model.lr?"),
        (["--config", "old.yaml"], "unknown option data.emphasis_from; it is called emphasis_from now"),
        (["--model.decay_matrices_only", "true"], "unknown option model.decay_matrices_only; it is gone: remove it"),
        (["--model.in_channels", "3"], "model.in_channels follows data.colour: give that one"),
        (["--data.augment.blur", "1"], "unknown option data.augment.blur; it is gone: remove it"),
        (["--data.root", "nowhere"], "nowhere is not a folder; give the folder"),
        (["--ckpt_path", "no.ckpt"], "no.ckpt does not exist"),
        (["--ckpt_path", "last.ckpt"], "no run in ./runs yet"),
        (["--data.image_size", "32"], "follows model.image_size"),
        (["--trainer.devices", "0"], "devices"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(workplace, capsys, options, message):
    (workplace / "wrong.yaml").write_text("model:\n  lrr: 1\n")
    (workplace / "old.yaml").write_text("data:\n  emphasis_from: runs/base/version_0\n")
    assert main(["fit", *QUIET, *options]) == 2
    line = last_line(capsys)
    assert line.startswith("gfnet: error: ")
    assert message in line
    assert not Path("runs").exists()


@pytest.mark.parametrize("command", ["test", "validate", "predict"])
def test_without_any_run_it_says_so(workplace, capsys, command):
    Path("a.png").write_bytes(b"")
    assert main([command, *(["a.png"] if command == "predict" else [])]) == 2
    assert "no run in ./runs yet: train one with gfnet fit" in last_line(capsys)


def test_the_newest_run_is_tested_with_its_own_config_splits_and_best_checkpoint(tiny, capsys, caplog):
    assert main([*tiny, "--stage=old"]) == 0
    assert main([*tiny, "--stage=new"]) == 0
    capsys.readouterr()
    assert main(["test"]) == 0
    table = capsys.readouterr().out
    assert "runs/new/version_0/checkpoints/best.ckpt (stage new, " in table
    rows = [line.split()[:3:2] for line in table.splitlines()]  # set and images
    assert [row for row in rows if row[1:] and row[1].isdigit()] == [
        ["val", "6"],
        ["test", "12"],
        ["holdout", "6"],
        ["unseen", "15"],
    ]
    assert not Path("runs/new/version_1").exists()
    assert not Path("runs/base").exists()
    assert main(["validate", "--ckpt_path=last.ckpt"]) == 0
    table = capsys.readouterr().out
    rows = [line.split()[:3:2] for line in table.splitlines()]
    assert ["val", "6"] in rows
    assert ["test", "12"] not in rows
    assert any("runs/new/version_0/checkpoints/last.ckpt" in line for line in caplog.messages)


def test_the_embedded_data_is_called_synthetic_wherever_it_is_scored(workplace, monkeypatch, pictures, capsys):
    for path in sorted(pictures.rglob("*.png")):
        path.rename(path.with_name(f"signer{path.stem}_frame0.png"))
    monkeypatch.setattr("gfnet_pl.data.collection.hand_signs_root", lambda: pictures)
    net = ["--model.image_size=16", "--model.patch_size=4", "--model.dim=16", "--model.depth=1"]
    assert (
        main(["fit", *QUIET, *net, "--data.holdout_per_class=2", "--data.batch_size=16", "--trainer.max_epochs=1"]) == 0
    )
    assert "synthetic" in Path("runs/robust/version_0/run.json").read_text()
    assert main(["test"]) == 0
    assert "synthetic, rendered hand signs" in capsys.readouterr().out


def test_predict_writes_a_row_a_picture(tiny, pictures):
    assert main([*tiny, "--trainer.max_epochs=12", "--model.lr=5e-3"]) == 0
    pattern = str(pictures / "Unseen" / "*" / "01.png")
    assert main(["predict", "--data.predict_paths", str(pictures / "Test" / "ant"), pattern]) == 0
    rows = list(csv.DictReader(Path("predictions.csv").read_text().splitlines()))
    assert list(rows[0]) == ["path", "prediction", "probability", "top3", "accepted", "reason"]
    assert [row["prediction"] for row in rows] == ["ant"] * 4 + ["Cat", "ant", "bee"]
    assert {(row["accepted"], row["reason"]) for row in rows} == {("unknown", "not calibrated")}
    assert rows[0]["path"] == str(pictures / "Test" / "ant" / "00.png")
    likeliest = [part.split(":") for part in rows[0]["top3"].split()]
    assert likeliest[0][0] == "ant"
    assert likeliest[0][1] == rows[0]["probability"]
    assert sum(float(value) for _, value in likeliest) == pytest.approx(1, abs=2e-4)  # there are three classes


def test_predict_writes_where_it_is_told_to(tiny, pictures, capsys):
    assert main(tiny) == 0
    paths = ["--data.predict_paths", str(pictures / "Test" / "ant")]
    assert main(["predict", "--out=ants.csv", *paths]) == 0
    assert len(Path("ants.csv").read_text().splitlines()) == 5
    assert not Path("predictions.csv").exists()
    assert main(["predict", "--out=nowhere/ants.csv", *paths]) == 2
    assert "--out: nowhere is not a folder; make it first" in last_line(capsys)


def test_predict_takes_plain_paths_shows_them_and_overwrites_nothing(tiny, pictures, capsys):
    assert main(tiny) == 0
    Path("predictions.csv").write_text("somebody's own")
    first, second = pictures / "Test" / "ant" / "00.png", pictures / "Unseen" / "bee"
    capsys.readouterr()
    assert main(["predict", str(first), "--ckpt_path", "last.ckpt", str(second)]) == 0
    assert Path("predictions.csv").read_text() == "somebody's own"
    rows = list(csv.DictReader(Path("predictions-2.csv").read_text().splitlines()))
    assert [row["path"] for row in rows] == [str(first), *(str(second / f"0{n}.png") for n in range(5))]
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == ["picture", "prediction", "next", "accepted"]
    for line, row in zip(shown[1:], rows, strict=True):
        assert line.split()[0].endswith(row["path"][-20:])
        assert line.split()[1:3] == [row["prediction"], f"{float(row['probability']):.0%}"]
        assert len(line) <= 80
    assert main(["predict", str(pictures / "Train"), "--out=predictions.csv"]) == 0  # asked to
    assert len(Path("predictions.csv").read_text().splitlines()) == 61
    assert not capsys.readouterr().out  # more than 20 are only in the file


def test_a_broken_picture_is_a_row_and_not_the_end(tiny, pictures, capsys):
    assert main(tiny) == 0
    folder = pictures / "Test" / "ant"
    (folder / "01.png").write_bytes(b"\x89PNG broken")
    (folder / "02.png").unlink()
    (folder / "02.png").mkdir()
    (folder / "02.png" / "a.png").write_bytes(b"")
    capsys.readouterr()
    assert main(["predict", str(folder), str(pictures / "Test" / "bee" / "00.png")]) == 0
    captured = capsys.readouterr()
    rows = list(csv.DictReader(Path("predictions.csv").read_text().splitlines()))
    assert [row["reason"] == "not calibrated" for row in rows] == [True, False, False, True, True]
    assert {row["accepted"] for row in rows} == {"unknown"}
    assert rows[2]["reason"] == "it is empty"
    assert not rows[2]["prediction"] and rows[0]["prediction"]
    assert "unknown: it is empty" in captured.out
    assert "5 pictures by runs/base/version_0/checkpoints/best.ckpt; 2 cannot be read" in captured.err
    assert main(["predict", str(folder / "01.png")]) == 2
    assert "none of the 1 pictures can be read, first " in last_line(capsys)


def test_a_picture_that_may_not_be_read_is_a_row(tmp_path, monkeypatch):
    def refuse(_):
        raise PermissionError(13, "Permission denied")

    assert read_each([tmp_path / "a.png"], Canvas(2, 2)).broken == [(0, "it does not exist")]
    monkeypatch.setattr(decode, "open_picture", refuse)
    assert read_each([tmp_path / "a.png"], Canvas(2, 2)).broken == [(0, "Permission denied")]


def test_predict_writes_as_it_goes_in_the_form_that_is_asked_for(tiny, pictures, capsys, monkeypatch):
    assert main([*tiny, "--trainer.max_epochs=1"]) == 0
    folder = pictures / "Test"
    (folder / "ant" / "01.png").write_bytes(b"")
    capsys.readouterr()
    assert main(["predict", str(folder), "--out=-", "--format=jsonl", "--top=2"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 12
    assert sum(line["prediction"] is None for line in lines) == 1
    for line in lines:
        if line["prediction"] is None:
            assert line == dict.fromkeys(line) | {"path": str(folder / "ant" / "01.png"), "reason": "it is empty"}
        else:
            assert len(line["top"]) == 2
            assert line["top"][0] == {"label": line["prediction"], "probability": line["probability"]}
    assert main(["predict", str(folder), "--out=rows.jsonl"]) == 0
    assert json.loads(Path("rows.jsonl").read_text().splitlines()[0])["path"] == lines[0]["path"]
    assert main(["predict", str(folder), "--on_broken=error"]) == 2
    assert "01.png cannot be read as a picture (it is empty); repair" in last_line(capsys)
    assert not list(Path().glob("predictions*"))  # not a line was written
    assert main(["predict", str(folder), "--data.batch_size=2"]) == 2
    assert last_line(capsys).endswith("gfnet predict has no --data.batch_size: the net brings what it needs; drop it")

    calls, run = [], TorchRuntime.__call__
    part = Path("predictions.csv.partial")

    def stopped(self, images):
        calls.append(len(part.read_text().splitlines()))
        if len(calls) == 5:
            raise KeyboardInterrupt
        return run(self, images)

    monkeypatch.setattr(predict, "batch_of", lambda *_: 2)
    monkeypatch.setattr(TorchRuntime, "__call__", stopped)
    assert main(["predict", str(folder)]) == 130
    assert calls[-1] >= 1 + 3 * 2  # a kill at this moment would lose the two batches that were under way
    assert len(part.read_text().splitlines()) == 1 + 4 * 2
    assert "the first 8 of 12 are in predictions.csv.partial" in capsys.readouterr().err
    assert main(["predict", str(folder / "bee")]) == 0
    assert Path("predictions-2.csv").is_file() and part.is_file()  # what is left of the other stays


def test_predict_without_paths_asks_for_them(tiny, capsys):
    assert main(tiny) == 0
    assert main(["predict"]) == 2
    assert "gfnet predict: name pictures" in last_line(capsys)


def test_predict_needs_the_checkpoint_and_not_the_data(tiny, pictures, tmp_path):
    assert main(tiny) == 0
    lone = Path("runs/base/version_0/checkpoints/best.ckpt").rename(tmp_path / "net.ckpt")
    picture = (pictures / "Test" / "ant" / "00.png").rename(tmp_path / "hand.png")
    pictures.rename(tmp_path / "elsewhere")
    assert main(["predict", f"--ckpt_path={lone}", "--data.predict_paths", str(picture)]) == 0
    assert len(Path("predictions.csv").read_text().splitlines()) == 2


def test_a_broken_picture_stops_the_run_and_is_named(tiny, pictures, capsys):
    (pictures / "Train" / "bee" / "07.png").write_bytes(b"\x89PNG broken")
    assert main(tiny) == 2
    assert "1 broken picture: Train/bee/07.png (" in last_line(capsys)


def test_a_loss_that_is_not_finite_leaves_the_best_checkpoint_alone(tiny, capsys, monkeypatch):
    from gfnet_pl.training.dashboard import FirstBatch

    best = Path("runs/base/version_0/checkpoints/best.ckpt")
    kept = []

    def poison(self, trainer, pl_module, *_):
        if trainer.current_epoch == 1:
            kept.append(best.read_bytes())
            pl_module.net.head.weight.data.fill_(float("nan"))

    monkeypatch.setattr(FirstBatch, "on_train_batch_start", poison)
    assert main(tiny) == 2
    assert "the loss is not finite at step 3 (epoch 1)" in last_line(capsys)
    assert best.read_bytes() == kept[0]


def test_hand_signs_writes_a_data_set_of_the_size_asked_for(workplace, capsys):
    command = ["hand-signs", "--out", "signs", "--signers", "2", "--frames", "1", "--unseen-signers", "1"]
    assert main(command) == 0
    assert capsys.readouterr().out == "signs\n"
    counts = {split: len(list(Path("signs", split).glob("*/*.png"))) for split in ("Train", "Test", "Unseen")}
    assert counts == {"Train": 56, "Test": 112, "Unseen": 28}
    assert main([*command, "--seed", "5"]) == 2
    assert "signs: holds hand signs with other settings" in last_line(capsys)
    assert main(["hand-signs"]) == 2
    assert capsys.readouterr().err == "gfnet: error: gfnet hand-signs: the following arguments are required: --out\n"


@pytest.mark.parametrize(
    ("words", "options", "paths"),
    [
        (["a", "b c"], {}, ["a", "b c"]),
        (["a", "--out", "y", "b", "--top=1", "c"], {"out": "y", "top": 1}, ["a", "b", "c"]),
        (["--data.predict_paths", "a", "b c", "--out=-"], {"out": "-"}, ["a", "b c"]),
        (["--data.predict_paths=a", "b"], {"format": "csv"}, ["a", "b"]),
        (["[ab]*.png", "--trainer.devices=2", "--", "-c.png"], {"devices": 2}, ["[ab]*.png", "-c.png"]),
    ],
)
def test_the_plain_words_of_predict_are_its_paths(words, options, paths):
    values = vars(predict._parsed(words))
    assert values.items() >= options.items()
    assert values["paths"] == paths


def test_an_empty_path_to_predict_is_an_error(tiny, capsys):
    assert main(tiny) == 0
    assert main(["predict", ""]) == 2
    assert "a path is empty" in last_line(capsys)


def test_what_was_left_out_is_listed_in_the_run(tiny, pictures):
    (pictures / "Train" / "bee" / "07.png").write_bytes(b"\x89PNG broken")
    assert main([*tiny, "--data.on_broken=skip", "--trainer.max_epochs=1"]) == 0
    (row,) = csv.DictReader(Path("runs/base/version_0/left_out.csv").read_text().splitlines())
    assert row["path"] == "Train/bee/07.png"
    assert main(["test", *QUIET]) == 0


def test_a_run_writes_the_confusion_matrix_that_emphasis_is_taken_from(tiny):
    assert main([*tiny, "--trainer.max_epochs=1"]) == 0
    rows = list(csv.reader(Path("runs/base/version_0/val_confusion.csv").read_text().splitlines()))
    assert rows[0] == ["true", *sorted(CLASSES)]
    assert [sum(map(int, row[1:])) for row in rows[1:]] == [2, 2, 2]
    emphasis = confusion_emphasis(RunFolder(Path("runs/base/version_0")))
    assert max(emphasis.values()) == 2
    again = ["--emphasis_from=runs/base/version_0", "--data.balanced=true", "--trainer.max_epochs=1"]
    assert main([*tiny, *again, "--stage=again"]) == 0
    config = Path("runs/again/version_0/config.yaml").read_text()  # what was drawn, whatever becomes of that run
    assert "emphasis_from: null" in config
    assert all(f"    {name}: {factor}" in config for name, factor in emphasis.items())
    shutil.rmtree("runs/base")
    assert main([*tiny, *again[1:], "--stage=again", "--ckpt_path=last.ckpt", "--trainer.max_epochs=2"]) == 0


def test_emphasis_in_two_ways_or_from_no_run_is_refused(tiny, capsys):
    assert main([*tiny, "--emphasis_from=runs/nowhere/version_0"]) == 2
    assert "emphasis_from: runs/nowhere/version_0/val_confusion.csv does not exist" in last_line(capsys)
    assert main([*tiny, "--trainer.max_epochs=1"]) == 0
    assert main([*tiny, "--emphasis_from=runs/base/version_0", "--data.class_emphasis={ant: 2}"]) == 2
    assert "emphasis_from and data.class_emphasis say the same thing in two ways" in last_line(capsys)


def test_audit_says_what_the_splits_leak(pictures, capsys):
    assert main(["audit", str(pictures), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["splits"] == {"train": 60, "unseen": 15, "test": 12}
    assert main(["audit", "nowhere"]) == 2
    assert "nowhere is not a folder" in last_line(capsys)
    assert main(["audit", "--pge"]) == 2
    assert "gfnet audit: " in last_line(capsys)
