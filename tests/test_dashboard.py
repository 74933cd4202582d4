import csv
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CLASSES
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from gfnet_pl.cli import main
from gfnet_pl.data.batches import ImageArray
from gfnet_pl.data.manifest import Picture
from gfnet_pl.data.splits import SPLITS
from gfnet_pl.evaluation.filters import magnitude
from gfnet_pl.run.results import SetResults
from gfnet_pl.training import dashboard, validation_pages
from gfnet_pl.training.classifier import GFNetClassifier
from gfnet_pl.training.drawings import bars, confusion_matrix, filters, grid, history, sentence
from gfnet_pl.training.validation_pages import ValidationPages

RUN = Path("runs/base/version_0")
THREE = ["--trainer.max_epochs=3", "--trainer.log_every_n_steps=1", "--model.lr=5e-3"]
BLUE, RED, GREY = [33, 102, 172], [178, 24, 43], [225, 225, 225]


class Writer:
    """Keeps what it is given."""

    def __init__(self):
        self.given = {}

    def add_image(self, tag, pixels, step, dataformats):
        assert pixels.dtype == np.uint8 and dataformats == "HWC"
        self.given[tag] = pixels

    def add_histogram(self, tag, values, step, bins):
        self.given[tag] = values

    def add_pr_curve(self, tag, labels, predictions, step):
        self.given[tag] = labels, predictions

    def add_embedding(self, features, **rest):
        self.given["embedding"] = {"features": features, **rest}


def read(run=RUN):
    return EventAccumulator(str(run), size_guidance={"scalars": 0, "images": 0, "tensors": 0, "histograms": 0}).Reload()


def validated(labels, logits, classes=CLASSES, paths=None):
    count = len(labels)
    images = np.random.default_rng(0).integers(0, 256, (count + 1, 16, 16), dtype=np.uint8)
    rows = np.arange(count)[::-1]  # the set's order is not the cache's
    paths = paths or [f"{number}.png" for number in range(count)]
    seen = SetResults(
        pictures=[Picture(path, classes[label], "val") for path, label in zip(paths, labels, strict=True)],
        labels=np.array(labels),
        logits=np.array(logits, np.float32),
        features=np.arange(2 * count, dtype=np.float32).reshape(count, 2),
    )
    return ValidationPages(Writer(), 3, list(classes), seen, ImageArray(images, rows, np.array(labels)))


def shown(pages):
    pages.show()
    pages.show_features()
    return pages.writer.given


def test_each_validation_is_drawn_once_at_its_epoch_and_the_check_before_training_is_not(tiny):
    assert main([*tiny, *THREE]) == 0
    events = read()
    for tag in ("val/classes", "val/confusion", "val/worst_errors", "train/filters"):
        assert [image.step for image in events.Images(tag)] == [0, 1, 2], tag
        assert all(len(np.unique(pixels(image))) > 5 for image in events.Images(tag)), tag
    for name in CLASSES:
        assert [curve.step for curve in events.Tensors(f"val_curve/{name}")] == [0, 1, 2]
    histograms = [event for kind in ("right", "wrong") for event in of(events, f"val_confidence/{kind}")]
    assert {
        step: sum(h.histogram_value.num for h in histograms if h.step == step) for step in range(3)
    } == dict.fromkeys(range(3), 6)
    assert len(events.Images("train/class_balance")) == 1


def test_training_and_validation_share_charts_with_the_epoch_as_x(tiny):
    assert main([*tiny, *THREE]) == 0
    events = read()
    (config,) = events.Tensors("custom_scalars__config__")
    layout = Layout.FromString(config.tensor_proto.string_val[0])
    tags = [list(chart.multiline.tag) for category in layout.category for chart in category.chart]
    assert tags[:2] == [["accuracy/train", "accuracy/val"], ["loss/train", "loss/val"]]
    assert {tag for of_chart in tags[:2] for tag in of_chart} <= set(events.Tags()["scalars"])
    by_step = [event.value for event in events.Scalars("train/loss")]
    by_epoch = events.Scalars("loss/train")
    assert [event.step for event in by_epoch] == [0, 1, 2]
    expected = np.reshape(by_step, (3, -1)).mean(1)  # batches are of one size
    assert [event.value for event in by_epoch] == pytest.approx(expected.tolist(), rel=1e-5)


