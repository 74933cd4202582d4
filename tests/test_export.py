"""`gfnet export`, and what is made of it: the files are the checkpoint's net, and say how they must be used."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml
from conftest import CLASSES, QUIET, TINY_NET, write_picture
from PIL import Image

from gfnet_pl import Classifier, GFNet
from gfnet_pl.cli import main
from gfnet_pl.data.canvas import Canvas
from gfnet_pl.data.collection import Collection
from gfnet_pl.data.decode import read_picture
from gfnet_pl.data.manifest import Picture
from gfnet_pl.errors import UserError
from gfnet_pl.evaluation.calibration import Calibration
from gfnet_pl.export.card import _text
from gfnet_pl.export.check import Checked
from gfnet_pl.export.graph import OPSET, OUTPUTS, Exported, write_onnx
from gfnet_pl.export.int8 import loss
from gfnet_pl.export.runtime import OnnxRuntime, Outputs, TorchRuntime, batch_of
from gfnet_pl.export.vectors import COUNT, Vectors, choose
from gfnet_pl.locks import held
from gfnet_pl.model.global_filter import MATRIX_MAX_TOKENS
from gfnet_pl.model.weights import write_weights
from gfnet_pl.report.enrolment import curve_of, enrolled
from gfnet_pl.run.checkpoint import Checkpoint
from gfnet_pl.run.enrolled import read_enrolment, write_enrolment
from gfnet_pl.run.export import FORMAT, Description, read_export
from gfnet_pl.run.folder import ExportFolder, RunFolder
from gfnet_pl.run.run import read_run

RUN = Path("runs/base/version_0")
EXPORT = RUN / "export"
CANVAS = Canvas(16, 16, colour=True, fit="letterbox")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tested and exported run, made once: colour, letterbox, a stem with batch normalisation, unseen people."""
    folder = tmp_path_factory.mktemp("made")
    for offset, split, count in ((0, "Train", 16), (2000, "Unseen", 12)):
        for number, label in enumerate(CLASSES):
            for index in range(count):
                path = folder / "pictures" / split / label / f"{index:02}.png"
                write_picture(path, label, offset + 100 * number + index)
                Image.open(path).convert("RGB").crop((0, 0, 16, 12)).save(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.delenv("PL_GLOBAL_SEED", raising=False)
        patch.setattr("gfnet_pl.export.export.SECONDS", 0.01)
        data = ["--data.root=pictures", "--data.batch_size=16", "--data.colour=true", "--data.fit=letterbox"]
        people = ["--data.group_by", r"((?:Unseen/\w+/)?\d)\d*\.png"]
        learn = ["--trainer.max_epochs=2", "--model.warmup_epochs=1", "--model.lr=3e-3", "--model.stem=conv"]
        learn += ["--model.shifted_views=true", "--model.mirrored_views=true"]
        assert main(["fit", "--config=base.yaml", *TINY_NET, *QUIET, *data, *people, *learn]) == 0
        assert main(["test", *QUIET]) == 0
        assert main(["export", "--max-drop=100"]) == 0
    return folder


@pytest.fixture
def same_graph(run, monkeypatch):
    """The exporter of PyTorch takes seconds, and the graph would be the one that is there."""
    content = (EXPORT / "model.onnx").read_bytes()
    monkeypatch.setattr("gfnet_pl.export.export.write_onnx", lambda file, *_: file.write_bytes(content))


@pytest.fixture
def run(made, tmp_path, monkeypatch):
    """A copy of it, as the current folder."""
    folder = tmp_path / "copy"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr("gfnet_pl.export.export.speeds", lambda *_: [])
    return folder


def unseen(count):
    return sorted(Path("pictures/Unseen").glob("*/*.png"))[:count]


def test_the_graph_gives_what_the_checkpoint_gives_with_everything_inside(run):
    checkpoint = Checkpoint.load(RUN / "checkpoints" / "best.ckpt")
    shown = np.stack([read_picture(path, CANVAS) for path in unseen(3)])
    with torch.inference_mode():
        wanted = checkpoint.net()(torch.from_numpy(shown).permute(0, 3, 1, 2)).numpy()
    stored = json.loads((RUN / "checkpoints" / "best.calibration.json").read_text())
    for count in (1, 3):  # the batch is free
        given = OnnxRuntime(EXPORT / "model.onnx")(np.ascontiguousarray(shown.transpose(0, 3, 1, 2)[:count]))
        np.testing.assert_allclose(given.logits, wanted[:count], atol=1e-5)
        scaled = np.exp(wanted[:count].astype(float) / stored["temperature"])
        np.testing.assert_allclose(given.probabilities, scaled / scaled.sum(1, keepdims=True), atol=1e-5)
    with np.load(RUN / "checkpoints" / "best.calibration.npz") as learned:
        away = (given.features @ learned["whitening"])[:, None] - learned["means"]
    np.testing.assert_allclose(given.distance, np.sqrt((away**2).sum(2)).min(1), rtol=1e-4)


def test_the_file_says_how_to_use_it_and_nothing_of_this_machine(run):
    model = onnx.load(EXPORT / "model.onnx")
    said = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    record = json.loads((EXPORT / "export.json").read_text())
    assert said == record["description"]
    assert said["classes"] == sorted(CLASSES)
    assert said["canvas"] == {"height": 16, "width": 16, "colour": True, "fit": "letterbox"}
    assert [step for step in said["preparation"] if "fits into 16 x 16 pixels" in step]
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": said["opset"]}
    assert said["thresholds"][0]["error_rate"] == 0.01
    share = json.loads((RUN / "metrics.json").read_text())["sets"]["unseen"]["accuracy"]["share"]
    assert said["accuracy"]["unseen"]["share"] == share
    assert not said["synthetic"]
    assert said["source"] == "pictures"
    for file in ("model.onnx", "model.int8.onnx"):
        assert str(Path(__file__).parents[1]).encode() not in (EXPORT / file).read_bytes()  # the exporter's stacks
    assert {entry.key for entry in onnx.load(EXPORT / "model.int8.onnx").metadata_props} == set(said)


def test_the_record_has_a_row_for_each_format(run):
    export = read_export(ExportFolder(EXPORT))
    assert [row["name"] for row in export.checks] == [
        "checkpoint",
        "model.safetensors",
        "model.onnx",
        "model.int8.onnx",
    ]
    assert [row["name"] for row in export.speeds] == ["best.ckpt", "model.onnx", "model.int8.onnx"]
    assert all(row["one"] > 0 and row["per_second"] > 0 for row in export.speeds)
    if sys.platform == "linux":  # of its own process: torch takes more
        assert export.speeds[0]["memory"] > export.speeds[1]["memory"] > 20e6
    assert set(export.files) == {"model.onnx", "model.int8.onnx", "model.safetensors", "test_vectors.npz"}


def test_safetensors_hold_the_weights_bit_for_bit(run):
    checkpoint = Checkpoint.load(RUN / "checkpoints" / "best.ckpt")
    net, wanted = GFNet.from_export(EXPORT), checkpoint.net().state_dict()
    assert not net.training
    assert wanted.keys() == net.state_dict().keys()
    assert all(torch.equal(value, wanted[name]) for name, value in net.state_dict().items())
    assert any("running_mean" in name for name in wanted)
    write_weights(Path("other.safetensors"), net, {"depth": 3, "colour": 1}, [])
    with pytest.raises(UserError, match=r"other\.safetensors holds no net of this version"):
        GFNet.from_export("other.safetensors")


def test_the_vectors_are_pictures_of_unseen_people_with_what_must_come_of_them(run):
    vectors = Vectors.read(EXPORT / "test_vectors.npz")
    assert len(vectors.paths) == COUNT
    assert all(path.startswith("Unseen/") for path in vectors.paths)
    assert {path.split("/")[1] for path in vectors.paths} == set(CLASSES)
    assert [sorted(CLASSES)[label] for label in vectors.labels] == [path.split("/")[1] for path in vectors.paths]
    for path, content, shown in zip(vectors.paths, vectors.files, vectors.pixels, strict=True):
        assert content == (Path("pictures") / path).read_bytes()
        np.testing.assert_array_equal(shown, read_picture(content, CANVAS))


def test_pictures_without_files_of_their_own_are_vectors_by_their_pixels(tmp_path):
    """As those of a packed data set."""
    images = np.random.default_rng(0).integers(0, 256, (20, 4, 4), np.uint8)
    pictures = [Picture(f"packed/{number}", "ant", "val") for number in range(20)]
    found = Collection(pictures, np.arange(20), images, [], tmp_path / "packed.npz")
    places = choose(found, ["unseen", "val"])
    assert len(set(places)) == COUNT
    outputs = Outputs(*(np.ones((COUNT, 2), np.float32) for _ in range(3)))
    vectors = Vectors.of(found, places, np.zeros(COUNT, np.int64), images[places], outputs)
    vectors.write(tmp_path / "vectors.npz")
    again = Vectors.read(tmp_path / "vectors.npz")
    assert again.files == [b""] * COUNT
    assert again.outputs.distance is None
    assert again.check_decoding(Canvas(4, 4)) == 0


def test_check_reruns_all_formats(run, capsys):
    assert main(["export", "--check", str(EXPORT)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows[1:5]] == ["checkpoint", "model.safetensors", "model.onnx", "model.int8.onnx"]
    assert rows[3][3] == "0"
    shutil.move(EXPORT, "elsewhere")
    shutil.rmtree("runs")
    assert main(["export", "--check", "elsewhere"]) == 0  # on another machine
    assert "only the test vectors are compared" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["model.onnx", "model.safetensors", "test_vectors.npz", "export.json"])
def test_a_cut_or_changed_file_is_one_line(run, capsys, name):
    file = EXPORT / name
    content = bytearray(file.read_bytes())
    if name == "model.safetensors":
        content[-100] ^= 1  # a bit of a weight
    else:
        del content[-100:]
    file.write_bytes(content)
    assert main(["export", "--check", str(EXPORT)]) == 2
    assert name in capsys.readouterr().err.splitlines()[-1]
    if name != "test_vectors.npz":  # nobody but the check needs them
        with pytest.raises(UserError, match=name):
            Classifier.load(EXPORT, by="torch" if name == "model.safetensors" else "onnxruntime")


def changed_export(change):
    record = json.loads((EXPORT / "export.json").read_text())
    change(record)
    (EXPORT / "export.json").write_text(json.dumps(record))


def test_an_export_of_other_classes_or_of_another_version_is_refused(run, capsys):
    changed_export(lambda record: record["description"].update(classes=["Cat", "ant", "dog"]))
    assert main(["export", "--check", str(EXPORT)]) == 2
    assert "has other classes than" in capsys.readouterr().err
    changed_export(lambda record: record["description"].update(format=99))
    assert main(["export", "--check", str(EXPORT)]) == 2
    assert "its format is 99" in capsys.readouterr().err
    assert main(["export", "--check", "pictures"]) == 2
    assert "pictures is no export" in capsys.readouterr().err


def test_an_export_that_fails_its_own_check_leaves_the_former_one(run, monkeypatch, capsys):
    before = {file.name: file.read_bytes() for file in EXPORT.iterdir()}
    model = onnx.load(EXPORT / "model.onnx")
    (bias,) = (value for value in model.graph.initializer if value.name.endswith("head.bias"))
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(0.001), bias.name))
    monkeypatch.setattr("gfnet_pl.export.export.write_onnx", lambda file, *_: onnx.save(model, file))
    assert main(["export"]) == 2
    assert "model.onnx is not the net of the checkpoint" in capsys.readouterr().err
    assert {file.name: file.read_bytes() for file in EXPORT.iterdir()} == before
    assert main(["export", "--out", "new"]) == 2
    assert not Path("new").exists()


