"""A run that version 0.1.0 made, and its checkpoints, are read by this one. Its events are not stored here."""

import json
import logging
import re
import shutil
from pathlib import Path

import pytest
import torch
from conftest import QUIET

from gfnet_pl import Classifier
from gfnet_pl.cli import main
from gfnet_pl.run.checkpoint import Checkpoint
from gfnet_pl.training.classifier import GFNetClassifier

OLD = Path(__file__).parent / "old_run"
RUN = Path("runs/base/version_0")
BEST, LAST = RUN / "checkpoints" / "best.ckpt", RUN / "checkpoints" / "last.ckpt"


@pytest.fixture(autouse=True)
def old_run(workplace):
    shutil.copytree(OLD / "pictures", "pictures")
    shutil.copytree(OLD / "version_0", RUN)
    metrics = json.loads((RUN / "metrics.json").read_text())
    (RUN / "metrics.json").write_text(json.dumps(metrics | {"root": str(Path("pictures").absolute())}))


@pytest.fixture
def no_umap(monkeypatch):
    from gfnet_pl.errors import UserError

    def refuse(points):
        raise UserError("no map")

    monkeypatch.setattr("gfnet_pl.report.analysis.umap_map", refuse)


def figures():
    return json.loads((RUN / "metrics.json").read_text())["sets"]


def test_a_run_of_each_released_version_is_kept_and_loads():
    changelog = (OLD.parents[1] / "CHANGELOG.md").read_text(encoding="utf-8")
    kept = {json.loads(record.read_text())[0]["gfnet_pl"]: record for record in OLD.parent.glob("old_run*/*/run.json")}
    assert kept.keys() == set(re.findall(r"^## \[(\d.*?)\]", changelog, re.MULTILINE))  # a release adds its own
    for record in kept.values():
        for checkpoint in record.parent.glob("checkpoints/*.ckpt"):
            assert Checkpoint.load(checkpoint).net()(torch.zeros(1, 1, 16, 16)).isfinite().all()


def test_its_results_make_a_report_as_they_are(no_umap):
    before = (RUN / "metrics.json").read_bytes()
    assert main(["report"]) == 0
    assert "5 of 6" in (RUN / "report.html").read_text()
    assert (RUN / "metrics.json").read_bytes() == before  # it was not tested again


def test_it_is_tested_with_the_same_figures():
    before = figures()
    assert main(["test", *QUIET]) == 0
    for name, after in figures().items():
        assert after["confusion"] == before[name]["confusion"]
        assert after["log_loss"] == pytest.approx(before[name]["log_loss"], abs=1e-5)


def test_it_has_one_view_of_each_picture(capsys):
    assert main(["test", *QUIET, "--model.shifted_views=true"]) == 2
    assert "model.shifted_views is True in this command but False in" in capsys.readouterr().err


def test_its_net_is_used_in_python_as_it_was_calibrated():
    pictures = sorted(Path("pictures").rglob("*.png"))[:3]
    for each in Classifier.load(RUN)(pictures):
        assert each.label in ("Cat", "ant", "bee")
        assert each.reason != "not calibrated"


def test_its_checkpoint_is_loaded_in_python():
    model = GFNetClassifier.load_from_checkpoint(BEST, map_location="cpu", weights_only=True)
    assert model.classes == ["Cat", "ant", "bee"]
    assert model(torch.zeros(1, 1, 16, 16)).shape == (1, 3)


def test_it_predicts_with_its_calibration():
    assert main(["predict", "--data.predict_paths", "pictures/Unseen"]) == 0
    rows = Path("predictions.csv").read_text().splitlines()
    assert rows[0] == "path,prediction,probability,top3,accepted,reason"
    assert {row.split(",", 4)[4] for row in rows[1:]} == {"unknown,no threshold keeps errors below 1 %"}


def test_it_is_resumed_and_polished(caplog):
    caplog.set_level(logging.INFO)
    assert main(["fit", *QUIET, "--stage=base", "--ckpt_path=last.ckpt", "--trainer.max_epochs=3"]) == 0
    assert any("resuming" in line and "at epoch 2" in line for line in caplog.messages)
    assert len(json.loads((RUN / "run.json").read_text())) == 2
    assert main(["fit", "--config=polish.yaml", *QUIET, "--ckpt_path=last.ckpt", "--trainer.max_epochs=1"]) == 0
    assert any("warm start" in line for line in caplog.messages)


def test_its_emphasis_on_the_errors_of_a_run_goes_on():
    content = torch.load(LAST, weights_only=True)
    content["gfnet_pl"]["config"]["data"]["emphasis_from"] = str(RUN)
    torch.save(content, LAST)
    (RUN / "val_confusion.csv").write_text("true,Cat,ant,bee\nCat,1,0,0\nant,0,0,1\nbee,0,0,1\n")
    assert main(["fit", *QUIET, "--stage=base", "--ckpt_path=last.ckpt", "--trainer.max_epochs=3"]) == 0
    now = torch.load(LAST, weights_only=True)["gfnet_pl"]["config"]["data"]
    assert now["class_emphasis"] == {"Cat": 1.0, "ant": 2.0, "bee": 2.0}


@pytest.mark.parametrize(
    ("group", "option", "value"),
    [
        ("data", "augment", {"shear": 3.0}),
        ("data", "augment", {"mixup": 0.2}),
        ("model", "decay_matrices_only", True),
    ],
)
def test_a_run_with_a_setting_that_is_gone_is_tested_but_not_resumed(capsys, group, option, value):
    content = torch.load(LAST, weights_only=True)
    settings = content["hyper_parameters"] if group == "model" else content["gfnet_pl"]["config"][group]
    settings[option] = value
    torch.save(content, LAST)
    assert main(["test", *QUIET, "--ckpt_path=last.ckpt"]) == 0
    capsys.readouterr()
    assert main(["fit", *QUIET, "--stage=base", "--ckpt_path=last.ckpt", "--trainer.max_epochs=3"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "which this version no longer has; resume it with gfnet_pl 0.1.0, or start again from its weights" in line
    assert main(["fit", *QUIET, "--stage=other", "--ckpt_path=last.ckpt", "--trainer.max_epochs=1"]) == 0


def test_published_weights_are_not_laid_over_its_own(capsys):
    assert main(["fit", *QUIET, "--stage=other", "--ckpt_path=last.ckpt", "--model.pretrained=x.pth"]) == 2
    assert "model.pretrained is x.pth in this command but None in runs/base" in capsys.readouterr().err


def test_its_config_makes_such_a_run_again_and_what_is_gone_is_named_where_it_is_on(capsys):
    config = RUN / "config.yaml"
    assert main(["fit", f"--config={config}", "--trainer.max_epochs=1", "--stage=again"]) == 0
    capsys.readouterr()
    for off, on, key, end in (
        ("shear: 0.0", "shear: 3.0", "data.augment.shear", "it is gone: remove it"),
        ("mixup: 0.0", "mixup: 0.2", "data.augment.mixup", "it is gone: remove it"),
        ("  emphasis_from: null", "  emphasis_from: x", "data.emphasis_from", "it is called emphasis_from now"),
    ):
        Path("on.yaml").write_text(config.read_text().replace(off, on))
        assert main(["fit", "--config=on.yaml"]) == 2
        assert capsys.readouterr().err.splitlines()[-1] == f"gfnet: error: unknown option {key}; {end}"