def test_the_hparams_tab_knows_all_sets_and_no_value_before_there_is_one(tiny):
    assert main([*tiny, *THREE, "--data.augment.rotation=20"]) == 0
    events = read()
    experiment = plugin_data(events, "_hparams_/experiment").experiment
    metrics = {metric.display_name: metric.name.tag for metric in experiment.metric_infos}
    assert metrics.pop("val accuracy") == "accuracy/val"
    assert metrics == {f"{split} accuracy": f"test/{split}/accuracy" for split in ("test", "holdout", "dev", "unseen")}
    assert not set(metrics.values()) & set(events.Tags()["scalars"])
    hparams = plugin_data(events, "_hparams_/session_start_info").session_start_info.hparams
    assert hparams["lr"].number_value == 5e-3
    assert hparams["augment"].string_value == "rotation 20"
    assert {column.name for column in experiment.hparam_infos} == hparams.keys()
    assert main(["test", "--trainer.enable_progress_bar=false"]) == 0
    assert set(metrics.values()) - {"test/dev/accuracy"} <= set(read().Tags()["scalars"])  # these data have no dev


def test_validate_writes_nothing_and_test_at_the_epoch_of_its_checkpoint_behind_what_one_looks_at(tiny, workplace):
    assert main([*tiny, *THREE]) == 0
    before = {path: path.read_bytes() for path in workplace.rglob("*") if path.is_file()}
    assert main(["validate", "--trainer.enable_progress_bar=false"]) == 0
    assert {path: path.read_bytes() for path in workplace.rglob("*") if path.is_file()} == before
    assert main(["test", "--ckpt_path=last.ckpt", "--trainer.enable_progress_bar=false"]) == 0
    events = read()
    assert [event.step for event in events.Scalars("accuracy/val")] == [0, 1, 2]
    for split in ("val", "test", "holdout", "unseen"):
        assert [event.step for event in events.Scalars(f"test/{split}/accuracy")] == [2]
    scalars = sorted(events.Tags()["scalars"])
    assert scalars[:4] == ["accuracy/train", "accuracy/val", "loss/train", "loss/val"]
    assert {tag.partition("/")[0] for tag in scalars[4:]} == {"test", "train", "val"}


def test_each_class_has_a_row_of_its_accuracies_that_a_resumed_run_goes_on_with(tiny, monkeypatch):
    drawn = []

    def keep(shares, epochs, classes):
        drawn.append((shares, epochs, classes))
        return history(shares, epochs, classes)

    monkeypatch.setattr(dashboard, "history", keep)
    assert main([*tiny, *THREE, "--trainer.max_epochs=2"]) == 0
    assert [epochs for _, epochs, _ in drawn] == [[1], [1, 2]]
    assert main([*tiny, *THREE, "--ckpt_path=last.ckpt"]) == 0
    shares, epochs, classes = drawn[-1]
    assert (epochs, classes) == ([1, 2, 3], sorted(CLASSES))
    np.testing.assert_array_equal(shares[:, :2], drawn[1][0])
    confusion = np.array([row.split(",")[1:] for row in (RUN / "val_confusion.csv").read_text().split()[1:]], int)
    np.testing.assert_allclose(shares[:, 2], confusion.diagonal() / confusion.sum(1), rtol=1e-6)


def test_the_images_of_each_class_that_an_epoch_used_are_drawn_once(tiny, pictures, monkeypatch):
    drawn = []

    def keep(counts, classes):
        drawn.append({name: of_classes.tolist() for name, of_classes in counts.items()})
        return bars(counts, classes)

    monkeypatch.setattr(dashboard, "bars", keep)
    for path in sorted((pictures / "Train" / "bee").iterdir())[4:]:
        path.unlink()
    balanced = ["--data.balanced=true", "--data.class_emphasis={ant: 2}", "--data.epoch_size=80"]
    assert main([*tiny, "--data.holdout_per_class=0", *balanced]) == 0
    assert drawn[-1] == {"images in this epoch:": [20, 40, 20]}
    assert [image.step for image in read().Images("train/class_images")] == [0]


def test_each_session_has_its_settings_as_text(tiny):
    assert main(tiny) == 0
    assert main([*tiny, "--ckpt_path=last.ckpt", "--trainer.max_epochs=3"]) == 0
    texts = {text.step: text.tensor_proto.string_val[0].decode() for text in read().Tensors("config/text_summary")}
    assert "max_epochs: 2" in texts[1] and "max_epochs: 3" in texts[2]


def test_the_filters_of_every_epoch_are_kept_and_a_resumed_run_goes_on_with_them(tiny):
    assert main(tiny) == 0
    with np.load(RUN / "filters.npz") as kept:
        first = dict(kept)
    assert first["epochs"].tolist() == [0, 1, 2]
    assert first["magnitude"].shape == (3, 2, 4, 4) and first["magnitude"].dtype == np.float32
    last = RUN / "checkpoints/last.ckpt"
    net = GFNetClassifier.load_from_checkpoint(last, map_location="cpu").net
    np.testing.assert_array_equal(first["magnitude"][-1], magnitude(net).astype(np.float32))
    assert not np.array_equal(first["magnitude"][0], first["magnitude"][1])

    early = last.rename(last.with_name("early.ckpt"))
    for _ in range(2):  # the second time epochs 3 and 4 are there already: they are trained, and kept, again
        assert main([*tiny, f"--ckpt_path={early}", "--trainer.max_epochs=4"]) == 0
        with np.load(RUN / "filters.npz") as kept:
            assert kept["epochs"].tolist() == [0, 1, 2, 3, 4]
            np.testing.assert_array_equal(kept["magnitude"][:3], first["magnitude"])
    assert not list(RUN.glob("*.partial"))