def test_of_two_exports_at_once_the_second_says_so_and_touches_nothing(run, same_graph, capsys):
    before = {path.name: path.read_bytes() for path in EXPORT.iterdir()}
    (EXPORT / ".partial").mkdir()
    (EXPORT / ".partial" / "model.onnx").touch()  # what the first has written so far
    with held(EXPORT / ".lock", ""):
        assert main(["export"]) == 2
        assert "another gfnet export writes there; wait for it, or give another --out" in capsys.readouterr().err
        assert (EXPORT / ".partial" / "model.onnx").exists()
    assert {path.name: path.read_bytes() for path in EXPORT.iterdir() if path.is_file()} == before
    assert main(["export", "--max-drop=100"]) == 0
    assert not {".partial", ".lock"} & {path.name for path in EXPORT.iterdir()}


def test_the_card_has_the_figures_of_the_run_and_loads_as_it_says(run, capsys, monkeypatch):
    (RUN / "metrics.json").rename("aside.json")
    assert main(["export", "--card"]) == 2
    assert "has not been tested since it was trained" in capsys.readouterr().err
    Path("aside.json").rename(RUN / "metrics.json")
    assert main(["export", "--card"]) == 0
    _, front, card = (EXPORT / "MODEL_CARD.md").read_text().split("---\n", 2)
    metrics = json.loads((RUN / "metrics.json").read_text())["sets"]["unseen"]
    (model,) = yaml.safe_load(front)["model-index"]
    first = model["results"][0]
    assert (first["dataset"]["name"], first["dataset"]["split"]) == ("pictures", "unseen")
    low, high = metrics["new_groups"]
    judged = {name: group["share"] for name, group in metrics["groups"].items() if group["images"] >= 10}
    shares = [metrics["accuracy"]["share"], low, high, min(judged.values())]
    assert [each["value"] for each in first["metrics"]] == [round(share, 4) for share in shares]
    assert f"| unseen | new people | 36 | {100 * shares[0]:.1f} % | {100 * low:.1f} % to {100 * high:.1f} % |" in card
    for name, share in judged.items():
        assert f"| {name} | 10 | {100 * share:.1f} % |" in card.replace("\\", "")
    counts = np.array(metrics["confusion"])
    np.fill_diagonal(counts, 0)
    label, said = divmod(int(counts.argmax()), 3)
    names = sorted(CLASSES)
    assert f"| {names[label]} | {names[said]} | {counts.max()} | 12 |" in card
    assert "16 x 16 pixels: Cat, ant, bee." in card
    assert "synthetic" not in card
    code = card.split("```python\n")[1].split("```")[0].replace("picture.jpg", str(unseen(1)[0].absolute()))
    monkeypatch.chdir(EXPORT)
    exec(code)
    assert capsys.readouterr().out.split()[0] in CLASSES


