import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import QUIET
from PIL import Image

from gfnet_pl.cli import main
from gfnet_pl.data.datamodule import ImageDataModule
from gfnet_pl.data.manifest import Picture
from gfnet_pl.errors import UserError
from gfnet_pl.evaluation.calibration import log_loss, probabilities
from gfnet_pl.run.folder import RunFolder
from gfnet_pl.run.result_files import read_calibration, read_results, write_results
from gfnet_pl.run.results import Results, SetResults
from gfnet_pl.training.classifier import GFNetClassifier

RUN = Path("runs/base/version_0")
BEST = RUN / "checkpoints" / "best.ckpt"


def last_line(capsys):
    return capsys.readouterr().err.splitlines()[-1]


@pytest.fixture
def tested(tiny):
    assert main([*tiny, "--model.lr=3e-3", "--trainer.max_epochs=3"]) == 0
    assert main(["test", *QUIET]) == 0


def rows(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def test_every_evaluated_picture_has_a_row_with_what_the_net_says_of_it(tested, pictures):
    model = GFNetClassifier.load_from_checkpoint(BEST, map_location="cpu").eval()
    temperature = json.loads((RUN / "metrics.json").read_text())["calibration"]["temperature"]
    assert abs(temperature - 1) > 0.1  # or calibrated probabilities could not be told from the net's own
    found = rows(RUN / "predictions.csv")
    splits = {row["path"]: row["split"] for row in rows(RUN / "splits.csv") if row["split"] not in ("train", "unused")}
    assert {row["path"]: row["split"] for row in found} == splits
    for row in found[::5]:
        pixels = torch.from_numpy(np.array(Image.open(pictures / row["path"])))[None, None]
        with torch.no_grad():
            shares = probabilities(model(pixels).numpy(), temperature)[0]
        assert row["prediction"] == model.classes[shares.argmax()]
        assert float(row["probability"]) == pytest.approx(shares.max(), abs=1e-4)
        assert row["label"] == row["path"].split("/")[1]
        assert row["top3"].split()[0] == f"{row['prediction']}:{row['probability']}"


def test_the_figures_are_those_of_the_rows(tested):
    found = rows(RUN / "predictions.csv")
    metrics = json.loads((RUN / "metrics.json").read_text())
    for name, figures in metrics["sets"].items():
        mine = [row for row in found if row["split"] == name]
        assert figures["accuracy"]["images"] == len(mine)
        assert figures["accuracy"]["right"] == sum(row["label"] == row["prediction"] for row in mine)
    assert metrics["gap"]["unseen"] == "unseen"
    assert metrics["source"].endswith("pictures")


def test_what_was_written_is_read_back(tested):
    results = read_results(RunFolder(RUN))
    found = rows(RUN / "predictions.csv")
    assert [picture.path for each in results.sets.values() for picture in each.pictures] == [
        row["path"] for row in found
    ]
    for name, figures in json.loads((RUN / "metrics.json").read_text())["sets"].items():
        assert results.figures[name].accuracy.right == figures["accuracy"]["right"]
        assert results.sets[name].features.shape == (figures["accuracy"]["images"], 16)
    assert read_results(RunFolder(Path("runs"))) is None


@pytest.mark.parametrize("break_it", ["cut", "other"])
def test_files_that_do_not_go_together_are_refused_in_one_line(tested, break_it):
    file = RUN / "predictions.csv"
    if break_it == "cut":
        file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    else:
        (RUN / "metrics.json").write_text("{")
    from gfnet_pl.errors import UserError

    with pytest.raises(UserError, match="run gfnet test again"):
        read_results(RunFolder(RUN))


def test_predict_uses_the_calibration_that_test_has_fitted(tiny, pictures, caplog):
    assert main([*tiny, "--model.lr=5e-3", "--trainer.max_epochs=4"]) == 0
    paths = ["--out=predictions.csv", str(pictures / "Test")]
    assert main(["predict", *paths]) == 0
    assert any("no calibration yet" in line for line in caplog.messages)
    raw = [float(row["probability"]) for row in rows(Path("predictions.csv"))]
    assert main(["test", *QUIET]) == 0
    side = BEST.with_suffix(".calibration.json")
    fitted = json.loads(side.read_text())
    fitted["temperature"] = 1.0
    fitted["rejections"][0]["threshold"] = threshold = float(np.median(raw))
    assert fitted["promise"].startswith("for the same people only")
    assert fitted["familiar_within"] > 0
    fitted["familiar_within"] = 1e9
    side.write_text(json.dumps(fitted))
    assert main(["predict", *paths]) == 0
    found = rows(Path("predictions.csv"))
    assert [float(row["probability"]) for row in found] == raw
    assert [row["accepted"] for row in found if float(row["probability"]) > threshold + 1e-4] == ["yes"] * 6
    assert [row["accepted"] for row in found if float(row["probability"]) < threshold - 1e-4] == ["no"] * 6
    assert {row["reason"] for row in found} == {"", "too uncertain"}
    side.write_text(json.dumps(fitted | {"familiar_within": 0.0}))
    assert main(["predict", *paths]) == 0
    found = {(row["accepted"], row["reason"]) for row in rows(Path("predictions.csv"))}
    assert found == {("no", "unlike the training pictures")}
    side.write_text(json.dumps(fitted | {"temperature": 1000.0}))
    assert main(["predict", *paths]) == 0
    assert all(float(row["probability"]) == pytest.approx(1 / 3, abs=0.01) for row in rows(Path("predictions.csv")))


def test_a_calibration_of_other_weights_is_not_used(tested):
    assert read_calibration(BEST) is not None
    checkpoint = torch.load(BEST, weights_only=True)
    checkpoint["state_dict"]["net.head.bias"] += 1
    torch.save(checkpoint, BEST)
    assert read_calibration(BEST) is None


def test_a_calibration_whose_arrays_are_of_other_weights_or_gone_is_refused_and_an_old_one_has_none(tested, capsys):
    side, arrays = BEST.with_suffix(".calibration.json"), BEST.with_suffix(".calibration.npz")
    whole = read_calibration(BEST)
    assert whole.familiarity is not None
    with np.load(arrays) as found:
        np.savez(arrays, **dict(found) | {"sha256": np.array("0")})
    with pytest.raises(UserError, match=r"of other weights.*run gfnet test again"):
        read_calibration(BEST)
    arrays.unlink()
    with pytest.raises(UserError, match="run gfnet test again"):
        read_calibration(BEST)
    record = json.loads(side.read_text())
    old = {key: record[key] for key in ("fitted_on", "sha256", "temperature", "rejections")}
    side.write_text(json.dumps(old))  # as version 0.1.0 wrote it
    assert read_calibration(BEST) == whole._replace(familiarity=None)


def test_calibration_is_of_new_people_where_there_are_enough_and_their_figures_of_the_others_calibration(
    tiny, pictures
):
    rule = ["--data.group_by", r"/(\d\d)\.png", "--data.unseen_groups=6", "--data.root", str(pictures / "Train")]
    assert main([*tiny, *rule, "--trainer.max_epochs=3", "--model.lr=5e-3", "--data.holdout_per_class=0"]) == 0
    assert main(["test", *QUIET]) == 0
    results = read_results(RunFolder(RUN))
    calibration = read_calibration(BEST)
    assert results.fitted_on == json.loads((RUN / "metrics.json").read_text())["calibration"]["fitted_on"] == "unseen"
    assert calibration.promise == "for new people: fitted on 6 whom training never saw"
    assert calibration.temperature == results.calibration.temperature
    np.testing.assert_array_equal(calibration.familiarity.means, results.calibration.familiarity.means)
    unseen = results.sets["unseen"]
    in_sample = log_loss(unseen.logits, unseen.labels, calibration.temperature)
    assert results.figures["unseen"].calibrated_log_loss > in_sample
    val = results.sets["val"]
    assert results.figures["val"].calibrated_log_loss == log_loss(val.logits, val.labels, calibration.temperature)


def test_weights_that_are_not_finite_are_said_in_one_line(tested, capsys):
    checkpoint = torch.load(BEST, weights_only=True)
    checkpoint["state_dict"]["net.head.weight"][0, 0] = float("nan")
    torch.save(checkpoint, BEST)
    before = (RUN / "metrics.json").read_text()
    assert main(["test", *QUIET]) == 2
    line = last_line(capsys)
    assert "no finite numbers for 6 of 6 val pictures" in line
    assert (RUN / "metrics.json").read_text() == before


@pytest.mark.parametrize(("command", "option"), [("test", "limit_test_batches"), ("validate", "limit_val_batches")])
def test_figures_of_a_part_of_a_set_are_refused(tested, capsys, command, option):
    before = (RUN / "metrics.json").read_text()
    assert main([command, *QUIET, "--data.batch_size=4", f"--trainer.{option}=0.5"]) == 2
    assert "only 4 of 6 val pictures were scored" in last_line(capsys)
    assert (RUN / "metrics.json").read_text() == before


@pytest.mark.parametrize("option", ["--trainer.limit_test_batches=0", "--trainer.strategy=ddp_spawn"])
def test_a_test_of_nothing_replaces_nothing(tested, capsys, monkeypatch, option):
    if "spawn" in option:  # without its two processes: what matters is that their outputs do not come back
        monkeypatch.setattr("gfnet_pl.training.outputs.KeepOutputs.on_test_epoch_end", lambda *_: None)
        option = "--trainer.strategy=auto"
    before = {path: path.read_bytes() for path in RUN.rglob("*") if path.suffix in (".csv", ".json", ".npz")}
    assert main(["test", *QUIET, option]) == 2
    assert "none of the val pictures was scored, so nothing is written" in last_line(capsys)
    assert {path: path.read_bytes() for path in before} == before


def test_results_are_replaced_together_or_not_at_all(tested, monkeypatch):
    """A disk that is full in the middle leaves the files of one test, not of two."""
    before = {path: path.read_bytes() for path in RUN.rglob("*") if path.suffix in (".csv", ".json", ".npz")}
    results = read_results(RunFolder(RUN))
    bad = replace(results, checkpoint=results.checkpoint | {"stage": object()})  # JSON cannot store it
    monkeypatch.setattr("gfnet_pl.run.result_files.likeliest", lambda shares, classes: [("x", "0", "x")] * len(shares))
    with pytest.raises(TypeError):
        write_results(bad)
    assert {path: path.read_bytes() for path in before} == before


def test_how_a_run_was_trained_does_not_decide_how_it_is_evaluated(tiny, capsys):
    """Batches were left out, and its devices are elsewhere."""
    assert main([*tiny, "--trainer.max_epochs=1", "--trainer.limit_val_batches=1", "--data.batch_size=4"]) == 0
    assert main(["validate", *QUIET]) == 0
    assert "val" in capsys.readouterr().out
    checkpoint = torch.load(BEST, weights_only=True)
    checkpoint["gfnet_pl"]["config"]["trainer"] |= {"devices": 8, "num_nodes": 2, "accelerator": "gpu"}
    torch.save(checkpoint, BEST)
    assert main(["test"]) == 0


def test_the_outputs_of_a_set_are_in_the_order_of_its_pictures_whatever_the_batches(tested, pictures):
    first = read_results(RunFolder(RUN)).sets["unseen"].logits
    assert main(["test", *QUIET, "--data.batch_size=4"]) == 0
    np.testing.assert_allclose(read_results(RunFolder(RUN)).sets["unseen"].logits, first, atol=1e-5)
    data = ImageDataModule(str(pictures), splits=str(RUN / "splits.csv"), image_size=16)
    data.setup("test")
    np.testing.assert_array_equal(read_results(RunFolder(RUN)).sets["unseen"].labels, data.sets["unseen"].labels)


def test_there_is_no_gap_between_sets_that_were_all_drawn_by_group(tiny, pictures):
    rule = ["--data.group_by", r"/(\d\d)\.png", "--data.unseen_groups=2"]
    for stage, split_by in (("mixed", "image"), ("apart", "group")):
        assert main([*tiny, *rule, f"--stage={stage}", f"--data.split_by={split_by}", "--trainer.max_epochs=1"]) == 0
        assert main(["test", *QUIET]) == 0
        metrics = json.loads(Path(f"runs/{stage}/version_0/metrics.json").read_text())
        assert ("holdout" in metrics["known"], metrics["gap"] is None) == (split_by == "image", split_by == "group")


def test_calibration_is_fitted_on_dev_and_the_unseen_people_are_trusted():
    random = np.random.default_rng(0)

    def of(name):
        pictures = [Picture(f"{name}{n}", "a", name, f"{name}{n % 8}") for n in range(64)]
        logits = random.standard_normal((64, 2)).astype(np.float32)
        return SetResults(pictures, np.zeros(64, np.int64), logits, logits)

    sets = {name: of(name) for name in ("val", "dev", "unseen")}
    found = Results(classes=["a", "b"], checkpoint={}, source="", root=None, known=["val"], sets=sets)
    assert (found.fitted_on, found.trusted) == ("dev", "unseen")
