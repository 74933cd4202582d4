"""Whatever a class, a file or a group is called: it is trained on, and every file and page of the run has its name."""

import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import CLASSES, QUIET, TINY_NET, write_picture
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from trees import manifest

from gfnet_pl.cli import main
from gfnet_pl.data.splits import read_splits
from gfnet_pl.export.classifier import Prediction
from gfnet_pl.export.predictions import Classified, predictions_table
from gfnet_pl.messages import printable
from gfnet_pl.run.confusion import confusion_emphasis
from gfnet_pl.run.folder import RunFolder
from gfnet_pl.run.losses import read_losses
from gfnet_pl.run.run import read_run
from gfnet_pl.tables import read_records

# As YAML, CSV, HTML, a terminal and TensorBoard could misread them. No file is called so: on Windows it could not be.
NAMES = ["nan", "null", "true", "01", "1e3", 'quo"te', "com,ma", "li\nne", "retur\rn", "a:b c", "=1+1", "</script>"]
NAMES += ["<b>&amp;", "\x1b[31mred", "u\u2028l", "emoji 😀", " blank ", "2024-01-01", "%s {x}", "a/b\\c"]


@pytest.fixture
def named(tmp_path: Path) -> Path:
    rows = []
    for number, name in enumerate(NAMES):
        for index in range(3):
            path = f"{number}/{index}.png"
            write_picture(tmp_path / "named" / path, CLASSES[number % 3], 10 * number + index)
            rows.append((path, name, "test" if index == 2 else "train", name))
    return manifest(tmp_path / "named", rows=rows)


def test_every_name_survives_training_test_report_and_prediction(named, workplace, capsys):
    Path("named.yaml").write_text(yaml.safe_dump({"data": {"class_emphasis": dict.fromkeys(NAMES, 1.5)}}), "utf-8")
    fit = ["fit", "--config=named.yaml", *TINY_NET, *QUIET, "--trainer.max_epochs=1", "--model.warmup_epochs=0"]
    assert main([*fit, f"--data.root={named}", "--data.batch_size=32"]) == 0
    assert main(["test", *QUIET]) == 0
    run = RunFolder(Path("runs/base/version_0"))
    # YAML
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["fit", f"--config={run.config}", "--print_config"])
    again, stored = (
        yaml.load(text, yaml.BaseLoader)["data"] for text in (capsys.readouterr().out, run.config.read_text("utf-8"))
    )
    assert again == stored
    assert stored["class_emphasis"].keys() == set(NAMES)
    # CSV and JSON
    results = read_run(run).results
    assert results.classes == sorted(NAMES)
    assert {picture.group for picture in results.sets["test"].pictures} == set(NAMES)
    assert {(picture.label, picture.group) for picture in read_splits(run.splits)} == {(n, n) for n in NAMES}
    assert list(confusion_emphasis(run)) == sorted(NAMES)
    assert {loss.label for loss in read_losses(run)} == set(NAMES)
    # the report, which is HTML with JSON in it
    assert main(["report"]) == 0
    page = run.report.read_text("utf-8")
    assert "<b>&amp;" not in page.replace("<b>&amp;amp;", "")
    data = [json.loads(text) for text in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.S)]
    assert data[0]["classes"] == sorted(NAMES)
    # TensorBoard: a curve for each class
    events = EventAccumulator(str(run.path)).Reload()
    tags = {tag.removeprefix("val_curve/") for tag in events.Tags()["tensors"] if tag.startswith("val_curve/")}
    assert tags == set(NAMES)
    # and the table of a prediction, in whose file formulas are disarmed
    capsys.readouterr()
    assert main(["predict", str(named.parent / "*/0.png")]) == 0
    assert main(["predict", str(named.parent / "0/*.png"), "--out=few.csv"]) == 0
    out = capsys.readouterr()
    assert "\x1b" not in out.out + out.err
    with open("predictions.csv", newline="", encoding="utf-8") as file:
        assert {row["prediction"] for row in read_records(file)} <= set(NAMES)


def test_the_table_of_a_prediction_has_the_next_classes_whatever_they_are_called():
    for one, other in pairwise(NAMES):
        found = Prediction(other, 0.73, [(other, 0.73), (one, 0.27)], None, "", np.zeros(1, np.float32))
        (cell,) = predictions_table([Classified("a.png", found, "")]).columns[2].cells
        assert str(cell) == f"{printable(one)} 27%"