@pytest.mark.parametrize("by", ["onnx", "torch"])
def test_a_net_that_looks_in_the_mirror_by_itself_shows_nobody_in_one(run, by, monkeypatch):
    monkeypatch.setattr("gfnet_pl.export.classifier.better_mirrored", lambda *_: True)
    classifier = Classifier.load(RUN, by=by)
    assert classifier.mirrored_views
    assert not classifier.enrol({CLASSES[0]: [unseen(1)[0]]}).mirrored
    classifier.mirrored_views = False
    assert classifier.enrol({CLASSES[0]: [unseen(1)[0]]}).mirrored
    record = json.loads((EXPORT / "export.json").read_text())
    del record["description"]["mirrored_views"]  # as an earlier version wrote it
    (EXPORT / "export.json").write_text(json.dumps(record))
    assert not read_export(ExportFolder(EXPORT)).description.mirrored_views


def test_the_report_has_the_table(run):
    assert main(["report"]) == 0
    page = " ".join((RUN / "report.html").read_text().split())
    row = read_export(ExportFolder(EXPORT)).rows[1]
    assert row[0] == "model.onnx"
    cells = "".join(f"<td>{cell}</td>" for cell in row[1:])
    assert f'<tr><th scope="row">model.onnx</th>{cells}</tr>' in page