def test_the_projector_has_the_validation_pictures_with_what_they_were_taken_for(tiny):
    assert main([*tiny, "--trainer.max_epochs=1"]) == 0
    config = (RUN / "projector_config.pbtxt").read_text()
    folder = RUN / "00000/val_features"
    assert 'tensor_path: "00000/val_features/tensors.tsv"' in config  # below the run, wherever that is moved to
    rows = list(csv.DictReader((folder / "metadata.tsv").read_text().splitlines(), delimiter="\t"))
    assert list(rows[0]) == ["class", "prediction", "verdict", "path"]
    splits = csv.DictReader((RUN / "splits.csv").read_text().splitlines())
    assert [(row["path"], row["class"]) for row in rows] == [
        (row["path"], row["label"]) for row in splits if row["split"] == "val"
    ]
    assert all((row["class"] == row["prediction"]) == (row["verdict"] == "right") for row in rows)
    assert len((folder / "tensors.tsv").read_text().splitlines()) == len(rows) == 6
    with Image.open(folder / "sprite.png") as sprite:
        assert sprite.size == (3 * 48, 3 * 48)


def test_without_tensorboard_nothing_is_drawn(tiny, workplace):
    assert main([*tiny, "--trainer.logger=false", "--trainer.max_epochs=1"]) == 0
    assert (workplace / RUN).is_dir()
    assert not [path for path in workplace.rglob("*") if path.suffix == ".pbtxt" or "tfevents" in path.name]


def test_a_validation_of_a_part_or_with_outputs_that_are_not_finite_is_not_drawn(tiny, monkeypatch):
    assert main([*tiny, "--data.batch_size=4", "--trainer.limit_val_batches=0.5"]) == 0
    assert "val/confusion" not in read().Tags()["images"]
    monkeypatch.setattr(GFNetClassifier, "_stop_if_bad", lambda self: None)  # as a GPU has not been asked yet

    def poison(self, batch, batch_idx):
        self.net.head.weight.data.fill_(float("nan"))

    monkeypatch.setattr(GFNetClassifier, "on_train_batch_start", poison)
    assert main([*tiny, "--trainer.max_epochs=1"]) == 2  # its weights are not saved
    assert "val/confusion" not in read("runs/base/version_1").Tags()["images"]


def test_the_worst_errors_are_the_surest_wrong_ones_each_with_its_picture(monkeypatch):
    drawn = {}

    def keep(images, titles, **_):
        drawn.update(images=images, titles=titles)
        return grid(images, titles, columns=8, side=16)

    monkeypatch.setattr(validation_pages, "grid", keep)
    seen = validated([0, 1, 2, 0], [[0, 2, 0], [0, 9, 0], [4, 0, 0], [0, 0, 1]])
    seen.show()
    assert drawn["titles"] == ["Cat, taken for ant 0.96", "ant, taken for bee 0.79", "ant, taken for Cat 0.58"]
    np.testing.assert_array_equal(drawn["images"], seen.images.images[[1, 3, 0]])


def test_a_validation_without_an_error_says_so():
    given = shown(validated([0, 1, 2], np.eye(3) * 9))
    np.testing.assert_array_equal(given["val/worst_errors"], sentence("no errors"))
    assert len(given["val_confidence/right"]) == 3
    assert "val_confidence/wrong" not in given


def test_a_row_of_the_confusion_matrix_is_a_true_class():
    given = shown(validated([0, 0, 1], np.eye(3)[[1, 1, 1]]))
    expected = confusion_matrix(np.array([[0, 2, 0], [0, 1, 0], [0, 0, 0]]), CLASSES)
    np.testing.assert_array_equal(given["val/confusion"], expected)


def test_a_class_without_validation_pictures_has_no_curve():
    given = shown(validated([0, 2, 2], np.eye(3)))
    assert {tag for tag in given if tag.startswith("val_curve/")} == {"val_curve/ant", "val_curve/Cat"}
    labels, predictions = given["val_curve/Cat"]
    assert labels.tolist() == [False, True, True]
    np.testing.assert_allclose(predictions, torch.eye(3).softmax(1)[:, 2], rtol=1e-6)


