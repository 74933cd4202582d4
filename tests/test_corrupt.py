"""Whatever is wrong with a file of a run: one line that names it, or the command goes on without it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import QUIET

from gfnet_pl.cli import main
from gfnet_pl.files import sha256

OLD = Path(__file__).parent / "old_run"
RUN = Path("runs/base/version_0")
BEST = RUN / "checkpoints" / "best.ckpt"
CALIBRATION = BEST.with_suffix(".calibration.json")
DEEP = "[" * 50_000


@pytest.fixture(autouse=True)
def old_run(workplace):
    shutil.copytree(OLD / "pictures", "pictures")
    shutil.copytree(OLD / "version_0", RUN)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        "1",
        "null",
        '"x"',
        "[1]",
        "[{}]",
        DEEP,
        '[{"started": 1}]',
        '[{"started": "x"}]',
        "NaN",
        "\0",
    ],
)
def test_a_damaged_record_hinders_nothing_and_is_kept_aside(text, caplog):
    (RUN / "run.json").write_text(text)
    assert main(["runs"]) == 0
    assert main(["validate", *QUIET]) == 0
    told = [line for line in caplog.messages if "run.json cannot be read" in line]
    assert told or text == "[]"
    if text == "{":
        assert main(["fit", *QUIET, "--stage=base", "--ckpt_path=last.ckpt", "--trainer.max_epochs=3"]) == 0
        assert (RUN / "run.damaged.json").read_text() == text
        assert json.loads((RUN / "run.json").read_text())[-1]["state"] == "finished"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("temperature", value) for value in (0, -1, "NaN", "Infinity", '"x"', "null", "1e999", "[]")),
        ("rejections", '[{"error_rate": 0.01, "threshold": "x"}]'),
        ("rejections", '[{"error_rate": 0.01, "threshold": []}]'),
        ("rejections", '[{"error_rate": 0.01, "threshold": NaN}]'),
        ("rejections", "[1]"),
        ("new_groups", "Infinity"),
        ("sha256", DEEP),
    ],
)
def test_a_calibration_that_is_none_is_refused(capsys, key, value):
    whole = {"sha256": f'"{sha256(BEST)}"', "temperature": 1, "rejections": "[]", "new_groups": 0} | {key: value}
    CALIBRATION.write_text("{" + ", ".join(f'"{name}": {text}' for name, text in whole.items()) + "}")
    assert main(["predict", "pictures/Unseen"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"gfnet: error: {CALIBRATION} cannot be read (")
    assert line.endswith("; remove it, or run gfnet test again")


@pytest.mark.parametrize("name", ["metrics.json", "predictions.csv", "outputs.npz"])
def test_damaged_results_are_named_and_a_test_replaces_them(capsys, name):
    path = RUN / name
    whole = path.read_bytes()
    other = {"metrics.json": [b"[]", b"{}", DEEP.encode()], "predictions.csv": [b'"', b"path,split\nx,y\n"]}
    for content in (b"", whole[: len(whole) // 2], b"\xff\xfe", *other.get(name, [])):
        path.write_bytes(content)
        assert main(["report"]) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith(f"gfnet: error: {RUN}/") and line.endswith("; run gfnet test again")
        assert name in line and " cannot be read (" in line
        assert main(["runs"]) == 0
    assert main(["test", *QUIET]) == 0


def test_damaged_filters_and_losses_do_not_hinder_a_run_that_goes_on(caplog):
    (RUN / "filters.npz").write_bytes(b"PK")
    (RUN / "config.yaml").write_bytes(b"\xff")
    (RUN / "val_confusion.csv").write_text("a\n")
    assert main(["fit", *QUIET, "--stage=base", "--ckpt_path=last.ckpt", "--trainer.max_epochs=3"]) == 0
    assert any("filters.npz cannot be read" in line for line in caplog.messages)
    assert main(["runs"]) == 0


def test_to_predict_a_checkpoint_is_enough():
    shutil.copy(BEST, "alone.ckpt")
    shutil.rmtree("runs")
    assert main(["predict", "--ckpt_path=alone.ckpt", "pictures/Unseen"]) == 0
    assert torch.load("alone.ckpt", weights_only=True)["epoch"] >= 0