def test_a_page_is_made_of_the_export_that_is_there_and_renewed_with_it(run, same_graph, capsys):
    before = (EXPORT / "model.onnx").stat().st_mtime_ns
    assert main(["export", "--page"]) == 0
    assert "open it in a browser" in capsys.readouterr().err
    assert (EXPORT / "model.onnx").stat().st_mtime_ns == before
    page = (EXPORT / "index.html").read_text()
    assert json.loads((EXPORT / "export.json").read_text())["description"]["weights_sha256"][:12] in page
    assert len(page) < 12e6
    (EXPORT / "index.html").write_text("an earlier page")
    assert main(["export", "--max-drop=100"]) == 0
    assert "an earlier page" not in (EXPORT / "index.html").read_text()
    (EXPORT / "model.onnx").write_bytes(b"cut")
    assert main(["export", "--page"]) == 2
    assert "model.onnx is damaged" in capsys.readouterr().err


def test_a_name_in_a_card_is_text():
    assert _text("a|b\n<script>[x](y)_") == r"a\|b \<script\>\[x\]\(y\)\_"


def test_a_run_that_was_not_tested_is_exported_with_one_line(run, capsys):
    for file in (RUN / "checkpoints").glob("*.calibration.*"):
        file.unlink()
    (RUN / "metrics.json").unlink()
    assert Classifier.load(RUN)(unseen(1)).pop().reason == "not calibrated"  # the export is of a calibration
    assert main(["export", "--out", "new", "--max-drop=100"]) == 0
    assert "has not been tested: the export says no accuracy" in capsys.readouterr().err
    description = read_export(ExportFolder(Path("new"))).description
    assert (description.accuracy, description.thresholds, description.temperature) == ({}, [], 1)
    (found,) = Classifier.load("new", by="onnxruntime")(unseen(1))
    assert (found.accepted, found.reason) == (None, "not calibrated")