@pytest.mark.parametrize("classes", [1, 150])
def test_one_class_and_very_many_are_drawn(classes):
    names = [f"a class with a long name, number {number}" for number in range(classes)]
    labels = np.arange(classes).repeat(2)
    given = shown(validated(labels, np.random.default_rng(1).normal(size=(len(labels), classes)), names))
    assert max(given["val/confusion"].shape[:2]) < 1200
    assert len(np.unique(given["val/confusion"])) > 5
    assert bars({"train": labels[:classes]}, names).shape[0] < 2200
    for epochs in (1, 300):
        page = history(np.full((classes, epochs), 0.4), range(1, epochs + 1), names)
        assert max(page.shape[:2]) < 2200 and len(np.unique(page)) > 5


def test_the_projector_gets_a_thousand_pictures_of_all_classes_and_one_line_each():
    labels = np.arange(3).repeat(700)
    seen = validated(labels, np.eye(3)[labels], paths=["a\tb\nc.png"] * 2100)
    embedding = shown(seen)["embedding"]
    assert len(embedding["features"]) == len(embedding["metadata"]) == len(embedding["label_img"]) == 1000
    assert {row[0] for row in embedding["metadata"]} == set(CLASSES)
    assert {row[3] for row in embedding["metadata"]} == {"a b c.png"}
    last = torch.from_numpy(seen.images.images[[0]])[None].float() / 255  # rows run backwards
    torch.testing.assert_close(
        embedding["label_img"][-1].mean((1, 2)), last.mean((2, 3)).expand(1, 3)[0], atol=0.02, rtol=0
    )


def test_a_confusion_matrix_is_blue_where_it_is_right_and_red_where_it_is_wrong():
    image = confusion_matrix(np.array([[5, 0, 0], [5, 0, 0], [0, 0, 0]]), CLASSES)
    assert (image == GREY).all(2).sum() > 3 * 28 * 27  # the class without pictures, beside the lines
    (blue_row, blue_column), (red_row, red_column) = (middle_of(image, colour) for colour in (BLUE, RED))
    assert red_column == pytest.approx(blue_column, abs=2)  # both were taken for the first class
    assert red_row - blue_row == pytest.approx(28, abs=2)


def test_each_filter_has_a_scale_of_its_own_with_frequency_zero_in_the_middle():
    magnitudes = np.full((2, 4, 4), 0.5)
    magnitudes[:, 2, 2] = 1, 100
    magnitudes[1, 0] = 0  # a further stage has none of the finer frequencies
    image = filters(magnitudes)
    assert (image[-152:] == GREY).all(2).sum() == 4 * 36**2  # below the titles
    bright = (image == [253, 231, 36]).all(2)  # viridis' end
    first, second = bright[:, : image.shape[1] // 2], bright[:, image.shape[1] // 2 :]
    assert first.sum() == second.sum() == 36**2
    filters(np.full((1, 4, 4), 0.3))  # a flat one has no scale


def test_a_history_is_the_darker_the_more_is_right_and_grey_where_there_is_nothing():
    page = history(np.array([[0, 0.5], [1, 1], [np.nan, np.nan]]), [1, 2], CLASSES)
    middles = page[-48 - 8 + 3 : -8 : 16]  # (3, width, 3), a line through each row, beside the letters of its numbers
    counts = [[(line == colour).all(1).sum() for colour in ([144, 178, 213], BLUE, GREY)] for line in middles]
    assert counts == [[28, 0, 0], [0, 56, 0], [0, 0, 56]]


def test_bars_are_as_long_as_the_counts():
    image = bars({"train": np.array([40, 10]), "val": np.array([0, 10])}, ["ant", "bee"])
    blue = (image[30:] == BLUE).all(2).sum(1)
    assert sorted(set(blue.tolist()) - {0}) == [150, 600]
    assert (image[30:] == [244, 165, 130]).all(2).sum(1).max() == 150


def test_every_split_has_a_colour_of_its_own_in_a_bar():
    image = bars({split: np.array([10]) for split in SPLITS}, ["ant"])
    bar = image[-16]
    assert len({tuple(colour) for colour in bar[np.flatnonzero((bar == BLUE).all(1))[0] :][:600].tolist()}) == len(
        SPLITS
    )


def test_titles_are_wrapped_to_their_picture():
    images = np.zeros((1, 8, 8), np.uint8)
    short, long = (grid(images, [title], columns=8, side=96) for title in ("A 0.9", "Nothing, taken for Space 0.98"))
    assert short.shape[1] == long.shape[1]
    assert long.shape[0] - short.shape[0] == 14


def pixels(image):
    return np.asarray(Image.open(io.BytesIO(image.encoded_image_string)))


def of(events, tag):
    return events.Histograms(tag) if tag in events.Tags()["histograms"] else []


def plugin_data(events, tag):
    return HParamsPluginData.FromString(events.summary_metadata[tag].plugin_data.content)


def middle_of(image, colour):
    rows, columns = np.nonzero((image == colour).all(2))
    return rows.mean(), columns.mean()