def test_an_export_needs_the_pictures_and_says_where_they_may_be(run, capsys, monkeypatch):
    shutil.move("pictures", "moved")
    monkeypatch.setattr("gfnet_pl.export.check.data_root", lambda checkpoint: "pictures")
    assert main(["export"]) == 2
    assert "--data DIR says where they are" in capsys.readouterr().err
    assert main(["export", "--check", str(EXPORT), "--data", "moved"]) == 0


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime", "safetensors"])
def test_a_missing_package_is_one_line(run, capsys, monkeypatch, package):
    monkeypatch.setattr("gfnet_pl.errors.find_spec", lambda name: None if name == package else object())
    assert main(["export"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert f'gfnet export needs {package}, which is not installed: pip install "gfnet_pl[export]"' in last


@pytest.mark.parametrize("words", [["--check", "a", "b"], ["--out", "pictures/Unseen/ant/00.png"], ["--max-drop=-1"]])
def test_mistakes_in_the_command_are_one_line(run, words, capsys):
    assert main(["export", *words]) == 2
    assert words[0].partition("=")[0] in capsys.readouterr().err


def test_the_filter_of_a_large_map_is_exported_as_matrices(tmp_path):
    torch.manual_seed(0)
    net = GFNet(image_size=(50, 52), patch_size=1, dim=2, depth=1, num_classes=2).eval()
    assert net.map_size[0] * net.map_size[1] > MATRIX_MAX_TOKENS
    images = torch.randint(0, 256, (2, 1, 50, 52), dtype=torch.uint8)
    with torch.inference_mode():
        by_fft = net(images).numpy()
    facts = dict.fromkeys(("version", "commit", "run", "checkpoint_sha256", "weights_sha256", "input", "source"), "")
    facts |= {"classes": ["a", "b"], "canvas": {}, "preparation": [], "synthetic": False, "calibrated": ""}
    facts |= {"temperature": 1.0, "thresholds": [], "new_groups": 0, "familiar_within": None, "accuracy": {}}
    description = Description(format=FORMAT, opset=OPSET, outputs=OUTPUTS, **facts)
    write_onnx(tmp_path / "model.onnx", Exported(net, Calibration()), description)
    given = OnnxRuntime(tmp_path / "model.onnx")(images.numpy())
    np.testing.assert_allclose(given.logits, by_fft, atol=1e-5)
    assert given.distance is None


@pytest.mark.parametrize(
    "val, unseen, worst, lost",
    [(0.88, 0.8, 0.5, (2, "val")), (0.9, 0.7, 0.5, (0, "val")), (0.9, 0.8, 0.47, (3, "the worst group of unseen"))],
)
def test_int8_is_judged_by_validation_and_by_the_worst_group(val, unseen, worst, lost):
    own = Checked("checkpoint", 10, 0, 0, {"val": 0.9, "unseen": 0.8}, {"unseen": 0.5}, 0)
    small = Checked("model.int8.onnx", 10, 0, 0, {"val": val, "unseen": unseen}, {"unseen": worst}, 0)
    assert loss(small, own) == (pytest.approx(lost[0]), lost[1])


def test_int8_that_loses_too_much_is_not_written(same_graph, monkeypatch, capsys):
    monkeypatch.setattr("gfnet_pl.export.export.loss", lambda *_: (2.5, "val"))
    assert main(["export"]) == 0
    assert (
        "model.int8.onnx was not written: it loses 2.5 points on val, and --max-drop is 0.5" in capsys.readouterr().err
    )
    assert not (EXPORT / "model.int8.onnx").exists()  # that of the former export neither
    assert "model.int8.onnx" not in read_export(ExportFolder(EXPORT)).files


def test_the_classifier_says_the_same_of_every_kind_of_picture_and_by_either_program(run):
    paths = unseen(6)
    fast, slow = Classifier.load(RUN), Classifier.load(EXPORT, by="torch")
    own = Classifier.load(RUN / "checkpoints" / "best.ckpt", by="torch")
    assert isinstance(fast.runtime, OnnxRuntime)
    assert isinstance(Classifier.load(RUN / "checkpoints" / "best.ckpt").runtime, OnnxRuntime)  # it is of this one
    assert isinstance(Classifier.load(RUN / "checkpoints" / "last.ckpt").runtime, TorchRuntime)
    assert isinstance(slow.runtime, TorchRuntime)
    wanted = fast([*paths])
    with Image.open(paths[0]) as image:
        kinds = [str(paths[0]), paths[0].read_bytes(), image, np.asarray(image)]
        found = fast(kinds)
    for each in [*found, fast(paths[0]), slow(paths[0]), own(paths[0])]:
        assert (each.label, each.accepted, each.reason) == (wanted[0].label, wanted[0].accepted, wanted[0].reason)
        assert each.probability == pytest.approx(wanted[0].probability, abs=1e-5)
        np.testing.assert_allclose(each.features, wanted[0].features, atol=1e-5)
    assert fast(paths[0]).top[0] == (wanted[0].label, wanted[0].probability)
    assert len(wanted[0].top) == 3
    with Image.open(paths[0]) as image:
        grey = np.asarray(image.convert("L"))
    np.testing.assert_array_equal(fast.prepare(grey)[..., 0], fast.prepare(np.stack([grey] * 3, 2))[..., 0])
    assert fast([]) == []


def test_fewer_large_pictures_are_run_at_a_time():
    assert batch_of(96, 96) == 64
    assert batch_of(512, 512) == 9
    assert batch_of(4096, 4096) == 1


def test_predict_and_the_classifier_accept_by_the_rule_of_the_run(run, capsys):
    paths = unseen(30)
    classifier = Classifier.load(RUN)
    rows = {}
    assert main(["predict", *map(str, paths), "--out=rows.csv"]) == 0
    assert f"30 pictures by {EXPORT / 'model.onnx'}: rows.csv" in capsys.readouterr().err
    whole = (EXPORT / "model.onnx").read_bytes()
    (EXPORT / "model.onnx").write_bytes(whole[:-1])
    assert main(["predict", *map(str, paths), "--out=by_torch.csv"]) == 0
    (EXPORT / "model.onnx").write_bytes(whole)
    assert "model.onnx is damaged" in (told := capsys.readouterr().err)
    assert f"by {RUN / 'checkpoints' / 'best.ckpt'}: by_torch.csv" in told
    assert Path("by_torch.csv").read_text() == Path("rows.csv").read_text()
    for line in Path("rows.csv").read_text().splitlines()[1:]:
        path, label, probability, _, accepted, reason = line.split(",")
        rows[path] = label, probability, {"yes": True, "no": False}.get(accepted), reason
    found = classifier(paths)
    assert [(each.label, f"{each.probability:.4f}", each.accepted, each.reason) for each in found] == [
        rows[str(path)] for path in paths
    ]
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    far = classifier.runtime(np.ascontiguousarray(noise.transpose(2, 0, 1)[None]))
    assert far.distance[0] > classifier.familiar_within
    assert classifier(noise).accepted is False
    assert classifier(noise).reason == "unlike the training pictures"


@pytest.mark.parametrize(
    "picture, words",
    [
        ("pictures", "is a folder: give a list"),
        ("nowhere.png", "nowhere.png does not exist"),
        ("https://example.org/a.png", "is a URL"),
        (b"no picture", "it is none of PNG, JPEG"),
        (b"", "it is empty"),
        (np.zeros((4, 4)), "levels from 0 to 255 as uint8"),
        (np.zeros((4, 4, 4, 3), np.uint8), "several pictures as a list"),
        (np.zeros((0, 4), np.uint8), "is no picture"),
        (7, "is no picture"),
    ],
)
def test_what_is_no_picture_is_told_in_one_line(run, picture, words):
    with pytest.raises(UserError, match=words) as told:
        Classifier.load(EXPORT)(picture)
    assert "\n" not in str(told.value)


def test_the_classifier_takes_the_checkpoint_where_the_export_is_of_another(run, monkeypatch):
    checkpoint = RUN / "checkpoints" / "best.ckpt"
    content = torch.load(checkpoint, weights_only=True)
    content["state_dict"]["net.head.bias"] += torch.tensor([0.0, 0.0, 100.0])
    torch.save(content, checkpoint)
    classifier = Classifier.load(RUN)
    assert isinstance(classifier.runtime, TorchRuntime)
    assert classifier(unseen(1)[0]).label == classifier.classes[2]
    with pytest.raises(UserError, match="run gfnet export"):
        Classifier.load(RUN, by="onnxruntime")
    monkeypatch.setattr("gfnet_pl.export.classifier.find_spec", lambda name: None)
    assert isinstance(Classifier.load(EXPORT).runtime, TorchRuntime)  # without onnxruntime


def test_pictures_that_may_not_be_written_to_bring_no_warning():
    """Those from a pipe are such. PyTorch warns of them once in a process, so no other test would see it."""
    net = GFNet(image_size=16, patch_size=4, dim=8, depth=1, num_classes=3)
    images = np.zeros((1, 1, 16, 16), np.uint8)
    images.flags.writeable = False
    torch.set_warn_always(True)
    try:
        assert TorchRuntime(Exported(net, Calibration()))(images).logits.shape == (1, 3)
    finally:
        torch.set_warn_always(False)


def test_an_export_is_used_without_torch_and_lightning(run):
    code = "import sys; from gfnet_pl import Classifier; c = Classifier.load('runs/base/version_0')\n"
    code += "print(c(sys.argv[1]).label); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(unseen(1)[0])], capture_output=True, text=True, check=True)
    label, modules = done.stdout.splitlines()
    assert label in CLASSES
    packages = {name.partition(".")[0] for name in modules.split()}
    assert "onnxruntime" in packages
    assert not packages & {"torch", "lightning", "torchmetrics", "jsonargparse", "onnx"}


def test_a_person_who_was_enrolled_is_known_to_predict_and_to_python(run, capsys):
    mine = Path("mine")
    for label in CLASSES[:2]:
        shutil.copytree(f"pictures/Unseen/{label}", mine / label)
    (mine / CLASSES[0] / "00.png").write_bytes(b"")
    (mine / "dog").mkdir()
    shutil.copy(unseen(1)[0], mine / "dog")
    assert main(["enrol", "--pictures", "mine"]) == 0
    told = capsys.readouterr().err
    assert "left out: mine/ant/00.png (it is empty) and 1 more" in told  # dog is no class of the net
    assert "mine: 2 of 3 classes, without Cat; 11 to 12 per class" in told
    file = RUN / "enrolled" / "mine.npz"
    paths = [*map(str, unseen(30))]
    classifier = Classifier.load(RUN)
    known = read_enrolment(file, classifier.classes, classifier.digest)
    assert known.counts.tolist() == [0, 11, 12]  # as the classes are sorted
    own = {label: [path for path in sorted((mine / label).iterdir()) if path.stat().st_size] for label in CLASSES[:2]}
    np.testing.assert_allclose(classifier.enrol(own).means, known.means, atol=1e-5)
    for options in ([], [f"--ckpt_path={RUN / 'checkpoints' / 'best.ckpt'}", "--accelerator=cpu"]):
        assert main(["predict", *paths, "--person=mine", "--out=rows.csv", *options]) == 0
        rows = [line.split(",")[1:3] for line in Path("rows.csv").read_text().splitlines()[1:]]
        found = classifier(paths, person=known)
        assert rows == [[each.label, f"{each.probability:.4f}"] for each in found]
        assert [each.probability for each in found] != [each.probability for each in classifier(paths)]
    turned = replace(known, mirrored=True)
    write_enrolment(file.with_name("left.npz"), turned, classifier.classes, classifier.digest)
    for path in paths:
        Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
    assert main(["predict", *paths, "--person=left", "--out=left.csv"]) == 0
    rows = [line.split(",")[1:3] for line in Path("left.csv").read_text().splitlines()[1:]]
    in_mirror = classifier(paths, person=turned)
    assert rows == [[each.label, f"{each.probability:.4f}"] for each in in_mirror]
    for one, other in zip(found, in_mirror, strict=True):  # as the pictures were, but for the rounding of their sizes
        assert one.probability == pytest.approx(other.probability, abs=0.02)
    content = torch.load(RUN / "checkpoints" / "last.ckpt", weights_only=True)
    content["state_dict"]["net.head.bias"] += 1
    torch.save(content, RUN / "checkpoints" / "last.ckpt")
    last = f"--ckpt_path={RUN / 'checkpoints' / 'last.ckpt'}"
    damaged = file.with_name("damaged.npz")
    damaged.write_bytes(file.read_bytes()[:-40])
    for words, line in (
        (["predict", paths[0], "--person=mine", last], "mine.npz is of another net"),
        (
            ["predict", paths[0], "--person=nobody"],
            "nobody.npz does not exist: enrolled is damaged, left, mine; gfnet enrol",
        ),
        (["predict", paths[0], "--person", str(damaged)], "damaged.npz cannot be read"),
        (["predict", paths[0], "--person=../mine"], "'../mine' cannot name a file"),
        (["enrol", "--pictures", "nowhere"], "--pictures: nowhere is not a folder"),
        (["enrol", "--pictures", "mine/dog"], "--pictures: mine/dog holds no picture of a class that the net knows"),
    ):
        assert main(words) == 2
        assert line in capsys.readouterr().err.splitlines()[-1]
    with pytest.raises(UserError, match="the net has no class 'ent'; did you mean ant"):
        classifier.enrol({"ent": paths})
    shown = enrolled(curve_of(read_run(RunFolder(RUN)).results))
    assert "first shows each sign once" in shown["enrolled_words"]
    assert "only one clip" in shown["enrolled_note"]
    assert "accuracy on unseen by pictures shown per class" in shown["enrolled_chart"]
